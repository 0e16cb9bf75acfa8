"""From raw events to the events of known users.

Belongs here: which events are kept, and how each field is repaired or read.
Does not belong here: parsing of lines (`parse.py`) and anything computed per user (`churn/`).
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import pandas as pd
    from pyspark.sql import DataFrame

LOGGED_IN = ("Logged In", "Cancelled")
_FIRST_STATE = ", ([A-Z]{2})"
_SURROUNDING_QUOTES = '^[" ]+|[" ]+$'
_BEYOND_ASCII = "[^\\x00-\\x7F]"


def clean(raw: DataFrame, *, partitions: int) -> DataFrame:
    """`cleaned_events` of `raw_events` (see `tables.py`), in `partitions` parts of whole users.

    Keeps the events of logged-in users: this drops the rows without a user, and those of the one
    pseudo-user that some logs give to everybody who is logged out.
    """
    from pyspark.sql import Window
    from pyspark.sql import functions as F

    known = raw.where(
        F.col("auth").isin(*LOGGED_IN) & F.col("user_id").isNotNull() & (F.col("user_id") != "")
    )
    events = known.select(
        "user_id",
        F.timestamp_millis("ts").alias("event_time"),
        "session_id",
        "item_in_session",
        "page",
        "auth",
        "method",
        "status",
        "level",
        "location",
        F.regexp_extract("location", _FIRST_STATE, 1).alias("state"),
        F.regexp_replace("user_agent", _SURROUNDING_QUOTES, "").alias("user_agent"),
        F.timestamp_millis("registration").alias("registered_at"),
        "gender",
        "artist",
        "song",
        "length",
    ).withColumn("state", F.nullif("state", F.lit("")))
    agents = events.select("user_agent").distinct().mapInPandas(_read_agents, _AGENT_SCHEMA)
    broken = (
        events.select(F.explode(F.array("artist", "song")).alias("text"))
        .where(F.col("text").rlike(_BEYOND_ASCII))
        .distinct()
        .mapInPandas(_repair, "text string, repaired string")
    )
    for column in ("artist", "song"):
        repaired = F.broadcast(broken.withColumnRenamed("text", column))
        events = (
            events.join(repaired, column, "left")
            .withColumn(column, F.coalesce("repaired", column))
            .drop("repaired")
        )
    events = (
        events.join(F.broadcast(agents), "user_agent", "left")
        .withColumn("artist_key", F.when(F.col("artist").isNotNull(), F.hash("artist")))
        .withColumn("song_key", F.when(F.col("song").isNotNull(), F.hash("artist", "song")))
    )
    # One sort serves both the order of the file and the search for repeats: equal rows have equal
    # hashes, so they come to stand side by side.
    order = ["event_time", "item_in_session", "session_id", "page"]
    by_user = Window.partitionBy("user_id").orderBy(*order, "row_hash")
    return (
        events.repartition(partitions, "user_id")
        .withColumn("row_hash", F.xxhash64(*events.columns))
        .withColumn("repeat", F.col("row_hash") == F.lag("row_hash").over(by_user))
        .where(~F.coalesce("repeat", F.lit(False)))
        .drop("row_hash", "repeat")
    )


_AGENT_SCHEMA = "user_agent string, os string, browser string, device string"


def _read_agents(batches: Iterator[pd.DataFrame]) -> Iterator[pd.DataFrame]:
    import pandas as pd

    for batch in batches:
        read = [(agent, *read_agent(agent)) for agent in batch["user_agent"]]
        yield pd.DataFrame(read, columns=["user_agent", "os", "browser", "device"])


@cache
def read_agent(agent: str | None) -> tuple[str | None, str | None, str | None]:
    """Operating system, browser and device of a user agent; None where it does not tell."""
    import ua_parser

    if not agent:
        return None, None, None
    read = ua_parser.parse(agent)
    return tuple(part.family if part else None for part in (read.os, read.user_agent, read.device))


def _repair(batches: Iterator[pd.DataFrame]) -> Iterator[pd.DataFrame]:
    for batch in batches:
        yield batch.assign(repaired=batch["text"].map(repair_text))


def repair_text(text: str) -> str:
    """Text whose UTF-8 was read as Latin-1, once or more often, as it was meant."""
    from ftfy import TextFixerConfig, fix_encoding

    return fix_encoding(text, TextFixerConfig(unescape_html=False))
