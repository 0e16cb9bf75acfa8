"""The procedure that makes a model, and what that procedure is worth on rows it never saw.

Belongs here: choosing the model and its threshold on training rows, training on all of them, and
running the same procedure inside outer folds to get honest predictions.
Does not belong here: how a model is fitted (`models.py`) and what predictions are worth
(`metrics.py`).

The procedure: search the hyper-parameters; fit the candidates without each fold of users; calibrate
them on what they then say of that fold; choose the simplest whose log loss there is not clearly
worse than the best one's, and the thresholds; fit again on all training rows. Evaluation repeats
all of it inside each outer fold, so that nothing of it has seen the rows that it is tested on.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pandas as pd

from sparkify_assets.churn import calibration, drift, metrics, models, splits
from sparkify_assets.churn.boosting import DEFAULTS, Settings, Workers
from sparkify_assets.churn.calibration import Line
from sparkify_assets.churn.cutoffs import FORECAST
from sparkify_assets.churn.features import CORE
from sparkify_assets.churn.models import BOOSTED, Calibrated, Model
from sparkify_assets.churn.search import NO_SEARCH, Budget, Found, search
from sparkify_assets.errors import NotEnoughDataError, SparkifyError

MIN_CHURNED_USERS = 10
CHOSEN = "chosen"
PREDICTION_COLUMNS = [
    "protocol",
    "estimate",
    "model",
    "candidate",
    "repeat",
    "fold",
    "user_id",
    "as_of",
    "label",
    "probability",
    *metrics.THRESHOLDS.values(),
]

TRAINED_COLUMNS = [
    "model",
    "chosen",
    "log_loss",
    "pr_auc",
    *metrics.THRESHOLDS.values(),
    "features",
    "rows",
    "positives",
    "churned_users",
    "artifact",
    "sha256",
    "twin",
    "twin_sha256",
    "profile",
]


@dataclass(frozen=True)
class Choice:
    """What out-of-fold predictions of training rows decide, for each model by name."""

    chosen: str
    log_loss: dict[str, float]
    pr_auc: dict[str, float]
    lines: dict[str, Line]  # that calibrate
    thresholds: dict[str, dict[str, float]]  # by the names in metrics.THRESHOLDS


@dataclass(frozen=True)
class Trained:
    """All candidates, fitted on all rows, and the choice among them.

    `twin`: the chosen one, fitted without the jury's users; None where those left are too few.
    `profile`: the chosen one's features and probabilities at the latest cutoff.
    """

    models: dict[str, Model]
    choice: Choice
    rows: int
    positives: int
    churned_users: int
    twin: Model | None
    profile: drift.Profile

    @property
    def model(self) -> Model:
        return self.models[self.choice.chosen]

    @property
    def threshold(self) -> float:
        """Flag a user if the probability is at least this: best F1 of the churned class."""
        return self.choice.thresholds[self.choice.chosen]["threshold"]

    def to_rows(self) -> pd.DataFrame:
        """A row a candidate with TRAINED_COLUMNS, the chosen one first; no pickle in it."""
        names = sorted(self.models, key=lambda name: name != self.choice.chosen)
        artifacts = [self.models[name].save() for name in names]
        twin = self.twin.save() if self.twin else None
        others = [None] * (len(names) - 1)
        return pd.DataFrame(
            {
                "model": names,
                "chosen": [name == self.choice.chosen for name in names],
                "log_loss": [self.choice.log_loss[name] for name in names],
                "pr_auc": [self.choice.pr_auc[name] for name in names],
                **pd.DataFrame([self.choice.thresholds[name] for name in names]),
                "features": [list(self.models[name].features) for name in names],
                "rows": self.rows,
                "positives": self.positives,
                "churned_users": self.churned_users,
                "artifact": artifacts,
                "sha256": [hashlib.sha256(artifact).hexdigest() for artifact in artifacts],
                "twin": [twin, *others],
                "twin_sha256": [hashlib.sha256(twin).hexdigest() if twin else None, *others],
                "profile": [self.profile.to_json(), *others],
            }
        )[TRAINED_COLUMNS]


@dataclass(frozen=True)
class Evaluation:
    """Predictions for rows that the model did not see, and why an estimate is missing."""

    predictions: pd.DataFrame  # PREDICTION_COLUMNS
    left_out: dict[str, str]  # estimate -> reason


@dataclass(frozen=True)
class How:
    """How the procedure is run.

    `folds` and `seed` of the training rows; `jobs` fits run side by side (-1: one a core);
    `workers` train what is too large for one machine; `budget` of the search.
    """

    folds: int = 5
    seed: int = 0
    jobs: int = -1
    workers: Workers | None = None
    budget: Budget = NO_SEARCH


AS_USUAL = How()
_NO_FOLD = -1  # left out, it leaves all rows in


@dataclass(frozen=True)
class _Rows:
    """Labelled rows in a fixed order, their features as a matrix, and what to fit on them."""

    frame: pd.DataFrame  # user_id, as_of, label (bool)
    x: np.ndarray
    features: tuple[str, ...]
    candidates: tuple[str, ...]
    baselines: Mapping[str, Sequence[str]]
    core: tuple[str, ...]  # what the candidates learn from
    how: How

    @property
    def label(self) -> np.ndarray:
        return self.frame["label"].to_numpy()

    @property
    def names(self) -> list[str]:
        return [*self.candidates, *self.baselines]

    def where(self, mask: np.ndarray) -> _Rows:
        return replace(self, frame=self.frame[mask].reset_index(drop=True), x=self.x[mask])

    @property
    def core_x(self) -> np.ndarray:
        return self.x[:, [self.features.index(name) for name in self.core]]

    def fit(self, settings: Settings) -> dict[str, Model]:
        how = models.Fitting(self.how.seed, settings, self.how.workers)
        return models.fit_all(
            self.names, self.x, self.label, self.features, how, self.baselines, self.core
        )

    def predict(self, fitted: Mapping[str, Model]) -> np.ndarray:
        """Probabilities, (models, rows)."""
        result = np.empty((len(fitted), len(self.x)))
        for number, model in enumerate(fitted.values()):
            columns = [self.features.index(name) for name in model.features]
            x = self.x if model.features == self.features else self.x[:, columns]
            result[number] = model.predict_matrix(x) if len(x) else np.empty(0)
        return result


def searched(frame: Any, features: Sequence[str], how: How) -> Found:
    """Hyper-parameters for `train` on the same rows, and the trials behind them."""
    return _search(_labelled(frame, features, models.CANDIDATES, {}, FORECAST, how))


def train(
    frame: Any,
    features: Sequence[str],
    *,
    settings: Settings = DEFAULTS,
    candidates: Sequence[str] = models.CANDIDATES,
    how: How = AS_USUAL,
) -> Trained:
    """Run the procedure on all rows of a feature table (pandas or Polars) that have a label.

    The model is one for the forecast protocol: it learns from CORE where `features` hold it.
    settings: what `searched` found. Raises NotEnoughDataError for fewer than MIN_CHURNED_USERS
    churned users, SparkifyError for features that cannot be used.
    """
    rows = _labelled(frame, features, candidates, {}, FORECAST, how)
    check_enough(rows.frame)
    fold = splits.user_folds(rows.frame, how.folds, how.seed)
    fitted, choice = _train(rows, fold, settings)
    return Trained(
        models=fitted,
        choice=choice,
        rows=len(rows.frame),
        positives=int(rows.label.sum()),
        churned_users=int(splits.churned_by_user(rows.frame).sum()),
        twin=_twin(rows, fold, choice.chosen, settings),
        profile=_profile(rows, fitted[choice.chosen]),
    )


def evaluate(
    frame: Any,
    features: Sequence[str],
    protocol: str,
    *,
    horizon_days: int | None = None,
    repeats: int = 1,
    candidates: Sequence[str] = models.CANDIDATES,
    baselines: Mapping[str, Sequence[str]] = models.BASELINES,
    how: How = AS_USUAL,
) -> Evaluation:
    """Predictions for every labelled row by models that did not learn from it.

    Estimate "grouped" pools all cutoffs in folds by user, `repeats` times. With `horizon_days`
    (the forecast protocol) there is "temporal" too: trained on the cutoffs known by the last one,
    tested on that. Where that is impossible `left_out` says why. `model` names each candidate,
    each baseline and "chosen", whose `candidate` says which one the training rows chose.
    Errors as in `train`.
    """
    rows = _labelled(frame, features, candidates, baselines, protocol, how)
    check_enough(rows.frame)
    found = [
        _grouped(rows, how.seed + repeat).assign(estimate="grouped", repeat=repeat)
        for repeat in range(repeats)
    ]
    left_out = {}
    if horizon_days is not None:
        try:
            temporal = _temporal(rows, horizon_days)
            found.append(temporal.assign(estimate="temporal", repeat=0, fold=0))
        except NotEnoughDataError as error:
            left_out["temporal"] = f"No estimate by time: {error}"
    predictions = pd.concat(found, ignore_index=True).assign(protocol=protocol)
    return Evaluation(predictions[PREDICTION_COLUMNS], left_out)


def check_enough(frame: pd.DataFrame) -> None:
    """Raise NotEnoughDataError where churned or staying users are too few to train and test."""
    churned = splits.churned_by_user(frame)
    for count, what in ((int(churned.sum()), "churned"), (int((~churned).sum()), "stayed")):
        if count < MIN_CHURNED_USERS:
            raise NotEnoughDataError(
                f"{count} users {what}; at least {MIN_CHURNED_USERS} are needed to train and test "
                f"a model (of {len(churned)} users whose outcome is known)."
            )


def columns(features: Sequence[str], protocol: str) -> list[str]:
    """What `train` and `evaluate` read of a feature table."""
    return ["protocol", "user_id", "as_of", "label", *_used(features, protocol, models.BASELINES)]


def _core(features: Sequence[str], protocol: str) -> tuple[str, ...]:
    """What candidates learn from: in the forecast protocol, where churned rows are few, CORE.

    With the whole log in view all features tell something, as they leak.
    """
    return CORE if protocol == FORECAST and set(CORE) <= set(features) else tuple(features)


def _used(
    features: Sequence[str], protocol: str, baselines: Mapping[str, Sequence[str]]
) -> list[str]:
    used = {*_core(features, protocol), *(name for seen in baselines.values() for name in seen)}
    return [name for name in features if name in used]


def _labelled(
    frame: Any,
    features: Sequence[str],
    candidates: Sequence[str],
    baselines: Mapping[str, Sequence[str]],
    protocol: str,
    how: How,
) -> _Rows:
    """Rows whose outcome is known, sorted, so that the order they came in changes nothing."""
    if "user_id" in features:
        raise SparkifyError("user_id is no feature: what it tells of a user is a leak.")
    core = _core(features, protocol)
    features = _used(features, protocol, baselines)
    if not isinstance(frame, pd.DataFrame):
        frame = frame.to_pandas()
    known = frame[frame["label"].notna()].sort_values(["user_id", "as_of"], kind="stable")
    x = models.as_matrix(known, features)
    keys = known[["user_id", "as_of", "label"]].astype({"label": bool}).reset_index(drop=True)
    return _Rows(keys, x, tuple(features), tuple(candidates), dict(baselines), core, how)


def _simplest_of_the_best(rows: _Rows, probability: np.ndarray, fold: np.ndarray) -> str:
    """The first candidate whose log loss is within a standard error of the best one's.

    The one-standard-error rule (Breiman and others, Classification and Regression Trees, 3.4.3)
    on differences within folds: with few churned users the best figure is mostly luck. Log loss
    tells two models apart on far fewer rows than a PR AUC does.
    """
    names, folds = rows.candidates, np.unique(fold)
    loss = metrics.log_loss(rows.label, probability[: len(names)])
    by_fold = np.array([loss[:, fold == number].mean(axis=1) for number in folds]).T
    behind = by_fold - by_fold[by_fold.mean(axis=1).argmin()]
    error = behind.std(axis=1, ddof=1) / np.sqrt(len(folds))
    return names[int(np.argmax(behind.mean(axis=1) <= error))]


def _choose(rows: _Rows, probability: np.ndarray, fold: np.ndarray) -> Choice:
    """From out-of-fold probabilities (models, rows) of training rows, and each row's fold."""
    lines = {
        name: calibration.fitted(rows.label, models.log_odds(p))
        for name, p in zip(rows.candidates, probability, strict=False)
    }
    probability = np.array(
        [
            models.probability(lines[name](models.log_odds(p))) if name in lines else p
            for name, p in zip(rows.names, probability, strict=True)
        ]
    )
    by_name = dict(zip(rows.names, probability, strict=True))
    return Choice(
        chosen=_simplest_of_the_best(rows, probability, fold),
        log_loss={n: float(metrics.log_loss(rows.label, p).mean()) for n, p in by_name.items()},
        pr_auc={name: metrics.pr_auc(rows.label, p) for name, p in by_name.items()},
        lines=lines,
        thresholds={
            name: {
                column: metrics.best_threshold(rows.label, p, aim)
                for aim, column in metrics.THRESHOLDS.items()
            }
            for name, p in by_name.items()
        },
    )


