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
from collections.abc import Mapping
from datetime import date, timedelta
from functools import cache
from typing import Any

import jinja2
import polars as pl
from markupsafe import Markup

from sparkify_assets.churn.cutoffs import FORECAST, WHOLE_LOG
from sparkify_assets.churn.metrics import METRIC_MEANINGS
from sparkify_assets.churn.models import BASELINES
from sparkify_assets.churn.scoring import in_words
from sparkify_assets.report import charts, figures, findings, inline, pictures, words
from sparkify_assets.report.data import ReportData
from sparkify_assets.report.figures import Estimate
from sparkify_assets.report.measures import BY_METRIC, ESTIMATES, MEASURES, Measure
from sparkify_assets.tables import CHURN_SCORES

MOST_LISTED = 2_000
FIRST_SHOWN = 20  # rows of the list that are there before, or without, its script
_FACTORS_DRAWN = 12
_NAMED_IN_ANSWER = 5
_FEWEST_DRAWN = 10  # churned rows below which a second line is only noise
_WEEKS_LISTED = 26
# What is shown of a week in operation, and how it is written.
_MEASURED_LIVE = (
    ("precision", "percent"),
    ("recall", "percent"),
    ("pr_auc", "number"),
    ("expected_calibration_error", "number"),
)
# What is said of the scoring, not of a user.
_NOT_LISTED = ("events_known", "scored_at", "backfilled")
LISTED = [name for name in CHURN_SCORES.names if name not in _NOT_LISTED]
_YES_OR_NO = "0 or 1"  # the unit of such features

_COMPARED = ("pr_auc", "roc_auc", "lift_top_10", "f1", "balanced_accuracy", "weighted_f1")


def render(report: ReportData) -> str:
    """The page, complete and self-contained: no file or address is fetched when it is opened."""
    script = _text("page.js")
    return (
        _environment()
        .get_template("page.html")
        .render(
            dataset=report.dataset,
            simulated=report.simulated,
            style=Markup(inline.chart_style() + _text("style.css")),
            script=Markup(script),
            script_hash=_hash(script),
            answer=_answer(report),
            factors=_factors(report),
            findings=_findings(report),
            risk=_risk_list(report.scores),
            quality=_model_quality(report),
            outcomes=_outcomes(report),
            data=_data_quality(report),
            provenance=_provenance(report),
        )
    )


# Sections


def _answer(report: ReportData) -> dict[str, Any]:
    scores, span = report.scores, report.span
    start = date.fromisoformat(span["log_end"])
    days = int(span["horizon_days"])
    learned_from = int(report.live.get("churned_users") or 0)
    deciles = figures.by_decile(scores)
    return {
        "expected": figures.expected_leavers(scores["probability"], learned_from),
        "users": scores.height,
        "learned_from": learned_from,
        "days": days,
        "start": start,
        "end": start + timedelta(days=days - 1),
        "top": next(deciles.iter_rows(named=True), None),
        "chart": pictures.expected_by_decile(deciles),
        "at_most_risk": figures.at_most_risk(scores, _NAMED_IN_ANSWER).to_dicts(),
        "themes": figures.themes(report.factors).head(3).to_dicts(),
        "sure": _sure(report),
    }


def _sure(report: ReportData) -> dict[str, Any]:
    """What the honest estimate says of the chosen model, for the sentences of the answer."""
    found = {
        metric: figures.measured(report.metrics, FORECAST, "grouped", metric)
        for metric in ("roc_auc", "pr_auc", "prevalence", "lift_top_10")
    }
    roc, pr = found["roc_auc"], found["pr_auc"]
    rules = {
        name: figures.measured(report.metrics, FORECAST, "grouped", "pr_auc", name)
        for name, features in BASELINES.items()
        if features
    }
    known = {name: value for name, value in rules.items() if value}
    best = max(known, key=lambda name: known[name].value, default=None)
    tested = figures.tests(report.predictions, FORECAST, "grouped")
    return {
        **found,
        "beats_guessing": bool(roc and roc.low is not None and roc.low > 0.5),
        "beats_simple_rule": not best or bool(pr and pr.value > known[best].value),
        "simple_rule": (words.spoken(best), known[best]) if best else None,
        "tested": tested,
        "calibration": figures.calibration(report.metrics, tested, FORECAST, "grouped"),
    }


