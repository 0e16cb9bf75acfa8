"""What a new day costs, and what is left of a log's many days.

`python -m benchmarks.live [full] [mini] [--times 3] [--users N] [--days 61] [--logs FOLDER]`

full: one day more on top of 60 days of the full log, from its ingest to the scores, against the
same from nothing; and whether both hold the same rows. mini: 61 days of a small log, one after
the other, through Dagster's daemon, without and with kills; what became of them, and of the lake.

Belongs here: what is compared, and the figures. Does not belong here: how days are played
(`sparkify_assets_tests/live.py`).
"""

from __future__ import annotations

import argparse
import os
import shutil
import statistics
import sys
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import dagster as dg

from benchmarks.measuring import Run, report, run
from sparkify_assets.resources.lake import Lake
from sparkify_assets_tests.live import DAYS, PREPARED, Played, play, same_tables, size_of

PROJECT = Path(__file__).parents[1]
NEW_DAY = 1 / 12
LAKE = 1.3
KILL_EVERY = 3
# What scoring needs besides the log: whoever builds everything anew keeps the model.
MODEL = (
    *("model_trials", "trained_model", "evaluation_predictions", "evaluation_metrics"),
    *("model_registry", "churn_factors"),
)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("parts", nargs="*", default=["full", "mini"], help="full, mini or both")
    parser.add_argument("--times", type=int, default=3, help="pairs of runs on full")
    parser.add_argument("--users", type=int, default=22_277, help="users of the full log")
    parser.add_argument("--mini-users", type=int, default=300, help="users of the small log")
    parser.add_argument("--days", type=int, default=DAYS, help="days of the small log to play")
    parser.add_argument("--logs", type=Path, help="a folder in which simulated logs are kept")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=given.logs) as folder:
        if "full" in given.parts:
            full(Path(folder), given.logs or Path(folder), given.users, given.times)
        if "mini" in given.parts:
            mini(Path(folder), given.mini_users, given.days)


@dataclass(frozen=True)
class Scored(Run):
    """A run of a job, and how long it took from the ingest's start to the scores."""

    to_scores: float


def full(folder: Path, logs: Path, users: int, times: int) -> None:
    log, source, before = logs / f"full-{users}-daily", folder / "source", folder / "before"
    if not log.exists():
        write = [sys.executable, "-m", "sparkify_assets.simulation", "--daily", "--users"]
        run([*write, str(users), "--days", str(DAYS), "--seed", "1", "--out", str(log)])
    *earlier, new = sorted(log.iterdir())
    source.mkdir()
    for file in earlier:
        os.link(file, source / file.name)
    scored("everything", source, before)
    one_day, anew = [], []
    os.link(new, source / new.name)
    for number in range(times):
        grown, rebuilt = folder / f"grown-{number}", folder / f"rebuilt-{number}"
        shutil.copytree(before, grown, ignore=shutil.ignore_patterns("dagster"))
        for table in MODEL:
            shutil.copytree(before / "full" / table, rebuilt / "full" / table)
        one_day.append(scored("rescore", source, grown))
        anew.append(scored("rescore", source, rebuilt))
        if number == 0:
            lakes = Lake(str(grown)), Lake(str(rebuilt))
            equal = [is_same(*lakes, name, "full") for name in PREPARED]
            report("live", "full, tables that differ", len(equal) - sum(equal), "tables", 0)
        for lake in (grown, rebuilt):
            shutil.rmtree(lake)

    def ratio(of: Callable[[Scored], float]) -> float:
        return statistics.median(of(a) / of(b) for a, b in zip(one_day, anew, strict=True))

    def seconds(runs: list[Scored]) -> float:
        return statistics.median(each.to_scores for each in runs)

    row = "full, a new day against anew, ingest to scores"
    report("live", row, ratio(lambda each: each.to_scores), "times", NEW_DAY)
    report("live", "full, a new day, ingest to scores", seconds(one_day), "s")
    report("live", "full, all days anew, ingest to scores", seconds(anew), "s")
    row = "full, a new day against anew, whole processes"
    report("live", row, ratio(lambda each: each.seconds), "times")
    row = "full, a new day, peak memory of all processes"
    report("live", row, max(each.peak_bytes for each in one_day) / 2**30, "GiB")


