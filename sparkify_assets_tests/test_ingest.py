"""Every line of a log becomes a row of exactly one part file, however the log is cut."""

from __future__ import annotations

import bz2
import gzip
import json
import os
import random
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any
from unittest import mock

import polars as pl
import pytest
import zstandard
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from sparkify_assets.errors import LakeError, SourceError
from sparkify_assets.events import buckets, parse
from sparkify_assets.events import ingest as module
from sparkify_assets.events.buckets import BUCKET
from sparkify_assets.events.ingest import IngestReport, cut, ingest, slice_of
from sparkify_assets.events.log import identity
from sparkify_assets.events.parse import parse_block
from sparkify_assets.events.source import LogFile, find_log_files
from sparkify_assets.tables import RAW_EVENTS, REJECTED_LINES, PartFile

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

COMPRESS: dict[str, Callable[[bytes], bytes]] = {
    "gz": gzip.compress,
    "bz2": bz2.compress,
    "zst": zstandard.ZstdCompressor().compress,
}


def event(number: int) -> bytes:
    fields = {
        "ts": 1538352117000 + number,
        "userId": str(number % 7),
        "sessionId": number,
        "page": "Home",
        "auth": "Logged In",
        "song": "é" * (number % 3),
    }
    return json.dumps(fields, ensure_ascii=False).encode()


def some_lines(count: int) -> bytes:
    """Good lines, with a bad one now and then."""
    bad = {3: b"", 50: b"garbage", 51: b"\xff", 120: b'{"ts": 1}'}
    return b"\n".join(bad.get(i % 200, event(i)) for i in range(count)) + b"\n"


def log_of(path: Path) -> list[LogFile]:
    return find_log_files(str(path), variable="A_SOURCE", downloads=path.parent)


def read(folder: Path, parts: list[PartFile], columns: list[str]) -> pl.DataFrame:
    frames = [pl.read_parquet(folder / part.path) for part in parts]
    assert [frame.height for frame in frames] == [part.rows for part in parts]
    assert [(folder / part.path).stat().st_size for part in parts] == [part.size for part in parts]
    return pl.concat(frames) if frames else pl.DataFrame(schema=dict.fromkeys(columns))


class Lake:
    """Two folders, and what was written into them."""

    def __init__(self, folder: Path) -> None:
        self.events, self.rejected = folder / "events", folder / "rejected"

    def ingest(self, spark: SparkSession, files: list[LogFile], **more: Any) -> IngestReport:
        folders = {"events_folder": str(self.events), "rejected_folder": str(self.rejected)}
        return ingest(spark, files, **(folders | more))

    def tables(self, report: IngestReport) -> tuple[pl.DataFrame, pl.DataFrame]:
        events = read(self.events, report.events, RAW_EVENTS.names)
        rejected = read(self.rejected, report.rejected, REJECTED_LINES.names)
        return events.sort("session_id"), rejected

    @property
    def files(self) -> list[Path]:
        return [*self.events.glob("*/*"), *self.rejected.glob("*/*")]


@pytest.fixture
def lake(tmp_path: Path) -> Lake:
    return Lake(tmp_path / "lake")


def test_every_line_is_in_one_table(spark: SparkSession, lake: Lake, tmp_path: Path) -> None:
    data = some_lines(1_000)
    (tmp_path / "log.json").write_bytes(data)
    report = lake.ingest(spark, log_of(tmp_path / "log.json"), block_bytes=10_000)
    expected = parse_block(data, source_file="log.json", offset=0, first=True)
    events, rejected = lake.tables(report)
    assert events.equals(expected.events.sort("session_id"))
    assert rejected.sort("byte_offset").equals(expected.rejected)
    assert (report.lines, report.event_rows, report.rejected_rows) == (1_000, 980, 20)
    assert report.bytes_read == len(data)
    assert report.reasons == {
        "blank line": 5,
        "not JSON": 5,
        "not UTF-8": 5,
        "field page is missing": 5,
    }
    assert len(report.events) > 5
    assert sorted(lake.files) == sorted(
        [lake.events / p.path for p in report.events]
        + [lake.rejected / p.path for p in report.rejected]
    )


