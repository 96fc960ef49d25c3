"""`appb list`."""

import click

from appbundle.cli.session import Session, table
from appbundle.cli.words import size, when


@click.command(name="list")
@click.pass_obj
def list_command(session: Session) -> None:
    """Show apps and their versions on disk; the current one is marked with *."""
    from appbundle.flows import listing

    apps = listing.apps(session.layout)
    document = {
        "apps": [
            {
                "name": app.name,
                "current": app.current,
                "versions": [
                    {
                        "version": each.version,
                        "digest": each.digest,
                        "size_bytes": each.size_bytes,
                        "installed_at": each.installed_at,
                        "pinned": each.version in app.pinned,
                    }
                    for each in app.versions
                ],
            }
            for app in apps
        ]
    }
    if session.as_json or not apps:
        session.result(document, "no apps are installed")
        return
    rows = [
        (
            app.name,
            f"{'*' if each.version == app.current else ' '} {each.version}",
            size(each.size_bytes),
            when(each.installed_at),
            "pinned" if each.version in app.pinned else "",
        )
        for app in apps
        for each in app.versions
    ]
    session.result(document, table(("app", "  version", "size", "installed", ""), rows))
