"""Labels and days, on frames worked out by hand."""

from __future__ import annotations

from datetime import date

import polars as pl
from hypothesis import given
from hypothesis import strategies as st

from sparkify_assets.churn import days, labels
from sparkify_assets.churn.pages import OUTCOME_PAGES, PAGES
from sparkify_assets.tables import USER_DAYS, USER_LABELS
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
    result = labels.user_labels(days.in_order(pl.concat([story(), stayed])))
    assert set(USER_LABELS.names) == set(result.columns)
    one, two = result.rows(named=True)
    assert (one["churned"], one["churned_at"]) == (True, at(2, 8, 91))
    assert (two["churned"], two["churned_at"]) == (False, None), "Cancel alone is no churn"
    assert (one["events"], one["songs"], one["sessions"]) == (8, 4, 3)
    assert (one["level"], one["upgrades"], one["downgrades"]) == ("paid", 1, 0)
    assert (two["first_event_at"], two["last_event_at"]) == (at(1), at(3))


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
    assert labels.user_labels(one).equals(labels.user_labels(other))


@given(random_events)
def test_days_add_up(rows: list[dict]) -> None:
    result = days.user_days(days.in_order(events(*rows)))
    kept = [r for r in rows if r["page"] not in OUTCOME_PAGES]
    assert result["events"].sum() == len(kept)
    counted = ["songs", *PAGES, "other_pages"]
    assert result.select(counted).sum_horizontal().equals(result["events"], check_names=False)
    parts = result.select(list(days.DAY_PARTS)).sum_horizontal()
    assert parts.equals(result["events"], check_names=False)
