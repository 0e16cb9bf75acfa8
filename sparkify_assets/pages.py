"""Parts of the project's own pages that are made, not typed, so that they cannot be out of step.

Belongs here: putting a made part in its place between two comments of a page. Does not belong here:
what is made (`results.py`, `gallery.py`).
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

from sparkify_assets.errors import SparkifyError


def rewrite(made: Mapping[Path, str], begin: str, end: str) -> None:
    """Put a part between the two comments of each page; nothing else of a page is touched.

    Raises SparkifyError, and leaves all pages as they were, where one has no place for it.
    """
    texts = {page: put_between(page, part, begin, end) for page, part in made.items()}
    for page, text in texts.items():
        beside = page.with_name(f".{page.name}.new")
        with beside.open("w", encoding="utf-8", newline="") as file:
            file.write(text)
        os.replace(beside, page)


def put_between(page: Path, part: str, begin: str, end: str) -> str:
    """The page's text with what stands between the two comments replaced."""
    try:
        with page.open(encoding="utf-8", newline="") as file:
            text = file.read()
    except FileNotFoundError:
        raise SparkifyError(f"There is no {page}. Start this in the project's folder.") from None
    if text.count(begin) != 1 or text.count(end) != 1 or text.index(begin) > text.index(end):
        raise SparkifyError(
            f"{page} is as it was: it needs these two lines, once each and in this order, to say "
            f"what goes where:\n{begin}\n{end}"
        )
    before, _, rest = text.partition(begin)
    return f"{before}{begin}\n\n{part}\n\n{end}{rest.partition(end)[2]}"
