"""Running the pipeline in this process, and reading what it left in the lake."""

from __future__ import annotations

import contextlib
import io
import os
import shutil
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import dagster as dg
import duckdb
import duckdb_ext  # type: ignore[import-untyped]
import polars as pl
import psutil
import pytest

from sparkify_assets.__main__ import main
from sparkify_assets.datasets import PARTITIONS
from sparkify_assets.definitions import build_defs
from sparkify_assets.resources.lake import Lake
from sparkify_assets.retries import RETRIES_TAG
from sparkify_assets.tables import TABLES

EVENTS_TO_FEATURES = (
    "raw_events",
    "rejected_lines",
    "cleaned_events",
    "label_days",
    "user_labels",
    "user_days",
    "user_kinds",
    "feature_table",
)


@dataclass(frozen=True)
class Run:
    """What came of a run of the job `everything`, or of some of its assets."""

    lake: Lake
    result: dg.ExecuteInProcessResult
    said: str
    """What the terminal showed."""

    @property
    def success(self) -> bool:
        return self.result.success

    @property
    def materialized(self) -> dict[str, dict[str, Any]]:
        """The metadata of every materialized asset."""
        return {
            event.asset_key.to_user_string(): {
                name: value.value
                for name, value in event.step_materialization_data.materialization.metadata.items()
            }
            for event in self.result.get_asset_materialization_events()
            if event.asset_key
        }

    @property
    def checks(self) -> dict[str, bool]:
        return {
            f"{check.asset_key.to_user_string()}:{check.check_name}": check.passed
            for check in self.result.get_asset_check_evaluations()
        }


@dataclass(frozen=True)
class Said:
    """What a person at the terminal got."""

    code: int
    out: str
    err: str

    @property
    def lines(self) -> list[str]:
        """The lines that tell of the run, without the one that says what is about to be run."""
        return [line for line in self.err.splitlines() if not line.startswith("Materializing")]


def run(
    lake: Lake,
    source: Path | str | None,
    *assets: str,
    job: str = "everything",
    **settings: dict[str, Any],
) -> Run:
    """Materialize these assets of mini, or all those of the job, with their checks.

    `settings`: of an op, those that differ from the dataset's configuration.
    """
    with _settings(lake, source), _terminal() as (_, err):
        made = build_defs().resolve_job_def(job)
        config: dict[str, Any] = dict(made.get_run_config_for_partition_key("mini"))
        for op, differing in settings.items():
            config["ops"][op]["config"] |= differing
        result = made.execute_in_process(
            instance=dg.DagsterInstance.ephemeral(),
            partition_key="mini",
            run_config=config,
            tags={RETRIES_TAG: "no"},
            asset_selection=[dg.AssetKey(name) for name in assets] or None,
            raise_on_error=False,
        )
    return Run(lake, result, err.getvalue())


def run_checks(lake: Lake) -> dict[str, dg.AssetCheckEvaluation]:
    """What every check says of the tables as they are."""
    job = dg.define_asset_job(
        "checks", selection=dg.AssetSelection.all_asset_checks(), partitions_def=PARTITIONS
    )
    with _settings(lake, None), _terminal():
        result = (
            dg.Definitions.merge(build_defs(), dg.Definitions(jobs=[job]))
            .resolve_job_def("checks")
            .execute_in_process(
                instance=dg.DagsterInstance.ephemeral(),
                # Dagster 1.13 takes `partition_key` only where there is an asset as well.
                tags={"dagster/partition": "mini"},
                raise_on_error=False,
            )
        )
    return {
        f"{check.asset_key.to_user_string()}:{check.check_name}": check
        for check in result.get_asset_check_evaluations()
    }


def command(lake: Lake, source: Path | None, partition: str = "mini") -> Said:
    """`python -m sparkify_assets --partition ...`."""
    with _settings(lake, source), _terminal() as (out, err):
        code = main(["--partition", partition])
    return Said(code, out.getvalue(), err.getvalue())


def environment(lake: Lake, source: Path | str | None) -> dict[str, str]:
    """The environment of a process of its own."""
    unset = ("SPARKIFY_MINI_SOURCE", "SPARKIFY_REPORTS_URL", "DAGSTER_HOME")
    kept = {name: value for name, value in os.environ.items() if name not in unset}
    named = {"SPARKIFY_MINI_SOURCE": str(source)} if source else {}
    return kept | named | {"SPARKIFY_LAKE": lake.root}


@contextlib.contextmanager
def _settings(lake: Lake, source: Path | str | None) -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("DAGSTER_HOME", raising=False)
        patch.delenv("SPARKIFY_MINI_SOURCE", raising=False)
        for name, value in environment(lake, source).items():
            patch.setenv(name, value)
        yield


@contextlib.contextmanager
def _terminal() -> Iterator[tuple[io.StringIO, io.StringIO]]:
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        yield out, err


def copy(lake: Lake, folder: Path) -> Lake:
    """The same tables in another lake, without the simulated log."""
    shutil.copytree(Path(lake.root, "mini"), folder / "mini")
    return Lake(str(folder))


def tables(lake: Lake, *names: str) -> dict[str, pl.DataFrame]:
    """Tables with their rows in order, to be compared."""
    # Of clean events a user's rows are promised to be in order, and are left in theirs.
    order = {name: table.key or table.names for name, table in TABLES.items()}
    order["cleaned_events"] = ["user_id"]
    return {
        name: lake.read_polars("mini", TABLES[name]).sort(order[name], maintain_order=True)
        for name in names or TABLES
    }


def without_times(table: pl.DataFrame) -> pl.DataFrame:
    """A table without when it was made and from which versions, to be compared with others."""
    return table.drop(
        "trained_at",
        "went_live_at",
        "scored_at",
        "feature_table_version",
        "trained_model_version",
        "seconds",  # of a trial
        strict=False,
    )


def family(pid: int) -> list[psutil.Process]:
    """A process, then all that it started; none where it is gone."""
    with contextlib.suppress(psutil.NoSuchProcess):
        process = psutil.Process(pid)
        return [process, *process.children(recursive=True)]
    return []


def kill(processes: Iterable[psutil.Process]) -> None:
    for process in processes:
        with contextlib.suppress(psutil.NoSuchProcess):
            process.kill()


def versions(lake: Lake) -> dict[str, int]:
    return {name: lake.version("mini", name).number for name in TABLES}


def read_with_duckdb(folder: str) -> pl.DataFrame:
    extensions = Path(next(iter(duckdb_ext.__path__))) / "extensions"
    connection = duckdb.connect(config={"extension_directory": str(extensions)})
    connection.execute("load delta; set timezone = 'UTC'")
    return connection.execute("select * from delta_scan(?)", [folder]).pl()
