"""Writing a log: blocks of users are simulated, then their days are merged, block by block.

Belongs here: files, order and who does the work. Does not belong here: what happens in the log.

Blocks are independent of each other and so are days: both are simulated or written one after the
other in this process, or at the same time in Spark tasks. On a cluster the log's folder must be one
that all workers see.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from datetime import timedelta
from functools import lru_cache, partial
from pathlib import Path
from tempfile import mkdtemp
from typing import TYPE_CHECKING, TypeVar

import numpy as np
import polars as pl
from tqdm import tqdm

from sparkify_assets.capacity import check_disk
from sparkify_assets.errors import SettingError
from sparkify_assets.simulation.blocks import Block, blocks_of, draw_block, live, name_block
from sparkify_assets.simulation.machine import STATES
from sparkify_assets.simulation.population import SECONDS_A_DAY
from sparkify_assets.simulation.records import Pieces, Style, user_ids
from sparkify_assets.simulation.rhythm import LOG_START
from sparkify_assets.simulation.truth import truth_of

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

Item = TypeVar("Item")
Result = TypeVar("Result")

# From this many users on a log is made like the real full file, below like the mini one.
FULL_USERS = 10_000

# Measured: 1,177 events of 456 bytes a user in 61 days. Spare for the files in between.
BYTES_A_USER_DAY = 1_177 / 61 * 456
SPARE_DISK = 1.3

LINES_AT_ONCE = 50_000


@dataclass(frozen=True)
class LogSummary:
    """What a log holds. Its events are lines, its users those who show under an id of their own."""

    path: Path
    events: int
    users: int
    churned: int


@dataclass(frozen=True)
class BlockCounts:
    """What became of a block."""

    begun: int  # users that it began with
    days: tuple[int, ...]  # where in its file each day's events begin, and where the last one's end
    churned: int


@dataclass(frozen=True)
class Plan:
    """A log to be written: what tasks need to know."""

    blocks: tuple[Block, ...]
    style: Style
    folder: Path  # of the files in between
    one_by_one: bool  # whether all days are written into one file, one after the other
    with_truth: bool = False
    counts: tuple[BlockCounts, ...] = ()  # once the blocks are simulated

    def block_file(self, number: int) -> Path:
        """Where a block's events are, in time order."""
        return self.folder / f"block-{number:05}.npy"

    def truth_file(self, number: int) -> Path:
        """Where the truth of a block's users is."""
        return self.folder / f"truth-{number:05}.parquet"

    def day_file(self, day: int) -> Path:
        """Where a day's lines are."""
        if self.one_by_one:
            return self.whole
        return self.folder / f"{LOG_START + timedelta(days=day)}.jsonl"

    @property
    def whole(self) -> Path:
        """Where the log is put together: a file, or a folder of files of a day."""
        return self.folder / "whole"


def write_log(
    out: Path,
    *,
    users: int,
    days: int,
    seed: int,
    style: Style | None = None,
    daily: bool = False,
    truth: Path | None = None,
    spark: SparkSession | None = None,
    progress: bool = True,
) -> LogSummary:
    """Simulates a log from 2018-10-01 00:00 UTC on and writes it to `out` as JSON lines.

    The log shows exactly `users` users. The same users, days, seed and style give the same bytes,
    with `spark` (blocks and days are then done in its tasks) or without. Without a style, logs of
    10,000 users and more are "full", others "mini". With `daily`, `out` is a folder, and every day
    becomes a file in it, YYYY-MM-DD.jsonl. Nothing is at `out` before all of it is written. With
    `truth`, the truth behind the log is written there as Parquet: see `truth.truth_of`.

    Raises SettingError for figures that cannot be or a folder that cannot be written, and
    CapacityError when there is too little free disk.
    """
    if users < 1 or days < 1 or seed < 0:
        raise SettingError(
            f"A log needs at least one user and one day and a seed of 0 or more, "
            f"not {users} users, {days} days and seed {seed}."
        )
    chosen: Style = style or ("full" if users >= FULL_USERS else "mini")
    folder = _folder_beside(out, daily)
    try:
        needs = users * days * BYTES_A_USER_DAY * SPARE_DISK
        check_disk(folder.parent, needs, f"The log of {users:,} users and {days} days")
        one_by_one = spark is None and not daily
        plan = Plan(
            tuple(blocks_of(users, days, seed)), chosen, folder, one_by_one, truth is not None
        )
        show = partial(tqdm, disable=not progress, delay=2, leave=False)
        done = _each(partial(simulate_block, plan), range(len(plan.blocks)), spark)
        counts = tuple(show(done, total=len(plan.blocks), desc="simulating users", unit="block"))
        plan = replace(plan, counts=counts)
        written = _each(partial(write_day, plan), range(days), spark)
        for day in show(written, total=days, desc="writing the log", unit="day"):
            _add(day, plan.whole, daily)
        if truth is not None:
            _write_truth(plan, truth)
        _publish(plan.whole, out, daily)
    except OSError as error:
        raise SettingError(f"Cannot write a log to {out}: {error.strerror}.") from error
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    events = sum(block.days[-1] for block in counts)
    return LogSummary(out, events, users, sum(block.churned for block in counts))


