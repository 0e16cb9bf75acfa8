"""Gradient boosting: XGBoost's settings, its size, and where it is trained.

Belongs here: what goes into `xgboost.train`, on this machine or, past a number of rows, on Spark's
workers. Either way the result is the same kind of booster.
Does not belong here: the model around the booster (`models.py`) and which rows it learns from.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    import xgboost
    from pyspark.sql import SparkSession

# Churned rows from which on a fit looks for its own size instead of taking the safe default.
ENOUGH_TO_SEARCH = 300
# Rows from which on to train on Spark's workers. On 100,000 rows it took 5.3 s there, .9 s here, so
# below some hundred thousand rows it cannot pay; the rest is a wide margin.
ROWS_FOR_WORKERS = 5_000_000

# Shallow and slow, as churned rows are few; no scale_pos_weight, so that probabilities stay
# calibrated.
SETTINGS: dict[str, Any] = {
    "objective": "binary:logistic",
    "tree_method": "hist",
    "learning_rate": 0.05,
    "max_depth": 3,
    "min_child_weight": 2,
    "subsample": 0.7,
    "colsample_bynode": 0.3,
    "reg_lambda": 5,
    "max_bin": 64,
    "nthread": 1,  # the callers run whole fits side by side instead
}
_ROUNDS = (100, 300)  # one for every two churned rows, within these
# Tried where churned rows are many, up to MOST_ROUNDS, stopping early.
_LARGER: tuple[dict[str, Any], ...] = (
    {"max_depth": 3, "max_bin": 256},
    {"max_depth": 5, "max_bin": 256, "colsample_bynode": 0.6},
)
MOST_ROUNDS = 500
_PATIENCE = 25
_SPARK_LOGGER = "XGBoost-PySpark"
# Rows beyond this teach the search for size and rounds nothing more.
_ROWS_TO_SEARCH = 25_000


@dataclass(frozen=True)
class Workers:
    """Spark's workers, for training on `from_rows` rows or more."""

    session: Callable[[], SparkSession]
    from_rows: int = ROWS_FOR_WORKERS

    def take(self, rows: int) -> bool:
        return rows >= self.from_rows


def fit(
    x: np.ndarray,
    label: np.ndarray,
    *,
    seed: int,
    users: np.ndarray | None = None,
    workers: Workers | None = None,
) -> xgboost.Booster:
    """Few shallow trees; where churned rows are many, as large as held-out users allow.

    x: (rows, features), unknown is NaN. label: true where churned. users: one a row; they keep a
    user's rows together where rows are held out. workers: where to train a large table.
    """
    settings, rounds = {**SETTINGS, "seed": seed}, int(np.clip(label.sum() / 2, *_ROUNDS))
    if label.sum() >= ENOUGH_TO_SEARCH:
        settings, rounds = searched(settings, x, label, users, seed)
    if workers is not None and workers.take(len(x)):
        return train_on_workers(workers.session(), settings, x, label, rounds)
    import xgboost

    return xgboost.train(settings, xgboost.DMatrix(x, label=label, nthread=1), rounds)


def train_on_workers(
    spark: SparkSession, settings: dict[str, Any], x: np.ndarray, label: np.ndarray, rounds: int
) -> xgboost.Booster:
    """Like `xgboost.train`, with the rows spread over all of Spark's task slots."""
    import pyarrow as pa
    from xgboost.spark import SparkXGBClassifier

    logging.getLogger(_SPARK_LOGGER).setLevel(logging.WARNING)
    names = [f"f{number}" for number in range(x.shape[1])]
    columns = {name: x[:, number] for number, name in enumerate(names)}
    rows = pa.table({**columns, "label": label.astype(np.int32)})
    # nthread is the number of Spark's cores a task, the objective follows from the labels.
    given = {k: v for k, v in settings.items() if k not in ("nthread", "objective", "seed")}
    estimator = SparkXGBClassifier(
        features_col=names,
        label_col="label",
        n_estimators=rounds,
        num_workers=spark.sparkContext.defaultParallelism,
        random_state=settings.get("seed", 0),
        verbosity=0,
        verbose=False,
        **given,
    )
    booster = estimator.fit(spark.createDataFrame(rows)).get_booster()
    booster.feature_names = None  # as a booster of a matrix
    return booster


def searched(
    settings: dict[str, Any],
    x: np.ndarray,
    label: np.ndarray,
    users: np.ndarray | None,
    seed: int,
) -> tuple[dict[str, Any], int]:
    """Settings and rounds with the least log loss on a fifth of the (training) users."""
    import xgboost

    number = np.arange(len(x)) if users is None else np.unique(users, return_inverse=True)[1]
    place = np.random.default_rng(seed).permutation(number.max() + 1)[number] / (number.max() + 1)
    share = min(1.0, _ROWS_TO_SEARCH / len(x))
    held_out, learn = place < share / 5, (place >= share / 5) & (place < share)
    test = xgboost.DMatrix(x[held_out], label=label[held_out], nthread=1)
    train = xgboost.DMatrix(x[learn], label=label[learn], nthread=1)
    tried = []
    for larger in _LARGER:
        booster = xgboost.train(
            {**settings, **larger},
            train,
            MOST_ROUNDS,
            evals=[(test, "held_out")],
            early_stopping_rounds=_PATIENCE,
            verbose_eval=False,
        )
        tried.append((booster.best_score, booster.best_iteration + 1, {**settings, **larger}))
    _, rounds, best = min(tried, key=lambda trial: trial[0])
    return best, rounds
