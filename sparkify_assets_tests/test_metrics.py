"""Metrics against scikit-learn's and by hand; thresholds; the bootstrap over users."""

from __future__ import annotations

import time

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn import metrics as sklearn_metrics

from sparkify_assets.churn.metrics import (
    METRIC_COLUMNS,
    METRIC_MEANINGS,
    PROFIT_GRID,
    THRESHOLDS,
    Scored,
    best_threshold,
    calibration_error_by_chance,
    equal_bins,
    evaluation_metrics,
    metric_values,
    pr_auc,
    pr_curve,
    profit_name,
    reliability_curve,
)


def scored(label: np.ndarray, probability: np.ndarray, threshold: float = 0.5) -> Scored:
    flagged = (probability >= threshold).astype(float)
    return Scored(label.astype(float), probability, flagged, flagged, flagged)


def predictions(
    users: int = 200, rows_a_user: int = 3, seed: int = 0, model: str = "chosen", repeats: int = 1
) -> pd.DataFrame:
    draw = np.random.default_rng(seed)
    user = np.repeat(np.arange(users), rows_a_user)
    label = draw.random(len(user)) < 0.2
    parts = [
        pd.DataFrame(
            {
                "protocol": "forecast",
                "estimate": "grouped",
                "model": model,
                "candidate": model,
                "repeat": repeat,
                "fold": 0,
                "user_id": [f"u{number}" for number in user],
                "as_of": np.tile(np.arange(rows_a_user), users),
                "label": label,
                "probability": np.round(np.clip(draw.normal(0.2 + 0.2 * label, 0.15), 0, 1), 2),
                "threshold": 0.4,
                "balanced_threshold": 0.3,
                "weighted_threshold": 0.5,
            }
        )
        for repeat in range(repeats)
    ]
    return pd.concat(parts, ignore_index=True)


@settings(deadline=None, max_examples=60)
@given(st.integers(0, 10_000), st.integers(1, 40), st.booleans())
def test_every_metric_agrees_with_scikit_learn(seed: int, levels: int, whole: bool) -> None:
    """Random weights, with many ties (few levels) and few."""
    draw = np.random.default_rng(seed)
    label = np.append(draw.random(58) < 0.3, [True, False])
    probability = draw.integers(1, levels + 1, 60) / (levels + 1)
    # Sorted by weight too, to be sure that no metric relies on the order within ties.
    order = np.lexsort([draw.random(60), -probability])
    label, probability = label[order], probability[order]
    weights = draw.integers(0, 4, (60, 3)).astype(float) if whole else draw.random((60, 3))
    weights[label.argmax()] += 1
    weights[(~label).argmax()] += 1
    found = metric_values(scored(label, probability), weights)
    flagged = probability >= 0.5
    for column, w in enumerate(weights.T):
        kept = w > 0  # scikit-learn warns of zero weights
        y, p, f, w = label[kept], probability[kept], flagged[kept], w[kept]
        expected = {
            "pr_auc": sklearn_metrics.average_precision_score(y, p, sample_weight=w),
            "prevalence": np.average(y, weights=w),
            "roc_auc": sklearn_metrics.roc_auc_score(y, p, sample_weight=w),
            "log_loss": sklearn_metrics.log_loss(y, p, sample_weight=w, labels=[False, True]),
            "mean_probability": np.average(p, weights=w),
            "brier_score": sklearn_metrics.brier_score_loss(y, p, sample_weight=w),
            "f1": sklearn_metrics.f1_score(y, f, sample_weight=w, zero_division=0),
            "precision": sklearn_metrics.precision_score(y, f, sample_weight=w, zero_division=0),
            "recall": sklearn_metrics.recall_score(y, f, sample_weight=w),
            "balanced_accuracy": sklearn_metrics.balanced_accuracy_score(y, f, sample_weight=w),
            "weighted_f1": sklearn_metrics.f1_score(
                y, f, sample_weight=w, average="weighted", zero_division=0
            ),
            "weighted_f1_always_stays": sklearn_metrics.f1_score(
                y, np.zeros_like(y), sample_weight=w, average="weighted", zero_division=0
            ),
        }
        for name, value in expected.items():
            assert found[name][column] == pytest.approx(value, abs=1e-9), name


def test_the_top_tenth_by_hand() -> None:
    """20 rows: the top 2 hold 1 of 4 positives; lift is its share over 10 %."""
    label = np.array([1, 0, 1, 1, 1] + [0] * 15)
    found = metric_values(scored(label, np.linspace(0.9, 0.1, 20)), np.ones((20, 1)))
    assert found["recall_top_10"][0] == pytest.approx(0.25)
    assert found["lift_top_10"][0] == pytest.approx(2.5)


