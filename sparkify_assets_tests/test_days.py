"""Labels and days, on frames worked out by hand."""

from __future__ import annotations

from datetime import date

import polars as pl
from hypothesis import given
from hypothesis import strategies as st

from sparkify_assets.churn import days, labels
from sparkify_assets.churn.pages import OUTCOME_PAGES, PAGES
from sparkify_assets.tables import CLEANED_EVENTS, LABEL_DAYS, USER_DAYS, USER_LABELS
from sparkify_assets_tests.frames import at, event, events


def story() -> pl.DataFrame:
    """One user: two sessions on the first day, one on the third, then a cancellation."""
    return events(
        event("1", at(0, 1), item_in_session=0, song_key=1),
        event("1", at(0, 1, 200), item_in_session=1, song_key=2, artist_key=9),
        event("1", at(0, 1, 200), "Thumbs Up", item_in_session=2),
        event("1", at(0, 13), session_id=2, song_key=1),
        event("1", at(2, 8), "Submit Upgrade", session_id=3),
        event("1", at(2, 8, 60), session_id=3, level="paid", item_in_session=1),
        event("1", at(2, 8, 90), "Cancel", session_id=3, level="paid", item_in_session=2),
        event(
            "1",
            at(2, 8, 91),
            "Cancellation Confirmation",
            session_id=3,
            level="paid",
            item_in_session=3,
        ),
    )


def test_days_by_hand() -> None:
    result = days.user_days(days.in_order(story()))
    assert set(USER_DAYS.names) == set(result.columns)
    first, third = result.rows(named=True)
    assert (first["day"], third["day"]) == (date(2018, 10, 1), date(2018, 10, 3))
    assert (first["events"], first["songs"], first["thumbs_up"]) == (4, 3, 1)
    assert first["listening_seconds"] == 600
    assert (first["sessions"], first["gaps"]) == (2, 1)
    assert first["session_seconds"] == 200
    assert first["gap_seconds"] == 12 * 3600 - 200
    assert (first["night"], first["afternoon"]) == (3, 1)
    assert (first["song_keys"], first["artist_keys"]) == ([1, 2], [7, 9])
    assert (third["events"], third["submit_upgrade"], third["paid_events"]) == (2, 1, 1)
    assert third["level"] == "paid"
    assert third["level_changed_at"] == at(2, 8, 60)
    assert third["last_event_at"] == at(2, 8, 60), "the cancellation is not part of the day"


def test_a_day_of_nothing_but_the_outcome_leaves_no_row() -> None:
    only = events(event("1", at(0)), event("1", at(1), "Cancel"))
    assert days.user_days(days.in_order(only)).height == 1


def test_labels_by_hand() -> None:
    stayed = events(event("2", at(1)), event("2", at(3), "Cancel", item_in_session=1))
    result = labels.user_labels(labels.label_days(pl.concat([story(), stayed])))
    assert set(USER_LABELS.names) == set(result.columns)
    one, two = result.rows(named=True)
    assert (one["churned"], one["churned_at"]) == (True, at(2, 8, 91))
    assert (two["churned"], two["churned_at"]) == (False, None), "Cancel alone is no churn"
    assert (one["events"], one["songs"], one["sessions"]) == (8, 4, 3)
    assert (one["level"], one["upgrades"], one["downgrades"]) == ("paid", 1, 0)
    assert (two["first_event_at"], two["last_event_at"]) == (at(1), at(3))


def over_midnight() -> pl.DataFrame:
    """A session over midnight, another one the same evening, and a cancellation alone on a day."""
    return events(
        event("1", at(0, 23), session_id=5),
        event("1", at(0, 23.5), "Submit Upgrade", session_id=5, item_in_session=1),
        event("1", at(1, 0.5), "Help", session_id=5, item_in_session=2, level="paid"),
        event("1", at(1, 20), session_id=6, level="paid"),
        event("1", at(4, 1), "Cancel", session_id=7, level="paid"),
        event("1", at(4, 1, 5), "Cancellation Confirmation", session_id=7, item_in_session=1),
        event("2", at(1, 3), "Cancel", session_id=5),
        event("2", at(3, 3), "Submit Downgrade", session_id=5, item_in_session=1),
    )


def test_days_of_labels_by_hand() -> None:
    result = labels.label_days(over_midnight())
    assert set(LABEL_DAYS.names) == set(result.columns)
    kept = ("user_id", "day", "new_sessions", "first_session_id", "last_session_id", "last_page")
    assert result.select(kept).rows() == [
        ("1", date(2018, 10, 1), 0, 5, 5, "Submit Upgrade"),
        ("1", date(2018, 10, 2), 1, 5, 6, "NextSong"),
        ("1", date(2018, 10, 5), 0, 7, 7, "Cancellation Confirmation"),
        ("2", date(2018, 10, 2), 0, 5, 5, "Cancel"),
        ("2", date(2018, 10, 4), 0, 5, 5, "Submit Downgrade"),
    ]
    counted = ("events", "outcome_events", "songs", "upgrades", "downgrades")
    assert result.select(counted).rows() == [
        (2, 0, 1, 1, 0),
        (2, 0, 1, 0, 0),
        (2, 2, 0, 0, 0),
        (1, 1, 0, 0, 0),
        (1, 0, 0, 0, 1),
    ]
    assert result["churned_at"].to_list() == [None, None, at(4, 1, 5), None, None]
    assert result["level"].to_list() == ["free", "paid", "free", "free", "free"]


