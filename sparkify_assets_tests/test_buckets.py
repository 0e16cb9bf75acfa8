"""Buckets of users."""

from __future__ import annotations

import polars as pl
import pytest

from sparkify_assets.events.buckets import BUCKET, BUCKETS, buckets, ranges, with_buckets


def test_buckets_are_for_good() -> None:
    """They are stored, and later runs add to what is there."""
    assert buckets(pl.Series(["", None, "1", "100010"])).to_list() == [0, 0, 4023, 1794]


@pytest.mark.parametrize("count", [1, 2, 7, 36, BUCKETS, 10 * BUCKETS])
def test_ranges_hold_every_bucket_once(count: int) -> None:
    found = ranges(count)
    assert len(found) == min(count, BUCKETS)
    assert [n for first, last in found for n in range(first, last + 1)] == list(range(BUCKETS))


def test_users_without_an_id_are_kept() -> None:
    events = pl.DataFrame({"user_id": ["2", None, "", "2"], "ts": [3, 2, 1, 0]})
    found = with_buckets(events)
    assert found[BUCKET].null_count() == 0
    assert found.filter(user_id="2")["ts"].to_list() == [3, 0]
    assert found.filter(pl.col("user_id").is_null())["ts"].to_list() == [2]
