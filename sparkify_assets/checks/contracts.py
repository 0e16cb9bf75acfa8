"""Blocking checks made from the tables' contracts.

Belongs here: one check a table, that reports how many rows break its contract.
Does not belong here: the contracts, and what breaks them (`tables.py`).
"""

import contextlib
import json

import dagster as dg

from sparkify_assets.assets.declaring import SPARK_POOL
from sparkify_assets.checks.results import result, rows_where, sql
from sparkify_assets.datasets import PARTITIONS
from sparkify_assets.digests import digest
from sparkify_assets.errors import LakeError
from sparkify_assets.resources.io_manager import LakeResource
from sparkify_assets.resources.lake import Lake
from sparkify_assets.resources.spark import SparkResource
from sparkify_assets.retries import told
from sparkify_assets.storage import read_part
from sparkify_assets.tables import TABLES, Table

# A smaller table is read faster than tasks are started.
_READ_HERE_BYTES = 32 * 2**20
# What begins with _ is no part of a Delta table, and vacuum leaves it.
_NOTE = "_contract_kept.json"


def repeated_keys(lake: Lake, dataset: str, table: Table) -> int:
    """Rows beyond the first of their key."""
    keys = lake.read_polars(dataset, table, columns=list(table.key))
    return keys.height - keys.n_unique()


def kept_until(lake: Lake, dataset: str, table: Table) -> int:
    """The last version that was found to keep the contract; -1 where none is known of.

    Part files never change: those that were in it need not be read again.
    """
    try:
        noted = json.loads(lake.read_file(dataset, f"{table.name}/{_NOTE}"))
        return noted["version"] if noted["contract"] == _contract(table) else -1
    except (LakeError, ValueError, KeyError):
        return -1


def note_kept(lake: Lake, dataset: str, table: Table, version: int) -> None:
    """Note it beside the table; without a note, all is read the next time."""
    noted = {"version": version, "contract": _contract(table)}
    with contextlib.suppress(LakeError):
        lake.write_file(dataset, f"{table.name}/{_NOTE}", json.dumps(noted).encode())


def broken_promises(
    lake: Lake, pyspark: SparkResource, dataset: str, table: Table
) -> dict[str, int]:
    """How many rows break each promise, in words; of what kept them before nothing is read."""
    columns = table.constrained_columns
    number, _ = lake.newest(dataset, table)
    files = lake.files_since(dataset, table.name, kept_until(lake, dataset, table))

    def count_broken(file: str) -> dict[str, int]:
        return table.count_broken(read_part(file, columns))

    if lake.version(dataset, table.name).size < _READ_HERE_BYTES or len(files) <= 1:
        counts = [count_broken(file) for file in files]
    else:
        spark = pyspark.spark_session
        counts = lake.in_tasks(spark, f"checking {table.name}", files, count_broken)
    found = {words: sum(part[words] for part in counts) for words in table.constraints}
    if table.key:
        found[_unique(table)] = repeated_keys(lake, dataset, table)
    if not any(found.values()):
        note_kept(lake, dataset, table, number)
    return found


def _contract(table: Table) -> str:
    return digest(table.constraints)


def contract_check(table: Table) -> dg.AssetChecksDefinition:
    """One blocking check of everything that the table's contract says of its rows."""
    promises = [*table.constraints, *([_unique(table)] if table.key else [])]

    @dg.asset_check(
        asset=dg.AssetKey(table.name),
        name="contract",
        description=f"Every row of {table.name} keeps the table's contract: {'; '.join(promises)}",
        blocking=True,
        partitions_def=PARTITIONS,
        pool=SPARK_POOL,
    )
    def contract(
        context: dg.AssetCheckExecutionContext, lake: LakeResource, pyspark: SparkResource
    ) -> dg.AssetCheckResult:
        dataset = context.partition_key
        with told(lambda: (context.retry_number, context.run.tags), pyspark):
            found = broken_promises(lake.lake, pyspark, dataset, table)
        return report(table, dataset, lake.lake.folder(dataset, table.name), found)

    return contract


def report(table: Table, dataset: str, path: str, counts: dict[str, int]) -> dg.AssetCheckResult:
    """The check's result; counts: the rows that break each promise, in words."""
    broken = {words: rows for words, rows in counts.items() if rows}
    breaking = [condition for words, condition in table.constraints.items() if words in broken]
    shown = [sql(*breaking)] if breaking else []
    if _unique(table) in broken:
        shown.append(f"pl.struct({list(table.key)}).is_duplicated()")
    rows = ", ".join(f"{count:,}" for count in broken.values())
    return result(
        not broken,
        expected="; ".join(broken) or f"all rows of {table.name} ({dataset}) keep the contract",
        found=f"rows that break this: {rows or 'none'}",
        look=rows_where(path, " | ".join(shown)) if shown else "",
        more={"rows that break a constraint": sum(broken.values())},
    )


def _unique(table: Table) -> str:
    return f"{', '.join(table.key)} is unique"


def contract_checks() -> list[dg.AssetChecksDefinition]:
    return [contract_check(table) for table in TABLES.values()]
