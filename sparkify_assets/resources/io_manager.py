"""Dagster's side of the lake: which asset and partition is which table, and what the UI is told.

Belongs here: the lake as a resource, the IO manager, the metadata of a materialization.
Does not belong here: how tables are stored (`lake.py`).
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import dagster as dg
import polars as pl
from dagster_pyspark import LazyPySparkResource
from pyspark.sql import DataFrame

from sparkify_assets.errors import SparkifyError
from sparkify_assets.resources.lake import Lake, Version
from sparkify_assets.tables import TABLES, Rows


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
    pyspark: LazyPySparkResource

    def handle_output(self, context: dg.OutputContext, obj: Any) -> None:
        table = TABLES[context.asset_key.path[-1]]
        dataset = context.partition_key
        lake = self.storage.lake
        said: dict[str, Any] = {"run_id": context.run_id}
        after = None
        if isinstance(obj, Rows):
            said |= obj.metadata
            obj, after = obj.of, obj.after
        try:
            if isinstance(obj, pl.DataFrame):
                version = lake.write_polars(dataset, table, obj, said, after)
            elif isinstance(obj, DataFrame):
                version = lake.write_spark(dataset, table, obj, said)
            else:
                version = lake.commit(dataset, table, obj, said)
        except SparkifyError as error:
            raise dg.Failure(str(error), allow_retries=False) from error
        context.add_output_metadata(version_metadata(version))

    def load_input(self, context: dg.InputContext) -> DataFrame | pl.DataFrame | Version:
        name = context.asset_key.path[-1]
        dataset = context.asset_partition_key
        lake = self.storage.lake
        wanted = context.dagster_type.typing_type
        try:
            if wanted is Version:
                return lake.version(dataset, name)
            if wanted is pl.DataFrame:
                return lake.read_polars(dataset, TABLES[name])
            return lake.read_spark(self.pyspark.spark_session, dataset, TABLES[name])
        except SparkifyError as error:
            raise dg.Failure(str(error), allow_retries=False) from error


def version_metadata(version: Version) -> dict[str, Any]:
    """What the UI shows of a table's version."""
    return {
        "dagster/partition_row_count": version.rows,
        "table_version": version.number,
        "path": dg.MetadataValue.path(version.path),
        "size_mb": round(version.size / 1e6, 3),
        "files": version.files,
    }
