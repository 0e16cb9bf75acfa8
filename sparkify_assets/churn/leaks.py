"""Proof that nothing is known too early: what must not matter is changed, and nothing may change.

Belongs here: the audit of features (events at or after a cutoff are deleted, shuffled, invented)
and the audit of the procedure that makes predictions (labels of tested rows are turned round).
Does not belong here: how features and predictions are made. The audits call the product's own code
and know no feature and no model by name.

Rows of the forecast protocol are audited against all that lies at or after their cutoff. Those of
the whole_log protocol leak by design, as their cutoff is set by the outcome: of them is audited
only that neither the label nor the events of the outcome itself reach a feature.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from datetime import date, timedelta

import numpy as np
import pandas as pd
import polars as pl
import polars.selectors as cs

from sparkify_assets.churn import cutoffs, days, features, labels, metrics
from sparkify_assets.churn.kinds import Kinds
from sparkify_assets.churn.pages import OUTCOME_PAGES, PAGES

KEY = ["protocol", "user_id", "as_of"]
# Relative. The last digits of a sum may depend on what else was added up beside it.
TOLERANCE = 1e-9
EVENTS = 30_000
CUTOFFS = 3
ROW = "(whether there is a row)"

_OUTCOME = pl.col("page").is_in(OUTCOME_PAGES) | (pl.col("auth") == "Cancelled")
_HOURS = (0, 1, 25, 24 * 7, 24 * 30)  # after the cutoff; 0 is the cutoff itself
_TIMES_AS_MANY = 10


CHANGED = {
    "protocol": pl.String,
    "tampering": pl.String,
    "feature": pl.String,
    "rows": pl.UInt32,
    "user_id": pl.String,
    "as_of": pl.Date,
    "stored": pl.Float64,
    "found": pl.Float64,
}


@dataclass(frozen=True)
class Audited:
    """Some whole users: their rows of the feature table, and what these are made of.

    The kinds of users are learned once, from all steps as they are: the steps that a tampered log
    would teach them are those by which the audited users are looked at, so what tampering could
    change there shows in these.
    """

    stored: pl.DataFrame
    events: pl.DataFrame  # days.EVENT_COLUMNS
    others: pl.DataFrame  # features.population_totals of everybody else's days
    known_kinds: list[Kinds]
    log: cutoffs.Span


# Stored rows and the users' labels -> the rows whose features must be those stored.
RowsOf = Callable[[pl.DataFrame, pl.DataFrame, cutoffs.Span], pl.DataFrame]


def same_rows(stored: pl.DataFrame, of_users: pl.DataFrame, log: cutoffs.Span) -> pl.DataFrame:
    return stored.select(*KEY, "label")


def opposite_rows(stored: pl.DataFrame, of_users: pl.DataFrame, log: cutoffs.Span) -> pl.DataFrame:
    """With the other outcome for everybody."""
    return stored.select(*KEY, ~pl.col("label"))


def forecast_rows(stored: pl.DataFrame, of_users: pl.DataFrame, log: cutoffs.Span) -> pl.DataFrame:
    """Those that the users as they now are have at the stored rows' cutoff, by their own labels."""
    as_of = stored["as_of"][0]
    # Who cancels after the log's end has no row there, but has one in a log that goes on.
    longer = replace(log, end=as_of + timedelta(days=365))
    rows = cutoffs.forecast_rows(of_users, [as_of], longer).filter(as_of=as_of)
    return rows if as_of < log.end else rows.join(stored, on=KEY, how="semi")


@dataclass(frozen=True)
class Tampering:
    """A change that no feature may show: to the events, and to everybody else's totals.

    Both functions also get the cutoff of the `rows`.
    """

    words: str
    rows: RowsOf
    events: Callable[[pl.DataFrame, date], pl.DataFrame] = lambda events, as_of: events
    others: Callable[[pl.DataFrame, date], pl.DataFrame] = lambda others, as_of: others
    renames: bool = False  # gives every user another id


def recomputed(
    events: pl.DataFrame,
    others: pl.DataFrame,
    known_kinds: list[Kinds],
    rows_of: Callable[[pl.DataFrame], pl.DataFrame],
    log_start: date,
) -> pl.DataFrame:
    """Features by the product's own way from events: the one place that goes it once more.

    rows_of: `user_labels` of the events -> the rows whose features are wanted.
    """
    ordered = days.in_order(events)
    rows = rows_of(labels.user_labels(labels.label_days(ordered)))
    of_days = days.user_days(ordered)
    totals = [others, features.population_totals(of_days)]
    usual = features.population_rates(totals, rows["as_of"].unique().to_list(), log_start)
    return features.features(of_days, rows, usual, known_kinds, log_start)


