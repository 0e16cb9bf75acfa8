"""The procedure and its honesty: nothing of a tested row reaches the choice or the threshold."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import polars as pl
import pytest

from sparkify_assets.churn import calibration, evaluation, models, splits
from sparkify_assets.churn.boosting import Settings
from sparkify_assets.churn.drift import PROBABILITY
from sparkify_assets.churn.evaluation import (
    CHOSEN,
    PREDICTION_COLUMNS,
    TRAINED_COLUMNS,
    How,
    evaluate,
    searched,
    train,
)
from sparkify_assets.churn.metrics import best_threshold, evaluation_metrics, pr_auc
from sparkify_assets.churn.models import (
    BASELINES,
    BOOSTED,
    CANDIDATES,
    REGRESSION,
    Boosted,
    Calibrated,
    fit,
)
from sparkify_assets.churn.registry import open_model
from sparkify_assets.churn.search import Budget, Found
from sparkify_assets.errors import NotEnoughDataError, SparkifyError

FEATURES = ["is_paid", "sessions_per_day_lifetime", "noise_1", "noise_2"]
HORIZON = 10


def rows(users: int = 150, cutoffs: int = 5, base: float = -2.0, seed: int = 0) -> pd.DataFrame:
    """Users with a rate that goes with churn; whoever churns has no later rows."""
    draw = np.random.default_rng(seed)
    rate = np.exp(draw.normal(size=users))
    gone = np.zeros(users, dtype=bool)
    parts = []
    for number in range(cutoffs):
        churns = draw.random(users) < 1 / (1 + np.exp(-base - np.log(rate)))
        part = pd.DataFrame(
            {
                "user_id": [f"u{user:03d}" for user in range(users)],
                "as_of": date(2018, 10, 15) + timedelta(days=7 * number),
                "is_paid": draw.random(users) < 0.5,
                "sessions_per_day_lifetime": rate * np.exp(draw.normal(size=users) / 4),
                "noise_1": draw.normal(size=users),
                "noise_2": draw.normal(size=users),
                "label": pd.array(churns, dtype="boolean"),
            }
        )
        parts.append(part[~gone])
        gone |= churns
    return pd.concat(parts, ignore_index=True)


def predictions_of(
    frame: pd.DataFrame,
    features: Sequence[str] = FEATURES,
    horizon_days: int | None = None,
    **how: Any,
) -> pd.DataFrame:
    return evaluate(
        frame, features, "forecast", horizon_days=horizon_days, how=How(**how)
    ).predictions


def with_fixed_folds(monkeypatch: pytest.MonkeyPatch, frame: pd.DataFrame) -> pd.Series:
    """Folds that do not follow the labels, as a test that changes labels needs."""
    fold_of = splits.user_folds(frame)
    fold = pd.Series(fold_of, frame["user_id"]).groupby(level=0).first()
    monkeypatch.setattr(
        splits, "user_folds", lambda f, folds, seed: f["user_id"].map(fold).to_numpy()
    )
    return frame["user_id"].map(fold)


def test_every_labelled_row_is_predicted_once_a_model_and_repeat() -> None:
    frame = rows()
    found = evaluate(frame, FEATURES, "forecast", horizon_days=HORIZON, repeats=2, how=How(folds=3))
    predictions = found.predictions
    assert list(predictions.columns) == PREDICTION_COLUMNS
    assert found.left_out == {}
    assert set(predictions["model"]) == {*CANDIDATES, *BASELINES, CHOSEN}
    assert not predictions.isna().any().any()
    assert predictions["probability"].between(0, 1).all()
    keys = ["estimate", "model", "repeat", "user_id", "as_of"]
    assert not predictions.duplicated(keys).any()
    sizes = predictions.groupby(["estimate", "model", "repeat"]).size().groupby("estimate")
    last = (frame["as_of"] == frame["as_of"].max()).sum()
    assert sizes.unique().to_dict() == {"grouped": [len(frame)], "temporal": [last]}


def test_no_user_is_tested_by_a_model_that_learned_from_them(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Each fit is told apart by the rows it got: none holds a user that it then predicts."""
    frame = rows()
    learned: list[tuple[set[str], set[str]]] = []
    fit_rows = evaluation._Rows.fit
    predict_rows = evaluation._Rows.predict
    users_of: dict[int, set[str]] = {}

    def spy_fit(self: evaluation._Rows, settings: Settings) -> dict:
        fitted = fit_rows(self, settings)
        users_of[id(fitted)] = set(self.frame["user_id"])
        kept.append(fitted)
        return fitted

    def spy_predict(self: evaluation._Rows, fitted: dict) -> np.ndarray:
        learned.append((users_of[id(fitted)], set(self.frame["user_id"])))
        return predict_rows(self, fitted)

    kept: list[dict] = []  # so that ids stay unique
    monkeypatch.setattr(evaluation._Rows, "fit", spy_fit)
    monkeypatch.setattr(evaluation._Rows, "predict", spy_predict)
    predictions_of(frame)
    # Of each outer fold: the four inner ones (and the rows that are tested by none), then itself.
    assert len(learned) == 5 * (1 + 4 + 1)
    assert all(not learned_from & tested for learned_from, tested in learned)


