"""The pipeline as a whole: one run of everything, and what may not change its tables."""

from __future__ import annotations

import bz2
import gzip
import json
import pickle
import random
import re
import sys
from collections.abc import Callable
from dataclasses import replace
from datetime import date, datetime, timezone
from pathlib import Path
from typing import Any

import polars as pl
import pytest
import zstandard
from dagster_shared.record import as_dict, is_record
from polars.testing import assert_frame_equal
from pyspark.sql import SparkSession

from sparkify_assets.checks import contracts, usual
from sparkify_assets.churn import cutoffs, evaluation, registry
from sparkify_assets.churn.features import CORE
from sparkify_assets.lineage import lineage
from sparkify_assets.resources.io_manager import origin
from sparkify_assets.resources.lake import Lake
from sparkify_assets.storage import read_part, write_part
from sparkify_assets.summary import summary
from sparkify_assets.tables import CLEANED_EVENTS, EVALUATION_METRICS, TABLES
from sparkify_assets_tests.running import (
    EVENTS_TO_FEATURES,
    Run,
    Said,
    command,
    copy,
    read_with_duckdb,
    run,
    run_checks,
    tables,
    versions,
    without_times,
)

LOG_START, LOG_END = date(2018, 10, 1), date(2018, 12, 1)


@pytest.fixture(scope="module")
def written(finished: Run) -> dict[str, pl.DataFrame]:
    return tables(finished.lake)


# What a run leaves


def test_everything_is_materialized_and_every_check_passes(finished: Run) -> None:
    assert finished.success
    assert set(finished.materialized) == {*TABLES, "churn_report"}
    assert set(finished.checks) == {f"{name}:contract" for name in TABLES} | {
        "raw_events:every_line_is_accounted_for",
        "rejected_lines:few_lines_are_rejected",
        "feature_table:no_feature_knows_the_future",
        "model_registry:a_model_is_live",
        "model_registry:new_model_went_live",
        "churn_scores:users_are_as_at_training",
        "user_labels:as_many_users_churned_as_usual",
        *(f"{name}:as_many_rows_as_usual" for name in usual.COUNTED),
        *(f"{name}:as_many_nulls_as_usual" for name in usual.SEEN_THROUGH),
        "churn_scores:scores_are_fresh",
    }
    assert all(finished.checks.values())


def test_what_the_ui_shows_of_each_table(finished: Run) -> None:
    for name, table in TABLES.items():
        shown = finished.materialized[name]
        newest = finished.lake.version("mini", name)
        assert shown["dagster/partition_row_count"] == newest.rows, name
        assert (shown["table_version"], shown["path"]) == (newest.number, newest.path)
        assert shown["source"] == "simulated: 100 users, 61 days, seed 5"
        assert shown["simulated"] is True
        if newest.rows:
            assert [column.name for column in shown["preview"].schema.columns] == table.shown
            assert 1 <= len(shown["preview"].records) <= 10
        if lineage(name):
            assert set(shown["dagster/column_lineage"].deps_by_column) == set(lineage(name))


def test_nulls_are_counted_in_every_column(finished: Run, written: dict[str, pl.DataFrame]) -> None:
    for name, table in TABLES.items():
        nulls = finished.lake.version("mini", name).nulls
        if written[name].height:
            assert nulls == written[name].null_count().row(0, named=True), name
            assert set(nulls) == set(table.names)


def test_figures_are_of_a_simulated_log_if_any_of_them_is(finished: Run, tmp_path: Path) -> None:
    lake = copy(finished.lake, tmp_path)
    features = lake.version("mini", "feature_table").metadata
    said = features | {"source": "/logs/real.json", "simulated": False}
    lake.write_polars("mini", TABLES["feature_table"], tables(lake)["feature_table"], said)
    assert origin(lake, "mini", "model_trials")["simulated"] is False
    mixed = origin(lake, "mini", "churn_scores")
    assert mixed == {
        "source": "simulated: 100 users, 61 days, seed 5; /logs/real.json",
        "simulated": True,
    } or mixed == {
        "source": "/logs/real.json; simulated: 100 users, 61 days, seed 5",
        "simulated": True,
    }


