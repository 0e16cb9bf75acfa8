"""What `benchmarks.oracle` makes of predictions and true chances."""

from __future__ import annotations

import json
from datetime import date

import numpy as np
import pandas as pd
import polars as pl
import pytest
from sklearn.metrics import average_precision_score, roc_auc_score

from benchmarks.oracle import ORACLE, best_feature, expected, share, show, with_known
from sparkify_assets.churn import evaluation, metrics

USERS = 400


@pytest.fixture
def truly() -> np.ndarray:
    return np.random.default_rng(1).beta(1, 9, USERS)


@pytest.fixture
def seen(truly: np.ndarray) -> pl.DataFrame:
    """What the oracle says, of one user more than the log knows."""
    draws = np.random.default_rng(2).random(USERS)
    return pl.DataFrame(
        {
            "user_id": [str(number) for number in range(USERS)] + ["never logged in"],
            "probability": [*truly, 0.5],
            "cancels": [*(draws < truly).tolist(), True],
        }
    )


@pytest.fixture
def predictions(seen: pl.DataFrame) -> pd.DataFrame:
    """A model that knows the chances, but for some noise, and one that knows nothing."""
    known = seen.head(USERS)
    noise = np.random.default_rng(3).normal(0, 0.3, USERS)
    rows = {
        "protocol": "forecast",
        "estimate": "temporal",
        "repeat": 0,
        "fold": 0,
        "user_id": known["user_id"].to_list(),
        "as_of": date(2018, 11, 21),
        "label": known["cancels"].to_list(),
        **dict.fromkeys(metrics.THRESHOLDS.values(), 0.1),
    }
    good = {"model": evaluation.CHOSEN, "candidate": "boosted_regression"}
    good |= {"probability": known["probability"].to_numpy() * np.exp(noise)}
    level = {"model": "level_only", "candidate": "level_only", "probability": 0.1}
    frame = pd.concat([pd.DataFrame(rows | level), pd.DataFrame(rows | good)])
    # In no order, as the oracle's rows are in another.
    return frame[evaluation.PREDICTION_COLUMNS].sample(frac=1, random_state=4)


def test_expected_scores_are_those_of_many_such_users(truly: np.ndarray) -> None:
    score = truly + np.random.default_rng(5).normal(0, 0.05, USERS)
    many, chance = np.tile(score, 300), np.tile(truly, 300)
    outcome = np.random.default_rng(6).random(len(many)) < chance
    found = expected(score, truly)
    assert found["roc_auc"] == pytest.approx(roc_auc_score(outcome, many), abs=0.005)
    assert found["pr_auc"] == pytest.approx(average_precision_score(outcome, many), abs=0.005)


def test_for_known_outcomes_expected_scores_are_scikit_learns(truly: np.ndarray) -> None:
    outcome = (truly > np.quantile(truly, 0.8)).astype(float)
    score = np.round(np.random.default_rng(7).normal(outcome, 1), 1)  # with ties
    found = expected(score, outcome)
    assert found["roc_auc"] == pytest.approx(roc_auc_score(outcome, score))
    assert found["pr_auc"] == pytest.approx(average_precision_score(outcome, score))


def test_shares_run_from_guessing_to_the_oracle() -> None:
    assert [share(value, 0.5, 0.8) for value in (0.5, 0.65, 0.8)] == pytest.approx([0, 0.5, 1])


def test_the_best_feature_may_rise_or_fall_and_be_unknown() -> None:
    label = np.arange(100) < 30
    table = pd.DataFrame(
        {
            "label": label,
            "noise": np.tile([1.0, 2.0], 50),
            "falls": np.where(label, -1.0, np.where(np.arange(100) < 40, np.nan, 1.0)),
        }
    )
    assert best_feature(table, ["noise", "falls"]) == ("falls", 1.0)


def test_the_oracle_is_scored_on_the_users_of_the_log(
    predictions: pd.DataFrame, seen: pl.DataFrame
) -> None:
    both = with_known(predictions, ORACLE, seen)
    oracle = both[both["model"] == "oracle"]
    assert set(oracle["user_id"]) == set(predictions["user_id"])
    by_user = dict(seen.select("user_id", "probability").rows())
    assert oracle["probability"].tolist() == [by_user[user] for user in oracle["user_id"]]


def test_a_truth_of_another_log_is_refused(predictions: pd.DataFrame, seen: pl.DataFrame) -> None:
    with pytest.raises(ValueError, match="not of the same users"):
        with_known(predictions, ORACLE, seen.with_columns(~pl.col("cancels")))
    with pytest.raises(ValueError, match="not of the same users"):
        with_known(predictions, ORACLE, seen.tail(USERS))


def test_what_is_printed(
    predictions: pd.DataFrame,
    seen: pl.DataFrame,
    truly: np.ndarray,
    capsys: pytest.CaptureFixture[str],
) -> None:
    show(with_known(predictions, ORACLE, seen), {"roc_auc": 0.6})
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    rows = {line["row"]: line for line in lines}
    assert len(rows) == len(lines)
    assert {line["benchmark"] for line in lines} == {"oracle"}
    assert rows["users (all figures are of simulated data)"]["value"] == USERS

    chosen = predictions[predictions["model"] == evaluation.CHOSEN]
    model, oracle = (
        rows[f"{who} ROC AUC, seen"]["value"] for who in ("model (boosted regression)", "oracle")
    )
    assert model == pytest.approx(roc_auc_score(chosen["label"], chosen["probability"]), abs=1e-4)
    part = rows["model (boosted regression) ROC AUC, seen, of the oracle's"]
    assert part["value"] == pytest.approx((model - 0.5) / (oracle - 0.5), abs=1e-3)
    assert part["met"] == (part["value"] >= part["goal"])
    off = rows["oracle ROC AUC expected, off the ceiling"]
    assert off["value"] == pytest.approx(expected(truly, truly)["roc_auc"] - 0.6, abs=1e-4)
    assert not off["met"]

    assert rows["level only ROC AUC, expected, of the oracle's"]["value"] == pytest.approx(0)
    assert rows["level only PR AUC, expected, of the oracle's"]["value"] == pytest.approx(0)
    assert rows["level only PR AUC, seen, of the oracle's"]["goal"] is None
