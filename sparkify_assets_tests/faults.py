"""Faults that strike a run at a random moment, and what becomes of the tables.

A scene is a lake, a log that has grown since, and what an undisturbed run makes of it. A trial
takes a copy of that lake, starts a run in a process of its own, lets a fault strike, and runs once
more where the run did not go on by itself. All the while a reader reads every table.

Belongs here: scenes, faults, readers and trials. Does not belong here: what is expected of them
(`test_faults.py`) and how many are tried (`benchmarks/faults.py`).
"""

from __future__ import annotations

import contextlib
import random
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import dagster as dg
import psutil

from sparkify_assets.resources import erasure
from sparkify_assets.resources.lake import Lake
from sparkify_assets.simulation import write_log
from sparkify_assets.tables import TABLES
from sparkify_assets_tests.running import environment, family, kill, without_times

PROJECT = Path(__file__).parents[1]
_LOOK_SECONDS = 0.1
_READ_SECONDS = 0.5  # between two readings of all tables, which take time themselves
_SECONDS_OF_A_RUN = 600
_SECONDS_TO_STOP = 30
# As a run of the UI: what may pass is tried again, but sooner, and a server is waited for less.
_RUN = """
import sys
import dagster as dg
import psutil
from sparkify_assets import retries
from sparkify_assets.definitions import build_defs
from sparkify_assets.events import source

retries.FIRST_PAUSE_SECONDS = 0.5
source._FIRST_PAUSE_SECONDS, source._TIMEOUT_SECONDS, source._SLOW_SECONDS = 0.1, (5, 1), 1
job = build_defs().resolve_job_def(sys.argv[1])
dataset, run_id = sys.argv[2:]
config = dict(job.get_run_config_for_partition_key(dataset))
for op in ("model_trials", "evaluation_predictions"):
    if op in config["ops"]:
        config["ops"][op]["config"] |= {"search_trials": 1}
if "evaluation_predictions" in config["ops"]:
    config["ops"]["evaluation_predictions"]["config"] |= {"repeats": 1}
with dg.DagsterInstance.get() as instance:
    done = job.execute_in_process(
        instance=instance, partition_key=dataset, run_config=config, raise_on_error=False,
        run_id=run_id,
    )
sys.exit(not done.success)
"""


# Runs


@dataclass
class Running:
    """A run of a job in a process of its own."""

    process: subprocess.Popen[bytes]
    instance: dg.DagsterInstance
    id: str
    lake: Lake
    log: Path

    @property
    def ended(self) -> bool:
        return self.process.poll() is not None

    def wait(self) -> bool:
        """Whether it succeeded. Raises subprocess.TimeoutExpired."""
        return self.process.wait(_SECONDS_OF_A_RUN) == 0

    def times(self) -> dict[str, tuple[float, float]]:
        """When each of its steps began and ended; in order. One that did not end is left out."""
        stats = self.instance.get_run_step_stats(self.id)
        known = {step.step_key: (step.start_time, step.end_time) for step in stats}
        return {
            name: (begun, ended)
            for name, (begun, ended) in sorted(known.items(), key=lambda item: item[1][0] or 0.0)
            if begun and ended
        }

    def commits(self) -> list[tuple[str, int, str]]:
        """Table and version of each that it has said to have made, and its own id."""
        logs = self.instance.all_logs(self.id, of_type=dg.DagsterEventType.ASSET_MATERIALIZATION)
        made = [entry.asset_materialization for entry in logs]
        return [
            (
                each.asset_key.to_user_string(),
                int(str(each.metadata["table_version"].value)),
                self.id,
            )
            for each in made
            if each and "table_version" in each.metadata
        ]

    def wait_for(self, step: str) -> bool:
        """Wait until it begins a step; False where it has ended without."""
        while step not in self._begun():
            if self.ended:
                return step in self._begun()
            time.sleep(_LOOK_SECONDS)
        return True

    def _begun(self) -> set[str | None]:
        logs = self.instance.all_logs(self.id, of_type=dg.DagsterEventType.STEP_START)
        return {entry.dagster_event.step_key for entry in logs if entry.dagster_event}


@contextlib.contextmanager
def running(
    job: str, lake: Lake, source: Path | str, home: Path, dataset: str = "mini"
) -> Iterator[Running]:
    """Start a run; nothing of it is left at the end. `home`: a Dagster instance's, or to be one."""
    home.mkdir(exist_ok=True)
    shutil.copy(PROJECT / ".dagster" / "dagster.yaml", home)
    run_id, log = dg._core.utils.make_new_run_id(), home / "run.log"
    environ = environment(lake, None) | {
        f"SPARKIFY_{dataset.upper()}_SOURCE": str(source),
        "DAGSTER_HOME": str(home),
        "PYTHONPATH": str(PROJECT),
    }
    command = [sys.executable, "-W", "ignore", "-c", _RUN, job, dataset, run_id]
    with dg.DagsterInstance.from_config(str(home)) as instance, log.open("ab") as out:
        instance.get_runs_count()  # its databases are made by one process
        process = subprocess.Popen(
            command,
            cwd=PROJECT,
            env=environ,
            stdout=out,
            stderr=out,
            start_new_session=True,
        )
        try:
            yield Running(process, instance, run_id, lake, log)
        finally:
            kill(family(process.pid))
            process.wait(_SECONDS_TO_STOP)


