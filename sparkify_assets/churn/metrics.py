"""What a prediction is worth: every metric defined once, with its interval.

Belongs here: metrics of predictions against outcomes, thresholds that maximise one, the bootstrap
over users, and the arrays behind the precision-recall and reliability curves.
Does not belong here: making predictions (`evaluation.py`) or drawing them.

All metrics take weights, one column a resample, so that a bootstrap is one pass over the sorted
predictions instead of one call a resample. Definitions follow scikit-learn's, ties included.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import product
from typing import NamedTuple

import numpy as np
import pandas as pd

METRIC_COLUMNS = [
    "protocol",
    "estimate",
    "model",
    "metric",
    "value",
    "ci_low",
    "ci_high",
    "rows",
    "positives",
]
# What is maximised on the training folds -> the column of the threshold that does.
THRESHOLDS = {
    "f1": "threshold",
    "balanced_accuracy": "balanced_threshold",
    "weighted_f1": "weighted_threshold",
}
TOP_SHARE = 0.1
CALIBRATION_BINS = 10
# In units of what a kept user is worth: from an e-mail to a generous offer.
CONTACT_COSTS = (0.002, 0.005, 0.01, 0.02, 0.05)
# Share of those who would churn, and are contacted, that stay.
SAVE_RATES = (0.1, 0.2, 0.3, 0.5)
PROFIT_GRID = tuple(product(CONTACT_COSTS, SAVE_RATES))


def profit_name(cost: float, save: float) -> str:
    return f"profit_per_user@cost={cost:g},save={save:g}"


METRIC_MEANINGS = {
    "pr_auc": "Average precision: mean precision over all recalls of the churned class",
    "prevalence": "Share of churned rows; the PR AUC of guessing",
    "roc_auc": "Chance that a churned row has a higher probability than a staying one",
    "log_loss": "Mean negative log likelihood, nats",
    "brier_score": "Mean squared error of the probability",
    "mean_probability": "Mean probability: the share that was expected to churn",
    "f1": "F1 of the churned class at the threshold chosen on the training folds",
    "precision": "Precision of the churned class at that threshold",
    "recall": "Recall of the churned class at that threshold",
    "balanced_accuracy": "Mean recall of the two classes, at a threshold chosen for it on the "
    "training folds",
    "weighted_f1": "F1 of both classes weighted by their rows, at a threshold chosen for it on "
    "the training folds",
    "weighted_f1_always_stays": "Weighted F1 of always saying that a user stays",
    "lift_top_10": "Churned share among the 10 % with the highest probability over that of all",
    "recall_top_10": "Share of all churned rows that are among the 10 % with the highest "
    "probability",
    "expected_calibration_error": "Mean distance between probability and churned share over ten "
    "bins of equally many rows",
} | {
    profit_name(cost, save): (
        f"Profit a user, in units of what a kept user is worth, if those are contacted for whom "
        f"it pays (probability above {cost / save:.3g}): a contact costs {cost:g} and keeps "
        f"{save:.0%} of those who would churn"
    )
    for cost, save in PROFIT_GRID
}


class Scored(NamedTuple):
    """Predictions in falling order of probability; all arrays have one value a row."""

    label: np.ndarray  # 0.0 or 1.0
    probability: np.ndarray
    flagged: np.ndarray  # probability >= threshold
    flagged_balanced: np.ndarray  # probability >= balanced_threshold
    flagged_weighted: np.ndarray  # probability >= weighted_threshold


class Curve(NamedTuple):
    """Weighted counts of all rows with at least some probability, which falls from row to row.

    Shape (steps, resamples). A step is either all rows of one probability that has positives, or
    a run of probabilities without any: within such a run no metric here changes its course.
    """

    positives: np.ndarray
    rows: np.ndarray
    last: np.ndarray  # (steps,): position of each step's last row


def cumulative(label: np.ndarray, probability: np.ndarray, weights: np.ndarray) -> Curve:
    """The curve of rows given in falling order of probability; ties enter together."""
    ties = np.concatenate([[0], np.flatnonzero(np.diff(probability)) + 1])
    positive = np.add.reduceat(label, ties) > 0
    starts_step = positive | np.concatenate([[True], positive[:-1]])
    starts, positive = ties[starts_step], positive[starts_step]
    rows = np.add.reduceat(weights, starts, axis=0)
    positives = np.zeros_like(rows)
    if positive.any():
        is_positive = label > 0
        before = np.concatenate([[0], np.cumsum(is_positive)])[starts[positive]]
        positives[positive] = np.add.reduceat(weights[is_positive], before, axis=0)
    last = np.append(starts[1:], len(label)) - 1
    return Curve(np.cumsum(positives, axis=0), np.cumsum(rows, axis=0), last)


def _curve(label: np.ndarray, probability: np.ndarray) -> tuple[Curve, np.ndarray]:
    """The curve of the rows as they are, and their probabilities in its order."""
    order = np.argsort(-probability, kind="stable")
    ones = np.ones((len(label), 1))
    return cumulative(label[order].astype(float), probability[order], ones), probability[order]


def average_precision(curve: Curve) -> np.ndarray:
    """Sum of precision times the step in recall (scikit-learn's average_precision_score)."""
    with np.errstate(divide="ignore", invalid="ignore"):
        precision = np.nan_to_num(curve.positives / curve.rows)
        steps = np.diff(curve.positives, axis=0, prepend=0)
        return (precision * steps).sum(axis=0) / curve.positives[-1]


def roc_auc(curve: Curve) -> np.ndarray:
    """Area under the ROC curve by trapezes, so that ties count one half."""
    negatives = curve.rows - curve.positives
    steps = np.diff(negatives, axis=0, prepend=0)
    # A tied group lies, on average, behind half of its own positives.
    behind = curve.positives - np.diff(curve.positives, axis=0, prepend=0) / 2
    with np.errstate(divide="ignore", invalid="ignore"):
        return (behind * steps).sum(axis=0) / (curve.positives[-1] * negatives[-1])


def recall_at_top(curve: Curve, share: float = TOP_SHARE) -> np.ndarray:
    """Share of the positives among the `share` of rows with the highest probability.

    Rows with the same probability as the last that fits count in proportion.
    """
    wanted = share * curve.rows[-1]
    group = np.argmax(curve.rows >= wanted, axis=0)
    column = np.arange(curve.rows.shape[1])
    rows_to, positives_to = curve.rows[group, column], curve.positives[group, column]
    before = np.maximum(group - 1, 0)
    rows_from = np.where(group > 0, curve.rows[before, column], 0)
    positives_from = np.where(group > 0, curve.positives[before, column], 0)
    with np.errstate(divide="ignore", invalid="ignore"):
        part = (wanted - rows_from) / (rows_to - rows_from)
        return (positives_from + part * (positives_to - positives_from)) / curve.positives[-1]


def _ratio(above: np.ndarray, below: np.ndarray) -> np.ndarray:
    """above / below, and 0 where nothing can be counted (scikit-learn's zero_division=0)."""
    return np.divide(above, below, out=np.zeros_like(above), where=below > 0)


def weighted_f1(
    hits: np.ndarray, flagged: np.ndarray, positives: np.ndarray, rows: np.ndarray
) -> np.ndarray:
    """F1 of each class weighted by its rows, from counts; `hits` are the flagged positives."""
    churned = _ratio(2 * hits, flagged + positives)
    stayed = _ratio(2 * (rows - positives - flagged + hits), 2 * rows - flagged - positives)
    return (positives * churned + (rows - positives) * stayed) / rows


def equal_bins(probability: np.ndarray, bins: int = CALIBRATION_BINS) -> np.ndarray:
    """A bin for each row, of as equally many rows as ties allow: equal probabilities share one."""
    _, group, sizes = np.unique(probability, return_inverse=True, return_counts=True)
    middle = np.cumsum(sizes) - sizes / 2
    return (middle * bins / len(probability)).astype(int)[group]


def calibration_error_by_chance(probability: np.ndarray, draws: int = 200, seed: int = 0) -> float:
    """The expected calibration error that exactly right probabilities stay below 19 times in 20.

    Even they are some way off what happens to a limited number of rows. Rows count as independent.
    """
    bins, draw = equal_bins(probability), np.random.default_rng(seed)
    found = [
        np.abs(np.bincount(bins, (draw.random(len(bins)) < probability) - probability)).sum()
        for _ in range(draws)
    ]
    return float(np.quantile(found, 0.95)) / len(bins)


def metric_values(scored: Scored, weights: np.ndarray) -> dict[str, np.ndarray]:
    """Every metric for every column of `weights` (rows x resamples); NaN where undefined."""
    label, probability, flagged, flagged_balanced, flagged_weighted = scored
    in_bin = equal_bins(probability) == np.arange(CALIBRATION_BINS)[:, None]
    # What is a weighted sum over rows, in one product.
    per_row = {
        "rows": np.ones_like(label),
        "positives": label,
        "hits": label * flagged,
        "flagged": flagged,
        "hits_balanced": label * flagged_balanced,
        "flagged_balanced": flagged_balanced,
        "hits_weighted": label * flagged_weighted,
        "flagged_weighted": flagged_weighted,
        "log_loss": log_loss(label, probability),
        "squared_error": (label - probability) ** 2,
        "probability": probability,
        **{profit_name(c, s): (probability * s > c) * (label * s - c) for c, s in PROFIT_GRID},
    }
    sums = np.vstack([*per_row.values(), in_bin * (label - probability)]) @ weights
    total = dict(zip(per_row, sums, strict=False))
    gaps = sums[len(per_row) :]
    rows, positives = total["rows"], total["positives"]
    hits, flags = total["hits"], total["flagged"]
    hits_b, flags_b = total["hits_balanced"], total["flagged_balanced"]
    curve = cumulative(label, probability, weights)
    top = recall_at_top(curve)
    with np.errstate(divide="ignore", invalid="ignore"):
        prevalence = positives / rows
        stay_recall = 1 - (flags_b - hits_b) / (rows - positives)
        return {
            "pr_auc": average_precision(curve),
            "prevalence": prevalence,
            "roc_auc": roc_auc(curve),
            "log_loss": total["log_loss"] / rows,
            "brier_score": total["squared_error"] / rows,
            "mean_probability": total["probability"] / rows,
            "f1": _ratio(2 * hits, flags + positives),
            "precision": _ratio(hits, flags),
            "recall": hits / positives,
            "balanced_accuracy": (hits_b / positives + stay_recall) / 2,
            "weighted_f1": weighted_f1(
                total["hits_weighted"], total["flagged_weighted"], positives, rows
            ),
            "weighted_f1_always_stays": 2 * (1 - prevalence) ** 2 / (2 - prevalence),
            "lift_top_10": top / TOP_SHARE,
            "recall_top_10": top,
            "expected_calibration_error": np.abs(gaps).sum(axis=0) / rows,
            **{profit_name(*grid): total[profit_name(*grid)] / rows for grid in PROFIT_GRID},
        }


def best_threshold(label: np.ndarray, probability: np.ndarray, aim: str = "f1") -> float:
    """The threshold (flag if probability >= it) with the best `aim`, a key of THRESHOLDS.

    It lies half way to the next lower probability. Of equally good ones the highest is taken;
    where it is best to flag nobody, one above all probabilities.
    """
    curve, ordered = _curve(label, probability)
    hits, flagged = (np.append(0, counts[:, 0]) for counts in (curve.positives, curve.rows))
    positives, rows = hits[-1], flagged[-1]
    if aim == "f1":
        worth = 2 * hits / (flagged + positives)
    elif aim == "balanced_accuracy":
        worth = hits / positives - (flagged - hits) / (rows - positives)
    elif aim == "weighted_f1":
        worth = weighted_f1(hits, flagged, positives, rows)
    else:
        raise ValueError(f"no such aim: {aim}")
    above = np.append(1.0, ordered)  # a bound for flagging nobody, then each row
    last = np.append(-1, curve.last)[np.argmax(worth)] + 1
    return float((above[last] + above[min(last + 1, len(ordered))]) / 2)


def log_loss(label: np.ndarray, probability: np.ndarray) -> np.ndarray:
    """Negative log likelihood of each row, nats; `probability` may have further axes before."""
    clipped = np.clip(probability, 1e-15, 1 - 1e-15)
    return -np.log(np.where(label > 0, clipped, 1 - clipped))


def pr_auc(label: np.ndarray, probability: np.ndarray) -> float:
    """Average precision of one set of predictions."""
    return float(average_precision(_curve(label, probability)[0])[0])


@dataclass(frozen=True)
class Resamples:
    """Users drawn with replacement: how often each user is in each resample."""

    users: pd.Index
    counts: np.ndarray  # (users, 1 + resamples); the first column is the data as they are

    @classmethod
    def draw(cls, user_ids: pd.Series, resamples: int, seed: int) -> Resamples:
        users = pd.Index(np.unique(user_ids.to_numpy()))
        generator = np.random.default_rng(seed)
        drawn = generator.multinomial(len(users), np.full(len(users), 1 / len(users)), resamples)
        as_is = np.ones((len(users), 1), dtype=np.uint8)
        return cls(users, np.hstack([as_is, drawn.T.astype(np.uint8)]))

    def weights(self, user_ids: np.ndarray, values: int) -> Iterator[np.ndarray]:
        """Weights of rows of these users, in chunks of at most `values` numbers."""
        position = self.users.get_indexer(pd.Index(user_ids))
        width = max(1, values // max(1, len(position)))
        for start in range(0, self.counts.shape[1], width):
            yield self.counts[position, start : start + width].astype(float)


def resampled_metrics(
    scored: Scored, users: np.ndarray, resamples: Resamples, values_at_once: int = 4_000_000
) -> pd.DataFrame:
    """Every metric of rows of these users: the first row as they are, then each resample."""
    chunks = resamples.weights(users, values_at_once)
    return pd.concat(
        [pd.DataFrame(metric_values(scored, weights)) for weights in chunks], ignore_index=True
    )


def with_intervals(values: pd.DataFrame) -> pd.DataFrame:
    """metric, value, ci_low and ci_high of what `resampled_metrics` or `bootstrap` returns."""
    value = values.iloc[0].to_numpy()
    low, high = values.iloc[1:].quantile([0.025, 0.975]).to_numpy()
    return pd.DataFrame(
        {
            "metric": values.columns,
            "value": value,
            # Resampling adds noise, which can only raise the calibration error: where its
            # interval lies above the value it is widened down to it.
            "ci_low": np.fmin(low, value),
            "ci_high": np.fmax(high, value),
        }
    )


def bootstrap(
    predictions: pd.DataFrame, resamples: Resamples, values_at_once: int = 4_000_000
) -> pd.DataFrame:
    """Every metric of one model's predictions: the first row as they are, then each resample.

    Repeats are scored one by one and averaged, each resample with the same users.
    """
    total: pd.DataFrame | None = None
    repeats = predictions.groupby("repeat", sort=True)
    for _, repeat in repeats:
        ordered = repeat.sort_values(
            ["probability", "user_id", "as_of"], ascending=[False, True, True]
        )
        probability = ordered["probability"].to_numpy(dtype=float)
        scored = Scored(
            ordered["label"].to_numpy(dtype=float),
            probability,
            *(
                (probability >= ordered[name].to_numpy(dtype=float)).astype(float)
                for name in THRESHOLDS.values()
            ),
        )
        values = resampled_metrics(scored, ordered["user_id"].to_numpy(), resamples, values_at_once)
        total = values if total is None else total + values
    if total is None:
        raise ValueError("no predictions to score")
    return total / repeats.ngroups


class Difference(NamedTuple):
    """First minus second model on the same rows, with the 95 % interval of its PR AUC."""

    pr_auc: float
    low: float
    high: float
    share_above: float  # of the resamples in which the first has the higher PR AUC
    log_loss: float  # nats; below 0 the first is better
    rows: int
    positives: int


def paired_difference(
    users: np.ndarray,
    label: np.ndarray,
    first: np.ndarray,
    second: np.ndarray,
    resamples: int = 1000,
    seed: int = 0,
) -> Difference:
    """How much better one model is than another, by a paired bootstrap over users.

    All arrays have one value a row; `first` and `second` are probabilities. A resample holds the
    same users for both models, so that what makes a user easy or hard for both cancels out.
    """
    drawn = Resamples.draw(pd.Series(users), resamples, seed)
    of_first, of_second = (
        _resampled(average_precision, users, label, probability, drawn)
        for probability in (first, second)
    )
    value, low, high, above = _spread(of_first - of_second)
    loss = float((log_loss(label, first) - log_loss(label, second)).mean())
    return Difference(value, low, high, above, loss, len(label), int(label.sum()))


def roc_auc_interval(
    users: np.ndarray,
    label: np.ndarray,
    probability: np.ndarray,
    resamples: int = 1000,
    seed: int = 0,
) -> tuple[float, float, float]:
    """ROC AUC and its 95 % interval, by bootstrap over users."""
    drawn = Resamples.draw(pd.Series(users), resamples, seed)
    return _spread(_resampled(roc_auc, users, label, probability, drawn))[:3]


def _resampled(
    metric: Callable[[Curve], np.ndarray],
    users: np.ndarray,
    label: np.ndarray,
    probability: np.ndarray,
    drawn: Resamples,
    values_at_once: int = 4_000_000,
) -> np.ndarray:
    """A metric of the rows as they are, then of each resample; NaN where one has one class only."""
    order = np.argsort(-probability, kind="stable")
    outcome, ordered = label[order].astype(float), probability[order]
    chunks = drawn.weights(users[order], values_at_once)
    return np.concatenate([metric(cumulative(outcome, ordered, w)) for w in chunks])


def _spread(values: np.ndarray) -> tuple[float, float, float, float]:
    """The first value, the 95 % interval of the others and the share of them above 0."""
    others = values[1:][~np.isnan(values[1:])]
    low, high = np.quantile(others, [0.025, 0.975])
    return float(values[0]), float(low), float(high), float((others > 0).mean())


def evaluation_metrics(
    predictions: pd.DataFrame, resamples: int = 1000, seed: int = 0
) -> pd.DataFrame:
    """Metrics of predictions (`evaluation.evaluate`) with 95 % percentile intervals.

    A row a protocol, estimate, model and metric, with METRIC_COLUMNS. `rows` and `positives` are
    those of one repeat. Whole users are drawn with replacement, with all their rows and the same
    draws for every model, since a user's rows are not independent. An interval says how much the
    tested users matter; it does not cover the luck of training.
    """
    found = []
    for (protocol, estimate), group in predictions.groupby(["protocol", "estimate"], sort=False):
        drawn = Resamples.draw(group["user_id"], resamples, seed)
        for model, rows in group.groupby("model", sort=False):
            once = rows[rows["repeat"] == rows["repeat"].min()]
            found.append(
                with_intervals(bootstrap(rows, drawn)).assign(
                    protocol=str(protocol),
                    estimate=str(estimate),
                    model=model,
                    rows=len(once),
                    positives=int(once["label"].sum()),
                )
            )
    return pd.concat(found, ignore_index=True)[METRIC_COLUMNS]


def pr_curve(label: np.ndarray, probability: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(recall, precision) at the probabilities where the curve turns, recall rising."""
    curve, _ = _curve(label, probability)
    return (curve.positives / curve.positives[-1])[:, 0], (curve.positives / curve.rows)[:, 0]


def reliability_curve(
    label: np.ndarray, probability: np.ndarray, bins: int = CALIBRATION_BINS
) -> pd.DataFrame:
    """Mean probability and churned share in `bins` bins of equally many rows, lowest first."""
    frame = pd.DataFrame({"probability": probability, "churned_share": label.astype(float)})
    in_bins = frame.groupby(equal_bins(probability, bins))
    return in_bins.mean().assign(rows=in_bins.size()).reset_index(drop=True)
