"""Spread the reading of an event log over Spark and write its part files.

Belongs here: cutting files into blocks, what a task does, and adding up what the tasks report.
Does not belong here: what an event is (`parse.py`), which files there are (`source.py`), the
transaction that makes part files a version of a table (`resources/`).

Only small reports travel to the driver. Part files have unique names, so a repeated task leaves
at worst a file that no table knows.
"""

from __future__ import annotations

import functools
import itertools
import logging
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta, timezone
from typing import TYPE_CHECKING

import polars as pl
import pyarrow as pa
import pyarrow.fs

from sparkify_assets.digests import digest
from sparkify_assets.errors import SourceError, SparkifyError
from sparkify_assets.events.erased import Erased
from sparkify_assets.events.parse import (
    MAX_LINE_BYTES,
    ParsedBlock,
    count_lines,
    kind_of,
    parse_block,
)
from sparkify_assets.events.source import LogFile
from sparkify_assets.storage import PartFile, open_filesystem, remove_parts, write_part
from sparkify_assets.tables import RAW_EVENTS

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

logger = logging.getLogger("sparkify_assets")

_SMALLEST_BLOCK = 8 * 2**20
_LARGEST_BLOCK = 64 * 2**20
_BLOCKS_PER_CORE = 3  # so that a slow block does not leave the other cores idle for long
# What a part file holds of the log at most. Lines are counted as well: a few bytes that are no
# event take as much memory as an event.
_PART_BYTES = 256 * 2**20
_PART_LINES = 2**21
_LINES_TOGETHER = 2**18  # that are parsed at a time
_SCAN_BYTES = 64 * 2**10
_SHOWN_REASONS = 3
# An event later than that from now has not happened: a clock was wrong, and one such event would
# move the end of the log.
_AHEAD = timedelta(days=1)
_CODECS = {"gz": "gzip", "bz2": "bz2", "zst": "zstd"}


@dataclass
class FileReport:
    """What became of a file, or of a stretch of it."""

    lines: int = 0
    bytes_read: int = 0
    """Decompressed; without what was passed over of lines that are too long."""
    events: int = 0
    days: Counter[str] = field(default_factory=Counter)
    """Events by UTC day, YYYY-MM-DD."""
    reasons: Counter[str] = field(default_factory=Counter)
    """Rejected lines by kind of reason."""
    first_rejected: tuple[int, str] | None = None
    """Byte offset and reason."""
    erased: int = 0
    """Events of erased users, which are in no part file."""

    @property
    def rejected(self) -> int:
        return self.reasons.total()

    def add(self, parsed: ParsedBlock, size: int) -> None:
        self.lines += parsed.lines
        self.bytes_read += size
        self.events += parsed.events.height
        self.days.update(_by_day(parsed.events))
        if parsed.rejected.height:
            reasons = parsed.rejected["reason"]
            for reason, count in reasons.value_counts().iter_rows():
                self.reasons[kind_of(reason)] += count
            self._note(parsed.rejected["byte_offset"][0], reasons[0])

    def merge(self, other: FileReport) -> None:
        self.lines += other.lines
        self.bytes_read += other.bytes_read
        self.events += other.events
        self.days += other.days
        self.reasons += other.reasons
        self.erased += other.erased
        if other.first_rejected:
            self._note(*other.first_rejected)

    def _note(self, offset: int, reason: str) -> None:
        first = (offset, reason)
        self.first_rejected = min(self.first_rejected or first, first)


def _by_day(events: pl.DataFrame) -> dict[str, int]:
    day = pl.from_epoch("ts", "ms").dt.date().dt.to_string().alias("day")
    return dict(events.group_by(day).len().rows())


@dataclass(frozen=True)
class IngestReport:
    """What became of an event log. Nothing is part of a table yet."""

    files: Mapping[str, FileReport]
    """By name."""
    events: list[PartFile]
    rejected: list[PartFile]

    @property
    def lines(self) -> int:
        return sum(file.lines for file in self.files.values())

    @property
    def bytes_read(self) -> int:
        return sum(file.bytes_read for file in self.files.values())

    @property
    def event_rows(self) -> int:
        return sum(part.rows for part in self.events)

    @property
    def rejected_rows(self) -> int:
        return sum(part.rows for part in self.rejected)

    @property
    def reasons(self) -> dict[str, int]:
        """Rejected lines by kind of reason, the commonest first."""
        counts = (file.reasons for file in self.files.values())
        return dict(sum(counts, Counter[str]()).most_common())


@dataclass(frozen=True)
class _Block:
    """The lines of `file` that start in [start, end); `end` is None for a whole compressed file."""

    file: LogFile
    start: int
    end: int | None


@dataclass
class _Outcome:
    """What one task did, small enough to travel."""

    files: dict[str, FileReport] = field(default_factory=dict)  # by name
    events: list[PartFile] = field(default_factory=list)
    rejected: list[PartFile] = field(default_factory=list)
    error: SparkifyError | None = None


