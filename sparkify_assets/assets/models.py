"""From the feature table to a model, what it is worth, what goes with churn, and scores."""

import json
from collections.abc import Sequence
from datetime import date
from importlib.metadata import version

import dagster as dg
import numpy as np
import pandas as pd
import polars as pl
from dagster_pyspark import LazyPySparkResource

from sparkify_assets.assets.declaring import ANALYTICS, SPARK_POOL, described, explained
from sparkify_assets.churn import cutoffs, evaluation, factors, metrics, scoring
from sparkify_assets.churn.boosting import Workers
from sparkify_assets.churn.features import FEATURE_NAMES, FEATURES
from sparkify_assets.datasets import (
    PARTITIONS,
    EvaluationConfig,
    MetricsConfig,
    TrainingConfig,
)
from sparkify_assets.resources.io_manager import LakeResource
from sparkify_assets.resources.lake import Lake, Version, as_promised
from sparkify_assets.storage import PartFile, write_part
from sparkify_assets.tables import CHURN_SCORES, FEATURE_TABLE, Rows

_GROUP = "churn"
_OUTCOME = ("protocol", "user_id", "as_of", "label")
_SPAN = ("log_start", "log_end", "last_day")
_LIBRARIES = ("scikit-learn", "xgboost-cpu", "skops", "numpy")


