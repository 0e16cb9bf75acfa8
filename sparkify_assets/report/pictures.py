"""The report's pictures: what each one shows, and the same in words for those who cannot see it.

Belongs here: which figures go into which chart, axes and descriptions. Does not belong here:
geometry (`charts.py`) and computing the figures (`figures.py`).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import polars as pl
from markupsafe import Markup

from sparkify_assets.churn.cutoffs import WHOLE_LOG
from sparkify_assets.churn.evaluation import CHOSEN
from sparkify_assets.report import charts, figures
from sparkify_assets.report.charts import Axis, Series
from sparkify_assets.report.figures import Estimate, Tested, Week
from sparkify_assets.report.findings import SHORTEST, Findings, Pair, Spread, Use
from sparkify_assets.report.words import (
    brief,
    interval,
    number,
    percent,
    short,
    short_day,
    spoken,
    times,
)

# Tested rows and the style of their line, the one that the description speaks of first.
Styled = Sequence[tuple[Tested, str]]
_WIDEST_RATIO = 3.0  # that has room in a picture; what is wider is cut
_WEEKS_DRAWN = 8
_LATER = "later"  # the second line, drawn below the first and without dots


def style_of(protocol: str) -> str:
    """The class of a protocol's own line."""
    return "leaking" if protocol == WHOLE_LOG else "honest"


def expected_by_decile(deciles: pl.DataFrame) -> Markup:
    """`figures.by_decile` as columns."""
    rows = deciles.drop_nulls("risk_decile").to_dicts()
    return charts.columns(
        "deciles",
        "Expected leavers by tenth of users",
        _sentence(
            f"decile {row['risk_decile']}: {short(row['expected'])} of {row['users']:,} users"
            for row in rows
        ),
        [row["expected"] for row in rows],
        [str(row["risk_decile"]) for row in rows],
        short,
        "risk decile (10 is the tenth at most risk)",
    )


class Picture(NamedTuple):
    """A chart with what is written beside it."""

    name: str
    title: str
    caption: str
    chart: Markup


def curves(protocol: str, styled: Styled) -> list[Picture]:
    """What rows that were held back tell of the model."""
    return [
        Picture(
            "precision_recall",
            "Precision and recall",
            "Further up and right is better. Without the first hundredth, where single users "
            "decide. Dotted: guessing.",
            precision_recall(protocol, styled),
        ),
        Picture(
            "reliability",
            "Reliability",
            "On the dotted line, what was said is what happened.",
            reliability(protocol, styled),
        ),
        Picture(
            "gain",
            "Gain",
            "How many churned users are reached by looking at the riskiest first. "
            "Dotted: guessing.",
            gain(protocol, styled),
        ),
    ]


def confusion(protocol: str, tested: Tested) -> Markup:
    """What was said against what happened, each square as dark as its share of what happened."""
    counts = tested.confusion()
    totals = (tested.happened, len(tested.label) - tested.happened)
    rows = {
        "flagged": ("flagged_left", "flagged_stayed"),
        "not flagged": ("missed", "rightly_left_alone"),
    }

    def cell(name: str, total: int, right: bool) -> tuple[str, str, float, str]:
        share = counts[name] / total if total else 0.0
        return f"{counts[name]:,}", percent(share), share, "right" if right else "wrong"

    return charts.squares(
        f"{protocol}-confusion",
        _title("Said against happened, at the threshold", protocol),
        f"Of {totals[0]:,} rows that churned {counts['flagged_left']:,} were flagged; of "
        f"{totals[1]:,} that stayed {counts['flagged_stayed']:,} were.",
        ["churned", "stayed"],
        [
            (words, [cell(name, totals[j], i == j) for j, name in enumerate(names)])
            for i, (words, names) in enumerate(rows.items())
        ],
    )


def factors(table: pl.DataFrame, most: int = 10) -> Markup:
    """The strongest of `churn_factors`: weight, direction, and the ranks over all fits."""
    rows = table.sort("rank").head(most).to_dicts()
    return charts.bars(
        "factors",
        f"What goes with churn: the {len(rows)} strongest factors.",
        _sentence(
            f"{row['meaning']}, {percent(row['share'] or 0.0)}, {ranks(row)}, "
            f"{row['direction_words']}"
            for row in rows
        ),
        [
            (
                row["meaning"],
                row["share"] or 0.0,
                f"{percent(row['share'] or 0.0)}, {ranks(row)}",
                {1: "up", -1: "down"}.get(row["direction"], "flat"),
            )
            for row in rows
        ],
    )


