"""The audits find nothing where nothing leaks, and each planted leak by what gives it away."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import date, timedelta
from pathlib import Path
from typing import Any

import dagster as dg
import numpy as np
import pandas as pd
import polars as pl
import pytest

from sparkify_assets.checks import leaks as checking
from sparkify_assets.checks.leaks import of_another_making, said
from sparkify_assets.churn import (
    cutoffs,
    days,
    evaluation,
    features,
    kinds,
    labels,
    leaks,
    metrics,
    splits,
)
from sparkify_assets.churn.models import fit
from sparkify_assets.churn.pages import OUTCOME_PAGES
from sparkify_assets.tables import CLEANED_EVENTS, FEATURE_TABLE, TABLES
from sparkify_assets_tests.frames import START, at, event, events
from sparkify_assets_tests.running import Run, copy, run_checks
from sparkify_assets_tests.test_evaluation import FEATURES, HORIZON, rows

LOG_START = START.date()
LOG = cutoffs.Span(LOG_START, LOG_START + timedelta(days=40), LOG_START + timedelta(days=40))
PAGES = ["NextSong"] * 4 + ["Thumbs Up", "Roll Advert", "Home", "Downgrade", "Error"]
CUTOFF = LOG_START + timedelta(days=20)
CHECK = "feature_table:no_feature_knows_the_future"


def story(user: int, draw: np.random.Generator) -> list[dict[str, Any]]:
    """A user of some 60 events over the log; every third one cancels, one in the last fragment."""
    ends = {3: 40.2}.get(user, draw.uniform(20, 39)) if user % 3 == 0 else 40.4
    times = np.sort(draw.uniform(draw.uniform(0, 10), ends, 60))
    told = [
        event(
            str(user),
            at(float(time)),
            str(draw.choice(PAGES)),
            session_id=number // 5,
            item_in_session=number % 5,
            level="paid" if number > 30 and user % 2 else "free",
            song_key=int(draw.integers(20)),
        )
        for number, time in enumerate(times)
    ]
    end = [
        event(str(user), at(float(ends), 0, second), page, session_id=99, item_in_session=second)
        for second, page in enumerate(OUTCOME_PAGES)
    ]
    return told + (end if user % 3 == 0 else [])


@pytest.fixture(scope="module")
def log() -> pl.DataFrame:
    draw = np.random.default_rng(0)
    told = [line for user in range(1, 21) for line in story(user, draw)]
    return events(*told).select(days.EVENT_COLUMNS)


def audited(log: pl.DataFrame, among: int = 10) -> leaks.Audited:
    """The first users by what the code now makes of them; the others are the population."""
    ours = pl.col("user_id").cast(pl.Int64) <= among
    ordered = days.in_order(log)
    of_users = labels.user_labels(labels.label_days(ordered))
    wanted = pl.concat(
        [
            cutoffs.forecast_rows(of_users, cutoffs.forecast_cutoffs(LOG), LOG),
            cutoffs.whole_log_rows(of_users),
        ]
    )
    of_days = days.user_days(ordered)
    totals = [features.population_totals(of_days.filter(where)) for where in (ours, ~ours)]
    usual = features.population_rates(totals, wanted["as_of"].unique().to_list(), LOG_START)
    lessons = kinds.lessons(of_users["first_event_at"], LOG.start, LOG.end)
    known_kinds = kinds.learn(kinds.steps(of_days, lessons), lessons)
    stored = features.features(of_days, wanted, usual, known_kinds, LOG_START).filter(ours)
    return leaks.Audited(stored, log.filter(ours), totals[1], known_kinds, LOG)


# Features


def test_no_feature_leaks(log: pl.DataFrame) -> None:
    material = audited(log)
    assert set(material.stored["protocol"]) == {cutoffs.FORECAST, cutoffs.WHOLE_LOG}
    assert material.stored.filter("label").height > 5
    assert leaks.audit(material).is_empty()


def test_without_rows_nothing_changes(log: pl.DataFrame) -> None:
    material = audited(log)
    found = leaks.audit(replace(material, stored=material.stored.clear()))
    assert found.is_empty()
    assert found.schema == leaks.CHANGED


@pytest.mark.parametrize("how", leaks.FROM_THE_CUTOFF, ids=lambda how: how.words)
def test_tampering_begins_at_the_cutoff_and_is_seen_after_it(
    how: leaks.Tampering, log: pl.DataFrame
) -> None:
    changed = days.in_order(how.events(log, CUTOFF)).select(log.columns)
    before = pl.col("event_time") < at(20)
    whole = days.in_order(log).select(log.columns)
    assert changed.filter(before).equals(whole.filter(before))
    assert not changed.filter(~before).equals(whole.filter(~before))

    totals = features.population_totals(days.user_days(days.in_order(log)))
    one, other = (
        features.population_rates([of], [CUTOFF, LOG.end], LOG_START)
        for of in (totals, how.others(totals, CUTOFF))
    )
    assert one[0].equals(other[0])
    others_are_left_alone = how.words == "cancellations at the cutoff invented"
    assert one[1].equals(other[1]) == others_are_left_alone


def test_what_is_invented_stands_at_the_very_cutoff(log: pl.DataFrame) -> None:
    for how in leaks.FROM_THE_CUTOFF[2:]:
        assert at(20) in how.events(log, CUTOFF)["event_time"].to_list(), how.words


def test_cancellations_are_deleted_where_they_end_a_log() -> None:
    one = events(
        event("1", at(0)),
        event("1", at(1), "Cancel"),
        event("1", at(2)),
        event("1", at(3), "Cancel"),
    )
    (deleted, _) = (how.events(one, CUTOFF) for how in leaks.OF_THE_OUTCOME)
    assert deleted["event_time"].to_list() == [at(0), at(1), at(2)]


def test_users_are_audited_whole_and_up_to_a_number_of_events() -> None:
    half = leaks.EVENTS // 2
    of_users = pl.DataFrame({"user_id": ["3", "1", "2"], "events": [half, half, half]})
    assert leaks.audited_users(of_users) == ("1", "2")
    assert leaks.audited_users(of_users.with_columns(pl.col("events") * 10)) == ("1", "1")


def shown_too_early(patch: pytest.MonkeyPatch) -> None:
    """The window holds the cutoff's own day."""
    earlier = pl.col("day") - timedelta(days=1)
    patch.setattr(
        features,
        "features",
        lambda of, *more, real=features.features: real(of.with_columns(earlier), *more),
    )


