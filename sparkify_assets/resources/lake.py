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
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, field, replace
from datetime import datetime, timezone
from functools import cached_property
from itertools import islice, pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
from pyarrow import fs

from sparkify_assets import __version__
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
from sparkify_assets.tables import TABLES, Slice, Table

if TYPE_CHECKING:
    from pyspark.sql import DataFrame, SparkSession

S = TypeVar("S")
T = TypeVar("T")
_FOOTER_READERS = 8
_HOUR_MS = 3_600_000
_LOG_HOURS = 24 * 30  # Delta's own default
_TASKS_A_CORE = 4  # so that a slow one does not leave the other cores idle for long
# The keys of a commit's metadata that hold how many values are missing, what its writer said, and
# the slices.
_NULLS = "sparkify-nulls"
_SAID = "sparkify"
_FORMAT, _WRITER = "sparkify-format", "sparkify-version"
LAKE_FORMAT = 1
"""Of what commits say, and of how parts lie in a table's folder. To be raised where an earlier
version of this project would misread what this one writes; 0 is what did not say."""
_SLICES = "sparkify-slices"
# Of a version that holds another one's rows in other files: that one's number.
_ROWS_OF = "sparkify-rows-of"


@dataclass(frozen=True)
class Version:
    """What is known of a table's version without reading its rows."""

    path: str
    number: int
    """Of the version that brought these rows; what only puts them into other files keeps it."""
    rows: int
    size: int  # bytes
    files: int
    metadata: dict[str, Any]  # what its writer said of it
    committed_at: datetime
    # Of each column, how many values are missing; empty where they were not counted.
    nulls: Mapping[str, int] = field(default_factory=dict)
    # Of a table that is made slice by slice, what it holds.
    slices: Mapping[str, Slice] = field(default_factory=dict)
    writer: str = ""
    """The version of this project that committed it; empty where it did not say."""

    @property
    def rows_ever(self) -> int:
        """With those that have expired or were erased."""
        return self.rows + sum(each.gone for each in self.slices.values())


class _Opened(NamedTuple):
    """A version of a table: deltalake's DeltaTable, and what its commit says of it."""

    delta: Any
    commit: dict[str, Any]


