"""Raw lines that expire: they go, nothing that was made of them does, and days still grow."""

from __future__ import annotations

import shutil
from datetime import date, datetime, timezone
from pathlib import Path

import pytest
from polars.testing import assert_frame_equal

from sparkify_assets.automation.housekeeping import RAW_DAYS_VARIABLE, HousekeepingConfig
from sparkify_assets.errors import SettingError
from sparkify_assets.resources import housekeeping
from sparkify_assets.resources.lake import Lake
from sparkify_assets.simulation import write_log
from sparkify_assets.tables import TABLES
from sparkify_assets_tests.running import run, tables
from sparkify_assets_tests.test_growing_log import Growing, day

RAW = ("raw_events", "rejected_lines")
DAYS = 16
MADE = ("cleaned_events", "label_days", "user_labels", "user_days")
KEPT_FROM = 10  # the first day whose raw lines stay


@pytest.fixture
def growing(short_log: Path, tmp_path: Path) -> Growing:
    """A lake of which the raw lines of the first days have expired, and its log."""
    found = Growing(tmp_path / "log", Lake(str(tmp_path / "lake")))
    shutil.copytree(short_log, found.folder)
    found.write(f"{day(0)}.jsonl", [*found.lines(f"{day(0)}.jsonl"), {"not": "an event"}])
    assert found.step(*RAW, *MADE).run.success
    until = date.fromisoformat(day(KEPT_FROM))
    assert housekeeping.expire(found.lake, "mini", until) == KEPT_FROM
    return found


@pytest.fixture(scope="module")
def short_log(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("short") / "days"
    write_log(folder, users=30, days=DAYS, seed=3, daily=True, progress=False)
    return folder


def test_lines_go_and_what_was_made_of_them_stays(growing: Growing) -> None:
    lake = growing.lake
    made = tables(lake, *MADE)
    assert set(lake.read_polars("mini", TABLES["raw_events"])["source_file"]) == {
        f"{day(number)}.jsonl" for number in range(KEPT_FROM, DAYS)
    }
    assert lake.read_polars("mini", TABLES["rejected_lines"]).is_empty()
    assert lake.version("mini", "rejected_lines").rows_ever == 1
    again = growing.step(*RAW, *MADE)
    assert again.run.success
    assert all(again.run.checks.values()), again.run.checks
    assert again.said("raw_events")["new_files"] == 0
    assert again.said("cleaned_events")["new_days"] == []
    for name, rows in made.items():
        assert_frame_equal(lake.read_polars("mini", TABLES[name]), rows, check_row_order=False)


def test_a_late_event_is_added_to_a_day_that_cannot_be_cleaned_again(growing: Growing) -> None:
    lake = growing.lake
    before = lake.read_polars("mini", TABLES["cleaned_events"])
    last = [line for line in growing.lines(f"{day(3)}.jsonl") if line["userId"]][-1]
    midnight = datetime.fromisoformat(day(4)).replace(tzinfo=timezone.utc)
    ts = round(midnight.timestamp() * 1000) - 1
    late = last | {"ts": ts, "sessionId": 99_999, "page": "Help"}
    growing.write("late.jsonl", [late, last])  # of which one is known already
    step = growing.step(*RAW, *MADE)
    assert step.run.success, step.run.said
    assert step.said("cleaned_events")["new_days"] == [day(3)]
    after = lake.read_polars("mini", TABLES["cleaned_events"])
    assert after.height == before.height + 1
    (row,) = after.join(before, on=before.columns, how="anti", nulls_equal=True).to_dicts()
    assert (row["page"], row["user_id"]) == ("Help", last["userId"])
    # As if nothing had expired.
    at_once = Growing(growing.folder, Lake(f"{lake.root}-at-once"))
    assert at_once.step(*RAW, *MADE).run.success
    for name in MADE:
        table = TABLES[name]
        assert_frame_equal(
            lake.read_polars("mini", table),
            at_once.lake.read_polars("mini", table),
            check_row_order=False,
        )


def test_another_version_of_the_project_keeps_the_days(
    growing: Growing, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = tables(growing.lake, *MADE)
    monkeypatch.setattr("sparkify_assets.digests.__version__", "99")
    step = growing.step(*RAW, *MADE)
    assert step.run.success, step.run.said
    assert step.said("raw_events")["new_files"] == DAYS - KEPT_FROM
    assert len(step.said("cleaned_events")["new_days"]) == DAYS
    for name, rows in before.items():
        found = growing.lake.read_polars("mini", TABLES[name])
        assert_frame_equal(found, rows, check_row_order=False)


def test_a_file_that_changed_is_read_again(growing: Growing) -> None:
    name = f"{day(2)}.jsonl"
    growing.write(name, growing.lines(name)[1:])
    step = growing.step(*RAW, *MADE)
    assert step.run.success
    assert step.said("raw_events")["new_files"] == 1
    raw = growing.lake.version("mini", "raw_events")
    assert sum(each.expired for each in raw.slices.values()) == KEPT_FROM - 1


def test_what_is_not_cleaned_yet_does_not_expire(growing: Growing) -> None:
    growing.step(*RAW, *MADE)
    growing.write("late.jsonl", growing.lines(f"{day(12)}.jsonl")[:5])
    growing.step(*RAW)
    assert housekeeping.expire(growing.lake, "mini", date(2030, 1, 1)) == 0


def test_housekeeping_drops_all_and_the_checks_pass(growing: Growing) -> None:
    growing.step(*RAW, *MADE)
    housekeeping.keep(growing.lake, "mini", 0, 0)
    for name in RAW:
        assert growing.lake.version("mini", name).rows == 0
        assert not list(Path(growing.lake.folder("mini", name)).rglob("part-*"))
    step = growing.step(*RAW, *MADE)
    assert step.run.success
    assert all(step.run.checks.values()), step.run.checks


def test_days_that_are_nowhere_any_more_are_told_of(growing: Growing) -> None:
    shutil.rmtree(growing.lake.folder("mini", "cleaned_events"))
    step = run(growing.lake, growing.folder, *RAW, "cleaned_events", "label_days")
    assert not step.success
    assert "has expired" in step.said


def test_the_setting(monkeypatch: pytest.MonkeyPatch) -> None:
    assert HousekeepingConfig().used_raw_days is None
    monkeypatch.setenv(RAW_DAYS_VARIABLE, "30")
    assert HousekeepingConfig().used_raw_days == 30
    assert HousekeepingConfig(raw_days=0).used_raw_days == 0
    for wrong in ("-1", "a week"):
        monkeypatch.setenv(RAW_DAYS_VARIABLE, wrong)
        with pytest.raises(SettingError, match=RAW_DAYS_VARIABLE):
            assert HousekeepingConfig().used_raw_days