def test_the_top_tenth_counts_ties_in_proportion() -> None:
    """All alike: whoever is picked, a tenth of the positives is found."""
    found = metric_values(scored(np.array([1, 0, 0, 1, 0]), np.full(5, 0.4)), np.ones((5, 1)))
    assert found["recall_top_10"][0] == pytest.approx(0.1)
    assert found["lift_top_10"][0] == pytest.approx(1.0)


def test_calibration_error_by_hand() -> None:
    """Ten rows, ten bins: the mean distance. Equal probabilities share a bin: no error here."""
    label, probability = np.array([1] + [0] * 9), np.linspace(0.9, 0.0, 10)
    found = metric_values(scored(label, probability), np.ones((10, 1)))
    assert found["expected_calibration_error"][0] == pytest.approx(
        np.abs(label - probability).mean()
    )
    level = metric_values(scored(label, np.full(10, 0.1)), np.ones((10, 1)))
    assert level["expected_calibration_error"][0] == pytest.approx(0)


def test_profit_by_hand() -> None:
    """cost .02, save .3: contact above .0667; the churner is worth .3 - .02, the stayer -.02."""
    found = metric_values(scored(np.array([1, 0, 0]), np.array([0.5, 0.1, 0.05])), np.ones((3, 1)))
    assert found["profit_per_user@cost=0.02,save=0.3"][0] == pytest.approx((0.28 - 0.02) / 3)


def test_profit_covers_a_range_of_costs_and_rates() -> None:
    """From where a contact pays for nearly everybody to where it does for next to nobody."""
    break_even = [cost / save for cost, save in PROFIT_GRID]
    assert min(break_even) < 0.01
    assert max(break_even) >= 0.5
    assert {profit_name(cost, save) for cost, save in PROFIT_GRID} <= set(METRIC_MEANINGS)


def test_exactly_right_probabilities_are_off_by_chance_as_often_as_said() -> None:
    draw = np.random.default_rng(5)
    probability = draw.beta(1, 15, 2000)
    allowed = calibration_error_by_chance(probability)
    order = np.argsort(-probability)
    errors = []
    for _ in range(200):
        label = (draw.random(2000) < probability).astype(float)
        found = metric_values(scored(label[order], probability[order]), np.ones((2000, 1)))
        errors.append(found["expected_calibration_error"][0])
    assert 0.9 <= np.mean(np.array(errors) <= allowed) <= 0.99
    assert calibration_error_by_chance(probability[:200]) > 2 * allowed


def test_always_stays_on_the_real_files() -> None:
    """.668 on mini (52 of 225) and .677 on full (5,003 of 22,277)."""
    for churned, users, expected in ((52, 225, 0.668), (5003, 22277, 0.677)):
        label = np.arange(users) < churned
        found = metric_values(scored(label, np.linspace(0.9, 0.1, users)), np.ones((users, 1)))
        assert found["weighted_f1_always_stays"][0] == pytest.approx(expected, abs=5e-4)


def test_equal_bins() -> None:
    assert equal_bins(np.array([0.4, 0.3, 0.2, 0.1]), 2).tolist() == [1, 1, 0, 0]
    assert len(set(equal_bins(np.array([0.4, 0.3, 0.3, 0.3]), 2)[1:])) == 1


@settings(deadline=None, max_examples=60)
@given(st.integers(0, 10_000), st.sampled_from(sorted(THRESHOLDS)))
def test_no_threshold_beats_the_best_one(seed: int, aim: str) -> None:
    draw = np.random.default_rng(seed)
    label = np.append(draw.random(28) < 0.3, [True, False])
    probability = draw.integers(0, 12, 30) / 12
    score = {
        "f1": lambda f: sklearn_metrics.f1_score(label, f, zero_division=0),
        "balanced_accuracy": lambda f: sklearn_metrics.balanced_accuracy_score(label, f),
        "weighted_f1": lambda f: sklearn_metrics.f1_score(
            label, f, average="weighted", zero_division=0
        ),
    }[aim]
    found = score(probability >= best_threshold(label, probability, aim))
    every = [score(probability >= t) for t in [*np.unique(probability), 1.1]]
    assert found == pytest.approx(max(every))


def test_a_threshold_that_flags_nobody() -> None:
    label = np.array([False] * 9 + [True])
    threshold = best_threshold(label, np.full(10, 0.1), "weighted_f1")
    assert threshold > 0.1


