"""`python -m sparkify_assets.registry`: which models there are, and which one scores the users.

Belongs here: the command, and how it shows and stores the registry.
Does not belong here: its rules (`churn/registry.py`).
"""

from __future__ import annotations

import argparse
import sys
from datetime import datetime, timezone

import polars as pl

from sparkify_assets.churn import registry
from sparkify_assets.datasets import DATASETS, dataset
from sparkify_assets.errors import SparkifyError
from sparkify_assets.resources.lake import Lake, default_root
from sparkify_assets.tables import MODEL_REGISTRY


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m sparkify_assets.registry",
        description="Which models there are, and which one scores the users.",
    )
    parser.add_argument(
        "--partition", default="mini", help=f"the dataset: {' or '.join(DATASETS)} (default: mini)"
    )
    commands = parser.add_subparsers(dest="command")
    commands.add_parser("list", help="every version, the newest first (what is done by default)")
    pin = commands.add_parser("pin", help="let a version score users, whatever is trained")
    pin.add_argument("version")
    commands.add_parser("unpin", help="let the next training decide again")
    commands.add_parser("rollback", help="pin the version that was live before the present one")
    given = parser.parse_args(arguments)
    try:
        name = dataset(given.partition).name
        lake = Lake(default_root())
        if given.command in (None, "list"):
            print(listed(lake.read_polars(name, MODEL_REGISTRY)))
        else:
            print(changed(lake, name, given.command, getattr(given, "version", "")))
    except SparkifyError as error:
        print(error, file=sys.stderr)
        return 2
    return 0


def listed(known: pl.DataFrame) -> str:
    """A line a version, the newest first."""
    lines = [f"{'version':<12}  {'stage':<12}  {'trained (UTC)':<16}  {'model':<19}  PR AUC  why"]
    for row in known.sort("trained_at", descending=True).iter_rows(named=True):
        stage = f"{row['stage']}{', pinned' if row['pinned'] else ''}"
        lines.append(
            f"{row['model_version']:<12}  {stage:<12}  {row['trained_at']:%Y-%m-%d %H:%M}  "
            f"{row['model']:<19}  {row['pr_auc']:.3f}   {row['decision']}"
        )
    return "\n".join(lines)


def changed(lake: Lake, name: str, command: str, version: str) -> str:
    """Pin, unpin or roll back, as the table's next version; what was done, and what to do next."""
    before, now = lake.version(name, MODEL_REGISTRY.name), datetime.now(timezone.utc)
    known = lake.read_polars(name, MODEL_REGISTRY)
    if command == "pin":
        after = registry.pin(known, version, now)
    elif command == "rollback":
        after = registry.rollback(known, now)
    else:
        after = registry.unpin(known)
    said = before.metadata | {"run_id": f"python -m sparkify_assets.registry {command}"}
    lake.write_polars(name, MODEL_REGISTRY, after, said, after=before.number)
    live = registry.live(after)
    if command == "unpin":
        return (
            f"{live['model_version'] if live else 'None'} is live in {name}, and no longer pinned: "
            "the next training decides."
        )
    assert live is not None  # what was pinned is live
    return (
        f"{live['model_version']} is live in {name} and pinned. To score with it:\n"
        "  dagster asset materialize -m sparkify_assets.definitions "
        f"--select churn_factors,churn_scores,churn_report --partition {name}"
    )


if __name__ == "__main__":
    sys.exit(main())
