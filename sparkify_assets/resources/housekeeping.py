"""Keeping a lake small and quick to read: rows in few files, and nothing for longer than needed.

Belongs here: which part files are put together, which old versions are kept, and what expires.
Does not belong here: how files are committed and removed (`lake.py`), and when it is done
(`automation/`).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from datetime import date, datetime, timedelta, timezone
from itertools import groupby
from typing import NamedTuple

import polars as pl

from sparkify_assets.churn.registry import LIVE
from sparkify_assets.resources.lake import Lake
from sparkify_assets.storage import PartFile, read_part, remove_parts, write_part
from sparkify_assets.tables import (
    CLEANED_EVENTS,
    MODEL_REGISTRY,
    RAW_EVENTS,
    REJECTED_LINES,
    TABLES,
    Table,
)

# Part files of a slice are put together up to this size. As much is held in memory, unpacked.
ENOUGH_BYTES = 32 * 2**20
# Whose versions the live and pinned models were made from, by the column that tells the version.
_NEEDED = {"feature_table": "feature_table_version", "trained_model": "trained_model_version"}


class Kept(NamedTuple):
    """What became of a table."""

    table: str
    files: int
    files_before: int
    size: int  # bytes of all in its folder
    size_before: int
    removed: int  # files


def keep(lake: Lake, dataset: str, keep_days: int, raw_days: int | None = None) -> list[Kept]:
    """Put small part files together, and remove what is older than `keep_days` and not needed.

    Every version that was the newest within these days stays readable, and so do those that the
    live model and pinned ones were made from. raw_days: as old are lines that `expire`; None: they
    stay. Raises ConflictError where somebody else writes.
    """
    needed = needed_versions(lake, dataset)
    kept = []
    if raw_days is not None:
        expire(lake, dataset, datetime.now(timezone.utc).date() - timedelta(days=raw_days))
    for name, table in TABLES.items():
        if not lake.exists(dataset, name):
            continue
        before, size = lake.version(dataset, name).files, lake.size(dataset, name)
        compact(lake, dataset, table)
        removed = lake.vacuum(
            dataset, name, keep_hours=24 * keep_days, keep_versions=needed.get(name, ())
        )
        files = lake.version(dataset, name).files
        kept.append(Kept(name, files, before, lake.size(dataset, name), size, removed.files))
    return kept


def expire(lake: Lake, dataset: str, until: date) -> int:
    """Take the lines of files out of the raw tables whose last event lies before a day.

    Only lines whose events are in `cleaned_events`: where that is not made of these `raw_events`
    yet, nothing expires. Earlier versions have them until these are removed. Returns of how many
    files the lines have expired now.
    """
    tables = (REJECTED_LINES, RAW_EVENTS)  # raw_events tells of both, so it comes last
    if not all(lake.exists(dataset, table.name) for table in (*tables, CLEANED_EVENTS)):
        return 0
    raw = lake.version(dataset, RAW_EVENTS.name)
    if lake.version(dataset, CLEANED_EVENTS.name).metadata["raw_events"] != raw.number:
        return 0
    old = {
        name
        for name, each in raw.slices.items()
        if not each.expired and max(each.said["days"]) < until.isoformat()
    }
    if not old:
        return 0
    for table in tables:
        parts = lake.parts(dataset, table.name, old)
        had = Counter[str]()
        for part in parts:
            had[part.slice] += part.rows
        slices = {
            name: replace(each, gone=each.gone + had[name], expired=True, nulls={})
            if name in old
            else each
            for name, each in lake.version(dataset, table.name).slices.items()
        }
        lake.take_out(dataset, table, parts, [], slices, {})
    return len(old)


def needed_versions(lake: Lake, dataset: str) -> dict[str, list[int]]:
    """By table, the versions that the live model and pinned ones were made from."""
    if not lake.exists(dataset, MODEL_REGISTRY.name):
        return {}
    columns = ["stage", "pinned", *_NEEDED.values()]
    models = lake.read_polars(dataset, MODEL_REGISTRY, columns)
    used = models.filter((pl.col("stage") == LIVE) | pl.col("pinned"))
    return {table: used[column].drop_nulls().to_list() for table, column in _NEEDED.items()}


def compact(lake: Lake, dataset: str, table: Table) -> None:
    """Put the small part files of each slice together, in their order."""
    slices = lake.version(dataset, table.name).slices
    gone: list[PartFile] = []
    made: list[PartFile] = []
    parts = lake.parts(dataset, table.name, slices)
    for name, of_slice in groupby(parts, lambda part: part.slice):
        for group in groups(list(of_slice)):
            rows = pl.concat(read_part(lake.file(dataset, table.name, part)) for part in group)
            if table.in_order_of:
                rows = rows.sort(table.in_order_of, maintain_order=True)
            folder = f"{lake.folder(dataset, table.name)}/{name}"
            made.append(write_part(folder, rows, table.rows_together, list(group[0].bounds)))
            gone.extend(group)
    if not made:
        return
    try:
        lake.rewrite(dataset, table, gone, made)
    except Exception:
        remove_parts(lake.folder(dataset, table.name), made)
        raise


def groups(parts: Sequence[PartFile]) -> list[list[PartFile]]:
    """The part files to be put together: neighbours, as long as they stay small; two at least."""
    found: list[list[PartFile]] = [[]]
    for part in parts:
        if sum(each.size for each in found[-1]) + part.size > ENOUGH_BYTES:
            found.append([])
        found[-1].append(part)
    return [group for group in found if len(group) > 1]
