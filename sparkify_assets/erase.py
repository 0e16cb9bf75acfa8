"""`python -m sparkify_assets.erase USER ...`: take users out of a dataset for good, and prove it.

`-` reads ids from standard input, a line each, so that they stand in no shell's history. Ends with
0 where no file of the lake holds them any more, with 1 where one does, and names it.

Belongs here: what is asked and told, and that nothing else runs meanwhile. Does not belong here:
what is done (`resources/erasure.py`). No id is printed, nor known to Dagster.
"""

import argparse
import os
import sys
from collections.abc import Collection

from sparkify_assets.datasets import DATASETS, dataset
from sparkify_assets.errors import SparkifyError

JOB = "erase"


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m sparkify_assets.erase", description=__doc__.partition("\n")[0]
    )
    parser.add_argument("users", nargs="+", metavar="USER", help="an id as in the log, or -")
    parser.add_argument(
        "--partition", default="mini", help=f"the dataset: {' or '.join(DATASETS)} (default: mini)"
    )
    given = parser.parse_args(arguments)
    users = {each for each in given.users if each != "-"}
    if "-" in given.users:
        users |= {line.strip() for line in sys.stdin}
    users.discard("")
    if not users:
        parser.error("no user is named")
    try:
        return run(dataset(given.partition).name, users)
    except SparkifyError as error:
        print(error, file=sys.stderr)
        return 2


def run(name: str, users: Collection[str]) -> int:
    """Erase users of a dataset, as a run that Dagster knows of, so that no other one begins."""
    import dagster as dg

    from sparkify_assets.automation import runs
    from sparkify_assets.resources import erasure
    from sparkify_assets.resources.io_manager import LakeResource
    from sparkify_assets.resources.lake import default_root

    place = LakeResource(root=default_root())
    lake, copies = place.lake, place.log_folder(name)
    if "DAGSTER_HOME" not in os.environ:
        print("DAGSTER_HOME is not set, so no other run is waited for.", file=sys.stderr)
    instance = runs.used_instance()
    found: dict[str, int] = {}
    traces: list[str] = []
    failed: list[SparkifyError] = []

    @dg.op(description="Takes users out of every table and its history.")
    def take_out(context: dg.OpExecutionContext) -> None:
        runs.sign(context.instance, context.run_id)
        try:
            found.update(erasure.erase(lake, name, users, copies))
            traces.extend(erasure.traces(lake, name, users, copies))
        except SparkifyError as error:
            failed.append(error)
            raise dg.Failure(str(error), allow_retries=False) from error
        context.add_output_metadata({"users": len(users), "traces": len(traces), **found})

    @dg.job(name=JOB)
    def job() -> None:
        take_out()

    try:
        runs.wait_for_turn(instance, name, lambda words: print(words, file=sys.stderr))
    except KeyboardInterrupt:
        print("Given up. Nobody was erased.", file=sys.stderr)
        return 130
    result = job.execute_in_process(
        instance=instance,
        tags={"dagster/partition": name},
        run_config={"loggers": {"console": {"config": {"log_level": "CRITICAL"}}}},
        raise_on_error=False,
    )
    if failed:
        raise failed[0]
    if not result.success:
        print("Erasing failed, and is not done; erase again.", file=sys.stderr)
        for event in result.filter_events(lambda each: each.is_failure):
            print(event.message, event.event_specific_data, file=sys.stderr)
        return 1
    return _told(name, len(users), found, traces)


def _told(name: str, users: int, found: dict[str, int], traces: list[str]) -> int:
    for table, rows in found.items():
        print(f"  {table:<24} {rows:>12,} rows")
    who = "1 user" if users == 1 else f"{users:,} users"
    if traces:
        print(f"Still in {len(traces):,} files, or unread:", *traces, sep="\n  ", file=sys.stderr)
        print("See that nothing else runs, and erase again.", file=sys.stderr)
        return 1
    if not any(found.values()):
        print("No table held them. Are the ids as in the log, and is it the right dataset?")
    print(
        f"No file of {name} in the lake holds {who} any more, and no ingest takes them in again.\n"
        "The log itself is not touched. Run the job `everything`, so that models, figures and the\n"
        "report are made without them."
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
