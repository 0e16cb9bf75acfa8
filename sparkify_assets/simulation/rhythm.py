"""When sessions start: the gaps between them, the daily rhythm, quieter weekends and holidays.

Belongs here: everything that depends on the time of day or the day. Does not belong here: what
happens in a session (`sessions.py`).

Times are whole seconds since 2018-10-01 00:00 UTC, a Monday, when every simulated log starts.
"""

from __future__ import annotations

from datetime import date, datetime, timedelta, timezone
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from sparkify_assets.simulation.population import SECONDS_A_DAY

LOG_START = date(2018, 10, 1)
START_SECOND = int(datetime(2018, 10, 1, tzinfo=timezone.utc).timestamp())

SESSION_GAP = 1_800  # seconds that at least lie between sessions, before the warp
# Of a day: the public generator's default. It gives the real mini file's profile of songs over the
# hours of the day to within 5 % in 20 of 24 hours, 7 % at most; .09375, which is also named for the
# real files, is up to 15 % off.
WARP = 0.0625
WARP_PHASE = 10_800  # seconds after midnight
DAMPING = 0.5
RAMP_MINUTES = 360

# The calendar's reach in days before and after the log's start; beyond it there are only weekends.
REACH = 1_500


def next_start(
    last: NDArray[np.int64], mean_gap: NDArray[np.float64], rng: np.random.Generator
) -> NDArray[np.int64]:
    """Starts of the next sessions, in seconds, given those of the last events and the mean gaps."""
    starts = last.copy()
    waiting = np.arange(len(last))
    origin = last
    gap = mean_gap
    while len(waiting):
        wait = (rng.standard_exponential(len(origin)) * gap).astype(np.int64)
        drawn = warped(origin + wait + SESSION_GAP)
        early = drawn < origin
        kept = ~early & (rng.random(len(drawn)) >= damping(drawn))
        starts[waiting[kept]] = drawn[kept]
        again = ~kept
        # Too early: draw again from half an hour later. Damped away: draw again from there.
        origin = np.where(early, origin + SESSION_GAP, drawn)[again]
        waiting, gap = waiting[again], gap[again]
    return starts


def warped(seconds: NDArray[np.int64]) -> NDArray[np.int64]:
    """Times moved towards the busy hours of their day."""
    phase = 2 * np.pi / SECONDS_A_DAY * (seconds % SECONDS_A_DAY - WARP_PHASE)
    return seconds + (WARP * SECONDS_A_DAY * np.sin(phase)).astype(np.int64)


def damping(seconds: NDArray[np.int64]) -> NDArray[np.float64]:
    """The chance that a session at that time does not come about: half on quiet days, ramped."""
    minute = seconds // 60 + RAMP_MINUTES // 2
    day, minute = minute // 1_440, minute % 1_440
    share = np.minimum(minute / RAMP_MINUTES, 1.0)
    quiet = _quiet_days()
    place = np.clip(day + REACH, 1, len(quiet) - 1)
    return DAMPING * (share * quiet[place] + (1 - share) * quiet[place - 1])


def first_start(
    arrival: NDArray[np.int64], mean_gap: NDArray[np.float64], rng: np.random.Generator
) -> NDArray[np.int64]:
    """Starts of the first sessions: gaps are stepped from two mean gaps before the arrival until
    one mean gap before it, so that most users are already there, many in mid-session."""
    start = arrival - 2 * mean_gap.astype(np.int64)
    stop = arrival - mean_gap.astype(np.int64)
    waiting = np.arange(len(arrival))
    while len(waiting):
        start[waiting] = next_start(start[waiting], mean_gap[waiting], rng)
        waiting = waiting[start[waiting] < stop[waiting]]
    return start


@lru_cache(maxsize=1)
def _quiet_days() -> NDArray[np.float64]:
    """1 for weekends and holidays, 0 for other days, from REACH days before the log's start on."""
    first = LOG_START - timedelta(days=REACH)
    days = [first + timedelta(days=number) for number in range(2 * REACH)]
    holidays = {
        day for year in range(days[0].year, days[-1].year + 1) for day in public_holidays(year)
    }
    return np.array([day.weekday() >= 5 or day in holidays for day in days], dtype=float)


def public_holidays(year: int) -> set[date]:
    """The public holidays that all of the United States keep.

    Columbus Day is not among them, and the real rows of 2018-10-08 are no fewer than of other days.
    """
    return {
        date(year, 1, 1),
        _weekday(year, 1, 0, 3),
        _weekday(year, 6, 0, 1) - timedelta(days=7),
        date(year, 7, 4),
        _weekday(year, 9, 0, 1),
        date(year, 11, 11),
        _weekday(year, 11, 3, 4),
        date(year, 12, 25),
    }


def _weekday(year: int, month: int, weekday: int, nth: int) -> date:
    first = date(year, month, 1)
    return first + timedelta(days=(weekday - first.weekday()) % 7 + 7 * (nth - 1))
