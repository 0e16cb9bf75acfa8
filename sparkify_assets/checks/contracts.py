"""Blocking checks made from the tables' contracts.

Belongs here: one check a table, that reports how many rows break its contract.
Does not belong here: the contracts, and what breaks them (`tables.py`).
"""

from collections.abc import Sequence

import dagster as dg
from dagster_pyspark import LazyPySparkResource

from sparkify_assets.assets.declaring import SPARK_POOL
from sparkify_assets.datasets import PARTITIONS
from sparkify_assets.resources.io_manager import LakeResource
from sparkify_assets.resources.lake import Lake
from sparkify_assets.tables import TABLES, Table

# A smaller table is read faster than tasks are started.
_READ_HERE_BYTES = 32 * 2**20


def repeated_keys(lake: Lake, dataset: str, table: Table) -> int:
    """Rows beyond the first of their key."""
    keys = lake.read_polars(dataset, table, columns=list(table.key))
    return keys.height - keys.n_unique()


def contract_check(table: Table) -> dg.AssetChecksDefinition:
    """One blocking check of everything that the table's contract says of its rows."""

    @dg.asset_check(
        asset=dg.AssetKey(table.name),
        name="contract",
        description=f"Every row of {table.name} keeps the table's contract: "
        + "; ".join([*table.constraints, *_key_words(table)]),
        blocking=True,
        partitions_def=PARTITIONS,
        pool=SPARK_POOL,
    )
    def contract(
        context: dg.AssetCheckExecutionContext, lake: LakeResource, pyspark: LazyPySparkResource
    ) -> dg.AssetCheckResult:
        dataset = context.partition_key
        columns = table.constrained_columns
        if lake.lake.version(dataset, table.name).size < _READ_HERE_BYTES:
            counts = [table.count_broken(lake.lake.read_polars(dataset, table, columns))]
        else:
            counts = lake.lake.over_parts(
                pyspark.spark_session, dataset, table.name, table.count_broken, columns
            )
        found = {words: sum(part[words] for part in counts) for words in table.constraints}
        for words in _key_words(table):
            found[words] = repeated_keys(lake.lake, dataset, table)
        return report(table, dataset, {words: n for words, n in found.items() if n})

    return contract


def report(table: Table, dataset: str, broken: dict[str, int]) -> dg.AssetCheckResult:
    """Passed, or what was expected, how many rows break it, and how to look at them."""
    said = "; ".join(
        f"expected that {words}, but {n:,} rows break it" for words, n in broken.items()
    )
    return dg.AssetCheckResult(
        passed=not broken,
        description=said or f"All rows of {table.name} ({dataset}) keep the contract.",
        metadata={"rows that break a constraint": sum(broken.values())},
    )


def _key_words(table: Table) -> Sequence[str]:
    return [f"{', '.join(table.key)} is unique"] if table.key else []


def contract_checks() -> list[dg.AssetChecksDefinition]:
    return [contract_check(table) for table in TABLES.values()]
