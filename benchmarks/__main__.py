"""`python -m benchmarks`: every table, one after the other; about an hour and a half in all."""

from __future__ import annotations

import json
import subprocess
import sys

TABLES = (
    *("floor", "calibration", "oracle", "leaks", "drivers"),
    *("engines", "models", "growth"),
)


def main() -> None:
    for name in TABLES:
        print(f"\n{name}")
        process = subprocess.Popen(
            [sys.executable, "-m", f"benchmarks.{name}"], stdout=subprocess.PIPE, text=True
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
