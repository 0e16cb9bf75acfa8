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
from sparkify_assets.churn.labels import is_outcome
from sparkify_assets.churn.origins import Origins, origins
from sparkify_assets.churn.pages import PAGES

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


def in_order(events: pl.DataFrame, before: pl.DataFrame | None = None) -> pl.DataFrame:
    """Users' events (EVENT_COLUMNS) in time order, with what the previous event tells.

    Adds `new_session`, `new_level` (booleans), `seconds_since_last` and `move`, the step that led
    here (null on a user's first). before: of users who were here before the first of `events`, the
    last event until then (`labels.last_before`); without it they are seen for the first time.
    """
    if before is not None:
        events = pl.concat(
            [before.with_columns(_is_before=True), events.with_columns(_is_before=False)],
            how="diagonal",
        )
    same_user = pl.col("user_id") == pl.col("user_id").shift(1)
    new_session = ~(
        same_user & pl.col("session_id").eq_missing(pl.col("session_id").shift(1))
    ).fill_null(False)
    ordered = events.sort("user_id", "event_time", "item_in_session", maintain_order=True)
    numbered = ordered.with_columns(level_and_page=moves.level_and_page())
    known = numbered.with_columns(
        new_session=new_session,
        move=moves.move(same_user, new_session),
        new_level=(same_user & (pl.col("level") != pl.col("level").shift(1))).fill_null(False),
        seconds_since_last=pl.when(same_user).then(
            divided(pl.col("event_time").diff().dt.total_microseconds(), 1e6)
        ),
    ).drop("level_and_page")
    return known if before is None else known.filter(~pl.col("_is_before")).drop("_is_before")


def user_days(events: pl.DataFrame) -> pl.DataFrame:
    """A row a user and UTC day, of users' `in_order` events; sorted by user and day."""
    kept = events.filter(~is_outcome())
    kept = kept.with_columns(
        day=pl.col("event_time").dt.date(), hour=pl.col("event_time").dt.hour()
    )
    return (
        kept.group_by("user_id", "day")
        .agg(*_OF_A_DAY)
        .join(moves.moves_a_day(kept), on=["user_id", "day"], how="left")
        .with_columns(pl.col("moves").fill_null([]))
        .sort("user_id", "day")
    )


def divided(values: pl.Expr, by: float) -> pl.Expr:
    """values / by, with the same last digit whatever the number of rows.

    Polars multiplies by the reciprocal of what all rows are divided by, but divides a single row.
    """
    return values * (1 / by)


def _count(condition: pl.Expr) -> pl.Expr:
    return condition.fill_null(False).sum().cast(pl.Int64)


_PAGE, _TIME, _HOUR = pl.col("page"), pl.col("event_time"), pl.col("hour")
_SINCE, _STARTS = pl.col("seconds_since_last"), pl.col("new_session")
_PAID = pl.col("level").eq("paid")
_OF_A_DAY = (
    pl.len().cast(pl.Int64).alias("events"),
    _count(_PAGE.eq("NextSong")).alias("songs"),
    pl.col("length").sum().alias("listening_seconds"),
    _count(_STARTS).alias("sessions"),
    _SINCE.filter(~_STARTS).sum().alias("session_seconds"),
    _SINCE.filter(_STARTS).sum().alias("gap_seconds"),
    _count(_STARTS & _SINCE.is_not_null()).alias("gaps"),
    *(_count(_PAGE.eq(name)).alias(column) for column, name in PAGES.items()),
    _count(~_PAGE.is_in(["NextSong", *PAGES.values()])).alias("other_pages"),
    _count(_PAID).alias("paid_events"),
    *(_count(_PAID & _PAGE.eq(name)).alias(column) for column, name in PAID_PAGES.items()),
    *(_count(_HOUR.is_between(a, b, "left")).alias(name) for name, (a, b) in DAY_PARTS.items()),
    _TIME.min().alias("first_event_at"),
    _TIME.max().alias("last_event_at"),
    pl.col("level").last().alias("level"),
    _TIME.filter(pl.col("new_level")).last().alias("level_changed_at"),
    *(pl.col(name).last() for name in ATTRIBUTES),
    pl.col("artist_key").drop_nulls().unique().sort().alias("artist_keys"),
    pl.col("song_key").drop_nulls().unique().sort().alias("song_keys"),
)

# What the columns that `in_order` and `user_days` add to events are made of.
ORDERED = {
    "new_session": ("user_id", "session_id"),
    "new_level": ("user_id", "level"),
    "seconds_since_last": ("user_id", "event_time"),
    "day": ("event_time",),
    "hour": ("event_time",),
    "move": ("user_id", "event_time", "session_id", "page", "level"),
}


def made_of() -> Origins:
    """The columns of clean events that each column is made of."""
    rows = {"user_id": ["user_id"], "day": ORDERED["day"], "events": ["user_id", "event_time"]}
    return {
        **origins(_OF_A_DAY, ORDERED),
        **{name: frozenset(columns) for name, columns in rows.items()},
        "moves": frozenset(ORDERED["move"]),
    }
