"""`python -m sparkify_assets.results`: write what the models are worth into README.md.

Belongs here: the README's table of results, made from `evaluation_metrics`, and putting it in its
place. Does not belong here: what measures are called and how figures are written (`report/`).

The table stands between two comments in the README, and nothing else of it is touched. No figure of
it is typed by hand, so none can be of another run than the rest.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import polars as pl

from sparkify_assets.churn.evaluation import CHOSEN
from sparkify_assets.churn.models import BASELINES
from sparkify_assets.datasets import DATASETS, dataset
from sparkify_assets.errors import SparkifyError
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
ROWS: tuple[tuple[str, Sequence[str]], ...] = (
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


def section(name: str, measured: pl.DataFrame, log: Mapping[str, Any]) -> str:
    """A dataset's results as Markdown: where its log came from, and a table.

    measured: `evaluation_metrics`. log: what was said of the log that was read.
    """
    headings = [f"{tested.heading}{' (**LEAKS**)' if tested.leaks else ''}" for tested in ESTIMATES]
    lines = [
        f"**{name}**, {source(log)}",
        "",
        _line(f"{name}{', simulated' if log.get('simulated') else ''}", *headings),
        _line(*["---"] * (1 + len(headings))),
        *(_line(*row) for row in _rows(name, measured)),
    ]
    return "\n".join(lines)


def source(log: Mapping[str, Any]) -> str:
    """Where the log came from. Of a path or URL the last part: the rest is nobody's business."""
    source = str(log.get("source", "unknown"))
    if log.get("simulated"):
        return f"{source}. Every figure is about a made-up log, not about real users."
    return f"from `{source.rstrip('/').rpartition('/')[2]}`, not simulated."


def _rows(name: str, measured: pl.DataFrame) -> Iterator[list[str]]:
    counts = [figures.tested(measured, t.protocol, t.estimate) for t in ESTIMATES]
    yield [
        "rows that churned, of all tested",
        *(f"{found[1]:,} of {found[0]:,}" if found else words.interval(None) for found in counts),
    ]
    for metric, models in ROWS:
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


def results(lake: Lake, names: Sequence[str]) -> str:
    """The sections of these datasets, as they stand between the README's comments."""
    return "\n\n".join(
        section(
            name,
            lake.read_polars(name, EVALUATION_METRICS),
            lake.version(name, "raw_events").metadata,
        )
        for name in names
    )


def put_between(text: str, made: str, begin: str = BEGIN, end: str = END) -> str:
    """`text` with what stands between its two comments replaced. Raises SparkifyError without."""
    if text.count(begin) != 1 or text.count(end) != 1 or text.index(begin) > text.index(end):
        raise SparkifyError(
            "The page is as it was: it needs these two lines, once each and in this order, to "
            f"say where the results go:\n{begin}\n{end}"
        )
    before, _, rest = text.partition(begin)
    return f"{before}{begin}\n\n{made}\n\n{end}{rest.partition(end)[2]}"


def rewrite(page: Path, made: str, begin: str = BEGIN, end: str = END) -> None:
    """Put `made` between a page's two comments; the file is replaced whole.

    Raises SparkifyError, and leaves the page as it was, where it has no place for it.
    """
    try:
        with page.open(encoding="utf-8", newline="") as file:
            text = put_between(file.read(), made, begin, end)
    except FileNotFoundError:
        raise SparkifyError(f"There is no {page}. Start this in the project's folder.") from None
    beside = page.with_name(f".{page.name}.new")
    with beside.open("w", encoding="utf-8", newline="") as file:
        file.write(text)
    os.replace(beside, page)


def write_results(readme: Path, lake: Lake, names: Sequence[str] = ()) -> list[str]:
    """Write the results of these datasets, or of all in the lake, into the README; their names.

    Raises SparkifyError, and leaves it as it was, where it has no place for them or the lake has
    none.
    """
    names = names or [name for name in DATASETS if lake.exists(name, EVALUATION_METRICS.name)]
    if not names:
        raise SparkifyError(
            f"There are no results in the lake {lake.uri} yet. `make run` makes those of mini."
        )
    rewrite(readme, results(lake, names))
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
    parser.add_argument("--readme", type=Path, default=Path("README.md"), help="the file to write")
    given = parser.parse_args(arguments)
    try:
        names = [dataset(name).name for name in dict.fromkeys(given.partition)]
        written = write_results(given.readme, Lake(default_root()), names)
    except SparkifyError as error:
        print(error, file=sys.stderr)
        return 2
    print(f"{given.readme}: results of {' and '.join(written)}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