def simulate_block(plan: Plan, number: int) -> BlockCounts:
    """Simulates a block and leaves its events in the plan's folder."""
    life = live(plan.blocks[number])
    np.save(plan.block_file(number), life.events)
    if plan.with_truth:
        truth_of(life).write_parquet(plan.truth_file(number))
    left = np.array([state.auth == "Cancelled" for state in STATES])
    churned = int(np.count_nonzero(left[life.events["state"]]))
    midnights = np.arange(plan.blocks[number].days + 1) * SECONDS_A_DAY
    days = np.searchsorted(life.events["time"], midnights)
    return BlockCounts(life.begun, tuple(days.tolist()), churned)


def write_day(plan: Plan, day: int) -> Path:
    """Merges a day's events of all blocks and writes its lines; returns the file."""
    parts = []
    users_before = 0
    for block, counts in zip(plan.blocks, plan.counts, strict=True):
        events = np.load(plan.block_file(block.number), mmap_mode="r")
        part = np.array(events[counts.days[day] : counts.days[day + 1]])
        part["user"] += users_before
        users_before += counts.begun
        parts.append(part)
    events = np.concatenate(parts)
    events = events[np.argsort(events["time"], kind="stable")]
    pieces = _pieces(plan)
    with plan.day_file(day).open("ab" if plan.one_by_one else "wb") as file:
        for first in range(0, len(events), LINES_AT_ONCE):
            file.write(pieces.lines(events[first : first + LINES_AT_ONCE]))
    return plan.day_file(day)


@lru_cache(maxsize=1)
def _pieces(plan: Plan) -> Pieces:
    begun = [(block, counts.begun) for block, counts in zip(plan.blocks, plan.counts, strict=True)]
    populations = [draw_block(block, users) for block, users in begun]
    return Pieces(
        pl.concat([name_block(block, users) for block, users in begun]),
        np.concatenate([population.registration for population in populations]),
        user_ids(np.concatenate([population.cohort for population in populations]), plan.style),
        plan.style,
    )


def _write_truth(plan: Plan, path: Path) -> None:
    ids = _pieces(plan).ids
    parts = []
    users_before = 0
    for block, counts in zip(plan.blocks, plan.counts, strict=True):
        part = pl.read_parquet(plan.truth_file(block.number))
        own = ids.slice(users_before, len(part)).alias("user_id")
        parts.append(part.insert_column(0, own))
        users_before += counts.begun
    whole = plan.folder / "truth.parquet"
    pl.concat(parts).write_parquet(whole)
    path.parent.mkdir(parents=True, exist_ok=True)
    shutil.move(whole, path)


def _each(
    work: Callable[[Item], Result], items: Sequence[Item], spark: SparkSession | None
) -> Iterator[Result]:
    """Does the work for each item, here or in Spark tasks; yields the results in order."""
    if spark is None:
        yield from map(work, items)
        return
    context = spark.sparkContext

    def in_a_task(item: Item) -> Result:
        context.setJobDescription("simulating the log")  # of this thread's jobs
        # collect() and not first(): a worker whose results are not read to the end is not used
        # again, and a new one has all to import and to prepare.
        return context.parallelize([item], 1).map(work).collect()[0]

    # A job each, so that a result can be used as soon as it is there.
    with ThreadPoolExecutor(context.defaultParallelism) as threads:
        yield from threads.map(in_a_task, items)


def _folder_beside(out: Path, daily: bool) -> Path:
    """An own folder beside `out`: renaming from there is atomic."""
    if out.exists() and out.is_dir() != daily:
        kind = "a file" if daily else "a folder"
        raise SettingError(f"Cannot write a log to {out}: it is {kind}.")
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        return Path(mkdtemp(prefix=f".{out.name}.", suffix=".partial", dir=out.parent))
    except OSError as error:
        raise SettingError(f"Cannot write a log to {out}: {error.strerror}.") from error


def _add(day: Path, whole: Path, daily: bool) -> None:
    """Takes a day into the log that is being put together."""
    if daily:
        whole.mkdir(exist_ok=True)
        day.rename(whole / day.name)
    elif day != whole:
        with whole.open("ab") as log, day.open("rb") as lines:
            shutil.copyfileobj(lines, log, 1 << 24)
        day.unlink()


def _publish(whole: Path, out: Path, daily: bool) -> None:
    if daily and out.is_dir():
        for day in sorted(whole.iterdir()):
            day.replace(out / day.name)
    else:
        whole.replace(out)
