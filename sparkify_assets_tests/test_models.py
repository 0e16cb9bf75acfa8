"""Every model behind the one interface: additivity, storage, features that are of no use."""

from __future__ import annotations

import io
import json
import zipfile

import numpy as np
import pandas as pd
import polars as pl
import pytest

from sparkify_assets.churn import models
from sparkify_assets.churn.boosting import DEFAULTS
from sparkify_assets.churn.calibration import Line
from sparkify_assets.churn.metrics import log_loss
from sparkify_assets.churn.models import (
    BASELINES,
    BOOSTED,
    CANDIDATES,
    REGRESSION,
    Boosted,
    Calibrated,
    Linear,
    Model,
    fit,
    load,
)
from sparkify_assets.errors import NotEnoughDataError, SparkifyError

FEATURES = ["is_paid", "sessions_per_day_lifetime", "long_tail", "noise", "constant", "empty"]
ALL = [*CANDIDATES, *BASELINES]
CALIBRATED = [f"calibrated {name}" for name in CANDIDATES]


def rows(count: int = 400, seed: int = 0) -> pd.DataFrame:
    draw = np.random.default_rng(seed)
    rate = np.exp(draw.normal(size=count))
    long_tail = np.exp(draw.normal(size=count) * 2)
    odds = -2 + 0.8 * np.log(rate) + 0.8 * (long_tail > 1)
    return pd.DataFrame(
        {
            "is_paid": draw.random(count) < 0.5,
            "sessions_per_day_lifetime": rate,
            "long_tail": np.where(draw.random(count) < 0.2, np.nan, long_tail),
            "noise": draw.integers(0, 5, count),
            "constant": 3.0,
            "empty": np.nan,
            "label": draw.random(count) < 1 / (1 + np.exp(-odds)),
        }
    )


@pytest.fixture(scope="module")
def fitted() -> dict[str, Model]:
    frame = rows()
    found = {name: fit(name, frame, frame["label"], FEATURES) for name in ALL}
    line = Line(-0.3, 0.8)
    calibrated = [Calibrated.of(found[name], line) for name in CANDIDATES]
    return found | dict(zip(CALIBRATED, calibrated, strict=True))


def log_odds(p: np.ndarray) -> np.ndarray:
    return np.log(p / (1 - p))


@pytest.mark.parametrize("name", [*ALL, *CALIBRATED])
def test_base_value_and_contributions_add_up_to_the_prediction(
    name: str, fitted: dict[str, Model]
) -> None:
    model, unseen = fitted[name], rows(100, seed=1)
    expected = log_odds(model.predict(unseen))
    contributions = model.contributions(unseen)
    assert contributions.shape == (100, len(model.features))
    assert model.base_value + contributions.sum(axis=1) == pytest.approx(expected, abs=1e-4)


@pytest.mark.parametrize("name", [*ALL, *CALIBRATED])
def test_a_stored_model_predicts_the_same(name: str, fitted: dict[str, Model]) -> None:
    model, unseen = fitted[name], rows(100, seed=1)
    stored = load(model.save())
    assert (stored.name, stored.features, stored.kind) == (model.name, model.features, model.kind)
    assert stored.predict(unseen) == pytest.approx(model.predict(unseen), abs=1e-6)
    assert stored.contributions(unseen) == pytest.approx(model.contributions(unseen), abs=1e-6)
    np.testing.assert_array_equal(stored.typical, model.typical)


@pytest.mark.parametrize("name", [*ALL, *CALIBRATED])
def test_a_rows_prediction_does_not_depend_on_which_rows_are_beside_it(
    name: str, fitted: dict[str, Model]
) -> None:
    """To the last digit: tasks hold other users from day to day."""
    unseen = rows(100, seed=1)
    together = fitted[name].predict(unseen)
    for size in (1, 7, 64):
        parts = [fitted[name].predict(unseen[at : at + size]) for at in range(0, 100, size)]
        np.testing.assert_array_equal(np.concatenate(parts), together)


@pytest.mark.parametrize("name", [*ALL, *CALIBRATED])
def test_the_same_model_is_stored_as_the_same_bytes(name: str, fitted: dict[str, Model]) -> None:
    assert load(fitted[name].save()).save() == fitted[name].save()


