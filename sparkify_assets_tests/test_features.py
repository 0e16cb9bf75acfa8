"""Features, on frames worked out by hand, and the property that makes them honest."""

from __future__ import annotations

from datetime import date, timedelta

import polars as pl
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from sparkify_assets.churn import days, features, kinds, labels
from sparkify_assets.tables import FEATURE_TABLE, USER_DAYS
from sparkify_assets_tests.frames import START, at, event, events
from sparkify_assets_tests.test_days import random_events

LOG_START = START.date()


def day(n: int) -> date:
    return LOG_START + timedelta(days=n)


def features_at(rows_of_events: pl.DataFrame, *cutoffs: date) -> pl.DataFrame:
    table = days.user_days(days.in_order(rows_of_events)).select(USER_DAYS.names)
    rows = (
        table.select("user_id")
        .unique()
        .join(pl.DataFrame({"as_of": list(cutoffs)}, schema={"as_of": pl.Date}), how="cross")
    )
    rows = rows.with_columns(protocol=pl.lit("forecast"), label=pl.lit(False))
    return features.features(table, rows, *learned(table, *cutoffs), LOG_START).sort(
        "user_id", "as_of"
    )


def learned(table: pl.DataFrame, *cutoffs: date) -> tuple[pl.DataFrame, list[kinds.Kinds]]:
    """What is usual before each cutoff, and the kinds of users."""
    usual = features.population_rates([features.population_totals(table)], list(cutoffs), LOG_START)
    first = table.group_by("user_id").agg(pl.col("first_event_at").min())["first_event_at"]
    lessons = kinds.lessons(first, LOG_START, day(28))
    return usual, kinds.learn(kinds.steps(table, lessons), lessons)


def test_the_contract_names_every_feature_once() -> None:
    assert len(set(features.FEATURE_NAMES)) == len(features.FEATURE_NAMES)
    result = features_at(events(event("1", at(0))), day(1))
    assert result.columns == FEATURE_TABLE.names


def test_features_by_hand() -> None:
    story = events(
        event("1", at(0, 1), song_key=1),
        event("1", at(0, 2), "Thumbs Up", item_in_session=1),
        event("1", at(8, 1), session_id=2, level="paid", song_key=1),
        event("1", at(8, 2), "Roll Advert", session_id=2, level="paid", item_in_session=1),
    )
    row = features_at(story, day(10)).row(0, named=True)
    assert row["events_per_day_lifetime"] == pytest.approx(4 / 10)
    assert row["events_per_day_3d"] == pytest.approx(2 / 3)
    assert row["events_per_day_1d"] == 0
    assert row["events_per_day_30d"] == pytest.approx(4 / 10), "a window ends at the log's start"
    assert row["active_days_per_day_7d"] == pytest.approx(1 / 7)
    assert row["is_paid"] == 1
    assert row["paid_share"] == 0.5
    assert row["days_at_level"] == pytest.approx(2 - 1 / 24)
    assert row["days_since_last_event"] == pytest.approx(2 - 2 / 24)
    assert row["account_age_days"] == 20
    assert (row["history_days"], row["exposure_days"]) == (10, 10)
    assert (row["distinct_songs"], row["distinct_songs_share"]) == (1, 0.5)
    # The population is this one user, so shrinking changes nothing.
    assert row["thumbs_up_per_100_songs"] == pytest.approx(50)
    assert row["sessions_per_day"] == pytest.approx(2 / 10)
    assert row["gap_days"] == pytest.approx(8 - 1 / 24)
    assert row["hours_per_session"] == pytest.approx(1)
    assert (row["night_share"], row["weekend_share"]) == (1, 0)
    assert (row["is_female"], row["in_west"], row["on_windows"], row["with_firefox"]) == (1,) * 4


def test_a_user_with_little_history_is_taken_for_a_usual_one() -> None:
    usual = [event(f"u{n}", at(0, 0, m), item_in_session=m) for n in range(5) for m in range(100)]
    thumbs = [event("new", at(0), "Thumbs Down"), event("new", at(0, 0, 9), item_in_session=1)]
    result = features_at(events(*usual, *thumbs), day(1))
    rate = dict(result.select("user_id", "thumbs_down_per_100_songs").iter_rows())
    assert rate["u0"] < rate["new"] < 5, "one thumb in one song is not a rate of 100"


