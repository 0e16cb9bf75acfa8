"""What goes with churn, over all users: how much each feature matters to the chosen model.

Belongs here: contributions summed up by feature, their direction, and the feature's values among
churned and staying users.
Does not belong here: reasons for one user (`scoring.py`), or any claim about causes: a feature that
goes with churn need not cause it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple, Protocol

import numpy as np
import pandas as pd

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
    "mean_abs_contribution",
    "share",
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


def churn_factors(
    model: Model, frame: Any, features: Iterable[Described], most_rows: int = 10_000, seed: int = 0
) -> pd.DataFrame:
    """A row a feature with FACTOR_COLUMNS, the one that matters most first.

    `frame` is a feature table; rows with a label count. `mean_abs_contribution` is in the model's
    scale (log-odds, or probability for a forest), over at most `most_rows` rows drawn with `seed`;
    `share` is its part of the sum over all features. The churned_ and stayed_ columns are in the
    feature's own unit, over all rows with a known value.
    """
    if not isinstance(frame, pd.DataFrame):
        frame = frame.to_pandas()
    known = frame[frame["label"].notna()].sort_values(["user_id", "as_of"], kind="stable")
    drawn = known.sample(most_rows, random_state=seed) if len(known) > most_rows else known
    names = list(model.features)
    contributions = pd.DataFrame(model.contributions(drawn), columns=names)
    size = contributions.abs().mean()
    directions = _directions(drawn[names].astype(float).reset_index(drop=True), contributions)
    described = descriptions(features)
    table = pd.DataFrame(
        [describe(name, described) for name in names],
        columns=["feature", "theme", "meaning", "unit"],
    )
    table["mean_abs_contribution"] = size.to_numpy()
    table["share"] = (size / size.sum()).fillna(0.0).to_numpy() if size.sum() else 0.0
    table["direction"] = directions
    table["direction_words"] = table["direction"].map(DIRECTIONS)
    churned = known["label"].astype(bool).to_numpy()
    for group, rows in (("churned", known[churned]), ("stayed", known[~churned])):
        values = rows[names].astype(float)
        table[f"{group}_mean"] = values.mean().to_numpy()
        for what, part in (("p25", 0.25), ("median", 0.5), ("p75", 0.75)):
            table[f"{group}_{what}"] = values.quantile(part).to_numpy()
    table = table.sort_values(
        ["mean_abs_contribution", "feature"], ascending=[False, True], ignore_index=True
    )
    table["rank"] = np.arange(1, len(table) + 1)
    return table[FACTOR_COLUMNS]


def _directions(values: pd.DataFrame, contributions: pd.DataFrame) -> list[int]:
    """+1, -1 or 0 for each feature, by rank correlation of value and contribution."""
    # A constant has no correlation: pandas gives NaN, which is no direction.
    with np.errstate(divide="ignore", invalid="ignore"):
        correlation = values.rank().corrwith(contributions.where(values.notna()).rank())
    clear = correlation.abs().fillna(0) >= CLEAR_DIRECTION
    return [int(np.sign(c)) if ok else 0 for c, ok in zip(correlation, clear, strict=True)]
