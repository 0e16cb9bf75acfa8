"""Which rows a model may learn from and which it is tested on.

Belongs here: folds by user, the split by time, the jury, and the proof that no user is on both
sides.
Does not belong here: fitting, choosing or scoring models (`models.py`, `evaluation.py`).

Rows come as a feature table: `user_id`, `as_of`, `label`. Nothing here depends on the rows' order.
"""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import pandas as pd
import polars as pl

from sparkify_assets.errors import NotEnoughDataError
from sparkify_assets.events.buckets import buckets

# One user in so many is of the jury.
_JURY = 5


def churned_by_user(frame: pd.DataFrame) -> pd.Series:
    """Whether any row of a user is positive; one value a user, in order of user_id."""
    return frame["label"].astype(bool).groupby(frame["user_id"]).any().sort_index()


def user_folds(frame: pd.DataFrame, folds: int = 5, seed: int = 0) -> np.ndarray:
    """A fold number (0 .. folds - 1) for each row: all rows of a user share one.

    Churned users are spread evenly over the folds. The folds depend on the users and on `seed`
    only, not on the rows' order.
    """
    from sklearn.model_selection import StratifiedKFold

    churned = churned_by_user(frame)
    fewest = min(int(churned.sum()), int((~churned).sum()))
    if fewest < folds:
        raise NotEnoughDataError(
            f"{folds} folds need at least {folds} churned and {folds} staying users; there are "
            f"{int(churned.sum())} churned and {int((~churned).sum())} staying ones."
        )
    fold_of_user = pd.Series(-1, index=churned.index)
    splitter = StratifiedKFold(folds, shuffle=True, random_state=seed)
    for number, (_, test) in enumerate(splitter.split(churned, churned)):
        fold_of_user.iloc[test] = number
    result = frame["user_id"].map(fold_of_user).to_numpy()
    for number in range(folds):
        check_users_apart(frame, result != number, result == number)
    return result


def temporal_split(frame: pd.DataFrame, horizon_days: int) -> tuple[np.ndarray, np.ndarray]:
    """Masks (train, test): test is the last cutoff; train the cutoffs known by then.

    A cutoff's labels are known once its window [as_of, as_of + horizon) has closed, so a cutoff
    trains only if as_of + horizon <= the last cutoff. Users who are still there at the last
    cutoff were also there before: unlike folds by user, this split is meant to share users, as a
    model in use does. Raises NotEnoughDataError where no cutoff is early enough.
    """
    as_of = pd.to_datetime(frame["as_of"])
    last = as_of.max()
    train = (as_of + pd.Timedelta(days=horizon_days) <= last).to_numpy()
    if not train.any():
        raise NotEnoughDataError(
            f"a cutoff at least {horizon_days} days before the last one is needed to train on; "
            f"there are {as_of.nunique()} cutoffs from {as_of.min():%Y-%m-%d} to {last:%Y-%m-%d}"
        )
    return train, (as_of == last).to_numpy()


def jury(users: Iterable[str]) -> np.ndarray:
    """True for the rows of a fixed fifth of all users, whom no twin of a model ever learns from.

    By a hash of the user id, so that a user is of it or not for good: models of different trainings
    can be compared on the same users, none of whom has taught any of them.
    """
    return (buckets(pl.Series(list(users), dtype=pl.String)) % _JURY == 0).to_numpy()


def check_users_apart(frame: pd.DataFrame, train: np.ndarray, test: np.ndarray) -> None:
    """Raise ValueError if a user has rows both in `train` and in `test` (boolean masks)."""
    users = frame["user_id"].to_numpy()
    shared = set(users[train]) & set(users[test])
    if shared:
        raise ValueError(
            f"{len(shared)} users are on both sides of the split, e.g. {sorted(shared)[:3]}"
        )
