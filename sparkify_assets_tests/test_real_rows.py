"""Rows of the real logs through the pipeline, against what is known of their users.

The figures are facts of the real files; the rows themselves are not part of the project.
"""

from __future__ import annotations

from pathlib import Path

import polars as pl
import pytest
from polars.testing import assert_frame_equal
from pyspark.sql import SparkSession

from sparkify_assets.resources.lake import Lake
from sparkify_assets_tests.running import EVENTS_TO_FEATURES, Run, run, tables

# The users of the mini file all of whose events are among the rows.
COMPLETE = ("95", "113", "30", "87", "23", "18", "100010", "100021", "100005", "133")
CHURNED = ("100005", "100021", "18", "87")
PSEUDO_USER = "1261737"

# Column of user_days -> column of mini_users.parquet.
COUNTS = {
    "songs": "next_song_count",
    "sessions": "session_count",
    "home": "home_count",
    "thumbs_up": "thumbs_up_count",
    "thumbs_down": "thumbs_down_count",
    "add_to_playlist": "add_playlist_count",
    "add_friend": "add_friend_count",
    "roll_advert": "advert_count",
    "help": "help_count",
    "about": "about_count",
    "settings": "settings_count",
    "save_settings": "save_settings_count",
    "error": "error_count",
    "upgrade": "upgrade_count",
    "submit_upgrade": "submit_upgrade",
    "downgrade": "downgrade_count",
    "submit_downgrade": "submit_downgrade_count",
}


def materialized(
    spark: SparkSession, log: Path, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Run, dict[str, pl.DataFrame]]:
    found = run(Lake(str(tmp_path_factory.mktemp("lake"))), log)
    return found, tables(found.lake, *EVENTS_TO_FEATURES)


@pytest.fixture(scope="module")
def mini(
    spark: SparkSession, real_rows: Path, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Run, dict[str, pl.DataFrame]]:
    return materialized(spark, real_rows / "mini_events_partial.jsonl.gz", tmp_path_factory)


@pytest.fixture(scope="module")
def full(
    spark: SparkSession, real_rows: Path, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Run, dict[str, pl.DataFrame]]:
    return materialized(spark, real_rows / "full_events_first_1000.jsonl.gz", tmp_path_factory)


@pytest.fixture(scope="module")
def known(real_rows: Path) -> pl.DataFrame:
    """What is known of the complete users, a row each, by `user_id`."""
    users = pl.read_parquet(real_rows / "mini_users.parquet").rename({"userId": "user_id"})
    return users.filter(pl.col("user_id").is_in(COMPLETE)).sort("user_id")


def of_complete(table: pl.DataFrame) -> pl.DataFrame:
    return table.filter(pl.col("user_id").is_in(COMPLETE)).sort("user_id")


@pytest.mark.parametrize(
    ("name", "churned", "users", "why"),
    [
        (
            "mini",
            4,
            41,
            "4 users churned; at least 10 are needed to train and test a model (of 41 users whose "
            "outcome is known).",
        ),
        (
            "full",
            0,
            386,
            "The log covers 1 days (2018-10-01 to 2018-10-02); no cutoff leaves room for history "
            "before it and a horizon of 10 days after it. A model can be trained from day 24 on; "
            "sooner, with a shorter horizon.",
        ),
    ],
    ids=["mini", "full"],
)
def test_a_few_rows_go_as_far_as_the_features(
    name: str, churned: int, users: int, why: str, request: pytest.FixtureRequest
) -> None:
    found, written = request.getfixturevalue(name)
    assert set(found.materialized) == set(EVENTS_TO_FEATURES)
    assert all(found.checks.values())
    labels = written["user_labels"]
    assert (labels["churned"].sum(), labels.height) == (churned, users)
    assert set(written["feature_table"]["user_id"]) == set(labels["user_id"])
    assert not found.success
    said = [line for line in found.said.splitlines() if "FAILED" in line]
    assert said == [f"  FAILED model trials: {why}"]
    assert "Traceback" not in found.said


