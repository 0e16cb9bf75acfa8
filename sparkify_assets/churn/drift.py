"""Whether the users who are scored still look like those that the model learned from.

Belongs here: the profile of what a model learned from, and the population stability index (PSI) of
what it scores against that. Does not belong here: what is done about a drift (`checks/`).

PSI is the sum over bins of (found - expected) * ln(found / expected), both as shares of the rows.
By convention less than .1 is no drift and .2 or more a large one. Without any drift it is about
(1/expected rows + 1/found rows) times a chi-squared number with one degree of freedom less than
there are bins (Yurdakul and Naranjo, Statistical properties of the population stability index,
2020), so with few users chance alone goes beyond the convention: here an index has to be that much
larger than what chance gives.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from sparkify_assets.churn.metrics import equal_bins

BINS = 10
MODERATE, LARGE = 0.1, 0.2
# How often chance alone gives a larger index than what is counted as chance.
_CHANCE = 0.01
# Standard deviations between an edge and a value that many rows share.
_APART = 0.25
PROBABILITY = "probability"

Counts = dict[str, np.ndarray]  # rows in each bin, and last those where the value is unknown


@dataclass(frozen=True)
class Profile:
    """How some rows are spread over bins of their own, for each feature and the probability."""

    edges: Mapping[str, np.ndarray]  # between the bins, rising
    counts: Mapping[str, np.ndarray]  # as in `Counts`

    @classmethod
    def of(cls, values: Mapping[str, np.ndarray]) -> Profile:
        """Bins of as equally many rows as ties allow; NaN is unknown and has its own."""
        edges = {name: _edges(column[~np.isnan(column)]) for name, column in values.items()}
        return cls(edges, _count(edges, values))

    def count(self, values: Mapping[str, np.ndarray]) -> Counts:
        """Other rows in this profile's bins; adds up over any split of the rows."""
        return _count(self.edges, values)

    def to_json(self) -> str:
        return json.dumps(
            {
                name: {"edges": self.edges[name].tolist(), "rows": self.counts[name].tolist()}
                for name in self.edges
            }
        )

    @classmethod
    def from_json(cls, text: str) -> Profile:
        stored = json.loads(text)
        return cls(
            {name: np.array(each["edges"], dtype=float) for name, each in stored.items()},
            {name: np.array(each["rows"], dtype=int) for name, each in stored.items()},
        )


class Drift(NamedTuple):
    """How far one feature, or the probability, has moved."""

    name: str
    psi: float
    by_chance: float  # the PSI that rows of the same kind exceed once in a hundred times
    level: str  # none, moderate or large


def drifts(expected: Mapping[str, np.ndarray], found: Mapping[str, np.ndarray]) -> list[Drift]:
    """Of each name in `expected`, the largest PSI first; both are counts of rows in the bins."""
    measured = []
    for name, counts in expected.items():
        index, by_chance = psi(counts, found[name]), limit_of_chance(counts, found[name])
        large, moderate = (index >= bound + by_chance for bound in (LARGE, MODERATE))
        level = "large" if large else "moderate" if moderate else "none"
        measured.append(Drift(name, index, by_chance, level))
    return sorted(measured, key=lambda drift: -drift.psi)


def in_words(found: Sequence[Drift], model_version: str, most: int = 5) -> str:
    """The features that moved most, and what to do; `found` as measured."""
    moved = [each for each in found if each.level == "large"]
    if not moved:
        return f"the largest is {_spoken(found[0])}"
    return (
        f"{len(moved)} of {len(found)} are higher: "
        f"{', '.join(map(_spoken, moved[:most]))}{', ...' if len(moved) > most else ''}. "
        f"The users who are scored are not like those that {model_version} learned from: look at "
        "the log first, then train again"
    )


def _spoken(each: Drift) -> str:
    return f"{each.name} {each.psi:.2f} (by chance up to {each.by_chance:.2f})"


def total(counts: Sequence[Counts]) -> Counts:
    """The counts of several parts together."""
    return {name: np.sum([part[name] for part in counts], axis=0) for name in counts[0]}


def psi(expected: np.ndarray, found: np.ndarray) -> float:
    """Population stability index of two counts over the same bins; 0 where a side has no rows.

    A bin that only one of them fills counts as half a row there, one that neither fills not at all.
    """
    if not expected.sum() or not found.sum():
        return 0.0
    used = (expected > 0) | (found > 0)
    rows = [np.maximum(counts[used], 0.5) for counts in (expected, found)]
    p, q = (counts / counts.sum() for counts in rows)
    return float(((q - p) * np.log(q / p)).sum())


def limit_of_chance(expected: np.ndarray, found: np.ndarray) -> float:
    """The PSI that two draws of one population, of these sizes, exceed once in a hundred times."""
    from scipy.special import chdtri

    freedom = int(((expected > 0) | (found > 0)).sum()) - 1
    if freedom < 1 or not expected.sum() or not found.sum():
        return 0.0
    return float(chdtri(freedom, _CHANCE) * (1 / expected.sum() + 1 / found.sum()))


def _edges(known: np.ndarray) -> np.ndarray:
    """Half way between neighbouring values that belong into different bins.

    A value that many rows share is often what users are taken for of whom nothing is known, the
    population's rate, and that moves a little every day: edges keep away from it.
    """
    values, first, rows = np.unique(known, return_index=True, return_counts=True)
    in_bin = equal_bins(known, BINS)[first]
    last = np.flatnonzero(np.diff(in_bin))
    edges = (values[last] + values[last + 1]) / 2
    for shared in values[rows * BINS >= len(known)]:
        away = edges - shared
        near = np.abs(away) < _APART * known.std()
        edges[near] = shared + np.sign(away[near]) * _APART * known.std()
    return np.unique(edges)


def _count(edges: Mapping[str, np.ndarray], values: Mapping[str, np.ndarray]) -> Counts:
    counts = {}
    for name, bounds in edges.items():
        place = np.searchsorted(bounds, values[name])
        place[np.isnan(values[name])] = len(bounds) + 1
        counts[name] = np.bincount(place, minlength=len(bounds) + 2)
    return counts
