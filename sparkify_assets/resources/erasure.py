"""Erasing users from a lake, so that no file of it holds them, and looking whether any does.

Belongs here: what is rewritten and removed, the list of the erased, the proof. Does not belong
here: how it is asked for (`erase.py`), and what an ingest leaves out then (`events/erased.py`).

Each step can be repeated: where erasing broke off, erasing again ends it.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Collection, Iterator
from dataclasses import replace
from pathlib import Path

import polars as pl
import pyarrow.parquet as pq

from sparkify_assets.errors import LakeError
from sparkify_assets.events import user_ids
from sparkify_assets.events.erased import Erased
from sparkify_assets.events.log import simulated_prefix
from sparkify_assets.resources.lake import Lake
from sparkify_assets.storage import (
    LAKE_VARIABLE,
    PartFile,
    open_filesystem,
    printable,
    read_part,
    remove_parts,
    write_part,
)
from sparkify_assets.tables import CLEANED_EVENTS, REJECTED_LINES, TABLES, Slice, Table

FILE = "erased_users.json"
_LOG = "/_delta_log/"
_USER, _TEXT = "user_id", "text"
_WITH_USERS = [t for t in TABLES.values() if _USER in t.names or t is REJECTED_LINES]


def erased_users(lake: Lake, dataset: str) -> Erased | None:
    """The users whose events no ingest takes in any more; None where nobody was erased.

    Raises LakeError where the list is damaged: that must not bring them back.
    """
    if not lake.has_file(dataset, FILE):
        return None
    try:
        return Erased.from_json(lake.read_file(dataset, FILE))
    except (ValueError, LookupError, TypeError) as error:
        raise LakeError(
            f"{FILE} of {dataset} in the lake {printable(lake.uri)}, by which erased users are "
            "known, is damaged. Get it from a backup, or remove it and erase them again."
        ) from error


def erase(lake: Lake, dataset: str, users: Collection[str], log_copies: Path) -> dict[str, int]:
    """Take users out of all tables of a dataset and their histories; rows taken out, by table.

    users: ids as in the log. log_copies: the folder of copies of logs; a simulated log stays there,
    as its users are nobody. Nothing else may run on the dataset meanwhile. Models and figures that
    learned from these users stay until they are made again. Raises SettingError where ids are
    hashed with another key, LakeError where there is no table.
    """
    tables = [table for table in _WITH_USERS if lake.exists(dataset, table.name)]
    if not tables:
        raise LakeError(
            f"There is no table of {dataset} in the lake {printable(lake.uri)}, so nobody was "
            f"erased. Is {LAKE_VARIABLE} the right one?"
        )
    ids = known_as(lake, dataset, users)
    remembered = (erased_users(lake, dataset) or Erased.nobody()).with_users(users)
    lake.write_file(dataset, FILE, remembered.to_json())
    found = {table.name: _take_out(lake, dataset, table, ids) for table in tables}
    for table in tables:
        lake.forget(dataset, table.name)
    for file in _beside_tables(lake, dataset):
        lake.remove_file(file)
    for copy in _copies(dataset, log_copies):
        copy.unlink()
    return found


def known_as(lake: Lake, dataset: str, users: Collection[str]) -> set[str]:
    """The ids of users in the log, and those in tables after cleaning."""
    if lake.exists(dataset, CLEANED_EVENTS.name):
        user_ids.check_same(dataset, lake.version(dataset, CLEANED_EVENTS.name).metadata)
    key = user_ids.key()
    hashed = {user_ids.hashed_id(user, key) for user in users} if key else set()
    return {*users, *hashed}


def _take_out(lake: Lake, dataset: str, table: Table, ids: Collection[str]) -> int:
    """Write the part files again that hold these users; how many rows of theirs there were."""
    version = lake.version(dataset, table.name)
    slices, nulls = dict(version.slices), Counter(version.nulls)
    gone: list[PartFile] = []
    made: list[PartFile] = []
    rows = 0
    for part in lake.parts(dataset, table.name):
        file = lake.file(dataset, table.name, part)
        if not _theirs(read_part(file, [_TEXT if table is REJECTED_LINES else _USER]), ids).any():
            continue
        whole = read_part(file)
        theirs = _theirs(whole, ids)
        count = int(theirs.sum())
        rows += count
        if table is REJECTED_LINES:
            text = pl.when(theirs).then(None).otherwise(pl.col(_TEXT)).alias(_TEXT)
            rest, less = whole.with_columns(text), Counter({_TEXT: -count})
        else:
            rest = whole.filter(~theirs)
            less = Counter(whole.filter(theirs).null_count().row(0, named=True))
        if rest.height:
            folder = f"{lake.folder(dataset, table.name)}/{part.slice}"
            made.append(write_part(folder, rest, table.rows_together, list(part.bounds)))
        gone.append(part)
        nulls.subtract(less)
        if part.slice in slices:
            slices[part.slice] = _less(slices[part.slice], less, whole.height - rest.height)
    if gone:
        try:
            lake.take_out(dataset, table, gone, made, slices, nulls)
        except Exception:
            remove_parts(lake.folder(dataset, table.name), made)
            raise
    return rows


def _less(of: Slice, nulls: Counter[str], rows: int) -> Slice:
    left = Counter(of.nulls)
    left.subtract(nulls)
    return replace(of, nulls={name: n for name, n in left.items() if n > 0}, gone=of.gone + rows)


def _theirs(rows: pl.DataFrame, ids: Collection[str]) -> pl.Series:
    """True for the rows of these users, or the rejected lines that name them."""
    if _USER in rows.columns:
        return rows[_USER].is_in(list(ids)).fill_null(False)
    return Erased.nobody().with_users(ids).are_named(rows[_TEXT])


def _beside_tables(lake: Lake, dataset: str) -> Iterator[str]:
    """The report and the checks' notes, which the next run makes again."""
    for file in lake.all_files(dataset):
        if not (_is_part(file) or _LOG in file or file.endswith(f"/{FILE}")):
            yield file


