"""The contracts: each constraint says what it says, and is noticed where it is broken."""

from __future__ import annotations

from typing import Any

import polars as pl
import pytest

from sparkify_assets.tables import TABLES, Column


def breaking(column: Column) -> dict[str, Any]:
    """What a constraint forbids, by the words it begins with."""
    return {
        "is given": None,
        "is one of": "no such word",
        "is at least": None if column.minimum is None else column.minimum - 1,
        "is at most": None if column.maximum is None else column.maximum + 1,
    }


@pytest.mark.parametrize("name", TABLES)
def test_each_constraint_is_noticed_where_it_is_broken(name: str) -> None:
    table = TABLES[name]
    anything = pl.DataFrame({name: [None] for name in table.names}, schema=table.polars_schema)
    assert table.constraints
    for column in table.columns:
        for words in column.constraints:
            (value,) = (
                value
                for kind, value in breaking(column).items()
                if words.startswith(f"{column.name} {kind}")
            )
            planted = pl.lit(value, table.polars_schema[column.name]).alias(column.name)
            assert table.count_broken(anything.with_columns(planted))[words] == 1, words
