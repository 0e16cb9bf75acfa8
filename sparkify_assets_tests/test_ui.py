"""The project as its user meets it: `dagster dev`, what its pages start, and what they show.

One server serves all tests here, and one finished run. Browser tests are skipped where no Chromium
is installed. With SPARKIFY_PICTURES, a folder, they leave the docs' pictures there (`make pictures`);
these are of the simulated log that a newcomer gets, not of the small one.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import yaml

from sparkify_assets.definitions import defs
from sparkify_assets.tables import TABLES
from sparkify_assets_tests.ui import ASSET_GRAPH, UI, dagster_dev, eventually

if TYPE_CHECKING:
    from playwright.sync_api import Page

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
    with dagster_dev(tmp_path_factory.mktemp("ui"), **every_minute, **logs) as ui:
        yield ui


@pytest.fixture(scope="module")
def ran(ui: UI) -> str:
    """A run of mini, launched from the page of the job `everything`."""
    asked = ui.launch_of("everything", "mini")
    config = yaml.safe_load(asked["runConfigData"])
    for op, changed in {} if PICTURES else QUICK.items():
        config["ops"][op]["config"] |= changed
    run = ui.launch(asked | {"runConfigData": yaml.safe_dump(config)})
    ui.succeeded(run)
    return run


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


# What starts a run


def test_a_schedule_and_the_sensor_ask_for_full(ui: UI, ran: str, from_graph: str) -> None:
    """While the run from the asset graph is under way, so that what they ask for has to queue."""
    # As if full had been scored before, from another log than is there now.
    shutil.copytree(Path(ui.lake.root, "mini"), Path(ui.lake.root, "full"))
    try:
        with ui.switched_on("sensor", "new_log_files") as sensed:
            with ui.switched_on("schedule", "rescore_full_daily") as scheduled:
                by_schedule = requested(ui, scheduled)
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

    def ids() -> list[str]:
        assert not [tick["error"] for tick in ticks() if tick["error"]]
        return [run for tick in ticks() for run in tick["runIds"]]

    run = eventually(ids, "a tick that asks for a run", 150)[0]
    ui.cancel(run)
    return ui.run(run)


def test_the_asset_graph_makes_all_of_mini(ui: UI, from_graph: str) -> None:
    ui.succeeded(from_graph)
    made = ui.materialized("mini")
    assert set(made) == ASSETS
    assert {said["table_version"] for name, said in made.items() if name in TABLES} == {1}


# In a browser


@pytest.fixture
def picture(tmp_path: Path) -> Callable[[Page, str], None]:
    """Keeps what a tab shows; small enough for a page of the docs."""

    def keep(tab: Page, name: str) -> None:
        file = Path(PICTURES or tmp_path, f"{name}.png")
        tab.screenshot(path=file)
        assert file.stat().st_size < 300_000

    return keep
