"""Ends as soon as every URL has been answered well; fails if that takes longer than SECONDS.

Usage: await_answers.py SECONDS URL...
"""

import http.client
import sys
import time
from urllib.parse import urlsplit

_AGAIN_S = 0.02


def answers(url: str, timeout_s: float) -> bool:
    """Ask once; a connection may wait as long as that for an answer."""
    parts = urlsplit(url)
    connection = http.client.HTTPConnection(parts.netloc, timeout=timeout_s)
    try:
        connection.request("GET", parts.path or "/", headers={"Connection": "close"})
        return 200 <= connection.getresponse().status < 400
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()


if __name__ == "__main__":
    deadline = time.monotonic() + float(sys.argv[1])
    for url in sys.argv[2:]:
        while not answers(url, max(0.1, deadline - time.monotonic())):
            if time.monotonic() > deadline:
                sys.exit(f"no answer from {url}")
            time.sleep(_AGAIN_S)
