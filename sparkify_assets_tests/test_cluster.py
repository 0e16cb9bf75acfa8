"""The same code on a standalone cluster: a master and two workers, each a process of its own."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from polars.testing import assert_frame_equal

from sparkify_assets.churn import cutoffs, models
from sparkify_assets.resources.lake import Lake
from sparkify_assets.tables import FEATURE_TABLE, TABLES, TRAINED_MODEL
from sparkify_assets_tests.cluster import Cluster, cluster
from sparkify_assets_tests.running import (
    EVENTS_TO_FEATURES,
    Run,
    copy,
    environment,
    tables,
    without_times,
)

# A driver of its own, since this process has a local session already.
DRIVER = """
import json, sys
from pathlib import Path
from sparkify_assets.resources.lake import Lake
from sparkify_assets_tests.running import run

lake, source, assets, settings = json.loads(sys.argv[1])
done = run(Lake(lake), Path(source), *assets, **settings)
sys.exit(0 if done.success else done.said)
"""
# Half a minute each on a quiet machine.
pytestmark = pytest.mark.timeout(900)
READ = ("raw_events", "rejected_lines", "cleaned_events", "label_days")
FIRST_PART_SECONDS = 240


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    with cluster(tmp_path_factory.mktemp("cluster")) as started:
        yield started


def start(
    on: Cluster, lake: Lake, log: Path, *assets: str, **settings: dict[str, Any]
) -> subprocess.Popen[str]:
    """Materialize these assets of mini, or all of them, on the cluster."""
    return subprocess.Popen(
        [sys.executable, "-c", DRIVER, json.dumps([lake.root, str(log), assets, settings])],
        env={**environment(lake, log), **on.environment()},
        cwd=Path(__file__).parents[1],
        stderr=subprocess.PIPE,
        text=True,
    )


def finish(driver: subprocess.Popen[str]) -> str:
    """What the driver said on its way to a good end."""
    _, said = driver.communicate(timeout=480)
    assert driver.returncode == 0, said
    return said


def assert_same(lake: Lake, finished: Run, *names: str) -> None:
    """The same rows, and of the stored models the same bytes."""
    ours, theirs = tables(lake, *names), tables(finished.lake, *names)
    for name in names:
        assert_frame_equal(without_times(ours[name]), without_times(theirs[name]), check_exact=True)


@pytest.mark.parametrize(
    "assets", [EVENTS_TO_FEATURES, pytest.param(tuple(TABLES), marks=pytest.mark.slow)]
)
def test_a_cluster_gives_the_same_tables(
    assets: tuple[str, ...], running: Cluster, finished: Run, simulated_log: Path, tmp_path: Path
) -> None:
    lake = Lake(str(tmp_path / "lake"))
    finish(start(running, lake, simulated_log, *assets, evaluation_predictions={"repeats": 1}))
    assert_same(lake, finished, *assets)


@pytest.mark.slow
def test_past_a_number_of_rows_xgboost_trains_on_the_workers(
    running: Cluster, finished: Run, simulated_log: Path, tmp_path: Path
) -> None:
    lake = copy(finished.lake, tmp_path)
    few = {"trained_model": {"rows_for_workers": 1, "folds": 2}}
    finish(start(running, lake, simulated_log, "trained_model", **few))
    here, there = (stored_trees(each) for each in (finished.lake, lake))
    assert there.booster.num_boosted_rounds() == here.booster.num_boosted_rounds()
    rows = cutoffs.learnable(lake.read_polars("mini", FEATURE_TABLE), cutoffs.FORECAST)
    assert np.corrcoef(here.predict(rows), there.predict(rows))[0, 1] > 0.95
    assert not np.array_equal(here.predict(rows), there.predict(rows)), "trained here after all"


def stored_trees(lake: Lake) -> models.Boosted:
    stored = lake.read_polars("mini", TRAINED_MODEL).filter(model=models.BOOSTED)
    calibrated = models.load(stored["artifact"][0])
    assert isinstance(calibrated, models.Calibrated)
    assert isinstance(calibrated.model, models.Boosted)
    return calibrated.model


@pytest.mark.slow
def test_a_worker_that_dies_while_the_log_is_read_is_done_without(
    finished: Run, simulated_log: Path, tmp_path: Path
) -> None:
    lake = Lake(str(tmp_path / "lake"))
    with cluster(tmp_path) as running:
        driver = start(running, lake, simulated_log, *READ)
        end = time.monotonic() + FIRST_PART_SECONDS
        while not list(Path(lake.root).glob("mini/raw_events/*/*.parquet")):
            assert driver.poll() is None, finish(driver)
            assert time.monotonic() < end
            time.sleep(0.01)
        running.kill("worker-0")
        said = finish(driver)
    assert "Lost executor" in said, "it was too late to disturb the run"
    for name in READ:
        ours, theirs = (tables(each, name)[name] for each in (lake, finished.lake))
        assert_frame_equal(ours, theirs, check_exact=True)
    known = {Path(file).name for file in lake.files("mini", "raw_events")}
    written = {file.name for file in Path(lake.root).glob("mini/raw_events/*/*.parquet")}
    assert known <= written
