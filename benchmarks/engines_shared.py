"""What the engines of `benchmarks.engines` have in common, so that they do the same work.

Belongs here: the log's fields, the tables that are written, the values that only Python can read
(user agents, broken text), the SQL that DuckDB and Spark both understand, and the last small step
to the features. Does not belong here: how an engine reads, cleans, orders and writes.

What grows with the log is each engine's own work: reading, cleaning, days, labels, and the sums
and distinct counts before each cutoff. What is left then is a row a user and cutoff; its rows
(`cutoffs`) and the arithmetic of its columns (`FEATURES`) are this project's own expressions for
all engines, so that the features are the same by construction.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import polars as pl

from sparkify_assets.churn import cutoffs, features, kinds, moves
from sparkify_assets.churn.days import ATTRIBUTES, DAY_PARTS, LISTS, PAID_PAGES
from sparkify_assets.churn.labels import CHURN_PAGE
from sparkify_assets.churn.pages import OUTCOME_PAGES, PAGES
from sparkify_assets.events import clean
from sparkify_assets.events.buckets import BUCKET
from sparkify_assets.tables import FEATURE_TABLE, RAW_EVENTS, USER_DAYS

TABLES = ("raw_events", "cleaned_events", "user_labels", "user_days", "feature_table")
NO_LISTS = [c for c in USER_DAYS.names if c not in LISTS]
MOVES = ["user_id", "day", "moves"]
# Field of the log -> column of `raw_events`.
FIELDS = {
    re.sub(r"_(.)", lambda match: match[1].upper(), name): name
    for name in RAW_EVENTS.names
    if name not in ("source_file", BUCKET)
}


# Values that only Python can read


def agents(values: Iterable[str]) -> pl.DataFrame:
    """What the user agents say; asked once for each."""
    rows = [(value, *clean.read_agent(value)) for value in values]
    return pl.DataFrame(rows, ["value", "os", "browser", "device"], orient="row")


def texts(values: Sequence[str]) -> pl.DataFrame:
    """Repaired artists or songs, and their keys; asked once for each."""
    distinct = pl.Series("value", values, pl.String)
    repaired = [value if value.isascii() else clean.repair_text(value) for value in values]
    return pl.DataFrame({"value": distinct, "repaired": repaired, "key": clean.keys(distinct)})


# SQL


@dataclass(frozen=True)
class Dialect:
    """Where two engines' SQL differs."""

    micros: str
    from_millis: str
    xor: str
    last: str  # the value at the highest `position`, which may be null
    key_set: str  # distinct values, sorted
    move_counts: str  # how often each step was taken, by its number
    unnest: str
    days_between: str  # from the second to the first
    is_weekend: str
    trim: str


def _quoted(values: Iterable[str]) -> str:
    return ", ".join(f"'{value}'" for value in values)


def cleaned_columns(sql: Dialect) -> str:
    """The select list of `cleaned_events`, of raw events e and their agents a, artists b, songs c.

    `e.agent` is the user agent without quote marks.
    """
    return f"""
        e.user_id, {sql.from_millis.format("e.ts")} as event_time,
        e.session_id, e.item_in_session, e.page, e.auth,
        e.method, e.status, e.level, e.location, e.agent as user_agent,
        {sql.from_millis.format("e.registration")} as registered_at, e.gender,
        nullif(regexp_extract(e.location, ', ([A-Z]{{2}})', 1), '') as state,
        a.os, a.browser, a.device, b.repaired as artist, c.repaired as song, e.length,
        b.key as artist_key, {sql.xor.format("c.key", "coalesce(b.key, 0)")} as song_key
    """


def is_known() -> str:
    return f"auth in ({_quoted(clean.LOGGED_IN)}) and coalesce(user_id, '') <> ''"


def is_kept() -> str:
    return f"(page not in ({_quoted(OUTCOME_PAGES)}) and auth <> 'Cancelled')"


