"""Fitting here against fitting with Spark's MLlib, on the same folds: seconds and PR AUC.

`python -m benchmarks.models [--users 22277 | --log PATH | --lake FOLDER] [--rounds 3]`

Belongs here: one fit after the other of each kind on the forecast rows of a feature table, by
folds of users, and what each predicts for the fold that it did not see. Does not belong here: how
the product chooses among its models (`churn/evaluation.py`).

The product's models are fitted as it fits them, with the default settings of the trees; MLlib's
with MLlib's defaults. MLlib's rows are in Spark's memory, assembled into vectors, before its time
starts. Both use all cores.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from benchmarks.engines import simulated
from benchmarks.engines_ours import DATASET
from benchmarks.engines_spark_json import session
from benchmarks.measuring import report, run
from sparkify_assets.churn import boosting, cutoffs, metrics, models, splits
from sparkify_assets.churn.features import CORE
from sparkify_assets.datasets import DATASETS
from sparkify_assets.resources.lake import Lake
from sparkify_assets.tables import FEATURE_TABLE

if TYPE_CHECKING:
    from pyspark.sql import DataFrame, SparkSession

FOLDS, SEED = 5, 1
REGRESSION = "logistic regression"
BOOSTED = "boosted regression"
ON_WORKERS = f"{BOOSTED}, trees on Spark's workers"
# MLlib's, and which of the product's takes its place.
MLLIB = {
    "MLlib LogisticRegression": REGRESSION,
    "MLlib GBTClassifier": BOOSTED,
}

Fit = Callable[[], tuple[float, np.ndarray]]  # seconds, and probabilities of the tested rows


class Fold:
    """The rows to learn from and those to predict, as matrices and, once asked, in Spark."""

    def __init__(self, frame: pd.DataFrame, test: np.ndarray) -> None:
        self.x = models.as_matrix(frame, CORE)
        self.label = frame["label"].to_numpy(dtype=bool)
        self.test = test

    def in_spark(self, spark: SparkSession) -> tuple[DataFrame, DataFrame]:
        """Rows to learn from and to predict, in Spark's memory."""
        import pyarrow as pa
        from pyspark.ml.feature import VectorAssembler

        columns = dict(zip(CORE, np.nan_to_num(self.x).T, strict=True))
        rows = {"number": np.arange(len(self.x)), "label": self.label.astype(float), **columns}
        assembler = VectorAssembler(inputCols=list(CORE), outputCol="features")
        parts = []
        for mask in (~self.test, self.test):
            table = pa.table({name: values[mask] for name, values in rows.items()})
            part = assembler.transform(spark.createDataFrame(table))
            part = part.select("number", "label", "features")
            part = part.repartition(spark.sparkContext.defaultParallelism).cache()
            part.count()
            parts.append(part)
        return parts[0], parts[1]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--users", type=int, default=DATASETS["full"].users)
    parser.add_argument("--log", type=Path, help="a log of JSON lines instead of a simulated one")
    parser.add_argument("--rounds", type=int, default=3, help="times that each fold is fitted")
    parser.add_argument("--lake", type=Path, help="a lake with the features of full already")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        lake = given.lake or Path(folder, "lake")
        if not given.lake:
            log = given.log or simulated(given.users, Path(folder))
            run([sys.executable, "-m", "benchmarks.engines_ours", str(log.absolute()), folder])
        columns = ["protocol", "user_id", "as_of", "label", *CORE]
        learnable = cutoffs.is_learnable(cutoffs.FORECAST)
        table = Lake(str(lake)).read_polars(DATASET, FEATURE_TABLE, columns, learnable)
    frame = table.sort("user_id", "as_of").to_pandas()
    report_all(frame, measured(frame, session(), given.rounds))


def measured(
    frame: pd.DataFrame, spark: SparkSession, rounds: int
) -> tuple[dict[str, list[float]], dict[str, np.ndarray]]:
    """Seconds of each fit, and out-of-fold probabilities, by the model's name."""
    fold_of = splits.user_folds(frame, FOLDS, SEED)
    seconds: dict[str, list[float]] = defaultdict(list)
    predicted: dict[str, np.ndarray] = defaultdict(lambda: np.empty(len(frame)))
    for number in range(FOLDS):
        fold = Fold(frame, fold_of == number)
        learn, test = fold.in_spark(spark)
        for _ in range(rounds):
            for name, fit in fits(fold, learn, test, spark).items():
                took, probability = fit()
                seconds[name].append(took)
                predicted[name][fold.test] = probability
        learn.unpersist()
        test.unpersist()
    return seconds, predicted


def fits(fold: Fold, learn: DataFrame, test: DataFrame, spark: SparkSession) -> dict[str, Fit]:
    """What fits each model, by its name."""
    from pyspark.ml import classification as ml

    estimators = (ml.LogisticRegression(), ml.GBTClassifier(seed=SEED))
    everywhere = boosting.Workers(lambda: spark, from_rows=1)
    found: dict[str, Fit] = {
        REGRESSION: partial(_ours, models.REGRESSION, fold),
        BOOSTED: partial(_ours, models.BOOSTED, fold),
        ON_WORKERS: partial(_ours, models.BOOSTED, fold, everywhere),
    }
    for name, estimator in zip(MLLIB, estimators, strict=True):
        found[name] = partial(_mllib, estimator, learn, test)
    return found


def _ours(
    name: str, fold: Fold, workers: boosting.Workers | None = None
) -> tuple[float, np.ndarray]:
    learn = ~fold.test
    how = models.Fitting(SEED, workers=workers)
    start = time.perf_counter()
    fitted = models.fit_all([name], fold.x[learn], fold.label[learn], CORE, how)[name]
    return time.perf_counter() - start, fitted.predict_matrix(fold.x[fold.test])


def _mllib(estimator: Any, learn: DataFrame, test: DataFrame) -> tuple[float, np.ndarray]:
    from pyspark.ml.functions import vector_to_array
    from pyspark.sql import functions as F

    start = time.perf_counter()
    fitted = estimator.fit(learn)
    took = time.perf_counter() - start
    scored = fitted.transform(test).select(
        "number", vector_to_array(F.col("probability"))[1].alias("p")
    )
    return took, scored.toPandas().sort_values("number")["p"].to_numpy()


def report_all(
    frame: pd.DataFrame, found: tuple[dict[str, list[float]], dict[str, np.ndarray]]
) -> None:
    seconds, predicted = found
    label = frame["label"].to_numpy(dtype=bool)
    report("models", "rows to learn from in a fold", len(frame) * (1 - 1 / FOLDS), "rows")
    report("models", "prevalence", float(label.mean()), "share")
    for name, took in seconds.items():
        report("models", f"{name}, a fit", statistics.median(took), "s")
        report("models", f"{name}, PR AUC", metrics.pr_auc(label, predicted[name]), "")
    for name, counterpart in MLLIB.items():
        pairs = zip(seconds[name], seconds[counterpart], strict=True)
        ratio = statistics.median(a / b for a, b in pairs)
        report("models", f"{name} against {counterpart} here", ratio, "times")


if __name__ == "__main__":
    main()
