"""Which users are looked at when: the rows of the feature table, before their features.

Belongs here: cutoffs, horizons and labels of both protocols.
Does not belong here: what is known of a user at a cutoff (`features.py`).

forecast: at a cutoff `as_of` (00:00 UTC) every user with an event before it who has not cancelled
before it; the label says whether they cancel in [as_of, as_of + horizon). It is null where the log
ends before the horizon does.

whole_log: a row a user over all of their log; the label says whether they ever cancelled. This is
how the public notebooks do it, and it leaks: the length of a churned user's log is set by the
outcome. It is kept for comparison only.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date, datetime, timedelta

import polars as pl

from sparkify_assets.errors import NotEnoughDataError, SettingError

FORECAST = "forecast"
WHOLE_LOG = "whole_log"
FIRST_DAY = 14  # of history before the first cutoff

# A log that stops within this time of midnight is taken to hold the whole day.
_CLOSE_TO_MIDNIGHT = timedelta(hours=1)


@dataclass(frozen=True)
class Span:
    """The days that a log covers: from `start` up to, not including, `end`.

    `last_day` is the day of the last event, which may be a fragment of a day after `end`.
    """

    start: date
    end: date
    last_day: date

    @property
    def days(self) -> int:
        return (self.end - self.start).days


def span(first_event: datetime, last_event: datetime) -> Span:
    """The whole days between two events, at least one."""
    start = first_event.date()
    end = (last_event + _CLOSE_TO_MIDNIGHT).date()
    return Span(start, max(end, start + timedelta(days=1)), last_event.date())


def forecast_cutoffs(
    log: Span, *, horizon_days: int = 10, every_days: int = 7, first_day: int = FIRST_DAY
) -> list[date]:
    """Every `every_days` from day `first_day` on, and the last day whose horizon the log holds.

    Empty when the log is too short for any.
    """
    if min(horizon_days, every_days, first_day) < 1:
        raise SettingError("Horizon, cutoff interval and first cutoff day must be 1 day or more.")
    last = log.days - horizon_days
    days = [*range(first_day, last, every_days), last] if last >= first_day else []
    return [log.start + timedelta(days=day) for day in days]


def check_horizon(
    log: Span, cutoffs: Sequence[object], horizon_days: int, first_day: int = FIRST_DAY
) -> None:
    """Raise NotEnoughDataError where the log is too short for a single labelled cutoff."""
    if not cutoffs:
        raise NotEnoughDataError(
            f"The log covers {log.days} days ({log.start} to {log.end}); no cutoff leaves room for "
            f"history before it and a horizon of {horizon_days} days after it. A model can be "
            f"trained from day {first_day + horizon_days} on; sooner, with a shorter horizon."
        )


def is_learnable(protocol: str) -> pl.Expr:
    """True for the rows of a protocol whose outcome is known."""
    return (pl.col("protocol") == protocol) & pl.col("label").is_not_null()


def learnable(feature_table: pl.DataFrame, protocol: str) -> pl.DataFrame:
    """The rows of a protocol whose outcome is known."""
    return feature_table.filter(is_learnable(protocol))


def forecast_at(feature_table: pl.DataFrame, as_of: date) -> pl.DataFrame:
    """The rows of the forecast protocol at a cutoff."""
    return feature_table.filter((pl.col("protocol") == FORECAST) & (pl.col("as_of") == as_of))


def forecast_rows(
    labels: pl.DataFrame, cutoffs: Sequence[date], log: Span, *, horizon_days: int = 10
) -> pl.DataFrame:
    """Rows to learn from at `cutoffs`, and rows to score at the log's end: a row a user and cutoff.

    `labels`: user_id, first_event_at, churned_at. Returns protocol, user_id, as_of, label.
    At the log's end users who cancelled in its last, partial day are left out as well.
    """
    as_of = pl.col("as_of").cast(pl.Datetime("us", "UTC"))
    horizon = pl.duration(days=horizon_days)
    at_end = pl.col("as_of") == log.end
    alive = pl.col("churned_at").is_null() | ((pl.col("churned_at") >= as_of) & ~at_end)
    times = pl.DataFrame({"as_of": sorted({*cutoffs, log.end})}, schema={"as_of": pl.Date})
    return (
        labels.join(times, how="cross")
        .filter((pl.col("first_event_at") < as_of) & alive)
        .select(
            pl.lit(FORECAST).alias("protocol"),
            "user_id",
            "as_of",
            pl.when(pl.col("as_of") + horizon <= log.end)
            .then((pl.col("churned_at") < as_of + horizon).fill_null(False))
            .alias("label"),
        )
    )


def whole_log_rows(labels: pl.DataFrame) -> pl.DataFrame:
    """A row a user, as of the day after the user's last event.

    Measured to the log's end instead, the time since the last event would tell who is gone, and
    measured to the cancellation, who cancelled: leaks that even this protocol has no use for.
    """
    return labels.select(
        pl.lit(WHOLE_LOG).alias("protocol"),
        "user_id",
        (pl.col("last_event_at").dt.date() + pl.duration(days=1)).alias("as_of"),
        pl.col("churned").alias("label"),
    )


def slice_of_cutoff(as_of: date) -> str:
    """The slice of feature_table that holds the rows of a cutoff of the forecast."""
    return f"{FORECAST}-{as_of}"


def slice_of_row() -> pl.Expr:
    """The slice of a row, by its protocol and as_of; those of the whole log are one."""
    of_cutoff = pl.concat_str("protocol", pl.lit("-"), pl.col("as_of").dt.to_string())
    return pl.when(pl.col("protocol") == FORECAST).then(of_cutoff).otherwise("protocol")
