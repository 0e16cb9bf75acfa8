"""What became of earlier forecasts, and what they were worth in operation.

Belongs here: which events before a cutoff are known, the outcome of scored rows whose horizon has
passed, and the live metrics of a week.
Does not belong here: what a metric is (`metrics.py`) and what may be known at a cutoff
(`cutoffs.py`, `features.py`).

An event is late for a cutoff if it lies before it and came after it was scored. What a score could
not know cannot be told from the log alone, so every score keeps how many events it knew.
"""

from __future__ import annotations

from datetime import date, timedelta

import polars as pl

from sparkify_assets.churn import metrics

# Of metrics.METRIC_MEANINGS, those that are measured in operation.
MEASURED = (
    "precision",
    "recall",
    "prevalence",
    "mean_probability",
    "expected_calibration_error",
    "brier_score",
    "pr_auc",
    "roc_auc",
)
LATE_EVENTS = "late_events"
# What is read of `user_days`.
DAY_COLUMNS = ["user_id", "day", "events"]


def events_before(rows: pl.DataFrame, days: pl.DataFrame) -> pl.DataFrame:
    """`rows` (user_id, as_of) with `events`, the user's before the cutoff that are known.

    days: user_id, day, events.
    """
    so_far = days.sort("day").select("user_id", "day", pl.col("events").cum_sum().over("user_id"))
    return (
        rows.sort("as_of")
        .join_asof(
            so_far,
            left_on="as_of",
            right_on="day",
            by="user_id",
            strategy="backward",
            allow_exact_matches=False,
            check_sortedness=False,  # it looks at all users together
        )
        .drop("day")
        .with_columns(pl.col("events").fill_null(0))
    )


def has_passed(as_of: date, log_end: date, horizon_days: int) -> bool:
    """Whether the log holds the whole horizon of a cutoff."""
    return as_of + timedelta(days=horizon_days) <= log_end


def score_outcomes(
    passed: pl.DataFrame, labels: pl.DataFrame, days: pl.DataFrame, horizon_days: int
) -> pl.DataFrame:
    """What happened to the users of cutoffs whose horizon `has_passed`.

    passed: of `churn_scores`. labels: user_id, churned_at. days: user_id, day, events. Users whom
    the log does not hold (any more) have no outcome and are left out. Nothing of the result depends
    on what was after the horizon, so that it stays as it is while the log grows.
    """
    as_of = pl.col("as_of").cast(pl.Datetime("us", "UTC"))
    left = pl.col("churned_at")
    in_time = left < as_of + pl.duration(days=horizon_days)
    return (
        events_before(passed.join(labels, on="user_id"), days)
        .with_columns(
            churned=((left >= as_of) & in_time).fill_null(False),
            churned_at=pl.when(in_time).then(left),
            late_events=(pl.col("events") - pl.col("events_known")).clip(lower_bound=0),
        )
        .sort("as_of", "user_id")
    )


def live_metrics(outcomes: pl.DataFrame, resamples: int = 1000, seed: int = 0) -> pl.DataFrame:
    """A row a week and metric: MEASURED and LATE_EVENTS, of `score_outcomes`.

    Backfilled rows are left out, and so are those of users who had left before their cutoff, as
    late events tell: nobody could have been right about them. A metric without a value (nobody
    churned, or nobody stayed) is null. An event that was late for several cutoffs counts for each.
    """
    already_gone = pl.col("churned_at") < pl.col("as_of").cast(pl.Datetime("us", "UTC"))
    rows = outcomes.filter(~pl.col("backfilled") & ~already_gone.fill_null(False))
    by_week = rows.with_columns(week=pl.col("as_of").dt.truncate("1w")).sort("week")
    found = [
        _of_week(of_week, resamples, seed).with_columns(week=pl.lit(week, pl.Date))
        for (week,), of_week in by_week.group_by("week", maintain_order=True)
    ]
    return pl.concat(found) if found else _NOTHING


def is_complete(log_end: date, horizon_days: int) -> pl.Expr:
    """True for a `week` of `live_metrics` if the horizon of its Sunday has passed."""
    return pl.col("week") <= log_end - timedelta(days=6 + horizon_days)


def newest_complete(table: pl.DataFrame, log_end: date, horizon_days: int) -> pl.DataFrame:
    """The rows of `live_metrics` of the newest complete week; none where there is none yet."""
    complete = table.filter(is_complete(log_end, horizon_days))
    return complete.filter(pl.col("week") == pl.col("week").max())


_COUNTS = {"rows": pl.Int64, "users": pl.Int64, "positives": pl.Int64}
_VALUES = {"value": pl.Float64, "ci_low": pl.Float64, "ci_high": pl.Float64}
_NOTHING = pl.DataFrame(schema={"metric": pl.String, **_VALUES, **_COUNTS, "week": pl.Date})


def _of_week(rows: pl.DataFrame, resamples: int, seed: int) -> pl.DataFrame:
    ordered = rows.sort("probability", "user_id", "as_of", descending=[True, False, False])
    users = ordered["user_id"].to_pandas()
    label, flagged = (ordered[name].to_numpy().astype(float) for name in ("churned", "flagged"))
    # One threshold is in use; the metrics at the others are not measured.
    scored = metrics.Scored(label, ordered["probability"].to_numpy(), flagged, flagged, flagged)
    drawn = metrics.Resamples.draw(users, resamples, seed)
    values = metrics.resampled_metrics(scored, users.to_numpy(), drawn)[[*MEASURED]]
    late = float(rows["late_events"].sum())
    counts = {
        "rows": rows.height,
        "users": rows["user_id"].n_unique(),
        "positives": int(label.sum()),
    }
    return pl.concat(
        [
            pl.from_pandas(metrics.with_intervals(values), schema_overrides=_VALUES),
            pl.DataFrame({"metric": [LATE_EVENTS], "value": [late]}),
        ],
        how="diagonal",
    ).with_columns(
        pl.col(*_VALUES).fill_nan(None), *(pl.lit(v, pl.Int64).alias(k) for k, v in counts.items())
    )