def plain_measures(sql: Dialect) -> str:
    """What can be said of a day whatever came before it; of events with their `position`."""
    counts = {
        "events": "true",
        "songs": "page = 'NextSong'",
        **{column: f"page = '{page}'" for column, page in PAGES.items()},
        "other_pages": f"page not in ({_quoted(['NextSong', *PAGES.values()])})",
        "paid_events": "level = 'paid'",
        **{column: f"level = 'paid' and page = '{page}'" for column, page in PAID_PAGES.items()},
        **{
            part: f"hour(event_time) >= {first} and hour(event_time) < {last}"
            for part, (first, last) in DAY_PARTS.items()
        },
    }
    lasts = ("level", *ATTRIBUTES)
    return ",\n".join(
        [
            *(f"count(*) filter (where {is_so}) as {name}" for name, is_so in counts.items()),
            "coalesce(sum(length), 0) as listening_seconds",
            "min(event_time) as first_event_at",
            "max(event_time) as last_event_at",
            *(f"{sql.last.format(name)} as {name}" for name in lasts),
            *(f"{sql.key_set.format(f'{k}_key')} as {k}_keys" for k in ("artist", "song")),
            f"min(event_time) filter (where page = '{CHURN_PAGE}') as churned_at",
            "max(position) as position",
        ]
    )


def with_previous(sql: Dialect, window: str) -> str:
    """Columns that tell of the user's event before, in an `over` clause."""
    return f"""
        lag(session_id) {window} as last_session, lag(level) {window} as last_level,
        lag(page) {window} as last_page,
        ({sql.micros.format("event_time")} - lag({sql.micros.format("event_time")}) {window})
            / 1e6 as since
    """


def _numbered(level: str, page: str) -> str:
    """`moves.level_and_page` of two columns."""

    def number(column: str, names: Iterable[str]) -> str:
        found = " ".join(f"when '{name}' then {place}" for place, name in enumerate(names))
        return f"case {column} {found}"

    levels = f"{number(level, moves.LEVELS)} end"
    pages = f"{number(page, moves.FROM)} else {moves.FROM.index('other')} end"
    kept = f"{page} not in ({_quoted(OUTCOME_PAGES)})"
    return f"(case when {kept} then {levels} * {len(moves.FROM)} + {pages} end)"


def ordered_measures(sql: Dialect) -> str:
    """What takes the event before, `with_previous`."""
    starts = "(since is null or session_id is distinct from last_session)"
    end, pages = moves.TO.index("end of session"), len(moves.FROM)
    now, before = _numbered("level", "page"), _numbered("last_level", "last_page")
    to = f"case when {starts} then {end} else {now} % {pages} end"
    move = f"case when {now} is not null then {before} * {len(moves.TO)} + {to} end"
    return f"""
        {sql.move_counts.format(f"({move})")} as moves,
        count(*) filter (where {starts}) as sessions,
        coalesce(sum(since) filter (where not {starts}), 0) as session_seconds,
        coalesce(sum(since) filter (where {starts}), 0) as gap_seconds,
        count(*) filter (where {starts} and since is not null) as gaps,
        max(event_time) filter (where level <> last_level) as level_changed_at
    """


def user_days() -> str:
    """Of `totals`: a row a user, day and whether the events are kept."""
    return f"select {', '.join(USER_DAYS.names)} from totals where kept"


def user_labels(sql: Dialect) -> str:
    """Of `totals`."""
    return f"""
        select user_id, min(registered_at) as registered_at,
            min(first_event_at) as first_event_at, max(last_event_at) as last_event_at,
            min(churned_at) is not null as churned, min(churned_at) as churned_at,
            {sql.last.format("level")} as level, sum(submit_upgrade) as upgrades,
            sum(submit_downgrade) as downgrades, sum(events) as events, sum(songs) as songs,
            sum(sessions) as sessions
        from totals group by user_id
    """


