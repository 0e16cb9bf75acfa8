"""Log to feature table with DuckDB alone: `python -m benchmarks.engines_duckdb LOG FOLDER`.

Belongs here: DuckDB's own way, as well as we know how. Does not belong here: what is the same for
all engines (`engines_shared.py`).

- One copy from the log to Parquet, with the columns' types given.
- Exact repeats are looked for by a hash of four narrow columns; only rows that share one are
  compared whole. `select distinct` over all columns takes most of the cleaning's time and memory.
- Python reads user agents and repairs text once for each distinct value; joins bring that in.
- One sort, by user and time; a row's number in that file is its place in time from then on.
- What takes the event before is aggregated apart from the rest, so that the window operator holds
  only narrow columns.
"""

from __future__ import annotations

import sys
from pathlib import Path

import duckdb
import polars as pl

from benchmarks import engines_shared as shared
from benchmarks.engines_shared import FIELDS, MOVES, NO_LISTS, table
from sparkify_assets.churn import kinds
from sparkify_assets.events.clean import RAW_COLUMNS
from sparkify_assets.tables import RAW_EVENTS

DUCKDB = shared.Dialect(
    micros="epoch_us({})",
    from_millis="make_timestamp({} * 1000)",
    xor="xor({}, {})",
    last="arg_max_null({}, position)",
    key_set="coalesce(list_sort(list(distinct {0}) filter (where {0} is not null)), [])",
    move_counts="""coalesce(list_transform(map_entries(histogram({0})),
        lambda e: struct_pack(move := e.key::smallint, times := e.value::integer)), [])""",
    unnest="unnest",
    days_between="datediff('day', {1}, {0})",
    is_weekend="isodow(d.day) >= 6",
    trim="trim({}, '\" ')",
)
_TYPES = {"int64": "bigint", "double": "double", "string": "varchar"}


def main() -> None:
    run(Path(sys.argv[1]), Path(sys.argv[2]))


def run(log: Path, folder: Path) -> None:
    """Write the tables of a log into a folder."""
    database = duckdb.connect(config={"temp_directory": str(folder / "spilled")})
    database.execute("set preserve_insertion_order = false; set default_null_order = 'nulls_first'")
    database.execute("set timezone = 'UTC'")
    ingest(database, log, folder)
    clean(database, folder)
    days_and_labels(database, folder)
    features(database, folder)


def _copy(database: duckdb.DuckDBPyConnection, query: str, folder: Path, name: str) -> None:
    to = f"'{table(folder, name)}' (format parquet, compression zstd)"
    database.execute(f"copy ({query}) to {to}")


def ingest(database: duckdb.DuckDBPyConnection, log: Path, folder: Path) -> None:
    types = {field: _TYPES[str(RAW_EVENTS[name].type)] for field, name in FIELDS.items()}
    columns = ", ".join(f'"{field}" as {name}' for field, name in FIELDS.items())
    source = f"read_json('{log}', format = 'newline_delimited', columns = {types})"
    _copy(
        database,
        f"select {columns}, '{log.name}' as source_file from {source}",
        folder,
        "raw_events",
    )


def clean(database: duckdb.DuckDBPyConnection, folder: Path) -> None:
    columns = ", ".join(RAW_COLUMNS)
    database.execute(f"""
        create view known as select {columns}, file_row_number
        from read_parquet('{table(folder, "raw_events")}', file_row_number = true)
        where {shared.is_known()};

        create temp table repeated as
        with alike as (
            select hash(user_id, ts, item_in_session, page) as alike
            from known group by alike having count(*) > 1
        ), numbered as (
            select file_row_number, row_number() over (partition by {columns}) as number from known
            where hash(user_id, ts, item_in_session, page) in (from alike)
        )
        select file_row_number from numbered where number > 1;
    """)

    def distinct(value: str) -> list[str]:
        query = f"select distinct {value} as value from known where value is not null"
        return [row[0] for row in database.execute(query).fetchall()]

    agent = DUCKDB.trim.format("user_agent")
    database.register("agents", shared.agents(distinct(agent)).to_arrow())
    database.register("artists", shared.texts(distinct("artist")).to_arrow())
    database.register("songs", shared.texts(distinct("song")).to_arrow())
    _copy(
        database,
        f"""
        select {shared.cleaned_columns(DUCKDB)}
        from (
            select *, {agent} as agent from known where file_row_number not in (from repeated)
        ) e
        left join agents a on a.value = e.agent
        left join artists b on b.value = e.artist
        left join songs c on c.value = e.song
        order by user_id, event_time, item_in_session, session_id, page
        """,
        folder,
        "cleaned_events",
    )


def days_and_labels(database: duckdb.DuckDBPyConnection, folder: Path) -> None:
    key = f"user_id, cast(event_time as date) as day, {shared.is_kept()} as kept"
    window = "over (partition by user_id order by position)"
    database.execute(f"""
        create view cleaned as select *, file_row_number as position
        from read_parquet('{table(folder, "cleaned_events")}', file_row_number = true);

        create temp table totals as
        select plain.*, ordered.* exclude (user_id, day, kept)
        from (select {key}, {shared.plain_measures(DUCKDB)} from cleaned group by all) plain
        join (
            select {key}, {shared.ordered_measures(DUCKDB)}
            from (select *, {shared.with_previous(DUCKDB, window)} from cleaned)
            group by all
        ) ordered using (user_id, day, kept);
    """)
    _copy(database, shared.user_days() + " order by user_id, day", folder, "user_days")
    _copy(database, shared.user_labels(DUCKDB) + " order by user_id", folder, "user_labels")


def features(database: duckdb.DuckDBPyConnection, folder: Path) -> None:
    database.execute(f"create view user_days as from '{table(folder, 'user_days')}'")
    utc = pl.col(pl.Datetime).dt.replace_time_zone("UTC")
    labels = database.sql(f"from '{table(folder, 'user_labels')}'").pl().with_columns(utc)
    days = database.sql(f"select {', '.join(NO_LISTS)} from user_days").pl()
    rows, log = shared.rows_to_describe(labels)
    database.register("rows", rows.to_arrow())
    summed = database.sql(shared.sums(DUCKDB, log)).pl()
    moves = database.sql(f"select {', '.join(MOVES)} from user_days").pl()
    of_kind = kinds.likely(moves, rows, shared.learned_kinds(moves, labels, log))
    known = shared.finished(summed, shared.usual(days, rows, log), of_kind)
    database.register("finished", known.to_arrow())
    _copy(database, "from finished", folder, "feature_table")


if __name__ == "__main__":
    main()
