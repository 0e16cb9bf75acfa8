"""Runs that are killed, and runs that meet: what is read meanwhile, and what is made in the end."""

from __future__ import annotations

import contextlib
import random
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from sparkify_assets.resources.lake import Lake
from sparkify_assets_tests.faults import (
    KILLS,
    PROJECT,
    Reader,
    Scene,
    attempt,
    different,
    growing_log,
    running,
    scene,
)
from sparkify_assets_tests.running import environment


@pytest.fixture(scope="module")
def grown(tmp_path_factory: pytest.TempPathFactory) -> Scene:
    folder = tmp_path_factory.mktemp("faults")
    return scene(folder, "prepare", *growing_log(folder, users=40, days=4, seed=2))


@pytest.mark.parametrize(
    ("seed", "kill", "step"),
    [
        (1, "run", "ingest"),
        (2, "run", "users_and_days"),
        (3, "run", "feature_table"),
        (4, "jvm", "clean_events"),
        (5, "worker", "ingest"),
    ],
)
def test_a_kill_loses_nothing(grown: Scene, seed: int, kill: str, step: str) -> None:
    trial = attempt(grown, kill, KILLS[kill], step, random.Random(seed))
    assert trial.struck_after is not None, trial.said
    assert trial.went_on == (kill != "run"), trial.said
    assert not trial.next_failed
    assert trial.reads >= len(grown.tables)
    assert not trial.wrong


@pytest.fixture
def lake(grown: Scene, tmp_path: Path) -> Lake:
    """As before the log had grown."""
    return Lake(shutil.copytree(grown.before.root, str(tmp_path / "lake")))


def test_two_runs_on_one_dataset_at_the_same_time(grown: Scene, lake: Lake, tmp_path: Path) -> None:
    """Which do not know of each other, as those of two machines."""
    with contextlib.ExitStack() as stack:
        reader = stack.enter_context(Reader(lake, grown))
        two = [
            stack.enter_context(running(grown.job, lake, grown.source, tmp_path / name))
            for name in ("one", "other")
        ]
        succeeded = [run.wait() for run in two]
        made = [commit for run in two for commit in run.commits()]
    assert any(succeeded), [run.log.read_text() for run in two]
    for run, well in zip(two, succeeded, strict=True):
        # A check may come when the other one has replaced what is to be compared.
        assert well or "leaks cannot be looked for" in run.log.read_text()
    assert reader.reads >= len(grown.tables)
    assert reader.wrong == []
    assert different(lake, grown) == []
    assert len(made) > len(grown.tables)
    for name in grown.tables:
        newest = lake.version("mini", name)
        there = {each.number: each for each in (newest, *lake.earlier("mini", name, 9))}
        for table, number, run_id in made:
            if table == name:
                assert there[number].metadata["run_id"] == run_id, "no commit is lost"


def test_mini_and_full_at_the_same_time(grown: Scene, lake: Lake, tmp_path: Path) -> None:
    with contextlib.ExitStack() as stack:
        reader = stack.enter_context(Reader(lake, grown))
        two = [
            stack.enter_context(running(grown.job, lake, grown.source, tmp_path / name, name))
            for name in ("mini", "full")
        ]
        assert [run.wait() for run in two] == [True, True], [run.log.read_text() for run in two]
    assert reader.wrong == []
    assert different(lake, grown) == []
    assert different(lake, grown, "full") == []


def test_the_command_line_waits_for_a_run_of_the_same_dataset(
    grown: Scene, lake: Lake, tmp_path: Path
) -> None:
    home = tmp_path / "home"
    environ = environment(lake, None) | {
        "SPARKIFY_MINI_SOURCE": str(grown.source),
        "DAGSTER_HOME": str(home),
    }
    with running(grown.job, lake, grown.source, home) as first:
        assert first.wait_for("ingest")
        command = [sys.executable, "-m", "sparkify_assets", "--job", grown.job]
        said = subprocess.run(command, env=environ, cwd=PROJECT, capture_output=True, text=True)
        assert first.wait()
        (record,) = first.instance.get_run_records(limit=1)
        (earlier,) = first.instance.get_run_records(limit=1, cursor=record.dagster_run.run_id)
    assert said.returncode == 0, said.stderr
    assert f"Waiting for the run {first.id[:8]} of mini to end" in said.stderr
    assert earlier.dagster_run.run_id == first.id
    assert earlier.end_time
    assert record.start_time
    assert record.start_time >= earlier.end_time
    assert different(lake, grown) == []
