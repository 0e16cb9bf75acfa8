"""From clean events to a row a user, a user's day, and a user at a cutoff.

Belongs here: which days and cutoffs are new, and the steps. Does not belong here: what is computed
of users (`churn/`).
"""

import math
from collections.abc import Callable
from datetime import date
from typing import TYPE_CHECKING, Any, TypeVar

import dagster as dg
import polars as pl

from sparkify_assets import capacity
from sparkify_assets.assets.declaring import DATA_ENGINEERING, table_asset
from sparkify_assets.churn import cutoffs, days, features, kinds, labels
from sparkify_assets.datasets import ForecastConfig
from sparkify_assets.digests import changed, of_frame, slice_key
from sparkify_assets.resources.io_manager import LakeResource
from sparkify_assets.resources.lake import Lake, Version, as_promised
from sparkify_assets.resources.spark import SparkResource
from sparkify_assets.storage import PartFile, Range, read_part, write_part
from sparkify_assets.tables import (
    FEATURE_TABLE,
    LABEL_DAYS,
    USER_DAYS,
    USER_KINDS,
    Rows,
    Slice,
)

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

T = TypeVar("T")
_GROUP = "users"
# Days of users before cutoffs that a task sums up: a gigabyte at most.
_DAYS_A_TASK = 300_000


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
    label_days: pl.DataFrame,
) -> tuple[Rows, Rows]:
    """Makes the days whose events are others than before, or follow on others."""
    dataset = context.partition_key
    before = labels.last_before(label_days).partition_by("day", as_dict=True)
    nothing = labels.last_before(label_days.clear())
    followed = {
        day: before.get((date.fromisoformat(day),), nothing) for day in cleaned_events.slices
    }
    keys = {
        day: slice_key(USER_DAYS, each.key, of_frame(followed[day]))
        for day, each in cleaned_events.slices.items()
    }
    version, known = lake.lake.newest(dataset, USER_DAYS)
    new = changed(keys, known)
    folder = lake.lake.folder(dataset, USER_DAYS.name)

    def write_days(piece: tuple[str, str, pl.DataFrame]) -> PartFile:
        day, file, before = piece
        events = read_part(file, days.EVENT_COLUMNS)
        of_users = before.join(events, on="user_id", how="semi").drop("day")
        made = days.user_days(days.in_order(events, of_users))
        return write_part(f"{folder}/{day}", as_promised(USER_DAYS, made), USER_DAYS.rows_together)

    pieces = [
        (day, file, followed[day])
        for day in new
        for file in lake.lake.files(dataset, "cleaned_events", {day})
    ]
    parts = lake.lake.in_tasks(pyspark.spark_session, "summing up days", pieces, write_days)
    context.add_output_metadata({"days": len(keys), "new_days": len(new)}, USER_DAYS.name)
    said = {"cleaned_events": cleaned_events.number}
    return (
        Rows(labels.user_labels(label_days), said),
        Rows(
            [part for part in parts if part.rows],
            {**said, "days": len(keys), "new_days": new},
            version,
            {day: Slice(key) for day, key in keys.items()},
        ),
    )


@table_asset("user_kinds", group=_GROUP, kinds={"spark", "numpy"}, owner=DATA_ENGINEERING)
def user_kinds(
    context: dg.AssetExecutionContext,
    lake: LakeResource,
    pyspark: SparkResource,
    user_labels: pl.DataFrame,
    user_days: Version,
) -> Rows:
    """Learns the weeks that are new, or of which a day is another one than before."""
    dataset = context.partition_key
    log = log_span(user_labels)
    lessons = kinds.lessons(user_labels["first_event_at"], log.start, log.end)
    keys: dict[str, str] = {}
    for as_of, share in lessons.rows():
        learned_from = keys_before(user_days, as_of)
        keys[_iso(as_of)] = slice_key(USER_KINDS, share, learned_from, list(keys.values()))
    version, known = lake.lake.newest(dataset, USER_KINDS)
    new = changed(keys, known)
    parts: list[PartFile] = []
    if new:
        # Of a log that began on another day the lake holds weeks that these do not go on from.
        old = keys.keys() - set(new)
        learned = learned_kinds(lake.lake, dataset) if known else []
        before = [each for each in learned if _iso(each.as_of) in old]
        taken = _steps(lake.lake, pyspark.spark_session, dataset, lessons)
        folder = lake.lake.folder(dataset, USER_KINDS.name)
        parts = [
            write_part(f"{folder}/{_iso(each.as_of)}", as_promised(USER_KINDS, each.to_rows()))
            for each in kinds.learn(taken, lessons, before=before)
        ]
    context.add_output_metadata({"weeks": len(keys), "new_weeks": len(new)})
    slices = {week: Slice(key) for week, key in keys.items()}
    return Rows(parts, {"user_days": user_days.number, "new_weeks": new}, version, slices)


