"""Reports over HTTP: each dataset's own, nothing else of the lake, for this machine alone."""

from __future__ import annotations

import contextlib
import socket
import threading
from collections.abc import Iterator

import pytest
import requests

from sparkify_assets.assets.report import FILE, _link
from sparkify_assets.serve import HOST, main, server
from sparkify_assets_tests.running import Run


@pytest.fixture
def reports(finished: Run, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    monkeypatch.setenv("SPARKIFY_LAKE", finished.lake.root)
    serving = server(port=0)
    thread = threading.Thread(target=serving.serve_forever)
    thread.start()
    yield f"http://{HOST}:{serving.server_address[1]}"
    serving.shutdown()
    thread.join()
    serving.server_close()


def test_a_datasets_report_is_handed_out(reports: str, finished: Run) -> None:
    answer = requests.get(f"{reports}/mini", timeout=10)
    assert answer.status_code == 200
    assert answer.headers["Content-Type"] == "text/html; charset=utf-8"
    assert answer.content == finished.lake.read_file("mini", FILE)
    assert requests.head(f"{reports}/mini", timeout=10).content == b""


def test_what_is_not_there_is_said(reports: str) -> None:
    answer = requests.get(f"{reports}/full", timeout=10)
    assert answer.status_code == 404
    assert "Run the job `everything` for full first" in answer.text
    assert "mini, full" in requests.get(reports, timeout=10).text


@pytest.mark.parametrize(
    "path", ["mini/raw_events", "../mini", "mini/..", "mini%2F..%2Fraw_events", "mini?x"]
)
def test_nothing_else_is_handed_out(reports: str, path: str) -> None:
    session = requests.Session()
    asked = requests.Request("GET", reports).prepare()
    asked.url = f"{reports}/{path}"  # as it stands, which a browser would not send
    assert session.send(asked, timeout=10).status_code == 404


def test_a_page_from_elsewhere_gets_nothing(reports: str) -> None:
    answer = requests.get(f"{reports}/mini", headers={"Host": "evil.example:80"}, timeout=10)
    assert answer.status_code == 403


def test_the_asset_links_to_where_reports_are_served(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("SPARKIFY_REPORTS_URL", raising=False)
    assert _link("mini", "/lake/a b.html") == "file:///lake/a%20b.html"
    assert _link("mini", "s3://lake/a.html") == "s3://lake/a.html"
    monkeypatch.setenv("SPARKIFY_REPORTS_URL", "http://127.0.0.1:3001/")
    assert _link("mini", "/lake/a.html") == "http://127.0.0.1:3001/mini"


def test_a_port_that_is_taken_is_told_before_anything_starts(
    capsys: pytest.CaptureFixture[str],
) -> None:
    with contextlib.closing(socket.create_server((HOST, 0))) as taken:
        port = str(taken.getsockname()[1])
        assert main(["--port", port, "--check"]) == 2
        assert f"cannot be served on {HOST}:{port}" in capsys.readouterr().err
    assert main(["--port", "0", "--check"]) == 0
