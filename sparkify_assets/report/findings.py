"""What users who churned did differently from those who stayed, as figures.

Belongs here: a row a user of what they did, and comparing the two groups with intervals. Does not
belong here: pictures of it (`pictures.py`), and forecasts: this looks at the whole log and at who
left in the end, so it describes and must never reach a model.

The log of a user who churned is cut short by the leaving. So only rates are compared, of what came
before the day of leaving, each over the days on which the user was there to be seen.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date
from typing import NamedTuple

import numpy as np
import polars as pl

from sparkify_assets.churn.pages import PAGES
from sparkify_assets.report.figures import NORMAL_95, Estimate

DAY_COLUMNS = ("user_id", "day", "events", "songs", *PAGES, "level")
LABEL_COLUMNS = ("user_id", "churned", "churned_at", "registered_at", "first_event_at")
PER_EVENTS = 100
SHORTEST = 7  # days that a user must have been there for their active days a week to count
# Where the bins of a distribution begin; the last one is open.
SONG_BINS = (0, 20, 40, 60, 80, 100, 120)
ACTIVE_BINS = (0, 1, 2, 3, 4, 5, 6)
TENURE_BINS = (0, 7, 14, 30, 60, 90, 120)
_FEWEST = 5  # events on a page in each group, for their ratio to be told


def habits(days: pl.DataFrame, labels: pl.DataFrame, last_day: date) -> pl.DataFrame:
    """A row a user with a day before the day of leaving; the log's `last_day` is the last to count.

    days: DAY_COLUMNS of `user_days`, of whole users. labels: LABEL_COLUMNS of `user_labels`. Gives
    user_id, churned; active_days, events, songs and the columns of PAGES, counted; first_paid and
    last_paid, whether the first and the last of these days ended on the paid level, and paid_share,
    of all of them; tenure_days, since registration at the first event (null if unknown);
    observed_days, after the first day up to the day before leaving or the log's end, and seen_days,
    the active ones of them.
    """
    paid = pl.col("level") == "paid"
    before_leaving = pl.col("churned_at").dt.date().dt.offset_by("-1d")
    tenure = (pl.col("first_event_at") - pl.col("registered_at")).dt.total_days().clip(0)
    people = labels.select(
        "user_id",
        "churned",
        tenure.alias("tenure_days"),
        pl.min_horizontal(before_leaving, pl.lit(last_day)).alias("end"),
    )
    return (
        days.join(people, on="user_id")
        .filter(pl.col("day") <= pl.col("end"))
        .sort("user_id", "day")
        .group_by("user_id", maintain_order=True)
        .agg(
            pl.col("churned", "tenure_days").first(),
            pl.len().cast(pl.Int64).alias("active_days"),
            pl.col("events", "songs", *PAGES).sum(),
            paid.first().alias("first_paid"),
            paid.last().alias("last_paid"),
            paid.mean().alias("paid_share"),
            (pl.col("end") - pl.col("day")).first().dt.total_days().alias("observed_days"),
            (pl.len().cast(pl.Int64) - 1).alias("seen_days"),
        )
    )


class Pair(NamedTuple):
    """A figure of those who churned and of those who stayed."""

    name: str
    churned: Estimate
    stayed: Estimate


class Spread(NamedTuple):
    """A distribution over users: the share of them in each bin."""

    bins: list[Pair]
    medians: tuple[float | None, float | None]  # churned, stayed; None of nobody
    users: tuple[int, int]


class Use(NamedTuple):
    """How often a page is used, per PER_EVENTS events."""

    rate: Pair
    ratio: Estimate | None  # churned to stayed; None where too few events are known

    @property
    def clear(self) -> int:
        """1 where churned users surely use it more, -1 where less, else 0."""
        if self.ratio is None or self.ratio.low is None or self.ratio.high is None:
            return 0
        return int(self.ratio.low > 1) - int(self.ratio.high < 1)


@dataclass(frozen=True)
class Findings:
    """The two groups side by side, whose sizes are `churned` and `stayed`."""

    churned: int
    stayed: int
    pages: list[Use]  # the largest ratio first, those without one last
    songs: Spread  # per active day
    active: Spread  # days a week
    tenure: Spread  # days since registration, at the first event
    levels: list[Pair]  # shares on the paid level


def findings(habits: pl.DataFrame) -> Findings | None:
    """Compare the groups of `habits`; None where one of them has fewer than two users."""
    groups = churned, stayed = [habits.filter(churned=churned) for churned in (True, False)]
    if min(churned.height, stayed.height) < 2:
        return None
    there = [group.filter(pl.col("observed_days") >= SHORTEST) for group in groups]
    pages = {"songs": "NextSong", **PAGES}
    used = [_use(page, *((g[name], g["events"]) for g in groups)) for name, page in pages.items()]
    return Findings(
        churned.height,
        stayed.height,
        sorted(used, key=lambda use: -use.ratio.value if use.ratio else 0.0),
        _spread([g["songs"] / g["active_days"] for g in groups], SONG_BINS),
        _spread([7 * g["seen_days"] / g["observed_days"] for g in there], ACTIVE_BINS),
        _spread([g["tenure_days"].drop_nulls() for g in groups], TENURE_BINS),
        [
            Pair("first day", *(_share(int(g["first_paid"].sum()), g.height) for g in groups)),
            Pair("last day", *(_share(int(g["last_paid"].sum()), g.height) for g in groups)),
            Pair("all their days", *(_mean_share(g["paid_share"]) for g in groups)),
        ],
    )


def _use(page: str, churned: Sequence[pl.Series], stayed: Sequence[pl.Series]) -> Use:
    """churned, stayed: events on the page and all events, a value a user."""
    rates = [_rate(*(part.to_numpy().astype(float) for part in g)) for g in (churned, stayed)]
    pair = Pair(page, *(_interval(PER_EVENTS * value, PER_EVENTS * se) for value, se in rates))
    if min(churned[0].sum(), stayed[0].sum()) < _FEWEST:
        return Use(pair, None)
    (a, of_a), (b, of_b) = rates
    width = math.exp(NORMAL_95 * math.hypot(of_a / a, of_b / b))
    return Use(pair, Estimate(a / b, a / b / width, a / b * width))


def _rate(part: np.ndarray, whole: np.ndarray) -> tuple[float, float]:
    """Sum of part by sum of whole, and its standard error with users as units (linearised)."""
    users, total = len(whole), whole.sum()
    value = part.sum() / total
    scatter = ((part - value * whole) ** 2).sum() * users / (users - 1)
    return float(value), float(math.sqrt(scatter) / total)


def _interval(value: float, standard_error: float) -> Estimate:
    reach = NORMAL_95 * standard_error
    return Estimate(value, max(value - reach, 0.0), value + reach)


def _mean_share(shares: pl.Series) -> Estimate:
    values = shares.to_numpy()
    value, low, high = _interval(*_rate(values, np.ones(len(values))))
    return Estimate(value, low, min(high or 0.0, 1.0))


def _share(some: int, of: int) -> Estimate:
    """A share of users with Wilson's interval, which holds for few users and for none of them."""
    if not of:
        return Estimate(0.0, None, None)
    share, square = some / of, NORMAL_95**2
    middle = share + square / (2 * of)
    reach = NORMAL_95 * math.sqrt(share * (1 - share) / of + square / (4 * of**2))
    low, high = ((end / (1 + square / of)) for end in (middle - reach, middle + reach))
    return Estimate(share, max(low, 0.0), min(high, 1.0))


def _spread(values: Sequence[pl.Series], begins: Sequence[int]) -> Spread:
    """values: of those who churned and of those who stayed."""
    names = [f"{a}\N{EN DASH}{b}" for a, b in itertools.pairwise(begins)]
    edges = [*begins, math.inf]
    counts = [np.histogram(group.to_numpy(), edges)[0] for group in values]
    users = len(values[0]), len(values[1])
    return Spread(
        [
            Pair(name, *(_share(int(some), of) for some, of in zip(both, users, strict=True)))
            for name, *both in zip([*names, f"{begins[-1]}+"], *counts, strict=True)
        ],
        (_median(values[0]), _median(values[1])),
        users,
    )


def _median(values: pl.Series) -> float | None:
    return float(np.median(values.to_numpy())) if len(values) else None
