"""An OCI image archive of one layer, for podman; the image format's specification, v1.0."""

import hashlib
import io
import json
import tarfile
from pathlib import Path

from measure import command, output

_IMAGE = "application/vnd.oci.image"


def write_image(archive: Path, layer: Path, name: str) -> None:
    """Write `archive` (a tar) with the zstd-compressed tar `layer` as the image's only layer.

    Args:
        name: The image's, with a tag.
    """
    plain = output(command("bash", "-c", 'zstd -dcq "$1" | sha256sum', "sh", layer)).split()[0]
    config = _json(
        {
            "architecture": "amd64",
            "os": "linux",
            "config": {},
            "rootfs": {"type": "layers", "diff_ids": [f"sha256:{plain}"]},
        }
    )
    with layer.open("rb") as source:
        layer_digest = hashlib.file_digest(source, "sha256").hexdigest()
    manifest = _json(
        {
            "schemaVersion": 2,
            "mediaType": f"{_IMAGE}.manifest.v1+json",
            "config": _descriptor(f"{_IMAGE}.config.v1+json", config),
            "layers": [
                {
                    "mediaType": f"{_IMAGE}.layer.v1.tar+zstd",
                    "digest": f"sha256:{layer_digest}",
                    "size": layer.stat().st_size,
                }
            ],
        }
    )
    entry = _descriptor(f"{_IMAGE}.manifest.v1+json", manifest)
    entry["annotations"] = {"org.opencontainers.image.ref.name": f"localhost/{name}"}
    with tarfile.open(archive, "w") as out:
        _add(out, "oci-layout", _json({"imageLayoutVersion": "1.0.0"}))
        _add(out, "index.json", _json({"schemaVersion": 2, "manifests": [entry]}))
        for blob in (config, manifest):
            _add(out, f"blobs/sha256/{hashlib.sha256(blob).hexdigest()}", blob)
        out.add(layer, f"blobs/sha256/{layer_digest}")


def _json(value: object) -> bytes:
    return json.dumps(value, sort_keys=True).encode()


def _descriptor(media_type: str, blob: bytes) -> dict[str, object]:
    digest = f"sha256:{hashlib.sha256(blob).hexdigest()}"
    return {"mediaType": media_type, "digest": digest, "size": len(blob)}


def _add(out: tarfile.TarFile, name: str, blob: bytes) -> None:
    member = tarfile.TarInfo(name)
    member.size = len(blob)
    out.addfile(member, io.BytesIO(blob))