# Features


def audit(audited: Audited) -> pl.DataFrame:
    """Which stored features change, and by which tampering (CHANGED); no row where nothing leaks.

    A row a protocol, tampering and feature: how many `rows` change, and one of them. Takes a pass
    over the events for each tampering and cutoff.
    """
    stored = audited.stored
    whole_log = stored.filter(protocol=cutoffs.WHOLE_LOG)
    times = _some(stored.filter(protocol=cutoffs.FORECAST)["as_of"])
    groups = [
        (stored, OF_THE_ROWS),
        (whole_log, OF_THE_OUTCOME),
        *((cutoffs.forecast_at(stored, as_of), FROM_THE_CUTOFF) for as_of in times),
    ]
    found = [_changes(audited, rows, how) for rows, ways in groups for how in ways if rows.height]
    changes = pl.concat([pl.DataFrame(schema=CHANGED).drop("rows"), *found])
    return (
        changes.group_by("protocol", "tampering", "feature", maintain_order=True)
        .agg(pl.len().alias("rows"), pl.col("user_id", "as_of", "stored", "found").first())
        .sort("rows", descending=True, maintain_order=True)
    )


def audited_users(of_users: pl.DataFrame) -> tuple[str, str]:
    """(first, last) of the users to audit: the first in order of user_id, of EVENTS in all.

    of_users: user_id and events of every user.
    """
    users = of_users.sort("user_id")
    count = users.filter(pl.col("events").cum_sum() <= EVENTS).height
    return users["user_id"][0], users["user_id"][max(count - 1, 0)]


def _some(cutoffs_: pl.Series) -> list[date]:
    """The first and the last cutoff, and some between them."""
    times = cutoffs_.unique().sort()
    where = np.linspace(0, len(times) - 1, min(CUTOFFS, len(times))).round().astype(int)
    return times.gather(where).to_list()


def _changes(audited: Audited, rows: pl.DataFrame, how: Tampering) -> pl.DataFrame:
    """A row for each stored value of `rows` that is another one, or gone, when computed again."""
    as_of = rows["as_of"].min()
    assert isinstance(as_of, date)
    called = pl.concat_str(pl.lit("9" if how.renames else ""), "user_id").alias("user_id")
    rows = rows.with_columns(called)
    again = recomputed(
        how.events(audited.events, as_of).with_columns(called),
        how.others(audited.others, as_of),
        audited.known_kinds,
        lambda of_users: how.rows(rows, of_users, audited.log),
        audited.log.start,
    )
    one, other = (frame.unpivot(_names(frame), index=KEY) for frame in (rows, again))
    values = one.join(other, on=[*KEY, "variable"], how="inner", suffix="_again").select(
        *KEY, feature="variable", stored="value", found="value_again"
    )
    gone, new = (
        a.join(b, on=KEY, how="anti").select(*KEY, feature=pl.lit(ROW), stored=x, found=1 - x)
        for a, b, x in ((rows, again, pl.lit(1.0)), (again, rows, pl.lit(0.0)))
    )
    changes = pl.concat([gone, new, values.filter(_differs())]).with_columns(
        pl.col("user_id").str.slice(int(how.renames)), tampering=pl.lit(how.words)
    )
    return changes.select(name for name in CHANGED if name != "rows")


def _names(frame: pl.DataFrame) -> list[str]:
    return [name for name in frame.columns if name not in (*KEY, "label")]


def _differs() -> pl.Expr:
    stored, found = pl.col("stored"), pl.col("found")
    near = (stored - found).abs() <= TOLERANCE * stored.abs().clip(lower_bound=1)
    return ~(stored.eq_missing(found) | near.fill_null(False))


def _midnight(as_of: date) -> pl.Expr:
    return pl.lit(as_of).cast(pl.Datetime("us", "UTC"))


def _split(events: pl.DataFrame, as_of: date) -> tuple[pl.DataFrame, pl.DataFrame]:
    later = pl.col("event_time") >= _midnight(as_of)
    return events.filter(~later), events.filter(later)


def _without_later_events(events: pl.DataFrame, as_of: date) -> pl.DataFrame:
    return _split(events, as_of)[0]


def _with_later_events_shuffled(events: pl.DataFrame, as_of: date) -> pl.DataFrame:
    """What happens when, to whom and how is drawn anew among the later events."""
    before, after = _split(events, as_of)
    return pl.concat([before, _shuffled(after)])


