"""`python -m sparkify_assets.serve`: the reports over HTTP, for browsers on this machine.

Belongs here: handing out each dataset's newest report, from wherever the lake is. A browser opens
no link to a file from Dagster's pages, and a lake in an object store has no files to open. Nothing
else of the lake is handed out.
"""

from __future__ import annotations

import argparse
import contextlib
import sys
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from sparkify_assets.assets.report import FILE, REPORTS_VARIABLE
from sparkify_assets.datasets import DATASETS
from sparkify_assets.errors import SparkifyError
from sparkify_assets.resources.lake import Lake, default_root

HOST = "127.0.0.1"
PORT = 3001


class Reports(BaseHTTPRequestHandler):
    """GET /<dataset> gives its report."""

    def do_GET(self) -> None:
        # A page from elsewhere may have its name resolve to this machine.
        if self.headers.get("Host", "").rpartition(":")[0] not in (HOST, "localhost"):
            self._say(HTTPStatus.FORBIDDEN, f"Ask for http://{HOST}.")
            return
        dataset = self.path.strip("/")
        if dataset not in DATASETS:
            self._say(HTTPStatus.NOT_FOUND, f"There are reports of: {', '.join(DATASETS)}.")
            return
        try:
            page = Lake(default_root()).read_file(dataset, FILE)
        except SparkifyError as error:
            self._say(HTTPStatus.NOT_FOUND, str(error))
            return
        self._answer(HTTPStatus.OK, "text/html; charset=utf-8", page)

    do_HEAD = do_GET

    def _say(self, status: HTTPStatus, words: str) -> None:
        self._answer(status, "text/plain; charset=utf-8", f"{words}\n".encode())

    def _answer(self, status: HTTPStatus, kind: str, content: bytes) -> None:
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(content)))
        self.send_header("Cache-Control", "no-store")  # a newer one may be there
        self.send_header("X-Content-Type-Options", "nosniff")
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(content)

    def log_message(self, format: str, *args: object) -> None:
        """Nothing: who looks at which report is nobody's business."""


def server(port: int = PORT) -> ThreadingHTTPServer:
    """A server that listens on this machine alone. Raises OSError where the port is taken."""
    return ThreadingHTTPServer((HOST, port), Reports)


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m sparkify_assets.serve",
        description=f"Serve the reports on {HOST}. {REPORTS_VARIABLE} tells the assets where.",
    )
    parser.add_argument("--port", type=int, default=PORT, help=f"(default: {PORT})")
    parser.add_argument(
        "--check", action="store_true", help="only say whether they can be served there"
    )
    given = parser.parse_args(arguments)
    port = given.port
    try:
        serving = server(port)
    except OSError as error:
        print(f"Reports cannot be served on {HOST}:{port}: {error.strerror}.", file=sys.stderr)
        return 2
    if given.check:
        serving.server_close()
        return 0
    print(f"Reports on {', '.join(f'http://{HOST}:{port}/{name}' for name in DATASETS)}")
    with contextlib.suppress(KeyboardInterrupt):
        serving.serve_forever()
    return 0


if __name__ == "__main__":
    sys.exit(main())