def ranks(row: Mapping[str, Any]) -> str:
    """A factor's ranks over all fits of the model: rank 2, or rank 1 to 3."""
    low, high = row["rank_low"], row["rank_high"]
    return f"rank {low}" if low == high else f"rank {low} to {high}"


def precision_recall(protocol: str, styled: Styled) -> Markup:
    first = styled[0][0]
    share = first.happened / len(first.label)
    quarter, half, most = np.interp([0.25, 0.5, 0.75], *first.precision_recall())
    highest = max(max(tested.precision_recall()[1]) for tested, _ in styled)
    return charts.lines(
        f"{protocol}-precision-recall",
        _title("Precision and recall", protocol),
        f"Of those named, {percent(quarter)} churned when a quarter of all who churned are found, "
        f"{percent(half)} when half are and {percent(most)} when three quarters are. "
        f"Guessing: {percent(share)}.",
        Axis("churned users found (recall)", 1.0, percent),
        charts.axis_up_to("right when named (precision)", [highest, share], percent),
        [
            Series([0, 1], [share, share], "guess"),
            *(Series(*tested.precision_recall(), style) for tested, style in reversed(styled)),
        ],
    )


def reliability(protocol: str, styled: Styled) -> Markup:
    curves = [(*tested.reliability(), style) for tested, style in styled]
    said, happened, _ = curves[0]
    both = [value for x, y, _ in curves for value in (*x, *y)]
    across = charts.axis_up_to("probability said", both, percent)
    return charts.lines(
        f"{protocol}-reliability",
        _title("Probability said and share that churned", protocol),
        "In groups of equally many rows, said and happened: "
        + _sentence(f"{percent(p)} and {percent(h)}" for p, h in zip(said, happened, strict=True)),
        across,
        charts.axis_up_to("share that churned", both, percent),
        [
            Series([0, across.high], [0, across.high], "guess"),
            *(Series(x, y, style, dots=style != _LATER) for x, y, style in reversed(curves)),
        ],
    )


def gain(protocol: str, styled: Styled) -> Markup:
    looked_at, reached = styled[0][0].gain()
    return charts.lines(
        f"{protocol}-gain",
        _title("Churned users reached, riskiest first", protocol),
        "Share of churned users reached: "
        + _sentence(
            f"{percent(reached[i])} in the first {percent(looked_at[i])}" for i in (10, 20, 30, 50)
        ),
        Axis("users looked at", 1.0, percent),
        Axis("churned users reached", 1.0, percent),
        [
            Series([0, 1], [0, 1], "guess"),
            *(Series(*tested.gain(), style) for tested, style in reversed(styled)),
        ],
    )


def gallery(found: Findings) -> list[Picture]:
    """How users who churned and users who stayed differ, the most telling picture first."""
    songs, active, tenure = found.songs, found.active, found.tenure
    songs_usual, active_usual, tenure_usual = (
        [_median(value, digits) for value in spread.medians]
        for spread, digits in ((songs, 0), (active, 1), (tenure, 0))
    )
    return [
        Picture(
            "pages",
            "Pages",
            "How many times as often users who churned use a page, of as many events. Dotted: as "
            "often as users who stayed. Orange and blue: the whole 95% interval is on one side, "
            "which by chance alone about one page in twenty is.",
            _uses(found.pages),
        ),
        Picture(
            "songs",
            "Songs",
            f"On a day that they are there, users who churned play {songs_usual[0]} songs "
            f"and users who stayed {songs_usual[1]} (medians of the users' averages).",
            _spread("songs", "Songs per active day", "songs per active day", songs),
        ),
        Picture(
            "active-days",
            "Active days",
            f"Days with an event, of {active.users[0]:,} users who churned and "
            f"{active.users[1]:,} who stayed and were there for at least {SHORTEST} days: "
            f"{active_usual[0]} a week and {active_usual[1]} (medians). Users who "
            "stopped coming without leaving count as stayed.",
            _spread("active-days", "Active days a week", "active days a week", active),
        ),
        Picture(
            "levels",
            "Levels",
            "Share of users on the paid level at the end of their first and of their last day, and "
            "the mean share of their days.",
            _pairs(
                "levels",
                "On the paid level",
                found.levels,
                "share on the paid level",
                "level on the users' days",
            ),
        ),
        Picture(
            "tenure",
            "Days since registration",
            "At a user's first event in the log, so that the length of the log plays no part: "
            f"{tenure_usual[0]} days and {tenure_usual[1]} (medians).",
            _spread(
                "tenure",
                "Days since registration, at the first event",
                "days since registration",
                tenure,
            ),
        ),
    ]