def with_column(name: str, value: pl.Expr) -> Callable[[pytest.MonkeyPatch], None]:
    def plant(patch: pytest.MonkeyPatch) -> None:
        def leaking(of_days: pl.DataFrame, *more: Any, real: Any = features.features) -> Any:
            last = of_days.group_by("user_id").agg(pl.col("day").max().alias("last"))
            known = real(of_days, *more).join(last, on="user_id", maintain_order="left")
            return known.with_columns(value.cast(pl.Float64).alias(name)).drop("last")

        patch.setattr(features, "features", leaking)

    return plant


def usual_too_early(patch: pytest.MonkeyPatch) -> None:
    """The population's rates hold the cutoff's own day."""

    def leaking(totals: Any, times: Any, start: Any, real: Any = features.population_rates) -> Any:
        later = [time + timedelta(days=1) for time in times]
        return real(totals, later, start).with_columns(pl.col("as_of") - timedelta(days=1))

    patch.setattr(features, "population_rates", leaking)


def looks_ahead(patch: pytest.MonkeyPatch) -> None:
    """An event knows when the next one comes."""

    def leaking(log: pl.DataFrame, real: Any = days.in_order) -> pl.DataFrame:
        ahead = pl.col("seconds_since_last").shift(-1).over("user_id").fill_null(0)
        return real(log).with_columns(ahead)

    patch.setattr(days, "in_order", leaking)


def counts_the_outcome(patch: pytest.MonkeyPatch) -> None:
    """Cancel and Cancellation Confirmation are visits to a page like others."""

    def leaking(log: pl.DataFrame, real: Any = days.user_days) -> pl.DataFrame:
        page = pl.col("page").replace(dict.fromkeys(OUTCOME_PAGES, "Help"))
        return real(log.with_columns(page, auth=pl.lit("Logged In")))

    patch.setattr(days, "user_days", leaking)


