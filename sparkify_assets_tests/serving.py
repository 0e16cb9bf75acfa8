"""A server of a log's file, with the faults of one.

Belongs here: what a server does. Does not belong here: what is expected of those who ask it.
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


class Server(ThreadingHTTPServer):
    """Serves `content` at any address, with the faults that are asked of it."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.content = b"".join(b'{"line": %d}\n' % i for i in range(300_000))
        self.etag: str | None = '"1"'
        self.says_length = True  # and knows of ranges
        self.statuses: list[int] = []  # answered first, one by one
        self.break_after: list[int] = []  # bytes of the first answers, one by one
        self.stall_after: list[int] = []  # the same, then
        self.redirect_to: str | None = None
        self.reason: str | None = None
        self.drips_bytes = 0  # so much every tenth of a second
        self.requests: list[tuple[int, str | None]] = []  # status and Range
        self.sent = 0
        self.closing = threading.Event()

    def url(self, name: str = "log.json") -> str:
        return f"http://127.0.0.1:{self.server_port}/folder/{name}?signature=secret"


class Handler(BaseHTTPRequestHandler):
    server: Server

    def log_message(self, *_: object) -> None:
        pass

    def do_GET(self) -> None:
        server = self.server
        wanted = self.headers.get("Range") if server.says_length else None
        body, status = server.content, 200
        if server.statuses:
            status, body = server.statuses.pop(0), b"sorry"
        elif server.etag and self.headers.get("If-None-Match") == server.etag:
            status, body = 304, b""
        elif wanted == "bytes=0-0":
            status, body = 206, body[:1]
        elif wanted and self.headers.get("If-Range") == server.etag:
            start = int(wanted.removeprefix("bytes=").removesuffix("-"))
            status, body = 206, body[start:]
        if server.redirect_to:
            status, body = 302, b""
        server.requests.append((status, wanted))
        self.send_response(status, server.reason)
        if server.redirect_to:
            self.send_header("Location", server.redirect_to)
        if server.etag:
            self.send_header("ETag", server.etag)
        if status == 206:
            total = len(server.content)
            start = 0 if wanted == "bytes=0-0" else total - len(body)
            end = start + len(body) - 1
            self.send_header("Content-Range", f"bytes {start}-{end}/{total}")
        if status != 304 and server.says_length:
            self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if server.break_after:
            body = body[: server.break_after.pop(0)]
        rest = b""
        if server.stall_after:
            stop = server.stall_after.pop(0)
            body, rest = body[:stop], body[stop:]
        server.sent += len(body)
        self.wfile.write(body)
        if rest:
            self._stall(rest)

    def _stall(self, rest: bytes) -> None:
        """Keep the connection and send next to nothing, for as long as somebody waits."""
        with contextlib.suppress(OSError):
            while not self.server.closing.wait(0.1):
                self.wfile.write(rest[: self.server.drips_bytes])
                self.server.sent += self.server.drips_bytes
                rest = rest[self.server.drips_bytes :]


@contextlib.contextmanager
def serving() -> Iterator[Server]:
    server = Server()
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield server
    finally:
        server.closing.set()
        server.shutdown()
        thread.join()
        server.server_close()
