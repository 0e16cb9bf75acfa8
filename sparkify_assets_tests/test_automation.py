"""Jobs, schedules, the sensor, freshness and the queue: what is run, when, and what is not."""

from __future__ import annotations

import contextlib
import json
import logging
import os
import shutil
import sys
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, replace
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import dagster as dg
import polars as pl
import pytest
import yaml
from polars.testing import assert_frame_equal

from sparkify_assets.automation import news, schedules, sensors
from sparkify_assets.checks import usual
from sparkify_assets.checks.freshness import judged
from sparkify_assets.datasets import DATASETS, Dataset
from sparkify_assets.definitions import build_defs, defs
from sparkify_assets.errors import SettingError
from sparkify_assets.resources.io_manager import LakeResource
from sparkify_assets.resources.lake import Lake
from sparkify_assets.tables import FEATURE_TABLE, MODEL_REGISTRY, RAW_EVENTS, TABLES
from sparkify_assets_tests.running import (
    EVENTS_TO_FEATURES,
    Run,
    copy,
    run,
    tables,
    versions,
    without_times,
)

MODEL = (
    "model_trials",
    "trained_model",
    "evaluation_predictions",
    "evaluation_metrics",
    "model_registry",
    "churn_factors",
)
OUTCOMES = ("score_outcomes", "live_metrics")
SCORES = ("churn_scores", *OUTCOMES, "churn_report")
EVENTS_CHECKS = {
    *(f"{name}:contract" for name in EVENTS_TO_FEATURES),
    "raw_events:every_line_is_accounted_for",
    "rejected_lines:few_lines_are_rejected",
    "feature_table:no_feature_knows_the_future",
    "user_labels:as_many_users_churned_as_usual",
    *(f"{name}:as_many_rows_as_usual" for name in usual.COUNTED if name != "churn_scores"),
    *(f"{name}:as_many_nulls_as_usual" for name in usual.SEEN_THROUGH),
}
MODEL_CHECKS = {
    *(f"{name}:contract" for name in MODEL),
    "model_registry:a_model_is_live",
    "model_registry:new_model_went_live",
}
SCORES_CHECKS = {
    *(f"{name}:contract" for name in OUTCOMES),
    "churn_scores:contract",
    "churn_scores:users_are_as_at_training",
    "churn_scores:scores_are_fresh",
    "churn_scores:as_many_rows_as_usual",
}
JOBS = {
    "everything": (
        {*EVENTS_TO_FEATURES, *MODEL, *SCORES},
        EVENTS_CHECKS | MODEL_CHECKS | SCORES_CHECKS,
    ),
    "prepare": ({*EVENTS_TO_FEATURES}, EVENTS_CHECKS),
    "retrain": ({*MODEL, *SCORES}, MODEL_CHECKS | SCORES_CHECKS),
    "rescore": ({*EVENTS_TO_FEATURES, *SCORES}, EVENTS_CHECKS | SCORES_CHECKS),
    "backfill": (set(SCORES), SCORES_CHECKS),
    "check_freshness": (set(), {"churn_scores:scores_are_fresh"}),
}
CONFIGURED = {
    "everything": {"ingest", "feature_table", *MODEL, "churn_scores"},
    "prepare": {"ingest", "feature_table"},
    "retrain": set(MODEL),
    "rescore": {"ingest", "feature_table"},
    "backfill": {"churn_scores"},
    "check_freshness": set(),
}
SCHEDULES = {
    f"{job}_{dataset}_{often}": (job, cron)
    for dataset in ("mini", "full")
    for job, often, cron in (
        ("rescore", "daily", "0 5 * * *"),
        ("retrain", "weekly", "0 6 * * 1"),
        ("check_freshness", "hourly", "30 * * * *"),
        ("housekeeping", "weekly", "0 3 * * 0"),
    )
}
REPOSITORY = defs.get_repository_def()


@pytest.fixture(autouse=True)
def _no_sources(monkeypatch: pytest.MonkeyPatch) -> None:
    for dataset in DATASETS.values():
        monkeypatch.delenv(dataset.source_variable, raising=False)


