"""From the event log to clean events."""

import uuid
from dataclasses import asdict
from pathlib import Path

import dagster as dg
import polars as pl

from sparkify_assets import capacity
from sparkify_assets.assets.declaring import DATA_ENGINEERING, table_asset
from sparkify_assets.datasets import SourceConfig, dataset
from sparkify_assets.events import buckets, clean, log
from sparkify_assets.events import ingest as ingesting
from sparkify_assets.resources.io_manager import LakeResource
from sparkify_assets.resources.lake import Version, as_promised, described
from sparkify_assets.resources.spark import SparkResource
from sparkify_assets.storage import PartFile, Range, write_part
from sparkify_assets.tables import CLEANED_EVENTS, Rows

_GROUP = "events"
# Compressed; a task holds about a hundred times as much while it cleans a group.
_BYTES_A_GROUP = 16 * 2**20
_USERS_IN_PROCESS = 1_000


@table_asset(
    "raw_events",
    "rejected_lines",
    name="ingest",
    group=_GROUP,
    kinds={"spark", "polars"},
    owner=DATA_ENGINEERING,
)
def ingest(
    context: dg.AssetExecutionContext,
    config: SourceConfig,
    lake: LakeResource,
    pyspark: SparkResource,
) -> tuple[Rows, Rows]:
    capacity.check_memory(pyspark.used_master)
    chosen = dataset(context.partition_key)
    source = config.source or chosen.source
    folder = lake.log_folder(chosen.name)
    if source:
        found = log.given_log(source, variable=chosen.source_variable, folder=folder)
    else:
        found = log.simulated_log(
            chosen.name,
            users=chosen.users,
            days=chosen.days,
            seed=chosen.seed,
            folder=folder,
            # A small log is simulated before Spark would have distributed it.
            spark=pyspark.spark_session if chosen.users > _USERS_IN_PROCESS else None,
        )
    if lake.lake.is_local:
        needs = found.uncompressed_bytes * capacity.LAKE_SHARE
        capacity.check_disk(Path(lake.lake.uri), needs, f"What is made of this log ({chosen.name})")
    with described(pyspark.spark_session, "reading the log"):
        report = ingesting.ingest(
            pyspark.spark_session,
            found.files,
            events_folder=lake.lake.new_parts(chosen.name, "raw_events"),
            rejected_folder=lake.lake.new_parts(chosen.name, "rejected_lines"),
        )
    said = {
        # Ties the two tables to one reading of the log.
        "ingest_id": uuid.uuid4().hex,
        "source": found.source,
        "simulated": found.simulated,
        "fingerprint": asdict(found.fingerprint),
        "lines": report.lines,
        "bytes": report.bytes_read,
        "max_rejected_share": config.max_rejected_share,
    }
    for name in ("raw_events", "rejected_lines"):
        context.add_output_metadata({"lines": report.lines}, name)
    return Rows(report.events, said), Rows(report.rejected, said)


@table_asset("cleaned_events", group=_GROUP, kinds={"spark", "polars"}, owner=DATA_ENGINEERING)
def cleaned_events(
    context: dg.AssetExecutionContext,
    lake: LakeResource,
    pyspark: SparkResource,
    raw_events: Version,
) -> Rows:
    spark = pyspark.spark_session
    folder = lake.lake.new_parts(context.partition_key, "cleaned_events")

    def write_clean(raw: pl.DataFrame) -> PartFile:
        return write_part(folder, as_promised(CLEANED_EVENTS, clean.clean(raw)))

    count = max(spark.sparkContext.defaultParallelism, -(-raw_events.size // _BYTES_A_GROUP))
    parts = lake.lake.over_ranges(
        spark,
        context.partition_key,
        "raw_events",
        write_clean,
        [Range(buckets.BUCKET, *bounds) for bounds in buckets.ranges(count)],
        clean.RAW_COLUMNS,
        # Before they are put together: logged out, all users may share one id.
        clean.is_known(),
    )
    clean.check_known(sum(part.rows for part in parts), raw_events.rows)
    return Rows(parts, {"raw_events": raw_events.number})
