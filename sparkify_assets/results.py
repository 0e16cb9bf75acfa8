"""`python -m sparkify_assets.results`: write what the models are worth into README and docs.

Belongs here: the tables of results, made from `evaluation_metrics`, and putting them in their
places. Does not belong here: what measures are called and how figures are written (`report/`).

A table stands between two comments, and nothing else of its file is touched. No figure of it is
typed by hand, so none can be of another run than the rest.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import polars as pl

from sparkify_assets.churn.evaluation import CHOSEN
from sparkify_assets.churn.models import BASELINES
from sparkify_assets.datasets import DATASETS, dataset
from sparkify_assets.errors import SparkifyError
from sparkify_assets.pages import rewrite
from sparkify_assets.report import figures, words
from sparkify_assets.report.measures import BY_METRIC, ESTIMATES
from sparkify_assets.resources.lake import Lake, default_root
from sparkify_assets.tables import EVALUATION_METRICS

BEGIN = "<!-- results: written by `make results`, not by hand -->"
END = "<!-- end of results -->"

# What is shown beside the chosen model: the simplest candidate, and the rules that look at
# something. The one that looks at nothing is the row of guessing.
BESIDE = ("logistic_regression", *(name for name, seen in BASELINES.items() if seen))
# Metric and the models it is shown of.
Rows = Sequence[tuple[str, Sequence[str]]]
ROWS: Rows = (
    ("pr_auc", (CHOSEN, *BESIDE)),
    ("prevalence", (CHOSEN,)),
    ("roc_auc", (CHOSEN, *BESIDE)),
    ("lift_top_10", (CHOSEN, *BESIDE)),
    ("balanced_accuracy", (CHOSEN,)),
    ("brier_score", (CHOSEN,)),
    ("expected_calibration_error", (CHOSEN,)),
    ("f1", (CHOSEN,)),
    ("weighted_f1_always_stays", (CHOSEN,)),
    ("weighted_f1", (CHOSEN,)),
)
# The README has the main ones, a page of the docs all of them.
PLACES: Mapping[str, Rows] = {
    "README.md": (
        ("pr_auc", (CHOSEN, "sessions_per_day")),
        ("prevalence", (CHOSEN,)),
        ("roc_auc", (CHOSEN,)),
        ("lift_top_10", (CHOSEN,)),
        ("expected_calibration_error", (CHOSEN,)),
        ("weighted_f1_always_stays", (CHOSEN,)),
        ("weighted_f1", (CHOSEN,)),
    ),
    "docs/results.md": ROWS,
}


def section(name: str, measured: pl.DataFrame, log: Mapping[str, Any], rows: Rows = ROWS) -> str:
    """A dataset's results as Markdown: where its log came from, and a table.

    measured: `evaluation_metrics`. log: what was said of the log that was read.
    """
    headings = [f"{tested.heading}{' (**LEAKS**)' if tested.leaks else ''}" for tested in ESTIMATES]
    lines = [
        f"**{name}**, {source(log)}",
        "",
        _line(f"{name}{', simulated' if log.get('simulated') else ''}", *headings),
        _line(*["---"] * (1 + len(headings))),
        *(_line(*row) for row in _cells(name, measured, rows)),
    ]
    return "\n".join(lines)


def source(log: Mapping[str, Any]) -> str:
    """Where the log came from. Of a path or URL the last part: the rest is nobody's business."""
    source = str(log.get("source", "unknown"))
    if log.get("simulated"):
        return f"{source}. Every figure is about a made-up log, not about real users."
    return f"from `{source.rstrip('/').rpartition('/')[2]}`, not simulated."


def _cells(name: str, measured: pl.DataFrame, rows: Rows) -> Iterator[list[str]]:
    counts = [figures.tested(measured, t.protocol, t.estimate) for t in ESTIMATES]
    yield [
        "rows that churned, of all tested",
        *(f"{found[1]:,} of {found[0]:,}" if found else words.interval(None) for found in counts),
    ]
    for metric, models in rows:
        measure = BY_METRIC[metric]
        for model in models:
            values = [
                figures.measured(measured, t.protocol, t.estimate, metric, model) for t in ESTIMATES
            ]
            what = measure.name if model == CHOSEN else f"&emsp;{words.spoken(model)}"
            yield [what, *(measure.write(value) for value in values)]
        seed = figures.SEED_FIGURES.get(name, {}).get(metric)
        if seed is not None:
            only = [words.as_given(seed) if t.leaks else "" for t in ESTIMATES]
            yield ["&emsp;the notebook before this project, on the real file", *only]


def _line(*cells: str) -> str:
    return f"| {' | '.join(cells)} |"


def results(lake: Lake, names: Sequence[str], rows: Rows) -> str:
    """The sections of these datasets, as they stand between a file's comments."""
    return "\n\n".join(
        section(
            name,
            lake.read_polars(name, EVALUATION_METRICS),
            # What the figures come from; a lake of long ago says it of the log alone.
            lake.version(name, "raw_events").metadata
            | lake.version(name, EVALUATION_METRICS.name).metadata,
            rows,
        )
        for name in names
    )


def write_results(folder: Path, lake: Lake, names: Sequence[str] = ()) -> list[str]:
    """Write the results of these datasets, or of all in the lake, into PLACES; their names.

    Raises SparkifyError, and leaves all as they were, where one has no place for them or the lake
    has none.
    """
    names = names or [name for name in DATASETS if lake.exists(name, EVALUATION_METRICS.name)]
    if not names:
        raise SparkifyError(
            f"There are no results in the lake {lake.uri} yet. `make run` makes those of mini."
        )
    pages = {folder / place: results(lake, names, rows) for place, rows in PLACES.items()}
    rewrite(pages, BEGIN, END)
    return list(names)


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m sparkify_assets.results", description=(__doc__ or "").splitlines()[0]
    )
    parser.add_argument(
        "--partition",
        action="append",
        default=[],
        help=f"a dataset, {' or '.join(DATASETS)}; may be repeated (default: all in the lake)",
    )
    parser.add_argument("--folder", type=Path, default=Path(), help="the project's (default: here)")
    given = parser.parse_args(arguments)
    try:
        names = [dataset(name).name for name in dict.fromkeys(given.partition)]
        written = write_results(given.folder, Lake(default_root()), names)
    except SparkifyError as error:
        print(error, file=sys.stderr)
        return 2
    print(f"{' and '.join(PLACES)}: results of {' and '.join(written)}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