@pytest.fixture(scope="module")
def instance() -> Iterator[dg.DagsterInstance]:
    with dg.instance_for_test() as made:
        yield made


def resources(lake: Lake) -> dict[str, LakeResource]:
    return {"lake": LakeResource(root=lake.root)}


# What there is


def test_jobs_make_what_they_say_with_its_checks_and_no_others() -> None:
    found = {job.name: job for job in defs.resolve_all_job_defs()}
    # Housekeeping makes no asset.
    assert set(found) - {"__ASSET_JOB", "housekeeping"} == set(JOBS)
    for name, (assets, checks) in JOBS.items():
        layer = found[name].asset_layer
        assert {key.to_user_string() for key in layer.selected_asset_keys} == assets, name
        every_check = layer.asset_graph.asset_check_keys
        assert {key.to_user_string() for key in every_check} == checks, name
        assert found[name].description, name


@pytest.mark.parametrize("dataset", DATASETS)
@pytest.mark.parametrize("name", JOBS)
def test_jobs_take_their_part_of_a_datasets_configuration(name: str, dataset: str) -> None:
    job = defs.resolve_job_def(name)
    config = job.get_run_config_for_partition_key(dataset)
    assert dg.validate_run_config(job, config)
    assert set(config["ops"]) == CONFIGURED[name]
    if metrics := config["ops"].get("evaluation_metrics"):
        assert metrics["config"]["resamples"] == DATASETS[dataset].resamples


def test_everything_is_off_until_it_is_switched_on() -> None:
    found = REPOSITORY.schedule_defs
    assert {each.name: (each.job_name, each.cron_schedule) for each in found} == SCHEDULES
    assert {each.execution_timezone for each in found} == {"UTC"}
    assert {each.default_status for each in found} == {dg.DefaultScheduleStatus.STOPPED}
    (sensor,) = REPOSITORY.sensor_defs
    assert (sensor.name, sensor.minimum_interval_seconds) == ("new_log_files", 30)
    assert sensor.default_status == dg.DefaultSensorStatus.STOPPED


# Schedules


