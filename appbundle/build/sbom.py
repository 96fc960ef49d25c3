"""The bill of materials inside a bundle: CycloneDX 1.5 JSON, the same bytes for the same inputs."""

import uuid
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

from appbundle import __version__
from appbundle.build.inside import resolve_parent
from appbundle.errors import BuildError
from appbundle.names import escape
from appbundle.system import files

if TYPE_CHECKING:
    from cyclonedx.model.component import Component

PATH = "usr/share/appb/sbom.cdx.json"
"""Where it stands in every bundle."""

# Serial numbers are derived from what is described; this only keeps them apart from others'.
_NAMESPACE = uuid.UUID("6f2a4a4e-6f0f-5d0c-9c55-6e0a4b1f7a11")


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """One thing that went into a bundle.

    Args:
        name: Of the package or file.
        version: May be empty.
        sha256: Of the package as it was downloaded, or of the file; may be empty.
        purl: Package URL, also its reference within the document.
    """

    name: str
    version: str
    sha256: str
    purl: str


def encode(*, name: str, version: str, licence: str, parts: Iterable[Part], created: int) -> bytes:
    """Write a bill of materials.

    Args:
        name: Of the app.
        version: Of the bundle.
        licence: An SPDX expression; may be empty.
        parts: In any order; repeated ones count once.
        created: Seconds since the epoch.

    Raises:
        BuildError: A part's package URL is malformed.
    """
    # Half a second of imports, which only a build pays for.
    from cyclonedx.model.bom import Bom, BomMetaData
    from cyclonedx.model.component import Component, ComponentType
    from cyclonedx.model.license import LicenseExpression
    from cyclonedx.model.tool import ToolRepository
    from cyclonedx.output.json import JsonV1Dot5

    unique = sorted({part.purl: part for part in parts}.values(), key=lambda part: part.purl)
    app = Component(
        type=ComponentType.APPLICATION,
        name=name,
        version=version,
        bom_ref=f"{name}@{version}",
        licenses=[LicenseExpression(licence)] if licence else [],
    )
    tool = Component(type=ComponentType.APPLICATION, name="appb", version=__version__)
    bom = Bom(
        serial_number=_serial(name, version, unique),
        metadata=BomMetaData(
            component=app,
            timestamp=datetime.fromtimestamp(created, UTC),
            tools=ToolRepository(components=[tool]),
        ),
        components=[_component(part) for part in unique],
    )
    bom.register_dependency(app, bom.components)
    return JsonV1Dot5(bom).output_as_string(indent=1).encode() + b"\n"


def _serial(name: str, version: str, parts: Iterable[Part]) -> uuid.UUID:
    """Derive the document's number from what it describes instead of from chance."""
    lines = [f"{name}@{version}", *(f"{part.purl} {part.sha256}" for part in parts)]
    return uuid.uuid5(_NAMESPACE, "\n".join(lines))


def _component(part: Part) -> "Component":
    from cyclonedx.model import HashAlgorithm, HashType
    from cyclonedx.model.component import Component, ComponentType
    from packageurl import PackageURL

    try:
        purl = PackageURL.from_string(part.purl)
    except ValueError as error:
        raise BuildError(f"not a package URL: {escape(part.purl)}") from error
    kind = ComponentType.FILE if purl.type == "generic" else ComponentType.LIBRARY
    hashes = [HashType(alg=HashAlgorithm.SHA_256, content=part.sha256)] if part.sha256 else []
    return Component(
        type=kind,
        name=part.name,
        version=part.version or None,
        bom_ref=part.purl,
        purl=purl,
        hashes=hashes,
    )


def write(tree: Path, content: bytes) -> None:
    """Put the bill of materials into a tree; one that is there is replaced."""
    target = resolve_parent(tree, PATH)
    target.parent.mkdir(parents=True, exist_ok=True)
    target.unlink(missing_ok=True)
    files.write_new(target, content)
