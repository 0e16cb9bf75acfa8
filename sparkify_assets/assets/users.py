"""From clean events to a row a user, a user's day, and a user at a cutoff."""

from datetime import date
from typing import TYPE_CHECKING

import dagster as dg
import polars as pl

from sparkify_assets import capacity
from sparkify_assets.assets.declaring import DATA_ENGINEERING, table_asset
from sparkify_assets.churn import cutoffs, days, features, kinds, labels
from sparkify_assets.datasets import ForecastConfig
from sparkify_assets.resources.io_manager import LakeResource
from sparkify_assets.resources.lake import Lake, Version, as_promised
from sparkify_assets.resources.spark import SparkResource
from sparkify_assets.storage import PartFile, write_part
from sparkify_assets.tables import FEATURE_TABLE, USER_DAYS, USER_LABELS, Rows

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

_GROUP = "users"


@table_asset(
    "user_labels",
    "user_days",
    name="users_and_days",
    group=_GROUP,
    kinds={"spark", "polars"},
    owner=DATA_ENGINEERING,
)
def users_and_days(
    context: dg.AssetExecutionContext,
    lake: LakeResource,
    pyspark: SparkResource,
    cleaned_events: Version,
) -> tuple[Rows, Rows]:
    dataset = context.partition_key
    labels_folder = lake.lake.new_parts(dataset, "user_labels")
    days_folder = lake.lake.new_parts(dataset, "user_days")

    def read_once(events: pl.DataFrame) -> tuple[PartFile, PartFile]:
        ordered = days.in_order(events)
        return (
            write_part(labels_folder, as_promised(USER_LABELS, labels.user_labels(ordered))),
            write_part(days_folder, as_promised(USER_DAYS, days.user_days(ordered))),
        )

    parts = lake.lake.over_parts(
        pyspark.spark_session, dataset, "cleaned_events", read_once, days.EVENT_COLUMNS
    )
    said = {"cleaned_events": cleaned_events.number}
    return Rows([p[0] for p in parts], said), Rows([p[1] for p in parts], said)


@table_asset("feature_table", group=_GROUP, kinds={"spark", "polars"}, owner=DATA_ENGINEERING)
def feature_table(
    context: dg.AssetExecutionContext,
    config: ForecastConfig,
    lake: LakeResource,
    pyspark: SparkResource,
    user_labels: pl.DataFrame,
    user_days: Version,
) -> Rows:
    dataset = context.partition_key
    spark = pyspark.spark_session
    log = cutoffs.span(
        user_labels["first_event_at"].min(),  # type: ignore[arg-type]
        user_labels["last_event_at"].max(),  # type: ignore[arg-type]
    )
    times = cutoffs.forecast_cutoffs(
        log,
        horizon_days=config.horizon_days,
        every_days=config.cutoff_every_days,
        first_day=config.first_cutoff_day,
    )
    rows = pl.concat(
        [
            cutoffs.forecast_rows(user_labels, times, log, horizon_days=config.horizon_days),
            cutoffs.whole_log_rows(user_labels),
        ]
    )
    capacity.check_memory(pyspark.used_master, rows.height)
    counts = [name for name in USER_DAYS.names if name not in days.LISTS]
    usual = features.population_rates(
        lake.lake.over_parts(spark, dataset, "user_days", features.population_totals, counts),
        rows["as_of"].unique().to_list(),
        log.start,
    )
    known_kinds = learned_kinds(lake.lake, spark, dataset, user_labels, log)
    folder = lake.lake.new_parts(dataset, "feature_table")

    def write_features(of_days: pl.DataFrame) -> PartFile:
        known = features.features(of_days, rows, usual, known_kinds, log.start)
        return write_part(folder, as_promised(FEATURE_TABLE, known))

    parts = lake.lake.over_parts(spark, dataset, "user_days", write_features)
    said = {
        "user_days": user_days.number,
        "horizon_days": config.horizon_days,
        "cutoffs": [_iso(time) for time in times],
        "log_start": _iso(log.start),
        "log_end": _iso(log.end),
        "last_day": _iso(log.last_day),
    }
    told_apart = kinds.in_words(known_kinds[-1]) if known_kinds else {}
    context.add_output_metadata(
        {"cutoffs": said["cutoffs"], "log": f"{log.start} to {log.end}", **told_apart}
    )
    return Rows(parts, {**said, "kinds": told_apart})


def learned_kinds(
    lake: Lake, spark: "SparkSession", dataset: str, user_labels: pl.DataFrame, log: cutoffs.Span
) -> list[kinds.Kinds]:
    """The kinds of users in the newest `user_days`; user_labels: first_event_at."""
    lessons = kinds.lessons(user_labels["first_event_at"], log.start, log.end)

    def steps(of_days: pl.DataFrame) -> pl.DataFrame:
        return kinds.steps(of_days, lessons)

    taken = lake.over_parts(spark, dataset, "user_days", steps, ["user_id", "day", "moves"])
    return kinds.learn(pl.concat(taken), lessons)


def _iso(day: date) -> str:
    return day.isoformat()