def test_every_real_line_is_an_event_and_logged_out_ones_go(
    mini: tuple[Run, dict[str, pl.DataFrame]], full: tuple[Run, dict[str, pl.DataFrame]]
) -> None:
    for (_, written), lines, logged_out in ((mini, 10_921, 79), (full, 1_000, 19)):
        raw, events = written["raw_events"], written["cleaned_events"]
        assert (raw.height, written["rejected_lines"].height) == (lines, 0)
        assert events.height == lines - logged_out, "there are no exact repeats"
        assert set(events["auth"]) <= {"Logged In", "Cancelled"}


def test_who_is_logged_out_is_no_user(
    mini: tuple[Run, dict[str, pl.DataFrame]], full: tuple[Run, dict[str, pl.DataFrame]]
) -> None:
    for (_, written), nobody, rows in ((mini, "", 79), (full, PSEUDO_USER, 19)):
        assert written["raw_events"].filter(user_id=nobody).height == rows
        of_users = {name: written[name] for name in EVENTS_TO_FEATURES[2:] if name != "user_kinds"}
        for name, table in of_users.items():
            assert nobody not in set(table["user_id"]), name


def test_events_and_labels_of_complete_users(
    mini: tuple[Run, dict[str, pl.DataFrame]], known: pl.DataFrame
) -> None:
    labels = of_complete(mini[1]["user_labels"])
    expected = known.select(
        "user_id",
        events="count_items",
        songs="next_song_count",
        sessions="session_count",
        upgrades=pl.col("submit_upgrade").cast(pl.Int64),
        downgrades="submit_downgrade_count",
        churned=pl.col("churn") == 1,
    )
    assert_frame_equal(labels.select(expected.columns), expected)
    assert tuple(labels.filter("churned")["user_id"]) == CHURNED
    lived = labels.select("user_id", days=pl.col("last_event_at") - pl.col("first_event_at"))
    days = lived["days"].dt.total_seconds() / 86_400
    assert days.to_list() == pytest.approx(known["tenure_days"].to_list())


def test_days_of_complete_users_add_up(
    mini: tuple[Run, dict[str, pl.DataFrame]], known: pl.DataFrame
) -> None:
    days = of_complete(mini[1]["user_days"])
    sums = days.group_by("user_id", maintain_order=True).agg(pl.col(COUNTS).sum())
    expected = known.select(
        "user_id", *(pl.col(theirs).cast(pl.Int64).alias(ours) for ours, theirs in COUNTS.items())
    )
    assert_frame_equal(sums, expected)

    total = days.group_by("user_id", maintain_order=True).agg(
        pl.col("listening_seconds", "session_seconds", "paid_events", "other_pages").sum()
    )
    assert total["listening_seconds"].to_list() == pytest.approx(known["sum_length"].to_list())
    assert (total["paid_events"] > 0).to_list() == (known["paid"] == 1).to_list()
    assert total["other_pages"].sum() == 0
    # Without the time that cancelling took.
    stayed = (known["churn"] == 0).to_list()
    assert (total["session_seconds"] / 3_600).filter(stayed).to_list() == pytest.approx(
        known["sum_session_length_hours"].filter(stayed).to_list()
    )


def test_requests_and_gender_of_complete_users(
    mini: tuple[Run, dict[str, pl.DataFrame]], known: pl.DataFrame
) -> None:
    kind = pl.format("{}_{}_count", "method", "status")
    requests = ["PUT_200_count", "GET_200_count", "PUT_307_count"]
    by_user = of_complete(mini[1]["cleaned_events"]).group_by("user_id", maintain_order=True)
    found = by_user.agg(
        pl.col("gender").unique().str.join(), *((kind == k).sum().alias(k) for k in requests)
    )
    assert_frame_equal(found, known.select(found.columns), check_dtypes=False)
