"""The search for hyper-parameters: its bounds, going on where it stopped, and when it decides."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
import xgboost

from sparkify_assets.churn import search
from sparkify_assets.churn.boosting import DEFAULTS, Settings
from sparkify_assets.churn.search import Budget, Found, Trial
from sparkify_assets.tables import MODEL_TRIALS

Rows = tuple[np.ndarray, np.ndarray, np.ndarray]  # x, label, users


def rows(users: int = 400, strength: float = 2.0, base: float = -0.5) -> Rows:
    """Four rows a user; the signal is no line, so that trees have something to find."""
    draw = np.random.default_rng(0)
    x = draw.normal(size=(4 * users, 4))
    x[:, 3] = np.repeat(np.arange(users), 4)  # carries the user into what XGBoost is given
    odds = base + strength * np.sign(x[:, 0] * x[:, 1])
    label = draw.random(len(x)) < 1 / (1 + np.exp(-odds))
    return x, label, np.array([f"u{number}" for number in np.repeat(np.arange(users), 4)])


def searched(given: Rows, budget: Budget, **more: Any) -> Found:
    return search.search(*given, lambda learn: np.zeros(len(given[0])), budget, **more)


def same(one: Found, other: Found) -> bool:
    """But for how long the trials took."""
    return one.settings == other.settings and [
        (trial.trial, trial.settings, trial.log_loss) for trial in one.trials
    ] == [(trial.trial, trial.settings, trial.log_loss) for trial in other.trials]


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(search, "MOST_ROUNDS", 30)


def broken_after(fits: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """The fit after so many is interrupted, as by Ctrl-C."""
    train, begun = xgboost.train, []

    def interrupted(*given: Any, **more: Any) -> xgboost.Booster:
        begun.append(1)
        if len(begun) > fits:
            raise KeyboardInterrupt
        return train(*given, **more)

    monkeypatch.setattr(xgboost, "train", interrupted)


# Side by side


def test_no_two_trials_share_a_matrix(monkeypatch: pytest.MonkeyPatch) -> None:
    """XGBoost crashes, once in a while, when two threads train on the same one."""
    train, taken = xgboost.train, []

    def noted(settings: Any, learn: Any, rounds: int, evals: Any, **more: Any) -> xgboost.Booster:
        taken.extend([learn, *(matrix for matrix, _ in evals)])
        return train(settings, learn, rounds, evals=evals, **more)

    monkeypatch.setattr(xgboost, "train", noted)
    found = searched(rows(), Budget(trials=4), jobs=2)
    assert len(found.trials) == 4
    assert len(taken) >= 8
    assert len({id(matrix) for matrix in taken}) == len(taken)


# Bounds


def test_the_first_trial_is_the_defaults_and_trials_are_bounded_in_number() -> None:
    found = searched(rows(), Budget(trials=4))
    assert [trial.trial for trial in found.trials] == [0, 1, 2, 3]
    first = found.trials[0]
    assert search._space_of(first.settings) == search._space_of(DEFAULTS)
    assert (first.better_by, first.error) == (0, 0)
    assert len({trial.settings for trial in found.trials}) == 4
    for trial in found.trials:
        assert 1 <= trial.settings.rounds <= 30
        assert trial.better_by == pytest.approx(first.log_loss - trial.log_loss)


def test_trials_are_bounded_in_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """The defaults are tried whatever the time; no trial begins when it is over."""
    train = xgboost.train

    def slow(*given: Any, **more: Any) -> xgboost.Booster:
        time.sleep(0.3)
        return train(*given, **more)

    monkeypatch.setattr(xgboost, "train", slow)
    assert len(searched(rows(), Budget(trials=50, seconds=0.01)).trials) == 1
    assert 1 < len(searched(rows(), Budget(trials=50, seconds=1.0)).trials) <= 5


def test_no_trial_and_one_outcome_only_give_the_defaults() -> None:
    x, label, users = rows()
    assert searched((x, label, users), Budget(trials=0)) == Found()
    for everybody in (np.zeros_like(label), np.ones_like(label)):
        assert searched((x, everybody, users), Budget()) == Found()


def test_with_few_churned_rows_only_the_number_of_rounds_is_looked_for() -> None:
    x, label, users = rows(100)
    assert 0 < label.sum() < search.ENOUGH_TO_SEARCH
    found = searched((x, label, users), Budget())
    assert len(found.trials) == 1
    assert found.settings == found.trials[0].settings
    assert search._space_of(found.settings) == search._space_of(DEFAULTS)


# What is learned from and what is tried on


@pytest.mark.parametrize(("users", "held_out_users"), [(100, 100), (400, 80)])
def test_a_users_rows_stay_together(
    users: int, held_out_users: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Few rows: everybody is held out once. Many: a fifth of the users."""
    seen: list[tuple[list[float], ...]] = []
    train = xgboost.train

    def spy(settings: dict, data: xgboost.DMatrix, rounds: int, **more: Any) -> xgboost.Booster:
        parts = data, more["evals"][0][0]
        seen.append(tuple(part.get_data().toarray()[:, 3].tolist() for part in parts))
        return train(settings, data, rounds, **more)

    monkeypatch.setattr(xgboost, "train", spy)
    given = rows(users)
    started: list[np.ndarray] = []
    search.search(
        *given, lambda learn: started.append(learn) or np.zeros(len(learn)), Budget(trials=1)
    )
    for learned, tried in seen:
        assert not set(learned) & set(tried)
        assert len(tried) == 4 * len(set(tried))
    assert len({user for _, tried in seen for user in tried}) == held_out_users
    assert sum(len(set(tried)) for _, tried in seen) == held_out_users
    # The regression, too, has learned from nobody who is held out.
    assert [set(given[0][learn, 3]) for learn in started] == [set(learned) for learned, _ in seen]


