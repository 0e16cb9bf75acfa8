"""A log that grows a file a day: what a run makes anew, and that nothing else is touched."""

from __future__ import annotations

import itertools
import json
import shutil
from dataclasses import dataclass, replace
from datetime import date, datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from polars.testing import assert_frame_equal
from pyspark.sql import SparkSession

from sparkify_assets.datasets import DATASETS
from sparkify_assets.events import log as log_module
from sparkify_assets.events.ingest import slice_of
from sparkify_assets.resources.lake import Lake, Version
from sparkify_assets.simulation import write_log
from sparkify_assets.tables import RAW_EVENTS, REJECTED_LINES, TABLES, Table
from sparkify_assets_tests.running import EVENTS_TO_FEATURES, Run, copy, run, tables

READ = ("raw_events", "rejected_lines")
SLICED = (*READ, "cleaned_events", "label_days", "user_days", "user_kinds", "feature_table")
LOG_START = date(2018, 10, 1)
FIRST_DAYS = 22
# A cutoff at day 14 and the last one whose horizon the log holds.
FORECAST = {"horizon_days": 5}


def day(number: int) -> str:
    """The day after so many days of the log, as its slices are called."""
    return (LOG_START + timedelta(days=number)).isoformat()


def days(*numbers: int) -> set[str]:
    return {day(number) for number in numbers}


def cutoffs(*numbers: int) -> set[str]:
    """The slices of the feature table at these days, and that of the whole log."""
    return {"whole_log"} | {f"forecast-{day(number)}" for number in numbers}


def files(*names: str) -> set[str]:
    return {slice_of(name) for name in names}


Parts = dict[str, dict[str, frozenset[str]]]  # table -> slice -> part files


@dataclass(frozen=True)
class Step:
    """A run, and the part files of the sliced tables before and after it."""

    run: Run
    before: Parts
    after: Parts
    versions: dict[str, Version]

    def new(self, table: str) -> set[str]:
        """The slices that have part files that were not there before."""
        before = self.before.get(table, {})
        return {
            name for name, of in self.after[table].items() if of - before.get(name, frozenset())
        }

    def gone(self, table: str) -> set[str]:
        """The slices some of whose part files are not there any more."""
        after = self.after[table]
        return {
            name
            for name, of in self.before.get(table, {}).items()
            if of - after.get(name, frozenset())
        }

    def said(self, table: str) -> dict[str, Any]:
        return self.versions[table].metadata


class Growing:
    """A folder of a log's files, a lake, and runs over the one into the other."""

    def __init__(self, folder: Path, lake: Lake) -> None:
        self.folder, self.lake = folder, lake

    def parts(self) -> Parts:
        return {
            table: {
                name: frozenset(part.path for part in of)
                for name, of in itertools.groupby(
                    self.lake.parts("mini", table), lambda part: part.slice
                )
            }
            for table in SLICED
            if self.lake.exists("mini", table)
        }

    def step(self, *assets: str) -> Step:
        before = self.parts()
        wanted = assets or EVENTS_TO_FEATURES
        settings = {"feature_table": FORECAST} if "feature_table" in wanted else {}
        done = run(self.lake, self.folder, *wanted, **settings)
        versions = {name: self.lake.version("mini", name) for name in wanted}
        return Step(done, before, self.parts(), versions)

    def write(self, name: str, lines: list[dict[str, Any]]) -> None:
        written = "".join(json.dumps(line) + "\n" for line in lines)
        (self.folder / name).write_text(written)

    def lines(self, name: str) -> list[dict[str, Any]]:
        return [json.loads(line) for line in (self.folder / name).open()]


