"""Who churned, and when: a row a user and day, and of these a row a user.

Belongs here: the definition of churn. A user churned when the log holds a Cancellation
Confirmation of theirs; the first one counts. Also how a user's day ended, from which the next one
goes on: a day is looked at by itself, and what a user's first event of a day follows on is told
by `last_before`.
Does not belong here: cutoffs and horizons (`cutoffs.py`), and what users did (`days.py`), which
knows nothing of the outcome.
"""

from __future__ import annotations

import polars as pl

from sparkify_assets.churn.origins import Origins, origins
from sparkify_assets.churn.pages import OUTCOME_PAGES

CHURN_PAGE = "Cancellation Confirmation"


def is_outcome() -> pl.Expr:
    """True for the events of the cancellation itself."""
    return pl.col("page").is_in(OUTCOME_PAGES) | (pl.col("auth") == "Cancelled")


def label_days(events: pl.DataFrame) -> pl.DataFrame:
    """A row a user and UTC day, of a user's events in time order; sorted by user and day."""
    # Where the day before left off is not known here: its first event is none of these.
    new_session = (pl.col("session_id").ne_missing(pl.col("session_id").shift(1))).over(_DAY)
    return (
        events.with_columns(day=pl.col("event_time").dt.date())
        .with_columns(new_session=new_session & (pl.int_range(pl.len()).over(_DAY) > 0))
        .group_by(_DAY)
        .agg(*_OF_A_DAY)
        .sort(_DAY)
    )


def user_labels(days: pl.DataFrame) -> pl.DataFrame:
    """A row a user, of all `label_days` of whole users; sorted by user."""
    return (
        days.sort(_DAY)
        .with_columns(opens_session=_opens_session())
        .group_by("user_id")
        .agg(*_OF_A_USER)
        .with_columns(churned=pl.col("churned_at").is_not_null())
        .sort("user_id")
    )


def last_before(days: pl.DataFrame) -> pl.DataFrame:
    """Each user's last event before each of their days but the first, of whole users' `label_days`.

    Returns user_id, day, and of the event event_time, session_id, level and page; sorted by day and
    user.
    """
    known = {"event_time": "last_event_at", "session_id": "last_session_id", "page": "last_page"}
    before = [pl.col(of).shift(1).over("user_id").alias(name) for name, of in known.items()]
    return (
        days.sort(_DAY)
        .select(*_DAY, *before, pl.col("level").shift(1).over("user_id"))
        .drop_nulls("event_time")
        .sort("day", "user_id")
    )


def first_days(days: pl.DataFrame) -> pl.DataFrame:
    """user_id and first_day, on which a user did something else than cancel; of `label_days`."""
    kept = days.filter(pl.col("events") > pl.col("outcome_events"))
    return kept.group_by("user_id").agg(first_day=pl.col("day").min()).sort("user_id")


def _opens_session() -> pl.Expr:
    """Whether a day's first event is not of the session in which the user's day before ended."""
    before = pl.col("last_session_id").shift(1).over("user_id")
    first = pl.int_range(pl.len()).over("user_id") == 0
    return first | pl.col("first_session_id").ne_missing(before)


_DAY = ["user_id", "day"]
_PAGE, _TIME = pl.col("page"), pl.col("event_time")


def _count(condition: pl.Expr) -> pl.Expr:
    return condition.fill_null(False).sum().cast(pl.Int64)


_OF_A_DAY = (
    pl.col("registered_at").drop_nulls().first(),
    _TIME.min().alias("first_event_at"),
    _TIME.max().alias("last_event_at"),
    _TIME.filter(_PAGE == CHURN_PAGE).min().alias("churned_at"),
    pl.col("level").last(),
    _PAGE.last().alias("last_page"),
    pl.col("session_id").first().alias("first_session_id"),
    pl.col("session_id").last().alias("last_session_id"),
    _count(pl.col("new_session")).alias("new_sessions"),
    pl.len().cast(pl.Int64).alias("events"),
    _count(is_outcome()).alias("outcome_events"),
    _count(_PAGE == "NextSong").alias("songs"),
    _count(_PAGE == "Submit Upgrade").alias("upgrades"),
    _count(_PAGE == "Submit Downgrade").alias("downgrades"),
)
_OF_A_USER = (
    pl.col("registered_at").drop_nulls().first(),
    pl.col("first_event_at").min(),
    pl.col("last_event_at").max(),
    pl.col("churned_at").min(),
    pl.col("level").last(),
    *(pl.col(name).sum() for name in ("upgrades", "downgrades", "events", "songs")),
    (pl.col("new_sessions").sum() + pl.col("opens_session").sum()).alias("sessions"),
)
_KNOWN = {"day": ("event_time",), "new_session": ("user_id", "event_time", "session_id")}


def made_of_events() -> Origins:
    """The columns of clean events that each column of `label_days` is made of."""
    rows = {name: frozenset({"user_id", "event_time"}) for name in ("events", "day")}
    return origins(_OF_A_DAY, _KNOWN) | rows | {"user_id": frozenset({"user_id"})}


def made_of() -> Origins:
    """The columns of `label_days` that each column of `user_labels` is made of."""
    known = {"opens_session": ("user_id", "day", "first_session_id", "last_session_id")}
    found = origins(_OF_A_USER, known)
    return found | {"user_id": frozenset({"user_id"}), "churned": found["churned_at"]}
