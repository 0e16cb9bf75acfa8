"""Blocking checks of the ingest: no line of the log is lost, and few enough are rejected."""

import dagster as dg

from sparkify_assets.checks.results import result
from sparkify_assets.datasets import PARTITIONS
from sparkify_assets.resources.io_manager import LakeResource


@dg.asset_check(
    asset="raw_events",
    additional_deps=["rejected_lines"],
    blocking=True,
    partitions_def=PARTITIONS,
    description="Every line of the log is in raw_events or in rejected_lines, and in one only.",
)
def every_line_is_accounted_for(
    context: dg.AssetCheckExecutionContext, lake: LakeResource
) -> dg.AssetCheckResult:
    events = lake.lake.version(context.partition_key, "raw_events")
    rejected = lake.lake.version(context.partition_key, "rejected_lines")
    same = events.metadata["ingest_id"] == rejected.metadata["ingest_id"]
    lines = events.metadata["lines"]
    return result(
        same and lines == events.rows + rejected.rows,
        expected=f"{lines:,} lines, as many as were read, in the two tables, of one reading",
        found=f"{events.rows:,} events and {rejected.rows:,} rejected lines"
        + ("" if same else ", which are of two different readings of the log"),
        more={"lines": lines, "events": events.rows, "rejected lines": rejected.rows},
    )


@dg.asset_check(
    asset="rejected_lines",
    blocking=True,
    partitions_def=PARTITIONS,
    description="No more lines are rejected than the run's configuration allows.",
)
def few_lines_are_rejected(
    context: dg.AssetCheckExecutionContext, lake: LakeResource
) -> dg.AssetCheckResult:
    rejected = lake.lake.version(context.partition_key, "rejected_lines")
    share = rejected.rows / max(rejected.metadata["lines"], 1)
    allowed = rejected.metadata["max_rejected_share"]
    return result(
        share <= allowed,
        expected=f"at most {allowed:.2%} of the lines not to be events",
        found=f"{rejected.rows:,} of {rejected.metadata['lines']:,} lines ({share:.2%}) that are "
        "not events",
        look=f"import polars as pl; print(pl.read_delta({rejected.path!r}))",
        more={"rejected lines": rejected.rows, "rejected share": share},
    )