def learned_kinds(lake: Lake, dataset: str) -> list[kinds.Kinds]:
    """The kinds of users in the newest `user_kinds`, in order of time."""
    return kinds.from_rows(lake.read_polars(dataset, USER_KINDS))


def _steps(lake: Lake, spark: "SparkSession", dataset: str, lessons: pl.DataFrame) -> pl.DataFrame:
    """What users did before each of the lessons, from the newest `user_days`."""
    times = lessons["as_of"].to_list()
    weeks: dict[int, list[str]] = {}
    for part in lake.parts(dataset, USER_DAYS.name):
        week = sum(time <= date.fromisoformat(part.slice) for time in times)
        if week < len(times):
            weeks.setdefault(week, []).append(lake.file(dataset, USER_DAYS.name, part))

    def steps(files: list[str]) -> pl.DataFrame:
        of_days = pl.concat([read_part(file, ["user_id", "day", "moves"]) for file in files])
        return kinds.steps(of_days, lessons)

    nothing = kinds.steps(pl.DataFrame(schema=USER_DAYS.polars_schema), lessons)
    taken = lake.in_tasks(spark, "counting steps", list(weeks.values()), steps)
    return pl.concat([nothing, *taken])


@table_asset("feature_table", group=_GROUP, kinds={"spark", "polars"}, owner=DATA_ENGINEERING)
def feature_table(
    context: dg.AssetExecutionContext,
    config: ForecastConfig,
    lake: LakeResource,
    pyspark: SparkResource,
    user_labels: pl.DataFrame,
    label_days: Version,
    user_days: Version,
    user_kinds: Version,
) -> Rows:
    """Makes the cutoffs that are new, or before which a day is another one than before."""
    dataset = context.partition_key
    log = log_span(user_labels)
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
    ).with_columns(slice=cutoffs.slice_of_row())
    of_slices = {
        str(name): of_slice.drop("slice").sort("user_id")
        for (name,), of_slice in rows.partition_by("slice", as_dict=True).items()
    }
    keys = {
        name: _key_of_features(name, of_slice, user_days, user_kinds, log)
        for name, of_slice in of_slices.items()
    }
    version, known = lake.lake.newest(dataset, FEATURE_TABLE)
    new = changed(keys, known)
    known_kinds = learned_kinds(lake.lake, dataset)
    parts: list[PartFile] = []
    if new:
        wanted = pl.concat([of_slices[name] for name in new])
        capacity.check_memory(pyspark.used_master, wanted.height)
        parts = _write_features(lake.lake, pyspark.spark_session, dataset, wanted, log.start)
    said = {
        "user_days": user_days.number,
        "horizon_days": config.horizon_days,
        "first_cutoff_day": config.first_cutoff_day,
        "cutoffs": [_iso(time) for time in times],
        "log_start": _iso(log.start),
        "log_end": _iso(log.end),
        "last_day": _iso(log.last_day),
    }
    told_apart = kinds.in_words(known_kinds[-1]) if known_kinds else {}
    context.add_output_metadata(
        {
            "cutoffs": said["cutoffs"],
            "new_cutoffs": new,
            "log": f"{log.start} to {log.end}",
            **told_apart,
        }
    )
    slices = {name: Slice(key) for name, key in keys.items()}
    return Rows(parts, {**said, "new_cutoffs": new, "kinds": told_apart}, version, slices)


def log_span(user_labels: pl.DataFrame) -> cutoffs.Span:
    """The days that a log covers; user_labels: first_event_at and last_event_at of all users."""
    return cutoffs.span(
        user_labels["first_event_at"].min(),  # type: ignore[arg-type]
        user_labels["last_event_at"].max(),  # type: ignore[arg-type]
    )


def _key_of_features(
    name: str, rows: pl.DataFrame, user_days: Version, user_kinds: Version, log: cutoffs.Span
) -> str:
    as_of = rows["as_of"].max()
    assert isinstance(as_of, date)
    # Rows of the whole log are looked at with the kinds of its end.
    by_then = log.end if name == cutoffs.WHOLE_LOG else as_of
    weeks = [each.key for week, each in user_kinds.slices.items() if week <= _iso(by_then)]
    learned_from = keys_before(user_days, as_of)
    return slice_key(FEATURE_TABLE, of_frame(rows), learned_from, weeks[-1:], _iso(log.start))


