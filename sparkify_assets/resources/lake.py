"""The lake: one Delta table for each dataset and asset, at `<lake>/<dataset>/<asset>`.

Belongs here: writing part files into a table's folder, committing them as one version, reading
versions back, and what is known of a version without reading it.
Does not belong here: what the tables mean (`tables.py`) and Dagster (`io_manager.py`).

A version becomes visible in one transaction. A writer that dies before it leaves part files that
no version names; readers never see them, and `vacuum` removes them.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import time
import uuid
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import datetime, timezone
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
from pyarrow import fs

from sparkify_assets.errors import ConflictError, LakeError
from sparkify_assets.storage import (
    LAKE_VARIABLE,
    PartFile,
    Range,
    explained,
    open_filesystem,
    printable,
    read_head,
    read_part,
    write_part,
)
from sparkify_assets.tables import Table

if TYPE_CHECKING:
    from pyspark.sql import DataFrame, SparkSession

S = TypeVar("S")
T = TypeVar("T")
_FOOTER_READERS = 8
# The keys of a commit's metadata that hold how many values are missing, and what its writer said.
_NULLS = "sparkify-nulls"
_SAID = "sparkify"


@dataclass(frozen=True)
class Version:
    """What is known of a table's version without reading its rows."""

    path: str
    number: int
    rows: int
    size: int  # bytes
    files: int
    metadata: dict[str, Any]  # what its writer said of it
    committed_at: datetime
    # Of each column, how many values are missing; empty where they were not counted.
    nulls: Mapping[str, int] = field(default_factory=dict)


def default_root() -> str:
    """`SPARKIFY_LAKE`, or `lake/` in the working folder."""
    return os.environ.get(LAKE_VARIABLE) or "lake"


@contextlib.contextmanager
def described(spark: SparkSession, what: str) -> Iterator[None]:
    """Give the stages that begin in here a name that people know."""
    spark.sparkContext.setJobDescription(what)
    try:
        yield
    finally:
        spark.sparkContext.setJobDescription(None)  # type: ignore[arg-type]


