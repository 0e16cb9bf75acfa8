"""The project's own trainer on real users: `python -m benchmarks.real_users DATA_FOLDER`.

The folder holds `full_forecast_users.parquet`, `full_users.parquet` and `mini_users.parquet`, a row
a user (any tables of these names and columns will do). Every choice (model, threshold) is made
inside the folds by `evaluation.evaluate`. Prints one JSON object a line: benchmark, row, value,
unit, goal, met; candidates that were not chosen have no goal.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import date
from pathlib import Path

import pandas as pd

from sparkify_assets.churn.evaluation import CHOSEN, evaluate
from sparkify_assets.churn.features import REGIONS
from sparkify_assets.churn.metrics import evaluation_metrics

# The pseudo-user of all logged-out events in the full file.
LOGGED_OUT_USER = "1261737"


@dataclass(frozen=True)
class Task:
    """One table: what is to be predicted, and the figures to reach."""

    table: str
    protocol: str
    label: str
    as_of: date
    repeats: int
    goals: dict[str, float] = field(default_factory=dict)


TASKS = (
    Task(
        "full_forecast_users",
        "forecast",
        "churned_after",
        date(2018, 11, 20),
        1,
        {"roc_auc": 0.76, "pr_auc": 0.130, "balanced_accuracy": 0.70},
    ),
    Task(
        "full_users",
        "whole_log",
        "churn",
        date(2018, 12, 1),
        1,
        {"weighted_f1": 0.902, "f1": 0.775},
    ),
    Task("mini_users", "whole_log", "churn", date(2018, 12, 3), 5, {"weighted_f1": 0.82}),
)
ALWAYS_SHOWN = ("roc_auc", "pr_auc", "balanced_accuracy", "weighted_f1", "f1", "lift_top_10")


def prepared(users: pd.DataFrame, task: Task) -> tuple[pd.DataFrame, list[str]]:
    """The feature table and its features: no ids, gender and state as numbers."""
    users = users[users["userId"].astype(str) != LOGGED_OUT_USER]
    table = users.drop(columns=["userId", task.label, "gender", "state"], errors="ignore")
    table = table.assign(is_female=users["gender"].map({"F": 1.0, "M": 0.0}))
    if "state" in users:
        for region, states in REGIONS.items():
            table[f"in_{region}"] = users["state"].isin(states.split())
    features = list(table.columns)
    return table.assign(
        user_id=users["userId"].astype(str), as_of=task.as_of, label=users[task.label] == 1
    ), features


def rows(folder: Path, task: Task, resamples: int) -> Iterator[dict[str, object]]:
    frame, features = prepared(pd.read_parquet(folder / f"{task.table}.parquet"), task)
    evaluation = evaluate(
        frame, features, task.protocol, repeats=task.repeats, baselines={"prevalence": ()}
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
