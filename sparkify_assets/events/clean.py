"""From raw events to the events of known users.

Belongs here: which events are kept, and how each field is repaired or read.
Does not belong here: parsing of lines (`parse.py`) and anything computed per user (`churn/`).
"""

from __future__ import annotations

import zlib
from collections.abc import Callable
from functools import lru_cache

import numpy as np
import polars as pl

from sparkify_assets.errors import NotEnoughDataError
from sparkify_assets.events import user_ids
from sparkify_assets.tables import CLEANED_EVENTS

LOGGED_IN = ("Logged In", "Cancelled")
# What a line of the log says of an event and of a known user, less the user's names.
RAW_COLUMNS = (
    "ts",
    "user_id",
    "session_id",
    "page",
    "auth",
    "method",
    "status",
    "level",
    "item_in_session",
    "location",
    "user_agent",
    "registration",
    "gender",
    "artist",
    "song",
    "length",
)
_ORDER = ["user_id", "ts", "item_in_session", "session_id", "page"]
_FIRST_STATE = r", ([A-Z]{2})"
_VALUE = "__value"
_REMEMBERED = 2**16  # values whose reading takes long


def is_known() -> pl.Expr:
    """True for the events of logged-in users.

    This leaves out the rows without a user, and those of the one pseudo-user that some logs give
    to everybody who is logged out.
    """
    return pl.col("auth").is_in(LOGGED_IN) & (pl.col("user_id").fill_null("") != "")


def check_known(known: int, events: int) -> None:
    """Raise NotEnoughDataError where no event of the log is of a known user."""
    if not known:
        raise NotEnoughDataError(
            f"None of the log's {events:,} events is of a known user: expected are events with a "
            f"userId, and with auth {' or '.join(LOGGED_IN)}."
        )


def clean(raw: pl.DataFrame, key: bytes | None = None) -> pl.DataFrame:
    """`cleaned_events` of the RAW_COLUMNS of whole users; sorted by user and time.

    key: where there is one, user ids become hashes with it.
    """
    known = raw.filter(is_known()).select(RAW_COLUMNS)
    if key is not None:
        known = known.with_columns(user_ids.hashed(known["user_id"], key))
    events = in_order(known)
    events = _looked_up(events, "user_agent", _agents)
    events = _looked_up(events, "artist", _texts)
    events = _looked_up(events, "song", _texts)
    return events.with_columns(
        _utc("registration").alias("registered_at"),
        _utc("ts").alias("event_time"),
        pl.col("location").str.extract(_FIRST_STATE).alias("state"),
        # Two artists may have songs of the same title.
        song_key=pl.col("song_key") ^ pl.col("artist_key").fill_null(0),
    )


def in_order(events: pl.DataFrame) -> pl.DataFrame:
    """Events without exact repeats, sorted by user and time.

    No other order of the lines gives another result: where the first keys leave events tied, all
    columns decide.
    """
    ordered = events.sort(_ORDER)
    before = pl.col(_ORDER).eq_missing(pl.col(_ORDER).shift(1))
    again = ordered.select(pl.all_horizontal(before).fill_null(False)).to_series()
    if not again.any():
        return ordered
    tied = again | again.shift(-1, fill_value=False)
    rest = [name for name in events.columns if name not in _ORDER]
    settled = ordered.filter(tied).unique().sort(*_ORDER, *rest)
    return pl.concat([ordered.filter(~tied), settled]).sort(_ORDER, maintain_order=True)


def together(new: pl.DataFrame, *before: pl.DataFrame) -> pl.DataFrame:
    """Cleaned events with those that were cleaned before, without exact repeats, in order."""
    if not before:
        return new
    schema = CLEANED_EVENTS.polars_schema
    rows = pl.concat([new.select(schema.names()).cast(schema), *before], how="diagonal").unique()
    order = ["event_time" if name == "ts" else name for name in _ORDER]
    return rows.sort([*order, *(name for name in rows.columns if name not in order)])


def _utc(column: str) -> pl.Expr:
    return (pl.col(column) * 1000).cast(pl.Datetime("us", "UTC"))


def _looked_up(
    events: pl.DataFrame, column: str, read: Callable[[pl.Series], pl.DataFrame]
) -> pl.DataFrame:
    """Replace a column by what `read` says of its values; it is asked once for each value."""
    values = events[column].drop_nulls().unique()
    answers = read(values).with_columns(values.alias(_VALUE))
    asked = events.rename({column: _VALUE})
    return asked.join(answers, on=_VALUE, how="left", maintain_order="left").drop(_VALUE)


def _agents(values: pl.Series) -> pl.DataFrame:
    agents = values.str.strip_chars('" ')
    parts = dict.fromkeys(("os", "browser", "device"), pl.String)
    read = pl.DataFrame([read_agent(agent) for agent in agents], schema=parts, orient="row")
    return read.with_columns(agents)


def _texts(values: pl.Series) -> pl.DataFrame:
    strange = values.str.len_bytes() > values.str.len_chars()
    repaired = pl.Series([repair_text(text) for text in values.filter(strange)], dtype=pl.String)
    return pl.DataFrame([values.clone().scatter(strange.arg_true(), repaired), keys(values)])


@lru_cache(_REMEMBERED)
def read_agent(agent: str) -> tuple[str | None, str | None, str | None]:
    """Operating system, browser and device of a user agent; None where it does not tell."""
    import ua_parser

    read = ua_parser.parse(agent)
    os, browser, device = (p.family if p else None for p in (read.os, read.user_agent, read.device))
    return os, browser, device


@lru_cache(_REMEMBERED)
def repair_text(text: str) -> str:
    """Text whose UTF-8 was read as Latin-1, once or more often, as it was meant."""
    from ftfy import TextFixerConfig, fix_encoding

    return fix_encoding(text, TextFixerConfig(unescape_html=False))


def keys(texts: pl.Series) -> pl.Series:
    """`artist_key` of `artist`, and so on: a number for each text (CRC-32), the same for good."""
    found = (zlib.crc32(text.encode()) for text in texts)
    numbers = np.fromiter(found, np.uint32, len(texts))
    return pl.Series(f"{texts.name}_key", numbers.view(np.int32))
