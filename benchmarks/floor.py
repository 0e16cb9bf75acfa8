"""How far `make run` on mini is from the least that Dagster and Spark cost together.

The floor is a Dagster job of one asset that starts Spark and counts one row.
"""

from __future__ import annotations

import statistics
import sys
import tempfile

from benchmarks.measuring import Run, in_turn, median_ratio, report, run

TIMES = 5
FLOOR = """
import dagster as dg
from dagster_pyspark import PySparkResource

@dg.asset
def one_row(pyspark: PySparkResource) -> int:
    return pyspark.spark_session.range(1).count()

job = dg.define_asset_job("floor", [one_row])
spark = PySparkResource(spark_config={"spark.master": "local[*]", "spark.ui.enabled": "false"})
defs = dg.Definitions([one_row], jobs=[job], resources={"pyspark": spark})
if __name__ == "__main__":
    job = defs.resolve_job_def("floor")
    assert job.execute_in_process(instance=dg.DagsterInstance.get()).success
"""


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        home = {"DAGSTER_HOME": folder, "SPARKIFY_LAKE": f"{folder}/lake"}

        def floor() -> Run:
            return run([sys.executable, "-c", FLOOR], home)

        def mini() -> Run:
            return run([sys.executable, "-m", "sparkify_assets"], home)

        floor(), mini()  # what is made once: the simulated log, Dagster's storage
        runs = in_turn(TIMES, floor=floor, mini=mini)
    ratio = median_ratio(runs["mini"], runs["floor"])
    report("floor", "mini, log to report, against the floor", ratio, "times", 3.0)
    for name, measured in runs.items():
        seconds = statistics.median(r.seconds for r in measured)
        report("floor", f"{name}, time", seconds, "s")
    peak = max(r.peak_bytes for r in runs["mini"]) / 2**30
    report("floor", "mini, peak memory of all processes", peak, "GiB", 3.0)


if __name__ == "__main__":
    main()
