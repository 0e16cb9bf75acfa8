"""The report's page: what stands where.

Belongs here: choosing and wording the figures for each section, and putting the page together.
Does not belong here: computing them (`figures.py`), drawing (`charts.py`), text and looks
(`templates/`).
"""

from __future__ import annotations

import base64
import hashlib
import json
import math
from collections.abc import Callable, Mapping, Sequence
from datetime import date, timedelta
from functools import cache
from itertools import pairwise
from typing import Any

import jinja2
import numpy as np
import polars as pl
from markupsafe import Markup

from sparkify_assets.churn.cutoffs import FORECAST, WHOLE_LOG
from sparkify_assets.churn.evaluation import CHOSEN
from sparkify_assets.churn.metrics import METRIC_MEANINGS, TOP_SHARE
from sparkify_assets.churn.scoring import in_words
from sparkify_assets.report import charts, figures
from sparkify_assets.report.charts import Axis, Series
from sparkify_assets.report.data import ReportData
from sparkify_assets.report.figures import Estimate

MOST_LISTED = 2_000
FIRST_SHOWN = 20  # rows of the list that are there before, or without, its script
_FACTORS_DRAWN = 12
_NAMED_IN_ANSWER = 5

# Shown in this order: metric, words, how its values are written.
_MEASURES = (
    ("pr_auc", "PR AUC", "number"),
    ("prevalence", "PR AUC of guessing (share who churned)", "number"),
    ("roc_auc", "ROC AUC (guessing: 0.5)", "number"),
    ("lift_top_10", "Lift in the top 10%", "times"),
    ("recall_top_10", "Churned users found in the top 10%", "percent"),
    ("precision", "Precision at the threshold", "percent"),
    ("recall", "Recall at the threshold", "percent"),
    ("f1", "F1 of the churned class", "number"),
    ("balanced_accuracy", "Balanced accuracy", "number"),
    ("weighted_f1", "Weighted F1", "number"),
    ("weighted_f1_always_stays", "Weighted F1 of always saying “stays”", "number"),
    ("brier_score", "Brier score (0 is perfect)", "number"),
    ("log_loss", "Log loss (0 is perfect)", "number"),
    ("expected_calibration_error", "Calibration error (0 is perfect)", "number"),
)
# Protocol, estimate, heading. What leaks says so in its heading.
_ESTIMATES = (
    (FORECAST, "grouped", "Forecast, users held back"),
    (FORECAST, "temporal", "Forecast, last cutoff held back"),
    (WHOLE_LOG, "grouped", "Whole log"),
)
_COMPARED = ("pr_auc", "roc_auc", "lift_top_10", "f1", "balanced_accuracy", "weighted_f1")


def render(report: ReportData) -> str:
    """The page, complete and self-contained: no file or address is fetched when it is opened."""
    script = _text("page.js")
    return (
        _environment()
        .get_template("page.html")
        .render(
            dataset=report.dataset,
            simulated=bool(report.log.get("simulated")),
            style=Markup(_text("style.css")),
            script=Markup(script),
            script_hash=_hash(script),
            answer=_answer(report),
            factors=_factors(report.factors),
            risk=_risk_list(report.scores),
            quality=_model_quality(report),
            data=_data_quality(report),
            provenance=_provenance(report),
        )
    )


# Sections


def _answer(report: ReportData) -> dict[str, Any]:
    scores, span = report.scores, report.span
    start = date.fromisoformat(span["log_end"])
    days = int(span["horizon_days"])
    learned_from = int(_chosen(report.candidates).get("churned_users") or 0)
    deciles = figures.by_decile(scores)
    return {
        "expected": figures.expected_leavers(scores["probability"], learned_from),
        "users": scores.height,
        "learned_from": learned_from,
        "days": days,
        "start": start,
        "end": start + timedelta(days=days - 1),
        "deciles": deciles.to_dicts(),
        "top": next(deciles.iter_rows(named=True), None),
        "chart": _decile_chart(deciles),
        "at_most_risk": figures.at_most_risk(scores, _NAMED_IN_ANSWER).to_dicts(),
        "themes": figures.themes(report.factors).head(3).to_dicts(),
        "sure": _sure(report),
    }


def _sure(report: ReportData) -> dict[str, Any]:
    """What the honest estimate says of the chosen model, for the sentences of the answer."""
    found = {
        metric: figures.measured(report.metrics, FORECAST, "grouped", metric)
        for metric, _, _ in _MEASURES
    }
    pr, guess = found["pr_auc"], found["prevalence"]
    return {
        **found,
        "beats_guessing": bool(pr and guess and pr.low is not None and pr.low > guess.value),
        "tested": figures.tests(report.predictions, FORECAST, "grouped"),
        "rows": figures.tested(report.metrics, FORECAST, "grouped"),
    }