def test_a_part_is_in_order_of_time_and_says_between_what_it_lies(
    spark: SparkSession, lake: Lake, tmp_path: Path
) -> None:
    backwards = b"\n".join(reversed(some_lines(500).splitlines()))
    (tmp_path / "log.json").write_bytes(backwards)
    report = lake.ingest(spark, log_of(tmp_path / "log.json"), block_bytes=10_000)
    assert len(report.events) > 1
    for part in report.events:
        rows = pl.read_parquet(lake.events / part.path)
        assert rows["ts"].is_sorted()
        assert part.bounds == {"ts": (rows["ts"][0], rows["ts"][-1])}
        assert rows[BUCKET].to_list() == buckets.buckets(rows["user_id"]).to_list()


def test_events_of_the_same_time_stay_in_the_order_of_the_log(
    spark: SparkSession, lake: Lake, tmp_path: Path
) -> None:
    told = [json.dumps(json.loads(event(number)) | {"ts": 1538352117000}) for number in range(50)]
    (tmp_path / "log.json").write_text("\n".join(told))
    report = lake.ingest(spark, log_of(tmp_path / "log.json"))
    (part,) = report.events
    rows = pl.read_parquet(lake.events / part.path)
    assert rows["session_id"].to_list() == list(range(50))


def test_a_file_is_reported_and_stored_apart_from_others(
    spark: SparkSession, lake: Lake, tmp_path: Path
) -> None:
    one, two = event(1) + b"\nno event\n", event(2) + b"\n" + event(86_400_000)
    (tmp_path / "one.json").write_bytes(one)
    (tmp_path / "two.json").write_bytes(two)
    report = lake.ingest(spark, log_of(tmp_path))
    first, second = report.files["one.json"], report.files["two.json"]
    assert (first.lines, first.events, first.rejected, first.bytes_read) == (2, 1, 1, len(one))
    assert (second.lines, second.events, second.rejected, second.bytes_read) == (2, 2, 0, len(two))
    assert first.days == {"2018-10-01": 1}
    assert second.days == {"2018-10-01": 1, "2018-10-02": 1}
    assert {part.slice: part.rows for part in report.events} == {
        slice_of("one.json"): 1,
        slice_of("two.json"): 2,
    }
    assert [part.slice for part in report.rejected] == [slice_of("one.json")]


def test_a_full_part_is_written_before_the_task_ends(
    spark: SparkSession, lake: Lake, tmp_path: Path
) -> None:
    (tmp_path / "log.json").write_bytes(some_lines(1_000))
    blocks = cut(log_of(tmp_path / "log.json")[0], 10_000)
    folders = {"events_folder": str(lake.events), "rejected_folder": str(lake.rejected)}
    with mock.patch.object(module, "_PART_BYTES", 25_000):
        (outcome,) = module._run(blocks, **folders, chunk_bytes=10_000, until=parse.LATEST)
    assert len(blocks) > len(outcome.events) > 1
    assert sum(part.rows for part in outcome.events) == 980
    assert outcome.files["log.json"].lines == 1_000


def test_a_few_bytes_that_become_many_lines_take_no_more_memory_than_a_log(
    spark: SparkSession, lake: Lake, tmp_path: Path
) -> None:
    """A compressed file of next to nothing may hold millions of lines that are none."""
    whole = event(1) + b"\n" + b"\n{}\n" * 500 + b"0\n" * 2_000 + b"la" * 5_000 + b"\n" * 99
    (tmp_path / "log.json.gz").write_bytes(gzip.compress(whole))
    seen: list[int] = []

    def watched(data: bytes, **how: Any) -> parse.ParsedBlock:
        parsed = parse_block(data, **how)
        seen.append(parsed.lines)
        return parsed

    with (
        mock.patch.object(module, "_LINES_TOGETHER", 100),
        mock.patch.object(module, "_PART_LINES", 300),
        mock.patch.object(module, "parse_block", watched),
    ):
        folders = {"events_folder": str(lake.events), "rejected_folder": str(lake.rejected)}
        blocks = cut(log_of(tmp_path / "log.json.gz")[0], 10_000)
        (outcome,) = module._run(blocks, **folders, chunk_bytes=10_000, until=parse.LATEST)
    assert max(seen) <= 100
    assert max(part.rows for part in outcome.rejected) <= 300 + 100
    rejected = read(lake.rejected, outcome.rejected, REJECTED_LINES.names)
    expected = parse_block(whole, source_file="log.json.gz", offset=0, first=True)
    assert rejected.sort("byte_offset").equals(expected.rejected)
    assert outcome.files["log.json.gz"].lines == expected.lines
    assert outcome.files["log.json.gz"].reasons.total() == expected.rejected.height


