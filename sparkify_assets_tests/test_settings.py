"""A run's configuration: filled in by dataset, refused before anything runs, the same for all."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import dagster as dg
import pytest
from pydantic import ValidationError

from sparkify_assets.datasets import DATASETS, SETTINGS, check_settings, dataset_config
from sparkify_assets.definitions import build_defs, defs
from sparkify_assets.errors import SettingError
from sparkify_assets.resources.lake import Lake
from sparkify_assets.resources.spark import SparkResource
from sparkify_assets_tests.running import run


def config(name: str) -> dict[str, Any]:
    return dataset_config.get_run_config_for_partition_key(name)  # type: ignore[return-value]


@pytest.mark.parametrize("name", DATASETS)
def test_the_job_takes_a_datasets_configuration(name: str) -> None:
    filled = config(name)
    assert dg.validate_run_config(defs.resolve_job_def("everything"), filled)
    check_settings(filled)
    chosen = DATASETS[name]
    ops = {op: given["config"] for op, given in filled["ops"].items()}
    assert ops["evaluation_metrics"]["resamples"] == chosen.resamples
    assert ops["evaluation_predictions"]["repeats"] == chosen.repeats
    assert ops["feature_table"] == {
        "horizon_days": 10,
        "cutoff_every_days": 7,
        "first_cutoff_day": 14,
    }
    # Nothing is left to be guessed but the source of a simulated log.
    left = {k for given in ops.values() for k, v in given.items() if v is None}
    assert left == {"source", "as_of"}


def test_a_source_with_a_secret_is_not_told_to_dagster(monkeypatch: pytest.MonkeyPatch) -> None:
    for source, shown in {
        "/logs/mini.json": "/logs/mini.json",
        "https://host/log.json?signature=secret": None,
        "s3://key:secret@bucket/log": None,
    }.items():
        monkeypatch.setenv("SPARKIFY_MINI_SOURCE", source)
        assert config("mini")["ops"]["ingest"]["config"]["source"] == shown


def test_every_setting_is_described() -> None:
    for op, settings in SETTINGS.items():
        for name, field in settings.model_fields.items():
            assert field.description, f"{op}.{name}"
    for name in ("master", "driver_memory", "spark_config"):
        assert SparkResource.model_fields[name].description


def test_every_op_that_has_settings_is_checked() -> None:
    job = build_defs().resolve_job_def("everything")
    with_settings = {
        node.name
        for node in job.graph.node_defs
        if isinstance(node, dg.OpDefinition) and node.has_config_field and "__" not in node.name
    }
    assert set(SETTINGS) == {name for name in with_settings if "_usual" not in name} & set(SETTINGS)
    assert set(SETTINGS) <= with_settings


@pytest.mark.parametrize(
    ("op", "setting", "value", "said"),
    [
        ("feature_table", "horizon_days", 0, "must be at least 1 and at most 365"),
        ("feature_table", "first_cutoff_day", 0, "must be at least 1 and at most 3,650"),
        ("ingest", "max_rejected_share", 2.0, "must be at least 0 and at most 1"),
        ("evaluation_metrics", "resamples", 1, "must be at least 100 and at most 10,000"),
        ("model_trials", "search_seconds", 0.0, "must be more than 0 and at most 86,400"),
        ("churn_factors", "folds", 1, "must be at least 2 and at most 20"),
        ("churn_scores", "as_of", "yesterday", "must be as described"),
    ],
)
def test_a_wrong_setting_is_named_with_its_range(
    op: str, setting: str, value: float, said: str
) -> None:
    with pytest.raises(SettingError) as error:
        check_settings({"ops": {op: {"config": {setting: value}}}})
    description = SETTINGS[op].model_fields[setting].description
    assert f"{op}.{setting} is {value!r}, but {said} ({description})" in str(error.value)


def test_what_comes_from_the_environment_is_left_to_dagster() -> None:
    check_settings({"ops": {"ingest": {"config": {"source": {"env": "A_SECRET"}}}}})
    check_settings({"ops": None, "resources": None})


def test_a_wrong_setting_of_spark_is_named_as_well() -> None:
    wrong = {"resources": {"pyspark": {"config": {"master": "two cores"}}}}
    with pytest.raises(SettingError, match=r"pyspark\.master is 'two cores', but must be as desc"):
        check_settings(wrong)


def test_all_wrong_settings_are_named_together() -> None:
    wrong = {
        "ops": {
            "feature_table": {"config": {"horizon_days": 400}},
            "trained_model": {"config": {"folds": 50, "seed": -1}},
        }
    }
    with pytest.raises(SettingError, match=r"horizon_days.*folds.*seed"):
        check_settings(wrong)


def test_a_wrong_setting_is_refused_before_anything_runs(
    tmp_path: Path,
) -> None:
    lake = Lake(str(tmp_path / "lake"))
    found = run(lake, None, feature_table={"horizon_days": 0})
    assert not found.success
    assert found.materialized == {}
    assert "FAILED: The run's configuration cannot be used: feature_table.horizon_d" in found.said
    assert not (tmp_path / "lake").exists()


def test_what_a_run_sets_of_spark_is_stronger_than_the_users_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    chosen = {"spark.driver.memory": "2g", "spark.executor.memory": "4g"}
    (tmp_path / "spark-defaults.conf").write_text("spark.master local[3]\nspark.driver.memory 3g\n")
    monkeypatch.setenv("SPARK_CONF_DIR", str(tmp_path))
    filled = config("mini")["resources"]["pyspark"]["config"]
    assert filled == {"master": None, "driver_memory": None, "spark_config": {}}
    assert not {"spark.master", "spark.driver.memory"} & set(SparkResource(**filled).settings)
    given = SparkResource(driver_memory="2g", spark_config={"spark.executor.memory": "4g"})
    assert chosen.items() <= given.settings.items()
    monkeypatch.delenv("SPARK_CONF_DIR")
    settings = SparkResource(master="local[1]").settings
    assert settings["spark.master"] == "local[1,4]"
    assert settings["spark.sql.shuffle.partitions"] == "4"


@pytest.mark.parametrize(
    ("setting", "good", "wrong"),
    [
        ("master", "local[2]", "local[0]"),
        ("master", "local[*]", "two cores"),
        ("master", "spark://host:7077", "http://host"),
        ("driver_memory", "1500m", "much"),
        ("driver_memory", "2G", "0g"),
    ],
)
def test_sparks_settings_are_checked(setting: str, good: str, wrong: str) -> None:
    assert getattr(SparkResource(**{setting: good}), setting) == good
    with pytest.raises(ValidationError, match=setting):
        SparkResource(**{setting: wrong})
