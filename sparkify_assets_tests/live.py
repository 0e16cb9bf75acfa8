"""A log that grows by a day's file every day, as Dagster's daemon takes it in; with kills.

Belongs here: showing the daemon one day after the other, killing its runs, waiting until a day is
taken in, what that took, and whether two lakes hold the same. Does not belong here: what is
expected of it (`test_live.py`), and figures for the docs (`benchmarks`).
"""

from __future__ import annotations

import contextlib
import math
import os
import random
import shutil
import signal
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import dagster as dg
import polars as pl
from dagster._core.scheduler.instigation import InstigatorTick, InstigatorType, TickStatus
from polars.testing import assert_frame_equal

from sparkify_assets.events import source
from sparkify_assets.resources.lake import Lake
from sparkify_assets.simulation import write_log
from sparkify_assets.tables import TABLES
from sparkify_assets_tests.cluster import free_port
from sparkify_assets_tests.running import environment, family, kill
from sparkify_assets_tests.ui import eventually

PROJECT = Path(__file__).parents[1]
DAYS = 61
# All that is made of the log alone.
PREPARED = tuple(TABLES)[: list(TABLES).index("feature_table") + 1]
_MODULE = "sparkify_assets.definitions"
_BIN = Path(sys.executable).parent
_SECONDS_TO_START = 120
_SECONDS_TO_STOP = 30
_SECONDS_OF_A_DAY = 600
_SECONDS_TO_REPEAT = 60
_USUAL_SECONDS = 20.0  # of a run, before one has ended
_ENDED = {dg.DagsterRunStatus.SUCCESS, dg.DagsterRunStatus.FAILURE, dg.DagsterRunStatus.CANCELED}


@dataclass(frozen=True)
class Ran:
    """A run that the daemon has started, and what became of it."""

    id: str
    job: str
    success: bool
    seconds: float
    parent: str | None
    """The run that it repeats, from the step on that it died in."""
    killed_after: float | None
    """Seconds from when its process was there."""
    failed_steps: tuple[str, ...]


@dataclass(frozen=True)
class Day:
    """A day's file, from when it was there until all that follows from it was made."""

    file: str
    seconds: float
    runs: list[Ran]
    lake_bytes: int


@dataclass(frozen=True)
class Played:
    """What came of a play."""

    lake: Lake
    source: Path
    days: list[Day]

    @property
    def runs(self) -> list[Ran]:
        return [run for day in self.days for run in day.runs]

    @property
    def killed(self) -> list[Ran]:
        return [run for run in self.runs if run.killed_after is not None]


def play(
    folder: Path,
    *,
    users: int = 300,
    days: int = DAYS,
    at_once: int = 1,
    seed: int = 1,
    kill_every: int = 0,
    said: Callable[[str], None] = lambda words: None,
    **settings: str,
) -> Played:
    """Show the daemon `days` days of a simulated log, one after the other, as it takes them in.

    at_once: so many days are there from the start. kill_every: one run in so many is killed at a
    random moment, by `seed`; 0: none. `said` is told of each day. `settings`: of the environment.
    The log has DAYS days whatever is shown of it, so that a day's file is always the same.
    """
    folder.mkdir(parents=True, exist_ok=True)
    log, shown, lake = folder / "log", folder / "source", Lake(str(folder / "lake"))
    if not log.exists():
        write_log(log, users=users, days=DAYS, seed=seed, daily=True)
    shown.mkdir()
    played: list[Day] = []
    killer = Killer(kill_every, random.Random(seed))
    with daemon(folder / "home", lake, shown, **settings) as watched:
        files = sorted(log.iterdir())[:days]
        for file in files[: at_once - 1]:
            reveal(file, shown)
        for file in files[at_once - 1 :]:
            began = time.time()
            reveal(file, shown)
            runs = watched.settled(shown, began, killer)
            day = Day(file.name, time.time() - began, runs, size_of(lake))
            played.append(day)
            said(in_words(day))
    return Played(lake, shown, played)


def reveal(file: Path, folder: Path) -> None:
    """Put a file into a folder at once: whole, or not there."""
    hidden = folder / f".{file.name}"
    shutil.copyfile(file, hidden)
    hidden.rename(folder / file.name)


def size_of(lake: Lake) -> int:
    """Bytes of all files of the tables."""
    return sum(file.stat().st_size for file in Path(lake.root, "mini").rglob("*") if file.is_file())


def in_words(day: Day) -> str:
    runs = ", ".join(
        f"{run.job} {'' if run.success else 'FAILED '}{run.seconds:.0f} s"
        + ("" if run.killed_after is None else f" (killed after {run.killed_after:.1f} s)")
        for run in day.runs
    )
    return f"{day.file}: {day.seconds:.0f} s, {day.lake_bytes / 1e6:.0f} MB; {runs}"


