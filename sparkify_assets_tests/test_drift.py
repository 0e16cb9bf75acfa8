"""The population stability index, its bins, and what is called a drift."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sparkify_assets.churn.drift import (
    BINS,
    Drift,
    Profile,
    drifts,
    in_words,
    limit_of_chance,
    psi,
    total,
)

DRAW = np.random.default_rng(0)
UNKNOWN = math.nan


def count(profile: Profile, values: list[float]) -> list[int]:
    return profile.count({"x": np.array(values)})["x"].tolist()


def measured(before: np.ndarray, after: np.ndarray) -> Drift:
    profile = Profile.of({"x": before})
    return drifts(profile.counts, profile.count({"x": after}))[0]


# The index


def test_psi_by_hand() -> None:
    """(.75 - .5) ln(.75 / .5) + (.25 - .5) ln(.25 / .5)."""
    assert psi(np.array([5, 5]), np.array([3, 1])) == pytest.approx(0.25 * math.log(3))


def test_an_empty_bin_counts_as_half_a_row_and_one_empty_on_both_sides_not_at_all() -> None:
    # Shares of 9/10 and 1/10 against 19/20 and 1/20.
    by_hand = 0.05 * math.log(0.95 / 0.9) - 0.05 * math.log(0.05 / 0.1)
    assert psi(np.array([90, 10, 0]), np.array([9.5, 0, 0])) == pytest.approx(by_hand)


def test_no_rows_are_no_drift() -> None:
    none = np.zeros(3, dtype=int)
    assert psi(none, np.array([1, 2, 3])) == psi(np.array([1, 2, 3]), none) == 0
    assert limit_of_chance(none, none) == 0


@given(st.lists(st.tuples(st.integers(0, 50), st.integers(0, 50)), min_size=1, max_size=12))
def test_psi_is_never_negative_symmetric_and_0_of_the_same(bins: list[tuple[int, int]]) -> None:
    first, second = (np.array(side) for side in zip(*bins, strict=True))
    assert psi(first, second) >= -1e-12
    assert psi(first, second) == pytest.approx(psi(second, first))
    assert psi(first, first) == 0


def test_the_limit_of_chance_by_hand() -> None:
    """Chi-squared with two degrees of freedom exceeds 9.21 once in a hundred times."""
    ten = np.array([10, 10, 10, 0])
    assert limit_of_chance(ten, ten) == pytest.approx(9.2103 * (1 / 30 + 1 / 30), abs=1e-3)


@pytest.mark.parametrize("rows", [60, 200, 2_000])
def test_chance_alone_is_no_drift(rows: int) -> None:
    found = [measured(DRAW.lognormal(size=rows), DRAW.lognormal(size=rows)) for _ in range(300)]
    assert sum(drift.psi > drift.by_chance for drift in found) <= 12
    assert "large" not in {drift.level for drift in found}


# The bins


def test_bins_hold_as_equally_many_rows_as_ties_allow() -> None:
    values = np.arange(100.0)
    profile = Profile.of({"x": values})
    assert profile.counts["x"].tolist() == [10] * BINS + [0]
    assert profile.edges["x"].tolist() == [9.5 + 10 * i for i in range(9)]


def test_yes_and_no_have_a_bin_each_however_few_say_yes() -> None:
    profile = Profile.of({"x": np.array([0.0] * 98 + [1.0] * 2)})
    assert count(profile, [0.0, 0.0, 1.0]) == [2, 1, 0]


def test_unknown_has_a_bin_of_its_own_that_a_profile_without_any_has_too() -> None:
    profile = Profile.of({"x": np.array([1.0, 1.0, 2.0, 2.0])})
    assert profile.counts["x"].tolist() == [2, 2, 0]
    assert count(profile, [UNKNOWN, 1.0, 9.0, -9.0]) == [2, 1, 1]
    assert Profile.of({"x": np.full(3, UNKNOWN)}).counts["x"].tolist() == [0, 3]
    assert Profile.of({"x": np.empty(0)}).counts["x"].tolist() == [0, 0]


def test_a_value_that_many_share_may_move_a_little() -> None:
    """Of whom nothing is known is taken for the population's rate, which is another one later."""
    spread = DRAW.normal(size=700)
    before, after = (np.append(spread, np.full(300, rate)) for rate in (0.1, 0.15))
    assert measured(before, after).psi < 0.05
    assert measured(before, np.append(spread, np.full(300, 1.5))).level == "large"


def test_counts_add_up_over_parts_and_survive_being_stored() -> None:
    values = {"x": DRAW.normal(size=50), "y": DRAW.integers(0, 3, 50).astype(float)}
    profile = Profile.of(values)
    stored = Profile.from_json(profile.to_json())
    parts = [
        stored.count({name: column[part] for name, column in values.items()})
        for part in (slice(0, 20), slice(20, 50), slice(50, 50))
    ]
    for name, counts in total(parts).items():
        assert counts.tolist() == profile.counts[name].tolist()


# What is called a drift


@pytest.mark.parametrize(
    ("shift", "level"), [(0.0, "none"), (0.25, "none"), (0.4, "moderate"), (1.0, "large")]
)
def test_the_convention_for_many_rows(shift: float, level: str) -> None:
    """PSI is about the squared shift in standard deviations; .1 and .2 are the convention."""
    normal = DRAW.normal(size=20_000)
    assert measured(normal, normal + shift).level == level


def test_the_same_index_is_a_drift_of_many_rows_and_chance_of_few() -> None:
    expected, found = np.array([50, 50, 0]), np.array([75, 25, 0])
    assert drifts({"x": 1_000 * expected}, {"x": 1_000 * found})[0].level == "large"
    assert drifts({"x": expected // 5}, {"x": found // 5})[0].level == "none"


def test_the_largest_comes_first_and_is_said() -> None:
    expected = {"calm": np.array([500, 500, 0]), "wild": np.array([500, 500, 0])}
    found = {"calm": np.array([500, 500, 0]), "wild": np.array([900, 100, 0])}
    drifted = drifts(expected, found)
    assert [drift.name for drift in drifted] == ["wild", "calm"]
    said = in_words(drifted, "abc")
    assert "1 of 2 are higher: wild 0.88 (by chance up to 0.01)." in said
    assert "not like those that abc learned from" in said
    assert "the largest is calm 0.00" in in_words(drifted[1:], "abc")
