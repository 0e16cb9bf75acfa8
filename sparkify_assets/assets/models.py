"""From the feature table to a model, what it is worth, and which one scores."""

import json
from dataclasses import asdict
from datetime import date, datetime, timezone
from importlib.metadata import version
from pathlib import Path

import dagster as dg
import pandas as pd
import polars as pl

from sparkify_assets import learnable
from sparkify_assets.assets import pictures
from sparkify_assets.assets.declaring import ANALYTICS, table_asset
from sparkify_assets.churn import (
    cutoffs,
    evaluation,
    factors,
    metrics,
    models,
    registry,
)
from sparkify_assets.churn.boosting import Settings, Workers
from sparkify_assets.churn.features import FEATURE_NAMES
from sparkify_assets.churn.features import described as described_features
from sparkify_assets.churn.search import Budget
from sparkify_assets.datasets import (
    DATASETS,
    EvaluationConfig,
    MetricsConfig,
    SearchConfig,
    TrainingConfig,
)
from sparkify_assets.errors import NotEnoughDataError
from sparkify_assets.resources.io_manager import LakeResource
from sparkify_assets.resources.lake import Version
from sparkify_assets.resources.spark import SparkResource
from sparkify_assets.tables import (
    EVALUATION_PREDICTIONS,
    MODEL_REGISTRY,
    MODEL_TRIALS,
    Rows,
)

_GROUP = "churn"
_LIBRARIES = ("scikit-learn", "xgboost-cpu", "numpy")


@table_asset("model_trials", group=_GROUP, kinds={"xgboost"}, owner=ANALYTICS)
def model_trials(
    context: dg.AssetExecutionContext,
    config: SearchConfig,
    lake: LakeResource,
    feature_table: Version,
) -> Rows:
    learnable.check(lake.lake, context.partition_key, feature_table)
    rows = learnable.rows(lake.lake, context.partition_key, cutoffs.FORECAST)
    how = evaluation.How(seed=config.seed, budget=_budget(context, config))
    found = evaluation.searched(rows, FEATURE_NAMES, how)
    context.add_output_metadata({"settings": dg.MetadataValue.json(asdict(found.settings))})
    table = pl.DataFrame(found.to_rows(), schema=MODEL_TRIALS.polars_schema)
    said = {"feature_table": feature_table.number, "settings": asdict(found.settings)}
    return Rows(table, said)


def _budget(context: dg.AssetExecutionContext, config: SearchConfig | EvaluationConfig) -> Budget:
    """Journals are kept where Dagster keeps a run's files, so that a broken search goes on."""
    journals = Path(context.instance.storage_directory(), "search")
    return Budget(config.search_trials, config.search_seconds, journals)


@table_asset("trained_model", group=_GROUP, kinds={"scikitlearn", "xgboost"}, owner=ANALYTICS)
def trained_model(
    context: dg.AssetExecutionContext,
    config: TrainingConfig,
    lake: LakeResource,
    pyspark: SparkResource,
    model_trials: Version,
    feature_table: Version,
) -> Rows:
    dataset, said = context.partition_key, feature_table.metadata
    learnable.check(lake.lake, dataset, feature_table)
    trained = evaluation.train(
        learnable.rows(lake.lake, dataset, cutoffs.FORECAST),
        FEATURE_NAMES,
        settings=Settings(**model_trials.metadata["settings"]),
        how=evaluation.How(config.folds, config.seed, workers=_workers(config, pyspark)),
    )
    table = trained.to_rows().assign(
        horizon_days=said["horizon_days"],
        log_end=date.fromisoformat(said["log_end"]),
        feature_table_version=feature_table.number,
        libraries=json.dumps({name: version(name) for name in _LIBRARIES}),
    )
    chosen = trained.choice.chosen
    context.add_output_metadata(
        {
            "chosen": chosen,
            "pr_auc_out_of_fold": trained.choice.pr_auc[chosen],
            "churned_users": trained.churned_users,
        }
    )
    return Rows(pl.from_pandas(table), {"feature_table": feature_table.number})


def _workers(config: TrainingConfig, pyspark: SparkResource) -> Workers:
    return Workers(lambda: pyspark.spark_session, config.rows_for_workers)


@table_asset(
    "evaluation_predictions",
    group=_GROUP,
    kinds={"scikitlearn", "xgboost"},
    owner=ANALYTICS,
    deps=["trained_model"],
)
def evaluation_predictions(
    context: dg.AssetExecutionContext,
    config: EvaluationConfig,
    lake: LakeResource,
    pyspark: SparkResource,
    feature_table: Version,
) -> Rows:
    found = []
    left_out: dict[str, str] = {}
    for protocol, horizon in (
        (cutoffs.FORECAST, feature_table.metadata["horizon_days"]),
        (cutoffs.WHOLE_LOG, None),
    ):
        context.log.info(f"testing the models, {protocol}")
        result = evaluation.evaluate(
            learnable.rows(lake.lake, context.partition_key, protocol),
            FEATURE_NAMES,
            protocol,
            horizon_days=horizon,
            repeats=config.repeats or DATASETS[context.partition_key].repeats,
            how=evaluation.How(
                config.folds,
                config.seed,
                workers=_workers(config, pyspark),
                budget=_budget(context, config),
            ),
        )
        found.append(result.predictions)
        left_out |= {f"{protocol}, {name}": why for name, why in result.left_out.items()}
    for what, why in left_out.items():
        context.log.warning(f"left out: {what}: {why}")
    context.add_output_metadata({"left_out": left_out})
    said = {"feature_table": feature_table.number, "left_out": left_out}
    return Rows(pl.from_pandas(pd.concat(found, ignore_index=True)), said)