def test_what_runs_in_tasks_knows_nothing_of_dagster(finished: Run, spark: SparkSession) -> None:
    """Each of Spark's workers would take seconds to import it."""
    imported = spark.sparkContext.parallelize([0, 1], 2).map(lambda _: "dagster" in sys.modules)
    assert finished.success
    assert not any(imported.collect())


def test_the_ui_shows_what_spark_did(finished: Run) -> None:
    shown = finished.materialized
    (application,) = {
        each["spark_application"] for each in shown.values() if "spark_stages" in each
    }
    assert application.startswith("local-")
    stages = {
        name: [record.data for record in each["spark_stages"].records]
        for name, each in shown.items()
        if "spark_stages" in each
    }
    assert [stage["what"] for stage in stages["raw_events"]] == ["reading the log"]
    assert [stage["what"] for stage in stages["cleaned_events"]] == ["cleaning days"]
    assert stages["raw_events"] == stages["rejected_lines"]
    assert stages["cleaned_events"] == stages["label_days"]
    (scoring,) = stages["churn_scores"]
    assert (scoring["what"], scoring["stages"]) == ("over the part files of feature_table", 2)
    for each in stages.values():
        assert all(stage["tasks"] >= 1 and stage["failed tasks"] == 0 for stage in each)


def test_nothing_personal_reaches_the_ui(finished: Run) -> None:
    raw = finished.lake.read_polars("mini", TABLES["raw_events"])
    secret: set[str] = set()
    for name in ("user_id", "first_name", "last_name", "location", "user_agent"):
        secret |= set(raw[name].drop_nulls().unique())
    shown = [*texts(finished.materialized)]
    for check in finished.result.get_asset_check_evaluations():
        shown += texts({name: value.value for name, value in check.metadata.items()})
        shown.append(check.description or "")
    assert len(shown) > 1_000
    assert not secret & set(shown)
    names = {name for column in ("first_name", "last_name") for name in raw[column].drop_nulls()}
    words = {word for text in shown for word in re.findall(r"\w+", text) if len(text) < 2_000}
    assert not {name for name in names if len(name) > 3} & words


def texts(shown: Any) -> list[str]:
    """Every text in metadata, however deep."""
    if isinstance(shown, str):
        return [shown]
    if isinstance(shown, dict):
        return [text for value in shown.values() for text in texts(value)]
    if is_record(shown):  # a tuple that may not be iterated
        return texts(as_dict(shown))
    if isinstance(shown, list | tuple):
        return [text for value in shown for text in texts(value)]
    return []


def test_the_terminal_shows_a_line_an_asset(finished: Run) -> None:
    # On a busy machine the simulation's progress is shown as well.
    shown = [line.split()[0] for line in finished.said.splitlines() if re.match(r"  \w", line)]
    assert sorted(shown) == sorted([*TABLES, "churn_report"])
    assert shown[0] == "raw_events"
    assert f"{finished.lake.version('mini', 'raw_events').rows:,} rows" in finished.said


@pytest.mark.parametrize("name", TABLES)
def test_metadata_and_other_readers_agree_with_the_table(
    name: str, finished: Run, written: dict[str, pl.DataFrame]
) -> None:
    said, folder = finished.materialized[name], finished.lake.folder("mini", name)
    rows = written[name].height
    assert (said["table_version"], said["dagster/partition_row_count"]) == (0, rows)
    assert said["path"] == folder
    delta, duck = pl.read_delta(folder), read_with_duckdb(folder)
    assert delta.columns == duck.columns == TABLES[name].names
    assert delta.height == duck.height == rows
    # No horizon of a score has passed yet.
    assert (rows == 0) == (name in ("rejected_lines", "score_outcomes", "live_metrics"))


