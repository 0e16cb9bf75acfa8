"""The project's own trainer on real users: `python -m benchmarks.real_users DATA_FOLDER`.

The folder holds `full_forecast_users.parquet`, `full_users.parquet` and `mini_users.parquet`, a row
a user (any tables of these names and columns will do). Every choice (hyper-parameters, calibration,
model, threshold) is made inside the folds by `evaluation.evaluate`; from the page counts come the
kinds of users, which no label teaches. Where users are few, folds are drawn five times and figures
averaged. Prints one JSON object a line: benchmark, row, value, unit, goal, met; only what was
chosen has a goal.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import date, timedelta
from pathlib import Path

import pandas as pd
import polars as pl

from sparkify_assets.churn import kinds, moves
from sparkify_assets.churn.cutoffs import FORECAST
from sparkify_assets.churn.evaluation import CHOSEN, How, evaluate
from sparkify_assets.churn.features import REGIONS
from sparkify_assets.churn.metrics import evaluation_metrics
from sparkify_assets.churn.pages import PAGES
from sparkify_assets.churn.search import Budget

# The pseudo-user of all logged-out events in the full file.
LOGGED_OUT_USER = "1261737"


@dataclass(frozen=True)
class Task:
    """One table: what is to be predicted, and the figures to reach."""

    table: str
    protocol: str
    label: str
    as_of: date
    repeats: int  # of the folds: one draw of few users is luck
    page_columns: str  # how columns of page counts are called
    goals: dict[str, float] = field(default_factory=dict)


TASKS = (
    Task(
        "full_forecast_users",
        "forecast",
        "churned_after",
        date(2018, 11, 20),
        5,
        "page_{}",
        {"roc_auc": 0.76, "pr_auc": 0.130, "balanced_accuracy": 0.70},
    ),
    Task(
        "full_users",
        "whole_log",
        "churn",
        date(2018, 12, 1),
        1,
        "{}_count",
        {"weighted_f1": 0.902, "f1": 0.775},
    ),
    Task(
        "mini_users", "whole_log", "churn", date(2018, 12, 3), 5, "{}_count", {"weighted_f1": 0.82}
    ),
)
# Where a table's columns name a page in their own way.
OTHER_NAMES = {"nextsong": "songs", "next_song": "songs", "advert": "roll_advert"} | {
    "add_playlist": "add_to_playlist"
}
ALWAYS_SHOWN = ("roc_auc", "pr_auc", "balanced_accuracy", "weighted_f1", "f1", "lift_top_10")


def prepared(users: pd.DataFrame, task: Task) -> tuple[pd.DataFrame, list[str]]:
    """The feature table and its features: no ids, gender and state as numbers."""
    users = users[users["userId"].astype(str) != LOGGED_OUT_USER]
    table = users.drop(columns=["userId", task.label, "gender", "state"], errors="ignore")
    table = table.assign(is_female=users["gender"].map({"F": 1.0, "M": 0.0}))
    if "state" in users:
        for region, states in REGIONS.items():
            table[f"in_{region}"] = users["state"].isin(states.split())
    table = table.assign(user_id=users["userId"].astype(str))
    table = table.merge(kinds_of_users(table, task), on="user_id", validate="one_to_one")
    features = [name for name in table.columns if name != "user_id"]
    return table.assign(as_of=task.as_of, label=users[task.label].to_numpy() == 1), features


def kinds_of_users(table: pd.DataFrame, task: Task) -> pd.DataFrame:
    """user_id and `kinds.NAMES`. That a page comes after a song is all that its count says."""
    day, counted = task.as_of - timedelta(days=1), []
    for name in table.columns:
        (before, after), known = task.page_columns.split("{}"), {"songs": "NextSong", **PAGES}
        inner = name.removeprefix(before).removesuffix(after)
        page = known.get(OTHER_NAMES.get(inner, inner))
        if name == task.page_columns.format(inner) and page:
            times = table[name].to_numpy().astype(int)
            counted.append(pl.DataFrame({"user_id": table["user_id"], "times": times}))
            counted[-1] = counted[-1].with_columns(move=moves.TO.index(page))
    of_users = (
        pl.concat(counted)
        .filter(pl.col("times") > 0)
        .cast({"move": pl.Int16, "times": pl.Int32})
        .group_by("user_id")
        .agg(moves=pl.struct("move", "times"))
        .with_columns(day=pl.lit(day))
    )
    lesson = pl.DataFrame({"as_of": [task.as_of], "share": [1.0]})
    learned = kinds.learn(kinds.steps(of_users, lesson), lesson)
    wanted = pl.DataFrame({"user_id": table["user_id"]}).with_columns(
        protocol=pl.lit(FORECAST), as_of=pl.lit(task.as_of)
    )
    return kinds.likely(of_users, wanted, learned).select("user_id", *kinds.NAMES).to_pandas()


def rows(folder: Path, task: Task, resamples: int) -> Iterator[dict[str, object]]:
    frame, features = prepared(pd.read_parquet(folder / f"{task.table}.parquet"), task)
    evaluation = evaluate(
        frame,
        features,
        task.protocol,
        repeats=task.repeats,
        baselines={"prevalence": ()},
        how=How(budget=Budget()),
    )
    metrics = evaluation_metrics(evaluation.predictions, resamples)
    shown = metrics[metrics["metric"].isin(ALWAYS_SHOWN)]
    for found in shown.to_dict("records"):
        value = float(found["value"])
        goal = task.goals.get(found["metric"]) if found["model"] == CHOSEN else None
        yield {
            "benchmark": "real_users",
            "row": f"{task.table} {found['model']} {found['metric']}",
            "value": round(value, 4),
            "unit": f"95 % interval {found['ci_low']:.4f} to {found['ci_high']:.4f}",
            "goal": goal,
            "met": None if goal is None else value >= goal,
        }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("data_folder", type=Path)
    parser.add_argument("--resamples", type=int, default=200)
    arguments = parser.parse_args()
    for task in TASKS:
        for row in rows(arguments.data_folder, task, arguments.resamples):
            print(json.dumps(row), flush=True)


if __name__ == "__main__":
    main()
