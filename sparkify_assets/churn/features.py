"""What is known of a user just before a cutoff: the features, each defined once.

Belongs here: every feature's name, theme, unit, meaning and computation, from `user_days` rows that
lie strictly before the cutoff.
Does not belong here: the cutoffs and labels (`cutoffs.py`), and anything learned from labels.

Rates of users with little history are shrunk towards the population's rate before the same cutoff:
(count + strength * population rate) / (exposure + strength).
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import date

import polars as pl

from sparkify_assets.churn import kinds
from sparkify_assets.churn.days import DAY_PARTS, divided
from sparkify_assets.churn.kinds import Kinds
from sparkify_assets.churn.origins import Origins, origins
from sparkify_assets.churn.pages import PAGES

# Days back from the cutoff; None is everything before it.
WINDOWS: dict[str, int | None] = {"1d": 1, "3d": 3, "7d": 7, "14d": 14, "30d": 30, "lifetime": None}

# Column of user_days -> words for people.
ACTIVITY = {
    "events": "events",
    "songs": "songs",
    "sessions": "sessions",
    "listening_hours": "hours of music",
    "active_days": "active days",
}
TRENDS = (("1d", "7d"), ("3d", "14d"), ("7d", "30d"), ("14d", "lifetime"))
RECENT = "14d"
RECENT_PAGES = (
    "thumbs_up",
    "thumbs_down",
    "roll_advert",
    "downgrade",
    "settings",
    "error",
    "help",
    "upgrade",
)
OS_FAMILIES = {"windows": "Windows", "mac": "Mac OS X", "linux": "Linux", "ios": "iOS"}
BROWSERS = {"chrome": "Chrome", "firefox": "Firefox", "safari": "Safari", "ie": "IE"}

# Column -> the songs among which it is counted by level, and words. Adverts are many times rarer on
# the paid level, and nobody else downgrades: over all songs, such a rate tells the level again.
BY_LEVEL = {
    "free_adverts": ("free_songs", "adverts per 100 songs on the free level"),
    "paid_adverts": ("paid_songs", "adverts per 100 songs on the paid level"),
    "downgrade": ("paid_songs", "downgrade per 100 songs on the paid level"),
}
# Where few users are so, how likely is this one to be among those who meet it this many times as
# often as usual?
MUCH = 2.0
MUCH_SHARE = 0.1

# How much of the population's behaviour is mixed into a user's: as if that many more songs,
# sessions or days had been seen. For songs about mean over variance of the users' true rates of
# thumbs and adverts, by the method of moments on a simulated log.
SONG_STRENGTH = 300.0
SESSION_STRENGTH = 3.0
DAY_STRENGTH = 7.0
# In starts of sessions. Users' rates differ by a factor of about e: one start tells much already.
START_STRENGTH = 0.6
# An event within this time of the cutoff: the session goes on. Longer than nearly every song.
OPEN_SECONDS = 1_800

# The United States' census regions, by postal code (United States Census Bureau).
REGIONS = {
    "northeast": "CT ME MA NH RI VT NJ NY PA",
    "midwest": "IL IN MI OH WI IA KS MN MO NE ND SD",
    "south": "DE FL GA MD NC SC VA DC WV AL KY MS TN AR LA OK TX",
    "west": "AZ CO ID MT NV NM UT WY AK CA HI OR WA",
}


_KIND = "kind of user"


@dataclass(frozen=True)
class Feature:
    """A column of the feature table. `value` is an expression over the summed-up days."""

    name: str
    theme: str
    meaning: str
    unit: str
    value: pl.Expr


def _total(column: str, window: str = "lifetime") -> pl.Expr:
    return pl.col(f"{column}__{window}")


def _population(column: str) -> pl.Expr:
    return pl.col(f"population__{column}")


def _days_in(window: str) -> pl.Expr:
    """Days of the window in which the user could have been seen, at least one."""
    length = WINDOWS[window]
    seen = pl.col("exposure_days")
    return seen if length is None else pl.min_horizontal(seen, pl.lit(length))


def _per_day(column: str, window: str) -> pl.Expr:
    return _total(column, window) / _days_in(window)


def _shrunk(
    count: pl.Expr, exposure: pl.Expr, population: pl.Expr, strength: float | pl.Expr
) -> pl.Expr:
    return (count + strength * population) / (exposure + strength)


def _spoken(column: str) -> str:
    return column.replace("_", " ")


def _activity() -> Iterator[Feature]:
    for column, words in ACTIVITY.items():
        for window, length in WINDOWS.items():
            over = "over the whole history" if length is None else f"last {window[:-1]} days"
            yield Feature(
                f"{column}_per_day_{window}",
                "activity",
                f"{words} per day, {over.replace('last 1 days', 'last day')}",
                f"{words}/day",
                _per_day(column, window),
            )


def _trends() -> Iterator[Feature]:
    for column in ("songs", "sessions"):
        for short, long in TRENDS:
            # One typical day's worth keeps the ratio finite and calm for the quiet.
            calm = _population(f"{column}_per_day")
            ratio = (_total(column, short) + calm) / (_days_in(short) + 1)
            base = (_total(column, long) + calm) / (_days_in(long) + 1)
            than = "the whole history" if long == "lifetime" else f"the last {long[:-1]} days"
            yield Feature(
                f"{column}_trend_{short}_{long}",
                "trend",
                f"{column} per day in the last {short[:-1]} days against {than}",
                "log ratio",
                (ratio / base).log(),
            )


def _pages() -> Iterator[Feature]:
    for page in PAGES:
        rate = _population(f"{page}_per_song")
        yield Feature(
            f"{page}_per_100_songs",
            "pages",
            f"{_spoken(page)} per 100 songs",
            "per 100 songs",
            100 * _shrunk(_total(page), _total("songs"), rate, SONG_STRENGTH),
        )
        yield Feature(
            f"{page}_per_session",
            "pages",
            f"{_spoken(page)} per session",
            "per session",
            _shrunk(
                _total(page),
                _total("sessions"),
                _population(f"{page}_per_session"),
                SESSION_STRENGTH,
            ),
        )
    for page in RECENT_PAGES:
        yield Feature(
            f"{page}_per_100_songs_{RECENT}",
            "pages",
            f"{_spoken(page)} per 100 songs, last {RECENT[:-1]} days",
            "per 100 songs",
            100
            * _shrunk(
                _total(page, RECENT),
                _total("songs", RECENT),
                _population(f"{page}_per_song"),
                SONG_STRENGTH,
            ),
        )


def _by_level() -> Iterator[Feature]:
    for column, (songs, words) in BY_LEVEL.items():
        rate = _shrunk(
            _total(column), _total(songs), _population(f"{column}_per_{songs}"), SONG_STRENGTH
        )
        name = f"{column}_per_100_{songs}"
        yield Feature(name, "pages", words, "per 100 songs", 100 * rate)


def _much() -> Iterator[Feature]:
    """How sure it is that a user is one of the few with twice the usual of something.

    Bayes' rule for two Poisson rates, the usual one and MUCH times that. Other than a rate, it
    says little of users with few songs and does not grow any more once it is sure.
    """
    adverts = ("free_adverts", "paid_adverts")
    for name, counts, usual in (
        ("adverts", adverts, [(c, BY_LEVEL[c][0]) for c in adverts]),
        ("thumbs_down", ("thumbs_down",), [("thumbs_down", "song")]),
        ("thumbs_up", ("thumbs_up",), [("thumbs_up", "song")]),
    ):
        seen = pl.sum_horizontal(_total(count) for count in counts)
        expected = pl.sum_horizontal(
            _total("songs" if per == "song" else per) * _population(f"{count}_per_{per}")
            for count, per in usual
        )
        odds = seen * math.log(MUCH) - (MUCH - 1) * expected
        prior = math.log(MUCH_SHARE / (1 - MUCH_SHARE))
        chance = 1 / (1 + (-(odds + prior)).exp())
        words = f"chance to be one of the few with twice the usual {_spoken(name)}"
        yield Feature(f"many_{name}", "pages", words, "probability", chance)


def _sessions() -> Iterator[Feature]:
    session_rate = _shrunk(
        _total("sessions"),
        pl.col("exposure_days"),
        _population("sessions_per_day"),
        DAY_STRENGTH,
    )
    gap = _shrunk(
        _total("gap_seconds"),
        _total("gaps"),
        _population("gap_seconds_per_gap"),
        SESSION_STRENGTH,
    )
    # Of the first session it is known that it began in view only if the user was waited for.
    waited_for = (pl.col("history_days") < pl.col("exposure_days")).cast(pl.Float64)
    idle_days = pl.col("exposure_days") - divided(_total("session_seconds"), 86_400)
    # As _shrunk, with as much time of the population's as holds START_STRENGTH starts.
    expected = idle_days.clip(lower_bound=0) * _population("starts_per_idle_day")
    starts = _total("gaps") + waited_for
    quiet = pl.col("seconds_since_last_event")
    yield Feature(
        "session_rate_ratio",
        "sessions",
        "how often sessions begin, against all users",
        "log ratio",
        ((starts + START_STRENGTH) / (expected + START_STRENGTH)).log(),
    )
    yield Feature(
        "in_session",
        "sessions",
        "a session is going on",
        "0 or 1",
        (quiet < OPEN_SECONDS).cast(pl.Float64),
    )
    yield Feature(
        "sessions_per_day", "sessions", "sessions per day, steadied", "sessions/day", session_rate
    )
    yield Feature(
        "sessions_so_far",
        "sessions",
        "sessions in which the user could have left and did not",
        "sessions",
        _total("sessions").cast(pl.Float64),
    )
    yield Feature("gap_days", "sessions", "mean gap between sessions", "days", divided(gap, 86_400))
    yield Feature(
        "days_since_last_event",
        "sessions",
        "time since the last event",
        "days",
        divided(quiet, 86_400),
    )
    yield Feature(
        "quiet_for_gaps",
        "sessions",
        "time since the last event, in the user's usual gaps",
        "gaps",
        quiet / gap.clip(lower_bound=1.0),
    )
    for column, words, unit, scale in (
        ("songs", "songs per session", "songs", 1.0),
        ("events", "events per session", "events", 1.0),
        ("session_seconds", "length of a session", "hours", 3_600.0),
    ):
        name = "hours_per_session" if column == "session_seconds" else f"{column}_per_session"
        mean = _shrunk(
            _total(column),
            _total("sessions"),
            _population(f"{column}_per_session"),
            SESSION_STRENGTH,
        )
        yield Feature(name, "sessions", words, unit, divided(mean, scale))


def _level() -> Iterator[Feature]:
    yield Feature("is_paid", "level", "on the paid level", "0 or 1", _is("level", "paid"))
    yield Feature(
        "days_at_level",
        "level",
        "time at the present level, as far as seen",
        "days",
        divided(pl.col("seconds_at_level"), 86_400),
    )
    yield Feature("upgrades", "level", "upgrades so far", "upgrades", _total("submit_upgrade"))
    yield Feature(
        "downgrades", "level", "downgrades so far", "downgrades", _total("submit_downgrade")
    )
    yield Feature(
        "paid_share",
        "level",
        "share of events on the paid level",
        "share",
        _total("paid_events") / _total("events"),
    )


def _kinds() -> Iterator[Feature]:
    """What users of a kind do on the paid level differs, and so does what they risk there."""
    for name in kinds.NAMES:
        words = f"behaves like {_spoken(name)}"
        yield Feature(name, _KIND, words, "probability", pl.col(name))
        yield Feature(
            f"paid_{name}",
            _KIND,
            f"{words}, and is on the paid level",
            "probability",
            pl.col(name) * _is("level", "paid"),
        )


def _variety() -> Iterator[Feature]:
    for kind in ("artists", "songs"):
        yield Feature(
            f"distinct_{kind}",
            "variety",
            f"different {kind} heard",
            kind,
            pl.col(f"distinct_{kind}").cast(pl.Float64),
        )
        yield Feature(
            f"distinct_{kind}_share",
            "variety",
            f"different {kind} for each song played",
            "share",
            pl.col(f"distinct_{kind}") / _total("songs").clip(lower_bound=1),
        )
    yield Feature(
        "song_seconds",
        "variety",
        "mean length of the songs played",
        "seconds",
        _shrunk(
            _total("listening_hours") * 3_600,
            _total("songs"),
            _population("listening_hours_per_song") * 3_600,
            SONG_STRENGTH,
        ),
    )


def _account() -> Iterator[Feature]:
    yield Feature(
        "account_age_days",
        "account",
        "time since registration",
        "days",
        divided(pl.col("seconds_since_registration"), 86_400),
    )
    yield Feature(
        "history_days",
        "account",
        "time since the first event in the log",
        "days",
        pl.col("history_days").cast(pl.Float64),
    )
    yield Feature(
        "exposure_days",
        "account",
        "time in which the user could have been seen",
        "days",
        pl.col("exposure_days").cast(pl.Float64),
    )


def _time_of_day() -> Iterator[Feature]:
    for part, (first, last) in DAY_PARTS.items():
        yield Feature(
            f"{part}_share",
            "time of day",
            f"share of events from {first} to {last} h UTC",
            "share",
            _total(part) / _total("events"),
        )
    yield Feature(
        "weekend_share",
        "time of day",
        "share of events on Saturday and Sunday",
        "share",
        _total("weekend_events") / _total("events"),
    )


def _person() -> Iterator[Feature]:
    yield Feature("is_female", "person", "female", "0 or 1", _is("gender", "F"))
    for region, states in REGIONS.items():
        yield Feature(
            f"in_{region}",
            "person",
            f"lives in the {region.title()}",
            "0 or 1",
            pl.col("state").is_in(states.split()).cast(pl.Float64),
        )
    for name, family in OS_FAMILIES.items():
        yield Feature(f"on_{name}", "device", f"uses {family}", "0 or 1", _is("os", family))
    for name, family in BROWSERS.items():
        yield Feature(
            f"with_{name}",
            "device",
            f"uses the browser {family}",
            "0 or 1",
            pl.col("browser").str.contains(f"(^|Mobile ){family}").cast(pl.Float64),
        )


def _is(column: str, value: str) -> pl.Expr:
    return (pl.col(column) == value).cast(pl.Float64)


FEATURES: tuple[Feature, ...] = (
    *_activity(),
    *_trends(),
    *_pages(),
    *_by_level(),
    *_much(),
    *_sessions(),
    *_level(),
    *_kinds(),
    *_variety(),
    *_account(),
    *_time_of_day(),
    *_person(),
)
FEATURE_NAMES = [feature.name for feature in FEATURES]


def described(kinds_in_words: Mapping[str, str]) -> list[Feature]:
    """FEATURES that say what sets the kinds of users of a log apart (`kinds.in_words`)."""
    told = {_spoken(name): f"{_spoken(name)} ({words})" for name, words in kinds_in_words.items()}

    def meaning(words: str) -> str:
        for kind, longer in told.items():
            words = words.replace(kind, longer)
        return words

    return [
        replace(feature, meaning=meaning(feature.meaning)) if feature.theme == _KIND else feature
        for feature in FEATURES
    ]


# What models learn from, chosen beforehand: a subscription ends in a session, so what says most is
# how many sessions are ahead (rate, recency), how many the user has got through, and what a user of
# that kind and level does in one. With few churned users every further feature costs more in noise
# than it tells; the others are there to be read.
CORE = (
    "session_rate_ratio",
    "sessions_so_far",
    "days_since_last_event",
    "in_session",
    "is_paid",
    *kinds.NAMES,
    *(f"paid_{name}" for name in kinds.NAMES),
)

_SUMMED = (
    *ACTIVITY,
    *PAGES,
    *DAY_PARTS,
    "paid_events",
    "free_songs",
    "paid_songs",
    "free_adverts",
    "paid_adverts",
    "weekend_events",
    "session_seconds",
    "gap_seconds",
    "gaps",
)
_WINDOWED = (*ACTIVITY, *RECENT_PAGES)
_MILLION = 10**6


# What is added to a day before it is summed up.
_MEASURED = (
    divided(pl.col("listening_seconds"), 3_600).alias("listening_hours"),
    pl.col("day").is_not_null().cast(pl.Int64).alias("active_days"),
    (pl.col("songs") - pl.col("paid_songs")).alias("free_songs"),
    (pl.col("roll_advert") - pl.col("paid_adverts")).alias("free_adverts"),
    pl.when(pl.col("day").dt.weekday() >= 6).then("events").otherwise(0).alias("weekend_events"),
)


def population_totals(days: pl.DataFrame, first_days: pl.DataFrame | None = None) -> pl.DataFrame:
    """Sums of everybody's days, a row a day; additive over any split of users and days.

    days: of whole users, unless `first_days` tells each user's first day (user_id, first_day).
    Returns day, `new_users` (those whose first day it is) and every summed column, in whole
    millionths: so no split, and no order of adding up, changes a digit.
    """
    if first_days is None:
        first_days = days.group_by("user_id").agg(first_day=pl.col("day").min())
    return (
        days.join(first_days, on="user_id")
        .with_columns(*_MEASURED, new_users=pl.col("day") == pl.col("first_day"))
        .group_by("day")
        .agg((pl.col("new_users", *_SUMMED) * _MILLION).round().cast(pl.Int64).sum())
    )


def population_rates(
    totals: Sequence[pl.DataFrame], cutoffs: Sequence[date], log_start: date
) -> pl.DataFrame:
    """What is usual before each cutoff: a row a cutoff, as_of and `population__...` columns.

    totals: the results of `population_totals` for disjoint sets of rows. Cutoffs that no day
    precedes are left out.
    """
    by_day = pl.concat(totals).group_by("day").agg(pl.all().sum()).sort("day")
    so_far = by_day.with_columns(pl.exclude("day").cum_sum())
    at = pl.DataFrame({"as_of": sorted(set(cutoffs))}, schema={"as_of": pl.Date})
    known = at.join_asof(
        so_far, left_on="as_of", right_on="day", strategy="backward", allow_exact_matches=False
    ).drop_nulls("day")
    return known.select("as_of", *_rates(log_start))


def _rates(log_start: date) -> Iterator[pl.Expr]:
    """Rates of what was summed up over everybody's days before a cutoff."""
    exposure = (pl.col("as_of") - pl.lit(log_start)).dt.total_days() * pl.col("new_users")

    def rate(column: str, per: pl.Expr, name: str) -> pl.Expr:
        return (pl.col(column) / per.clip(lower_bound=_MILLION)).alias(
            f"population__{column}_per_{name}"
        )

    songs, sessions = pl.col("songs"), pl.col("sessions")
    yield from (rate(column, exposure, "day") for column in ("songs", "sessions"))
    yield from (rate(page, songs, "song") for page in (*PAGES, "listening_hours"))
    yield from (rate(page, pl.col(of), of) for page, (of, _) in BY_LEVEL.items())
    yield from (rate(name, sessions, "session") for name in (*PAGES, "songs", "events"))
    yield rate("session_seconds", sessions, "session")
    yield rate("gap_seconds", pl.col("gaps"), "gap")
    idle_days = (exposure - divided(pl.col("session_seconds"), 86_400)).clip(lower_bound=_MILLION)
    yield (sessions / idle_days).alias("population__starts_per_idle_day")


