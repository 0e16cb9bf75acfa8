"""A log that grows is as one that was there at once, whatever happens to its files and its runs."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import polars as pl
import pytest
from polars.testing import assert_frame_equal

from sparkify_assets.resources.lake import Lake
from sparkify_assets.simulation import write_log
from sparkify_assets.storage import read_part
from sparkify_assets.tables import RAW_EVENTS, REJECTED_LINES
from sparkify_assets_tests.live import DAYS, PREPARED, Played, play, reveal, same_tables
from sparkify_assets_tests.running import copy, run, tables

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

LATE = "2018-10-03.jsonl"
CHANGED = "2018-10-02.jsonl"
VANISHED = "2018-10-01.jsonl"


# Day by day, in this process


@pytest.fixture(scope="module")
def log(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of four days' files, of some users who come back and a few who cancel."""
    folder = tmp_path_factory.mktemp("log") / "days"
    write_log(folder, users=40, days=4, seed=2, daily=True)
    return folder


@pytest.fixture(scope="module")
def grown(log: Path, spark: SparkSession, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A source and a lake that took its days in one after the other, but one that is not there."""
    folder = tmp_path_factory.mktemp("grown")
    (folder / "source").mkdir()
    for file in sorted(log.iterdir()):
        if file.name != LATE:
            reveal(file, folder / "source")
            assert run(Lake(str(folder / "lake")), folder / "source", job="prepare").success
    shutil.copytree(folder / "source", folder / "as it was")
    return folder


@pytest.fixture
def source(grown: Path) -> Path:
    """Always the same folder, as of another one's files nothing would be known."""
    shutil.rmtree(grown / "source")
    return Path(shutil.copytree(grown / "as it was", grown / "source"))


@pytest.fixture
def lake(grown: Path, tmp_path: Path) -> Lake:
    return copy(Lake(str(grown / "lake")), tmp_path / "lake")


def late(source: Path, log: Path) -> None:
    reveal(log / LATE, source)


def changed(source: Path, log: Path) -> None:
    """Of the last users nothing is left, and a line that is no event has come."""
    lines = (log / CHANGED).read_text().splitlines()
    (source / CHANGED).write_text("\n".join([*lines[: len(lines) // 2], "no event", ""]))


@pytest.mark.parametrize("happens", [late, changed])
def test_whatever_happens_to_a_file_the_tables_are_as_of_one_run(
    happens: Callable[[Path, Path], None], source: Path, lake: Lake, log: Path, tmp_path: Path
) -> None:
    happens(source, log)
    done = run(lake, source, job="prepare")
    assert done.success
    assert done.materialized["raw_events"]["new_files"] == 1
    assert_is_as_of_one_run(lake, source, tmp_path)


def test_what_a_file_that_vanished_held_stays(source: Path, lake: Lake, grown: Path) -> None:
    (source / VANISHED).unlink()
    done = run(lake, source, job="prepare")
    assert done.success
    assert done.materialized["raw_events"]["vanished_files"] == 1
    same_tables(lake, Lake(str(grown / "lake")))


def assert_is_as_of_one_run(lake: Lake, source: Path, folder: Path) -> Lake:
    """The lake of that one run."""
    once = Lake(str(folder / "once"))
    assert run(once, source, job="prepare").success
    same_tables(lake, once)
    lines = pl.concat(
        lake.read_polars("mini", table, ["source_file"]) for table in (RAW_EVENTS, REJECTED_LINES)
    )
    found = dict(lines.group_by("source_file").len().rows())
    assert found == {file.name: len(file.read_bytes().splitlines()) for file in source.iterdir()}
    return once


@pytest.mark.parametrize("name", [name for name in PREPARED if name != "rejected_lines"])
def test_lakes_that_differ_in_a_row_are_told_apart(name: str, lake: Lake, tmp_path: Path) -> None:
    other = copy(lake, tmp_path / "other")
    same_tables(lake, other)
    if not (files := other.files("mini", name)):
        pytest.skip(f"four days make no row of {name}")
    rows = read_part(files[-1])
    pl.concat([rows[1:], rows[-1:]]).write_parquet(files[-1])
    with pytest.raises(AssertionError, match=f"^{name} is not the same"):
        same_tables(lake, other)


# Through the daemon


@pytest.mark.slow
@pytest.mark.timeout(5 * 3600)
def test_61_days_with_kills_are_as_one_run(spark: SparkSession, tmp_path: Path) -> None:
    """On two cores about an hour and a half; `pytest -s` tells of each day."""
    played = play(tmp_path / "play", kill_every=3, said=print)
    assert len(played.days) == DAYS
    assert len(played.killed) >= DAYS // 4
    assert_all_went_well(played)
    once = assert_is_as_of_one_run(played.lake, played.source, tmp_path)
    assert_scores_are_as_of_one_run(played, once)


def assert_all_went_well(played: Played) -> None:
    """Each day was taken in by a run that succeeded; killed ones were started again and did."""
    ended = {run.id: run for run in played.runs}
    repeats = {run.parent: run for run in played.runs if run.parent}
    assert set(repeats) == {run.id for run in played.killed}
    for day in played.days:
        assert any(run.success for run in day.runs if run.job in ("prepare", "rescore")), day
    for run_id, ran in ended.items():
        if ran.killed_after is not None:
            assert not ran.success
            assert repeats[run_id].success or repeats[run_id].job == "retrain", ran
        elif not ran.success:
            # Refused, until one went live.
            assert ran.job == "retrain", ran
            assert ran.failed_steps[:1] == ("model_registry_a_model_is_live",), ran


def assert_scores_are_as_of_one_run(played: Played, once: Lake) -> None:
    """By the model that went live, which was trained on what was there then; and of every day."""
    model = "mini/model_registry"
    shutil.copytree(Path(played.lake.root, model), Path(once.root, model))
    assert run(once, played.source, "churn_scores", job="rescore").success
    ours, theirs = (
        tables(lake, "churn_scores")["churn_scores"].drop("scored_at")
        for lake in (played.lake, once)
    )
    days = ours["as_of"].unique().sort()
    assert_frame_equal(ours.filter(as_of=days[-1]), theirs, check_exact=True)
    assert days.to_list() == pl.date_range(days[0], days[-1], "1d", eager=True).to_list()
    assert len(days) > DAYS // 2