@dataclass(frozen=True)
class Lake:
    """Tables below `root`, a folder or an object store's URL."""

    root: str

    @cached_property
    def uri(self) -> str:
        if re.match(r"[a-z][a-z0-9+.-]+://", self.root):
            return self.root.rstrip("/")
        return Path(self.root).expanduser().absolute().as_posix()

    @cached_property
    def _filesystem(self) -> tuple[fs.FileSystem, str]:
        return open_filesystem(self.uri)

    @property
    def is_local(self) -> bool:
        return isinstance(self._filesystem[0], fs.LocalFileSystem)

    def folder(self, dataset: str, table: str) -> str:
        """Where a table's files lie, as a path or URL for any reader."""
        return f"{self.uri}/{dataset}/{table}"

    def _inside(self, dataset: str, name: str) -> str:
        return f"{self._filesystem[1]}/{dataset}/{name}"

    # Writing

    def new_parts(self, dataset: str, table: str) -> str:
        """Make a fresh folder for part files inside a table's folder; its path or URL."""
        parts = f"parts-{uuid.uuid4().hex[:12]}"
        filesystem, _ = self._filesystem
        with explained(self.uri):
            filesystem.create_dir(f"{self._inside(dataset, table)}/{parts}")
        return f"{self.folder(dataset, table)}/{parts}"

    def commit(
        self,
        dataset: str,
        table: Table,
        parts: Iterable[PartFile],
        metadata: Mapping[str, Any] | None = None,
        after: int | None = None,
    ) -> Version:
        """Make these part files the table's next version, replacing what the last one held.

        Raises ConflictError where it is not the version `after` that it would replace: what was
        made from that one would undo what somebody else has written since (-1: there was none).
        """
        from deltalake import CommitProperties, Schema
        from deltalake.exceptions import CommitFailedError
        from deltalake.transaction import AddAction, create_table_with_add_actions

        parts = list(parts)
        schema = Schema.from_arrow(table.arrow_schema)
        now = int(time.time() * 1000)
        actions = [
            AddAction(p.path, p.size, {}, now, True, json.dumps({"numRecords": p.rows}))
            for p in parts
        ]
        of_commit = {
            _SAID: json.dumps(dict(metadata or {})),
            # Not in the files' own statistics, of which readers see the first 32 columns alone.
            _NULLS: json.dumps(_nulls(parts)),
        }
        said = CommitProperties(custom_metadata=of_commit)
        with explained(self.uri):
            delta = self._delta(dataset, table.name) if self.exists(dataset, table.name) else None
            found = delta.version() if delta is not None else -1
            changed = (
                f"The table {table.name} of {dataset} has changed meanwhile. Nothing was written; "
                "try again."
            )
            if after is not None and found != after:
                raise ConflictError(changed)
            try:
                if delta is not None and delta.schema() == schema:
                    delta.create_write_transaction(
                        actions, "overwrite", schema, partition_by=[], commit_properties=said
                    )
                else:
                    create_table_with_add_actions(
                        self.folder(dataset, table.name),
                        schema,
                        actions,
                        mode="overwrite",
                        partition_by=[],
                        name=table.name,
                        description=table.meaning,
                        commit_properties=said,
                    )
            except CommitFailedError as error:
                raise ConflictError(changed) from error
        return self.version(dataset, table.name)

    def write_spark(
        self,
        dataset: str,
        table: Table,
        frame: DataFrame,
        metadata: Mapping[str, Any] | None = None,
    ) -> Version:
        """Let Spark write a frame's part files, then commit them. The frame is computed once."""
        folder = self.new_parts(dataset, table.name)
        with explained(self.uri):
            frame.select(*table.names).write.mode("append").parquet(_for_spark(folder))
        return self.commit(dataset, table, self._written(folder), metadata)

    def write_polars(
        self,
        dataset: str,
        table: Table,
        rows: pl.DataFrame,
        metadata: Mapping[str, Any] | None = None,
        after: int | None = None,
    ) -> Version:
        """Write a frame that fits in memory and commit it; `after` as in `commit`."""
        folder = self.new_parts(dataset, table.name)
        with explained(self.uri):
            part = write_part(folder, as_promised(table, rows))
        return self.commit(dataset, table, [part], metadata, after)

    def write_file(self, dataset: str, name: str, content: bytes) -> str:
        """Write a file beside the tables; a reader sees the old one or the new one, whole."""
        filesystem, _ = self._filesystem
        target = self._inside(dataset, name)
        with explained(self.uri):
            filesystem.create_dir(target.rpartition("/")[0])
            beside = f"{target}.{uuid.uuid4().hex[:12]}" if self.is_local else target
            try:
                with filesystem.open_output_stream(beside) as stream:
                    stream.write(content)
            except OSError:
                if self.is_local:
                    with contextlib.suppress(OSError):
                        filesystem.delete_file(beside)
                raise
            if self.is_local:
                filesystem.move(beside, target)
        return f"{self.uri}/{dataset}/{name}"

    def read_file(self, dataset: str, name: str) -> bytes:
        """A file that `write_file` wrote. Raises LakeError where there is none."""
        filesystem, _ = self._filesystem
        try:
            with filesystem.open_input_stream(self._inside(dataset, name)) as stream:
                return stream.read()
        except FileNotFoundError:
            raise LakeError(
                f"{name} of {dataset} is not in the lake {printable(self.uri)} yet. Run the job "
                f"`everything` for {dataset} first."
            ) from None

    def _written(self, folder: str) -> list[PartFile]:
        """What Spark wrote into a folder. It writes a file even for a frame without rows."""
        filesystem, path = open_filesystem(folder)
        files = [
            info
            for info in filesystem.get_file_info(fs.FileSelector(path))
            if info.is_file and info.base_name.endswith(".parquet")
        ]
        if not files:
            raise LakeError(f"Spark wrote nothing into {folder}; the table is as it was.")
        parts = folder.rpartition("/")[2]

        def part(info: fs.FileInfo) -> PartFile:
            rows = pq.read_metadata(info.path, filesystem=filesystem).num_rows
            return PartFile(f"{parts}/{info.base_name}", rows, info.size)

        with ThreadPoolExecutor(_FOOTER_READERS) as readers:
            return list(readers.map(part, sorted(files, key=lambda info: info.base_name)))

    # Reading

    def exists(self, dataset: str, table: str) -> bool:
        from deltalake import DeltaTable

        return DeltaTable.is_deltatable(self.folder(dataset, table))

    def _delta(self, dataset: str, table: str) -> Any:
        from deltalake import DeltaTable
        from deltalake.exceptions import TableNotFoundError

        try:
            return DeltaTable(self.folder(dataset, table))
        except TableNotFoundError:
            raise LakeError(
                f"The table {table} of {dataset} is not in the lake {printable(self.uri)} yet. "
                f"Materialize {table} for {dataset} first; the job `everything` makes all tables."
            ) from None

    def version(self, dataset: str, table: str) -> Version:
        """The newest version of a table. Raises LakeError when there is none."""
        delta = self._delta(dataset, table)
        (commit,) = delta.history(1)
        return self._described(dataset, table, delta, commit)

    def earlier(self, dataset: str, table: str, most: int) -> list[Version]:
        """Up to `most` versions before the newest one, from the table's log alone, newest first."""
        from deltalake.exceptions import DeltaError

        delta = self._delta(dataset, table)
        found = []
        # Asked of an older version, `history` tells of commits under wrong numbers.
        for commit in delta.history(most + 1)[1:]:
            try:
                delta.load_as_version(commit["version"])
            except DeltaError:  # the log of so old a version has been cleaned up
                break
            found.append(self._described(dataset, table, delta, commit))
        return found

    def _described(self, dataset: str, table: str, delta: Any, commit: dict[str, Any]) -> Version:
        actions = pa.table(delta.get_add_actions(flatten=True))
        return Version(
            path=self.folder(dataset, table),
            number=delta.version(),
            rows=sum(actions["num_records"].to_pylist()),
            size=sum(actions["size_bytes"].to_pylist()),
            files=actions.num_rows,
            nulls=json.loads(commit.get(_NULLS, "{}")),
            metadata=json.loads(commit.get(_SAID, "{}")),
            committed_at=datetime.fromtimestamp(commit["timestamp"] / 1000, timezone.utc),
        )

    def head(self, dataset: str, table: Table, rows: int, columns: Sequence[str]) -> pl.DataFrame:
        """Some columns of the first `rows` rows of the newest version, in no promised order."""
        found = pl.DataFrame(schema=table.polars_schema).select(columns)
        for file in self.files(dataset, table.name):
            if found.height >= rows:
                break
            found = pl.concat([found, read_head(file, rows, columns)])
        return found.head(rows)

    def files(self, dataset: str, table: str) -> list[str]:
        """The part files of the newest version, as paths or URLs."""
        # Not `file_uris`: those are percent-encoded, which is wrong for a local path.
        actions = pa.table(self._delta(dataset, table).get_add_actions())
        return sorted(f"{self.folder(dataset, table)}/{p}" for p in actions["path"].to_pylist())

    def read_spark(self, spark: SparkSession, dataset: str, table: Table) -> DataFrame:
        """A Spark frame of the newest version."""
        files = [_for_spark(file) for file in self.files(dataset, table.name)]
        if not files:
            return spark.createDataFrame([], table.spark_schema)
        return spark.read.schema(table.spark_schema).parquet(*files)

    def read_polars(
        self,
        dataset: str,
        table: Table,
        columns: Sequence[str] | None = None,
        keep: pl.Expr | bool = True,
    ) -> pl.DataFrame:
        """A Polars frame of the newest version, or of the rows to `keep`, which must fit in memory.

        `keep` may use the `columns` alone.
        """
        names = list(columns or table.names)
        nothing = pl.DataFrame(schema=table.polars_schema).select(names)
        files = self.files(dataset, table.name)
        parts = [read_part(file, names).filter(keep).rechunk() for file in files]
        return pl.concat([nothing, *parts])

    def over_parts(
        self,
        spark: SparkSession,
        dataset: str,
        table: str,
        function: Callable[[pl.DataFrame], T],
        columns: Sequence[str] | None = None,
    ) -> list[T]:
        """Call `function` in a Spark task for each part file of the newest version.

        It gets the file's rows as a Polars frame. What it returns is sent to the driver, so it
        should be small: a report, a handful of sums, or what `write_part` returned.
        """
        files = self.files(dataset, table)
        if not files:
            return []

        def task(file: str) -> T:
            return function(read_part(file, columns))

        return self._in_tasks(spark, f"over the part files of {table}", files, task)

    def over_ranges(
        self,
        spark: SparkSession,
        dataset: str,
        table: str,
        function: Callable[[pl.DataFrame], T],
        ranges: Sequence[Range],
        columns: Sequence[str] | None = None,
        keep: pl.Expr | bool = True,
    ) -> list[T]:
        """Call `function` in a Spark task for each range, with its rows of all part files.

        Part files in order of the ranges' column are read only where a range is. `keep` says which
        of the rows to hold, by the `columns` alone. What `function` returns is sent to the driver,
        so it should be small.
        """
        files = self.files(dataset, table)

        def task(within: Range) -> T:
            parts = [read_part(file, columns, within).filter(keep) for file in files]
            return function(pl.concat(parts))

        if not files:
            return []
        what = f"over ranges of {ranges[0].column} of {table}"
        return self._in_tasks(spark, what, ranges, task)

    def _in_tasks(
        self, spark: SparkSession, what: str, items: Sequence[S], task: Callable[[S], T]
    ) -> list[T]:
        """A task for each item; `what`: the name of the stage."""
        with explained(self.uri), described(spark, what):
            return spark.sparkContext.parallelize(items, len(items)).map(task).collect()


def _nulls(parts: Sequence[PartFile]) -> dict[str, int]:
    """Of each column, how many values are missing; empty where a part's were not counted."""
    if not all(part.nulls for part in parts):
        return {}
    total: Counter[str] = Counter()
    for part in parts:
        total.update(part.nulls)
    return dict(total)


def as_promised(table: Table, rows: pl.DataFrame) -> pl.DataFrame:
    """A frame's columns as the table's contract has them."""
    return rows.select(table.names).cast(table.polars_schema)


def _for_spark(uri: str) -> str:
    """Hadoop knows S3 as s3a, and takes what follows `file:` as it stands, blanks and all."""
    if uri.startswith("s3://"):
        return "s3a://" + uri.removeprefix("s3://")
    return uri if "://" in uri else f"file:{uri}"
