"""Local servers, and asking them over HTTP."""

import http.client
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from email.message import Message

from mpo.pages.server import LocalServer


@contextmanager
def serving(*arguments, **options) -> Iterator[LocalServer]:
    """A LocalServer of these arguments, at work in a thread."""
    with LocalServer(*arguments, **options) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield server
        server.shutdown()


def ask(
    server: LocalServer, path: str, method: str = "GET", body: bytes | None = None, **headers: str
) -> tuple[int, Message, bytes]:
    """Status, headers and content. Paths go as they are, dots and all."""
    connection = http.client.HTTPConnection("127.0.0.1", server.server_address[1], timeout=60)
    connection.request(method, path, body, {name.replace("_", "-"): value for name, value in headers.items()})
    answer = connection.getresponse()
    content = answer.read()
    connection.close()
    return answer.status, answer.headers, content
