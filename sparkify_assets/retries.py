"""What Dagster is told of an error: a failure in the error's own words, or to try again.

Belongs here: which steps are tried again, how often and after how long. Does not belong here:
which errors may pass by themselves (`errors.py`).
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING

import dagster as dg

from sparkify_assets.errors import TEMPORARY, SparkifyError

if TYPE_CHECKING:
    from sparkify_assets.resources.spark import SparkResource

# A run with this tag set to "no" is not tried again: somebody is watching it.
RETRIES_TAG = "sparkify/retries"
MOST_RETRIES = 3
FIRST_PAUSE_SECONDS = 20.0
# What may be raised and is meant for Dagster.
KNOWN = (SparkifyError, *TEMPORARY)


@contextlib.contextmanager
def told(
    step: Callable[[], tuple[int, Mapping[str, str]]], pyspark: SparkResource | None = None
) -> Iterator[None]:
    """Within, errors that are meant for people are raised as Dagster shows them, or tries again.

    step: how often it was tried before, and its run's tags. What is raised where Spark is gone says
    little of that, so `pyspark` is asked.
    """
    try:
        yield
    except Exception as error:
        known = (pyspark and pyspark.died()) or error
        if not isinstance(known, KNOWN):
            raise
        attempt, tags = step()
        raise for_dagster(known, attempt=attempt, tags=tags) from error


def for_dagster(error: Exception, *, attempt: int, tags: Mapping[str, str]) -> Exception:
    """What to raise instead of one of KNOWN; attempt: 0 at the first try of the step.

    A pause is twice as long as the one before.
    """
    again = isinstance(error, TEMPORARY) and tags.get(RETRIES_TAG) != "no"
    if again and attempt < MOST_RETRIES:
        return dg.RetryRequested(MOST_RETRIES, FIRST_PAUSE_SECONDS * 2**attempt)
    return dg.Failure(str(error), allow_retries=False)
