"""Small hand-made frames for the tests."""

from __future__ import annotations

from datetime import datetime, timedelta, timezone
from typing import Any

import polars as pl

from sparkify_assets.tables import CLEANED_EVENTS, RAW_EVENTS

START = datetime(2018, 10, 1, tzinfo=timezone.utc)


def at(day: float, hour: float = 0, second: float = 0) -> datetime:
    return START + timedelta(days=day, hours=hour, seconds=second)


def event(user: str, when: datetime, page: str = "NextSong", **changed: Any) -> dict[str, Any]:
    """One cleaned event; what is not named is as usual."""
    song = page == "NextSong"
    usual = {
        "user_id": user,
        "event_time": when,
        "session_id": 1,
        "item_in_session": 0,
        "page": page,
        "auth": "Cancelled" if page == "Cancellation Confirmation" else "Logged In",
        "level": "free",
        "length": 200.0 if song else None,
        "artist": "A" if song else None,
        "song": "S" if song else None,
        "artist_key": 7 if song else None,
        "song_key": 8 if song else None,
        "registered_at": at(-10),
        "gender": "F",
        "state": "CA",
        "os": "Windows",
        "browser": "Firefox",
    }
    return usual | changed


def events(*rows: dict[str, Any]) -> pl.DataFrame:
    return pl.DataFrame(list(rows), schema=CLEANED_EVENTS.polars_schema)


def raw(user: str, when: datetime, page: str = "NextSong", **changed: Any) -> dict[str, Any]:
    """One raw event; what is not named is as usual."""
    song = page == "NextSong"
    usual = {
        "ts": round(when.timestamp() * 1000),
        "user_id": user,
        "session_id": 1,
        "page": page,
        "auth": "Logged In",
        "method": "PUT",
        "status": 200,
        "level": "free",
        "item_in_session": 0,
        "location": "Bakersfield, CA",
        "user_agent": '"Mozilla/5.0 (Windows NT 6.1; rv:31.0) Gecko/20100101 Firefox/31.0"',
        "last_name": "Lovelace",
        "first_name": "Ada",
        "registration": round(at(-10).timestamp() * 1000),
        "gender": "F",
        "artist": "A" if song else None,
        "song": "S" if song else None,
        "length": 200.0 if song else None,
        "source_file": "log.json",
    }
    return usual | changed


def raw_events(*rows: dict[str, Any]) -> pl.DataFrame:
    return pl.DataFrame(list(rows), schema=RAW_EVENTS.polars_schema)
