"""Who churned, and when: a row a user.

Belongs here: the definition of churn. A user churned when the log holds a Cancellation
Confirmation of theirs; the first one counts.
Does not belong here: cutoffs and horizons (`cutoffs.py`).
"""

from __future__ import annotations

import polars as pl

CHURN_PAGE = "Cancellation Confirmation"


def user_labels(events: pl.DataFrame) -> pl.DataFrame:
    """A row a user, of whole users' events as `days.in_order` returns them; sorted by user."""
    page, time = pl.col("page"), pl.col("event_time")
    return (
        events.group_by("user_id")
        .agg(
            pl.col("registered_at").drop_nulls().first(),
            time.min().alias("first_event_at"),
            time.max().alias("last_event_at"),
            time.filter(page == CHURN_PAGE).min().alias("churned_at"),
            pl.col("level").last(),
            (page == "Submit Upgrade").sum().cast(pl.Int64).alias("upgrades"),
            (page == "Submit Downgrade").sum().cast(pl.Int64).alias("downgrades"),
            pl.len().cast(pl.Int64).alias("events"),
            (page == "NextSong").sum().cast(pl.Int64).alias("songs"),
            pl.col("new_session").sum().cast(pl.Int64).alias("sessions"),
        )
        .with_columns(churned=pl.col("churned_at").is_not_null())
        .sort("user_id")
    )