@pytest.mark.parametrize(
    ("variable", "of"),
    [
        (schedules.RESCORE_VARIABLE, "rescore"),
        (schedules.RETRAIN_VARIABLE, "retrain"),
        (schedules.HOUSEKEEPING_VARIABLE, "housekeeping"),
    ],
)
def test_times_are_set_by_the_environment(
    variable: str, of: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(variable, "15 3 * * *")
    times = {each.name: each.cron_schedule for each in schedules.schedules()}
    assert times == {
        name: "15 3 * * *" if job == of else cron for name, (job, cron) in SCHEDULES.items()
    }
    for wrong in ("at five", "61 5 * * *", "0 5 * *"):
        monkeypatch.setenv(variable, wrong)
        with pytest.raises(SettingError, match="Expected is a cron expression") as raised:
            schedules.schedules()
        assert f"{variable}={wrong!r}" in str(raised.value)


@pytest.mark.parametrize("name", SCHEDULES)
def test_a_tick_asks_for_its_dataset_with_its_configuration(
    name: str, finished: Run, tmp_path: Path, instance: dg.DagsterInstance
) -> None:
    dataset = "full" if "full" in name else "mini"
    # Another log than would be simulated now.
    shutil.copytree(Path(finished.lake.root, "mini"), tmp_path / dataset)
    with dg.build_schedule_context(
        instance=instance, repository_def=REPOSITORY, resources=resources(Lake(str(tmp_path)))
    ) as context:
        (request,) = REPOSITORY.get_schedule_def(name).evaluate_tick(context).run_requests
    assert request.partition_key == request.tags["dagster/partition"] == dataset
    job = defs.resolve_job_def(SCHEDULES[name][0])
    assert request.run_config == job.get_run_config_for_partition_key(dataset)
    assert dg.validate_run_config(job, request.run_config)


def scheduled(
    make: Callable[..., Any],
    dataset: Dataset,
    lake: Lake,
    instance: dg.DagsterInstance | None = None,
) -> str:
    """What a tick asks for, or why it does not."""
    with (
        contextlib.nullcontext(instance) if instance else dg.instance_for_test() as of,
        dg.build_schedule_context(of, resources=resources(lake)) as context,
    ):
        said = make(dataset, "0 5 * * *")(context)
    return said.skip_message if isinstance(said, dg.SkipReason) else said.partition_key


def test_nothing_is_scheduled_before_there_is_what_it_needs(finished: Run, tmp_path: Path) -> None:
    full, nothing = DATASETS["full"], Lake(str(tmp_path / "nothing"))
    no_model = "full: no model is live. Run the job `everything` for full first."
    assert scheduled(schedules.rescore_daily, full, nothing) == no_model
    assert scheduled(schedules.retrain_weekly, full, nothing) == no_model.replace(
        "no model is live", "there is no feature table"
    )
    lake = copy(finished.lake, tmp_path / "lake")
    lake.write_polars("mini", MODEL_REGISTRY, tables(lake, "model_registry")["model_registry"][:0])
    said = scheduled(schedules.rescore_daily, DATASETS["mini"], lake)
    assert said == no_model.replace("full", "mini")


def test_nothing_is_trained_before_there_is_enough_to_learn_from(
    finished: Run, tmp_path: Path
) -> None:
    mini, lake = DATASETS["mini"], copy(finished.lake, tmp_path / "lake")
    assert scheduled(schedules.retrain_weekly, mini, lake) == "mini"
    of_few_users(lake)
    said = scheduled(schedules.retrain_weekly, mini, lake)
    assert said.startswith(
        "mini: 3 users churned; at least 10 are needed to train and test a model"
    )
    of_few_days(lake)
    said = scheduled(schedules.retrain_weekly, mini, lake)
    assert said.startswith("mini: The log covers 12 days (2018-10-01 to 2018-10-13); no cutoff lea")
    assert "A model can be trained from day 24 on; sooner, with a shorter horizon." in said


AS_IT_WAS = "mini: the log and the live model are as at the last scoring."


@pytest.fixture
def mini() -> Dataset:
    """The dataset whose simulated log `finished` read."""
    return replace(DATASETS["mini"], users=100, seed=5)


def test_a_simulated_log_is_scored_again_when_it_is_another_one(
    mini: Dataset, finished: Run
) -> None:
    assert scheduled(schedules.rescore_daily, mini, finished.lake) == AS_IT_WAS
    assert scheduled(schedules.rescore_daily, replace(mini, seed=6), finished.lake) == "mini"


def said_again(lake: Lake, table: str, **said: Any) -> None:
    """The same table, of which its commit says something else."""
    rows, known = lake.read_polars("mini", TABLES[table]), lake.version("mini", table).metadata
    lake.write_polars("mini", TABLES[table], rows, known | said)


def of_few_users(lake: Lake) -> None:
    """As if but three users had ever churned after a cutoff; before one, all the others."""
    features, said = lake.read_polars("mini", FEATURE_TABLE), lake.version("mini", "feature_table")
    churned = features.filter(pl.col("label") & (pl.col("protocol") == "forecast"))
    few = pl.col("user_id").is_in(churned["user_id"].unique().sort()[:3].to_list())
    features = features.filter((pl.col("protocol") != "forecast") | ~pl.col("label") | few)
    lake.write_polars("mini", FEATURE_TABLE, features, said.metadata)


def of_few_days(lake: Lake) -> None:
    said_again(lake, "feature_table", cutoffs=[], log_end="2018-10-13", last_day="2018-10-12")


@pytest.fixture
def real(finished: Run, tmp_path: Path) -> Lake:
    """What `finished` left, as if it were of a real log."""
    lake = copy(finished.lake, tmp_path / "real")
    for table in ("raw_events", "model_registry"):
        said_again(lake, table, simulated=False)
    return lake


def test_a_source_that_cannot_be_reached_is_left_to_a_run_to_say(
    mini: Dataset, real: Lake, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(mini.source_variable, "/nowhere")
    assert scheduled(schedules.rescore_daily, mini, real) == "mini"


def test_real_users_are_not_scored_by_a_model_of_simulated_ones(
    mini: Dataset, finished: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(mini.source_variable, "/logs")
    said = scheduled(schedules.rescore_daily, mini, finished.lake)
    assert said.startswith("mini: the live model learned from a simulated log. Run the job `everyt")


def test_a_simulated_log_does_not_take_the_place_of_a_real_one(mini: Dataset, real: Lake) -> None:
    said = scheduled(schedules.rescore_daily, mini, real)
    assert said.endswith("would take its place. Name it in SPARKIFY_MINI_SOURCE.")


@pytest.mark.parametrize("table", ["raw_events", "user_days", "model_registry"])
def test_other_tables_and_another_live_model_are_scored_again(
    table: str, mini: Dataset, finished: Run, tmp_path: Path
) -> None:
    lake = copy(finished.lake, tmp_path / "lake")
    rows = lake.read_polars("mini", TABLES[table])
    if table == "model_registry":
        rows = rows.with_columns(model_version=pl.lit("another"))
    lake.write_polars("mini", TABLES[table], rows, lake.version("mini", table).metadata)
    assert scheduled(schedules.rescore_daily, mini, lake) == "mini"


# The sensor


@dataclass
class Sensor:
    """Ticks of the sensor, one after the other."""

    lake: Lake
    instance: dg.DagsterInstance
    cursor: str | None = None

    def tick(self) -> tuple[str, list[dg.RunRequest]]:
        """Why nothing was asked for, and what was."""
        with dg.build_sensor_context(
            instance=self.instance,
            cursor=self.cursor,
            repository_def=REPOSITORY,
            resources=resources(self.lake),
        ) as context:
            found = REPOSITORY.get_sensor_def("new_log_files").evaluate_tick(context)
        self.cursor = found.cursor
        return found.skip_message or "", list(found.run_requests or [])

    def ingested(self, dataset: Dataset) -> None:
        """A run that took in what is there now."""
        said = {"fingerprint": asdict(news.log_now(dataset))}
        self.lake.write_polars(
            dataset.name, RAW_EVENTS, pl.DataFrame(schema=RAW_EVENTS.polars_schema), said
        )


@pytest.fixture
def sensor(tmp_path: Path, instance: dg.DagsterInstance) -> Sensor:
    return Sensor(Lake(str(tmp_path / "lake")), instance)


@pytest.fixture
def logs(tmp_path: Path, mini: Dataset, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of two log files, the source of mini."""
    folder = tmp_path / "logs"
    folder.mkdir()
    for day in ("1", "2"):
        (folder / f"{day}.json").write_text("{}\n")
    monkeypatch.setenv(mini.source_variable, str(folder))
    return folder


@pytest.mark.parametrize("wrong", ["0", "-5", "2.5", "soon"])
def test_how_often_the_sensor_looks_is_set_by_the_environment(
    wrong: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(sensors.LOOK_VARIABLE, "5")
    (sensor,) = sensors.sensors()
    assert (sensor.name, sensor.minimum_interval_seconds) == ("new_log_files", 5)
    monkeypatch.setenv(sensors.LOOK_VARIABLE, wrong)
    with pytest.raises(
        SettingError, match="Expected is a whole number of seconds, at least 1"
    ) as e:
        sensors.sensors()
    assert f"SPARKIFY_LOOK_SECONDS='{wrong}'" in str(e.value)


WAITS = "not as at the last ingest; next time a run, if they stay so"


def test_a_simulated_dataset_has_no_source(sensor: Sensor) -> None:
    assert sensor.tick() == ("mini: simulated, has no source; full: simulated, has no source", [])


def test_new_files_start_a_run_once_they_are_seen_twice(sensor: Sensor, logs: Path) -> None:
    said, asked = sensor.tick()
    assert said == f"mini: 2 files, {WAITS}; full: simulated, has no source"
    assert not asked
    _, (request,) = sensor.tick()
    assert (request.job_name, request.partition_key) == ("prepare", "mini")
    assert request.tags["dagster/partition"] == "mini"
    assert request.run_config["ops"]["ingest"]["config"]["source"] == str(logs)
    assert dg.validate_run_config(defs.resolve_job_def("prepare"), request.run_config)
    # The run failed before it took the files in; it is not asked for again and again.
    said, asked = sensor.tick()
    assert "2 files, not taken in by the run that was asked for: see what it said" in said
    assert not asked


def test_a_file_that_is_still_being_written_starts_nothing(sensor: Sensor, logs: Path) -> None:
    for more in range(4):
        (logs / "2.json").write_text("{}\n" * (2 + more))
        said, asked = sensor.tick()
        assert f"mini: 2 files, {WAITS}" in said
        assert not asked
    assert sensor.tick()[1]


def test_files_are_news_when_new_changed_or_gone_and_not_after_an_ingest(
    sensor: Sensor, logs: Path, mini: Dataset
) -> None:
    keys = []
    before = (logs / "2.json").stat()

    def is_taken_in_once(files: str) -> None:
        assert f"mini: {files}, {WAITS}" in sensor.tick()[0]
        keys.extend(request.run_key for request in sensor.tick()[1])
        # By whatever run: one that was started by hand counts as well.
        sensor.ingested(mini)
        assert sensor.tick() == (
            f"mini: {files}, as at the last ingest, but the features are not made of it: see what "
            "the run said; full: simulated, has no source",
            [],
        )

    is_taken_in_once("2 files")
    os.utime(logs / "2.json", ns=(before.st_atime_ns, before.st_mtime_ns + 1))
    is_taken_in_once("2 files")
    (logs / "3.json").write_text("{}\n")
    is_taken_in_once("3 files")
    (logs / "1.json").unlink()
    is_taken_in_once("2 files")
    (logs / "2.json").unlink()
    is_taken_in_once("1 file")
    (logs / "2.json").write_text("{}\n{}\n")
    is_taken_in_once("2 files")
    (logs / "2.json").unlink()
    is_taken_in_once("1 file")  # as it once was, and yet another run
    assert len(set(keys)) == len(keys) == 7


def test_with_a_live_model_new_files_are_scored_only(
    finished: Run, real: Lake, logs: Path, instance: dg.DagsterInstance
) -> None:
    for lake, job in ((real, "rescore"), (finished.lake, "prepare")):  # that is of simulated
        sensor = Sensor(lake, instance)
        sensor.tick()
        _, (request,) = sensor.tick()
        assert request.job_name == job
        assert dg.validate_run_config(defs.resolve_job_def(job), request.run_config)


@pytest.fixture
def untrained(real: Lake, mini: Dataset, logs: Path) -> Lake:
    """The files are taken in and the features made, but no model was ever trained."""
    said_again(real, "raw_events", fingerprint=asdict(news.log_now(mini)))
    for table, of in (
        ("cleaned_events", "raw_events"),
        ("user_days", "cleaned_events"),
        ("feature_table", "user_days"),
    ):
        said_again(real, table, **{of: real.version("mini", of).number})
    shutil.rmtree(Path(real.root, "mini", "model_registry"))
    return real


def test_a_first_model_is_trained_as_soon_as_it_can_be(
    untrained: Lake, instance: dg.DagsterInstance
) -> None:
    sensor = Sensor(untrained, instance)
    _, (first,) = sensor.tick()
    assert (first.job_name, first.partition_key) == ("retrain", "mini")
    assert dg.validate_run_config(defs.resolve_job_def("retrain"), first.run_config)
    _, (again,) = sensor.tick()  # of which Dagster makes one run
    assert again.run_key == first.run_key
    key = {"dagster/run_key": first.run_key}
    instance.add_run(
        dg.DagsterRun("retrain", tags=key, status=dg.DagsterRunStatus.FAILURE)  # was refused
    )
    said, asked = sensor.tick()
    assert not asked
    assert said.startswith("mini: 2 files, as at the last ingest; no model went live: see what")
    said_again(untrained, "feature_table")  # by the files of a new day
    _, (next_day,) = sensor.tick()
    assert (next_day.job_name, next_day.run_key == first.run_key) == ("retrain", False)


def test_a_tick_says_what_a_first_model_waits_for(
    untrained: Lake, instance: dg.DagsterInstance
) -> None:
    sensor = Sensor(untrained, instance)
    of_few_days(untrained)
    said, asked = sensor.tick()
    assert not asked
    assert said.startswith(
        "mini: 2 files, as at the last ingest; no model is live, and none can be trained yet: The "
        "log covers 12 days"
    )
    assert "A model can be trained from day 24 on" in said


def test_news_of_the_source_comes_before_a_first_model(
    untrained: Lake, logs: Path, instance: dg.DagsterInstance
) -> None:
    (logs / "3.json").write_text("{}\n")
    sensor = Sensor(untrained, instance)
    assert f"mini: 3 files, {WAITS}" in sensor.tick()[0]
    assert [request.job_name for request in sensor.tick()[1]] == ["prepare"]


def test_a_source_that_cannot_be_reached_does_not_stop_the_others(
    sensor: Sensor, logs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SPARKIFY_FULL_SOURCE", "/nowhere")
    said, _ = sensor.tick()
    assert said.endswith(
        "full: cannot be looked at: SPARKIFY_FULL_SOURCE=/nowhere: there is no such file or folder."
    )
    assert [request.partition_key for request in sensor.tick()[1]] == ["mini"]


# Rescoring


@pytest.fixture(scope="module")
def rescored(finished: Run, simulated_log: Path, tmp_path_factory: pytest.TempPathFactory) -> Run:
    lake = copy(finished.lake, tmp_path_factory.mktemp("rescored"))
    return run(lake, simulated_log, job="rescore")


def test_rescoring_makes_scores_by_the_live_model_and_trains_nothing(
    rescored: Run, finished: Run
) -> None:
    assert rescored.success
    assert set(rescored.materialized) == JOBS["rescore"][0]
    assert set(rescored.checks) == JOBS["rescore"][1]
    assert all(rescored.checks.values())
    assert versions(rescored.lake) == {name: int(name not in MODEL) for name in TABLES}
    before, after = (
        without_times(tables(lake, "churn_scores")["churn_scores"])
        for lake in (finished.lake, rescored.lake)
    )
    assert_frame_equal(after, before, check_exact=True)
    live = news.live_version(finished.lake, "mini")
    assert set(after["model_version"]) == {live}


def test_what_was_rescored_is_no_news(
    rescored: Run,
    simulated_log: Path,
    mini: Dataset,
    instance: dg.DagsterInstance,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv(mini.source_variable, str(simulated_log))
    lake = copy(rescored.lake, tmp_path / "lake")
    said_again(lake, "model_registry", simulated=False)
    assert scheduled(schedules.rescore_daily, mini, lake) == AS_IT_WAS
    said, _ = Sensor(lake, instance).tick()
    assert said.startswith("mini: 1 file, as at the last ingest; full")


def test_rescoring_without_a_model_says_what_to_run(finished: Run, tmp_path: Path) -> None:
    lake = copy(finished.lake, tmp_path / "lake")
    shutil.rmtree(Path(lake.root, "mini", "model_registry"))
    found = run(lake, None, "churn_scores", job="rescore")
    assert not found.success
    assert "The table model_registry of mini is not in the lake" in found.said
    assert "the job `everything` makes all tables" in found.said
    assert lake.version("mini", "churn_scores").number == 0


# Freshness

NOON = datetime(2026, 11, 24, 12, tzinfo=timezone.utc)


@pytest.mark.parametrize(
    ("hours", "passed", "found"),
    [
        (0, True, "0.0 hours old, made on 2026-11-24 at 12:00 UTC"),
        (30, True, "30.0 hours old, made on 2026-11-23 at 06:00 UTC"),
        (30.5, False, "30.5 hours old, made on 2026-11-23 at 05:30 UTC"),
        (None, False, "there are none"),
    ],
)
def test_scores_are_judged_by_their_age(hours: float | None, passed: bool, found: str) -> None:
    made_at = None if hours is None else NOON - timedelta(hours=hours)
    result = judged(DATASETS["full"], made_at, NOON)
    assert (result.passed, result.severity) == (passed, dg.AssetCheckSeverity.WARN)
    assert result.description
    assert result.description.startswith(
        f"Expected: scores of full at most 30 hours old. Found: {found}."
    )
    assert ("Run the job" in result.description) == (not passed)


def test_a_run_on_mini_does_not_make_full_look_fresh(finished: Run) -> None:
    job = build_defs(resources(finished.lake)).resolve_job_def("check_freshness")
    passed = {}
    for name in DATASETS:
        result = job.execute_in_process(instance=dg.DagsterInstance.ephemeral(), partition_key=name)
        (check,) = result.get_asset_check_evaluations()
        passed[check.partition] = check.passed
    assert passed == {"mini": True, "full": False}


# The queue

SETTINGS = Path(__file__).parents[1] / ".dagster" / "dagster.yaml"
LAUNCH = """mutation($params: ExecutionParams!) { launchRun(executionParams: $params) {
    __typename ... on LaunchRunSuccess { run { runId } } ... on PythonError { message } } }"""


class Queue:
    """The project's Dagster instance with its daemons; what is launched is only noted down."""

    def __init__(self, instance: dg.DagsterInstance, workspace: Any) -> None:
        from dagster._daemon.run_coordinator import QueuedRunCoordinatorDaemon

        self.instance, self._workspace = instance, workspace
        self._daemon = QueuedRunCoordinatorDaemon(interval_seconds=1)

    def launch(self, job: str, dataset: str) -> str:
        """As the UI does; the run's id."""
        from dagster_graphql.cli import execute_query

        (location,) = self._workspace.create_request_context().code_locations
        selector = {
            "repositoryLocationName": location.name,
            "repositoryName": "__repository__",
            "jobName": job,
        }
        config = defs.resolve_job_def(job).get_run_config_for_partition_key(dataset)
        params = {
            "selector": selector,
            "runConfigData": json.dumps(config),
            "executionMetadata": {"tags": [{"key": "dagster/partition", "value": dataset}]},
        }
        answer = execute_query(self._workspace, LAUNCH, {"params": params})
        return answer["data"]["launchRun"]["run"]["runId"]

    def under_way(self) -> list[str]:
        """The runs that are under way after the daemon has looked at the queue."""
        list(self._daemon.run_iteration(self._workspace))
        statuses = [dg.DagsterRunStatus.STARTING, dg.DagsterRunStatus.STARTED]
        return [run.run_id for run in self.instance.get_runs(dg.RunsFilter(statuses=statuses))]

    def end(self, run_id: str) -> None:
        run = self.instance.get_run_by_id(run_id)
        assert run
        self.instance.report_run_canceled(run)

    def crash(self, run_id: str) -> None:
        """As the code server says of a run whose process died."""
        run = self.instance.get_run_by_id(run_id)
        assert run
        self.instance.report_run_failed(run)

    def retries(self, run_id: str) -> list[dg.DagsterRun]:
        """What the daemon starts again after a run has failed."""
        from dagster._daemon.auto_run_reexecution.auto_run_reexecution import (
            consume_new_runs_for_automatic_reexecution,
        )

        records = self.instance.get_run_records(dg.RunsFilter(run_ids=[run_id]))
        logger = logging.getLogger("retries")
        list(consume_new_runs_for_automatic_reexecution(self._workspace, records, logger))
        return [each for each in self.instance.get_runs() if each.parent_run_id == run_id]


@pytest.fixture
def queue(request: pytest.FixtureRequest) -> Iterator[Queue]:
    """A new one, as in a fresh clone. The private imports are all in here and in Queue.

    With a parameter runs of different datasets do not queue, as the settings say one may choose.
    """
    from dagster._core.remote_origin import InProcessCodeLocationOrigin
    from dagster._core.types.loadable_target_origin import LoadableTargetOrigin
    from dagster._core.workspace.context import WorkspaceProcessContext
    from dagster._core.workspace.load_target import InProcessWorkspaceLoadTarget

    settings = yaml.safe_load(SETTINGS.read_text())
    if hasattr(request, "param"):
        (limit,) = settings["concurrency"]["runs"]["tag_concurrency_limits"]
        limit["value"] = {"applyLimitPerUniqueValue": True}
    settings["run_launcher"] = {
        "module": "dagster._core.test_utils",
        "class": "MockedRunLauncher",
    }
    project = LoadableTargetOrigin(
        executable_path=sys.executable, module_name="sparkify_assets.definitions"
    )
    target = InProcessWorkspaceLoadTarget(InProcessCodeLocationOrigin(project))
    with (
        dg.instance_for_test(overrides=settings) as instance,
        WorkspaceProcessContext(instance, target) as workspace,
    ):
        yield Queue(instance, workspace)


def test_one_run_at_a_time_and_the_others_queue(queue: Queue) -> None:
    launched = [
        queue.launch("retrain", "mini"),
        queue.launch("retrain", "full"),
        queue.launch("rescore", "mini"),
    ]
    for run_id in launched:
        assert queue.under_way() == [run_id]
        assert queue.under_way() == [run_id]
        queue.end(run_id)
    assert queue.under_way() == []


@pytest.mark.parametrize(
    ("job", "make"),
    [
        ("rescore", schedules.rescore_daily),
        ("retrain", schedules.retrain_weekly),
        ("check_freshness", schedules.check_freshness_hourly),
        ("housekeeping", schedules.housekeeping_weekly),
    ],
)
def test_no_schedule_asks_for_what_is_queued(
    queue: Queue, tmp_path: Path, job: str, make: Callable[..., Any]
) -> None:
    lake, mini, under_way = Lake(str(tmp_path / "lake")), DATASETS["mini"], "such a run is queued"
    other = queue.launch("everything", "mini")
    assert under_way not in str(scheduled(make, mini, lake, queue.instance))
    same = queue.launch(job, "mini")
    assert under_way in str(scheduled(make, mini, lake, queue.instance))
    for run_id in (other, same):
        queue.end(run_id)


def test_nothing_is_asked_for_while_a_run_may_take_the_files_in(
    queue: Queue, logs: Path, tmp_path: Path
) -> None:
    sensor = Sensor(Lake(str(tmp_path / "lake")), queue.instance)
    sensor.tick()
    run_id = queue.launch("everything", "mini")
    assert sensor.tick()[0].startswith("mini: a run is queued or under way; full: ")
    assert queue.under_way() == [run_id]
    assert sensor.tick()[0].startswith("mini: a run is queued or under way; full: ")
    queue.end(run_id)
    assert [request.partition_key for request in sensor.tick()[1]] == ["mini"]


@pytest.mark.parametrize("queue", ["by dataset"], indirect=True)
def test_where_more_runs_are_allowed_two_on_a_dataset_still_queue(queue: Queue) -> None:
    first, second, other = (
        queue.launch("check_freshness", dataset) for dataset in ("mini", "mini", "full")
    )
    for _ in range(2):
        assert set(queue.under_way()) == {first, other}
    queue.end(first)
    assert set(queue.under_way()) == {second, other}


def test_a_run_whose_process_died_is_started_again_once(queue: Queue) -> None:
    first = queue.launch("rescore", "mini")
    queue.under_way()
    queue.crash(first)
    (second,) = queue.retries(first)
    assert (second.job_name, second.tags["dagster/partition"]) == ("rescore", "mini")
    assert queue.under_way() == [second.run_id]
    queue.crash(second.run_id)
    assert queue.retries(second.run_id) == []


def test_a_run_that_says_what_is_wrong_is_not_started_again(queue: Queue, tmp_path: Path) -> None:
    job = build_defs(resources(Lake(str(tmp_path)))).resolve_job_def("retrain")
    failed = job.execute_in_process(
        instance=queue.instance, partition_key="mini", raise_on_error=False
    )
    assert not failed.success
    assert failed.dagster_run.tags["dagster/max_retries"] == "1"
    assert queue.retries(failed.run_id) == []
