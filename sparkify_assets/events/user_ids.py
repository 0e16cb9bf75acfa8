"""Keyed hashes that stand for user ids after cleaning, where that is asked for.

Belongs here: the key, the hash, and seeing that a lake's tables hold one kind of ids alone. Does
not belong here: when ids are hashed (`clean.py`), and who is erased (`resources/erasure.py`).

HMAC-SHA256 (RFC 2104, FIPS 180-4): a plain hash of a short id is found by trying all ids, one with
a secret key is not.
"""

from __future__ import annotations

import hashlib
import hmac
import os
from collections.abc import Mapping
from typing import Any

import polars as pl

from sparkify_assets.errors import SettingError

VARIABLE = "SPARKIFY_USER_ID_KEY"
SAID = "user_id_key"
"""Under that name a version of `cleaned_events` says which key its ids are hashed with."""
_SHORTEST = 32  # characters
_LENGTH = 32  # hexadecimal digits of a hash: two users have the same once in 10^26 pairs of users
_OF_THE_KEY = "which key it is"


def key() -> bytes | None:
    """The secret key; None where ids stay as they are in the log.

    Raises SettingError where there is one that could be guessed.
    """
    given = os.environ.get(VARIABLE)
    if given is None:
        return None
    if len(given.strip()) < _SHORTEST:
        raise SettingError(
            f"{VARIABLE} is {'empty' if not given.strip() else 'too short'}: a key has "
            f"{_SHORTEST} characters or more, such as those of `openssl rand -hex 32`. "
            "For user ids as they are in the log, do not set it."
        )
    return given.strip().encode()


def hashed(users: pl.Series, key: bytes) -> pl.Series:
    """A hash for each user id, in their order; none may be null."""
    each = users.unique()
    hashes = [hashed_id(user, key) for user in each]
    return users.replace_strict(each, hashes, return_dtype=pl.String)


def hashed_id(user: str, key: bytes) -> str:
    """The first hexadecimal digits of HMAC-SHA256, in lower case."""
    return hmac.new(key, user.encode(), hashlib.sha256).hexdigest()[:_LENGTH]


def name_of(key: bytes | None) -> str | None:
    """By what keys are told apart; it tells nothing of a key."""
    if key is None:
        return None
    return hashed_id(_OF_THE_KEY, key)


def check_same(dataset: str, said: Mapping[str, Any]) -> None:
    """Raise SettingError where a dataset's tables hold ids of another kind than will be made.

    said: of its newest `cleaned_events`. Made by two keys, one user would be two, and forecasts
    could not be compared with what came; without a key, ids would stand there for all to see.
    """
    before, now = said.get(SAID), name_of(key())
    if before == now:
        return
    are = "hashed with a key" if before else "as they are in the log"
    given = f"no {VARIABLE} is set" if now is None else f"{VARIABLE} asks for hashes of "
    if now is not None:
        given += "another key" if before else "them"
    raise SettingError(
        f"The user ids in the tables of {dataset} are {are}, and {given}. Nothing was run. Set "
        f"{VARIABLE} as it was; or let SPARKIFY_LAKE name another lake, and remove this one."
    )
