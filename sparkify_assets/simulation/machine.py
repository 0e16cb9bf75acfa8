"""The page machine: what a user may do next, as a first-order Markov chain.

Belongs here: the states (page, auth, status, method, level), the probabilities of each cohort of
users, and how the next state is drawn. Does not belong here: time (`sessions.py`), who the users
are (`population.py`), what a row looks like in the log (`records.py`).

The figures are those of the public event generator behind the Sparkify logs, for the four cohorts
that reproduce the totals of the real file when mixed 6 : 1 : 1 : 1.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

# Cohort -> weight in the population. A cohort never shows in the log.
COHORTS = {"Accordion": 6, "Tuba": 1, "Zither": 1, "Xylophone": 1}

# Chances in thousandths. `[auth, level]` heads the pages of that kind; a row says what follows.
# What a row lacks to 1,000 is the chance that the session ends there. This is cohort Accordion.
BASE = """
[Guest, free]
About: About 50, Help 100, Home 700, Register 100, Error 1
Help: About 2.5, Help 100, Home 700, Register 100, Error 1
Home: About 250, Help 250, Home 100, Register 300, Error 1
Register: About 100, Help 100, Home 200, Register 50, Submit Registration 500, Error 1
Submit Registration: Error 100, Home 900
Error: About 10, Help 50, Home 800, Error 100
[Logged In, free]
About: About 50, Help 10, Home 200, Settings 10, Add Friend 50, NextSong 600, Logout 10, Error 1
Help: About 2, Help 100, Home 200, Settings 50, Add Friend 50, Upgrade 5, NextSong 500, Logout 10,
    Error 1
Home: About 2, Help 2, Home 10, Settings 20, Add Friend 50, Upgrade 5, NextSong 850, Logout 10,
    Error 1
Settings: About 2, Help 50, Home 100, Settings 100, Add Friend 20, Upgrade 5, NextSong 500,
    Cancel 5, Logout 10, Save Settings 200, Error 1
Add Friend: About 10, Help 10, Home 100, Settings 50, Add Friend 300, Upgrade 10, NextSong 500,
    Logout 10, Error 1
Add to Playlist: Help 10, Thumbs Up 10, Upgrade 10, NextSong 950
Thumbs Up: Add to Playlist 50, Upgrade 10, NextSong 900, Error 1
Thumbs Down: NextSong 900, Cancel 1, Logout 10, Error 1
Roll Advert: Roll Advert 20, NextSong 900, Cancel 1, Logout 10, Error 1
Upgrade: About 2, Help 6, Home 100, Add Friend 50, Upgrade 70, NextSong 450, Logout 10,
    Submit Upgrade 300, Error 1
NextSong: About 2, Help 5, Home 20, Settings 5, Add Friend 10, Add to Playlist 25, Thumbs Up 50,
    Thumbs Down 10, Roll Advert 80, Upgrade 10, NextSong 750, Logout 20, Error 1
Cancel: Cancellation Confirmation 999, Error 1
Logout: Error 1, Home 999
Save Settings: Home 800, Settings 100, Error 1
Submit Upgrade: Home 1000
Error: About 1, Help 2, Home 200, NextSong 750, Logout 30, Error 10
[Logged Out, free]
About: About 50, Help 25, Home 300, Login 400, Error 1
Help: About 2.5, Help 100, Home 300, Login 500, Error 1
Home: About 100, Help 50, Home 100, Login 500, Error 1
Login: Home 999, Error 1
Error: About 10, Help 50, Home 500, Login 100, Error 10
[Logged In, paid]
About: About 50, Help 10, Home 200, Settings 10, Add Friend 50, NextSong 400, Logout 10, Error 1
Downgrade: About 2, Downgrade 70, Help 6, Home 100, NextSong 650, Cancel 10, Logout 100,
    Submit Downgrade 30, Error 1
Help: About 2, Downgrade 5, Help 30, Home 100, Settings 20, Add Friend 40, NextSong 750,
    Logout 10, Error 1
Home: About 2, Downgrade 5, Help 2, Home 10, Settings 20, Add Friend 50, NextSong 850, Logout 10,
    Error 1
Settings: About 2, Downgrade 10, Help 50, Home 50, Settings 50, Add Friend 20, NextSong 600,
    Cancel 5, Logout 10, Save Settings 200, Error 1
Add Friend: Add Friend 300, NextSong 650, Logout 10, Error 1
Add to Playlist: Thumbs Up 10, NextSong 950
Thumbs Up: Add to Playlist 70, NextSong 900, Error 1
Thumbs Down: Downgrade 20, Help 30, Settings 20, NextSong 900, Cancel 1, Logout 20, Error 1
Roll Advert: Downgrade 50, Roll Advert 20, NextSong 800, Cancel 5, Logout 100, Error 1
NextSong: About 2, Downgrade 10, Help 5, Home 20, Settings 5, Add Friend 10, Add to Playlist 25,
    Thumbs Up 50, Thumbs Down 10, Roll Advert 1, NextSong 850, Logout 10, Error 1
