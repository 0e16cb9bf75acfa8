"""`python -m benchmarks`: every table, one after the other; about five hours in all.

With SPARKIFY_REAL_USERS the folder of real users' tables is told (see `real_users.py`).
"""

from __future__ import annotations

import json
import os
import subprocess
import sys

TABLES = (
    *("floor", "calibration", "oracle", "leaks", "drivers"),
    *("engines", "models", "growth", "live", "faults", "fuzz", "load"),
)
REAL_USERS_VARIABLE = "SPARKIFY_REAL_USERS"


def main() -> None:
    for name in TABLES:
        show(name)
    if folder := os.environ.get(REAL_USERS_VARIABLE):
        show("real_users", folder)
    else:
        print(
            f"\nreal_users\n  not run: {REAL_USERS_VARIABLE} names no folder of real users' tables"
        )


def show(name: str, *arguments: str) -> None:
    """Run one table's program and print its rows as they come."""
    print(f"\n{name}")
    process = subprocess.Popen(
        [sys.executable, "-m", f"benchmarks.{name}", *arguments], stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    for line in process.stdout:
        print(as_row(json.loads(line)), flush=True)
    if process.wait():
        sys.exit(f"benchmarks.{name} failed")


def as_row(figure: dict) -> str:
    goal = "" if figure["goal"] is None else f"goal {figure['goal']:g}"
    met = {True: "met", False: "MISSED", None: ""}[figure["met"]]
    return f"  {figure['row']:<52}{figure['value']:>10.3f} {figure['unit']:<8}{goal:<12}{met}"


if __name__ == "__main__":
    main()