def _predictions(rows: _Rows, probability: np.ndarray, choice: Choice) -> pd.DataFrame:
    """The long frame for tested rows: each model and, last, the chosen one."""
    by_name = dict(zip(rows.names, probability, strict=True))
    candidate_of = {**{name: name for name in rows.names}, CHOSEN: choice.chosen}
    return pd.concat(
        [
            rows.frame.assign(
                model=model,
                candidate=candidate,
                probability=by_name[candidate],
                **choice.thresholds[candidate],
            )
            for model, candidate in candidate_of.items()
        ],
        ignore_index=True,
    )


def _fit_without(
    rows: _Rows, fold: np.ndarray, left_out: Sequence[int], settings: Settings
) -> list[tuple[dict[str, Model], np.ndarray]]:
    """For each fold: models fitted without it, and their probabilities for its rows."""
    from joblib import Parallel, delayed  # type: ignore[import-untyped]
    from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]

    def one(out: int) -> tuple[dict[str, Model], np.ndarray]:
        held_out = fold == out
        splits.check_users_apart(rows.frame, ~held_out, held_out)
        fitted = rows.where(~held_out).fit(settings)
        return fitted, rows.where(held_out).predict(fitted)

    jobs = rows.how.jobs
    if rows.how.workers and rows.how.workers.take(len(rows.x)):
        jobs = 1  # each fit takes all the workers there are
    # Threads: the fits release Python's lock and share the rows. Each is to use one core.
    with threadpool_limits(1):
        return Parallel(n_jobs=jobs, prefer="threads")(delayed(one)(out) for out in left_out)