def test_a_session_over_midnight_is_one_session() -> None:
    one, two = labels.user_labels(labels.label_days(over_midnight())).rows(named=True)
    assert (one["sessions"], one["events"], one["churned_at"]) == (3, 6, at(4, 1, 5))
    assert (two["sessions"], two["events"], two["churned"]) == (1, 2, False)


def test_what_is_known_of_the_days_before() -> None:
    result = labels.last_before(labels.label_days(over_midnight()))
    assert result.select("user_id", "day", "event_time", "session_id", "page", "level").rows() == [
        ("1", date(2018, 10, 2), at(0, 23.5), 5, "Submit Upgrade", "free"),
        ("2", date(2018, 10, 4), at(1, 3), 5, "Cancel", "free"),
        ("1", date(2018, 10, 5), at(1, 20), 6, "NextSong", "paid"),
    ]
    assert labels.last_before(labels.label_days(events())).is_empty()


def test_a_user_is_new_on_the_first_day_of_doing_something_else_than_cancelling() -> None:
    result = labels.first_days(labels.label_days(over_midnight()))
    assert result.rows() == [("1", date(2018, 10, 1)), ("2", date(2018, 10, 4))]
    only = labels.label_days(events(event("1", at(0), "Cancel")))
    assert labels.first_days(only).is_empty()


def test_the_same_session_number_of_two_users_is_two_sessions() -> None:
    both = events(event("1", at(0)), event("2", at(0)), event("2", at(0, 1), item_in_session=1))
    assert days.user_days(days.in_order(both))["sessions"].to_list() == [1, 1]


random_events = st.lists(
    st.builds(
        event,
        st.sampled_from(["1", "2", "3"]),
        st.integers(0, 20 * 86_400).map(lambda s: at(0, 0, s)),
        st.sampled_from(["NextSong", "Home", "Thumbs Up", "Error", "Unheard Of", "Cancel"]),
        session_id=st.integers(1, 3),
        item_in_session=st.integers(0, 5),
        level=st.sampled_from(["free", "paid"]),
    ),
    min_size=1,
    max_size=40,
)


@given(random_events, st.randoms(use_true_random=False))
def test_the_order_of_events_does_not_matter(rows: list[dict], random) -> None:
    rows = list({(r["user_id"], r["event_time"], r["item_in_session"]): r for r in rows}.values())
    shuffled = random.sample(rows, len(rows))
    one, other = (days.in_order(events(*r)) for r in (rows, shuffled))
    assert days.user_days(one).equals(days.user_days(other))
    one, other = (labels.label_days(ordered) for ordered in (one, other))
    assert one.equals(other)
    assert labels.user_labels(one).equals(labels.user_labels(other))


def day_by_day(ordered: pl.DataFrame) -> tuple[pl.DataFrame, pl.DataFrame]:
    """`user_days` and `label_days`, each day made of its own events and of the days before."""
    of_days = ordered.with_columns(day=pl.col("event_time").dt.date()).partition_by(
        "day", include_key=False, as_dict=True
    )
    of_labels = pl.concat([labels.label_days(each) for each in of_days.values()])
    before = labels.last_before(of_labels)
    made = [
        days.user_days(days.in_order(each, before.filter(day=day).drop("day")))
        for (day,), each in of_days.items()
    ]
    return pl.concat(made).sort("user_id", "day"), of_labels.sort("user_id", "day")


@given(random_events)
def test_days_made_one_by_one_are_those_of_the_whole_log(rows: list[dict]) -> None:
    ordered = days.in_order(events(*rows)).select(CLEANED_EVENTS.names)
    made, of_labels = day_by_day(ordered)
    assert made.equals(days.user_days(days.in_order(ordered)))
    assert of_labels.equals(labels.label_days(ordered))


@given(random_events)
def test_users_have_as_many_sessions_as_begin_in_the_log(rows: list[dict]) -> None:
    ordered = days.in_order(events(*rows))
    begun = ordered.group_by("user_id").agg(pl.col("new_session").sum()).sort("user_id")
    found = labels.user_labels(labels.label_days(ordered))
    assert found["sessions"].to_list() == begun["new_session"].to_list()


def test_the_second_day_goes_on_where_the_first_left_off() -> None:
    log = over_midnight()
    second = pl.col("event_time").dt.date() == date(2018, 10, 2)
    before = labels.last_before(labels.label_days(log)).filter(day=date(2018, 10, 2)).drop("day")
    alone = days.in_order(log.filter(second), before)
    whole = days.in_order(log).filter(second)
    assert alone.select(whole.columns).equals(whole)
    one, _, _ = alone.rows(named=True)
    assert (one["new_session"], one["new_level"], one["seconds_since_last"]) == (False, True, 3600)
    assert days.in_order(log.filter(second))["new_session"].to_list() == [True, True, True]


@given(random_events)
def test_days_add_up(rows: list[dict]) -> None:
    result = days.user_days(days.in_order(events(*rows)))
    kept = [r for r in rows if r["page"] not in OUTCOME_PAGES]
    assert result["events"].sum() == len(kept)
    counted = ["songs", *PAGES, "other_pages"]
    assert result.select(counted).sum_horizontal().equals(result["events"], check_names=False)
    parts = result.select(list(days.DAY_PARTS)).sum_horizontal()
    assert parts.equals(result["events"], check_names=False)
