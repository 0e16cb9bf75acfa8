"""The engines of `benchmarks.engines` do the same work, or their ratios would say nothing."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import polars as pl
import pytest
from polars.testing import assert_frame_equal

from benchmarks import engines_duckdb, engines_polars, engines_spark_json
from sparkify_assets.tables import TABLES
from sparkify_assets_tests.running import Run, tables

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

COMPARED = ("cleaned_events", "user_labels", "user_days", "feature_table")


@pytest.fixture(scope="module")
def log(simulated_log: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The log that `finished` read, with some lines repeated, which makes no difference."""
    lines = simulated_log.read_bytes().splitlines(keepends=True)
    path = tmp_path_factory.mktemp("engines") / "log.json"
    path.write_bytes(b"".join([*lines, *lines[:1000:7]]))
    return path


def test_duckdb(finished: Run, log: Path, tmp_path: Path) -> None:
    engines_duckdb.run(log, tmp_path)
    assert_same(finished, tmp_path)


@pytest.mark.parametrize("bucket_bytes", [2**40, 2**20])
def test_polars(finished: Run, log: Path, tmp_path: Path, bucket_bytes: int) -> None:
    engines_polars.run(log, tmp_path, bucket_bytes)
    assert_same(finished, tmp_path)


@pytest.mark.slow
def test_spark_json(finished: Run, log: Path, tmp_path: Path, spark: SparkSession) -> None:
    engines_spark_json.run(spark, log, tmp_path)
    assert_same(finished, tmp_path)


def assert_same(finished: Run, folder: Path) -> None:
    ours = tables(finished.lake, *COMPARED)
    for name in COMPARED:
        found = folder / name if (folder / name).is_dir() else folder / f"{name}.parquet"
        theirs = pl.read_parquet(found).select(TABLES[name].names)
        # DuckDB keeps UTC times without saying so.
        theirs = theirs.with_columns(pl.col(pl.Datetime).dt.replace_time_zone("UTC"))
        theirs = theirs.cast(dict(ours[name].schema))
        key = list(TABLES[name].key) or theirs.columns
        assert_frame_equal(theirs.sort(key), ours[name].sort(key), abs_tol=1e-6)
