"""The figures that the report shows, computed from the tables.

Belongs here: sums, shares and curves over the tables' rows, as numbers.
Does not belong here: metrics and their intervals (`churn/metrics.py`), words and looks
(`templates/`), drawing (`charts.py`).
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import polars as pl

from sparkify_assets.churn import metrics, outcomes
from sparkify_assets.churn.cutoffs import FORECAST
from sparkify_assets.churn.evaluation import CHOSEN
from sparkify_assets.events.parse import kind_of

if TYPE_CHECKING:
    from sparkify_assets.resources.lake import Version

# What the notebook project that this one grows out of reached on the real files, under the
# whole_log protocol.
SEED_FIGURES: Mapping[str, Mapping[str, float]] = {
    "mini": {"weighted_f1": 0.80, "f1": 0.40},
    "full": {"weighted_f1": 0.8896, "f1": 0.747},
}
NORMAL_95 = 1.959964
_PROFIT_USERS = 1_000
_MOST_POINTS = 250
_FIRST_NAMED = 0.01  # share of the rows


class Estimate(NamedTuple):
    """A value with its 95 % interval; the ends are None where none is known."""

    value: float
    low: float | None
    high: float | None


def expected_leavers(probability: pl.Series, learned_from: int) -> Estimate:
    """How many users are expected to leave: the sum of their probabilities.

    The interval covers chance (each user leaves or stays) and how well the overall level of the
    probabilities can be known from `learned_from` churned users; it does not cover a world that
    changes after the log's end. Taken on the scale of the square root, on which a count's spread
    does not depend on its size, so that it never goes below zero.
    """
    total = float(probability.sum())
    if total <= 0:
        return Estimate(0.0, 0.0, 0.0)
    chance = float((probability * (1 - probability)).sum())
    level = total**2 / learned_from if learned_from else total**2
    spread = NORMAL_95 * math.sqrt(chance + level) / (2 * math.sqrt(total))
    low = max(math.sqrt(total) - spread, 0.0) ** 2
    high = min((math.sqrt(total) + spread) ** 2, float(len(probability)))
    return Estimate(total, low, high)


def by_decile(scores: pl.DataFrame) -> pl.DataFrame:
    """risk_decile (10, the highest, first), users, expected leavers and their share of all."""
    expected = pl.col("probability").sum()
    everyone = float(scores["probability"].sum()) or 1.0
    return (
        scores.group_by("risk_decile")
        .agg(pl.len().alias("users"), expected.alias("expected"))
        .with_columns((pl.col("expected") / everyone).alias("share"))
        .sort("risk_decile", descending=True)
    )


def at_most_risk(scores: pl.DataFrame, most: int) -> pl.DataFrame:
    """The `most` users with the highest probability, highest first."""
    return scores.sort("probability", "user_id", descending=[True, False]).head(most)


def themes(factors: pl.DataFrame) -> pl.DataFrame:
    """theme, its share of what moves the risk, meaning and direction_words of its strongest factor.

    The share is of the themes' own contributions (`churn_factors.theme_share`), the largest first.
    """
    return (
        factors.sort("rank")
        .group_by("theme", maintain_order=True)
        .agg(
            pl.col("theme_rank", "meaning", "direction", "direction_words").first(),
            pl.col("theme_share").first().alias("share"),
        )
        .sort("theme_rank", "theme")
    )


class Stability(NamedTuple):
    """Rank correlations of the order of factors with the orders found without some users."""

    folds: int
    features: Mapping[str, float | None]  # mean, lowest
    themes: Mapping[str, float | None]


def stability(version: Version) -> Stability | None:
    """What was said of the factors' order when `churn_factors` was written; None if nothing was."""
    said = version.metadata.get("stability")
    return Stability(**said) if said else None


def measured(
    table: pl.DataFrame, protocol: str, estimate: str, metric: str, model: str = CHOSEN
) -> Estimate | None:
    """One row of `evaluation_metrics`, or None where there is none or it has no value."""
    rows = table.filter(protocol=protocol, estimate=estimate, model=model, metric=metric)
    if rows.is_empty():
        return None
    value, low, high = (_known(rows[name][0]) for name in ("value", "ci_low", "ci_high"))
    return None if value is None else Estimate(value, low, high)


