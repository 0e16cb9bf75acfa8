"""Blocking checks made from the tables' contracts.

Belongs here: counting the rows that break a contract, and one check a table that reports them.
Does not belong here: the contracts (`tables.py`).
"""

from collections.abc import Callable, Sequence

import dagster as dg
import polars as pl
from dagster_pyspark import LazyPySparkResource

from sparkify_assets.assets.declaring import SPARK_POOL
from sparkify_assets.datasets import PARTITIONS
from sparkify_assets.resources.io_manager import LakeResource
from sparkify_assets.resources.lake import Lake
from sparkify_assets.tables import TABLES, Column, Table


def constraints(table: Table) -> dict[str, pl.Expr]:
    """Words for each constraint on a row, and an expression that is true where it is broken."""
    return {
        words: broken for column in table.columns for words, broken in _of_column(column).items()
    }


def _of_column(column: Column) -> dict[str, pl.Expr]:
    value = pl.col(column.name)
    broken = {}
    if not column.nullable:
        broken[f"{column.name} is given"] = value.is_null()
    if column.allowed is not None:
        broken[f"{column.name} is one of {', '.join(column.allowed)}"] = ~value.is_in(
            column.allowed
        )
    if column.minimum is not None:
        broken[f"{column.name} is at least {column.minimum:g}"] = value < column.minimum
    if column.maximum is not None:
        broken[f"{column.name} is at most {column.maximum:g}"] = value > column.maximum
    return broken


def count_broken(table: Table) -> Callable[[pl.DataFrame], dict[str, int]]:
    """A function that counts a frame's rows that break each constraint; it adds up over frames."""

    def count(rows: pl.DataFrame) -> dict[str, int]:
        counts = rows.select(
            broken.fill_null(False).sum().alias(words)
            for words, broken in constraints(table).items()
        )
        return counts.row(0, named=True)

    return count


def repeated_keys(lake: Lake, dataset: str, table: Table) -> int:
    """Rows beyond the first of their key."""
    keys = lake.read_polars(dataset, table, columns=list(table.key))
    return keys.height - keys.n_unique()


def contract_check(table: Table) -> dg.AssetChecksDefinition:
    """One blocking check of everything that the table's contract says of its rows."""
    # Only what a constraint is about is read.
    columns = [column.name for column in table.columns if _of_column(column)]

    @dg.asset_check(
        asset=dg.AssetKey(table.name),
        name="contract",
        description=f"Every row of {table.name} keeps the table's contract: "
        + "; ".join([*constraints(table), *_key_words(table)]),
        blocking=True,
        partitions_def=PARTITIONS,
        pool=SPARK_POOL,
    )
    def contract(
        context: dg.AssetCheckExecutionContext, lake: LakeResource, pyspark: LazyPySparkResource
    ) -> dg.AssetCheckResult:
        dataset = context.partition_key
        counts = lake.lake.over_parts(
            pyspark.spark_session, dataset, table.name, count_broken(table), columns
        )
        found = {words: sum(part[words] for part in counts) for words in constraints(table)}
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
