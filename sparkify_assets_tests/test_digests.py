"""By what it is seen that a slice is made of other things than before."""

from __future__ import annotations

from dataclasses import replace

import polars as pl
import pyarrow as pa
import pytest

from sparkify_assets import digests
from sparkify_assets.digests import digest, of_frame, slice_key
from sparkify_assets.tables import USER_LABELS, Column, Table

TABLE = Table("made_up", "", (Column("a", pa.int64(), "A number"), Column("b", pa.string(), "")))


def test_a_key_is_another_one_with_all_that_a_slice_is_made_of() -> None:
    keys = [slice_key(TABLE, *of) for of in ((), (1,), (2,), ("1",), (1, 2), (2, 1), ([1, 2],))]
    assert len(set(keys)) == len(keys)
    assert slice_key(TABLE, 1, "x") == slice_key(TABLE, 1, "x")


@pytest.mark.parametrize(
    "columns",
    [
        TABLE.columns[:1],
        TABLE.columns[::-1],
        (replace(TABLE.columns[0], name="c"), TABLE.columns[1]),
        (replace(TABLE.columns[0], type=pa.int32()), TABLE.columns[1]),
        (replace(TABLE.columns[0], nullable=False), TABLE.columns[1]),
        (replace(TABLE.columns[0], meaning="Another number"), TABLE.columns[1]),
        (replace(TABLE.columns[0], unit="count"), TABLE.columns[1]),
    ],
    ids=["fewer", "order", "name", "type", "nulls", "meaning", "unit"],
)
def test_a_key_is_another_one_with_another_contract(columns: tuple[Column, ...]) -> None:
    assert slice_key(replace(TABLE, columns=columns), 1) != slice_key(TABLE, 1)


def test_a_key_is_another_one_with_another_version(monkeypatch: pytest.MonkeyPatch) -> None:
    before = slice_key(USER_LABELS, 1)
    monkeypatch.setattr(digests, "__version__", "another")
    assert slice_key(USER_LABELS, 1) != before


def test_a_digest_is_for_good() -> None:
    """It names folders of part files, in which later runs look for them."""
    assert digest("good.json") == "c73337421afe3072"


NAMES = ["somebody with a long name", "somebody else with one", None]
ROWS = pl.DataFrame({"user_id": NAMES, "n": [1, 2, None], "on": [True, None, False]})


def test_a_frames_digest_is_of_its_rows_and_their_order() -> None:
    others = [
        ROWS.reverse(),
        ROWS.head(2),
        ROWS.clear(),
        ROWS.rename({"n": "m"}),
        ROWS.cast({"n": pl.Int32}),
        ROWS.with_columns(pl.col("n").fill_null(0)),
        ROWS.with_columns(pl.col("user_id").fill_null("")),
    ]
    found = [of_frame(rows) for rows in (ROWS, *others)]
    assert len(set(found)) == len(found)


def test_a_frames_digest_does_not_depend_on_how_it_lies_in_memory() -> None:
    more = pl.concat([ROWS.reverse(), ROWS])
    hidden = pl.DataFrame({"user_id": NAMES, "n": [1, 2, 99], "on": [True, True, False]})
    same = [
        ROWS.clone(),
        pl.DataFrame(ROWS.rows(), schema=ROWS.schema, orient="row"),
        more.slice(3),
        pl.concat([ROWS.head(1), ROWS.slice(1)], rechunk=False),
        ROWS.reverse().sort("n", nulls_last=True),
        # There is a value where none is given.
        hidden.with_columns(
            n=pl.when(pl.col("n") < 99).then("n"), on=pl.when(pl.col("n") != 2).then("on")
        ),
    ]
    for rows in same:
        assert rows.equals(ROWS)
        assert of_frame(rows) == of_frame(ROWS)
