"""Which users are looked at when, and what their label says."""

from __future__ import annotations

from datetime import date, timedelta

import polars as pl
import pytest

from sparkify_assets.churn import cutoffs
from sparkify_assets.errors import NotEnoughDataError, SettingError
from sparkify_assets_tests.frames import at

DAY_0 = date(2018, 10, 1)


def day(n: int) -> date:
    return DAY_0 + timedelta(days=n)


@pytest.mark.parametrize(
    ("last_event", "end"),
    [
        (at(60, 23.5), 61),  # a log that stops just before midnight holds the day
        (at(61, 0, 2), 61),  # so does one that stops just after
        (at(63, 1.2), 63),  # a fragment of a day does not count
        (at(0, 0, 50), 1),  # but there is at least one day
    ],
)
def test_span(last_event, end: int) -> None:
    log = cutoffs.span(at(0, 0, 1), last_event)
    assert (log.start, log.end, log.days) == (DAY_0, day(end), end)


def test_cutoffs_are_weekly_and_the_last_one_is_the_last_possible() -> None:
    log = cutoffs.Span(DAY_0, day(61), day(60))
    assert cutoffs.forecast_cutoffs(log) == [day(n) for n in (14, 21, 28, 35, 42, 49, 51)]
    assert cutoffs.forecast_cutoffs(log, horizon_days=47) == [day(14)]
    assert cutoffs.forecast_cutoffs(log, horizon_days=48) == []


def test_a_log_too_short_for_a_cutoff_is_said_so() -> None:
    log = cutoffs.Span(DAY_0, day(20), day(20))
    with pytest.raises(NotEnoughDataError, match="covers 20 days"):
        cutoffs.check_horizon(log, cutoffs.forecast_cutoffs(log), 10)
    with pytest.raises(SettingError):
        cutoffs.forecast_cutoffs(log, horizon_days=0)


def users(**churned_at) -> pl.DataFrame:
    return pl.DataFrame(
        {
            "user_id": list(churned_at),
            "first_event_at": [at(1)] * len(churned_at),
            "churned_at": list(churned_at.values()),
            "churned": [when is not None for when in churned_at.values()],
        },
        schema_overrides={
            "first_event_at": pl.Datetime("us", "UTC"),
            "churned_at": pl.Datetime("us", "UTC"),
        },
    )


def test_forecast_labels_by_hand() -> None:
    log = cutoffs.Span(DAY_0, day(30), day(30))
    people = users(
        stays=None,
        leaves_before=at(9, 23),
        leaves_first=at(10),
        leaves_last=at(19, 23),
        leaves_later=at(20),
        leaves_after_end=at(30, 1),
    )
    rows = cutoffs.forecast_rows(people, [day(10)], log, horizon_days=10)
    labels = dict(rows.filter(pl.col("as_of") == day(10)).select("user_id", "label").iter_rows())
    assert labels == {
        "stays": False,
        "leaves_first": True,
        "leaves_last": True,
        "leaves_later": False,
        "leaves_after_end": False,
    }
    scored = rows.filter(pl.col("as_of") == day(30))
    assert scored.select("user_id", "label").rows() == [("stays", None)]


def test_a_user_is_not_looked_at_before_the_first_event() -> None:
    log = cutoffs.Span(DAY_0, day(30), day(30))
    late = users(a=None).with_columns(first_event_at=pl.lit(at(10)))
    rows = cutoffs.forecast_rows(late, [day(10), day(11)], log)
    assert rows["as_of"].to_list() == [day(11), day(30)]


def test_whole_log_rows_end_with_the_user() -> None:
    people = users(stays=None, leaves=at(9, 23)).with_columns(
        last_event_at=pl.Series([at(27, 3), at(9, 23)], dtype=pl.Datetime("us", "UTC"))
    )
    rows = cutoffs.whole_log_rows(people)
    assert rows.select("as_of", "label").rows() == [(day(28), False), (day(10), True)]