def test_every_line_is_an_event_or_rejected(
    finished: Run, simulated_log: Path, written: dict[str, pl.DataFrame]
) -> None:
    lines = simulated_log.read_bytes().count(b"\n")
    assert finished.lake.version("mini", "raw_events").metadata["lines"] == lines
    assert written["raw_events"].height + written["rejected_lines"].height == lines


def test_tables_add_up(written: dict[str, pl.DataFrame]) -> None:
    raw, events, labels = (
        written[name] for name in ("raw_events", "cleaned_events", "user_labels")
    )
    known = raw.filter(pl.col("auth").is_in(["Logged In", "Cancelled"]))
    assert events.height == labels["events"].sum() == known.unique().height
    assert labels["user_id"].to_list() == sorted(set(known["user_id"]))
    cancelled = raw.filter(page="Cancellation Confirmation")["user_id"]
    assert sorted(cancelled) == labels.filter("churned")["user_id"].to_list()
    outcome = events.filter(pl.col("page").is_in(["Cancel", "Cancellation Confirmation"]))
    assert written["user_days"]["events"].sum() == events.height - outcome.height
    assert written["label_days"]["events"].sum() == events.height
    assert written["label_days"]["outcome_events"].sum() == outcome.height


def test_a_days_clean_events_of_a_user_stand_together_in_time_order_in_one_file(
    finished: Run,
) -> None:
    files = {
        part.path: pl.read_parquet(finished.lake.file("mini", "cleaned_events", part))
        for part in finished.lake.parts("mini", "cleaned_events")
    }
    order = ["user_id", "event_time", "item_in_session"]
    found = []
    for path, rows in files.items():
        assert_frame_equal(rows, rows.sort(order, maintain_order=True))
        assert {day.isoformat() for day in rows["event_time"].dt.date()} == {path.split("/")[0]}
        found += [(path.split("/")[0], user) for user in rows["user_id"].unique()]
    assert len({day for day, _ in found}) > 60
    assert len(found) == len(set(found))


def test_no_names_beyond_raw_events(written: dict[str, pl.DataFrame]) -> None:
    for name, table in written.items():
        assert ("first_name" in table.columns) == (name == "raw_events"), name
        assert ("last_name" in table.columns) == (name == "raw_events"), name


def test_both_protocols_are_measured(written: dict[str, pl.DataFrame]) -> None:
    measured = written["evaluation_metrics"]
    assert measured.columns == EVALUATION_METRICS.names
    assert set(measured.select("protocol", "estimate").unique().rows()) == {
        ("forecast", "grouped"),
        ("forecast", "temporal"),
        ("whole_log", "grouped"),
    }
    shown = measured.filter(
        pl.col("model") == evaluation.CHOSEN, pl.col("metric").is_in(["pr_auc", "roc_auc"])
    )
    assert shown.height == 6
    assert shown.filter(~pl.col("value").is_between("ci_low", "ci_high")).is_empty()
    assert shown["value"].is_between(0, 1).all()


def test_scores_of_every_living_user(written: dict[str, pl.DataFrame]) -> None:
    scores, labels = written["churn_scores"], written["user_labels"]
    living = labels.filter(~pl.col("churned"))["user_id"].to_list()
    assert scores["user_id"].to_list() == living
    assert set(scores["as_of"]) == {LOG_END}
    assert scores["probability"].is_between(0, 1).all()
    assert set(scores["risk_decile"]) == set(range(1, 11))
    by_risk = scores.sort("probability")
    assert by_risk["risk_decile"].is_sorted()
    level = labels.filter(~pl.col("churned")).select("user_id", last="level")
    assert scores.join(level, on="user_id").filter(pl.col("level") != pl.col("last")).is_empty()


