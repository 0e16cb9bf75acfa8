"""Digests: by what it is seen that something is made of other things than before.

Belongs here: the key of a slice, which keys differ, and the digest of a frame. Does not belong
here: what a slice is made of; that is said where it is made (`assets/`).
"""

from __future__ import annotations

import hashlib
import io
import json
from collections.abc import Mapping
from typing import Any

import polars as pl

from sparkify_assets import __version__
from sparkify_assets.tables import Slice, Table

_LENGTH = 16


def digest(*of: Any) -> str:
    """Of values that JSON can write, in their order."""
    return _short(json.dumps(of, default=str).encode())


def of_frame(rows: pl.DataFrame) -> str:
    """Of a frame's rows, in their order."""
    written = io.BytesIO()
    # Not as Arrow has it: what stands in memory where nothing is given differs from run to run.
    rows.write_parquet(written, compression="uncompressed", statistics=False)
    return _short(written.getvalue())


def slice_key(table: Table, *made_of: Any) -> str:
    """The key of a table's slice that is made of these.

    Another version of the project, or another contract, makes everything anew.
    """
    # All that a Delta table's schema tells, as it is by this that the lake tells contracts apart.
    promised = [(c.name, str(c.type), c.nullable, c.description) for c in table.columns]
    return digest(__version__, promised, *made_of)


def changed(keys: Mapping[str, str], known: Mapping[str, Slice]) -> list[str]:
    """The slices of these keys that are to be made: new ones, and those of another key before."""
    return sorted(name for name, key in keys.items() if name not in known or known[name].key != key)


def _short(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()[:_LENGTH]
