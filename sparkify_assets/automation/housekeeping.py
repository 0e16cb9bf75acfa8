"""Housekeeping as a job: it makes nothing, and keeps a dataset's tables small and quick to read.

Belongs here: the job, its setting, and what is told of it. Does not belong here: what is put
together and removed (`resources/housekeeping.py`), and when (`schedules.py`).
"""

import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import dagster as dg
from pydantic import Field

from sparkify_assets import metadata
from sparkify_assets.datasets import PARTITIONS
from sparkify_assets.errors import SettingError
from sparkify_assets.progress import terminal_logger
from sparkify_assets.resources import housekeeping as keeping
from sparkify_assets.resources.io_manager import LakeResource
from sparkify_assets.retries import told

_SECONDS_A_DAY = 86_400
RAW_DAYS_VARIABLE = "SPARKIFY_RAW_DAYS"


class HousekeepingConfig(dg.Config):
    """How long what is not needed any more is kept."""

    keep_days: int = Field(
        default=7,
        ge=0,
        le=3650,
        description=(
            "Versions of tables that were the newest within so many days stay readable. Files that "
            "no version names are removed once they are older; below a day, let nothing else run."
        ),
    )
    raw_days: int | None = Field(
        default=None,
        ge=0,
        le=36_500,
        description=(
            "The lines of a log's file go from raw_events and rejected_lines, the only tables with "
            "names, once its last event is so many days old; 0 drops all. They are readable in "
            f"earlier versions for keep_days more. Empty: what {RAW_DAYS_VARIABLE} says, and when "
            "that is not set, they stay."
        ),
    )

    @property
    def used_raw_days(self) -> int | None:
        """Raises SettingError where the variable holds no such number."""
        given = os.environ.get(RAW_DAYS_VARIABLE)
        if self.raw_days is not None or not given:
            return self.raw_days
        try:
            return HousekeepingConfig(raw_days=int(given)).raw_days
        except ValueError:
            raise SettingError(
                f"{RAW_DAYS_VARIABLE} is {given!r}, but must be a whole number of days, 0 or more."
            ) from None


@dg.op(
    description=(
        "Puts small part files together, lets raw lines expire where that is set, removes the "
        "files of versions that are older than a number of days and that neither the live model "
        "nor a pinned one was made from, and the journals of searches that are as old."
    )
)
def keep_house(
    context: dg.OpExecutionContext, config: HousekeepingConfig, lake: LakeResource
) -> None:
    with told(lambda: (context.retry_number, context.run.tags)):
        kept = keeping.keep(
            lake.lake, context.partition_key, config.keep_days, config.used_raw_days
        )
    journals = list(_old_journals(context.instance, config.keep_days))
    for journal in journals:
        journal.unlink(missing_ok=True)
    before, after = (sum(table.size_before for table in kept), sum(table.size for table in kept))
    context.log.info(f"{before / 1e6:,.1f} MB became {after / 1e6:,.1f} MB")
    context.add_output_metadata(
        {
            "megabytes_before": round(before / 1e6, 3),
            "megabytes": round(after / 1e6, 3),
            "removed_files": sum(table.removed for table in kept),
            "removed_journals": len(journals),
            "tables": metadata.records(table._asdict() for table in kept),
        }
    )


def _old_journals(instance: dg.DagsterInstance, keep_days: int) -> Iterator[Path]:
    """A search that broke off goes on from its journal; after so long it will not."""
    folder = Path(instance.storage_directory(), "search")
    oldest = time.time() - keep_days * _SECONDS_A_DAY
    for file in folder.glob("*") if folder.is_dir() else ():
        if file.is_file() and file.stat().st_mtime < oldest:
            yield file


def _config(partition_key: str) -> dict[str, Any]:
    return {
        "ops": {"keep_house": {"config": HousekeepingConfig().model_dump()}},
        "loggers": {"console": {}},
    }


@dg.job(
    config=dg.PartitionedConfig(PARTITIONS, run_config_for_partition_key_fn=_config),
    logger_defs={"console": terminal_logger},
    tags={"dagster/max_retries": "1"},
    description=(
        "Keeps a dataset's tables small and quick to read: puts small files together and removes "
        "old versions. The rows stay as they are, but for raw lines that are to expire."
    ),
)
def housekeeping() -> None:
    keep_house()
