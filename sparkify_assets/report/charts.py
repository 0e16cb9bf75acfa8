"""Pictures as inline SVG: they scale, print, follow the page's colours and need no library.

Belongs here: geometry. Does not belong here: which figures are drawn (`pictures.py`) and colours
(`templates/charts.css`, by class).

Every picture has a title and a description for those who cannot see it; text is escaped.
"""

from __future__ import annotations

import math
import textwrap
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from markupsafe import Markup, escape

from sparkify_assets.report.figures import Estimate

_WIDTH = 360.0
_HEIGHT = 250.0
_LEFT, _RIGHT, _TOP, _BOTTOM = 54.0, 18.0, 12.0, 42.0
LETTERS = 62  # that fit into a picture's width


@dataclass(frozen=True)
class Axis:
    """An axis from 0 to `high`; `show` writes a tick."""

    label: str
    high: float
    show: Callable[[float], str]

    @property
    def ticks(self) -> list[float]:
        step = _nice(self.high / 4)
        return [step * i for i in range(int(self.high / step + 1e-9) + 1)]


@dataclass(frozen=True)
class Series:
    """A line, or dots joined by one. `style` is a class: honest, later, leaking, guess, perfect."""

    x: Iterable[float]
    y: Iterable[float]
    style: str
    dots: bool = False


def lines(
    name: str, title: str, description: str, x: Axis, y: Axis, series: Sequence[Series]
) -> Markup:
    """Lines in one frame; `name` must be unique on the page."""
    across, up = _WIDTH - _LEFT - _RIGHT, _HEIGHT - _TOP - _BOTTOM

    def place(px: float, py: float) -> tuple[float, float]:
        inside = min(max(px / x.high, 0.0), 1.0), min(max(py / y.high, 0.0), 1.0)
        return _LEFT + inside[0] * across, _TOP + (1 - inside[1]) * up

    drawn: list[Markup] = []
    for tick in y.ticks:
        at = place(0, tick)[1]
        drawn.append(_line(_LEFT, at, _WIDTH - _RIGHT, at, "grid"))
        drawn.append(_text(y.show(tick), _LEFT - 6, at + 4, "end"))
    drawn += [
        _text(x.show(tick), place(tick, 0)[0], _HEIGHT - _BOTTOM + 17, "middle") for tick in x.ticks
    ]
    drawn.append(_line(_LEFT, _HEIGHT - _BOTTOM, _WIDTH - _RIGHT, _HEIGHT - _BOTTOM, "axis"))
    drawn.append(_text(x.label, _LEFT + across / 2, _HEIGHT - 6, "middle", "label"))
    turned = f"rotate(-90 11 {_TOP + up / 2:.1f})"
    drawn.append(_text(y.label, 11, _TOP + up / 2, "middle", "label", transform=turned))
    for one in series:
        points = [place(px, py) for px, py in zip(one.x, one.y, strict=True)]
        path = " ".join(f"{px:.1f},{py:.1f}" for px, py in points)
        drawn.append(_tag("polyline", points=path, class_=f"line {one.style}"))
        if one.dots:
            drawn += [_dot(px, py, one.style) for px, py in points]
    return _picture(name, title, description, _WIDTH, _HEIGHT, drawn)


def columns(
    name: str,
    title: str,
    description: str,
    values: Sequence[float],
    labels: Sequence[str],
    show: Callable[[float], str],
    label: str,
) -> Markup:
    """A column a value, each with its value above and its label below; the first stands out."""
    height, top, bottom = 190.0, 20.0, 42.0
    highest = max([*values, 1e-12])
    slot = _WIDTH / max(1, len(values))
    drawn: list[Markup] = []
    for i, (value, words) in enumerate(zip(values, labels, strict=True)):
        tall = value / highest * (height - top - bottom)
        low = height - bottom
        style = "column first" if i == 0 else "column"
        place = (i * slot + slot * 0.12, low - tall, slot * 0.76, tall)
        drawn.append(_rectangle(*place, style, rx="2"))
        middle = (i + 0.5) * slot
        drawn.append(_text(show(value), middle, low - tall - 5, "middle", "value"))
        drawn.append(_text(words, middle, low + 16, "middle"))
    drawn.append(_line(0, height - bottom, _WIDTH, height - bottom, "axis"))
    drawn.append(_text(label, _WIDTH / 2, height - 6, "middle", "label"))
    return _picture(name, title, description, _WIDTH, height, drawn)


