"""What a run takes of this machine, and whether the machine has it: memory, cores and disk.

Belongs here: the machine's size, what was measured of a run, and the refusal of what will not fit,
before it starts.
Does not belong here: Spark's settings that follow from it (`resources/spark.py`), and what is said
when a disk fills up all the same (`storage.py`).
"""

from __future__ import annotations

import os
import re
import shutil
from pathlib import Path

from sparkify_assets.errors import CapacityError

GIB = 2**30

# Measured on the simulated full log, proportional memory at its highest, rounded up.
TASK_BYTES = int(1.9 * GIB)
"""A worker with a task: most while events are cleaned, a little less while the log is read."""
DRIVER_BYTES = int(0.8 * GIB)
"""The driver and its JVM, before there are rows to learn from."""
ROW_BYTES = 8_000
"""A row to learn from, with every copy and prediction that is made of it on the driver."""
LAKE_SHARE = 0.15
"""The tables, of the bytes of the uncompressed log: about a tenth."""
COMPRESSED_SHARE = 0.07
"""A compressed log, of its uncompressed bytes."""

_LIMITS = ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes")
_LOCAL = re.compile(r"local(?:\[(\*|\d+)(?:,\s*\d+)?\])?\Z")


def memory_bytes() -> int:
    """The memory of this machine, or of the container that this runs in, in bytes."""
    sizes = [os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")]
    limits = [Path(name).read_text().strip() for name in _LIMITS if Path(name).is_file()]
    return min(sizes + [int(limit) for limit in limits if limit.isdigit()])


def cores() -> int:
    """The cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def tasks_that_fit(memory: int, most: int, rows: int = 0) -> int:
    """How many tasks at a time fit into so much memory: at least one, at the most `most`."""
    return max(1, min(most, (memory - DRIVER_BYTES - rows * ROW_BYTES) // TASK_BYTES))


def local_tasks(master: str) -> int:
    """How many tasks Spark runs at a time on this machine; 0 where a cluster runs them."""
    found = _LOCAL.match(master)
    if not found:
        return 0
    return cores() if found[1] == "*" else int(found[1] or 1)


def check_memory(master: str, rows: int = 0) -> None:
    """Raise CapacityError where this machine lacks the memory for a run.

    master: Spark's. rows: to learn from, where that is known already.
    """
    tasks, has = local_tasks(master), memory_bytes()
    fixed = DRIVER_BYTES + rows * ROW_BYTES
    if fixed + tasks * TASK_BYTES <= has:
        return
    fewest = fixed + min(tasks, 1) * TASK_BYTES
    learning = f" with {rows:,} rows to learn from" if rows else ""
    if fewest > has:
        less = ", or fewer cutoffs (cutoff_every_days)" if rows else ""
        raise CapacityError(
            f"This machine has {_size(has)} of memory; a run{learning} takes about "
            f"{_size(fewest)}. Use a larger machine{less}."
        )
    raise CapacityError(
        f"This machine has {_size(has)} of memory; a run{learning} and {tasks} tasks at a time "
        f"takes about {_size(fixed + tasks * TASK_BYTES)}. "
        f"Set SPARKIFY_SPARK_MASTER=local[{tasks_that_fit(has, tasks, rows)}], or leave it unset."
    )


def check_disk(folder: Path, needs: float, what: str) -> None:
    """Raise CapacityError where a folder's disk has less free than `needs` bytes."""
    while not folder.exists() and folder != folder.parent:
        folder = folder.parent
    disk = shutil.disk_usage(folder)
    if disk.total and disk.free < needs:  # what is no disk, like /proc, has no size
        raise CapacityError(
            f"{what} takes about {_size(needs)} of disk; {folder} has {_size(disk.free)} free. "
            "Make room, or use another place."
        )


def _size(size: float) -> str:
    return f"{size / 1e9:.1f} GB" if size >= 1e9 else f"{size / 1e6:.0f} MB"
