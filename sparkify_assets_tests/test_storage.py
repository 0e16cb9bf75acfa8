"""Part files, and what is said when storage is full or closed."""

from __future__ import annotations

import os
from pathlib import Path
from unittest import mock

import polars as pl
import pyarrow.fs
import pytest

from sparkify_assets import storage
from sparkify_assets.errors import LakeError
from sparkify_assets.storage import (
    Range,
    explained,
    open_filesystem,
    printable,
    read_part,
    write_part,
)


def test_a_part_is_read_as_it_was_written(tmp_path: Path) -> None:
    rows = pl.DataFrame({"a": [1, 2], "b": ["x", None]})
    part = write_part(str(tmp_path / "table" / "parts-1"), rows)
    file = tmp_path / "table" / part.path
    assert (part.rows, part.size) == (2, file.stat().st_size)
    assert (part.slice, part.nulls) == ("parts-1", {"a": 0, "b": 1})
    assert read_part(str(file)).equals(rows)
    assert read_part(file.as_uri(), ["b"]).columns == ["b"]


def test_a_part_is_passed_over_where_it_says_that_it_holds_nothing(tmp_path: Path) -> None:
    rows = pl.DataFrame({"a": [3, 9, 5], "b": [1, 2, 3]})
    part = write_part(str(tmp_path / "table" / "2018-10-01"), rows, bounded=["a"])
    assert part.bounds == {"a": (3, 9)}
    held = {ends: part.may_hold(Range("a", *ends)) for ends in ((0, 2), (0, 3), (4, 4), (9, 12))}
    assert held == {(0, 2): False, (0, 3): True, (4, 4): True, (9, 12): True}
    assert not part.may_hold(Range("a", 10, 12))
    assert part.may_hold(Range("b", 10, 12)), "nothing is said of it"
    assert write_part(str(tmp_path / "table" / "empty"), rows.clear(), bounded=["a"]).bounds == {}


@pytest.mark.parametrize("wanted", [Range("a", 15, 32), Range("b", "15", "32")])
def test_a_range_of_a_part_is_read_alike_near_and_far(wanted: Range, tmp_path: Path) -> None:
    rows = pl.DataFrame({"a": range(100), "b": [str(n) for n in range(100)]})
    part = write_part(str(tmp_path / "table" / "parts-1"), rows, rows_together=10)
    file = str(tmp_path / "table" / part.path)
    near = read_part(file, ["b"], wanted)
    between = rows[wanted.column].is_between(pl.lit(wanted.first), pl.lit(wanted.last))
    assert near["b"].to_list() == rows.filter(between)["b"].to_list() != []
    # As in an object store, which is read through another library.
    with mock.patch.object(storage.fs, "LocalFileSystem", pyarrow.fs.S3FileSystem):
        assert read_part(Path(file).as_uri(), ["b"], wanted).equals(near)


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
def test_a_full_disk_is_named_and_nothing_is_left(tmp_path: Path) -> None:
    """/dev/full refuses every byte, as a full disk does."""
    with mock.patch.object(storage.uuid, "uuid4") as name:
        name.return_value.hex = "full"
        (tmp_path / "part-full.zstd.parquet").symlink_to("/dev/full")
        with pytest.raises(LakeError, match=r"is full \([\d,]+ MB free\)"):
            write_part(str(tmp_path), pl.DataFrame({"a": range(10**6)}))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_a_folder_without_permission_is_named(tmp_path: Path) -> None:
    (tmp_path / "lake").mkdir(mode=0o500)
    with pytest.raises(LakeError, match="cannot be written"):
        write_part(str(tmp_path / "lake" / "events"), pl.DataFrame({"a": [1]}))


def test_what_spark_says_of_a_full_disk_is_understood(tmp_path: Path) -> None:
    with pytest.raises(LakeError, match="before is as it was"), explained(str(tmp_path)):
        raise RuntimeError("java.io.IOException: No space left on device")


def test_of_what_spark_says_the_line_is_told_that_says_why() -> None:
    said = "An exception was thrown\nTraceback\nOSError: Read-only file system: 'a'\n  at java.Some"
    with (
        pytest.raises(LakeError, match=r"\(OSError: Read-only file system: 'a'\)"),
        explained("lake"),
    ):
        raise RuntimeError(said)


def test_other_errors_stay_what_they_are() -> None:
    with pytest.raises(ZeroDivisionError), explained("lake"):
        _ = 1 / 0


def test_secrets_of_a_url_are_not_printed() -> None:
    assert printable("s3://key:secret@bucket/log.json?sig=abc") == "s3://bucket/log.json"
    assert printable("https://token@host/log.json") == "https://host/log.json"
    assert printable("abfs://box@account.net/a") == "abfs://box@account.net/a"
    assert printable("abfs://name:secret@account.net/a") == "abfs://account.net/a"
    assert printable("/a/b@c?d") == "/a/b@c?d"


def test_paths_and_urls_are_opened(tmp_path: Path) -> None:
    file = tmp_path / "a b%20c"
    file.write_text("x")
    for uri in (str(file), file.as_uri()):
        filesystem, path = open_filesystem(uri)
        assert filesystem.open_input_file(path).read() == b"x"
