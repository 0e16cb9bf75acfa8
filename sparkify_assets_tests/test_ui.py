"""The project as its user meets it: `make dev`, what its pages start, and what they show.

One server serves all tests here, and one finished run. Browser tests are skipped where no Chromium
is installed. With SPARKIFY_PICTURES, a folder, they leave the docs' pictures there, which are of
the simulated log that a newcomer gets (`make pictures`).
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import shutil
import socket
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import polars as pl
import psutil
import pytest
import requests
import yaml
from playwright.sync_api import Page, Request, expect

from sparkify_assets.definitions import defs
from sparkify_assets.metadata import column_schema
from sparkify_assets.report.page import LISTED
from sparkify_assets.tables import CHURN_SCORES, TABLES
from sparkify_assets_tests.browsing import PHONE, complaints, sideways
from sparkify_assets_tests.running import family
from sparkify_assets_tests.ui import ASSET_GRAPH, LOCATION, UI, eventually, make_dev

# The first test waits for a run of everything, also where the machine has other things to do.
pytestmark = pytest.mark.timeout(600)
PICTURES = os.environ.get("SPARKIFY_PICTURES")
GRAPH = defs.resolve_asset_graph()
ASSETS = {key.to_user_string() for key in GRAPH.get_all_asset_keys()}
EDGES = {
    (parent.to_user_string(), key.to_user_string())
    for key in GRAPH.get_all_asset_keys()
    for parent in GRAPH.get(key).parent_keys
}
# As someone in a hurry would change them in the launchpad.
QUICK = {
    "model_trials": {"search_trials": 1},
    "evaluation_predictions": {"search_trials": 1, "repeats": 1},
}


@pytest.fixture(scope="module")
def logs(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> dict[str, str]:
    """The source of each dataset. Of `full` a file of its own."""
    if PICTURES:
        return {}
    log: Path = request.getfixturevalue("simulated_log")
    full = tmp_path_factory.mktemp("full") / "log.json"
    shutil.copy(log, full)
    return {"SPARKIFY_MINI_SOURCE": str(log), "SPARKIFY_FULL_SOURCE": str(full)}


@pytest.fixture(scope="module")
def ui(logs: dict[str, str], tmp_path_factory: pytest.TempPathFactory) -> Iterator[UI]:
    every_minute = {"SPARKIFY_RESCORE_CRON": "* * * * *"}
    with make_dev(tmp_path_factory.mktemp("ui"), **every_minute, **logs) as ui:
        yield ui


@pytest.fixture(scope="module")
def listening() -> dict[str, set[str]]:
    """At which addresses the processes of `make dev` listened during a run, by their names."""
    return {}


@pytest.fixture(scope="module")
def ran(ui: UI, listening: dict[str, set[str]]) -> str:
    """A run of mini, launched from the page of the job `everything`."""
    asked = ui.launch_of("everything", "mini")
    config = yaml.safe_load(asked["runConfigData"])
    for op, changed in {} if PICTURES else QUICK.items():
        config["ops"][op]["config"] |= changed
    run = ui.launch(asked | {"runConfigData": yaml.safe_dump(config)})
    ended = threading.Event()
    watch = threading.Thread(target=note_sockets, args=(ui.pid, ended, listening))
    watch.start()
    try:
        ui.succeeded(run)
    finally:
        ended.set()
        watch.join()
    return run


def note_sockets(pid: int, ended: threading.Event, listening: dict[str, set[str]]) -> None:
    while not ended.wait(0.5):
        for process in family(pid):
            with contextlib.suppress(psutil.NoSuchProcess):
                for each in process.net_connections("inet"):
                    if each.status == psutil.CONN_LISTEN or each.type == socket.SOCK_DGRAM:
                        listening.setdefault(process.name(), set()).add(each.laddr.ip)


@pytest.fixture(scope="module")
def from_graph(ui: UI, ran: str) -> str:
    """A run of mini, launched from the asset graph, that is not waited for."""
    return ui.launch(ui.launch_of(ASSET_GRAPH, "mini"))


# What a run leaves


def test_the_job_makes_all_of_mini(ui: UI, ran: str, logs: dict[str, str]) -> None:
    run = ui.run(ran)
    assert run["jobName"] == "everything"
    assert run["tags"]["dagster/partition"] == "mini"
    made = ui.materialized("mini")
    assert set(made) == ASSETS
    for name in TABLES:
        version = ui.lake.version("mini", name)
        said = made[name]
        assert said["dagster/partition_row_count"] == version.rows
        assert said["table_version"] == version.number
        assert said["path"] == version.path
    assert made["raw_events"]["source"] == logs["SPARKIFY_MINI_SOURCE"]
    assert made["model_trials"]["dagster/partition_row_count"] == 1  # as set in the launchpad
    assert 0 < made["evaluation_metrics"]["forecast_grouped_pr_auc"] < 1


def test_every_check_has_a_result_for_mini(ui: UI, ran: str) -> None:
    results = ui.checked("mini")
    assert set(results) == {key.to_user_string() for key in GRAPH.asset_check_keys}
    assert {result["partition"] for result in results.values()} == {"mini"}
    for name, result in results.items():
        said = result["evaluation"]
        assert said["success"] or said["severity"] == "WARN", name
        assert said["description"], name


def test_nothing_is_said_of_full(ui: UI, ran: str) -> None:
    assert ui.materialized("full") == {}
    assert ui.checked("full") == {}


def test_nothing_listens_but_on_this_machine(ran: str, listening: dict[str, set[str]]) -> None:
    """Of all that `make dev` starts, Spark's processes included."""
    assert {"java", "python"} <= {name.rstrip("0123456789.") for name in listening}
    assert set().union(*listening.values()) <= {"127.0.0.1", "::1", "::ffff:127.0.0.1"}, listening


