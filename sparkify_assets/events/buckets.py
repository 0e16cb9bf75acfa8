"""Where a user's raw events stand within a part file, so that whole users can be read from many.

Belongs here: the bucket of a user, and the order of a part file. A task that wants the users of
some buckets reads from each part file the stretch that holds them and passes over the rest: a
user's events come together without a shuffle.
Does not belong here: reading and writing files (`storage.py`), cleaning (`clean.py`).
"""

from __future__ import annotations

import itertools
import zlib

import numpy as np
import polars as pl

BUCKETS = 4096
BUCKET = "user_bucket"
# Rows that are read or passed over together (a Parquet row group). Fewer cost more space, more are
# read in vain.
ROWS_TOGETHER = 16_384


def with_buckets(events: pl.DataFrame) -> pl.DataFrame:
    """Events with the bucket of their `user_id`."""
    users = events["user_id"].unique()
    known = pl.DataFrame({"user_id": users, BUCKET: buckets(users)})
    return events.join(known, on="user_id", how="left", nulls_equal=True, maintain_order="left")


def in_order(events: pl.DataFrame) -> pl.DataFrame:
    """Events in order of their buckets and, within one, as they were."""
    return events.sort(BUCKET, maintain_order=True)


def buckets(users: pl.Series) -> pl.Series:
    """The bucket of each user id: CRC-32 modulo BUCKETS, the same everywhere and for good."""
    found = (zlib.crc32((user or "").encode()) % BUCKETS for user in users)
    return pl.Series(np.fromiter(found, np.int64, len(users)))


def ranges(count: int) -> list[tuple[int, int]]:
    """At most `count` ranges of buckets, (first, last), of about equal length."""
    bounds = np.linspace(0, BUCKETS, min(count, BUCKETS) + 1).astype(int).tolist()
    return [(first, after - 1) for first, after in itertools.pairwise(bounds)]
