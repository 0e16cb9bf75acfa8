"""`python -m sparkify_assets`: a dataset from its log to its scores, in this process.

Belongs here: starting a job as the UI would, and saying at the end what came out.
Does not belong here: what is run; that is the job's (`automation/jobs.py`).
"""

from __future__ import annotations

import argparse
import sys
from typing import Any

from sparkify_assets.datasets import DATASETS, dataset
from sparkify_assets.errors import SettingError, SparkifyError
from sparkify_assets.storage import printable

# The jobs after which there are scores to sum up.
_SCORING = ("everything", "retrain", "rescore")


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m sparkify_assets", description=__doc__)
    parser.add_argument(
        "--partition", default="mini", help=f"the dataset: {' or '.join(DATASETS)} (default: mini)"
    )
    parser.add_argument(
        "--job",
        default="everything",
        help="what is run (default: everything); docs/schedule.md has the jobs",
    )
    parser.add_argument("--as-of", help="the past day that the job backfill scores, YYYY-MM-DD")
    given = parser.parse_args(arguments)
    try:
        return run(dataset(given.partition).name, given.job, given.as_of)
    except SparkifyError as error:
        print(error, file=sys.stderr)
        return 2


def run(name: str, job: str = "everything", as_of: str | None = None) -> int:
    """Run a job on a dataset; 0 when every step and blocking check succeeded.

    as_of: of the job backfill alone, the day that it scores.
    """
    from sparkify_assets.automation import runs
    from sparkify_assets.automation.jobs import JOBS
    from sparkify_assets.definitions import build_defs
    from sparkify_assets.resources.lake import Lake, default_root
    from sparkify_assets.retries import RETRIES_TAG
    from sparkify_assets.summary import summary

    if job not in (names := [each.name for each in JOBS]):
        raise SettingError(f"There is no job {job!r}. There are: {', '.join(names)}.")
    if (job == "backfill") != bool(as_of):
        raise SettingError("--as-of names the day that the job backfill scores, and only that.")
    source = printable(dataset(name).source or "a simulated log")
    print(f"Materializing {name} from {source} into {default_root()} ({job})", file=sys.stderr)
    instance = runs.used_instance()
    try:
        runs.wait_for_turn(instance, name, lambda words: print(words, file=sys.stderr))
    except KeyboardInterrupt:
        print("Given up. Nothing was run.", file=sys.stderr)
        return 130
    resolved = build_defs().resolve_job_def(job)
    config: dict[str, Any] = dict(resolved.get_run_config_for_partition_key(name))
    if as_of:
        config["ops"]["churn_scores"]["config"]["as_of"] = as_of
    result = resolved.execute_in_process(
        instance=instance,
        partition_key=name,
        run_config=config,
        # Who waits at a terminal would rather know at once.
        tags={RETRIES_TAG: "no", "dagster/max_retries": "0"},
        raise_on_error=False,
    )
    if not result.success:
        print("The run failed. Tables that are not named above are as they were.", file=sys.stderr)
        return 1
    if job in _SCORING:
        print(summary(Lake(default_root()), name))
    return 0


if __name__ == "__main__":
    sys.exit(main())
