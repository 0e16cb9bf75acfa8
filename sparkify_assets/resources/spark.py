"""The Spark session's settings.

Belongs here: how Spark is started on one machine or on a cluster, and how quiet it is.
Does not belong here: what is computed with it. Anything not set here can be set in Spark's own
`spark-defaults.conf`.
"""

from __future__ import annotations

import os
import re
import sys
from pathlib import Path

from dagster_pyspark import LazyPySparkResource

from sparkify_assets import capacity

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
        "spark.master": master,
        "spark.driver.memory": driver_memory(capacity.memory_bytes()),
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


def spark_resource() -> LazyPySparkResource:
    """A session that starts at first use, so that runs without Spark cost no JVM."""
    return LazyPySparkResource(spark_config=spark_settings())
