"""The search for hyper-parameters that users who were held out like better than the defaults.

Belongs here: what is searched, how a trial is judged, and when its settings are taken.
Does not belong here: fitting (`boosting.py`), and which rows may be searched on: whoever calls
hands over training rows only (`evaluation.py`).

Trials are bounded in number and in time. Each is written to a journal as it ends (Optuna's), by
what it was searched on, so that a search that was broken off goes on where it stopped, and one that
is done is not done again. Which settings are tried is known before the first trial, the points of a
Sobol sequence: the n-th trial is the same whatever came before it and however often the search was
broken off.
"""

from __future__ import annotations

import hashlib
import json
import time
import warnings
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from sparkify_assets.churn.boosting import DEFAULTS, Settings, matrix

if TYPE_CHECKING:
    import optuna

# Churned rows below which the best of some trials is luck: only the number of rounds is looked for,
# and every user is held out once.
ENOUGH_TO_SEARCH = 300
MOST_ROUNDS = 400
_ROUNDS_OF_FEW = 150  # where churned rows are too few to search
_PATIENCE = 20  # rounds without a gain, where one part of the users is held out
# Rows beyond this teach a search nothing more.
_MOST_ROWS = 25_000
_PARTS = 5  # of the users, one of which is held out
TRIAL_COLUMNS = ["trial", "settings", "log_loss", "better_by", "error", "seconds", "taken"]


@dataclass(frozen=True)
class Budget:
    """How long a search may take: `trials` settings, and about `seconds`. No trial, no search."""

    trials: int = 8
    seconds: float = 60.0
    journals: Path | None = None  # a folder; without one nothing is kept

    def journal(self, name: str) -> Path | None:
        if self.journals is None:
            return None
        self.journals.mkdir(parents=True, exist_ok=True)
        return self.journals / f"{name}.log"


NO_SEARCH = Budget(trials=0)


@dataclass(frozen=True)
class Trial:
    """One setting: its log loss on held-out rows, and how much better than the first trial's.

    `better_by` and its standard `error` are in nats a row, users counted as a whole.
    """

    trial: int
    settings: Settings
    log_loss: float
    better_by: float
    error: float
    seconds: float


@dataclass(frozen=True)
class Found:
    """The settings to take, and the trials behind them; none where it was not worth searching."""

    settings: Settings = DEFAULTS
    trials: tuple[Trial, ...] = ()

    def to_rows(self) -> list[dict[str, Any]]:
        """A row a trial, with TRIAL_COLUMNS; settings as JSON."""
        return [
            asdict(trial)
            | {
                "settings": json.dumps(asdict(trial.settings)),
                "taken": trial.settings == self.settings,
            }
            for trial in self.trials
        ]


def search(
    x: np.ndarray,
    label: np.ndarray,
    users: np.ndarray,
    start_of: Callable[[np.ndarray], np.ndarray],
    budget: Budget,
    seed: int = 0,
    jobs: int = 1,
) -> Found:
    """Settings for trees on top of a regression that held-out (training) users like best.

    The defaults, which are the first trial, stay unless another trial's log loss is better by more
    than its standard error. x and label as in `boosting.fit`; users: one a row, whose rows stay
    together; start_of: the log-odds of all rows by a regression on those of a mask; jobs:
    trials side by side (-1: one a core).
    """
    if budget.trials < 1 or not label.any():
        return Found()
    import optuna
    from joblib import Parallel, delayed  # type: ignore[import-untyped]

    rows = _Rows.of(x, label, users, start_of, seed)
    if not rows.parts:
        return Found()
    plan = _plan(budget.trials if label.sum() >= ENOUGH_TO_SEARCH else 1)
    study = _study(budget.journal(_fingerprint(x, label, users, seed)))
    done = _finished(study)
    spent = sum(trial.user_attrs["seconds"] for trial in done.values())
    began = time.monotonic()

    def try_out(number: int) -> None:
        start, planned = time.monotonic(), plan[number]
        if number and spent + start - began >= budget.seconds:  # the defaults, whatever the time
            return
        settings, losses = rows.tried(Settings(rounds=MOST_ROUNDS, **planned.params), seed)
        kept = {"number": number, "rounds": settings.rounds, "losses": losses.round(9).tolist()}
        study.add_trial(
            optuna.create_trial(
                value=float(losses.sum() / rows.count),
                params=planned.params,
                distributions=planned.distributions,
                user_attrs=kept | {"seconds": time.monotonic() - start},
            )
        )

    left = [number for number in range(len(plan)) if number not in done]
    Parallel(n_jobs=jobs, prefer="threads")(delayed(try_out)(number) for number in left)
    done = _finished(study)
    return _found([done[number] for number in range(len(plan)) if number in done], rows.count)


def _suggested(trial: optuna.Trial) -> None:
    """The space that is searched."""
    trial.suggest_float("learning_rate", 0.03, 0.1, log=True)
    trial.suggest_int("max_depth", 2, 6)
    trial.suggest_float("min_child_weight", 1, 30, log=True)
    trial.suggest_float("subsample", 0.4, 0.9)
    trial.suggest_float("colsample_bynode", 0.2, 0.8)
    trial.suggest_float("reg_lambda", 1, 30, log=True)


