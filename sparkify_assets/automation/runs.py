"""The runs of a dataset, as Dagster's instance knows them.

Belongs here: what is asked of runs before more are asked for, and ending those whose process is
gone. Does not belong here: what is then done (`schedules.py`, `sensors.py`, `__main__.py`).
"""

from __future__ import annotations

import json
import os
import platform
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass

import dagster as dg
import psutil

_PROCESS_TAG = "sparkify/process"
_PATIENCE_SECONDS = 2
_CLOCK_SECONDS = 5  # by which the clock may be set while a process runs
_BEGUN = [
    dg.DagsterRunStatus.STARTING,
    dg.DagsterRunStatus.STARTED,
    dg.DagsterRunStatus.CANCELING,
]
_UNDER_WAY = [dg.DagsterRunStatus.QUEUED, dg.DagsterRunStatus.NOT_STARTED, *_BEGUN]


def used_instance() -> dg.DagsterInstance:
    """That of DAGSTER_HOME; where that is not set, one that nobody else knows and that is gone."""
    known = "DAGSTER_HOME" in os.environ
    return dg.DagsterInstance.get() if known else dg.DagsterInstance.ephemeral()


def is_under_way(instance: dg.DagsterInstance, dataset: str, job: str | None = None) -> bool:
    """Whether a run of the dataset, or of one job on it, is queued or under way."""
    tags = {"dagster/partition": dataset}
    runs = dg.RunsFilter(job_name=job, tags=tags, statuses=_UNDER_WAY)
    return bool(instance.get_runs_count(runs))


def was_asked_for(instance: dg.DagsterInstance, run_key: str) -> bool:
    """Whether there is a run, whatever became of it, that was asked for with this key."""
    return bool(instance.get_runs_count(dg.RunsFilter(tags={"dagster/run_key": run_key})))


def sign(instance: dg.DagsterInstance, run_id: str) -> None:
    """Note which process runs a run: this one."""
    instance.add_run_tags(run_id, {_PROCESS_TAG: _Process.this(run_id).to_tag()})


def end_lost(instance: dg.DagsterInstance) -> None:
    """Mark runs as failed whose process on this machine is gone.

    Where it was killed, or the machine went down, others of the dataset would queue behind them.
    """
    for run in instance.get_runs(dg.RunsFilter(statuses=_BEGUN)):
        process = _Process.of_tag(run.tags.get(_PROCESS_TAG))
        # A repeat of a run has its tags.
        if not process or process.run_id != run.run_id or not process.is_gone():
            continue
        now = instance.get_run_by_id(run.run_id)
        if now and now.status in _BEGUN:
            instance.report_run_failed(run, f"The process of this run ({process.pid}) is gone.")


@dataclass(frozen=True)
class _Process:
    """Of a run, with its start, since numbers are given again."""

    host: str
    run_id: str
    pid: int
    started: int  # seconds since 1970

    @classmethod
    def this(cls, run_id: str) -> _Process:
        this = psutil.Process()
        return cls(platform.node(), run_id, this.pid, int(this.create_time()))

    @classmethod
    def of_tag(cls, tag: str | None) -> _Process | None:
        return cls(**json.loads(tag)) if tag else None

    def to_tag(self) -> str:
        return json.dumps(asdict(self))

    def is_gone(self) -> bool:
        """False for one of another machine, of which nothing is known here."""
        if self.host != platform.node():
            return False
        try:
            found = psutil.Process(self.pid)
            same = abs(found.create_time() - self.started) <= _CLOCK_SECONDS
            return not same or found.status() == psutil.STATUS_ZOMBIE
        except psutil.NoSuchProcess:
            return True


def wait_for_turn(instance: dg.DagsterInstance, dataset: str, said: Callable[[str], None]) -> None:
    """Wait while a run of the dataset is under way; `said` is told what is waited for, once."""
    filtered = dg.RunsFilter(tags={"dagster/partition": dataset}, statuses=_BEGUN)
    told = None
    end_lost(instance)
    while others := instance.get_runs(filtered, limit=1):
        if told != (told := others[0].run_id):
            said(f"Waiting for the run {told[:8]} of {dataset} to end; Ctrl-C to give up.")
        time.sleep(_PATIENCE_SECONDS)
        end_lost(instance)