# What starts a run


def test_a_schedule_and_the_sensor_ask_for_full(ui: UI, ran: str, from_graph: str) -> None:
    """While the run from the asset graph is under way, so that what they ask for has to queue."""
    # As if full had been scored before, from another log than is there now.
    shutil.copytree(Path(ui.lake.root, "mini"), Path(ui.lake.root, "full"))
    try:
        # One after the other, as neither asks while a run that the other asked for has not ended.
        with ui.switched_on("schedule", "rescore_full_daily") as scheduled:
            by_schedule = requested(ui, scheduled)
        with ui.switched_on("sensor", "new_log_files") as sensed:
            by_sensor = requested(ui, sensed)
        for run in (by_schedule, by_sensor):
            assert run["jobName"] == "rescore"
            assert run["tags"]["dagster/partition"] == "full"
        assert "sensor_name" in str(by_sensor["tags"])
    finally:
        for run in ui.not_ended():
            if run != from_graph:
                ui.cancel(run)
        shutil.rmtree(Path(ui.lake.root, "full"))


def requested(ui: UI, ticks: Callable[[], list[dict[str, Any]]]) -> dict[str, Any]:
    """The first run that a tick asks for; it is canceled, as it would make the next one wait."""
    seen: list[dict[str, Any]] = []

    def ids() -> list[str]:
        seen[:] = ticks()
        assert not [tick["error"] for tick in seen if tick["error"]]
        return [run for tick in seen for run in tick["runIds"]]

    try:
        run = eventually(ids, "a tick that asks for a run", 150)[0]
    except TimeoutError as error:
        raise TimeoutError(f"{error}; ticks: {seen}") from None
    ui.cancel(run)
    return ui.run(run)


def test_the_asset_graph_makes_all_of_mini(ui: UI, from_graph: str) -> None:
    ui.succeeded(from_graph)
    made = ui.materialized("mini")
    assert set(made) == ASSETS
    assert {said["table_version"] for name, said in made.items() if name in TABLES} == {1}


def test_a_wrong_setting_is_refused_before_anything_runs(ui: UI, ran: str, from_graph: str) -> None:
    before = ui.materialized("mini")
    asked = ui.launch_of("everything", "mini")
    config = yaml.safe_load(asked["runConfigData"])
    config["ops"]["feature_table"]["config"]["horizon_days"] = 0
    run = ui.launch(asked | {"runConfigData": yaml.safe_dump(config)})
    with pytest.raises(RuntimeError, match="horizon_days is 0, but must be at least 1"):
        ui.succeeded(run)
    assert ui.materialized("mini") == before