def test_no_rejected_lines_no_rejected_files(
    spark: SparkSession, lake: Lake, tmp_path: Path
) -> None:
    (tmp_path / "log.json").write_bytes(event(1) + b"\n" + event(2))
    report = lake.ingest(spark, log_of(tmp_path / "log.json"))
    assert (report.lines, report.event_rows, report.rejected, report.reasons) == (2, 2, [], {})


def test_compressed_files_give_the_same_tables(
    spark: SparkSession, lake: Lake, tmp_path: Path
) -> None:
    data = some_lines(2_000)
    half = data.index(b"\n", len(data) // 2)  # several members, streams or frames are one file
    (tmp_path / "plain.json").write_bytes(data)
    for ending, compress in COMPRESS.items():
        (tmp_path / f"log.json.{ending}").write_bytes(compress(data[:half]) + compress(data[half:]))
    report = lake.ingest(spark, log_of(tmp_path), block_bytes=20_000)
    events, rejected = lake.tables(report)
    assert report.lines == 4 * 2_000
    assert report.bytes_read == 4 * len(data)
    plain = events.filter(source_file="plain.json").drop("source_file")
    for ending in COMPRESS:
        name = f"log.json.{ending}"
        assert events.filter(source_file=name).drop("source_file").equals(plain)
        assert (
            rejected.filter(source_file=name)["byte_offset"].sort().to_list()
            == rejected.filter(source_file="plain.json")["byte_offset"].sort().to_list()
        )


@pytest.mark.parametrize("ending", COMPRESS)
def test_a_compressed_file_of_several_members(
    spark: SparkSession, lake: Lake, tmp_path: Path, ending: str
) -> None:
    """As parallel compressors and `cat` make them; a line may lie in two, and one may be empty."""
    data, compress = some_lines(1_000), COMPRESS[ending]
    middle = len(data) // 2 + 5
    members = [compress(part) for part in (b"", data[:middle], data[middle:], b"")]
    (tmp_path / f"log.json.{ending}").write_bytes(b"".join(members))
    report = lake.ingest(spark, log_of(tmp_path / f"log.json.{ending}"))
    expected = parse_block(data, source_file=f"log.json.{ending}", offset=0, first=True)
    events, rejected = lake.tables(report)
    assert events.equals(expected.events.sort("session_id"))
    assert rejected.equals(expected.rejected)


@pytest.mark.parametrize("ending", COMPRESS)
@pytest.mark.parametrize(
    ("extra", "message"),
    [
        (b"and what is no member", "it is damaged or cut off"),
        (None, "is not an event log: none of its"),  # packed twice
        (b"", r"holds no lines"),
    ],
)
def test_a_compressed_file_that_holds_something_else(
    spark: SparkSession, lake: Lake, tmp_path: Path, ending: str, extra: bytes | None, message: str
) -> None:
    compress, data = COMPRESS[ending], some_lines(100)
    content = compress(compress(data)) if extra is None else compress(data if extra else b"")
    (tmp_path / f"log.json.{ending}").write_bytes(content + (extra or b""))
    with pytest.raises(SourceError, match=rf"^log\.json\.{ending} .*{message}"):
        lake.ingest(spark, log_of(tmp_path / f"log.json.{ending}"))
    assert lake.files == []


@pytest.mark.parametrize("ending", COMPRESS)
@pytest.mark.parametrize("damage", ["truncated", "flipped"])
def test_a_damaged_compressed_file(
    spark: SparkSession, lake: Lake, tmp_path: Path, ending: str, damage: str
) -> None:
    noise = random.Random(5)
    data = b"".join(event(noise.randrange(10**9)) + b"\n" for _ in range(20_000))
    whole = bytearray(
        zstandard.ZstdCompressor(write_checksum=True).compress(data)
        if ending == "zst"
        else COMPRESS[ending](data)
    )
    if damage == "truncated":
        del whole[-len(whole) // 10 :]
    else:
        whole[-len(whole) // 4] ^= 255
    (tmp_path / f"log.json.{ending}").write_bytes(whole)
    (tmp_path / "good.json").write_bytes(data)
    with pytest.raises(SourceError, match=rf"log.json.{ending} could be read up to byte [\d,]+ of"):
        lake.ingest(spark, log_of(tmp_path), block_bytes=100_000)
    assert lake.files == []


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"hello\nworld\n", r"none of its 2 lines is an event.* not JSON \(2 lines\)"),
        (b"\n\n\n", r"none of its 3 lines .*blank line \(3 lines\).*starts at byte 0: blank line"),
        (b'{"name": "Ann"}\n', r"none of an event's fields \(1 lines\)"),
        (b'{"ts": 1538352117, "page": "Home", "auth": "x"}', "looks like seconds"),
        (b"\xef\xbb\xbf", "holds no lines"),
    ],
)
def test_a_file_without_any_event(
    spark: SparkSession, lake: Lake, tmp_path: Path, content: bytes, message: str
) -> None:
    (tmp_path / "bad.json").write_bytes(content)
    (tmp_path / "good.json").write_bytes(event(1))
    with pytest.raises(SourceError, match=f"bad.json.*{message}") as raised:
        lake.ingest(spark, log_of(tmp_path))
    assert "Ann" not in str(raised.value)
    assert lake.files == []