def features(
    days: pl.DataFrame,
    rows: pl.DataFrame,
    population: pl.DataFrame,
    known_kinds: Sequence[Kinds],
    log_start: date,
) -> pl.DataFrame:
    """`rows` with their features: protocol, user_id, as_of, FEATURE_NAMES, label.

    days: `user_days` of whole users. rows: protocol, user_id, as_of, label; those of other users,
    and those without a day before their cutoff, are left out. population: `population_rates` that
    holds every as_of of `rows`. known_kinds: `kinds.learn`. log_start: the first day of the log.
    """
    key = ["protocol", "user_id", "as_of"]
    known = (
        rows.join(days.drop("moves").with_columns(*_MEASURED), on="user_id")
        .filter(pl.col("day") < pl.col("as_of"))
        .sort(*key, "day")
        .with_columns(age=(pl.col("as_of") - pl.col("day")).dt.total_days())
    )
    sums = known.group_by(key, maintain_order=True).agg(pl.col("label").first(), *_sums())
    return (
        sums.join(population, on="as_of", how="left")
        .join(kinds.likely(days, rows, known_kinds), on=key, how="left")
        .with_columns(*_times(log_start))
        .select(*key, *_values(), "label")
    )


def _sums() -> Iterator[pl.Expr]:
    """A user's days before a cutoff, put together; their `age` is how far before it they are."""
    yield from (pl.col(name).sum().alias(f"{name}__lifetime") for name in _SUMMED)
    for window, length in WINDOWS.items():
        if length is not None:
            recent = pl.col("age") <= length
            yield from (
                pl.col(name).filter(recent).sum().alias(f"{name}__{window}") for name in _WINDOWED
            )
    yield pl.col("day").min().alias("first_day")
    yield pl.col("first_event_at").min()
    yield pl.col("last_event_at").max()
    yield pl.col("level_changed_at").max()
    for name in ("registered_at", "gender", "state", "os", "browser", "level"):
        yield pl.col(name).last()
    yield pl.col("artist_keys").explode().n_unique().alias("distinct_artists")
    yield pl.col("song_keys").explode().n_unique().alias("distinct_songs")


