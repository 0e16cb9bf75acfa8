"""What goes with churn: order, direction and distributions, on a model whose truth is known."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date

import numpy as np
import pandas as pd
import pytest

from sparkify_assets.churn.factors import FACTOR_COLUMNS, Description, churn_factors
from sparkify_assets.churn.models import fit

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


def factors(name: str = "xgboost", features: Sequence[str] = FEATURES) -> pd.DataFrame:
    frame = rows()
    return churn_factors(fit(name, frame, frame["label"], features), frame, DESCRIBED)


@pytest.mark.parametrize("name", ["logistic_regression", "random_forest", "xgboost", "blend"])
def test_the_true_drivers_come_first_with_their_direction(name: str) -> None:
    found = factors(name).set_index("feature")
    assert list(found.index[:2]) == ["strong", "against"]
    assert found["rank"].tolist() == [1, 2, 3, 4, 5]
    assert found.loc["strong", "direction_words"] == "more of it goes with more churn"
    assert found.loc["against", "direction_words"] == "more of it goes with less churn"
    assert found.loc["constant", "direction"] == 0
    assert found.loc["constant", "mean_abs_contribution"] == 0
    assert found["share"].sum() == pytest.approx(1)


def test_columns_and_words() -> None:
    found = factors()
    assert list(found.columns) == FACTOR_COLUMNS
    first = found.iloc[0]
    assert (first["theme"], first["meaning"]) == ("activity", "adverts per 100 songs")
    assert not found.astype(str).apply(lambda c: c.str.contains("cause")).any().any()


def test_an_undescribed_feature_goes_by_its_name() -> None:
    found = factors().set_index("feature").loc["noise"]
    assert (found["theme"], found["meaning"], found["unit"]) == ("other", "noise", None)


def test_distributions_by_hand() -> None:
    frame = rows()
    found = factors().set_index("feature").loc["strong"]
    churned = frame.loc[frame["label"].astype(bool), "strong"]
    assert found["churned_mean"] == pytest.approx(churned.mean())
    assert found["churned_median"] == pytest.approx(churned.median())
    assert found["churned_p25"] == pytest.approx(churned.quantile(0.25))
    assert found["churned_mean"] > found["stayed_mean"]


def test_order_of_rows_and_rows_without_outcome_change_nothing() -> None:
    frame = rows()
    model = fit("xgboost", frame, frame["label"], FEATURES)
    unknown = frame.head(20).assign(label=pd.array([pd.NA] * 20, dtype="boolean"))
    more = pd.concat([unknown, frame.sample(frac=1, random_state=0)])
    pd.testing.assert_frame_equal(
        churn_factors(model, frame, DESCRIBED), churn_factors(model, more, DESCRIBED)
    )


def test_a_sample_of_rows_gives_about_the_same() -> None:
    frame = rows()
    model = fit("xgboost", frame, frame["label"], FEATURES)
    some = churn_factors(model, frame, DESCRIBED, most_rows=500)
    every = churn_factors(model, frame, DESCRIBED)
    assert some["feature"].tolist() == every["feature"].tolist()
    assert some["share"].to_numpy() == pytest.approx(every["share"].to_numpy(), abs=0.03)


def test_a_model_without_features_has_no_factors() -> None:
    frame = rows()
    assert churn_factors(fit("prevalence", frame, frame["label"], FEATURES), frame, []).empty