# In a browser: Dagster's pages


@pytest.fixture
def picture(tmp_path: Path) -> Callable[[Page, str], None]:
    """Keeps what a tab shows; small enough for a page of the docs."""

    def keep(tab: Page, name: str) -> None:
        tab.mouse.move(700, 10)  # away from what would explain itself
        tab.wait_for_timeout(1_000)  # until all is where it goes
        file = Path(PICTURES or tmp_path, f"{name}.png")
        tab.screenshot(path=file, animations="disabled")
        assert file.stat().st_size < 300_000

    return keep


@pytest.mark.picture
def test_the_lineage_shows_every_asset_and_edge(
    ui: UI, ran: str, tab: Page, picture: Callable[[Page, str], None]
) -> None:
    # What a reader would set to see all of it at once: two lines an asset, no sidebars, a wide
    # window.
    tab.set_viewport_size({"width": 1600, "height": 820})
    for name, value in {
        "asset-graph-direction": "horizontal",
        "asset-node-facets": ["checks", "status"],
        "dagster-nav-collapsed": True,
    }.items():
        tab.add_init_script(f"localStorage.setItem({name!r}, {json.dumps(json.dumps(value))})")
    groups = {GRAPH.get(key).group_name for key in GRAPH.get_all_asset_keys()}
    expanded = ",".join(f"global@global:{group}" for group in sorted(groups))
    tab.goto(f"{ui.url}/asset-groups?expanded={expanded}")
    tab.locator("svg foreignObject", has_text="churn_report").wait_for()
    tab.get_by_placeholder("Jump to").locator("xpath=following::button[1]").click()
    # Its own way to fit the graph to the window. The corner is free of assets.
    tab.mouse.dblclick(1400, 800)
    drawn = tab.locator("svg foreignObject").evaluate_all(
        """all => all.map(e => [e.textContent,
             ...["x", "y", "width", "height"].map(name => Number(e.getAttribute(name)))])"""
    )
    shown = {name: bounds for text, *bounds in drawn if (name := whole_name(text))}
    assert set(shown) == ASSETS
    arrows = tab.locator("svg path[marker-end]")
    curves = arrows.evaluate_all("all => all.map(e => e.getAttribute('d'))")
    edges = [tuple(nearest(shown, *end) for end in ends(curve)) for curve in curves]
    assert sorted(edges) == sorted(EDGES)
    for name in ("events", "users", "churn"):
        assert tab.locator("svg foreignObject.group", has_text=name).is_visible()
    # The frame of one whose state is not known yet is as any other line.
    expect(tab.locator("svg foreignObject [style*='border-default']")).to_have_count(
        0, timeout=60_000
    )
    picture(tab, "lineage")


def whole_name(text: str) -> str | None:
    """The asset of which a node of the graph shows the name; long ones are cut in the middle."""
    start, cut, end = text.partition("…")
    return next(
        (name for name in ASSETS if name == text or (cut and re.match(f"{start}.*{end}$", name))),
        None,
    )


def ends(curve: str) -> list[tuple[float, float]]:
    """The first and the last point of an SVG path."""
    points = re.findall(r"(-?[\d.]+),(-?[\d.]+)", curve)
    return [(float(x), float(y)) for x, y in (points[0], points[-1])]


def nearest(shown: dict[str, list[float]], x: float, y: float) -> str:
    def distance(name: str) -> float:
        left, top, width, height = shown[name]
        return max(left - x, x - left - width, 0) + max(top - y, y - top - height, 0)

    return min(shown, key=distance)


