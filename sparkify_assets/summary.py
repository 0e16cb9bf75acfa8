"""What a run came to, in a few lines for the terminal."""

from __future__ import annotations

import polars as pl

from sparkify_assets.churn.cutoffs import FORECAST, WHOLE_LOG
from sparkify_assets.report import figures, words
from sparkify_assets.resources.lake import Lake
from sparkify_assets.tables import CHURN_FACTORS, EVALUATION_METRICS, MODEL_REGISTRY

_STRONGEST = 5


def summary(lake: Lake, dataset: str) -> str:
    """The main metrics, the strongest factors, and where everything lies."""
    log = lake.version(dataset, "raw_events").metadata
    made = ("raw_events", "evaluation_metrics", "churn_scores")
    simulated = any(lake.version(dataset, name).metadata.get("simulated") for name in made)
    measured = lake.read_polars(dataset, EVALUATION_METRICS)
    scored_by = lake.version(dataset, "churn_scores").metadata["model_version"]
    columns = ["model_version", "model", "pinned", "trained_at"]
    model = lake.read_polars(dataset, MODEL_REGISTRY, columns).row(
        by_predicate=pl.col("model_version") == scored_by, named=True
    )
    factors = lake.read_polars(dataset, CHURN_FACTORS).sort("rank").head(_STRONGEST)
    lines = [
        "",
        *(["SIMULATED data: these figures are about a made-up log."] if simulated else []),
        f"log             {log['source']}",
        "",
        "forecast: who cancels within the horizon, on users the model did not learn from",
        *_figures(measured, FORECAST),
        "",
        "whole_log: who ever cancelled (LEAKS: kept only to compare with the seed)",
        _whole_log(measured, dataset),
        "",
        "what goes most with churn (forecast)",
        *(
            f"  {row['rank']}. {row['meaning']}: {row['direction_words']}"
            for row in factors.iter_rows(named=True)
        ),
        "",
        f"scored by       {model['model']} {scored_by}, trained "
        f"{model['trained_at']:%Y-%m-%d %H:%M} UTC{', pinned' if model['pinned'] else ''}",
        f"lake            {lake.uri}",
        f"report          {lake.folder(dataset, 'churn_report')}/churn_report.html",
    ]
    return "\n".join(lines)


def _figures(measured: pl.DataFrame, protocol: str) -> list[str]:
    lines = []
    for estimate in ("grouped", "temporal"):
        tested = figures.tested(measured, protocol, estimate)
        if tested:
            pr, roc, base = (
                figures.measured(measured, protocol, estimate, metric)
                for metric in ("pr_auc", "roc_auc", "prevalence")
            )
            lines.append(
                f"  {estimate:<10}  PR AUC {words.interval(pr)} (prevalence "
                f"{words.number(base.value) if base else 'not known'})   "
                f"ROC AUC {words.interval(roc)}   {tested[1]:,} of {tested[0]:,} rows churned"
            )
    return lines


def _whole_log(measured: pl.DataFrame, dataset: str) -> str:
    seed = words.as_given(figures.SEED_FIGURES[dataset]["weighted_f1"])
    found, always = (
        figures.measured(measured, WHOLE_LOG, "grouped", metric)
        for metric in ("weighted_f1", "weighted_f1_always_stays")
    )
    stays = words.number(always.value) if always else "not known"
    return f"  weighted F1 {words.interval(found)}   seed {seed}   always saying 'stays' {stays}"
