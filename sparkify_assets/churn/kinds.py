"""Kinds of users: groups that nobody named, told apart by which page follows which.

Belongs here: learning the kinds, without labels, from what all users did before a cutoff, and how
likely each user is of each kind. Does not belong here: what a step is (`moves.py`), and what kinds
have to do with churn, which models learn.

A user of a kind moves from page to page by that kind's chances: a mixture of first-order Markov
chains, fitted by expectation maximisation (Cadez, Heckerman, Meek, Smyth and White: Model-Based
Clustering and Visualization of Navigation Patterns on a Web Site, 2003). How users move tells them
apart far better than how often they see a page. Kinds are learned anew every week of the log,
starting from those of the week before, so that a kind keeps its number. A cutoff looks at users
with the last kinds learned by then: what it knows does not depend on which other cutoffs there are.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date, timedelta
from functools import cached_property

import numpy as np
import polars as pl

from sparkify_assets.churn import moves
from sparkify_assets.churn.cutoffs import WHOLE_LOG
from sparkify_assets.events.buckets import BUCKETS, buckets

COUNT = 4
NAMES = tuple(f"kind_{number}" for number in range(1, COUNT + 1))
_EVERY_DAYS = 7
# Users beyond about this many teach nothing more of the kinds.
MOST_USERS = 10_000
# So many steps as users in general take them are mixed into what a kind does from each page.
_STRENGTH = 20.0
_STARTS = 3
_MOST_ROUNDS = 100
_ENOUGH = 1e-7  # relative gain in likelihood that is not worth another round
_MILLION = 10**6
_PAGE_OF_MOVE = np.arange(moves.COUNT) // len(moves.TO)


@dataclass(frozen=True)
class Kinds:
    """What was learned of all that lies before `as_of`.

    `chance` (COUNT, moves.COUNT): of a kind's step. `share` (COUNT,): of the users. `visits`
    (COUNT, pages): how often a kind comes to each of moves.TO, of all its steps.
    """

    as_of: date
    chance: np.ndarray
    share: np.ndarray
    visits: np.ndarray

    @cached_property
    def log_chance(self) -> np.ndarray:
        """In whole millionths: sums of whole numbers come out the same in whatever order."""
        return np.rint(np.log(self.chance) * _MILLION).astype(np.int64)

    def to_rows(self) -> pl.DataFrame:
        """A row a kind, as in the contract of `user_kinds`."""
        words = in_words(self)
        return pl.DataFrame(
            {
                "as_of": [self.as_of] * COUNT,
                "kind": NAMES,
                "share": self.share,
                "words": [words[name] for name in NAMES],
                "chances": self.chance.tolist(),
                "visits": self.visits.tolist(),
            }
        )


def from_rows(rows: pl.DataFrame) -> list[Kinds]:
    """What `to_rows` made rows of, in order of time."""
    return [
        Kinds(
            as_of,
            np.array(of_time["chances"].to_list()),
            of_time["share"].to_numpy(),
            np.array(of_time["visits"].to_list()),
        )
        for (as_of,), of_time in rows.sort("as_of", "kind").group_by("as_of", maintain_order=True)
    ]


def lessons(first_events: pl.Series, log_start: date, end: date) -> pl.DataFrame:
    """When kinds are learned, and from which share of the users seen by then: as_of, share.

    first_events: when each user was first seen. The users are always the same ones, and as many of
    them as make MOST_USERS.
    """
    first = first_events.dt.date()
    weeks = (end - log_start).days // _EVERY_DAYS
    times = [log_start + timedelta(days=_EVERY_DAYS * week) for week in range(1, weeks + 1)]
    shares = [min(1.0, MOST_USERS / max((first < time).sum(), 1)) for time in times]
    return pl.DataFrame(
        {"as_of": times, "share": shares}, schema={"as_of": pl.Date, "share": pl.Float64}
    )


def steps(days: pl.DataFrame, times: pl.DataFrame) -> pl.DataFrame:
    """How often each user took each step, by the first of some times after it.

    days: user_id, day and moves of `user_days`. times: as_of, sorted, and for `lessons` the share
    of the users who are wanted. Returns user_id, period (the time's number), move, times. What no
    time follows is left out.
    """
    in_period = (
        days.select("user_id", "day", "moves")
        .sort("day")
        .join_asof(
            times.with_row_index("period"),
            left_on="day",
            right_on="as_of",
            strategy="forward",
            allow_exact_matches=False,
        )
        .drop_nulls("period")
    )
    if in_period.height and "share" in times.columns:
        in_period = in_period.filter(_place(in_period["user_id"]) < pl.col("share"))
    return (
        in_period.explode("moves")
        .unnest("moves")
        .drop_nulls("move")
        .group_by("user_id", "period", "move")
        .agg(pl.col("times").sum().cast(pl.Int64))
    )


def _place(users: pl.Series) -> pl.Series:
    """A user's place among all, from 0 to 1, always the same."""
    names = users.unique()
    return users.replace_strict(names, buckets(names) / BUCKETS, return_dtype=pl.Float64)


def learn(
    taken: pl.DataFrame, times: pl.DataFrame, seed: int = 0, before: Sequence[Kinds] = ()
) -> list[Kinds]:
    """The kinds at each of the `lessons`, of their `steps`; from the first one with any.

    before: what was learned of the first of these lessons already. Returns the others'.
    """
    from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]

    if taken.is_empty():
        return []
    taken = taken.sort("user_id", "period", "move")
    users = taken["user_id"].unique(maintain_order=True)
    user = taken["user_id"].rank("dense").to_numpy().astype(int) - 1
    period, move, often = (taken[name].to_numpy() for name in ("period", "move", "times"))
    place = _place(users).to_numpy()
    counts = np.zeros((len(users), moves.COUNT))
    found: list[Kinds] = []
    fitted = (before[-1].chance, before[-1].share) if before else None
    done = before[-1].as_of if before else date.min
    with threadpool_limits(1):
        for number, (as_of, share) in enumerate(times.rows()):
            new = period == number
            np.add.at(counts, (user[new], move[new]), often[new])
            if as_of <= done:
                continue
            known = counts[(counts.sum(axis=1) > 0) & (place < share)]
            if not len(known):
                continue
            fitted = _refit(known, *fitted) if fitted else _first_fit(known, seed)
            found.append(_as_kinds(as_of, known, *fitted))
    return found


