"""What makes a line an event, and the reason when it is not one."""

from __future__ import annotations

import gzip
import json
import time
from datetime import datetime, timezone
from pathlib import Path
from typing import Any
from unittest import mock

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sparkify_assets.events import parse
from sparkify_assets.events.buckets import buckets
from sparkify_assets.events.parse import ParsedBlock, count_lines, explain, kind_of, parse_block
from sparkify_assets.tables import RAW_EVENTS, REJECTED_LINES
from sparkify_assets_tests.fuzzing import EVENT


def line(**changes: Any) -> bytes:
    """A good line with some fields changed; `...` removes a field."""
    fields = {name: value for name, value in (EVENT | changes).items() if value is not ...}
    return json.dumps(fields).encode()


def parsed(data: bytes, *, offset: int = 0, first: bool = True) -> ParsedBlock:
    block = parse_block(data, source_file="log.json", offset=offset, first=first)
    assert block.events.schema == RAW_EVENTS.polars_schema
    assert block.rejected.schema == REJECTED_LINES.polars_schema
    assert block.lines == block.events.height + block.rejected.height
    return block


def test_an_event_keeps_every_field() -> None:
    (event,) = parsed(line() + b"\n").events.rows()
    (bucket,) = buckets(pl.Series([EVENT["userId"]]))
    assert event == (*EVENT.values(), "log.json", bucket)


def test_fields_that_are_missing_or_unknown() -> None:
    data = line(userId=..., artist=None, length=..., more={"deep": [1]})
    (event,) = parsed(data).events.to_dicts()
    assert (event["user_id"], event["artist"], event["length"]) == (None, None, None)


@pytest.mark.parametrize(
    ("bad", "reason"),
    [
        (b"", "blank line"),
        (b" \t ", "blank line"),
        (b"\r", "blank line"),
        (b"hello", "not JSON: Expecting value at character 0"),
        (b'{"ts": 1', "not JSON: Expecting ',' delimiter at character 8"),
        (line() + line(), f"not JSON: Extra data at character {len(line())}"),
        (b"[" + line() + b"]", "not a JSON object: an array"),
        (b"5", "not a JSON object: a number"),
        (b"null", "not a JSON object: null"),
        (b'{"a": 1}', "none of an event's fields"),
        (line(ts=...), "field ts is missing"),
        (line(ts=None), "field ts is missing"),
        (line(page=...), "field page is missing"),
        (line(auth=None), "field auth is missing"),
        (line(ts="1538352117000"), "field ts is text, a whole number is expected"),
        (line(ts=1538352117000.5), "field ts is a fraction, a whole number is expected"),
        (line(status=True), "field status is true or false, a whole number is expected"),
        (line(sessionId=10**30), "field sessionId is too large"),
        (line(sessionId=2**63), "field sessionId is too large"),
        (line(sessionId=1e300), "field sessionId is too large"),
        (line(length="long"), "field length is text, a number is expected"),
        (line(page={"name": "x"}), "field page is an object, text is expected"),
        (line(song=[1]), "field song is an array, text is expected"),
        (line(song="\ud83d"), "field song holds half a character"),
        (
            line(ts=1538352117),
            "ts looks like seconds: 1538352117; milliseconds since 1970 are expected",
        ),
        (
            line(ts=1538352117000000),
            "ts looks like microseconds: 1538352117000000; milliseconds since 1970 are expected",
        ),
        (line(ts=-5), "ts is out of range: -5 ms is not in 1990-01-01 to 2100-01-01"),
        (
            line(ts=32503680000000),
            "ts is out of range: 32503680000000 ms is not in 1990-01-01 to 2100-01-01",
        ),
        (line(registration=0), None),
        (line(length=float("nan")), "not JSON: NaN is not a JSON value"),
        (line().replace(b"277.89016", b"1e999"), None),
        (line(song="caf")[:-5].replace(b"caf", b"caf\xe9") + b"}", None),
        (b"caf\xe9 au lait", "not UTF-8: byte 3"),
        (b"\xff\xfe", "not UTF-8: byte 0 (it looks like UTF-16)"),
        (b"\x00", None),
    ],
)
def test_a_bad_line_among_good_ones(bad: bytes, reason: str | None) -> None:
    data = b"\n".join([line(userId="1"), bad, line(userId="2")]) + b"\n"
    block = parsed(data, offset=100, first=False)
    assert block.lines == 3
    assert block.events["user_id"].to_list() == ["1", "2"]
    (rejected,) = block.rejected.to_dicts()
    assert rejected["byte_offset"] == 100 + len(line(userId="1")) + 1
    assert rejected["source_file"] == "log.json"
    assert reason is None or rejected["reason"] == reason


