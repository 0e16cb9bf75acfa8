"""Blocking checks of the ingest: no line of the log is lost, and few enough are rejected."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import dagster as dg

from sparkify_assets.checks.results import result
from sparkify_assets.datasets import PARTITIONS
from sparkify_assets.resources.io_manager import LakeResource

_ENOUGH_LINES = 1_000


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
    keys = [{name: of.key for name, of in each.slices.items()} for each in (events, rejected)]
    same = keys[0] == keys[1]
    lines = events.metadata["lines"]
    return result(
        same and lines == events.rows_ever + rejected.rows_ever,
        expected=f"{lines:,} lines, as many as were read, in the two tables, of one reading",
        found=f"{events.rows_ever:,} events and {rejected.rows_ever:,} rejected lines"
        + ("" if same else ", which are of two different readings of the log"),
        more={
            "lines": lines,
            "events": events.rows,
            "rejected lines": rejected.rows,
            "lines that were removed since": sum(
                each.rows_ever - each.rows for each in (events, rejected)
            ),
        },
    )


@dg.asset_check(
    asset="rejected_lines",
    blocking=True,
    partitions_def=PARTITIONS,
    description=(
        "No more lines are rejected than the run's configuration allows: of all together, and of "
        f"each file with {_ENOUGH_LINES:,} lines or more."
    ),
)
def few_lines_are_rejected(
    context: dg.AssetCheckExecutionContext, lake: LakeResource
) -> dg.AssetCheckResult:
    rejected = lake.lake.version(context.partition_key, "rejected_lines")
    worst = worst_file([each.said for each in rejected.slices.values()])
    allowed = rejected.metadata["max_rejected_share"]
    return result(
        worst.share <= allowed,
        expected=f"at most {allowed:.2%} of the lines not to be events",
        found=f"{worst.rejected:,} of {worst.lines:,} lines of {worst.name} ({worst.share:.2%}) "
        "that are not events",
        look=f"import polars as pl; print(pl.read_delta({rejected.path!r}))",
        more={"rejected lines": rejected.rows_ever, "rejected share": worst.share},
    )


class Rejected(NamedTuple):
    """How many lines of a file, or of all, are rejected."""

    name: str
    rejected: int
    lines: int

    @property
    def share(self) -> float:
        return self.rejected / max(self.lines, 1)


def worst_file(files: Sequence[Mapping[str, Any]]) -> Rejected:
    """Where the largest share is rejected: in a file of many lines, or in all files together.

    files: name, lines and rejected.
    """
    large = [each for each in files if each["lines"] >= _ENOUGH_LINES]
    every = Rejected(
        "all files" if len(files) > 1 else "the log",
        sum(each["rejected"] for each in files),
        sum(each["lines"] for each in files),
    )
    of_files = [Rejected(each["name"], each["rejected"], each["lines"]) for each in large]
    return max([every, *of_files], key=lambda each: each.share)
