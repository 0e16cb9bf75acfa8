"""A log of which every other line is mutated: what becomes of its lines.

`python -m benchmarks.fuzz [--lines 2000000] [--seed 1] [--real FOLDER]`

The log is read by the job's own first step, into a lake, and so is one of as many lines that are
as they should be. With `--real` the lines that are mutated are real ones from that folder.

Belongs here: how many lines, and the figures. Does not belong here: the mutations
(`sparkify_assets_tests/fuzzing.py`).
"""

from __future__ import annotations

import argparse
import itertools
import random
import sys
import tempfile
from collections import Counter
from pathlib import Path

import numpy as np
import polars as pl

from benchmarks.measuring import Run, report, run
from sparkify_assets.resources.lake import Lake
from sparkify_assets.tables import RAW_EVENTS, REJECTED_LINES
from sparkify_assets_tests.fuzzing import Mutated, corpus, mutated

READ = """
import sys
from pathlib import Path
from sparkify_assets_tests.running import run
from sparkify_assets.resources.lake import Lake
read = run(Lake(sys.argv[2]), Path(sys.argv[1]), "raw_events", "rejected_lines",
           ingest={"max_rejected_share": 1.0})
print(read.said)
sys.exit(not read.success)
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--lines", type=int, default=2_000_000)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--real", type=Path, help="a folder of real rows")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        events, chance = corpus(given.real), random.Random(given.seed)
        lines = itertools.islice(mutated(events, chance), given.lines)
        became = Fates(folder / "mutated.json", lines)
        ran = read(became.log, folder / "lake")
        became.judge(Lake(str(folder / "lake")))
        plain = folder / "plain.json"
        with plain.open("wb") as file:
            fine = (each.line for each in mutated(events, chance) if each.how == "as it is")
            file.writelines(line + b"\n" for line in itertools.islice(fine, given.lines))
        ran_plain = read(plain, folder / "plain")
    report("fuzz", "lines", given.lines, "lines")
    report("fuzz", "lines mutated", became.mutated, "lines", 1_000_000, most=False)
    report("fuzz", "events", became.events, "lines")
    report("fuzz", "rejected lines", became.rejected, "lines")
    report("fuzz", "lines lost or counted twice", became.lost_or_twice, "lines", 0)
    report("fuzz", "lines judged wrongly", became.misjudged.total(), "lines", 0)
    report("fuzz", "peak memory of all processes", ran.peak_bytes / 2**30, "GiB")
    report("fuzz", "the same, lines as they should be", ran_plain.peak_bytes / 2**30, "GiB")
    report(
        "fuzz", "seconds against lines as they should be", ran.seconds / ran_plain.seconds, "times"
    )
    for how, count in became.misjudged.most_common():
        print(f"{how}: {count} judged wrongly", file=sys.stderr)


def read(log: Path, lake: Path) -> Run:
    return run([sys.executable, "-W", "ignore", "-c", READ, str(log), str(lake)])


class Fates:
    """Where each line lies in a log, what it should become, and what it became."""

    def __init__(self, log: Path, lines: itertools.islice[Mutated]) -> None:
        self.log = log
        starts, sure, how, at = [], [], [], 0
        with log.open("wb") as file:
            for each in lines:
                file.write(each.line + b"\n")
                starts.append(at)
                sure.append({True: 1, False: 0, None: -1}[each.is_event])
                how.append(each.how)
                at += len(each.line) + 1
        self.starts, self.sure, self.how = np.array(starts), np.array(sure), how
        self.mutated = len(how) - how.count("as it is")

    def judge(self, lake: Lake) -> None:
        events = lake.read_polars("mini", RAW_EVENTS, ["item_in_session"])["item_in_session"]
        offsets = lake.read_polars("mini", REJECTED_LINES, ["byte_offset"])["byte_offset"]
        self.events, self.rejected = len(events), len(offsets)
        refused = np.isin(self.starts, offsets.to_numpy())
        wrong = (self.sure >= 0) & (self.sure == refused)
        self.misjudged = Counter(self.how[number] for number in np.flatnonzero(wrong))
        # Lines of which it is not said beforehand what they are may carry any serial number.
        times = events.value_counts().filter(
            pl.col("item_in_session").is_in(np.flatnonzero(self.sure == 1))
        )
        lost = int((self.sure == 1).sum()) - times.height
        unaccounted = abs(len(self.how) - self.events - self.rejected)
        strays = self.rejected - int(refused.sum())  # no line starts there, or one is there twice
        self.lost_or_twice = lost + unaccounted + strays


if __name__ == "__main__":
    main()