def _search(rows: _Rows) -> Found:
    """Hyper-parameters for these training rows."""
    from threadpoolctl import threadpool_limits

    if BOOSTED not in rows.candidates:
        return Found()
    how, x, users = rows.how, rows.core_x, rows.frame["user_id"].to_numpy()

    def start_of(learn: np.ndarray) -> np.ndarray:
        fitted = models.fit_all(
            [models.REGRESSION], x[learn], rows.label[learn], rows.core, models.Fitting()
        )
        return fitted[models.REGRESSION].log_odds_matrix(x)

    with threadpool_limits(1):
        return search(x, rows.label, users, start_of, how.budget, how.seed, how.jobs)


def _train(rows: _Rows, fold: np.ndarray, settings: Settings) -> tuple[dict[str, Model], Choice]:
    """The procedure: calibrated models of all rows, and what the (inner) folds decided."""
    numbers = np.unique(fold)
    (fitted, _), *held_out = _fit_without(rows, fold, [_NO_FOLD, *numbers], settings)
    probability = np.empty((len(rows.names), len(fold)))
    for number, (_, predicted) in zip(numbers, held_out, strict=True):
        probability[:, fold == number] = predicted
    choice = _choose(rows, probability, fold)
    for name, line in choice.lines.items():
        fitted[name] = Calibrated.of(fitted[name], line)
    return fitted, choice


