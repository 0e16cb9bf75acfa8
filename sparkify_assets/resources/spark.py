"""The Spark session: its settings, and what it did.

Belongs here: how Spark is started on one machine or on a cluster, how quiet it is, and which stages
ran. Does not belong here: what is computed with it. Anything not set here can be set in a run's
configuration, or for all runs in Spark's own `spark-defaults.conf`.
"""

from __future__ import annotations

import contextlib
import os
import re
import subprocess
import sys
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from dagster_pyspark import LazyPySparkResource
from dagster_pyspark.resources import spark_session_from_config
from pydantic import Field

from sparkify_assets import capacity
from sparkify_assets.errors import SparkDiedError

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

MASTER, DRIVER_MEMORY = "spark.master", "spark.driver.memory"
_TRIES = 4  # of a task; Spark's own default on a cluster, while on one machine it has none
_PATIENCE_MS = 5_000  # for Spark to note what has ended
_SECONDS_TO_DIE = 1  # between a broken connection and its process's end
MASTER_VARIABLE = "SPARKIFY_SPARK_MASTER"
_LOG_OPTION = "-Dlog4j2.configurationFile=" + Path(__file__).with_name("log4j2.properties").as_uri()
# The driver's JVM only hands blocks and reports around, for which the second compiler and the
# concurrent collector never pay off: without them it takes half the processor time to get going.
_JVM_OPTIONS = ("-XX:TieredStopAtLevel=1", "-XX:+UseSerialGC")
_WORKER_ENVIRONMENT = {
    # Spark runs a task on each core already. Polars reads this when it is imported.
    "POLARS_MAX_THREADS": "1",
    # A worker keeps the memory of one block for the next one. To give it back and be given it anew,
    # page by page, takes a fifth of the time of reading a log. For Polars' allocator and for glibc.
    "_RJEM_MALLOC_CONF": "dirty_decay_ms:-1,muzzy_decay_ms:-1",
    "MALLOC_MMAP_THRESHOLD_": str(2**30),
    "MALLOC_TRIM_THRESHOLD_": str(2**31),
}


def spark_master() -> str:
    """`SPARKIFY_SPARK_MASTER`, or as many cores of this machine as its memory is enough for."""
    fitting = capacity.tasks_that_fit(capacity.memory_bytes(), capacity.cores())
    return os.environ.get(MASTER_VARIABLE) or f"local[{fitting}]"


def _with_tries(master: str) -> str:
    """The same with another try for a task whose worker was killed, as it has on a cluster."""
    plain = re.fullmatch(r"local(?:\[(\*|\d+)\])?", master)
    return f"local[{plain[1] or 1},{_TRIES}]" if plain else master


def driver_memory(machine_bytes: int) -> str:
    """Spark's heap for a machine of this size: a fifth of it, from 1 to 16 GB.

    The rest is for the Python workers, whose Arrow buffers lie outside the heap, and for the
    operating system's file cache.
    """
    gigabytes = machine_bytes / 2**30 / 5
    return f"{round(min(max(gigabytes, 1), 16) * 1024)}m"


def spark_settings(master: str | None = None) -> dict[str, str]:
    """Spark's configuration, less what the user's `spark-defaults.conf` sets."""
    master = master or spark_master()
    # The workers must run this interpreter, not whichever `python3` comes first.
    os.environ.setdefault("PYSPARK_PYTHON", sys.executable)
    settings = {
        "spark.app.name": "sparkify-assets",
        MASTER: _with_tries(master),
        DRIVER_MEMORY: driver_memory(capacity.memory_bytes()),
        # defaultJavaOptions leaves extraJavaOptions to the user.
        "spark.driver.defaultJavaOptions": " ".join([_LOG_OPTION, *_JVM_OPTIONS]),
        **{f"spark.executorEnv.{name}": value for name, value in _WORKER_ENVIRONMENT.items()},
        "spark.ui.enabled": "false",
        "spark.ui.showConsoleProgress": "true" if sys.stderr.isatty() else "false",
        "spark.sql.session.timeZone": "UTC",
        "spark.sql.execution.arrow.pyspark.enabled": "true",
        "spark.sql.parquet.outputTimestampType": "TIMESTAMP_MICROS",
        "spark.sql.parquet.compression.codec": "zstd",
        # A Delta commit says what is whole; marker and checksum files would only be litter.
        "spark.hadoop.mapreduce.fileoutputcommitter.marksuccessfuljobs": "false",
        "spark.hadoop.fs.file.impl": "org.apache.hadoop.fs.RawLocalFileSystem",
    }
    if tasks := capacity.local_tasks(master):
        settings |= {
            "spark.driver.host": "127.0.0.1",
            "spark.driver.bindAddress": "127.0.0.1",
            "spark.sql.shuffle.partitions": str(4 * tasks),
        }
    # What a program sets is stronger than that file, so it is left out here.
    return {name: value for name, value in settings.items() if name not in _users_own()}


