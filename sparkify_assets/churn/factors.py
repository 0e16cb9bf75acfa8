"""What goes with churn, over all users: how much each feature and theme moves the chosen model.

Belongs here: contributions summed up by feature and by theme, their direction, how much their order
depends on which users were learned from, and the feature's values among churned and staying users.
Does not belong here: reasons for one user (`scoring.py`), or any claim about causes: a feature that
goes with churn need not cause it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol

import numpy as np
import pandas as pd

from sparkify_assets.churn import models, splits
from sparkify_assets.churn.boosting import Workers
from sparkify_assets.churn.models import Model

DIRECTIONS = {
    1: "more of it goes with more churn",
    -1: "more of it goes with less churn",
    0: "no clear direction",
}
# Rank correlation of a feature's value with its contribution below which no direction is claimed.
CLEAR_DIRECTION = 0.2
FACTOR_COLUMNS = [
    "feature",
    "theme",
    "meaning",
    "unit",
    "rank",
    "rank_low",
    "rank_high",
    "mean_abs_contribution",
    "share",
    "theme_rank",
    "theme_mean_abs_contribution",
    "theme_share",
    "direction",
    "direction_words",
    *(
        f"{group}_{what}"
        for group in ("churned", "stayed")
        for what in ("mean", "p25", "median", "p75")
    ),
]


class Described(Protocol):
    """A feature's description for people, e.g. `features.Feature`."""

    @property
    def name(self) -> str: ...
    @property
    def theme(self) -> str: ...
    @property
    def meaning(self) -> str: ...
    @property
    def unit(self) -> str | None: ...


class Description(NamedTuple):
    """A description and nothing else, small enough to travel to other processes."""

    name: str
    theme: str
    meaning: str
    unit: str | None


def descriptions(features: Iterable[Described]) -> dict[str, Description]:
    """Descriptions by feature name."""
    return {f.name: Description(f.name, f.theme, f.meaning, f.unit) for f in features}


def describe(name: str, known: Mapping[str, Description]) -> Description:
    """The feature's description; one that nobody described is called by its name."""
    return known.get(name, Description(name, "other", name.replace("_", " "), None))


class Agreement(NamedTuple):
    """Rank correlations of the folds' orders with the order that is shown; 1 is the same order.

    None where there is nothing to put in order.
    """

    mean: float | None
    lowest: float | None


@dataclass(frozen=True)
class Factors:
    """What goes with churn, and how much of its order is owed to the users at hand."""

    table: pd.DataFrame  # FACTOR_COLUMNS
    folds: int
    features: Agreement
    themes: Agreement

    @property
    def stability(self) -> dict[str, Any]:
        """As it is written down beside the table."""
        return {
            "folds": self.folds,
            "features": self.features._asdict(),
            "themes": self.themes._asdict(),
        }