def _twin(rows: _Rows, fold: np.ndarray, chosen: str, settings: Settings) -> Model | None:
    """The chosen one made without the jury's users, to be compared on them with other twins.

    Calibrated without them, too: a line that knew their outcomes would flatter its log loss.
    """
    others = ~splits.jury(rows.frame["user_id"])
    alone = replace(rows.where(others), candidates=(chosen,), baselines={})
    try:
        return _train(alone, fold[others], settings)[0][chosen]
    except NotEnoughDataError:
        return None


def _profile(rows: _Rows, model: Model) -> drift.Profile:
    """Of the latest cutoff: what grows with the log, as a count does, is least behind there."""
    latest = rows.where((rows.frame["as_of"] == rows.frame["as_of"].max()).to_numpy())
    columns = {name: latest.x[:, rows.features.index(name)] for name in model.features}
    return drift.Profile.of(columns | {drift.PROBABILITY: latest.predict({"": model})[0]})


def _grouped(rows: _Rows, seed: int) -> pd.DataFrame:
    """Nested cross-validation; the inner folds of an outer fold are the other outer folds."""
    fold = splits.user_folds(rows.frame, rows.how.folds, seed)
    parts = []
    for outer in np.unique(fold):
        learned, tested = rows.where(fold != outer), rows.where(fold == outer)
        splits.check_users_apart(rows.frame, fold != outer, fold == outer)
        fitted, choice = _train(learned, fold[fold != outer], _search(learned).settings)
        parts.append(_predictions(tested, tested.predict(fitted), choice).assign(fold=outer))
    return pd.concat(parts, ignore_index=True)


def _temporal(rows: _Rows, horizon_days: int) -> pd.DataFrame:
    train_mask, test_mask = splits.temporal_split(rows.frame, horizon_days)
    learned, tested = rows.where(train_mask), rows.where(test_mask)
    check_enough(learned.frame)
    if tested.label.all() or not tested.label.any():
        raise NotEnoughDataError(
            f"all {len(tested.label)} users at the last cutoff have the same outcome."
        )
    fold = splits.user_folds(learned.frame, rows.how.folds, rows.how.seed)
    fitted, choice = _train(learned, fold, _search(learned).settings)
    return _predictions(tested, tested.predict(fitted), choice)
