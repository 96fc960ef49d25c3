"""Which repository an app's name is bound to: the one that it was first installed from."""

from appbundle.errors import CorruptError, UsageError
from appbundle.layout import Layout
from appbundle.names import AppName
from appbundle.repository.configured import parse_name
from appbundle.system import files


def bound_to(layout: Layout, app: AppName) -> str | None:
    """The name of the repository that an app's name is bound to, or None.

    Raises:
        CorruptError: Its file holds no such name.
    """
    path = layout.bindings / app
    try:
        return parse_name(path.read_text().strip())
    except FileNotFoundError:
        return None
    except (UsageError, UnicodeDecodeError) as error:
        raise CorruptError(
            f"{path} does not name a repository", hint="write a name of appb repo list into it"
        ) from error


def is_any(layout: Layout) -> bool:
    """Whether any app's name is bound."""
    try:
        return any(True for _ in layout.bindings.iterdir())
    except FileNotFoundError:
        return False


def bind(layout: Layout, app: AppName, repository: str) -> None:
    """Bind an app's name to a repository, in place of another if it was."""
    files.make_directories(layout.bindings)
    files.write_durably(layout.bindings / app, f"{repository}\n".encode())


def unbind(layout: Layout, app: AppName) -> None:
    """Let an app's name come from any repository again."""
    (layout.bindings / app).unlink(missing_ok=True)


def bound(layout: Layout, repository: str) -> list[AppName]:
    """The apps whose names are bound to a repository, sorted."""
    try:
        apps = sorted(AppName(each.name) for each in layout.bindings.iterdir())
    except FileNotFoundError:
        return []
    return [app for app in apps if bound_to(layout, app) == repository]
