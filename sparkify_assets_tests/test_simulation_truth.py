"""The truth behind a log, and what an oracle makes of it."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from sparkify_assets.simulation import write_log
from sparkify_assets.simulation.blocks import Block, live
from sparkify_assets.simulation.machine import COHORTS, PAUSES
from sparkify_assets.simulation.truth import chances, oracle, session_outcomes, truth_of

# Cancels in a hundred sessions of users who are logged in: free, paid. From the description of the
# public generator.
CANCELS = {
    "Accordion": (0.5, 1.8),
    "Tuba": (9.2, 8.2),
    "Zither": (2.4, 4.1),
    "Xylophone": (0.5, 0.4),
}


@pytest.fixture(scope="module")
def truth() -> pl.DataFrame:
    """The truth of 1,500 users."""
    table = truth_of(live(Block(seed=1, days=40, number=0, users=1_500)))
    return table.insert_column(0, pl.Series("user_id", range(len(table))).cast(pl.String))


@pytest.mark.parametrize("cohort", COHORTS)
def test_sessions_end_in_cancelling_as_often_as_described(cohort: str) -> None:
    outcomes = session_outcomes(cohort)
    assert outcomes.sum(axis=1) == pytest.approx(1)
    cancels = [100 * outcomes[PAUSES.index(("Logged In", level)), -1] for level in ("free", "paid")]
    assert cancels == pytest.approx(CANCELS[cohort], abs=0.06)


def test_the_truth_belongs_to_the_log(tmp_path: Path) -> None:
    out, path = tmp_path / "log.json", tmp_path / "truth.parquet"
    write_log(out, users=60, days=20, seed=5, truth=path, progress=False)
    assert sorted(file.name for file in tmp_path.iterdir()) == ["log.json", "truth.parquet"]
    truth = {row["user_id"]: row for row in pl.read_parquet(path).to_dicts()}
    rows = [json.loads(line) for line in out.read_text("utf-8").splitlines()]
    shown = {row["userId"] for row in rows} - {""}
    assert shown <= truth.keys()
    cancelled = {row["userId"]: row["ts"] for row in rows if row["auth"] == "Cancelled"}
    for user, row in truth.items():
        at = row["cancelled_at"]
        assert (at and at.timestamp() * 1_000) == cancelled.get(user)
    for user in shown:
        own = [row for row in rows if row["userId"] == user]
        assert own[-1]["level"] in truth[user]["levels"]
        assert len({row["sessionId"] for row in own}) <= len(truth[user]["session_starts"])
        assert truth[user]["levels_since"][0].timestamp() * 1_000 <= own[0]["ts"]


def test_the_oracle_expects_as_many_to_cancel_as_do(truth: pl.DataFrame) -> None:
    seen = oracle(truth, as_of_day=10, horizon_days=20, paths=20)
    expected, cancels = seen["probability"].sum(), seen["cancels"].sum()
    assert seen["user_id"].n_unique() == len(seen)
    assert abs(expected - cancels) < 4 * np.sqrt(expected)
    order = seen.sort("probability")
    half = len(order) // 2
    assert order["cancels"][half:].sum() > 2 * order["cancels"][:half].sum()


def test_the_oracle_looks_only_at_those_who_are_there(truth: pl.DataFrame) -> None:
    day = pl.lit("2018-10-11").str.to_datetime(time_unit="us", time_zone="UTC")
    there = truth.filter(
        (pl.col("levels_since").list.first() < day)
        & (pl.col("cancelled_at").is_null() | (pl.col("cancelled_at") >= day))
    )
    seen = oracle(truth, as_of_day=10, horizon_days=10, paths=5)
    assert set(seen["user_id"]) == set(there["user_id"])
    assert 0 < seen["open"].mean() < 0.2  # type: ignore[operator]


def test_rarer_sessions_and_shorter_horizons_mean_fewer_cancels() -> None:
    ten = chances("Zither", "paid", False, 14, 10, paths=60)
    assert ten["probability"][0] > ten["probability"][10] > ten["probability"][-1] > 0
    assert (ten["error"] > 0).all()
    thirty = chances("Zither", "paid", False, 14, 30, paths=60)
    assert (thirty["probability"][5:15] > ten["probability"][5:15]).all()


def test_an_open_session_is_a_chance_more() -> None:
    rare = [chances("Tuba", "free", is_open, 14, 3, paths=60) for is_open in (False, True)]
    assert rare[1]["probability"][-1] > 3 * rare[0]["probability"][-1]
