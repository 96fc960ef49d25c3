"""What became of a change of a repository, as JSON and as words."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from appbundle.repository.publishing.draft import Outcome


def document(outcome: "Outcome") -> dict[str, Any]:
    """For `--json`."""
    return {
        "published": list(outcome.published),
        "waiting": {
            role: {"signatures": has, "threshold": needs}
            for role, (has, needs) in outcome.waiting.items()
        },
        "offline": outcome.offline,
    }


def words(outcome: "Outcome") -> list[str]:
    """What is still to be done, a line each."""
    lines = [
        f"{role} waits for signatures ({has} of {needs}): appb repo sign DIR --key KEY"
        for role, (has, needs) in outcome.waiting.items()
    ]
    if outcome.offline:
        lines.append("readers see it once the online key is used: appb repo refresh DIR")
    return lines
