"""What the tests share: one Spark session, and where the real rows are."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

REAL_ROWS = Path(__file__).parents[2] / "shared" / "data" / "real"


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