def ingest(
    spark: SparkSession,
    files: list[LogFile],
    *,
    events_folder: str,
    rejected_folder: str,
    erased: Erased | None = None,
    block_bytes: int | None = None,
) -> IngestReport:
    """Write every line of `files` as a row of a part file, of either folder; report the files.

    The folders are paths or URIs that every worker can write to; in them each file gets a folder of
    its own, its `slice_of`. `block_bytes` is what a task
    reads of an uncompressed file; unset, it follows from the size of the log and the number of
    cores. A compressed file is one task that holds as much in memory at a time.
    `lines == event_rows + rejected_rows`, and the events of `erased` users.

    Raises SourceError where a file is damaged or holds no event, LakeError where a folder cannot
    be written; the part files of that run are removed then.
    """
    context = spark.sparkContext
    total = sum(file.size for file in files)
    cut_bytes = block_bytes or _block_bytes(total, context.defaultParallelism)
    blocks = [block for file in files for block in cut(file, cut_bytes)]
    task = functools.partial(
        _run,
        events_folder=events_folder,
        rejected_folder=rejected_folder,
        chunk_bytes=block_bytes or _LARGEST_BLOCK,
        until=datetime.now(timezone.utc) + _AHEAD,
        erased=erased,
    )
    tasks = _tasks(len(blocks), total, context.defaultParallelism)
    logger.info("reading %s file(s), %.1f MB, in %s task(s)", len(files), total / 1e6, tasks)
    outcomes = context.parallelize(blocks, tasks).mapPartitions(task).collect() if blocks else []
    reports: dict[str, FileReport] = {}
    try:
        for outcome in outcomes:
            if outcome.error:
                raise outcome.error
            for name, found in outcome.files.items():
                reports.setdefault(name, FileReport()).merge(found)
        for name, found in reports.items():
            _check_file(name, found)
    except SparkifyError:
        for outcome in outcomes:
            remove_parts(events_folder, outcome.events)
            remove_parts(rejected_folder, outcome.rejected)
        raise
    report = IngestReport(
        reports,
        events=[part for outcome in outcomes for part in outcome.events],
        rejected=[part for outcome in outcomes for part in outcome.rejected],
    )
    logger.info(
        "read %s lines: %s events, %s rejected",
        f"{report.lines:,}",
        f"{report.event_rows:,}",
        f"{report.rejected_rows:,}",
    )
    return report


def slice_of(name: str) -> str:
    """The slice of raw_events and rejected_lines that holds the lines of the file of that name."""
    return digest(name)