def test_reasons_hold_no_names() -> None:
    for bad in (line(firstName=["Ann"], lastName="Doe"), line(ts="Ann"), line()[:200]):
        assert "Ann" not in str(explain(bad))
        assert "Doe" not in str(explain(bad))


def test_reasons_are_counted_by_kind() -> None:
    assert kind_of("not UTF-8: byte 17") == "not UTF-8"
    assert kind_of("blank line") == "blank line"


def test_the_range_of_times_is_half_open() -> None:
    low, high = 631152000000, 4102444800000  # 1990-01-01, 2100-01-01
    times = (low - 1, low, high - 1, high)
    block = parsed(b"\n".join(line(ts=ts, registration=None) for ts in times))
    assert block.events["ts"].to_list() == [low, high - 1]


def test_what_has_not_happened_yet_is_no_event() -> None:
    now = datetime(2018, 10, 1, tzinfo=timezone.utc)
    ms = int(now.timestamp() * 1000)
    data = b"\n".join(line(ts=ts, registration=ms + 9) for ts in (ms - 1, ms, ms + 5.0))
    block = parse_block(data, source_file="log.json", offset=0, first=True, until=now)
    assert block.events["ts"].to_list() == [ms - 1]
    assert block.rejected["reason"].to_list() == [
        f"ts is in the future: {ms + more} ms" for more in (0, 5)
    ]


def test_an_event_long_before_its_user_registered_is_of_a_wrong_clock() -> None:
    registered, year = 1538173362000, 365 * 86_400_000
    times = (registered - year, registered - year - 1, registered - year - 5.0)
    block = parsed(b"\n".join(line(ts=ts, registration=registered) for ts in times))
    assert block.events["ts"].to_list() == [registered - year]
    assert block.rejected["reason"].to_list() == [
        f"ts is more than a year before registration: {registered - year - more} ms"
        for more in (1, 5)
    ]
    assert parsed(line(ts=times[1], registration=None)).events.height == 1


def test_numbers_as_other_writers_write_them() -> None:
    block = parsed(
        line(userId=5, registration=1538173362000.0, length=3)
        + b"\n"
        + line(sessionId=2**60 + 1)
        + b"\n"
    )
    assert block.events["user_id"].to_list() == ["5", "30"]
    assert block.events["registration"].to_list() == [1538173362000] * 2
    assert block.events["session_id"].to_list() == [29, 2**60 + 1]
    assert block.events["length"].to_list() == [3.0, 277.89016]


def test_text_that_looks_strange_but_is_text() -> None:
    songs = ["[Interlude]", "{x}", '["a"]', "a\0b", "😀", "caf\u00c3\u00a9"]
    block = parsed(b"\n".join(line(song=song) for song in songs))
    assert block.events["song"].to_list() == songs


def test_the_first_of_a_repeated_field_counts() -> None:
    twice = line()[:-1] + b', "ts": "text", "page": {}}'
    block = parsed(twice + b"\n" + b"bad\n")
    assert block.events["ts"].to_list() == [EVENT["ts"]]


def test_byte_order_mark_only_where_the_file_begins() -> None:
    data = b"\xef\xbb\xbf" + line() + b"\n"
    assert parsed(data).events.height == 1
    assert parsed(data, first=False).rejected["reason"].to_list()[0].startswith("not JSON")
    assert parsed(b"\xef\xbb\xbfbad\n").rejected["byte_offset"].to_list() == [3]
    assert parsed(b"\xef\xbb\xbf").lines == 0


def test_crlf() -> None:
    block = parsed(line() + b"\r\n\r\n" + b"bad\r\n" + line() + b"\r\n")
    assert block.events.height == 2
    assert block.rejected.rows() == [
        ("log.json", len(line()) + 2, "blank line", ""),
        ("log.json", len(line()) + 4, "not JSON: Expecting value at character 0", "bad"),
    ]


