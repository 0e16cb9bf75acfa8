"""What each leak would buy, on simulated data: `python -m benchmarks.leaks [--docs docs/leaks.md]`.

Belongs here: the leaks that the project stops, planted one by one, and the same procedure with and
without each. Does not belong here: what stops them (`churn/leaks.py`, `checks/leaks.py`).

One model, the boosted regression as the product fits it, is tested with and without each leak on
the same users, in folds drawn alike; figures are means over several drawings. The tasks:
- forecast: at every cutoff, who cancels within the horizon? The product's own, and tested on the
  last cutoff alone where it is called so;
- one cutoff: of the users at the middle cutoff, who cancels before the log's end? A row a user;
- whole log: who has cancelled? A row a user over all of their log, as in the public notebooks.
Looked at are the product's core features and, where the whole log is in view, all.
"""

from __future__ import annotations

import argparse
import tempfile
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import timedelta
from functools import cached_property
from pathlib import Path

import numpy as np
import pandas as pd
import polars as pl
from sklearn.metrics import f1_score, roc_auc_score

from benchmarks.measuring import report
from benchmarks.oracle import DATASET, feature_table
from sparkify_assets.churn import cutoffs, evaluation, features, kinds, metrics, models, splits
from sparkify_assets.churn.features import CORE, FEATURE_NAMES
from sparkify_assets.churn.pages import OUTCOME_PAGES
from sparkify_assets.datasets import DATASETS
from sparkify_assets.resources.lake import Lake
from sparkify_assets.simulation import write_log
from sparkify_assets.tables import CLEANED_EVENTS, USER_DAYS, USER_LABELS

MODEL = models.BOOSTED
FOLDS, HORIZON, DAYS = 5, 10, 61
# Users -> seed: the default log of mini, and a tenth of full.
LOGS = {DATASETS["mini"].users: DATASETS["mini"].seed, 2_228: DATASETS["full"].seed}
NOISE, SELECTED = 1_000, 20

KEYS = ["user_id", "as_of", "label"]
# What is best on the folds -> the metric that it is best for.
THRESHOLD_METRICS = {"f1": "F1", "weighted_f1": "weighted F1"}
METRICS = ("prevalence", "PR AUC", "ROC AUC", *THRESHOLD_METRICS.values())
BEGIN, END = "<!-- tables of benchmarks.leaks -->", "<!-- end -->"

Scores = dict[str, float]


@dataclass(frozen=True)
class Task:
    """Rows whose outcome is to be predicted: user_id, as_of, label, and the columns to look at."""

    rows: pd.DataFrame
    columns: Sequence[str] = CORE

    @property
    def label(self) -> np.ndarray:
        return self.rows["label"].to_numpy(dtype=bool)

    @cached_property
    def x(self) -> np.ndarray:
        return models.as_matrix(self.rows, self.columns)

    def by_user(self, seed: int) -> np.ndarray:
        return splits.user_folds(self.rows, FOLDS, seed)

    def by_row(self, seed: int) -> np.ndarray:
        return np.random.default_rng(seed).permutation(len(self.rows)) % FOLDS

    def adding(self, name: str, values: np.ndarray) -> Task:
        return Task(self.rows.assign(**{name: values}), (*self.columns, name))

    def fitted(self, learn: np.ndarray, seed: int) -> models.Model:
        """`learn`: a mask, or positions, which may repeat."""
        how = models.Fitting(seed)
        return models.fit_all([MODEL], self.x[learn], self.label[learn], self.columns, how)[MODEL]

    def out_of_fold(self, fold: np.ndarray, seed: int, resample: bool = False) -> np.ndarray:
        found = np.empty(len(fold))
        for number in range(FOLDS):
            test = fold == number
            learn = oversampled(self.label, np.flatnonzero(~test)) if resample else ~test
            found[test] = self.fitted(learn, seed).predict_matrix(self.x[test])
        return found

    def scores(self, fold: np.ndarray, seed: int, resample: bool = False) -> Scores:
        return scores(self.label, self.out_of_fold(fold, seed, resample))


