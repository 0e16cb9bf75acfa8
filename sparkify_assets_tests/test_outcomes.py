"""What became of earlier forecasts: outcomes and weeks worked out by hand."""

from __future__ import annotations

from datetime import date, datetime, timedelta, timezone
from typing import Any

import polars as pl
import pytest
from polars.testing import assert_frame_equal
from sklearn import metrics as sklearn_metrics

from sparkify_assets.churn import outcomes
from sparkify_assets.tables import CHURN_SCORES, LIVE_METRICS, SCORE_OUTCOMES

MONDAY = date(2018, 10, 15)
HORIZON = 10


def at(day: date, hour: float = 0) -> datetime:
    return datetime(day.year, day.month, day.day, tzinfo=timezone.utc) + timedelta(hours=hour)


def score(user: str, as_of: date = MONDAY, probability: float = 0.2, **changed: Any) -> dict:
    usual = {
        "risk_decile": 1,
        "level": "free",
        "model_version": "aaaa",
        "flagged": probability >= 0.3,
        "events_known": 5,
        "scored_at": at(as_of, 5),
        "backfilled": False,
    }
    return {"user_id": user, "as_of": as_of, "probability": probability, **usual, **changed}


def scores(*rows: dict) -> pl.DataFrame:
    return pl.DataFrame(list(rows), schema=CHURN_SCORES.polars_schema)


def labels(**churned_at: datetime | None) -> pl.DataFrame:
    return pl.DataFrame(
        {"user_id": list(churned_at), "churned_at": list(churned_at.values())},
        schema={"user_id": pl.String, "churned_at": pl.Datetime("us", "UTC")},
    )


def days(*rows: tuple[str, date, int]) -> pl.DataFrame:
    schema = {"user_id": pl.String, "day": pl.Date, "events": pl.Int64}
    return pl.DataFrame(list(rows), schema=schema, orient="row")


def found(
    scored: pl.DataFrame, left: pl.DataFrame, known: pl.DataFrame | None = None
) -> pl.DataFrame:
    return outcomes.score_outcomes(scored, left, days() if known is None else known, HORIZON)


# Events


def test_events_before_a_cutoff_are_those_of_earlier_days() -> None:
    known = days(
        ("a", MONDAY - timedelta(days=9), 3),
        ("a", MONDAY - timedelta(days=1), 4),
        ("a", MONDAY, 100),
        ("b", MONDAY, 100),
    )
    rows = scores(score("a"), score("a", MONDAY + timedelta(days=1)), score("b"), score("c"))
    counted = outcomes.events_before(rows.select("user_id", "as_of"), known)
    assert sorted(counted.rows()) == [
        ("a", MONDAY, 7),
        ("a", MONDAY + timedelta(days=1), 107),
        ("b", MONDAY, 0),
        ("c", MONDAY, 0),
    ]


# Outcomes


def test_who_leaves_within_the_horizon_churned() -> None:
    last = at(MONDAY + timedelta(days=HORIZON))
    left = labels(
        first=at(MONDAY),
        last=last - timedelta(microseconds=1),
        after=last,
        before=at(MONDAY) - timedelta(microseconds=1),
        never=None,
    )
    table = found(scores(*(score(user) for user in left["user_id"])), left)
    assert dict(table.select("user_id", "churned").rows()) == {
        "first": True,
        "last": True,
        "after": False,
        "before": False,
        "never": False,
    }
    # What comes after the horizon is no part of it.
    known = dict(table.select("user_id", "churned_at").rows())
    assert known == dict(left.rows()) | {"after": None}
    assert table.select(SCORE_OUTCOMES.names).schema == SCORE_OUTCOMES.polars_schema


def test_a_horizon_has_passed_when_the_log_holds_all_of_it() -> None:
    assert outcomes.has_passed(MONDAY, MONDAY + timedelta(days=HORIZON), HORIZON)
    assert not outcomes.has_passed(MONDAY, MONDAY + timedelta(days=HORIZON - 1), HORIZON)


def test_users_of_another_log_have_no_outcome() -> None:
    scored = scores(score("a"), score("of another log"))
    assert found(scored, labels(a=None))["user_id"].to_list() == ["a"]


def test_events_are_late_if_they_came_after_the_score() -> None:
    known = days(
        ("more", MONDAY - timedelta(days=1), 8),
        ("fewer", MONDAY - timedelta(days=1), 2),
        ("later", MONDAY, 50),
    )
    scored = scores(score("more"), score("fewer"), score("later", events_known=0))
    table = found(scored, labels(more=None, fewer=None, later=None), known)
    assert dict(table.select("user_id", "late_events").rows()) == {
        "more": 3,
        "fewer": 0,
        "later": 0,
    }


def test_before_anything_has_passed_there_is_nothing() -> None:
    table = found(scores(), labels(a=None)).select(SCORE_OUTCOMES.names)
    assert table.schema == SCORE_OUTCOMES.polars_schema
    assert table.is_empty()
    measured = outcomes.live_metrics(table).select(LIVE_METRICS.names)
    assert measured.schema == LIVE_METRICS.polars_schema
    assert measured.is_empty()


