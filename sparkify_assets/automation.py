"""Jobs: what is run together. Every run is of one dataset."""

import dagster as dg

from sparkify_assets.datasets import PARTITIONS, dataset_config

everything = dg.define_asset_job(
    "everything",
    selection=dg.AssetSelection.all(),
    partitions_def=PARTITIONS,
    config=dataset_config,
    description="From the event log to scores and the report, with every check.",
)