@dataclass
class Killer:
    """Kills one run in so many, at a random moment of its usual length. Repeats are let be."""

    every: int
    random: random.Random
    after: dict[str, float] = field(default_factory=dict)  # seconds, by the run's id
    _began: dict[str, float] = field(default_factory=dict)
    _spared: dict[str, float] = field(default_factory=dict)  # seconds that are left to it
    _turn_is_over: bool = True

    def look(self, run: dg.DagsterRun, pid: int, usual: float) -> None:
        """Kill a run that is under way, if it is its turn and its time."""
        if run.run_id not in self._began:
            self._began[run.run_id] = time.time()
            is_turn = self.every and len(self._began) % self.every == 0
            if run.parent_run_id is None and (is_turn or not self._turn_is_over):
                self._turn_is_over = False  # until a kill: the run may end before
                self._spared[run.run_id] = self.random.uniform(0, usual)
        seconds = time.time() - self._began[run.run_id]
        if run.run_id in self.after or seconds < self._spared.get(run.run_id, math.inf):
            return
        # The process first, so that it cannot say that what it started has gone.
        kill(family(pid))
        self.after[run.run_id] = seconds
        self._turn_is_over = True


@dataclass
class Watched:
    """A daemon that runs, seen through its instance."""

    instance: dg.DagsterInstance
    lake: Lake
    process: subprocess.Popen[bytes]
    log: Path
    _told: set[str] = field(default_factory=set)
    _lengths: dict[str, list[float]] = field(default_factory=dict)  # by job

    def settled(self, shown: Path, since: float, killer: Killer) -> list[Ran]:
        """Wait until the sensor finds that all is taken in and made; the runs of that time."""
        end = time.time() + _SECONDS_OF_A_DAY
        while not self._is_settled(shown, since, killer):
            if self.process.poll() is not None:
                raise RuntimeError(f"the daemon ended by itself:\n{self.log.read_text()[-4000:]}")
            if time.time() > end:
                tick = self._tick()
                raise TimeoutError(
                    f"not taken in after {_SECONDS_OF_A_DAY} s: {sorted(shown.iterdir())[-1]}. The "
                    f"sensor said: {tick and (tick.skip_reason or tick.error)}. The runs: "
                    + ", ".join(f"{r.job_name} {r.status.value}" for r in self.instance.get_runs())
                )
            time.sleep(0.5)
        return self._ended(killer)

    def _is_settled(self, shown: Path, since: float, killer: Killer) -> bool:
        records = self.instance.get_run_records()
        under_way = [each for each in records if each.dagster_run.status not in _ENDED]
        for each in under_way:
            # Who is not started again is let be.
            is_repeated = "dagster/max_retries" in each.dagster_run.tags
            if is_repeated and (pid := self._pid(each.dagster_run)):
                usual = self._lengths.get(each.dagster_run.job_name, [_USUAL_SECONDS])
                killer.look(each.dagster_run, pid, statistics.median(usual))
        repeated = {each.dagster_run.parent_run_id for each in records}
        if under_way or any(
            each.dagster_run.run_id in killer.after.keys() - repeated
            # One that was killed when all its steps were done is not repeated.
            and time.time() < (each.end_time or 0.0) + _SECONDS_TO_REPEAT
            for each in records
        ):
            return False
        last_end = max((each.end_time or 0.0 for each in records), default=0.0)
        tick = self._tick()
        return (
            tick is not None
            and tick.status == TickStatus.SKIPPED
            and tick.timestamp > max(since, last_end)
            and self._is_taken_in(shown)
        )

    def _is_taken_in(self, shown: Path) -> bool:
        if not self.lake.exists("mini", "raw_events"):
            return False
        now = source.look(str(shown), variable="the play's source")
        then = self.lake.version("mini", "raw_events").metadata["fingerprint"]
        return then == {"files": now.files, "size": now.size, "digest": now.digest}

    def _pid(self, run: dg.DagsterRun) -> int | None:
        """Of its process, as it says when it starts."""
        events = self.instance.all_logs(run.run_id, of_type=dg.DagsterEventType.ENGINE_EVENT)
        for event in events:
            assert event.dagster_event
            for name, value in event.dagster_event.engine_event_data.metadata.items():
                if name == "pid":
                    return int(str(value.value))
        return None

    def _tick(self) -> InstigatorTick | None:
        """The sensor's last one."""
        sensors = self.instance.all_instigator_state(instigator_type=InstigatorType.SENSOR)
        for state in sensors:
            if ticks := self.instance.get_ticks(
                state.instigator_origin_id, state.selector_id, limit=1
            ):
                return ticks[0]
        return None

    def _ended(self, killer: Killer) -> list[Ran]:
        """The runs that have ended since this was last asked, the first one first."""
        found = []
        for record in self.instance.get_run_records(ascending=True):
            run = record.dagster_run
            if run.run_id in self._told:
                continue
            self._told.add(run.run_id)
            seconds = (record.end_time or 0.0) - (record.start_time or record.end_time or 0.0)
            failed = self.instance.get_run_step_stats(run.run_id)
            ran = Ran(
                run.run_id,
                run.job_name,
                run.status == dg.DagsterRunStatus.SUCCESS,
                seconds,
                run.parent_run_id,
                killer.after.get(run.run_id),
                tuple(
                    step.step_key
                    for step in failed
                    if step.status and step.status.value == "FAILURE"
                ),
            )
            if ran.success and not ran.parent:
                self._lengths.setdefault(ran.job, []).append(seconds)
            found.append(ran)
        return found


