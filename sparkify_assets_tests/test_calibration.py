"""The line that corrects log-odds: what it finds on many rows, and how little it does on few."""

from __future__ import annotations

import numpy as np
import pytest

from sparkify_assets.churn.calibration import Line, fitted


def outcomes(
    count: int, line: Line, seed: int = 0, spread: float = 1.0
) -> tuple[np.ndarray, np.ndarray]:
    """Labels that follow `line` of the log-odds that a model gives, and these."""
    draw = np.random.default_rng(seed)
    said = draw.normal(-2, spread, count)
    return draw.random(count) < 1 / (1 + np.exp(-line(said))), said


@pytest.mark.parametrize("line", [Line(), Line(-0.5, 0.6), Line(0.4, 1.5)])
def test_the_line_is_found_on_many_rows(line: Line) -> None:
    found = fitted(*outcomes(200_000, line))
    assert (found.intercept, found.slope) == pytest.approx((line.intercept, line.slope), abs=0.03)


@pytest.mark.parametrize("line", [Line(0.3, 0.2), Line(-1.0, 0.05), Line(3.0, 0.9)])
def test_a_model_that_is_much_too_sure_is_corrected(line: Line) -> None:
    """Log-odds over a wide range, where Newton's whole steps go too far."""
    found = fitted(*outcomes(50_000, line, spread=8.0))
    assert (found.intercept, found.slope) == pytest.approx((line.intercept, line.slope), abs=0.1)


def test_it_is_the_likeliest_line_given_the_prior() -> None:
    """By a search over a grid, with the prior written out."""
    label, said = outcomes(300, Line(-0.5, 0.6))
    found = fitted(label, said)
    best, at = -np.inf, (0.0, 0.0)
    for intercept in np.arange(-1, 1, 0.01):
        for slope in np.arange(0.3, 1.3, 0.01):
            odds = intercept + slope * said
            likelihood = (label * odds - np.logaddexp(0, odds)).sum()
            worth = likelihood - (intercept / 0.5) ** 2 / 2 - ((slope - 1) / 0.25) ** 2 / 2
            if worth > best:
                best, at = worth, (intercept, slope)
    assert (found.intercept, found.slope) == pytest.approx(at, abs=0.006)


def test_few_rows_change_little() -> None:
    """With as many rows as its prior is worth a line moves, with a handful hardly."""
    line = Line(-1.0, 0.4)
    off = [abs(fitted(*outcomes(count, line)).slope - 1) for count in (5, 500, 50_000)]
    assert off[0] < 0.1 < off[1] < off[2]
    assert fitted(np.array([], dtype=bool), np.array([])) == Line()


def test_one_outcome_only_gives_a_finite_line() -> None:
    for churned in (True, False):
        found = fitted(np.full(50, churned), np.linspace(-3, 0, 50))
        assert np.isfinite([found.intercept, found.slope]).all()
        assert (found.intercept > 0) == churned


def test_a_model_that_ranks_the_wrong_way_round_is_left_as_it_is() -> None:
    assert fitted(*outcomes(5_000, Line(-2.0, -1.0))) == Line()


def test_a_line_keeps_the_order_of_users() -> None:
    for seed in range(20):
        label, said = outcomes(40, Line(0.0, 0.1), seed)
        assert (np.diff(fitted(label, said)(np.sort(said))) >= 0).all()


def test_the_order_of_rows_changes_nothing() -> None:
    label, said = outcomes(1_000, Line(-0.5, 0.6))
    mixed = np.random.default_rng(1).permutation(1_000)
    found, again = fitted(label, said), fitted(label[mixed], said[mixed])
    assert (again.intercept, again.slope) == pytest.approx((found.intercept, found.slope))


def test_certain_log_odds_are_no_trouble() -> None:
    """As a feature that leaks gives: the ends of what probabilities are clipped to."""
    label = np.arange(200) < 50
    found = fitted(label, np.where(label, 20.7, -20.7))
    assert found.slope > 0
    assert np.isfinite([found.intercept, found.slope]).all()
