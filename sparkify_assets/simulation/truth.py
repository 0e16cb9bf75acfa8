"""The truth behind a simulated log: what drives each user, and how likely each one is to cancel.

Belongs here: what no log shows, for measuring how good a forecast could be at best. Does not belong
here: anything the pipeline reads. The truth is written where the caller says, never into the lake.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np
import polars as pl
from numpy.typing import NDArray

from sparkify_assets.simulation.blocks import Life
from sparkify_assets.simulation.catalogue import draw_songs, lengths
from sparkify_assets.simulation.machine import (
    COHORTS,
    GONE,
    N_NUMBERS,
    NUMBER,
    PAUSE,
    PAUSES,
    STATES,
    Chain,
    chain,
    state_of,
)
from sparkify_assets.simulation.population import (
    MEAN_EVENT_GAP,
    MEAN_SESSION_GAP,
    SECONDS_A_DAY,
    Population,
)
from sparkify_assets.simulation.rhythm import START_SECOND, next_start
from sparkify_assets.simulation.sessions import Walkers, walk_on

LEVELS = ("free", "paid")

# Chances are simulated for mean gaps between sessions at these many standard deviations of their
# logarithm from the median, and interpolated in between.
GAP_DEVIATIONS = np.linspace(-3.5, 3.5, 22)


def truth_of(life: Life) -> pl.DataFrame:
    """One row a user of a block, in their order.

    `cohort`; `event_gap` and `session_gap`, mean seconds; `levels` and `levels_since`, the level
    path from the first event on; `session_starts` and `session_ends`, first and last events of the
    sessions; `cancelled_at`, null for those who stay. Times are UTC. A user without an event has
    nulls.
    """
    events = life.events
    level = np.array([state.level for state in STATES])[events["state"]]
    cancelled = np.array([state.auth == "Cancelled" for state in STATES])[events["state"]]
    frame = pl.DataFrame(
        {
            "user": events["user"],
            "time": _utc(pl.Series(events["time"])),
            "session": events["session"],
            "level": level,
            "cancelled": cancelled,
        }
    )
    changed = pl.col("level").ne_missing(pl.col("level").shift().over("user"))
    levels = (
        frame.filter(changed)
        .group_by("user", maintain_order=True)
        .agg(levels="level", levels_since="time")
    )
    sessions = (
        frame.group_by("user", "session", maintain_order=True)
        .agg(start=pl.col("time").first(), end=pl.col("time").last())
        .group_by("user", maintain_order=True)
        .agg(session_starts="start", session_ends="end")
    )
    left = frame.filter("cancelled").select("user", cancelled_at="time")
    population = life.population
    users = pl.DataFrame(
        {
            "user": np.arange(len(population), dtype=np.uint32),
            "cohort": np.array(list(COHORTS))[population.cohort],
            "event_gap": population.event_gap,
            "session_gap": population.session_gap,
        }
    )
    for more in (levels, sessions, left):
        users = users.join(more, on="user", how="left", maintain_order="left")
    return users.drop("user")


def oracle(
    truth: pl.DataFrame, as_of_day: int, horizon_days: int, *, paths: int = 400, seed: int = 1
) -> pl.DataFrame:
    """Each user's chance to cancel within the horizon, for one who knows the truth at the cutoff.

    `truth` is the table of `truth_of` with a `user_id`, `as_of_day` the cutoff in days after the
    log's start. The rows are the users who were there before the cutoff and have not cancelled:
    `user_id`, `cohort`, `session_gap`, `level`, `open` (a session is under way), `probability`,
    `error` (half the width of a 95 % interval) and `cancels` (whether they do).

    The chance is that given cohort, mean gap between sessions, level and whether a session is open,
    by `chances`, with its simplifications and its error.
    """
    cutoff = (
        pl.lit(START_SECOND + as_of_day * SECONDS_A_DAY)
        .mul(1_000_000)
        .cast(pl.Datetime("us", "UTC"))
    )
    end = cutoff + pl.duration(days=horizon_days)
    before = pl.element() < cutoff
    known = (
        truth.filter(pl.col("levels_since").list.first() < cutoff)
        .filter(pl.col("cancelled_at").is_null() | (pl.col("cancelled_at") >= cutoff))
        .with_columns(
            level=pl.col("levels").list.get(
                pl.col("levels_since").list.eval(before).list.sum().cast(pl.Int64) - 1
            ),
            open=pl.col("session_starts").list.eval(before).list.sum()
            > pl.col("session_ends").list.eval(before).list.sum(),
            cancels=(pl.col("cancelled_at") < end).fill_null(False),
        )
    )
    parts = []
    for (cohort, level, is_open), users in known.group_by("cohort", "level", "open"):
        table = chances(
            str(cohort), str(level), bool(is_open), as_of_day, horizon_days, paths=paths, seed=seed
        )
        gap = np.log(users["session_gap"].to_numpy())
        grid = np.log(table["session_gap"].to_numpy())
        parts.append(
            users.with_columns(
                probability=pl.Series(np.interp(gap, grid, table["probability"].to_numpy())),
                error=pl.Series(np.interp(gap, grid, table["error"].to_numpy())),
            )
        )
    columns = ["user_id", "cohort", "session_gap", "level", "open"]
    return pl.concat(parts).select(*columns, "probability", "error", "cancels").sort("user_id")


def chances(
    cohort: str,
    level: str,
    is_open: bool,
    as_of_day: int,
    horizon_days: int,
    *,
    paths: int = 400,
    seed: int = 1,
) -> pl.DataFrame:
    """Chances to cancel in [cutoff, cutoff + horizon) over a grid of `session_gap` (mean seconds).

    From each point of the grid, `paths` users are simulated on from the cutoff in a machine from
    which cancelling is taken out. On its way each of them passes by known chances to cancel; one
    less the mean of the products of what they leave is `probability`. This has a far smaller
    `error` (half the width of a 95 % interval) than counting who cancels.

    Simplified: between sessions, the last event is taken to lie some hours back; an open session
    is taken to be within a song; and the seconds from Cancel to its confirmation are left out.
    """
    gaps = MEAN_SESSION_GAP * np.exp(GAP_DEVIATIONS - 0.5)
    rng = np.random.default_rng(
        [seed, list(COHORTS).index(cohort), LEVELS.index(level), is_open, as_of_day, horizon_days]
    )
    users = len(gaps) * paths
    cutoff = as_of_day * SECONDS_A_DAY
    population = Population(
        cohort=np.full(users, list(COHORTS).index(cohort)),
        event_gap=MEAN_EVENT_GAP * np.exp(rng.standard_normal(users) - 0.5),
        session_gap=np.repeat(gaps, paths),
        pause=_draw_pauses(cohort, level, users, rng),
        arrival=np.zeros(users, dtype=np.int64),
        registration=np.zeros(users, dtype=np.int64),
    )
    walkers = (
        _within_a_song(population, level, cutoff, rng)
        if is_open
        else _between_sessions(population, cutoff, rng)
    )
    end = (as_of_day + horizon_days) * SECONDS_A_DAY
    machine, cancels = _without_cancelling()
    events, _ = walk_on(population, walkers, end, rng, machine)
    offset = list(COHORTS).index(cohort) * N_NUMBERS
    left = np.log1p(-cancels[offset + events["state"]])
    survival = np.exp(np.bincount(events["user"], weights=left, minlength=users))
    chance = (1 - survival).reshape(len(gaps), paths)
    return pl.DataFrame(
        {
            "session_gap": gaps,
            "probability": chance.mean(axis=1),
            "error": 1.96 * chance.std(axis=1) / np.sqrt(paths),
        }
    )


@lru_cache(maxsize=len(COHORTS))
def session_outcomes(cohort: str) -> NDArray[np.float64]:
    """How a session ends, exactly: from each pause (row) to each pause or, last, to cancelling.

    Rows and columns are those of `machine.PAUSES`.
    """
    machine, offset = chain(), list(COHORTS).index(cohort) * N_NUMBERS
    steps = np.zeros((N_NUMBERS, N_NUMBERS))
    for state in range(N_NUMBERS):
        first, size = machine.first[offset + state], machine.size[offset + state]
        cells = machine.cells[first : first + size]
        steps[state] = np.bincount(cells, minlength=N_NUMBERS) / size
    inside, ends = slice(0, len(STATES)), slice(len(STATES), N_NUMBERS)
    absorbed = np.linalg.solve(np.eye(len(STATES)) - steps[inside, inside], steps[inside, ends])
    starts = steps[len(STATES) : GONE, inside]
    outcomes: NDArray[np.float64] = starts @ absorbed
    return outcomes


@lru_cache(maxsize=1)
def _without_cancelling() -> tuple[Chain, NDArray[np.float64]]:
    """The chain without ways to cancel, and each row's chance to cancel in the chain with them."""
    machine = chain()
    cancel = np.array(
        [state.page == "Cancel" for state in STATES] + [False] * (N_NUMBERS - len(STATES))
    )
    row = np.repeat(np.arange(len(machine.size)), machine.size)
    is_cancel = cancel[machine.cells]
    taken = np.bincount(row, weights=is_cancel, minlength=len(machine.size))
    size = (machine.size - taken).astype(np.int32)
    first = np.concatenate([[0], np.cumsum(size)[:-1]]).astype(np.int32)
    # One in a thousand runs into an error on the way to the confirmation.
    return Chain(machine.cells[~is_cancel], first, size), 0.999 * taken / machine.size


