"""Files and part files, wherever they lie: on a disk or in an object store.

Belongs here: opening a path or URL, writing and reading a part file (in a task or on the driver),
and saying plainly when storage is full or closed.
Does not belong here: which part files make a table; that is the lake's (`resources/lake.py`).
"""

from __future__ import annotations

import contextlib
import errno
import io
import os
import re
import shutil
import uuid
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
from pyarrow import fs

from sparkify_assets.errors import LakeError

LAKE_VARIABLE = "SPARKIFY_LAKE"
_FULL = ("No space left", "Disk quota exceeded")
_CLOSED = (
    "Permission denied",
    "Read-only file system",
    "Not a directory",
    "Mkdirs failed",
    "Cannot create directory",
)


@dataclass(frozen=True)
class Range:
    """The rows whose `column` lies in [first, last]."""

    column: str
    first: int | str
    last: int | str


@dataclass(frozen=True)
class PartFile:
    """A Parquet file in a table's folder, of which no version of the table may know yet."""

    path: str  # relative to the table's folder
    rows: int
    size: int  # bytes
    nulls: Mapping[str, int] = field(default_factory=dict)  # of each column, where counted
    # The lowest and highest value of the columns by which parts are passed over.
    bounds: Mapping[str, tuple[int, int]] = field(default_factory=dict)

    @property
    def slice(self) -> str:
        """The slice whose rows it holds: a part lies in a folder of its slice's name."""
        return self.path.partition("/")[0]

    def may_hold(self, within: Range) -> bool:
        """Whether a row of the range can be in it."""
        low, high = self.bounds.get(within.column, (within.first, within.last))
        return low <= within.last and high >= within.first  # type: ignore[operator]


def open_filesystem(uri: str) -> tuple[fs.FileSystem, str]:
    """The filesystem of a path or URI, and the path within it."""
    if "://" in uri:
        return fs.FileSystem.from_uri(uri)
    return fs.LocalFileSystem(), os.path.abspath(os.path.expanduser(uri))


def printable(uri: str) -> str:
    """A path or URI without the passwords and signatures that it may carry."""
    if "://" not in uri:
        return uri
    # Before the @ of these stands a container, which is no secret.
    secret = r"[^/@]*:[^/]*@" if uri.startswith(("abfs", "wasb")) else r"[^/]*@"
    return re.sub(f"(?<=://){secret}", "", uri.partition("?")[0])


def write_part(
    folder: str,
    rows: pl.DataFrame,
    rows_together: int | None = None,
    bounded: Sequence[str] = (),
) -> PartFile:
    """Write a part file into a folder inside a table's folder (`Lake.new_parts`, a slice's).

    Its name is used by no other attempt. `rows_together`: how many rows a reader can read or pass
    over together. `bounded`: columns of whole numbers by which a reader can pass over the file.
    Raises LakeError; then nothing is left behind.
    """
    buffer = io.BytesIO()
    rows.write_parquet(buffer, compression="zstd", row_group_size=rows_together)
    name = f"part-{uuid.uuid4().hex}.zstd.parquet"
    filesystem, base = open_filesystem(folder)
    path = f"{base.rstrip('/')}/{name}"
    with explained(folder):
        try:
            filesystem.create_dir(base, recursive=True)
            with filesystem.open_output_stream(path, compression=None) as stream:
                stream.write(buffer.getbuffer())
        except OSError:
            with contextlib.suppress(OSError):
                filesystem.delete_file(path)
            raise
    part = f"{base.rstrip('/').rpartition('/')[2]}/{name}"
    nulls = rows.null_count().row(0, named=True)
    bounds = {name: (rows[name].min(), rows[name].max()) for name in bounded if rows.height}
    return PartFile(part, rows.height, buffer.tell(), nulls, bounds)  # type: ignore[arg-type]


def remove_parts(folder: str, parts: Sequence[PartFile]) -> None:
    """Remove what can be removed of part files that `write_part` wrote into a table's folder."""
    with contextlib.suppress(OSError, pa.ArrowException):
        filesystem, base = open_filesystem(folder)
        for part in parts:
            with contextlib.suppress(OSError, pa.ArrowException):
                filesystem.delete_file(f"{base.rstrip('/')}/{part.path}")


def read_part(file: str, columns: Sequence[str] | None = None, *where: Range) -> pl.DataFrame:
    """The rows of a part file, or those in all ranges; what is stored apart is not read."""
    filesystem, path = open_filesystem(file)
    names = list(columns or []) or None
    if not isinstance(filesystem, fs.LocalFileSystem):
        within = [
            (each.column, sign, value)
            for each in where
            for sign, value in ((">=", each.first), ("<=", each.last))
        ]
        table = pq.read_table(path, filesystem=filesystem, columns=names, filters=within or None)
        return pl.DataFrame(table)
    # A folder called `a=b` or `[a]` is neither a column nor a pattern.
    rows = pl.scan_parquet(path, hive_partitioning=False, glob=False)
    for each in where:
        rows = rows.filter(pl.col(each.column).is_between(pl.lit(each.first), pl.lit(each.last)))
    return (rows.select(names) if names else rows).collect()


def read_head(file: str, rows: int, columns: Sequence[str]) -> pl.DataFrame:
    """The first rows of a part file; no more of it is read than the row groups they lie in."""
    filesystem, path = open_filesystem(file)
    with filesystem.open_input_file(path) as opened:
        part = pq.ParquetFile(opened)
        batches = part.iter_batches(batch_size=rows, columns=list(columns))
        nothing = part.schema_arrow.empty_table().select(list(columns))
        return pl.DataFrame(next(iter(batches), nothing))


@contextlib.contextmanager
def explained(place: str) -> Iterator[None]:
    """Turn what the operating system and Spark say of full or closed storage into a LakeError."""
    try:
        yield
    except LakeError:
        raise
    except Exception as error:
        text, number = str(error), getattr(error, "errno", None)
        where = printable(place)
        if number in (errno.ENOSPC, errno.EDQUOT) or any(words in text for words in _FULL):
            raise LakeError(
                f"The disk of {where} is full{_free(place)}. Nothing of this step was committed: "
                f"what was there before is as it was. Make room, or set {LAKE_VARIABLE} to another "
                f"place, and run again."
            ) from error
        closed = (errno.EACCES, errno.EROFS, errno.EPERM, errno.ENOTDIR)
        if number in closed or any(words in text for words in _CLOSED):
            raise LakeError(
                f"{where} cannot be written ({_telling_line(text)}). Give this user the right to, "
                f"or set {LAKE_VARIABLE} to another place."
            ) from error
        raise


def _telling_line(text: str) -> str:
    """The line that says why storage is closed; of Spark's messages that is not the first one."""
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    telling = (line for line in lines if any(words in line for words in _CLOSED))
    return next(telling, lines[0] if lines else "no reason given")


def _free(place: str) -> str:
    if "://" in place:
        return ""
    folder = Path(place).absolute()
    while not folder.exists() and folder != folder.parent:
        folder = folder.parent
    return f" ({shutil.disk_usage(folder).free / 1e6:,.0f} MB free)"