def _is_part(file: str) -> bool:
    return file.endswith(".parquet") and _LOG not in file


def _copies(dataset: str, folder: Path) -> list[Path]:
    """Downloaded logs."""
    files = folder.rglob("*") if folder.is_dir() else []
    simulated = simulated_prefix(dataset)
    return [file for file in files if file.is_file() and not file.name.startswith(simulated)]


def traces(lake: Lake, dataset: str, users: Collection[str], log_copies: Path) -> list[str]:
    """The files that hold one of these users, or cannot be read; all that there are are looked at.

    Part files whether a version knows them or not, tables' logs, reports and copies of logs.
    """
    ids = known_as(lake, dataset, users)
    copies = [str(file) for file in _copies(dataset, log_copies)]
    return [file for file in [*lake.all_files(dataset), *copies] if _holds(file, ids)]


def _holds(file: str, ids: Collection[str]) -> bool:
    if file.endswith(f"/{FILE}"):
        return False
    filesystem, path = open_filesystem(file)
    if _is_part(file):
        try:
            telling = {_USER, _TEXT} & set(pq.read_schema(path, filesystem=filesystem).names)
            return any(_theirs(read_part(file, [name]), ids).any() for name in telling)
        except Exception:  # of whatever kind: what cannot be read may hold anybody
            return True
    with filesystem.open_input_stream(path) as stream:
        text = stream.read().decode("utf-8", errors="replace")
    return any(re.search(pattern, text) for pattern in _patterns(file, ids))


def _patterns(file: str, ids: Collection[str]) -> Iterator[str]:
    """What an id looks like: in a table's log a bound of user_id, elsewhere a word of its own."""
    for one in map(re.escape, ids):
        if _LOG in file:
            yield rf'user_id\\*"\s*:\s*\\*"{one}\\*"'
        else:
            yield rf"(?<![\w-]){one}(?![\w-])"
