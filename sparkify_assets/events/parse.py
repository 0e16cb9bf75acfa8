"""From bytes of an event log to typed events and rejected lines: pure functions on Polars frames.

Belongs here: what makes a line an event, and the reason given when it is not one.
Does not belong here: where the bytes come from (`source.py`), how the work is spread and stored
(`ingest.py`), which events count (`clean.py`).

Whether a line is an event depends on that line alone, never on its neighbours. Polars reads
whole blocks; `json` only looks at the lines that Polars or the range checks object to.
"""

from __future__ import annotations

import itertools
import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timezone
from typing import Any

import numpy as np
import polars as pl
import polars.selectors as cs

from sparkify_assets.events.buckets import BUCKET, with_buckets
from sparkify_assets.tables import INTEGER, NUMBER, RAW_EVENTS, REJECTED_LINES, STRING

MAX_LINE_BYTES = 16 * 2**20
"""A longer line is rejected, and only its beginning is kept."""

KEPT_OF_LONG_LINE = 1_000
"""Bytes that are kept of a line longer than MAX_LINE_BYTES."""

EARLIEST = datetime(1990, 1, 1, tzinfo=timezone.utc)
LATEST = datetime(2100, 1, 1, tzinfo=timezone.utc)
"""`ts` and `registration` lie in [EARLIEST, LATEST); of `ts` the caller knows a closer end."""

_EARLIEST_MS = int(EARLIEST.timestamp()) * 1000
_LATEST_MS = int(LATEST.timestamp()) * 1000
_TIMES = ("ts", "registration")
# An event so long before its user registered is of a wrong clock; it would move the log's start.
_BEFORE_MS = 365 * 86_400_000
_BOM = b"\xef\xbb\xbf"
# Of a line that may be an event; Polars would unpack what begins like a compressed file.
_STARTS = (b"", b"{", b" ", b"\t", b"\r", b"\n")
_EXACT_FLOAT = 2**53  # every whole number below it is exact as a float

# A failing piece of more lines is cut into _PIECES; of fewer lines, `json` looks at each one,
# which takes about as long as the fixed cost of the reads that cutting would need.
_FEW_LINES = 1_000
_PIECES = 16
_HALF_CHARACTER = re.compile("[\ud800-\udfff]")
_ESCAPED_NUL_OR_HALF = re.compile(rb"\\u(0000|[dD][89a-fA-F])")
_NEVER = pl.lit(False)


def _field(column: str) -> str:
    """The log's name of a column: session_id -> sessionId."""
    return re.sub(r"_(.)", lambda match: match[1].upper(), column)


_NOT_IN_LOG = ("source_file", BUCKET)
_LOG_COLUMNS = [column for column in RAW_EVENTS.columns if column.name not in _NOT_IN_LOG]
_FIELD = {column.name: _field(column.name) for column in _LOG_COLUMNS}
_REQUIRED = [_FIELD[c.name] for c in _LOG_COLUMNS if not c.nullable]
_WHOLE = [_FIELD[c.name] for c in _LOG_COLUMNS if c.type == INTEGER]
_NUMBERS = [_FIELD[c.name] for c in _LOG_COLUMNS if c.type == NUMBER]
_ALLOWED = {_FIELD[c.name]: c.allowed for c in _LOG_COLUMNS if c.allowed}
_MINIMUM = {_FIELD[c.name]: c.minimum for c in _LOG_COLUMNS if c.minimum is not None}
_TEXTS = [_FIELD[c.name] for c in _LOG_COLUMNS if c.type == STRING]

_EVENTS_SCHEMA = pl.Schema(RAW_EVENTS.arrow_schema)
_REJECTED_SCHEMA = pl.Schema(REJECTED_LINES.arrow_schema)
_SCHEMA = {_FIELD[name]: kind for name, kind in _EVENTS_SCHEMA.items() if name in _FIELD}
# pandas and others write a whole number as 5.0 where its column holds nulls.
_FLOAT_SCHEMA = {
    field: pl.Float64() if field in _WHOLE else kind for field, kind in _SCHEMA.items()
}
_COLUMN = {field: name for name, field in _FIELD.items()}


@dataclass(frozen=True)
class ParsedBlock:
    """Whole lines of one file: `lines == len(events) + len(rejected)`, both in line order."""

    events: pl.DataFrame
    """Contract RAW_EVENTS."""
    rejected: pl.DataFrame
    """Contract REJECTED_LINES."""
    lines: int
    """Lines in the bytes, counted from the bytes alone."""


