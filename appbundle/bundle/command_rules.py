"""What a manifest may say of commands that people call. docs/format.md, "Commands"."""

from collections.abc import Iterator, Sequence

from appbundle.bundle.manifest import Manifest
from appbundle.bundle.paths import leads_to
from appbundle.bundle.text import is_harmless
from appbundle.errors import ManifestError
from appbundle.names import escape, is_command

MAX_COMMANDS = 64
MAX_WORDS = 32
"""Program and arguments of one command."""
MAX_WORD = 1024
"""Characters of one of these."""


def check_commands(manifest: Manifest) -> None:
    """Check every rule; the manifest's tables are known to be right.

    Raises:
        ManifestError: The first that is broken, and by which command.
    """
    if not manifest.commands:
        return
    if len(manifest.commands) > MAX_COMMANDS:
        raise ManifestError(f"more than {MAX_COMMANDS} commands")
    if list(manifest.commands) != sorted(manifest.commands):
        raise ManifestError("commands are out of order")
    names = [service.name for service in manifest.services]
    if len(names) > 1 and manifest.name not in names:
        raise ManifestError(
            "commands need a service that is named as the app, or not more than one: it says how "
            "they are confined"
        )
    links = {link.path: link.target for link in manifest.links}
    programs = {file.path for file in manifest.files if file.executable}
    for name, argv in manifest.commands.items():
        for problem in _problems(name, argv):
            raise ManifestError(f"command {escape(name)}: {problem}")
        if leads_to(argv[0][1:], links) not in programs:
            raise ManifestError(
                f"command {escape(name)}: {escape(argv[0])} is no executable file of the bundle"
            )


def _problems(name: str, argv: Sequence[str]) -> Iterator[str]:
    if not is_command(name):
        yield "not the name of a command"
    if not 1 <= len(argv) <= MAX_WORDS:
        yield f"not from 1 to {MAX_WORDS} words"
    for word in argv:
        if len(word) > MAX_WORD or not is_harmless(word):
            yield "a word is too long or has control characters"
        if "{{" in word:
            yield "a word names a setting"
    if argv and not argv[0].startswith("/"):
        yield "the program is not an absolute path"
    if argv and any(part in ("", ".", "..") for part in argv[0].split("/")[1:]):
        yield "the program's path has an empty, . or .. part"
