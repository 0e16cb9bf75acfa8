"""From raw events to the events of known users.

Belongs here: which events are kept, and how each field is repaired or read.
Does not belong here: parsing of lines (`parse.py`) and anything computed per user (`churn/`).
"""

from __future__ import annotations

import zlib
from collections.abc import Callable
from functools import cache

import polars as pl

from sparkify_assets.errors import NotEnoughDataError

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
_ORDER = ("user_id", "event_time", "item_in_session", "session_id", "page")
_FIRST_STATE = r", ([A-Z]{2})"


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


def clean(raw: pl.DataFrame) -> pl.DataFrame:
    """`cleaned_events` of the RAW_COLUMNS of whole users; sorted by user and time."""
    events = raw.filter(is_known()).select(RAW_COLUMNS).unique()
    events = events.with_columns(
        pl.from_epoch("ts", time_unit="ms").dt.cast_time_unit("us").dt.replace_time_zone("UTC"),
        pl.from_epoch("registration", time_unit="ms")
        .dt.cast_time_unit("us")
        .dt.replace_time_zone("UTC"),
        pl.col("location").str.extract(_FIRST_STATE).alias("state"),
        pl.col("user_agent").str.strip_chars('" '),
    ).rename({"ts": "event_time", "registration": "registered_at"})
    # All columns take part, so that no other order of the lines gives another table.
    events = events.sort(*_ORDER, *(name for name in events.columns if name not in _ORDER))
    events = _looked_up(events, "user_agent", read_agent, ["os", "browser", "device"])
    for column in ("artist", "song"):
        events = _looked_up(events, column, _repaired, [f"{column}_repaired", f"{column}_key"])
    return events.with_columns(
        # Two artists may have songs of the same title.
        song_key=pl.col("song_key") ^ pl.col("artist_key").fill_null(0),
        artist=pl.col("artist_repaired"),
        song=pl.col("song_repaired"),
    )


def _looked_up(
    events: pl.DataFrame, column: str, read: Callable[[str], tuple], names: list[str]
) -> pl.DataFrame:
    """Add what `read` says of each value of a column; it is asked once for each value."""
    values = events[column].drop_nulls().unique().to_list()
    read_values = [(value, *read(value)) for value in values]
    types = {name: pl.Int32 if name.endswith("_key") else pl.String for name in names}
    answers = pl.DataFrame(read_values, schema={column: pl.String, **types}, orient="row")
    return events.join(answers, on=column, how="left", maintain_order="left")


@cache
def read_agent(agent: str) -> tuple[str | None, str | None, str | None]:
    """Operating system, browser and device of a user agent; None where it does not tell."""
    import ua_parser

    read = ua_parser.parse(agent)
    os, browser, device = (p.family if p else None for p in (read.os, read.user_agent, read.device))
    return os, browser, device


@cache
def _repaired(text: str) -> tuple[str, int]:
    return repair_text(text), key(text)


def repair_text(text: str) -> str:
    """Text whose UTF-8 was read as Latin-1, once or more often, as it was meant."""
    if text.isascii():
        return text
    from ftfy import TextFixerConfig, fix_encoding

    return fix_encoding(text, TextFixerConfig(unescape_html=False))


def key(text: str) -> int:
    """A signed 32-bit number for a text, the same everywhere and for good (CRC-32)."""
    return int.from_bytes(zlib.crc32(text.encode()).to_bytes(4, "big"), "big", signed=True)
