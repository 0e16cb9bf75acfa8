"""How time and memory of a whole run, log to scores and report, grow with the log.

`python -m benchmarks.growth [--percent 1,10,100] [--times 3] [--logs FOLDER]`

Belongs here: `python -m sparkify_assets --partition full` over simulated logs of 1, 10 and 100 % of
the full log's users. Does not belong here: single steps, and other engines (`engines.py`).
"""

from __future__ import annotations

import argparse
import statistics
import sys
import tempfile
import time
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import cast

from benchmarks.engines import simulated
from benchmarks.measuring import Run, in_turn, report, run
from sparkify_assets.datasets import DATASETS
from sparkify_assets.resources.lake import Lake

DATASET = "full"
WHOLE = 100
MINUTES = 6


@dataclass(frozen=True)
class Grown(Run):
    """A run, and what it read and left behind."""

    events: int
    log_bytes: int
    lake_bytes: int
    seconds_to_scores: float

    @property
    def seconds_an_event(self) -> float:
        return self.seconds / self.events


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--percent", default="1,10,100", help="with commas between them")
    parser.add_argument("--times", type=int, default=3, help="runs of each size")
    parser.add_argument("--logs", type=Path, help="a folder in which simulated logs are kept")
    given = parser.parse_args()
    sizes = sorted(int(percent) for percent in given.percent.split(","))
    with tempfile.TemporaryDirectory() as folder:
        logs = given.logs or Path(folder)
        commands = {str(size): partial(whole_run, users_of(size), logs) for size in sizes}
        runs = cast(dict[str, list[Grown]], in_turn(given.times, **commands))
    report_all({int(size): measured for size, measured in runs.items()})


def users_of(percent: int) -> int:
    return round(DATASETS[DATASET].users * percent / WHOLE)


def whole_run(users: int, logs: Path) -> Grown:
    """Log to scores and report in a fresh lake."""
    log = simulated(users, logs)
    with tempfile.TemporaryDirectory(dir=logs) as folder:
        settings = {
            "SPARKIFY_FULL_SOURCE": str(log.absolute()),
            "SPARKIFY_LAKE": f"{folder}/lake",
            "DAGSTER_HOME": folder,
        }
        started = time.time()
        once = run([sys.executable, "-m", "sparkify_assets", "--partition", DATASET], settings)
        lake = Lake(settings["SPARKIFY_LAKE"])
        left = sum(f.stat().st_size for f in Path(lake.root, DATASET).rglob("*") if f.is_file())
        events = lake.version(DATASET, "raw_events").rows
        scored = lake.version(DATASET, "churn_scores").committed_at.timestamp() - started
    return Grown(once.seconds, once.peak_bytes, events, log.stat().st_size, left, scored)


def report_all(runs: dict[int, list[Grown]]) -> None:
    for size, measured in runs.items():
        seconds = statistics.median(each.seconds for each in measured)
        peak = max(each.peak_bytes for each in measured) / 2**30
        share = measured[-1].lake_bytes / measured[-1].log_bytes
        scored = statistics.median(each.seconds_to_scores for each in measured)
        goal = MINUTES * 60.0 if size == WHOLE else None
        report("growth", f"{size} % of full, log to scores, time", scored, "s", goal)
        report("growth", f"{size} % of full, log to report, time", seconds, "s")
        report("growth", f"{size} % of full, peak memory of all processes", peak, "GiB", 8.0)
        report("growth", f"{size} % of full, lake against the JSON", share, "share", 0.15)
    if {10, WHOLE} <= runs.keys():
        pairs = zip(runs[WHOLE], runs[10], strict=True)
        ratio = statistics.median(a.seconds_an_event / b.seconds_an_event for a, b in pairs)
        report("growth", "seconds per event, 100 % against 10 %", ratio, "times", 1.1)


if __name__ == "__main__":
    main()