def likely(days: pl.DataFrame, rows: pl.DataFrame, kinds: Sequence[Kinds]) -> pl.DataFrame:
    """How likely the user of each row is of each kind, by the steps before the row's cutoff.

    rows: protocol, user_id, as_of. Returns these with NAMES, which are null where nothing was
    learned. Rows of the whole log, which leak by design, are looked at with the kinds of its end.
    """
    key = ["protocol", "user_id", "as_of"]
    of_whole_log = pl.col("protocol") == WHOLE_LOG
    looked_at = pl.when(of_whole_log).then(pl.lit(date.max)).otherwise("as_of")
    rows = rows.select(*key, looked_at.alias("looked_at"))
    times = rows.select(pl.col("looked_at").alias("as_of").unique().sort())
    users = days.select(pl.col("user_id").unique().sort())
    taken = steps(days, times).join(users.with_row_index("number"), on="user_id")
    user, period, move, often = (
        taken[name].to_numpy() for name in ("number", "period", "move", "times")
    )
    schema = {"user_id": pl.String, "looked_at": pl.Date, **dict.fromkeys(NAMES, pl.Float64)}
    found = [pl.DataFrame(schema=schema)]
    for number, time in enumerate(times["as_of"]):
        by_then = [known for known in kinds if known.as_of <= time]
        if not by_then:
            continue
        before, known = period <= number, by_then[-1]
        odds = np.empty((len(users), COUNT))
        for kind, log_chance in enumerate(known.log_chance):
            weights = (often * log_chance[move])[before].astype(float)  # whole, so exact
            odds[:, kind] = np.bincount(user[before], weights, minlength=len(users)) / _MILLION
        chance = _normalised(odds + np.log(known.share))
        columns = {name: pl.Series(chance[:, kind]) for kind, name in enumerate(NAMES)}
        found.append(users.with_columns(pl.lit(time).alias("looked_at"), **columns))
    return rows.join(pl.concat(found), on=["user_id", "looked_at"], how="left").select(*key, *NAMES)


