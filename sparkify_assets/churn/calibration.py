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


@dataclass(frozen=True)
class Line:
    """Log-odds become intercept + slope * log-odds (Platt's scaling)."""

    intercept: float = 0.0
    slope: float = 1.0

    def __call__(self, log_odds: np.ndarray) -> np.ndarray:
        return self.intercept + self.slope * log_odds


def fitted(label: np.ndarray, log_odds: np.ndarray) -> Line:
    """The most likely line for these outcomes, with a prior at "as it is".

    label: true where churned. log_odds: of rows that the model did not learn from, finite.
    """
    from scipy.optimize import minimize
    from scipy.special import expit

    design = np.column_stack([np.ones_like(log_odds), log_odds])
    usual, rows = np.array([0.0, 1.0]), max(len(label), 1)

    def unlikely(weights: np.ndarray) -> tuple[float, np.ndarray]:
        """Negative log of the posterior a row, and its gradient."""
        odds, off = design @ weights, (weights - usual) / _SPREAD
        loss = (np.logaddexp(0, odds) - label * odds).sum() + (off**2).sum() / 2
        gradient = design.T @ (expit(odds) - label) + off / _SPREAD
        return float(loss) / rows, gradient / rows

    found = minimize(unlikely, usual, jac=True, method="BFGS", options={"gtol": 1e-9})
    intercept, slope = found.x
    # A model that ranks the wrong way round is left as it is: its figures say so.
    return Line(float(intercept), float(slope)) if slope > 0 else Line()
