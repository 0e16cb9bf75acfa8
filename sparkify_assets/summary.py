"""What a run came to, in a few lines for the terminal."""

from __future__ import annotations

import polars as pl

from sparkify_assets.churn.cutoffs import FORECAST, WHOLE_LOG
from sparkify_assets.churn.evaluation import CHOSEN
from sparkify_assets.report.figures import SEED_FIGURES
from sparkify_assets.resources.lake import Lake
from sparkify_assets.tables import CHURN_FACTORS, EVALUATION_METRICS, MODEL_REGISTRY

_STRONGEST = 5


def summary(lake: Lake, dataset: str) -> str:
    """The main metrics, the strongest factors, and where everything lies."""
    log = lake.version(dataset, "raw_events").metadata
    measured = lake.read_polars(dataset, EVALUATION_METRICS)
    scored_by = lake.version(dataset, "churn_scores").metadata["model_version"]
    columns = ["model_version", "model", "pinned", "trained_at"]
    model = lake.read_polars(dataset, MODEL_REGISTRY, columns).row(
        by_predicate=pl.col("model_version") == scored_by, named=True
    )
    factors = lake.read_polars(dataset, CHURN_FACTORS).sort("rank").head(_STRONGEST)
    lines = [
        "",
        *(["SIMULATED data: these figures are about a made-up log."] if log["simulated"] else []),
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
    estimates = measured.filter((pl.col("protocol") == protocol) & (pl.col("model") == CHOSEN))[
        "estimate"
    ].unique()
    for estimate in sorted(estimates):
        pr, roc = (_figure(measured, protocol, estimate, m) for m in ("pr_auc", "roc_auc"))
        base = _row(measured, protocol, estimate, "prevalence")
        lines.append(
            f"  {estimate:<10}  PR AUC {pr} (prevalence {base['value']:.3f})   ROC AUC {roc}   "
            f"{base['positives']:,} of {base['rows']:,} rows churned"
        )
    return lines


def _whole_log(measured: pl.DataFrame, dataset: str) -> str:
    seed = SEED_FIGURES[dataset]["weighted_f1"]
    figure = _figure(measured, WHOLE_LOG, "grouped", "weighted_f1")
    always = _row(measured, WHOLE_LOG, "grouped", "weighted_f1_always_stays")["value"]
    return f"  weighted F1 {figure}   seed {seed:.2f}   always saying 'stays' {always:.3f}"


def _row(measured: pl.DataFrame, protocol: str, estimate: str, metric: str) -> dict:
    return measured.row(
        by_predicate=(pl.col("protocol") == protocol)
        & (pl.col("estimate") == estimate)
        & (pl.col("model") == CHOSEN)
        & (pl.col("metric") == metric),
        named=True,
    )


def _figure(measured: pl.DataFrame, protocol: str, estimate: str, metric: str) -> str:
    row = _row(measured, protocol, estimate, metric)
    return f"{row['value']:.3f} [{row['ci_low']:.3f}, {row['ci_high']:.3f}]"
