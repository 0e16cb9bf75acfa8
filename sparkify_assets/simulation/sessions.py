"""The walk: users of a block step through the page machine, and every step gets its time.

Belongs here: what happens in and between sessions. Does not belong here: the probabilities
(`machine.py`), when sessions start (`rhythm.py`), how rows are written (`records.py`).

The order of a user's pages does not depend on time. So all users take some hundred steps at once,
and only then are the steps given their times, as arrays over users and steps.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from sparkify_assets.simulation.catalogue import draw_songs, lengths
from sparkify_assets.simulation.machine import (
    GONE,
    IS_PAUSE,
    IS_REDIRECT,
    IS_SONG,
    N_NUMBERS,
    STATES,
    Chain,
    chain,
)
from sparkify_assets.simulation.population import SECONDS_A_DAY, Population
from sparkify_assets.simulation.rhythm import first_start, next_start

STEPS = 192

EVENT = np.dtype(
    [
        ("time", "<i4"),  # seconds since the log's start
        ("user", "<u4"),  # place in the block
        ("session", "<i4"),  # the user's how-manieth, from 0
        ("item", "<i4"),  # place in the session, from 0
        ("song", "<i4"),  # -1 where none is played
        ("state", "u1"),  # number in the machine
    ]
)
SESSION = np.dtype([("user", "<u4"), ("session", "<i4"), ("made", "<i8"), ("start", "<i8")])


# Sessions a user brings along when the log is made: before all others.
FROM_THE_START = -(2**40)


@dataclass(frozen=True)
class Walkers:
    """Where each user stands after the last step; every array has one entry a user."""

    user: NDArray[np.int64]  # place in the block
    state: NDArray[np.uint8]
    now: NDArray[np.int64]  # time of the last event, seconds
    song_left: NDArray[np.int64]  # seconds until the song is over; not above 0: none plays
    session: NDArray[np.int64]
    item: NDArray[np.int64]

    def take(self, rows: NDArray[np.bool_]) -> Walkers:
        """Some of the users."""
        return Walkers(**{name: array[rows] for name, array in vars(self).items()})


def walk(
    population: Population, days: int, rng: np.random.Generator
) -> tuple[NDArray[np.void], NDArray[np.void]]:
    """The population's log of `days` days, drawn from `rng`.

    Returns the events in it (EVENT; a user's events are in order) and all sessions made before its
    end (SESSION), also those that are over before its start.
    """
    users = len(population)
    walkers = Walkers(
        user=np.arange(users),
        state=population.pause,
        now=first_start(population.arrival, population.session_gap, rng),
        song_left=np.zeros(users, dtype=np.int64),
        session=np.full(users, -1),
        item=np.full(users, -1),
    )
    return walk_on(population, walkers, days * SECONDS_A_DAY, rng, chain())


def walk_on(
    population: Population,
    walkers: Walkers,
    end: int,
    rng: np.random.Generator,
    machine: Chain,
) -> tuple[NDArray[np.void], NDArray[np.void]]:
    """As `walk`, from where the walkers stand; those in a pause start a session now."""
    events, sessions = [], []
    starting = True
    while len(walkers.user):
        part = _walk_part(population.take(walkers.user), walkers, starting, rng, machine)
        starting = False
        events.append(part.events(end))
        sessions.append(part.sessions(end))
        walkers = part.walkers_after()
        walkers = walkers.take((walkers.now < end) & (walkers.state != GONE))
    if not events:
        return np.empty(0, EVENT), np.empty(0, SESSION)
    return np.concatenate(events), np.concatenate(sessions)


@dataclass(frozen=True)
class Part:
    """Some steps of all walkers; arrays have the shape (walkers, STEPS)."""

    before: Walkers
    states: NDArray[np.uint8]
    begins: NDArray[np.bool_]  # a session's first event
    times: NDArray[np.int64]
    made: NDArray[np.int64]  # where a session begins: when the one before ended
    songs: NDArray[np.int32]
    song_left: NDArray[np.int64]  # one entry a walker, after the last step

    @cached_property
    def session(self) -> NDArray[np.int64]:
        """The number of the user's session."""
        return self.before.session[:, None] + np.cumsum(self.begins, axis=1)

    @cached_property
    def item(self) -> NDArray[np.int64]:
        """The place in the session."""
        steps = np.arange(self.states.shape[1])
        first = np.where(self.begins, steps, -1 - self.before.item[:, None])
        return steps - np.maximum.accumulate(first, axis=1)

    def events(self, end: int) -> NDArray[np.void]:
        """The events after the log's start and before its end (EVENT)."""
        walker, step = np.nonzero(
            (self.times > 0) & (self.times < end) & (self.states < len(STATES))
        )
        events = np.empty(len(walker), EVENT)
        events["user"] = self.before.user[walker]
        for name, values in (
            ("time", self.times),
            ("session", self.session),
            ("item", self.item),
            ("song", self.songs),
            ("state", self.states),
        ):
            events[name] = values[walker, step]
        return events

    def sessions(self, end: int) -> NDArray[np.void]:
        """The sessions that begin here and were made before the log's end (SESSION)."""
        walker, step = np.nonzero(self.begins)
        sessions = np.empty(len(walker), SESSION)
        sessions["user"] = self.before.user[walker]
        sessions["session"] = self.session[walker, step]
        sessions["made"] = self.made[walker, step]
        sessions["start"] = self.times[walker, step]
        return sessions[sessions["made"] < end]

    def walkers_after(self) -> Walkers:
        """Where the walkers stand after these steps."""
        return Walkers(
            user=self.before.user,
            state=self.states[:, -1],
            now=self.times[:, -1],
            song_left=self.song_left,
            session=self.session[:, -1],
            item=self.item[:, -1],
        )


def _walk_part(
    people: Population, walkers: Walkers, starting: bool, rng: np.random.Generator, machine: Chain
) -> Part:
    states = _pages(people.cohort, walkers.state, rng, machine)
    before = np.concatenate([walkers.state[:, None], states[:, :-1]], axis=1)
    begins = IS_PAUSE[before]
    songs = np.full(states.shape, -1, dtype=np.int32)
    is_song = IS_SONG[states]
    songs[is_song] = draw_songs(rng, int(np.count_nonzero(is_song)))

    drawn = rng.standard_exponential(states.shape, dtype=np.float32)
    gaps = (drawn * people.event_gap[:, None].astype(np.float32)).astype(np.int64)
    gaps[IS_REDIRECT[states]] = 1
    gaps[begins | (states >= len(STATES))] = 0
    song_left = _wait_for_songs(gaps, states, begins, songs, walkers.song_left)
    made = _start_sessions(gaps, begins, walkers.now, people.session_gap, starting, rng)
    times = walkers.now[:, None] + np.cumsum(gaps, axis=1)
    return Part(walkers, states, begins, times, made, songs, song_left)


def _pages(
    cohort: NDArray[np.int64], state: NDArray[np.uint8], rng: np.random.Generator, machine: Chain
) -> NDArray[np.uint8]:
    """The next STEPS states of each walker."""
    first_row = cohort * N_NUMBERS
    uniform = rng.random((STEPS, len(cohort)))
    states = np.empty((STEPS, len(cohort)), dtype=np.uint8)
    for step in range(STEPS):
        state = machine.next(first_row + state, uniform[step])
        states[step] = state
    return np.ascontiguousarray(states.T)


def _wait_for_songs(
    gaps: NDArray[np.int64],
    states: NDArray[np.uint8],
    begins: NDArray[np.bool_],
    songs: NDArray[np.int32],
    song_left: NDArray[np.int64],
) -> NDArray[np.int64]:
    """Lets a song that comes while another plays wait for that one's end: changes `gaps`.

    Returns how many seconds of a song are left after the last step, for each walker.
    """
    walkers, steps = states.shape
    place = np.flatnonzero(IS_SONG[states])
    walker, step = np.divmod(place, steps)
    passing = gaps.copy()
    passing.flat[place] = 0
    passed = np.cumsum(passing, axis=1)
    session = np.cumsum(begins, axis=1)
    # One more, of nobody, is found where a walker has no song before.
    owner, start = np.append(walker, -1), np.append(step, 0)
    length = np.append(lengths().astype(np.int64)[songs.flat[place]], 0)

    def left(
        walker: NDArray[np.int64], step: NDArray[np.int64], song: NDArray[np.int64]
    ) -> NDArray[np.int64]:
        """Seconds left, after that step, of that song or else of the one brought along."""
        own = owner[song] == walker
        since = passed[walker, step] - np.where(own, passed[walker, start[song]], 0)
        same = session[walker, step] == np.where(own, session[walker, start[song]], 0)
        return np.where(same, np.where(own, length[song], song_left[walker]) - since, 0)

    wait = left(walker, step, np.arange(len(place)) - 1)
    gaps.flat[place] = np.where(wait > 0, wait, gaps.flat[place])
    everyone = np.arange(walkers)
    last_song = np.searchsorted(walker, everyone, side="right") - 1
    last_song[(last_song >= 0) & (owner[last_song] != everyone)] = -1
    return left(everyone, np.full(walkers, steps - 1), last_song)


def _start_sessions(
    gaps: NDArray[np.int64],
    begins: NDArray[np.bool_],
    now: NDArray[np.int64],
    session_gap: NDArray[np.float64],
    starting: bool,
    rng: np.random.Generator,
) -> NDArray[np.int64]:
    """Draws the gaps before sessions: changes `gaps`.

    Returns, where a session begins, the time when it was made: that of the last event before.
    """
    made = now[:, None] + np.cumsum(gaps, axis=1)
    count = np.cumsum(begins, axis=1)
    walker, step = np.nonzero(begins)
    how_many = count[walker, step]
    late = np.zeros(len(now), dtype=np.int64)  # how far the sessions so far move what follows
    for number in range(1, int(how_many.max(initial=0)) + 1):
        chosen = how_many == number
        who, when = walker[chosen], step[chosen]
        last = made[who, when] + late[who]
        start = next_start(last, session_gap[who], rng)
        if starting and number == 1:
            start = np.where(when == 0, last, start)
            last = np.where(when == 0, FROM_THE_START, last)
        late[who] += start - np.maximum(last, now[who])
        gaps[who, when] = start - np.maximum(last, now[who])
        made[who, when] = last
    return made
