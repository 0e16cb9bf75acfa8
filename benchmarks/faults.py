"""Faults that strike a run at a random moment, and what was lost.

`python -m benchmarks.faults [kills] [erasing] [disk] [source] [server]
                             [--seed 1] [--kills 60] [--times 5]`

kills: of the run, of Spark's process and of a Python worker, within every asset's step. erasing: a
third as many kills of the command that erases a user, which is given again then.
disk: a full one, and one that becomes read-only; a small one is mounted, for which root is needed.
source: the log's folder is gone. server: one that breaks off, that sends nothing more or next to
nothing, twice or for good. After a run that did not go on by itself comes another one, without the
fault. All the while every table is read.

How long the program waits between its tries, and for a server, is shortened to seconds.

Belongs here: which faults, how many, and the figures. Does not belong here: how a fault is let
strike and what is looked at then (`sparkify_assets_tests/faults.py`).
"""

from __future__ import annotations

import argparse
import contextlib
import itertools
import random
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

from benchmarks.measuring import report
from sparkify_assets.resources.lake import Lake
from sparkify_assets.tables import USER_LABELS
from sparkify_assets_tests.faults import (
    KILLS,
    Running,
    Scene,
    Trial,
    attempt,
    attempt_erasing,
    erased,
    growing_log,
    scene,
)
from sparkify_assets_tests.serving import Server, serving

STEPS = (
    *("ingest", "clean_events", "users_and_days", "user_kinds", "feature_table"),
    *("model_trials", "trained_model", "evaluation_predictions", "evaluation_metrics"),
    *("model_registry", "churn_factors", "churn_scores", "score_outcomes", "live_metrics"),
    "churn_report",
)
DISK_MEGABYTES = 300
FOR_GOOD = 1_000


def main() -> None:
    parts = {
        "kills": kills,
        "erasing": killed_erasing,
        "disk": disk,
        "source": vanishing,
        "server": faulty_server,
    }
    killing = {"kills": 1, "erasing": 3}
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("parts", nargs="*", default=list(parts), help=", ".join(parts))
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--kills", type=int, default=60)
    parser.add_argument("--times", type=int, default=5, help="trials of each other fault")
    given = parser.parse_args()
    for name in given.parts:
        with tempfile.TemporaryDirectory() as folder:
            times = given.kills // killing[name] if name in killing else given.times
            parts[name](Path(folder), given.seed, times)


def kills(folder: Path, seed: int, times: int) -> None:
    everything = of_everything(folder)
    pairs = list(itertools.product(STEPS, KILLS))
    random.Random(seed).shuffle(pairs)  # so that a few of them are not all of the first steps
    trials = [
        tried(attempt(everything, kind, KILLS[kind], step, random.Random(f"{seed} {number}")))
        for number, (step, kind) in enumerate(itertools.islice(itertools.cycle(pairs), times))
    ]
    for kind in KILLS:
        told(f"{kind} killed", [trial for trial in trials if trial.fault == kind])


def killed_erasing(folder: Path, seed: int, times: int) -> None:
    before = of_everything(folder).after
    user = before.read_polars("mini", USER_LABELS, ["user_id"])["user_id"].min()
    after = Lake(shutil.copytree(before.root, str(folder / "erased")))
    seconds = erased(after, folder / "home", str(user))
    erasing = Scene("erasing", before, "", after, {"erasing": seconds})
    told(
        "erasing killed",
        [
            tried(attempt_erasing(erasing, str(user), random.Random(f"{seed} {number}")))
            for number in range(times)
        ],
    )


def disk(folder: Path, seed: int, times: int) -> None:
    everything = of_everything(folder)
    place, chance = folder / "disk", random.Random(seed)
    filler = place / "filler"

    def fill(run: Running, chance: random.Random) -> bool:
        with contextlib.suppress(OSError), filler.open("wb", buffering=0) as file:
            while file.write(bytes(2**16)):
                pass
        return True

    def empty(run: Running) -> None:
        filler.unlink(missing_ok=True)

    def lock(run: Running, chance: random.Random) -> bool:
        return remount(place, "ro")

    def unlock(run: Running) -> None:
        remount(place, "rw")

    for name, strike, relieve in (
        ("disk full", fill, empty),
        ("disk read-only", lock, unlock),
    ):
        trials = []
        for step in chance.choices(STEPS, k=times):
            with mounted(place, DISK_MEGABYTES):
                trial = attempt(everything, name, strike, step, chance, relieve, place)
                trials.append(tried(trial))
        told(name, trials)


