"""pip, run by the interpreter of the tree that is being built, so that wheels match it.

pip itself comes from the interpreter that appb runs in and is only bound into the chroot: nothing
of it stays. It is configured as on the host (indexes, certificates, proxies, package directories).
"""

import ast
import importlib.util
import os
import shutil
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from appbundle.build.sources.base import Site
from appbundle.build.sources.chroot import INSIDE, Chroot
from appbundle.errors import UnsupportedError
from appbundle.system import certificates, process

TIMEOUT_S = 3600
_CONFIG_TIMEOUT_S = 60
_SHARED = ("pip", "in", "out", "tools", "code")
_TRUST = ("SSL_CERT_FILE", "SSL_CERT_DIR", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE")
# What would change where or how packages are put in place; only where they come from is the host's.
_NOT_TAKEN = frozenset(
    {
        *("target", "prefix", "root", "user", "editable", "python", "require_virtualenv"),
        *("requirement", "constraint", "require_hashes", "no_index", "no_deps", "no_compile"),
        *("compile", "only_binary", "no_binary", "break_system_packages", "config_file"),
        *("cache_dir", "log", "report", "quiet", "verbose"),
    }
)


class Pip:
    """pip inside the tree of a site.

    Args:
        site: Its tree must have the interpreter.
        interpreter: Absolute path in the tree.
    """

    def __init__(self, site: Site, interpreter: str) -> None:
        self._interpreter = interpreter
        self._scratch = site.scratch
        self._outer = site.environment
        self.shared = {name: site.scratch / name for name in _SHARED}
        self.shared["http"] = site.cache / "pip"
        self._chroot = Chroot(site.tree, site.scratch, self.shared)
        self._configuration: dict[str, str] | None = None

    def run(
        self,
        arguments: Sequence[str],
        *,
        tools: bool = False,
        network: bool = True,
        heard: Callable[[str], None] | None = None,
    ) -> bytes:
        """Run pip and give its standard output.

        Args:
            arguments: `download`, … and its options; directories as `directory` gives them.
            tools: Let it see what was installed into `tools`.
            network: Let it reach package indexes, as the host's configuration names them.
            heard: Told each line of what pip says; without, pip is asked to be quiet.

        Raises:
            ProgramError: pip failed; its own words are in `what`.
        """
        self._prepare()
        configuration = self._configure() if network else {}
        path = f"{INSIDE}/pip" + (f":{INSIDE}/tools" if tools else "")
        environment = {
            "PATH": "/usr/local/bin:/usr/bin:/bin",
            "HOME": "/tmp",  # noqa: S108 (the chroot's own)
            "LANG": "C.UTF-8",
            "PYTHONPATH": path,
            # Of pip and the standard library, for the next run; none of it gets into the tree.
            "PYTHONPYCACHEPREFIX": f"{INSIDE}/code",
            "PYTHONHASHSEED": "0",
            "PIP_PROGRESS_BAR": "off",
            "PIP_CONFIG_FILE": "/dev/null",
            "PIP_DISABLE_PIP_VERSION_CHECK": "1",
            "PIP_ROOT_USER_ACTION": "ignore",
            "PIP_BREAK_SYSTEM_PACKAGES": "1",
            "PIP_NO_INPUT": "1",
            "PIP_CACHE_DIR": f"{INSIDE}/http",
            "SOURCE_DATE_EPOCH": self._outer.get("SOURCE_DATE_EPOCH", "315532800"),
            **configuration,
        }
        quiet = [] if heard else ["--quiet"]
        finished = self._chroot.run(
            [self._interpreter, "-m", "pip", *quiet, *arguments],
            environment=environment,
            timeout_s=TIMEOUT_S,
            network=network,
            title=f"pip {arguments[0]}",
            heard=heard,
        )
        return finished.stdout

    def _prepare(self) -> None:
        package = find_pip()
        for path in self.shared.values():
            path.mkdir(parents=True, exist_ok=True)
        inside = self.shared["pip"] / "pip"
        if not inside.exists():
            # A link would point outside of the chroot.
            _copy_package(package, inside)

    def _configure(self) -> dict[str, str]:
        if self._configuration is None:
            options = read_configuration(self._outer)
            settings = {f"PIP_{name.upper()}": value for name, value in options.items()}
            self._configuration = {
                name: " ".join(self._show(word) for word in value.split())
                for name, value in {**settings, **_trust(self._outer)}.items()
            }
            self._configuration |= {
                name: value
                for name, value in self._outer.items()
                if name.lower().endswith("_proxy")
            }
        return self._configuration

    def _show(self, word: str) -> str:
        """Let the chroot see what a word of the configuration names, if it is on this host."""
        scheme = "file://" if word.startswith("file://") else ""
        path = word.removeprefix(scheme)
        if not path.startswith("/") or not os.path.exists(path):
            return word
        return scheme + self._chroot.show(path)


def directory(name: str) -> str:
    """One of a `Pip`'s shared directories as pip sees it."""
    return f"{INSIDE}/{name}"


def find_pip() -> Path:
    """Find the package pip of the interpreter that runs appb.

    Raises:
        UnsupportedError: It has none.
    """
    spec = importlib.util.find_spec("pip")
    if spec is None or spec.origin is None:
        raise UnsupportedError(
            "pip is missing here; Python packages need it",
            hint=f"{sys.executable} -m ensurepip",
        )
    return Path(spec.origin).parent


def read_configuration(environment: Mapping[str, str]) -> dict[str, str]:
    """Ask the host's pip where packages come from.

    Returns:
        Options by name with underscores; several values are separated by spaces.
    """
    passed = {name: value for name, value in environment.items() if name.startswith("PIP_")}
    passed |= {name: environment[name] for name in ("XDG_CONFIG_HOME",) if name in environment}
    listed = process.run(
        [sys.executable, "-m", "pip", "config", "list"],
        environment=process.basic_environment(environment, **passed),
        timeout_s=_CONFIG_TIMEOUT_S,
    )
    return parse_configuration(listed.stdout.decode(errors="replace"))


def parse_configuration(text: str) -> dict[str, str]:
    """Parse `pip config list`: ``global.index-url='https://…'``; the environment wins."""
    found: dict[str, str] = {}
    ranks = {"global": 0, "download": 1, "install": 1, "wheel": 1, ":env:": 2}
    entries = []
    for line in text.splitlines():
        key, equals, value = line.partition("=")
        section, _, option = key.partition(".")
        if equals and section in ranks:
            entries.append((ranks[section], option.replace("-", "_"), _unquote(value)))
    for _, option, value in sorted(entries, key=lambda entry: entry[0]):
        if option not in _NOT_TAKEN:
            found[option] = " ".join(value.split())
    return found


def _unquote(text: str) -> str:
    try:
        return str(ast.literal_eval(text))
    except (SyntaxError, ValueError):
        return text


def _trust(environment: Mapping[str, str]) -> dict[str, str]:
    """Which certificates to trust: as in the environment, else as the host does."""
    found = {name: environment[name] for name in _TRUST if name in environment}
    there = [path for path in certificates.BUNDLES if os.path.exists(path)]
    return {"SSL_CERT_FILE": there[0], **found} if there else found


def _copy_package(package: Path, target: Path) -> None:
    shutil.copytree(package, target, ignore=shutil.ignore_patterns("__pycache__"))
