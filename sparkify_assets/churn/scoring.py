"""Each user's probability of churn and the three strongest reasons for it.

Belongs here: scoring rows with a fitted model, risk deciles, and reasons in words.
Does not belong here: training or choosing a model (`evaluation.py`).

A reason is a feature that raises this user's risk and in which the user differs from most: "time
since the last event: 12 days (typical 1.5)". It goes with churn; nothing says that it causes it.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import pandas as pd

from sparkify_assets.churn.factors import Described, Description, describe, descriptions
from sparkify_assets.churn.models import Model, as_matrix

REASONS = ("reason_1", "reason_2", "reason_3")
LEVEL_FEATURE = "is_paid"
NOBODY = np.empty(0)
_TIMES = ("days", "hours", "minutes", "seconds")
_SMALLER = {"days": (24, "hours"), "hours": (60, "minutes")}


def probabilities(model: Model, rows: Any) -> np.ndarray:
    """The probability of each row of a frame, in its order."""
    x = as_matrix(rows, model.features)
    return model.predict_matrix(x) if len(x) else NOBODY


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
            "probability": model.predict_matrix(x) if len(x) else NOBODY,
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
    contributions = model.explain_matrix(x)
    # What most users share is no reason, even where the model adds something for it.
    differs = ~np.isclose(x, model.typical, rtol=0.05, atol=1e-9) & ~np.isnan(model.typical)
    contributions = np.where(differs, contributions, 0.0)
    order = np.argsort(-contributions, axis=1, kind="stable")
    result = []
    typical = [in_words(v, d.unit) for v, d in zip(model.typical, described, strict=True)]

    def tells(i: int, value: float) -> bool:
        """Whether a reader can see the difference: "<0.1% (typical <0.1%)" is no reason."""
        return in_words(value, described[i].unit) != typical[i]

    for values, parts, positions in zip(x, contributions, order, strict=True):
        raising = [i for i in positions if parts[i] > 0 and tells(i, values[i])]
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
    if unit in ("share", "probability"):
        return percent(value)
    if unit == "log ratio":
        return f"{_short(float(np.exp(value)))} times"
    while unit in _SMALLER and 0 < value < 1:
        times, unit = _SMALLER[unit]
        value *= times
    shown = _short(value)
    if unit not in _TIMES:
        return shown
    return f"{shown} {unit.removesuffix('s') if shown == '1' else unit}"


def percent(value: float) -> str:
    """12.3% below a fifth, 34% above; never 0% or 100% for what is not."""
    if 0 < value < 0.001:
        return "<0.1%"
    if 0.995 <= value < 1:
        return ">99%"
    if value == 0 or value >= 0.2:
        return f"{value:.0%}"
    return f"{value:.1%}".replace(".0%", "%")


def _short(value: float) -> str:
    """Two digits that matter below ten, whole numbers above."""
    return f"{value:.0f}" if abs(value) >= 10 else f"{float(f'{value:.2g}'):g}"


def decile_bounds(probabilities: np.ndarray) -> np.ndarray:
    """The nine probabilities that cut all users into tenths; empty when there are none."""
    return np.quantile(probabilities, np.arange(0.1, 0.95, 0.1)) if len(probabilities) else NOBODY


def risk_decile(probabilities: np.ndarray, bounds: np.ndarray) -> np.ndarray:
    """1 to 10, the tenth at most risk; equal probabilities are in the same tenth."""
    return np.searchsorted(bounds, probabilities, side="right") + 1