@table_asset("evaluation_metrics", group=_GROUP, kinds={"numpy"}, owner=ANALYTICS)
def evaluation_metrics(
    context: dg.AssetExecutionContext,
    config: MetricsConfig,
    lake: LakeResource,
    evaluation_predictions: pl.DataFrame,
) -> pl.DataFrame:
    table = pl.from_pandas(
        metrics.evaluation_metrics(
            evaluation_predictions.to_pandas(), resamples=_resamples(config, context.partition_key)
        )
    )
    shown = table.filter(pl.col("metric").is_in(_PLOTTED), model=evaluation.CHOSEN)
    context.add_output_metadata(
        pictures.of_evaluation(evaluation_predictions, lake.lake, context.partition_key)
        | {
            _plotted(*named): round(value, 4)
            for *named, value in shown.select("protocol", "estimate", "metric", "value").rows()
            if value is not None
        }
    )
    return table


def _resamples(config: MetricsConfig, dataset: str) -> int:
    return config.resamples or DATASETS[dataset].resamples


def _plotted(protocol: str, estimate: str, metric: str) -> str:
    """What a figure is called in the UI, where names are all that is seen of it."""
    return f"{protocol}{'_LEAKS' if protocol == cutoffs.WHOLE_LOG else ''}_{estimate}_{metric}"


# What the UI plots over time.
_PLOTTED = ("pr_auc", "roc_auc", "weighted_f1", "f1", "brier_score", "lift_top_10")


@table_asset("model_registry", group=_GROUP, kinds={"numpy"}, owner=ANALYTICS)
def model_registry(
    context: dg.AssetExecutionContext,
    config: MetricsConfig,
    lake: LakeResource,
    trained_model: pl.DataFrame,
    evaluation_predictions: Version,
    feature_table: Version,
) -> Rows:
    dataset, store = context.partition_key, lake.lake
    resamples = _resamples(config, dataset)
    training = store.version(dataset, "trained_model")
    seen = training.metadata["feature_table"], evaluation_predictions.metadata["feature_table"]
    if seen[0] != seen[1]:
        raise NotEnoughDataError(
            f"The model was trained on version {seen[0]} of feature_table, but its worth was "
            f"measured on version {seen[1]}. Materialize trained_model and evaluation_predictions "
            "together."
        )
    number, known = -1, pl.DataFrame(schema=MODEL_REGISTRY.polars_schema)
    if store.exists(dataset, "model_registry"):
        number = store.version(dataset, "model_registry").number
        known = store.read_polars(dataset, MODEL_REGISTRY)
    new = registry.entry(trained_model, training.committed_at, training.number)
    predictions = store.read_polars(
        dataset,
        EVALUATION_PREDICTIONS,
        ["protocol", "estimate", "model", "repeat", "user_id", "as_of", "label", "probability"],
        (pl.col("protocol") == cutoffs.FORECAST) & (pl.col("estimate") == "grouped"),
    )
    present = registry.live(known)
    wanted = {*new["features"], *(present["features"] if present else [])}
    rows = learnable.rows(
        store, dataset, cutoffs.FORECAST, [*learnable.OUTCOME, *sorted(wanted & set(FEATURE_NAMES))]
    )
    table = registry.consider(
        known,
        new,
        registry.worth(predictions, resamples),
        rows,
        datetime.now(timezone.utc),
        resamples,
    )
    live, newest = registry.live(table), table.filter(model_version=new["model_version"])
    context.add_output_metadata(
        {
            "live_version": live["model_version"] if live else "none",
            "newest_version": new["model_version"],
            "decision": newest["decision"][0],
        }
    )
    said = {
        "newest": new["model_version"],
        "trained_model": training.number,
        "evaluation_predictions": evaluation_predictions.number,
        "feature_table": feature_table.number,
    }
    return Rows(table, said, after=number)


@table_asset("churn_factors", group=_GROUP, kinds={"scikitlearn", "xgboost"}, owner=ANALYTICS)
def churn_factors(
    context: dg.AssetExecutionContext,
    config: TrainingConfig,
    lake: LakeResource,
    pyspark: SparkResource,
    model_registry: pl.DataFrame,
    feature_table: Version,
) -> Rows:
    live, model = live_model(model_registry, feature_table)
    rows = learnable.rows(
        lake.lake, context.partition_key, cutoffs.FORECAST, [*learnable.OUTCOME, *model.features]
    )
    found = factors.churn_factors(
        model,
        rows,
        described_features(feature_table.metadata["kinds"]),
        folds=config.folds,
        seed=config.seed,
        workers=_workers(config, pyspark),
    )
    table = pl.from_pandas(found.table)
    agreement = {"feature": found.features, "theme": found.themes}
    context.add_output_metadata(
        {
            f"{what}_order_{name}_rank_correlation": value
            for what, rank_correlation in agreement.items()
            for name, value in rank_correlation._asdict().items()
            if value is not None
        }
        | pictures.of_factors(table, lake.lake, context.partition_key)
    )
    said = {"model_version": live["model_version"], "feature_table": feature_table.number}
    return Rows(table, {**said, "stability": found.stability})


def live_model(known: pl.DataFrame, feature_table: Version) -> tuple[registry.Row, models.Model]:
    """The registry's row of the model that scores users, and the model."""
    return registry.live_model(known, FEATURE_NAMES, feature_table.metadata["horizon_days"])
