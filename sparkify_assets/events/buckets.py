"""Buckets of users: by what a day of many events is shared out, each user's whole.

Belongs here: the bucket of a user, and ranges of buckets. Does not belong here: reading and writing
files (`storage.py`), cleaning (`clean.py`).
"""

from __future__ import annotations

import itertools
import zlib

import numpy as np
import polars as pl

BUCKETS = 4096
BUCKET = "user_bucket"


def with_buckets(events: pl.DataFrame) -> pl.DataFrame:
    """Events with the bucket of their `user_id`."""
    users = events["user_id"].unique()
    known = pl.DataFrame({"user_id": users, BUCKET: buckets(users)})
    return events.join(known, on="user_id", how="left", nulls_equal=True, maintain_order="left")


def buckets(users: pl.Series) -> pl.Series:
    """The bucket of each user id: CRC-32 modulo BUCKETS, the same everywhere and for good."""
    found = (zlib.crc32((user or "").encode()) % BUCKETS for user in users)
    return pl.Series(np.fromiter(found, np.int64, len(users)))


def ranges(count: int) -> list[tuple[int, int]]:
    """At most `count` ranges of buckets, (first, last), of about equal length."""
    bounds = np.linspace(0, BUCKETS, min(count, BUCKETS) + 1).astype(int).tolist()
    return [(first, after - 1) for first, after in itertools.pairwise(bounds)]
