"""`make dev` as a user types it, and what the UI's pages ask its server for and tell it to do.

Belongs here: starting and ending it, and the UI's own questions over HTTP. Does not belong here:
what is expected of the answers (`test_ui.py`), and how pages look (`browsing.py`).
"""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import requests

from sparkify_assets.resources.lake import Lake
from sparkify_assets_tests.cluster import free_port
from sparkify_assets_tests.running import environment

PROJECT = Path(__file__).parents[1]
LOCATION = "sparkify_assets.definitions"
# What the asset graph launches: all assets, without a job of the project's own.
ASSET_GRAPH = "__ASSET_JOB"
REPOSITORY = {"repositoryLocationName": LOCATION, "repositoryName": "__repository__"}
_SECONDS_TO_START = 120
_SECONDS_TO_STOP = 20
_SECONDS_OF_A_RUN = 240
_ENDED = {"SUCCESS", "FAILURE", "CANCELED"}

T = TypeVar("T")


@dataclass(frozen=True)
class UI:
    """A `dagster dev` that runs, and the lake that its runs write."""

    url: str
    lake: Lake
    pid: int

    def ask(self, query: str, **variables: Any) -> Any:
        """The one answer to a GraphQL query. Raises RuntimeError where it is an error."""
        asked = requests.post(
            f"{self.url}/graphql", json={"query": query, "variables": variables}, timeout=60
        ).json()
        if asked.get("errors"):
            raise RuntimeError(asked["errors"])
        (answer,) = asked["data"].values()
        if isinstance(answer, dict) and (refused := answer.get("message") or answer.get("errors")):
            raise RuntimeError(refused)
        return answer

    def launch_of(self, job: str, partition: str) -> dict[str, Any]:
        """What *Materialize all* of a job's page, or of the asset graph, sends for a partition."""
        nodes = [node for node in self.ask(_ASSETS) if job in node["jobNames"]]
        nodes.sort(key=_name)
        assets = [node["assetKey"] for node in nodes]
        selector = {**REPOSITORY, "pipelineName": job}
        filled = self.ask(_FILLED_IN, job=selector, partition=partition, assets=assets)["partition"]
        checks = [
            {"name": check["name"], "assetKey": node["assetKey"]}
            for node in nodes
            for check in node["assetChecksOrError"]["checks"]
            if job in check["jobNames"] and check["canExecuteIndividually"] == "CAN_EXECUTE"
        ]
        tags = [*filled["tagsOrError"]["results"], {"key": "dagster/from_ui", "value": "true"}]
        return {
            "mode": "default",
            "executionMetadata": {"tags": tags},
            "runConfigData": filled["runConfigOrError"]["yaml"],
            "selector": selector | {"assetSelection": assets, "assetCheckSelection": checks},
        }

    def launch(self, what: dict[str, Any]) -> str:
        """Start a run; its id. Raises RuntimeError where it is refused."""
        return self.ask(_LAUNCH, what=what)["run"]["runId"]

    def ended(self, run: str) -> str:
        """Wait for a run's end: how it ended."""

        def status() -> str | None:
            now = self.run(run)["status"]
            return now if now in _ENDED else None

        return eventually(status, f"the end of run {run}", _SECONDS_OF_A_RUN)

    def succeeded(self, run: str) -> None:
        """Wait for a run's success. Raises RuntimeError with what it said went wrong."""
        if (how := self.ended(run)) != "SUCCESS":
            raise RuntimeError("\n".join([f"run {run}: {how}", *self._went_wrong(run)]))

    def cancel(self, run: str) -> None:
        """End a run that is queued or under way, and wait until it has ended."""
        self.ask(_CANCEL, run=run)
        self.ended(run)

    def run(self, run: str) -> dict[str, Any]:
        """A run's job and status, and its tags by name."""
        found = self.ask(_RUN, run=run)
        return found | {"tags": {tag["key"]: tag["value"] for tag in found["tags"]}}

    def not_ended(self) -> list[str]:
        """Runs that are queued or under way."""
        return [run["runId"] for run in self.ask(_RUNS)["results"] if run["status"] not in _ENDED]

    def _went_wrong(self, run: str) -> list[str]:
        """What the steps that failed, and the run itself, said."""
        return [
            "\n".join([event["message"], *_causes(event.get("error"))])
            for event in self.ask(_EVENTS, run=run)["events"]
            if event["__typename"] in ("ExecutionStepFailureEvent", "RunFailureEvent")
        ]

    def materialized(self, partition: str) -> dict[str, dict[str, Any]]:
        """The metadata of each asset's latest materialization of a partition, by their labels."""
        return {
            _name(node): _metadata(node["assetMaterializations"][0])
            for node in self.ask(_MATERIALIZED, partition=partition)
            if node["assetMaterializations"]
        }

    def checked(self, partition: str) -> dict[str, dict[str, Any]]:
        """The latest result of every check of a partition that has one, by asset and check."""
        found = {}
        for node in self.ask(_ASSETS):
            for check in node["assetChecksOrError"]["checks"]:
                latest = self.ask(
                    _CHECKED, asset=node["assetKey"], check=check["name"], partition=partition
                )
                if latest:
                    found[f"{_name(node)}:{check['name']}"] = latest[0]
        return found

    @contextlib.contextmanager
    def switched_on(self, kind: str, name: str) -> Iterator[Callable[[], list[dict[str, Any]]]]:
        """A schedule or sensor that runs for as long as the context lasts; asks for its ticks."""
        of = {**REPOSITORY, f"{kind}Name": name}
        on, off, there = _SWITCHES[kind]
        self.ask(on, of=of)
        try:
            yield lambda: self.ask(there, of=of)[f"{kind}State"]["ticks"]
        finally:
            # What is switched on is known by another id than what it is called.
            state = self.ask(there, of=of)[f"{kind}State"]
            self.ask(off, id=state["id"])


