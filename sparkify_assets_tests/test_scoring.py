"""Probabilities, deciles and reasons in words."""

from __future__ import annotations

from datetime import date

import numpy as np
import pandas as pd
import pytest

from sparkify_assets.churn.factors import Description
from sparkify_assets.churn.models import Linear, Model
from sparkify_assets.churn.scoring import (
    decile_bounds,
    in_words,
    reason,
    risk_decile,
    row_reasons,
    score_rows,
)
from sparkify_assets.errors import SparkifyError

FEATURES = ["sessions_7d", "sessions_14d", "adverts", "is_paid", "gap"]
DESCRIBED = [
    Description("sessions_7d", "activity", "sessions per day, last 7 days", "sessions/day"),
    Description("sessions_14d", "activity", "sessions per day, last 14 days", "sessions/day"),
    Description("adverts", "pages", "adverts per 100 songs", "per 100 songs"),
    Description("is_paid", "level", "on the paid level", "0 or 1"),
    Description("gap", "sessions", "mean gap between sessions", "days"),
]


def linear(weight: list[float], typical: list[float]) -> Linear:
    """A model whose contributions are asinh(value - 0) * weight: easily worked out by hand."""
    zeros, ones = np.zeros(5), np.ones(5)
    return Linear(
        "logistic_regression",
        tuple(FEATURES),
        np.array(typical),
        spread=ones,
        mean=zeros,
        deviation=ones,
        unknown_share=zeros,
        weight=np.array(weight),
        unknown_weight=ones / 10,
        intercept=-1.0,
    )


def rows(values: list[list[float]]) -> pd.DataFrame:
    frame = pd.DataFrame(values, columns=FEATURES)
    frame.insert(0, "as_of", date(2018, 12, 1))
    frame.insert(0, "user_id", [f"u{i}" for i in range(len(frame))])
    return frame


def reasons(model: Model, values: list[float]) -> list[str | None]:
    return row_reasons(model, np.array([values]), DESCRIBED, 3)[0]


def test_reasons_are_of_different_themes_strongest_first() -> None:
    model = linear([4, 3, 2, -1, 1], [0.5, 0.5, 0.5, 1, 0.5])
    assert reasons(model, [2.0, 2.0, 2.0, 0.0, 3.0]) == [
        "sessions per day, last 7 days: 2 (typical 0.5)",
        "adverts per 100 songs: 2 (typical 0.5)",
        "mean gap between sessions: 3 days (typical 12 hours)",
    ]


def test_where_themes_are_too_few_a_theme_may_come_twice() -> None:
    model = linear([4, 3, 2, 0, 0], [0.5] * 5)
    found = reasons(model, [2.0, 2.0, 2.0, 0.0, 3.0])
    assert [r.split(":")[0] for r in found if r] == [
        "sessions per day, last 7 days",
        "sessions per day, last 14 days",
        "adverts per 100 songs",
    ]


def test_what_lowers_the_risk_or_is_typical_is_no_reason() -> None:
    model = linear([-4, 3, 2, 0, 0], [0.5, 2.0, 0.5, 1, 0.5])
    assert reasons(model, [2.0, 2.0, 2.0, 0.0, 3.0]) == [
        "adverts per 100 songs: 2 (typical 0.5)",
        None,
        None,
    ]


def test_what_reads_the_same_as_the_typical_value_is_no_reason() -> None:
    chance = [Description("adverts", "pages", "chance", "probability"), *DESCRIBED[1:]]
    model = linear([1, 0, 0, 0, 0], [1e-4, 0.5, 0.5, 0.5, 0.5])
    assert row_reasons(model, np.array([[9e-4, 0.5, 0.5, 0.5, 0.5]]), chance, 1) == [[None]]
    said = row_reasons(model, np.array([[2e-3, 0.5, 0.5, 0.5, 0.5]]), chance, 1)
    assert said == [["chance: 0.2% (typical <0.1%)"]]


def test_an_unknown_value_can_be_a_reason() -> None:
    model = linear([0, 0, 0, 0, 0], [0.5] * 5)
    assert reasons(model, [0.5, 0.5, 0.5, 0.5, np.nan])[0] == (
        "mean gap between sessions: unknown (typical 12 hours)"
    )


@pytest.mark.parametrize(
    ("value", "unit", "words"),
    [
        (0.0, "0 or 1", "no"),
        (1.0, "0 or 1", "yes"),
        (0.123, "share", "12.3%"),
        (0.0016, "probability", "0.2%"),
        (1.8e-39, "probability", "<0.1%"),
        (-0.6931, "log ratio", "0.5 times"),
        (12.34, "days", "12 days"),
        (0.081, "days", "1.9 hours"),
        (0.0024, "days", "3.5 minutes"),
        (1.01, "days", "1 day"),
        (1.26, "hours", "1.3 hours"),
        (0.0123, "per 100 songs", "0.012"),
        (123456.0, None, "123456"),
        (0.0, None, "0"),
        (float("nan"), "days", "unknown"),
    ],
)
def test_values_in_words(value: float, unit: str | None, words: str) -> None:
    assert in_words(value, unit) == words


def test_a_reason_as_a_person_reads_it() -> None:
    assert reason(DESCRIBED[0], 0.1, 0.6) == "sessions per day, last 7 days: 0.1 (typical 0.6)"


def test_rows_keep_their_order_and_level_comes_from_is_paid() -> None:
    model = linear([0, 0, 1, 0, 0], [0.5] * 5)
    found = score_rows(model, rows([[0, 0, 3, 1, 0], [0, 0, 0, 0, 0]]), DESCRIBED)
    assert found["user_id"].tolist() == ["u0", "u1"]
    assert found["level"].tolist() == ["paid", "free"]
    assert found["probability"].tolist() == pytest.approx(
        [1 / (1 + np.exp(1 - np.arcsinh(3))), 1 / (1 + np.e)]
    )


def test_no_rows_give_no_scores() -> None:
    assert score_rows(linear([0] * 5, [0.0] * 5), rows([]), DESCRIBED).empty


def test_a_missing_feature_is_named() -> None:
    with pytest.raises(SparkifyError, match="lacks 1 of the model's 5 features: gap"):
        score_rows(linear([0] * 5, [0.0] * 5), rows([]).drop(columns="gap"), DESCRIBED)


def test_deciles_are_tenths_the_highest_risk_in_the_last() -> None:
    probabilities = np.random.default_rng(0).random(100)
    deciles = risk_decile(probabilities, decile_bounds(probabilities))
    assert np.bincount(deciles)[1:].tolist() == [10] * 10
    assert (deciles[np.argsort(probabilities)[-10:]] == 10).all()


def test_equal_probabilities_are_in_the_same_decile() -> None:
    probabilities = np.array([0.1, 0.1, 0.1, 0.2])
    assert len(set(risk_decile(probabilities, decile_bounds(probabilities))[:3])) == 1
    assert len(risk_decile(np.empty(0), decile_bounds(np.empty(0)))) == 0
