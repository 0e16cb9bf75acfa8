"""Where columns come from: what changes with a column must be said to come from it."""

from __future__ import annotations

from collections.abc import Callable

import polars as pl
import pytest

from sparkify_assets.churn import cutoffs, days, features, kinds, labels
from sparkify_assets.churn.pages import OUTCOME_PAGES
from sparkify_assets.events import clean
from sparkify_assets.lineage import lineage, made_of
from sparkify_assets.tables import (
    CLEANED_EVENTS,
    FEATURE_TABLE,
    LABEL_DAYS,
    RAW_EVENTS,
    TABLES,
    USER_DAYS,
    USER_LABELS,
    Table,
)
from sparkify_assets_tests.running import Run

USERS = 12
# They say which rows go together and in which order, so everything changes with them.
PLACES = {"user_id", "event_time", "item_in_session", "day"}
NO_ORIGIN = {
    "raw_events": set(RAW_EVENTS.names),
    "rejected_lines": set(TABLES["rejected_lines"].names),
    # Said by the run, not by a row.
    "user_kinds": {"as_of", "kind"},
    "feature_table": {"protocol"},
    "trained_model": {"libraries", "horizon_days", "feature_table_version", "log_end"},
    "evaluation_predictions": {"repeat"},
    "evaluation_metrics": {"metric"},
    "churn_scores": {"scored_at", "backfilled"},
    "live_metrics": {"metric"},
}


def test_every_column_comes_from_columns_that_are_there() -> None:
    for name, table in TABLES.items():
        found = lineage(name)
        assert set(table.names) - set(found) == NO_ORIGIN.get(name, set()), name
        assert set(found) <= set(table.names), name
        for origins in found.values():
            assert origins
            assert all(column in TABLES[of].names for of, column in origins)


def test_features_go_back_to_raw_fields() -> None:
    def raw(table: str, column: str) -> set[str]:
        if table == "raw_events":
            return {column}
        return set().union(*(raw(*origin) for origin in lineage(table)[column]))

    assert raw("feature_table", "in_west") == {"location"}
    assert raw("feature_table", "is_paid") == {"level"}
    assert raw("churn_scores", "level") == {"level"}
    assert raw("feature_table", "distinct_artists") == {"artist"}
    assert raw("feature_table", "label") == {"page", "ts"}
    assert {"page", "ts", "session_id", "user_id"} <= raw("churn_scores", "probability")
    assert "last_name" not in raw("churn_scores", "probability")


def test_tables_are_made_of_tables() -> None:
    assert made_of("raw_events") == []
    assert made_of("cleaned_events") == ["raw_events"]
    assert made_of("user_labels") == ["label_days"]
    assert set(made_of("churn_scores")) == {"feature_table", "model_registry", "user_days"}
    assert set(made_of("score_outcomes")) == {"churn_scores", "user_labels", "user_days"}


@pytest.fixture(scope="module")
def some(finished: Run) -> dict[str, pl.DataFrame]:
    """Some users' rows of the first tables."""
    users = finished.lake.read_polars("mini", USER_LABELS, ["user_id"])["user_id"][:USERS]
    kept = pl.col("user_id").is_in(users.to_list())
    return {
        table.name: finished.lake.read_polars("mini", table).filter(kept)
        for table in (RAW_EVENTS, CLEANED_EVENTS, LABEL_DAYS, USER_DAYS, USER_LABELS)
    }


def other(rows: pl.DataFrame, column: str) -> pl.DataFrame:
    """The rows with other values in a column: shuffled, and numbers and times moved."""
    values = rows[column].shuffle(seed=1)
    if values.dtype.is_integer() and column not in ("session_id", "item_in_session"):
        values = values + 1
    if values.dtype.is_temporal():
        values = values.dt.offset_by("-1d")
    return rows.with_columns(values.alias(column))


def changed(before: pl.DataFrame, after: pl.DataFrame) -> set[str]:
    """The columns whose values are others."""
    same = [name for name in before.columns if before[name].equals(after[name], null_equal=True)]
    return set(before.columns) - set(same)


def check(
    made: Table, of: Table, rows: pl.DataFrame, compute: Callable[[pl.DataFrame], pl.DataFrame]
) -> int:
    """Count what changes with a column, all of which must be said to come from it."""
    before, changes = compute(rows), 0
    for column in set(rows.columns) - PLACES:
        for name in changed(before, compute(other(rows, column))):
            assert (of.name, column) in lineage(made.name)[name], f"{name} changes with {column}"
            changes += 1
    return changes


def in_lines_order(raw: pl.DataFrame) -> pl.DataFrame:
    """Clean events in the order of the log's lines, which is told by the status here."""
    numbered = raw.with_columns(pl.int_range(pl.len()).alias("status"))
    return clean.clean(numbered).sort("status").select(CLEANED_EVENTS.names)


def test_clean_events(some: dict[str, pl.DataFrame]) -> None:
    rows = some["raw_events"].filter(clean.is_known()).head(3_000).select(clean.RAW_COLUMNS)
    rows = rows.drop("status").with_columns(pl.lit(0, pl.Int64).alias("status"))
    assert check(CLEANED_EVENTS, RAW_EVENTS, rows, in_lines_order) > 15


def test_days(some: dict[str, pl.DataFrame]) -> None:
    # The outcome is left out of days: with it, rows would come and go.
    kept = ~pl.col("page").is_in(OUTCOME_PAGES)
    rows = some["cleaned_events"].filter(kept).select(days.EVENT_COLUMNS)
    found = check(USER_DAYS, CLEANED_EVENTS, rows, lambda e: days.user_days(days.in_order(e)))
    assert found > 30


def test_days_of_labels(some: dict[str, pl.DataFrame]) -> None:
    rows = some["cleaned_events"].select(days.EVENT_COLUMNS).sort("user_id", maintain_order=True)
    assert check(LABEL_DAYS, CLEANED_EVENTS, rows, labels.label_days) > 8


def test_labels(some: dict[str, pl.DataFrame]) -> None:
    assert check(USER_LABELS, LABEL_DAYS, some["label_days"], labels.user_labels) > 8


def test_features(some: dict[str, pl.DataFrame]) -> None:
    of_users = some["user_labels"]
    log = cutoffs.span(of_users["first_event_at"].min(), of_users["last_event_at"].max())
    rows = cutoffs.forecast_rows(of_users, cutoffs.forecast_cutoffs(log), log, horizon_days=10)
    lessons = kinds.lessons(of_users["first_event_at"], log.start, log.end)
    known = kinds.learn(kinds.steps(some["user_days"], lessons), lessons)

    def compute(of_days: pl.DataFrame) -> pl.DataFrame:
        totals = [features.population_totals(of_days)]
        usual = features.population_rates(totals, rows["as_of"].unique().to_list(), log.start)
        return features.features(of_days, rows, usual, known, log.start).sort("user_id", "as_of")

    assert check(FEATURE_TABLE, USER_DAYS, some["user_days"], compute) > 150
