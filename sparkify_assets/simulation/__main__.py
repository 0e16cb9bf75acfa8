"""The command line: python -m sparkify_assets.simulation."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING

import sparkify_assets
from sparkify_assets.errors import SparkifyError
from sparkify_assets.simulation.log import FULL_USERS, write_log

if TYPE_CHECKING:
    from pyspark.sql import SparkSession


QUIET = Path(sparkify_assets.__file__).parent / "resources" / "log4j2.properties"


def main() -> int:
    """Writes a log as the command line says; returns the exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m sparkify_assets.simulation",
        description="Writes a simulated event log, made like the real Sparkify ones.",
    )
    parser.add_argument("--users", type=int, default=225, help="users that the log shows")
    parser.add_argument("--days", type=int, default=61, help="days from 2018-10-01 on")
    parser.add_argument("--seed", type=int, default=1, help="same seed, same bytes")
    parser.add_argument("--out", type=Path, required=True, help="the file (a folder with --daily)")
    parser.add_argument("--daily", action="store_true", help="one file a day, YYYY-MM-DD.jsonl")
    parser.add_argument(
        "--style",
        choices=["mini", "full"],
        help="numbering of users as in the real mini or full file; full from 10,000 users on",
    )
    parser.add_argument(
        "--truth", type=Path, help="also write what drives each user, a Parquet file, to this path"
    )
    parser.add_argument(
        "--spark",
        action=argparse.BooleanOptionalAction,
        help="simulate in Spark tasks, on SPARKIFY_SPARK_MASTER; from 10,000 users on the default",
    )
    given = parser.parse_args()
    use_spark = given.users >= FULL_USERS if given.spark is None else given.spark
    try:
        with _session() if use_spark else nullcontext() as spark:
            summary = write_log(
                given.out,
                users=given.users,
                days=given.days,
                seed=given.seed,
                style=given.style,
                daily=given.daily,
                truth=given.truth,
                spark=spark,
            )
    except SparkifyError as error:
        print(error, file=sys.stderr)
        return 1
    print(
        f"{summary.path}: simulated, {summary.events:,} events, {summary.users:,} users, "
        f"{summary.churned:,} of them cancel."
    )
    return 0


@contextmanager
def _session() -> Iterator[SparkSession]:
    from pyspark.sql import SparkSession

    os.environ.setdefault("PYSPARK_PYTHON", sys.executable)
    builder = SparkSession.Builder().appName("sparkify-simulation")
    session = (
        builder.master(os.environ.get("SPARKIFY_SPARK_MASTER") or "local[*]")
        .config("spark.ui.enabled", "false")
        .config("spark.ui.showConsoleProgress", "false")
        .config("spark.driver.defaultJavaOptions", f"-Dlog4j2.configurationFile={QUIET.as_uri()}")
        .getOrCreate()
    )
    try:
        yield session
    finally:
        session.stop()


if __name__ == "__main__":
    sys.exit(main())
