"""The lake: what is visible when, and what other readers see."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from polars.testing import assert_frame_equal
from pyspark.sql import SparkSession

from sparkify_assets.errors import ConflictError, LakeError
from sparkify_assets.resources.lake import Lake, Version
from sparkify_assets.storage import Range, explained, write_part
from sparkify_assets.tables import REJECTED_LINES, USER_LABELS, Slice
from sparkify_assets_tests.frames import at
from sparkify_assets_tests.running import read_with_duckdb


def rejected(*offsets: int) -> pl.DataFrame:
    return pl.DataFrame(
        {"source_file": "log.json", "byte_offset": offsets, "reason": "blank line", "text": ""},
        schema=REJECTED_LINES.polars_schema,
    )


@pytest.fixture
def lake(tmp_path: Path) -> Lake:
    return Lake(str(tmp_path / "a lake: 50% full"))


def test_a_version_is_what_was_written_and_said(lake: Lake) -> None:
    version = lake.write_polars("mini", REJECTED_LINES, rejected(1, 2), {"lines": 7})
    assert (version.number, version.rows, version.files) == (0, 2, 1)
    assert version.metadata == {"lines": 7}
    assert_frame_equal(lake.read_polars("mini", REJECTED_LINES), rejected(1, 2))
    assert lake.write_polars("mini", REJECTED_LINES, rejected(3)).number == 1
    assert lake.read_polars("mini", REJECTED_LINES)["byte_offset"].to_list() == [3]


def test_part_files_are_invisible_until_they_are_committed(lake: Lake) -> None:
    lake.write_polars("mini", REJECTED_LINES, rejected(1))
    part = write_part(lake.new_parts("mini", "rejected_lines"), rejected(2))
    assert lake.read_polars("mini", REJECTED_LINES)["byte_offset"].to_list() == [1]
    lake.commit("mini", REJECTED_LINES, [part])
    assert lake.read_polars("mini", REJECTED_LINES)["byte_offset"].to_list() == [2]


def test_an_empty_table_is_a_table(lake: Lake, spark: SparkSession) -> None:
    version = lake.commit("mini", REJECTED_LINES, [])
    assert (version.rows, version.files) == (0, 0)
    assert lake.read_polars("mini", REJECTED_LINES).is_empty()
    assert lake.read_spark(spark, "mini", REJECTED_LINES).count() == 0


def test_datasets_are_apart(lake: Lake) -> None:
    lake.write_polars("mini", REJECTED_LINES, rejected(1))
    with pytest.raises(LakeError, match="Materialize rejected_lines for full first"):
        lake.version("full", "rejected_lines")


@pytest.mark.parametrize("name", ["..", ".", "", "../mini", "/mini", "x/../../mini", "..\\mini"])
def test_no_dataset_lies_outside_of_the_lake(lake: Lake, name: str) -> None:
    """A run's partition is a tag, which may be any text."""
    for ask in (
        lambda: lake.folder(name, "rejected_lines"),
        lambda: lake.exists(name, "rejected_lines"),
        lambda: lake.read_file(name, "churn_report/churn_report.html"),
        lambda: lake.write_file(name, "churn_report/churn_report.html", b""),
        lambda: lake.write_polars(name, REJECTED_LINES, rejected(1)),
    ):
        with pytest.raises(LakeError, match="cannot be a dataset's name"):
            ask()
    assert not Path(lake.root).exists()


def test_spark_writes_and_reads_what_duckdb_and_polars_read(
    tmp_path: Path, spark: SparkSession
) -> None:
    lake = Lake(str(tmp_path / "lake"))
    rows = pl.DataFrame(
        {
            "user_id": ["1", "2"],
            "registered_at": [at(0), None],
            "first_event_at": [at(1), at(2)],
            "last_event_at": [at(3), at(4, 5, 6)],
            "churned": [True, False],
            "churned_at": [at(3), None],
            "level": ["paid", "free"],
            "upgrades": [1, 0],
            "downgrades": [0, 0],
            "events": [3, 4],
            "songs": [1, 2],
            "sessions": [1, 1],
        },
        schema=USER_LABELS.polars_schema,
    )
    frame = spark.createDataFrame(rows.to_arrow()).repartition(2)
    assert lake.write_spark("mini", USER_LABELS, frame).rows == 2
    assert_frame_equal(lake.read_polars("mini", USER_LABELS).sort("user_id"), rows)
    again = pl.from_arrow(lake.read_spark(spark, "mini", USER_LABELS).toArrow())
    assert isinstance(again, pl.DataFrame)
    assert_frame_equal(again.sort("user_id"), rows)
    folder = lake.folder("mini", "user_labels")
    assert_frame_equal(read_with_duckdb(folder).sort("user_id"), rows)
    assert_frame_equal(pl.read_delta(folder).sort("user_id"), rows)


