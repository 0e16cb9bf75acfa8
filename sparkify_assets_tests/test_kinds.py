"""Steps from page to page, and kinds of users, on frames worked out by hand."""

from __future__ import annotations

from datetime import date, timedelta

import numpy as np
import polars as pl
import pytest

from sparkify_assets.churn import days, kinds, moves
from sparkify_assets.resources.lake import as_promised
from sparkify_assets.tables import USER_DAYS, USER_KINDS
from sparkify_assets_tests.frames import START, at, event, events

CUTOFFS = [START.date() + timedelta(days=n) for n in (14, 28)]
LESSONS = pl.DataFrame({"as_of": CUTOFFS, "share": [1.0, 1.0]})


def named(taken: list[dict]) -> dict[tuple[str, str, str], int]:
    return {moves.described(step["move"]): step["times"] for step in taken}


def test_steps_by_hand() -> None:
    table = days.user_days(
        days.in_order(
            events(
                event("1", at(0, 1)),
                event("1", at(0, 2), item_in_session=1),
                event("1", at(0, 3), "Thumbs Up", item_in_session=2),
                event("1", at(1, 1), "Unheard Of", session_id=2, level="paid"),
                event("1", at(1, 2), session_id=2, item_in_session=1, level="paid"),
                event("1", at(1, 3), "Cancel", session_id=2, item_in_session=2, level="paid"),
                event("2", at(0, 4), "Home"),
            )
        )
    )
    first, second, other = table["moves"].to_list()
    assert named(first) == {
        ("free", "NextSong", "NextSong"): 1,
        ("free", "NextSong", "Thumbs Up"): 1,
    }
    assert named(second) == {
        ("free", "Thumbs Up", "end of session"): 1,
        ("paid", "other", "NextSong"): 1,
    }, "a session's end is known when the next begins; the outcome is no step"
    assert other == []


def crowd(users: int, seed: int = 0) -> tuple[pl.DataFrame, dict[str, bool]]:
    """Days of users half of whom give a thumb after every third song, half after every tenth."""
    generator = np.random.default_rng(seed)
    rows, often = [], {}
    song, thumb = 0, moves.TO.index("Thumbs Up")
    for number in range(users):
        user, likes = f"u{number}", number % 2 == 0
        often[user] = likes
        for day in range(20):
            thumbs = int(generator.binomial(30, 1 / 3 if likes else 1 / 10))
            taken = [{"move": song, "times": 30 - thumbs}, {"move": thumb, "times": thumbs}]
            rows.append(
                {"user_id": user, "day": START.date() + timedelta(days=day), "moves": taken}
            )
    schema = {"user_id": pl.String, "day": pl.Date, "moves": USER_DAYS.polars_schema["moves"]}
    return pl.DataFrame(rows, schema=schema), often


def chances(table: pl.DataFrame, known: list[kinds.Kinds], *cutoffs: date) -> pl.DataFrame:
    rows = table.select(pl.lit("forecast").alias("protocol"), pl.col("user_id").unique().sort())
    at_cutoffs = pl.DataFrame({"as_of": list(cutoffs)}, schema={"as_of": pl.Date})
    return kinds.likely(table, rows.join(at_cutoffs, how="cross"), known)


def test_two_kinds_are_told_apart_and_keep_their_number() -> None:
    table, often = crowd(60)
    known = kinds.learn(kinds.steps(table, LESSONS), LESSONS)
    result = chances(table, known, *CUTOFFS)
    assert result.select(pl.sum_horizontal(kinds.NAMES)).to_series().to_list() == pytest.approx(
        [1.0] * 120
    )
    likes = result.with_columns(likes=pl.col("user_id").replace_strict(often))
    by_group = likes.group_by("likes", "as_of").agg(pl.col(kinds.NAMES).mean()).sort("as_of")
    for _, at_cutoff in by_group.group_by("as_of"):
        a, b = (np.array(row) for row in at_cutoff.sort("likes").select(kinds.NAMES).rows())
        assert np.abs(a - b).sum() > 1.8, "no kind holds users of both groups"
    first, second = (
        likes.filter(pl.col("as_of") == cutoff).select(kinds.NAMES).to_numpy() for cutoff in CUTOFFS
    )
    groups = likes.filter(pl.col("as_of") == CUTOFFS[0])["likes"].to_numpy()
    sets = [first[groups].mean(axis=0) > 0.25, second[groups].mean(axis=0) > 0.25]
    assert (sets[0] & sets[1]).any()


