"""How close the forecast comes to the best that any model could do. All of it on simulated data.

A log is simulated together with its truth. The pipeline reads the log only; its temporal estimate
(trained on the cutoffs known by the last one, tested on that) is compared, user by user, with an
oracle that reads the truth: it knows each user's cohort, mean gap between sessions, level, and
whether a session is open, and so the chance to cancel within the horizon. Rows "... of the
oracle's" say how far from guessing to the oracle a score gets. No forecast can get all the way: the
reader (`reader.py`) knows the simulator by heart, but of users only what the log shows.

"Seen" is scored on who cancelled. That is chance even for an oracle: with 620 who cancel, the
standard deviation of a ROC AUC is .008. "Expected" is what it would be if there were endlessly many
of each of these users, of whom as many cancel as the oracle says.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Mapping, Sequence
from contextlib import redirect_stdout
from datetime import date, timedelta
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import pandas as pd
import polars as pl

from benchmarks.measuring import report
from benchmarks.reader import reader
from sparkify_assets.churn import cutoffs, evaluation, metrics, models, splits
from sparkify_assets.churn.features import FEATURE_NAMES
from sparkify_assets.churn.search import Budget
from sparkify_assets.resources.io_manager import LakeIOManager, LakeResource
from sparkify_assets.resources.lake import Lake
from sparkify_assets.simulation import truth, write_log
from sparkify_assets.simulation.rhythm import LOG_START
from sparkify_assets.tables import FEATURE_TABLE, USER_DAYS

DATASET = "full"
EVENTS_TO_FEATURES = (
    *("raw_events", "rejected_lines", "cleaned_events", "label_days"),
    *("user_labels", "user_days", "user_kinds", "feature_table"),
)
ORACLE = "oracle"
SINGLE_FEATURES = {name: seen for name, seen in models.BASELINES.items() if len(seen) == 1}
READER = "reader"
NOT_SINGLE = (ORACLE, READER, evaluation.CHOSEN, *models.CANDIDATES)
# (cutoff day, horizon in days) -> what is known of an oracle's scores from a calculation with
# memoryless sessions, without open sessions and with the mean thinning of weekends.
CEILINGS = {
    (21, 10): {"roc_auc": 0.805, "pr_auc": 0.193, "balanced_accuracy": 0.730, "lift_top_10": 4.2},
    (51, 10): {"roc_auc": 0.788, "pr_auc": 0.135, "balanced_accuracy": 0.715, "lift_top_10": 3.9},
    (47, 14): {"roc_auc": 0.789, "pr_auc": 0.184, "balanced_accuracy": 0.716, "lift_top_10": 3.8},
    (31, 30): {"roc_auc": 0.796, "pr_auc": 0.362, "balanced_accuracy": 0.721, "lift_top_10": 3.6},
}
NEAR_THE_CEILING = 0.015
CALIBRATION_GOAL = 0.01
SHARE_GOALS = {"roc_auc": 0.95, "pr_auc": 0.85}
WORDS = {
    "roc_auc": "ROC AUC",
    "pr_auc": "PR AUC",
    "balanced_accuracy": "balanced accuracy",
    "lift_top_10": "lift at 10 %",
}
RESAMPLES = 200
# Of the oracle or not: the oracle's threshold is the best there is, for its scores are a bound.
_THRESHOLD = {True: "best threshold", False: "training threshold"}

Value = TypeVar("Value", float, "pd.Series[float]")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--users", type=int, default=22_277)
    parser.add_argument("--days", type=int, default=61)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--day", type=int, default=51, help="the cutoff, in days")
    parser.add_argument("--horizon", type=int, default=10, help="days ahead")
    parser.add_argument("--log", type=Path, help="a simulated log (with --truth)")
    parser.add_argument("--truth", type=Path, help="its truth, outside the lake")
    parser.add_argument(
        "--lake", type=Path, help="keep the tables here; user days that are here are used"
    )
    given = parser.parse_args()
    if (given.log is None) != (given.truth is None):
        parser.error("--log and --truth go together")
    as_of, end = (LOG_START + timedelta(days=days) for days in (given.day, given.days))
    known_at = cutoffs.forecast_cutoffs(
        cutoffs.Span(LOG_START, end, end), horizon_days=given.horizon
    )
    if as_of not in known_at:
        days = ", ".join(str((time - LOG_START).days) for time in known_at)
        parser.error(f"a log of {given.days} days has these cutoffs: {days or 'none'}")

    with tempfile.TemporaryDirectory() as folder:
        log = given.log or Path(folder, "log.json")
        known = given.truth or Path(folder, "truth.parquet")
        if given.log is None:
            write_log(log, users=given.users, days=given.days, seed=given.seed, truth=known)
        lake = Lake(str(given.lake or Path(folder, "lake")))
        table = feature_table(lake, log, given.horizon)
        predictions = forecasts(table, as_of, given.horizon)
        seen = truth.oracle(pl.read_parquet(known), given.day, given.horizon)
        user_days = lake.read_polars(DATASET, USER_DAYS)
        read = seen.with_columns(
            probability=pl.Series(reader(user_days, seen, given.day, given.horizon))
        )
    both = with_known(with_known(predictions, ORACLE, seen), READER, read)
    show(both, CEILINGS.get((given.day, given.horizon), {}))


def feature_table(lake: Lake, log: Path, horizon_days: int) -> pl.DataFrame:
    """The pipeline's feature table of a log, by its own job."""
    import dagster as dg

    from sparkify_assets.datasets import dataset_config
    from sparkify_assets.definitions import build_defs
    from sparkify_assets.resources.spark import SparkResource

    place, pyspark = LakeResource(root=lake.root), SparkResource()
    store = LakeIOManager(storage=place, pyspark=pyspark)
    defs = build_defs({"lake": place, "pyspark": pyspark, "io_manager": store})
    config: dict[str, Any] = dataset_config(DATASET)
    config["ops"]["ingest"]["config"]["source"] = str(log)
    config["ops"]["feature_table"]["config"]["horizon_days"] = horizon_days
    assets = EVENTS_TO_FEATURES[-1:] if lake.exists(DATASET, "user_days") else EVENTS_TO_FEATURES
    with redirect_stdout(sys.stderr):  # what the run says is not a figure
        defs.resolve_job_def("everything").execute_in_process(
            instance=dg.DagsterInstance.ephemeral(),
            partition_key=DATASET,
            run_config=config,
            asset_selection=[dg.AssetKey(name) for name in assets],
        )
    return lake.read_polars(DATASET, FEATURE_TABLE)