def test_beyond_a_number_of_rows_some_users_are_enough(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(search, "_MOST_ROWS", 400)
    x, label, users = rows()
    parts = search._Rows.of(x, label, users, lambda learn: np.zeros(len(x)), 0)
    (part,) = parts.parts
    assert (len(part.learn.x), len(part.test.x)) == (320, 80)


# The decision


def trial(number: int, losses: list[float]) -> Any:
    """As Optuna keeps one."""

    class Kept:
        params = search._space_of(DEFAULTS) | {"max_depth": number + 2}
        value = sum(losses) / len(losses)
        user_attrs = {"rounds": 10, "losses": losses, "seconds": 1.0}  # noqa: RUF012

    return Kept


def test_the_defaults_stay_unless_another_is_better_by_more_than_the_error() -> None:
    first, luck = [1.0] * 10, [0.0, 1.2] + [1.0] * 8
    clear, best = [0.9] * 9 + [1.0], [0.8] * 10
    trials = [trial(n, losses) for n, losses in enumerate((first, luck, clear, best))]
    assert search._found(trials[:2], 10).settings.max_depth == 2, "that is one user's luck"
    assert search._found(trials[:3], 10).settings.max_depth == 4
    assert search._found(trials, 10).settings.max_depth == 5
    of_luck = search._found(trials[:2], 10).trials[1]
    error = np.std([1.0, -0.2] + [0.0] * 8, ddof=1) / np.sqrt(10)
    assert (of_luck.better_by, of_luck.error) == pytest.approx((0.08, error))


def test_clearly_better_settings_are_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    """Defaults too shallow for what is in these rows: there others are clearly better."""
    monkeypatch.setattr(search, "DEFAULTS", Settings(max_depth=2, colsample_bynode=0.2))
    found = searched(rows(800), Budget(trials=3))
    assert found.settings in [trial.settings for trial in found.trials[1:]]
    taken = next(trial for trial in found.trials if trial.settings == found.settings)
    assert taken.better_by > taken.error
    assert taken.log_loss == min(trial.log_loss for trial in found.trials)


# Going on


def test_the_same_rows_give_the_same_and_other_rows_another_search(tmp_path: Path) -> None:
    given, budget = rows(), Budget(trials=3, journals=tmp_path / "search")
    found = searched(given, budget)
    assert same(found, searched(given, Budget(trials=3)))
    x, label, users = given
    other = searched((x, ~label, users), budget)
    assert not same(found, other)
    assert len(list((tmp_path / "search").iterdir())) == 2


def test_what_is_done_is_not_done_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    given, budget = rows(), Budget(trials=3, journals=tmp_path)
    found = searched(given, budget)
    broken_after(0, monkeypatch)
    assert searched(given, budget) == found
    fewer = searched(given, Budget(trials=2, journals=tmp_path))
    assert fewer.trials == found.trials[:2]


@pytest.mark.parametrize("fits", [0, 1, 3])
def test_a_search_that_was_broken_off_goes_on(
    fits: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    given, budget = rows(), Budget(trials=5, journals=tmp_path)
    with monkeypatch.context() as patch:
        broken_after(fits, patch)
        with pytest.raises(KeyboardInterrupt):
            searched(given, budget)
    with monkeypatch.context() as patch:
        broken_after(5 - fits, patch)  # none is done twice
        found = searched(given, budget)
    assert same(found, searched(given, Budget(trials=5)))


# Killed without a word when the third fit begins.
KILLED = """
import os, sys
from pathlib import Path
import xgboost
from sparkify_assets.churn import search
from sparkify_assets_tests.test_search import Budget, rows, searched

search.MOST_ROUNDS = 30
train, begun = xgboost.train, []

def killed(*given, **more):
    begun.append(1)
    if len(begun) > 2:
        os._exit(9)
    return train(*given, **more)

xgboost.train = killed
searched(rows(), Budget(trials=4, journals=Path(sys.argv[1])))
"""


def test_a_search_whose_process_was_killed_goes_on(tmp_path: Path) -> None:
    command = [sys.executable, "-c", KILLED, str(tmp_path)]
    assert (
        subprocess.run(command, env={**os.environ}, cwd=Path(__file__).parents[1]).returncode == 9
    )
    found = searched(rows(), Budget(trials=4, journals=tmp_path))
    assert same(found, searched(rows(), Budget(trials=4)))


def test_side_by_side_gives_the_same_trials() -> None:
    alone, both = (searched(rows(), Budget(trials=5), jobs=jobs) for jobs in (1, 2))
    assert same(alone, both)


# The table


def test_the_rows_of_the_table() -> None:
    found = searched(rows(), Budget(trials=3))
    table = pl.DataFrame(found.to_rows(), schema=MODEL_TRIALS.polars_schema)
    assert table.columns == search.TRIAL_COLUMNS == MODEL_TRIALS.names
    assert table["trial"].to_list() == [0, 1, 2]
    assert table["taken"].sum() == 1
    taken = table.filter("taken")["settings"][0]
    assert Settings(**json.loads(taken)) == found.settings
    assert table["seconds"].min() >= 0
    none = pl.DataFrame(Found().to_rows(), schema=MODEL_TRIALS.polars_schema)
    assert none.is_empty()


def test_a_trial_is_marked_where_its_settings_are_taken() -> None:
    kept = [Trial(n, Settings(rounds=n + 1), 0.5, 0.0, 0.0, 1.0) for n in range(2)]
    found = Found(kept[1].settings, tuple(kept))
    assert [row["taken"] for row in found.to_rows()] == [False, True]
