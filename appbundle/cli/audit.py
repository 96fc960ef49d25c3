"""`appb audit`."""

import click

from appbundle.cli import complete
from appbundle.cli.session import Session, table


@click.command(name="audit")
@click.argument("services", metavar="[APP[/SERVICE]]...", nargs=-1, shell_complete=complete.serving)
@click.pass_context
def audit_command(ctx: click.Context, services: tuple[str, ...]) -> None:
    """Compare what services declare with what their running processes have.

    Looks at the processes themselves: mounts, user, capabilities, system-call filter, namespaces,
    control groups. Exits with 1 if a protection is not effective on this node.

    \b
    Examples:
      appb audit nova-api
    """
    from appbundle.flows import audit

    session: Session = ctx.obj
    found = audit.audit(session.context(), services)
    document = {
        "ok": all(each.holds for each in found),
        "services": [
            {
                "app": each.instance.key.app,
                "service": each.instance.key.service,
                "pid": each.pid,
                "protections": [
                    {
                        "protection": one.protection,
                        "declared": one.declared,
                        "effective": one.effective,
                        "holds": one.holds,
                    }
                    for one in each.findings
                ],
            }
            for each in found
        ],
    }
    rows = [
        (str(each.instance), one.protection, one.declared, one.effective, _mark(one.holds))
        for each in found
        for one in each.findings
    ]
    session.result(document, table(("service", "protection", "declared", "effective", ""), rows))
    if not document["ok"]:
        ctx.exit(1)


def _mark(holds: bool) -> str:
    return "" if holds else "NOT EFFECTIVE"
