"""Blocking check of the features: none of them knows what lies at or after its cutoff.

Belongs here: reading what is audited from the lake, and what the check says.
Does not belong here: how features are audited (`churn/leaks.py`).
"""

from datetime import date

import dagster as dg
import polars as pl
from pyspark.sql import SparkSession

from sparkify_assets import metadata
from sparkify_assets.assets.declaring import SPARK_POOL
from sparkify_assets.assets.users import learned_kinds, population_totals
from sparkify_assets.checks.results import result, rows_where
from sparkify_assets.churn import cutoffs, days, leaks
from sparkify_assets.datasets import PARTITIONS
from sparkify_assets.resources.io_manager import LakeResource
from sparkify_assets.resources.lake import Lake
from sparkify_assets.resources.spark import SparkResource
from sparkify_assets.retries import told
from sparkify_assets.storage import Range
from sparkify_assets.tables import USER_LABELS

_MADE_OF = ["cleaned_events", "label_days", "user_labels", "user_days", "user_kinds"]
_COMPARED = ("feature_table", *_MADE_OF)
_SPAN = ("log_start", "log_end", "last_day")
_SHOWN = 3  # features named in the description; the metadata name all


@dg.asset_check(
    asset="feature_table",
    additional_deps=_MADE_OF,
    blocking=True,
    partitions_def=PARTITIONS,
    pool=SPARK_POOL,
    description=(
        "No feature changes when events at or after its cutoff are deleted, shuffled or invented: "
        "some users' features are computed again from such events and compared with those stored. "
        "Rows of whole_log leak by design, as their cutoff is set by the outcome; of them is "
        "audited that no label, user id or cancellation reaches a feature."
    ),
)
def no_feature_knows_the_future(
    context: dg.AssetCheckExecutionContext, lake: LakeResource, pyspark: SparkResource
) -> dg.AssetCheckResult:
    dataset = context.partition_key
    read = versions(lake.lake, dataset)
    if stale := of_another_making(lake.lake, dataset):
        return stale
    with told(lambda: (context.retry_number, context.run.tags), pyspark):
        found = changed_features(lake.lake, pyspark.spark_session, dataset)
    if versions(lake.lake, dataset) != read:
        return replaced()
    return said(found, lake.lake.folder(dataset, "feature_table"))


def of_another_making(lake: Lake, dataset: str) -> dg.AssetCheckResult | None:
    """What to do where the tables are not those that feature_table was made of."""
    for made, of in (("feature_table", "user_days"), ("user_days", "cleaned_events")):
        was, there = lake.version(dataset, made).metadata.get(of), lake.version(dataset, of).number
        if was != there:
            return result(
                False,
                expected=f"{made} is made of version {there} of {of}, which is in the lake",
                found=f"it is made of version {was}, so that leaks cannot be looked for. "
                f"Materialize user_days and feature_table of {dataset} again",
            )
    return None


def versions(lake: Lake, dataset: str) -> list[int]:
    """The versions of the tables that are compared."""
    return [lake.version(dataset, name).number for name in _COMPARED]


def replaced() -> dg.AssetCheckResult:
    """What to say where tables were read of which another run has brought other versions."""
    return result(
        False,
        expected="the tables stay as they are while they are compared",
        found="another run replaced some of them, so that leaks cannot be looked for. "
        "Run this check again when no other run of the dataset is under way",
    )


def changed_features(lake: Lake, spark: SparkSession, dataset: str) -> pl.DataFrame:
    """`leaks.audit` of some users, in a Spark task that reads no more than these."""
    users = lake.read_polars(dataset, USER_LABELS, ["user_id", "events"])
    ours = Range("user_id", *leaks.audited_users(users))
    in_range = pl.col("user_id").is_between(pl.lit(ours.first), pl.lit(ours.last))
    (stored,) = lake.over_ranges(spark, dataset, "feature_table", lambda rows: rows, [ours])
    last: date = stored["as_of"].max()  # type: ignore[assignment]
    others = population_totals(lake, spark, dataset, last, keep=~in_range)
    of_log = lake.version(dataset, "feature_table").metadata
    log = cutoffs.Span(*(date.fromisoformat(of_log[name]) for name in _SPAN))
    totals = pl.concat(others)
    known_kinds = learned_kinds(lake, dataset)

    def audit(events: pl.DataFrame) -> pl.DataFrame:
        return leaks.audit(leaks.Audited(stored, events, totals, known_kinds, log))

    (found,) = lake.over_ranges(spark, dataset, "cleaned_events", audit, [ours], days.EVENT_COLUMNS)
    return found


def said(found: pl.DataFrame, path: str) -> dg.AssetCheckResult:
    """The check's result; found: as of `leaks.audit`, path: of the feature table."""
    expected = "no feature changes with what lies at or after its cutoff"
    if found.is_empty():
        return result(True, expected=expected, found="none does")
    worst = found.unique("feature", keep="first", maintain_order=True)
    named = "; ".join(
        f"{row['feature']} in {row['rows']:,} {row['protocol']} rows ({row['tampering']})"
        for row in worst.head(_SHOWN).iter_rows(named=True)
    )
    more = f"; and {worst.height - _SHOWN} more features" if worst.height > _SHOWN else ""
    first = worst.row(0, named=True)
    return result(
        False,
        expected=expected,
        found=f"these do: {named}{more}. For example {first['feature']} of a user as of "
        f"{first['as_of']}: {_spoken(first['stored'])} stored, {_spoken(first['found'])} found",
        look=rows_where(path, f'pl.col("as_of") == pl.lit("{first["as_of"]}").str.to_date()'),
        # An example's user is personal data, and stays in the table.
        more={
            "changed features": metadata.records(
                found.drop("user_id").cast({"as_of": pl.String}).iter_rows(named=True)
            )
        },
    )


def _spoken(value: float | None) -> str:
    return "nothing" if value is None else f"{value:.6g}"
