"""From a user's events to a row a day: additive counts and sums, and sets for distinct counts.

Belongs here: what is kept of a day. Everything here is additive over days (or a last value, or a
set to be united), so that any window before any cutoff is a small aggregation over days.
Does not belong here: features (`features.py`) and anything that looks past the day.

The pages Cancel and Cancellation Confirmation are the outcome and are left out. Steps from page to
page are counted in `moves.py`.
"""

from __future__ import annotations

import polars as pl

from sparkify_assets.churn import moves
from sparkify_assets.churn.pages import OUTCOME_PAGES, PAGES

# Column -> page, counted on the paid level alone: adverts are rare there, and mean something else.
PAID_PAGES = {"paid_songs": "NextSong", "paid_adverts": "Roll Advert"}

# Column -> first hour (UTC) and the hour after the last.
DAY_PARTS = {
    "night": (0, 6),
    "morning": (6, 12),
    "afternoon": (12, 18),
    "evening": (18, 24),
}

# Columns of `user_days` that hold lists; they take most of its space.
LISTS = ("artist_keys", "song_keys", "moves")

ATTRIBUTES = ("registered_at", "gender", "state", "os", "browser", "device")

EVENT_COLUMNS = (
    "user_id",
    "event_time",
    "item_in_session",
    "session_id",
    "page",
    "auth",
    "level",
    "length",
    "artist_key",
    "song_key",
    *ATTRIBUTES,
)


def in_order(events: pl.DataFrame) -> pl.DataFrame:
    """Whole users' events (EVENT_COLUMNS) in time order, with what the previous event tells.

    Adds `new_session`, `new_level` (booleans), `seconds_since_last` and `move`, the step that led
    here (null on a user's first).
    """
    same_user = pl.col("user_id") == pl.col("user_id").shift(1)
    new_session = ~(
        same_user & pl.col("session_id").eq_missing(pl.col("session_id").shift(1))
    ).fill_null(False)
    ordered = events.sort("user_id", "event_time", "item_in_session", maintain_order=True)
    numbered = ordered.with_columns(level_and_page=moves.level_and_page())
    return numbered.with_columns(
        new_session=new_session,
        move=moves.move(same_user, new_session),
        new_level=(same_user & (pl.col("level") != pl.col("level").shift(1))).fill_null(False),
        seconds_since_last=pl.when(same_user).then(
            pl.col("event_time").diff().dt.total_microseconds() / 1e6
        ),
    ).drop("level_and_page")


def user_days(events: pl.DataFrame) -> pl.DataFrame:
    """A row a user and UTC day, of whole users' `in_order` events; sorted by user and day."""
    page, since = pl.col("page"), pl.col("seconds_since_last")
    paid = pl.col("level") == "paid"
    hour, starts = pl.col("hour"), pl.col("new_session")
    kept = events.filter(~page.is_in(OUTCOME_PAGES) & (pl.col("auth") != "Cancelled"))
    kept = kept.with_columns(
        day=pl.col("event_time").dt.date(), hour=pl.col("event_time").dt.hour()
    )
    return (
        kept.group_by("user_id", "day")
        .agg(
            pl.len().cast(pl.Int64).alias("events"),
            _count(page == "NextSong").alias("songs"),
            pl.col("length").sum().alias("listening_seconds"),
            _count(starts).alias("sessions"),
            since.filter(~starts).sum().alias("session_seconds"),
            since.filter(starts).sum().alias("gap_seconds"),
            _count(starts & since.is_not_null()).alias("gaps"),
            *(_count(page == name).alias(column) for column, name in PAGES.items()),
            _count(~page.is_in(["NextSong", *PAGES.values()])).alias("other_pages"),
            _count(paid).alias("paid_events"),
            *(_count(paid & (page == name)).alias(c) for c, name in PAID_PAGES.items()),
            *(_count((hour >= a) & (hour < b)).alias(name) for name, (a, b) in DAY_PARTS.items()),
            pl.col("event_time").min().alias("first_event_at"),
            pl.col("event_time").max().alias("last_event_at"),
            pl.col("level").last().alias("level"),
            pl.col("event_time").filter(pl.col("new_level")).last().alias("level_changed_at"),
            *(pl.col(name).last() for name in ATTRIBUTES),
            pl.col("artist_key").drop_nulls().unique().sort().alias("artist_keys"),
            pl.col("song_key").drop_nulls().unique().sort().alias("song_keys"),
        )
        .join(moves.moves_a_day(kept), on=["user_id", "day"], how="left")
        .with_columns(pl.col("moves").fill_null([]))
        .sort("user_id", "day")
    )


def _count(condition: pl.Expr) -> pl.Expr:
    return condition.fill_null(False).sum().cast(pl.Int64)
