"""Warning check that scores are young enough, for each dataset on its own.

Dagster's own freshness policies look at an asset's newest materialization whatever its partition:
a run on `mini` would make `full` look fresh.
"""

from datetime import datetime, timezone

import dagster as dg

from sparkify_assets.datasets import PARTITIONS, dataset
from sparkify_assets.resources.io_manager import LakeResource

_SECONDS_AN_HOUR = 3600


@dg.asset_check(
    asset="churn_scores",
    partitions_def=PARTITIONS,
    description="The newest scores are not older than they may be for this dataset.",
)
def scores_are_fresh(
    context: dg.AssetCheckExecutionContext, lake: LakeResource
) -> dg.AssetCheckResult:
    chosen = dataset(context.partition_key)
    allowed = f"at most {chosen.fresh_hours:,} hours old"
    if not lake.lake.exists(chosen.name, "churn_scores"):
        return _result(False, chosen.name, allowed, "there are none", "Run the job `everything`.")
    made_at = lake.lake.version(chosen.name, "churn_scores").committed_at
    hours = (datetime.now(timezone.utc) - made_at).total_seconds() / _SECONDS_AN_HOUR
    found = f"{hours:,.1f} hours old (made at {made_at:%Y-%m-%d %H:%M} UTC)"
    todo = "Run the job `rescore`; if the log has not grown, see why nothing new arrives."
    return _result(hours <= chosen.fresh_hours, chosen.name, allowed, found, todo)


def _result(passed: bool, name: str, expected: str, found: str, todo: str) -> dg.AssetCheckResult:
    said = f"Scores of {name}: expected {expected}, found {found}."
    return dg.AssetCheckResult(
        passed=passed,
        severity=dg.AssetCheckSeverity.WARN,
        description=said if passed else f"{said} {todo}",
        metadata={"expected": expected, "found": found},
    )