def _shuffled(frame: pl.DataFrame) -> pl.DataFrame:
    """Every column in an order of its own."""
    return frame.select(pl.col(name).shuffle(seed) for seed, name in enumerate(frame.columns))


def _with_invented_events(events: pl.DataFrame, as_of: date) -> pl.DataFrame:
    """From the cutoff on everybody is somebody else, at the other level, and goes everywhere."""
    pages = pl.DataFrame({"page": ["NextSong", *PAGES.values(), "another"]})
    invented = (
        _last_of_all(events)
        .drop("page", "event_time")
        .with_columns(
            cs.string().exclude("user_id", "level", "auth").fill_null("") + " no more",
            cs.numeric().fill_null(0) + 1,
            cs.temporal() + timedelta(days=1),
            auth=pl.lit("Logged In"),
            level=pl.when(pl.col("level") == "paid").then(pl.lit("free")).otherwise(pl.lit("paid")),
        )
        .join(pages, how="cross")
        .join(pl.DataFrame({"hours": _HOURS}), how="cross")
        .with_columns(event_time=_midnight(as_of) + pl.duration(hours="hours"))
    )
    return _with(events, invented)


def _with_cancellations_at(events: pl.DataFrame, as_of: date) -> pl.DataFrame:
    return _with(events, _cancellations(events, _midnight(as_of)))


def _with_cancellations_at_the_end(events: pl.DataFrame, as_of: date) -> pl.DataFrame:
    return _with(events, _cancellations(events, pl.col("event_time")))


def _without_the_outcome(events: pl.DataFrame, as_of: date) -> pl.DataFrame:
    """Without the outcome's events that end a user's log.

    After one within the log a session may go on, which it began: what else it did is no outcome.
    """
    ordered = events.sort("user_id", "event_time", "item_in_session", maintain_order=True)
    to_come = (~_OUTCOME).cast(pl.Int64).cum_sum(reverse=True).over("user_id")
    return ordered.filter(to_come > 0)


def _last_of_all(events: pl.DataFrame) -> pl.DataFrame:
    """Every user's last event."""
    return events.sort("user_id", "event_time").unique("user_id", keep="last", maintain_order=True)


def _cancellations(events: pl.DataFrame, time: pl.Expr) -> pl.DataFrame:
    """Everybody cancels at a time of theirs, within the session they were last in."""
    cancel, confirmation = OUTCOME_PAGES
    asked = _last_of_all(events).with_columns(event_time=time, item_in_session=10**6)
    return pl.concat(
        [
            asked.with_columns(page=pl.lit(cancel)),
            asked.with_columns(
                page=pl.lit(confirmation),
                auth=pl.lit("Cancelled"),
                item_in_session=10**6 + 1,
            ),
        ]
    )


def _with(events: pl.DataFrame, invented: pl.DataFrame) -> pl.DataFrame:
    return pl.concat([events, invented.select(events.columns).cast(events.schema)])


def _without_later_days(others: pl.DataFrame, as_of: date) -> pl.DataFrame:
    return others.filter(pl.col("day") < as_of)


def _with_later_days_shuffled(others: pl.DataFrame, as_of: date) -> pl.DataFrame:
    later = others.filter(pl.col("day") >= as_of)
    return pl.concat([_without_later_days(others, as_of), _shuffled(later)])


def _with_invented_days(others: pl.DataFrame, as_of: date) -> pl.DataFrame:
    """On the day of the cutoff everybody else does many times what they did on all days."""
    many = others.with_columns(pl.lit(as_of).alias("day"), pl.exclude("day") * _TIMES_AS_MANY)
    return pl.concat([others, many])


OF_THE_ROWS = (
    Tampering("nothing changed, only computed again", same_rows),
    Tampering("labels turned round", opposite_rows),
    Tampering("users given other ids", same_rows, renames=True),
)
FROM_THE_CUTOFF = (
    Tampering(
        "events from the cutoff on deleted",
        forecast_rows,
        _without_later_events,
        _without_later_days,
    ),
    Tampering(
        "events from the cutoff on shuffled",
        forecast_rows,
        _with_later_events_shuffled,
        _with_later_days_shuffled,
    ),
    Tampering(
        "events from the cutoff on invented",
        forecast_rows,
        _with_invented_events,
        _with_invented_days,
    ),
    Tampering("cancellations at the cutoff invented", forecast_rows, _with_cancellations_at),
)
OF_THE_OUTCOME = (
    Tampering("cancellations deleted", same_rows, _without_the_outcome),
    Tampering(
        "cancellations after the last event invented", same_rows, _with_cancellations_at_the_end
    ),
)


# The procedure