def _draw_pauses(
    cohort: str, level: str, users: int, rng: np.random.Generator
) -> NDArray[np.uint8]:
    """Logged in or out, as often as users of that cohort and level are between sessions."""
    to_pause = session_outcomes(cohort)[:, :-1]
    share = np.full(len(PAUSES), 1 / len(PAUSES))
    for _ in range(200):
        share = share @ to_pause
        share /= share.sum()
    fits = np.array([auth != "Guest" and of == level for auth, of in PAUSES])
    share = np.where(fits, share, 0)
    numbers = np.array([PAUSE[pause] for pause in PAUSES], dtype=np.uint8)
    return rng.choice(numbers, size=users, p=share / share.sum())


def _between_sessions(population: Population, cutoff: int, rng: np.random.Generator) -> Walkers:
    """Users whose next session starts after the cutoff."""
    users = len(population)
    start = np.zeros(users, dtype=np.int64)
    waiting = np.arange(users)
    while len(waiting):
        last = np.full(len(waiting), cutoff - SECONDS_A_DAY // 6)
        start[waiting] = next_start(last, population.session_gap[waiting], rng)
        waiting = waiting[start[waiting] <= cutoff]
    return _walkers(population.pause, start, np.zeros(users, dtype=np.int64))


def _within_a_song(
    population: Population, level: str, cutoff: int, rng: np.random.Generator
) -> Walkers:
    """Users in whose session a song plays at the cutoff."""
    users = len(population)
    # A moment falls into a song the more likely, the longer it is.
    songs = draw_songs(rng, 20 * users)
    length = lengths()[songs]
    length = rng.choice(length, size=users, p=length / length.sum())
    song = np.full(users, NUMBER[state_of("NextSong", "Logged In", level)], dtype=np.uint8)
    left = (length * rng.random(users)).astype(np.int64) + 1
    return _walkers(song, np.full(users, cutoff), left)


def _walkers(
    state: NDArray[np.uint8], now: NDArray[np.int64], song_left: NDArray[np.int64]
) -> Walkers:
    none = np.full(len(state), -1)
    return Walkers(np.arange(len(state)), state, now, song_left, session=none, item=none)


def _utc(seconds: pl.Series) -> pl.Series:
    return ((seconds.cast(pl.Int64) + START_SECOND) * 1_000_000).cast(pl.Datetime("us", "UTC"))
