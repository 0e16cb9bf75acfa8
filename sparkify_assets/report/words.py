"""Figures written for people.

Belongs here: how a count, a day or an interval is spelled. Does not belong here: which figure is
shown (`page.py`), and shares and values in a feature's own unit (`churn/scoring.py`).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import date

from sparkify_assets.churn.scoring import percent
from sparkify_assets.report.figures import Estimate


def number(value: float) -> str:
    """Three decimals; what rounds to nothing has no sign."""
    return f"{round(value, 3) + 0.0:.3f}"


def signed(value: float) -> str:
    """One decimal with its sign, which what rounds to nothing has not."""
    shown = round(value, 1)
    return f"{shown:+.1f}".replace("-", "\N{MINUS SIGN}") if shown else "0"


def brief(value: float) -> str:
    """A number on an axis: 0.25, 1."""
    return f"{value:g}"


def times(value: float) -> str:
    """2.9x."""
    return f"{value:.1f}x"


def rate(value: float) -> str:
    """Two decimals."""
    return f"{value:.2f}"


def as_given(value: float) -> str:
    """A figure that others gave, with the digits they gave: 0.80, 0.8896."""
    return f"{value:.2f}" if round(value, 2) == value else f"{value:g}"


def short(value: float) -> str:
    """A count that need not be whole: one decimal below ten."""
    return f"{value:,.0f}" if value >= 9.95 else f"{value:.1f}"


def spoken(name: str) -> str:
    return name.replace("_", " ")


def day(value: date) -> str:
    """1 December 2018."""
    return f"{value.day} {value:%B %Y}"


def short_day(value: date) -> str:
    """1 Dec."""
    return f"{value.day} {value:%b}"


def interval(value: Estimate | None, show: Callable[[float], str] = number) -> str:
    """0.310 [0.250, 0.380]."""
    if value is None:
        return "not known"
    if value.low is None or value.high is None:
        return show(value.value)
    return f"{show(value.value)} [{show(value.low)}, {show(value.high)}]"


WRITTEN: Mapping[str, Callable[[float], str]] = {
    "number": number,
    "percent": percent,
    "times": times,
    "signed": signed,
    "rate": rate,
}
