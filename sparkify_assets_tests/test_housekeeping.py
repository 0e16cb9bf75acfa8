"""Housekeeping: the same rows in fewer files, and no files in vain."""

from __future__ import annotations

import contextlib
import json
import os
import time
from collections.abc import Sequence
from pathlib import Path

import dagster as dg
import polars as pl
import pytest
from deltalake import DeltaTable
from deltalake.exceptions import TableNotFoundError
from polars.testing import assert_frame_equal

from sparkify_assets.automation.housekeeping import HousekeepingConfig, _old_journals
from sparkify_assets.errors import ConflictError
from sparkify_assets.resources import housekeeping
from sparkify_assets.resources.lake import Lake, Version
from sparkify_assets.storage import PartFile, write_part
from sparkify_assets.tables import REJECTED_LINES, TABLES, Slice
from sparkify_assets_tests.running import Run, copy, run_checks, tables
from sparkify_assets_tests.test_lake import rejected

NAME = REJECTED_LINES.name


@pytest.fixture
def lake(tmp_path: Path) -> Lake:
    return Lake(str(tmp_path / "lake"))


def commit(lake: Lake, key: str, *parts: Sequence[int], slice: str = "a") -> Version:
    folder = f"{lake.folder('mini', NAME)}/{slice}"
    written = [write_part(folder, rejected(*rows)) for rows in parts]
    return lake.commit("mini", REJECTED_LINES, written, {"lines": 9}, slices={slice: Slice(key)})


def part_files(lake: Lake) -> set[Path]:
    return set(Path(lake.root).rglob("part-*.parquet"))


def test_small_part_files_of_a_slice_become_one_and_all_else_stays(lake: Lake) -> None:
    before = commit(lake, "1", (1, 2), (3,), (4,))
    rows = tables(lake, NAME)[NAME]
    housekeeping.compact(lake, "mini", REJECTED_LINES)
    after = lake.version("mini", NAME)
    assert (before.files, after.files) == (3, 1)
    assert (after.number, after.metadata, after.nulls) == (0, before.metadata, before.nulls)
    assert after.slices == before.slices
    assert_frame_equal(tables(lake, NAME)[NAME].sort("byte_offset"), rows.sort("byte_offset"))
    # What is made from it now is made from the version that Delta knows.
    assert lake.newest("mini", REJECTED_LINES)[0] == 1
    commit(lake, "2", (5,))
    assert lake.version("mini", NAME).number == 2


def test_only_neighbours_that_stay_small_together_become_one() -> None:
    half = housekeeping.ENOUGH_BYTES // 2
    parts = [PartFile(f"a/{n}", 1, size) for n, size in enumerate((half, half, 1, 3 * half, 1))]
    found = housekeeping.groups(parts)
    assert [[part.path for part in group] for group in found] == [["a/0", "a/1"]]
    assert housekeeping.groups(parts[2:3]) == []
    assert housekeeping.groups([]) == []


def test_what_no_version_of_the_last_days_needs_is_removed(lake: Lake) -> None:
    for key in "123":
        commit(lake, key, (1,))
    written = part_files(lake)
    orphan = write_part(f"{lake.folder('mini', NAME)}/b", rejected(9))
    assert lake.vacuum("mini", NAME, keep_hours=1).files == 0
    assert len(part_files(lake)) == len(written) + 1, "somebody may be about to commit it"
    removed = lake.vacuum("mini", NAME, keep_hours=0, keep_versions=[1, 99])
    assert removed.files == 2, "of version 0, and the one that no version names"
    folders = {path.name for path in Path(lake.folder("mini", NAME)).iterdir() if path.is_dir()}
    assert folders == {"a", "_delta_log"}, f"that of {orphan.path} is empty"
    assert lake.version("mini", NAME).number == 2, "it is no version of its own"
    assert [version.number for version in lake.earlier("mini", NAME, 9)] == [1, 0]