Cancel: Cancellation Confirmation 999, Error 1
Logout: Error 1, Home 999
Save Settings: Home 800, Settings 100, Error 1
Submit Downgrade: Home 999, Error 1
Error: About 1, Help 10, Home 200, NextSong 750, Logout 10, Error 1
[Logged Out, paid]
About: About 50, Help 50, Home 300, Login 500, Error 1
Help: About 2.5, Help 100, Home 300, Login 500, Error 1
Home: About 100, Help 50, Home 150, Login 650, Error 1
Login: Home 999, Error 1
Error: Help 80, Home 700, Login 200, Error 10
"""

# Where the other cohorts differ from it, row by row.
DIFFERENCES = {
    "Tuba": """
[Logged In, free]
Add Friend: Add Friend 290
NextSong: NextSong 680, Roll Advert 150, Thumbs Down 20
Roll Advert: Cancel 10, Roll Advert 70, Upgrade 5
Settings: Cancel 20, Settings 80
Thumbs Down: Cancel 10
Upgrade: NextSong 430, Upgrade 50
[Logged In, paid]
Downgrade: Cancel 30, NextSong 600, Submit Downgrade 90
Help: Downgrade 7
Home: Downgrade 7
NextSong: Downgrade 15, NextSong 840, Roll Advert 10, Thumbs Up 40
Roll Advert: Cancel 50, Downgrade 70, NextSong 740, Roll Advert 30
Settings: Cancel 20, Downgrade 20, NextSong 570
Thumbs Down: Cancel 10, Downgrade 30, NextSong 880
""",
    "Zither": """
[Logged In, free]
Add Friend: Upgrade 7
Add to Playlist: Upgrade 7
NextSong: NextSong 740, Thumbs Down 30, Upgrade 7
Roll Advert: Cancel 5
Settings: Cancel 9
Thumbs Down: Cancel 5
Thumbs Up: Upgrade 7
Upgrade: Submit Upgrade 230
[Logged In, paid]
Downgrade: Cancel 20, Downgrade 90, NextSong 610, Submit Downgrade 70
Help: Downgrade 10
Home: Downgrade 10
NextSong: Downgrade 15, NextSong 820, Thumbs Down 30
Roll Advert: Cancel 10, Downgrade 60
Settings: Cancel 10, Downgrade 20, NextSong 590, Save Settings 190
Thumbs Down: Cancel 5, Downgrade 30, NextSong 890
""",
    "Xylophone": """
[Logged In, free]
Add Friend: NextSong 480, Settings 40, Upgrade 30
Add to Playlist: NextSong 930, Thumbs Up 30, Upgrade 30
Help: Upgrade 10
Home: Upgrade 10
NextSong: NextSong 710, Thumbs Up 90, Upgrade 20
Settings: Cancel 3, Upgrade 10
Thumbs Up: Upgrade 30
Upgrade: NextSong 360, Submit Upgrade 400
[Logged In, paid]
Add to Playlist: Thumbs Up 30
Downgrade: Cancel 5, Submit Downgrade 25
Help: Downgrade 2
Home: Downgrade 2
NextSong: Downgrade 5, NextSong 810, Thumbs Up 90
Roll Advert: Cancel 2, Downgrade 20
Settings: Cancel 2, Downgrade 5
Thumbs Down: Downgrade 7
""",
}

# A session's first page, by weight.
STARTS = """
[Guest, free]
START: About 20, Help 10, Home 100, Register 30, Error 5
[Logged In, free]
START: About 5, Help 10, Home 1000, NextSong 1500, Error 1
[Logged Out, free]
START: About 10, Help 10, Home 1000, Login 500, Error 1
[Logged In, paid]
START: About 5, Help 5, Home 1000, NextSong 1750, Error 1
[Logged Out, paid]
START: About 10, Help 10, Home 1000, Login 500, Error 1
"""

# Pages that, unless they fail, change who or what the user is: page -> (auth, level) of the next
# page, where None keeps the level.
CHANGES: dict[str, tuple[str, str | None]] = {
    "Submit Registration": ("Logged In", None),
    "Login": ("Logged In", None),
    "Logout": ("Logged Out", None),
    "Submit Upgrade": ("Logged In", "paid"),
    "Submit Downgrade": ("Logged In", "free"),
    "Cancel": ("Cancelled", None),
}

REDIRECTS = frozenset(
    {"Add Friend", "Logout", "Login", "Save Settings", "Submit Registration"}
    | {"Cancel", "Submit Downgrade", "Submit Upgrade", "Thumbs Down", "Thumbs Up"}
)
OTHER_PUTS = frozenset({"NextSong", "Add to Playlist"})


class State(NamedTuple):
    """What a row of the log says of the page."""

    page: str
    auth: str
    status: int
    method: str
    level: str


def state_of(page: str, auth: str, level: str) -> State:
    """The state of a page: its status and method follow from which page it is."""
    status = 404 if page == "Error" else 307 if page in REDIRECTS else 200
    method = "PUT" if page in REDIRECTS or page in OTHER_PUTS else "GET"
    return State(page, auth, status, method, level)


def parse(table: str) -> dict[tuple[str, str, str], dict[str, float]]:
    """A table as (page, auth, level) -> {next page: figure}."""
    rows: dict[tuple[str, str, str], dict[str, float]] = {}
    auth = level = ""
    for line in table.replace("\n    ", " ").strip().splitlines():
        if line.startswith("["):
            auth, level = line.strip("[]").split(", ")
        else:
            page, _, chances = line.partition(": ")
            pairs = (chance.rsplit(" ", 1) for chance in chances.split(", "))
            rows[page, auth, level] = {target: float(figure) for target, figure in pairs}
    return rows


def transitions(cohort: str) -> dict[State, dict[State, float]]:
    """A cohort's chances: state -> {next state: probability}; what lacks to 1 ends the session."""
    changed = parse(DIFFERENCES.get(cohort, ""))
    table = {}
    for key, row in parse(BASE).items():
        page, auth, level = key
        table[state_of(page, auth, level)] = {
            _target(page, target, auth, level): figure / 1000
            for target, figure in (row | changed.get(key, {})).items()
        }
    return table