def parse_block(
    data: bytes, *, source_file: str, offset: int, first: bool, until: datetime = LATEST
) -> ParsedBlock:
    """Parse whole lines; the last one may lack its newline where the file ends.

    `offset` is the place of data[0] in the file, in bytes. `first` says that the file begins
    here, where a UTF-8 byte order mark is skipped. Of `until` or later nothing can have happened.
    No content of `data` raises an error.
    """
    if first and data.startswith(_BOM):
        data, offset = data[len(_BOM) :], offset + len(_BOM)
    lines = count_lines(data)
    frame = None if _may_hold_long_line(data) else _read(data)
    until_ms = int(until.timestamp() * 1000)
    if frame is not None and frame.height == lines and not _doubtful(frame, data, until_ms).any():
        events, rejected = frame, _rejected_frame([], [], [])
    else:
        events, rejected = _parse_with_bad_lines(data, until_ms)
    if events.height + rejected.height != lines:
        raise AssertionError(f"{lines} lines became {events.height} + {rejected.height} rows")
    events = events.rename(_COLUMN).with_columns(_text(source_file).alias("source_file"))
    return ParsedBlock(
        with_buckets(events),
        rejected.select(
            _text(source_file).alias("source_file"),
            pl.col("byte_offset") + offset,
            "reason",
            "text",
        ),
        lines,
    )


def count_lines(data: bytes) -> int:
    """Lines in `data`; a newline ends a line, and what follows the last one is a line too."""
    newlines = np.count_nonzero(np.frombuffer(data, np.uint8) == ord("\n"))
    return int(newlines) + (not data.endswith(b"\n") and bool(data))


def kind_of(reason: str) -> str:
    """A reason without its particulars, for counting: 'not UTF-8: byte 17' -> 'not UTF-8'."""
    return reason.partition(": ")[0]


def explain(line: bytes, *, ended: bool = True, until_ms: int = _LATEST_MS) -> str | None:
    """Why `line`, without its newline, is not an event; None where nothing is found against it.

    `ended=False` says that the file ends without a newline here. A reason is a kind, or a kind
    and particulars after ': '. It holds no value of the line other than times.
    """
    if len(line) > MAX_LINE_BYTES:
        return f"line is too long: more than {MAX_LINE_BYTES // 2**20} MiB"
    if not line.strip(b" \t\r"):
        return "blank line"
    try:
        event = _DECODER.decode(line.decode("utf-8"))
    except UnicodeDecodeError as error:
        if not ended and error.end == len(line) and "unexpected end" in error.reason:
            return "line is cut off"
        utf16 = " (it looks like UTF-16)" if line[:2] in (b"\xff\xfe", b"\xfe\xff") else ""
        return f"not UTF-8: byte {error.start}{utf16}"
    except json.JSONDecodeError as error:
        if not ended and line.lstrip().startswith(b"{") and not error.msg.startswith("Extra data"):
            return "line is cut off"
        return f"not JSON: {error.msg.removesuffix(' at')} at character {error.pos}"
    except RecursionError:
        return None  # Polars may reach deeper, so it decides
    except ValueError as error:
        return f"not JSON: {error}"
    if not isinstance(event, dict):
        return f"not a JSON object: {_kind(event)}"
    return next(_faults(event, until_ms), None)


def _faults(event: dict[str, Any], until_ms: int) -> Iterator[str]:
    if not any(field in event for field in _SCHEMA):
        yield "none of an event's fields"
    for field in _REQUIRED:
        if event.get(field) is None:
            yield f"field {field} is missing"
    for field in _WHOLE:
        yield from _number_faults(event, field, "a whole number")
    for field in _NUMBERS:
        yield from _number_faults(event, field, "a number")
    for field in _TEXTS:
        value = event.get(field)
        if isinstance(value, dict | list):
            yield f"field {field} is {_kind(value)}, text is expected"
        elif isinstance(value, str) and _HALF_CHARACTER.search(value):
            yield f"field {field} holds half a character"
    for field, allowed in _ALLOWED.items():
        if event.get(field) is not None and event[field] not in allowed:
            yield f"field {field} is none of {', '.join(allowed)}"
    for field, minimum in _MINIMUM.items():
        if event.get(field) is not None and event[field] < minimum:
            yield f"field {field} is less than {minimum:g}"
    for field in _TIMES:
        if event.get(field) is not None:
            yield from _time_faults(field, int(event[field]))
    if event["ts"] >= until_ms:
        yield f"ts is in the future: {int(event['ts'])} ms"
    if event.get("registration") is not None and event["registration"] - event["ts"] > _BEFORE_MS:
        yield f"ts is more than a year before registration: {int(event['ts'])} ms"


