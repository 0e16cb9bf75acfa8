"""From the event log to clean events: a file's lines, and a day's events, are made once.

Belongs here: which files and days are new, and the two steps. Does not belong here: how files are
found and read and lines judged (`events/`), and what a user did (`users.py`).
"""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict
from datetime import date, datetime, timezone
from pathlib import Path
from typing import NamedTuple

import dagster as dg
import polars as pl

from sparkify_assets import capacity
from sparkify_assets.assets.declaring import DATA_ENGINEERING, table_asset
from sparkify_assets.churn import labels
from sparkify_assets.datasets import Dataset, SourceConfig, dataset
from sparkify_assets.digests import changed, digest, slice_key
from sparkify_assets.errors import LakeError, SettingError
from sparkify_assets.events import buckets, clean, log, user_ids
from sparkify_assets.events import ingest as ingesting
from sparkify_assets.events.log import Log
from sparkify_assets.events.source import LogFile
from sparkify_assets.resources import erasure
from sparkify_assets.resources.io_manager import LakeResource
from sparkify_assets.resources.lake import Lake, Version, as_promised, described, read_known
from sparkify_assets.resources.spark import SparkResource
from sparkify_assets.storage import PartFile, Range, read_part, write_part
from sparkify_assets.tables import (
    CHURN_SCORES,
    CLEANED_EVENTS,
    LABEL_DAYS,
    RAW_EVENTS,
    REJECTED_LINES,
    Rows,
    Slice,
)

_GROUP = "events"
_USERS_IN_PROCESS = 1_000
# A task holds about a kilobyte of each while it cleans them.
_EVENTS_A_TASK = 1_000_000
_DAY_MS = 86_400_000
# A day; where its events of some users are: part files, and the ranges of their rows; and the part
# files of what was cleaned of it before and cannot be again. No class of its own, for which Spark's
# workers would import this module, and Dagster with it.
_Piece = tuple[str, list[str], list[Range], list[str]]


@table_asset(
    "raw_events",
    "rejected_lines",
    name="ingest",
    group=_GROUP,
    kinds={"spark", "polars"},
    owner=DATA_ENGINEERING,
)
def ingest(
    context: dg.AssetExecutionContext,
    config: SourceConfig,
    lake: LakeResource,
    pyspark: SparkResource,
) -> tuple[Rows, Rows]:
    """Reads the files that are new or have changed; of those that are gone the rows stay."""
    capacity.check_memory(pyspark.used_master)
    chosen = dataset(context.partition_key)
    source = config.source or chosen.source
    folder = lake.log_folder(chosen.name)
    if source:
        found = log.given_log(source, variable=chosen.source_variable, folder=folder)
    else:
        found = log.simulated_log(
            chosen.name,
            users=chosen.users,
            days=chosen.days,
            seed=chosen.seed,
            folder=folder,
            # A small log is simulated before Spark would have distributed it.
            spark=pyspark.spark_session if chosen.users > _USERS_IN_PROCESS else None,
        )
    if found.simulated:
        _check_nothing_is_lost(lake.lake, chosen)
    known = _ingested(lake.lake, chosen.name, found)
    new = [file for file in found.files if not known.has(file)]
    gone = known.names - {file.name for file in found.files}
    if gone:
        context.log.warning(
            f"Files that are not in the source any more: {len(gone):,}, such as {min(gone)}. "
            "Their events stay."
        )
    if lake.lake.is_local:
        needs = log.uncompressed_bytes(new) * capacity.LAKE_SHARE
        capacity.check_disk(Path(lake.lake.uri), needs, f"What is made of this log ({chosen.name})")
    report = ingesting.IngestReport({}, [], [])
    if new:
        with described(pyspark.spark_session, "reading the log"):
            report = ingesting.ingest(
                pyspark.spark_session,
                new,
                events_folder=lake.lake.folder(chosen.name, RAW_EVENTS.name),
                rejected_folder=lake.lake.folder(chosen.name, REJECTED_LINES.name),
                erased=erasure.erased_users(lake.lake, chosen.name),
            )
    slices = {**known.slices, **{s.said["name"]: s for s in _slices(new, report)}}
    by_slice = {ingesting.slice_of(name): each for name, each in slices.items()}
    said = {
        "source": found.source,
        "log": found.identity,
        "simulated": found.simulated,
        "fingerprint": asdict(found.fingerprint),
        "files": len(slices),
        "new_files": len(new),
        "vanished_files": len(gone),
        "lines": sum(each.said["lines"] for each in slices.values()),
        "bytes": sum(each.said["bytes"] for each in slices.values()),
        "max_rejected_share": config.max_rejected_share,
    }
    for name in (RAW_EVENTS.name, REJECTED_LINES.name):
        shown = ("files", "new_files", "vanished_files", "lines")
        context.add_output_metadata({each: said[each] for each in shown}, name)
    read = {ingesting.slice_of(file.name) for file in new}
    counted = {
        name: known.rejected[name]
        if name not in read
        else Slice(each.key, {fact: each.said[fact] for fact in ("name", "lines", "rejected")})
        for name, each in by_slice.items()
    }
    stays = {ingesting.slice_of(name) for name in gone if not known.slices[name].expired}
    events, rejected = (
        [*parts, *lake.lake.carried_over(chosen.name, table, stays)]
        for table, parts in ((RAW_EVENTS, report.events), (REJECTED_LINES, report.rejected))
    )
    return (
        Rows(events, said, known.events_version, by_slice),
        Rows(rejected, said, known.rejected_version, counted),
    )


