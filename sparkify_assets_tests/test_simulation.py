"""The simulator: its machine, its times, its lines, and that it can be repeated."""

from __future__ import annotations

import errno
import gzip
import json
import os
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from datetime import date, datetime, timezone
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from sparkify_assets.errors import CapacityError, SettingError
from sparkify_assets.simulation import log as log_module
from sparkify_assets.simulation import write_log
from sparkify_assets.simulation.blocks import Block, blocks_of, live
from sparkify_assets.simulation.catalogue import SONGS, draw_songs, garbled, lengths, titles
from sparkify_assets.simulation.log import Plan, simulate_block, write_day
from sparkify_assets.simulation.machine import (
    COHORTS,
    GONE,
    N_NUMBERS,
    NUMBER,
    STATES,
    chain,
    start_weights,
    state_of,
    transitions,
)
from sparkify_assets.simulation.people import agents, places
from sparkify_assets.simulation.records import user_ids
from sparkify_assets.simulation.rhythm import damping, next_start, public_holidays, warped
from sparkify_assets.simulation.sessions import SESSION, _wait_for_songs

SHARED = Path(__file__).resolve().parents[2] / "shared" / "data"
TRANSITIONS = SHARED / "generator" / "transitions.json"

HOUR, DAY = 3_600, 86_400
ALWAYS = ["ts", "userId", "sessionId", "page", "auth", "method", "status", "level", "itemInSession"]
KNOWN = ["location", "userAgent", "lastName", "firstName", "registration", "gender"]
SONG = ["artist", "song", "length"]

Row = dict[str, Any]