@pytest.fixture(scope="module")
def log(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A file a day of more days than the first run sees."""
    folder = tmp_path_factory.mktemp("log") / "days"
    write_log(folder, users=60, days=FIRST_DAYS + 2, seed=3, daily=True, progress=False)
    return folder


@pytest.fixture(scope="module")
def growing(log: Path, spark: SparkSession, tmp_path_factory: pytest.TempPathFactory) -> Growing:
    """The lake of the story that the tests below tell one after the other."""
    folder = tmp_path_factory.mktemp("story")
    found = Growing(folder / "log", Lake(str(folder / "lake")))
    found.folder.mkdir()
    for number in range(FIRST_DAYS):
        shutil.copy2(log / f"{day(number)}.jsonl", found.folder)
    return found


@pytest.fixture(scope="module")
def first(growing: Growing) -> Step:
    return growing.step()


@pytest.fixture(scope="module")
def same(growing: Growing, first: Step) -> Step:
    return growing.step()


@pytest.fixture(scope="module")
def next_day(growing: Growing, same: Step, log: Path) -> Step:
    shutil.copy2(log / f"{day(FIRST_DAYS)}.jsonl", growing.folder)
    return growing.step()


LATE = 10  # the day of which an event arrives late


@pytest.fixture(scope="module")
def visited(growing: Growing, next_day: Step) -> list[str]:
    """The days of a user who was there on LATE and twice afterwards at least."""
    user_days = growing.lake.read_polars("mini", TABLES["user_days"], ["user_id", "day"])
    of_users = user_days.group_by("user_id", maintain_order=True).agg(pl.col("day").sort())
    late = LOG_START + timedelta(days=LATE)
    for user, there in of_users.rows():
        if late in there and len([each for each in there if each > late]) > 1:
            return [user, *(each.isoformat() for each in there)]
    raise AssertionError("nobody was")


@pytest.fixture(scope="module")
def late(growing: Growing, visited: list[str]) -> Step:
    """At the day's very end the user did something else, in another session."""
    user = visited[0]
    (last, *_) = (x for x in reversed(growing.lines(f"{day(LATE)}.jsonl")) if x["userId"] == user)
    midnight = datetime.fromisoformat(day(LATE + 1)).replace(tzinfo=timezone.utc)
    ts = round(midnight.timestamp() * 1000) - 1
    growing.write("late.jsonl", [last | {"ts": ts, "sessionId": 99_999, "page": "Help"}])
    return growing.step()


@pytest.fixture(scope="module")
def changed(growing: Growing, late: Step) -> Step:
    """A file has come again, with a line less; another one is not there any more."""
    name = f"{day(3)}.jsonl"
    growing.write(name, growing.lines(name)[1:])
    (growing.folder / f"{day(5)}.jsonl").rename(growing.folder.parent / "vanished.jsonl")
    return growing.step()


@pytest.fixture(scope="module")
def died(growing: Growing, changed: Step, log: Path) -> Step:
    """A run that dies when one of two tables has a new file's lines."""
    shutil.copy2(log / f"{day(FIRST_DAYS + 1)}.jsonl", growing.folder)
    real = Lake.commit

    def commit(self: Lake, dataset: str, table: Table, *more: Any, **named: Any) -> Version:
        if table.name == REJECTED_LINES.name:
            raise RuntimeError("the process dies")
        return real(self, dataset, table, *more, **named)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Lake, "commit", commit)
        return growing.step()


@pytest.fixture(scope="module")
def healed(growing: Growing, died: Step) -> Step:
    return growing.step()


@pytest.fixture(scope="module")
def at_once(growing: Growing, healed: Step, tmp_path_factory: pytest.TempPathFactory) -> Growing:
    """The same lines, read by one run into a lake of its own."""
    folder = tmp_path_factory.mktemp("at once")
    found = Growing(folder / "log", Lake(str(folder / "lake")))
    shutil.copytree(growing.folder, found.folder)
    shutil.copy2(growing.folder.parent / "vanished.jsonl", found.folder / f"{day(5)}.jsonl")
    assert found.step().run.success
    return found


def test_the_first_run_makes_a_slice_of_each_file_day_week_and_cutoff(first: Step) -> None:
    assert first.run.success
    assert all(first.run.checks.values())
    names = {f"{day(number)}.jsonl" for number in range(FIRST_DAYS)}
    assert {each.said["name"] for each in first.versions["raw_events"].slices.values()} == names
    assert set(first.versions["rejected_lines"].slices) == files(*names)
    assert first.new("raw_events") == files(*names)
    for table in ("cleaned_events", "label_days", "user_days"):
        assert first.new(table) == days(*range(FIRST_DAYS)), table
    assert first.new("user_kinds") == days(7, 14, 21)
    # 17 is the last day whose horizon the log holds.
    assert first.new("feature_table") == cutoffs(14, 17, 22)


def test_a_file_says_how_many_events_it_holds_of_each_day(first: Step, growing: Growing) -> None:
    slices = first.versions["raw_events"].slices
    said = slices[slice_of(f"{day(2)}.jsonl")].said
    assert said["days"] == {day(2): said["events"]}
    assert (said["lines"], said["rejected"]) == (len(growing.lines(f"{day(2)}.jsonl")), 0)
    assert sum(each.said["events"] for each in slices.values()) == first.versions["raw_events"].rows


def test_a_run_with_nothing_new_makes_no_part_file(same: Step) -> None:
    assert same.run.success
    assert all(same.run.checks.values())
    assert same.after == same.before
    assert same.said("raw_events")["new_files"] == 0
    assert same.said("cleaned_events")["new_days"] == []
    assert same.said("user_days")["new_days"] == []
    assert same.said("user_kinds")["new_weeks"] == []
    assert same.said("feature_table")["new_cutoffs"] == []
    assert {name: each.number for name, each in same.versions.items()} == dict.fromkeys(
        EVENTS_TO_FEATURES, 1
    )


