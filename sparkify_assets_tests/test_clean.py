"""Cleaning, on frames worked out by hand."""

from __future__ import annotations

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sparkify_assets.events.clean import clean, in_order, keys, read_agent, repair_text
from sparkify_assets.tables import CLEANED_EVENTS
from sparkify_assets_tests.frames import at, raw, raw_events


@pytest.fixture(scope="module")
def result() -> pl.DataFrame:
    second = raw("2", at(0, 2), item_in_session=1, user_agent=None, location=None)
    rows = raw_events(
        raw("2", at(0, 3), item_in_session=2),
        second,
        raw("1", at(0, 1), page="Home", item_in_session=5),
        raw("1", at(0, 1), artist="BeyoncÃ©", song="DÃ©jÃ Vu", item_in_session=4),
        second,
        raw("", at(0), auth="Logged Out", page="Home"),
        raw("1261737", at(0), auth="Guest", page="Home"),
        raw("1", at(0, 9), page="Cancellation Confirmation", auth="Cancelled"),
        raw("", at(0, 9)),
    )
    return clean(rows).select(CLEANED_EVENTS.names)


def test_only_events_of_known_users_remain(result: pl.DataFrame) -> None:
    assert set(result["user_id"]) == {"1", "2"}
    assert set(result["auth"]) == {"Logged In", "Cancelled"}


def test_exact_repeats_go_and_rows_that_differ_stay(result: pl.DataFrame) -> None:
    assert result.filter(pl.col("user_id") == "2")["item_in_session"].to_list() == [1, 2]


def test_a_users_rows_stand_together_in_time_order(result: pl.DataFrame) -> None:
    changes = (result["user_id"] != result["user_id"].shift(1)).sum()
    assert changes == result["user_id"].n_unique() - 1
    first = result.filter(pl.col("user_id") == "1")
    assert first["item_in_session"].to_list() == [4, 5, 0]


def test_there_are_no_names(result: pl.DataFrame) -> None:
    text = result.select(pl.selectors.string()).unpivot()["value"].drop_nulls()
    assert not {"Ada", "Lovelace"} & set(text)
    assert not {"first_name", "last_name"} & set(result.columns)


def test_times_are_utc(result: pl.DataFrame) -> None:
    assert result.schema["event_time"] == pl.Datetime("us", "UTC")
    assert result["event_time"].min() == at(0, 1)
    assert result["registered_at"].unique().to_list() == [at(-10)]


def test_place_and_agent_are_read(result: pl.DataFrame) -> None:
    row = result.row(0, named=True) if result["user_id"][0] == "1" else result.row(-1, named=True)
    assert (row["state"], row["os"], row["browser"]) == ("CA", "Windows", "Firefox")
    assert not row["user_agent"].startswith('"')
    unknown = result.filter(pl.col("user_agent").is_null())
    assert unknown.select("state", "os").row(0) == (None, None)


def test_artist_and_song_are_repaired(result: pl.DataFrame) -> None:
    row = result.filter(pl.col("item_in_session") == 4).row(0, named=True)
    assert row["artist"] == "Beyoncé"
    assert row["song"].startswith("Déj")
    songs = result.filter(pl.col("page") == "NextSong")
    assert songs["song_key"].null_count() == 0
    rest = result.filter(pl.col("page") != "NextSong")
    assert rest["song_key"].null_count() == rest.height == 2


@pytest.mark.parametrize(
    ("broken", "meant"),
    [("BjÃ¶rk", "Björk"), ("MiÃ\x83Â©ntele", "Miéntele"), ("Björk", "Björk"), ("AC/DC", "AC/DC")],
)
def test_repair_text(broken: str, meant: str) -> None:
    assert repair_text(broken) == meant


def test_read_agent_of_nothing() -> None:
    assert read_agent("no browser at all") == (None, None, None)


def test_keys_are_for_good() -> None:
    """They are stored, so another version of any library must not change them."""
    found = keys(pl.Series("artist", ["A", "Beyoncé"]))
    assert (found.name, found.to_list()) == ("artist_key", [-740712821, 1055829926])


def test_the_same_title_by_two_artists_is_two_songs() -> None:
    rows = clean(raw_events(raw("1", at(0), artist="A"), raw("1", at(1), artist="B")))
    assert rows["song_key"].n_unique() == 2


def test_a_repeat_in_another_file_goes() -> None:
    """What is read of a day lies in as many parts as there are files with events of it."""
    twice = raw("1", at(0, 1), source_file="a.json"), raw("1", at(0, 1), source_file="b.json")
    other = raw("1", at(0, 1), source_file="b.json", level="paid")
    assert clean(raw_events(*twice, other))["level"].to_list() == ["free", "paid"]


@given(st.lists(st.tuples(*[st.integers(0, 2)] * 4), min_size=1, max_size=20))
def test_days_are_cleaned_one_by_one_as_all_together(rows: list[tuple[int, ...]]) -> None:
    log = raw_events(
        *(
            raw(str(user), at(day, 23), item_in_session=item, level=f"{level}")
            for user, day, item, level in rows
        )
    )
    by_day = log.with_columns(day=pl.from_epoch("ts", "ms").dt.date()).partition_by(
        "day", include_key=False
    )
    one_by_one = pl.concat([clean(of_day) for of_day in by_day])
    order = ["user_id", "event_time"]
    assert one_by_one.sort(order, maintain_order=True).equals(clean(log))


@settings(deadline=None)
@given(st.permutations(range(6)))
def test_the_order_of_lines_does_not_matter(order: list[int]) -> None:
    rows = [
        raw("1", at(0), page, item_in_session=item, level=level)
        for item, page, level in (
            (0, "Home", "free"),
            (0, "Home", "paid"),
            (1, "NextSong", "free"),
            (1, "Home", "free"),
            (1, "NextSong", "free"),
            (2, "Help", "free"),
        )
    ]
    assert clean(raw_events(*(rows[i] for i in order))).equals(clean(raw_events(*rows)))


@settings(deadline=None)
@given(st.lists(st.tuples(*[st.integers(0, 2)] * 4), max_size=12))
def test_order_and_repeats_are_as_if_all_columns_were_sorted(rows: list[tuple[int, ...]]) -> None:
    """Whether the first keys leave events tied or not."""
    events = raw_events(
        *(
            raw(str(user), at(0, 0, minute), item_in_session=item or None, level=f"{level}")
            for user, minute, item, level in rows
        )
    )
    first = ["user_id", "ts", "item_in_session", "session_id", "page"]
    rest = [name for name in events.columns if name not in first]
    assert in_order(events).equals(events.unique().sort(*first, *rest))
