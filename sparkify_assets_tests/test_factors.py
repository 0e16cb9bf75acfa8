"""What goes with churn: order, themes, stability and distributions, where the truth is known."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from datetime import date
from functools import cache

import numpy as np
import pandas as pd
import pytest

from sparkify_assets.churn import models, splits
from sparkify_assets.churn.factors import (
    FACTOR_COLUMNS,
    Agreement,
    Description,
    Factors,
    churn_factors,
)
from sparkify_assets.churn.models import BOOSTED, CANDIDATES, fit
from sparkify_assets.churn.scoring import score_rows
from sparkify_assets.errors import SparkifyError

FEATURES = ["strong", "weak", "against", "noise", "constant"]
DESCRIBED = [
    Description("strong", "activity", "adverts per 100 songs", "per 100 songs"),
    Description("against", "activity", "sessions per day", "sessions/day"),
]


def rows(count: int = 1500) -> pd.DataFrame:
    draw = np.random.default_rng(0)
    x = {name: draw.normal(size=count) for name in FEATURES[:4]}
    odds = -1 + 2 * x["strong"] + 0.5 * x["weak"] - 1.2 * x["against"]
    return pd.DataFrame(
        {
            "user_id": [f"u{i:04d}" for i in range(count)],
            "as_of": date(2018, 11, 1),
            **x,
            "constant": 1.0,
            "label": pd.array(draw.random(count) < 1 / (1 + np.exp(-odds)), dtype="boolean"),
        }
    )


def found_in(
    frame: pd.DataFrame, name: str = "logistic_regression", described: Sequence = DESCRIBED
) -> Factors:
    return churn_factors(fit(name, frame, frame["label"], FEATURES), frame, described)


@cache
def found(name: str) -> Factors:
    return found_in(rows(), name)


def factors(name: str = "logistic_regression") -> pd.DataFrame:
    return found(name).table


@pytest.mark.parametrize("name", CANDIDATES)
def test_the_true_drivers_come_first_with_their_direction(name: str) -> None:
    shown = factors(name).set_index("feature")
    assert list(shown.index[:2]) == ["strong", "against"]
    assert shown["rank"].tolist() == [1, 2, 3, 4, 5]
    assert shown.loc["strong", "direction_words"] == "more of it goes with more churn"
    assert shown.loc["against", "direction_words"] == "more of it goes with less churn"
    assert shown.loc["constant", "direction"] == 0
    assert shown.loc["constant", "mean_abs_contribution"] == 0
    assert shown["share"].sum() == pytest.approx(1)


def test_columns_and_words() -> None:
    shown = factors()
    assert list(shown.columns) == FACTOR_COLUMNS
    first = shown.iloc[0]
    assert (first["theme"], first["meaning"]) == ("activity", "adverts per 100 songs")
    assert not shown.astype(str).apply(lambda c: c.str.contains("cause")).any().any()


def test_an_undescribed_feature_goes_by_its_name() -> None:
    shown = factors().set_index("feature").loc["noise"]
    assert (shown["theme"], shown["meaning"], shown["unit"]) == ("other", "noise", None)


def test_distributions_by_hand() -> None:
    frame = rows()
    shown = factors().set_index("feature").loc["strong"]
    churned = frame.loc[frame["label"].astype(bool), "strong"]
    assert shown["churned_mean"] == pytest.approx(churned.mean())
    assert shown["churned_median"] == pytest.approx(churned.median())
    assert shown["churned_p25"] == pytest.approx(churned.quantile(0.25))
    assert shown["churned_mean"] > shown["stayed_mean"]


def test_order_of_rows_and_rows_without_outcome_change_nothing() -> None:
    frame = rows()
    model = fit("logistic_regression", frame, frame["label"], FEATURES)
    unknown = frame.head(20).assign(label=pd.array([pd.NA] * 20, dtype="boolean"))
    more = pd.concat([unknown, frame.sample(frac=1, random_state=0)])
    pd.testing.assert_frame_equal(
        churn_factors(model, frame, DESCRIBED).table, churn_factors(model, more, DESCRIBED).table
    )


def test_a_sample_of_rows_gives_about_the_same() -> None:
    frame = rows()
    model = fit("logistic_regression", frame, frame["label"], FEATURES)
    some = churn_factors(model, frame, DESCRIBED, most_rows=500).table
    every = churn_factors(model, frame, DESCRIBED).table
    assert some["feature"].tolist() == every["feature"].tolist()
    assert some["share"].to_numpy() == pytest.approx(every["share"].to_numpy(), abs=0.03)


def test_a_model_without_features_has_no_factors() -> None:
    frame = rows()
    shown = churn_factors(fit("prevalence", frame, frame["label"], FEATURES), frame, [])
    assert shown.table.empty
    assert list(shown.table.columns) == FACTOR_COLUMNS
    assert shown.features == shown.themes == Agreement(None, None)


# Themes


def test_features_that_take_back_what_another_one_said_do_not_count_twice() -> None:
    """`weak` and its opposite in one theme: each moves the risk, the two together hardly do."""
    frame = rows().assign(noise=lambda frame: -frame["weak"])
    model = fit("logistic_regression", frame, frame["label"], FEATURES)
    assert isinstance(model, models.Linear)
    model = dataclasses.replace(model, weight=np.array([4.0, 1.0, -2.0, 0.9, 0.0]))
    described = [Description(name, name, name, None) for name in ("strong", "against", "constant")]
    described += [Description(name, "pair", name, None) for name in ("weak", "noise")]
    shown = churn_factors(model, frame, described).table.set_index("feature")

    parts = pd.DataFrame(model.contributions(frame), columns=list(model.features))
    assert shown["theme_mean_abs_contribution"]["weak"] == pytest.approx(
        (parts["weak"] + parts["noise"]).abs().mean()
    )
    assert shown["theme_mean_abs_contribution"]["weak"] < 0.1
    assert shown["mean_abs_contribution"]["weak"] > 0.5
    assert shown["theme_share"]["weak"] == shown["theme_share"]["noise"]
    assert shown["theme_rank"].to_dict() == {
        "strong": 1,
        "against": 2,
        "weak": 3,
        "noise": 3,
        "constant": 4,
    }
    assert shown.drop_duplicates("theme")["theme_share"].sum() == pytest.approx(1)


# Stability


@pytest.mark.parametrize("name", CANDIDATES)
def test_an_order_that_is_in_the_data_is_stable(name: str) -> None:
    agreement, table = found(name).features, factors(name).set_index("feature")
    assert table.loc["strong", ["rank_low", "rank_high"]].tolist() == [1, 1]
    assert (table["rank_low"] <= table["rank"]).all()
    assert (table["rank"] <= table["rank_high"]).all()
    assert agreement.lowest is not None
    assert agreement.mean is not None
    assert 0.7 <= agreement.lowest <= agreement.mean <= 1
    assert found(name).stability["folds"] == 5


def test_an_order_that_is_chance_is_not_stable() -> None:
    """Five features that say nothing: what is left out decides their order."""
    frame = rows(300)
    draw = np.random.default_rng(3)
    chance = {name: draw.normal(size=300) for name in FEATURES}
    shown = found_in(frame.assign(**chance, label=draw.permutation(frame["label"])), BOOSTED)
    assert shown.features.lowest is not None
    assert shown.features.lowest < 0.7
    assert (shown.table["rank_high"] > shown.table["rank_low"]).any()


def test_stability_by_hand() -> None:
    """Each fold's model learned from the other users, and is looked at on its own."""
    frame = rows(400)
    model = fit("logistic_regression", frame, frame["label"], FEATURES)
    fold = splits.user_folds(frame, 3, 7)
    order = {"all": model.contributions(frame)}
    for number in range(3):
        rest, held_out = frame[fold != number], frame[fold == number]
        again = fit("logistic_regression", rest, rest["label"], FEATURES)
        order[str(number)] = again.contributions(held_out)
    sizes = pd.DataFrame({key: np.abs(parts).mean(axis=0) for key, parts in order.items()})
    expected = [sizes["all"].corr(sizes[str(number)], method="spearman") for number in range(3)]
    shown = churn_factors(model, frame, DESCRIBED, folds=3, seed=7)
    assert shown.features == pytest.approx((np.mean(expected), min(expected)))


# Additivity


class Astray(models.Linear):
    """A model whose contributions leave out a thousandth of its log-odds."""

    def contributions_matrix(self, x: np.ndarray) -> np.ndarray:
        parts = super().contributions_matrix(x)
        parts[0, 0] += 1e-3
        return parts


def test_contributions_that_do_not_add_up_are_an_error() -> None:
    frame = rows(200)
    model = fit("logistic_regression", frame, frame["label"], FEATURES)
    astray = Astray(**{f.name: getattr(model, f.name) for f in dataclasses.fields(model)})
    said = r"do not add up to its predictions: in 1 of 200 rows .* up to 0.001 \(log-odds"
    with pytest.raises(SparkifyError, match=said):
        churn_factors(astray, frame, DESCRIBED)
    with pytest.raises(SparkifyError, match="logistic_regression do not add up"):
        score_rows(astray, frame.assign(is_paid=1.0), DESCRIBED)
