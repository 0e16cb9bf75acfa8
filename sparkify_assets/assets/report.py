"""The page that people look at instead of the tables."""

import os
from datetime import date, datetime, timezone
from importlib.metadata import version
from pathlib import Path

import dagster as dg
import polars as pl

from sparkify_assets.assets.declaring import ANALYTICS, file_asset
from sparkify_assets.churn.cutoffs import FORECAST
from sparkify_assets.errors import LakeError
from sparkify_assets.report import figures, findings
from sparkify_assets.report.data import REGISTRY_COLUMNS, ReportData
from sparkify_assets.report.page import render
from sparkify_assets.resources.io_manager import LakeResource
from sparkify_assets.resources.lake import Lake, Version
from sparkify_assets.tables import (
    CHURN_SCORES,
    MODEL_REGISTRY,
    REJECTED_LINES,
    TABLES,
    USER_DAYS,
    USER_LABELS,
)

FILE = "churn_report/churn_report.html"
REPORTS_VARIABLE = "SPARKIFY_REPORTS_URL"
# Read beside the inputs. Of the others only versions are told; these are upstream anyway.
_READ = ("user_labels", "user_days", "rejected_lines", "model_registry")


@file_asset(
    "churn_report",
    description=(
        "One HTML page for people who would rather look than read: who is expected to leave, why, "
        "how sure that is, and what it was made from. Works offline, on a phone and in print."
    ),
    group="churn",
    kinds={"html"},
    owner=ANALYTICS,
    deps=[*_READ],
)
def churn_report(
    context: dg.AssetExecutionContext,
    lake: LakeResource,
    churn_scores: Version,
    churn_factors: pl.DataFrame,
    evaluation_metrics: pl.DataFrame,
    evaluation_predictions: pl.DataFrame,
    live_metrics: pl.DataFrame,
) -> dg.MaterializeResult:
    dataset, store = context.partition_key, lake.lake
    scores = present_scores(store, dataset, churn_scores)
    report = ReportData(
        dataset=dataset,
        scores=scores,
        factors=churn_factors,
        metrics=evaluation_metrics,
        predictions=evaluation_predictions,
        registry=store.read_polars(dataset, MODEL_REGISTRY, REGISTRY_COLUMNS),
        live_metrics=live_metrics,
        churned=store.read_polars(dataset, USER_LABELS, ["churned"])["churned"],
        habits=habits(store, dataset),
        rejections=store.read_polars(dataset, REJECTED_LINES, ["reason"])["reason"],
        versions={name: store.version(dataset, name) for name in TABLES},
        made_at=datetime.now(timezone.utc),
        code_version=version("sparkify-assets"),
        run_id=context.run_id,
    )
    page = render(report).encode()
    path = store.write_file(dataset, FILE, page)
    leavers = figures.expected_leavers(scores["probability"], report.live.get("churned_users", 0))
    measured = {
        metric: figures.measured(evaluation_metrics, FORECAST, "grouped", metric)
        for metric in ("pr_auc", "roc_auc", "lift_top_10")
    }
    return dg.MaterializeResult(
        metadata={
            "report": dg.MetadataValue.url(_link(dataset, path)),
            "path": dg.MetadataValue.path(path),
            "size_kb": round(len(page) / 1e3, 1),
            "source": "; ".join(report.sources),
            "simulated": report.simulated,
            "code_version": report.code_version,
            "users": scores.height,
            "model_version": report.live.get("model_version", "unknown"),
            "expected_leavers": round(leavers.value, 1),
            **{name: round(found.value, 4) for name, found in measured.items() if found},
        }
    )


def _link(dataset: str, path: str) -> str:
    """Where the report can be opened: where reports are served, or else its file."""
    if served := os.environ.get(REPORTS_VARIABLE):
        return f"{served.rstrip('/')}/{dataset}"
    return path if "://" in path else Path(path).as_uri()


def present_scores(store: Lake, dataset: str, churn_scores: Version) -> pl.DataFrame:
    """The rows of `churn_scores` that are the present forecast: those of the newest cutoff."""
    as_of = churn_scores.metadata.get("as_of")
    if as_of is None:
        raise LakeError(
            f"The scores of {dataset} were written by an earlier version of this project. "
            "Materialize churn_scores again."
        )
    return store.read_polars(dataset, CHURN_SCORES, slices={as_of})


def habits(store: Lake, dataset: str) -> pl.DataFrame:
    """What each user did."""
    labels = store.read_polars(dataset, USER_LABELS, findings.LABEL_COLUMNS)
    last_day = date.fromisoformat(store.version(dataset, "feature_table").metadata["last_day"])
    days = store.read_polars(dataset, USER_DAYS, findings.DAY_COLUMNS)
    return findings.habits(days, labels, last_day)
