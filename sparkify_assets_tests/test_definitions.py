"""The exact sets of what Dagster sees: a missing module would go unnoticed otherwise."""

from __future__ import annotations

import subprocess
import sys

import dagster as dg
import pytest

from sparkify_assets.checks import usual
from sparkify_assets.definitions import defs
from sparkify_assets.tables import TABLES

GROUPS = {
    "raw_events": "events",
    "rejected_lines": "events",
    "cleaned_events": "events",
    "label_days": "events",
    "user_labels": "users",
    "user_days": "users",
    "user_kinds": "users",
    "feature_table": "users",
    "model_trials": "churn",
    "trained_model": "churn",
    "evaluation_predictions": "churn",
    "evaluation_metrics": "churn",
    "model_registry": "churn",
    "churn_factors": "churn",
    "churn_scores": "churn",
    "score_outcomes": "churn",
    "live_metrics": "churn",
    "churn_report": "churn",
}
UPSTREAM = {
    "raw_events": set(),
    "rejected_lines": set(),
    "cleaned_events": {"raw_events"},
    "label_days": {"raw_events"},
    "user_labels": {"cleaned_events", "label_days"},
    "user_days": {"cleaned_events", "label_days"},
    "user_kinds": {"user_labels", "user_days"},
    "feature_table": {"user_labels", "label_days", "user_days", "user_kinds"},
    "model_trials": {"feature_table"},
    "trained_model": {"feature_table", "model_trials"},
    "evaluation_predictions": {"feature_table", "trained_model"},
    "evaluation_metrics": {"evaluation_predictions"},
    "model_registry": {"feature_table", "trained_model", "evaluation_predictions"},
    "churn_factors": {"feature_table", "model_registry"},
    "churn_scores": {"feature_table", "model_registry", "user_days"},
    "score_outcomes": {"churn_scores", "user_labels", "label_days", "user_days", "feature_table"},
    "live_metrics": {"score_outcomes"},
    "churn_report": {
        "churn_scores",
        "live_metrics",
        "churn_factors",
        "evaluation_metrics",
        "evaluation_predictions",
        "model_registry",
        "user_labels",
        "user_days",
        "rejected_lines",
    },
}


@pytest.fixture(scope="module")
def nodes() -> dict[str, object]:
    graph = defs.resolve_asset_graph()
    return {key.to_user_string(): graph.get(key) for key in graph.get_all_asset_keys()}


def test_assets_and_their_groups(nodes: dict) -> None:
    assert {name: node.group_name for name, node in nodes.items()} == GROUPS


def test_lineage(nodes: dict) -> None:
    found = {
        name: {parent.to_user_string() for parent in nodes[name].parent_keys} for name in UPSTREAM
    }
    assert found == UPSTREAM
    for name in TABLES:
        assert name in upstream(nodes, "churn_report"), name


def upstream(nodes: dict, name: str) -> set[str]:
    """Everything that an asset depends on, however far away."""
    parents = {parent.to_user_string() for parent in nodes[name].parent_keys}
    return parents.union(*(upstream(nodes, parent) for parent in parents))


def test_every_asset_is_partitioned_owned_described_and_of_a_kind(nodes: dict) -> None:
    for name, node in nodes.items():
        assert node.partitions_def.get_partition_keys() == ["mini", "full"], name
        assert node.owners, name
        assert node.description, name
        assert node.kinds, name


def test_tables_show_their_columns(nodes: dict) -> None:
    for name, table in TABLES.items():
        schema = nodes[name].metadata["dagster/column_schema"]
        assert [column.name for column in schema.columns] == table.names
        for shown, column in zip(schema.columns, table.columns, strict=True):
            assert shown.description.startswith(column.description)
    feature = nodes["feature_table"].metadata["dagster/column_schema"].columns
    (gap,) = (column for column in feature if column.name == "gap_days")
    assert gap.description == (
        "mean gap between sessions (days). From user_days: gap_seconds, gaps"
    )


WARNINGS = {
    "model_registry:new_model_went_live",
    "churn_scores:users_are_as_at_training",
    "user_labels:as_many_users_churned_as_usual",
    *(f"{name}:as_many_rows_as_usual" for name in usual.COUNTED),
    *(f"{name}:as_many_nulls_as_usual" for name in usual.SEEN_THROUGH),
    "churn_scores:scores_are_fresh",
}


def test_checks_are_of_a_partition_and_block_or_warn() -> None:
    graph = defs.resolve_asset_graph()
    found = {key.to_user_string() for key in graph.asset_check_keys}
    assert found == {f"{name}:contract" for name in TABLES} | {
        "raw_events:every_line_is_accounted_for",
        "rejected_lines:few_lines_are_rejected",
        "feature_table:no_feature_knows_the_future",
        "model_registry:a_model_is_live",
        *WARNINGS,
    }
    for checks in defs.asset_checks or []:
        for spec in checks.check_specs:
            assert spec.blocking == (spec.key.to_user_string() not in WARNINGS)
            assert spec.partitions_def is not None


def test_resources_and_executor() -> None:
    assert set(defs.resources or {}) == {"pyspark", "lake", "io_manager"}
    assert defs.executor is dg.in_process_executor


@pytest.mark.parametrize(
    ("op", "setting", "value"),
    [
        ("feature_table", "horizon_days", 0),
        ("feature_table", "first_cutoff_day", 0),
        ("ingest", "max_rejected_share", 2),
        ("evaluation_metrics", "resamples", 1),
    ],
)
def test_a_wrong_setting_is_refused(op: str, setting: str, value: float) -> None:
    from pydantic import ValidationError

    from sparkify_assets import datasets

    config = {
        "feature_table": datasets.ForecastConfig,
        "ingest": datasets.SourceConfig,
        "evaluation_metrics": datasets.MetricsConfig,
    }[op]
    with pytest.raises(ValidationError, match=setting):
        config(**{setting: value})


def test_definitions_load_without_the_heavy_libraries() -> None:
    code = (
        "import sys, sparkify_assets.definitions;"
        "print([m for m in ('sklearn', 'xgboost', 'optuna', 'matplotlib', 'ftfy')"
        " if m in sys.modules])"
    )
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert out.stdout.strip() == "[]"
