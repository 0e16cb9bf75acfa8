"""What a person at the terminal sees of a run.

Belongs here: turning Dagster's events into a short line for each asset and each failed check.
Does not belong here: what the UI shows; Dagster does that from the same events.
"""

from __future__ import annotations

import logging
import re
import sys
import time
from typing import Any

import dagster as dg

_FOR_PEOPLE = re.compile(r"sparkify_assets\.errors\.\w+: ")
_ERROR = re.compile(r"[\w.]*(Error|Exception|Failure)\b")


class _Lines(logging.Formatter):
    """Says when an asset starts, what it holds when it is done, and why it failed."""

    def __init__(self) -> None:
        super().__init__()
        self.started: dict[str, float] = {}

    def format(self, record: logging.LogRecord) -> str:
        event = getattr(record, "dagster_event", None)
        if event is None:
            # What the assets say is below ERROR; above it the executor lists what it skips.
            said = record.getMessage().rpartition(" - ")[2]
            return f"    {said}" if record.levelno < logging.ERROR else ""
        return self._lines.get(event.event_type, _silent)(self, event)

    def _start(self, event: Any) -> str:
        self.started[event.step_key] = time.monotonic()
        return ""

    def _materialized(self, event: Any) -> str:
        materialization = event.event_specific_data.materialization
        key = materialization.asset_key.to_user_string()
        rows = materialization.metadata.get("dagster/partition_row_count")
        seconds = time.monotonic() - self.started.get(event.step_key, time.monotonic())
        return f"  {key:<24}{_count(rows):>15}  {seconds:6.1f} s"

    def _checked(self, event: Any) -> str:
        check = event.event_specific_data
        if check.passed:
            return ""
        how = "CHECK FAILED" if check.severity == dg.AssetCheckSeverity.ERROR else "WARNING"
        return f"  {how} {check.asset_key.to_user_string()}.{check.check_name}: " + (
            check.description or ""
        )

    def _failed(self, event: Any) -> str:
        data = event.event_specific_data
        if data.error and data.error.cls_name == "DagsterAssetCheckFailedError":
            return ""  # the check's own line says more
        said = data.user_failure_data.description if data.user_failure_data else None
        return f"  FAILED {_spoken(event.step_key)}: {said or _cause(data.error)}"

    def _failed_run(self, event: Any) -> str:
        # Of a failed step there is a line already.
        error = event.event_specific_data.error
        return f"  FAILED: {_cause(error)}" if error and not self.started else ""

    _lines = {  # noqa: RUF012
        "STEP_START": _start,
        "ASSET_MATERIALIZATION": _materialized,
        "ASSET_CHECK_EVALUATION": _checked,
        "STEP_FAILURE": _failed,
        "PIPELINE_FAILURE": _failed_run,
    }


def _silent(lines: _Lines, event: Any) -> str:
    return ""


def _spoken(step_key: str) -> str:
    return step_key.replace("_", " ")


def _count(rows: Any) -> str:
    return f"{rows.value:,} rows" if rows is not None else ""


def _cause(error: Any) -> str:
    """What an unforeseen error says, in one line: of a trace through Spark the last one."""
    while error.cause is not None:
        error = error.cause
    lines = [line.strip() for line in error.message.splitlines() if line.strip()]
    said = [line for line in lines if _ERROR.match(line)] or lines or ["no reason given"]
    if own := _FOR_PEOPLE.match(said[-1]):
        return said[-1].removeprefix(own[0])
    return f"{said[-1]} (the whole trace is in the run's log: make dev)"


class _Handler(logging.StreamHandler):
    def emit(self, record: logging.LogRecord) -> None:
        line = self.format(record)
        if line:
            self.stream.write(line + "\n")
            self.flush()


@dg.logger
def terminal_logger(context: dg.InitLoggerContext) -> logging.Logger:
    """A line for each asset and each failed check."""
    logger = logging.Logger("sparkify", logging.DEBUG)
    handler = _Handler(sys.stderr)
    handler.setFormatter(_Lines())
    logger.addHandler(handler)
    return logger
