"""What a check says: what was expected, what was found, and how to look at the rows in question.

Belongs here: the form of every check's result. Does not belong here: what is checked.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import dagster as dg


def result(
    passed: bool,
    *,
    expected: str,
    found: str,
    look: str = "",
    warns: bool = False,
    more: Mapping[str, Any] | None = None,
) -> dg.AssetCheckResult:
    """A check's result, in words and as metadata.

    look: Python that shows the rows in question. warns: a failure stops nothing.
    """
    metadata: dict[str, Any] = {"expected": expected, "found": found, **(more or {})}
    if look:
        metadata["how to look"] = dg.MetadataValue.md(f"```python\n{look}\n```")
    words = f"Expected: {expected}. Found: {found}."
    return dg.AssetCheckResult(
        passed=passed,
        severity=dg.AssetCheckSeverity.WARN if warns else dg.AssetCheckSeverity.ERROR,
        description=words if passed or not look else f"{words} To look: {look}",
        metadata=metadata,
    )


def rows_where(path: str, condition: str) -> str:
    """Python that shows the rows of a table for which a Polars expression is true."""
    return f"import polars as pl; print(pl.read_delta({path!r}).filter({condition}))"


def sql(*conditions: str) -> str:
    """A Polars expression for any of some SQL conditions."""
    return f"pl.sql_expr({' OR '.join(f'({condition})' for condition in conditions)!r})"