@dg.asset(
    **described("trained_model", group=_GROUP, kinds={"scikitlearn", "xgboost"}, owner=ANALYTICS),
    partitions_def=PARTITIONS,
    pool=SPARK_POOL,
)
@explained
def trained_model(
    context: dg.AssetExecutionContext,
    config: TrainingConfig,
    lake: LakeResource,
    pyspark: LazyPySparkResource,
    feature_table: Version,
) -> Rows:
    dataset, said = context.partition_key, feature_table.metadata
    evaluation.check_enough(_learnable(lake.lake, dataset, cutoffs.WHOLE_LOG, _OUTCOME).to_pandas())
    cutoffs.check_horizon(
        cutoffs.Span(*(date.fromisoformat(said[name]) for name in _SPAN)),
        said["cutoffs"],
        said["horizon_days"],
    )
    trained = evaluation.train(
        _learnable(lake.lake, dataset, cutoffs.FORECAST),
        FEATURE_NAMES,
        folds=config.folds,
        seed=config.seed,
        workers=_workers(config, pyspark),
    )
    table = trained.to_rows().assign(
        horizon_days=said["horizon_days"],
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


def _learnable(
    lake: Lake, dataset: str, protocol: str, columns: Sequence[str] | None = None
) -> pl.DataFrame:
    """The rows of a protocol to learn from, with the columns that are used of them."""
    columns = columns or evaluation.columns(FEATURE_NAMES, protocol)
    return lake.read_polars(dataset, FEATURE_TABLE, columns, cutoffs.is_learnable(protocol))


def _workers(config: TrainingConfig, pyspark: LazyPySparkResource) -> Workers:
    return Workers(lambda: pyspark.spark_session, config.rows_for_workers)


@dg.asset(
    **described(
        "evaluation_predictions",
        group=_GROUP,
        kinds={"scikitlearn", "xgboost"},
        owner=ANALYTICS,
    ),
    partitions_def=PARTITIONS,
    pool=SPARK_POOL,
    deps=["trained_model"],
)
@explained
def evaluation_predictions(
    context: dg.AssetExecutionContext,
    config: EvaluationConfig,
    lake: LakeResource,
    pyspark: LazyPySparkResource,
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
            _learnable(lake.lake, context.partition_key, protocol),
            FEATURE_NAMES,
            protocol,
            horizon_days=horizon,
            folds=config.folds,
            repeats=config.repeats,
            seed=config.seed,
            workers=_workers(config, pyspark),
        )
        found.append(result.predictions)
        left_out |= {f"{protocol}, {name}": why for name, why in result.left_out.items()}
    for what, why in left_out.items():
        context.log.warning(f"left out: {what}: {why}")
    context.add_output_metadata({"left_out": left_out})
    said = {"feature_table": feature_table.number, "left_out": left_out}
    return Rows(pl.from_pandas(pd.concat(found, ignore_index=True)), said)


@dg.asset(
    **described("evaluation_metrics", group=_GROUP, kinds={"numpy"}, owner=ANALYTICS),
    partitions_def=PARTITIONS,
)
@explained
def evaluation_metrics(
    context: dg.AssetExecutionContext,
    config: MetricsConfig,
    evaluation_predictions: pl.DataFrame,
) -> pl.DataFrame:
    table = metrics.evaluation_metrics(
        evaluation_predictions.to_pandas(), resamples=config.resamples
    )
    shown = table[(table["model"] == evaluation.CHOSEN) & table["metric"].isin(_PLOTTED)]
    context.add_output_metadata(
        {f"{row.protocol}_{row.estimate}_{row.metric}": row.value for row in shown.itertuples()}
    )
    return pl.from_pandas(table)


# What the UI plots over time.
_PLOTTED = ("pr_auc", "roc_auc", "weighted_f1", "f1", "brier_score", "lift_top_10")


@dg.asset(
    **described("churn_factors", group=_GROUP, kinds={"scikitlearn", "xgboost"}, owner=ANALYTICS),
    partitions_def=PARTITIONS,
    pool=SPARK_POOL,
)
@explained
def churn_factors(
    context: dg.AssetExecutionContext,
    config: TrainingConfig,
    lake: LakeResource,
    pyspark: LazyPySparkResource,
    trained_model: pl.DataFrame,
    feature_table: Version,
) -> Rows:
    model = evaluation.chosen_model(trained_model.to_pandas())
    rows = _learnable(
        lake.lake, context.partition_key, cutoffs.FORECAST, [*_OUTCOME, *model.features]
    )
    found = factors.churn_factors(
        model,
        rows,
        FEATURES,
        folds=config.folds,
        seed=config.seed,
        workers=_workers(config, pyspark),
    )
    agreement = {"feature": found.features, "theme": found.themes}
    context.add_output_metadata(
        {
            f"{what}_order_{name}_rank_correlation": value
            for what, rank_correlation in agreement.items()
            for name, value in rank_correlation._asdict().items()
            if value is not None
        }
    )
    return Rows(pl.from_pandas(found.table), {"stability": found.stability})


@dg.asset(
    **described("churn_scores", group=_GROUP, kinds={"spark", "xgboost"}, owner=ANALYTICS),
    partitions_def=PARTITIONS,
    pool=SPARK_POOL,
)
@explained
def churn_scores(
    context: dg.AssetExecutionContext,
    lake: LakeResource,
    pyspark: LazyPySparkResource,
    trained_model: pl.DataFrame,
    feature_table: Version,
) -> Rows:
    dataset, spark = context.partition_key, pyspark.spark_session
    model = evaluation.chosen_model(trained_model.to_pandas())
    as_of = date.fromisoformat(feature_table.metadata["log_end"])
    columns = sorted({"protocol", "user_id", "as_of", scoring.LEVEL_FEATURE, *model.features})
    folder = lake.lake.new_parts(dataset, "churn_scores")

    def predict(rows: pl.DataFrame) -> np.ndarray:
        return model.predict(cutoffs.forecast_at(rows, as_of))

    found = lake.lake.over_parts(spark, dataset, "feature_table", predict, columns)
    bounds = scoring.decile_bounds(np.concatenate(found))

    def write_scores(rows: pl.DataFrame) -> PartFile:
        scores = scoring.score_rows(model, cutoffs.forecast_at(rows, as_of), FEATURES)
        deciles = scoring.risk_decile(scores["probability"].to_numpy(), bounds)
        table = pl.from_pandas(scores.assign(risk_decile=deciles))
        return write_part(folder, as_promised(CHURN_SCORES, table))

    said = {
        "model": trained_model.row(by_predicate=pl.col("chosen"), named=True)["model"],
        "trained_model": lake.lake.version(dataset, "trained_model").number,
        "feature_table": feature_table.number,
    }
    parts = lake.lake.over_parts(spark, dataset, "feature_table", write_scores, columns)
    return Rows(parts, said)