@contextlib.contextmanager
def mounted(place: Path, megabytes: int) -> Iterator[None]:
    """A small disk."""
    place.mkdir(exist_ok=True)
    size = f"size={megabytes}m"
    subprocess.run(["mount", "-t", "tmpfs", "-o", size, "tmpfs", str(place)], check=True)
    try:
        yield
    finally:
        subprocess.run(["umount", "--lazy", str(place)], check=True)


def remount(place: Path, how: str) -> bool:
    """Not possible while a file is open for writing there."""
    command = ["mount", "-o", f"remount,{how}", str(place)]
    return subprocess.run(command, capture_output=True).returncode == 0


def vanishing(folder: Path, seed: int, times: int) -> None:
    prepared = of_ingest(folder)
    source, aside, chance = Path(prepared.source), folder / "aside", random.Random(seed)

    def hide(run: Running, chance: random.Random) -> bool:
        source.rename(aside)
        return True

    def show(run: Running) -> None:
        aside.rename(source)

    told(
        "source gone",
        [
            tried(attempt(prepared, "source gone", hide, "ingest", chance, show))
            for _ in range(times)
        ],
    )


def faulty_server(folder: Path, seed: int, times: int) -> None:
    chance = random.Random(seed)
    with serving() as server:
        prepared = of_ingest(folder, server)

        def there(run: Running, chance: random.Random) -> bool:
            return True  # the fault is in the server from the start

        def heal(run: Running) -> None:
            server.break_after, server.stall_after = [], []

        for fault, how_often in itertools.product(
            ("breaks off", "sends nothing", "drips"), ("twice", "for good")
        ):
            trials = []
            for _ in range(times):
                first = chance.randrange(len(server.content))
                stops = [first, 0] if how_often == "twice" else [first] + FOR_GOOD * [0]
                if fault == "breaks off":
                    server.break_after = stops
                else:
                    server.stall_after, server.drips_bytes = stops, 10 * (fault == "drips")
                trial = attempt(
                    prepared, fault, there, "ingest", chance, heal, makes_do=how_often == "for good"
                )
                trials.append(tried(trial))
            told(f"server {fault} {how_often}", trials)


# Scenes


def of_everything(folder: Path) -> Scene:
    """From the log to the report, of as few users as a model can be learned from."""
    return scene(folder, "everything", *growing_log(folder, users=100, days=61, seed=5))


def of_ingest(folder: Path, server: Server | None = None) -> Scene:
    """From the log to the features, of a log that takes a while to be read; `server` sends it."""
    days, grow = growing_log(folder, users=1_000, days=3, seed=1)
    if not server:
        return scene(folder, "prepare", days, grow)

    def send(version: int) -> None:
        server.content = b"".join(file.read_bytes() for file in sorted(days.iterdir()))
        server.etag = f'"{version}"'

    def grow_there() -> None:
        grow()
        send(2)

    send(1)
    return scene(folder, "prepare", server.url(), grow_there)


# Figures


def tried(trial: Trial) -> Trial:
    """Tell of a trial, at once."""
    if trial.struck_after is None:
        became = "nothing to strike at"
    else:
        went_on = "went on by itself" if trial.went_on else "the next run made it good"
        became = f"after {trial.struck_after:.1f} s: {went_on}"
    print(f"{trial.fault} in {trial.step}: {became}; {trial.reads} reads", file=sys.stderr)
    for wrong in (trial.next_failed, *trial.wrong):
        if wrong:
            print(wrong, file=sys.stderr)
    if not trial.went_on or trial.wrong:
        print(f"It had said:\n{trial.said[-1_000:]}", file=sys.stderr)
    return trial


def told(name: str, trials: list[Trial]) -> None:
    struck = [trial for trial in trials if trial.struck_after is not None]
    report("faults", f"{name}, tried", len(struck), "times")
    report("faults", f"{name}, went on by itself", sum(t.went_on for t in struck), "times")
    report("faults", f"{name}, next run failed", sum(bool(t.next_failed) for t in trials), "", 0)
    report("faults", f"{name}, tables read meanwhile", sum(t.reads for t in trials), "reads")
    wrong = sum(len(trial.wrong) for trial in trials)
    report("faults", f"{name}, of them wrong, or different in the end", wrong, "", 0)


if __name__ == "__main__":
    main()