@pytest.mark.parametrize("name", [*ALL, *CALIBRATED])
def test_nothing_stored_is_a_pickle(name: str, fitted: dict[str, Model]) -> None:
    def names(data: bytes) -> list[str]:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            found = []
            for inner in archive.namelist():
                found.append(inner)
                if inner.endswith(".zip"):
                    found += names(archive.read(inner))
            return found

    endings = {found.rsplit(".", 1)[-1] for found in names(fitted[name].save())}
    assert endings <= {"json", "ubj", "zip"}


@pytest.mark.parametrize("name", CANDIDATES)
def test_the_candidates_learn_and_the_same_seed_gives_the_same_model(
    name: str, fitted: dict[str, Model]
) -> None:
    from sklearn.metrics import roc_auc_score

    unseen = rows(2000, seed=2)
    assert roc_auc_score(unseen["label"], fitted[name].predict(unseen)) > 0.6
    frame = rows()
    again = fit(name, frame, frame["label"], FEATURES)
    np.testing.assert_array_equal(again.predict(unseen), fitted[name].predict(unseen))


def test_baselines_see_their_own_features_only(fitted: dict[str, Model]) -> None:
    frame = rows()
    assert fitted["prevalence"].predict(frame) == pytest.approx(
        np.full(len(frame), frame["label"].mean())
    )
    assert fitted["level_only"].features == ("is_paid",)
    assert len(np.unique(fitted["level_only"].predict(frame))) == 2
    by_rate = fitted["sessions_per_day"].predict(frame)
    order = frame["sessions_per_day_lifetime"].argsort()
    assert (np.diff(by_rate[order]) >= 0).all()


def test_trees_are_added_to_the_regression(fitted: dict[str, Model]) -> None:
    """They are shrunk, so what they add is small and the log loss of what they learned falls."""
    boosted, regression, frame = fitted[BOOSTED], fitted[REGRESSION], rows()
    assert isinstance(boosted, Boosted)
    assert boosted.regression.save() == regression.save()
    assert boosted.booster.num_boosted_rounds() == DEFAULTS.rounds
    added = log_odds(boosted.predict(frame)) - log_odds(regression.predict(frame))
    assert 0.1 < np.abs(added).mean() < 1
    label = frame["label"].to_numpy()
    losses = [log_loss(label, model.predict(frame)).mean() for model in (boosted, regression)]
    assert losses[0] < losses[1]


@pytest.mark.parametrize("name", CANDIDATES)
def test_a_calibrated_model_is_the_model_on_a_line(name: str, fitted: dict[str, Model]) -> None:
    model, calibrated, frame = fitted[name], fitted[f"calibrated {name}"], rows(100, seed=1)
    assert log_odds(calibrated.predict(frame)) == pytest.approx(
        -0.3 + 0.8 * log_odds(model.predict(frame))
    )
    assert calibrated.base_value == pytest.approx(-0.3 + 0.8 * model.base_value)
    assert (calibrated.name, calibrated.features) == (model.name, model.features)


def test_useless_features_get_no_weight(fitted: dict[str, Model]) -> None:
    linear = fitted[REGRESSION]
    assert isinstance(linear, Linear)
    for name in ("constant", "empty"):
        assert linear.weight[FEATURES.index(name)] == pytest.approx(0, abs=1e-9)
    for name in CANDIDATES:
        assert (fitted[name].contributions(rows())[:, 4:] == 0).all(), name


def test_standardised_training_rows_have_mean_0_and_deviation_1() -> None:
    frame = rows()
    linear = fit(REGRESSION, frame, frame["label"], FEATURES)
    assert isinstance(linear, Linear)
    z = linear.standardised(models.as_matrix(frame, FEATURES))
    assert z[:, :2].mean(axis=0) == pytest.approx(0, abs=1e-9)
    assert z[:, :2].std(axis=0) == pytest.approx(1)


def test_polars_and_pandas_give_the_same(fitted: dict[str, Model]) -> None:
    frame = rows()
    from_polars = pl.from_pandas(frame)
    assert fitted[BOOSTED].predict(from_polars) == pytest.approx(fitted[BOOSTED].predict(frame))


def test_columns_are_taken_by_name_and_nullable_ones_are_welcome(
    fitted: dict[str, Model],
) -> None:
    frame = rows()
    odd = frame[frame.columns[::-1]].astype({"noise": "Int64", "is_paid": "boolean"})
    odd["long_tail"] = odd["long_tail"].astype(object).where(odd["long_tail"].notna(), None)
    for name in CANDIDATES:
        np.testing.assert_allclose(fitted[name].predict(odd), fitted[name].predict(frame))