def _factors(report: ReportData) -> dict[str, Any]:
    ranked = report.factors.sort("rank")
    strongest = max(ranked["share"].drop_nulls().to_list(), default=0.0) or 1.0
    rows = [
        row
        | {
            "bar": (row["share"] or 0.0) / strongest,
            "churned": _group(row, "churned"),
            "stayed": _group(row, "stayed"),
        }
        for row in ranked.iter_rows(named=True)
    ]
    for row in rows[:_FACTORS_DRAWN]:
        row["picture"] = charts.ranges(row["churned"]["quartiles"], row["stayed"]["quartiles"])
    by_theme = figures.themes(report.factors)
    widest = max(by_theme["share"].to_list(), default=0.0) or 1.0
    return {
        "drawn": rows[:_FACTORS_DRAWN],
        "others": rows[_FACTORS_DRAWN:],
        "themes": [row | {"bar": row["share"] / widest} for row in by_theme.iter_rows(named=True)],
        "stability": figures.stability(report.versions["churn_factors"]),
    }


def _findings(report: ReportData) -> dict[str, Any] | None:
    found = findings.findings(report.habits)
    if found is None:
        return None
    return {
        "churned": found.churned,
        "stayed": found.stayed,
        "telling": [use for use in found.pages if use.clear],
        "pictures": pictures.gallery(found),
        "pages": found.pages,
        "per_events": findings.PER_EVENTS,
    }


def _risk_list(scores: pl.DataFrame) -> dict[str, Any]:
    listed = figures.at_most_risk(scores, MOST_LISTED)
    columns = listed.select(LISTED).with_columns(
        pl.col("as_of").cast(pl.String), pl.col("probability").round(6)
    )
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
            "heading": tested.heading,
            "leaks": tested.leaks,
            "tested": figures.tested(report.metrics, tested.protocol, tested.estimate),
        }
        for tested in ESTIMATES
    ]
    return {
        "estimates": estimates,
        "measures": [_measure(report, measure) for measure in MEASURES],
        "live": report.live,
        "newest": report.newest,
        "left_out": report.versions["evaluation_predictions"].metadata.get("left_out", {}),
        "panels": [_panel(report, FORECAST), _panel(report, WHOLE_LOG)],
        "models": _models(report.metrics),
        "profits": figures.profits(report.metrics),
    }


def _outcomes(report: ReportData) -> dict[str, Any]:
    span, cutoffs = report.span, report.versions["score_outcomes"].slices.values()
    backfilled = sum(each.said["backfilled"] for each in cutoffs)
    log_end, days = date.fromisoformat(span["log_end"]), int(span["horizon_days"])
    weeks = figures.weeks(report.live_metrics, log_end, days)
    expected = [
        value.value * week.rows for week in weeks if (value := week.measures["mean_probability"])
    ]
    return {
        "weeks": weeks[::-1][:_WEEKS_LISTED],
        "more": len(weeks) - _WEEKS_LISTED,
        "pictures": pictures.by_week(weeks) if weeks else [],
        "rows": sum(week.rows for week in weeks),
        "expected": sum(expected),
        "churned": sum(week.churned for week in weeks),
        "late_events": sum(week.late_events for week in weeks),
        "cutoffs": len(cutoffs) - backfilled,
        "backfilled": backfilled,
        "measures": [(BY_METRIC[metric].name, metric, how) for metric, how in _MEASURED_LIVE],
        "known_from": log_end + timedelta(days=days),
        "days": days,
    }


def _measure(report: ReportData, measure: Measure) -> dict[str, Any]:
    return {
        "name": measure.name,
        "written": measure.written,
        "meaning": METRIC_MEANINGS[measure.metric],
        "values": [
            figures.measured(report.metrics, protocol, estimate, measure.metric)
            for protocol, estimate, _ in ESTIMATES
        ],
        "seed": figures.SEED_FIGURES.get(report.dataset, {}).get(measure.metric),
    }