def _number_faults(event: dict[str, Any], field: str, expected: str) -> Iterator[str]:
    value = event.get(field)
    if value is None:
        return
    if isinstance(value, bool) or not isinstance(value, int | float):
        yield f"field {field} is {_kind(value)}, {expected} is expected"
    elif field in _WHOLE and isinstance(value, float) and not abs(value) < _EXACT_FLOAT:
        yield f"field {field} is too large"
    elif field in _WHOLE and isinstance(value, float) and not value.is_integer():
        yield f"field {field} is a fraction, {expected} is expected"
    elif field in _WHOLE and not -(2**63) <= value < 2**63:
        yield f"field {field} is too large"


def _time_faults(field: str, value: int) -> Iterator[str]:
    if _EARLIEST_MS <= value < _LATEST_MS:
        return
    units = {"seconds": 1000, "microseconds": 1e-3, "nanoseconds": 1e-6}
    for unit, factor in units.items():
        if _EARLIEST_MS <= value * factor < _LATEST_MS:
            yield f"{field} looks like {unit}: {value}; milliseconds since 1970 are expected"
    yield f"{field} is out of range: {value} ms is not in {EARLIEST:%Y-%m-%d} to {LATEST:%Y-%m-%d}"


def _kind(value: Any) -> str:
    kinds = {dict: "an object", list: "an array", str: "text", bool: "true or false"}
    return "null" if value is None else kinds.get(type(value), "a number")


def _no_constant(name: str) -> Any:
    raise ValueError(f"{name} is not a JSON value")


_DECODER = json.JSONDecoder(
    object_pairs_hook=lambda pairs: dict(reversed(pairs)),  # of a repeated name the first counts
    parse_int=lambda digits: int(digits) if len(digits) < 25 else float(digits),
    parse_constant=_no_constant,
)
_UNEXPLAINED = "not JSON: a number or a nesting beyond what is read"


def _read(data: bytes) -> pl.DataFrame | None:
    """The events in `data` under the log's own names, without blank lines; None where any fails."""
    if data[:1] not in _STARTS:
        return None
    try:
        return pl.read_ndjson(data, schema=_SCHEMA)
    except pl.exceptions.ComputeError as error:
        if "(f64)" not in str(error):
            return None
    try:
        frame = pl.read_ndjson(data, schema=_FLOAT_SCHEMA)
    except pl.exceptions.ComputeError:
        return None
    numbers = pl.col(_WHOLE)
    exact = (numbers.abs() < _EXACT_FLOAT) & (numbers == numbers.floor())
    if not frame.select(pl.all_horizontal(exact.fill_null(True).all())).item():
        return None
    return frame.cast(dict(_SCHEMA))  # type: ignore[arg-type]


def _doubtful(frame: pl.DataFrame, data: bytes, until_ms: int) -> pl.Series:
    """True for each row whose line must be looked at, though Polars could read it."""
    text = cs.string()
    # Polars writes an object or array into a text column as JSON, and half a UTF-16 pair as NUL.
    strange = text.str.starts_with("{") | text.str.starts_with("[")
    nul = text.str.contains("\0", literal=True) if _ESCAPED_NUL_OR_HALF.search(data) else _NEVER
    times = pl.col(_TIMES).is_between(_EARLIEST_MS, _LATEST_MS, closed="left")
    odd = [~pl.col(field).is_in(allowed) for field, allowed in _ALLOWED.items()]
    odd += [pl.col(field) < minimum for field, minimum in _MINIMUM.items()]
    return frame.select(
        (
            pl.any_horizontal(pl.col(_REQUIRED).is_null())
            | ~pl.all_horizontal(times.fill_null(True))
            | (pl.col("ts") >= until_ms)
            | (pl.col("registration") - pl.col("ts") > _BEFORE_MS).fill_null(False)
            | pl.any_horizontal(*odd).fill_null(False)
            | pl.any_horizontal(strange.fill_null(False))
            | pl.any_horizontal(nul.fill_null(False))
        ).alias("doubtful")
    ).to_series()


def _may_hold_long_line(data: bytes) -> bool:
    """False only if no line is too long: a long line fills some window of half its length."""
    window = MAX_LINE_BYTES // 2
    starts = range(0, len(data) - window + 1, window)
    return any(data.find(b"\n", start, start + window) < 0 for start in starts)


