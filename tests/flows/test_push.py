"""A node and a publisher that meet in a registry."""

import base64
import json
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.crash.support import Node, run_cli
from tests.repository.docker_registry import USER, docker_registry, htpasswd, needs_registry
from tests.repository.publisher import Publisher, first_root

Bundle = Callable[[str, int], Path]


@needs_registry
def test_what_is_pushed_is_installed_and_upgraded(
    node: Node, memory: Path, bundle: Bundle, monkeypatch: pytest.MonkeyPatch
) -> None:
    """From the folder over the registry onto the node, with docker's credentials."""
    node.layout.allowed_signers.unlink()
    repo = Publisher(memory)
    repo.publish(bundle("hello", 1))
    folder = str(repo.folder.path)
    place = memory / "registry"
    place.mkdir()
    with docker_registry(place, auth=htpasswd(place / "passwords")) as server:
        url = f"oci+http://127.0.0.1:{server.port}/team/apps"
        monkeypatch.setenv("DOCKER_CONFIG", str(place))
        denied = run_cli(node, "repo", "push", folder, url)
        assert (denied.status, "docker login" in denied.stderr) == (23, True)
        auth = base64.b64encode(f"{USER.user}:{USER.secret}".encode()).decode()
        config = {"auths": {f"127.0.0.1:{server.port}": {"auth": auth}}}
        (place / "config.json").write_text(json.dumps(config))
        said = run_cli(node, "--json", "repo", "push", folder, url)
        assert said.document == {
            "repository": folder,
            "url": url,
            "files": 2,
            "size_bytes": said.document["size_bytes"],
            "version": 1,
        }
        address = f"{url}#sha256={first_root(repo.folder.path)}"
        for words in (("repo", "add", address), ("install", "hello")):
            done = run_cli(node, *words)
            assert done.status == 0, done.stderr
        repo.publish(bundle("hello", 2))
        assert "up to date" in run_cli(node, "outdated").stdout
        assert run_cli(node, "repo", "push", folder, url).status == 0
        assert run_cli(node, "upgrade").status == 0
    assert node.version("hello", "2.0").is_dir()
