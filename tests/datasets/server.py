"""A small web server whose answers can be spoilt."""

from __future__ import annotations

import contextlib
import hashlib
import http.server
import threading
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

BODY = bytes(range(256)) * 4000
SHA = "sha256:" + hashlib.sha256(BODY).hexdigest()


class Server(http.server.ThreadingHTTPServer):
    """Serves `body` at any address; `spoil` may answer a request in its place, and then returns True."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.body = BODY
        self.n_requests = 0
        self.agents: set[str | None] = set()
        self.spoil: list[Callable[[Handler], None] | None] = []
        """What happens to the next requests."""

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}/file"

    def handle_error(self, request: object, client_address: object) -> None:
        """Connections that the other side closes are no news."""


class Handler(http.server.BaseHTTPRequestHandler):
    server: Server

    def do_GET(self) -> None:
        self.server.n_requests += 1
        self.server.agents.add(self.headers.get("User-Agent"))
        spoilt = self.server.spoil.pop(0) if self.server.spoil else None
        (spoilt or Handler.whole)(self)

    def whole(self, *, until: int | None = None) -> None:
        """Send the body, or the beginning of it as if it were all."""
        self.send_response(200)
        self.send_header("Content-Length", str(len(self.server.body)))
        self.end_headers()
        self.wfile.write(self.server.body[:until])

    def log_message(self, *_: object) -> None:
        """The tests say what is wrong."""


def broken_at(byte: int) -> Callable[[Handler], None]:
    """The connection is lost when bytes up to this one are sent."""
    return lambda handler: handler.whole(until=byte)


def answer(status: int, body: bytes = b"") -> Callable[[Handler], None]:
    """Another answer than the file."""

    def send(handler: Handler) -> None:
        handler.send_response(status)
        handler.send_header("Content-Length", str(len(body)))
        handler.end_headers()
        handler.wfile.write(body)

    return send


@contextlib.contextmanager
def serving() -> Iterator[Server]:
    with Server() as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield server
        finally:
            server.shutdown()
            thread.join(60)
