"""Clients of a web server. A line is printed when they begin; when standard input ends, so do
they, and how it went is printed as JSON.

Usage: ask.py URL CLIENTS [NAME=VALUE]    half of them keep their connection, half make one a
request; NAME is a header's

Each asks at most fifty times a second, and never twice at once. Nothing is asked again: a request
whose connection breaks, or whose answer is not 2xx or 3xx and complete, has failed.
"""

import collections
import http.client
import json
import sys
import threading
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from itertools import pairwise
from urllib.parse import urlsplit

_EVERY_S = 0.02
_TIMEOUT_S = 60.0


@dataclass(slots=True)
class Client:
    """One client.

    Args:
        keeps: Whether it keeps its connection as long as the server does.
        headers: What it always sends.
        answered: When each request that was answered well was sent, and when it was done.
        failed: What went wrong, and how often.
    """

    url: str
    keeps: bool
    headers: Mapping[str, str]
    answered: list[tuple[float, float]] = field(default_factory=list)
    failed: collections.Counter[str] = field(default_factory=collections.Counter)
    _connection: http.client.HTTPConnection | None = None

    def ask_until(self, ending: threading.Event) -> None:
        """Ask again and again."""
        while not ending.is_set():
            began = time.monotonic()
            try:
                self._ask()
                self.answered.append((began, time.monotonic()))
            except (OSError, http.client.HTTPException, ValueError) as error:
                self._hang_up()
                self.failed[f"{type(error).__name__}: {error}"] += 1
            ending.wait(max(0.0, began + _EVERY_S - time.monotonic()))
        self._hang_up()

    def _ask(self) -> None:
        parts = urlsplit(self.url)
        if self._connection is None:
            self._connection = http.client.HTTPConnection(parts.netloc, timeout=_TIMEOUT_S)
        headers = {**self.headers, **({} if self.keeps else {"Connection": "close"})}
        self._connection.request("GET", parts.path or "/", headers=headers)
        answer = self._connection.getresponse()
        answer.read()
        if not self.keeps or answer.will_close:
            self._hang_up()
        if not 200 <= answer.status < 400:
            raise ValueError(f"answered {answer.status}")

    def _hang_up(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None


def ask(
    url: str, clients: int, ending: threading.Event, headers: Iterable[tuple[str, str]] = ()
) -> dict[str, object]:
    """Let clients ask until `ending` is set.

    Returns:
        `requests`, `failed`, `errors` (how often which), `median_s` and `worst_s` of those that
        were answered, and `gap_s`, the longest time in which no answer came.
    """
    began = time.monotonic()
    asking = [Client(url, number % 2 == 0, dict(headers)) for number in range(clients)]
    threads = [threading.Thread(target=each.ask_until, args=[ending]) for each in asking]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    answered = [times for each in asking for times in each.answered]
    taken_s = sorted(done - sent for sent, done in answered)
    moments = sorted([began, *(done for _, done in answered), time.monotonic()])
    errors = sum((each.failed for each in asking), collections.Counter())
    return {
        "requests": len(taken_s) + errors.total(),
        "failed": errors.total(),
        "errors": dict(errors),
        "median_s": taken_s[len(taken_s) // 2] if taken_s else None,
        "worst_s": taken_s[-1] if taken_s else None,
        "gap_s": max(after - before for before, after in pairwise(moments)),
    }


def main() -> None:
    """Ask until whoever started this closes its standard input."""
    ending = threading.Event()
    threading.Thread(target=lambda: (sys.stdin.read(), ending.set()), daemon=True).start()
    print("asking", flush=True)
    headers = [(name, value) for name, _, value in (each.partition("=") for each in sys.argv[3:])]
    json.dump(ask(sys.argv[1], int(sys.argv[2]), ending, headers), sys.stdout)


if __name__ == "__main__":
    main()
