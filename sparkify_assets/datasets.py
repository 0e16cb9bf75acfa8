"""The datasets, mini and full: where each one's log is, and the settings that go with its size.

Belongs here: partition keys, each dataset's defaults, and the run configuration made from them.
Does not belong here: what the settings do; that is said where they are used.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date
from typing import Any

import dagster as dg
from pydantic import BaseModel, Field, ValidationError, field_validator

from sparkify_assets.churn.boosting import ROWS_FOR_WORKERS
from sparkify_assets.churn.cutoffs import FIRST_DAY
from sparkify_assets.churn.search import Budget
from sparkify_assets.errors import SettingError
from sparkify_assets.resources.spark import DRIVER_MEMORY, MASTER, SparkResource, spark_settings
from sparkify_assets.simulation import MINI_SEED
from sparkify_assets.storage import printable

FOLDS = 5


@dataclass(frozen=True)
class Dataset:
    """A dataset's name, source and defaults.

    When the source variable is not set, a log of `users` users and `days` days is simulated.
    """

    name: str
    source_variable: str
    users: int
    days: int
    seed: int
    repeats: int
    resamples: int
    fresh_hours: int
    """Scores that are older are called stale."""

    @property
    def source(self) -> str | None:
        """What the source variable says; None means simulated."""
        return os.environ.get(self.source_variable) or None


DATASETS = {
    dataset.name: dataset
    for dataset in (
        Dataset(
            "mini",
            source_variable="SPARKIFY_MINI_SOURCE",
            users=225,
            days=61,
            # A draw with about as many events and churned users as the real file has.
            seed=MINI_SEED,
            repeats=5,
            resamples=1000,
            fresh_hours=7 * 24,
        ),
        Dataset(
            "full",
            source_variable="SPARKIFY_FULL_SOURCE",
            users=22_277,
            days=61,
            seed=1,
            repeats=1,
            resamples=200,
            # Scored every day, and some hours for the run to end in.
            fresh_hours=30,
        ),
    )
}

PARTITIONS = dg.StaticPartitionsDefinition(list(DATASETS))


def dataset(name: str) -> Dataset:
    """The dataset of that name. Raises SettingError for any other."""
    if name not in DATASETS:
        raise SettingError(f"There is no dataset {name!r}. There are: {', '.join(DATASETS)}.")
    return DATASETS[name]


def _by_dataset(setting: str) -> str:
    values = (f"{getattr(one, setting):,} on {one.name}" for one in DATASETS.values())
    return f"Empty: as suits the dataset ({', '.join(values)})."


class SourceConfig(dg.Config):
    """Where the event log is."""

    source: str | None = Field(
        default=None,
        description=(
            "Path, folder, glob or URL of JSON lines (.gz, .bz2, .zst as well). Empty: what the "
            "dataset's environment variable says, and when that is not set, a simulated log."
        ),
    )
    max_rejected_share: float = Field(
        default=0.01,
        ge=0,
        le=1,
        description="More rejected lines than this share of all fail the run.",
    )


class ForecastConfig(dg.Config):
    """What is forecast, and from when."""

    horizon_days: int = Field(default=10, ge=1, le=365, description="How far ahead, in days.")
    cutoff_every_days: int = Field(default=7, ge=1, le=365, description="Days between cutoffs.")
    first_cutoff_day: int = Field(
        default=FIRST_DAY, ge=1, le=3650, description="Days of history before the first cutoff."
    )


_TRIALS = Field(
    default=Budget.trials, ge=0, le=200, description="Settings tried; 0 takes the defaults."
)
_SECONDS = Field(
    default=Budget.seconds,
    gt=0,
    le=86_400,
    description="No further trial of a search begins after this many seconds.",
)


class SearchConfig(dg.Config):
    """How hyper-parameters are searched."""

    seed: int = Field(default=1, ge=0, description="Seed of the search.")
    search_trials: int = _TRIALS
    search_seconds: float = _SECONDS


class TrainingConfig(dg.Config):
    """How models are fitted and chosen."""

    folds: int = Field(default=FOLDS, ge=2, le=20, description="Folds by user.")
    seed: int = Field(default=1, ge=0, description="Seed of folds and models.")
    rows_for_workers: int = Field(
        default=ROWS_FOR_WORKERS,
        ge=1,
        description="From this many rows on, XGBoost is trained on Spark's workers.",
    )


class EvaluationConfig(TrainingConfig):
    """How models are tested."""

    repeats: int | None = Field(
        default=None,
        ge=1,
        le=20,
        description="Times that the folds are redrawn. " + _by_dataset("repeats"),
    )
    search_trials: int = _TRIALS
    search_seconds: float = _SECONDS


class MetricsConfig(dg.Config):
    """How sure the figures are."""

    resamples: int | None = Field(
        default=None,
        ge=100,
        le=10_000,
        description="Bootstrap resamples of the users. " + _by_dataset("resamples"),
    )


class ScoresConfig(dg.Config):
    """Which cutoff is scored."""

    as_of: str | None = Field(
        default=None,
        description=(
            "A past day to score as it would have been then, as 2018-11-12. Empty: the log's end, "
            "which is the present."
        ),
    )

    @field_validator("as_of")
    @classmethod
    def _is_a_date(cls, value: str | None) -> str | None:
        return value and date.fromisoformat(value).isoformat()

    @property
    def day(self) -> date | None:
        return date.fromisoformat(self.as_of) if self.as_of else None


# The settings of each step, by the name of its op.
SETTINGS: dict[str, type[dg.Config]] = {
    "ingest": SourceConfig,
    "feature_table": ForecastConfig,
    "model_trials": SearchConfig,
    "trained_model": TrainingConfig,
    "evaluation_predictions": EvaluationConfig,
    "evaluation_metrics": MetricsConfig,
    "model_registry": MetricsConfig,
    "churn_factors": TrainingConfig,
    "churn_scores": ScoresConfig,
}


def check_settings(run_config: Mapping[str, Any]) -> None:
    """Raise SettingError where a run's configuration holds a value that is not allowed.

    Dagster looks at types before a run, at ranges not before the step that has the setting.
    """
    ops = run_config.get("ops") or {}
    spark = (run_config.get("resources") or {}).get("pyspark") or {}
    wrong = [
        *_wrong("pyspark", SparkResource, spark),
        *(words for op, config in SETTINGS.items() for words in _wrong(op, config, ops.get(op))),
    ]
    if wrong:
        raise SettingError(
            f"The run's configuration cannot be used: {'; '.join(wrong)}. Nothing was run."
        )


def _wrong(name: str, config: type[BaseModel], given: Mapping[str, Any] | None) -> list[str]:
    """What is not allowed of a step's or resource's configuration, in words."""
    values = (given or {}).get("config") or {}
    # What Dagster takes from the environment is not known before.
    values = {key: value for key, value in values.items() if not _is_from_environment(value)}
    try:
        config(**values)
    except ValidationError as error:
        return [
            f"{name}.{each['loc'][0]} is {each['input']!r}, but {_allowed(config, each['loc'][0])}"
            for each in error.errors()
        ]
    return []


def _is_from_environment(value: Any) -> bool:
    return isinstance(value, Mapping) and list(value) == ["env"]


def _allowed(config: type[BaseModel], name: Any) -> str:
    field = config.model_fields[name]
    bounds = {
        words: getattr(limit, kind)
        for limit in field.metadata
        for kind, words in (("ge", "at least"), ("gt", "more than"), ("le", "at most"))
        if getattr(limit, kind, None) is not None
    }
    limits = " and ".join(f"{words} {limit:,}" for words, limit in bounds.items())
    return f"must be {limits or 'as described'} ({field.description})"


def _shown_source(chosen: Dataset) -> str | None:
    """The source, if it holds no secret: Dagster keeps and shows run configurations."""
    source = chosen.source
    return source if source is None or printable(source) == source else None


@dg.static_partitioned_config(partition_keys=list(DATASETS))
def dataset_config(partition_key: str) -> dict[str, Any]:
    """A dataset's run configuration: every setting filled in, to be changed in the launchpad."""
    chosen = dataset(partition_key)
    own = {
        "source": _shown_source(chosen),
        "repeats": chosen.repeats,
        "resamples": chosen.resamples,
    }
    ops = {
        op: {"config": config().model_dump() | {k: own[k] for k in own if k in config.model_fields}}
        for op, config in SETTINGS.items()
    }
    spark = spark_settings()  # without what the user's own file sets, which is left to it
    of_spark = {"master": spark.get(MASTER), "driver_memory": spark.get(DRIVER_MEMORY)}
    return {
        "ops": ops,
        "resources": {"pyspark": {"config": of_spark | {"spark_config": {}}}},
        "loggers": {"console": {}},
    }