@pytest.mark.parametrize(
    ("page", "job"),
    [("asset-groups", ASSET_GRAPH), (f"locations/{LOCATION}/jobs/everything", "everything")],
)
def test_materialize_all_asks_for_the_dataset(ui: UI, tab: Page, page: str, job: str) -> None:
    """And sends what the runs above were launched with; here it is not let through."""
    tab.route(
        lambda url: "graphql" in url,
        lambda route: route.abort() if is_launch(route.request) else route.continue_(),
    )
    tab.goto(f"{ui.url}/{page}")
    tab.get_by_role("button", name="Materialize all").click()
    asked = tab.get_by_role("dialog")
    asked.get_by_text("Select a partition").click()
    options = tab.get_by_role("dialog").last.get_by_role("menuitem")
    options.first.wait_for()
    names = [option.inner_text().splitlines()[0] for option in options.all()]
    assert names == ["Select all (2)", "mini", "full"]
    options.nth(1).click()
    tab.keyboard.press("Escape")
    with tab.expect_request(is_launch) as launched:
        asked.get_by_role("button", name="Launch 1 run").click()
    assert launched.value.post_data_json["variables"] == {
        "executionParams": ui.launch_of(job, "mini")
    }


def is_launch(request: Request) -> bool:
    return "launchPipelineExecution" in (request.post_data or "")


@pytest.mark.picture
def test_the_launchpad_is_filled_in_for_the_dataset(
    ui: UI, tab: Page, picture: Callable[[Page, str], None]
) -> None:
    tab.goto(f"{ui.url}/locations/{LOCATION}/jobs/everything")
    tab.get_by_role("button", name="Materialize all").locator("xpath=following::button[1]").click()
    tab.get_by_text("Open launchpad").click()
    tab.get_by_placeholder("Partition").click()
    tab.get_by_role("menuitem", name="mini").click()
    # Of mini; without a dataset it would be one.
    filled = yaml.safe_load(ui.launch_of("everything", "mini")["runConfigData"])
    repeats = filled["ops"]["evaluation_predictions"]["config"]["repeats"]
    assert repeats > 1
    editor = tab.locator(".CodeMirror-code", has_text="ops:")
    editor.get_by_text(f"repeats: {repeats}").wait_for()
    tab.get_by_text("No errors").wait_for()
    picture(tab, "launchpad")


@pytest.mark.picture
def test_an_assets_page_shows_its_columns_and_owner(
    ui: UI, ran: str, tab: Page, picture: Callable[[Page, str], None]
) -> None:
    tab.goto(f"{ui.url}/assets/churn_scores")
    for column in column_schema(CHURN_SCORES).columns:
        tab.get_by_text(str(column.description), exact=True).first.wait_for()
    assert tab.get_by_text("analytics", exact=True).is_visible()
    picture(tab, "asset")


@pytest.mark.picture
def test_the_metrics_page_shows_their_plots(
    ui: UI, ran: str, tab: Page, picture: Callable[[Page, str], None]
) -> None:
    tab.goto(f"{ui.url}/assets/evaluation_metrics?view=partitions&partition=mini")
    row = tab.get_by_role("row", name="pictures").first
    row.get_by_text("[Show Markdown]").click()
    plots = tab.get_by_role("dialog").locator("img")
    plots.first.wait_for()
    widths = plots.evaluate_all("all => Promise.all(all.map(e => e.decode().then(() => e.width)))")
    assert len(widths) >= 3
    assert min(widths) > 200
    picture(tab, "plots")


# In a browser: the report


@pytest.fixture
def report(ui: UI, ran: str, tab: Page) -> Iterator[Page]:
    """The run's report, opened from the lake; nothing in it may go wrong."""
    wrong = complaints(tab)
    tab.goto(Path(ui.lake.root, "mini", "churn_report", "churn_report.html").as_uri())
    yield tab
    assert wrong == []


@pytest.mark.picture
def test_the_report_is_one_file(report: Page, picture: Callable[[Page, str], None]) -> None:
    loaded = report.evaluate("performance.getEntriesByType('resource').map(e => e.name)")
    assert [name for name in loaded if not name.startswith("data:")] == []
    picture(report, "report")


