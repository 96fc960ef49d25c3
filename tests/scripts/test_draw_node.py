"""scripts/draw-node: what `appb --json status` says, as a picture."""

import json
import subprocess
import sys
import xml.etree.ElementTree as ElementTree
from pathlib import Path
from typing import Any

_PROGRAM = Path(__file__).resolve().parents[2] / "scripts/draw-node"
_SVG = "{http://www.w3.org/2000/svg}"


def _service(name: str, **changed: Any) -> dict[str, Any]:
    app, _, service = name.partition("/")
    usual = {"current": "1.0", "state": "running", "health": "healthy", "memory_bytes": 2_000_000}
    return {"app": app, "service": service, **usual, **changed}


def test_every_service_has_a_line_in_the_box_of_its_app() -> None:
    """An app has one box; a service's dot says how it is; texts stay texts."""
    services = [
        _service("web/web"),
        _service("web/worker", health="unhealthy: it answers 500"),
        _service("store/store", health="unknown"),
        _service("old/old", state="stopped", health="unknown", memory_bytes=None),
    ]
    said = subprocess.run(
        [sys.executable, _PROGRAM, "Mine", "<&>"],
        input=json.dumps({"services": services}),
        capture_output=True,
        text=True,
        check=True,
    )
    picture = ElementTree.fromstring(said.stdout)
    texts = [each.text for each in picture.iter(f"{_SVG}text")]
    assert texts[0] == "Mine <&>"
    assert [word for word in texts if word in {"old", "store", "web", "worker"}] == [
        *("old", "old", "store", "store", "web", "web", "worker")
    ]
    assert len(list(picture.iter(f"{_SVG}rect"))) == 3
    dots = [each.get("class") for each in picture.iter(f"{_SVG}circle")]
    assert dots == ["stopped", "running", "healthy", "failed"]