def test_a_user_without_a_day_before_the_cutoff_has_no_row() -> None:
    assert features_at(events(event("1", at(5))), day(5)).height == 0
    assert features_at(events(event("1", at(5))), day(6)).height == 1


CUTOFF = 20


def random_events_within(first: int, last: int) -> st.SearchStrategy[list[dict]]:
    """Events of a few users, from `first` to `last` seconds after the cutoff."""
    return st.lists(
        st.builds(
            event,
            st.sampled_from(["1", "2"]),
            st.integers(first, last).map(lambda s: at(CUTOFF, 0, s)),
            st.sampled_from(["NextSong", "Home", "Thumbs Up", "Submit Upgrade", "Error", "Cancel"]),
            session_id=st.integers(1, 3),
            level=st.sampled_from(["free", "paid"]),
        ),
        min_size=1,
        max_size=20,
    )


@settings(deadline=None, max_examples=60)
@given(
    random_events_within(-18 * 86_400, -1),
    random_events_within(0, 3 * 86_400),
    random_events_within(0, 3 * 86_400),
)
def test_nothing_at_or_after_the_cutoff_reaches_a_feature(
    before: list[dict], after: list[dict], invented: list[dict]
) -> None:
    """Deleting, shuffling or inventing events at or after the cutoff changes no feature at it."""
    alone = features_at(events(*before), day(CUTOFF))
    for changed in ([*before, *after], [*invented, *before]):
        assert features_at(events(*changed), day(CUTOFF)).equals(alone)


@given(random_events)
@example(  # A plain division by a constant is rounded otherwise in a frame of one row.
    [
        event(user, at(0) + timedelta(seconds=second), session_id=1, level="free")
        for user, second in (("1", 0), ("1", 1), ("2", 0))
    ]
)
@settings(deadline=None, max_examples=30)
def test_a_users_features_do_not_depend_on_who_else_is_in_the_frame(rows: list[dict]) -> None:
    """To the last digit: tasks hold other users from day to day."""
    cutoff = day(22)
    table = days.user_days(days.in_order(events(*rows))).select(USER_DAYS.names)
    wanted = (
        table.select("user_id")
        .unique()
        .with_columns(protocol=pl.lit("forecast"), as_of=cutoff, label=pl.lit(False))
    )
    usual, known_kinds = learned(table, cutoff)

    def of(some: pl.DataFrame) -> pl.DataFrame:
        users = some["user_id"].unique()
        mine = wanted.filter(pl.col("user_id").is_in(users.implode()))
        return features.features(some, mine, usual, known_kinds, LOG_START).sort("user_id")

    together = of(table)
    alone = [of(part) for _, part in table.group_by("user_id")]
    if alone:
        assert pl.concat(alone).sort("user_id").equals(together)


@given(random_events)
@settings(deadline=None, max_examples=30)
def test_population_totals_add_up_over_days_of_users_whose_first_day_is_known(
    rows: list[dict],
) -> None:
    ordered = days.in_order(events(*rows))
    table, first = days.user_days(ordered), labels.first_days(labels.label_days(ordered))
    split = [features.population_totals(part, first) for _, part in table.group_by("day")]
    assert sum(part["new_users"].sum() for part in split) == first.height * 10**6
    together = features.population_totals(table).sort("day")
    assert together.height == len(split)
    if split:
        assert pl.concat(split).sort("day").equals(together)


@given(random_events)
@settings(deadline=None, max_examples=30)
def test_population_totals_add_up_over_any_split_of_users(rows: list[dict]) -> None:
    table = days.user_days(days.in_order(events(*rows)))
    split = [features.population_totals(part) for _, part in table.group_by("user_id")]
    if not split:
        return
    cutoffs = [day(n) for n in range(1, 22)]
    together = features.population_rates([features.population_totals(table)], cutoffs, LOG_START)
    apart = features.population_rates(split, cutoffs, LOG_START)
    assert together.equals(apart), "to the last digit, however many tasks there are"
