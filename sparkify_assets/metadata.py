"""What Dagster's UI shows of an asset, a table's version and what Spark did for it.

Belongs here: facts put into the forms that the UI knows. Does not belong here: where they come from
(`tables.py`, `lineage.py`, `resources/`), and pictures (`report/`).
"""

from __future__ import annotations

import inspect
import warnings
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

import dagster as dg
import polars as pl
import polars.selectors as cs
import pyarrow as pa

from sparkify_assets.lineage import lineage
from sparkify_assets.tables import Column, Table

if TYPE_CHECKING:
    from sparkify_assets.resources.lake import Version
    from sparkify_assets.resources.spark import Stage

Metadata = dict[str, Any]

_NAMED = 8  # columns that another one comes from; more are counted
# What a table's commit says of the log that its rows come from.
ORIGIN = ("source", "simulated")

# Dagster 1.13 calls links to the code a beta.
warnings.filterwarnings("ignore", message="Class `(CodeReferences|LocalFile)")


def column_schema(table: Table) -> dg.TableSchema:
    """A contract's columns with their meaning, origin and constraints."""
    return dg.TableSchema(columns=[_column(column, table) for column in table.columns])


def _column(column: Column, table: Table) -> dg.TableColumn:
    constraints = [words.removeprefix(f"{column.name} is ") for words in column.constraints]
    return dg.TableColumn(
        column.name,
        type=_type_name(column.type),
        description=". ".join([column.description, *_origins(table.name, column.name)]),
        constraints=dg.TableColumnConstraints(
            nullable=column.nullable,
            unique=table.key == (column.name,),
            other=[words for words in constraints if words != "given"],  # that says `nullable`
        ),
        tags={"personal_data": ""} if column.personal else None,
    )


def _origins(table: str, column: str) -> list[str]:
    """Where a column comes from, in words: Dagster's open UI does not draw columns' lineage."""
    by_table: dict[str, list[str]] = {}
    for of, name in lineage(table).get(column, []):
        by_table.setdefault(of, []).append(name)
    return [
        f"From {of}: {', '.join(names) if len(names) <= _NAMED else f'{len(names)} columns'}"
        for of, names in by_table.items()
    ]


def _type_name(kind: pa.DataType) -> str:
    return str(kind).replace("[us, tz=UTC]", " (UTC)").replace("date32[day]", "date")


def code_link(function: Callable[..., Any]) -> Metadata:
    """The file and line where an asset is written."""
    # Not `dg.with_source_code_references`, which would name a decorator's file.
    file, line = inspect.getsourcefile(function), inspect.getsourcelines(function)[1]
    place = dg.LocalFileCodeReference(file_path=str(file), line_number=line)
    links = dg.CodeReferencesMetadataValue(code_references=[place])
    return {"dagster/code_references": links}


def of_version(version: Version) -> Metadata:
    """How much a version holds, where it lies, and which log it comes from."""
    return {
        "dagster/partition_row_count": version.rows,
        "dagster/uri": version.path,
        "table_version": version.number,
        "path": dg.MetadataValue.path(version.path),
        "size_mb": round(version.size / 1e6, 3),
        "files": version.files,
        **{name: version.metadata[name] for name in ORIGIN if name in version.metadata},
    }


def column_lineage(table: Table) -> Metadata:
    """Which columns each column comes from."""
    columns = {
        name: [dg.TableColumnDep(dg.AssetKey(of), column) for of, column in origins]
        for name, origins in lineage(table.name).items()
    }
    return {"dagster/column_lineage": dg.TableColumnLineage(columns)} if columns else {}


def preview(table: Table, rows: pl.DataFrame) -> Metadata:
    """Rows of the columns that may be shown, in the contract's order."""
    shown = rows.select(table.shown).with_columns(cs.temporal().dt.to_string())
    if shown.is_empty():
        return {}
    schema = dg.TableSchema(columns=[_column(table[name], table) for name in table.shown])
    rows_shown = [dg.TableRecord(row) for row in shown.iter_rows(named=True)]
    return {"preview": dg.MetadataValue.table(rows_shown, schema=schema)}


def spark(application: str | None, stages: list[Stage]) -> Metadata:
    """Which Spark application worked on a step, and its stages, those of one name together."""
    if not stages:
        return {}
    by_name: dict[str, list[Stage]] = {}
    for stage in stages:
        by_name.setdefault(stage.what, []).append(stage)
    return {
        "spark_application": str(application),
        "spark_stages": records(
            {
                "what": what,
                "stages": len(same),
                "tasks": sum(stage.tasks for stage in same),
                "failed tasks": sum(stage.failed_tasks for stage in same),
                "seconds": round(sum(stage.seconds for stage in same), 2),
                "seconds of all tasks": round(sum(stage.task_seconds for stage in same), 2),
            }
            for what, same in by_name.items()
        ),
    }


def records(rows: Any) -> dg.TableMetadataValue:
    """A small table of an iterable of mappings with the same names, in their order."""
    found: list[Mapping[str, Any]] = list(rows)
    columns = [dg.TableColumn(name) for name in (found[0] if found else ())]
    return dg.MetadataValue.table(
        [dg.TableRecord(row) for row in found], schema=dg.TableSchema(columns=columns)
    )