def test_a_new_day_costs_a_day(next_day: Step) -> None:
    assert next_day.run.success
    assert all(next_day.run.checks.values())
    assert next_day.new("raw_events") == files(f"{day(22)}.jsonl")
    for table in ("cleaned_events", "label_days", "user_days"):
        assert next_day.new(table) == days(22), table
    assert next_day.new("user_kinds") == set(), "the week is not over"
    assert next_day.new("feature_table") == cutoffs(18, 23)
    # These two were the log's end, and the last one whose horizon it held.
    assert next_day.gone("feature_table") == cutoffs(17, 22)
    for table in set(SLICED) - {"feature_table"}:
        assert next_day.gone(table) == set(), table


def test_a_late_event_costs_its_day_the_users_next_one_and_what_knew_them(
    late: Step, visited: list[str]
) -> None:
    assert late.run.success
    assert all(late.run.checks.values())
    next_one = next(each for each in visited[1:] if each > day(LATE))
    assert late.new("raw_events") == files("late.jsonl")
    assert late.new("cleaned_events") == late.new("label_days") == days(LATE)
    assert late.new("user_days") == {day(LATE), next_one}
    assert late.new("user_kinds") == days(14, 21)
    assert late.new("feature_table") == cutoffs(14, 18, 23)


def test_a_file_that_came_again_replaces_its_own_rows(changed: Step, late: Step) -> None:
    assert changed.run.success
    assert all(changed.run.checks.values())
    name = f"{day(3)}.jsonl"
    assert changed.new("raw_events") == changed.gone("raw_events") == files(name)
    assert changed.new("cleaned_events") == changed.gone("cleaned_events") == days(3)
    before, after = (each.versions["raw_events"] for each in (late, changed))
    assert after.rows == before.rows - 1
    assert after.slices[slice_of(name)].said["lines"] == (
        before.slices[slice_of(name)].said["lines"] - 1
    )


def test_the_rows_of_a_vanished_file_stay_and_it_is_said(changed: Step, growing: Growing) -> None:
    kept = slice_of(f"{day(5)}.jsonl")
    assert changed.after["raw_events"][kept] == changed.before["raw_events"][kept]
    assert kept in changed.versions["rejected_lines"].slices
    assert changed.said("raw_events")["vanished_files"] == 1
    assert changed.run.materialized["raw_events"]["vanished_files"] == 1
    assert changed.said("raw_events")["files"] == FIRST_DAYS + 2


def test_a_run_that_died_between_two_tables_is_healed_by_the_next(died: Step, healed: Step) -> None:
    name = f"{day(FIRST_DAYS + 1)}.jsonl"
    assert not died.run.success
    assert died.new("raw_events") == files(name)
    assert slice_of(name) not in died.versions["rejected_lines"].slices
    assert died.new("cleaned_events") == set()
    assert healed.run.success
    assert all(healed.run.checks.values())
    assert healed.new("raw_events") == healed.gone("raw_events") == files(name)
    assert slice_of(name) in healed.versions["rejected_lines"].slices
    assert healed.versions["raw_events"].rows == died.versions["raw_events"].rows
    assert healed.new("cleaned_events") == days(FIRST_DAYS + 1)


@pytest.mark.parametrize("name", EVENTS_TO_FEATURES)
def test_a_log_that_grew_gives_the_same_tables_as_one_read_at_once(
    name: str, growing: Growing, at_once: Growing
) -> None:
    one, other = (tables(each.lake, name)[name] for each in (growing, at_once))
    assert_frame_equal(one, other, check_exact=True)


def test_another_source_is_read_from_the_start(
    growing: Growing, at_once: Growing, tmp_path: Path
) -> None:
    """Nothing is kept of the log before, though its files are called alike."""
    elsewhere = Growing(tmp_path / "log", copy(growing.lake, tmp_path / "lake"))
    elsewhere.folder.mkdir()
    for number in (1, 2):
        shutil.copy2(growing.folder / f"{day(number)}.jsonl", elsewhere.folder)
    step = elsewhere.step(*READ)
    assert step.run.success
    names = {f"{day(number)}.jsonl" for number in (1, 2)}
    assert step.new("raw_events") == files(*names)
    assert set(step.versions["raw_events"].slices) == files(*names)
    assert set(step.versions["rejected_lines"].slices) == files(*names)
    assert set(elsewhere.lake.read_polars("mini", RAW_EVENTS)["source_file"]) == names
    assert step.said("raw_events")["vanished_files"] == 0


def test_of_a_log_simulated_by_another_version_nothing_is_kept(
    spark: SparkSession, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It lies in a file of another name, which is no new file of the log before."""
    monkeypatch.setitem(DATASETS, "mini", replace(DATASETS["mini"], users=20, days=3))
    lake = Lake(str(tmp_path / "lake"))
    assert run(lake, None, *READ).success
    before = lake.version("mini", "raw_events")
    monkeypatch.setattr(log_module, "__version__", "another")
    assert run(lake, None, *READ).success
    after = lake.version("mini", "raw_events")
    assert (before.metadata["source"], before.rows) == (after.metadata["source"], after.rows)
    assert set(before.slices) != set(after.slices)
    assert (len(after.slices), after.metadata["vanished_files"]) == (1, 0)
