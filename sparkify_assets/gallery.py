"""`python -m sparkify_assets.gallery`: write the pictures of the findings into docs/.

Belongs here: the pictures' files and what docs/findings.md says of them, from what is in the lake.
Does not belong here: what the findings are (`report/findings.py`) and how they are drawn
(`report/pictures.py`).
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from sparkify_assets.datasets import DATASETS, dataset
from sparkify_assets.errors import NotEnoughDataError, SparkifyError
from sparkify_assets.pages import rewrite
from sparkify_assets.report import findings, inline, pictures
from sparkify_assets.report.findings import Findings
from sparkify_assets.report.pictures import Picture
from sparkify_assets.resources.lake import Lake, default_root
from sparkify_assets.results import source

BEGIN = "<!-- findings: written by `make pictures`, not by hand -->"
END = "<!-- end of findings -->"


def section(name: str, found: Findings, gallery: Sequence[Picture], log: Mapping[str, Any]) -> str:
    """What the page shows of a dataset, as Markdown. log: what was said of the log it is from."""
    simulated = bool(log.get("simulated"))
    lines = [
        f"**{name}**, {source(log)}",
        f"{found.churned:,} users who churned beside {found.stayed:,} who stayed, over the whole "
        "log (**LEAKS**: it knows who left).",
    ]
    for picture in gallery:
        words = inline.alternative(picture.chart, simulated=simulated)
        lines += [f"### {picture.title}", f"![{words}](pictures/{_file(picture)})"]
    return "\n\n".join(lines)


def _file(picture: Picture) -> str:
    return f"findings-{picture.name}.svg"


def write_gallery(page: Path, lake: Lake, name: str) -> list[Path]:
    """Write a dataset's findings into the page, and their pictures beside it; what was written.

    Raises SparkifyError, and leaves the page as it was, where it has no place for them or there is
    nothing to compare.
    """
    from sparkify_assets.assets.report import habits

    log = lake.version(name, "raw_events").metadata | lake.version(name, "user_days").metadata
    found = findings.findings(habits(lake, name))
    if found is None:
        raise NotEnoughDataError(
            f"There is nothing to compare in {name}: it takes two users who churned and two who "
            "stayed, seen on a day before they left."
        )
    gallery = pictures.gallery(found)
    rewrite({page: section(name, found, gallery, log)}, BEGIN, END)
    folder = page.parent / "pictures"
    folder.mkdir(exist_ok=True)
    for picture in gallery:
        drawn = inline.svg(picture.chart, picture.caption, simulated=bool(log.get("simulated")))
        (folder / _file(picture)).write_text(f"{drawn}\n", encoding="utf-8")
    return [page, *(folder / _file(picture) for picture in gallery)]


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m sparkify_assets.gallery", description=(__doc__ or "").splitlines()[0]
    )
    parser.add_argument(
        "--partition", default="mini", help=f"the dataset: {' or '.join(DATASETS)} (default: mini)"
    )
    parser.add_argument(
        "--page", type=Path, default=Path("docs", "findings.md"), help="the page to write"
    )
    given = parser.parse_args(arguments)
    try:
        written = write_gallery(given.page, Lake(default_root()), dataset(given.partition).name)
    except SparkifyError as error:
        print(error, file=sys.stderr)
        return 2
    print("\n".join(str(file) for file in written))
    return 0


if __name__ == "__main__":
    sys.exit(main())