def scored(job: str, source: Path, lake: Path) -> Scored:
    home = lake / "dagster"
    home.mkdir(parents=True)
    shutil.copy(PROJECT / ".dagster" / "dagster.yaml", home)
    settings = {
        "SPARKIFY_FULL_SOURCE": str(source.absolute()),
        "SPARKIFY_LAKE": str(lake.absolute()),
        "DAGSTER_HOME": str(home.absolute()),
    }
    command = [sys.executable, "-m", "sparkify_assets", "--partition", "full", "--job", job]
    once = run(command, settings)
    with dg.DagsterInstance.from_config(str(home)) as instance:
        (record,) = instance.get_run_records()
        steps = {
            each.step_key: each for each in instance.get_run_step_stats(record.dagster_run.run_id)
        }
    began, ended = steps["ingest"].start_time, steps["churn_scores"].end_time
    assert began
    assert ended
    return Scored(once.seconds, once.peak_bytes, ended - began)


def is_same(one: Lake, other: Lake, table: str, dataset: str = "mini") -> bool:
    try:
        same_tables(one, other, [table], dataset)
    except AssertionError as error:
        print(error, file=sys.stderr)
        return False
    return True


def mini(folder: Path, users: int, days: int) -> None:
    quiet = play(folder / "quiet", users=users, days=days, said=to_terminal)
    killed = play(
        folder / "killed", users=users, days=days, kill_every=KILL_EVERY, said=to_terminal
    )
    once = one_run(folder, quiet.source)
    for name, played in (("mini", quiet), ("mini with kills", killed)):
        ended = [each for each in played.runs if each.killed_after is None]
        failed = sum(not each.success for each in ended)
        report("live", f"{name}, days taken in by runs of their own", len(played.days), "days")
        report("live", f"{name}, runs", len(played.runs), "runs")
        report("live", f"{name}, runs killed", len(played.killed), "runs")
        report("live", f"{name}, runs that failed otherwise", failed, "runs", 0)
        equal = [is_same(played.lake, once, table) for table in PREPARED]
        report("live", f"{name}, tables that differ", len(equal) - sum(equal), "tables", 0)
    sizes(quiet, once, folder)


def one_run(folder: Path, source: Path) -> Lake:
    """Everything at once, in another lake."""
    settings = {
        "SPARKIFY_MINI_SOURCE": str(source.absolute()),
        "SPARKIFY_LAKE": str((folder / "once").absolute()),
    }
    run([sys.executable, "-m", "sparkify_assets"], settings)
    return Lake(str(folder / "once"))


def sizes(played: Played, once: Lake, folder: Path) -> None:
    """What the lake has grown to, and what housekeeping leaves of it."""
    for number in sorted({1, len(played.days) // 2, len(played.days)}):
        size = played.days[number - 1].lake_bytes / 1e6
        report("live", f"mini, lake after {number} days", size, "MB")
    from sparkify_assets.resources import housekeeping

    whole = size_of(once)
    report("live", "mini, lake of one run", whole / 1e6, "MB")
    row = "mini, lake after all days against one run"
    report("live", row, played.days[-1].lake_bytes / whole, "times")
    kept = shutil.copytree(played.lake.root, folder / "kept")
    housekeeping.keep(Lake(str(kept)), "mini", keep_days=0)
    row = "mini, the same after housekeeping"
    report("live", row, size_of(Lake(str(kept))) / whole, "times", LAKE)


def to_terminal(words: str) -> None:
    print(words, file=sys.stderr, flush=True)


if __name__ == "__main__":
    main()
