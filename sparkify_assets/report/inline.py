"""A chart without the page around it: for Dagster's metadata and for the documentation.

Belongs here: what a chart needs to stand alone, and how Markdown holds it. Does not belong here:
what is drawn (`pictures.py`) and how (`charts.py`).

Always on a light ground: a picture does not know whether the page that shows it is dark.
"""

from __future__ import annotations

import base64
import re
import textwrap
from collections.abc import Iterable
from importlib.resources import files
from xml.etree import ElementTree

from markupsafe import Markup

from sparkify_assets.report import charts

_SVG = "http://www.w3.org/2000/svg"
_MARGIN, _LINE = 12.0, 16.0
_LETTERS = 48  # of a heading's line
_FONT = (
    'svg text { font-family: system-ui, "Segoe UI", Roboto, "Liberation Sans", sans-serif; } '
    "svg text.heading { font-size: 12px; font-weight: 650; fill: var(--ink); } "
    "svg text.heading.simulated { fill: var(--warn-ink); }"
)


def svg(chart: Markup, caption: str = "", *, simulated: bool) -> str:
    """A chart as an SVG document of its own: title above, caption below, its style inside."""
    drawn = ElementTree.fromstring(chart)
    _, _, width, height = (float(part) for part in drawn.attrib["viewBox"].split())
    above = [(line, "heading") for line in textwrap.wrap(_said(drawn, "title"), _LETTERS)]
    if simulated:
        above.append(("Simulated data, not real users", "heading simulated"))
    below = [(line, "caption") for line in textwrap.wrap(caption, charts.LETTERS)]
    top = _MARGIN + _LINE * len(above) + 6
    bottom = top + height + 6
    size = {
        "width": f"{width + 2 * _MARGIN:g}",
        "height": f"{bottom + _LINE * len(below) + _MARGIN:g}",
    }
    picture = ElementTree.Element(
        "svg", {"xmlns": _SVG, **size, "viewBox": f"0 0 {size['width']} {size['height']}"}
    )
    ElementTree.SubElement(picture, "style").text = chart_style() + _FONT
    ElementTree.SubElement(
        picture, "rect", {"width": "100%", "height": "100%", "style": "fill: var(--paper)"}
    )
    _write(picture, above, _MARGIN)
    place = {"x": _MARGIN, "y": top, "width": width, "height": height}
    drawn.attrib |= {name: f"{value:g}" for name, value in place.items()}
    picture.append(drawn)
    _write(picture, below, bottom)
    return ElementTree.tostring(picture, encoding="unicode")


def _write(picture: ElementTree.Element, lines: Iterable[tuple[str, str]], top: float) -> None:
    """Lines of text with their classes, one below the other."""
    for i, (line, style) in enumerate(lines):
        at = {"x": f"{_MARGIN:g}", "y": f"{top + _LINE * i + 12:g}", "class": style}
        ElementTree.SubElement(picture, "text", at).text = line


def markdown(pictures: Iterable[tuple[Markup, str]], *, simulated: bool) -> str:
    """(Chart, caption) pairs as one paragraph of Markdown that holds the pictures whole."""
    return " ".join(
        f"![{alternative(chart, simulated=simulated)}]"
        f"(data:image/svg+xml;base64,{_packed(svg(chart, caption, simulated=simulated))})"
        for chart, caption in pictures
    )


def alternative(chart: Markup, *, simulated: bool) -> str:
    """What a chart shows in words, safe to stand between the brackets of a Markdown picture."""
    drawn = ElementTree.fromstring(chart)
    words = f"{_said(drawn, 'title').rstrip('.')}. {_said(drawn, 'desc')}"
    if simulated:
        words += " Simulated data."
    return re.sub(r"([\\\[\]<>&`*_~|!])", r"\\\1", " ".join(words.split()))


def chart_style() -> str:
    """Colours and looks of charts, the same in the page and in pictures of their own."""
    return files(__package__).joinpath("templates", "charts.css").read_text(encoding="utf-8")


def _said(drawn: ElementTree.Element, tag: str) -> str:
    return drawn.findtext(tag) or ""


def _packed(text: str) -> str:
    return base64.b64encode(text.encode()).decode()
