"""The command line as a whole: global options, lazy commands, errors and exit codes."""

import importlib
import io
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import click

from appbundle import __version__
from appbundle.cli.session import Session, print_error
from appbundle.errors import AppbError, CancelledError, UsageError


class Entry(NamedTuple):
    """A command of `appb`: where it lives, and what the overview says of it."""

    section: str
    summary: str
    module: str = ""


COMMANDS = {
    "build": Entry("Making bundles", "Make a bundle from a recipe."),
    "sign": Entry("Making bundles", "Add a signature to a bundle."),
    "key": Entry("Making bundles", "Make and show signing keys."),
    "pack": Entry("Making bundles", "Turn a bundle directory into the bundle file."),
    "unpack": Entry("Making bundles", "Turn a bundle file into a bundle directory."),
    "publish": Entry("Making bundles", "Put bundles into a repository."),
    "export": Entry("Making bundles", "Write bundles of this node for nodes without a network."),
    "trust": Entry("Installing", "Decide whose bundles this node accepts."),
    "repo": Entry("Installing", "Use repositories, and keep your own."),
    "search": Entry("Installing", "Show apps in repositories."),
    "install": Entry("Installing", "Install bundles and switch to them."),
    "outdated": Entry("Installing", "Show apps of which there is a newer release."),
    "upgrade": Entry("Installing", "Install newer releases and switch to them."),
    "hold": Entry("Installing", "Leave an app as it is when others are upgraded."),
    "unhold": Entry("Installing", "Let upgrades take an app again."),
    "apply": Entry("Installing", "Give this node the apps and settings of a node file."),
    "switch": Entry("Installing", "Make other versions or an earlier generation current."),
    "remove": Entry("Installing", "Remove a version, or an app with all its versions."),
    "gc": Entry("Installing", "Remove versions that are old, surplus and unused."),
    "pin": Entry("Installing", "Keep a version from gc and remove."),
    "unpin": Entry("Installing", "Let a pinned version go."),
    "set": Entry("Configuring", "Change settings of an app."),
    "unset": Entry("Configuring", "Give settings of an app their defaults again."),
    "get": Entry("Configuring", "Show settings of an app."),
    "status": Entry("Running", "Show services: what runs, from which version, how healthy."),
    "start": Entry("Running", "Start services."),
    "stop": Entry("Running", "Stop services; they stay stopped."),
    "restart": Entry("Running", "Restart services."),
    "audit": Entry("Running", "Compare what services declare with what their processes have."),
    "supervise": Entry("Running", "Keep services running where there is no systemd."),
    "logs": Entry("Running", "Show what services have said."),
    "run": Entry("Running", "Run a service in the foreground, confined."),
    "exec": Entry("Running", "Run a program inside a running service."),
    "shell": Entry("Running", "Open a shell inside a running service."),
    "stats": Entry("Running", "Show what running services hold, and their limits."),
    "list": Entry("Looking", "Show apps and their versions."),
    "info": Entry("Looking", "Show everything about a bundle or a version."),
    "history": Entry("Looking", "Show the node's generations."),
    "diff": Entry("Looking", "Show what differs between versions or generations."),
    "verify": Entry("Looking", "Compare every byte on disk with what was signed."),
    "repair": Entry("Looking", "Make a damaged version whole from its bundle file."),
    "completion": Entry("Looking", "Print a shell's completion script."),
}


