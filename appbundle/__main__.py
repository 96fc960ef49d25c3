"""The `appb` program. What must start fast is dispatched before click is imported."""

import sys


def main() -> int:
    """Run `appb` with the process's arguments; returns its exit code."""
    arguments = sys.argv[1:]
    if "run" in arguments:
        from appbundle.cli import run

        status = run.fast(arguments)
        if status is not None:
            return status
    from appbundle.cli.main import run_command

    return run_command(arguments)


if __name__ == "__main__":
    sys.exit(main())
