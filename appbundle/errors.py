"""Everything that may go wrong on purpose: one base class, one exit code a class.

Each error says three things, which the command line prints on a line each: `what` happened,
what was `kept` (is unchanged), and a `hint` at what to do.
"""

from collections.abc import Sequence

NOTHING_CHANGED = "nothing was changed"


class AppbError(Exception):
    """A deliberate refusal or failure.

    Args:
        what: One sentence: what happened, to which thing.
        kept: What is unchanged because of, or in spite of it.
        hint: The next step for the person at the keyboard; may be empty.
    """

    exit_code = 1
    kind = "error"

    def __init__(self, what: str, *, kept: str = NOTHING_CHANGED, hint: str = "") -> None:
        super().__init__(what)
        self.what = what
        self.kept = kept
        self.hint = hint


class UsageError(AppbError):
    """The command line itself makes no sense."""

    exit_code = 2
    kind = "usage"


class NotFoundError(AppbError):
    """An app, version, generation, key or file that was named does not exist."""

    exit_code = 10
    kind = "not-found"


class LockedError(AppbError):
    """Another appb changes this node and did not finish in time."""

    exit_code = 11
    kind = "locked"


class TrustError(AppbError):
    """The bundle is not one that this node accepts; the subclasses say why."""

    exit_code = 20
    kind = "not-trusted"


class UnsignedError(TrustError):
    """The bundle carries no signature at all."""

    kind = "unsigned"


class UnknownKeyError(TrustError):
    """No signature is by a key that this node knows."""

    kind = "unknown-key"


class KeyNotAllowedError(TrustError):
    """The key is known, but not for an app of this name."""

    kind = "key-not-allowed"


class BadSignatureError(TrustError):
    """A signature by a known key does not match the statement."""

    kind = "bad-signature"


class ExpiredKeyError(TrustError):
    """The key is known, but now is outside its valid-after/valid-before."""

    kind = "expired-key"


class ThresholdError(TrustError):
    """Fewer distinct trusted keys have signed than this node asks for."""

    kind = "too-few-signatures"


class DowngradeError(TrustError):
    """The bundle's release number is below the highest accepted for this app."""

    kind = "downgrade"


class ExpiredMetadataError(TrustError):
    """What a repository says of itself is out of date; may be an attempt to hide what is newer."""

    kind = "expired-metadata"


class RollbackError(TrustError):
    """A repository says less than it said before, or leaves a step out."""

    kind = "rollback"


class UnsignedMetadataError(TrustError):
    """What a repository says is not signed by enough of the keys that count for it."""

    kind = "bad-metadata-signature"


class CorruptError(AppbError):
    """Bytes differ from what was signed, or break the format's rules."""

    exit_code = 21
    kind = "corrupt"


class ManifestError(CorruptError):
    """A manifest is authentic but breaks a rule; `what` names rule and entry."""

    kind = "bad-manifest"


class NoSpaceError(AppbError):
    """The file system lacks bytes or inodes."""

    exit_code = 22
    kind = "no-space"


class ServiceFailedError(AppbError):
    """A service did not start, stop or reload as it should, or is not healthy."""

    kind = "service-failed"


def joined(errors: Sequence[AppbError]) -> AppbError:
    """What went wrong with several services, at least one, as one error."""
    if len(errors) == 1:
        return errors[0]
    return ServiceFailedError("; ".join(each.what for each in errors), hint=errors[0].hint)


class UnreachableError(AppbError):
    """A repository cannot be reached, is too slow, or breaks off again and again."""

    exit_code = 23
    kind = "unreachable"


class DeniedError(UnreachableError):
    """A repository's server wants other credentials than it was given, or any."""

    kind = "denied"


class UnhealthyError(AppbError):
    """A switch was made, found unhealthy, and reverted."""

    exit_code = 30
    kind = "unhealthy"


class RevertFailedError(AppbError):
    """A switch was found unhealthy and going back failed too."""

    exit_code = 31
    kind = "revert-failed"


class CancelledError(AppbError):
    """The person at the keyboard pressed Ctrl-C."""

    exit_code = 130
    kind = "interrupted"


class ConflictError(AppbError):
    """What is asked contradicts what is there (same version, other content; version in use)."""

    kind = "conflict"


class UnsupportedError(AppbError):
    """This node lacks what the bundle or the command needs (architecture, kernel, privilege)."""

    kind = "unsupported"


class BuildError(AppbError):
    """A recipe, its inputs or the tree made from them break a rule; `issues` lists all of them.

    Args:
        what: One sentence.
        issues: Each offending thing, one a line.
    """

    kind = "build"

    def __init__(
        self,
        what: str,
        *,
        issues: tuple[str, ...] = (),
        kept: str = NOTHING_CHANGED,
        hint: str = "",
    ) -> None:
        super().__init__(what, kept=kept, hint=hint)
        self.issues = issues