def test_a_missing_column_is_named(fitted: dict[str, Model]) -> None:
    with pytest.raises(SparkifyError, match="lacks 2 of the model's 6 features: is_paid, noise"):
        fitted[BOOSTED].predict(rows().drop(columns=["noise", "is_paid"]))


def test_infinite_values_are_named() -> None:
    frame = rows()
    frame.loc[[3, 5], "long_tail"] = [np.inf, -np.inf]
    with pytest.raises(SparkifyError, match="2 rows hold infinite values, in long_tail"):
        fit(BOOSTED, frame, frame["label"], FEATURES)


def test_text_is_named() -> None:
    frame = rows().assign(noise="a lot")
    with pytest.raises(SparkifyError, match="not numbers: noise"):
        fit(BOOSTED, frame, frame["label"], FEATURES)


@pytest.mark.parametrize("name", ALL)
def test_one_class_only(name: str) -> None:
    frame = rows()
    with pytest.raises(NotEnoughDataError, match=r"All 400 rows .* \(stayed\)"):
        fit(name, frame, np.zeros(len(frame)), FEATURES)


def test_bytes_that_are_no_model() -> None:
    with pytest.raises(SparkifyError, match="damaged or is not a model"):
        load(b"PK not really")


def test_a_later_format_is_refused(fitted: dict[str, Model]) -> None:
    with zipfile.ZipFile(io.BytesIO(fitted["prevalence"].save())) as archive:
        header = json.loads(archive.read("model.json"))
    changed = io.BytesIO()
    with zipfile.ZipFile(changed, "w") as archive:
        archive.writestr("model.json", json.dumps({**header, "format_version": 99}))
    with pytest.raises(SparkifyError, match="format 99; this program reads format 2"):
        load(changed.getvalue())


def test_a_boosted_model_on_something_else_than_a_regression_is_refused(
    fitted: dict[str, Model],
) -> None:
    with zipfile.ZipFile(io.BytesIO(fitted[BOOSTED].save())) as archive:
        files = {name: archive.read(name) for name in archive.namelist()}
    changed = io.BytesIO()
    with zipfile.ZipFile(changed, "w") as archive:
        for name, content in (files | {"regression.zip": fitted[BOOSTED].save()}).items():
            archive.writestr(name, content)
    with pytest.raises(SparkifyError, match="its regression is something else"):
        load(changed.getvalue())


def many_rows(strength: float, count: int = 8000) -> tuple[np.ndarray, np.ndarray]:
    draw = np.random.default_rng(0)
    x = draw.normal(size=(count, 10))
    return x, draw.random(count) < 1 / (1 + np.exp(1 - strength * x[:, 0] - strength * x[:, 1]))


def test_the_evidence_takes_a_weaker_prior_where_the_signal_is_strong() -> None:
    """The best of the variances tried has more evidence than its neighbours'."""
    weights = []
    for strength in (0.05, 2.0):
        x, label = many_rows(strength)
        weight, intercept = models._ridge(x, label)
        weights.append(np.abs(weight).max())
        assert np.isfinite(intercept)
    assert weights[0] < 0.15
    assert weights[1] == pytest.approx(2.0, rel=0.1)


def test_the_evidence_of_a_model_with_one_weight_by_integration() -> None:
    """Laplace's approximation against the integral over the weight, on many rows."""
    x, label = many_rows(0.5, 500)
    x = x[:, :1] - x[:, :1].mean()
    label = label.astype(float)
    found = []
    for variance in (0.01, 1.0):
        from sklearn.linear_model import LogisticRegression

        model = LogisticRegression(C=variance, tol=1e-10).fit(x, label)
        weight, intercept = model.coef_[0], float(model.intercept_[0])
        grid = np.linspace(-3, 3, 6001)
        odds = x * grid + intercept
        log_likelihood = (label[:, None] * odds - np.logaddexp(0, odds)).sum(axis=0)
        prior = np.exp(-(grid**2) / (2 * variance)) / np.sqrt(2 * np.pi * variance)
        peak = log_likelihood.max()
        exact = peak + np.log((np.exp(log_likelihood - peak) * prior).sum() * (grid[1] - grid[0]))
        found.append((models._evidence(x, label, weight, intercept, variance), exact))
    (weak, exact_weak), (strong, exact_strong) = found
    assert weak - strong == pytest.approx(exact_weak - exact_strong, abs=0.05)