def test_what_comes_at_or_after_a_cutoff_changes_nothing_before_it() -> None:
    table, _ = crowd(20)
    later = table.with_columns(pl.col("day") + pl.duration(days=14)).with_columns(
        moves=pl.col("moves").reverse()
    )
    early = table.filter(pl.col("day") < CUTOFFS[0])
    found = [
        chances(t, kinds.learn(kinds.steps(t, LESSONS), LESSONS), CUTOFFS[0])
        for t in (early, pl.concat([early, later.filter(pl.col("day") >= CUTOFFS[0])]))
    ]
    assert found[0].equals(found[1])


def test_any_split_of_the_users_gives_the_same_to_the_last_digit() -> None:
    table, _ = crowd(30)
    together = kinds.learn(kinds.steps(table, LESSONS), LESSONS)
    parts = [part for _, part in table.group_by("user_id")]
    apart = kinds.learn(pl.concat([kinds.steps(part, LESSONS) for part in parts]), LESSONS)
    one = chances(table, together, *CUTOFFS).sort("user_id", "as_of")
    other = pl.concat([chances(part, apart, *CUTOFFS) for part in parts]).sort("user_id", "as_of")
    assert one.equals(other)


def assert_same_kinds(some: list[kinds.Kinds], others: list[kinds.Kinds]) -> None:
    assert [known.as_of for known in some] == [known.as_of for known in others]
    for one, other in zip(some, others, strict=True):
        for name in ("chance", "share", "visits"):
            assert np.array_equal(getattr(one, name), getattr(other, name)), name


WEEKS = [START.date() + timedelta(days=7 * n) for n in range(1, 5)]
WEEKLY = pl.DataFrame({"as_of": WEEKS, "share": [1.0, 1.0, 0.8, 0.5]})


@pytest.mark.parametrize("known", [0, 1, 2, 3, 4])
def test_learning_goes_on_from_what_was_learned_to_the_last_digit(known: int) -> None:
    table, _ = crowd(30)
    at_once = kinds.learn(kinds.steps(table, WEEKLY), WEEKLY)
    assert len(at_once) == 4
    until = WEEKS[known - 1] if known else START.date()
    taken = kinds.steps(table.filter(pl.col("day") < until), WEEKLY.head(known))
    before = kinds.learn(taken, WEEKLY.head(known))
    kept = kinds.from_rows(pl.concat([each.to_rows() for each in before])) if before else []
    after = kinds.learn(kinds.steps(table, WEEKLY), WEEKLY, before=kept)
    assert len(after) == 4 - known
    assert_same_kinds([*kept, *after], at_once)


def test_kinds_are_stored_and_read_to_the_last_digit() -> None:
    table, _ = crowd(20)
    known = kinds.learn(kinds.steps(table, WEEKLY), WEEKLY)
    rows = pl.concat([each.to_rows() for each in reversed(known)])
    assert as_promised(USER_KINDS, rows).equals(rows)
    assert rows.height == 4 * kinds.COUNT
    assert rows["share"].sum() == pytest.approx(4)
    assert_same_kinds(kinds.from_rows(rows), known)
    assert kinds.from_rows(rows.clear()) == []


def test_nothing_learned_is_unknown_and_few_users_are_all_taken() -> None:
    table, _ = crowd(4)
    assert chances(table, [], CUTOFFS[0])[kinds.NAMES[0]].null_count() == 4
    assert chances(table.clear(), [], CUTOFFS[0]).is_empty()
    assert kinds.learn(kinds.steps(table.clear(), LESSONS), LESSONS) == []
    no_week = kinds.lessons(pl.Series([at(0)]), START.date(), START.date() + timedelta(days=1))
    assert kinds.learn(kinds.steps(table, no_week), no_week) == []
    words = kinds.in_words(kinds.learn(kinds.steps(table, LESSONS), LESSONS)[-1])
    assert set(words) == set(kinds.NAMES)
    assert "Thumbs Up" in words["kind_1"]


def test_lessons_are_weekly_and_take_as_many_users_as_teach_something(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(kinds, "MOST_USERS", 10)
    first = pl.Series([at(0)] * 5 + [at(6.9)] * 5 + [at(7)] * 30)
    lessons = kinds.lessons(first, START.date(), START.date() + timedelta(days=20))
    assert lessons.rows() == [(CUTOFFS[0] - timedelta(days=7), 1.0), (CUTOFFS[0], 0.25)]
    table, _ = crowd(200)
    taken = kinds.steps(table, lessons)
    early, late = (taken.filter(period=n)["user_id"].n_unique() for n in (0, 1))
    assert (early, 30 < late < 70) == (200, True)
    assert set(taken.filter(period=1)["user_id"]) <= set(taken.filter(period=0)["user_id"])
    assert len(kinds.learn(taken, lessons)) == 2
