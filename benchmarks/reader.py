"""The best that anybody could do who reads the log only. All of it on simulated data.

Belongs here: a forecaster who knows how the simulator works, all its chances included, but of each
user only what the log shows before the cutoff. Does not belong here: the oracle, who knows each
user's cohort and mean gap (`simulation/truth.py`), and how scores are compared (`oracle.py`).

By Bayes' rule a user's steps from page to page tell the cohort, and the gaps between sessions their
mean; the chance to cancel is the mean of the oracle's chances over both. Approximately: gaps are
taken as memoryless, with weekends thinning them evenly.
"""

from __future__ import annotations

from datetime import date, datetime, time, timedelta, timezone

import numpy as np
import polars as pl

from sparkify_assets.churn import moves
from sparkify_assets.simulation import machine, truth
from sparkify_assets.simulation.population import MEAN_SESSION_GAP
from sparkify_assets.simulation.rhythm import LOG_START

# Pages from which all cohorts go on alike, or which the log does not show whole.
_SAME_FOR_ALL = ("Logout", "Submit Upgrade", "Submit Downgrade", "Error", "other")
_WEEK_OPEN = 6 / 7  # weekends let half of the sessions begin
_PAUSE = 1_800.0  # seconds that no session begins after another
_WAITED = 3_600.0  # whose first session begins later than this was waited for, seconds
_IMPOSSIBLE = 1e-6


def reader(days: pl.DataFrame, users: pl.DataFrame, as_of_day: int, horizon: int) -> np.ndarray:
    """Each user's chance to cancel, as `truth.oracle` gives it, from `user_days` alone.

    days: user_days. users: user_id, level and open, of whom it is asked. Returns a chance a row.
    """
    as_of = datetime.combine(_day(as_of_day), time(), timezone.utc)
    seen = days.filter(pl.col("day") < _day(as_of_day))
    cohort = cohort_chances(seen, users)
    gap = gap_chances(seen, users, as_of)
    found = np.zeros(users.height)
    for (level, is_open), rows in users.with_row_index("row").group_by("level", "open"):
        where = rows["row"].to_numpy()
        chance = [
            truth.chances(name, str(level), bool(is_open), as_of_day, horizon)["probability"]
            for name in machine.COHORTS
        ]
        found[where] = np.einsum("uc,ug,cg->u", cohort[where], gap[where], np.array(chance))
    return found


def cohort_chances(seen: pl.DataFrame, users: pl.DataFrame) -> np.ndarray:
    """(users, cohorts): how likely each user is of each, by their steps."""
    taken = (
        seen.select("user_id", "moves")
        .explode("moves")
        .unnest("moves")
        .drop_nulls("move")
        .join(users.select("user_id").with_row_index("row"), on="user_id")
    )
    row, move, often = (taken[name].to_numpy() for name in ("row", "move", "times"))
    weight = np.array(list(machine.COHORTS.values()), dtype=float)
    odds = np.tile(np.log(weight / weight.sum()), (users.height, 1))
    for number, log_chance in enumerate(step_chances()):
        odds[:, number] += np.bincount(row, often * log_chance[move], minlength=users.height)
    return _normalised(odds)


def step_chances() -> np.ndarray:
    """(cohorts, moves.COUNT): logarithms of the machine's chances; 0 where it tells nothing."""
    chain = machine.chain()
    found = np.zeros((len(machine.COHORTS), moves.COUNT))
    for cohort in range(len(machine.COHORTS)):
        for number, state in enumerate(machine.STATES):
            row = cohort * machine.N_NUMBERS + number
            first, size = chain.first[row], chain.size[row]
            for cell in chain.cells[first : first + size] if state.auth == "Logged In" else ():
                of = machine.STATES[cell].page if cell < len(machine.STATES) else moves.TO[-1]
                found[cohort, _move(state.level, state.page, of)] += 1 / size
    possible = (found > 0).any(axis=0)
    came_from = [moves.described(number)[1] for number in range(moves.COUNT)]
    told = possible & ~np.isin(came_from, _SAME_FOR_ALL)
    return np.where(told, np.log(np.maximum(found, _IMPOSSIBLE)), 0.0)


def _move(level: str, page: str, to: str) -> int:
    before = moves.FROM.index(page) if page in moves.FROM else moves.FROM.index("other")
    after = moves.TO.index(to) if to in moves.TO else moves.TO.index("other")
    return (moves.LEVELS.index(level) * len(moves.FROM) + before) * len(moves.TO) + after


def gap_chances(seen: pl.DataFrame, users: pl.DataFrame, as_of: datetime) -> np.ndarray:
    """(users, grid of `truth.GAP_DEVIATIONS`): how likely each mean gap between sessions is."""
    start = datetime.combine(LOG_START, time(), timezone.utc)
    known = users.select("user_id", "open").join(
        seen.group_by("user_id").agg(
            pl.col("gaps", "gap_seconds").sum(),
            pl.col("first_event_at").min(),
            pl.col("last_event_at").max(),
            pl.col("registered_at").drop_nulls().first(),
        ),
        on="user_id",
        how="left",
        maintain_order="left",
    )
    was_there = ~(pl.col("registered_at") > start).fill_null(False)
    wait = (pl.col("first_event_at") - start).dt.total_seconds() * was_there
    since = (pl.lit(as_of) - pl.col("last_event_at")).dt.total_seconds() * ~pl.col("open")
    counted = known.select(
        starts=pl.col("gaps") + (wait > _WAITED),
        seconds=pl.col("gap_seconds") - _PAUSE * pl.col("gaps") + wait + since,
    ).fill_null(0)
    starts, seconds = (counted[name].to_numpy().astype(float)[:, None] for name in counted.columns)
    gap = MEAN_SESSION_GAP * np.exp(truth.GAP_DEVIATIONS - 0.5)
    odds = -starts * np.log(gap) - np.maximum(seconds, 1) * _WEEK_OPEN / gap
    return _normalised(odds - truth.GAP_DEVIATIONS**2 / 2)


def _day(number: int) -> date:
    return LOG_START + timedelta(days=number)


def _normalised(odds: np.ndarray) -> np.ndarray:
    chance = np.exp(odds - odds.max(axis=1, keepdims=True))
    return chance / chance.sum(axis=1, keepdims=True)
