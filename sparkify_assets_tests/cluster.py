"""A standalone Spark cluster on this machine: a master and workers, each a process of its own.

Everything listens on 127.0.0.1. Started from the installed pyspark, as `sbin/start-master.sh` of a
Spark distribution would.
"""

from __future__ import annotations

import contextlib
import json
import os
import random
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pyspark

_CLASS = Path(pyspark.__file__).parent / "bin" / "spark-class"
_PACKAGE = "org.apache.spark.deploy"
_SECONDS_TO_START = 60


@dataclass
class Cluster:
    """A running cluster of workers with one core each."""

    url: str
    folder: Path
    processes: dict[str, subprocess.Popen[bytes]] = field(default_factory=dict)

    def environment(self) -> dict[str, str]:
        """What a driver needs to run on it."""
        return {"SPARKIFY_SPARK_MASTER": self.url, "SPARK_LOCAL_IP": "127.0.0.1"}

    def kill(self, name: str) -> None:
        """End a worker and the executors that it started at once, as a lost machine would."""
        process = self.processes.pop(name)
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()

    def start(self, name: str, *arguments: str) -> None:
        with (self.folder / f"{name}.log").open("wb") as log:
            self.processes[name] = subprocess.Popen(
                [str(_CLASS), *arguments],
                env={
                    **os.environ,
                    "SPARK_LOCAL_IP": "127.0.0.1",
                    "SPARK_PUBLIC_DNS": "127.0.0.1",
                    "SPARK_DAEMON_MEMORY": "256m",
                    "SPARK_DAEMON_JAVA_OPTS": "-Dspark.master.rest.enabled=false",
                    "PYSPARK_PYTHON": sys.executable,
                },
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    def stop(self) -> None:
        for name in list(self.processes):
            with contextlib.suppress(ProcessLookupError):
                self.kill(name)


@contextlib.contextmanager
def cluster(folder: Path, workers: int = 2) -> Iterator[Cluster]:
    """A cluster that has all of its workers, for as long as the context lasts."""
    port, ui = free_port(), free_port()
    running = Cluster(f"spark://127.0.0.1:{port}", folder)
    try:
        address = ["--host", "127.0.0.1", "--port", str(port), "--webui-port", str(ui)]
        running.start("master", f"{_PACKAGE}.master.Master", *address)
        _wait_for(f"http://127.0.0.1:{ui}/json/", 0)
        for number in range(workers):
            size = ["--host", "127.0.0.1", "--cores", "1", "--memory", "1g", "--webui-port", "0"]
            work = ["--work-dir", str(folder / f"work-{number}")]
            name = f"worker-{number}"
            running.start(name, f"{_PACKAGE}.worker.Worker", *size, *work, running.url)
        _wait_for(f"http://127.0.0.1:{ui}/json/", workers)
        yield running
    finally:
        running.stop()


def _wait_for(status: str, workers: int) -> None:
    """Until the master says that it has so many workers."""
    end = time.monotonic() + _SECONDS_TO_START
    while time.monotonic() < end:
        # At first its page may be there, and not yet what it tells programs.
        soon = contextlib.suppress(OSError, json.JSONDecodeError)
        with soon, urllib.request.urlopen(status, timeout=5) as answer:
            if json.load(answer)["aliveworkers"] >= workers:
                return
        time.sleep(0.2)
    raise TimeoutError(f"the cluster did not have {workers} workers in {_SECONDS_TO_START} s")


def free_port() -> int:
    """A port of this machine that nothing listens on.

    Below those that the system itself gives out, so that no connection takes it before it is used.
    """
    while True:
        with socket.socket() as probe, contextlib.suppress(OSError):
            probe.bind(("127.0.0.1", random.SystemRandom().randrange(15_000, 32_000)))
            return int(probe.getsockname()[1])
