"""Log to feature table with this project: `python -m benchmarks.engines_ours LOG FOLDER`.

Belongs here: running the product's own job up to `feature_table` (`--scores`: and then on to
`churn_scores`), with its checks, in a fresh lake. Does not belong here: any computation of its own.

With `--bare` the same assets' functions are called one after the other and their tables are
committed, without a Dagster run, its events and its checks.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

DATASET = "full"
TOGETHER = ("raw_events", "rejected_lines")  # made by one function
CLEANED = ("cleaned_events", "label_days")
ASSETS = (*TOGETHER, *CLEANED, "user_labels", "user_days", "user_kinds", "feature_table")
SCORES = ("trained_model", "evaluation_predictions", "model_registry", "churn_scores")
FEATURES_DONE = "features-done"  # a file that is made when the features are there, and checked


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("log", type=Path)
    parser.add_argument("folder", type=Path)
    how = parser.add_mutually_exclusive_group()
    how.add_argument("--bare", action="store_true")
    how.add_argument("--scores", action="store_true")
    given = parser.parse_args()
    home = given.folder / "dagster"
    home.mkdir()
    (home / "dagster.yaml").write_text("telemetry:\n  enabled: false\n")
    os.environ |= {
        "SPARKIFY_FULL_SOURCE": str(given.log),
        "SPARKIFY_LAKE": str(given.folder / "lake"),
        "DAGSTER_HOME": str(home),
    }
    if given.bare:
        return run_bare()
    failed = run(ASSETS)
    (given.folder / FEATURES_DONE).touch()
    return failed or (run(SCORES) if given.scores else 0)


def run(assets: Sequence[str]) -> int:
    """As the UI or `python -m sparkify_assets` would; 0 when all of it succeeded."""
    import dagster as dg

    from sparkify_assets.definitions import build_defs

    job = build_defs().resolve_job_def("everything")
    result = job.execute_in_process(
        instance=dg.DagsterInstance.get(),
        partition_key=DATASET,
        asset_selection=[dg.AssetKey(name) for name in assets],
        raise_on_error=False,
    )
    return 0 if result.success else 1


def run_bare() -> int:
    """The same tables; raises what goes wrong."""
    import dagster as dg
    import polars as pl

    from sparkify_assets.assets import events, users
    from sparkify_assets.datasets import ForecastConfig, SourceConfig
    from sparkify_assets.resources.io_manager import LakeResource
    from sparkify_assets.resources.lake import Lake, Version, default_root
    from sparkify_assets.resources.spark import SparkResource
    from sparkify_assets.tables import TABLES

    lake = Lake(default_root())
    shared = {"lake": LakeResource(root=lake.root), "pyspark": SparkResource()}

    def commit(**made: Any) -> list[Version]:
        return [
            lake.write_polars(DATASET, TABLES[name], rows.of)
            if isinstance(rows.of, pl.DataFrame)
            else lake.commit(DATASET, TABLES[name], rows.of, slices=rows.slices)
            for name, rows in made.items()
        ]

    def context() -> dg.AssetExecutionContext:
        return dg.build_asset_context(partition_key=DATASET)

    read: Any = events.ingest(context(), SourceConfig(), **shared)
    raw_events, _ = commit(raw_events=read[0], rejected_lines=read[1])
    cleaned: Any = events.clean_events(context(), raw_events=raw_events, **shared)
    cleaned_events, label_days = commit(cleaned_events=cleaned[0], label_days=cleaned[1])
    summed: Any = users.users_and_days(
        context(),
        cleaned_events=cleaned_events,
        label_days=lake.read_polars(DATASET, TABLES["label_days"]),
        **shared,
    )
    _, user_days = commit(user_labels=summed[0], user_days=summed[1])
    made = {"user_labels": lake.read_polars(DATASET, TABLES["user_labels"]), "user_days": user_days}
    (user_kinds,) = commit(user_kinds=users.user_kinds(context(), **made, **shared))
    known = users.feature_table(
        context(),
        ForecastConfig(),
        label_days=label_days,
        user_kinds=user_kinds,
        **made,
        **shared,
    )
    commit(feature_table=known)
    return 0


if __name__ == "__main__":
    sys.exit(main())