def test_a_file_that_changes_or_vanishes(spark: SparkSession, lake: Lake, tmp_path: Path) -> None:
    path = tmp_path / "log.json"
    path.write_bytes(event(1))
    files = log_of(path)
    path.write_bytes(event(1) + b"\n" + event(2))
    with pytest.raises(SourceError, match=r"log.json changed while it was read"):
        lake.ingest(spark, files)
    path.unlink()
    with pytest.raises(SourceError, match=r"log.json could be read up to byte 0"):
        lake.ingest(spark, files)


def test_a_folder_that_cannot_be_written(spark: SparkSession, tmp_path: Path) -> None:
    (tmp_path / "log.json").write_bytes(event(1))
    (tmp_path / "lake").write_text("a file where a folder is needed")
    with pytest.raises(LakeError, match=f"{tmp_path}/lake/events.* cannot be written"):
        Lake(tmp_path / "lake").ingest(spark, log_of(tmp_path / "log.json"))


def test_folders_and_files_named_by_uri(spark: SparkSession, lake: Lake, tmp_path: Path) -> None:
    (tmp_path / "my log.json").write_bytes(some_lines(100))
    files = find_log_files(
        (tmp_path / "my log.json").as_uri(), variable="A_SOURCE", downloads=tmp_path
    )
    report = lake.ingest(spark, files, events_folder=lake.events.as_uri(), block_bytes=1_000)
    events, _ = lake.tables(report)
    assert set(events["source_file"]) == {"my log.json"}
    assert report.lines == 100


def test_many_small_files_share_tasks(spark: SparkSession, lake: Lake, tmp_path: Path) -> None:
    assert module._tasks(10_000, 10**10, cores=2) == 38
    assert module._tasks(10_000, 10**8, cores=2) == 6
    assert module._tasks(3, 10**10, cores=2) == 3
    for number in range(40):
        (tmp_path / f"{number}.json").write_bytes(event(number))
    report = lake.ingest(spark, log_of(tmp_path))
    assert {part.slice for part in report.events} == {slice_of(f"{n}.json") for n in range(40)}
    events, _ = lake.tables(report)
    assert events["session_id"].to_list() == list(range(40))
    assert events["source_file"].to_list() == [f"{number}.json" for number in range(40)]


