"""Each table's contract: columns, types, units, meaning and constraints, said once.

Belongs here: what a table promises to its readers. The Dagster column schemas, the blocking
checks, the types that are written and the documentation all come from these definitions.
Does not belong here: how a table is computed (`events/`, `churn/`) or stored (`resources/`).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import polars as pl
import pyarrow as pa

from sparkify_assets.churn.cutoffs import FORECAST, WHOLE_LOG
from sparkify_assets.churn.days import DAY_PARTS, PAID_PAGES
from sparkify_assets.churn.features import FEATURES
from sparkify_assets.churn.kinds import NAMES
from sparkify_assets.churn.metrics import THRESHOLDS
from sparkify_assets.churn.moves import LEVELS
from sparkify_assets.churn.pages import PAGES
from sparkify_assets.churn.registry import LIVE, REFUSED, RETIRED
from sparkify_assets.events.buckets import BUCKETS
from sparkify_assets.storage import PartFile

if TYPE_CHECKING:
    from pyspark.sql import DataFrame
    from pyspark.sql.types import StructType

STRING = pa.string()
INTEGER = pa.int64()
NUMBER = pa.float64()
BOOLEAN = pa.bool_()
DATE = pa.date32()
TIMESTAMP = pa.timestamp("us", tz="UTC")
BINARY = pa.binary()


@dataclass(frozen=True)
class Column:
    """One column: its type, what it means, and what its values must satisfy."""

    name: str
    type: pa.DataType
    meaning: str
    unit: str | None = None
    nullable: bool = True
    minimum: float | None = None
    maximum: float | None = None
    allowed: tuple[str, ...] | None = None
    personal: bool = False  # tells who a user is; never shown outside of the tables

    @property
    def description(self) -> str:
        return f"{self.meaning} ({self.unit})" if self.unit else self.meaning

    @property
    def constraints(self) -> dict[str, str]:
        """Words for each constraint, and the SQL condition of the rows that break it."""
        value = f'"{self.name}"'
        broken = {}
        if not self.nullable:
            broken[f"{self.name} is given"] = f"{value} IS NULL"
        if self.allowed is not None:
            listed = ", ".join(f"'{one}'" for one in self.allowed)
            broken[f"{self.name} is one of {', '.join(self.allowed)}"] = (
                f"{value} NOT IN ({listed})"
            )
        if self.minimum is not None:
            broken[f"{self.name} is at least {self.minimum:g}"] = f"{value} < {self.minimum!r}"
        if self.maximum is not None:
            broken[f"{self.name} is at most {self.maximum:g}"] = f"{value} > {self.maximum!r}"
        return broken


@dataclass(frozen=True)
class Table:
    """A table's contract. `key` names the columns that together identify a row.

    `in_order_of`: by what the rows of a part file are sorted, so that some can be read without the
    others; `rows_together`: how many are read or passed over together.
    """

    name: str
    meaning: str
    columns: tuple[Column, ...]
    key: tuple[str, ...] = ()
    in_order_of: tuple[str, ...] = ()
    rows_together: int | None = None

    @property
    def names(self) -> list[str]:
        return [column.name for column in self.columns]

    def __getitem__(self, name: str) -> Column:
        return next(column for column in self.columns if column.name == name)

    @property
    def constraints(self) -> dict[str, str]:
        """What each row promises, in words, and the SQL condition of the rows that break it."""
        return {words: sql for column in self.columns for words, sql in column.constraints.items()}

    @property
    def constrained_columns(self) -> list[str]:
        return [column.name for column in self.columns if column.constraints]

    def count_broken(self, rows: pl.DataFrame) -> dict[str, int]:
        """How many rows break each constraint; adds up over any split of the rows."""
        counts = rows.select(
            pl.sql_expr(broken).fill_null(False).sum().alias(words)
            for words, broken in self.constraints.items()
        )
        return counts.row(0, named=True)

    @property
    def shown(self) -> list[str]:
        """The columns that may be shown elsewhere: none personal, all of plain values."""
        return [
            column.name
            for column in self.columns
            if not (column.personal or pa.types.is_nested(column.type) or column.type == BINARY)
        ]

    @property
    def arrow_schema(self) -> pa.Schema:
        return pa.schema(
            [
                pa.field(c.name, c.type, nullable=c.nullable, metadata={"comment": c.description})
                for c in self.columns
            ]
        )

    @property
    def polars_schema(self) -> pl.Schema:
        return pl.Schema(self.arrow_schema)

    @property
    def spark_schema(self) -> StructType:
        from pyspark.sql.pandas.types import from_arrow_schema

        return from_arrow_schema(self.arrow_schema.remove_metadata())


@dataclass(frozen=True)
class Slice:
    """What a table holds of one file, day or cutoff, and is made of as a whole.

    `key`: a digest of what it is made of; another one, and the slice is made again. `said`: what
    its maker says of it. `nulls`: of each column, how many values are missing, where any is.
    `gone`: rows that it had and has no more, as they have expired or a user was erased. `expired`:
    all of them have, and nothing can make them again.
    """

    key: str
    said: Mapping[str, Any] = field(default_factory=dict)
    nulls: Mapping[str, int] = field(default_factory=dict)
    gone: int = 0
    expired: bool = False


@dataclass(frozen=True)
class Rows:
    """What a table's next version holds, and what is to be said of it in its commit.

    `of`: a Spark frame, a Polars frame, or the part files that tasks have written. `after`: of
    what is made from the table's last version, the number of that version (-1: there was none).
    `slices`: of a table that is made slice by slice, all that the version holds, by name; `of` are
    the parts of those made anew, each in the folder of its slice, and the others stay as they are.
    """

    of: DataFrame | pl.DataFrame | Sequence[PartFile]
    metadata: Mapping[str, Any] = field(default_factory=dict)
    after: int | None = None
    slices: Mapping[str, Slice] | None = None


def _columns(*columns: Column | Iterable[Column]) -> tuple[Column, ...]:
    flat: list[Any] = []
    for item in columns:
        flat.extend([item] if isinstance(item, Column) else item)
    return tuple(flat)


RAW_EVENTS = Table(
    "raw_events",
    "Every line of the event log that is an event, typed and otherwise as it was written. "
    "Holds first and last names.",
    _columns(
        Column("ts", INTEGER, "When it happened", "ms since 1970, UTC", nullable=False),
        Column(
            "user_id",
            STRING,
            "The user; empty or a pseudo-user when logged out",
            personal=True,
        ),
        Column("session_id", INTEGER, "Session; unique only together with user_id", personal=True),
        Column("page", STRING, "The page or action", nullable=False),
        Column("auth", STRING, "Logged In, Logged Out, Guest or Cancelled", nullable=False),
        Column("method", STRING, "HTTP method"),
        Column("status", INTEGER, "HTTP status"),
        Column("level", STRING, "Subscription level at the event", allowed=LEVELS),
        Column("item_in_session", INTEGER, "Position of the event within its session"),
        Column("location", STRING, "Metropolitan area and states", personal=True),
        Column("user_agent", STRING, "The browser's own description, as sent", personal=True),
        Column("last_name", STRING, "Last name", personal=True),
        Column("first_name", STRING, "First name", personal=True),
        Column(
            "registration", INTEGER, "When the user registered", "ms since 1970, UTC", personal=True
        ),
        Column("gender", STRING, "F or M"),
        Column("artist", STRING, "Artist of the song; only on NextSong"),
        Column("song", STRING, "Title of the song; only on NextSong"),
        Column("length", NUMBER, "Length of the song; only on NextSong", "seconds", minimum=0),
        Column("source_file", STRING, "The log file that the line stands in", nullable=False),
        Column(
            "user_bucket",
            INTEGER,
            "A number made from user_id, by which a day of many events is shared out",
            nullable=False,
            minimum=0,
            maximum=BUCKETS - 1,
            personal=True,
        ),
    ),
    in_order_of=("ts",),
    rows_together=16_384,
)

REJECTED_LINES = Table(
    "rejected_lines",
    "Every line of the event log that is not an event, with the reason. May hold personal data.",
    _columns(
        Column("source_file", STRING, "The log file that the line stands in", nullable=False),
        Column(
            "byte_offset",
            INTEGER,
            "Where the line starts in the (decompressed) file",
            "bytes",
            nullable=False,
            minimum=0,
        ),
        Column("reason", STRING, "Why it is not an event", nullable=False),
        Column(
            "text", STRING, "The line; bytes that are not UTF-8 are written as \\xNN", personal=True
        ),
    ),
    key=("source_file", "byte_offset"),
)

_USER_ID = Column(
    "user_id",
    STRING,
    "The user, as in the log or as a keyed hash",
    nullable=False,
    personal=True,
)
_AS_OF = Column(
    "as_of", DATE, "The cutoff, at 00:00 UTC; only what lies before it is used", nullable=False
)
_PERSON = (
    Column("registered_at", TIMESTAMP, "When the user registered", "UTC", personal=True),
    Column("gender", STRING, "F or M"),
    Column("state", STRING, "First state of the location, as its postal code", personal=True),
    Column("os", STRING, "Operating system, from the user agent"),
    Column("browser", STRING, "Browser, from the user agent"),
    Column("device", STRING, "Device, from the user agent"),
)

CLEANED_EVENTS = Table(
    "cleaned_events",
    "Events of logged-in users without names and exact repeats, a UTC day in a folder; a user's "
    "rows of a day stand together, in time order, in one file.",
    _columns(
        _USER_ID,
        Column("event_time", TIMESTAMP, "When it happened", "UTC", nullable=False),
        Column("session_id", INTEGER, "Session; unique only together with user_id", personal=True),
        Column("item_in_session", INTEGER, "Position of the event within its session"),
        Column("page", STRING, "The page or action", nullable=False),
        Column("auth", STRING, "How the user is known", allowed=("Logged In", "Cancelled")),
        Column("method", STRING, "HTTP method"),
        Column("status", INTEGER, "HTTP status"),
        Column("level", STRING, "Subscription level at the event", allowed=LEVELS),
        Column("location", STRING, "Metropolitan area and states", personal=True),
        Column(
            "user_agent",
            STRING,
            "The browser's own description, without quote marks",
            personal=True,
        ),
        *_PERSON,
        Column("artist", STRING, "Artist of the song, repaired; only on NextSong"),
        Column("song", STRING, "Title of the song, repaired; only on NextSong"),
        Column("length", NUMBER, "Length of the song; only on NextSong", "seconds", minimum=0),
        Column("artist_key", pa.int32(), "Hash of the artist, for distinct counts"),
        Column("song_key", pa.int32(), "Hash of artist and song, for distinct counts"),
    ),
    in_order_of=("user_id", "event_time"),
    rows_together=16_384,
)


def _count_column(name: str, meaning: str) -> Column:
    return Column(name, INTEGER, meaning, "count", nullable=False, minimum=0)


_DAY = Column("day", DATE, "Day, UTC", nullable=False)

LABEL_DAYS = Table(
    "label_days",
    "A row a user and UTC day: the outcome, and where the day left off, from which the next goes "
    "on. What user_labels is made of; no feature is.",
    _columns(
        _USER_ID,
        _DAY,
        _PERSON[0],
        Column("first_event_at", TIMESTAMP, "First event of the day", "UTC", nullable=False),
        Column("last_event_at", TIMESTAMP, "Last event of the day", "UTC", nullable=False),
        Column("churned_at", TIMESTAMP, "When a cancellation was confirmed", "UTC"),
        Column("level", STRING, "Level at the day's last event", allowed=LEVELS),
        Column("last_page", STRING, "Page of the day's last event", nullable=False),
        Column("first_session_id", INTEGER, "Session of the day's first event", personal=True),
        Column("last_session_id", INTEGER, "Session of the day's last event", personal=True),
        _count_column("new_sessions", "Sessions that began after the day's first event"),
        Column("events", INTEGER, "Events", "count", nullable=False, minimum=1),
        _count_column("outcome_events", "Events of a cancellation itself"),
        _count_column("songs", "Songs played"),
        _count_column("upgrades", "Submitted upgrades"),
        _count_column("downgrades", "Submitted downgrades"),
    ),
    key=("user_id", "day"),
)

USER_LABELS = Table(
    "user_labels",
    "A row a user: who churned, and when.",
    _columns(
        _USER_ID,
        _PERSON[0],
        Column("first_event_at", TIMESTAMP, "First event in the log", "UTC", nullable=False),
        Column("last_event_at", TIMESTAMP, "Last event in the log", "UTC", nullable=False),
        Column("churned", BOOLEAN, "Whether the log holds a cancellation", nullable=False),
        Column("churned_at", TIMESTAMP, "When the cancellation was confirmed", "UTC"),
        Column("level", STRING, "Level at the last event", allowed=LEVELS),
        Column("upgrades", INTEGER, "Submitted upgrades", minimum=0),
        Column("downgrades", INTEGER, "Submitted downgrades", minimum=0),
        Column("events", INTEGER, "Events in the log", nullable=False, minimum=1),
        Column("songs", INTEGER, "Songs played", nullable=False, minimum=0),
        Column("sessions", INTEGER, "Sessions", nullable=False, minimum=1),
    ),
    key=("user_id",),
)


USER_DAYS = Table(
    "user_days",
    "A row a user and UTC day with at least one event: additive counts and sums, and the sets "
    "that distinct counts are taken from. Without Cancel and Cancellation Confirmation.",
    _columns(
        _USER_ID,
        _DAY,
        Column("events", INTEGER, "Events", "count", nullable=False, minimum=1),
        _count_column("songs", "Songs played"),
        Column("listening_seconds", NUMBER, "Length of the songs played", "seconds", minimum=0),
        _count_column("sessions", "Sessions that began on the day"),
        Column("session_seconds", NUMBER, "Time spent in sessions", "seconds", minimum=0),
        Column("gap_seconds", NUMBER, "Gaps before the sessions that began", "seconds", minimum=0),
        _count_column("gaps", "Sessions that began with an earlier one known"),
        [_count_column(column, f"Events on {page}") for column, page in PAGES.items()],
        _count_column("other_pages", "Events on any other page"),
        _count_column("paid_events", "Events on the paid level"),
        [_count_column(c, f"Events on {page}, paid level") for c, page in PAID_PAGES.items()],
        [
            _count_column(part, f"Events from {first} to {last} h UTC")
            for part, (first, last) in DAY_PARTS.items()
        ],
        Column("first_event_at", TIMESTAMP, "First event of the day", "UTC", nullable=False),
        Column("last_event_at", TIMESTAMP, "Last event of the day", "UTC", nullable=False),
        Column("level", STRING, "Level at the day's last event", allowed=LEVELS),
        Column("level_changed_at", TIMESTAMP, "Last change of level on the day", "UTC"),
        *_PERSON,
        Column("artist_keys", pa.list_(pa.int32()), "Hashes of the artists heard, sorted"),
        Column("song_keys", pa.list_(pa.int32()), "Hashes of the songs heard, sorted"),
        Column(
            "moves",
            pa.list_(pa.struct([("move", pa.int16()), ("times", pa.int32())])),
            "Steps from page to page, by their number, and how often each was taken",
        ),
    ),
    key=("user_id", "day"),
    in_order_of=("user_id",),
    # Fewer than of others, as its lists make up most of what is read.
    rows_together=1_024,
)

USER_KINDS = Table(
    "user_kinds",
    "Kinds of users, told apart by how they go from page to page: a row a kind and week of the "
    "log, of what all users did before its end. No label is looked at.",
    _columns(
        Column("as_of", DATE, "Learned from what lies before 00:00 UTC", nullable=False),
        Column("kind", STRING, "The kind; it keeps its number", nullable=False, allowed=NAMES),
        Column("share", NUMBER, "Share of the users", nullable=False, minimum=0, maximum=1),
        Column("words", STRING, "What sets it apart", nullable=False),
        Column("chances", pa.list_(NUMBER), "Chance of each step, by its number", nullable=False),
        Column("visits", pa.list_(NUMBER), "Share of steps to each page", nullable=False),
    ),
    key=("as_of", "kind"),
)

FEATURE_TABLE = Table(
    "feature_table",
    "A row a protocol, user and cutoff: features from strictly before it, the label from after it.",
    _columns(
        Column(
            "protocol",
            STRING,
            "forecast (the real one) or whole_log (leaking, for comparison)",
            nullable=False,
            allowed=(FORECAST, WHOLE_LOG),
        ),
        _USER_ID,
        _AS_OF,
        [Column(f.name, NUMBER, f.meaning, f.unit) for f in FEATURES],
        Column(
            "label",
            BOOLEAN,
            "Whether the user cancels within the horizon; null where the log ends before it does",
        ),
    ),
    key=("protocol", "user_id", "as_of"),
)

_PROTOCOL = FEATURE_TABLE["protocol"]
_ESTIMATE = Column(
    "estimate",
    STRING,
    "How the rows were held back: temporal (the last cutoff) or grouped (users, in folds)",
    nullable=False,
    allowed=("temporal", "grouped"),
)
_MODEL = Column("model", STRING, "The model, or the baseline", nullable=False)


def _share(name: str, meaning: str, *, nullable: bool = False) -> Column:
    return Column(name, NUMBER, meaning, nullable=nullable, minimum=0, maximum=1)


# Above all probabilities where flagging nobody is best, so it may exceed 1.
_THRESHOLDS = [
    Column(
        name,
        NUMBER,
        f"Probability from which a user is flagged, for the best {aim} on the training rows",
        minimum=0,
    )
    for aim, name in THRESHOLDS.items()
]

# What is known of a fitted model, whether it is one of a training's or one of the registry's.
_FITTED = _columns(
    _share("pr_auc", "PR AUC out of fold on the training rows, by which it was chosen"),
    _THRESHOLDS,
    Column("features", pa.list_(STRING), "What the model looks at, in order", nullable=False),
    Column("artifact", BINARY, "The fitted model, in an open format", nullable=False),
    Column("sha256", STRING, "Checksum of the artifact", nullable=False),
    Column("twin", BINARY, "The same model, fitted without a fixed fifth of the users, the jury"),
    Column("twin_sha256", STRING, "Checksum of the twin"),
    Column(
        "profile",
        STRING,
        "How its features and probabilities were spread at the latest cutoff it learned from, as "
        "JSON: bins and rows",
    ),
    Column("rows", INTEGER, "Rows it learned from", nullable=False, minimum=1),
    Column("positives", INTEGER, "Rows of users who churned", nullable=False, minimum=1),
    Column("churned_users", INTEGER, "Users who churned", nullable=False, minimum=1),
    Column("horizon_days", INTEGER, "How far ahead it looks", "days", nullable=False),
    Column("feature_table_version", INTEGER, "Version of the table that it saw", minimum=0),
    Column("log_end", DATE, "End of the log that it learned from, UTC"),
    Column("libraries", STRING, "Versions of the libraries that fitted it, as JSON"),
)

MODEL_TRIALS = Table(
    "model_trials",
    "A row a trial of the search for hyper-parameters on the training rows. One row where churned "
    "rows are too few to tell settings apart: the defaults, with the best number of rounds.",
    _columns(
        Column("trial", INTEGER, "Its number; 0 are the defaults", nullable=False, minimum=0),
        Column("settings", STRING, "The hyper-parameters, as JSON", nullable=False),
        Column("log_loss", NUMBER, "Log loss on users held out of the training rows", "nats"),
        Column("better_by", NUMBER, "How much less that is than the defaults'", "nats a row"),
        Column("error", NUMBER, "Standard error of that, over users", "nats a row", minimum=0),
        Column("seconds", NUMBER, "How long the trial took", "seconds", minimum=0),
        Column("taken", BOOLEAN, "Whether the model is trained with them", nullable=False),
    ),
    key=("trial",),
)

TRAINED_MODEL = Table(
    "trained_model",
    "A row a candidate, fitted on every labelled row of the forecast protocol; one is chosen and "
    "has a twin and a profile. The model itself is data, never code.",
    _columns(
        _MODEL,
        Column("chosen", BOOLEAN, "Whether it is the one to score users", nullable=False),
        _FITTED,
    ),
    key=("model",),
)

EVALUATION_PREDICTIONS = Table(
    "evaluation_predictions",
    "What each model said of rows that it had not seen, when it was chosen, fitted and given its "
    "threshold without them.",
    _columns(
        _PROTOCOL,
        _ESTIMATE,
        _MODEL,
        Column("candidate", STRING, "The model that the training rows chose"),
        Column("repeat", INTEGER, "Which drawing of the folds", nullable=False, minimum=0),
        Column("fold", INTEGER, "Which fold was held back", nullable=False, minimum=0),
        _USER_ID,
        _AS_OF,
        Column("label", BOOLEAN, "What happened", nullable=False),
        _share("probability", "What the model said"),
        _THRESHOLDS,
    ),
    key=("protocol", "estimate", "model", "repeat", "user_id", "as_of"),
)

EVALUATION_METRICS = Table(
    "evaluation_metrics",
    "What the models are worth: a row a protocol, estimate, model and metric. The whole_log "
    "protocol leaks and is there for comparison only.",
    _columns(
        _PROTOCOL,
        _ESTIMATE,
        _MODEL,
        Column("metric", STRING, "What is measured", nullable=False),
        Column("value", NUMBER, "Its value"),
        Column("ci_low", NUMBER, "Lower end of the 95 % interval, by bootstrap over users"),
        Column("ci_high", NUMBER, "Upper end of the 95 % interval"),
        Column("rows", INTEGER, "Rows tested", nullable=False, minimum=1),
        Column("positives", INTEGER, "Rows of users who churned", nullable=False, minimum=0),
    ),
    key=("protocol", "estimate", "model", "metric"),
)


_MODEL_VERSION = Column(
    "model_version", STRING, "The model's version, from its checksum", nullable=False
)

MODEL_REGISTRY = Table(
    "model_registry",
    "A row a model that was ever trained and considered; the live one scores the users.",
    _columns(
        _MODEL_VERSION,
        Column("model", STRING, "The candidate", nullable=False),
        Column(
            "stage",
            STRING,
            "live (scores the users), retired (was live) or refused (never was)",
            nullable=False,
            allowed=(LIVE, RETIRED, REFUSED),
        ),
        Column("pinned", BOOLEAN, "Whether it stays live whatever is trained", nullable=False),
        Column("decision", STRING, "Why it went live when it was trained, or not", nullable=False),
        Column("trained_at", TIMESTAMP, "When it was trained", "UTC", nullable=False),
        Column("went_live_at", TIMESTAMP, "When it last went live", "UTC"),
        Column("baseline", STRING, "The baseline that it was least ahead of"),
        Column("baseline_difference", NUMBER, "PR AUC over that baseline's, out of fold"),
        _share("baseline_share", "Resamples in which it is above 0", nullable=True),
        Column("compared_with", STRING, "Version that was live then"),
        Column("difference", NUMBER, "PR AUC of its twin over that one's, on the jury"),
        Column("ci_low", NUMBER, "Lower end of its 95 % interval, by paired bootstrap over users"),
        Column("ci_high", NUMBER, "Upper end of the 95 % interval"),
        Column("log_loss_difference", NUMBER, "Log loss of its twin over that one's", "nats"),
        Column("jury_rows", INTEGER, "Rows of the jury", minimum=0),
        Column("jury_positives", INTEGER, "Of these, of users who churned", minimum=0),
        _FITTED,
        Column("trained_model_version", INTEGER, "Version of the table it came from", minimum=0),
    ),
    key=("model_version",),
)


def _described(group: str, users: str) -> list[Column]:
    return [
        Column(f"{group}_{name}", NUMBER, f"{words} of {users}")
        for name, words in (
            ("mean", "Mean"),
            ("p25", "Lower quartile"),
            ("median", "Median"),
            ("p75", "Upper quartile"),
        )
    ]


CHURN_FACTORS = Table(
    "churn_factors",
    "What goes with churn, not what causes it: a row a feature, by how much it moves the live "
    "model's risk.",
    _columns(
        Column("feature", STRING, "The feature", nullable=False),
        Column("theme", STRING, "What it is about", nullable=False),
        Column("meaning", STRING, "What it says", nullable=False),
        Column("unit", STRING, "Its unit", nullable=False),
        Column("rank", INTEGER, "1 is the strongest", nullable=False, minimum=1),
        Column("rank_low", INTEGER, "Lowest rank when some users are left out", minimum=1),
        Column("rank_high", INTEGER, "Highest rank when some users are left out", minimum=1),
        Column("mean_abs_contribution", NUMBER, "Mean absolute SHAP contribution", minimum=0),
        _share("share", "Its share of all contributions", nullable=True),
        Column("theme_rank", INTEGER, "Rank of its theme; 1 is the strongest", minimum=1),
        Column(
            "theme_mean_abs_contribution",
            NUMBER,
            "Mean absolute value of the summed SHAP contributions of its theme's features",
            minimum=0,
        ),
        _share("theme_share", "Its theme's share of all themes' contributions", nullable=True),
        Column("direction", INTEGER, "1: more of it, more churn; -1: more of it, less churn"),
        Column("direction_words", STRING, "The same in words"),
        _described("churned", "rows of users who churned"),
        _described("stayed", "rows of users who stayed"),
    ),
    key=("feature",),
)

_FLAGGED = Column(
    "flagged",
    BOOLEAN,
    "Whether the probability reaches the model's threshold for the best F1",
    nullable=False,
)
_SCORED_AT = Column("scored_at", TIMESTAMP, "When it was scored", "UTC", nullable=False)
_BACKFILLED = Column(
    "backfilled",
    BOOLEAN,
    "Whether it was scored later than the day it stands for, with a model as it would have been "
    "then",
    nullable=False,
)

CHURN_SCORES = Table(
    "churn_scores",
    "Every living user's probability to cancel within the horizon, with three reasons, at every "
    "cutoff that was ever scored; the newest as_of is the present forecast.",
    _columns(
        _USER_ID,
        _AS_OF,
        _share("probability", "Probability to cancel within the horizon"),
        Column("risk_decile", INTEGER, "10 is the tenth at most risk", minimum=1, maximum=10),
        Column("level", STRING, "Level at the cutoff", allowed=LEVELS),
        *(
            Column(f"reason_{n}", STRING, f"What raises this user's risk, {words}")
            for n, words in ((1, "most"), (2, "second"), (3, "third"))
        ),
        _MODEL_VERSION,
        _FLAGGED,
        _count_column(
            "events_known", "The user's events before the cutoff that were known when it was scored"
        ),
        _SCORED_AT,
        _BACKFILLED,
    ),
    key=("user_id", "as_of"),
)

SCORE_OUTCOMES = Table(
    "score_outcomes",
    "What became of earlier forecasts: a row a scored user and cutoff whose horizon has passed.",
    _columns(
        (CHURN_SCORES[name] for name in ("user_id", "as_of", "probability", "risk_decile")),
        _FLAGGED,
        _MODEL_VERSION,
        _SCORED_AT,
        _BACKFILLED,
        Column("churned", BOOLEAN, "Whether the user left within the horizon", nullable=False),
        Column(
            "churned_at",
            TIMESTAMP,
            "When the cancellation was confirmed, if it was by the end of the horizon",
            "UTC",
        ),
        _count_column(
            "late_events", "The user's events before the cutoff that came after it was scored"
        ),
    ),
    key=("user_id", "as_of"),
)

LIVE_METRICS = Table(
    "live_metrics",
    "What the forecasts were worth in operation: a row a week and metric, of the cutoffs in that "
    "week whose horizon has passed. Without backfilled scores.",
    _columns(
        Column("week", DATE, "Monday of the cutoffs' week, UTC", nullable=False),
        Column("metric", STRING, "What is measured", nullable=False),
        Column("value", NUMBER, "Its value; null where it has none, as nobody churned or stayed"),
        Column("ci_low", NUMBER, "Lower end of the 95 % interval, by bootstrap over users"),
        Column("ci_high", NUMBER, "Upper end of the 95 % interval"),
        Column("rows", INTEGER, "Scored rows", nullable=False, minimum=1),
        Column("users", INTEGER, "Users among them", nullable=False, minimum=1),
        Column("positives", INTEGER, "Rows of users who churned", nullable=False, minimum=0),
    ),
    key=("week", "metric"),
)

TABLES = {
    table.name: table
    for table in (
        RAW_EVENTS,
        REJECTED_LINES,
        CLEANED_EVENTS,
        LABEL_DAYS,
        USER_LABELS,
        USER_DAYS,
        USER_KINDS,
        FEATURE_TABLE,
        MODEL_TRIALS,
        TRAINED_MODEL,
        EVALUATION_PREDICTIONS,
        EVALUATION_METRICS,
        MODEL_REGISTRY,
        CHURN_FACTORS,
        CHURN_SCORES,
        SCORE_OUTCOMES,
        LIVE_METRICS,
    )
}
