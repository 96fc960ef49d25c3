"""Lists of patterns as ssh reads them: `nova-*,!nova-api`. ssh_config(5), PATTERNS."""

_MAX_PATTERN = 1022
"""Characters; ssh takes a list with a longer pattern for one that matches nothing from there on."""


def matches(text: str, pattern: str) -> bool:
    """Whether a pattern covers a whole text: `*` is anything, `?` one character."""
    at, star, resume = 0, -1, 0
    position = 0
    while position < len(text):
        if at < len(pattern) and pattern[at] == "*":
            star, resume = at, position
            at += 1
        elif at < len(pattern) and pattern[at] in ("?", text[position]):
            at += 1
            position += 1
        elif star >= 0:
            # Let the last `*` take one character more; earlier ones need not be tried again.
            resume += 1
            at, position = star + 1, resume
        else:
            return False
    return pattern[at:].strip("*") == ""


def matches_list(text: str, patterns: str) -> bool:
    """Whether a comma-separated list covers a text: one pattern does, and none with `!` does."""
    found = False
    for each in patterns.split(","):
        pattern = each.removeprefix("!")
        if len(pattern) > _MAX_PATTERN:
            return False
        if matches(text, pattern):
            if each.startswith("!"):
                return False
            found = True
    return found