def test_flipping_the_labels_of_a_fold_changes_nothing_in_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A choice, a threshold or a fit that saw the tested labels would change."""
    frame = rows()
    fold = with_fixed_folds(monkeypatch, frame)
    before = predictions_of(frame)
    flipped = frame.assign(label=frame["label"].where(fold != 0, ~frame["label"]))
    after = predictions_of(flipped)
    columns = [c for c in PREDICTION_COLUMNS if c != "label"]
    pd.testing.assert_frame_equal(
        before.loc[before["fold"] == 0, columns], after.loc[after["fold"] == 0, columns]
    )
    others = before["fold"] != 0
    assert (before.loc[others, "probability"] != after.loc[others, "probability"]).any()


def test_a_leaking_feature_is_seen_in_the_figures() -> None:
    """The label itself as a feature: what a leak buys is visible, so it can be caught."""
    frame = rows()
    leaking = frame.assign(leak=frame["label"].astype(float))
    honest = predictions_of(frame).query("model == 'chosen'")
    leaked = predictions_of(leaking, [*FEATURES, "leak"]).query("model == 'chosen'")
    assert pr_auc(leaked["label"].to_numpy(), leaked["probability"].to_numpy()) > 0.99
    assert pr_auc(honest["label"].to_numpy(), honest["probability"].to_numpy()) < 0.6


def test_labels_that_are_pure_chance_cannot_be_predicted() -> None:
    frame = rows(users=300, base=-1.5)
    draw = np.random.default_rng(0)
    frame["label"] = draw.permutation(frame["label"].to_numpy(dtype=bool))
    table = evaluation_metrics(predictions_of(frame), 50).query("metric == 'roc_auc'")
    assert table["value"].between(0.4, 0.6).all()


def test_order_of_rows_changes_nothing() -> None:
    frame = rows()
    shuffled = frame.sample(frac=1, random_state=0)
    pd.testing.assert_frame_equal(predictions_of(frame), predictions_of(shuffled))
    assert train(frame, FEATURES).choice == train(shuffled, FEATURES).choice


def test_the_number_of_jobs_changes_nothing() -> None:
    frame = rows()
    pd.testing.assert_frame_equal(predictions_of(frame, jobs=1), predictions_of(frame, jobs=2))


def test_nested_folds_by_hand() -> None:
    """Outer fold 0: its rows by a model without fold 0; all else from models without two folds."""
    frame = rows().sort_values(["user_id", "as_of"], ignore_index=True)
    fold = splits.user_folds(frame)
    label = frame["label"].astype(bool).to_numpy()
    found = predictions_of(frame).query("model == 'logistic_regression' and fold == 0")

    def log_odds(without: list[int], on: int) -> np.ndarray:
        learn = ~np.isin(fold, without)
        model = fit(REGRESSION, frame[learn], label[learn], FEATURES)
        return models.log_odds(model.predict(frame[fold == on]))

    inner = np.concatenate([log_odds([0, other], other) for other in range(1, 5)])
    truth = np.concatenate([label[fold == other] for other in range(1, 5)])
    line = calibration.fitted(truth, inner)
    assert line != calibration.Line()
    expected = models.probability(line(log_odds([0], 0)))
    assert found["probability"].to_numpy() == pytest.approx(expected)
    threshold = best_threshold(truth, models.probability(line(inner)))
    assert found["threshold"].unique() == pytest.approx([threshold])


def test_the_chosen_rows_are_those_of_the_candidate_that_was_chosen() -> None:
    predictions = predictions_of(rows()).set_index(["model", "user_id", "as_of"])
    chosen = predictions.loc[CHOSEN]
    for candidate, found in chosen.groupby("candidate"):
        same = predictions.loc[str(candidate)].loc[found.index]
        assert (found["probability"] == same["probability"]).all()
        assert (found["threshold"] == same["threshold"]).all()


def test_the_temporal_estimate_learns_from_closed_windows_only() -> None:
    """Rows of the cutoff whose window is still open at the last one can be anything."""
    frame = rows()
    open_cutoff = sorted(frame["as_of"].unique())[-2]
    changed = frame.copy()
    changed.loc[changed["as_of"] == open_cutoff, "sessions_per_day_lifetime"] = -5.0
    before, after = (
        predictions_of(f, horizon_days=HORIZON).query("estimate == 'temporal'")
        for f in (frame, changed)
    )
    pd.testing.assert_frame_equal(before, after)


def test_rows_without_an_outcome_are_left_aside() -> None:
    frame = rows()
    to_score = frame[frame["as_of"] == frame["as_of"].max()].assign(
        as_of=date(2018, 12, 1), label=pd.NA
    )
    both = pd.concat([frame, to_score.astype({"label": "boolean"})])
    pd.testing.assert_frame_equal(
        predictions_of(frame, horizon_days=HORIZON), predictions_of(both, horizon_days=HORIZON)
    )


def test_polars_gives_the_same() -> None:
    frame = rows()
    found = predictions_of(pl.from_pandas(frame), horizon_days=HORIZON)  # type: ignore[arg-type]
    expected = predictions_of(frame, horizon_days=HORIZON)
    columns = ["model", "user_id", "probability", "threshold"]
    pd.testing.assert_frame_equal(found[columns], expected[columns])


def test_no_temporal_estimate_says_why() -> None:
    found = evaluate(rows(), FEATURES, "forecast", horizon_days=60)
    assert set(found.predictions["estimate"]) == {"grouped"}
    assert "at least 60 days before the last one" in found.left_out["temporal"]


def test_no_churn_at_the_last_cutoff_says_why() -> None:
    frame = rows()
    frame.loc[frame["as_of"] == frame["as_of"].max(), "label"] = False
    found = evaluate(frame, FEATURES, "forecast", horizon_days=HORIZON)
    assert "same outcome" in found.left_out["temporal"]


def test_too_few_churned_users_says_how_many_are_needed() -> None:
    frame = rows()
    frame["label"] = frame["user_id"].isin(["u001", "u002", "u003", "u004"])
    message = "4 users churned; at least 10 are needed to train and test a model"
    with pytest.raises(NotEnoughDataError, match=message):
        train(frame, FEATURES)
    with pytest.raises(NotEnoughDataError, match=message):
        evaluate(frame, FEATURES, "forecast")


@pytest.mark.parametrize(("label", "message"), [(False, "0 users churned"), (True, "0 users stay")])
def test_one_class_only(label: bool, message: str) -> None:
    with pytest.raises(NotEnoughDataError, match=message):
        train(rows().assign(label=label), FEATURES)


def test_no_rows_at_all() -> None:
    with pytest.raises(NotEnoughDataError, match="0 users churned"):
        train(rows().iloc[:0], FEATURES)


def test_constant_and_empty_features_do_no_harm() -> None:
    frame = rows().assign(constant=1.0, empty=np.nan)
    trained = train(frame, [*FEATURES, "constant", "empty"])
    assert np.isfinite(trained.model.predict(frame)).all()


def test_infinite_values_are_named() -> None:
    frame = rows()
    frame.loc[0, "noise_1"] = np.inf
    with pytest.raises(SparkifyError, match="infinite values, in noise_1"):
        train(frame, FEATURES)


def test_a_baseline_whose_feature_is_missing_is_an_error_not_a_gap() -> None:
    with pytest.raises(SparkifyError, match="sessions_per_day_lifetime"):
        evaluate(rows(), ["is_paid", "noise_1"], "forecast")


def test_training_fits_every_candidate_on_all_rows() -> None:
    frame = rows()
    trained = train(frame, FEATURES)
    assert set(trained.models) == set(trained.choice.lines) == set(CANDIDATES)
    assert trained.model is trained.models[trained.choice.chosen]
    assert 0 < trained.threshold < 1
    assert trained.rows == len(frame)
    assert trained.positives == trained.churned_users == int(frame["label"].sum())
    model = trained.models[REGRESSION]
    assert isinstance(model, Calibrated)
    assert model.line == trained.choice.lines[REGRESSION]
    ordered = frame.sort_values(["user_id", "as_of"], ignore_index=True)
    assert model.model.save() == fit(REGRESSION, ordered, ordered["label"], FEATURES).save()


def test_the_settings_are_those_of_the_trees() -> None:
    model = train(rows(), FEATURES, settings=Settings(rounds=7)).models[BOOSTED]
    assert isinstance(model, Calibrated)
    assert isinstance(model.model, Boosted)
    assert model.model.booster.num_boosted_rounds() == 7


@pytest.mark.parametrize(
    ("better", "chosen"), [([0.3, 0.3, 0.3, 0.3, -1.0], REGRESSION), ([0.3] * 5, BOOSTED)]
)
def test_the_simplest_stays_unless_another_is_clearly_better(
    better: list[float], chosen: str
) -> None:
    """One is better in four folds of five, the other in all."""
    frame = rows().sort_values(["user_id", "as_of"], ignore_index=True)
    all_rows = evaluation._labelled(frame, FEATURES, CANDIDATES, {}, "forecast", How())
    fold = splits.user_folds(frame)
    sign = np.where(all_rows.label, 1, -1)
    odds = np.array([np.zeros(len(frame)), sign * np.array(better)[fold]])
    assert evaluation._simplest_of_the_best(all_rows, models.probability(odds), fold) == chosen


def test_the_search_sees_training_rows_only(monkeypatch: pytest.MonkeyPatch) -> None:
    """It is run for each outer fold on the others, and what it finds is what they are fitted by."""
    frame, found = rows(), Settings(rounds=3, max_depth=2)
    frame["noise_1"] = frame["user_id"].str[1:].astype(float)  # tells who is searched on
    searched_on: list[set[str]] = []
    fitted_by: set[Settings] = set()

    def spy(x: np.ndarray, label: np.ndarray, users: np.ndarray, *_: Any) -> Found:
        assert set(x[:, FEATURES.index("noise_1")]) == {float(user[1:]) for user in users}
        searched_on.append(set(users))
        return Found(found)

    fit_rows = evaluation._Rows.fit

    def spy_fit(self: evaluation._Rows, settings: Settings) -> dict:
        fitted_by.add(settings)
        return fit_rows(self, settings)

    monkeypatch.setattr(evaluation, "search", spy)
    monkeypatch.setattr(evaluation._Rows, "fit", spy_fit)
    predictions = predictions_of(frame, budget=Budget())
    assert fitted_by == {found}
    everybody = set(frame["user_id"])
    of_folds = [set(of_fold["user_id"]) for _, of_fold in predictions.groupby("fold")]
    assert searched_on == [everybody - of_fold for of_fold in of_folds]


def test_what_is_searched_for_training_is_searched_on_all_rows() -> None:
    assert searched(rows(), FEATURES, How()) == Found()
    frame = rows(users=2000)
    found = searched(frame, FEATURES, How(budget=Budget(trials=2)))
    assert len(found.trials) == 2
    shuffled = searched(frame.sample(frac=1), FEATURES, How(budget=Budget(trials=2)))
    assert [t.log_loss for t in shuffled.trials] == [t.log_loss for t in found.trials]


def test_the_user_is_no_feature() -> None:
    for procedure in (train, lambda *given: evaluate(*given, "forecast")):
        with pytest.raises(SparkifyError, match="user_id is no feature"):
            procedure(rows(), [*FEATURES, "user_id"])


def test_the_stored_rows_give_the_chosen_model_back() -> None:
    frame = rows()
    trained = train(frame, FEATURES)
    stored = trained.to_rows()
    assert list(stored.columns) == TRAINED_COLUMNS
    assert len(stored) == len(CANDIDATES)
    assert stored["chosen"].tolist() == [True, False]
    assert stored["model"].iloc[0] == trained.choice.chosen
    assert stored["threshold"].iloc[0] == trained.threshold
    assert trained.twin is not None
    for part, model in (("artifact", trained.model), ("twin", trained.twin)):
        reopened = open_model(stored.iloc[0], part)
        assert reopened.predict(frame) == pytest.approx(model.predict(frame), abs=1e-6)
    assert stored[["twin", "twin_sha256", "profile"]].iloc[1:].isna().all(axis=None)


@pytest.mark.parametrize("part", ["artifact", "twin"])
def test_an_altered_model_is_refused(part: str) -> None:
    stored = train(rows(), FEATURES).to_rows().iloc[0].to_dict()
    stored[part] = stored[part][:-1] + b"!"
    with pytest.raises(SparkifyError, match="was altered: its checksum"):
        open_model(stored, part)


def test_nothing_of_the_jury_reaches_the_twin() -> None:
    frame = rows()
    jury = splits.jury(frame["user_id"])
    other = frame.copy()
    other.loc[jury, "sessions_per_day_lifetime"] *= 3
    before, after = (train(f, FEATURES, candidates=CANDIDATES[:1]) for f in (frame, other))
    assert before.twin is not None
    assert after.twin is not None
    assert before.twin.save() == after.twin.save()
    assert before.model.save() != after.model.save()


def test_no_twin_where_all_who_churned_are_of_the_jury() -> None:
    frame = rows()
    frame["label"] = splits.jury(frame["user_id"])
    assert train(frame, FEATURES, candidates=CANDIDATES[:1]).twin is None


def test_the_profile_is_of_the_latest_cutoff() -> None:
    frame = rows()
    trained = train(frame, FEATURES, candidates=CANDIDATES[:1])
    last = frame[frame["as_of"] == frame["as_of"].max()]
    assert set(trained.profile.counts) == {*trained.model.features, PROBABILITY}
    assert {count.sum() for count in trained.profile.counts.values()} == {len(last)}
    again = trained.profile.count(
        {PROBABILITY: trained.model.predict(last)}
        | {name: last[name].to_numpy(dtype=float) for name in trained.model.features}
    )
    for name, counts in trained.profile.counts.items():
        assert again[name].tolist() == counts.tolist()


def test_real_mini_users_reach_what_is_known_to_be_in_them(real_rows: Path) -> None:
    """Plain gradient boosting gives AUC .838 on them (leaking: the whole log is used)."""
    from benchmarks.real_users import TASKS, prepared

    task = next(task for task in TASKS if task.table == "mini_users")
    frame, features = prepared(pd.read_parquet(real_rows / "mini_users.parquet"), task)
    assert not {"userId", "user_id", "churn"} & set(features)
    found = evaluate(frame, features, "whole_log", baselines={"prevalence": ()})
    table = evaluation_metrics(found.predictions, 20).set_index(["model", "metric"])["value"]
    assert table[CHOSEN, "roc_auc"] > 0.78
    assert table[CHOSEN, "weighted_f1"] > 0.76
    assert table[CHOSEN, "weighted_f1_always_stays"] == pytest.approx(0.668, abs=5e-4)
