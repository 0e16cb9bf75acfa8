"""Each table's contract: columns, types, units, meaning and constraints, said once.

Belongs here: what a table promises to its readers. The Dagster column schemas, the blocking
checks, the types that are written and the documentation all come from these definitions.
Does not belong here: how a table is computed (`events/`, `churn/`) or stored (`resources/`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pyarrow as pa

if TYPE_CHECKING:
    import polars as pl
    from pyspark.sql.types import StructType

STRING = pa.string()
INTEGER = pa.int64()
NUMBER = pa.float64()
BOOLEAN = pa.bool_()
DATE = pa.date32()
TIMESTAMP = pa.timestamp("us", tz="UTC")
BINARY = pa.binary()


@dataclass(frozen=True)
class Column:
    """One column: its type, what it means, and what its values must satisfy."""

    name: str
    type: pa.DataType
    meaning: str
    unit: str | None = None
    nullable: bool = True
    minimum: float | None = None
    maximum: float | None = None
    allowed: tuple[str, ...] | None = None

    @property
    def description(self) -> str:
        return f"{self.meaning} ({self.unit})" if self.unit else self.meaning


@dataclass(frozen=True)
class Table:
    """A table's contract. `key` names the columns that together identify a row."""

    name: str
    meaning: str
    columns: tuple[Column, ...]
    key: tuple[str, ...] = ()

    @property
    def names(self) -> list[str]:
        return [column.name for column in self.columns]

    def __getitem__(self, name: str) -> Column:
        return next(column for column in self.columns if column.name == name)

    @property
    def arrow_schema(self) -> pa.Schema:
        return pa.schema(
            [
                pa.field(c.name, c.type, nullable=c.nullable, metadata={"comment": c.description})
                for c in self.columns
            ]
        )

    @property
    def polars_schema(self) -> pl.Schema:
        import polars as pl

        frame = pl.from_arrow(self.arrow_schema.empty_table())
        assert isinstance(frame, pl.DataFrame)
        return frame.schema

    @property
    def spark_schema(self) -> StructType:
        from pyspark.sql.pandas.types import from_arrow_schema

        return from_arrow_schema(self.arrow_schema.remove_metadata())


@dataclass(frozen=True)
class PartFile:
    """A Parquet file written into a table's folder, not yet part of any version of the table."""

    path: str  # relative to the table's folder
    rows: int
    size: int  # bytes


def _columns(*columns: Column | Sequence[Column]) -> tuple[Column, ...]:
    flat: list[Any] = []
    for item in columns:
        flat.extend([item] if isinstance(item, Column) else item)
    return tuple(flat)


LEVELS = ("free", "paid")

RAW_EVENTS = Table(
    "raw_events",
    "Every line of the event log that is an event, typed and otherwise as it was written. "
    "Holds first and last names.",
    _columns(
        Column("ts", INTEGER, "When it happened", "ms since 1970, UTC", nullable=False),
        Column("user_id", STRING, "Who; empty or a shared pseudo-user when logged out"),
        Column("session_id", INTEGER, "Session; unique only together with user_id"),
        Column("page", STRING, "The page or action", nullable=False),
        Column("auth", STRING, "Logged In, Logged Out, Guest or Cancelled", nullable=False),
        Column("method", STRING, "HTTP method"),
        Column("status", INTEGER, "HTTP status"),
        Column("level", STRING, "Subscription level at the event: free or paid"),
        Column("item_in_session", INTEGER, "Position of the event within its session"),
        Column("location", STRING, "Metropolitan area and states"),
        Column("user_agent", STRING, "The browser's own description, as sent"),
        Column("last_name", STRING, "Last name (personal data)"),
        Column("first_name", STRING, "First name (personal data)"),
        Column("registration", INTEGER, "When the user registered", "ms since 1970, UTC"),
        Column("gender", STRING, "F or M"),
        Column("artist", STRING, "Artist of the song; only on NextSong"),
        Column("song", STRING, "Title of the song; only on NextSong"),
        Column("length", NUMBER, "Length of the song; only on NextSong", "seconds"),
        Column("source_file", STRING, "The log file that the line stands in", nullable=False),
    ),
)

REJECTED_LINES = Table(
    "rejected_lines",
    "Every line of the event log that is not an event, with the reason. May hold personal data.",
    _columns(
        Column("source_file", STRING, "The log file that the line stands in", nullable=False),
        Column(
            "byte_offset",
            INTEGER,
            "Where the line starts in the (decompressed) file",
            "bytes",
            nullable=False,
            minimum=0,
        ),
        Column("reason", STRING, "Why it is not an event", nullable=False),
        Column("text", STRING, "The line; bytes that are not UTF-8 are written as \\xNN"),
    ),
    key=("source_file", "byte_offset"),
)