# Live metrics


def outcome(user: str, probability: float, churned: bool, **changed: Any) -> dict:
    row = score(user, changed.pop("as_of", MONDAY), probability)
    left = at(row["as_of"], 1) if churned else None
    return {**row, "churned": churned, "churned_at": left, "late_events": 0, **changed}


def measured(*rows: dict) -> dict[tuple[date, str], float | None]:
    table = outcomes.live_metrics(pl.DataFrame(list(rows), schema=SCORE_OUTCOMES.polars_schema), 50)
    assert table.select(LIVE_METRICS.names).schema == LIVE_METRICS.polars_schema
    return {(week, metric): v for week, metric, v in table.select("week", "metric", "value").rows()}


FOUR = (
    outcome("a", 0.9, True, late_events=2),
    outcome("b", 0.4, False, late_events=1),
    outcome("c", 0.2, True),
    outcome("d", 0.1, False),
)


def test_a_week_by_hand() -> None:
    of_week = {metric: value for (_, metric), value in measured(*FOUR).items()}
    assert set(of_week) == {*outcomes.MEASURED, outcomes.LATE_EVENTS}
    assert of_week == pytest.approx(
        {
            "precision": 0.5,  # a of a and b
            "recall": 0.5,  # a of a and c
            "prevalence": 0.5,
            "mean_probability": 0.4,
            "expected_calibration_error": (0.1 + 0.4 + 0.8 + 0.1) / 4,
            "brier_score": (0.1**2 + 0.4**2 + 0.8**2 + 0.1**2) / 4,
            "pr_auc": sklearn_metrics.average_precision_score([1, 0, 1, 0], [0.9, 0.4, 0.2, 0.1]),
            "roc_auc": 0.75,
            "late_events": 3.0,
        }
    )


def test_a_week_begins_on_monday_and_pools_its_cutoffs() -> None:
    sunday = MONDAY + timedelta(days=6)
    again = [outcome(r["user_id"], r["probability"], r["churned"], as_of=sunday) for r in FOUR]
    next_monday = MONDAY + timedelta(days=7)
    other = [outcome(r["user_id"], r["probability"], False, as_of=next_monday) for r in FOUR]
    rows = [*FOUR, *again, *other]
    table = outcomes.live_metrics(pl.DataFrame(rows, schema=SCORE_OUTCOMES.polars_schema), 50)
    counts = table.select("week", "rows", "users", "positives").unique().sort("week")
    assert counts.rows() == [(MONDAY, 8, 4, 4), (next_monday, 4, 4, 0)]


def test_where_one_outcome_is_missing_metrics_have_no_value() -> None:
    for churned, missing in ((False, {"recall", "pr_auc", "roc_auc"}), (True, {"roc_auc"})):
        rows = [row | {"churned": churned} for row in FOUR]
        found = measured(*rows)
        assert {metric for (_, metric), value in found.items() if value is None} == missing
        assert found[MONDAY, "precision"] == float(churned)


def test_intervals_hold_the_values_and_counts_have_none() -> None:
    rows = [outcome(str(i), 0.01 + i / 50, i % 3 == 0) for i in range(40)]
    table = outcomes.live_metrics(pl.DataFrame(rows, schema=SCORE_OUTCOMES.polars_schema), 100)
    late = pl.col("metric") == outcomes.LATE_EVENTS
    assert table.filter(~late).filter(~pl.col("value").is_between("ci_low", "ci_high")).is_empty()
    assert table.filter(late).select("ci_low", "ci_high").rows() == [(None, None)]
    assert_frame_equal(
        outcomes.live_metrics(
            pl.DataFrame(rows, schema=SCORE_OUTCOMES.polars_schema).sample(
                fraction=1, shuffle=True
            ),
            100,
        ),
        table,
    )


def test_backfilled_rows_and_users_who_had_left_before_do_not_count() -> None:
    gone = outcome("gone", 0.8, False) | {"churned_at": at(MONDAY) - timedelta(hours=1)}
    later = outcome("later", 0.8, True, backfilled=True)
    assert measured(*FOUR, gone, later) == measured(*FOUR)
    assert measured(later) == {}


def test_the_newest_complete_week_is_one_whose_sundays_horizon_has_passed() -> None:
    weeks = [MONDAY - timedelta(days=7), MONDAY, MONDAY + timedelta(days=7)]
    table = pl.DataFrame({"week": weeks})
    end = MONDAY + timedelta(days=6 + HORIZON)
    for log_end, week in ((end, weeks[1]), (end - timedelta(days=1), weeks[0])):
        found = outcomes.newest_complete(table, log_end, HORIZON)
        assert found["week"].to_list() == [week]
    assert outcomes.newest_complete(table, MONDAY, HORIZON).is_empty()