def eventually(what: Callable[[], T | None], said: str, seconds: float = 90) -> T:
    """The first answer that is something. Raises TimeoutError."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if answer := what():
            return answer
        time.sleep(0.3)
    raise TimeoutError(f"{said}: not in {seconds:.0f} s")


@contextlib.contextmanager
def make_dev(folder: Path, **settings: str) -> Iterator[UI]:
    """`make dev` with a home and a lake in this folder, for as long as the context lasts.

    `settings`: environment variables. Nothing that was started is left at the end.
    """
    home, lake, port = folder / "home", Lake(str(folder / "lake")), free_port()
    home.mkdir()
    shutil.copy(PROJECT / ".dagster" / "dagster.yaml", home)
    variables = {
        "BIN": Path(sys.executable).parent,
        "DAGSTER_HOME": home,
        "UI_PORT": port,
        "REPORTS_PORT": free_port(),
    }
    # All is installed, or this would not run. Of the make that runs the tests nothing is passed on.
    command = ["make", "-o", ".venv/installed", "dev"]
    environ = {name: it for name, it in environment(lake, None).items() if name != "MAKEFLAGS"}
    log = folder / "dev.log"
    with log.open("wb") as out:
        process = subprocess.Popen(
            command + [f"{name}={it}" for name, it in variables.items()],
            cwd=PROJECT,
            env=environ | settings,
            stdout=out,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    try:
        ui = UI(f"http://127.0.0.1:{port}", lake, process.pid)
        eventually(lambda: _is_loaded(ui, process, log), "make dev", _SECONDS_TO_START)
        yield ui
    finally:
        _end(process)


def _is_loaded(ui: UI, process: subprocess.Popen[bytes], log: Path) -> bool:
    """Whether the server answers and knows the project's assets."""
    if process.poll() is not None:
        raise RuntimeError(f"make dev ended by itself:\n{log.read_text()[-4000:]}")
    with contextlib.suppress(requests.ConnectionError):
        return bool(ui.ask(_ASSETS))
    return False


def _end(process: subprocess.Popen[bytes]) -> None:
    """Ask it and all that it started to end; then end what has not."""
    for how in (signal.SIGTERM, signal.SIGKILL):
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, how)
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(_SECONDS_TO_STOP)