class Removed(NamedTuple):
    """What a vacuum has removed."""

    files: int
    size: int  # bytes


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
        return f"{self.uri}/{_step(dataset)}/{table}"

    def _inside(self, dataset: str, name: str) -> str:
        return f"{self._filesystem[1]}/{_step(dataset)}/{name}"

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
        slices: Mapping[str, Slice] | None = None,
    ) -> Version:
        """Make these part files the table's next version, replacing what the last one held.

        Where `slices` are given, the version holds these and no others. Those of which there are
        `parts`, or of whose key there was none, are new; of the others the parts stay as they are.

        Raises ConflictError where it is not the version `after` that it would replace: what was
        made from that one would undo what somebody else has written since (-1: there was none).
        Raises ValueError where parts of another contract would stay.
        """
        from deltalake import CommitProperties, PostCommitHookProperties, Schema
        from deltalake.exceptions import CommitFailedError
        from deltalake.transaction import create_table_with_add_actions

        parts = list(parts)
        schema = Schema.from_arrow(table.arrow_schema)
        with explained(self.uri):
            opened = self._open(dataset, table.name) if self.exists(dataset, table.name) else None
            delta = opened.delta if opened else None
            found = opened.delta.version() if opened else -1
            if after is not None and found != after:
                raise ConflictError(_changed(dataset, table.name))
            of_commit = {_SAID: json.dumps(dict(metadata or {}))} | _of_this_project()
            kept: set[str] = set()
            if slices is None:
                # Not in the files' own statistics, of which readers see the first 32 columns alone.
                of_commit[_NULLS] = json.dumps(_nulls(parts))
            else:
                old = self._described(dataset, table.name, opened).slices if opened else {}
                kept = _kept(old, slices, parts)
                of_commit[_SLICES] = json.dumps(_with_nulls(slices, old, kept, parts))
            said = CommitProperties(
                custom_metadata=of_commit,
                # Nobody's version may come between the one that this one is made from and this.
                max_commit_retries=None if after is None and slices is None else 0,
            )
            # What may be forgotten of the log `vacuum` decides.
            hooks = PostCommitHookProperties(cleanup_expired_logs=False)
            try:
                if delta is None or delta.schema() != schema:
                    if lost := {part.slice for part in _parts(delta)} & kept if delta else set():
                        raise ValueError(f"slices of another contract: {sorted(lost)[:3]}")
                    create_table_with_add_actions(
                        self.folder(dataset, table.name),
                        schema,
                        _added(parts),
                        mode="overwrite",
                        partition_by=[],
                        name=table.name,
                        description=table.meaning,
                        commit_properties=said,
                        post_commithook_properties=hooks,
                    )
                elif slices is None:
                    delta.create_write_transaction(
                        _added(parts),
                        "overwrite",
                        schema,
                        partition_by=[],
                        commit_properties=said,
                        post_commithook_properties=hooks,
                    )
                else:
                    gone = [part for part in _parts(delta) if part.slice not in kept]
                    delta.create_write_transaction(
                        [*_added(parts), *_removed(gone)],
                        "append",
                        schema,
                        partition_by=[],
                        commit_properties=said,
                        post_commithook_properties=hooks,
                    )
            except CommitFailedError as error:
                raise ConflictError(_changed(dataset, table.name)) from error
        return self.version(dataset, table.name)

    def carried_over(
        self, dataset: str, table: Table, slices: Collection[str]
    ) -> Iterator[PartFile]:
        """Write slices that nothing can make again by the table's contract, where they are not.

        Columns that their contract did not have are null.
        """
        number, same = self.newest(dataset, table)
        if number >= 0 and not same:
            for name in slices:
                rows = self.read_polars(dataset, table, slices={name})
                yield write_part(f"{self.folder(dataset, table.name)}/{name}", rows)

    def rewrite(
        self, dataset: str, table: Table, gone: Sequence[PartFile], parts: Sequence[PartFile]
    ) -> None:
        """Let other part files take the place of some: the same rows, said of as before.

        Raises ConflictError where some are not there any more, as the table has changed meanwhile.
        """
        delta, known = self._to_rewrite(dataset, table, gone)
        known[_ROWS_OF] = known.get(_ROWS_OF, delta.version())
        self._rewrite(delta, dataset, table, gone, parts, known)

    def take_out(
        self,
        dataset: str,
        table: Table,
        gone: Sequence[PartFile],
        parts: Sequence[PartFile],
        slices: Mapping[str, Slice],
        nulls: Mapping[str, int],
    ) -> None:
        """Let part files that lack some of the rows take the place of others.

        slices: all that the table has, where it is made slice by slice; nulls: where it is not.
        What else was said of it stays. Raises ConflictError as `rewrite`.
        """
        delta, known = self._to_rewrite(dataset, table, gone)
        known.pop(_ROWS_OF, None)
        if slices:
            known[_SLICES] = json.dumps({name: asdict(each) for name, each in slices.items()})
        elif nulls:
            known[_NULLS] = json.dumps(dict(nulls))
        self._rewrite(delta, dataset, table, gone, parts, known, changed=True)

    def _to_rewrite(
        self, dataset: str, table: Table, gone: Sequence[PartFile]
    ) -> tuple[Any, dict[str, Any]]:
        """The table, and what its newest commit says of it."""
        delta, commit = self._open(dataset, table.name)
        if not {part.path for part in gone} <= {part.path for part in _parts(delta)}:
            raise ConflictError(_changed(dataset, table.name))
        kept = (_SAID, _NULLS, _SLICES, _FORMAT, _WRITER, _ROWS_OF)
        return delta, {name: commit[name] for name in kept if name in commit}

    def _rewrite(
        self,
        delta: Any,
        dataset: str,
        table: Table,
        gone: Sequence[PartFile],
        parts: Sequence[PartFile],
        said: Mapping[str, Any],
        *,
        changed: bool = False,
    ) -> None:
        from deltalake import CommitProperties, PostCommitHookProperties
        from deltalake.exceptions import CommitFailedError

        with explained(self.uri):
            try:
                delta.create_write_transaction(
                    [*_added(parts, changed=changed), *_removed(gone, changed=changed)],
                    "append",
                    delta.schema(),
                    commit_properties=CommitProperties(dict(said), max_commit_retries=0),
                    post_commithook_properties=PostCommitHookProperties(cleanup_expired_logs=False),
                )
            except CommitFailedError as error:
                raise ConflictError(_changed(dataset, table.name)) from error

    def vacuum(
        self, dataset: str, table: str, *, keep_hours: int, keep_versions: Sequence[int] = ()
    ) -> Removed:
        """Remove the files that no version needs that was the newest in the last `keep_hours`.

        Files of `keep_versions` stay, and so do young ones that no version names: somebody may be
        about to commit them. The log is shortened to 30 days where none of these is older, as
        they could not be read without it.
        """
        delta, _ = self._open(dataset, table)
        written = {
            number: commit["timestamp"]
            for number, commit in self._commits(dataset, table, delta.version())
        }
        now = time.time() * 1000
        oldest = now - keep_hours * _HOUR_MS
        # By name, as a checkpoint knows of what was removed for a week only.
        kept = {old for new, old in pairwise(written) if written[new] >= oldest}
        kept |= written.keys() & set(keep_versions)
        # Asked what it would remove: removing, it would commit versions of its own.
        unneeded = delta.vacuum(
            keep_hours,
            dry_run=True,
            enforce_retention_duration=False,
            full=True,
            keep_versions=sorted(kept) or None,
        )
        filesystem, _ = self._filesystem
        base = self._inside(dataset, table)
        infos = filesystem.get_file_info([f"{base}/{path}" for path in unneeded])
        there = [info for info in infos if info.is_file]
        with explained(self.uri):
            for info in there:
                filesystem.delete_file(info.path)
        if self.is_local:
            for folder in {Path(info.path).parent for info in there}:
                with contextlib.suppress(OSError):  # it still holds a file
                    folder.rmdir()
        delta.create_checkpoint()
        if all(written[number] >= now - _LOG_HOURS * _HOUR_MS for number in kept):
            delta.cleanup_metadata()
        return Removed(len(there), sum(info.size for info in there))

    def forget(self, dataset: str, table: str) -> None:
        """Remove all but the newest version of a table: files, and what its log says of others.

        Nobody else may write it meanwhile: what is not committed yet is removed as well.
        """
        self.vacuum(dataset, table, keep_hours=0)  # which writes the log's state as a checkpoint
        newest = self._open(dataset, table).delta.version()
        filesystem, _ = self._filesystem
        selector = fs.FileSelector(f"{self._inside(dataset, table)}/_delta_log")
        with explained(self.uri):
            for info in filesystem.get_file_info(selector):
                number = info.base_name.partition(".")[0]
                if number.isdigit() and int(number) < newest:
                    filesystem.delete_file(info.path)

    def all_files(self, dataset: str) -> list[str]:
        """All files in a dataset's folder, as paths or URLs, whether a table knows them or not."""
        filesystem, root = self._filesystem
        base = f"{root}/{_step(dataset)}"
        selector = fs.FileSelector(base, recursive=True, allow_not_found=True)
        infos = filesystem.get_file_info(selector)
        names = (info.path.removeprefix(base) for info in infos if info.is_file)
        return sorted(f"{self.uri}/{dataset}{name}" for name in names)

    def remove_file(self, file: str) -> None:
        """Remove one of `all_files` that is no part of a table."""
        filesystem, path = open_filesystem(file)
        with explained(self.uri):
            filesystem.delete_file(path)

    def size(self, dataset: str, table: str) -> int:
        """Bytes of all files in a table's folder, the log and what no version names included."""
        filesystem, _ = self._filesystem
        selector = fs.FileSelector(self._inside(dataset, table), recursive=True)
        return sum(info.size for info in filesystem.get_file_info(selector) if info.is_file)

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

    def has_file(self, dataset: str, name: str) -> bool:
        """Whether there is a file that `write_file` wrote."""
        filesystem, _ = self._filesystem
        with explained(self.uri):
            return bool(filesystem.get_file_info(self._inside(dataset, name)).is_file)

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

    def _open(self, dataset: str, table: str) -> _Opened:
        """The newest version of a table. Raises LakeError as `version`."""
        from deltalake import DeltaTable
        from deltalake.exceptions import TableNotFoundError

        try:
            delta = DeltaTable(self.folder(dataset, table))
        except TableNotFoundError:
            raise LakeError(
                f"The table {table} of {dataset} is not in the lake {printable(self.uri)} yet. "
                f"Materialize {table} for {dataset} first; the job `everything` makes all tables."
            ) from None
        commit = self._commit(dataset, table, delta.version())
        _check_format(self.folder(dataset, table), commit)
        return _Opened(delta, commit)

    def _commit(self, dataset: str, table: str, number: int) -> dict[str, Any]:
        """What the commit of a version says of it. Raises FileNotFoundError where it is forgotten.

        `DeltaTable.history` would also tell of commits made since the table was opened, and tells
        of those before under wrong numbers then.
        """
        filesystem, _ = self._filesystem
        path = f"{self._inside(dataset, table)}/_delta_log/{number:020}.json"
        with filesystem.open_input_stream(path) as stream:
            actions = map(json.loads, stream.read().splitlines())
            return next(action["commitInfo"] for action in actions if "commitInfo" in action)

    def _commits(
        self, dataset: str, table: str, newest: int
    ) -> Iterator[tuple[int, dict[str, Any]]]:
        """Versions down from one, and what their commits say, as far back as the log goes."""
        with contextlib.suppress(FileNotFoundError):
            for number in range(newest, -1, -1):
                yield number, self._commit(dataset, table, number)

    def version(self, dataset: str, table: str) -> Version:
        """The newest version of a table.

        Raises LakeError when there is none, or where a later version of this project wrote it.
        """
        return self._described(dataset, table, self._open(dataset, table))

    def check_formats(self, dataset: str) -> None:
        """Raise LakeError where a later version of this project wrote a table of the dataset."""
        for name in TABLES:
            if self.exists(dataset, name):
                self._open(dataset, name)

    def newest(self, dataset: str, table: Table) -> tuple[int, Mapping[str, Slice]]:
        """Delta's number, and the slices, of a table's newest version; -1 where there is none.

        What was written by another contract is made anew as a whole: it has no slices.
        """
        from deltalake import Schema

        if not self.exists(dataset, table.name):
            return -1, {}
        opened = self._open(dataset, table.name)
        version = self._described(dataset, table.name, opened)
        same = opened.delta.schema() == Schema.from_arrow(table.arrow_schema)
        return opened.delta.version(), version.slices if same else {}

    def earlier(self, dataset: str, table: str, most: int) -> list[Version]:
        """Up to `most` versions before the newest one, from the table's log alone, newest first."""
        from deltalake.exceptions import DeltaError

        delta, _ = self._open(dataset, table)
        found = []
        for number, commit in islice(self._commits(dataset, table, delta.version() - 1), most):
            try:
                delta.load_as_version(number)
            except DeltaError:  # the log of so old a version has been cleaned up
                break
            found.append(self._described(dataset, table, _Opened(delta, commit)))
        return found

    def _described(self, dataset: str, table: str, opened: _Opened) -> Version:
        delta, commit = opened
        parts = _parts(delta)
        slices = {
            name: Slice(**each) for name, each in json.loads(commit.get(_SLICES, "{}")).items()
        }
        nulls = json.loads(commit.get(_NULLS, "{}"))
        if slices:
            nulls = dict.fromkeys((column.name for column in delta.schema().fields), 0)
            for each in slices.values():
                nulls |= {name: nulls[name] + count for name, count in each.nulls.items()}
        return Version(
            path=self.folder(dataset, table),
            number=commit.get(_ROWS_OF, delta.version()),
            rows=sum(part.rows for part in parts),
            size=sum(part.size for part in parts),
            files=len(parts),
            nulls=nulls,
            slices=slices,
            metadata=json.loads(commit.get(_SAID, "{}")),
            committed_at=datetime.fromtimestamp(commit["timestamp"] / 1000, timezone.utc),
            writer=commit.get(_WRITER, ""),
        )

    def head(self, dataset: str, table: Table, rows: int, columns: Sequence[str]) -> pl.DataFrame:
        """Some columns of the first `rows` rows of the newest version, in no promised order."""
        found = pl.DataFrame(schema=table.polars_schema).select(columns)
        for file in self.files(dataset, table.name):
            if found.height >= rows:
                break
            found = pl.concat([found, read_head(file, rows, columns)])
        return found.head(rows)

    def parts(
        self, dataset: str, table: str, slices: Collection[str] | None = None
    ) -> list[PartFile]:
        """The part files of the newest version, or of some of its slices, in order of their paths.

        Their `nulls` are not known.
        """
        parts = sorted(_parts(self._open(dataset, table).delta), key=lambda part: part.path)
        return [part for part in parts if slices is None or part.slice in slices]

    def files(self, dataset: str, table: str, slices: Collection[str] | None = None) -> list[str]:
        """The same as paths or URLs."""
        return [self.file(dataset, table, part) for part in self.parts(dataset, table, slices)]

    def file(self, dataset: str, table: str, part: PartFile) -> str:
        """A part file's path or URL."""
        return f"{self.folder(dataset, table)}/{part.path}"

    def files_since(self, dataset: str, table: str, version: int) -> list[str]:
        """The newest version's part files that an earlier one did not have.

        All of them, where that is not known (any more), as before the first version, -1.
        """
        from deltalake.exceptions import DeltaError

        delta, _ = self._open(dataset, table)
        now = [part.path for part in _parts(delta)]
        then: set[str] = set()
        if version >= 0:
            with contextlib.suppress(DeltaError):
                delta.load_as_version(version)
                then = {part.path for part in _parts(delta)}
        return [f"{self.folder(dataset, table)}/{path}" for path in now if path not in then]

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
        slices: Collection[str] | None = None,
    ) -> pl.DataFrame:
        """A Polars frame of the newest version, or of the rows to `keep`, which must fit in memory.

        `keep` may use the `columns` alone. `slices`: others are not read. Columns that were not
        there yet when the table was written are null.
        """
        names = list(columns or table.names)
        nothing = pl.DataFrame(schema=table.polars_schema).select(names)
        files = self.files(dataset, table.name, slices)
        parts = [read_known(file, names).filter(keep).rechunk() for file in files]
        return pl.concat([nothing, *parts], how="diagonal")

    def over_parts(
        self,
        spark: SparkSession,
        dataset: str,
        table: str,
        function: Callable[[pl.DataFrame], T],
        columns: Sequence[str] | None = None,
        slices: Collection[str] | None = None,
    ) -> list[T]:
        """Call `function` in a Spark task with each part file of the newest version, or of slices.

        It gets the file's rows as a Polars frame. What it returns is sent to the driver, so it
        should be small: a report, a handful of sums, or what `write_part` returned.
        """
        files = self.files(dataset, table, slices)

        def task(file: str) -> T:
            return function(read_part(file, columns))

        return self.in_tasks(spark, f"over the part files of {table}", files, task)

    def over_ranges(
        self,
        spark: SparkSession,
        dataset: str,
        table: str,
        function: Callable[[pl.DataFrame], T],
        ranges: Sequence[Range],
        columns: Sequence[str] | None = None,
        keep: pl.Expr | bool = True,
        slices: Collection[str] | None = None,
    ) -> list[T]:
        """Call `function` in a Spark task for each range, with its rows of all parts or slices.

        Part files in order of the ranges' column are read only where a range is. `keep` says which
        of the rows to hold, by the `columns` alone. What `function` returns is sent to the driver,
        so it should be small.
        """
        files = self.files(dataset, table, slices)

        def task(within: Range) -> T:
            parts = [read_part(file, columns, within).filter(keep) for file in files]
            return function(pl.concat(parts))

        if not files:
            return []
        what = f"over ranges of {ranges[0].column} of {table}"
        return self.in_tasks(spark, what, ranges, task)

    def in_tasks(
        self, spark: SparkSession, what: str, items: Sequence[S], task: Callable[[S], T]
    ) -> list[T]:
        """Call `task` with each item in Spark's tasks, neighbours together; `what`: their name."""
        if not items:
            return []
        context = spark.sparkContext
        tasks = min(len(items), _TASKS_A_CORE * context.defaultParallelism)
        with explained(self.uri), described(spark, what):
            return context.parallelize(items, tasks).map(task).collect()