def intervals(
    name: str,
    title: str,
    description: str,
    rows: Sequence[tuple[str, Estimate, str]],
    axis: Axis,
    show: Callable[[float], str],
    reference: float | None = None,
) -> Markup:
    """A row a (name, value with interval, class): a dot on a whisker, and the value."""
    left, right, step = 126.0, 44.0, 24.0
    height = step * len(rows) + 44
    across = _WIDTH - left - right

    def place(value: float) -> float:
        return left + min(max(value / axis.high, 0.0), 1.0) * across

    bottom = height - 40
    drawn = [_line(place(t), 4, place(t), bottom, "grid") for t in axis.ticks]
    drawn += [_text(axis.show(t), place(t), bottom + 16, "middle") for t in axis.ticks]
    drawn.append(_text(axis.label, left + across / 2, height - 4, "middle", "label"))
    if reference is not None:
        drawn.append(_line(place(reference), 4, place(reference), bottom, "line guess"))
    for i, (words, (value, low, high), style) in enumerate(rows):
        y = step * i + 16
        drawn.append(_text(words, left - 8, y + 4, "end", style))
        if low is not None and high is not None:
            drawn.append(_line(place(low), y, place(high), y, f"line {style}"))
        drawn.append(_dot(place(value), y, style))
        drawn.append(_text(show(value), _WIDTH - 2, y + 4, "end", f"value {style}"))
    return _picture(name, title, description, _WIDTH, height, drawn)


# What two columns side by side stand for, and their classes.
Groups = tuple[tuple[str, str], tuple[str, str]]
CHURNED_AND_STAYED: Groups = (("churned", "churned"), ("stayed", "stayed"))


def pairs(
    name: str,
    title: str,
    description: str,
    rows: Sequence[tuple[str, Estimate | None, Estimate | None]],
    y: Axis,
    label: str,
    groups: Groups = CHURNED_AND_STAYED,
) -> Markup:
    """A slot a (label, first, second): two columns with their intervals as whiskers.

    groups: what the first and the second are called, and their classes. None leaves a column out.
    """
    height, left, top = 236.0, 48.0, 28.0
    bottom = height - _BOTTOM
    slot = (_WIDTH - left) / max(1, len(rows))

    def place(value: float) -> float:
        return bottom - min(max(value / y.high, 0.0), 1.0) * (bottom - top)

    drawn: list[Markup] = []
    for (words, style), x in zip(groups, (left, left + 76), strict=True):
        drawn.append(_rectangle(x, 4, 10, 10, f"pillar {style}"))
        drawn.append(_text(words, x + 15, 13, "start"))
    for tick in y.ticks:
        drawn.append(_line(left, place(tick), _WIDTH, place(tick), "grid"))
        drawn.append(_text(y.show(tick), left - 6, place(tick) + 4, "end"))
    for i, (words, *both) in enumerate(rows):
        for estimate, (_, style), at in zip(both, groups, (0.12, 0.52), strict=True):
            if estimate is None:
                continue
            value, low, high = estimate
            x, wide = left + (i + at) * slot, slot * 0.36
            drawn.append(
                _rectangle(x, place(value), wide, bottom - place(value), f"pillar {style}")
            )
            if low is not None and high is not None:
                middle = x + wide / 2
                drawn.append(_line(middle, place(low), middle, place(high), "whisker"))
        drawn.append(_text(words, left + (i + 0.5) * slot, bottom + 16, "middle", "tick small"))
    drawn.append(_line(left, bottom, _WIDTH, bottom, "axis"))
    drawn.append(_text(label, left + (_WIDTH - left) / 2, height - 6, "middle", "label"))
    turned = f"rotate(-90 11 {(top + bottom) / 2:.1f})"
    drawn.append(_text(y.label, 11, (top + bottom) / 2, "middle", "label", transform=turned))
    return _picture(name, title, description, _WIDTH, height, drawn)


def bars(
    name: str,
    title: str,
    description: str,
    rows: Sequence[tuple[str, float, str, str]],
) -> Markup:
    """A row a (words, value, note, class): the words, and below them a bar with its note."""
    line, gap = 14.0, 26.0
    highest = max([value for _, value, _, _ in rows], default=0.0) or 1.0
    drawn: list[Markup] = []
    y = 0.0
    for words, value, note, style in rows:
        for part in textwrap.wrap(words, LETTERS):
            y += line
            drawn.append(_text(part, 0, y, "start", "words"))
        long = max(value / highest * (_WIDTH - 130), 2.0)
        drawn.append(_rectangle(0, y + 5, long, 9, f"strip {style}", rx="2"))
        drawn.append(_text(note, long + 6, y + 13, "start", "value"))
        y += gap
    return _picture(name, title, description, _WIDTH, max(y - 6, 1.0), drawn)


