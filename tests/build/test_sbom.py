"""The bill of materials says what went in, and says it the same way every time."""

import json
from pathlib import Path

import pytest

from appbundle.build import sbom
from appbundle.build.sbom import Part
from appbundle.errors import BuildError

PARTS = (
    Part(name="zlib1g", version="1:1.2.13", sha256="a" * 64, purl="pkg:deb/debian/zlib1g@1:1.2.13"),
    Part(name="oslo.config", version="9.7.1", sha256="b" * 64, purl="pkg:pypi/oslo.config@9.7.1"),
    Part(name="bin/web", version="", sha256="c" * 64, purl="pkg:generic/web@1.0#bin/web"),
)


def encode(parts: tuple[Part, ...] = PARTS, created: int = 1_700_000_000) -> bytes:
    """Write the example's bill of materials."""
    return sbom.encode(
        name="web", version="1.0", licence="Apache-2.0", parts=parts, created=created
    )


def test_document_names_every_part() -> None:
    """Name, version, hash and package URL of everything, and the app itself."""
    document = json.loads(encode())
    assert (document["bomFormat"], document["specVersion"]) == ("CycloneDX", "1.5")
    assert document["metadata"]["component"]["name"] == "web"
    assert document["metadata"]["timestamp"] == "2023-11-14T22:13:20+00:00"
    found = {each["purl"]: each for each in document["components"]}
    assert len(found) == 3
    oslo = found["pkg:pypi/oslo.config@9.7.1"]
    assert (oslo["name"], oslo["version"]) == ("oslo.config", "9.7.1")
    assert oslo["hashes"] == [{"alg": "SHA-256", "content": "b" * 64}]


def test_same_parts_give_same_bytes() -> None:
    """Neither order nor repetition of the inputs shows, nor chance, nor the clock."""
    assert encode(tuple(reversed(PARTS)) + PARTS) == encode()


def test_other_parts_give_another_serial_number() -> None:
    """Documents about different things have different numbers."""
    assert json.loads(encode())["serialNumber"] != json.loads(encode(PARTS[:2]))["serialNumber"]


def test_document_is_valid() -> None:
    """It keeps the published schema."""
    from cyclonedx.exception import MissingOptionalDependencyException
    from cyclonedx.schema import SchemaVersion
    from cyclonedx.validation.json import JsonStrictValidator

    try:
        problem = JsonStrictValidator(SchemaVersion.V1_5).validate_str(encode().decode())
    except MissingOptionalDependencyException:
        pytest.skip("the schema's validator is not installed")
    assert problem is None


def test_malformed_package_url_is_refused() -> None:
    """A part that cannot be named is an error of the build, not a crash."""
    part = Part(name="x", version="1", sha256="", purl="not a purl")
    with pytest.raises(BuildError, match="package URL"):
        encode((part,))


def test_written_into_the_tree(tmp_path: Path) -> None:
    """It stands where docs say, and replaces what a source brought."""
    sbom.write(tmp_path, b"one")
    sbom.write(tmp_path, b"two")
    assert (tmp_path / sbom.PATH).read_bytes() == b"two"
