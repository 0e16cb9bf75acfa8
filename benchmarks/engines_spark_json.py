"""Log to feature table with Spark alone: `python -m benchmarks.engines_spark_json LOG FOLDER`.

Belongs here: Spark's own JSON reader and its frames, as well as we know how. Does not belong here:
what is the same for all engines (`engines_shared.py`).

The schema is given, so the log is read once. One shuffle brings a user's events together; removing
repeats, sorting and the window functions all work on that. Python reads user agents and repairs
text once for each distinct value, and broadcast joins bring that in.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

import polars as pl

from benchmarks import engines_shared as shared
from benchmarks.engines_shared import FIELDS, MOVES, NO_LISTS
from sparkify_assets.capacity import memory_bytes
from sparkify_assets.churn import kinds
from sparkify_assets.events.clean import RAW_COLUMNS
from sparkify_assets.resources.spark import spark_settings
from sparkify_assets.tables import RAW_EVENTS

if TYPE_CHECKING:
    from pyspark.sql import DataFrame, SparkSession

SPARK = shared.Dialect(
    micros="unix_micros({})",
    from_millis="timestamp_millis({})",
    xor="({} ^ {})",
    last="max_by({}, position)",
    key_set="sort_array(collect_set({}))",
    move_counts="""transform(array_sort(array_distinct(collect_list({0}))), x -> struct(
        cast(x as short) as move,
        cast(size(filter(collect_list({0}), y -> y = x)) as int) as times))""",
    unnest="explode",
    days_between="datediff({}, {})",
    is_weekend="weekday(d.day) >= 5",
    trim="trim(both '\" ' from {})",
)


def main() -> None:
    run(session(), Path(sys.argv[1]), Path(sys.argv[2]))


def session() -> SparkSession:
    """The project's settings, but a heap and a JVM for work that is done in the JVM."""
    from pyspark.sql import SparkSession

    settings = spark_settings() | {"spark.driver.memory": f"{memory_bytes() // 2**21}m"}
    quiet = settings.pop("spark.driver.defaultJavaOptions").split()[0]
    builder = SparkSession.builder.config("spark.driver.defaultJavaOptions", quiet)
    return builder.config(map=dict(settings)).getOrCreate()


def run(spark: SparkSession, log: Path, folder: Path) -> None:
    """Write the tables of a log into a folder."""
    ingest(spark, log, folder)
    clean(spark, folder)
    days_and_labels(spark, folder)
    features(spark, folder)


def _write(frame: DataFrame, folder: Path, name: str) -> None:
    frame.write.mode("overwrite").parquet(str(folder / name), compression="zstd")


def _read(spark: SparkSession, folder: Path, name: str) -> DataFrame:
    return spark.read.parquet(str(folder / name))


def ingest(spark: SparkSession, log: Path, folder: Path) -> None:
    types = {column.name: column.dataType.simpleString() for column in RAW_EVENTS.spark_schema}
    schema = ", ".join(f"{field} {types[name]}" for field, name in FIELDS.items())
    renamed = [f"{field} as {name}" for field, name in FIELDS.items()]
    lines = spark.read.schema(schema).json(str(log))
    _write(lines.selectExpr(*renamed, f"'{log.name}' as source_file"), folder, "raw_events")


def clean(spark: SparkSession, folder: Path) -> None:
    raw = _read(spark, folder, "raw_events").where(shared.is_known()).select(*RAW_COLUMNS)
    agent = f"{SPARK.trim.format('user_agent')} as agent"

    def distinct(value: str) -> list[str]:
        return raw.selectExpr(value).dropna().distinct().toArrow().column(0).to_pylist()

    for view, frame in (
        ("agents", shared.agents(distinct(agent))),
        ("artists", shared.texts(distinct("artist"))),
        ("songs", shared.texts(distinct("song"))),
    ):
        spark.createDataFrame(frame.to_arrow()).createOrReplaceTempView(view)
    # By user first: then removing repeats needs no shuffle of its own. All columns are keys there,
    # or Spark would sort instead of hash.
    once = raw.repartition("user_id").distinct()
    once.selectExpr("*", agent).createOrReplaceTempView("known")
    cleaned = spark.sql(f"""
        select /*+ broadcast(a), broadcast(b), broadcast(c) */ {shared.cleaned_columns(SPARK)}
        from known e
        left join agents a on a.value = e.agent
        left join artists b on b.value = e.artist
        left join songs c on c.value = e.song
    """)
    order = ("user_id", "event_time", "item_in_session", "session_id", "page")
    _write(cleaned.sortWithinPartitions(*order), folder, "cleaned_events")


def days_and_labels(spark: SparkSession, folder: Path) -> None:
    _read(spark, folder, "cleaned_events").createOrReplaceTempView("cleaned")
    by_time = "order by event_time, item_in_session, session_id, page"
    window = f"over (partition by user_id {by_time})"
    totals = spark.sql(f"""
        select user_id, cast(event_time as date) as day, {shared.is_kept()} as kept,
            {shared.plain_measures(SPARK)}, {shared.ordered_measures(SPARK)}
        from (
            select *, row_number() {window} as position, {shared.with_previous(SPARK, window)}
            from cleaned
        ) group by 1, 2, 3
    """)
    totals.persist().createOrReplaceTempView("totals")
    _write(spark.sql(shared.user_days()), folder, "user_days")
    _write(spark.sql(shared.user_labels(SPARK)), folder, "user_labels")
    totals.unpersist()


def features(spark: SparkSession, folder: Path) -> None:
    user_days = _read(spark, folder, "user_days")
    user_days.createOrReplaceTempView("user_days")
    labels = _here(_read(spark, folder, "user_labels"))
    rows, log = shared.rows_to_describe(labels)
    spark.createDataFrame(rows.to_arrow()).createOrReplaceTempView("rows")
    population = shared.usual(_here(user_days.select(*NO_LISTS)), rows, log)
    moves = _here(user_days.select(*MOVES))
    of_kind = kinds.likely(moves, rows, shared.learned_kinds(moves, labels, log))
    known = shared.finished(_here(spark.sql(shared.sums(SPARK, log))), population, of_kind)
    known.write_parquet(shared.table(folder, "feature_table"), compression="zstd")


def _here(frame: DataFrame) -> pl.DataFrame:
    """A small Spark frame on the driver."""
    return pl.DataFrame(frame.toArrow())


if __name__ == "__main__":
    main()
