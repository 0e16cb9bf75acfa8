"""Log to feature table with Polars alone: `python -m benchmarks.engines_polars LOG FOLDER`.

Belongs here: Polars' own way, as well as we know how. Does not belong here: what is the same for
all engines (`engines_shared.py`).

The log is streamed into Parquet, and the events of known users are streamed into buckets of whole
users that fit in memory; a log of less than a bucket stays whole. Each bucket is then cleaned,
ordered and summed up on all cores. The expressions are this project's own, which are written for
Polars: only who does the work, and how it is spread, differs.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import polars as pl

from benchmarks import engines_shared as shared
from benchmarks.engines_shared import FIELDS, MOVES, NO_LISTS
from sparkify_assets.churn import days, features, labels
from sparkify_assets.events import clean
from sparkify_assets.resources.lake import as_promised
from sparkify_assets.tables import (
    CLEANED_EVENTS,
    FEATURE_TABLE,
    RAW_EVENTS,
    USER_DAYS,
    USER_LABELS,
    Table,
)

# Of compressed raw events; cleaning takes about fifty times as much memory.
BUCKET_BYTES = 64 * 2**20


def main() -> None:
    run(Path(sys.argv[1]), Path(sys.argv[2]))


def run(log: Path, folder: Path, bucket_bytes: int = BUCKET_BYTES) -> None:
    """Write the tables of a log into a folder: a file each, or a folder of a file a bucket."""
    raw = shared.table(folder, "raw_events")
    ingest(log, raw)
    for number, bucket in enumerate(buckets(raw, folder / "buckets", bucket_bytes)):
        cleaned = clean.clean(bucket.collect(engine="streaming"))
        _write(cleaned, CLEANED_EVENTS, folder, number)
        ordered = days.in_order(cleaned.select(days.EVENT_COLUMNS))
        del cleaned
        _write(labels.user_labels(labels.label_days(ordered)), USER_LABELS, folder, number)
        _write(days.user_days(ordered), USER_DAYS, folder, number)
    describe(folder)


def _write(rows: pl.DataFrame, table: Table, folder: Path, number: int) -> None:
    path = folder / table.name / f"{number}.parquet"
    path.parent.mkdir(exist_ok=True)
    as_promised(table, rows).write_parquet(path, compression="zstd")


def ingest(log: Path, raw: Path) -> None:
    schema = {field: RAW_EVENTS.polars_schema[name] for field, name in FIELDS.items()}
    lines = pl.scan_ndjson(log, schema=schema)
    events = lines.rename(FIELDS).with_columns(source_file=pl.lit(log.name))
    events.sink_parquet(raw, compression="zstd", engine="streaming", maintain_order=False)


def buckets(raw: Path, folder: Path, bucket_bytes: int) -> Iterator[pl.LazyFrame]:
    """The events of known users, a bucket of whole users at a time."""
    known = pl.scan_parquet(raw).filter(clean.is_known()).select(clean.RAW_COLUMNS)
    count = -(-raw.stat().st_size // bucket_bytes)
    if count == 1:
        yield known
        return
    by = {"bucket": pl.col("user_id").hash() % count}
    known.sink_parquet(
        pl.PartitionBy(folder, key=by, include_key=False),
        compression="lz4",
        engine="streaming",
        maintain_order=False,
        mkdir=True,
    )
    for bucket in sorted(folder.iterdir()):
        yield pl.scan_parquet(bucket, hive_partitioning=False)


def describe(folder: Path) -> None:
    of_users = pl.read_parquet(folder / "user_labels")
    rows, log = shared.rows_to_describe(of_users)
    population = shared.usual(pl.read_parquet(folder / "user_days", columns=NO_LISTS), rows, log)
    taken = pl.read_parquet(folder / "user_days", columns=MOVES)
    known_kinds = shared.learned_kinds(taken, of_users, log)
    for number, part in enumerate(sorted((folder / "user_days").iterdir())):
        known = features.features(pl.read_parquet(part), rows, population, known_kinds, log.start)
        _write(known, FEATURE_TABLE, folder, number)


if __name__ == "__main__":
    main()
