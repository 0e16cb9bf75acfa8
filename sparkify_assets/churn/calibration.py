"""Probabilities that can be taken at their word: log-odds corrected by a line.

Belongs here: fitting the line, on predictions of rows that the model did not learn from, and
applying it. Does not belong here: where such predictions come from (`evaluation.py`) and how well
calibrated the result is (`metrics.py`).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

# How far from "as it is" a line may be expected to lie. Few rows change little.
_SPREAD = np.array([0.5, 0.25])  # of the intercept and of the slope
_ROUNDS = 25


@dataclass(frozen=True)
class Line:
    """Log-odds become intercept + slope * log-odds (Platt's scaling)."""

    intercept: float = 0.0
    slope: float = 1.0

    def __call__(self, log_odds: np.ndarray) -> np.ndarray:
        return self.intercept + self.slope * log_odds


def fitted(label: np.ndarray, log_odds: np.ndarray) -> Line:
    """The most likely line for these outcomes, with a prior at "as it is"; by Newton's method.

    label: true where churned. log_odds: of rows that the model did not learn from, finite.
    """
    design = np.column_stack([np.ones_like(log_odds), log_odds])
    usual = np.array([0.0, 1.0])

    def unlikely(weights: np.ndarray) -> float:
        odds = design @ weights
        prior = ((weights - usual) / _SPREAD) ** 2 / 2
        return float((np.logaddexp(0, odds) - label * odds).sum() + prior.sum())

    weights = usual.copy()
    for _ in range(_ROUNDS):
        chance = 1 / (1 + np.exp(-design @ weights))
        gradient = design.T @ (label - chance) - (weights - usual) / _SPREAD**2
        curvature = (design.T * (chance * (1 - chance))) @ design + np.diag(1 / _SPREAD**2)
        step = np.linalg.solve(curvature, gradient)
        while unlikely(weights + step) > unlikely(weights):  # it went too far
            step = step / 2
        weights = weights + step
        if np.abs(step).max() < 1e-9:
            break
    intercept, slope = weights
    # A model that ranks the wrong way round is left as it is: its figures say so.
    return Line(float(intercept), float(slope)) if slope > 0 else Line()
