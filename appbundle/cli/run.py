"""`appb run`: what a bundle declares, in the foreground, confined.

It is dispatched before click is imported, so `fast` reads its few options by hand; what it does
not understand at a glance, help and mistakes among it, goes to click and the command below.
"""

from __future__ import annotations

import os

from appbundle.errors import AppbError, CancelledError, UsageError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, NoReturn

    import click

    from appbundle.cli.session import Session

_FLAGS = frozenset(("--json", "-v", "--verbose", "-q", "--quiet"))


_SWITCHES = {
    "--dry-run": "dry_run",
    "--json": "as_json",
    "--ephemeral": "ephemeral",
    "--next": "is_next",
    "--no-sockets": "no_sockets",
}
_VALUES = {
    "--generation": "generation",
    "--sockets-from": "sockets_from",
    "--ready-fd": "ready_fd",
}


class Request:
    """What was asked for.

    Args:
        root: The node's root directory.
        as_json: Errors and the dry run as JSON.
    """

    def __init__(self, *, root: str, as_json: bool = False) -> None:
        self.root = root
        self.as_json = as_json
        self.ref = ""
        self.command: tuple[str, ...] = ()
        self.dry_run = False
        self.ephemeral = False
        self.is_next = False
        self.no_sockets = False
        self.generation = ""
        self.sockets_from = ""
        self.ready_fd = ""


def fast(argv: list[str]) -> int | None:
    """Do `appb … run …` without click.

    Args:
        argv: Without the program's name.

    Returns:
        The exit code of an error or dry run; None if this is another command, or one for click
        to explain. If the service was started, this process ends as the service ended.
    """
    request = _parse(argv)
    if request is None:
        return None
    try:
        return _answer(request)
    except AppbError as e:
        failure = e
    except OSError as e:
        place = f": {e.filename}" if e.filename else ""
        failure = AppbError(f"{e.strerror or e}{place}", kept="nothing was started")
    except KeyboardInterrupt:
        failure = CancelledError("interrupted", kept="nothing was started")
    from appbundle.cli.session import print_error

    return print_error(failure, as_json=request.as_json)


def command() -> click.Command:
    """The same as a click command, for help, completion and wrong usage."""
    import click

    from appbundle.cli import complete

    @click.command("run")
    @click.option("--dry-run", is_flag=True, help="Print each step instead of doing it.")
    @click.option(
        "--ephemeral", is_flag=True, help="Start without state, and throw away what is written."
    )
    @click.option(
        "--generation",
        metavar="N",
        default="",
        help="With the version and settings of generation N.",
    )
    @click.option(
        "--sockets-from",
        metavar="PATH",
        default="",
        help="Get its sockets from the holder at PATH.",
    )
    @click.option("--no-sockets", is_flag=True, help="Give it none of its sockets.")
    @click.option(
        "--ready-fd", metavar="FD", default="", help="Write a newline to FD when it is ready."
    )
    @click.option("--next", "is_next", is_flag=True, hidden=True)
    @click.argument("app", metavar="APP[@VERSION][/SERVICE]", shell_complete=complete.anything)
    @click.argument("words", metavar="[-- COMMAND...]", nargs=-1, type=click.UNPROCESSED)
    @click.pass_obj
    def run_command(
        session: Session, /, *, app: str, words: tuple[str, ...], **options: Any
    ) -> None:
        """Run a service of APP, or COMMAND in its place, confined.

        SERVICE is the one that is named as the app if none is given, or the only one. It sees APP's
        files as its root, read-only, and may write only to its own directories, which last, and to
        its private /tmp. What it may do beyond that, its entitlements say. It runs as the user
        appb-APP if there is one, or else under a number of its own. APP alone means its current
        version; a switch meanwhile changes nothing for it.

        Signals are passed on. appb ends as the command ends: with its exit code, or by the
        same signal.
        """
        request = Request(root=str(session.root), as_json=session.as_json)
        request.ref, request.command = app, words
        request.__dict__.update(options)
        _answer(request)

    return run_command


def __getattr__(name: str) -> Any:
    if name in ("run_command", "run"):
        return command()
    raise AttributeError(name)


def _parse(argv: list[str]) -> Request | None:
    request = Request(root=os.environ.get("APPB_ROOT") or "/")
    words = iter(argv)
    for word in words:
        if word == "run":
            return _parse_run(request, list(words))
        if word == "--root":
            request.root = next(words, "")
        elif word.startswith("--root="):
            request.root = word.removeprefix("--root=")
        elif word not in _FLAGS:
            return None
        request.as_json |= word == "--json"
    return None


def _parse_run(request: Request, words: list[str]) -> Request | None:
    own, command = words, []
    if "--" in words:
        end = words.index("--")
        own, command = words[:end], words[end + 1 :]
    names = []
    rest = iter(own)
    for word in rest:
        option, equals, value = word.partition("=")
        if word in _SWITCHES:
            setattr(request, _SWITCHES[word], True)
        elif option in _VALUES:
            setattr(request, _VALUES[option], value if equals else next(rest, ""))
        elif word.startswith("-"):
            return None
        else:
            names.append(word)
    if len(names) != 1 or not request.root:
        return None
    request.ref, request.command = names[0], tuple(command)
    return request


def _answer(request: Request) -> int:
    # Not at the top: these are not needed to see that a command line is for click.
    from appbundle.flows import run

    if request.ready_fd and not _is_open(request.ready_fd):
        raise UsageError("--ready-fd takes the number of an open descriptor")
    wish = run.Wish(
        ref=request.ref,
        command=request.command,
        generation=request.generation,
        ephemeral=request.ephemeral,
        is_next=request.is_next,
        no_sockets=request.no_sockets,
        sockets_from=request.sockets_from,
        ready_fd=int(request.ready_fd) if request.ready_fd else -1,
    )
    if not request.dry_run:
        end_as(run.run(request.root, wish))
    steps = run.prepare(request.root, wish, create=False).plan.describe()
    if request.as_json:
        import json

        print(json.dumps({"plan": steps}, indent=1))
    else:
        from appbundle.names import escape

        print("\n".join(map(escape, steps)))
    return 0


def _is_open(number: str) -> bool:
    return number.isdigit() and os.path.lexists(f"/proc/self/fd/{number}")


def end_as(status: int) -> NoReturn:
    """End this process as the service ended, as its wait status says: supervisors see the same."""
    if not os.WIFSIGNALED(status):
        # Nothing was printed and nothing is open: taking down the interpreter costs 2 ms.
        os._exit(os.waitstatus_to_exitcode(status))
    from appbundle.system import libc, signals

    number = os.WTERMSIG(status)
    # A core dump of this interpreter would explain nothing.
    libc.prctl(libc.PR_SET_DUMPABLE, 0)
    if number != signals.SIGKILL:
        signals.set_default(number)
    signals.set_blocked(frozenset())
    os.kill(os.getpid(), number)
    os._exit(128 + number)
