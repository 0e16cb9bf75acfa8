"""Who churned, and when: a row a user.

Belongs here: the definition of churn. A user churned when the log holds a Cancellation
Confirmation of theirs; the first one counts.
Does not belong here: cutoffs and horizons (`cutoffs.py`).
"""

from __future__ import annotations

import polars as pl

from sparkify_assets.churn.days import ORDERED
from sparkify_assets.churn.origins import Origins, origins

CHURN_PAGE = "Cancellation Confirmation"


def user_labels(events: pl.DataFrame) -> pl.DataFrame:
    """A row a user, of whole users' events as `days.in_order` returns them; sorted by user."""
    return (
        events.group_by("user_id")
        .agg(*_OF_A_USER)
        .with_columns(churned=pl.col("churned_at").is_not_null())
        .sort("user_id")
    )


_PAGE, _TIME = pl.col("page"), pl.col("event_time")
_OF_A_USER = (
    pl.col("registered_at").drop_nulls().first(),
    _TIME.min().alias("first_event_at"),
    _TIME.max().alias("last_event_at"),
    _TIME.filter(_PAGE == CHURN_PAGE).min().alias("churned_at"),
    pl.col("level").last(),
    (_PAGE == "Submit Upgrade").sum().cast(pl.Int64).alias("upgrades"),
    (_PAGE == "Submit Downgrade").sum().cast(pl.Int64).alias("downgrades"),
    pl.len().cast(pl.Int64).alias("events"),
    (_PAGE == "NextSong").sum().cast(pl.Int64).alias("songs"),
    pl.col("new_session").sum().cast(pl.Int64).alias("sessions"),
)


def made_of() -> Origins:
    """The columns of clean events that each column is made of."""
    found = origins(_OF_A_USER, ORDERED)
    counted = {"user_id": frozenset({"user_id"}), "events": frozenset({"user_id"})}
    return found | counted | {"churned": found["churned_at"]}
