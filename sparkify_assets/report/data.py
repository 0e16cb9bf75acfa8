"""What the report is made from.

Belongs here: the one record that `page.render` takes. Does not belong here: where its parts are
read (`assets/report.py`) and what is made of them (`figures.py`).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import polars as pl

    from sparkify_assets.resources.lake import Version

# The columns of `model_registry` that the report shows.
REGISTRY_COLUMNS = [
    "model_version",
    "model",
    "stage",
    "pinned",
    "decision",
    "trained_at",
    "rows",
    "positives",
    "churned_users",
    "libraries",
]


@dataclass(frozen=True)
class ReportData:
    """The tables of one dataset, as their contracts in `tables.py` describe them.

    `versions` holds the version of every table by name; what their writers said in the metadata
    (the log's source, its span, the cutoffs) is shown as well.
    """

    dataset: str
    scores: pl.DataFrame  # churn_scores, of the newest cutoff
    factors: pl.DataFrame  # churn_factors
    metrics: pl.DataFrame  # evaluation_metrics
    predictions: pl.DataFrame  # evaluation_predictions
    registry: pl.DataFrame  # model_registry, REGISTRY_COLUMNS
    live_metrics: pl.DataFrame  # live_metrics
    churned: pl.Series  # user_labels: whether each user of the log ever cancelled
    habits: pl.DataFrame  # findings.habits of all users
    rejections: pl.Series  # rejected_lines: the reason for each line
    versions: Mapping[str, Version]
    made_at: datetime  # UTC
    code_version: str
    run_id: str

    @property
    def live(self) -> dict[str, Any]:
        """The row of the model that the scores are from."""
        return self._of_registry(self.versions["churn_scores"].metadata.get("model_version"))

    @property
    def newest(self) -> dict[str, Any]:
        """The row of the model that was trained last."""
        return self._of_registry(self.versions["model_registry"].metadata.get("newest"))

    def _of_registry(self, version: str | None) -> dict[str, Any]:
        rows = self.registry.filter(model_version=version)
        return rows.row(0, named=True) if rows.height else {}

    @property
    def sources(self) -> list[str]:
        """The logs that any of the tables come from; the model may have learned from another."""
        said = (version.metadata.get("source") for version in self.versions.values())
        return list(dict.fromkeys(source for source in said if source))

    @property
    def simulated(self) -> bool:
        """Whether any figure comes from a simulated log."""
        return any(version.metadata.get("simulated") for version in self.versions.values())

    @property
    def log(self) -> dict[str, Any]:
        """What was said of the log that was read: lines, bytes."""
        return self.versions["raw_events"].metadata

    @property
    def span(self) -> dict[str, Any]:
        """What was said of time: log_start, log_end, last_day, cutoffs, horizon_days."""
        return self.versions["feature_table"].metadata
