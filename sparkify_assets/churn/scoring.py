"""Each user's probability of churn and the three strongest reasons for it.

Belongs here: scoring rows with a fitted model, reasons in words, and the Spark job over all rows.
Does not belong here: training or choosing a model (`evaluation.py`).

A reason is a feature that raises this user's risk and in which the user differs from most: "time
since the last event: 12 days (typical 1.5)". It goes with churn; nothing says that it causes it.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from sparkify_assets.churn.factors import Described, Description, describe, descriptions
from sparkify_assets.churn.models import Model, as_matrix, load

if TYPE_CHECKING:
    from pyspark.sql import DataFrame

REASONS = ("reason_1", "reason_2", "reason_3")
SCORE_COLUMNS = ["user_id", "as_of", "probability", "risk_decile", "level", *REASONS]
LEVEL_FEATURE = "is_paid"


def score_rows(model: Model, frame: Any, features: Iterable[Described]) -> pd.DataFrame:
    """user_id, as_of, probability, level and reason_1 .. reason_3 for each row of a frame.

    `frame` (pandas or Polars) holds user_id, as_of, is_paid and the model's features; the result
    has its rows in its order. A reason is None where fewer features raise the risk.
    """
    if not isinstance(frame, pd.DataFrame):
        frame = frame.to_pandas()
    x = as_matrix(frame, model.features)
    paid = as_matrix(frame, [LEVEL_FEATURE])[:, 0] > 0.5
    described = descriptions(features)
    reasons = row_reasons(
        model, x, [describe(name, described) for name in model.features], len(REASONS)
    )
    return pd.DataFrame(
        {
            "user_id": frame["user_id"].to_numpy(),
            "as_of": frame["as_of"].to_numpy(),
            "probability": model.predict_matrix(x) if len(x) else np.empty(0),
            "level": np.where(paid, "paid", "free"),
            **{name: [row[i] for row in reasons] for i, name in enumerate(REASONS)},
        }
    )


def row_reasons(
    model: Model, x: np.ndarray, described: Sequence[Description], count: int
) -> list[list[str | None]]:
    """`count` reasons a row, strongest first: one of each theme as far as there are themes."""
    if not len(x):
        return []
    contributions = model.contributions_matrix(x)
    # What most users share is no reason, even where the model adds something for it.
    differs = ~np.isclose(x, model.typical, rtol=0.05, atol=1e-9) & ~np.isnan(model.typical)
    contributions = np.where(differs, contributions, 0.0)
    order = np.argsort(-contributions, axis=1, kind="stable")
    result = []
    for values, parts, positions in zip(x, contributions, order, strict=True):
        raising = [i for i in positions if parts[i] > 0]
        picked = _one_a_theme(raising, [d.theme for d in described], count)
        words: list[str | None] = [
            reason(described[i], values[i], model.typical[i]) for i in picked
        ]
        result.append(words + [None] * (count - len(words)))
    return result


def _one_a_theme(ranked: Sequence[int], themes: Sequence[str], count: int) -> list[int]:
    """The first of each theme; then, where themes are too few, the next of any; in rank order."""
    first: dict[str, int] = {}
    for i in ranked:
        first.setdefault(themes[i], i)
    picked = list(first.values())[:count]
    picked += [i for i in ranked if i not in picked][: count - len(picked)]
    return sorted(picked, key=list(ranked).index)


def reason(described: Description, value: float, typical: float) -> str:
    """E.g. "sessions per day, last 7 days: 0.1 (typical 0.6)"."""
    return (
        f"{described.meaning}: {in_words(value, described.unit)} "
        f"(typical {in_words(typical, described.unit)})"
    )


def in_words(value: float, unit: str | None) -> str:
    """A value for people: yes/no, percent, times, or a short number with its unit of time."""
    if np.isnan(value):
        return "unknown"
    if unit == "0 or 1":
        return "yes" if value > 0.5 else "no"
    if unit == "share":
        return f"{value:.0%}"
    if unit == "log ratio":
        return f"{_short(float(np.exp(value)))} times"
    return f"{_short(value)} {unit}" if unit in ("days", "hours", "seconds") else _short(value)


def _short(value: float) -> str:
    """Two digits that matter below ten, whole numbers above."""
    return f"{value:.0f}" if abs(value) >= 10 else f"{float(f'{value:.2g}'):g}"


def score(frame: DataFrame, model: bytes, features: Iterable[Described]) -> DataFrame:
    """Score every row of a Spark frame; SCORE_COLUMNS, `risk_decile` 10 being the highest risk.

    `model` is what `Model.save` gave. Deciles are taken over all rows with the same `as_of`. Lazy:
    nothing is counted or collected here.
    """
    from pyspark.sql import Window
    from pyspark.sql import functions as F

    names = load(model).features
    columns = list(dict.fromkeys(["user_id", "as_of", LEVEL_FEATURE, *names]))
    described: Mapping[str, Description] = descriptions(features)
    broadcast = frame.sparkSession.sparkContext.broadcast(model)

    def score_batches(batches: Iterator[pd.DataFrame]) -> Iterator[pd.DataFrame]:
        fitted = load(broadcast.value)
        for batch in batches:
            yield score_rows(fitted, batch, described.values())

    scored = frame.select(*columns).mapInPandas(
        score_batches,
        "user_id string, as_of date, probability double, level string, "
        + ", ".join(f"{name} string" for name in REASONS),
    )
    riskiest_last = Window.partitionBy("as_of").orderBy("probability", "user_id")
    return scored.withColumn("risk_decile", F.ntile(10).over(riskiest_last)).select(*SCORE_COLUMNS)