def test_an_unknown_aim() -> None:
    with pytest.raises(ValueError, match="no such aim: profit"):
        best_threshold(np.array([True, False]), np.array([0.2, 0.1]), "profit")


def test_one_row_a_metric_with_its_interval() -> None:
    table = evaluation_metrics(
        pd.concat([predictions(), predictions(seed=1, model="prevalence")]), resamples=200
    )
    assert list(table.columns) == METRIC_COLUMNS
    assert table.groupby("model").size().tolist() == [len(METRIC_MEANINGS)] * 2
    assert set(table["metric"]) == set(METRIC_MEANINGS)
    assert (table["ci_low"] <= table["value"]).all()
    assert (table["value"] <= table["ci_high"]).all()
    assert set(table["rows"]) == {600}


def test_order_of_rows_changes_nothing() -> None:
    frame = predictions()
    shuffled = frame.sample(frac=1, random_state=0)
    pd.testing.assert_frame_equal(
        evaluation_metrics(frame, 50), evaluation_metrics(shuffled, 50), rtol=1e-12
    )


def test_chunks_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    from sparkify_assets.churn import metrics

    whole = metrics.bootstrap(
        predictions(), metrics.Resamples.draw(predictions()["user_id"], 50, 0)
    )
    pieces = metrics.bootstrap(
        predictions(), metrics.Resamples.draw(predictions()["user_id"], 50, 0), values_at_once=5000
    )
    pd.testing.assert_frame_equal(whole, pieces)


def test_a_user_doubled_within_a_resample_counts_with_all_their_rows() -> None:
    from sparkify_assets.churn import metrics

    frame = predictions(users=30)
    drawn = metrics.Resamples.draw(frame["user_id"], 1, 3)
    counts = dict(zip(drawn.users, drawn.counts[:, 1], strict=True))
    by_hand = frame.loc[frame.index.repeat(frame["user_id"].map(counts))]
    expected = sklearn_metrics.average_precision_score(by_hand["label"], by_hand["probability"])
    assert metrics.bootstrap(frame, drawn)["pr_auc"].iloc[1] == pytest.approx(expected)
    assert (drawn.counts.sum(axis=0) == 30).all()


def test_repeats_are_averaged_not_pooled() -> None:
    frame = predictions(repeats=2)
    table = evaluation_metrics(frame, 20).set_index("metric")
    expected = np.mean(
        [
            pr_auc(part["label"].to_numpy(), part["probability"].to_numpy())
            for _, part in frame.groupby("repeat")
        ]
    )
    assert table.loc["pr_auc", "value"] == pytest.approx(expected)
    assert table.loc["pr_auc", "rows"] == 600


def test_the_interval_covers_the_truth_about_as_often_as_it_says() -> None:
    """Users drawn from a known population; rows of a user are the same: rows alone would fail."""
    covered = []
    for seed in range(60):
        frame = predictions(users=150, rows_a_user=1, seed=seed)
        frame = pd.concat([frame.assign(as_of=number) for number in range(5)])
        found = evaluation_metrics(frame, 200).set_index("metric").loc["prevalence"]
        covered.append(found["ci_low"] <= 0.2 <= found["ci_high"])
    assert 0.85 <= np.mean(covered) <= 1.0


def test_an_interval_where_a_resample_may_lack_churned_users() -> None:
    frame = predictions(users=20, rows_a_user=1)
    frame["label"] = np.arange(20) == 0
    found = evaluation_metrics(frame, 200).set_index("metric").loc["roc_auc"]
    assert np.isfinite(found["ci_low"])
    assert np.isfinite(found["ci_high"])


def test_eight_models_on_mini_take_about_a_second() -> None:
    frame = pd.concat(
        [predictions(users=215, rows_a_user=7, model=f"m{number}") for number in range(8)]
    )
    started = time.process_time()
    evaluation_metrics(frame, 1000)
    assert time.process_time() - started < 5  # .6 s on a machine of its own


def test_curves() -> None:
    label, probability = np.array([1, 0, 1, 0]), np.array([0.9, 0.8, 0.7, 0.1])
    recall, precision = pr_curve(label, probability)
    assert recall.tolist() == [0.5, 0.5, 1.0, 1.0]
    assert precision.tolist() == pytest.approx([1, 1 / 2, 2 / 3, 1 / 2])
    curve = reliability_curve(label, probability, bins=2)
    assert curve["probability"].tolist() == pytest.approx([0.4, 0.85])
    assert curve["churned_share"].tolist() == [0.5, 0.5]
    assert curve["rows"].tolist() == [2, 2]