def test_the_report_is_a_click_away(ui: UI, ran: str, tab: Page) -> None:
    tab.goto(f"{ui.url}/assets/churn_report")
    link = tab.get_by_role("row", name="report").get_by_role("link").first
    # Said here if the reports are not served, where a browser would show an empty page.
    assert requests.get(str(link.get_attribute("href")), timeout=60).status_code == 200
    with tab.expect_popup() as opened:
        link.click()
    assert opened.value.get_by_role("heading", level=1).inner_text().startswith("About")


def test_the_reports_list_is_that_of_the_scores(ui: UI, report: Page) -> None:
    scores = ui.lake.read_polars("mini", CHURN_SCORES).sort("probability", descending=True)
    users = report.locator("#risk-table tbody th")
    assert users.all_text_contents()[:3] == scores["user_id"].to_list()[:3]
    report.get_by_role("button", name="Probability").click()
    assert users.first.text_content() == scores["user_id"].to_list()[-1]
    report.get_by_role("combobox", name="Level").select_option("paid")
    with report.expect_download() as download:
        report.get_by_role("button", name="Download").click()
    assert download.value.suggested_filename == "churn-risk-mini.csv"
    downloaded = pl.read_csv(download.value.path(), infer_schema=False)
    paying = scores.filter(level="paid")
    assert set(downloaded["user_id"]) == set(paying["user_id"])
    assert downloaded.columns == LISTED


def test_the_report_needs_no_mouse(report: Page) -> None:
    report.keyboard.press("Tab")
    assert focused(report) == "Skip to the answer"
    report.keyboard.press("Enter")
    assert report.evaluate("document.activeElement.id") == "answer"
    tab_to(report, "User")
    report.keyboard.press("Enter")
    assert report.locator("th[data-column=user_id]").get_attribute("aria-sort") == "ascending"
    report.get_by_role("searchbox", name="Find").focus()
    report.keyboard.type("nobody is called this")
    assert "No user matches" in str(report.locator("#shown").text_content())
    tab_to(report, "Clear")
    report.keyboard.press("Enter")
    report.locator("#shown", has_text="Showing 1 to 20").wait_for()
    tab_to(report, "Next")
    report.keyboard.press("Space")
    report.locator("#page-number", has_text="Page 2").wait_for()


def focused(tab: Page) -> str:
    return tab.evaluate("document.activeElement.textContent.trim()")


def tab_to(tab: Page, name: str) -> None:
    """Press Tab until the thing of this name has the focus, and can be seen to have it."""
    for _ in range(60):
        tab.keyboard.press("Tab")
        if focused(tab) == name:
            assert tab.evaluate("getComputedStyle(document.activeElement).outlineStyle") != "none"
            return
    raise AssertionError(f"the keyboard does not come to {name}")


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_the_report_is_readable_by_day_and_by_night(report: Page, scheme: str) -> None:
    report.emulate_media(color_scheme=scheme)
    paper, ink = (
        report.evaluate(f"getComputedStyle(document.body).{name}")
        for name in ("backgroundColor", "color")
    )
    lighter, darker = sorted((brightness(paper), brightness(ink)), reverse=True)
    assert (brightness(paper) > brightness(ink)) == (scheme == "light")
    assert (lighter + 0.05) / (darker + 0.05) >= 7  # WCAG's AAA


def brightness(colour: str) -> float:
    """WCAG's relative luminance of an rgb(...)."""
    parts = [int(part) / 255 for part in re.findall(r"\d+", colour)[:3]]
    linear = [
        part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts
    ]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def test_the_report_fits_a_phone(report: Page) -> None:
    report.set_viewport_size(PHONE)
    for summary in report.locator("summary").all():
        summary.click()
    assert sideways(report) == 0


def test_the_report_can_be_printed(report: Page) -> None:
    report.emulate_media(media="print", color_scheme="dark")
    assert not report.locator("#filters").is_visible()
    assert not report.get_by_role("navigation", name="Sections").is_visible()
    assert report.get_by_role("heading", level=1).is_visible()
    # Ink on paper, whatever the screen was.
    assert brightness(report.evaluate("getComputedStyle(document.body).color")) < 0.1
    pages = report.pdf(format="A4", print_background=False)
    assert pages.startswith(b"%PDF")
    assert 2 <= pages.count(b"/Type /Page\n") <= 30
