"""The forecast of a cutoff: of the present one, and of past ones as they would have been then.

Belongs here: with which model and from which tables a cutoff is scored, and what is kept of those
that were scored before. Does not belong here: how users are scored (`churn/scoring.py`).
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import date, datetime, timedelta, timezone
from typing import TYPE_CHECKING, Any

import dagster as dg
import numpy as np
import polars as pl

from sparkify_assets import learnable
from sparkify_assets.assets import pictures
from sparkify_assets.assets.declaring import ANALYTICS, table_asset
from sparkify_assets.assets.models import live_model
from sparkify_assets.assets.users import learned_kinds, over_features
from sparkify_assets.churn import (
    cutoffs,
    drift,
    evaluation,
    factors,
    kinds,
    models,
    outcomes,
    registry,
    scoring,
)
from sparkify_assets.churn.features import FEATURE_NAMES
from sparkify_assets.churn.features import described as described_features
from sparkify_assets.datasets import ScoresConfig, TrainingConfig
from sparkify_assets.digests import slice_key
from sparkify_assets.errors import NotEnoughDataError, SettingError
from sparkify_assets.resources.io_manager import LakeResource
from sparkify_assets.resources.lake import Lake, Version, as_promised
from sparkify_assets.resources.spark import SparkResource
from sparkify_assets.storage import PartFile, write_part
from sparkify_assets.tables import CHURN_SCORES, RAW_EVENTS, USER_DAYS, USER_LABELS, Rows, Slice

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

_SPAN = ("log_start", "log_end", "last_day")


@dataclass(frozen=True)
class _Forecast:
    """What a cutoff is scored with.

    `over` calls a function in Spark tasks with some users' rows of the cutoff each, and returns
    what it returned.
    """

    as_of: date
    row: registry.Row  # the model's: model, model_version, threshold
    model: models.Model
    kinds: Mapping[str, str]  # of users, in words
    over: Callable[[Callable[[pl.DataFrame], Any]], list[Any]]


@table_asset("churn_scores", group="churn", kinds={"spark", "xgboost"}, owner=ANALYTICS)
def churn_scores(
    context: dg.AssetExecutionContext,
    config: ScoresConfig,
    lake: LakeResource,
    pyspark: SparkResource,
    model_registry: pl.DataFrame,
    feature_table: Version,
    user_days: Version,
) -> Rows:
    """Scores the present, or with `as_of` a past cutoff; what was said at others stays."""
    dataset, store, spark = context.partition_key, lake.lake, pyspark.spark_session
    if config.day:
        return _backfilled(context, config.day, store, spark, model_registry, feature_table)
    number, kept = _kept(store, dataset, feature_table)
    row, model = live_model(model_registry, feature_table)
    forecast = _present(store, spark, dataset, row, model, feature_table)
    _check_is_newest(forecast.as_of, kept)
    profile = drift.Profile.from_json(row["profile"])

    def predict(rows: pl.DataFrame) -> tuple[np.ndarray, drift.Counts]:
        x = models.as_matrix(rows, model.features)
        probability = scoring.probabilities(model, rows)
        values = dict(zip(model.features, x.T, strict=True))
        return probability, profile.count(values | {drift.PROBABILITY: probability})

    found = forecast.over(predict)
    probability = np.concatenate([scoring.NOBODY, *(each for each, _ in found)])
    if not len(probability):
        raise NotEnoughDataError(
            f"Nobody is left to be scored on {forecast.as_of}: every user of the log has cancelled."
        )
    bounds = scoring.decile_bounds(probability)
    drifted = drift.drifts(profile.counts, drift.total([counts for _, counts in found]))
    scored_at = datetime.now(timezone.utc)
    context.add_output_metadata(
        {
            "model": row["model"],
            "model_version": row["model_version"],
            "largest_psi": drifted[0].psi,
        }
        | pictures.of_scores(
            pl.DataFrame(
                {
                    "risk_decile": scoring.risk_decile(probability, bounds),
                    "probability": probability,
                }
            ),
            store,
            dataset,
        )
    )
    said = {
        "as_of": str(forecast.as_of),
        "users": len(probability),
        "scored_at": scored_at.isoformat(),
        "model": row["model"],
        "model_version": row["model_version"],
        "model_registry": store.version(dataset, "model_registry").number,
        "feature_table": feature_table.number,
        "drift": [each._asdict() for each in drifted],
    }
    earlier = {name: each for name, each in kept.items() if name != said["as_of"]}
    moved = store.carried_over(dataset, CHURN_SCORES, earlier)
    how: dict[str, Any] = {"scored_at": scored_at, "backfilled": False}
    simulation = _simulation(store, dataset, feature_table)
    new = {said["as_of"]: _slice(forecast, feature_table, simulation=simulation, **how)}
    parts = _write(store, dataset, forecast, bounds, **how)
    return Rows([*moved, *parts], said, after=number, slices=earlier | new)


def _backfilled(
    context: dg.AssetExecutionContext,
    as_of: date,
    store: Lake,
    spark: "SparkSession",
    model_registry: pl.DataFrame,
    feature_table: Version,
) -> Rows:
    """A past cutoff beside those that are there; what is said of the present stays."""
    dataset = context.partition_key
    log = cutoffs.Span(*(date.fromisoformat(feature_table.metadata[name]) for name in _SPAN))
    number, kept = _kept(store, dataset, feature_table)
    said = store.version(dataset, CHURN_SCORES.name).metadata if kept else {}
    _check_can_backfill(as_of, log, kept, said.get("as_of", ""))
    horizon_days = feature_table.metadata["horizon_days"]
    row, model = _of_then(store, dataset, as_of, model_registry, horizon_days)
    forecast = _past(store, spark, dataset, as_of, row, model, log)
    context.add_output_metadata(
        {
            "backfilled": str(as_of),
            "backfilled_model": row["model"],
            "backfilled_model_version": row["model_version"],
        }
    )
    how: dict[str, Any] = {"scored_at": datetime.now(timezone.utc), "backfilled": True}
    simulation = _simulation(store, dataset, feature_table)
    new = {str(as_of): _slice(forecast, feature_table, simulation=simulation, **how)}
    moved = store.carried_over(dataset, CHURN_SCORES, kept.keys() - new.keys())
    parts = _write(store, dataset, forecast, _bounds(forecast), **how)
    of_run = ("run_id", "source", "simulated")
    present = {name: value for name, value in said.items() if name not in of_run}
    return Rows([*moved, *parts], present, after=number, slices=kept | new)


# What is there


def _kept(store: Lake, dataset: str, feature_table: Version) -> tuple[int, dict[str, Slice]]:
    """The number of the newest scores, and what they hold of this log, by cutoff.

    Of a simulation nothing is kept beside another log's scores; the ingest sees to it that none
    takes the place of a real one.
    """
    number, slices = store.newest(dataset, CHURN_SCORES)
    if number >= 0:  # also of an earlier contract, as nothing can make them again
        slices = store.version(dataset, CHURN_SCORES.name).slices
    simulation = _simulation(store, dataset, feature_table)
    return number, {n: each for n, each in slices.items() if each.said["simulation"] == simulation}


def _simulation(store: Lake, dataset: str, feature_table: Version) -> str | None:
    """Which simulated log it is; None is a real one."""
    if not feature_table.metadata.get("simulated"):
        return None
    return str(store.version(dataset, RAW_EVENTS.name).metadata["log"])


def _check_is_newest(as_of: date, kept: Mapping[str, Slice]) -> None:
    """Raise SettingError where the log ends before what was said of it already."""
    live = [name for name, each in kept.items() if not each.said["backfilled"]]
    if live and max(live) > str(as_of):
        raise SettingError(
            f"The log ends on {as_of}, but its end on {max(live)} was scored already, and what was "
            "said is not taken back. Is the source complete, and the right one? To begin with "
            "another log, remove the table churn_scores of this dataset first."
        )


def _slice(
    forecast: _Forecast, feature_table: Version, *, scored_at: datetime, **how: Any
) -> Slice:
    """how: what is said of the cutoff besides, backfilled and simulation."""
    version = forecast.row["model_version"]
    return Slice(
        slice_key(CHURN_SCORES, version, feature_table.number, scored_at),
        {**how, "horizon_days": feature_table.metadata["horizon_days"]},
    )


def _check_can_backfill(
    as_of: date, log: cutoffs.Span, kept: dict[str, Slice], present: str
) -> None:
    """Raise SettingError where a cutoff is not a past one, or was scored when it was the present.

    kept: the cutoffs that were scored. present: the newest of them.
    """
    if not log.start < as_of < log.end:
        raise SettingError(
            f"{as_of} cannot be scored after the fact: a past cutoff lies between the log's first "
            f"day, {log.start}, and its end, {log.end}. To score the end, leave as_of empty."
        )
    if present not in kept or str(as_of) > present:
        raise SettingError(
            f"{as_of} cannot be scored after the fact before there is a present forecast of a "
            "later day. Run the job `rescore` first."
        )
    if str(as_of) in kept and not kept[str(as_of)].said["backfilled"]:
        raise SettingError(
            f"{as_of} was scored when it was the present. What was said then is not written again."
        )


# Models and rows


def _present(
    store: Lake,
    spark: "SparkSession",
    dataset: str,
    row: registry.Row,
    model: models.Model,
    feature_table: Version,
) -> _Forecast:
    """Of the log's end, whose rows are in the feature table."""
    as_of = date.fromisoformat(feature_table.metadata["log_end"])
    columns = sorted({"protocol", "user_id", "as_of", scoring.LEVEL_FEATURE, *model.features})

    def over(function: Callable[[pl.DataFrame], Any]) -> list[Any]:
        return store.over_parts(
            spark, dataset, "feature_table", function, columns, {cutoffs.slice_of_cutoff(as_of)}
        )

    return _Forecast(as_of, row, model, feature_table.metadata["kinds"], over)