def keeps_who_comes_back(patch: pytest.MonkeyPatch) -> None:
    """A user has a row only if there is an event after the cutoff."""

    def leaking(of: pl.DataFrame, *more: Any, real: Any = cutoffs.forecast_rows, **how: Any) -> Any:
        returns = of.select("user_id", "last_event_at")
        later = pl.col("last_event_at").dt.date() >= pl.col("as_of")
        return (
            real(of, *more, **how).join(returns, on="user_id").filter(later).drop("last_event_at")
        )

    patch.setattr(cutoffs, "forecast_rows", leaking)


DELETED, SHUFFLED, INVENTED, CANCELLED = (how.words for how in leaks.FROM_THE_CUTOFF)
FUTURE = {DELETED, SHUFFLED, INVENTED}
AS_IT_IS, LABELS, RENAMED = (how.words for how in leaks.OF_THE_ROWS)
NO_OUTCOME, MORE_OUTCOME = (how.words for how in leaks.OF_THE_OUTCOME)
to_the_end = (pl.col("as_of") - pl.col("last")).dt.total_days()


@pytest.mark.parametrize(
    ("plant", "protocol", "tamperings", "feature"),
    [
        (shown_too_early, "forecast", FUTURE, "events_per_day_1d"),
        (with_column("is_paid", to_the_end), "forecast", FUTURE, "is_paid"),
        (with_column("is_paid", pl.col("user_id")), "forecast", {RENAMED}, "is_paid"),
        (with_column("is_paid", pl.col("user_id").hash()), "whole_log", {RENAMED}, "is_paid"),
        (with_column("is_paid", pl.col("label")), "forecast", {LABELS, CANCELLED}, "is_paid"),
        (with_column("is_paid", pl.col("label")), "whole_log", {LABELS}, "is_paid"),
        (usual_too_early, "forecast", FUTURE, "songs_trend_1d_7d"),
        (looks_ahead, "forecast", FUTURE, "hours_per_session"),
        (counts_the_outcome, "whole_log", {NO_OUTCOME, MORE_OUTCOME}, "help_per_session"),
        (keeps_who_comes_back, "forecast", {DELETED}, leaks.ROW),
    ],
    ids=lambda value: getattr(value, "__name__", None),
)
def test_a_planted_leak_is_found(
    plant: Callable[[pytest.MonkeyPatch], None],
    protocol: str,
    tamperings: set[str],
    feature: str,
    log: pl.DataFrame,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """What is stored leaks alike: it is not from what is stored that the leak is known."""
    plant(monkeypatch)
    found = leaks.audit(audited(log)).filter(protocol=protocol)
    assert tamperings <= set(found.filter(feature=feature)["tampering"])
    assert AS_IT_IS not in found["tampering"]


def test_a_stored_value_that_the_events_do_not_give_is_found(log: pl.DataFrame) -> None:
    material = audited(log)
    one = (pl.col("user_id") == "3") & (pl.col("protocol") == "forecast")
    altered = pl.when(one).then(pl.col("gap_days") * 1.001).otherwise("gap_days").alias("gap_days")
    found = leaks.audit(replace(material, stored=material.stored.with_columns(altered)))
    assert set(found["feature"]) == {"gap_days"}
    row = found.filter(tampering=AS_IT_IS).row(0, named=True)
    assert (row["protocol"], row["user_id"]) == ("forecast", "3")
    assert row["rows"] == material.stored.filter(one).height
    assert row["stored"] == pytest.approx(row["found"] * 1.001)


# The check


@pytest.fixture
def lake(finished: Run, tmp_path: Path) -> Any:
    return copy(finished.lake, tmp_path / "lake")


def test_the_check_stops_a_feature_that_is_measured_to_the_logs_end(lake: Any) -> None:
    stored = lake.read_polars("mini", FEATURE_TABLE)
    last = lake.read_polars("mini", TABLES["user_labels"], ["user_id", "last_event_at"])
    to_end = (pl.lit(date(2018, 12, 1)) - pl.col("last_event_at").dt.date()).dt.total_days()
    leaking = (
        stored.join(last, on="user_id")
        .with_columns(days_since_last_event=to_end.cast(pl.Float64))
        .drop("last_event_at")
    )
    lake.write_polars(
        "mini", FEATURE_TABLE, leaking, lake.version("mini", "feature_table").metadata
    )
    checks = run_checks(lake)
    assert [name for name, check in checks.items() if not check.passed] == [CHECK]
    text = checks[CHECK].description
    assert text is not None
    assert "no feature changes with what lies at or after its cutoff" in text
    assert "Found: these do: days_since_last_event in " in text
    assert "forecast rows" in text
    assert lake.folder("mini", "feature_table") in text
    table = checks[CHECK].metadata["changed features"]
    assert isinstance(table, dg.TableMetadataValue)
    assert {record.data["feature"] for record in table.records} == {"days_since_last_event"}


def test_tables_that_were_not_made_of_each_other_are_not_compared(lake: Any) -> None:
    assert of_another_making(lake, "mini") is None
    lake.write_polars("mini", CLEANED_EVENTS, lake.read_polars("mini", CLEANED_EVENTS))
    found = of_another_making(lake, "mini")
    assert found is not None
    assert not found.passed
    text = found.description or ""
    assert "user_days is made of version 1 of cleaned_events, which is in the lake" in text
    assert text.endswith("Materialize user_days and feature_table of mini again.")


def test_what_another_run_replaces_meanwhile_is_no_leak(
    lake: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    looked = checking.changed_features

    def while_another_writes(*of: Any) -> pl.DataFrame:
        found = looked(*of)
        lake.write_polars("mini", CLEANED_EVENTS, lake.read_polars("mini", CLEANED_EVENTS))
        return found

    monkeypatch.setattr(checking, "changed_features", while_another_writes)
    check = run_checks(lake)[CHECK]
    assert not check.passed
    assert "another run replaced some of them" in (check.description or "")


def test_many_changed_features_are_counted() -> None:
    names = [f"feature_{n}" for n in range(5)]
    found = pl.DataFrame(
        {
            "protocol": "forecast",
            "tampering": DELETED,
            "feature": names,
            "rows": [5, 4, 3, 2, 1],
            "user_id": "7",
            "as_of": CUTOFF,
            "stored": 0.5,
            "found": None,
        }
    )
    text = said(found, "/lake/mini/feature_table").description or ""
    assert "feature_2 in 3 forecast rows (events from the cutoff on deleted)" in text
    assert "; and 2 more features. For example feature_0 of a user as of 2018-10-21: " in text
    assert "0.5 stored, nothing found" in text


# The procedure


def simple(
    frame: pd.DataFrame,
    *,
    fold_of: Callable[[pd.DataFrame], np.ndarray] = splits.user_folds,
    learn_from: Callable[[pd.DataFrame, np.ndarray], pd.DataFrame] = lambda all_, mask: all_[mask],
    select_on_all: bool = False,
    threshold_on_test: bool = False,
    rank_the_tested: bool = False,
    known: Callable[[pd.DataFrame], np.ndarray] = lambda f: splits.temporal_split(f, HORIZON)[0],
) -> pd.DataFrame:
    """A procedure of one model, honest but for what is asked."""
    frame = frame.sort_values(["user_id", "as_of"], ignore_index=True, kind="stable")
    fold, last = fold_of(frame), (frame["as_of"] == frame["as_of"].max()).to_numpy()

    def predicted(learn: np.ndarray, test: np.ndarray, **of: Any) -> pd.DataFrame:
        learned, tested = learn_from(frame, learn), frame[test]
        label = learned["label"].to_numpy(dtype=bool)
        seen = frame if select_on_all else learned
        worth = seen[FEATURES].corrwith(seen["label"].astype(float)).abs()
        chosen = list(worth.nlargest(2).index)
        model = fit("logistic_regression", learned, label, chosen)
        probability = model.predict(tested)
        by = (tested["label"].to_numpy(dtype=bool), probability)
        threshold = metrics.best_threshold(
            *(by if threshold_on_test else (label, model.predict(learned)))
        )
        if rank_the_tested:
            probability = pd.Series(probability).rank(pct=True).to_numpy()
        said = dict.fromkeys(metrics.THRESHOLDS.values(), threshold)
        return tested[["user_id", "as_of", "label"]].assign(
            model="one", candidate="one", repeat=0, probability=probability, **said, **of
        )

    parts = [
        predicted(fold != number, fold == number, estimate="grouped", fold=number)
        for number in range(5)
    ]
    temporal = predicted(known(frame), last, estimate="temporal", fold=0)
    return pd.concat([*parts, temporal], ignore_index=True)


def folds_by_row(frame: pd.DataFrame) -> np.ndarray:
    return np.random.default_rng(0).permutation(len(frame)) % 5


def resampled_before(frame: pd.DataFrame, **how: Any) -> pd.DataFrame:
    churned = frame[frame["label"].astype(bool)]
    return simple(pd.concat([frame, churned, churned]), fold_of=folds_by_row, **how)


def resampled_within(frame: pd.DataFrame, mask: np.ndarray) -> pd.DataFrame:
    learned = frame[mask]
    churned = learned[learned["label"].astype(bool)]
    return pd.concat([learned, churned, churned])


def audit(procedure: leaks.Procedure) -> list[str]:
    return leaks.audit_procedure(procedure, rows(), HORIZON)


def test_the_products_own_procedure_is_honest() -> None:
    def evaluate(frame: pd.DataFrame) -> pd.DataFrame:
        return evaluation.evaluate(
            frame,
            FEATURES,
            cutoffs.FORECAST,
            horizon_days=HORIZON,
            candidates=("logistic_regression",),
            baselines={"prevalence": ()},
        ).predictions

    assert audit(evaluate) == []


def test_an_honest_procedure_is_found_honest() -> None:
    assert audit(simple) == []
    assert audit(lambda frame: simple(frame, learn_from=resampled_within)) == []


@pytest.mark.parametrize(
    ("fault", "sentence"),
    [
        ({"threshold_on_test": True}, "grouped: threshold of "),
        ({"threshold_on_test": True}, "tested rows changes with the labels at the last cutoff"),
        ({"select_on_all": True}, "temporal: probability of "),
        ({"fold_of": folds_by_row}, "users are tested in more than one fold"),
        ({"fold_of": folds_by_row}, "grouped: probability of "),
        (
            {"known": lambda f: (f["as_of"] != f["as_of"].max()).to_numpy()},
            "changes with labels that were not known by the last cutoff",
        ),
        ({"rank_the_tested": True}, "changes with which other rows are tested"),
    ],
)
def test_a_planted_fault_of_a_procedure_is_found(fault: dict[str, Any], sentence: str) -> None:
    found = audit(lambda frame: simple(frame, **fault))
    assert [text for text in found if sentence in text], found


def test_resampling_before_the_split_is_found() -> None:
    found = audit(resampled_before)
    assert any("more than once" in text for text in found), found
    once = ["estimate", "user_id", "as_of"]
    found = audit(lambda frame: resampled_before(frame).drop_duplicates(once))
    assert any("grouped: probability of " in text for text in found), found


def test_rows_that_are_not_tested_are_found() -> None:
    found = audit(lambda frame: simple(frame).query("user_id != 'u001' or estimate != 'grouped'"))
    of = len(rows())
    assert found == [f"one, repeat 0: of {of} rows {of - 5} are tested, 0 of them more than once"]


def test_a_procedure_that_falls_silent_is_no_honest_one() -> None:
    """Without an estimate by time there is nothing to audit by time."""
    with pytest.raises(ValueError, match="Asked again, the procedure says nothing"):
        audit(lambda frame: simple(frame).query("estimate == 'grouped'"))


def test_a_procedure_cannot_be_audited_on_rows_that_show_nothing() -> None:
    single = rows().sample(frac=1, random_state=0).drop_duplicates("user_id")
    with pytest.raises(ValueError, match="No tested user has rows of both outcomes"):
        leaks.audit_procedure(simple, single, HORIZON)
