"""Which event log is read: the user's own, or a simulated one.

Belongs here: the choice between the two. Does not belong here: opening files (`source.py`) and how
a log is simulated (`simulation/`).
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from sparkify_assets import __version__
from sparkify_assets.capacity import COMPRESSED_SHARE
from sparkify_assets.digests import digest
from sparkify_assets.events.source import Fingerprint, LogFile, find_log_files
from sparkify_assets.storage import explained, open_filesystem, printable

if TYPE_CHECKING:
    from pyspark.sql import SparkSession


@dataclass(frozen=True)
class Log:
    """The files of an event log, and what to call it."""

    files: list[LogFile]
    source: str
    simulated: bool
    fingerprint: Fingerprint
    identity: str
    """The same for as long as files come to the same log; it tells nothing of where that is."""


def uncompressed_bytes(files: Iterable[LogFile]) -> float:
    """About; what a compressed file holds is not known before it is read."""
    return sum(f.size / (COMPRESSED_SHARE if f.compression else 1) for f in files)


def given_log(source: str, *, variable: str, folder: Path) -> Log:
    """The user's own log. URLs that Spark's workers cannot open are downloaded into `folder`.

    Raises SourceError, naming `variable`, when there is no such log.
    """
    files = find_log_files(source, variable=variable, downloads=folder)
    return Log(
        files,
        printable(source),
        simulated=False,
        fingerprint=Fingerprint.of(files),
        identity=identity(source),
    )


def identity(source: str) -> str:
    """The same however a source is written: relative or not, with a slash at its end or without.

    A password or signature that is renewed makes it no other log either.
    """
    place = printable(source.strip())
    is_url = "://" in place
    return digest(place.rstrip("/") if is_url else os.path.abspath(os.path.expanduser(place)))


def simulated_fingerprint(name: str, *, users: int, days: int, seed: int) -> Fingerprint:
    """Of a simulated log, written or not: the same settings give the same log again."""
    return Fingerprint(1, 0, _file_name(name, users, days, seed))


def _file_name(name: str, users: int, days: int, seed: int) -> str:
    return f"{simulated_prefix(name)}{__version__}-{users}x{days}-seed{seed}.json"


def simulated_prefix(name: str) -> str:
    """What the names of a dataset's simulated logs begin with."""
    return f"{name}-simulated-"


def simulated_log(
    name: str, *, users: int, days: int, seed: int, folder: Path, spark: SparkSession | None
) -> Log:
    """A simulated log, written into `folder` unless this version of the project did so before."""
    from sparkify_assets.simulation import write_log

    path = folder / _file_name(name, users, days, seed)
    if not path.exists():
        with explained(str(folder)):
            filesystem, place = open_filesystem(str(folder))
            filesystem.create_dir(place, recursive=True)
        write_log(path, users=users, days=days, seed=seed, spark=spark)
    files = find_log_files(str(path), variable=f"the simulated {name} log", downloads=folder)
    fingerprint = simulated_fingerprint(name, users=users, days=days, seed=seed)
    return Log(
        files,
        f"simulated: {users:,} users, {days} days, seed {seed}",
        simulated=True,
        fingerprint=fingerprint,
        identity=fingerprint.digest,
    )