def test_spark_finds_its_way_into_an_oddly_named_lake(lake: Lake, spark: SparkSession) -> None:
    frame = spark.createDataFrame(rejected(1, 2).to_arrow())
    assert lake.write_spark("mini", REJECTED_LINES, frame).rows == 2
    assert lake.read_spark(spark, "mini", REJECTED_LINES).count() == 2


def test_over_parts_calls_a_function_for_each_file(lake: Lake, spark: SparkSession) -> None:
    folder = lake.new_parts("mini", "rejected_lines")
    parts = [write_part(folder, rejected(*offsets)) for offsets in ((1, 2), (3,))]
    lake.commit("mini", REJECTED_LINES, parts)
    sums = lake.over_parts(
        spark, "mini", "rejected_lines", lambda rows: rows["byte_offset"].sum(), ["byte_offset"]
    )
    assert sorted(sums) == [3, 3]


def test_over_ranges_gives_each_range_its_rows_of_all_files(
    lake: Lake, spark: SparkSession
) -> None:
    folder = lake.new_parts("mini", "rejected_lines")
    frames = [rejected(*range(start, 150, 3)) for start in (0, 1, 2)]
    parts = [write_part(folder, frame, rows_together=7) for frame in frames]
    lake.commit("mini", REJECTED_LINES, parts)
    ranges = [
        Range("byte_offset", 10, 19),
        Range("byte_offset", 20, 99),
        Range("byte_offset", 200, 300),
    ]
    found = lake.over_ranges(
        spark,
        "mini",
        "rejected_lines",
        lambda rows: rows.rows(),
        ranges,
        ["byte_offset"],
        pl.col("byte_offset") != 12,
    )
    assert [sorted(rows) for rows in found] == [
        [(n,) for n in range(10, 20) if n != 12],
        [(n,) for n in range(20, 100)],
        [],
    ]


def test_over_ranges_of_an_empty_table(lake: Lake, spark: SparkSession) -> None:
    lake.commit("mini", REJECTED_LINES, [])
    ranges = [Range("byte_offset", 0, 9)]
    assert lake.over_ranges(spark, "mini", "rejected_lines", len, ranges) == []


def test_a_lake_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("not a folder")
    with pytest.raises(LakeError, match="cannot be written"):
        Lake(str(tmp_path / "file")).write_polars("mini", REJECTED_LINES, rejected(1))


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_a_lake_without_rights_is_named(tmp_path: Path) -> None:
    tmp_path.chmod(0o500)
    with pytest.raises(LakeError, match="cannot be written"):
        Lake(str(tmp_path / "lake")).write_polars("mini", REJECTED_LINES, rejected(1))


def test_a_full_disk_is_named(lake: Lake) -> None:
    with pytest.raises(LakeError, match="is full"), explained(lake.uri):
        raise OSError(28, "No space left on device")


def test_what_somebody_else_commits_meanwhile_is_not_undone(
    lake: Lake, monkeypatch: pytest.MonkeyPatch
) -> None:
    lake.write_polars("mini", REJECTED_LINES, rejected(1))
    stale = lake._open("mini", REJECTED_LINES.name)
    lake.write_polars("mini", REJECTED_LINES, rejected(2))
    with monkeypatch.context() as patch:
        patch.setattr(Lake, "_open", lambda *given: stale)
        with pytest.raises(ConflictError, match="has changed meanwhile"):
            lake.write_polars("mini", REJECTED_LINES, rejected(3))
    assert lake.read_polars("mini", REJECTED_LINES)["byte_offset"].to_list() == [2]


def test_what_is_committed_while_a_table_is_opened_is_not_mixed_into_it(
    lake: Lake, monkeypatch: pytest.MonkeyPatch
) -> None:
    for rows in (1, 2, 3):
        lake.write_polars("mini", REJECTED_LINES, rejected(*range(rows)), {"rows": rows})
    commit = Lake._commit

    def late(self: Lake, dataset: str, table: str, number: int) -> dict[str, Any]:
        with monkeypatch.context() as patch:
            patch.setattr(Lake, "_commit", commit)
            lake.write_polars("mini", REJECTED_LINES, rejected(), {"rows": 0})
        return commit(self, dataset, table, number)

    monkeypatch.setattr(Lake, "_commit", late)
    version = lake.version("mini", REJECTED_LINES.name)
    assert (version.number, version.rows, version.metadata) == (2, 3, {"rows": 3})
    earlier = lake.earlier("mini", REJECTED_LINES.name, 9)
    assert [each.rows for each in earlier] == [each.metadata["rows"] for each in earlier]
    assert [each.number for each in earlier] == [2, 1, 0]


def test_a_file_is_replaced_whole(lake: Lake) -> None:
    lake.write_file("mini", "report/page.html", b"old")
    path = Path(lake.write_file("mini", "report/page.html", b"new"))
    assert path.read_bytes() == b"new"
    assert [p.name for p in path.parent.iterdir()] == ["page.html"]