# Labelled rows of a feature table -> predictions, as `evaluation.evaluate` makes them.
Procedure = Callable[[pd.DataFrame], pd.DataFrame]

_TESTED = ["estimate", "model", "repeat", "user_id", "as_of"]
_SAID = ["candidate", "probability", *metrics.THRESHOLDS.values()]


def audit_procedure(procedure: Procedure, rows: pd.DataFrame, horizon_days: int) -> list[str]:
    """What a procedure's predictions owe to what it should not have known: a sentence a leak.

    procedure: it must give both estimates, and the same for the same rows. rows: labelled rows of
    the forecast protocol (user_id, as_of, label, features). Raises ValueError where no tested user
    has rows of both outcomes, as nothing could be seen then.

    A tested row may not be tested twice, nor be of a user in two folds. What is said of it
    (the model's choice, the probability, the thresholds) may not change with the labels of the
    rows tested with it, with those of rows whose label was not known by its cutoff, or with which
    other rows are tested.
    """
    before = procedure(rows)
    grouped, temporal = (before[before["estimate"] == name] for name in ("grouped", "temporal"))
    in_fold = grouped[(grouped["repeat"] == 0) & (grouped["fold"] == grouped["fold"].min())]
    as_of = pd.to_datetime(rows["as_of"])
    last = as_of == as_of.max()
    unknown = ~last & (as_of + pd.Timedelta(days=horizon_days) > as_of.max())
    others = last & (np.cumsum(last) % 2 == 0)
    changed = {
        "the labels of the rows tested with it": (
            in_fold,
            _turned_within_users(rows, rows["user_id"].isin(in_fold["user_id"])),
        ),
        "the labels at the last cutoff": (temporal, _dealt_anew(rows, last)),
        "labels that were not known by the last cutoff": (temporal, _dealt_anew(rows, unknown)),
        "which other rows are tested": (temporal, rows[~others]),
    }
    return [
        *_tested_once(grouped, rows),
        *_in_one_fold(grouped),
        *(
            sentence
            for words, (tested, other_rows) in changed.items()
            for sentence in _depends(tested, procedure(other_rows), words)
        ),
    ]


def _dealt_anew(rows: pd.DataFrame, where: pd.Series) -> pd.DataFrame:
    """With the labels of some rows dealt to them anew, so that there are as many of each."""
    label = rows["label"].to_numpy(dtype=bool).copy()
    label[where] = np.random.default_rng(0).permutation(label[where])
    return rows.assign(label=label)


def _turned_within_users(rows: pd.DataFrame, where: pd.Series) -> pd.DataFrame:
    """With labels turned round for users who have both: by who churned at all folds are drawn."""
    of_user = rows["label"].astype(bool).groupby(rows["user_id"])
    both = of_user.transform("any") & ~of_user.transform("all") & where
    if not both.any():
        raise ValueError("No tested user has rows of both outcomes: their labels cannot be turned.")
    return rows.assign(label=rows["label"].astype(bool) ^ both)


def _tested_once(grouped: pd.DataFrame, rows: pd.DataFrame) -> Iterator[str]:
    for (model, repeat), tested in grouped.groupby(["model", "repeat"], sort=False):
        times = tested.groupby(["user_id", "as_of"]).size()
        if len(times) != len(rows) or (times != 1).any():
            yield (
                f"{model}, repeat {repeat}: of {len(rows)} rows {len(times)} are tested, "
                f"{(times > 1).sum()} of them more than once"
            )


def _in_one_fold(grouped: pd.DataFrame) -> Iterator[str]:
    folds = grouped.groupby(["model", "repeat", "user_id"])["fold"].nunique()
    torn = folds[folds > 1].index.get_level_values("user_id").unique()
    if len(torn):
        yield f"{len(torn)} users are tested in more than one fold, e.g. {sorted(torn)[0]}"


def _depends(tested: pd.DataFrame, again: pd.DataFrame, on: str) -> Iterator[str]:
    both = tested.merge(again, on=_TESTED, suffixes=("", "_again"))
    if both.empty:
        raise ValueError(f"Asked again, the procedure says nothing of the rows to see {on} by.")
    for column in _SAID:
        same = both[column] == both[f"{column}_again"]
        if column != "candidate":
            same |= np.isclose(both[column], both[f"{column}_again"], rtol=TOLERANCE, atol=0)
        if not same.all():
            first = both[~same].iloc[0]
            yield (
                f"{first['estimate']}: {column} of {(~same).sum()} of {len(both)} tested rows "
                f"changes with {on}, e.g. of {first['user_id']} as of {first['as_of']}"
            )
