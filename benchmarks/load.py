"""Many who look on, and many users.

`python -m benchmarks.load [clients] [users] [--users 22277] [--many 500000] [--days 3]
                           [--logs FOLDER]`

clients: a run of everything on the full log, launched in the UI, while 5 pages of it are open in a
browser and 15 programs ask its server for runs, events and assets, each once a second. users: the
log of so many users and so few days, from its first line to everybody's score, by a model that was
trained on a small log; a run that this machine is too small for says so before it starts.

Belongs here: who looks on, which log, and the figures. Does not belong here: starting the UI and
its questions (`sparkify_assets_tests/ui.py`).
"""

from __future__ import annotations

import argparse
import contextlib
import os
import shutil
import statistics
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import requests

from benchmarks.live import MODEL, scored
from benchmarks.measuring import report, run
from sparkify_assets.resources.lake import Lake
from sparkify_assets.tables import CHURN_SCORES, USER_LABELS
from sparkify_assets_tests import ui as dev
from sparkify_assets_tests.browsing import chromium, complaints, installed

PROGRAMS = 15
PAGES = ("/runs", "/runs/{run}", "/asset-groups", "/overview/activity/timeline", "/jobs")
PAUSE_SECONDS = 1.0
SECONDS_OF_A_RUN = 3_600
QUESTIONS = (
    "{runsOrError {... on Runs {results {runId status tags {key value} stepStats {stepKey}}}}}",
    "{assetNodes {assetKey {path} assetMaterializations(limit: 5) {metadataEntries {label}}}}",
    """{runsOrError(limit: 1) {... on Runs {results {
      eventConnection {events {__typename ... on MessageEvent {message}}}}}}}""",
)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("parts", nargs="*", default=["clients", "users"], help="one or both")
    parser.add_argument("--users", type=int, default=22_277, help="of the full log")
    parser.add_argument("--many", type=int, default=500_000, help="users of the other log")
    parser.add_argument("--days", type=int, default=3, help="days of the other log")
    parser.add_argument("--logs", type=Path, help="a folder in which simulated logs are kept")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=given.logs) as folder:
        logs = given.logs or Path(folder)
        if "clients" in given.parts:
            clients(Path(folder), simulated(logs, given.users, 61))
        if "users" in given.parts:
            many_users(Path(folder), simulated(logs, given.many, given.days))


def simulated(folder: Path, users: int, days: int) -> Path:
    log = folder / f"load-{users}-{days}.json"
    if not log.exists():
        command = [sys.executable, "-m", "sparkify_assets.simulation", "--users", str(users)]
        run([*command, "--days", str(days), "--seed", "1", "--out", str(log)])
    return log


# Many who look on


class Program(threading.Thread):
    """Asks a server the same again and again; keeps how long it took, and what went wrong."""

    def __init__(self, url: str, question: str) -> None:
        super().__init__(daemon=True)
        self.url, self.question = url, question
        self.seconds: list[float] = []
        self.failed: list[str] = []
        self._done = threading.Event()

    def run(self) -> None:
        while not self._done.wait(PAUSE_SECONDS):
            began = time.perf_counter()
            try:
                answer = requests.post(
                    f"{self.url}/graphql", json={"query": self.question}, timeout=120
                )
                if answer.status_code != requests.codes.ok or "errors" in answer.json():
                    self.failed.append(answer.text[:300])
            except requests.RequestException as error:
                self.failed.append(str(error)[:300])
            self.seconds.append(time.perf_counter() - began)

    def stop(self) -> None:
        self._done.set()
        self.join()


def clients(folder: Path, log: Path) -> None:
    settings = {"SPARKIFY_FULL_SOURCE": str(log.absolute())}
    with dev.make_dev(folder, **settings) as ui:
        began = time.perf_counter()
        launched = ui.launch(ui.launch_of("everything", "full"))
        programs = [Program(ui.url, QUESTIONS[n % len(QUESTIONS)]) for n in range(PROGRAMS)]
        for program in programs:
            program.start()
        with pages(ui.url, launched) as complained:
            dev.eventually(
                lambda: launched not in ui.not_ended(), "the run's end", SECONDS_OF_A_RUN
            )
        ended = ui.run(launched)["status"]
        seconds = time.perf_counter() - began
        for program in programs:
            program.stop()
    asked = [each for program in programs for each in program.seconds]
    failed = [each for program in programs for each in program.failed]
    for words in {*failed, *complained}:
        print(words, file=sys.stderr)
    name = f"{PROGRAMS} programs and {len(PAGES)} pages"
    report("load", f"{name}, runs that failed", float(ended != "SUCCESS"), "runs", 0)
    report("load", f"{name}, from launch to end", seconds, "s")
    report("load", f"{name}, questions", len(asked), "")
    report("load", f"{name}, questions without an answer", len(failed), "", 0)
    report("load", f"{name}, answer, median", statistics.median(asked), "s")
    report("load", f"{name}, answer, 95 %", statistics.quantiles(asked, n=20)[-1], "s")
    report("load", f"{name}, errors in the browser", len(complained), "")


@contextlib.contextmanager
def pages(url: str, launched: str) -> Iterator[list[str]]:
    """Open pages that ask the server by themselves; what they complain of."""
    if not installed():
        raise RuntimeError("There is no Chromium to open pages in.")
    with chromium() as browser:
        opened = [browser.new_page() for _ in PAGES]
        complained = [complaints(page) for page in opened]
        for page, path in zip(opened, PAGES, strict=True):
            page.goto(url + path.format(run=launched))
        heard: list[str] = []
        yield heard
        for page in opened:
            page.wait_for_timeout(100)  # in which what they said arrives
        heard += [words for each in complained for words in each]


# Many users


def many_users(folder: Path, log: Path) -> None:
    small, lake = folder / "small", Lake(str(folder / "many"))
    scored("everything", simulated(folder, 500, 61), small)
    for table in MODEL:
        shutil.copytree(small / "full" / table, Path(lake.root, "full", table))
    once = scored("rescore", log, Path(lake.root))
    users = lake.read_polars("full", USER_LABELS, ["user_id"]).height
    forecast = lake.read_polars("full", CHURN_SCORES).height
    name = "many users"
    report("load", f"{name}, users in the log", users, "users")
    report("load", f"{name}, users scored", forecast, "users")
    report("load", f"{name}, events", lake.version("full", "raw_events").rows, "events")
    report("load", f"{name}, log", os.path.getsize(log) / 1e9, "GB")
    report("load", f"{name}, from the log to the report", once.seconds, "s")
    report("load", f"{name}, peak memory of all processes", once.peak_bytes / 2**30, "GiB")


if __name__ == "__main__":
    main()
