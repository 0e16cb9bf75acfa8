"""What a model can learn from: the rows of a feature table in the lake whose outcome is known.

Belongs here: reading them, and whether they are enough, which steps and automation must agree on.
Does not belong here: what is learned from them (`churn/`).
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date

import polars as pl

from sparkify_assets.churn import cutoffs, evaluation
from sparkify_assets.churn.features import FEATURE_NAMES
from sparkify_assets.resources.lake import Lake, Version
from sparkify_assets.tables import FEATURE_TABLE

OUTCOME = ("protocol", "user_id", "as_of", "label")
_SPAN = ("log_start", "log_end", "last_day")


def rows(
    lake: Lake, dataset: str, protocol: str, columns: Sequence[str] | None = None
) -> pl.DataFrame:
    """The rows of a protocol to learn from, with the columns that are used of them."""
    columns = columns or evaluation.columns(FEATURE_NAMES, protocol)
    return lake.read_polars(dataset, FEATURE_TABLE, columns, cutoffs.is_learnable(protocol))


def check(lake: Lake, dataset: str, feature_table: Version) -> None:
    """Raise NotEnoughDataError where the log is too short, or there are too few users."""
    said = feature_table.metadata
    cutoffs.check_horizon(
        cutoffs.Span(*(date.fromisoformat(said[name]) for name in _SPAN)),
        said["cutoffs"],
        said["horizon_days"],
        # Tables of earlier versions of this project do not say.
        said.get("first_cutoff_day", cutoffs.FIRST_DAY),
    )
    # Who churned at all may have done so before the first cutoff, or long after the last.
    for protocol in (cutoffs.WHOLE_LOG, cutoffs.FORECAST):
        evaluation.check_enough(rows(lake, dataset, protocol, OUTCOME).to_pandas())