def forecasts(table: pl.DataFrame, as_of: date, horizon_days: int) -> pd.DataFrame:
    """The temporal estimate's predictions at `as_of`, by every candidate and baseline."""
    rows = cutoffs.learnable(table, cutoffs.FORECAST).filter(pl.col("as_of") <= as_of)
    frame = rows.to_pandas()
    learn, _ = splits.temporal_split(frame, horizon_days)
    best, worth = best_feature(frame[learn], FEATURE_NAMES)
    _row(f"ROC AUC on training rows of the best feature, {best}", worth)
    single = SINGLE_FEATURES if (best,) in SINGLE_FEATURES.values() else {best: (best,)}
    return evaluation.evaluate(
        frame,
        FEATURE_NAMES,
        cutoffs.FORECAST,
        horizon_days=horizon_days,
        repeats=0,  # no estimate by user
        how=evaluation.How(budget=Budget()),
        baselines={**SINGLE_FEATURES, **single},
    ).predictions


def best_feature(learned: pd.DataFrame, names: Sequence[str]) -> tuple[str, float]:
    """The feature with the best ROC AUC by itself, rising or falling, and that figure."""
    label = learned["label"].to_numpy(dtype=float)
    x = models.as_matrix(learned, names)
    x = np.where(np.isnan(x), np.nan_to_num(np.nanmedian(x, axis=0)), x)
    rising = np.array([expected(column, label)["roc_auc"] for column in x.T])
    worth = np.maximum(rising, 1 - rising)
    return names[int(worth.argmax())], float(worth.max())


def with_known(predictions: pd.DataFrame, name: str, seen: pl.DataFrame) -> pd.DataFrame:
    """Predictions with the oracle's (or reader's) for the same users, at the best thresholds.

    Users who were only logged out before the cutoff are known to the oracle alone: left out.
    """
    chosen = predictions[predictions["model"] == evaluation.CHOSEN]
    both = chosen.drop(columns="probability").merge(seen.to_pandas(), on="user_id", how="left")
    if both["probability"].isna().any() or (both["label"] != both["cancels"]).any():
        raise ValueError("The log and the truth are not of the same users and outcomes.")
    label, probability = both["label"].to_numpy(bool), both["probability"].to_numpy()
    thresholds = {
        column: metrics.best_threshold(label, probability, aim)
        for aim, column in metrics.THRESHOLDS.items()
    }
    known = both.assign(model=name, candidate=name, **thresholds)
    return pd.concat([predictions, known[predictions.columns]], ignore_index=True)


