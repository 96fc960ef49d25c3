"""The machine says which authorities are trusted, whoever's OpenSSL reads their certificates."""

import ssl
from pathlib import Path

import pytest

from appbundle.system import certificates


def test_what_openssl_finds_by_itself_is_left_to_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """So that SSL_CERT_FILE counts."""
    chosen = tmp_path / "chosen.crt"
    chosen.touch()
    monkeypatch.setenv("SSL_CERT_FILE", str(chosen))
    assert certificates.find() is None


def test_a_foreign_openssl_is_told_where_the_machine_has_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first file that there is; none, if there is none."""
    for name in ("SSL_CERT_FILE", "SSL_CERT_DIR"):
        monkeypatch.setenv(name, str(tmp_path / "nothing"))
    assert ssl.get_default_verify_paths().cafile is None
    file = tmp_path / "bundle.crt"
    monkeypatch.setattr(certificates, "BUNDLES", (str(tmp_path / "other.crt"), str(file)))
    assert certificates.find() is None
    file.touch()
    assert certificates.find() == str(file)