def keys_before(of_days: Version, as_of: date) -> list[str]:
    """Of a table that is made day by day, the keys of the days before a cutoff."""
    return [each.key for day, each in sorted(of_days.slices.items()) if day < _iso(as_of)]


def _write_features(
    lake: Lake,
    spark: "SparkSession",
    dataset: str,
    rows: pl.DataFrame,
    log_start: date,
) -> list[PartFile]:
    """Write the feature_table of `rows`: protocol, user_id, as_of, label."""
    folder = lake.folder(dataset, FEATURE_TABLE.name)

    def write_some(made: pl.DataFrame) -> list[PartFile]:
        named = made.with_columns(slice=cutoffs.slice_of_row())
        return [
            write_part(f"{folder}/{name}", as_promised(FEATURE_TABLE, of_slice))
            for (name,), of_slice in named.partition_by("slice", as_dict=True).items()
        ]

    parts = over_features(lake, spark, dataset, rows, log_start, write_some)
    return [part for each in parts for part in each]


def over_features(
    lake: Lake,
    spark: "SparkSession",
    dataset: str,
    rows: pl.DataFrame,
    log_start: date,
    function: Callable[[pl.DataFrame], T],
) -> list[T]:
    """Call `function` in Spark tasks with the features of some of `rows` each.

    rows: protocol, user_id, as_of, label; `function` gets them as in `feature_table`, computed from
    the newest `user_days` and `user_kinds`.
    """
    usual = population_rates(lake, spark, dataset, rows["as_of"], log_start)
    known_kinds = learned_kinds(lake, dataset)

    def with_features(of_days: pl.DataFrame) -> Any:  # a T would take this module into tasks
        return function(features.features(of_days, rows, usual, known_kinds, log_start))

    return over_users(lake, spark, dataset, rows, with_features)


def population_rates(
    lake: Lake, spark: "SparkSession", dataset: str, as_of: pl.Series, log_start: date
) -> pl.DataFrame:
    """What is usual before each of these cutoffs, by the newest `user_days`."""
    totals = population_totals(lake, spark, dataset, as_of.max())  # type: ignore[arg-type]
    return features.population_rates(totals, as_of.unique().to_list(), log_start)


def population_totals(
    lake: Lake,
    spark: "SparkSession",
    dataset: str,
    until: date = date.max,
    keep: pl.Expr | bool = True,
) -> list[pl.DataFrame]:
    """Sums of the users to `keep` over each day before `until`, of the newest `user_days`."""
    first = labels.first_days(
        lake.read_polars(dataset, LABEL_DAYS, ["user_id", "day", "events", "outcome_events"])
    )
    counts = [name for name in USER_DAYS.names if name not in days.LISTS]

    def totals(of_day: pl.DataFrame) -> pl.DataFrame:
        return features.population_totals(of_day.filter(keep), first)

    return lake.over_parts(
        spark, dataset, USER_DAYS.name, totals, counts, _days_before(lake, dataset, until)
    )


def over_users(
    lake: Lake,
    spark: "SparkSession",
    dataset: str,
    rows: pl.DataFrame,
    function: Callable[[pl.DataFrame], T],
) -> list[T]:
    """Call `function` in Spark tasks with some whole users' `user_days` before the last cutoff.

    rows: user_id and as_of of all that are wanted.
    """
    users = rows["user_id"].unique().sort()
    held = _days_before(lake, dataset, rows["as_of"].max())  # type: ignore[arg-type]
    count = sum(part.rows for part in lake.parts(dataset, USER_DAYS.name, held))
    cores = spark.sparkContext.defaultParallelism
    # Each reads a bit of its neighbours' days as well, so no more than are needed.
    tasks = count * rows.height / len(users) / _DAYS_A_TASK
    each = -(-len(users) // (cores * max(1, math.ceil(tasks / cores))))
    ranges = [
        Range("user_id", users[first], users[min(first + each, len(users)) - 1])
        for first in range(0, len(users), each)
    ]
    return lake.over_ranges(spark, dataset, USER_DAYS.name, function, ranges, slices=held)


def _days_before(lake: Lake, dataset: str, until: date) -> set[str]:
    parts = lake.parts(dataset, USER_DAYS.name)
    return {part.slice for part in parts if part.slice < _iso(until)}


def _iso(day: date) -> str:
    return day.isoformat()
