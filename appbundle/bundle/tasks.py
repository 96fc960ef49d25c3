"""Tasks: what a release must do to its state; and what going back over a release means."""

from typing import Literal, get_args

import msgspec

When = Literal["migrate", "snapshot", "restore"]
WHEN: tuple[When, ...] = get_args(When)


class Task(
    msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True, kw_only=True
):
    """A program of the bundle that is run as part of a switch, confined as a service is.

    Args:
        when: `migrate`: by the new release, before it becomes current, while the old one serves.
            `snapshot`: by the old release, before that. `restore`: by the old release, on the way
            back, when the new one no longer runs.
        argv: (T) The program (absolute, inside the bundle) and its arguments.
        environment: (T) All that it gets beside PATH, HOME, USER, LANG, TMPDIR.
        timeout_s: Longer means that it failed.
        entitlements: As of a service.
    """

    when: When
    argv: tuple[str, ...]
    environment: dict[str, str] = {}
    timeout_s: int = 600
    entitlements: tuple[str, ...] = ()


class Rollback(
    msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True, kw_only=True
):
    """What going back from this release means, for releases below a number; the first that fits.

    Args:
        below: It is for going back to a release with a lower number than this.
        kind: `code`: nothing but the files. `with-state`: the snapshot is restored, and what was
            written since is lost. `forbidden`: it is refused.
        reason: Said to whoever wants to go back: what is lost, or why it cannot be.
    """

    below: int
    kind: Literal["code", "with-state", "forbidden"]
    reason: str = ""