class LazyCommands(click.Group):
    """A group whose commands are imported when they are called, and not before."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """All names, in the order of the overview."""
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Import a command's module and give its click command."""
        if cmd_name not in COMMANDS:
            return None
        module = importlib.import_module(f"appbundle.cli.{cmd_name}")
        command: click.Command = getattr(module, f"{cmd_name}_command", None) or getattr(
            module, cmd_name
        )
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the overview from the table above, without importing any command."""
        sections: dict[str, list[tuple[str, str]]] = {}
        for name, entry in COMMANDS.items():
            sections.setdefault(entry.section, []).append((name, entry.summary))
        for section, rows in sections.items():
            with formatter.section(section):
                formatter.write_dl(rows)

    def shell_complete(
        self, ctx: click.Context, incomplete: str
    ) -> "list[click.shell_completion.CompletionItem]":
        """Complete command names with their summaries, without importing any command."""
        from click.shell_completion import CompletionItem

        items = [
            CompletionItem(name, help=entry.summary)
            for name, entry in COMMANDS.items()
            if name.startswith(incomplete)
        ]
        return items or click.Command.shell_complete(self, ctx, incomplete)


@click.command(
    cls=LazyCommands, name="appb", context_settings={"help_option_names": ["-h", "--help"]}
)
@click.option(
    "--root",
    metavar="DIR",
    default="/",
    envvar="APPB_ROOT",
    type=click.Path(file_okay=False, path_type=Path),
    help="Work on the node below DIR instead of this one.",
)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document, errors included.")
@click.option("-v", "--verbose", count=True, help="Say more.")
@click.option("-q", "--quiet", is_flag=True, help="Say nothing but results and errors.")
@click.option(
    "--lock-timeout",
    metavar="SECONDS",
    type=click.FloatRange(min=0),
    default=60.0,
    show_default=True,
    help="How long to wait for another appb that changes this node.",
)
@click.version_option(__version__, "-V", "--version", message="appb %(version)s")
@click.pass_context
def appb(
    ctx: click.Context,
    root: Path,
    as_json: bool,
    verbose: int,
    quiet: bool,
    lock_timeout: float,
) -> None:
    """Run services as applications: one signed, self-contained bundle each.

    A bundle is verified, unpacked into /apps/NAME/VERSION and made current by one atomic switch;
    `appb switch --previous` brings the whole node back.
    """
    ctx.obj = Session(
        root=Path(os.path.realpath(root)),
        as_json=as_json,
        verbosity=-1 if quiet else verbose,
        lock_timeout_s=lock_timeout,
    )


def run_command(arguments: Sequence[str]) -> int:
    """Run `appb` with arguments, print errors, and give the exit code."""
    # What was done is done, also if the terminal cannot show an arrow.
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
    if "_APPB_COMPLETE" in os.environ:
        importlib.import_module("appbundle.cli.completion")
    arguments = _json_first(arguments)
    as_json = "--json" in arguments[:1]
    try:
        result = appb.main(list(arguments), prog_name="appb", standalone_mode=False)
    except AppbError as error:
        return print_error(error, as_json=as_json)
    except click.exceptions.Exit as error:
        return error.exit_code
    except click.exceptions.NoArgsIsHelpError as error:
        if as_json:
            return print_error(UsageError("a command is missing", hint="appb --help"), as_json=True)
        print(error.format_message(), file=sys.stderr)
        return error.exit_code
    except click.UsageError as error:
        return print_error(_usage(error), as_json=as_json)
    except click.ClickException as error:
        return print_error(AppbError(error.format_message()), as_json=as_json)
    except (click.Abort, KeyboardInterrupt):
        cancelled = CancelledError(
            "interrupted", kept="what is current is as before or as wanted, whole in either case"
        )
        return print_error(cancelled, as_json=as_json)
    except BrokenPipeError:
        # Whoever read our output has gone; Python must not complain once more at its end.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except OSError as error:
        name = f": {error.filename}" if error.filename else ""
        return print_error(AppbError(f"{error.strerror or error}{name}"), as_json=as_json)
    return result if isinstance(result, int) else 0


def _json_first(arguments: Sequence[str]) -> list[str]:
    """Allow `--json` after the command too: `appb list --json`."""
    end = list(arguments).index("--") if "--" in arguments else len(arguments)
    if "--json" not in arguments[:end]:
        return list(arguments)
    rest = [each for i, each in enumerate(arguments) if i >= end or each != "--json"]
    return ["--json", *rest]


def _usage(error: click.UsageError) -> UsageError:
    command = error.ctx.command_path if error.ctx else "appb"
    return UsageError(error.format_message(), hint=f"{command} --help")
