"""Dagster's side of the lake: which asset and partition is which table, and from which log it is.

Belongs here: the lake as a resource, the IO manager, where a table's rows come from.
Does not belong here: how tables are stored (`lake.py`), and what the UI shows (`metadata.py`).
"""

from __future__ import annotations

from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import dagster as dg
import polars as pl
from pyspark.sql import DataFrame

from sparkify_assets import __version__, metadata
from sparkify_assets.automation import runs
from sparkify_assets.datasets import check_settings
from sparkify_assets.events import user_ids
from sparkify_assets.lineage import made_of
from sparkify_assets.resources.lake import Lake, Version
from sparkify_assets.resources.spark import SparkResource
from sparkify_assets.retries import told
from sparkify_assets.tables import CLEANED_EVENTS, RAW_EVENTS, TABLES, Rows

_PREVIEWED = 10  # rows


class LakeResource(dg.ConfigurableResource):
    """The lake's place, for assets that work on part files themselves."""

    root: str

    @property
    def lake(self) -> Lake:
        return Lake(self.root)

    def log_folder(self, dataset: str) -> Path:
        """Where downloaded and simulated logs are kept: beside a local lake's tables."""
        beside = Path(self.lake.uri) if self.lake.is_local else Path("lake").absolute()
        return beside / "logs" / dataset


class LakeIOManager(dg.ConfigurableIOManager):
    """Stores an asset's partition as the Delta table `<lake>/<partition>/<asset>`.

    Takes a Spark or Polars frame, or `Rows` that tasks have written already. Gives what the reading
    asset's parameter is annotated with: a Spark frame, a Polars frame, or only the `Version`.
    """

    storage: LakeResource
    pyspark: SparkResource

    def setup_for_execution(self, context: dg.InitResourceContext) -> None:
        """Refuse wrong settings: every run needs this resource, before its first step."""
        if context.run and context.instance:
            runs.sign(context.instance, context.run.run_id)
            check_settings(context.run.run_config)
            if dataset := context.run.tags.get("dagster/partition"):
                self._check_lake(dataset)

    def _check_lake(self, dataset: str) -> None:
        """Raises LakeError where a later version of this project has been here.

        Raises SettingError where user ids would be of another kind than those that are there.
        """
        lake = self.storage.lake
        lake.check_formats(dataset)
        if lake.exists(dataset, CLEANED_EVENTS.name):
            user_ids.check_same(dataset, lake.version(dataset, CLEANED_EVENTS.name).metadata)
        else:
            user_ids.key()  # which is refused where it could be guessed
        if not lake.exists(dataset, RAW_EVENTS.name):
            return
        writer = lake.version(dataset, RAW_EVENTS.name).writer
        if writer != __version__:
            dg.get_dagster_logger().warning(
                f"The tables of {dataset} were written by "
                f"{f'version {writer}' if writer else 'an early version'} of this project; this is "
                f"version {__version__}. A run that reads the log makes anew what is made of it; "
                "models and what was forecast stay."
            )

    def handle_output(self, context: dg.OutputContext, obj: Any) -> None:
        table = TABLES[context.asset_key.path[-1]]
        dataset = context.partition_key
        lake = self.storage.lake
        said: dict[str, Any] = {"run_id": context.run_id}
        after, slices = None, None
        with _told(context.step_context):
            said |= origin(lake, dataset, table.name)
            if isinstance(obj, Rows):
                said |= obj.metadata
                obj, after, slices = obj.of, obj.after, obj.slices
            if isinstance(obj, pl.DataFrame):
                version = lake.write_polars(dataset, table, obj, said, after)
            elif isinstance(obj, DataFrame):
                version = lake.write_spark(dataset, table, obj, said)
            else:
                version = lake.commit(dataset, table, obj, said, after, slices)
        context.add_output_metadata(metadata.of_version(version))
        context.add_output_metadata(metadata.column_lineage(table))
        try:
            head = lake.head(dataset, table, _PREVIEWED, table.shown)
            context.add_output_metadata(metadata.preview(table, head))
        except OSError as error:
            # The table is there already, and that is what the step was for.
            context.log.warning(f"no preview of {table.name}: {error}")

    def load_input(self, context: dg.InputContext) -> DataFrame | pl.DataFrame | Version:
        name = context.asset_key.path[-1]
        dataset = context.asset_partition_key
        lake = self.storage.lake
        wanted = context.dagster_type.typing_type
        with _told(context.step_context):
            if wanted is Version:
                return lake.version(dataset, name)
            if wanted is pl.DataFrame:
                return lake.read_polars(dataset, TABLES[name])
            return lake.read_spark(self.pyspark.spark_session, dataset, TABLES[name])


def _told(step: Any) -> AbstractContextManager[None]:
    return told(lambda: (step.previous_attempt_count, step.run_tags))


def origin(lake: Lake, dataset: str, table: str) -> dict[str, Any]:
    """The log that a table comes from, as the tables that it is made of say.

    Where these come from several, as users and a model that has learned from others, all are named,
    and a figure is called simulated if any of it is.
    """
    said = [lake.version(dataset, upstream).metadata for upstream in made_of(table)]
    sources = list(dict.fromkeys(each["source"] for each in said if "source" in each))
    if not sources:
        return {}
    simulated = any(each.get("simulated") for each in said)
    return {"source": "; ".join(sources), "simulated": simulated}
