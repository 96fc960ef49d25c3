"""Which text may stand in a manifest."""

import unicodedata

_BIDI = frozenset("\u061c\u200e\u200f\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069")
_REFUSED_CATEGORIES = frozenset({"Cc", "Cs", "Zl", "Zp"})


def host(text: str) -> str:
    """An address or name as it stands before `:PORT`: IPv6 in brackets. RFC 3986, 3.2.2."""
    return f"[{text}]" if ":" in text and not text.startswith("[") else text


def is_harmless(text: str) -> bool:
    """Whether text has neither control nor bidirectional characters, and is encodable."""
    if text.isascii():
        return text.isprintable()
    return not any(c in _BIDI or unicodedata.category(c) in _REFUSED_CATEGORIES for c in text)
