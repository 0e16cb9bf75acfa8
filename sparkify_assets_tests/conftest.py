"""What the tests share: one Spark session, and where the real rows are."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from hypothesis import settings

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page
    from pyspark.sql import SparkSession

    from sparkify_assets_tests.running import Run

# How long an example takes says more about the machine than about the code.
settings.register_profile("untimed", deadline=None)
settings.load_profile("untimed")

REAL_ROWS = Path(__file__).parents[2] / "shared" / "data" / "real"


@pytest.fixture(scope="session", autouse=True)
def one_repeat() -> Iterator[None]:
    """Models are tested once in a run, which takes a fifth of the time."""
    from sparkify_assets.datasets import DATASETS

    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(DATASETS, "mini", replace(DATASETS["mini"], repeats=1))
        yield


@pytest.fixture(scope="session", autouse=True)
def no_reports_served() -> Iterator[None]:
    """Whoever runs the tests may have their reports served; the tests' own are files."""
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("SPARKIFY_REPORTS_URL", raising=False)
        yield


@pytest.fixture(scope="session")
def spark() -> Iterator[SparkSession]:
    from dagster_pyspark.resources import spark_session_from_config

    from sparkify_assets.resources.spark import spark_settings

    session = spark_session_from_config(spark_settings("local[2]"))
    yield session
    session.stop()


@pytest.fixture(scope="session")
def real_rows() -> Path:
    """The folder of real rows; tests that need it are skipped where it is not."""
    if not REAL_ROWS.is_dir():
        pytest.skip(f"the real rows are not at {REAL_ROWS}")
    return REAL_ROWS


@pytest.fixture(scope="session")
def finished(spark: SparkSession, tmp_path_factory: pytest.TempPathFactory) -> Run:
    """A run of everything over a log that the pipeline simulated: 100 users, over 20 churned.

    In this draw the model is told from guessing and goes live; in most so small ones it is not.
    Its lake is for reading; a test that writes works on a copy of it.
    """
    from sparkify_assets.datasets import DATASETS
    from sparkify_assets.resources.lake import Lake
    from sparkify_assets_tests.running import run

    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(DATASETS, "mini", replace(DATASETS["mini"], users=100, seed=5))
        return run(Lake(str(tmp_path_factory.mktemp("finished") / "lake")), None)


@pytest.fixture(scope="session")
def simulated_log(finished: Run) -> Path:
    """The log that `finished` read."""
    (log,) = Path(finished.lake.root, "logs", "mini").iterdir()
    return log


# Of a module: while it runs, nothing else in this thread can have an event loop.
@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    from sparkify_assets_tests import browsing

    if browsing.installed() is None:
        pytest.skip("no Chromium is installed")
    with browsing.chromium() as browser:
        yield browser


@pytest.fixture
def tab(browser: Browser) -> Iterator[Page]:
    """An empty tab of a visitor who was never here before."""
    from sparkify_assets_tests.browsing import SCREEN

    with browser.new_context(viewport=SCREEN) as context:
        context.set_default_timeout(60_000)  # the machine may have other things to do
        yield context.new_page()
