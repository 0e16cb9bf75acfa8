"""Users who were erased: how they are known again without being named, and what goes of a log.

Belongs here: the list of erased users, and which events and rejected lines are theirs. Does not
belong here: where the list is kept, and taking users out of tables (`resources/erasure.py`).
"""

from __future__ import annotations

import json
import secrets
from collections.abc import Iterable
from dataclasses import dataclass, replace

import polars as pl

from sparkify_assets.events.parse import ParsedBlock
from sparkify_assets.events.user_ids import hashed_id

# In a line that is no event: what stands behind userId, in quotes or not, escaped or not.
_NAMED = r'userId\\*"\s*:\s*(?:\\*"[^"\\]*|[^",}\s]+)'
_NAME = r'^userId\\*"\s*:\s*\\*"?(.*)$'


@dataclass(frozen=True)
class Erased:
    """Salted digests of ids. They keep an id from being read, not from being guessed and tried."""

    salt: str
    digests: frozenset[str] = frozenset()

    @classmethod
    def nobody(cls) -> Erased:
        return cls(secrets.token_hex(16))

    @classmethod
    def from_json(cls, text: bytes) -> Erased:
        read = json.loads(text)
        return cls(read["salt"], frozenset(read["users"]))

    def to_json(self) -> bytes:
        return json.dumps({"salt": self.salt, "users": sorted(self.digests)}, indent=1).encode()

    def with_users(self, users: Iterable[str]) -> Erased:
        return replace(self, digests=self.digests | {self._digest(user) for user in users})

    def are(self, users: pl.Series) -> pl.Series:
        """True for the ids of erased users."""
        each = users.drop_nulls().unique()
        theirs = [user for user in each if self._digest(user) in self.digests]
        return users.is_in(theirs).fill_null(False)

    def are_named(self, texts: pl.Series) -> pl.Series:
        """True for lines in which an erased user's id stands behind `userId`."""
        named = pl.DataFrame({"line": texts.str.extract_all(_NAMED)}).with_row_index("row")
        users = named.explode("line").with_columns(pl.col("line").str.extract(_NAME, 1))
        rows = users.filter(self.are(users["line"]))["row"]
        return named["row"].is_in(rows.implode())

    def without(self, parsed: ParsedBlock) -> ParsedBlock:
        """What was parsed, less their events, and less the texts of rejected lines that name them.

        A rejected line stays counted, with the reason for which it is none.
        """
        named = self.are_named(parsed.rejected["text"])
        text = pl.when(named).then(None).otherwise(pl.col("text")).alias("text")
        return replace(
            parsed,
            events=parsed.events.filter(~self.are(parsed.events["user_id"])),
            rejected=parsed.rejected.with_columns(text),
        )

    def _digest(self, user: str) -> str:
        return hashed_id(user, self.salt.encode())