def tested(table: pl.DataFrame, protocol: str, estimate: str) -> tuple[int, int] | None:
    """Rows and churned rows that the chosen model was tested on."""
    rows = table.filter(protocol=protocol, estimate=estimate, model=CHOSEN)
    return None if rows.is_empty() else (rows["rows"][0], rows["positives"][0])


def model_names(table: pl.DataFrame) -> list[str]:
    """The models and baselines of `evaluation_metrics`, the chosen one first."""
    names = table["model"].unique(maintain_order=True).to_list()
    return sorted(names, key=lambda name: name != CHOSEN)


class Profit(NamedTuple):
    """What contacts would be worth for 1,000 users, in units of what a kept user is worth."""

    cost: float  # of a contact
    save: float  # share of contacted churners who stay
    value: Estimate  # if those are contacted whose probability is above `break_even`
    everyone: float  # if all are

    @property
    def break_even(self) -> float:
        return self.cost / self.save

    @property
    def clear(self) -> bool:
        """Whether choosing whom to contact is surely better than contacting nobody or everybody."""
        return self.value.low is not None and self.value.low > max(0.0, self.everyone)


def profits(table: pl.DataFrame) -> list[list[Profit]]:
    """The chosen model's, on users held back: a row a share kept, a cell a cost.

    Empty where there is no such estimate.
    """
    share = measured(table, FORECAST, "grouped", "prevalence")
    found = {
        (cost, save): measured(table, FORECAST, "grouped", metrics.profit_name(cost, save))
        for cost, save in metrics.PROFIT_GRID
    }
    known = {at: _for_many(value) for at, value in found.items() if value}
    if share is None or len(known) < len(found):
        return []
    return [
        [
            Profit(cost, save, known[cost, save], (share.value * save - cost) * _PROFIT_USERS)
            for cost in metrics.CONTACT_COSTS
        ]
        for save in metrics.SAVE_RATES
    ]


def _for_many(a_user: Estimate) -> Estimate:
    value, *ends = a_user
    low, high = (None if end is None else end * _PROFIT_USERS for end in ends)
    return Estimate(value * _PROFIT_USERS, low, high)


class Calibration(NamedTuple):
    """How far said and happened are apart, and how far they may be if all is exactly right."""

    error: Estimate
    by_chance: float

    @property
    def holds(self) -> bool:
        return self.error.value <= self.by_chance


def calibration(
    table: pl.DataFrame, tested: Tested | None, protocol: str, estimate: str
) -> Calibration | None:
    """Of the chosen model; None where there is no such estimate."""
    error = measured(table, protocol, estimate, "expected_calibration_error")
    if error is None or tested is None:
        return None
    return Calibration(error, metrics.calibration_error_by_chance(tested.probability))


def _known(value: float | None) -> float | None:
    return None if value is None or math.isnan(value) else float(value)


