"""Folds by user and the split by time."""

from __future__ import annotations

from datetime import date

import numpy as np
import pandas as pd
import pytest

from sparkify_assets.churn.splits import (
    check_users_apart,
    churned_by_user,
    temporal_split,
    user_folds,
)
from sparkify_assets.errors import NotEnoughDataError


def rows(users: int = 60, churned: int = 15, cutoffs: int = 3) -> pd.DataFrame:
    """Each user at each cutoff; the first `churned` users are positive at their last one."""
    return pd.DataFrame(
        [
            {
                "user_id": f"u{user:03d}",
                "as_of": date(2018, 10, 15 + 7 * cutoff),
                "label": user < churned and cutoff == cutoffs - 1,
            }
            for user in range(users)
            for cutoff in range(cutoffs)
        ]
    )


def test_a_user_is_churned_if_any_of_their_rows_is() -> None:
    frame = pd.DataFrame({"user_id": ["b", "a", "b"], "label": [False, False, True]})
    assert churned_by_user(frame).to_dict() == {"a": False, "b": True}


def test_all_rows_of_a_user_share_a_fold_and_churned_users_are_spread() -> None:
    frame = rows()
    frame["fold"] = user_folds(frame, 5)
    assert (frame.groupby("user_id")["fold"].nunique() == 1).all()
    users = frame.groupby("user_id").agg(fold=("fold", "first"), churned=("label", "any"))
    assert users.groupby("fold")["churned"].sum().tolist() == [3] * 5
    assert users.groupby("fold").size().tolist() == [12] * 5


def test_folds_follow_the_users_and_the_seed_not_the_order_of_rows() -> None:
    frame = rows()
    shuffled = frame.sample(frac=1, random_state=1)
    assert (user_folds(frame)[shuffled.index] == user_folds(shuffled)).all()
    assert (user_folds(frame, seed=1) != user_folds(frame, seed=2)).any()


def test_too_few_churned_users_for_the_folds() -> None:
    with pytest.raises(NotEnoughDataError, match="there are 4 churned and 56 staying"):
        user_folds(rows(churned=4), 5)


@pytest.mark.parametrize(
    ("horizon", "cutoffs_to_train"), [(7, [15, 22]), (8, [15]), (10, [15]), (14, [15])]
)
def test_only_cutoffs_whose_window_has_closed_by_the_last_one_train(
    horizon: int, cutoffs_to_train: list[int]
) -> None:
    frame = rows()
    train, test = temporal_split(frame, horizon)
    assert sorted(frame[train]["as_of"].unique()) == [date(2018, 10, d) for d in cutoffs_to_train]
    assert frame[test]["as_of"].unique().tolist() == [date(2018, 10, 29)]


def test_no_cutoff_is_early_enough() -> None:
    with pytest.raises(NotEnoughDataError, match=r"at least 15 days before .* 3 cutoffs"):
        temporal_split(rows(), 15)


def test_a_user_on_both_sides_is_caught() -> None:
    frame = rows()
    train = np.zeros(len(frame), dtype=bool)
    train[0] = True
    with pytest.raises(ValueError, match="1 users are on both sides of the split"):
        check_users_apart(frame, train, ~train)