def _factors(table: pl.DataFrame) -> dict[str, Any]:
    ranked = table.sort("rank")
    strongest = max(ranked["share"].drop_nulls().to_list(), default=0.0) or 1.0
    rows = [
        {
            **row,
            "bar": (row["share"] or 0.0) / strongest,
            "churned": _quartiles_in_words(row, "churned"),
            "stayed": _quartiles_in_words(row, "stayed"),
            "picture": charts.ranges(_quartiles(row, "churned"), _quartiles(row, "stayed")),
        }
        for row in ranked.iter_rows(named=True)
    ]
    by_theme = figures.themes(table)
    widest = max(by_theme["share"].to_list(), default=0.0) or 1.0
    return {
        "drawn": rows[:_FACTORS_DRAWN],
        "others": rows[_FACTORS_DRAWN:],
        "themes": [
            row | {"bar": row["share"] / widest} for row in by_theme.iter_rows(named=True)
        ],
    }


def _risk_list(scores: pl.DataFrame) -> dict[str, Any]:
    listed = figures.at_most_risk(scores, MOST_LISTED)
    columns = listed.with_columns(pl.col("as_of").cast(pl.String), pl.col("probability").round(6))
    return {
        "columns": columns.columns,
        "rows": [list(row) for row in columns.iter_rows()],
        "first": listed.head(FIRST_SHOWN).to_dicts(),
        "listed": listed.height,
        "users": scores.height,
        "deciles": sorted(listed["risk_decile"].drop_nulls().unique().to_list(), reverse=True),
        "levels": sorted(listed["level"].drop_nulls().unique().to_list()),
        "lowest": listed["probability"].min(),
    }


def _model_quality(report: ReportData) -> dict[str, Any]:
    estimates = [
        {
            "protocol": protocol,
            "estimate": estimate,
            "heading": heading,
            "leaks": protocol == WHOLE_LOG,
            "tested": figures.tested(report.metrics, protocol, estimate),
        }
        for protocol, estimate, heading in _ESTIMATES
    ]
    return {
        "estimates": estimates,
        "measures": [_measure(report, *measure) for measure in _MEASURES],
        "left_out": report.versions["evaluation_predictions"].metadata.get("left_out", {}),
        "seed": figures.SEED_FIGURES.get(report.dataset, {}),
        "panels": [_panel(report, FORECAST), _panel(report, WHOLE_LOG)],
        "models": _models(report.metrics),
        "everything": _everything(report.metrics),
    }


def _measure(report: ReportData, metric: str, words: str, written: str) -> dict[str, Any]:
    return {
        "metric": metric,
        "words": words,
        "written": written,
        "meaning": METRIC_MEANINGS[metric],
        "values": [
            figures.measured(report.metrics, protocol, estimate, metric)
            for protocol, estimate, _ in _ESTIMATES
        ],
        "seed": figures.SEED_FIGURES.get(report.dataset, {}).get(metric),
    }


def _panel(report: ReportData, protocol: str) -> dict[str, Any]:
    """The pictures of one protocol; the honest one has an estimate by time as well."""
    leaks = protocol == WHOLE_LOG
    style = "leaking" if leaks else "honest"
    found = {
        name: figures.tests(report.predictions, protocol, name) for name in ("grouped", "temporal")
    }
    styled = [(t, s) for t, s in zip(found.values(), (style, "later"), strict=True) if t]
    return {
        "leaks": leaks,
        "charts": _curves(protocol, styled),
        "two_lines": len(styled) == 2,
        "confusion": found["grouped"].confusion() if found["grouped"] else None,
        "models": _model_chart(report.metrics, protocol, style),
    }


