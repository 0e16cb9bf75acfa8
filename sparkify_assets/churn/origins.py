"""Which columns a computed column is made of, read off the expressions that compute it.

Belongs here: following expressions back. Does not belong here: tables (`lineage.py`).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import polars as pl

Origins = dict[str, frozenset[str]]


def origins(expressions: Iterable[pl.Expr], known: Mapping[str, Iterable[str]]) -> Origins:
    """For each expression's name, the columns it is made of.

    known: of computed columns that the expressions use, what these are made of; any other column
    is made of itself.
    """
    return {
        expression.meta.output_name(): frozenset(
            column for root in expression.meta.root_names() for column in known.get(root, {root})
        )
        for expression in expressions
    }