class _Lines:
    """Lines of a block, numbered from 0."""

    def __init__(self, data: bytes, starts: np.ndarray, ends: np.ndarray, until_ms: int) -> None:
        self.data, self.starts, self.ends, self.until_ms = data, starts, ends, until_ms

    def only(self, chosen: Any) -> _Lines:
        return _Lines(self.data, self.starts[chosen], self.ends[chosen], self.until_ms)

    def __getitem__(self, number: int) -> bytes:
        return self.data[self.starts[number] : self.ends[number]]

    def together(self, low: int, high: int) -> bytes:
        return self.data[self.starts[low] : self.ends[high - 1]]

    def reason(self, number: int) -> str | None:
        ended = bool(self.ends[number] < len(self.data))
        return explain(self[number], ended=ended, until_ms=self.until_ms)


def _parse_with_bad_lines(data: bytes, until_ms: int) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Like the good case, at a cost that grows with the number of bad lines."""
    raw = np.frombuffer(data, np.uint8)
    newlines = np.flatnonzero(raw == ord("\n"))
    starts = np.concatenate([[0], newlines + 1])
    ends = np.concatenate([newlines, [len(data)]])
    if starts[-1] == len(data):
        starts, ends = starts[:-1], ends[:-1]
    lengths = ends - starts
    blank = (lengths == 0) | ((lengths == 1) & (raw[np.minimum(starts, ends - 1)] == ord("\r")))
    long = lengths > MAX_LINE_BYTES

    every = _Lines(data, starts, ends, until_ms)
    usual = every.only(~blank & ~long)
    reasons: dict[int, str] = {}
    events = [pl.DataFrame(schema=_SCHEMA)]
    # Pieces are read as one stretch of bytes, so no long line may lie within one.
    borders = np.searchsorted(usual.starts, starts[long])
    bounds = [0, *borders.tolist(), len(usual.starts)]
    for low, high in itertools.pairwise(bounds):
        events += _parse_lines(usual, low, high, reasons)

    bad = usual.only(list(reasons))
    too_long = every.only(long)
    rejected = [
        _rejected_frame(starts[blank], ["blank line"] * int(blank.sum()), [""] * int(blank.sum())),
        _rejected_frame(
            bad.starts, list(reasons.values()), [_shown(bad[i]) for i in range(len(bad.starts))]
        ),
        _rejected_frame(
            too_long.starts,
            [too_long.reason(i) or "" for i in range(len(too_long.starts))],
            [_shown(too_long[i]) for i in range(len(too_long.starts))],
        ),
    ]
    return pl.concat(events), pl.concat(rejected).sort("byte_offset")


def _parse_lines(
    lines: _Lines, low: int, high: int, reasons: dict[int, str]
) -> Iterator[pl.DataFrame]:
    """Yield the events among lines low..high; the reasons of the others go into `reasons`."""
    if low == high:
        return
    together = lines.together(low, high)
    frame = _read(together)
    if frame is not None and frame.height == high - low:
        doubtful = _doubtful(frame, together, lines.until_ms).arg_true().to_list()
        found = {low + row: reason for row in doubtful if (reason := lines.reason(low + row))}
        reasons.update(found)
        keep = np.ones(high - low, bool)
        keep[[number - low for number in found]] = False
        yield frame.filter(pl.Series(keep)) if found else frame
    elif high - low <= _FEW_LINES:
        yield from _parse_few(lines, low, high, reasons)
    else:
        bounds = np.linspace(low, high, _PIECES + 1).astype(int).tolist()
        for left, right in itertools.pairwise(bounds):
            yield from _parse_lines(lines, left, right, reasons)


def _parse_few(
    lines: _Lines, low: int, high: int, reasons: dict[int, str]
) -> Iterator[pl.DataFrame]:
    good = []
    for number in range(low, high):
        if reason := lines.reason(number):
            reasons[number] = reason
        else:
            good.append(number)
    frame = _read(b"\n".join(lines[number] for number in good))
    if frame is not None and frame.height == len(good):
        yield frame
        return
    for number in good:  # rare: `json` found nothing, yet Polars cannot read one of them
        frame = _read(lines[number])
        if frame is not None and frame.height == 1:
            yield frame
        else:
            reasons[number] = _UNEXPLAINED


def _shown(line: bytes) -> str:
    if len(line) > MAX_LINE_BYTES:
        return line[:KEPT_OF_LONG_LINE].decode("utf-8", "backslashreplace") + " …"
    return line.removesuffix(b"\r").decode("utf-8", "backslashreplace")


def _rejected_frame(offsets: Any, reasons: list[str], texts: list[str]) -> pl.DataFrame:
    columns = {"byte_offset": np.asarray(offsets, np.int64), "reason": reasons, "text": texts}
    return pl.DataFrame(columns, schema={name: _REJECTED_SCHEMA[name] for name in columns})


def _text(value: str) -> pl.Expr:
    return pl.lit(value, dtype=pl.String)