def _causes(error: dict[str, Any] | None) -> list[str]:
    return [error["message"], *(cause["message"] for cause in error["causes"])] if error else []


def _name(node: dict[str, Any]) -> str:
    return "/".join(node["assetKey"]["path"])


def _metadata(event: dict[str, Any]) -> dict[str, Any]:
    """Values by label; what the query has no field for is None."""
    return {
        entry["label"]: next((it for name, it in entry.items() if name != "label"), None)
        for entry in event["metadataEntries"]
    }


_ASSETS = """
{assetNodes {
  assetKey {path} jobNames
  assetChecksOrError {... on AssetChecks {checks {name jobNames canExecuteIndividually}}}
}}"""
_FILLED_IN = """
query ($job: PipelineSelector!, $partition: String!, $assets: [AssetKeyInput!]!) {
  pipelineOrError(params: $job) {
    ... on Pipeline {partition(partitionName: $partition, selectedAssetKeys: $assets) {
      runConfigOrError {... on PartitionRunConfig {yaml} ... on PythonError {message}}
      tagsOrError {... on PartitionTags {results {key value}}}
    }}
    ... on Error {message}
  }
}"""
_LAUNCH = """
mutation ($what: ExecutionParams!) {
  launchPipelineExecution(executionParams: $what) {
    ... on LaunchRunSuccess {run {runId}}
    ... on RunConfigValidationInvalid {errors {message}}
    ... on Error {message}
  }
}"""
_CANCEL = """
mutation ($run: String!) {terminateRun(runId: $run) {... on Error {message}}}"""
_RUN = """
query ($run: ID!) {
  runOrError(runId: $run) {... on Run {status jobName tags {key value}} ... on Error {message}}
}"""
_RUNS = """
{runsOrError {... on Runs {results {runId status}} ... on Error {message}}}"""
_EVENTS = """
query ($run: ID!) {logsForRun(runId: $run) {
  ... on EventConnection {events {
    __typename
    ... on MessageEvent {message}
    ... on ExecutionStepFailureEvent {error {message causes {message}}}
    ... on RunFailureEvent {error {message causes {message}}}
  }}
}}"""
_MATERIALIZED = """
query ($partition: String!) {assetNodes {
  assetKey {path}
  assetMaterializations(partitions: [$partition], limit: 1) {metadataEntries {
    label
    ... on IntMetadataEntry {intValue}
    ... on FloatMetadataEntry {floatValue}
    ... on BoolMetadataEntry {boolValue}
    ... on TextMetadataEntry {text}
    ... on MarkdownMetadataEntry {mdStr}
    ... on UrlMetadataEntry {url}
    ... on PathMetadataEntry {path}
    ... on JsonMetadataEntry {jsonString}
  }}
}}"""
_CHECKED = """
query ($asset: AssetKeyInput!, $check: String!, $partition: String!) {
  assetCheckExecutions(assetKey: $asset, checkName: $check, partition: $partition, limit: 1) {
    status partition evaluation {success description severity}
  }
}"""
_TICKS = "id ticks {status skipReason runIds error {message}}"
_SWITCHES = {
    "schedule": (
        """mutation ($of: ScheduleSelector!) {startSchedule(scheduleSelector: $of) {
          ... on PythonError {message}}}""",
        """mutation ($id: String!) {stopRunningSchedule(id: $id) {... on PythonError {message}}}""",
        f"""query ($of: ScheduleSelector!) {{scheduleOrError(scheduleSelector: $of) {{
          ... on Schedule {{scheduleState {{{_TICKS}}}}} ... on Error {{message}}}}}}""",
    ),
    "sensor": (
        """mutation ($of: SensorSelector!) {startSensor(sensorSelector: $of) {
          ... on Error {message}}}""",
        """mutation ($id: String!) {stopSensor(id: $id) {... on PythonError {message}}}""",
        f"""query ($of: SensorSelector!) {{sensorOrError(sensorSelector: $of) {{
          ... on Sensor {{sensorState {{{_TICKS}}}}} ... on Error {{message}}}}}}""",
    ),
}