def _check_nothing_is_lost(lake: Lake, chosen: Dataset) -> None:
    """Raise SettingError where a simulated log would take the place of real forecasts' log."""
    if not lake.exists(chosen.name, CHURN_SCORES.name):
        return
    scored = lake.version(chosen.name, CHURN_SCORES.name).slices.values()
    if any(each.said["simulation"] is None for each in scored):
        raise SettingError(
            f"The lake holds forecasts for the users of a real log in {chosen.name}, and no log is "
            f"named now: a simulated one would take its place. Name the log in "
            f"{chosen.source_variable}; or, to begin with a simulated one, remove the table "
            "churn_scores of this dataset first."
        )


class _Ingested(NamedTuple):
    """The files that are in both tables, by name, and the tables' versions."""

    slices: Mapping[str, Slice]
    rejected: Mapping[str, Slice]
    """By slice, what is said of their rejected lines."""
    events_version: int
    rejected_version: int

    @property
    def names(self) -> set[str]:
        return set(self.slices)

    def has(self, file: LogFile) -> bool:
        """Another version of this project reads a file again; not one whose lines have expired."""
        if file.name not in self.slices:
            return False
        held = self.slices[file.name]
        return held.key == _key(file) or (held.expired and held.said["content"] == _content(file))


def _ingested(lake: Lake, dataset: str, found: Log) -> _Ingested:
    """What is in the lake of a log; of another one's files nothing is kept.

    A run that died between the two tables leaves a file in one of them: it is read again.
    """
    events_version, _ = lake.newest(dataset, RAW_EVENTS)
    rejected_version, _ = lake.newest(dataset, REJECTED_LINES)
    if min(events_version, rejected_version) < 0:
        return _Ingested({}, {}, events_version, rejected_version)
    # Also of an earlier contract: of a file that is gone nothing else is left.
    events = lake.version(dataset, RAW_EVENTS.name)
    rejected = lake.version(dataset, REJECTED_LINES.name).slices
    both = {
        each.said["name"]: each
        for name, each in events.slices.items()
        if events.metadata.get("log") == found.identity
        and name in rejected
        and rejected[name].key == each.key
    }
    return _Ingested(both, rejected, events_version, rejected_version)


def _key(file: LogFile) -> str:
    """Of a file's lines in both tables, which are made of it together."""
    return slice_key(RAW_EVENTS, slice_key(REJECTED_LINES), file.size, file.stamp)


def _content(file: LogFile) -> str:
    return digest(file.size, file.stamp)


def _slices(files: Iterable[LogFile], report: ingesting.IngestReport) -> Iterable[Slice]:
    """What is said of the files that were read."""
    for file in files:
        found = report.files[file.name]
        yield Slice(
            _key(file),
            {
                "name": file.name,
                "content": _content(file),
                "lines": found.lines,
                "bytes": found.bytes_read,
                "events": found.events,
                "rejected": found.rejected,
                "days": dict(sorted(found.days.items())),
            },
            gone=found.erased,
        )