@dataclass(frozen=True)
class Log:
    """The pipeline's tables of a simulated log, as tasks."""

    lake: Lake
    table: pl.DataFrame

    @cached_property
    def forecast(self) -> Task:
        return _task(cutoffs.learnable(self.table, cutoffs.FORECAST))

    @cached_property
    def of_users(self) -> pl.DataFrame:
        return self.lake.read_polars(DATASET, USER_LABELS)

    @cached_property
    def span(self) -> cutoffs.Span:
        first, last = self.of_users["first_event_at"].min(), self.of_users["last_event_at"].max()
        return cutoffs.span(first, last)  # type: ignore[arg-type]

    @cached_property
    def one_cutoff(self) -> Task:
        times = sorted(set(self.forecast.rows["as_of"]))
        at = cutoffs.forecast_at(self.table, times[len(times) // 2])
        ever = self.of_users.select("user_id", label="churned")
        return _task(at.drop("label").join(ever, on="user_id"))

    @cached_property
    def whole_log(self) -> Task:
        return _task(cutoffs.learnable(self.table, cutoffs.WHOLE_LOG), FEATURE_NAMES)

    def of_user(self, task: Task, values: pl.DataFrame) -> np.ndarray:
        """A value for each row of a task, 0 for users without one; values: user_id, value."""
        of_user = values.to_pandas().set_index("user_id")["value"]
        return task.rows["user_id"].map(of_user).fillna(0).to_numpy(dtype=float)


def _task(rows: pl.DataFrame, columns: Sequence[str] = CORE) -> Task:
    return Task(rows.sort("user_id", "as_of").to_pandas(), columns)


def oversampled(label: np.ndarray, rows: np.ndarray) -> np.ndarray:
    """Positions with those of positives repeated until there are as many as of the others."""
    positive = rows[label[rows]]
    times = (len(rows) - len(positive)) // max(len(positive), 1)
    return np.concatenate([rows, np.tile(positive, max(times - 1, 0))])


def scores(label: np.ndarray, probability: np.ndarray) -> Scores:
    return {
        "prevalence": float(label.mean()),
        "PR AUC": metrics.pr_auc(label, probability),
        "ROC AUC": float(roc_auc_score(label, probability)),
    }


# The leaks: (log, seed) -> scores without and with

Pair = tuple[Scores, Scores]


def _beside(task: Task, leaking: Task, seed: int) -> Pair:
    """The same users in the same folds, with other values."""
    fold = task.by_user(seed)
    return task.scores(fold, seed), leaking.scores(fold, seed)


def after_the_cutoff(log: Log, seed: int) -> Pair:
    shift = timedelta(days=HORIZON)
    at = pl.from_pandas(log.forecast.rows[KEYS]).select(
        pl.lit(cutoffs.FORECAST).alias("protocol"),
        "user_id",
        pl.col("as_of").cast(pl.Date) + shift,
        "label",
    )
    of_days = log.lake.read_polars(DATASET, USER_DAYS)
    totals = [features.population_totals(of_days)]
    times = at["as_of"].unique().sort().to_list()
    usual = features.population_rates(totals, times, log.span.start)
    first = of_days.group_by("user_id").agg(pl.col("first_event_at").min())["first_event_at"]
    lessons = kinds.lessons(first, log.span.start, log.span.end)
    known_kinds = kinds.learn(kinds.steps(of_days, lessons), lessons)
    known = features.features(of_days, at, usual, known_kinds, log.span.start)
    later = known.sort("user_id", "as_of")
    return _beside(log.forecast, Task(later.to_pandas()), seed)


def set_by_the_outcome(log: Log, seed: int) -> Pair:
    of_users = log.whole_log.rows.set_index("user_id")
    whole = of_users.loc[log.one_cutoff.rows["user_id"]].reset_index()
    return _beside(Task(log.one_cutoff.rows, FEATURE_NAMES), Task(whole, FEATURE_NAMES), seed)


def _outcome_counted(log: Log, seed: int, which: pl.Expr) -> Pair:
    events = log.lake.read_polars(DATASET, CLEANED_EVENTS, ["user_id", "page", "auth"], which)
    count = log.of_user(log.whole_log, events.group_by("user_id").agg(value=pl.len()))
    return _beside(log.whole_log, log.whole_log.adding("counted", count), seed)


def outcome_pages(log: Log, seed: int) -> Pair:
    return _outcome_counted(log, seed, pl.col("page").is_in(OUTCOME_PAGES))


def outcome_auth(log: Log, seed: int) -> Pair:
    return _outcome_counted(log, seed, pl.col("auth") == "Cancelled")


def recency_to_the_end(log: Log, seed: int) -> Pair:
    end = pl.lit(log.span.end).cast(pl.Datetime("us", "UTC"))
    since = (end - pl.col("last_event_at")).dt.total_seconds() / 86_400
    recency = log.of_user(log.whole_log, log.of_users.select("user_id", value=since))
    leaking = log.whole_log.rows.assign(days_since_last_event=recency)
    return _beside(log.whole_log, Task(leaking, FEATURE_NAMES), seed)


def user_id(log: Log, seed: int) -> Pair:
    number = log.forecast.rows["user_id"].astype(float).to_numpy()
    return _beside(log.forecast, log.forecast.adding("user_id_as_number", number), seed)


def repeating_join(log: Log, seed: int) -> Pair:
    task = log.one_cutoff
    levels = log.lake.read_polars(DATASET, USER_DAYS, ["user_id", "level"]).unique().sort("level")
    joined = Task(task.rows.merge(levels.to_pandas(), on="user_id"))
    return task.scores(task.by_user(seed), seed), joined.scores(joined.by_row(seed), seed)


def resampling(log: Log, seed: int) -> Pair:
    task = log.one_cutoff
    before = Task(task.rows.iloc[oversampled(task.label, np.arange(len(task.rows)))])
    within = task.scores(task.by_user(seed), seed, resample=True)
    return within, before.scores(before.by_row(seed), seed)


def threshold_on_the_test_set(log: Log, seed: int) -> Pair:
    found = evaluation.evaluate(
        log.forecast.rows,
        CORE,
        cutoffs.FORECAST,
        candidates=(MODEL,),
        baselines={},
        how=evaluation.How(seed=seed),
    ).predictions
    found = found[found["model"] == MODEL]
    label, probability = found["label"].to_numpy(bool), found["probability"].to_numpy()
    fold = found["fold"].to_numpy()
    pair = (scores(label, probability), scores(label, probability))
    for aim, name in THRESHOLD_METRICS.items():
        within = found[metrics.THRESHOLDS[aim]].to_numpy()
        on_test = np.empty(len(found))
        for number in range(FOLDS):
            test = fold == number
            on_test[test] = metrics.best_threshold(label[test], probability[test], aim)
        for of, threshold in zip(pair, (within, on_test), strict=True):
            average = "binary" if aim == "f1" else "weighted"
            of[name] = f1_score(label, probability >= threshold, average=average)
    return pair


def feature_on_the_test_set(log: Log, seed: int) -> Pair:
    task = log.one_cutoff
    noise = np.random.default_rng(seed).normal(size=(len(task.rows), NOISE))
    x = np.hstack([np.nan_to_num(task.x), noise])
    names = tuple(f"feature_{number}" for number in range(x.shape[1]))
    wide = task.rows[KEYS].join(pd.DataFrame(x, columns=names))

    def selected(rows: np.ndarray) -> Task:
        against = np.corrcoef(x[rows].T, task.label[rows])[-1, :-1]
        best = np.argsort(-np.abs(np.nan_to_num(against)))[:SELECTED]
        return Task(wide, tuple(names[number] for number in best))

    fold = task.by_user(seed)
    probability = np.empty(len(fold))
    for number in range(FOLDS):
        test = fold == number
        within = selected(~test)
        probability[test] = within.fitted(~test, seed).predict_matrix(within.x[test])
    on_all = selected(np.ones(len(fold), dtype=bool))
    return scores(task.label, probability), on_all.scores(fold, seed)


def user_on_both_sides(log: Log, seed: int) -> Pair:
    task = log.forecast
    return task.scores(task.by_user(seed), seed), task.scores(task.by_row(seed), seed)


def open_windows(log: Log, seed: int) -> Pair:
    task = log.forecast
    closed, last = splits.temporal_split(task.rows, HORIZON)

    def trained_on(learn: np.ndarray) -> Scores:
        return scores(task.label[last], task.fitted(learn, seed).predict_matrix(task.x[last]))

    return trained_on(closed), trained_on(~last)


LEAKS: dict[str, tuple[str, Callable[[Log, int], Pair]]] = {
    "features from after the cutoff": ("forecast", after_the_cutoff),
    "a cutoff set by the outcome": ("one cutoff", set_by_the_outcome),
    "Cancel and Cancellation Confirmation counted": ("whole log", outcome_pages),
    "auth Cancelled counted": ("whole log", outcome_auth),
    "recency measured to the log's end": ("whole log", recency_to_the_end),
    "the user id as a number": ("forecast", user_id),
    "a join that repeats users": ("one cutoff", repeating_join),
    "oversampling before the split": ("one cutoff", resampling),
    "a threshold chosen on the test set": ("forecast", threshold_on_the_test_set),
    "features chosen on the test set": ("one cutoff", feature_on_the_test_set),
    "one user on both sides of the split": ("forecast", user_on_both_sides),
    "training on cutoffs whose window is open": ("last cutoff", open_windows),
}


def bought(log: Log, drawings: int) -> Iterator[tuple[str, str, str, float, float]]:
    """(leak, task, metric, without, with), each a mean over drawings of the folds."""
    for words, (task, leak) in LEAKS.items():
        pairs = [leak(log, seed) for seed in range(drawings)]
        for metric in pairs[0][0]:
            without, with_it = (np.mean([pair[side][metric] for pair in pairs]) for side in (0, 1))
            yield words, task, metric, float(without), float(with_it)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--users", type=int, nargs="+", default=list(LOGS), help="of each log")
    parser.add_argument("--drawings", type=int, default=3, help="of the folds")
    parser.add_argument("--lake", type=Path, help="keep the tables here, and use those that are")
    parser.add_argument("--docs", type=Path, help="a page whose table is to be written anew")
    given = parser.parse_args()
    tables = []
    with tempfile.TemporaryDirectory() as folder:
        for users in given.users:
            log = simulated(users, Path(folder), given.lake or Path(folder))
            rows = list(bought(log, given.drawings))
            for words, _, metric, without, with_it in rows:
                for what, value in (
                    ("without", without),
                    ("with", with_it),
                    ("bought", with_it - without),
                ):
                    report("leaks", f"{users} users, {words}: {metric} {what}", value, "")
            tables.append(markdown(users, rows))
    if given.docs:
        given.docs.write_text(with_tables(given.docs.read_text(), tables))


def simulated(users: int, folder: Path, lakes: Path) -> Log:
    """The pipeline's tables of a log of so many users, or those that are in the lake already."""
    lake, log = Lake(str(lakes / str(users))), folder / f"{users}.json"
    if not lake.exists(DATASET, "user_days"):
        write_log(log, users=users, days=DAYS, seed=LOGS.get(users, 1))
    found = Log(lake, feature_table(lake, log, HORIZON))
    log.unlink(missing_ok=True)
    return found


def markdown(users: int, rows: Sequence[tuple[str, str, str, float, float]]) -> str:
    """A table of what each leak buys, a row a leak."""
    cells: dict[tuple[str, str], dict[str, str]] = defaultdict(dict)
    for words, task, metric, without, with_it in rows:
        change = f" ({with_it - without:+.3f})" if metric != "prevalence" else ""
        cells[words, task][metric] = f"{without:.3f} → {with_it:.3f}{change}"
    lines = [
        f"Simulated log of {users:,} users:",
        "",
        f"| leak | task | {' | '.join(METRICS)} |",
        "|---" * (2 + len(METRICS)) + "|",
    ]
    for (words, task), found in cells.items():
        lines.append("| " + " | ".join([words, task, *(found.get(m, "") for m in METRICS)]) + " |")
    return "\n".join(lines)


def with_tables(page: str, tables: Sequence[str]) -> str:
    """The page with these tables between its marks."""
    before, begin, rest = page.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not end:
        raise ValueError(f"The page has no place for the tables, between {BEGIN} and {END}.")
    return before + begin + "\n\n" + "\n\n".join(tables) + "\n\n" + end + after


if __name__ == "__main__":
    main()
