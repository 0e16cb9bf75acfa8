"""Which measures people are shown, of which estimates, in which order, and what they are called.

Belongs here: names and order, for the report's page and the README's table alike. Does not belong
here: what a measure means and how it is computed (`churn/metrics.py`).
"""

from __future__ import annotations

from typing import NamedTuple

from sparkify_assets.churn.cutoffs import FORECAST, WHOLE_LOG
from sparkify_assets.report import words
from sparkify_assets.report.figures import Estimate


class Measure(NamedTuple):
    """A metric, its name for people, and how its values are written (words.WRITTEN)."""

    metric: str
    name: str
    written: str

    def write(self, value: Estimate | None) -> str:
        return words.interval(value, words.WRITTEN[self.written])


class Tested(NamedTuple):
    """Which rows a model was tested on, and what that is called."""

    protocol: str
    estimate: str
    heading: str

    @property
    def leaks(self) -> bool:
        return self.protocol == WHOLE_LOG


MEASURES = (
    Measure("pr_auc", "PR AUC", "number"),
    Measure("prevalence", "PR AUC of guessing (share who churned)", "number"),
    Measure("mean_probability", "Mean probability (share expected to churn)", "number"),
    Measure("roc_auc", "ROC AUC (guessing: 0.5)", "number"),
    Measure("lift_top_10", "Lift in the top 10%", "times"),
    Measure("recall_top_10", "Churned users found in the top 10%", "percent"),
    Measure("precision", "Precision at the threshold", "percent"),
    Measure("recall", "Recall at the threshold", "percent"),
    Measure("f1", "F1 of the churned class", "number"),
    Measure("balanced_accuracy", "Balanced accuracy", "number"),
    Measure("weighted_f1", "Weighted F1", "number"),
    Measure("weighted_f1_always_stays", "Weighted F1 of always saying “stays”", "number"),
    Measure("brier_score", "Brier score (0 is perfect)", "number"),
    Measure("log_loss", "Log loss (0 is perfect)", "number"),
    Measure("expected_calibration_error", "Calibration error (0 is perfect)", "number"),
)
BY_METRIC = {measure.metric: measure for measure in MEASURES}
# What leaks comes last.
ESTIMATES = (
    Tested(FORECAST, "grouped", "Forecast, users held back"),
    Tested(FORECAST, "temporal", "Forecast, last cutoff held back"),
    Tested(WHOLE_LOG, "grouped", "Whole log"),
)