def _of_this_project() -> dict[str, str]:
    return {_FORMAT: str(LAKE_FORMAT), _WRITER: __version__}


def _check_format(folder: str, commit: Mapping[str, Any]) -> None:
    if int(commit.get(_FORMAT, 0)) > LAKE_FORMAT:
        raise LakeError(
            f"The table {printable(folder)} was written by version {commit.get(_WRITER, '?')} of "
            f"this project, in lake format {commit[_FORMAT]}; this is version {__version__}, which "
            f"reads up to {LAKE_FORMAT}. Update it, or let {LAKE_VARIABLE} name another lake."
        )


def _step(dataset: str) -> str:
    """Raise LakeError where a name leads out of the lake; a run's partition may be any text."""
    if re.fullmatch(r"[^/\\]*[^/\\.][^/\\]*", dataset):
        return dataset
    raise LakeError(f"{dataset!r} cannot be a dataset's name.")


def _changed(dataset: str, table: str) -> str:
    return f"The table {table} of {dataset} has changed meanwhile. Nothing was written; try again."


def read_known(file: str, names: Sequence[str]) -> pl.DataFrame:
    """A part file's columns, as far as an earlier contract of its table had them."""
    try:
        return read_part(file, names)
    except (pl.exceptions.ColumnNotFoundError, pa.ArrowInvalid):
        return read_part(file).select(pl.col(f"^({'|'.join(names)})$"))


