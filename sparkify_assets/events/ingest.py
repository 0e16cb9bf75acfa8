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
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import polars as pl
import pyarrow as pa
import pyarrow.fs

from sparkify_assets.errors import SourceError, SparkifyError
from sparkify_assets.events import buckets
from sparkify_assets.events.parse import MAX_LINE_BYTES, ParsedBlock, kind_of, parse_block
from sparkify_assets.events.source import LogFile
from sparkify_assets.storage import PartFile, open_filesystem, remove_parts, write_part

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

logger = logging.getLogger("sparkify_assets")

_SMALLEST_BLOCK = 8 * 2**20
_LARGEST_BLOCK = 64 * 2**20
_BLOCKS_PER_CORE = 3  # so that a slow block does not leave the other cores idle for long
# What a part file holds of the log: the more, the less it costs to read whole users from all parts.
_PART_BYTES = 256 * 2**20
_SCAN_BYTES = 64 * 2**10
_SHOWN_REASONS = 3
_CODECS = {"gz": "gzip", "bz2": "bz2", "zst": "zstd"}


@dataclass(frozen=True)
class IngestReport:
    """What became of an event log. Nothing is part of a table yet."""

    lines: int
    bytes_read: int
    """Decompressed; without what was passed over of lines that are too long."""
    events: list[PartFile]
    rejected: list[PartFile]
    reasons: dict[str, int] = field(default_factory=dict)
    """Rejected lines by kind of reason, the commonest first."""

    @property
    def event_rows(self) -> int:
        return sum(part.rows for part in self.events)

    @property
    def rejected_rows(self) -> int:
        return sum(part.rows for part in self.rejected)


@dataclass(frozen=True)
class _Block:
    """The lines of `file` that start in [start, end); `end` is None for a whole compressed file."""

    file: LogFile
    start: int
    end: int | None


@dataclass
class _Tally:
    """What was found in a file, or in a stretch of it."""

    lines: int = 0
    events: int = 0
    reasons: Counter[str] = field(default_factory=Counter)
    first_rejected: tuple[int, str] | None = None  # byte offset, reason

    def add(self, parsed: ParsedBlock) -> None:
        self.lines += parsed.lines
        self.events += parsed.events.height
        if parsed.rejected.height:
            reasons = parsed.rejected["reason"]
            self.reasons.update(kind_of(reason) for reason in reasons)
            self._note(parsed.rejected["byte_offset"][0], reasons[0])

    def merge(self, other: _Tally) -> None:
        self.lines += other.lines
        self.events += other.events
        self.reasons += other.reasons
        if other.first_rejected:
            self._note(*other.first_rejected)

    def _note(self, offset: int, reason: str) -> None:
        first = (offset, reason)
        self.first_rejected = min(self.first_rejected or first, first)


@dataclass
class _Outcome:
    """What one task did, small enough to travel."""

    bytes_read: int = 0
    tallies: dict[str, _Tally] = field(default_factory=dict)  # by the file's name
    events: list[PartFile] = field(default_factory=list)
    rejected: list[PartFile] = field(default_factory=list)
    error: SparkifyError | None = None


def ingest(
    spark: SparkSession,
    files: list[LogFile],
    *,
    events_folder: str,
    rejected_folder: str,
    block_bytes: int | None = None,
) -> IngestReport:
    """Write every line of `files` as a row of a part file, of either folder; report the files.

    The folders are paths or URIs that every worker can write to. `block_bytes` is what a task
    reads of an uncompressed file; unset, it follows from the size of the log and the number of
    cores. A compressed file is one task that holds as much in memory at a time.
    `lines == event_rows + rejected_rows`.

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
    )
    tasks = _tasks(len(blocks), total, context.defaultParallelism)
    logger.info("reading %s file(s), %.1f MB, in %s task(s)", len(files), total / 1e6, tasks)
    outcomes = context.parallelize(blocks, tasks).mapPartitions(task).collect() if blocks else []
    tallies: dict[str, _Tally] = {}
    try:
        for outcome in outcomes:
            if outcome.error:
                raise outcome.error
            for name, tally in outcome.tallies.items():
                tallies.setdefault(name, _Tally()).merge(tally)
        for name, tally in tallies.items():
            _check_file(name, tally)
    except SparkifyError:
        for outcome in outcomes:
            remove_parts(events_folder, outcome.events)
            remove_parts(rejected_folder, outcome.rejected)
        raise
    reasons = sum((tally.reasons for tally in tallies.values()), Counter[str]())
    report = IngestReport(
        lines=sum(tally.lines for tally in tallies.values()),
        bytes_read=sum(outcome.bytes_read for outcome in outcomes),
        events=[part for outcome in outcomes for part in outcome.events],
        rejected=[part for outcome in outcomes for part in outcome.rejected],
        reasons=dict(reasons.most_common()),
    )
    logger.info(
        "read %s lines: %s events, %s rejected",
        f"{report.lines:,}",
        f"{report.event_rows:,}",
        f"{report.rejected_rows:,}",
    )
    return report


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


def _check_file(name: str, tally: _Tally) -> None:
    if tally.events:
        return
    if not tally.lines:
        raise SourceError(f"{name} holds no lines.")
    reasons = tally.reasons.most_common(_SHOWN_REASONS)
    offset, reason = tally.first_rejected or (0, "")
    raise SourceError(
        f"{name} is not an event log: none of its {tally.lines:,} lines is an event. Expected is "
        "one JSON object a line. Commonest reasons: "
        + "; ".join(f"{kind} ({count:,} lines)" for kind, count in reasons)
        + f". The first such line starts at byte {offset:,}: {reason}."
    )


# What runs in a task.


def _run(
    blocks: Iterable[_Block], *, events_folder: str, rejected_folder: str, chunk_bytes: int
) -> Iterator[_Outcome]:
    """Never raises what a user can act on: through Spark it would arrive as a Java stack trace."""
    outcome = _Outcome()
    held: list[ParsedBlock] = []

    def write() -> None:
        events = pl.concat([parsed.events for parsed in held])
        rejected = pl.concat([parsed.rejected for parsed in held])
        held.clear()
        if events.height:
            outcome.events.append(
                write_part(events_folder, buckets.in_order(events), buckets.ROWS_TOGETHER)
            )
        if rejected.height:
            outcome.rejected.append(write_part(rejected_folder, rejected))

    try:
        written = 0
        for block in blocks:
            tally = outcome.tallies.setdefault(block.file.name, _Tally())
            for offset, data in _whole_lines(block, chunk_bytes):
                parsed = parse_block(
                    data, source_file=block.file.name, offset=offset, first=offset == 0
                )
                tally.add(parsed)
                held.append(parsed)
                outcome.bytes_read += len(data)
                if outcome.bytes_read - written >= _PART_BYTES:
                    write()
                    written = outcome.bytes_read
        if held:
            write()
    except SparkifyError as error:
        outcome.error = error
    yield outcome


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