def test_blocks_are_the_file() -> None:
    for size in (1, 9, 10, 99, 1234):
        blocks = cut(LogFile("/log", "log", size, "", None), 10)
        assert [block.start for block in blocks] == [0, *[block.end for block in blocks[:-1]]]
        assert blocks[-1].end == size


line = st.one_of(
    st.integers(0, 10**6).map(event),
    st.sampled_from([b"", b"\r", b"garbage", b"x" * 60, b"x" * 500]),
    st.binary(max_size=10).map(lambda data: data.replace(b"\n", b"")),
)


@settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    lines=st.lists(line, min_size=1, max_size=25),
    newline=st.sampled_from([b"\n", b"\r\n"]),
    ended=st.booleans(),
    block_bytes=st.integers(1, 700),
    longest=st.sampled_from([40, 300, 2**24]),
    compression=st.sampled_from([None, None, "gz", "bz2", "zst"]),
)
def test_cutting_anywhere_gives_the_same_tables(
    lines: list[bytes],
    newline: bytes,
    ended: bool,
    block_bytes: int,
    longest: int,
    compression: str | None,
) -> None:
    data = newline.join(lines) + (newline if ended else b"")
    with (
        tempfile.TemporaryDirectory() as folder,
        mock.patch.object(parse, "MAX_LINE_BYTES", longest),
        mock.patch.object(module, "MAX_LINE_BYTES", longest),
        mock.patch.object(module, "_SCAN_BYTES", 7),
        mock.patch.object(parse, "KEPT_OF_LONG_LINE", 30),
    ):
        expected = parse_block(data, source_file="log", offset=0, first=True)
        path = Path(folder, "log")
        path.write_bytes(COMPRESS[compression](data) if compression else data)
        file = LogFile(str(path), "log", path.stat().st_size, "", compression)
        blocks = [
            parse_block(piece, source_file="log", offset=offset, first=offset == 0)
            for block in cut(file, block_bytes)
            for offset, piece in module._whole_lines(block, block_bytes)
        ]
    assert sum(block.lines for block in blocks) == expected.lines
    if blocks:
        assert pl.concat([block.events for block in blocks]).equals(expected.events)
        assert pl.concat([block.rejected for block in blocks]).equals(expected.rejected)


@settings(deadline=None, max_examples=30)
@given(lines=st.lists(line, min_size=1, max_size=25), seed=st.randoms(use_true_random=False))
def test_the_order_of_lines_does_not_matter(lines: list[bytes], seed: random.Random) -> None:
    def tables(lines: list[bytes]) -> tuple[list[Any], list[Any]]:
        data = b"\n".join(lines) + b"\n"
        block = parse_block(data, source_file="log", offset=0, first=False)
        return sorted(block.events.rows(), key=str), sorted(
            block.rejected.drop("byte_offset").rows()
        )

    shuffled = list(lines)
    seed.shuffle(shuffled)
    assert tables(shuffled) == tables(lines)


def test_real_rows(spark: SparkSession, lake: Lake, real_rows: Path) -> None:
    report = lake.ingest(spark, log_of(real_rows / "mini_events_partial.jsonl.gz"))
    assert (report.lines, report.event_rows, report.rejected_rows) == (10_921, 10_921, 0)
    report = lake.ingest(spark, log_of(real_rows / "full_events_first_1000.jsonl.gz"))
    assert (report.lines, report.event_rows, report.rejected_rows) == (1_000, 1_000, 0)


@pytest.mark.parametrize(
    ("one", "same"),
    [
        ("logs", os.path.abspath("logs") + "/"),
        ("s3://bucket/logs", " s3://bucket/logs/ "),
        ("s3://key:old@bucket/logs", "s3://key:new@bucket/logs"),
        ("https://host/log.json?signature=old", "https://host/log.json?signature=new"),
    ],
)
def test_a_log_is_the_same_however_its_place_is_written(one: str, same: str) -> None:
    assert identity(one) == identity(same) != identity("s3://bucket/other")