def _past(
    store: Lake,
    spark: "SparkSession",
    dataset: str,
    as_of: date,
    row: registry.Row,
    model: models.Model,
    log: cutoffs.Span,
) -> _Forecast:
    """Of a day whose rows are made again, as they would have been then."""
    users = store.read_polars(dataset, USER_LABELS, ["user_id", "first_event_at", "churned_at"])
    rows = cutoffs.forecast_at(cutoffs.forecast_rows(users, [as_of], log), as_of)

    def over(function: Callable[[pl.DataFrame], Any]) -> list[Any]:
        return over_features(store, spark, dataset, rows, log.start, function)

    known_kinds = [each for each in learned_kinds(store, dataset) if each.as_of <= as_of]
    told_apart = kinds.in_words(known_kinds[-1]) if known_kinds else {}
    return _Forecast(as_of, row, model, told_apart, over)


def _of_then(
    store: Lake, dataset: str, as_of: date, known: pl.DataFrame, horizon_days: int
) -> tuple[registry.Row, models.Model]:
    """The model that scored on a past day, or one that is trained on what was known by then."""
    row: registry.Row | None = registry.of_then(known, as_of, horizon_days)
    if row:
        return row, registry.usable(row, FEATURE_NAMES, horizon_days)
    by_then = learnable.rows(store, dataset, cutoffs.FORECAST).filter(
        pl.col("as_of") <= as_of - timedelta(days=horizon_days)
    )
    usual = TrainingConfig()
    try:
        trained = evaluation.train(
            by_then, FEATURE_NAMES, how=evaluation.How(usual.folds, usual.seed)
        )
    except NotEnoughDataError as error:
        raise NotEnoughDataError(
            f"No model can score {as_of} as it would have been then: none that was live had "
            f"learned from a log that ended by that day, and to train one as of then is too early: "
            f"{error}"
        ) from error
    # In no registry, so that it cannot go live.
    row = registry.entry(pl.from_pandas(trained.to_rows()), datetime.now(timezone.utc), -1)
    return row, trained.model


