"""From a user's events to steps from page to page: how often each was taken on a day.

Belongs here: what a step is, its number, and how steps are counted.
Does not belong here: what kinds of users take which steps (`kinds.py`).

A step goes from an event to the user's next one, and belongs to the day of the latter, so that
nothing at or after a cutoff is part of a day before it. Where the next event opens a session, the
step leads to the end of the session before. Steps from or to the pages of the outcome, Cancel and
Cancellation Confirmation, are left out.
"""

from __future__ import annotations

import polars as pl

from sparkify_assets.churn.pages import OUTCOME_PAGES, PAGES

LEVELS = ("free", "paid")
FROM = ("NextSong", *PAGES.values(), "other")
TO = (*FROM, "end of session")
COUNT = len(LEVELS) * len(FROM) * len(TO)


def level_and_page() -> pl.Expr:
    """A number for where an event is, its level and page: null if unknown or of the outcome."""
    page = pl.col("page").replace_strict(
        {name: number for number, name in enumerate(FROM)},
        default=FROM.index("other"),
        return_dtype=pl.Int16,
    )
    level = pl.col("level").replace_strict(
        {name: number for number, name in enumerate(LEVELS)}, default=None, return_dtype=pl.Int16
    )
    of_outcome = pl.col("page").is_in(OUTCOME_PAGES)
    return pl.when(~of_outcome).then(level * len(FROM) + page)


def move(same_user: pl.Expr, new_session: pl.Expr) -> pl.Expr:
    """The number of the step to each event, of ordered events with their `level_and_page`."""
    before, now = pl.col("level_and_page").shift(1), pl.col("level_and_page")
    to = pl.when(new_session).then(TO.index("end of session")).otherwise(now % len(FROM))
    step = before.cast(pl.Int16) * len(TO) + to.cast(pl.Int16)
    return pl.when(same_user & now.is_not_null()).then(step)


def described(number: int) -> tuple[str, str, str]:
    """Level, from and to of a step's number."""
    before, to = divmod(number, len(TO))
    level, page = divmod(before, len(FROM))
    return LEVELS[level], FROM[page], TO[to]


def moves_a_day(events: pl.DataFrame) -> pl.DataFrame:
    """user_id, day and moves (move and times, by number) of `days.in_order` events with a `day`."""
    return (
        events.drop_nulls("move")
        .group_by("user_id", "day", "move")
        .agg(pl.len().cast(pl.Int32).alias("times"))
        .sort("user_id", "day", "move")
        .group_by("user_id", "day", maintain_order=True)
        .agg(moves=pl.struct("move", "times"))
    )
