"""Which archives of a Debian suite the host knows, in both of apt's notations: sources.list(5).

Entries are taken over as they are, with mirror, key and options; those of other suites are left
out.
"""

import re
from pathlib import Path

_ONE_LINE = re.compile(r"\s*deb\s+(?:\[[^\]]*\]\s+)?\S+\s+(?P<suite>\S+)\s")
_FIELD = re.compile(r"^(?P<name>[A-Za-z-]+):(?P<value>.*(?:\n[ \t].*)*)", re.MULTILINE)


def find_archives(apt: Path, suite: str) -> dict[str, str]:
    """Find the host's entries for a suite, its updates and its security archive.

    Args:
        apt: The host's `/etc/apt`.
        suite: `bookworm`.

    Returns:
        Contents of files by the ending that tells apt their notation: `.list`, `.sources`; only
        those that have entries.
    """
    lines: list[str] = []
    stanzas: list[str] = []
    directory = apt / "sources.list.d"
    for path in [apt / "sources.list", *sorted(directory.glob("*.list"))]:
        lines += pick_lines(_read(path), suite)
    for path in sorted(directory.glob("*.sources")):
        stanzas += pick_stanzas(_read(path), suite)
    found = {".list": "".join(lines), ".sources": "\n".join(stanzas)}
    return {ending: text for ending, text in found.items() if text}


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8", errors="replace")
    except FileNotFoundError:
        return ""


def pick_lines(text: str, suite: str) -> list[str]:
    """The lines `deb …` of a suite."""
    found = []
    for line in text.splitlines():
        match = _ONE_LINE.match(line + " ")
        if match and _belongs(match["suite"], suite):
            found.append(line.strip() + "\n")
    return found


def pick_stanzas(text: str, suite: str) -> list[str]:
    """The enabled stanzas of a suite; in each, only this suite's names stay."""
    found = []
    # A comment line between a stanza's fields does not end it; an empty line does.
    without_comments = re.sub(r"^#.*\n?", "", text, flags=re.MULTILINE)
    for stanza in re.split(r"\n\s*\n", without_comments.strip()):
        fields = {m["name"].lower(): m["value"].strip() for m in _FIELD.finditer(stanza)}
        suites = [each for each in fields.get("suites", "").split() if _belongs(each, suite)]
        disabled = fields.get("enabled", "yes").lower() in ("no", "false", "0")
        if not suites or disabled or "deb" not in fields.get("types", "").split():
            continue
        kept = {**fields, "types": "deb", "suites": " ".join(suites)}
        found.append("".join(f"{_title(name)}: {value}\n" for name, value in kept.items()))
    return found


def _belongs(name: str, suite: str) -> bool:
    return name == suite or name.startswith((f"{suite}-", f"{suite}/"))


def _title(name: str) -> str:
    special = {"uris": "URIs"}
    return special.get(name, "-".join(word.capitalize() for word in name.split("-")))