@pytest.fixture(scope="module")
def log_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A log of 80 users and three weeks."""
    out = tmp_path_factory.mktemp("log") / "events.json"
    write_log(out, users=80, days=21, seed=3, progress=False)
    return out


@pytest.fixture(scope="module")
def rows(log_file: Path) -> list[Row]:
    """Its rows."""
    return [json.loads(line) for line in log_file.read_text("utf-8").splitlines()]


def sessions(rows: list[Row]) -> list[list[Row]]:
    """The logged-in rows of each session."""
    found: dict[tuple[str, int], list[Row]] = {}
    for row in rows:
        if row["userId"]:
            found.setdefault((row["userId"], row["sessionId"]), []).append(row)
    return list(found.values())


def steps(rows: list[Row]) -> Iterator[tuple[Row, Row]]:
    """Rows that follow upon each other in a session."""
    for session in sessions(rows):
        for before, after in pairwise(session):
            if after["itemInSession"] == before["itemInSession"] + 1:
                yield before, after


# The machine


def test_transitions_are_those_of_the_public_generator() -> None:
    if not TRANSITIONS.exists():
        pytest.skip("the figures of the public generator, ../shared/data, are not here")
    figures = json.loads(TRANSITIONS.read_text())
    given = {name.split(" ")[0]: table for name, table in figures["transitions"].items()}
    assert figures["cohort_weights"] == COHORTS
    for cohort in COHORTS:
        ours = {
            "|".join(map(str, state)): {"|".join(map(str, to)): p for to, p in row.items()}
            for state, row in transitions(cohort).items()
        }
        # Cohorts other than the first are given as differences from it.
        theirs = {
            state: row | given[cohort].get(state, {}) for state, row in given["Accordion"].items()
        }
        assert ours.keys() == theirs.keys()
        for state, row in theirs.items():
            assert ours[state] == pytest.approx(row), (cohort, state)
    weights = {"|".join(map(str, state)): weight for state, weight in start_weights().items()}
    assert weights == figures["start_weights"]


@pytest.mark.parametrize("cohort", COHORTS)
def test_cells_give_each_chance_exactly(cohort: str) -> None:
    cells = chain()
    offset = list(COHORTS).index(cohort) * N_NUMBERS
    for state, row in transitions(cohort).items():
        first, size = cells.first[offset + NUMBER[state]], cells.size[offset + NUMBER[state]]
        drawn = Counter(cells.cells[first : first + size].tolist())
        assert {to: drawn[NUMBER[to]] / size for to in row} == pytest.approx(row)


def test_who_cancelled_is_gone_for_good() -> None:
    cells = chain()
    cancelled = NUMBER[state_of("Cancellation Confirmation", "Cancelled", "paid")]
    always = cells.next(np.array([cancelled, GONE]), np.array([0.999999, 0.0]))
    assert always.tolist() == [GONE, GONE]


# Times


def test_songs_wait_for_each_other() -> None:
    song = NUMBER[state_of("NextSong", "Logged In", "paid")]
    home = NUMBER[state_of("Home", "Logged In", "paid")]
    states = np.array([[song, song, home, song, home, song]], dtype=np.uint8)
    songs = np.array([[5, 6, -1, 7, -1, 8]], dtype=np.int32)
    last = lengths().astype(np.int64)
    # Before the fourth song, more time passes than the third lasts.
    late = int(last[7]) + 10
    gaps = np.array([[0, 3, 20, 4, late, 9]])
    begins = np.array([[True, False, False, False, False, False]])
    left = _wait_for_songs(gaps, states, begins, songs, np.array([0]))
    assert gaps.tolist() == [[0, last[5], 20, last[6] - 20, late, 9]]
    assert left.tolist() == [last[8]]


def test_a_song_plays_on_into_the_next_steps() -> None:
    song = NUMBER[state_of("NextSong", "Logged In", "paid")]
    home = NUMBER[state_of("Home", "Logged In", "paid")]
    states = np.array([[home, song], [home, home]], dtype=np.uint8)
    songs = np.array([[-1, 5], [-1, -1]], dtype=np.int32)
    gaps = np.array([[30, 7], [30, 7]])
    left = _wait_for_songs(gaps, states, np.zeros((2, 2), bool), songs, np.array([100, 100]))
    assert gaps.tolist() == [[30, 70], [30, 7]]
    assert left.tolist() == [int(lengths()[5]), 63]


def test_weekends_are_half_as_busy_with_a_ramp_around_midnight() -> None:
    friday = 4 * DAY  # 2018-10-05
    times = np.array([0, 12 * HOUR, friday + 20 * HOUR, friday + DAY, friday + 27 * HOUR])
    assert damping(times).tolist() == [0.25, 0.0, 0.0, 0.25, 0.5]
    monday_again = 7 * DAY
    assert damping(np.array([monday_again, monday_again + 3 * HOUR])).tolist() == [0.25, 0.0]


def test_holidays() -> None:
    thanksgiving = date(2018, 11, 22)
    assert thanksgiving in public_holidays(2018)
    noon = (thanksgiving - date(2018, 10, 1)).days * DAY + 12 * HOUR
    assert damping(np.array([noon])).tolist() == [0.5]


def test_the_warp_moves_times_towards_the_afternoon() -> None:
    at = np.array([3, 9, 15, 21]) * HOUR
    assert ((warped(at) - at) / HOUR).tolist() == [0.0, 1.5, 0.0, -1.5]


def test_fewer_sessions_start_on_weekends() -> None:
    last = np.full(20_000, 36 * HOUR)
    starts = next_start(last, np.full(20_000, 70.0 * DAY), np.random.default_rng(1))
    assert (starts >= last).all()
    assert np.mean(starts - last) > 70 * DAY
    weekday = starts // DAY % 7
    assert 0.45 < np.mean(weekday >= 5) / np.mean(weekday < 5) * 5 / 2 < 0.6


# Lines


def test_the_rows_have_the_fields_of_their_kind(rows: list[Row]) -> None:
    for row in rows:
        known = row["auth"] in ("Logged In", "Cancelled")
        song = row["page"] == "NextSong"
        assert list(row) == ALWAYS + known * KNOWN + song * SONG
        assert bool(row["userId"]) == known
        assert state_of(row["page"], row["auth"], row["level"])[2:4] == (
            row["status"],
            row["method"],
        )
        assert row["ts"] % 1_000 == 0


def test_fields_and_types_are_those_of_the_real_rows(rows: list[Row], real_rows: Path) -> None:
    def kinds(some: list[Row]) -> set[tuple[tuple[str, str], ...]]:
        return {tuple((k, type(v).__name__) for k, v in row.items()) for row in some}

    with gzip.open(real_rows / "mini_events_partial.jsonl.gz", "rt", encoding="utf-8") as file:
        real = [json.loads(line) for line in file]
    assert kinds(rows) == kinds(real)


def test_rows_are_in_time_order_and_a_users_rows_in_theirs(rows: list[Row]) -> None:
    times = [row["ts"] for row in rows]
    assert times == sorted(times)
    start = datetime(2018, 10, 1, tzinfo=timezone.utc).timestamp() * 1_000
    assert start < times[0]
    assert times[-1] < start + 21 * DAY * 1_000
    for session in sessions(rows):
        items = [row["itemInSession"] for row in session]
        assert items == sorted(set(items))


def test_redirects_follow_after_a_second_and_songs_after_a_song(rows: list[Row]) -> None:
    redirects = songs = 0
    for before, after in steps(rows):
        gap = (after["ts"] - before["ts"]) // 1_000
        if after["status"] == 307:
            assert gap == 1
            redirects += 1
        elif before["page"] == after["page"] == "NextSong":
            assert gap == int(before["length"])
            songs += 1
    assert redirects > 500
    assert songs > 5_000


def test_a_cancellation_is_a_users_last_row(rows: list[Row]) -> None:
    last = {row["userId"]: row for row in rows if row["userId"]}
    cancelled = [row for row in rows if row["auth"] == "Cancelled"]
    assert cancelled
    for row in cancelled:
        assert last[row["userId"]] is row
        assert row["page"] == "Cancellation Confirmation"


def test_the_quirks_of_the_real_rows(rows: list[Row]) -> None:
    known = [row for row in rows if row["userId"]]
    quoted = {row["userAgent"].startswith('"') for row in known}
    assert quoted == {True, False}
    assert all(('"' in row["userAgent"]) == ("," in row["userAgent"]) for row in known)
    assert any("Ã\x83" in row.get("artist", "") + row.get("song", "") for row in known)
    assert any('"' in row.get("song", "") for row in known)
    first = {row["userId"]: row for row in reversed(known)}
    assert any(row["itemInSession"] > 0 for row in first.values())
    owners = {(row["sessionId"], row["userId"]) for row in known}
    assert len(owners) > len({session for session, _ in owners})


# Repeatability, order of work, files


def test_same_seed_same_bytes_in_whichever_order_and_shape(log_file: Path, tmp_path: Path) -> None:
    again = tmp_path / "again.json"
    write_log(again, users=80, days=21, seed=3, progress=False)
    assert again.read_bytes() == log_file.read_bytes()
    days = tmp_path / "days"
    write_log(days, users=80, days=21, seed=3, daily=True, progress=False)
    files = sorted(days.iterdir())
    assert [files[0].name, files[-1].name] == ["2018-10-01.jsonl", "2018-10-21.jsonl"]
    assert b"".join(file.read_bytes() for file in files) == log_file.read_bytes()
    other = tmp_path / "other.json"
    write_log(other, users=80, days=21, seed=4, progress=False)
    assert other.read_bytes() != log_file.read_bytes()


def test_blocks_and_days_may_be_done_in_any_order(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sparkify_assets.simulation.blocks.BLOCK_USERS", 20)
    out = tmp_path / "log.json"
    write_log(out, users=50, days=10, seed=1, progress=False)
    plan = Plan(tuple(blocks_of(50, 10, 1)), "mini", tmp_path, one_by_one=False)
    assert len(plan.blocks) == 3
    counts = {number: simulate_block(plan, number) for number in (2, 0, 1)}
    plan = replace(plan, counts=tuple(counts[number] for number in range(3)))
    for day in reversed(range(10)):
        write_day(plan, day)
    assert b"".join(plan.day_file(day).read_bytes() for day in range(10)) == out.read_bytes()


def test_spark_tasks_write_the_same_bytes(log_file: Path, tmp_path: Path, spark: Any) -> None:
    out = tmp_path / "spark.json"
    write_log(out, users=80, days=21, seed=3, spark=spark, progress=False)
    assert out.read_bytes() == log_file.read_bytes()
    assert list(tmp_path.iterdir()) == [out]


def test_a_full_disk_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(log_module, "write_day", _full_disk)
    with pytest.raises(SettingError, match="No space left on device"):
        write_log(tmp_path / "log.json", users=5, days=2, seed=1, progress=False)
    assert list(tmp_path.iterdir()) == []


def _full_disk(plan: Plan, day: int) -> Path:
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def test_the_log_shows_as_many_users_as_asked(rows: list[Row], tmp_path: Path) -> None:
    assert len({row["userId"] for row in rows} - {""}) == 80
    # Within a day few users show: more are begun with, until there are enough.
    summary = write_log(tmp_path / "day.json", users=200, days=1, seed=1, progress=False)
    lines = (tmp_path / "day.json").read_text("utf-8").splitlines()
    users = {json.loads(line)["userId"] for line in lines} - {""}
    assert (summary.users, summary.events) == (200, len(lines))
    assert len(users) == 200


def test_the_full_style_numbers_nobody_and_users_alike(tmp_path: Path) -> None:
    out = tmp_path / "full.json"
    write_log(out, users=60, days=3, seed=1, style="full", progress=False)
    rows = [json.loads(line) for line in out.read_text("utf-8").splitlines()]
    nobody = {row["userId"] for row in rows if row["auth"] in ("Logged Out", "Guest")}
    assert nobody == {"1261737"}
    assert all(len(row["userId"]) == 7 for row in rows)
    many = user_ids(np.zeros(30_000, dtype=np.int64), "full")
    assert many.n_unique() == 30_000
    assert "1261737" not in many


def test_users_who_register_do_so_during_the_log() -> None:
    life = live(Block(seed=1, days=30, number=0, users=1_500))
    page = np.array([state.page for state in STATES])[life.events["state"]]
    new = np.unique(life.events["user"][page == "Submit Registration"])
    assert len(new)
    assert (life.population.arrival[new] > 0).all()
    assert (life.population.registration[new] == life.population.arrival[new]).all()


def test_nothing_is_left_when_it_fails(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(log_module, "write_day", _fail)
    with pytest.raises(RuntimeError):
        write_log(tmp_path / "log.json", users=5, days=2, seed=1, progress=False)
    assert list(tmp_path.iterdir()) == []


def _fail(plan: Plan, day: int) -> Path:
    raise RuntimeError("the disk is gone")


def test_too_little_disk_is_said_with_the_figures(tmp_path: Path) -> None:
    with pytest.raises(CapacityError, match=r"takes about [\d,]+\.\d GB of disk; .* has"):
        write_log(tmp_path / "log.json", users=10**9, days=61, seed=1, progress=False)


def test_places_that_cannot_be_written(log_file: Path, tmp_path: Path) -> None:
    with pytest.raises(SettingError, match="it is a folder"):
        write_log(tmp_path, users=5, days=2, seed=1, progress=False)
    with pytest.raises(SettingError, match="it is a file"):
        write_log(log_file, users=5, days=2, seed=1, daily=True, progress=False)
    with pytest.raises(SettingError, match="Cannot write a log"):
        write_log(log_file / "log.json", users=5, days=2, seed=1, progress=False)


@pytest.mark.parametrize("wrong", [{"users": 0}, {"days": 0}, {"seed": -1}])
def test_figures_that_cannot_be(wrong: dict[str, int], tmp_path: Path) -> None:
    with pytest.raises(SettingError, match="at least one user"):
        write_log(tmp_path / "log.json", **{"users": 5, "days": 5, "seed": 1, **wrong})


# What things are called


def test_no_two_songs_or_artists_share_a_name() -> None:
    catalogue = titles(np.arange(SONGS, dtype=np.int32))
    assert catalogue["song"].n_unique() == SONGS
    assert catalogue["artist"].n_unique() == 38_337


def test_a_small_log_shows_as_few_songs_as_the_real_one() -> None:
    songs = np.unique(draw_songs(np.random.default_rng(1), 228_108))
    assert len(songs) == pytest.approx(58_480, rel=0.02)
    assert titles(songs)["artist"].n_unique() == pytest.approx(17_655, rel=0.03)


def test_lengths_are_those_of_the_real_plays() -> None:
    played = lengths()[draw_songs(np.random.default_rng(1), 200_000)]
    assert np.mean(played) == pytest.approx(249.1, rel=0.02)
    assert np.quantile(played, [0.05, 0.5, 0.95]) == pytest.approx([138, 234.5, 406], rel=0.02)


def test_places_and_agents() -> None:
    assert len(set(places())) == 900
    assert len(set(agents())) == 85
    assert all(len(place.rsplit(", ", 1)[1].split("-")[0]) == 2 for place in places())


def test_garbled_text_is_utf8_read_as_latin1_twice() -> None:
    assert garbled("Björk") == "BjÃ\x83Â¶rk"
    assert garbled("Bjork") == "Bjork"


def test_sessions_are_numbered_by_when_they_are_made() -> None:
    life = live(Block(seed=2, days=10, number=0, users=100))
    assert life.sessions.dtype == SESSION
    events = life.events
    for cohort in range(len(COHORTS)):
        own = events[life.population.cohort[events["user"]] == cohort]
        opening = own[own["item"] == 0]
        users = {(user, session) for user, session in zip(own["user"], own["session"], strict=True)}
        assert len({session for _, session in users}) == len(users)
        # Made when the one before ended: the order of starts is nearly that of the numbers.
        assert np.corrcoef(opening["time"], opening["session"])[0, 1] > 0.5