def in_slices(lake: Lake, after: int, keys: dict[str, str], **made: tuple[int, ...]) -> Version:
    """Commit slices by their keys; made: the byte offsets of those that are made anew."""
    folder = lake.folder("mini", "rejected_lines")
    parts = [write_part(f"{folder}/{name}", rejected(*rows)) for name, rows in made.items()]
    slices = {name: Slice(key) for name, key in keys.items()}
    return lake.commit("mini", REJECTED_LINES, parts, after=after, slices=slices)


def offsets(lake: Lake) -> list[int]:
    return sorted(lake.read_polars("mini", REJECTED_LINES)["byte_offset"])


def test_slices_of_the_same_key_stay_and_the_others_are_replaced(lake: Lake) -> None:
    in_slices(lake, -1, {"a": "1", "b": "1", "c": "1"}, a=(1, 2), b=(3,), c=(4,))
    files = set(lake.files("mini", "rejected_lines", {"a"}))
    version = in_slices(lake, 0, {"a": "1", "b": "2"}, b=(5, 6))
    assert offsets(lake) == [1, 2, 5, 6]
    assert set(lake.files("mini", "rejected_lines", {"a"})) == files
    assert {name: each.key for name, each in version.slices.items()} == {"a": "1", "b": "2"}
    assert lake.files_since("mini", "rejected_lines", 0) == lake.files(
        "mini", "rejected_lines", {"b"}
    )


def test_a_slice_that_is_made_again_by_the_same_key_is_there_once(lake: Lake) -> None:
    in_slices(lake, -1, {"a": "1"}, a=(1,))
    in_slices(lake, 0, {"a": "1"}, a=(1,))
    assert offsets(lake) == [1]


def test_slices_made_from_an_older_version_are_refused(lake: Lake) -> None:
    in_slices(lake, -1, {"a": "1"}, a=(1,))
    in_slices(lake, 0, {"a": "1", "b": "1"}, b=(2,))
    with pytest.raises(ConflictError, match="has changed meanwhile"):
        in_slices(lake, 0, {"a": "1", "c": "1"}, c=(3,))
    assert offsets(lake) == [1, 2]


def test_no_slice_of_another_contract_is_lost_unseen(lake: Lake) -> None:
    in_slices(lake, -1, {"a": "1", "b": "1"}, a=(1,))
    text = replace(REJECTED_LINES.columns[-1], meaning="Said otherwise")
    other = replace(REJECTED_LINES, columns=(*REJECTED_LINES.columns[:-1], text))
    assert lake.newest("mini", other) == (0, {})
    with pytest.raises(ValueError, match="slices of another contract: \\['a'\\]"):
        lake.commit("mini", other, [], slices={"a": Slice("1"), "b": Slice("1")})
    assert offsets(lake) == [1]
    carried = list(lake.carried_over("mini", other, {"a"}))
    lake.commit("mini", other, carried, slices={"a": Slice("1"), "b": Slice("1")})
    assert offsets(lake) == [1]


def test_missing_values_are_those_of_the_slices_that_are_held(lake: Lake) -> None:
    folder = lake.folder("mini", "rejected_lines")
    blank = rejected(1).with_columns(text=pl.lit(None, pl.String))
    lake.commit(
        "mini",
        REJECTED_LINES,
        [write_part(f"{folder}/a", blank), write_part(f"{folder}/b", rejected(2))],
        slices={"a": Slice("1"), "b": Slice("1")},
    )
    assert lake.version("mini", "rejected_lines").nulls["text"] == 1
    version = in_slices(lake, 0, {"b": "1", "c": "1"}, c=(3,))
    assert version.nulls == dict.fromkeys(REJECTED_LINES.names, 0)


def test_parts_say_between_what_their_rows_lie(lake: Lake) -> None:
    folder = lake.new_parts("mini", "rejected_lines")
    part = write_part(folder, rejected(3, 9), bounded=["byte_offset"])
    lake.commit("mini", REJECTED_LINES, [part])
    (found,) = lake.parts("mini", "rejected_lines")
    assert found.bounds == {"byte_offset": (3, 9)}
    assert found.may_hold(Range("byte_offset", 9, 12))
    assert not found.may_hold(Range("byte_offset", 10, 12))


def test_columns_that_an_earlier_contract_did_not_have_are_null(lake: Lake) -> None:
    folder = lake.new_parts("mini", "rejected_lines")
    parts = [write_part(folder, rejected(1).drop("text")), write_part(folder, rejected(2))]
    lake.commit("mini", REJECTED_LINES, parts)
    found = lake.read_polars("mini", REJECTED_LINES).sort("byte_offset")
    assert found.columns == REJECTED_LINES.names
    assert found["text"].is_null().to_list() == [True, False]
