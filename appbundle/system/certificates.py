"""Where this machine keeps the certificates of authorities that it trusts."""

from __future__ import annotations

import os
import ssl

BUNDLES = ("/etc/ssl/certs/ca-certificates.crt", "/etc/pki/tls/certs/ca-bundle.crt")
"""Debian's and Alpine's file, and Fedora's."""


def find() -> str | None:
    """The file to read them from; None if OpenSSL finds them by itself, or there are none.

    An OpenSSL from another distribution than the machine's looks in directories of its own.
    """
    own = ssl.get_default_verify_paths()
    if own.cafile or own.capath:
        return None
    return next((path for path in BUNDLES if os.path.exists(path)), None)