def _uses(pages: Sequence[Use]) -> Markup:
    known = [(use, use.ratio) for use in pages if use.ratio]
    styles = {1: "churned", -1: "stayed", 0: "other"}
    ends = [end for _, ratio in known for end in ratio if end is not None]
    highest = min(max(ends, default=1.0), _WIDEST_RATIO)
    return charts.intervals(
        "findings-pages",
        "Use of pages by users who churned, as a multiple of users who stayed",
        _sentence(f"{use.rate.name}: {interval(ratio, times)}" for use, ratio in known),
        [(use.rate.name, ratio, styles[use.clear]) for use, ratio in known],
        charts.axis_up_to("times as often, with its 95% interval", [highest], times),
        times,
        1.0,
    )


def _spread(name: str, title: str, label: str, spread: Spread) -> Markup:
    return _pairs(name, title, spread.bins, "share of users", label)


def _pairs(name: str, title: str, pairs: Sequence[Pair], y: str, x: str) -> Markup:
    highest = [end or value for pair in pairs for value, _, end in (pair.churned, pair.stayed)]
    return charts.pairs(
        f"findings-{name}",
        title,
        "Churned and stayed: "
        + _sentence(
            f"{pair.name}: {percent(pair.churned.value)} and {percent(pair.stayed.value)}"
            for pair in pairs
        ),
        pairs,
        charts.axis_up_to(y, highest, percent),
        x,
    )


def by_week(weeks: Sequence[Week]) -> list[Picture]:
    """How earlier forecasts turned out, of the newest weeks that there is room for."""
    shown = weeks[-_WEEKS_DRAWN:]
    return [
        Picture(
            "right-and-found",
            "Right when named, and found",
            "Precision: of those flagged, the share that left. Recall: of those who left, the "
            "share that was flagged. With 95% intervals.",
            _of_weeks(
                "live-precision-recall",
                "Precision and recall by week of the forecast",
                shown,
                ("precision", "recall"),
                (("precision", "told"), ("recall", "other")),
                "share",
            ),
        ),
        Picture(
            "expected-and-churned",
            "Expected and churned",
            "Share of users that the forecasts expected to leave, and that left.",
            _of_weeks(
                "live-expected",
                "Share expected to leave and share that left, by week of the forecast",
                shown,
                ("mean_probability", "prevalence"),
                (("expected", "told"), ("churned", "churned")),
                "share of users",
            ),
        ),
    ]


def _of_weeks(
    name: str,
    title: str,
    weeks: Sequence[Week],
    metrics: tuple[str, str],
    groups: charts.Groups,
    y: str,
) -> Markup:
    first, second = metrics
    rows = [(short_day(week.monday), week.measures[first], week.measures[second]) for week in weeks]
    highest = [v.high or v.value for _, *both in rows for v in both if isinstance(v, Estimate)]
    said = _sentence(f"{day}: {_percent(one)} and {_percent(other)}" for day, one, other in rows)
    return charts.pairs(
        name,
        title,
        f"{groups[0][0]} and {groups[1][0]}: ".capitalize() + said,
        rows,
        charts.axis_up_to(y, highest, percent),
        "Monday of the week",
        groups,
    )


def _percent(value: Estimate | None) -> str:
    return percent(value.value) if value else "not known"


def models(table: pl.DataFrame, protocol: str) -> Markup | None:
    """PR AUC of the chosen model, the candidates and the baselines; None where none was tested."""
    found = {
        name: figures.measured(table, protocol, "grouped", "pr_auc", name)
        for name in figures.model_names(table)
    }
    rows = [
        (spoken(name), value, style_of(protocol) if name == CHOSEN else "other")
        for name, value in found.items()
        if value
    ]
    if not rows:
        return None
    guess = figures.measured(table, protocol, "grouped", "prevalence")
    ends = [end for _, value, _ in rows for end in value if end is not None]
    return charts.intervals(
        f"{protocol}-models",
        _title("PR AUC of the models and baselines", protocol),
        _sentence(f"{name}: {interval(value)}" for name, value, _ in rows),
        rows,
        charts.axis_up_to("PR AUC with its 95% interval", ends, brief),
        number,
        guess.value if guess else None,
    )


def _median(value: float | None, digits: int) -> str:
    return "not known" if value is None else f"{value:.{digits}f}"


def _title(words: str, protocol: str) -> str:
    return f"{words}. LEAKS." if protocol == WHOLE_LOG else f"{words}."


def _sentence(parts: Iterable[str]) -> str:
    return "; ".join(parts) + "."
