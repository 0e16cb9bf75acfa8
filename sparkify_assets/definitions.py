"""Everything put together: the one place that knows all parts."""

from collections.abc import Mapping
from typing import Any

import dagster as dg

from sparkify_assets import assets
from sparkify_assets.automation.jobs import JOBS
from sparkify_assets.automation.schedules import schedules
from sparkify_assets.automation.sensors import sensors
from sparkify_assets.checks import contracts, freshness, ingest, leaks, models, usual
from sparkify_assets.progress import terminal_logger
from sparkify_assets.resources.io_manager import LakeIOManager, LakeResource
from sparkify_assets.resources.lake import default_root
from sparkify_assets.resources.spark import SparkResource


def build_defs(resource_overrides: Mapping[str, Any] | None = None) -> dg.Definitions:
    """Fresh definitions; tests replace resources by name."""
    pyspark = SparkResource()
    lake = LakeResource(root=default_root())
    resources: dict[str, Any] = {
        "pyspark": pyspark,
        "lake": lake,
        "io_manager": LakeIOManager(storage=lake, pyspark=pyspark),
    }
    return dg.Definitions(
        assets=dg.load_assets_from_package_module(assets),
        asset_checks=[
            *contracts.contract_checks(),
            *usual.usual_checks(),
            *dg.load_asset_checks_from_modules([freshness, ingest, leaks, models]),
        ],
        jobs=JOBS,
        schedules=schedules(),
        sensors=sensors(),
        resources=resources | dict(resource_overrides or {}),
        # One Spark session a run: a process (and JVM) a step would take several times as long.
        executor=dg.in_process_executor,
        loggers={"console": terminal_logger},
    )


defs = build_defs()
