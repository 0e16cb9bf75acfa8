"""The check of a contract reads the part files that are new, and finds what is broken in them."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import polars as pl
import pytest

from sparkify_assets.checks import contracts, ingest
from sparkify_assets.checks.ingest import Rejected, worst_file
from sparkify_assets.resources.lake import Lake
from sparkify_assets.resources.spark import SparkResource
from sparkify_assets.storage import write_part
from sparkify_assets.tables import REJECTED_LINES, Slice

TABLE = REJECTED_LINES
AT_LEAST = "byte_offset is at least 0"


@pytest.fixture
def lake(tmp_path: Path) -> Lake:
    return Lake(str(tmp_path / "lake"))


def commit(lake: Lake, keys: dict[str, str], **made: int) -> None:
    """Commit slices by their keys; made: the byte offset of the row of those made anew."""
    folder = lake.folder("mini", TABLE.name)
    parts = [
        write_part(
            f"{folder}/{name}",
            pl.DataFrame(
                {
                    "source_file": [name],
                    "byte_offset": [offset],
                    "reason": ["not JSON"],
                    "text": ["x"],
                },
                schema=TABLE.polars_schema,
            ),
        )
        for name, offset in made.items()
    ]
    lake.commit("mini", TABLE, parts, slices={name: Slice(key) for name, key in keys.items()})


class Checking:
    """The check of the table's contract, and which part files it read."""

    def __init__(self, lake: Lake, monkeypatch: pytest.MonkeyPatch) -> None:
        self.lake, self.read = lake, list[str]()
        real = contracts.read_part

        def read_part(file: str, *more: object) -> pl.DataFrame:
            self.read.append(Path(file).parent.name)
            return real(file, *more)  # type: ignore[arg-type]

        monkeypatch.setattr(contracts, "read_part", read_part)

    def __call__(self) -> tuple[bool, list[str]]:
        """Whether it passes, and the slices of the files that were read for it."""
        self.read.clear()
        broken = contracts.broken_promises(self.lake, SparkResource(), "mini", TABLE)
        assert {words for words, rows in broken.items() if rows} <= {AT_LEAST}
        return not any(broken.values()), sorted(self.read)


@pytest.fixture
def check(lake: Lake, monkeypatch: pytest.MonkeyPatch) -> Checking:
    return Checking(lake, monkeypatch)


def test_only_what_is_new_is_read(lake: Lake, check: Checking) -> None:
    commit(lake, {"a": "1", "b": "1"}, a=1, b=2)
    assert check() == (True, ["a", "b"])
    assert check() == (True, [])
    commit(lake, {"a": "1", "b": "2", "c": "1"}, b=3, c=4)
    assert check() == (True, ["b", "c"])


def test_what_is_broken_is_found_until_it_is_gone(lake: Lake, check: Checking) -> None:
    commit(lake, {"a": "1"}, a=1)
    assert check() == (True, ["a"])
    commit(lake, {"a": "1", "b": "1"}, b=-1)
    assert check() == (False, ["b"])
    assert check() == (False, ["b"]), "what broke it once is not forgotten"
    commit(lake, {"a": "1", "b": "1", "c": "1"}, c=2)
    assert check() == (False, ["b", "c"])
    commit(lake, {"a": "1", "b": "2", "c": "1"}, b=3)
    assert check() == (True, ["b", "c"])


def test_parts_of_versions_that_nobody_checked_are_read(lake: Lake, check: Checking) -> None:
    commit(lake, {"a": "1"}, a=1)
    assert check()[0]
    commit(lake, {"a": "1", "b": "1"}, b=-1)
    commit(lake, {"a": "1", "b": "1", "c": "1"}, c=2)
    assert check() == (False, ["b", "c"])


@pytest.mark.parametrize("note", [None, "not JSON", "{}", '{"version": 99, "contract": "?"}'])
def test_without_a_note_that_tells_everything_is_read(
    note: str | None, lake: Lake, check: Checking
) -> None:
    commit(lake, {"a": "1", "b": "1"}, a=-1, b=2)
    contracts.note_kept(lake, "mini", TABLE, 0)
    assert check() == (True, []), "so the note says"
    path = Path(lake.folder("mini", TABLE.name), contracts._NOTE)
    path.write_text(note) if note is not None else path.unlink()
    assert check() == (False, ["a", "b"])


def test_another_contract_is_checked_of_all_rows(lake: Lake) -> None:
    contracts.note_kept(lake, "mini", TABLE, 3)
    assert contracts.kept_until(lake, "mini", TABLE) == 3
    of_offset = tuple(
        replace(column, maximum=5) if column.name == "byte_offset" else column
        for column in TABLE.columns
    )
    assert contracts.kept_until(lake, "mini", replace(TABLE, columns=of_offset)) == -1


def test_a_key_in_an_old_part_and_a_new_one_is_repeated(lake: Lake) -> None:
    commit(lake, {"a": "1"}, a=1)
    commit(lake, {"a": "1", "b": "1"}, b=1)
    assert contracts.repeated_keys(lake, "mini", TABLE) == 0, "two files may have it"
    folder = lake.folder("mini", TABLE.name)
    again = lake.read_polars("mini", TABLE).head(1)
    slices = {name: Slice("1") for name in ("a", "b", "c")}
    lake.commit("mini", TABLE, [write_part(f"{folder}/c", again)], slices=slices)
    assert contracts.repeated_keys(lake, "mini", TABLE) == 1


# How many lines are rejected


def said(name: str, rejected: int, lines: int) -> dict[str, object]:
    return {"name": name, "rejected": rejected, "lines": lines}


def test_the_worst_file_is_one_of_many_lines_or_all_together() -> None:
    many = ingest._ENOUGH_LINES
    assert worst_file([said("a", 3, 10)]) == Rejected("the log", 3, 10)
    assert worst_file([said("a", 30, many)]) == Rejected("the log", 30, many)
    good, few = said("good", 0, 9 * many), said("few", 9, 10)
    assert worst_file([good, few]) == Rejected("all files", 9, 9 * many + 10)
    bad = said("bad", many // 10, many)
    assert worst_file([good, few, bad]) == Rejected("bad", many // 10, many)
    assert worst_file([]).share == 0
    assert Rejected("a", 1, 4).share == 0.25