def start_weights() -> dict[State, float]:
    """First state of a session -> its weight among those of the same auth and level."""
    return {
        state_of(page, auth, level): weight
        for (_, auth, level), row in parse(STARTS).items()
        for page, weight in row.items()
    }


def _target(page: str, target: str, auth: str, level: str) -> State:
    if page in CHANGES and target != "Error":
        auth, new_level = CHANGES[page]
        level = new_level or level
    return state_of(target, auth, level)


def _all_states() -> tuple[State, ...]:
    known = transitions("Accordion")
    return tuple(dict.fromkeys([*known, *(state for row in known.values() for state in row)]))


# A state's number is its place here. Past the states of the log come the pauses between sessions,
# one for each auth and level, and last the end of a user who cancelled.
STATES = _all_states()
NUMBER = {state: number for number, state in enumerate(STATES)}
PAUSES = tuple(dict.fromkeys((state.auth, state.level) for state in start_weights()))
PAUSE = {pause: len(STATES) + number for number, pause in enumerate(PAUSES)}
GONE = len(STATES) + len(PAUSES)
N_NUMBERS = GONE + 1

IS_SONG = np.array([s.page == "NextSong" for s in STATES] + [False] * (len(PAUSES) + 1))
IS_REDIRECT = np.array([s.status == 307 for s in STATES] + [False] * (len(PAUSES) + 1))
IS_PAUSE = np.array([len(STATES) <= number < GONE for number in range(N_NUMBERS)])
# Rows that the log shows under the user's own id.
IS_KNOWN = np.array(
    [s.auth in ("Logged In", "Cancelled") for s in STATES] + [False] * (len(PAUSES) + 1)
)


@dataclass(frozen=True)
class Chain:
    """The machine as cells to draw from: a row's next states, each as often as it is likely.

    `cells[first[row] + k]`, k uniform in [0, size[row]), is the next state of `row`; the row of a
    cohort's state is `cohort * N_NUMBERS + state`. Exact, as all chances are whole shares.
    """

    cells: NDArray[np.uint8]
    first: NDArray[np.int32]
    size: NDArray[np.int32]

    def next(self, row: NDArray[np.int64], uniform: NDArray[np.float64]) -> NDArray[np.uint8]:
        """The next states of rows (shape: users), given as many uniform draws in [0, 1)."""
        return self.cells[self.first[row] + (uniform * self.size[row]).astype(np.int32)]


@lru_cache(maxsize=1)
def chain() -> Chain:
    """The chain of all cohorts: rows are states, then pauses, then the end, of each in turn."""
    rows: list[list[int]] = []
    for cohort in COHORTS:
        table = transitions(cohort)
        rows += [_cells_of(state, table.get(state)) for state in STATES]
        rows += [_first_cells(pause) for pause in PAUSES]
        rows.append([GONE])
    sizes = np.array([len(row) for row in rows], dtype=np.int32)
    first = np.concatenate([[0], np.cumsum(sizes)[:-1]]).astype(np.int32)
    return Chain(np.concatenate([np.array(row, dtype=np.uint8) for row in rows]), first, sizes)


def _cells_of(state: State, row: dict[State, float] | None) -> list[int]:
    """2,000 cells: every chance is a whole number of them. No row: the user is gone."""
    if row is None:
        return [GONE]
    cells = [NUMBER[target] for target, chance in row.items() for _ in range(round(chance * 2000))]
    # Only sessions of someone who is logged in, logged out or a guest can end.
    return cells + [PAUSE.get((state.auth, state.level), GONE)] * (2000 - len(cells))


def _first_cells(pause: tuple[str, str]) -> list[int]:
    return [
        NUMBER[state]
        for state, weight in start_weights().items()
        if (state.auth, state.level) == pause
        for _ in range(round(weight))
    ]
