"""Jobs: what is run together. Every run is of one dataset.

Belongs here: which assets a job makes, and its part of the dataset's run configuration.
Does not belong here: when a job is run (`schedules.py`, `sensors.py`).
"""

from collections.abc import Mapping
from typing import Any

import dagster as dg

from sparkify_assets.automation.housekeeping import housekeeping
from sparkify_assets.datasets import PARTITIONS, dataset_config

# A run whose process died is started again once; one that said what is wrong is not. The instance
# (`dagster.yaml`) tells the two apart.
_TAGS = {"dagster/max_retries": "1"}

_TO_FEATURES = (
    "raw_events",
    "rejected_lines",
    "cleaned_events",
    "label_days",
    "user_labels",
    "user_days",
    "user_kinds",
    "feature_table",
)
_TO_MODEL = (
    "model_trials",
    "trained_model",
    "evaluation_predictions",
    "evaluation_metrics",
    "model_registry",
    "churn_factors",
)
_TO_REPORT = ("churn_scores", "score_outcomes", "live_metrics", "churn_report")


def _config(*ops: str) -> dg.PartitionedConfig:
    """The part of a dataset's configuration that these ops take."""

    def part(partition_key: str) -> Mapping[str, Any]:
        whole = dataset_config.get_run_config_for_partition_key(partition_key)
        return {**whole, "ops": {op: whole["ops"][op] for op in whole["ops"] if op in ops}}

    return dg.PartitionedConfig(PARTITIONS, run_config_for_partition_key_fn=part)


everything = dg.define_asset_job(
    "everything",
    selection=dg.AssetSelection.all(),
    config=dataset_config,
    tags=_TAGS,
    description="From the event log to scores and the report, with every check.",
)

retrain = dg.define_asset_job(
    "retrain",
    selection=dg.AssetSelection.assets(*_TO_MODEL, *_TO_REPORT),
    config=_config(*_TO_MODEL),
    tags=_TAGS,
    description=(
        "From the feature table as it is: a new model, what it is worth, whether it goes live, and "
        "the scores of the one that is live. Reads no log; needs a feature table."
    ),
)

prepare = dg.define_asset_job(
    "prepare",
    selection=dg.AssetSelection.assets(*_TO_FEATURES),
    config=_config("ingest", *_TO_FEATURES),
    tags=_TAGS,
    description=(
        "From the event log to the feature table. Trains and scores nothing, so it needs no model "
        "and no long log."
    ),
)

rescore = dg.define_asset_job(
    "rescore",
    selection=dg.AssetSelection.assets(*_TO_FEATURES, *_TO_REPORT),
    config=_config("ingest", *_TO_FEATURES),
    tags=_TAGS,
    description=(
        "From the event log to scores and the report by the model that is live. Trains nothing; "
        "where no model is live yet, run `everything` first."
    ),
)

backfill = dg.define_asset_job(
    "backfill",
    selection=dg.AssetSelection.assets(*_TO_REPORT),
    config=_config("churn_scores"),
    tags=_TAGS,
    description=(
        "Scores a past day as it would have been then, and what became of it: set `as_of` of "
        "churn_scores in the launchpad."
    ),
)

check_freshness = dg.define_asset_job(
    "check_freshness",
    selection=dg.AssetSelection.checks(
        dg.AssetCheckKey(dg.AssetKey("churn_scores"), "scores_are_fresh")
    ),
    config=_config(),
    description="Are a dataset's scores young enough? Makes nothing, takes a moment.",
)

JOBS: list[Any] = [
    everything,
    prepare,
    retrain,
    rescore,
    backfill,
    check_freshness,
    housekeeping,
]