# Scores


def _bounds(forecast: _Forecast) -> np.ndarray:
    model = forecast.model  # the only part that can travel to tasks
    found = forecast.over(lambda rows: scoring.probabilities(model, rows))
    return scoring.decile_bounds(np.concatenate([scoring.NOBODY, *found]))


def _write(
    store: Lake, dataset: str, forecast: _Forecast, bounds: np.ndarray, **said: Any
) -> list[PartFile]:
    """Write the scores of a cutoff. said: columns that are the same for all of them."""
    folder = f"{store.folder(dataset, CHURN_SCORES.name)}/{forecast.as_of}"
    model, row = forecast.model, forecast.row
    told = factors.descriptions(described_features(forecast.kinds)).values()
    days = store.read_polars(dataset, USER_DAYS, outcomes.DAY_COLUMNS)
    users = days.select(pl.col("user_id").unique(), pl.lit(forecast.as_of).alias("as_of"))
    known = outcomes.events_before(users, days).select("user_id", events_known="events")
    said |= {"model_version": row["model_version"]}

    def write_scores(rows: pl.DataFrame) -> PartFile:
        scores = scoring.score_rows(model, rows, told)
        probability = scores["probability"].to_numpy()
        table = pl.from_pandas(
            scores.assign(
                risk_decile=scoring.risk_decile(probability, bounds),
                flagged=probability >= row["threshold"],
                **said,
            )
        ).join(known, on="user_id", how="left")
        return write_part(folder, as_promised(CHURN_SCORES, table))

    return forecast.over(write_scores)