def run_to_its_end(
    job: str, lake: Lake, source: Path | str, home: Path
) -> dict[str, tuple[float, float]]:
    """When its steps began and ended. Raises RuntimeError with what it said where it fails."""
    with running(job, lake, source, home) as run:
        if not run.wait():
            raise RuntimeError(f"the run failed:\n{run.log.read_text()[-4000:]}")
        return run.times()


# Scenes


@dataclass(frozen=True)
class Scene:
    """A lake, the log that has grown since, and what one undisturbed run makes of it."""

    job: str
    before: Lake
    source: Path | str
    after: Lake
    steps: Mapping[str, float]
    """How many seconds each step of that run took, in order."""

    @property
    def tables(self) -> list[str]:
        return [name for name in TABLES if self.after.exists("mini", name)]


def growing_log(
    folder: Path, *, users: int, days: int, seed: int
) -> tuple[Path, Callable[[], None]]:
    """A simulated log of so many days without its last one, and what makes that one come."""
    log, source = folder / "log", folder / "source"
    write_log(log, users=users, days=days, seed=seed, daily=True)
    source.mkdir()
    *earlier, last = sorted(log.iterdir())
    for file in earlier:
        file.rename(source / file.name)

    def grow() -> None:
        last.rename(source / last.name)

    return source, grow


def scene(folder: Path, job: str, source: Path | str, grow: Callable[[], None]) -> Scene:
    """What a run makes of a log after it has grown, in a lake where one has run before."""
    before, after = Lake(str(folder / "before")), Lake(str(folder / "after"))
    run_to_its_end(job, before, source, folder / "home")
    grow()
    shutil.copytree(before.root, after.root)
    times = run_to_its_end(job, after, source, folder / "home")
    steps = {name: ended - begun for name, (begun, ended) in times.items()}
    return Scene(job, before, source, after, steps)


# Readers


def content(lake: Lake, table: str, dataset: str = "mini") -> tuple[int, int]:
    """What a table holds, whatever the order of its rows: how many, and a digest. No times."""
    rows = without_times(lake.read_polars(dataset, TABLES[table]))
    return rows.height, int(rows.hash_rows(seed=1).sum() or 0) if rows.width else 0


class Reader(threading.Thread):
    """Reads every table again and again: each must be as before the scene's run, or as after it."""

    def __init__(self, lake: Lake, scene: Scene) -> None:
        super().__init__(daemon=True)
        self.lake = lake
        self.expected = {
            name: {content(each, name) for each in (scene.before, scene.after)}
            for name in scene.tables
        }
        self.reads, self.wrong, self._done = 0, [], threading.Event()  # type: ignore[var-annotated]

    def run(self) -> None:
        while not self._done.is_set():
            for name, whole in self.expected.items():
                try:
                    found = content(self.lake, name)
                except Exception as error:
                    self.wrong.append(f"{name} could not be read: {error!r}"[:300])
                else:
                    if found not in whole:
                        self.wrong.append(f"{name} holds {found}, expected is one of {whole}")
                self.reads += 1
            self._done.wait(_READ_SECONDS)

    def __enter__(self) -> Reader:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._done.set()
        self.join()


# Faults

Fault = Callable[[Running, random.Random], bool]
"""Strikes; whether there was something to strike at."""


def kill_run(run: Running, chance: random.Random) -> bool:
    """As where the system has no memory left. Spark's process finds out by itself."""
    run.process.kill()
    return True


def kill_jvm(run: Running, chance: random.Random) -> bool:
    return _kill_one(_jvms(run), chance)


def kill_worker(run: Running, chance: random.Random) -> bool:
    """One of Spark's Python workers, or the process that they are forked from."""
    of_jvms = [each for jvm in _jvms(run) for each in family(jvm.pid)[1:]]
    return _kill_one([each for each in of_jvms if _is_called(each, "python")], chance)


KILLS: dict[str, Fault] = {"run": kill_run, "jvm": kill_jvm, "worker": kill_worker}


def _jvms(run: Running) -> list[psutil.Process]:
    return [each for each in family(run.process.pid) if _is_called(each, "java")]


def _is_called(process: psutil.Process, name: str) -> bool:
    with contextlib.suppress(psutil.NoSuchProcess):
        return process.name().startswith(name)
    return False


