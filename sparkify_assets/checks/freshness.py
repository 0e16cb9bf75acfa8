"""Warning check that scores are young enough, for each dataset on its own.

Dagster's own freshness policies look at an asset's newest materialization whatever its partition:
a run on `mini` would make `full` look fresh.
"""

from datetime import datetime, timedelta, timezone

import dagster as dg

from sparkify_assets.checks.results import result
from sparkify_assets.datasets import PARTITIONS, Dataset, dataset
from sparkify_assets.resources.io_manager import LakeResource
from sparkify_assets.resources.lake import Version


@dg.asset_check(
    asset="churn_scores",
    partitions_def=PARTITIONS,
    description="The newest scores are not older than they may be for this dataset.",
)
def scores_are_fresh(
    context: dg.AssetCheckExecutionContext, lake: LakeResource
) -> dg.AssetCheckResult:
    chosen = dataset(context.partition_key)
    there_are = lake.lake.exists(chosen.name, "churn_scores")
    made_at = scored_at(lake.lake.version(chosen.name, "churn_scores")) if there_are else None
    return judged(chosen, made_at, datetime.now(timezone.utc))


def scored_at(scores: Version) -> datetime:
    """When the newest cutoff was scored; the table may have been written for a past one since."""
    said = scores.metadata.get("scored_at")
    return datetime.fromisoformat(said) if said else scores.committed_at


def judged(chosen: Dataset, made_at: datetime | None, now: datetime) -> dg.AssetCheckResult:
    """`made_at`: when the newest scores were committed; None where there are none."""
    expected = f"scores of {chosen.name} at most {chosen.fresh_hours} hours old"
    if made_at is None:
        found = "there are none. Run the job `everything`"
        return result(False, expected=expected, found=found, warns=True)
    hours = (now - made_at) / timedelta(hours=1)
    passed = hours <= chosen.fresh_hours
    found = f"{hours:.1f} hours old, made on {made_at:%Y-%m-%d at %H:%M} UTC"
    to_do = ". Run the job `rescore`; where the log has not changed, see why it does not grow"
    return result(
        passed,
        expected=expected,
        found=found if passed else found + to_do,
        warns=True,
        more={"hours": round(hours, 1)},
    )
