"""The report's pictures in the metadata of materializations, behind one click in the UI."""

from collections.abc import Iterable, Iterator, Sequence

import dagster as dg
import polars as pl
from markupsafe import Markup

from sparkify_assets.churn.cutoffs import FORECAST, WHOLE_LOG
from sparkify_assets.report import figures, inline, pictures
from sparkify_assets.resources.io_manager import origin
from sparkify_assets.resources.lake import Lake

Shown = dict[str, dg.MarkdownMetadataValue]


def of_evaluation(predictions: pl.DataFrame, store: Lake, dataset: str) -> Shown:
    """Of each protocol what the chosen model said of users held back, and what happened."""
    found = {}
    for protocol, label in ((FORECAST, "pictures"), (WHOLE_LOG, "pictures_whole_log_LEAKS")):
        tested = figures.tests(predictions, protocol, "grouped")
        if tested:
            found[label] = _markdown(
                _of_tested(protocol, tested), store, dataset, "evaluation_metrics"
            )
    return found


def _of_tested(protocol: str, tested: figures.Tested) -> Iterator[tuple[Markup, str]]:
    for curve in pictures.curves(protocol, [(tested, pictures.style_of(protocol))]):
        yield curve.chart, curve.caption
    yield pictures.confusion(protocol, tested), "Shares are of all that churned, or stayed."


def of_factors(factors: pl.DataFrame, store: Lake, dataset: str) -> Shown:
    caption = (
        "Share of what moves the risk. Orange goes with more churn, blue with less; neither need "
        "be a cause. The ranks are over fits without some of the users."
    )
    charts = [(pictures.factors(factors), caption)]
    return {"picture": _markdown(charts, store, dataset, "churn_factors")}


def of_scores(scores: pl.DataFrame, store: Lake, dataset: str) -> Shown:
    """scores: risk_decile, probability."""
    chart = pictures.expected_by_decile(figures.by_decile(scores))
    caption = "Expected leavers in each tenth of the users."
    return {"picture": _markdown([(chart, caption)], store, dataset, "churn_scores")}


def of_live_metrics(weeks: Sequence[figures.Week], store: Lake, dataset: str) -> Shown:
    """Empty before the horizon of a forecast has passed."""
    if not weeks:
        return {}
    charts = [(picture.chart, picture.caption) for picture in pictures.by_week(weeks)]
    return {"pictures": _markdown(charts, store, dataset, "live_metrics")}


def _markdown(
    charts: Iterable[tuple[Markup, str]], store: Lake, dataset: str, table: str
) -> dg.MarkdownMetadataValue:
    """`table`: the one that is being made, of what the charts show."""
    simulated = bool(origin(store, dataset, table).get("simulated"))
    return dg.MetadataValue.md(inline.markdown(charts, simulated=simulated))