@table_asset(
    "cleaned_events",
    "label_days",
    name="clean_events",
    group=_GROUP,
    kinds={"spark", "polars"},
    owner=DATA_ENGINEERING,
)
def clean_events(
    context: dg.AssetExecutionContext,
    lake: LakeResource,
    pyspark: SparkResource,
    raw_events: Version,
) -> tuple[Rows, Rows]:
    """Cleans the days of which a file has come or changed; each day by itself."""
    dataset = context.partition_key
    key = user_ids.key()
    key_name = user_ids.name_of(key)
    days = _days(raw_events)
    keys = {
        day: slice_key(CLEANED_EVENTS, sorted(each.files.items()), key_name)
        for day, each in days.items()
    }
    events_version, events = lake.lake.newest(dataset, CLEANED_EVENTS)
    labels_version, of_labels = lake.lake.newest(dataset, LABEL_DAYS)
    new = sorted({*changed(keys, events), *changed(keys, of_labels)})
    old = keys.keys() - set(new)
    events_folder, labels_folder = (
        lake.lake.folder(dataset, table.name) for table in (CLEANED_EVENTS, LABEL_DAYS)
    )

    def write_clean(piece: _Piece) -> list[tuple[PartFile, PartFile]]:
        day, files, ranges, cleaned_before = piece
        parts = [read_part(file, clean.RAW_COLUMNS, *ranges) for file in files]
        # Before they are put together: logged out, all users may share one id.
        known = pl.concat([nothing, *(part.filter(clean.is_known()) for part in parts)])
        before = [read_known(file, CLEANED_EVENTS.names) for file in cleaned_before]
        if known.is_empty() and not before:
            return []
        cleaned = as_promised(CLEANED_EVENTS, clean.together(clean.clean(known, key), *before))
        of_labels = as_promised(LABEL_DAYS, labels.label_days(cleaned))
        return [
            (
                write_part(f"{events_folder}/{day}", cleaned, CLEANED_EVENTS.rows_together),
                write_part(f"{labels_folder}/{day}", of_labels),
            )
        ]

    held = lake.lake.parts(dataset, RAW_EVENTS.name)
    raw = [(part, lake.lake.file(dataset, RAW_EVENTS.name, part)) for part in held]
    nothing = pl.DataFrame(schema=RAW_EVENTS.polars_schema).select(clean.RAW_COLUMNS)
    pieces = [
        piece
        for day in new
        for piece in _pieces(raw, day, days[day], _cleaned_before(lake.lake, dataset, day, days))
    ]
    written = lake.lake.in_tasks(pyspark.spark_session, "cleaning days", pieces, write_clean)
    parts = [pair for each in written for pair in each]
    stays = lake.lake.parts(dataset, CLEANED_EVENTS.name, old) if old else []
    rows = sum(part.rows for part in [*stays, *(part for part, _ in parts)])
    clean.check_known(rows, raw_events.rows_ever)
    slices = {day: Slice(key) for day, key in keys.items()}
    said = {
        "raw_events": raw_events.number,
        "days": len(days),
        "new_days": new,
        user_ids.SAID: key_name,
    }
    for name in (CLEANED_EVENTS.name, LABEL_DAYS.name):
        context.add_output_metadata({"days": len(days), "new_days": len(new)}, name)
    return (
        Rows([pair[0] for pair in parts], said, events_version, slices),
        Rows([pair[1] for pair in parts], said, labels_version, slices),
    )


def _cleaned_before(lake: Lake, dataset: str, day: str, days: Mapping[str, "_Day"]) -> list[str]:
    """The part files of a day that cannot be cleaned again as a whole: raw events have expired.

    Raises LakeError where these are not there either.
    """
    if not days[day].expired:
        return []
    there = lake.exists(dataset, CLEANED_EVENTS.name)
    files = lake.files(dataset, CLEANED_EVENTS.name, {day}) if there else []
    if not files:
        raise LakeError(
            f"{CLEANED_EVENTS.name} of {dataset} lacks {day}, and what it was made of has expired "
            f"in {RAW_EVENTS.name}. Remove {RAW_EVENTS.name} and {REJECTED_LINES.name} of this "
            "dataset: what the source still has is then read again."
        )
    return files


class _Day(NamedTuple):
    """What raw_events holds of a UTC day: the slices with its events, their keys, and how many."""

    files: dict[str, str]
    events: int
    expired: bool


def _days(raw_events: Version) -> dict[str, _Day]:
    files: dict[str, dict[str, str]] = defaultdict(dict)
    events: dict[str, int] = defaultdict(int)
    for name, each in raw_events.slices.items():
        for day, count in each.said["days"].items():
            files[day][name] = each.key
            events[day] += count
    gone = {name for name, each in raw_events.slices.items() if each.expired}
    return {
        day: _Day(files[day], events[day], not gone.isdisjoint(files[day])) for day in sorted(files)
    }


def _pieces(
    raw: Sequence[tuple[PartFile, str]], day: str, found: _Day, cleaned_before: list[str]
) -> list[_Piece]:
    """How many there are of a day depends on its events alone, and so do its part files.

    A day that was cleaned before stays together, as its rows tell no bucket.
    raw: the part files of raw_events, and where they are.
    """
    midnight = datetime.combine(date.fromisoformat(day), datetime.min.time(), timezone.utc)
    first = int(midnight.timestamp()) * 1000
    within = Range("ts", first, first + _DAY_MS - 1)
    files = [file for part, file in raw if part.slice in found.files and part.may_hold(within)]
    count = 1 if cleaned_before else -(-found.events // _EVENTS_A_TASK)
    return [
        (
            day,
            files,
            [within, *([Range(buckets.BUCKET, *bounds)] if count > 1 else [])],
            cleaned_before,
        )
        for bounds in buckets.ranges(count)
    ]
