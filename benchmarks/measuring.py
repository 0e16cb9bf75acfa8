"""How benchmarks measure and report: whole processes, several runs, medians, ratios in one run.

Belongs here: running commands, their time and memory, and the lines that are printed.
Does not belong here: what is measured.
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

_SAMPLE_SECONDS = 0.1
# Looking at the memory of a process of many gigabytes takes the kernel a tenth of a second, in
# which it stands still. Samples are so far apart that they take at most this share of the time.
_SAMPLING_SHARE = 0.01


@dataclass(frozen=True)
class Run:
    """One run of a command with everything that it started."""

    seconds: float
    peak_bytes: int  # proportional memory of all its processes together, at its highest


def run(command: Sequence[str], environment: Mapping[str, str] | None = None) -> Run:
    """Run a command to its end. Raises RuntimeError with its output when it fails."""
    start = time.perf_counter()
    process = subprocess.Popen(
        command,
        env={**os.environ, **(environment or {})},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    peak = _Peak(process.pid)
    output, _ = process.communicate()
    seconds = time.perf_counter() - start
    if process.returncode:
        raise RuntimeError(f"{' '.join(command)} failed ({process.returncode}):\n{output[-4000:]}")
    return Run(seconds, peak.stop())


class _Peak(threading.Thread):
    """Samples the memory of a process and its descendants."""

    def __init__(self, pid: int) -> None:
        super().__init__(daemon=True)
        self.pid, self.peak, self.done = pid, 0, threading.Event()
        self.start()

    def run(self) -> None:
        pause = _SAMPLE_SECONDS
        while not self.done.wait(pause):
            start = time.perf_counter()
            self.peak = max(self.peak, sum(_memory(pid) for pid in _family(self.pid)))
            pause = max(_SAMPLE_SECONDS, (time.perf_counter() - start) / _SAMPLING_SHARE)

    def stop(self) -> int:
        self.done.set()
        self.join()
        return self.peak


def _family(root: int) -> list[int]:
    parents: dict[int, int] = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            with suppress(OSError):
                after_name = (entry / "stat").read_text().rpartition(")")[2].split()
                parents[int(entry.name)] = int(after_name[1])
    family = [root]
    for pid in family:
        family.extend(child for child, parent in parents.items() if parent == pid)
    return family


def _memory(pid: int) -> int:
    """Proportional set size in bytes: shared pages count once over all who share them."""
    with suppress(OSError):
        for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
            if line.startswith("Pss:"):
                return int(line.split()[1]) * 1024
    return 0


def in_turn(times: int, **commands: Callable[[], Run]) -> dict[str, list[Run]]:
    """Run the commands one after the other, `times` times, so that all see the same noise."""
    runs: dict[str, list[Run]] = {name: [] for name in commands}
    for _ in range(times):
        for name, command in commands.items():
            runs[name].append(command())
    return runs


def median_ratio(above: Sequence[Run], below: Sequence[Run]) -> float:
    """The median over pairs of the ratio of their seconds."""
    return statistics.median(a.seconds / b.seconds for a, b in zip(above, below, strict=True))


def report(
    benchmark: str,
    row: str,
    value: float,
    unit: str,
    goal: float | None = None,
    *,
    most: bool = True,
) -> None:
    """Print one figure as a JSON line. `most`: the goal is an upper bound."""
    met = None if goal is None else (value <= goal if most else value >= goal)
    line = {"benchmark": benchmark, "row": row, "value": round(value, 4), "unit": unit}
    json.dump(line | {"goal": goal, "met": met}, sys.stdout)
    print(flush=True)
