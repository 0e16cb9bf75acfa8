"""Log to feature table: this project against DuckDB, Polars, Spark's JSON reader and notebooks.

`python -m benchmarks.engines [--gigabytes 1.2 | --log PATH] [--times 3] [--engines ours,duckdb]`

Belongs here: which engines there are, running each as a process of its own, in turn, and the rows.
Does not belong here: what an engine does (`engines_NAME.py`) and what they share
(`engines_shared.py`).

All but `seed` write the same tables (raw_events, cleaned_events, user_labels, user_days as zstd
Parquet) and the same features of the same rows; `sparkify_assets_tests/test_engines.py` compares
them. Not the same is that only this project judges each line of the log and keeps those it
rejects, checks its tables and commits them as Delta versions. `seed` does much less:
see `engines_seed.py`.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import cast

from benchmarks.engines_ours import FEATURES_DONE
from benchmarks.measuring import Run, in_turn, median_ratio, report, run
from sparkify_assets.simulation.log import BYTES_A_USER_DAY

DAYS, SEED = 61, 1
# Name -> module and options, and words. `bare` leaves out the checks as well.
ENGINES = {
    "ours": (["engines_ours", "--scores"], "this project"),
    "bare": (["engines_ours", "--bare"], "itself without Dagster"),
    "duckdb": (["engines_duckdb"], "DuckDB"),
    "polars": (["engines_polars"], "Polars"),
    "spark_json": (["engines_spark_json"], "Spark's JSON reader"),
    "seed": (["engines_seed"], "a notebook's way"),
}
# The goals are for about 12 GB and 1.2 GB; a notebook does not get through the full log.
FULL_BYTES = 10e9
NOTEBOOK_BYTES = (1e9, 2e9)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--gigabytes", type=float, default=1.2, help="of the log to simulate")
    parser.add_argument("--log", type=Path, help="a log of JSON lines instead")
    parser.add_argument("--times", type=int, default=3, help="runs of each engine")
    parser.add_argument("--engines", default=",".join(ENGINES), help="with commas between them")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        log = given.log or simulated(users_of(given.gigabytes * 1e9), Path(folder))
        size = log.stat().st_size
        names = [name for name in given.engines.split(",") if feasible(name, size)]
        commands: dict[str, Callable[[], Run]] = {
            name: partial(run_engine, name, log, Path(folder)) for name in names
        }
        report_all(in_turn(given.times, **commands), size)


def users_of(size: float) -> int:
    """How many users make a log of that many bytes."""
    return max(1, round(size / (DAYS * BYTES_A_USER_DAY)))


def simulated(users: int, folder: Path) -> Path:
    """A log of so many users in a folder, simulated unless it is there already."""
    log = folder / f"{users}-users.json"
    if not log.exists():
        options = {"users": users, "days": DAYS, "seed": SEED, "out": log}
        given = [text for name, value in options.items() for text in (f"--{name}", str(value))]
        run([sys.executable, "-m", "sparkify_assets.simulation", *given])
    return log


def feasible(name: str, size: int) -> bool:
    return name != "seed" or size < NOTEBOOK_BYTES[1]


@dataclass(frozen=True)
class Scored(Run):
    """A run that went on from the features to the model and the scores of all users."""

    seconds_to_scores: float


def run_engine(name: str, log: Path, folder: Path) -> Run:
    """A process that reads the log and writes its tables into a fresh folder."""
    (module, *options), _ = ENGINES[name]
    with tempfile.TemporaryDirectory(dir=folder) as out:
        where = [str(log.absolute()), out]
        started = time.time()
        once = run([sys.executable, "-m", f"benchmarks.{module}", *where, *options])
        if name != "ours":
            return once
        described = Path(out, FEATURES_DONE).stat().st_mtime - started
        return Scored(described, once.peak_bytes, once.seconds)


def report_all(runs: dict[str, list[Run]], size: int) -> None:
    at = f"{size / 1e9:.2g} GB"
    for name, measured in runs.items():
        words = ENGINES[name][1]
        seconds = statistics.median(each.seconds for each in measured)
        peak = max(each.peak_bytes for each in measured) / 2**30
        report("engines", f"{at}, {words}, time", seconds, "s")
        report("engines", f"{at}, {words}, peak memory", peak, "GiB")
    for name, measured in runs.items():
        if name in ("ours", "seed") or "ours" not in runs:
            continue
        ratio = median_ratio(runs["ours"], measured)
        goal = 1.0 if name == "duckdb" and size >= FULL_BYTES else None
        report("engines", f"{at}, this project against {ENGINES[name][1]}", ratio, "times", goal)
    if {"ours", "duckdb"} <= runs.keys():
        ours = cast(list[Scored], runs["ours"])
        scored = [replace(each, seconds=each.seconds_to_scores) for each in ours]
        seconds = statistics.median(each.seconds for each in scored)
        report("engines", f"{at}, this project, log to scores, time", seconds, "s")
        goal = 1.5 if size >= FULL_BYTES else None
        row = f"{at}, log to scores against DuckDB's log to features"
        report("engines", row, median_ratio(scored, runs["duckdb"]), "times", goal)
    if {"ours", "seed"} <= runs.keys():
        faster = median_ratio(runs["seed"], runs["ours"])
        row = f"{at}, this project faster than {ENGINES['seed'][1]}"
        goal = 8.0 if size >= NOTEBOOK_BYTES[0] else None
        report("engines", row, faster, "times", goal, most=False)


if __name__ == "__main__":
    main()
