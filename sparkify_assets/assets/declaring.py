"""How an asset is declared from its table's contract, so that every asset is declared alike.

Belongs here: what Dagster is told of an asset and its steps. Does not belong here: what is told of
tables and their versions (`metadata.py`).
"""

import functools
import inspect
from collections.abc import Callable
from datetime import datetime, timezone
from typing import Any

import dagster as dg

from sparkify_assets import metadata
from sparkify_assets.datasets import PARTITIONS
from sparkify_assets.retries import told
from sparkify_assets.tables import TABLES

DATA_ENGINEERING = "team:data-engineering"
ANALYTICS = "team:analytics"
SPARK_POOL = "spark"

Function = Callable[..., Any]


def table_asset(
    *tables: str,
    group: str,
    kinds: set[str],
    owner: str,
    name: str | None = None,
    deps: list[str] | None = None,
) -> Callable[[Function], dg.AssetsDefinition]:
    """Declare the asset of a table, or, under a `name`, the assets of tables made in one go.

    The function returns what the IO manager takes, for each table. A step that takes `pyspark`
    waits for the one pool of Spark.
    """

    def declare(function: Function) -> dg.AssetsDefinition:
        links = metadata.code_link(function)
        step = as_step(*(tables if name else [None]))(function)
        shared: dict[str, Any] = {
            "partitions_def": PARTITIONS,
            "pool": SPARK_POOL if "pyspark" in inspect.signature(function).parameters else None,
            "deps": deps,
        }
        said: dict[str, dict[str, Any]] = {
            table.name: {
                "key": dg.AssetKey(table.name),
                "description": table.meaning,
                "group_name": group,
                "kinds": {*kinds, "deltalake"},
                "owners": [owner],
                "tags": _tags(personal=any(column.personal for column in table.columns)),
                "metadata": {"dagster/column_schema": metadata.column_schema(table)} | links,
            }
            for table in map(TABLES.__getitem__, tables)
        }
        if name is None:
            return dg.asset(**said[tables[0]], **shared)(step)
        outs = {table: dg.AssetOut(**out) for table, out in said.items()}
        return dg.multi_asset(name=name, outs=outs, **shared)(step)

    return declare


def file_asset(
    key: str, *, description: str, group: str, kinds: set[str], owner: str, deps: list[str]
) -> Callable[[Function], dg.AssetsDefinition]:
    """Declare the asset of a file that shows users; the function returns a MaterializeResult."""

    def declare(function: Function) -> dg.AssetsDefinition:
        return dg.asset(
            key=key,
            description=description,
            group_name=group,
            kinds=kinds,
            owners=[owner],
            tags=_tags(personal=True),
            metadata=metadata.code_link(function),
            partitions_def=PARTITIONS,
            deps=deps,
        )(as_step()(function))

    return declare


def _tags(*, personal: bool) -> dict[str, str]:
    return {"personal_data": "yes" if personal else "no"}


def as_step(*outputs: str | None) -> Callable[[Function], Function]:
    """Say in the outputs' metadata what Spark did, and known errors in their own words.

    outputs: their names; None is the only one.
    """

    def wrap(function: Function) -> Function:
        @functools.wraps(function)
        def step(context: dg.AssetExecutionContext, **inputs: Any) -> Any:
            began, pyspark = datetime.now(timezone.utc), inputs.get("pyspark")
            with told(lambda: (context.retry_number, context.run.tags), pyspark):
                made = function(context, **inputs)
                if pyspark:
                    did = metadata.spark(pyspark.application_id, pyspark.stages_since(began))
                    for name in outputs:
                        context.add_output_metadata(did, name)
                return made

        return step

    return wrap
