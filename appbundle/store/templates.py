"""Renders templates, in a process of its own that can do nothing else: `python -m` this module.

A template comes with a bundle, whose services have hardly any rights; rendering it must not have
more. jinja2's sandbox alone is no such wall (CVE-2024-56326, CVE-2025-27516). So this process has
no files, no children, little memory and time, and is nobody's; then it reads no more than its
standard input, and writes no more than its answer.
"""

from __future__ import annotations

import json
import os
import resource
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, NoReturn

from appbundle.errors import AppbError
from appbundle.names import escape
from appbundle.system import process

MAX_OUTPUT = 1 << 20
"""Bytes of one rendered file."""
TIMEOUT_S = 30.0

_CPU_S = 5
_MEMORY = 512 << 20
_NOBODY = 65_534


class TemplateError(AppbError):
    """A template cannot be rendered with these settings."""

    kind = "template"


@dataclass(frozen=True, slots=True)
class Rendered:
    """One template's result.

    Args:
        text: It.
        is_private: Whether the template names a secret.
    """

    text: str
    is_private: bool


def render(
    templates: Sequence[tuple[str, str]],
    values: Mapping[str, str | int | bool],
    secrets: Mapping[str, str],
) -> list[Rendered]:
    """Render templates.

    Args:
        templates: A name for errors, and the text, of each.
        values: What they may name.
        secrets: What they may name as well; it stands in no error.

    Raises:
        TemplateError: One is malformed, names what there is not, or wants too much.
    """
    if not templates:
        return []
    question = {"templates": templates, "values": dict(values), "secrets": dict(secrets)}
    renderer = _ahead.pop() if _ahead else _start()
    try:
        done = renderer.finish(json.dumps(question).encode(), timeout_s=TIMEOUT_S)
        answer = json.loads(done.stdout)
    except (process.ProgramError, ValueError) as error:
        names = ", ".join(escape(name) for name, _ in templates)
        raise TemplateError(f"rendering {names} took too long or too much memory") from error
    if "error" in answer:
        raise TemplateError(f"template {escape(answer['template'])}: {escape(answer['error'])}")
    return [Rendered(text, is_private) for text, is_private in answer["rendered"]]


_ahead: list[process.Waiting] = []


@contextmanager
def ahead() -> Iterator[None]:
    """Start what the block's first `render` needs, so that it is ready by then."""
    renderer = _start()
    _ahead.append(renderer)
    try:
        yield
    finally:
        _ahead.clear()
        renderer.end()


def _start() -> process.Waiting:
    return process.start(
        [sys.executable, "-I", "-m", "appbundle.store.templates"],
        environment={"PATH": os.defpath, "LANG": "C.UTF-8", "PYTHONDONTWRITEBYTECODE": "1"},
    )


def _main() -> None:
    # With what is imported late otherwise: there are no files any more by then.
    import codecs
    import pprint  # noqa: F401
    import random  # noqa: F401
    import textwrap  # noqa: F401
    import urllib.parse  # noqa: F401

    import jinja2.meta
    import jinja2.sandbox

    from appbundle.bundle.text import host
    from appbundle.store.secrets import make_of

    class Environment(jinja2.sandbox.ImmutableSandboxedEnvironment):
        def handle_exception(self, source: str | None = None) -> NoReturn:
            """Raise what was raised; a nicer traceback would need files."""
            raise

    for name in ("ascii", "latin-1", "unicode-escape", "idna"):
        codecs.lookup(name)
    make_of("", "")
    question = json.load(sys.stdin)
    _lock_up()
    environment = Environment(
        undefined=jinja2.StrictUndefined, autoescape=False, keep_trailing_newline=True
    )
    environment.filters |= {"for_app": make_of, "host": host}
    secrets: dict[str, str] = question["secrets"]
    values = question["values"] | secrets
    rendered: list[tuple[str, bool]] = []
    answer: dict[str, Any] = {"rendered": rendered}
    for name, text in question["templates"]:
        named: set[str] = set()
        try:
            named = jinja2.meta.find_undeclared_variables(environment.parse(text))
            result = _limited(environment.from_string(text).generate(values))
            rendered.append((result, not named.isdisjoint(secrets)))
        except Exception as error:
            # Whatever it is, a template made it happen.
            why = _why(error, named, values, is_private=not named.isdisjoint(secrets))
            line = getattr(error, "lineno", None)
            answer = {"template": f"{name}, line {line}" if line else name, "error": why}
            break
    sys.stdout.write(json.dumps(answer))


def _why(error: Exception, named: set[str], values: dict[str, Any], *, is_private: bool) -> str:
    """Say what went wrong; of a template that names a secret only what cannot tell it."""
    missing = sorted(named - values.keys())
    if missing:
        return f"it names {', '.join(missing)}, which is no setting"
    text = (str(error) or type(error).__name__).splitlines()[0]
    return type(error).__name__ if is_private else text[:500]


def _limited(pieces: Any) -> str:
    found, length = [], 0
    for piece in pieces:
        length += len(piece)
        if length > MAX_OUTPUT:
            raise ValueError(f"it makes more than {MAX_OUTPUT} characters")
        found.append(piece)
    return "".join(found)


def _lock_up() -> None:
    for limit, value in (
        (resource.RLIMIT_CPU, _CPU_S),
        (resource.RLIMIT_AS, _MEMORY),
        (resource.RLIMIT_FSIZE, 0),
        (resource.RLIMIT_CORE, 0),
        (resource.RLIMIT_NPROC, 0),
        (resource.RLIMIT_NOFILE, 3),
    ):
        resource.setrlimit(limit, (value, value))
    if os.geteuid() == 0:
        os.setgroups([])
        os.setresgid(_NOBODY, _NOBODY, _NOBODY)
        os.setresuid(_NOBODY, _NOBODY, _NOBODY)


if __name__ == "__main__":
    _main()
