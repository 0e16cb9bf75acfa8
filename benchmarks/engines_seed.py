"""Log to features as public notebooks do it: `python -m benchmarks.engines_seed LOG FOLDER`.

Belongs here: the usual steps of a notebook on this log, in plain PySpark: the schema is inferred,
Python functions read times and places, pages are pivoted, and each feature is a frame of its own
that is joined onto the users. Does not belong here: anything that makes it faster.

This is less work than the other engines do: one row a user over all of the log, some thirty
features, no tables on the way, no repeats removed, no text repaired.
"""

from __future__ import annotations

import sys
from datetime import datetime
from functools import reduce
from pathlib import Path

from pyspark.sql import DataFrame, SparkSession, Window
from pyspark.sql import functions as F
from pyspark.sql.types import IntegerType, StringType, TimestampType

from benchmarks.engines_spark_json import session


def main() -> None:
    run(session(), Path(sys.argv[1]), Path(sys.argv[2]))


def run(spark: SparkSession, log: Path, folder: Path) -> None:
    events = load(spark, log)
    users = events.select("userId", "churn").distinct()
    table = reduce(
        lambda known, feature: known.join(feature, "userId", "left"), each(events), users
    )
    table.toPandas().fillna(0).to_parquet(folder / "features.parquet")


def load(spark: SparkSession, log: Path) -> DataFrame:
    """The events of known users, with their times and who churned."""
    read_time = F.udf(lambda ms: datetime.fromtimestamp(ms / 1000), TimestampType())
    has_left = F.udf(lambda page: int(page == "Cancellation Confirmation"), IntegerType())
    read_state = F.udf(lambda place: place.split(",")[-1].strip(), StringType())
    read_system = F.udf(lambda agent: agent.split("(")[-1].split(";")[0], StringType())
    events = spark.read.json(str(log))
    events = events.where("userId != '' and auth in ('Logged In', 'Cancelled')")
    events = events.dropna(subset=["userId", "sessionId"])
    events = (
        events.withColumn("time", read_time("ts"))
        .withColumn("registered", read_time("registration"))
        .withColumn("state", read_state("location"))
        .withColumn("system", read_system("userAgent"))
        .withColumn("left", has_left("page"))
    )
    churn = F.max("left").over(Window.partitionBy("userId"))
    return events.withColumn("churn", churn).persist()


def each(events: DataFrame) -> list[DataFrame]:
    """A frame a feature, each of userId and its columns."""
    by_user, songs = events.groupBy("userId"), events.where("page = 'NextSong'")
    by_session = events.groupBy("userId", "sessionId")
    per_session = by_session.agg(
        F.count("*").alias("n"), ((F.max("ts") - F.min("ts")) / 3_600_000).alias("hours")
    )
    last = Window.partitionBy("userId").orderBy(F.desc("ts"))
    latest = events.withColumn("rank", F.row_number().over(last)).where("rank = 1")
    seen_days = (F.max("ts") - F.first("registration")) / 86_400_000
    return [
        by_user.pivot("page").count(),
        by_user.agg(F.count("*").alias("events")),
        by_user.agg(F.countDistinct("sessionId").alias("sessions")),
        by_user.agg(F.countDistinct(F.to_date("time")).alias("active_days")),
        by_user.agg(seen_days.alias("days_registered")),
        by_user.agg(F.countDistinct("artist").alias("artists")),
        by_user.agg(F.countDistinct("song").alias("songs")),
        songs.groupBy("userId").agg((F.sum("length") / 3600).alias("hours_of_music")),
        songs.groupBy("userId", "sessionId")
        .count()
        .groupBy("userId")
        .agg(F.avg("count").alias("songs_per_session")),
        per_session.groupBy("userId").agg(F.avg("n").alias("events_per_session")),
        per_session.groupBy("userId").agg(F.avg("hours").alias("hours_per_session")),
        latest.selectExpr("userId", "int(level = 'paid') as is_paid"),
        latest.selectExpr("userId", "int(gender = 'F') as female"),
        latest.select("userId", "state"),
        latest.select("userId", "system"),
        by_user.pivot("level").count(),
    ]


if __name__ == "__main__":
    main()
