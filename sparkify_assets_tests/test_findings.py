"""What churned users did differently: hand-worked users, fair to logs that leaving cut short."""

from __future__ import annotations

from datetime import date, datetime, timedelta, timezone
from typing import Any

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sparkify_assets.churn.pages import PAGES
from sparkify_assets.report import pictures
from sparkify_assets.report.findings import (
    DAY_COLUMNS,
    LABEL_COLUMNS,
    SHORTEST,
    SONG_BINS,
    Findings,
    findings,
    habits,
)
from sparkify_assets.tables import USER_DAYS, USER_LABELS

FIRST = date(2018, 10, 1)
LAST_DAY = date(2018, 10, 30)
DAY = timedelta(1)


def days(*rows: tuple[str, int, int, int, dict[str, Any]]) -> pl.DataFrame:
    """(user, day of the log from 0, events, songs, other columns)."""
    return pl.DataFrame(
        [
            dict.fromkeys(PAGES, 0)
            | {"user_id": user, "day": FIRST + timedelta(day), "events": events, "songs": songs}
            | {"level": "free"}
            | more
            for user, day, events, songs, more in rows
        ],
        schema={name: USER_DAYS.polars_schema[name] for name in DAY_COLUMNS},
    )


def labels(**churned_on: int | None) -> pl.DataFrame:
    """user: the day of the log on which they left, or None."""

    def at(day: float) -> datetime:
        return datetime(2018, 10, 1, 12, tzinfo=timezone.utc) + timedelta(day)

    return pl.DataFrame(
        [
            {
                "user_id": user,
                "churned": day is not None,
                "churned_at": None if day is None else at(day),
                "registered_at": at(-20.6),
                "first_event_at": at(0),
            }
            for user, day in churned_on.items()
        ],
        schema={name: USER_LABELS.polars_schema[name] for name in LABEL_COLUMNS},
    )


def row(found: pl.DataFrame, user: str) -> dict[str, Any]:
    return found.filter(user_id=user).row(0, named=True)


def test_habits_end_before_the_day_of_leaving_and_with_the_log() -> None:
    paid = {"level": "paid", "thumbs_down": 1}
    found = habits(
        days(
            ("left", 9, 50, 40, paid),  # the day of leaving does not count
            ("left", 4, 100, 60, paid),
            ("left", 0, 100, 80, {}),
            ("stayed", 0, 10, 5, paid),
            ("stayed", 30, 10, 5, {}),  # a fragment of a day after the log's last whole one
            ("gone at once", 3, 5, 5, {}),
        ),
        labels(left=9, stayed=None, **{"gone at once": 3}),
        LAST_DAY,
    )
    assert found["user_id"].to_list() == ["left", "stayed"]
    left = row(found, "left")
    counted = [left[name] for name in ("active_days", "events", "songs", "thumbs_down")]
    assert counted == [2, 200, 140, 1]
    assert (left["first_paid"], left["last_paid"], left["paid_share"]) == (False, True, 0.5)
    # From the day after the first, 1, up to the day before leaving, 8.
    assert (left["observed_days"], left["seen_days"], left["tenure_days"]) == (8, 1, 20)
    stayed = row(found, "stayed")
    assert (stayed["active_days"], stayed["observed_days"], stayed["seen_days"]) == (1, 29, 0)


def test_who_left_after_the_last_whole_day_is_seen_to_its_end() -> None:
    found = habits(days(("a", 0, 1, 1, {}), ("a", 29, 1, 1, {})), labels(a=31), LAST_DAY)
    assert row(found, "a")["observed_days"] == 29
    registered_late = labels(a=31).with_columns(registered_at=pl.col("first_event_at") + DAY)
    assert row(habits(days(("a", 0, 1, 1, {})), registered_late, LAST_DAY), "a")["tenure_days"] == 0
    assert row(found, "a")["active_days"] == 2


def group(churned: bool, *users: tuple[int, int, int, int]) -> pl.DataFrame:
    """(events, songs, Thumbs Down, active days) of each user; the rest is alike for all."""
    return pl.DataFrame(
        [
            dict.fromkeys(PAGES, 0)
            | {"user_id": f"{churned}{i}", "churned": churned, "tenure_days": 10}
            | {"events": events, "songs": songs, "thumbs_down": down, "active_days": active}
            | {"first_paid": i == 0, "last_paid": True, "paid_share": 0.5 if i else 1.0}
            | {"observed_days": 14, "seen_days": 2 * i + 2}
            for i, (events, songs, down, active) in enumerate(users)
        ]
    )


def compared(*frames: pl.DataFrame) -> Findings:
    found = findings(pl.concat(frames))
    assert found is not None
    return found