def test_the_last_line() -> None:
    assert parsed(line()).events.height == 1
    assert parsed(b"").lines == 0
    assert parsed(b"\n").rejected["reason"].to_list() == ["blank line"]
    for cut in (line()[:-1], line()[:40], line(song="é").decode("unicode_escape").encode()[:-30]):
        block = parsed(line() + b"\n" + cut)
        assert block.rejected["reason"].to_list() == ["line is cut off"]
    half_character = b'{"page": "\xc3'
    assert parsed(half_character).rejected["reason"].to_list() == ["line is cut off"]
    assert parsed(half_character + b"\n").rejected["reason"].to_list() == ["not UTF-8: byte 10"]
    assert parsed(b"hello").rejected["reason"].to_list()[0].startswith("not JSON")


def test_long_lines() -> None:
    a_megabyte = line(song="x" * 10**6)
    block = parsed(a_megabyte + b"\n" + b"bad" * 400_000 + b"\n" + a_megabyte)
    assert block.events["song"].str.len_bytes().to_list() == [10**6] * 2
    assert block.rejected["text"].str.len_bytes().to_list() == [1_200_000]

    too_long = line(song="x" * parse.MAX_LINE_BYTES)
    block = parsed(line() + b"\n\n" + too_long + b"\n" + line() + b"\n")
    assert block.events.height == 2
    assert block.rejected["reason"].to_list() == [
        "blank line",
        "line is too long: more than 16 MiB",
    ]
    assert block.rejected["text"].str.len_chars().to_list() == [0, parse.KEPT_OF_LONG_LINE + 2]


def test_text_of_a_rejected_line_that_is_not_utf8() -> None:
    assert parsed(b"caf\xe9\n").rejected["text"].to_list() == ["caf\\xe9"]


def test_a_block_of_garbage_takes_no_longer_than_a_few_good_ones() -> None:
    garbage = (line()[:-30] + b"\n") * 20_000
    started = time.perf_counter()
    assert parsed(garbage).events.height == 0
    assert time.perf_counter() - started < 10


values = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-(2**70), 2**70),
    st.integers(631152000000, 4102444800000),
    st.floats(),
    st.text(max_size=5),
    st.lists(st.integers(), max_size=2),
    st.dictionaries(st.text(max_size=2), st.integers(), max_size=2),
)
fields = st.sampled_from([*EVENT, "other"])
good = st.builds(lambda user: line(userId=user), st.text(max_size=3))
changed = st.builds(lambda changes: line(**changes), st.dictionaries(fields, values, max_size=2))
mutilated = st.builds(lambda cut, tail: line()[:cut] + tail, st.integers(0, 400), st.binary())
any_line = st.one_of(good, changed, mutilated, st.binary()).map(lambda b: b.replace(b"\n", b""))


@given(st.lists(any_line, max_size=30), st.sampled_from([b"\n", b"\r\n"]), st.integers(1, 40))
def test_a_line_is_judged_by_itself(lines: list[bytes], newline: bytes, few: int) -> None:
    with mock.patch.multiple(parse, _FEW_LINES=few, _PIECES=3):
        together = parsed(b"".join(line + newline for line in lines), first=False)
    offset, alone = 0, []
    for each in lines:
        alone.append(parsed(each + newline, offset=offset, first=False))
        offset += len(each + newline)
    assert together.lines == len(lines)
    if lines:
        assert together.events.equals(pl.concat([block.events for block in alone]))
        assert together.rejected.equals(pl.concat([block.rejected for block in alone]))


@given(any_line, st.booleans())
def test_the_contract_holds_for_any_line(data: bytes, ended: bool) -> None:
    block = parsed(data + b"\n" * ended)
    required = [column.name for column in RAW_EVENTS.columns if not column.nullable]
    assert sum(block.events.select(required).null_count().row(0)) == 0
    if block.events.height:
        assert explain(data.removesuffix(b"\r").removeprefix(b"\xef\xbb\xbf")) is None


@given(st.binary())
def test_lines_are_counted_from_the_bytes(data: bytes) -> None:
    pieces = data.split(b"\n")
    assert count_lines(data) == len(pieces) - (pieces[-1] == b"")


@pytest.mark.parametrize(
    ("name", "lines", "logged_out"),
    [("mini_events_partial.jsonl.gz", 10_921, 79), ("full_events_first_1000.jsonl.gz", 1_000, 19)],
)
def test_real_rows(real_rows: Path, name: str, lines: int, logged_out: int) -> None:
    block = parsed(gzip.decompress((real_rows / name).read_bytes()))
    assert (block.lines, block.rejected.height) == (lines, 0)
    assert block.events.filter(pl.col.auth.is_in(["Logged Out", "Guest"])).height == logged_out
