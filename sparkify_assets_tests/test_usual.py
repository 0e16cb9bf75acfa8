"""Warnings against a dataset's own history, and how a check says what it found."""

from __future__ import annotations

import contextlib
import io
import re
from datetime import datetime, timezone
from pathlib import Path

import dagster as dg
import polars as pl
import pytest

from sparkify_assets.checks.contracts import report
from sparkify_assets.checks.results import result, rows_where, sql
from sparkify_assets.checks.usual import churn_share, unusual_nulls
from sparkify_assets.resources.lake import Lake, Version
from sparkify_assets.tables import CLEANED_EVENTS, TABLES, USER_DAYS, USER_LABELS
from sparkify_assets_tests.running import Run, copy, run_checks


def version(rows: int, **nulls: int) -> Version:
    now = datetime(2026, 1, 1, tzinfo=timezone.utc)
    return Version("lake", 1, rows, 1, 1, {}, now, nulls)


def shown(code: str) -> str:
    """What Python that is to be copied from a check prints."""
    with contextlib.redirect_stdout(io.StringIO()) as out:
        exec(code, {})
    return out.getvalue()


def test_nulls_are_compared_with_the_median() -> None:
    earlier = [version(10_000, artist=share) for share in (2_000, 2_100, 9_000)]
    assert unusual_nulls(version(10_000, artist=2_600), earlier) == {}  # .21 + .05 + chance
    assert unusual_nulls(version(10_000, artist=2_800), earlier) == {"artist": (0.21, 0.28)}
    assert unusual_nulls(version(10_000, artist=1_400), earlier) == {"artist": (0.21, 0.14)}
    assert unusual_nulls(version(50, artist=14), earlier) == {}  # of so few it may be chance
    assert unusual_nulls(version(10_000, song=1), earlier) == {}  # nothing is known of it
    assert unusual_nulls(version(0), earlier) == {}


def test_who_has_no_time_of_leaving_stayed() -> None:
    assert churn_share(version(200, churned_at=150)) == 0.25
    assert churn_share(version(0, churned_at=0)) is None
    assert churn_share(version(200)) is None  # not counted by an earlier version of the project


def test_a_result_says_what_to_expect_what_is_there_and_where_to_look(tmp_path: Path) -> None:
    rows = pl.DataFrame({"level": ["free", "gold", None], "n": [1, 2, -1]})
    rows.write_delta(str(tmp_path))
    look = rows_where(str(tmp_path), sql("\"level\" NOT IN ('free', 'paid')", '"n" < 0'))
    found = result(False, expected="this", found="that", look=look, warns=True)
    assert found.severity == dg.AssetCheckSeverity.WARN
    assert found.description == f"Expected: this. Found: that. To look: {look}"
    assert set(found.metadata) == {"expected", "found", "how to look"}
    assert "gold" in shown(look)
    assert "free" not in shown(look)
    assert shown(look).startswith("shape: (2, 2)")


def test_the_rows_that_break_a_contract_can_be_looked_at(finished: Run, tmp_path: Path) -> None:
    lake = copy(finished.lake, tmp_path)
    days = lake.read_polars("mini", USER_DAYS)
    broken = days.with_columns(
        songs=pl.when(pl.int_range(pl.len()) < 3).then(-1).otherwise("songs")
    )
    lake.write_polars("mini", USER_DAYS, broken)
    path = lake.version("mini", "user_days").path
    counts = USER_DAYS.count_broken(lake.read_polars("mini", USER_DAYS))
    found = report(USER_DAYS, "mini", path, counts)
    assert found.description
    assert "Expected: songs is at least 0. Found: rows that break this: 3." in found.description
    assert "shape: (3, " in shown(found.description.partition("To look: ")[2])
    twice = report(USER_DAYS, "mini", path, {"user_id, day is unique": 1})
    assert "shape: (0, " in shown((twice.description or "").partition("To look: ")[2])


@pytest.fixture
def lake(finished: Run, tmp_path: Path) -> Lake:
    return copy(finished.lake, tmp_path)


def written_again(lake: Lake, table: str, rows: pl.DataFrame, **more: int) -> None:
    said = lake.version("mini", table).metadata | more
    lake.write_polars("mini", TABLES[table], rows, said)


def test_an_unusual_table_is_warned_of_and_stops_nothing(lake: Lake) -> None:
    events = lake.read_polars("mini", CLEANED_EVENTS)
    labels = lake.read_polars("mini", USER_LABELS)
    scores = lake.read_polars("mini", TABLES["churn_scores"])
    written_again(lake, "cleaned_events", events.with_columns(gender=pl.lit(None, pl.String)))
    stayed = pl.when(pl.col("user_id") > "5").then("churned_at")
    fewer = labels.with_columns(churned_at=stayed)
    written_again(
        lake, "user_labels", fewer.with_columns(churned=pl.col("churned_at").is_not_null())
    )
    written_again(lake, "churn_scores", scores.head(5), users=5)
    checks = run_checks(lake)
    warned = {
        name
        for name, check in checks.items()
        if not check.passed and check.severity == dg.AssetCheckSeverity.WARN
    }
    expected = {
        "cleaned_events:as_many_nulls_as_usual",
        "user_labels:as_many_nulls_as_usual",
        "user_labels:as_many_users_churned_as_usual",
        "churn_scores:as_many_rows_as_usual",
    }
    assert expected <= warned
    assert warned - expected <= {"churn_scores:users_are_as_at_training"}
    said = checks["cleaned_events:as_many_nulls_as_usual"].description or ""
    assert "as many nulls as usual: 0.0% of gender" in said
    assert "Found: 100.0% of gender" in said
    volume = checks["churn_scores:as_many_rows_as_usual"].description or ""
    assert re.search(rf"Found: 5 rows, of .*; usual are {scores.height}\.", volume)
    assert f" {scores.height} " in shown(volume.partition("To look: ")[2])


def test_a_first_version_is_not_unusual(finished: Run) -> None:
    (check,) = (
        check
        for check in finished.result.get_asset_check_evaluations()
        if (check.asset_key.to_user_string(), check.check_name)
        == ("raw_events", "as_many_rows_as_usual")
    )
    assert check.passed
    assert "the first version" in (check.description or "")