def _times(log_start: date) -> Iterator[pl.Expr]:
    """How far before the cutoff things lie."""
    as_of = pl.col("as_of").cast(pl.Datetime("us", "UTC"))
    for name, since in (
        ("seconds_since_last_event", pl.col("last_event_at")),
        ("seconds_at_level", pl.coalesce(pl.col("level_changed_at"), pl.col("first_event_at"))),
        ("seconds_since_registration", pl.col("registered_at")),
    ):
        yield divided((as_of - since).dt.total_microseconds(), 1e6).alias(name)
    seen_from = pl.max_horizontal(pl.col("registered_at").dt.date(), pl.lit(log_start))
    first_seen = pl.min_horizontal(pl.col("first_day"), seen_from)
    for name, since in (("history_days", pl.col("first_day")), ("exposure_days", first_seen)):
        yield (pl.col("as_of") - since).dt.total_days().alias(name)


def _values() -> Iterator[pl.Expr]:
    return (feature.value.cast(pl.Float64).alias(feature.name) for feature in FEATURES)


def made_of() -> Origins:
    """The columns of `user_days` that each feature is made of."""
    of_row: Origins = {"as_of": frozenset()}
    measured = origins(_MEASURED, {})
    everybody = measured | of_row | {"new_users": frozenset({"user_id", "day"})}
    known = origins(_sums(), measured | {"age": frozenset({"day"})}) | of_row
    known |= origins(_rates(date.min), everybody)
    known |= {name: frozenset({"moves", "day"}) for name in kinds.NAMES}
    known |= origins(_times(date.min), known)
    return origins(_values(), known)
