"""Blocking checks made from the tables' contracts.

Belongs here: one check a table, that reports how many rows break its contract.
Does not belong here: the contracts, and what breaks them (`tables.py`).
"""

import dagster as dg

from sparkify_assets.assets.declaring import SPARK_POOL
from sparkify_assets.checks.results import result, rows_where, sql
from sparkify_assets.datasets import PARTITIONS
from sparkify_assets.resources.io_manager import LakeResource
from sparkify_assets.resources.lake import Lake
from sparkify_assets.resources.spark import SparkResource
from sparkify_assets.tables import TABLES, Table

# A smaller table is read faster than tasks are started.
_READ_HERE_BYTES = 32 * 2**20


def repeated_keys(lake: Lake, dataset: str, table: Table) -> int:
    """Rows beyond the first of their key."""
    keys = lake.read_polars(dataset, table, columns=list(table.key))
    return keys.height - keys.n_unique()


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
        columns = table.constrained_columns
        version = lake.lake.version(dataset, table.name)
        if version.size < _READ_HERE_BYTES:
            counts = [table.count_broken(lake.lake.read_polars(dataset, table, columns))]
        else:
            counts = lake.lake.over_parts(
                pyspark.spark_session, dataset, table.name, table.count_broken, columns
            )
        found = {words: sum(part[words] for part in counts) for words in table.constraints}
        if table.key:
            found[_unique(table)] = repeated_keys(lake.lake, dataset, table)
        return report(table, dataset, version.path, found)

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