def expected(score: np.ndarray, truly: np.ndarray) -> dict[str, float]:
    """What a score is worth on endlessly many such users: each counts as both, by its chance."""
    order = np.argsort(-score, kind="stable")
    cancels = np.tile([1.0, 0.0], len(score))
    chance = np.repeat(truly[order], 2)
    weights = np.where(cancels > 0, chance, 1 - chance)[:, None]
    curve = metrics.cumulative(cancels, np.repeat(score[order], 2), weights)
    return {
        "roc_auc": float(metrics.roc_auc(curve)[0]),
        "pr_auc": float(metrics.average_precision(curve)[0]),
        "lift_top_10": float(metrics.recall_at_top(curve)[0]) / metrics.TOP_SHARE,
    }


def share(value: Value, guessing: Value, best: Value) -> Value:
    """How far from guessing to the best a score gets."""
    return (value - guessing) / (best - guessing)


def show(predictions: pd.DataFrame, ceiling: Mapping[str, float]) -> None:
    """Print the oracle's scores, then those of the model and of single features."""
    by_model = {str(name): rows for name, rows in predictions.groupby("model", sort=False)}
    oracle = by_model[ORACLE].sort_values("user_id")
    truly, cancel = oracle["probability"].to_numpy(), oracle["label"].to_numpy(float)
    shown = [READER, evaluation.CHOSEN, *(name for name in by_model if name not in NOT_SINGLE)]
    drawn = metrics.Resamples.draw(oracle["user_id"], RESAMPLES, seed=0)
    scores, in_mean = {}, {}
    shown = [name for name in shown if name in by_model]
    for name in (ORACLE, *shown):
        scores[name] = metrics.bootstrap(by_model[name], drawn)
        probability = by_model[name].sort_values("user_id")["probability"].to_numpy()
        in_mean[name] = expected(probability, truly)

    _row("users (all figures are of simulated data)", len(cancel), "users")
    _row("users who cancel within the horizon", cancel.sum(), "users")
    _row("users whom the oracle expects to cancel", truly.sum(), "users")
    for metric, known in ceiling.items():
        _row(f"ceiling {WORDS[metric]}, known from a calculation", known)
    if "roc_auc" in ceiling:
        for seen, value in (
            ("seen", scores[ORACLE]["roc_auc"].iloc[0]),
            ("expected", in_mean[ORACLE]["roc_auc"]),
        ):
            off = abs(value - ceiling["roc_auc"])
            _row(f"oracle ROC AUC {seen}, off the ceiling", off, "", NEAR_THE_CEILING, most=True)

    best, best_in_mean = scores[ORACLE], in_mean[ORACLE]
    guessing = {"roc_auc": 0.5 + 0 * best["roc_auc"], "pr_auc": best["prevalence"]}
    for name, found in scores.items():
        who = _words(name, by_model[name])
        for metric, words in WORDS.items():
            how = _THRESHOLD[name in (ORACLE, READER)] if metric == "balanced_accuracy" else "seen"
            _row(f"{who} {words}, {how}", *_with_interval(found[metric]))
            if metric in in_mean[name]:
                _row(f"{who} {words}, expected", in_mean[name][metric])
        if name == ORACLE:
            continue
        for metric, goal in SHARE_GOALS.items():
            wanted = goal if name == evaluation.CHOSEN else None
            got = share(found[metric], guessing[metric], best[metric])
            _row(f"{who} {WORDS[metric]}, seen, of the oracle's", *_with_interval(got), wanted)
            chance = 0.5 if metric == "roc_auc" else float(truly.mean())
            mean = share(in_mean[name][metric], chance, best_in_mean[metric])
            _row(f"{who} {WORDS[metric]}, expected, of the oracle's", mean)
        if name == evaluation.CHOSEN:
            off = found["expected_calibration_error"]
            _row(f"{who} calibration error", *_with_interval(off), CALIBRATION_GOAL, most=True)


def _words(name: str, rows: pd.DataFrame) -> str:
    if name == evaluation.CHOSEN:
        name = f"model ({rows['candidate'].iloc[0]})"
    return name.replace("_", " ")


def _with_interval(values: pd.Series) -> tuple[float, str]:
    """The first value, and as its unit the interval of the others."""
    low, high = np.nanquantile(values.iloc[1:].to_numpy(float), [0.025, 0.975])
    return float(values.iloc[0]), f"95 % interval {low:.3f} to {high:.3f}"


def _row(
    row: str, value: float, unit: str = "", goal: float | None = None, *, most: bool = False
) -> None:
    report("oracle", row, float(value), unit, goal, most=most)


if __name__ == "__main__":
    main()