def _users_own() -> set[str]:
    """The names of the settings in Spark's own `spark-defaults.conf`, where there is one."""
    folder = os.environ.get("SPARK_CONF_DIR") or f"{os.environ.get('SPARK_HOME', '')}/conf"
    file = Path(folder, "spark-defaults.conf")
    lines = file.read_text().splitlines() if file.is_file() else []
    given = [re.split(r"[\s=]", line.strip(), maxsplit=1)[0] for line in lines]
    return {name for name in given if name.startswith("spark.")}


class Stage(NamedTuple):
    """What a stage of Spark came to."""

    what: str
    tasks: int
    failed_tasks: int
    seconds: float  # from its submission to its end
    task_seconds: float  # of all its tasks together


class SparkResource(LazyPySparkResource):
    """A session that starts at first use, so that runs without Spark cost no JVM."""

    master: str | None = Field(
        default=None,
        pattern=r"^(local(\[(\*|[1-9]\d*)(,\d+)?\])?|(spark|k8s|local-cluster)\S+|yarn)$",
        description=(
            f"Spark's master, as local[2] or spark://host:7077. Empty: {MASTER_VARIABLE}, and when "
            "that is not set, all cores of this machine that its memory is enough for."
        ),
    )
    driver_memory: str | None = Field(
        default=None,
        pattern=r"^[1-9]\d*[mMgG]$",
        description="The driver's heap, as 2g or 1500m. Empty: a fifth of this machine's memory.",
    )
    spark_config: dict[str, Any] = Field(
        default={}, description="Any of Spark's own settings, as spark.executor.memory: 4g."
    )

    @property
    def used_master(self) -> str:
        return self.master or spark_master()

    def _init_session(self) -> None:
        if self._known_session is None:
            self._spark_session = spark_session_from_config(self.settings)

    @property
    def _known_session(self) -> SparkSession | None:
        """None where none was needed yet, or its JVM was found dead."""
        from pyspark import SparkContext

        known: SparkSession | None = self._spark_session
        is_active = known and known.sparkContext is SparkContext._active_spark_context
        return known if is_active else None

    def died(self) -> SparkDiedError | None:
        """What to say where the JVM is gone; whoever uses a session next gets another one."""
        from pyspark import SparkContext
        from pyspark.sql import SparkSession as Session

        process = getattr(SparkContext._gateway, "proc", None)
        if process is None:
            return None
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(_SECONDS_TO_DIE)
        if process.poll() is None:
            return None
        # PySpark starts one JVM, and has no way of its own to forget it.
        SparkContext._active_spark_context = SparkContext._gateway = SparkContext._jvm = None
        Session._instantiatedSession = None
        return SparkDiedError(
            "Spark's process (java) was ended, as happens where the machine has no memory left. "
            "Leave it more, or have fewer tasks at once: master local[1] in the launchpad."
        )

    @property
    def settings(self) -> dict[str, Any]:
        """Spark's configuration; what a run sets is stronger than the user's own file."""
        master = self.master and _with_tries(self.master)
        run = {MASTER: master, DRIVER_MEMORY: self.driver_memory}
        of_run = {name: value for name, value in run.items() if value}
        return spark_settings(self.master) | of_run | self.spark_config

    @property
    def application_id(self) -> str | None:
        """Of the session; None where there is none."""
        session = self._known_session
        return session.sparkContext.applicationId if session else None

    def stages_since(self, moment: datetime) -> list[Stage]:
        """The stages that were submitted since then and have ended, the first one first."""
        from py4j.protocol import Py4JJavaError

        session = self._known_session
        if session is None:
            return []
        gateway: Any = session.sparkContext._gateway
        scala = session.sparkContext._jsc.sc()
        # The store learns of a stage's end from a queue; what is still in it is left out.
        with contextlib.suppress(Py4JJavaError):
            scala.listenerBus().waitUntilEmpty(_PATIENCE_MS)
        quantiles = gateway.new_array(gateway.jvm.double, 0)
        status = gateway.jvm.java.util.ArrayList()
        stages = scala.statusStore().stageList(None, False, False, quantiles, status)
        return [
            _stage(stage)
            for stage in map(stages.apply, reversed(range(stages.size())))
            if stage.completionTime().isDefined()
            and stage.submissionTime().get().getTime() >= moment.timestamp() * 1000
        ]


def _stage(stage: Any) -> Stage:
    submitted, completed = stage.submissionTime().get(), stage.completionTime().get()
    described = stage.description()
    return Stage(
        described.get() if described.isDefined() else stage.name(),
        stage.numTasks(),
        stage.numFailedTasks(),
        (completed.getTime() - submitted.getTime()) / 1000,
        stage.executorRunTime() / 1000,
    )
