"""The users: what stays the same about each of them for the whole log.

Belongs here: the draw of users. Does not belong here: what they do (`sessions.py`), what they are
called (`people.py`).

Times are whole seconds since the start of the log.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from sparkify_assets.simulation.machine import COHORTS, PAUSE

SECONDS_A_DAY = 86_400

MEAN_EVENT_GAP = 90.0  # seconds
MEAN_SESSION_GAP = 604_800.0  # seconds
LOGGED_IN_SHARE = 10 / 11
FREE_SHARE = 10 / 12
# The users of the real full file's first minutes registered an exponential time before it starts,
# 36.1 days on average (386 users). 401 of all 22,277 registered during its 61 days.
MEAN_DAYS_REGISTERED = 36.5
YEARLY_GROWTH = 0.115


@dataclass(frozen=True)
class Population:
    """Some users; every array has one entry a user."""

    cohort: NDArray[np.int64]  # place in COHORTS
    event_gap: NDArray[np.float64]  # mean seconds between events
    session_gap: NDArray[np.float64]  # mean seconds between sessions
    pause: NDArray[np.uint8]  # auth and level at the first session: a pause of the machine
    arrival: NDArray[np.int64]  # seconds; 0 for those who were there when the log starts
    registration: NDArray[np.int64]  # seconds

    def __len__(self) -> int:
        return len(self.cohort)

    def take(self, rows: NDArray[np.int64] | slice) -> Population:
        """Some of the users."""
        return Population(**{name: array[rows] for name, array in vars(self).items()})


def draw(rng: np.random.Generator, users: int, days: int) -> Population:
    """Draws `users` users for a log of `days` days.

    Most were there before; as many as the yearly growth asks for arrive during the log, as guests.
    """
    weights = np.array(list(COHORTS.values()), dtype=float)
    cohort = rng.choice(len(weights), size=users, p=weights / weights.sum())
    spread = np.exp(rng.standard_normal((2, users)) - 0.5)
    logged_in = rng.random(users) < LOGGED_IN_SHARE
    free = rng.random(users) < FREE_SHARE
    new = rng.random(users) < 1 - math.exp(-YEARLY_GROWTH * days / 365)
    arrival = np.where(new, rng.integers(0, days * SECONDS_A_DAY, users), 0)
    before = rng.exponential(MEAN_DAYS_REGISTERED * SECONDS_A_DAY, users).astype(np.int64)
    kinds = np.array(
        [
            PAUSE["Logged Out", "paid"],
            PAUSE["Logged Out", "free"],
            PAUSE["Logged In", "paid"],
            PAUSE["Logged In", "free"],
        ],
        dtype=np.uint8,
    )
    return Population(
        cohort=cohort,
        event_gap=MEAN_EVENT_GAP * spread[0],
        session_gap=MEAN_SESSION_GAP * spread[1],
        pause=np.where(new, np.uint8(PAUSE["Guest", "free"]), kinds[2 * logged_in + free]),
        arrival=arrival,
        registration=np.where(new, arrival, -before),
    )