def cut(file: LogFile, block_bytes: int) -> list[_Block]:
    """Blocks of about equal size that together are the file."""
    if file.compression:
        return [_Block(file, 0, None)]
    count = max(1, round(file.size / block_bytes))
    bounds = [file.size * i // count for i in range(count + 1)]
    return [_Block(file, low, high) for low, high in itertools.pairwise(bounds)]


def _block_bytes(total: int, cores: int) -> int:
    return min(max(total // (cores * _BLOCKS_PER_CORE), _SMALLEST_BLOCK), _LARGEST_BLOCK)


def _tasks(blocks: int, total: int, cores: int) -> int:
    """As many as there are parts to write, and enough to keep every core busy to the end."""
    return min(blocks, max(cores * _BLOCKS_PER_CORE, -(-total // _PART_BYTES)))


def _check_file(name: str, found: FileReport) -> None:
    if found.events:
        return
    if not found.lines:
        raise SourceError(f"{name} holds no lines.")
    reasons = found.reasons.most_common(_SHOWN_REASONS)
    offset, reason = found.first_rejected or (0, "")
    raise SourceError(
        f"{name} is not an event log: none of its {found.lines:,} lines is an event. Expected is "
        "one JSON object a line. Commonest reasons: "
        + "; ".join(f"{kind} ({count:,} lines)" for kind, count in reasons)
        + f". The first such line starts at byte {offset:,}: {reason}."
    )


# What runs in a task.


def _run(
    blocks: Iterable[_Block],
    *,
    events_folder: str,
    rejected_folder: str,
    chunk_bytes: int,
    until: datetime,
    erased: Erased | None = None,
) -> Iterator[_Outcome]:
    """Never raises what a user can act on: through Spark it would arrive as a Java stack trace."""
    outcome = _Outcome()
    try:
        for file, of_file in itertools.groupby(blocks, lambda block: block.file):
            held: list[ParsedBlock] = []
            size = lines = 0
            events_of, rejected_of = (
                f"{folder}/{slice_of(file.name)}" for folder in (events_folder, rejected_folder)
            )
            report = outcome.files.setdefault(file.name, FileReport())
            for block in of_file:
                for offset, data in _not_many(_whole_lines(block, chunk_bytes)):
                    parsed = parse_block(
                        data,
                        source_file=file.name,
                        offset=offset,
                        first=offset == 0,
                        until=until,
                    )
                    report.add(parsed, len(data))
                    if erased:
                        events = parsed.events.height
                        parsed = erased.without(parsed)
                        report.erased += events - parsed.events.height
                    held.append(parsed)
                    size, lines = size + len(data), lines + parsed.lines
                    if size >= _PART_BYTES or lines >= _PART_LINES:
                        _write(held, outcome, events_of, rejected_of)
                        held, size, lines = [], 0, 0
            _write(held, outcome, events_of, rejected_of)
    except SparkifyError as error:
        outcome.error = error
    yield outcome


def _write(
    parsed: list[ParsedBlock], outcome: _Outcome, events_folder: str, rejected_folder: str
) -> None:
    """Write what was parsed as a part file of either folder, where there is any."""
    events = [each.events for each in parsed if each.events.height]
    rejected = [each.rejected for each in parsed if each.rejected.height]
    if events:
        # In order of time, so that a day can be read from many parts, each where it stands.
        order = RAW_EVENTS.in_order_of
        ordered = pl.concat(events).sort(order, maintain_order=True)
        outcome.events.append(write_part(events_folder, ordered, RAW_EVENTS.rows_together, order))
    if rejected:
        outcome.rejected.append(write_part(rejected_folder, pl.concat(rejected)))


def _not_many(stretches: Iterable[tuple[int, bytes]]) -> Iterator[tuple[int, bytes]]:
    """The same, cut so that none has more than _LINES_TOGETHER lines."""
    for offset, data in stretches:
        if count_lines(data) <= _LINES_TOGETHER:
            yield offset, data
            continue
        middle = len(data) // 2
        middle = (data.rfind(b"\n", 0, middle) + 1) or (data.find(b"\n", middle) + 1)
        yield from _not_many([(offset, data[:middle]), (offset + middle, data[middle:])])


def _whole_lines(block: _Block, chunk_bytes: int) -> Iterator[tuple[int, bytes]]:
    """Offset and bytes of stretches of whole lines. Raises SourceError."""
    position = block.start
    if block.end is None:
        stretches = _lines_of_stream(block.file, chunk_bytes)
        what = "of its decompressed content; it is damaged or cut off"
    else:
        stretches = _lines_of_block(block.file, block.start, block.end)
        what = "of it"
    try:
        for offset, data in stretches:
            yield offset, data
            position = offset + len(data)
    except (OSError, pa.ArrowException) as error:
        raise SourceError(
            f"{block.file.name} could be read up to byte {position:,} {what} "
            f"({str(error).partition(chr(10))[0]}). Get the file anew."
        ) from error


def _lines_of_block(file: LogFile, start: int, end: int) -> Iterator[tuple[int, bytes]]:
    filesystem, path = open_filesystem(file.uri)
    with filesystem.open_input_file(path) as stream:
        if stream.size() != file.size:
            raise SourceError(
                f"{file.name} changed while it was read: {file.size:,} bytes became "
                f"{stream.size():,}. Run again when it is complete."
            )
        first = next_line(stream, start, end)
        if first < end:
            # A line that ends nowhere near is not read to its end: it is too long anyway.
            last = next_line(stream, end, min(end + MAX_LINE_BYTES + 1, file.size))
            stream.seek(first)
            yield first, stream.read(last - first)


def next_line(stream: pa.NativeFile, position: int, limit: int) -> int:
    """Where the first line that starts at `position` or later starts; `limit` if not before it."""
    if position == 0:
        return 0
    position -= 1  # a newline there makes a line start at the position itself
    stream.seek(position)
    while position < limit:
        piece = stream.read(min(_SCAN_BYTES, limit - position))
        if not piece:
            break
        if (newline := piece.find(b"\n")) >= 0:
            return position + newline + 1
        position += len(piece)
    return limit


def _lines_of_stream(file: LogFile, chunk_bytes: int) -> Iterator[tuple[int, bytes]]:
    """Like a block, of a file that can only be read from its start, in bounded memory."""
    filesystem, path = open_filesystem(file.uri)
    codec = _CODECS[file.compression] if file.compression else None
    offset, rest, skipping = 0, b"", False
    with filesystem.open_input_stream(path, compression=codec) as stream:
        while piece := stream.read(chunk_bytes):
            if skipping:
                newline = piece.find(b"\n")
                skipping = newline < 0
                skipped = len(piece) if skipping else newline + 1
                offset, piece = offset + skipped, piece[skipped:]
            data = rest + piece
            whole = data.rfind(b"\n") + 1
            if whole:
                yield offset, data[:whole]
                offset, rest = offset + whole, data[whole:]
            elif len(data) > MAX_LINE_BYTES:
                yield offset, data  # too long, though its end is not known yet
                offset, rest, skipping = offset + len(data), b"", True
            else:
                rest = data
        if rest:
            yield offset, rest