def test_what_somebody_else_has_replaced_meanwhile_does_not_come_back(lake: Lake) -> None:
    commit(lake, "1", (1,), (2,))
    gone = lake.parts("mini", NAME)
    together = write_part(f"{lake.folder('mini', NAME)}/a", rejected(1, 2))
    commit(lake, "2", (3,))
    with pytest.raises(ConflictError, match="has changed meanwhile"):
        lake.rewrite("mini", REJECTED_LINES, gone, [together])
    assert tables(lake, NAME)[NAME]["byte_offset"].to_list() == [3]


def as_of_days_ago(lake: Lake, *days: int) -> None:
    """As if the versions had been written so many days ago, the first one first."""
    for number, ago in enumerate(days):
        then = time.time() - ago * 86_400
        file = Path(lake.folder("mini", NAME), "_delta_log", f"{number:020}.json")
        actions = [json.loads(line) for line in file.read_text().splitlines()]
        for action in actions:
            for kind, time_of in (("commitInfo", "timestamp"), ("remove", "deletionTimestamp")):
                if kind in action:
                    action[kind][time_of] = int(then * 1000)
            if "add" in action:
                os.utime(Path(lake.folder("mini", NAME), action["add"]["path"]), (then, then))
        file.write_text("\n".join(map(json.dumps, actions)))
        os.utime(file, (then, then))


@pytest.mark.parametrize(
    ("keep_days", "needed", "readable"),
    [(30, [], [1, 2]), (7, [], [2]), (7, [0], [0, 2])],
    ids=["longer than a week", "a week", "what a live model was made from"],
)
def test_versions_stay_readable_for_as_long_as_is_said(
    lake: Lake, keep_days: int, needed: list[int], readable: list[int]
) -> None:
    for number in range(3):
        commit(lake, str(number), (number,))
    as_of_days_ago(lake, 50, 40, 10)
    for _ in range(2):  # the second time by what a checkpoint knows
        lake.vacuum("mini", NAME, keep_hours=24 * keep_days, keep_versions=needed)
    found = []
    for number in range(3):
        with contextlib.suppress(FileNotFoundError, TableNotFoundError):
            table = DeltaTable(lake.folder("mini", NAME), version=number)
            found += pl.read_delta(table)["byte_offset"].to_list()
    assert found == readable


def test_a_pipelines_tables_are_as_they_were(finished: Run, tmp_path: Path) -> None:
    lake = copy(finished.lake, tmp_path)
    names = [name for name in TABLES if lake.exists("mini", name)]
    before, versions = tables(lake, *names), [lake.version("mini", name).number for name in names]
    kept = housekeeping.keep(lake, "mini", keep_days=0)
    assert [each.table for each in kept] == names
    assert sum(each.files for each in kept) < sum(each.files_before for each in kept)
    assert [lake.version("mini", name).number for name in names] == versions
    for name, rows in tables(lake, *names).items():
        by = TABLES[name].key or TABLES[name].names
        assert_frame_equal(rows.sort(by), before[name].sort(by))
    assert all(check.passed for check in run_checks(lake).values())


def test_what_the_live_model_was_made_from_is_kept(finished: Run) -> None:
    assert housekeeping.needed_versions(finished.lake, "mini") == {
        "feature_table": [0],
        "trained_model": [0],
    }
    assert housekeeping.needed_versions(finished.lake, "full") == {}


def test_old_journals_of_searches_are_found(tmp_path: Path) -> None:
    with dg.DagsterInstance.local_temp(str(tmp_path)) as instance:
        assert list(_old_journals(instance, 7)) == []
        folder = Path(instance.storage_directory(), "search")
        folder.mkdir(parents=True)
        old, young = folder / "old.log", folder / "young.log"
        for file, days in ((old, 8), (young, 6)):
            file.touch()
            then = time.time() - days * 86_400
            os.utime(file, (then, then))
        assert list(_old_journals(instance, 7)) == [old]


def test_the_setting_has_bounds() -> None:
    with pytest.raises(ValueError, match="greater than or equal to 0"):
        HousekeepingConfig(keep_days=-1)
