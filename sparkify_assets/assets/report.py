"""The page that people look at instead of the tables."""

from datetime import date, datetime, timezone
from importlib.metadata import version
from pathlib import Path

import dagster as dg
import polars as pl

from sparkify_assets.assets.declaring import ANALYTICS, explained
from sparkify_assets.churn.cutoffs import FORECAST
from sparkify_assets.datasets import PARTITIONS
from sparkify_assets.report import figures, findings
from sparkify_assets.report.data import REGISTRY_COLUMNS, ReportData
from sparkify_assets.report.page import render
from sparkify_assets.resources.io_manager import LakeResource
from sparkify_assets.resources.lake import Lake
from sparkify_assets.storage import read_part
from sparkify_assets.tables import MODEL_REGISTRY, REJECTED_LINES, TABLES, USER_DAYS, USER_LABELS

_FILE = "churn_report/churn_report.html"
_LOADED = ("churn_scores", "churn_factors", "evaluation_metrics", "evaluation_predictions")


@dg.asset(
    key="churn_report",
    description=(
        "One HTML page for people who would rather look than read: who is expected to leave, why, "
        "how sure that is, and what it was made from. Works offline, on a phone and in print."
    ),
    group_name="churn",
    kinds={"html"},
    owners=[ANALYTICS],
    partitions_def=PARTITIONS,
    deps=[name for name in TABLES if name not in _LOADED],
)
@explained
def churn_report(
    context: dg.AssetExecutionContext,
    lake: LakeResource,
    churn_scores: pl.DataFrame,
    churn_factors: pl.DataFrame,
    evaluation_metrics: pl.DataFrame,
    evaluation_predictions: pl.DataFrame,
) -> dg.MaterializeResult:
    dataset, store = context.partition_key, lake.lake
    report = ReportData(
        dataset=dataset,
        scores=churn_scores,
        factors=churn_factors,
        metrics=evaluation_metrics,
        predictions=evaluation_predictions,
        registry=store.read_polars(dataset, MODEL_REGISTRY, REGISTRY_COLUMNS),
        churned=store.read_polars(dataset, USER_LABELS, ["churned"])["churned"],
        habits=habits(store, dataset),
        rejections=store.read_polars(dataset, REJECTED_LINES, ["reason"])["reason"],
        versions={name: store.version(dataset, name) for name in TABLES},
        made_at=datetime.now(timezone.utc),
        code_version=version("sparkify-assets"),
        run_id=context.run_id,
    )
    page = render(report).encode()
    path = store.write_file(dataset, _FILE, page)
    link = Path(path).as_uri() if store.is_local else path
    leavers = figures.expected_leavers(
        churn_scores["probability"], report.live.get("churned_users", 0)
    )
    measured = {
        metric: figures.measured(evaluation_metrics, FORECAST, "grouped", metric)
        for metric in ("pr_auc", "roc_auc", "lift_top_10")
    }
    return dg.MaterializeResult(
        metadata={
            "report": dg.MetadataValue.url(link),
            "path": dg.MetadataValue.path(path),
            "size_kb": round(len(page) / 1e3, 1),
            "simulated": bool(report.log.get("simulated")),
            "users": churn_scores.height,
            "model_version": report.live.get("model_version", "unknown"),
            "expected_leavers": round(leavers.value, 1),
            **{name: found.value for name, found in measured.items() if found},
        }
    )


def habits(store: Lake, dataset: str) -> pl.DataFrame:
    """What each user did, read a part file at a time, so that all days need not fit in memory."""
    labels = store.read_polars(dataset, USER_LABELS, findings.LABEL_COLUMNS)
    last_day = date.fromisoformat(store.version(dataset, "feature_table").metadata["last_day"])
    nothing = pl.DataFrame(schema=USER_DAYS.polars_schema).select(findings.DAY_COLUMNS)
    days = (read_part(file, findings.DAY_COLUMNS) for file in store.files(dataset, USER_DAYS.name))
    return pl.concat(findings.habits(part, labels, last_day) for part in (nothing, *days))
