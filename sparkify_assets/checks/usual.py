"""Warnings where a table is not as it usually is, by the history of the same dataset.

Belongs here: volume, missing values and the share of churned users, against earlier versions of the
table. Does not belong here: what must hold whatever was before (`contracts.py`), and whether users
are as the model knew them (`models.py`).

What is usual is the median of up to ten versions before; of a first version nothing is expected.
"""

import math
from collections.abc import Mapping, Sequence
from statistics import median

import dagster as dg

from sparkify_assets.checks.results import result, rows_where, sql
from sparkify_assets.datasets import PARTITIONS
from sparkify_assets.resources.io_manager import LakeResource
from sparkify_assets.resources.lake import Version

HISTORY = 10  # versions
TIMES = 2.0  # as many rows, or as few
NULLS = 0.05  # more or less of all rows
CHURN = 0.25  # more or less of the usual share
_DEVIATIONS = 3.0  # what chance may add, in standard deviations

COUNTED = ("raw_events", "cleaned_events", "user_days", "feature_table", "churn_scores")
SEEN_THROUGH = ("cleaned_events", "user_labels", "user_days", "feature_table")
_FIRST = "the first version that was counted, so nothing is usual yet"


def rows_check(table: str) -> dg.AssetChecksDefinition:
    """A warning where a table has far more or far fewer rows than usual."""

    @dg.asset_check(
        asset=table,
        name="as_many_rows_as_usual",
        partitions_def=PARTITIONS,
        description=f"{table} has from a half to {TIMES:g} times its usual number of rows.",
    )
    def as_many_rows_as_usual(
        context: dg.AssetCheckExecutionContext, lake: LakeResource
    ) -> dg.AssetCheckResult:
        newest = lake.lake.version(context.partition_key, table)
        earlier = lake.lake.earlier(context.partition_key, table, HISTORY)
        if not earlier:
            first = {"rows": newest.rows}
            return result(
                True, expected="a usual number of rows", found=_FIRST, warns=True, more=first
            )
        rows, usual = _rows(newest), median(_rows(version) for version in earlier)
        return result(
            usual / TIMES <= rows <= usual * TIMES,
            expected=f"{usual / TIMES:,.0f} to {usual * TIMES:,.0f} rows",
            found=f"{rows:,} rows, of {_log(newest)}; usual are {usual:,.0f}",
            look=(
                f"import polars as pl; print(pl.scan_delta({newest.path!r}, "
                f"version={earlier[0].number}).select(pl.len()).collect())"
            ),
            warns=True,
            more={"rows": rows, "usual rows": usual},
        )

    return as_many_rows_as_usual


def _rows(version: Version) -> int:
    """Of scores, the newest cutoff's rows: those of earlier ones stay in the table."""
    return version.metadata.get("users", version.rows_ever)


def nulls_check(table: str) -> dg.AssetChecksDefinition:
    """A warning where a column of a table is missing more or less often than usual."""

    @dg.asset_check(
        asset=table,
        name="as_many_nulls_as_usual",
        partitions_def=PARTITIONS,
        description=(
            f"Each column of {table} is missing as often as usual, give or take {NULLS:.0%} of the "
            "rows and what chance may do."
        ),
    )
    def as_many_nulls_as_usual(
        context: dg.AssetCheckExecutionContext, lake: LakeResource
    ) -> dg.AssetCheckResult:
        newest = lake.lake.version(context.partition_key, table)
        earlier = [v for v in lake.lake.earlier(context.partition_key, table, HISTORY) if v.nulls]
        if not earlier:
            return result(True, expected="a usual share of nulls", found=_FIRST, warns=True)
        unusual = unusual_nulls(newest, earlier)
        usual = (f"{share:.1%} of {column}" for column, (share, _) in unusual.items())
        found = (f"{share:.1%} of {column}" for column, (_, share) in unusual.items())
        missing = sql(*(f'"{column}" IS NULL' for column in unusual))
        return result(
            not unusual,
            expected="as many nulls as usual: " + (", ".join(usual) or "in every column"),
            found=", ".join(found) or "just that",
            look=rows_where(newest.path, missing) if unusual else "",
            warns=True,
            more={"unusual columns": len(unusual)},
        )

    return as_many_nulls_as_usual


def unusual_nulls(newest: Version, earlier: Sequence[Version]) -> Mapping[str, tuple[float, float]]:
    """By column, the usual share of nulls and the one found, where they are far apart."""
    unusual = {}
    for column, count in newest.nulls.items():
        shares = [v.nulls[column] / v.rows for v in earlier if v.rows and column in v.nulls]
        if not shares or not newest.rows:
            continue
        usual, share = median(shares), count / newest.rows
        if abs(share - usual) > NULLS + _chance(usual, newest.rows):
            unusual[column] = usual, share
    return unusual


@dg.asset_check(
    asset="user_labels",
    partitions_def=PARTITIONS,
    description=f"As many users churned as usual, give or take {CHURN:.0%} of the usual share and "
    "what chance may do.",
)
def as_many_users_churned_as_usual(
    context: dg.AssetCheckExecutionContext, lake: LakeResource
) -> dg.AssetCheckResult:
    newest = lake.lake.version(context.partition_key, "user_labels")
    earlier = lake.lake.earlier(context.partition_key, "user_labels", HISTORY)
    shares = [share for version in earlier if (share := churn_share(version)) is not None]
    share = churn_share(newest)
    if not shares or share is None:
        first = {} if share is None else {"churn share": share}
        return result(
            True, expected="a usual share of churned users", found=_FIRST, warns=True, more=first
        )
    usual = median(shares)
    within = CHURN * usual + _chance(usual, newest.rows)
    return result(
        abs(share - usual) <= within,
        expected=f"{max(usual - within, 0):.1%} to {usual + within:.1%} of users churned",
        found=f"{share:.1%} of {newest.rows:,} users, in {_log(newest)}; usual are {usual:.1%}",
        look=rows_where(newest.path, 'pl.col("churned")'),
        warns=True,
        more={"churn share": share, "usual churn share": usual},
    )


def churn_share(labels: Version) -> float | None:
    """The share of a version of `user_labels` who churned: who has no `churned_at` did not."""
    if not labels.rows or "churned_at" not in labels.nulls:
        return None
    return 1 - labels.nulls["churned_at"] / labels.rows


def _chance(share: float, rows: int) -> float:
    return _DEVIATIONS * math.sqrt(share * (1 - share) / rows) if rows else 0.0


def _log(version: Version) -> str:
    return str(version.metadata.get("source", "an unknown log"))


def usual_checks() -> list[dg.AssetChecksDefinition]:
    return [
        *map(rows_check, COUNTED),
        *map(nulls_check, SEEN_THROUGH),
        as_many_users_churned_as_usual,
    ]