def _parts(delta: Any) -> list[PartFile]:
    """The part files of a version, by what its log says of them."""
    actions = pa.table(delta.get_add_actions(flatten=True))
    bounded = [name.removeprefix("min.") for name in actions.column_names if name[:4] == "min."]
    return [
        PartFile(
            each["path"],
            each["num_records"],
            each["size_bytes"],
            bounds={
                name: (each[f"min.{name}"], each[f"max.{name}"])
                for name in bounded
                if each[f"min.{name}"] is not None
            },
        )
        for each in actions.to_pylist()
    ]


def _added(parts: Sequence[PartFile], *, changed: bool = True) -> list[Any]:
    from deltalake.transaction import AddAction

    now = int(time.time() * 1000)

    def known(part: PartFile) -> str:
        low = {name: ends[0] for name, ends in part.bounds.items()}
        high = {name: ends[1] for name, ends in part.bounds.items()}
        return json.dumps({"numRecords": part.rows, "minValues": low, "maxValues": high})

    return [AddAction(part.path, part.size, {}, now, changed, known(part)) for part in parts]


def _removed(parts: Sequence[PartFile], *, changed: bool = True) -> list[Any]:
    from deltalake.transaction import RemoveAction

    now = int(time.time() * 1000)
    return [RemoveAction(part.path, changed, now, part.size) for part in parts]


def _kept(
    old: Mapping[str, Slice], new: Mapping[str, Slice], parts: Sequence[PartFile]
) -> set[str]:
    """The slices of which the parts stay: known by the same key, and not made again."""
    made = {part.slice for part in parts}
    same = {name for name, each in new.items() if name in old and old[name].key == each.key}
    return same - made


def _with_nulls(
    slices: Mapping[str, Slice],
    old: Mapping[str, Slice],
    kept: Collection[str],
    parts: Sequence[PartFile],
) -> dict[str, dict[str, Any]]:
    """Slices as a commit holds them, with what is missing of the parts that they now have."""
    nulls: dict[str, Mapping[str, int]] = {name: old[name].nulls for name in kept}
    for name in {part.slice for part in parts}:
        counted = _nulls([part for part in parts if part.slice == name])
        nulls[name] = {column: count for column, count in counted.items() if count}
    return {
        name: asdict(replace(each, said=dict(each.said), nulls=dict(nulls.get(name, {}))))
        for name, each in slices.items()
    }


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
