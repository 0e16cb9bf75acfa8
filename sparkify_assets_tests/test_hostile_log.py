"""A log whose texts would be code where they are not taken for texts, and whose users can be told
by their names and ids: what a page runs, and what is told of them outside of the tables.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Page, Request

from sparkify_assets.resources.lake import Lake
from sparkify_assets.tables import TABLES
from sparkify_assets_tests.browsing import complaints
from sparkify_assets_tests.faults import running

SCRIPT = "<script>document.title = 'taken over'</script>"
IMAGE = "<img src=http://evil.example/x onerror=\"document.title = 'taken over'\">"
# Of each user, and of nobody else.
ID, FIRST, LAST, PLACE = "Xqid", "Quetzalina", "Zypherowitz", "Nowhereville"
# Of the environment's.
SECRETS = {"AWS_SECRET_ACCESS_KEY": "Xstoragesecret", "AZURE_STORAGE_ACCOUNT_KEY": "Xaccountsecret"}
MARKS = (ID, FIRST, LAST, PLACE, *SECRETS.values())
# The tables that may hold names.
NAMED = {"raw_events", "rejected_lines"}


def hostile(event: dict[str, Any]) -> dict[str, Any]:
    user = event["userId"]
    texts = {
        "song": SCRIPT,
        "artist": f'"></td>{IMAGE}',
        "location": f"{PLACE}{{{{7*7}}}}</script>, CA",
        "userAgent": f"javascript:alert(1) {IMAGE}",
        "firstName": FIRST,
        "lastName": f"{LAST}{SCRIPT}",
    }
    changed = {name: value for name, value in texts.items() if event.get(name) is not None}
    return event | changed | ({"userId": f"=cmd|{ID}{user}{SCRIPT}"} if user else {})


@pytest.fixture(scope="module")
def log(simulated_log: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    file = tmp_path_factory.mktemp("hostile") / "log.json"
    with file.open("w") as lines:
        for number, line in enumerate(simulated_log.open()):
            event = hostile(json.loads(line))
            lines.write(json.dumps(event) + "\n")
            if number % 5_000 == 0:  # cut off, of a wrong type, and of another time
                lines.write(json.dumps(event)[:-9] + "\n")
                lines.write(json.dumps(event | {"sessionId": LAST}) + "\n")
                lines.write(json.dumps(event | {"ts": 5}) + "\n")
    return file


@pytest.fixture(scope="module")
def place(log: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the lake and with Dagster's home after a run, and one that is refused."""
    folder = tmp_path_factory.mktemp("ran")
    lake, home = Lake(str(folder / "lake")), folder / "home"
    with pytest.MonkeyPatch.context() as patch:
        for name, secret in SECRETS.items():
            patch.setenv(name, secret)
        with running("everything", lake, log, home) as run:
            assert run.wait(), run.log.read_text()
    bad = folder / "bad.json"
    lines = log.read_text().splitlines()[:200]
    bad.write_text(
        "\n".join(line[: -9 if number % 2 else None] for number, line in enumerate(lines))
    )
    refused = Lake(str(folder / "refused"))
    with running("everything", refused, bad, home) as run:
        assert not run.wait()
        assert "rejected" in run.log.read_text()
    return folder


def test_nobody_is_told_of_outside_of_the_tables(place: Path) -> None:
    """Not in Dagster's databases, nor in what runs said, the one that failed included."""
    files = [file for file in (place / "home").rglob("*") if file.is_file()]
    assert {"run.log"} < {file.name for file in files}
    assert any(file.suffix == ".db" for file in files)
    for file in files:
        content = file.read_bytes()
        assert [mark for mark in MARKS if mark.encode() in content] == [], file


def test_no_secret_of_the_environment_is_in_the_lake(place: Path) -> None:
    for file in (place / "lake").rglob("*"):
        content = b"" if file.is_dir() else file.read_bytes()
        assert [each for each in SECRETS.values() if each.encode() in content] == [], file


def test_names_do_not_leave_the_raw_tables(place: Path) -> None:
    lake = Lake(str(place / "lake"))
    holding = set()
    for name, table in TABLES.items():
        rows = lake.read_polars("mini", table)
        if FIRST in str(rows.to_dict(as_series=False)) or LAST in str(rows.to_dicts()):
            holding.add(name)
    assert holding == NAMED
    page = Path(lake.root, "mini", "churn_report", "churn_report.html").read_text()
    assert FIRST not in page
    assert LAST not in page
    assert PLACE not in page


def test_what_is_refused_is_not_repeated_where_tables_are_committed(place: Path) -> None:
    """Nor in the statistics and commits beside the tables; of names and places."""
    for file in place.glob("lake/mini/*/_delta_log/*.json"):
        if file.parent.parent.name not in NAMED:
            content = file.read_text()
            assert [mark for mark in (FIRST, LAST, PLACE) if mark in content] == [], file


def test_the_report_runs_nothing_of_the_log(place: Path, tab: Page) -> None:
    page = Path(place, "lake", "mini", "churn_report", "churn_report.html")
    said = complaints(tab)
    asked: list[str] = []

    def note(request: Request) -> None:
        asked.append(request.url)

    tab.on("request", note)
    tab.goto(page.as_uri())
    title = tab.title()
    assert "taken over" not in title
    tab.get_by_role("searchbox").first.fill(ID)
    assert tab.get_by_text(f"=cmd|{ID}").first.is_visible(), "as the text that it is"
    assert "taken over" not in tab.title()
    assert tab.locator("table img, table script").count() == 0
    assert asked == [page.as_uri()]
    assert said == []