def _kill_one(processes: list[psutil.Process], chance: random.Random) -> bool:
    """Whether there was one."""
    with contextlib.suppress(IndexError, psutil.NoSuchProcess):
        chance.choice(processes).kill()
        return True
    return False


# Trials


@dataclass
class Trial:
    """What became of a run that a fault struck."""

    fault: str
    step: str
    struck_after: float | None = None
    """Seconds from the beginning of the step; None where there was nothing to strike at."""
    went_on: bool = False
    """Whether the run succeeded all the same."""
    said: str = ""
    """The end of what the run said."""
    next_failed: str = ""
    """Why the next run failed."""
    reads: int = 0
    wrong: list[str] = field(default_factory=list)
    """What readers saw that is no whole version, and tables that are not as undisturbed."""


def attempt(
    scene: Scene,
    fault: str,
    strike: Fault,
    step: str,
    chance: random.Random,
    relieve: Callable[[Running], None] = lambda run: None,
    place: Path | None = None,
    makes_do: bool = False,
) -> Trial:
    """Let a fault strike within a step. `relieve`: what is done before the next run.

    `place`: where the lake is, where that matters. `makes_do`: the struck run may succeed with the
    log as it was before, so that there is a next one in any case.
    """
    trial = Trial(fault, step)
    moment = chance.uniform(0, scene.steps[step])
    with tempfile.TemporaryDirectory() as own:
        folder = Path(own)
        lake = Lake(str((place or folder) / "lake"))
        shutil.copytree(scene.before.root, lake.root)
        with Reader(lake, scene) as reader:
            with running(scene.job, lake, scene.source, folder / "home") as run:
                if run.wait_for(step):
                    time.sleep(moment)
                    while not strike(run, chance):
                        if run.ended:
                            break
                        time.sleep(_LOOK_SECONDS)
                    else:
                        began = run.instance.get_run_step_stats(run.id, [step])[0].start_time
                        trial.struck_after = time.time() - (began or time.time())
                trial.went_on = run.wait()
                trial.said = run.log.read_text()[-2000:]
                relieve(run)
            if makes_do or not trial.went_on:
                try:
                    run_to_its_end(scene.job, lake, scene.source, folder / "home")
                except RuntimeError as error:
                    trial.next_failed = str(error)
        trial.reads, trial.wrong = reader.reads, reader.wrong
        trial.wrong += different(lake, scene)
        shutil.rmtree(lake.root)
    return trial


def different(lake: Lake, scene: Scene, dataset: str = "mini") -> list[str]:
    """The tables that do not hold what they hold after an undisturbed run."""
    return [
        f"{name} is not as after an undisturbed run"
        for name in scene.tables
        if content(lake, name, dataset) != content(scene.after, name)
    ]


# Erasing


def erasing(lake: Lake, home: Path, user: str) -> subprocess.Popen[str]:
    """The command that erases a user, begun."""
    home.mkdir(exist_ok=True)
    shutil.copy(PROJECT / ".dagster" / "dagster.yaml", home)
    return subprocess.Popen(
        [sys.executable, "-W", "ignore", "-m", "sparkify_assets.erase", user],
        cwd=PROJECT,
        env=environment(lake, None) | {"DAGSTER_HOME": str(home)},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def erased(lake: Lake, home: Path, user: str) -> float:
    """Erase a user: the seconds from its first change to its end. Raises RuntimeError."""
    process = erasing(lake, home, user)
    began = _first_change(lake, process)
    said, _ = process.communicate(timeout=_SECONDS_OF_A_RUN)
    if process.returncode:
        raise RuntimeError(f"erasing failed:\n{said}")
    return time.monotonic() - began


def attempt_erasing(scene: Scene, user: str, chance: random.Random) -> Trial:
    """Kill the command that erases a user, and erase again. scene: before and after erasing."""
    trial = Trial("erasing killed", scene.job)
    with tempfile.TemporaryDirectory() as own:
        folder = Path(own)
        lake = Lake(shutil.copytree(scene.before.root, str(folder / "lake")))
        with Reader(lake, scene) as reader:
            process = erasing(lake, folder / "home", user)
            began = _first_change(lake, process)
            time.sleep(chance.uniform(0, scene.steps[scene.job]))
            if process.poll() is None:
                process.kill()
                trial.struck_after = time.monotonic() - began
            trial.said, _ = process.communicate()
            trial.went_on = process.returncode == 0
            try:
                erased(lake, folder / "home", user)
            except RuntimeError as error:
                trial.next_failed = str(error)
        trial.reads = reader.reads
        trial.wrong = reader.wrong + different(lake, scene)
        trial.wrong += erasure.traces(lake, "mini", [user], folder / "no copies")
    return trial


def _first_change(lake: Lake, process: subprocess.Popen[str]) -> float:
    """When the list of the erased came to be."""
    while not lake.has_file("mini", erasure.FILE) and process.poll() is None:
        time.sleep(0.01)
    return time.monotonic()
