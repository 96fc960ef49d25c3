"""`appb audit`: what was declared against what the running processes have."""

from __future__ import annotations

from dataclasses import dataclass

from appbundle.errors import NotFoundError, UnsupportedError
from appbundle.flows import serving
from appbundle.flows.context import Context
from appbundle.services import audit as rules
from appbundle.services.audit import Finding
from appbundle.services.model import Instance
from appbundle.system import confined


@dataclass(frozen=True, slots=True, kw_only=True)
class Audited:
    """What was found of one running instance."""

    instance: Instance
    pid: int
    findings: tuple[Finding, ...]

    @property
    def holds(self) -> bool:
        """Whether every protection is effective."""
        return all(each.holds for each in self.findings)


def audit(context: Context, references: tuple[str, ...]) -> list[Audited]:
    """Look at the processes of services that run.

    Raises:
        NotFoundError: None of them runs.
        UnsupportedError: They are another user's, so that they cannot be looked at.
    """
    found = []
    for each in serving.status(context, references):
        if each.seen.pid is None or each.seen.version is None:
            continue
        service = serving.declared(context, each.instance.key, each.seen.version)
        try:
            facts = confined.read(each.seen.pid)
        except PermissionError as error:
            raise UnsupportedError(
                f"{each.instance} is another user's process", hint="run it as root"
            ) from error
        except OSError:
            continue
        key = each.instance.key
        uid = serving.user_id(context, key.app)
        found.append(
            Audited(
                instance=each.instance,
                pid=each.seen.pid,
                findings=rules.audit(key.app, each.seen.version, service, facts, uid=uid),
            )
        )
    if not found:
        raise NotFoundError("no such service runs, so there is nothing to look at")
    return found
