"""Looks up the locked dependencies among known vulnerabilities.

Ends with 1 where one is known that is not in ACCEPTED. Where nobody can be asked that is said, and
nothing fails: whether a network is there says nothing of the project.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

LOCK = Path(__file__).parents[1] / "requirements.lock"
SECONDS = 300
# Why a known vulnerability does no harm here, by its id.
ACCEPTED: dict[str, str] = {}


def verdict(packages: list[dict[str, Any]]) -> tuple[list[str], int]:
    """What to say of the packages that pip-audit tells of, and how to end."""
    skipped = [each for each in packages if "skip_reason" in each]
    said, bad = [], 0
    for package in packages:
        for found in package.get("vulns", []):
            reason = ACCEPTED.get(found["id"])
            bad += reason is None
            better = ", ".join(found["fix_versions"]) or "none"
            said.append(
                f"{package['name']} {package['version']}: {found['id']}, fixed in: {better}"
                + (f"; accepted: {reason}" if reason else "")
            )
    if len(skipped) == len(packages):
        return ["Dependencies were NOT audited: the index in use tells of no vulnerabilities."], 0
    said.append(
        f"{len(packages) - len(skipped)} dependencies audited, {bad} with a vulnerability"
        + (f"; {len(skipped)} could not be looked up" if skipped else "")
    )
    return said, int(bad > 0)


def main() -> int:
    command = [sys.executable, "-m", "pip_audit", "--requirement", str(LOCK), "--no-deps"]
    options = ["--disable-pip", "--progress-spinner", "off", "--format", "json"]
    try:
        done = subprocess.run([*command, *options], capture_output=True, text=True, timeout=SECONDS)
        packages = json.loads(done.stdout)["dependencies"]
    except subprocess.TimeoutExpired:
        print(f"Dependencies were NOT audited: no answer within {SECONDS} seconds.")
        return 0
    except ValueError:
        why = (done.stderr.strip().splitlines() or ["nothing"])[-1]
        print(f"Dependencies were NOT audited: {why}")
        return 0
    said, code = verdict(packages)
    print("\n".join(said))
    return code


if __name__ == "__main__":
    sys.exit(main())