def sums(sql: Dialect, log: cutoffs.Span) -> str:
    """What the features are made of, a row a protocol, user and cutoff; of `user_days` and `rows`.

    A key counts on the first day on which it is heard, so distinct counts are sums over days too.
    """
    asked = sorted({name for f in features.FEATURES for name in f.value.meta.root_names()})
    windowed = [name.rpartition("__")[::2] for name in asked if "__" in name[1:]]
    windowed = [(column, window) for column, window in windowed if column != "population"]
    per_day = {
        "listening_hours": "listening_seconds / 3600",
        "active_days": "1",
        "free_songs": "songs - paid_songs",
        "free_adverts": "roll_advert - paid_adverts",
        "weekend_events": f"case when {sql.is_weekend} then events else 0 end",
    }
    as_of = sql.micros.format("cast(as_of as timestamp)")

    def over(column: str, window: str) -> str:
        length = features.WINDOWS[window]
        only = "" if length is None else f" filter (where age <= {length})"
        return f"cast(coalesce(sum({column}){only}, 0) as double) as {column}__{window}"

    def since(column: str) -> str:
        return f"({as_of} - {sql.micros.format(column)}) / 1e6"

    def between(later: str, earlier: str) -> str:
        return sql.days_between.format(later, earlier)

    def first_heard(kind: str) -> str:
        return f"""(
            select user_id, day, count(*) as new_{kind}s from (
                select user_id, key, min(day) as day from (
                    select user_id, day, {sql.unnest}({kind}_keys) as key from user_days
                ) as heard group by user_id, key
            ) as firsts group by user_id, day
        )"""

    seen_from = (
        f"greatest(coalesce(cast(registered_at as date), date '{log.start}'), date '{log.start}')"
    )
    return f"""
        with days as (
            select d.*, {", ".join(f"{value} as {name}" for name, value in per_day.items())},
                coalesce(new_artists, 0) as new_artists, coalesce(new_songs, 0) as new_songs,
                d.last_event_at as position
            from user_days d
            left join {first_heard("artist")} as a on a.user_id = d.user_id and a.day = d.day
            left join {first_heard("song")} as s on s.user_id = d.user_id and s.day = d.day
        ), known as (
            select r.protocol, r.as_of, r.label, {between("r.as_of", "d.day")} as age, d.*
            from rows r join days d on r.user_id = d.user_id and d.day < r.as_of
        ), summed as (
            select protocol, user_id, as_of, label,
                {", ".join(over(column, window) for column, window in windowed)},
                cast(sum(new_artists) as double) as distinct_artists,
                cast(sum(new_songs) as double) as distinct_songs,
                min(day) as first_day, min(first_event_at) as first_event_at,
                max(last_event_at) as last_event_at, max(level_changed_at) as level_changed_at,
                {", ".join(f"{sql.last.format(c)} as {c}" for c in ("level", *ATTRIBUTES))}
            from known group by protocol, user_id, as_of, label
        )
        select *, {since("last_event_at")} as seconds_since_last_event,
            {since("coalesce(level_changed_at, first_event_at)")} as seconds_at_level,
            {since("registered_at")} as seconds_since_registration,
            {between("as_of", "first_day")} as history_days,
            {between("as_of", f"least(first_day, {seen_from})")} as exposure_days
        from summed
    """


# The last small step


def rows_to_describe(labels: pl.DataFrame) -> tuple[pl.DataFrame, cutoffs.Span]:
    """The feature table's rows before their features, as the asset `feature_table` has them.

    By the functions' own defaults: Dagster's settings would make every engine import Dagster.
    """
    log = cutoffs.span(
        labels["first_event_at"].min(),  # type: ignore[arg-type]
        labels["last_event_at"].max(),  # type: ignore[arg-type]
    )
    times = cutoffs.forecast_cutoffs(log)
    forecast = cutoffs.forecast_rows(labels, times, log)
    return pl.concat([forecast, cutoffs.whole_log_rows(labels)]), log


def usual(days: pl.DataFrame, rows: pl.DataFrame, log: cutoffs.Span) -> pl.DataFrame:
    """The population's rates before each cutoff; of `user_days` without the lists."""
    totals = [features.population_totals(days)]
    return features.population_rates(totals, rows["as_of"].unique().to_list(), log.start)


def learned_kinds(days: pl.DataFrame, labels: pl.DataFrame, log: cutoffs.Span) -> list[kinds.Kinds]:
    """The kinds of users; of the MOVES of `user_days`, and `user_labels`."""
    lessons = kinds.lessons(labels["first_event_at"], log.start, log.end)
    return kinds.learn(kinds.steps(days, lessons), lessons)


def finished(summed: pl.DataFrame, population: pl.DataFrame, of_kind: pl.DataFrame) -> pl.DataFrame:
    """`feature_table`, of what `sums` gave."""
    values = [f.value.cast(pl.Float64).alias(f.name) for f in features.FEATURES]
    known = summed.join(population, on="as_of", how="left").join(
        of_kind, on=["protocol", "user_id", "as_of"], how="left"
    )
    return known.with_columns(*values).select(FEATURE_TABLE.names)


def table(folder: Path, name: str) -> Path:
    """Where an engine writes a table."""
    return folder / f"{name}.parquet"
