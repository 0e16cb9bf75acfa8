"""`python -m sparkify_assets`: a dataset from its log to its scores, in this process.

Belongs here: starting the job as the UI would, and saying at the end what came out.
Does not belong here: what is run; that is the job `everything`.
"""

from __future__ import annotations

import argparse
import os
import sys

from sparkify_assets.datasets import DATASETS, dataset
from sparkify_assets.errors import SparkifyError
from sparkify_assets.storage import printable


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m sparkify_assets", description=__doc__)
    parser.add_argument(
        "--partition", default="mini", help=f"the dataset: {' or '.join(DATASETS)} (default: mini)"
    )
    try:
        return run(dataset(parser.parse_args(arguments).partition).name)
    except SparkifyError as error:
        print(error, file=sys.stderr)
        return 2


def run(name: str) -> int:
    """Materialize everything of a dataset; 0 when every asset and blocking check succeeded."""
    import dagster as dg

    from sparkify_assets.definitions import build_defs
    from sparkify_assets.resources.lake import Lake, default_root
    from sparkify_assets.retries import RETRIES_TAG
    from sparkify_assets.summary import summary

    source = printable(dataset(name).source or "a simulated log")
    print(f"Materializing {name} from {source} into {default_root()}", file=sys.stderr)
    remembered = "DAGSTER_HOME" in os.environ
    instance = dg.DagsterInstance.get() if remembered else dg.DagsterInstance.ephemeral()
    job = build_defs().resolve_job_def("everything")
    result = job.execute_in_process(
        instance=instance,
        partition_key=name,
        # Who waits at a terminal would rather know at once.
        tags={RETRIES_TAG: "no"},
        raise_on_error=False,
    )
    if not result.success:
        print("The run failed. Tables that are not named above are as they were.", file=sys.stderr)
        return 1
    print(summary(Lake(default_root()), name))
    return 0


if __name__ == "__main__":
    sys.exit(main())