def test_reasons_come_first_to_last_and_none_twice(written: dict[str, pl.DataFrame]) -> None:
    for reasons in written["churn_scores"].select("^reason_.*$").rows():
        given = [reason for reason in reasons if reason is not None]
        assert list(reasons) == given + [None] * (3 - len(given))
        assert len(set(given)) == len(given)
        assert all(re.fullmatch(r".+: .+ \(typical .+\)", reason) for reason in given)
    assert written["churn_scores"]["reason_1"].null_count() < written["churn_scores"].height


def test_the_stored_model_predicts_what_was_scored(written: dict[str, pl.DataFrame]) -> None:
    stored = written["trained_model"]
    assert stored["chosen"].sum() == 1
    for artifact in stored["artifact"]:
        with pytest.raises(pickle.UnpicklingError):
            pickle.loads(artifact)
    model = registry.open_model(stored.row(by_predicate=pl.col("chosen"), named=True))
    assert list(model.features) == list(CORE)
    at_end = cutoffs.forecast_at(written["feature_table"], LOG_END).sort("user_id")
    expected = written["churn_scores"]["probability"].to_list()
    assert model.predict(at_end).tolist() == pytest.approx(expected, abs=1e-9)


def test_every_feature_has_a_rank(written: dict[str, pl.DataFrame]) -> None:
    factors = written["churn_factors"].sort("rank")
    assert sorted(factors["feature"]) == sorted(CORE)
    assert factors["rank"].to_list() == list(range(1, len(CORE) + 1))
    assert factors["mean_abs_contribution"].is_sorted(descending=True)
    by_theme = factors.unique("theme").sort("theme_rank")
    assert by_theme["theme_rank"].to_list() == list(range(1, by_theme.height + 1))
    assert by_theme["theme_share"].sum() == pytest.approx(1)


def test_how_stable_the_order_is_stands_beside_the_table_and_in_the_ui(finished: Run) -> None:
    stability = finished.lake.version("mini", "churn_factors").metadata["stability"]
    assert stability["folds"] == 5
    for what in ("feature", "theme"):
        for name, value in stability[f"{what}s"].items():
            said = finished.materialized["churn_factors"][f"{what}_order_{name}_rank_correlation"]
            assert -1 <= value == said <= 1


def test_the_report_is_where_it_is_said_to_be(finished: Run) -> None:
    path = Path(finished.materialized["churn_report"]["path"])
    assert path == Path(finished.lake.root, "mini", "churn_report", "churn_report.html")
    assert "Simulated data." in path.read_text()


# A second run


@pytest.fixture(scope="module")
def again(
    finished: Run, simulated_log: Path, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Lake, Said]:
    """The command over the same log, now given by the variable, into a lake that holds tables."""
    lake = copy(finished.lake, tmp_path_factory.mktemp("again"))
    return lake, command(lake, simulated_log)


def test_a_second_run_makes_one_more_version_of_every_table(again: tuple[Lake, Said]) -> None:
    lake, said = again
    assert said.code == 0
    assert versions(lake) == dict.fromkeys(TABLES, 1)


@pytest.mark.parametrize("name", TABLES)
def test_a_second_run_gives_the_same_rows(
    name: str, again: tuple[Lake, Said], written: dict[str, pl.DataFrame]
) -> None:
    ours, theirs = (without_times(each) for each in (tables(again[0], name)[name], written[name]))
    assert_frame_equal(ours, theirs, check_exact=True)


def test_a_run_says_at_the_end_what_came_out(again: tuple[Lake, Said], simulated_log: Path) -> None:
    lake, said = again
    interval = r"\d\.\d{3} \[\d\.\d{3}, \d\.\d{3}\]"
    for estimate in ("grouped", "temporal"):
        assert re.search(rf"{estimate} +PR AUC {interval} .*ROC AUC {interval}", said.out)
    assert "LEAKS" in said.out
    assert re.search(rf"weighted F1 {interval} +seed 0\.80", said.out)
    strongest = tables(lake, "churn_factors")["churn_factors"].sort("rank").head(5)
    assert re.findall(r"^  (\d)\. (.+): (.+)$", said.out, re.MULTILINE) == [
        (str(rank), *words)
        for rank, *words in strongest.select("rank", "meaning", "direction_words").rows()
    ]
    assert f"log             {simulated_log}" in said.out
    assert f"lake            {lake.root}" in said.out
    report = re.search(r"report +(.*)", said.out)
    assert report
    assert Path(report[1]).is_file()


