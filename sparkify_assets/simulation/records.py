"""The log's lines: JSON with the real files' fields, order and quirks.

Belongs here: how an event looks in the log. Does not belong here: which events there are
(`sessions.py`), files and folders (`log.py`).

A line is put together from ready pieces: one for each user, state and song.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Literal

import numpy as np
import polars as pl
import pyarrow as pa
from numpy.typing import NDArray

from sparkify_assets.simulation.catalogue import SONGS, titles
from sparkify_assets.simulation.machine import COHORTS, IS_KNOWN, STATES
from sparkify_assets.simulation.rhythm import START_SECOND

# How users are numbered, and whose the rows of nobody are.
Style = Literal["mini", "full"]
NOBODY: dict[str, str] = {"mini": "", "full": "1261737"}


def user_ids(cohort: NDArray[np.int64], style: Style) -> pl.Series:
    """Ids of all users, given their cohorts.

    mini: numbered from 1 within each cohort, a cohort's numbers starting at a multiple of 100,000,
    so that there, as in the real file, the id gives churn away. full: scattered seven-digit
    numbers, none of them nobody's.
    """
    users = len(cohort)
    if style == "mini":
        ids = np.empty(users, dtype=np.int64)
        base = 10 ** max(5, len(str(users)))
        for number in range(len(COHORTS)):
            members = np.flatnonzero(cohort == number)
            ids[members] = number * base + 1 + np.arange(len(members))
    else:
        span = 10 ** max(6, len(str(users)))
        # The step is prime to the span, and a whole round ends at nobody's id.
        ids = span + (int(NOBODY["full"]) + 617_363 * np.arange(1, users + 1)) % span
    return pl.Series(ids).cast(pl.String)


class Pieces:
    """The pieces of the lines of a log: those of its users, of the states and of the songs."""

    def __init__(
        self,
        people: pl.DataFrame,
        registration: NDArray[np.int64],
        ids: pl.Series,
        style: Style,
    ):
        """Of people (see `people.draw_people`), their registration in seconds and their ids."""
        registered = pl.Series((START_SECOND + registration) * 1_000)
        self.ids = _with(ids, NOBODY[style])
        self.people = _with(
            people.select(
                pl.concat_str(
                    *(_field(name, pl.col(name)) for name in ("location", "userAgent")),
                    *(_field(name, pl.col(name)) for name in ("lastName", "firstName")),
                    pl.lit(',"registration":'),
                    registered.cast(pl.String),
                    _field("gender", pl.col("gender")),
                )
            ).to_series(),
            "",
        )

    def lines(self, events: NDArray[np.void]) -> memoryview:
        """The events (EVENT, `user` a place in `ids`) as lines of JSON, each with its end."""
        nobody = len(self.ids) - 1
        user = np.where(IS_KNOWN[events["state"]], events["user"], nobody)
        song = np.where(events["song"] < 0, SONGS, events["song"])
        frame = pl.DataFrame(
            {
                "second": events["time"].astype(np.int64) + START_SECOND,
                "id": self.ids.gather(user),
                "session": events["session"],
                "state": _state_pieces().gather(events["state"]),
                "item": events["item"],
                "person": self.people.gather(user),
                "song": _song_pieces().gather(song),
            }
        )
        lines = frame.select(
            pl.concat_str(
                pl.lit('{"ts":'),
                pl.col("second").cast(pl.String),
                pl.lit('000,"userId":"'),
                "id",
                pl.lit('","sessionId":'),
                pl.col("session").cast(pl.String),
                "state",
                pl.col("item").cast(pl.String),
                "person",
                "song",
                pl.lit("}\n"),
            )
        ).to_series()
        array: pa.LargeStringArray = lines.to_arrow(compat_level=pl.CompatLevel.oldest())
        return memoryview(array.buffers()[2])


@lru_cache(maxsize=1)
def _state_pieces() -> pl.Series:
    return pl.Series(
        f',"page":"{state.page}","auth":"{state.auth}","method":"{state.method}"'
        f',"status":{state.status},"level":"{state.level}","itemInSession":'
        for state in STATES
    )


@lru_cache(maxsize=1)
def _song_pieces() -> pl.Series:
    pieces = titles(np.arange(SONGS, dtype=np.int32)).select(
        pl.concat_str(
            _field("artist", pl.col("artist")),
            _field("song", pl.col("song")),
            pl.lit(',"length":'),
            pl.col("length").cast(pl.String),
        )
    )
    return _with(pieces.to_series(), "")


def _field(name: str, text: pl.Expr) -> pl.Expr:
    escaped = text.str.replace_all("\\", "\\\\", literal=True).str.replace_all(
        '"', '\\"', literal=True
    )
    return pl.concat_str(pl.lit(f',"{name}":"'), escaped, pl.lit('"'))


def _with(pieces: pl.Series, last: str) -> pl.Series:
    return pl.concat([pieces, pl.Series(pieces.name, [last])]).rechunk()