def _curves(protocol: str, styled: Sequence[tuple[figures.Tested, str]]) -> dict[str, Markup]:
    if not styled:
        return {}
    (first, _), warning = styled[0], " LEAKS." if protocol == WHOLE_LOG else ""
    share = first.happened / len(first.label)
    whole = Axis("", 1.0, percent)
    recall, precision = first.precision_recall()
    expected, happened = first.reliability()
    contacted, reached = first.gain()
    reliability = [(t.reliability(), s) for t, s in styled]
    highest = [v for (p, h), _ in reliability for v in (*p, *h)]
    both = charts.axis_up_to("", highest, percent)
    at = np.interp([0.25, 0.5, 0.75], recall, precision)
    return {
        "precision_recall": charts.lines(
            f"{protocol}-pr",
            f"Precision and recall.{warning}",
            f"Of the users named, {percent(at[0])} churned when a quarter of the churned users "
            f"are found, {percent(at[1])} when half are and {percent(at[2])} when three quarters "
            f"are. Guessing: {percent(share)}.",
            _named(whole, "churned users found (recall)"),
            _named(whole, "right when named (precision)"),
            [
                Series([0, 1], [share, share], "guess"),
                *(Series(*t.precision_recall(), style=s) for t, s in reversed(styled)),
            ],
        ),
        "reliability": charts.lines(
            f"{protocol}-reliability",
            f"Probability said and share that churned.{warning}",
            "In ten groups of equally many rows, said and happened: "
            + "; ".join(
                f"{percent(p)} and {percent(h)}" for p, h in zip(expected, happened, strict=True)
            )
            + ".",
            _named(both, "probability said"),
            _named(both, "share that churned"),
            [
                Series([0, both.high], [0, both.high], "guess"),
                *(
                    Series(*curve, style=s, dots=s != "later")
                    for curve, s in reversed(reliability)
                ),
            ],
        ),
        "gain": charts.lines(
            f"{protocol}-gain",
            f"Churned users reached, the highest probability first.{warning}",
            "Share of churned users reached: "
            + "; ".join(
                f"{percent(reached[i])} in the first {percent(contacted[i])}"
                for i in (10, 20, 30, 50)
            )
            + ".",
            _named(whole, "users looked at"),
            _named(whole, "churned users reached"),
            [
                Series([0, 1], [0, 1], "guess"),
                *(Series(*t.gain(), style=s) for t, s in reversed(styled)),
            ],
        ),
    }


def _named(axis: Axis, label: str) -> Axis:
    return Axis(label, axis.high, axis.show)


def _model_chart(table: pl.DataFrame, protocol: str, style: str) -> Markup | None:
    """PR AUC of the chosen model, the candidates and the baselines."""
    found = [
        (name, figures.measured(table, protocol, "grouped", "pr_auc", name))
        for name in _model_names(table)
    ]
    rows = [
        (spoken(name), value, style if name == CHOSEN else "other") for name, value in found if value
    ]
    if not rows:
        return None
    guess = figures.measured(table, protocol, "grouped", "prevalence")
    warning = " LEAKS." if protocol == WHOLE_LOG else ""
    return charts.intervals(
        f"{protocol}-models",
        f"PR AUC of the models and baselines.{warning}",
        "; ".join(f"{name}: {interval(value)}" for name, value, _ in rows) + ".",
        rows,
        charts.axis_up_to(
            "PR AUC, 95% interval", [v for _, e, _ in rows for v in e if v is not None], number
        ),
        guess.value if guess else None,
    )


def _models(table: pl.DataFrame) -> list[dict[str, Any]]:
    return [
        {
            "protocol": protocol,
            "estimate": estimate,
            "heading": heading,
            "leaks": protocol == WHOLE_LOG,
            "measures": [(m, w, how) for m, w, how in _MEASURES if m in _COMPARED],
            "rows": [
                {
                    "model": name,
                    "values": [
                        figures.measured(table, protocol, estimate, metric, name)
                        for metric, _, _ in _MEASURES
                        if metric in _COMPARED
                    ],
                }
                for name in _model_names(table)
            ],
        }
        for protocol, estimate, heading in _ESTIMATES
        if figures.tested(table, protocol, estimate)
    ]


def _model_names(table: pl.DataFrame) -> list[str]:
    """The chosen one first, then as the table has them."""
    names = table["model"].unique(maintain_order=True).to_list()
    return sorted(names, key=lambda name: name != CHOSEN)


def _everything(table: pl.DataFrame) -> list[dict[str, Any]]:
    """Metrics that are in no other table of the page, of the chosen model."""
    shown = {metric for metric, _, _ in _MEASURES}
    names = table["metric"].unique(maintain_order=True).to_list()
    return [
        {
            "metric": metric,
            "meaning": METRIC_MEANINGS.get(metric, metric),
            "values": [figures.measured(table, p, e, metric) for p, e, _ in _ESTIMATES],
        }
        for metric in names
        if metric not in shown
    ]