def test_only_a_simulated_log_is_called_simulated(finished: Run, again: tuple[Lake, Said]) -> None:
    assert "SIMULATED" in summary(finished.lake, "mini")
    assert "SIMULATED" not in again[1].out
    page = Path(again[0].root, "mini", "churn_report", "churn_report.html").read_text()
    assert "Simulated data." not in page


# What may not change the tables


def test_neither_order_nor_files_matter(
    finished: Run, simulated_log: Path, written: dict[str, pl.DataFrame], tmp_path: Path
) -> None:
    lines = simulated_log.read_bytes().splitlines(keepends=True)
    random.Random(1).shuffle(lines)
    compress: dict[str, Callable[[bytes], bytes]] = {
        "a.json": bytes,
        "b.jsonl": bytes,
        "c.json.gz": lambda data: gzip.compress(data, 1),
        "d.json.zst": zstandard.ZstdCompressor().compress,
        "e.json.bz2": lambda data: bz2.compress(data, 1),
    }
    (tmp_path / "log").mkdir()
    share = -(-len(lines) // len(compress))
    for number, (name, pack) in enumerate(compress.items()):
        its_lines = lines[number * share : (number + 1) * share]
        (tmp_path / "log" / name).write_bytes(pack(b"".join(its_lines)))
    lake = Lake(str(tmp_path / "lake"))
    assert run(lake, tmp_path / "log", *EVENTS_TO_FEATURES).success
    for name, table in tables(lake, *EVENTS_TO_FEATURES[2:]).items():
        assert_frame_equal(table, written[name], check_exact=True)


CUTOFF = date(2018, 10, 29)  # one of the weekly ones
Lines = list[dict[str, Any]]


def without(later: Lines) -> Lines:
    return []


def given_to_others(later: Lines) -> Lines:
    """The same lines, of other users and at other times from the cutoff on."""
    mix = random.Random(2)
    times = [line["ts"] for line in later]
    people = [{name: line.get(name) for name in ("userId", "registration")} for line in later]
    mix.shuffle(times)
    mix.shuffle(people)
    return [
        line | person | {"ts": ts} for line, person, ts in zip(later, people, times, strict=True)
    ]


def invented(later: Lines) -> Lines:
    """From the cutoff on everybody pays, moves, hears one song, and cancels; new users come."""
    changed = {
        "level": "paid",
        "location": "Anchorage, AK",
        "gender": "F",
        "userAgent": "Opera",
        "registration": 1538352000000,
        "artist": "A",
        "length": 9999.0,
    }
    everybody = {line["userId"]: line | changed for line in later if line["userId"]}
    ends = [line | {"page": "Cancellation Confirmation"} for line in everybody.values()]
    new = [line | {"userId": f"new {i}"} for i, line in enumerate(everybody.values())]
    return [line | changed for line in later] + ends + new


@pytest.mark.parametrize("future", [without, given_to_others, invented])
def test_nothing_after_a_cutoff_changes_what_is_known_at_it(
    future: Callable[[Lines], Lines],
    simulated_log: Path,
    written: dict[str, pl.DataFrame],
    tmp_path: Path,
) -> None:
    lines = [json.loads(line) for line in simulated_log.open()]
    cutoff = datetime.combine(CUTOFF, datetime.min.time(), timezone.utc).timestamp() * 1000
    earlier = [line for line in lines if line["ts"] < cutoff]
    later = [line for line in lines if line["ts"] >= cutoff]
    other = earlier + future(later)
    log = tmp_path / "log.json"
    log.write_text("".join(json.dumps(line) + "\n" for line in other))
    lake = Lake(str(tmp_path / "lake"))
    assert run(lake, log, *EVENTS_TO_FEATURES).success

    before, after = (
        table.filter(
            pl.col("protocol") == cutoffs.FORECAST,
            pl.col("as_of").is_in([date(2018, 10, 15), CUTOFF]),
        )
        for table in (written["feature_table"], tables(lake, "feature_table")["feature_table"])
    )
    assert before.group_by("as_of").len().height == 2
    assert_frame_equal(after.drop("label"), before.drop("label"), check_exact=True)
    # By the cutoff the horizon of the earlier one is over.
    known = pl.col("as_of") == date(2018, 10, 15)
    assert_frame_equal(after.filter(known), before.filter(known), check_exact=True)


# What stops a run


@pytest.fixture
def lake(finished: Run, tmp_path: Path) -> Lake:
    return copy(finished.lake, tmp_path / "lake")


def test_a_broken_contract_stops_what_is_built_on_it(lake: Lake, simulated_log: Path) -> None:
    part, *_ = lake.parts("mini", "cleaned_events")
    is_first = pl.int_range(pl.len()) == 0
    rows = read_part(lake.file("mini", "cleaned_events", part)).with_columns(
        level=pl.when(is_first).then(pl.lit("gold")).otherwise("level")
    )
    folder = f"{lake.folder('mini', 'cleaned_events')}/{part.slice}"
    lake.rewrite("mini", CLEANED_EVENTS, [part], [write_part(folder, rows)])
    before = versions(lake)
    found = run(lake, simulated_log)
    assert not found.success
    made = {"raw_events", "rejected_lines", "cleaned_events", "label_days"}
    assert set(found.materialized) == made
    assert [name for name, passed in found.checks.items() if not passed] == [
        "cleaned_events:contract"
    ]
    assert (
        "CHECK FAILED cleaned_events.contract: Expected: level is one of free, paid. "
        "Found: rows that break this: 1. To look: import polars as pl; "
    ) in found.said
    assert {name for name, number in versions(lake).items() if number > before[name]} == made


def read_again(lake: Lake) -> None:
    """Lines of another reading of the file take the place of the raw events alone."""
    version = lake.version("mini", "raw_events")
    slices = {name: replace(each, key=f"not {each.key}") for name, each in version.slices.items()}
    parts = [
        write_part(f"{version.path}/{part.slice}", read_part(f"{version.path}/{part.path}"))
        for part in lake.parts("mini", "raw_events")
    ]
    lake.commit("mini", TABLES["raw_events"], parts, version.metadata, slices=slices)


@pytest.mark.parametrize("read_here_bytes", [0, contracts._READ_HERE_BYTES])
def test_checks_find_repeated_keys_and_lines_of_two_readings(
    read_here_bytes: int,
    lake: Lake,
    written: dict[str, pl.DataFrame],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Large tables are read by Spark, small ones are not; the findings are the same."""
    monkeypatch.setattr(contracts, "_READ_HERE_BYTES", read_here_bytes)
    doubled = {name: table for name, table in TABLES.items() if table.key and written[name].height}
    for name, table in doubled.items():
        said = lake.version("mini", name).metadata
        lake.write_polars("mini", table, pl.concat([written[name]] * 2), said)
    read_again(lake)
    checks = run_checks(lake)
    assert {name for name, check in checks.items() if not check.passed} == {
        *(f"{name}:contract" for name in doubled),
        "raw_events:every_line_is_accounted_for",
    }
    for name, table in doubled.items():
        assert (checks[f"{name}:contract"].description or "").startswith(
            f"Expected: {', '.join(table.key)} is unique. "
            f"Found: rows that break this: {written[name].height:,}. To look: "
        )
    two = checks["raw_events:every_line_is_accounted_for"].description
    assert two
    assert two.endswith("0 rejected lines, which are of two different readings of the log.")