@dataclass(frozen=True)
class Tested:
    """What the chosen model said of one estimate's rows, and what happened."""

    label: np.ndarray  # bool
    probability: np.ndarray
    flagged: np.ndarray  # bool: probability >= the threshold of the row's training rows

    @property
    def expected(self) -> float:
        return float(self.probability.sum())

    @property
    def happened(self) -> int:
        return int(self.label.sum())

    def confusion(self) -> dict[str, int]:
        """Rows by what was said and what happened."""
        return {
            "flagged_left": int((self.flagged & self.label).sum()),
            "flagged_stayed": int((self.flagged & ~self.label).sum()),
            "missed": int((~self.flagged & self.label).sum()),
            "rightly_left_alone": int((~self.flagged & ~self.label).sum()),
        }

    def precision_recall(self) -> tuple[np.ndarray, np.ndarray]:
        """(recall, precision), thinned to what a picture can show.

        From where a hundredth of the rows is named on: before that a single user decides.
        """
        recall, precision = metrics.pr_curve(self.label, self.probability)
        with np.errstate(divide="ignore", invalid="ignore"):
            named = recall * self.happened / precision
        first = int(np.argmax(named >= _FIRST_NAMED * len(self.label)))
        kept = np.unique(np.linspace(first, len(recall) - 1, _MOST_POINTS).astype(int))
        return recall[kept], precision[kept]

    def reliability(self) -> tuple[np.ndarray, np.ndarray]:
        """(mean probability, churned share) of ten bins of equally many rows."""
        bins = metrics.reliability_curve(self.label, self.probability)
        return bins["probability"].to_numpy(), bins["churned_share"].to_numpy()

    def gain(self) -> tuple[np.ndarray, np.ndarray]:
        """(share of rows, share of the churned among them), the highest probability first."""
        order = np.argsort(-self.probability, kind="stable")
        label, ones = self.label[order].astype(float), np.ones((len(order), 1))
        curve = metrics.cumulative(label, self.probability[order], ones)
        share = np.linspace(0, 1, 101)
        rows = np.append(0, curve.rows[:, 0]) / len(label)
        found = np.append(0, curve.positives[:, 0]) / max(1.0, curve.positives[-1, 0])
        return share, np.interp(share, rows, found)


def tests(predictions: pl.DataFrame, protocol: str, estimate: str) -> Tested | None:
    """The first drawing of the folds; None where it has no churned row to draw a curve from."""
    rows = predictions.filter(
        pl.col("repeat") == 0, protocol=protocol, estimate=estimate, model=CHOSEN
    ).sort("user_id", "as_of")
    if rows.is_empty() or not rows["label"].any():
        return None
    return Tested(
        rows["label"].to_numpy(),
        rows["probability"].to_numpy(),
        rows.select(pl.col("probability") >= pl.col("threshold")).to_series().to_numpy(),
    )


class Week(NamedTuple):
    """What the forecasts of a week were worth, as far as their horizon has passed."""

    monday: date
    complete: bool  # the horizon of all its days has
    rows: int
    users: int
    churned: int
    late_events: int
    measures: Mapping[str, Estimate | None]  # by metric


def weeks(live_metrics: pl.DataFrame, log_end: date, horizon_days: int) -> list[Week]:
    """The weeks of `live_metrics`, the earliest first."""
    complete = outcomes.is_complete(log_end, horizon_days).alias("complete")
    by_week = live_metrics.with_columns(complete).sort("week")
    return [
        _week(rows.rows_by_key("metric", named=True, unique=True))
        for _, rows in by_week.group_by("week", maintain_order=True)
    ]


def _week(by_metric: Mapping[str, Mapping[str, Any]]) -> Week:
    late = by_metric[outcomes.LATE_EVENTS]
    return Week(
        late["week"],
        late["complete"],
        late["rows"],
        late["users"],
        late["positives"],
        int(late["value"]),
        {
            metric: None
            if row["value"] is None
            else Estimate(row["value"], row["ci_low"], row["ci_high"])
            for metric, row in by_metric.items()
        },
    )


class Quality(NamedTuple):
    """Where the log's lines went, in rows."""

    lines: int
    events: int
    rejected: int
    left_out: int  # events of logged-out visitors and exact repeats
    cleaned: int

    @property
    def adds_up(self) -> bool:
        return self.lines == self.events + self.rejected


def quality(versions: Mapping[str, Version]) -> Quality:
    """From the versions of raw_events, rejected_lines and cleaned_events."""
    raw, rejected, cleaned = (
        versions[name] for name in ("raw_events", "rejected_lines", "cleaned_events")
    )
    return Quality(
        lines=raw.metadata.get("lines", raw.rows_ever + rejected.rows_ever),
        events=raw.rows_ever,
        rejected=rejected.rows_ever,
        left_out=raw.rows_ever - cleaned.rows,
        cleaned=cleaned.rows,
    )


def counts_by_kind(rejections: pl.Series) -> list[tuple[str, int]]:
    """(kind of reason, lines), the most frequent first."""
    kinds = Counter(kind_of(reason) for reason in rejections)
    return sorted(kinds.items(), key=lambda item: (-item[1], item[0]))
