"""Where everything is on a node: every path is a property of one root."""

from dataclasses import dataclass
from pathlib import Path

from appbundle.names import AppName, Version

BUNDLE_DIR = ".bundle"
"""The reserved directory inside a version or bundle directory."""
MANIFEST_FRAME = "manifest.tar.zst"
"""In BUNDLE_DIR: the bundle's manifest frame, byte for byte."""
SIGNED = "signed"
"""In BUNDLE_DIR: the bundle's signature area without its padding."""
ABOUT = "about.json"
"""In BUNDLE_DIR of an installed version: the manifest without its tables, and when it came."""

COMMANDS = "bin"
"""In a generation: a launcher for each command of its apps. No app has this name."""
RENDERED = ".rendered"
"""In a generation: files by app, and `APP.json` with its services and tasks, filled in."""
SECRETS = ".secrets"
"""In a generation: a file for each secret, by app."""
SNAPSHOTS = ".snapshots"
"""In an app's state: what its snapshot tasks have kept, by version."""


@dataclass(frozen=True, slots=True)
class Layout:
    """The paths of one node.

    Args:
        root: The node's root directory; `/` on a live node.
    """

    root: Path = Path("/")

    @property
    def apps(self) -> Path:
        return self.root / "apps"

    @property
    def commands(self) -> Path:
        """A link to the commands of the current generation; missing if there never were any."""
        return self.apps / COMMANDS

    @property
    def private(self) -> Path:
        return self.apps / ".appb"

    @property
    def lock(self) -> Path:
        return self.private / "lock"

    @property
    def stage(self) -> Path:
        return self.private / "stage"

    @property
    def trash(self) -> Path:
        return self.private / "trash"

    @property
    def objects(self) -> Path:
        return self.private / "objects"

    @property
    def users(self) -> Path:
        """By app, the passwd and group files that its units show."""
        return self.private / "users"

    @property
    def pins(self) -> Path:
        return self.private / "pins"

    @property
    def holds(self) -> Path:
        """Apps that are not upgraded; missing if there never was one."""
        return self.private / "holds.json"

    @property
    def pending(self) -> Path:
        """What is under way; missing if nothing is."""
        return self.private / "pending.json"

    @property
    def releases(self) -> Path:
        """One small file an app: the highest release number accepted."""
        return self.private / "releases"

    @property
    def generations(self) -> Path:
        return self.private / "generations"

    @property
    def current_generation(self) -> Path:
        """The one link that is switched."""
        return self.generations / "current"

    @property
    def settings(self) -> Path:
        return self.root / "etc/appbundle"

    @property
    def allowed_signers(self) -> Path:
        return self.settings / "allowed_signers"

    @property
    def node_settings(self) -> Path:
        return self.settings / "node.toml"

    @property
    def repositories(self) -> Path:
        """One file a repository: where it is and which root it had when it was added."""
        return self.settings / "repositories"

    @property
    def remembered(self) -> Path:
        """What this node knows of repositories, and cannot make again by itself."""
        return self.root / "var/lib/appbundle"

    def repository(self, name: str) -> Path:
        """What is known of one repository: its pinned root, and its metadata as last trusted."""
        return self.remembered / "repositories" / name

    @property
    def bindings(self) -> Path:
        """One small file an app: the repository that its name is bound to."""
        return self.remembered / "bindings"

    def app(self, name: AppName) -> Path:
        return self.apps / name

    def version(self, name: AppName, version: Version) -> Path:
        return self.apps / name / version

    def about(self, name: AppName, version: Version) -> Path:
        return self.version(name, version) / BUNDLE_DIR / ABOUT

    def state(self, name: AppName) -> Path:
        return self.root / "var/lib" / name

    def rendered(self, generation: int) -> Path:
        """What a generation has rendered, by app."""
        return self.generations / str(generation) / RENDERED

    def secrets(self, generation: int) -> Path:
        """The secrets of a generation, by app."""
        return self.generations / str(generation) / SECRETS

    @property
    def kept_secrets(self) -> Path:
        """Secrets of apps that were removed while their state stays."""
        return self.private / "secrets"