def churn_factors(
    model: Model,
    frame: Any,
    features: Iterable[Described],
    *,
    folds: int = 5,
    most_rows: int = 4_000,
    seed: int = 0,
    workers: Workers | None = None,
) -> Factors:
    """A row a feature with FACTOR_COLUMNS, the one that matters most first.

    `frame` is a feature table; rows with a label count. `mean_abs_contribution` is in log-odds,
    over at most `most_rows` rows drawn with `seed`; `share` is its part of the sum over all
    features. A theme's contribution to a row is the sum of its features' contributions, so that
    features which say the same, or take back what another one said, do not count twice;
    `theme_mean_abs_contribution` and `theme_share` are of those sums. The churned_ and stayed_
    columns are in the feature's own unit, over all rows with a known value.

    The model is fitted again without each of `folds` folds by user, and its contributions are taken
    on the drawn rows of that fold. `rank_low` and `rank_high` span a feature's ranks, its own and
    theirs; the agreements are Spearman's rank correlations of their orders with the table's.
    Raises SparkifyError where contributions do not add up to the predictions.
    """
    if not isinstance(frame, pd.DataFrame):
        frame = frame.to_pandas()
    known = frame[frame["label"].notna()].sort_values(
        ["user_id", "as_of"], kind="stable", ignore_index=True
    )
    described = descriptions(features)
    table = pd.DataFrame(
        [describe(name, described) for name in model.features],
        columns=["feature", "theme", "meaning", "unit"],
    )
    drawn = known.sample(most_rows, random_state=seed) if len(known) > most_rows else known
    contributions = _contributions(model, drawn)
    again = _without_each_fold(model, known, drawn, folds, seed, workers) if len(table) else []
    theme = table["theme"].to_numpy()
    sizes = _sizes([contributions, *again])
    theme_sizes = _sizes([_by_theme(parts, theme) for parts in (contributions, *again)])
    ranks, theme_ranks = _ranks(sizes), _ranks(theme_sizes)

    names = list(model.features)
    table["rank"] = ranks.loc[names, 0].to_numpy()
    table["rank_low"] = ranks.loc[names].min(axis=1).to_numpy()
    table["rank_high"] = ranks.loc[names].max(axis=1).to_numpy()
    table["mean_abs_contribution"] = sizes.loc[names, 0].to_numpy()
    table["share"] = _shares(sizes[0]).loc[names].to_numpy()
    table["theme_rank"] = theme_ranks.loc[theme, 0].to_numpy()
    table["theme_mean_abs_contribution"] = theme_sizes.loc[theme, 0].to_numpy()
    table["theme_share"] = _shares(theme_sizes[0]).loc[theme].to_numpy()
    table["direction"] = _directions(drawn[names].astype(float), contributions)
    table["direction_words"] = table["direction"].map(DIRECTIONS)
    churned = known["label"].astype(bool).to_numpy()
    for group, rows in (("churned", known[churned]), ("stayed", known[~churned])):
        values = rows[names].astype(float)
        table[f"{group}_mean"] = values.mean().to_numpy()
        for what, part in (("p25", 0.25), ("median", 0.5), ("p75", 0.75)):
            table[f"{group}_{what}"] = values.quantile(part).to_numpy()
    table = table.sort_values("rank", ignore_index=True)[FACTOR_COLUMNS]
    return Factors(table, folds, _agreement(sizes), _agreement(theme_sizes))


def _contributions(model: Model, rows: pd.DataFrame) -> pd.DataFrame:
    """A row each of `rows`, a column a feature."""
    return pd.DataFrame(model.contributions(rows), rows.index, list(model.features))


def _without_each_fold(
    model: Model,
    known: pd.DataFrame,
    drawn: pd.DataFrame,
    folds: int,
    seed: int,
    workers: Workers | None,
) -> list[pd.DataFrame]:
    """The contributions to each fold's drawn rows, by a model that learned from the others."""
    from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]

    fold = splits.user_folds(known, folds, seed)
    found = []
    for number in range(folds):
        learned = known[fold != number]
        label = learned["label"].astype(bool)
        with threadpool_limits(1):  # as when the model was chosen: no number of cores tells
            again = models.fit(model.name, learned, label, model.features, seed, workers=workers)
        found.append(_contributions(again, drawn[fold[drawn.index] == number]))
    return found


def _by_theme(contributions: pd.DataFrame, theme: np.ndarray) -> pd.DataFrame:
    return contributions.T.groupby(theme).sum().T


def _sizes(contributions: Iterable[pd.DataFrame]) -> pd.DataFrame:
    """Mean absolute contributions: a row a feature by name; column 0 the model, then the folds."""
    return pd.DataFrame(
        {number: parts.abs().mean() for number, parts in enumerate(contributions)}
    ).sort_index()


def _ranks(sizes: pd.DataFrame) -> pd.DataFrame:
    """1 for the largest of each column; of equal ones the first by name comes first."""
    return sizes.rank(ascending=False, method="first").astype(int)


def _shares(size: pd.Series) -> pd.Series:
    return size / (size.sum() or 1.0)


def _agreement(sizes: pd.DataFrame) -> Agreement:
    """Spearman's rank correlation of column 0 with each other one."""
    ranks = sizes.rank()
    with np.errstate(divide="ignore", invalid="ignore"):
        found = ranks.drop(columns=0).corrwith(ranks[0]).dropna()
    if found.empty:
        return Agreement(None, None)
    return Agreement(round(float(found.mean()), 6), round(float(found.min()), 6))


def _directions(values: pd.DataFrame, contributions: pd.DataFrame) -> list[int]:
    """+1, -1 or 0 for each feature, by rank correlation of value and contribution."""
    # A constant has no correlation: pandas gives NaN, which is no direction.
    with np.errstate(divide="ignore", invalid="ignore"):
        correlation = values.rank().corrwith(contributions.where(values.notna()).rank())
    clear = correlation.abs().fillna(0) >= CLEAR_DIRECTION
    return [int(np.sign(c)) if ok else 0 for c, ok in zip(correlation, clear, strict=True)]
