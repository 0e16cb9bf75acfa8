"""From scores whose horizon has passed to what they were worth.

Belongs here: which cutoffs and weeks have an outcome that is new. Does not belong here: outcomes
and metrics themselves (`churn/outcomes.py`).
"""

from collections.abc import Mapping
from datetime import date, timedelta

import dagster as dg
import polars as pl

from sparkify_assets.assets import pictures
from sparkify_assets.assets.declaring import ANALYTICS, table_asset
from sparkify_assets.assets.users import keys_before
from sparkify_assets.churn import outcomes
from sparkify_assets.datasets import DATASETS
from sparkify_assets.digests import changed, slice_key
from sparkify_assets.report import figures
from sparkify_assets.resources.io_manager import LakeResource
from sparkify_assets.resources.lake import Lake, Version, as_promised
from sparkify_assets.storage import PartFile, write_part
from sparkify_assets.tables import (
    CHURN_SCORES,
    LIVE_METRICS,
    SCORE_OUTCOMES,
    USER_DAYS,
    USER_LABELS,
    Rows,
    Slice,
    Table,
)

_GROUP = "churn"
_SCORED = [name for name in CHURN_SCORES.names if name in SCORE_OUTCOMES.names] + ["events_known"]
# What the UI plots over time.
_PLOTTED = ("precision", "recall", "pr_auc", "expected_calibration_error", outcomes.LATE_EVENTS)


@table_asset("score_outcomes", group=_GROUP, kinds={"polars"}, owner=ANALYTICS)
def score_outcomes(
    context: dg.AssetExecutionContext,
    lake: LakeResource,
    churn_scores: Version,
    user_labels: Version,
    label_days: Version,
    user_days: Version,
    feature_table: Version,
) -> Rows:
    """Makes the cutoffs whose horizon is newly over, or before whose end a day has changed."""
    dataset, store = context.partition_key, lake.lake
    log_end, horizon_days = _span(feature_table)
    keys: dict[str, str] = {}
    by_horizon: dict[int, set[str]] = {}
    for name, each in churn_scores.slices.items():
        as_of = date.fromisoformat(name)
        # What was said of ten days is not judged by a fortnight.
        horizon = each.said.get("horizon_days", horizon_days)
        if outcomes.has_passed(as_of, log_end, horizon):
            days = (
                keys_before(label_days, as_of + timedelta(days=horizon)),
                keys_before(user_days, as_of),
            )
            keys[name] = slice_key(SCORE_OUTCOMES, each.key, horizon, *days)
            by_horizon.setdefault(horizon, set()).add(name)
    number, known = store.newest(dataset, SCORE_OUTCOMES)
    new = changed(keys, known)
    found: dict[str, pl.DataFrame] = {}
    if new:
        labels = store.read_polars(dataset, USER_LABELS, ["user_id", "churned_at"])
        of_days = store.read_polars(dataset, USER_DAYS, outcomes.DAY_COLUMNS)
        made = pl.concat(
            outcomes.score_outcomes(
                store.read_polars(dataset, CHURN_SCORES, _SCORED, slices=names & set(new)),
                labels,
                of_days,
                horizon,
            )
            for horizon, names in by_horizon.items()
        )
        found = {name: made.filter(as_of=date.fromisoformat(name)) for name in new}
    slices = {
        name: Slice(
            key,
            {
                "backfilled": churn_scores.slices[name].said["backfilled"],
                "late_events": int(found[name]["late_events"].sum())
                if name in found
                else known[name].said["late_events"],
            },
        )
        for name, key in keys.items()
    }
    context.add_output_metadata(
        {
            "cutoffs": len(slices),
            "new_cutoffs": new,
            "backfilled_cutoffs": sum(each.said["backfilled"] for each in slices.values()),
            "late_events": sum(each.said["late_events"] for each in slices.values()),
        }
    )
    said = {
        "churn_scores": churn_scores.number,
        "user_labels": user_labels.number,
        "user_days": user_days.number,
        "feature_table": feature_table.number,
        "log_end": log_end.isoformat(),
        "horizon_days": horizon_days,
    }
    return Rows(_written(store, dataset, SCORE_OUTCOMES, found), said, number, slices)


def _span(said: Version) -> tuple[date, int]:
    """The log's end and the horizon in days."""
    return date.fromisoformat(said.metadata["log_end"]), said.metadata["horizon_days"]


def _written(
    store: Lake, dataset: str, table: Table, found: Mapping[str, pl.DataFrame]
) -> list[PartFile]:
    """A part file of each slice that has rows."""
    folder = store.folder(dataset, table.name)
    return [
        write_part(f"{folder}/{name}", as_promised(table, rows))
        for name, rows in found.items()
        if rows.height
    ]


@table_asset("live_metrics", group=_GROUP, kinds={"numpy"}, owner=ANALYTICS)
def live_metrics(
    context: dg.AssetExecutionContext, lake: LakeResource, score_outcomes: Version
) -> Rows:
    """Makes the weeks of which a cutoff is new, or has another outcome than before."""
    dataset, store = context.partition_key, lake.lake
    log_end, horizon_days = _span(score_outcomes)
    resamples = DATASETS[dataset].resamples
    weeks = _live_weeks(score_outcomes.slices)
    keys = {
        week: slice_key(LIVE_METRICS, resamples, [score_outcomes.slices[day].key for day in days])
        for week, days in weeks.items()
    }
    number, known = store.newest(dataset, LIVE_METRICS)
    new = changed(keys, known)
    found = {
        week: outcomes.live_metrics(
            store.read_polars(dataset, SCORE_OUTCOMES, slices=weeks[week]), resamples
        )
        for week in new
    }
    table = pl.DataFrame(schema=LIVE_METRICS.polars_schema)
    if known:
        table = store.read_polars(dataset, LIVE_METRICS, slices=keys.keys() - set(new))
    table = pl.concat([table, *found.values()], how="diagonal")
    said = {
        "score_outcomes": score_outcomes.number,
        "log_end": log_end.isoformat(),
        "horizon_days": horizon_days,
    }
    context.add_output_metadata(
        {"new_weeks": new}
        | _newest(table, log_end, horizon_days)
        | pictures.of_live_metrics(figures.weeks(table, log_end, horizon_days), store, dataset)
    )
    slices = {week: Slice(key) for week, key in keys.items()}
    return Rows(_written(store, dataset, LIVE_METRICS, found), said, number, slices)


def _live_weeks(slices: Mapping[str, Slice]) -> dict[str, list[str]]:
    """The cutoffs of each week (its Monday) that were scored when they were the present."""
    weeks: dict[str, list[str]] = {}
    for name, each in sorted(slices.items()):
        if not each.said["backfilled"]:
            day = date.fromisoformat(name)
            weeks.setdefault(str(day - timedelta(days=day.weekday())), []).append(name)
    return weeks


def _newest(table: pl.DataFrame, log_end: date, horizon_days: int) -> dict[str, float | str]:
    """The newest complete week's figures, by what they are called in the UI."""
    newest = outcomes.newest_complete(table, log_end, horizon_days)
    if newest.is_empty():
        return {}
    shown = newest.filter(pl.col("metric").is_in(_PLOTTED)).drop_nulls("value")
    values = {f"live_{name}": round(v, 4) for name, v in shown.select("metric", "value").rows()}
    return values | {"newest_complete_week": str(newest["week"][0])}