@pytest.fixture(scope="module")
def found() -> Findings:
    return compared(
        group(True, (100, 60, 20, 2), (300, 300, 40, 2)),
        group(False, (100, 50, 5, 1), (100, 70, 5, 10), (100, 90, 5, 10)),
    )


def test_rates_are_of_all_events_with_users_as_units(found: Findings) -> None:
    down = next(use for use in found.pages if use.rate.name == "Thumbs Down")
    # 60 of 400 events. Apart from the rate the users are 20 - 15 = 5 and 40 - 45 = -5, so the
    # standard error is sqrt((25 + 25) * 2 / 1) / 400 = 0.025.
    assert down.rate.churned == pytest.approx((15, 15 - 4.9, 15 + 4.9), abs=0.001)
    assert down.rate.stayed == pytest.approx((5, 5, 5))
    # exp(1.96 * 0.025 / 0.15) = 1.3863.
    assert down.ratio == pytest.approx((3, 3 / 1.3863, 3 * 1.3863), abs=0.001)
    assert down.clear == 1
    assert found.pages[0] is down


def test_no_ratio_of_a_handful_of_events(found: Findings) -> None:
    home = next(use for use in found.pages if use.rate.name == "Home")
    assert home.ratio is None
    assert home.clear == 0
    assert "Home" not in pictures.gallery(found)[0].chart


def test_distributions_count_users_not_events(found: Findings) -> None:
    # 30 and 150 songs a day; 50, 7 and 9.
    assert [pair.churned.value for pair in found.songs.bins] == [0, 0.5, 0, 0, 0, 0, 0.5]
    assert [pair.stayed.value for pair in found.songs.bins] == pytest.approx(
        [2 / 3, 0, 1 / 3, 0, 0, 0, 0]
    )
    assert found.songs.medians == (90, 9)
    # 2 and 4 of 14 days, and 6.
    assert found.active.medians == (1.5, 2)
    assert [len(spread.bins) for spread in (found.songs, found.active, found.tenure)] == [7] * 3


def test_who_was_there_for_some_days_only_has_no_active_days_a_week() -> None:
    stayed = group(False, *[(1, 1, 0, 1)] * 3)
    days_there = pl.Series("observed_days", [SHORTEST, SHORTEST - 1, SHORTEST])
    found = compared(group(True, *[(1, 1, 0, 1)] * 2), stayed.with_columns(days_there))
    assert found.active.users == (2, 2)
    assert found.songs.users == (2, 3)


def test_shares_of_few_users_keep_a_wide_interval(found: Findings) -> None:
    first, last, mean = found.levels
    # Wilson's interval of 1 of 2 and of 2 of 2.
    assert first.churned == pytest.approx((0.5, 0.0945, 0.9055), abs=1e-4)
    assert last.churned == pytest.approx((1, 0.3424, 1), abs=1e-4)
    assert mean.churned.value == pytest.approx(0.75)
    assert mean.churned.high == 1


def test_one_user_is_no_group() -> None:
    one, two = group(True, (1, 1, 0, 1)), group(False, (1, 1, 0, 1), (1, 1, 0, 1))
    assert findings(pl.concat([one, two])) is None
    assert findings(one.clear()) is None


users = st.lists(
    st.tuples(st.integers(1, 500), st.integers(0, 500), st.integers(0, 50), st.integers(1, 60)),
    min_size=2,
    max_size=8,
)


@settings(max_examples=25)
@given(users, users)
def test_any_two_groups_can_be_drawn(
    churned: list[tuple[int, int, int, int]], stayed: list[tuple[int, int, int, int]]
) -> None:
    """Shares add up, intervals hold their value, and alike groups have a ratio of one."""
    found = compared(group(True, *churned), group(False, *stayed))
    for side in (1, 2):
        assert sum(pair[side].value for pair in found.songs.bins) == pytest.approx(1)
    pairs = [*found.songs.bins, *found.active.bins, *found.tenure.bins, *found.levels]
    for _, *both in (*pairs, *(use.rate for use in found.pages)):
        for value, low, high in both:
            assert low is not None
            assert high is not None
            assert 0 <= low <= value + 1e-9
            assert value <= high + 1e-9
    drawn = pictures.gallery(found)
    assert len(drawn) == 5
    assert not any("nan" in picture.caption for picture in drawn)
    alike = compared(group(True, *churned), group(False, *churned))
    for use in alike.pages:
        assert use.ratio is None or use.ratio.value == pytest.approx(1)
        assert use.clear == 0


def test_the_last_bin_is_open(found: Findings) -> None:
    assert found.songs.bins[-1].name == f"{SONG_BINS[-1]}+"
