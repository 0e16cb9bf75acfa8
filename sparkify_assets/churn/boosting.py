"""Gradient boosting: XGBoost's settings, and where it is trained.

Belongs here: what goes into `xgboost.train`, on this machine or, past a number of rows, on Spark's
workers. Either way the result is the same kind of booster.
Does not belong here: the model around the booster (`models.py`), which rows it learns from, and the
search for better settings (`search.py`).
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    import xgboost
    from pyspark.sql import SparkSession

# Rows from which on to train on Spark's workers. On 100,000 rows it took 5.3 s there, .9 s here, so
# below some hundred thousand rows it cannot pay; the rest is a wide margin.
ROWS_FOR_WORKERS = 5_000_000
_SPARK_LOGGER = "XGBoost-PySpark"
# No scale_pos_weight, so that probabilities stay calibrated.
_ALWAYS: dict[str, Any] = {
    "objective": "binary:logistic",
    "tree_method": "hist",
    "base_score": 0.5,  # log-odds of 0: what trees are added to is given with the rows
    "max_bin": 128,
    "nthread": 1,  # the callers run whole fits side by side instead
}


@dataclass(frozen=True)
class Settings:
    """Hyper-parameters, by XGBoost's names. Shallow and slow, as churned rows are few."""

    rounds: int = 80
    learning_rate: float = 0.05
    max_depth: int = 3
    min_child_weight: float = 3.0
    subsample: float = 0.6
    colsample_bynode: float = 0.3
    reg_lambda: float = 5.0

    def parameters(self, seed: int) -> dict[str, Any]:
        """What `xgboost.train` takes beside the number of rounds."""
        given = asdict(self)
        del given["rounds"]
        return {**_ALWAYS, **given, "seed": seed}


DEFAULTS = Settings()


@dataclass(frozen=True)
class Workers:
    """Spark's workers, for training on `from_rows` rows or more."""

    session: Callable[[], SparkSession]
    from_rows: int = ROWS_FOR_WORKERS

    def take(self, rows: int) -> bool:
        return rows >= self.from_rows


def matrix(x: np.ndarray, label: np.ndarray, start: np.ndarray) -> xgboost.DMatrix:
    """Rows as XGBoost has them. start: the log-odds of each row that trees are added to."""
    import xgboost

    return xgboost.DMatrix(x, label=label, base_margin=start, nthread=1)


def fit(
    x: np.ndarray,
    label: np.ndarray,
    start: np.ndarray,
    settings: Settings,
    *,
    seed: int,
    workers: Workers | None = None,
) -> xgboost.Booster:
    """Trees for what `start` gets wrong.

    x: (rows, features), unknown is NaN. label: true where churned. start: log-odds, one a row.
    workers: where to train a large table.
    """
    if workers is not None and workers.take(len(x)):
        return train_on_workers(workers.session(), x, label, start, settings, seed)
    import xgboost

    return xgboost.train(settings.parameters(seed), matrix(x, label, start), settings.rounds)


def train_on_workers(
    spark: SparkSession,
    x: np.ndarray,
    label: np.ndarray,
    start: np.ndarray,
    settings: Settings,
    seed: int,
) -> xgboost.Booster:
    """Like `xgboost.train`, with the rows spread over all of Spark's task slots."""
    import pyarrow as pa
    from xgboost.spark import SparkXGBClassifier

    logging.getLogger(_SPARK_LOGGER).setLevel(logging.WARNING)
    names = [f"f{number}" for number in range(x.shape[1])]
    columns = {name: x[:, number] for number, name in enumerate(names)}
    rows = pa.table({**columns, "label": label.astype(np.int32), "start": start})
    # nthread is the number of Spark's cores a task, the objective follows from the labels.
    given = settings.parameters(seed)
    given = {k: v for k, v in given.items() if k not in ("nthread", "objective", "seed")}
    estimator = SparkXGBClassifier(
        features_col=names,
        label_col="label",
        base_margin_col="start",
        n_estimators=settings.rounds,
        num_workers=spark.sparkContext.defaultParallelism,
        random_state=seed,
        verbosity=0,
        verbose=False,
        **given,
    )
    booster = estimator.fit(spark.createDataFrame(rows)).get_booster()
    booster.feature_names = None  # as a booster of a matrix
    return booster