def in_words(kinds: Kinds, pages: int = 2) -> dict[str, str]:
    """What sets each kind apart: "11% of users: Roll Advert 2.9x, Thumbs Up 0.77x the usual"."""
    share = kinds.share
    usual = share @ kinds.visits
    words = {}
    for name, part, visits in zip(NAMES, share, kinds.visits, strict=True):
        ratio = (visits + 1e-4) / (usual + 1e-4)
        telling = np.argsort(-np.abs(np.log(ratio)) * np.sqrt(usual))[:pages]
        said = ", ".join(f"{moves.TO[page]} {ratio[page]:.2g}x" for page in telling)
        words[name] = f"{part:.0%} of users: {said} the usual"
    return words


def _as_kinds(as_of: date, counts: np.ndarray, chance: np.ndarray, share: np.ndarray) -> Kinds:
    member, _ = _expected(counts, chance, share)
    to = np.arange(moves.COUNT) % len(moves.TO)
    taken = member.T @ counts
    visits = np.stack([np.bincount(to, row, minlength=len(moves.TO)) for row in taken])
    return Kinds(as_of, chance, share, visits / np.maximum(visits.sum(axis=1, keepdims=True), 1))


def _first_fit(counts: np.ndarray, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """(chance, share) of the best of some random starts, the most common kind first."""
    fits = []
    for start in range(_STARTS):
        generator = np.random.default_rng([seed, start])
        member = generator.dirichlet(np.full(COUNT, 0.3), len(counts))
        fits.append(_fit(counts, member))
    chance, share, _ = max(fits, key=lambda fit: fit[2])
    order = np.argsort(-share, kind="stable")
    return chance[order], share[order]


def _refit(
    counts: np.ndarray, chance: np.ndarray, share: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    member, _ = _expected(counts, chance, share)
    return _fit(counts, member)[:2]


def _fit(counts: np.ndarray, member: np.ndarray) -> tuple[np.ndarray, np.ndarray, float]:
    """Expectation maximisation from how likely each user is of each kind: chance, share, worth."""
    usual = _chances(counts.sum(axis=0, keepdims=True) + 1e-3)
    last = -np.inf
    for _ in range(_MOST_ROUNDS):
        chance = _chances(member.T @ counts + _STRENGTH * usual)
        share = (member.sum(axis=0) + 1) / (len(counts) + COUNT)
        member, worth = _expected(counts, chance, share)
        if worth - last < _ENOUGH * abs(worth):
            break
        last = worth
    return chance, share, worth


def _expected(
    counts: np.ndarray, chance: np.ndarray, share: np.ndarray
) -> tuple[np.ndarray, float]:
    """How likely each user is of each kind, and the log likelihood of all steps."""
    odds = counts @ np.log(chance.T) + np.log(share)
    return _normalised(odds), float(np.logaddexp.reduce(odds, axis=1).sum())


def _normalised(odds: np.ndarray) -> np.ndarray:
    chance = np.exp(odds - odds.max(axis=1, keepdims=True))
    return chance / chance.sum(axis=1, keepdims=True)


def _chances(taken: np.ndarray) -> np.ndarray:
    """Of how often each step is taken, its chance where it can be taken."""
    pages = _PAGE_OF_MOVE.max() + 1
    from_page = np.stack([np.bincount(_PAGE_OF_MOVE, row, minlength=pages) for row in taken])
    return taken / from_page[:, _PAGE_OF_MOVE]
