"""Forecasts over time, through the pipeline: what is kept, how it turned out, what came late."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from datetime import date, datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from polars.testing import assert_frame_equal

from sparkify_assets.resources.lake import Lake
from sparkify_assets.storage import write_part
from sparkify_assets.tables import (
    CHURN_SCORES,
    FEATURE_TABLE,
    LIVE_METRICS,
    MODEL_REGISTRY,
    SCORE_OUTCOMES,
    USER_LABELS,
)
from sparkify_assets_tests.running import Run, copy, run, tables

EARLIER, LOG_END = date(2018, 11, 12), date(2018, 12, 1)
HORIZON = timedelta(days=10)
Lines = list[dict[str, Any]]


def lines_of(log: Path) -> Lines:
    return [json.loads(line) for line in log.open()]


def before(lines: Lines, day: date) -> Lines:
    end = datetime(day.year, day.month, day.day, tzinfo=timezone.utc).timestamp() * 1000
    return [line for line in lines if line["ts"] < end]


def written(lines: Lines, file: Path) -> Path:
    file.write_text("".join(json.dumps(line) + "\n" for line in lines))
    return file


@pytest.fixture(scope="module")
def late(simulated_log: Path) -> Lines:
    """Ten events of one user of before the earlier cutoff, which came after it was scored."""
    early = before(lines_of(simulated_log), EARLIER - timedelta(days=5))
    one = next(line["userId"] for line in reversed(early) if line["userId"])
    return [line for line in early if line["userId"] == one and line["page"] == "NextSong"][:10]


@pytest.fixture(scope="module")
def earlier(
    finished: Run, simulated_log: Path, late: Lines, tmp_path_factory: pytest.TempPathFactory
) -> Run:
    """Scored by the live model when the log went up to EARLIER."""
    folder = tmp_path_factory.mktemp("history")
    known = [line for line in before(lines_of(simulated_log), EARLIER) if line not in late]
    log = written(known, folder / "log.json")
    return run(copy(finished.lake, folder / "lake"), log, job="rescore")


@pytest.fixture(scope="module")
def now(earlier: Run, simulated_log: Path, tmp_path_factory: pytest.TempPathFactory) -> Run:
    """The same lake, when the log goes up to LOG_END."""
    lake = copy(earlier.lake, tmp_path_factory.mktemp("now") / "lake")
    return run(lake, simulated_log, job="rescore")


def scores(lake: Lake, as_of: date) -> pl.DataFrame:
    return tables(lake, "churn_scores")["churn_scores"].filter(as_of=as_of)


def test_scores_of_a_longer_or_a_simulated_log_are_not_kept(finished: Run, earlier: Run) -> None:
    assert set(scores(finished.lake, LOG_END)["backfilled"]) == {False}
    assert earlier.success
    found = earlier.lake.read_polars("mini", CHURN_SCORES)
    assert set(found["as_of"]) == {EARLIER}
    assert earlier.materialized["churn_report"]["users"] == found.height


def test_earlier_scores_stay_as_they_were(earlier: Run, now: Run) -> None:
    assert now.success
    assert all(now.checks.values())
    lake = now.lake
    assert_frame_equal(scores(lake, EARLIER), scores(earlier.lake, EARLIER), check_exact=True)
    assert set(lake.read_polars("mini", CHURN_SCORES)["as_of"]) == {EARLIER, LOG_END}
    files = [
        {Path(file).name for file in each.files("mini", "churn_scores", {str(EARLIER)})}
        for each in (earlier.lake, lake)
    ]
    assert files[0] == files[1] != set()


def test_the_present_forecast_is_the_newest(now: Run) -> None:
    said = now.lake.version("mini", "churn_scores").metadata
    present = scores(now.lake, LOG_END)
    assert (said["as_of"], said["users"]) == (str(LOG_END), present.height)
    assert now.materialized["churn_report"]["users"] == present.height
    expected = now.materialized["churn_report"]["expected_leavers"]
    assert expected == pytest.approx(present["probability"].sum(), abs=0.05)


def test_who_is_flagged_reaches_the_models_threshold(now: Run) -> None:
    known = tables(now.lake, "model_registry")["model_registry"]
    threshold = known.filter(stage="live")["threshold"][0]
    found = scores(now.lake, LOG_END)
    assert found.filter(pl.col("flagged") != (pl.col("probability") >= threshold)).is_empty()


def test_what_became_of_earlier_scores(earlier: Run, now: Run, late: Lines) -> None:
    found = tables(now.lake, "score_outcomes")["score_outcomes"]
    labels = now.lake.read_polars("mini", USER_LABELS, ["user_id", "churned_at"])
    assert set(found["as_of"]) == {EARLIER}
    assert found.height == scores(earlier.lake, EARLIER).height
    left = labels.filter(pl.col("churned_at").dt.date().is_between(EARLIER, EARLIER + HORIZON))
    churned = set(left.filter(pl.col("churned_at").dt.date() < EARLIER + HORIZON)["user_id"])
    assert set(found.filter("churned")["user_id"]) == churned != set()
    (came_late,) = found.filter(pl.col("late_events") > 0).select("user_id", "late_events").rows()
    assert came_late == (late[0]["userId"], len(late))


def test_the_ui_and_the_report_say_how_forecasts_turned_out(now: Run) -> None:
    shown = now.materialized["live_metrics"]
    assert shown["newest_complete_week"] == "2018-11-12"
    assert shown["live_late_events"] == 10
    assert 0 <= shown["live_precision"] <= 1
    assert shown["pictures"].count("data:image/svg+xml") == 2
    page = Path(now.lake.root, "mini", "churn_report", "churn_report.html").read_text()
    assert "12 November 2018" in page
    assert "10 events came late" in page


def test_before_a_horizon_has_passed_there_are_no_outcomes(earlier: Run) -> None:
    assert earlier.lake.read_polars("mini", SCORE_OUTCOMES).is_empty()
    assert "pictures" not in earlier.materialized["live_metrics"]
    page = Path(earlier.lake.root, "mini", "churn_report", "churn_report.html").read_text()
    assert "no forecast that was made in operation is 10 days old" in " ".join(page.split())


# After the fact

PAST = date(2018, 11, 5)


def learned_by(lake: Lake, day: date | None) -> None:
    """Say of the live model that it learned from a log that ended on this day."""
    said = lake.version("mini", "model_registry").metadata
    known = lake.read_polars("mini", MODEL_REGISTRY)
    lake.write_polars("mini", MODEL_REGISTRY, known.with_columns(log_end=pl.lit(day)), said)


def backfill(lake: Lake, as_of: date) -> Run:
    return run(lake, None, job="backfill", churn_scores={"as_of": str(as_of)})


@pytest.fixture
def lake(now: Run, tmp_path: Path) -> Lake:
    return copy(now.lake, tmp_path / "lake")


def test_a_past_day_is_scored_as_it_would_have_been_then(
    lake: Lake, finished: Run, simulated_log: Path, tmp_path: Path
) -> None:
    """By the same model, beside a lake that held no more than the log up to then."""
    then = copy(finished.lake, tmp_path / "then")
    for each in (lake, then):
        learned_by(each, PAST)
    assert run(
        then, written(before(lines_of(simulated_log), PAST), tmp_path / "log.json"), job="rescore"
    ).success
    said = lake.version("mini", "churn_scores").metadata
    before_it = {day: scores(lake, day) for day in (EARLIER, LOG_END)}
    found = backfill(lake, PAST)
    assert found.success
    assert all(found.checks.values())
    expected, got = (scores(each, PAST) for each in (then, lake))
    assert (set(expected["backfilled"]), set(got["backfilled"])) == ({False}, {True})
    how = ["scored_at", "backfilled"]
    assert_frame_equal(got.drop(how), expected.drop(how), check_exact=True)
    # The rest is as it was, and the present is still the present.
    for day, rows in before_it.items():
        assert_frame_equal(scores(lake, day), rows, check_exact=True)
    of_run = {"run_id"}
    after = lake.version("mini", "churn_scores").metadata
    assert {k: v for k, v in after.items() if k not in of_run} == {
        k: v for k, v in said.items() if k not in of_run
    }
    # It has an outcome, which is not counted as one of a forecast made in operation.
    became = lake.read_polars("mini", SCORE_OUTCOMES)
    assert became.filter("backfilled")["as_of"].unique().to_list() == [PAST]
    weeks = lake.read_polars("mini", LIVE_METRICS)["week"].unique().to_list()
    assert weeks == [date(2018, 11, 12)]
    page = Path(lake.root, "mini", "churn_report", "churn_report.html").read_text()
    assert "1 further cutoff was scored after the fact" in page
    # What was backfilled may be backfilled again.
    assert backfill(lake, PAST).success
    assert_frame_equal(scores(lake, PAST).drop(how), expected.drop(how), check_exact=True)


def test_where_no_model_had_learned_by_then_one_is_trained_on_what_was_known(lake: Lake) -> None:
    known = set(lake.read_polars("mini", MODEL_REGISTRY)["model_version"])
    late = date(2018, 11, 28)
    assert backfill(lake, late).success
    found = scores(lake, late)
    assert not set(found["model_version"]) & known
    assert set(lake.read_polars("mini", MODEL_REGISTRY)["model_version"]) == known
    assert found["risk_decile"].max() == 10


@pytest.mark.parametrize(
    ("as_of", "said"),
    [
        (date(2018, 10, 1), "a past cutoff lies between the log's first day, 2018-10-01, and its"),
        (LOG_END, "To score the end, leave as_of empty."),
        (EARLIER, "2018-11-12 was scored when it was the present."),
        (date(2018, 10, 20), "to train one as of then is too early: 0 users churned; at least 10"),
    ],
)
def test_what_cannot_be_backfilled_changes_nothing(lake: Lake, as_of: date, said: str) -> None:
    number = lake.version("mini", "churn_scores").number
    found = backfill(lake, as_of)
    assert not found.success
    assert said in found.said
    assert lake.version("mini", "churn_scores").number == number


def test_without_a_present_forecast_nothing_is_backfilled(lake: Lake) -> None:
    shutil.rmtree(Path(lake.root, "mini", "churn_scores"))
    found = backfill(lake, PAST)
    assert not found.success
    assert "Run the job `rescore` first." in found.said
    assert not lake.exists("mini", "churn_scores")


def test_what_has_turned_out_is_not_made_again(lake: Lake) -> None:
    learned_by(lake, PAST)
    tables_of = ("score_outcomes", "live_metrics")
    before_it = {name: set(lake.files("mini", name)) for name in tables_of}
    said = [run(lake, None, *tables_of).materialized, backfill(lake, PAST).materialized]
    assert [each["score_outcomes"]["new_cutoffs"] for each in said] == [[], [str(PAST)]]
    assert [each["live_metrics"]["new_weeks"] for each in said] == [[], []]
    assert {name: set(lake.files("mini", name)) - before_it[name] for name in tables_of} == {
        "score_outcomes": set(lake.files("mini", "score_outcomes", {str(PAST)})),
        "live_metrics": set(),
    }
    for each in said:
        assert each["live_metrics"]["live_late_events"] == 10
        assert "pictures" in each["live_metrics"]


def test_a_forecast_is_judged_by_the_horizon_that_it_was_made_for(lake: Lake) -> None:
    before_it = tables(lake, "score_outcomes")["score_outcomes"]
    features = lake.version("mini", "feature_table")
    assert lake.version("mini", "churn_scores").slices[str(EARLIER)].said["horizon_days"] == 10
    said = features.metadata | {"horizon_days": 30}
    lake.commit("mini", FEATURE_TABLE, [], said, slices=features.slices)
    assert run(lake, None, "score_outcomes").materialized["score_outcomes"]["new_cutoffs"] == []
    assert_frame_equal(tables(lake, "score_outcomes")["score_outcomes"], before_it)


def test_scores_of_an_earlier_contract_are_kept(lake: Lake) -> None:
    without = [column for column in CHURN_SCORES.columns if column.name != "reason_3"]
    earlier = replace(CHURN_SCORES, columns=tuple(without))
    version = lake.version("mini", "churn_scores")
    said_then = {day: scores(lake, day) for day in (EARLIER, LOG_END)}
    parts = [
        write_part(f"{version.path}/{day}", rows.drop("reason_3"))
        for day, rows in said_then.items()
    ]
    lake.commit("mini", earlier, parts, version.metadata, slices=version.slices)
    assert run(lake, None, "churn_scores").success
    expected = said_then[EARLIER].with_columns(reason_3=pl.lit(None, pl.String))
    assert_frame_equal(scores(lake, EARLIER), expected, check_exact=True)
    assert scores(lake, LOG_END)["reason_3"].null_count() < scores(lake, LOG_END).height
    assert run(lake, None, "churn_scores").success
    assert_frame_equal(scores(lake, EARLIER), expected, check_exact=True)