def _plan(trials: int) -> list[optuna.trial.FrozenTrial]:
    """The settings to try: the defaults, then points of a Sobol sequence."""
    import optuna

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        sampler = optuna.samplers.QMCSampler(seed=0, warn_independent_sampling=False)
    study = optuna.create_study(sampler=sampler)
    study.enqueue_trial(_space_of(DEFAULTS))
    for _ in range(trials):
        trial = study.ask()
        _suggested(trial)
        study.tell(trial, 0.0)
    return study.get_trials()


def _space_of(settings: Settings) -> dict[str, Any]:
    return {name: value for name, value in asdict(settings).items() if name != "rounds"}


class _Share(NamedTuple):
    """Rows, as `boosting.matrix` takes them."""

    x: np.ndarray
    label: np.ndarray
    start: np.ndarray


class _Part(NamedTuple):
    """Rows to learn from, and others to try on, with the numbers of their users."""

    learn: _Share
    test: _Share
    user: np.ndarray


@dataclass(frozen=True)
class _Rows:
    """The parts on which a setting is tried; of all parts together: rows and users tried on."""

    parts: list[_Part]
    count: int
    users: int

    @classmethod
    def of(
        cls,
        x: np.ndarray,
        label: np.ndarray,
        users: np.ndarray,
        start_of: Callable[[np.ndarray], np.ndarray],
        seed: int,
    ) -> _Rows:
        number = np.unique(users, return_inverse=True)[1]
        of_users = number.max() + 1
        share = max(1.0, len(x) / _MOST_ROWS)
        # Places beyond 1 are not used.
        place = np.random.default_rng(seed).permutation(of_users)[number] / of_users * share
        part = np.floor(place * _PARTS).astype(int)
        parts = []
        for held_out in range(_PARTS if label.sum() < ENOUGH_TO_SEARCH else 1):
            test, learn = part == held_out, (part != held_out) & (part < _PARTS)
            if label[learn].all() or not label[learn].any() or not test.any():
                continue
            start = start_of(learn)
            parts.append(
                _Part(
                    _Share(x[learn], label[learn], start[learn]),
                    _Share(x[test], label[test], start[test]),
                    number[test],
                )
            )
        return cls(parts, sum(len(part.user) for part in parts), of_users)

    def tried(self, settings: Settings, seed: int) -> tuple[Settings, np.ndarray]:
        """The settings with the best number of rounds, and each held-out user's loss, nats."""
        import xgboost

        tests, boosters, curves = [], [], []
        most = settings.rounds if len(self.parts) == 1 else _ROUNDS_OF_FEW
        for part in self.parts:
            said: dict[str, Any] = {}
            # Made anew for each trial: XGBoost crashes when two threads train on one matrix.
            learn, test = matrix(*part.learn), matrix(*part.test)
            booster = xgboost.train(
                settings.parameters(seed),
                learn,
                most,
                evals=[(test, "held_out")],
                evals_result=said,
                early_stopping_rounds=_PATIENCE if len(self.parts) == 1 else None,
                verbose_eval=False,
            )
            tests.append(test)
            boosters.append(booster)
            curves.append(np.array(said["held_out"]["logloss"]) * len(part.user))
        rounds, losses = int(np.sum(curves, axis=0).argmin()) + 1, np.zeros(self.users)
        for booster, test, part in zip(boosters, tests, self.parts, strict=True):
            odds = booster.predict(test, output_margin=True, iteration_range=(0, rounds))
            loss = np.logaddexp(0, np.where(part.test.label, -odds, odds).astype(float))
            losses += np.bincount(part.user, loss, minlength=self.users)
        return replace(settings, rounds=rounds), losses


def _study(journal: Path | None) -> optuna.Study:
    import optuna
    from optuna.storages.journal import JournalFileBackend

    storage = optuna.storages.JournalStorage(JournalFileBackend(str(journal))) if journal else None
    return optuna.create_study(study_name="settings", storage=storage, load_if_exists=True)


def _finished(study: optuna.Study) -> dict[int, optuna.trial.FrozenTrial]:
    """The trials that came to an end, by their number."""
    return {trial.user_attrs["number"]: trial for trial in study.get_trials(deepcopy=False)}


def _found(finished: Sequence[Any], rows: int) -> Found:
    first = np.array(finished[0].user_attrs["losses"])
    trials = []
    for number, trial in enumerate(finished):
        ahead = first - np.array(trial.user_attrs["losses"])
        trials.append(
            Trial(
                number,
                Settings(rounds=trial.user_attrs["rounds"], **trial.params),
                float(trial.value),
                float(ahead.sum() / rows),
                float(ahead.std(ddof=1) * np.sqrt(len(ahead)) / rows),
                trial.user_attrs["seconds"],
            )
        )
    clear = [trial for trial in trials if trial.better_by > trial.error]
    best = min(clear, key=lambda trial: trial.log_loss) if clear else trials[0]
    return Found(best.settings, tuple(trials))


def _fingerprint(x: np.ndarray, label: np.ndarray, users: np.ndarray, seed: int) -> str:
    """Of all that a search depends on."""
    rules = (MOST_ROUNDS, _ROUNDS_OF_FEW, _PATIENCE, _MOST_ROWS, _PARTS, ENOUGH_TO_SEARCH, DEFAULTS)
    a_point = _plan(2)[1].params  # changes with the space that is searched
    found = hashlib.sha256(f"{seed} {rules} {a_point}".encode())
    for part in (x, label, users.astype(str)):
        found.update(np.ascontiguousarray(part).tobytes())
    return found.hexdigest()[:24]