def _data_quality(report: ReportData) -> dict[str, Any]:
    span = report.span
    return {
        "rows": figures.quality(report.versions),
        "bytes": report.log.get("bytes"),
        "rejections": figures.counts_by_kind(report.rejections),
        "first_day": date.fromisoformat(span["log_start"]),
        "last_day": date.fromisoformat(span["last_day"]),
        "days": (date.fromisoformat(span["last_day"]) - date.fromisoformat(span["log_start"])).days
        + 1,
        "users": report.churned.len(),
        "churned": int(report.churned.sum()),
    }


def _provenance(report: ReportData) -> dict[str, Any]:
    chosen = _chosen(report.candidates)
    return {
        "versions": sorted(report.versions.items(), key=lambda item: item[1].number < 0),
        "source": report.log.get("source", "unknown"),
        "chosen": chosen,
        "libraries": _libraries(chosen.get("libraries")),
        "cutoffs": [date.fromisoformat(day) for day in report.span["cutoffs"]],
        "horizon_days": report.span["horizon_days"],
        "made_at": report.made_at,
        "code_version": report.code_version,
        "run_id": report.run_id,
    }


def _chosen(candidates: pl.DataFrame) -> dict[str, Any]:
    rows = candidates.filter(pl.col("chosen"))
    return rows.row(0, named=True) if rows.height else {}


def _libraries(written: str | None) -> Mapping[str, str]:
    return json.loads(written) if written else {}


# Pictures of the answer and the factors


def _decile_chart(deciles: pl.DataFrame) -> Markup:
    rows = deciles.drop_nulls("risk_decile").to_dicts()
    return charts.columns(
        "deciles",
        "Expected leavers by tenth of users",
        "; ".join(
            f"decile {row['risk_decile']}: {short(row['expected'])} of {row['users']:,} users"
            for row in rows
        )
        + ".",
        [row["expected"] for row in rows],
        [str(row["risk_decile"]) for row in rows],
        short,
        "risk decile (10 is the tenth at most risk)",
    )


def _quartiles(row: Mapping[str, Any], group: str) -> charts.Quartiles:
    low, middle, high = (
        math.nan if row[f"{group}_{name}"] is None else float(row[f"{group}_{name}"])
        for name in ("p25", "median", "p75")
    )
    return low, middle, high


def _quartiles_in_words(row: Mapping[str, Any], group: str) -> dict[str, str]:
    low, middle, high = (in_words(value, row["unit"]) for value in _quartiles(row, group))
    return {"low": low, "median": middle, "high": high}


# Words


def percent(value: float) -> str:
    """12.3% below a fifth, 34% above; never 0% or 100% for what is not."""
    if 0 < value < 0.001:
        return "<0.1%"
    if 0.995 <= value < 1:
        return ">99%"
    if value == 0 or value >= 0.2:
        return f"{value:.0%}"
    return f"{value:.1%}".replace(".0%", "%")


def number(value: float) -> str:
    """Three decimals."""
    return f"{value:.3f}"


def times(value: float) -> str:
    """2.9 times."""
    return f"{value:.1f}×"


def short(value: float) -> str:
    """A count that need not be whole: one decimal below ten."""
    return f"{value:,.0f}" if value >= 9.95 else f"{value:.1f}"


def spoken(name: str) -> str:
    return name.replace("_", " ")


def day(value: date) -> str:
    """1 December 2018."""
    return f"{value.day} {value:%B %Y}"


def interval(value: Estimate | None, show: Callable[[float], str] = number) -> str:
    """0.310 [0.250, 0.380]."""
    if value is None:
        return "not known"
    if value.low is None or value.high is None:
        return show(value.value)
    return f"{show(value.value)} [{show(value.low)}, {show(value.high)}]"


_WRITTEN: Mapping[str, Callable[[float], str]] = {
    "number": number,
    "percent": percent,
    "times": times,
}


# The template


def _written(value: Estimate | None, how: str = "number") -> Markup:
    """An estimate in a table's cell: its interval in smaller type."""
    if value is None:
        return Markup('<span class="unknown">not known</span>')
    head, _, tail = interval(value, _WRITTEN[how]).partition(" ")
    return Markup('{} <span class="interval">{}</span>').format(head, tail)


@cache
def _environment() -> jinja2.Environment:
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("sparkify_assets.report", "templates"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {
        "percent": percent,
        "number": number,
        "times": times,
        "short": short,
        "spoken": spoken,
        "day": day,
        "written": _written,
        "count": lambda value: f"{value:,}",
        "whole": lambda value: f"{value:,.0f}",
    }
    return environment


def _text(name: str) -> str:
    loader = _environment().loader
    assert loader is not None
    return loader.get_source(_environment(), name)[0]


def _hash(script: str) -> str:
    """What the page's own policy allows to run: this script and no other."""
    return base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
