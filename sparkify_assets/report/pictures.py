"""The report's pictures: what each one shows, and the same in words for those who cannot see it.

Belongs here: which figures go into which chart, axes and descriptions. Does not belong here:
geometry (`charts.py`) and computing the figures (`figures.py`).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np
import polars as pl
from markupsafe import Markup

from sparkify_assets.churn.cutoffs import WHOLE_LOG
from sparkify_assets.churn.evaluation import CHOSEN
from sparkify_assets.report import charts, figures
from sparkify_assets.report.charts import Axis, Series
from sparkify_assets.report.figures import Tested
from sparkify_assets.report.words import brief, interval, number, percent, short, spoken

# Tested rows and the style of their line, the one that the description speaks of first.
Styled = Sequence[tuple[Tested, str]]
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
        _title("Churned users reached, the highest probability first", protocol),
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


def _title(words: str, protocol: str) -> str:
    return f"{words}. LEAKS." if protocol == WHOLE_LOG else f"{words}."


def _sentence(parts: Iterable[str]) -> str:
    return "; ".join(parts) + "."
