"""The report's pictures without the page: whole, in their own style, and safe in Markdown."""

from __future__ import annotations

import base64
import re
from typing import Any
from xml.etree import ElementTree

import numpy as np
import polars as pl
import pytest
from markupsafe import Markup

from sparkify_assets.report import charts, figures, inline, pictures
from sparkify_assets.report.figures import Estimate
from sparkify_assets_tests.running import Run

HOSTILE = "</title></svg><script>alert(1)</script> ](javascript:x) & \"'` <b> [a]\n| *"
SVG = "{http://www.w3.org/2000/svg}"
MOST_BYTES = 100_000


def hostile() -> Markup:
    axis = charts.Axis(HOSTILE, 2.0, str)
    return charts.intervals(
        HOSTILE, HOSTILE, HOSTILE, [(HOSTILE, Estimate(1, 0.5, 1.5), "other")], axis, str
    )


def unpacked(markdown: str) -> list[ElementTree.Element]:
    packed = re.findall(r"\(data:image/svg\+xml;base64,([A-Za-z0-9+/=]+)\)", markdown)
    return [ElementTree.fromstring(base64.b64decode(each)) for each in packed]


def words(picture: ElementTree.Element) -> list[str]:
    return [text.text or "" for text in picture.iter(f"{SVG}text")]


@pytest.mark.parametrize("simulated", [True, False])
def test_a_picture_stands_alone(simulated: bool) -> None:
    chart = charts.bars("n", "A title.", "In words.", [("songs", 0.5, "50%", "up")])
    picture = ElementTree.fromstring(inline.svg(chart, simulated=simulated))
    assert picture.tag == f"{SVG}svg"
    width, height = float(picture.attrib["width"]), float(picture.attrib["height"])
    assert picture.attrib["viewBox"] == f"0 0 {width:g} {height:g}"
    (nested,) = picture.findall(f"{SVG}svg")
    assert float(nested.attrib["y"]) + float(nested.attrib["height"]) <= height
    assert (nested.findtext(f"{SVG}title"), nested.findtext(f"{SVG}desc")) == (
        "A title.",
        "In words.",
    )
    assert words(picture)[0] == "A title."
    assert ("Simulated data, not real users" in words(picture)) == simulated


def test_its_style_has_every_colour_it_names() -> None:
    picture = ElementTree.fromstring(inline.svg(hostile(), simulated=True))
    style = picture.findtext(f"{SVG}style") or ""
    assert set(re.findall(r"var\((--[a-z-]+)\)", style)) <= set(re.findall(r"(--[a-z-]+):", style))
    assert "prefers-color-scheme" not in style  # always on a light ground
    assert "url(" not in style
    (ground,) = picture.findall(f"{SVG}rect")
    assert (ground.attrib["width"], ground.attrib["height"]) == ("100%", "100%")


def test_hostile_text_stays_text() -> None:
    said = inline.markdown([(hostile(), "caption")], simulated=False)
    (picture,) = unpacked(said)
    assert not list(picture.iter(f"{SVG}script"))
    assert HOSTILE in words(picture)
    alternative = said[2 : said.index("](data:")]
    assert "\n" not in alternative
    # Every sign that Markdown could read is escaped, and nothing else was lost.
    assert not re.search(r"(?<!\\)(?:\\\\)*[\[\]<>*`]", alternative)
    assert re.sub(r"\\(.)", r"\1", alternative).startswith(" ".join(HOSTILE.split()))
    assert words(picture)[-1] == "caption"


def test_confusion_says_shares_of_what_happened() -> None:
    label = np.array([True] * 4 + [False] * 10)
    flagged = np.array([True] * 3 + [False] + [True] * 2 + [False] * 8)
    chart = pictures.confusion("whole_log", figures.Tested(label, label.astype(float), flagged))
    picture = ElementTree.fromstring(chart)
    assert words_of(picture) == [
        *("churned", "stayed"),
        *("flagged", "3", "75%", "2", "20%"),
        *("not flagged", "1", "25%", "8", "80%"),
    ]
    styles = [square.attrib["class"] for square in picture.iter("rect")]
    assert styles == ["square right", "square wrong", "square wrong", "square right"]
    assert "LEAKS" in (picture.findtext("title") or "")
    said = "Of 4 rows that churned 3 were flagged; of 10 that stayed 2 were."
    assert picture.findtext("desc") == said


def words_of(chart: ElementTree.Element) -> list[str]:
    return [text.text or "" for text in chart.iter("text")]


def test_factors_say_weight_and_ranks() -> None:
    rows = [
        {"meaning": "x " * 60, "rank": 2, "rank_low": 1, "rank_high": 3, "share": 0.25},
        {"meaning": "days quiet", "rank": 1, "rank_low": 1, "rank_high": 1, "share": 0.75},
    ]
    more: dict[str, Any] = {"direction": 1, "direction_words": "more of it goes with more churn"}
    said = words_of(
        ElementTree.fromstring(pictures.factors(pl.DataFrame([r | more for r in rows])))
    )
    assert said[:2] == ["days quiet", "75%, rank 1"]
    assert said[-1] == "25%, rank 1 to 3"
    assert len(said) == 5  # a long meaning takes two lines


def test_the_pipeline_shows_them(finished: Run) -> None:
    """What Dagster's UI gets: small pictures, called simulated, and LEAKS where they leak."""
    shown = {
        (asset, label): value
        for asset, metadata in finished.materialized.items()
        for label, value in metadata.items()
        if label.startswith("picture")
    }
    assert {key: len(unpacked(value)) for key, value in shown.items()} == {
        ("evaluation_metrics", "pictures"): 4,
        ("evaluation_metrics", "pictures_whole_log_LEAKS"): 4,
        ("churn_factors", "picture"): 1,
        ("churn_scores", "picture"): 1,
    }
    for (_, label), value in shown.items():
        assert len(value) < MOST_BYTES
        for picture in unpacked(value):
            assert "Simulated data, not real users" in words(picture)
            assert ("LEAKS" in " ".join(words(picture))) == label.endswith("LEAKS")
