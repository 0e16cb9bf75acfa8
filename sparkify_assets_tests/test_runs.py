"""Runs whose process is gone, and taking turns."""

from __future__ import annotations

import platform
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import dagster as dg
import psutil
import pytest

from sparkify_assets.__main__ import main
from sparkify_assets.automation import runs

SIGN = """
import sys, dagster as dg
from sparkify_assets.__main__ import main
from sparkify_assets.automation import runs
with dg.DagsterInstance.get() as instance:
    runs.sign(instance, sys.argv[1])
print("signed", flush=True)
sys.stdin.read()
"""


@dg.op
def nothing() -> None: ...


@dg.job
def some_job() -> None:
    nothing()


@pytest.fixture
def instance(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[dg.DagsterInstance]:
    monkeypatch.setenv("DAGSTER_HOME", str(tmp_path))
    (tmp_path / "dagster.yaml").write_text("telemetry: {enabled: false}\n")
    with dg.DagsterInstance.get() as made:
        yield made


def started(instance: dg.DagsterInstance, dataset: str = "mini", **tags: str) -> dg.DagsterRun:
    return instance.create_run_for_job(
        some_job, status=dg.DagsterRunStatus.STARTED, tags={"dagster/partition": dataset, **tags}
    )


def signed_by_another(run: dg.DagsterRun) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-W", "ignore", "-c", SIGN, run.run_id]
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert process.stdout
    assert process.stdout.readline() == b"signed\n"
    return process


def status(instance: dg.DagsterInstance, run: dg.DagsterRun) -> dg.DagsterRunStatus:
    found = instance.get_run_by_id(run.run_id)
    assert found
    return found.status


def test_a_run_whose_process_was_killed_is_ended(instance: dg.DagsterInstance) -> None:
    run = started(instance)
    process = signed_by_another(run)
    runs.end_lost(instance)
    assert status(instance, run) == dg.DagsterRunStatus.STARTED
    process.kill()
    found = psutil.Process(process.pid)
    while found.status() != psutil.STATUS_ZOMBIE:
        time.sleep(0.01)
    runs.end_lost(instance)
    assert status(instance, run) == dg.DagsterRunStatus.FAILURE
    process.wait()


def test_what_is_not_known_to_be_gone_is_left_alone(
    instance: dg.DagsterInstance, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = started(instance)
    process = signed_by_another(first)
    process.communicate()
    signed = instance.get_run_by_id(first.run_id)
    assert signed
    repeat = started(instance, **signed.tags)  # has not come to signing yet
    done = started(instance)
    runs.sign(instance, done.run_id)
    instance.report_run_canceled(done)
    with monkeypatch.context() as elsewhere:
        elsewhere.setattr(platform, "node", lambda: "elsewhere")
        runs.end_lost(instance)
    assert status(instance, first) == dg.DagsterRunStatus.STARTED
    runs.end_lost(instance)
    assert status(instance, first) == dg.DagsterRunStatus.FAILURE
    assert status(instance, repeat) == dg.DagsterRunStatus.STARTED
    assert status(instance, done) == dg.DagsterRunStatus.CANCELED


def test_a_number_that_was_given_again_is_another_process(
    instance: dg.DagsterInstance, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = started(instance)
    runs.sign(instance, run.run_id)
    runs.end_lost(instance)
    assert status(instance, run) == dg.DagsterRunStatus.STARTED
    later = psutil.Process().create_time() + 100
    monkeypatch.setattr(psutil.Process, "create_time", lambda self: later)
    runs.end_lost(instance)
    assert status(instance, run) == dg.DagsterRunStatus.FAILURE


def test_one_waits_for_a_run_of_the_same_dataset(
    instance: dg.DagsterInstance, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(runs, "_PATIENCE_SECONDS", 0.05)
    said: list[str] = []
    run = started(instance)
    runs.sign(instance, run.run_id)
    runs.wait_for_turn(instance, "full", said.append)
    assert said == []
    waiting = threading.Thread(target=runs.wait_for_turn, args=(instance, "mini", said.append))
    waiting.start()
    waiting.join(0.5)
    assert waiting.is_alive()
    instance.report_run_canceled(run)
    waiting.join(10)
    assert not waiting.is_alive()
    assert said == [f"Waiting for the run {run.run_id[:8]} of mini to end; Ctrl-C to give up."]


def test_one_does_not_wait_for_a_run_whose_process_is_gone(instance: dg.DagsterInstance) -> None:
    run = started(instance)
    signed_by_another(run).communicate()
    runs.wait_for_turn(instance, "mini", lambda words: pytest.fail(words))
    assert status(instance, run) == dg.DagsterRunStatus.FAILURE


def test_who_does_not_want_to_wait_gives_up(
    instance: dg.DagsterInstance,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    def interrupted(seconds: float) -> None:
        raise KeyboardInterrupt

    runs.sign(instance, started(instance).run_id)
    monkeypatch.setattr(runs.time, "sleep", interrupted)
    monkeypatch.setenv("SPARKIFY_LAKE", str(tmp_path / "lake"))
    assert main(["--partition", "mini"]) == 130
    assert "Nothing was run" in capsys.readouterr().err
    assert not (tmp_path / "lake").exists()
