"""How an asset is declared from its table's contract, so that every asset is declared alike."""

import functools
from collections.abc import Callable
from typing import Any, TypeVar

import dagster as dg
import pyarrow as pa

from sparkify_assets.errors import SparkifyError
from sparkify_assets.tables import TABLES, Table

DATA_ENGINEERING = "team:data-engineering"
ANALYTICS = "team:analytics"
SPARK_POOL = "spark"

F = TypeVar("F", bound=Callable[..., Any])


def described(name: str, *, group: str, kinds: set[str], owner: str) -> dict[str, Any]:
    """The arguments of `dg.asset` or `dg.AssetOut` that come from a table's contract."""
    table = TABLES[name]
    return {
        "key": dg.AssetKey(name),
        "description": table.meaning,
        "group_name": group,
        "kinds": {*kinds, "deltalake"},
        "owners": [owner],
        "metadata": {"dagster/column_schema": column_schema(table)},
    }


def described_outs(*names: str, group: str, kinds: set[str], owner: str) -> dict[str, dg.AssetOut]:
    """The `outs` of a `dg.multi_asset` that makes these tables in one go."""
    return {
        name: dg.AssetOut(**described(name, group=group, kinds=kinds, owner=owner))
        for name in names
    }


def column_schema(table: Table) -> dg.TableSchema:
    """A contract's columns, as Dagster's UI shows them."""
    return dg.TableSchema(
        columns=[
            dg.TableColumn(
                column.name,
                type=_type_name(column.type),
                description=column.description,
                constraints=dg.TableColumnConstraints(nullable=column.nullable),
            )
            for column in table.columns
        ]
    )


def _type_name(kind: pa.DataType) -> str:
    return str(kind).replace("[us, tz=UTC]", " (UTC)").replace("date32[day]", "date")


def explained(function: F) -> F:
    """Turn errors that are meant for people into failures whose description is their message."""

    @functools.wraps(function)
    def wrapper(*args: Any, **kwargs: Any) -> Any:
        try:
            return function(*args, **kwargs)
        except SparkifyError as error:
            raise dg.Failure(str(error), allow_retries=False) from error

    return wrapper  # type: ignore[return-value]