def _panel(report: ReportData, protocol: str) -> dict[str, Any]:
    """The pictures of one protocol; the honest one has an estimate by time as well."""
    grouped, temporal = (
        figures.tests(report.predictions, protocol, name) for name in ("grouped", "temporal")
    )
    both = ((grouped, pictures.style_of(protocol)), (temporal, "later"))
    styled = [
        (tested, style)
        for tested, style in both
        if tested and (tested is grouped or tested.happened >= _FEWEST_DRAWN)
    ]
    return {
        "leaks": protocol == WHOLE_LOG,
        "charts": pictures.curves(protocol, styled) if styled else [],
        "two_lines": len(styled) == 2,
        "too_few": temporal.happened if temporal and len(styled) < 2 else None,
        "calibration": figures.calibration(report.metrics, grouped, protocol, "grouped"),
        "confusion": grouped.confusion() if grouped else None,
        "models": pictures.models(report.metrics, protocol),
    }


def _models(table: pl.DataFrame) -> list[dict[str, Any]]:
    compared = [measure for measure in MEASURES if measure.metric in _COMPARED]
    return [
        {
            "heading": tested.heading,
            "leaks": tested.leaks,
            "measures": compared,
            "rows": [
                {
                    "model": name,
                    "values": [
                        figures.measured(
                            table, tested.protocol, tested.estimate, measure.metric, name
                        )
                        for measure in compared
                    ],
                }
                for name in figures.model_names(table)
            ],
        }
        for tested in ESTIMATES
        if figures.tested(table, tested.protocol, tested.estimate)
    ]


def _data_quality(report: ReportData) -> dict[str, Any]:
    first, last = (date.fromisoformat(report.span[name]) for name in ("log_start", "last_day"))
    return {
        "rows": figures.quality(report.versions),
        "bytes": report.log.get("bytes"),
        "rejections": figures.counts_by_kind(report.rejections),
        "first_day": first,
        "last_day": last,
        "days": (last - first).days + 1,
        "users": report.churned.len(),
        "churned": int(report.churned.sum()),
    }


def _provenance(report: ReportData) -> dict[str, Any]:
    live = report.live
    return {
        "versions": list(report.versions.items()),
        "source": "; ".join(report.sources) or "unknown",
        "live": live,
        "libraries": _libraries(live.get("libraries")),
        "cutoffs": [date.fromisoformat(day) for day in report.span["cutoffs"]],
        "horizon_days": report.span["horizon_days"],
        "made_at": report.made_at,
        "code_version": report.code_version,
        "run_id": report.run_id,
    }


def _libraries(written: str | None) -> Mapping[str, str]:
    return json.loads(written) if written else {}


# Factors in words


def _quartiles(row: Mapping[str, Any], group: str) -> charts.Quartiles:
    low, middle, high = (
        math.nan if row[f"{group}_{name}"] is None else float(row[f"{group}_{name}"])
        for name in ("p25", "median", "p75")
    )
    return low, middle, high


def _group(row: Mapping[str, Any], group: str) -> dict[str, Any]:
    """A group's values in words, and the quartiles to draw."""
    low, middle, high = _quartiles(row, group)
    if row["unit"] == _YES_OR_NO:
        share = row[f"{group}_mean"]
        share = math.nan if share is None else share
        typical = "unknown" if math.isnan(share) else f"{words.percent(share)} of them"
        # Quartiles of yes and no say little: the share is drawn as a bar from none.
        return {"typical": typical, "range": "", "quartiles": (0.0, share, share)}
    start, end = in_words(low, row["unit"]), in_words(high, row["unit"])
    for unit in (row["unit"], row["unit"].removesuffix("s"), "times"):
        start = start.removesuffix(f" {unit}")
    return {
        "typical": in_words(middle, row["unit"]),
        "range": f"{start} to {end}",
        "quartiles": (low, middle, high),
    }


# The template


def _written(value: Estimate | None, how: str = "number") -> Markup:
    """An estimate in a table's cell: its interval in smaller type."""
    if value is None:
        return Markup('<span class="unknown">not known</span>')
    head, _, tail = words.interval(value, words.WRITTEN[how]).partition(" ")
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
        "percent": words.percent,
        "number": words.number,
        "signed": words.signed,
        "times": words.times,
        "short": words.short,
        "spoken": words.spoken,
        "day": words.day,
        "as_given": words.as_given,
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