@contextlib.contextmanager
def daemon(home: Path, lake: Lake, shown: Path, **settings: str) -> Iterator[Watched]:
    """Dagster's daemon with a home of its own, the sensor and all schedules on.

    It scores every minute, and looks as often as Dagster lets it. Nothing that was started is left
    at the end. The definitions are served to it, as `dagster dev` does: a daemon that is given the
    module itself loads it anew every minute.
    """
    home.mkdir()
    shutil.copy(PROJECT / ".dagster" / "dagster.yaml", home)
    port, workspace = free_port(), home / "workspace.yaml"
    workspace.write_text(
        f"load_from: [grpc_server: {{host: localhost, port: {port}, location_name: {_MODULE}}}]\n"
    )
    environ = environment(lake, shown) | {
        "DAGSTER_HOME": str(home),
        "PYTHONPATH": str(PROJECT),
        "SPARKIFY_LOOK_SECONDS": "2",
        "SPARKIFY_RESCORE_CRON": "* * * * *",
    }
    environ |= settings
    served = ("code-server", "start", "-m", _MODULE, "-p", str(port), "--location-name", _MODULE)
    log = home / "daemon.log"
    with (
        dg.DagsterInstance.from_config(str(home)) as instance,
        contextlib.ExitStack() as started,
        log.open("wb") as out,
    ):
        # Its databases are made by one process: two at once spoil them.
        instance.get_runs_count()
        instance.all_instigator_state()

        how: dict[str, Any] = {"cwd": PROJECT, "env": environ, "stdout": out, "stderr": out}

        def start(command: str, *arguments: str) -> subprocess.Popen[bytes]:
            process = subprocess.Popen([_BIN / command, *arguments], start_new_session=True, **how)
            started.callback(_end, process)
            return process

        def switched_on(*what: str) -> bool:
            command = [str(_BIN / "dagster"), *what, "-w", str(workspace)]
            return subprocess.run(command, timeout=_SECONDS_TO_START, **how).returncode == 0

        start("dagster", *served)
        for what in (
            ("sensor", "start", "new_log_files"),
            ("schedule", "start", "--start-all"),
        ):
            eventually(partial(switched_on, *what), " ".join(what), _SECONDS_TO_START)
        process = start("dagster-daemon", "run", "-w", str(workspace))
        yield Watched(instance, lake, process, log)


def _end(process: subprocess.Popen[bytes]) -> None:
    """Ask it and all that it started to end; then end what has not."""
    if process.poll() is not None:
        return  # and its number may be another's by now
    started = family(process.pid)
    for how in (signal.SIGTERM, signal.SIGKILL):
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, how)
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(_SECONDS_TO_STOP)
    kill(started)


def same_tables(
    one: Lake, other: Lake, names: Iterable[str] = PREPARED, dataset: str = "mini"
) -> None:
    """Raise AssertionError where a table does not hold the same rows in both lakes.

    Slice by slice, so that only one needs to fit in memory.
    """
    for name in names:
        slices = [set(lake.version(dataset, name).slices) for lake in (one, other)]
        if slices[0] != slices[1]:
            raise AssertionError(f"{name} is not the same: slices {slices[0] ^ slices[1]}")
        wholes: list[str | None] = [*sorted(slices[0])]
        for each in wholes or [None]:
            first, second = (_in_order(lake, dataset, name, each) for lake in (one, other))
            try:
                assert_frame_equal(first, second, check_exact=True)
            except AssertionError as error:
                raise AssertionError(f"{name} is not the same ({each}): {error}") from error


def _in_order(lake: Lake, dataset: str, name: str, slice: str | None) -> pl.DataFrame:
    table = TABLES[name]
    rows = lake.read_polars(dataset, table, slices=slice and {slice})
    # Without a key all columns are, of which none is a list.
    return rows.sort(table.key or table.names)