def squares(
    name: str,
    title: str,
    description: str,
    headings: Sequence[str],
    rows: Sequence[tuple[str, Sequence[tuple[str, str, float, str]]]],
) -> Markup:
    """A row of squares a (words, cells); a cell is its value, a note, how dark it is, a class."""
    left, top, tall = 84.0, 22.0, 72.0
    wide = (_WIDTH - left) / len(headings)
    drawn = [
        _text(words, left + (i + 0.5) * wide, top - 8, "middle", "label")
        for i, words in enumerate(headings)
    ]
    for i, (words, cells) in enumerate(rows):
        y = top + i * tall
        drawn.append(_text(words, left - 8, y + tall / 2 + 4, "end", "label"))
        for j, (value, note, dark, style) in enumerate(cells):
            x = left + j * wide
            shade = f"{0.08 + 0.42 * min(max(dark, 0.0), 1.0):.2f}"
            place = (x + 2, y + 2, wide - 4, tall - 4)
            drawn.append(_rectangle(*place, f"square {style}", rx="4", fill_opacity=shade))
            drawn.append(_text(value, x + wide / 2, y + tall / 2, "middle", "value large"))
            drawn.append(_text(note, x + wide / 2, y + tall / 2 + 18, "middle"))
    return _picture(name, title, description, _WIDTH, top + tall * len(rows), drawn)


Quartiles = tuple[float, float, float]


def ranges(churned: Quartiles, stayed: Quartiles) -> Markup:
    """Two bars from lower to upper quartile with a mark at the median, on one scale.

    Beside a table's cells that hold the same figures, so it is hidden from screen readers.
    """
    width, height, edge = 180.0, 26.0, 5.0
    known = [v for v in (*churned, *stayed) if not math.isnan(v)]
    low, high = min(known, default=0.0), max(known, default=1.0)
    scale = (width - 2 * edge) / ((high - low) or 1.0)
    drawn: list[Markup] = []
    for y, (p25, median, p75), style in ((4.0, churned, "churned"), (15.0, stayed, "stayed")):
        if any(math.isnan(v) for v in (p25, median, p75)):
            continue
        start, middle, end = (edge + (v - low) * scale for v in (p25, median, p75))
        drawn.append(_rectangle(start - 1, y, end - start + 2, 7, f"range {style}", rx="3.5"))
        drawn.append(_tag("circle", cx=_number(middle), cy=_number(y + 3.5), r="4.5", class_=style))
    return _tag(
        "svg",
        *drawn,
        viewBox=f"0 0 {width:g} {height:g}",
        class_="ranges",
        aria_hidden="true",
        focusable="false",
    )


def axis_up_to(label: str, values: Iterable[float], show: Callable[[float], str]) -> Axis:
    """An axis that holds all values and ends at a round one."""
    highest = max([v for v in values if not math.isnan(v)], default=0.0) or 1.0
    step = _nice(highest / 4)
    return Axis(label, math.ceil(highest / step - 1e-9) * step, show)


def _nice(step: float) -> float:
    """The next 1, 2, 2.5 or 5 times a power of ten."""
    power = 10.0 ** math.floor(math.log10(step))
    return next(n * power for n in (1, 2, 2.5, 5, 10) if n * power >= step * (1 - 1e-9))


def _picture(
    name: str, title: str, description: str, width: float, height: float, drawn: Sequence[Markup]
) -> Markup:
    return _tag(
        "svg",
        _tag("title", title, id=f"{name}-title"),
        _tag("desc", description, id=f"{name}-desc"),
        *drawn,
        viewBox=f"0 0 {width:g} {height:g}",
        role="img",
        aria_labelledby=f"{name}-title {name}-desc",
        class_="chart",
    )


def _line(x1: float, y1: float, x2: float, y2: float, style: str) -> Markup:
    ends = {"x1": _number(x1), "y1": _number(y1), "x2": _number(x2), "y2": _number(y2)}
    return _tag("line", **ends, class_=style)


def _text(words: str, x: float, y: float, anchor: str, style: str = "tick", **more: str) -> Markup:
    return _tag("text", words, x=_number(x), y=_number(y), text_anchor=anchor, class_=style, **more)


def _rectangle(x: float, y: float, width: float, height: float, style: str, **more: str) -> Markup:
    sides = {"x": x, "y": y, "width": width, "height": height}
    written = {name: _number(side) for name, side in sides.items()}
    return _tag("rect", **written, class_=style, **more)


def _dot(x: float, y: float, style: str) -> Markup:
    return _tag("circle", cx=_number(x), cy=_number(y), r="4", class_=f"dot {style}")


def _number(value: float) -> str:
    return f"{value:.1f}"


def _tag(name: str, *inside: str, **attributes: str) -> Markup:
    """An element; attribute names write - as _, and class as class_."""
    written = Markup("").join(
        Markup(' {}="{}"').format(key.rstrip("_").replace("_", "-"), value)
        for key, value in attributes.items()
    )
    content = Markup("").join(escape(part) for part in inside)
    return Markup("<{0}{1}>{2}</{0}>").format(Markup(name), written, content)
