"""A block of users: from its number to all that its users do.

Belongs here: how users are shared out to blocks, and a block's random streams. Does not belong
here: files and tasks (`log.py`).

Blocks have a fixed size and streams of their own, so that a log does not depend on who simulates
which block. Each cohort of a block numbers its sessions by itself, as the runs of the public
generator do that the real files are put together from: a session's id is unique only with its user.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import polars as pl
from numpy.typing import NDArray

from sparkify_assets.simulation import population
from sparkify_assets.simulation.machine import IS_KNOWN
from sparkify_assets.simulation.people import draw_people
from sparkify_assets.simulation.population import Population
from sparkify_assets.simulation.sessions import walk

BLOCK_USERS = 2_048

# What a block's random streams are for.
USERS, WALK, PEOPLE = range(3)
# Users to begin with for each user wanted in the log.
SPARE = 1.06


@dataclass(frozen=True)
class Block:
    """A block of a log: its number, and how many users the log shall show of it."""

    seed: int
    days: int
    number: int
    users: int


@dataclass(frozen=True)
class Life:
    """All that a block's users do."""

    begun: int  # users that the block began with
    population: Population  # those up to the last that the log has to show
    events: NDArray[np.void]  # EVENT, in time order, `session` the log's session id
    sessions: NDArray[np.void]  # SESSION


def blocks_of(users: int, days: int, seed: int) -> list[Block]:
    """The blocks of a log."""
    sizes = [min(BLOCK_USERS, users - done) for done in range(0, users, BLOCK_USERS)]
    return [Block(seed, days, number, size) for number, size in enumerate(sizes)]


def live(block: Block) -> Life:
    """Simulates a block.

    Some users leave before the log starts, or stay away for all of it. So more are begun with, and
    the log is that of the first ones, up to the last that it has to show.
    """
    spare = SPARE
    while True:
        begun = int(block.users * spare) + 10
        people = draw_block(block, begun)
        events, sessions = walk(people, block.days, _stream(block, WALK))
        shown = np.unique(events["user"][IS_KNOWN[events["state"]]])
        if len(shown) >= block.users:
            break
        spare *= 1.5
    users = int(shown[block.users - 1]) + 1
    events = events[events["user"] < users]
    events["session"] = _session_ids(people.cohort, sessions, events)
    events = events[np.argsort(events["time"], kind="stable")]
    return Life(begun, people.take(slice(users)), events, sessions[sessions["user"] < users])


def draw_block(block: Block, begun: int) -> Population:
    """The users that a block begins with."""
    return population.draw(_stream(block, USERS), begun, block.days)


def name_block(block: Block, begun: int) -> pl.DataFrame:
    """Their names, places and agents; see `people.draw_people`."""
    return draw_people(_stream(block, PEOPLE), begun)


def _session_ids(
    cohort: NDArray[np.int64], sessions: NDArray[np.void], events: NDArray[np.void]
) -> NDArray[np.int64]:
    """The events' session ids: a cohort's sessions are numbered in the order they are made."""
    user = sessions["user"]
    order = np.lexsort((user, sessions["made"], cohort[user]))
    in_order = cohort[user[order]]
    number = np.empty(len(sessions), dtype=np.int64)
    number[order] = np.arange(len(order)) - np.searchsorted(in_order, in_order)
    # A user's sessions are numbered without gaps.
    by_user = number[np.lexsort((sessions["session"], user))]
    first = np.concatenate([[0], np.cumsum(np.bincount(user, minlength=len(cohort)))])
    return by_user[first[events["user"]] + events["session"]]


def _stream(block: Block, purpose: int) -> np.random.Generator:
    return np.random.default_rng([block.seed, block.number, purpose])
