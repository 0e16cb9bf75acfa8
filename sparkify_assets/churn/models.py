"""The models: how each is fitted, what it says of a row and why, and how it is stored.

Belongs here: the candidates and baselines behind one interface, and their defaults.
Does not belong here: which rows to learn from (`splits.py`), which model is best and its threshold
(`evaluation.py`), and words for people (`factors.py`, `scoring.py`).

A stored model is a zip file of `model.json` (kind, feature list, typical values, parameters) and
further files: the model that it builds on, XGBoost's own UBJSON. No pickle.
"""

from __future__ import annotations

import io
import json
import zipfile
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import pandas as pd

from sparkify_assets.churn import boosting
from sparkify_assets.churn.calibration import Line
from sparkify_assets.churn.search import ENOUGH_TO_SEARCH
from sparkify_assets.errors import NotEnoughDataError, SparkifyError

if TYPE_CHECKING:
    import xgboost

FORMAT_VERSION = 2
# The simplest first.
REGRESSION, BOOSTED = CANDIDATES = ("logistic_regression", "boosted_regression")
# The features each baseline may see. They are logistic regressions: no feature = the base rate.
BASELINES: Mapping[str, tuple[str, ...]] = {
    "prevalence": (),
    "level_only": ("is_paid",),
    "sessions_per_day": ("sessions_per_day_lifetime",),
}
# How far a base value and contributions may be off the prediction, in log-odds. XGBoost
# works in single precision: some hundred trees are off by about 4e-6.
ADDITIVE_WITHIN = 1e-4


def as_matrix(frame: Any, features: Sequence[str]) -> np.ndarray:
    """The features of a pandas or Polars frame as floats, (rows, features); unknown is NaN.

    Raises SparkifyError where a feature is missing, is not a number or is infinite.
    """
    missing = [name for name in features if name not in frame.columns]
    if missing:
        raise SparkifyError(
            f"The table lacks {len(missing)} of the model's {len(features)} features: "
            f"{', '.join(missing[:5])}{', ...' if len(missing) > 5 else ''}."
        )
    chosen = frame[list(features)]
    if not isinstance(chosen, pd.DataFrame):
        chosen = chosen.to_pandas()
    try:
        matrix = chosen.to_numpy(dtype=float, na_value=np.nan)
    except (TypeError, ValueError) as error:
        text = [n for n in features if not _is_number(chosen[n])]
        raise SparkifyError(f"These features are not numbers: {', '.join(text)}.") from error
    infinite = np.isinf(matrix)
    if infinite.any():
        names = [n for n, bad in zip(features, infinite.any(axis=0), strict=True) if bad]
        raise SparkifyError(
            f"{int(infinite.any(axis=1).sum())} rows hold infinite values, in {', '.join(names)}."
        )
    return matrix


def _is_number(column: pd.Series) -> bool:
    try:
        column.to_numpy(dtype=float, na_value=np.nan)
    except (TypeError, ValueError):
        return False
    return True


@dataclass(frozen=True, eq=False)
class Model(ABC):
    """A fitted model. `typical` is the median of each feature over the rows it learned from."""

    name: str
    features: tuple[str, ...]
    typical: np.ndarray

    kind: ClassVar[str]

    def predict(self, frame: Any) -> np.ndarray:
        """Probability of churn for each row of a pandas or Polars frame."""
        return self.predict_matrix(as_matrix(frame, self.features))

    def contributions(self, frame: Any) -> np.ndarray:
        """What each feature adds to each row's prediction, (rows, features), in log-odds.

        `base_value` plus a row's contributions is its prediction in log-odds. Raises
        SparkifyError where it is not, within ADDITIVE_WITHIN.
        """
        return self.explain_matrix(as_matrix(frame, self.features))

    def explain_matrix(self, x: np.ndarray) -> np.ndarray:
        """`contributions_matrix`, having checked that they add up to the predictions."""
        contributions = self.contributions_matrix(x)
        off = np.abs(self.base_value + contributions.sum(axis=1) - self.log_odds_matrix(x))
        if not off.max(initial=0.0) <= ADDITIVE_WITHIN:
            raise SparkifyError(
                f"The contributions of the model {self.name} do not add up to its predictions: "
                f"in {int((~(off <= ADDITIVE_WITHIN)).sum())} of {len(x)} rows they are off by up "
                f"to {off.max():.3g} (log-odds; {ADDITIVE_WITHIN:g} is allowed). Reasons from "
                "them would be wrong, so none are given. Train the model again; if that does not "
                "help, go back to the library versions that it was trained with."
            )
        return contributions

    @property
    @abstractmethod
    def base_value(self) -> float:
        """The prediction before any feature is known, in log-odds."""

    def predict_matrix(self, x: np.ndarray) -> np.ndarray:
        return probability(self.log_odds_matrix(x))

    @abstractmethod
    def log_odds_matrix(self, x: np.ndarray) -> np.ndarray:
        """The predictions in log-odds, found without the contributions."""

    @abstractmethod
    def contributions_matrix(self, x: np.ndarray) -> np.ndarray: ...

    @abstractmethod
    def parts(self) -> tuple[dict[str, Any], dict[str, bytes]]:
        """(plain parameters, files) from which `restore` makes the model again."""

    @classmethod
    @abstractmethod
    def restore(cls, common: dict[str, Any], plain: dict[str, Any], files: dict[str, bytes]) -> Any:
        """The model of `parts`; `common` holds name, features and typical."""

    def save(self) -> bytes:
        """The model as a zip file; the same model gives the same bytes."""
        plain, files = self.parts()
        header = {
            "format_version": FORMAT_VERSION,
            "kind": self.kind,
            "name": self.name,
            "features": list(self.features),
            "typical": self.typical.tolist(),
            "parameters": plain,
        }
        buffer = io.BytesIO()
        with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
            for name, content in {"model.json": json.dumps(header).encode(), **files}.items():
                # ZipInfo's fixed date keeps the bytes, and so the checksum, reproducible.
                info = zipfile.ZipInfo(name)
                info.compress_type = zipfile.ZIP_DEFLATED
                archive.writestr(info, content)
        return buffer.getvalue()


def load(data: bytes) -> Model:
    """The model that `Model.save` stored; SparkifyError if the bytes are not one."""
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            files = {name: archive.read(name) for name in archive.namelist()}
        header = json.loads(files.pop("model.json"))
        version = header["format_version"]
        kind = KINDS[header["kind"]]
        common = {
            "name": header["name"],
            "features": tuple(header["features"]),
            "typical": np.array(header["typical"], dtype=float),
        }
        parameters = header["parameters"]
    except (zipfile.BadZipFile, KeyError, ValueError, EOFError) as error:
        raise SparkifyError(f"The stored model is damaged or is not a model: {error}") from error
    if version != FORMAT_VERSION:
        raise SparkifyError(
            f"The stored model has format {version}; this program reads format {FORMAT_VERSION}. "
            "Train it again."
        )
    return kind.restore(common, parameters, files)


@dataclass(frozen=True, eq=False)
class Linear(Model):
    """Logistic regression on asinh(x / scale), standardised; being unknown has its own weight.

    asinh is linear for small values and logarithmic for large ones, of either sign, so that the
    long tails of counts and rates do not rule the fit. Contributions are exact.
    """

    kind: ClassVar[str] = "linear"

    spread: (
        np.ndarray
    )  # root mean square of the values other than 0, where asinh turns from linear to logarithmic
    mean: np.ndarray  # of the transformed values
    deviation: np.ndarray
    unknown_share: np.ndarray
    weight: np.ndarray  # log-odds for one standard deviation
    unknown_weight: np.ndarray  # log-odds for being unknown
    intercept: float

    ARRAYS: ClassVar[tuple[str, ...]] = (
        "spread",
        "mean",
        "deviation",
        "unknown_share",
        "weight",
        "unknown_weight",
    )

    @property
    def base_value(self) -> float:
        return self.intercept

    def standardised(self, x: np.ndarray) -> np.ndarray:
        """(rows, features), mean 0 and deviation 1 on the training rows; unknown is 0."""
        return np.nan_to_num((np.arcsinh(x / self.spread) - self.mean) / self.deviation)

    def contributions_matrix(self, x: np.ndarray) -> np.ndarray:
        unknown = np.isnan(x) - self.unknown_share
        return self.standardised(x) * self.weight + unknown * self.unknown_weight

    def log_odds_matrix(self, x: np.ndarray) -> np.ndarray:
        known = _weighed(self.standardised(x), self.weight)
        unknown = _weighed(np.isnan(x) - self.unknown_share, self.unknown_weight)
        return self.intercept + known + unknown

    def parts(self) -> tuple[dict[str, Any], dict[str, bytes]]:
        arrays = {name: getattr(self, name).tolist() for name in self.ARRAYS}
        return {**arrays, "intercept": self.intercept}, {}

    @classmethod
    def restore(
        cls, common: dict[str, Any], plain: dict[str, Any], files: dict[str, bytes]
    ) -> Linear:
        arrays: dict[str, Any] = {n: np.array(plain[n], dtype=float) for n in cls.ARRAYS}
        return cls(**common, **arrays, intercept=plain["intercept"])


@dataclass(frozen=True, eq=False)
class Boosted(Model):
    """A regression, and XGBoost's trees for what it gets wrong.

    Where rows are few the trees add little and the regression stays; where they are many the trees
    do not have to learn first what a line says better. The trees' contributions are XGBoost's own
    (exact) SHAP values.
    """

    kind: ClassVar[str] = "boosted_regression"

    regression: Linear
    booster: xgboost.Booster

    @cached_property
    def base_value(self) -> float:
        nothing_known = np.full((1, len(self.features)), np.nan)
        return self.regression.base_value + float(self._shap(nothing_known)[0, -1])

    def _shap(self, x: np.ndarray) -> np.ndarray:
        import xgboost

        return self.booster.predict(xgboost.DMatrix(x), pred_contribs=True).astype(float)

    def contributions_matrix(self, x: np.ndarray) -> np.ndarray:
        return self.regression.contributions_matrix(x) + self._shap(x)[:, :-1]

    def log_odds_matrix(self, x: np.ndarray) -> np.ndarray:
        trees = self.booster.inplace_predict(x, predict_type="margin").astype(float)
        return self.regression.log_odds_matrix(x) + trees

    def parts(self) -> tuple[dict[str, Any], dict[str, bytes]]:
        trees = bytes(self.booster.save_raw("ubj"))
        return {}, {"regression.zip": self.regression.save(), "booster.ubj": trees}

    @classmethod
    def restore(
        cls, common: dict[str, Any], plain: dict[str, Any], files: dict[str, bytes]
    ) -> Boosted:
        import xgboost

        booster = xgboost.Booster({"nthread": 1}, model_file=bytearray(files["booster.ubj"]))
        return cls(**common, regression=_linear(files["regression.zip"]), booster=booster)


@dataclass(frozen=True, eq=False)
class Calibrated(Model):
    """Another model, whose log-odds are corrected by a line."""

    kind: ClassVar[str] = "calibrated"

    model: Model
    line: Line

    @classmethod
    def of(cls, model: Model, line: Line) -> Calibrated:
        return cls(model.name, model.features, model.typical, model, line)

    @property
    def base_value(self) -> float:
        return float(self.line(np.array(self.model.base_value)))

    def contributions_matrix(self, x: np.ndarray) -> np.ndarray:
        return self.line.slope * self.model.contributions_matrix(x)

    def log_odds_matrix(self, x: np.ndarray) -> np.ndarray:
        return self.line(self.model.log_odds_matrix(x))

    def parts(self) -> tuple[dict[str, Any], dict[str, bytes]]:
        return asdict(self.line), {"model.zip": self.model.save()}

    @classmethod
    def restore(
        cls, common: dict[str, Any], plain: dict[str, Any], files: dict[str, bytes]
    ) -> Calibrated:
        return cls(**common, model=load(files["model.zip"]), line=Line(**plain))


def _weighed(values: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """values @ weights, where no row's last digit depends on which other rows there are.

    With BLAS it does, so that a user's probability would change with the users of the same task.
    """
    sums: np.ndarray = np.ascontiguousarray(values * weights).sum(axis=1)
    return sums


def _linear(data: bytes) -> Linear:
    model = load(data)
    if not isinstance(model, Linear):
        raise SparkifyError("The stored model is damaged: its regression is something else.")
    return model


KINDS: dict[str, type[Model]] = {cls.kind: cls for cls in (Linear, Boosted, Calibrated)}


@dataclass(frozen=True)
class Fitting:
    """What a fit may need besides its rows: hyper-parameters, and workers for a large table."""

    seed: int = 0
    settings: boosting.Settings = boosting.DEFAULTS
    workers: boosting.Workers | None = None


def fit(
    name: str,
    frame: Any,
    label: Any,
    features: Sequence[str],
    seed: int = 0,
    baselines: Mapping[str, Sequence[str]] = BASELINES,
    workers: boosting.Workers | None = None,
) -> Model:
    """Fit one candidate or baseline on all rows of `frame`; `label` is true where churned.

    A baseline learns from its own features only; `workers` train what is too large for one
    machine. Raises NotEnoughDataError for rows of one class
    and SparkifyError for features that are missing, not numbers or infinite.
    """
    x, outcome = as_matrix(frame, features), np.asarray(label, dtype=bool)
    return fit_all([name], x, outcome, features, Fitting(seed, workers=workers), baselines)[name]


def fit_all(
    names: Sequence[str],
    x: np.ndarray,
    label: np.ndarray,
    features: Sequence[str],
    how: Fitting,
    baselines: Mapping[str, Sequence[str]] = BASELINES,
    core: Sequence[str] | None = None,
) -> dict[str, Model]:
    """Fit several on the same rows; what another builds on is fitted once.

    Candidates learn from the features `core`, by default all; baselines from their own.
    """
    if label.all() or not label.any():
        raise NotEnoughDataError(
            f"All {len(label)} rows to learn from have the same outcome "
            f"({'churned' if label.any() else 'stayed'}); a model needs both."
        )
    seen = tuple(features if core is None else core)
    x_seen = x[:, [list(features).index(name) for name in seen]]
    common: dict[str, Any] = {"features": seen, "typical": _median(x_seen)}
    fitted: dict[str, Model] = {}

    def fit_one(name: str) -> Model:
        if name not in fitted:
            if name in baselines:
                fitted[name] = _fit_baseline(name, x, label, features, baselines[name])
            elif name == REGRESSION:
                fitted[name] = _fit_linear(name, x_seen, label, common)
            else:
                regression = fit_one(REGRESSION)
                assert isinstance(regression, Linear)
                fitted[name] = _fit_boosted(name, x_seen, label, common, regression, how)
        return fitted[name]

    return {name: fit_one(name) for name in names}


def _fit_linear(name: str, x: np.ndarray, label: np.ndarray, common: dict[str, Any]) -> Linear:
    unknown = np.isnan(x)
    squares, others = np.nansum(x**2, axis=0), np.maximum((~unknown & (x != 0)).sum(axis=0), 1)
    spread = np.where(squares > 0, np.sqrt(squares / others), 1.0)
    transformed = np.arcsinh(x / spread)
    known = np.maximum((~unknown).sum(axis=0), 1)
    mean = np.nansum(transformed, axis=0) / known
    deviation = np.sqrt(np.nansum((transformed - mean) ** 2, axis=0) / known)
    varied = deviation > 1e-9
    deviation[~varied] = 1.0
    unknown_share = unknown.mean(axis=0)
    # Unknowns that nearly all rows share, or nearly none, are noise.
    telling = (unknown_share > 0.01) & (unknown_share < 0.99)
    design = np.hstack(
        [
            np.nan_to_num((transformed - mean) / deviation)[:, varied],
            (unknown - unknown_share)[:, telling],
        ]
    )
    weight, unknown_weight = np.zeros(x.shape[1]), np.zeros(x.shape[1])
    if design.shape[1]:
        coefficients, intercept = _ridge(design, label)
        weight[varied], unknown_weight[telling] = np.split(coefficients, [varied.sum()])
    else:
        intercept = float(log_odds(label.mean()))
    return Linear(
        name,
        **common,
        spread=spread,
        mean=mean,
        deviation=deviation,
        unknown_share=unknown_share,
        weight=weight,
        unknown_weight=unknown_weight,
        intercept=intercept,
    )


def _ridge(design: np.ndarray, label: np.ndarray) -> tuple[np.ndarray, float]:
    """Weights and intercept of a logistic regression with an L2 prior of the best strength.

    By default all columns together may move the log-odds by about 1, whatever the rows. Where
    churned rows are many, weaker priors are tried and the one with the most evidence is taken:
    Laplace's approximation of the marginal likelihood (Bishop, Pattern Recognition and Machine
    Learning, 4.4.1), which needs no folds.
    """
    from sklearn.linear_model import LogisticRegression

    default = 1 / design.shape[1]
    enough = label.sum() >= ENOUGH_TO_SEARCH
    model = LogisticRegression(C=default, max_iter=500, warm_start=True)
    best, found = -np.inf, (np.empty(0), 0.0)
    for variance in default * np.array([1, 3, 10, 30, 100] if enough else [1]):
        model.set_params(C=variance).fit(design, label)
        weight, intercept = model.coef_[0].copy(), float(model.intercept_[0])
        evidence = _evidence(design, label, weight, intercept, variance) if enough else 0.0
        if evidence < best:
            break
        best, found = evidence, (weight, intercept)
    return found


def _evidence(
    design: np.ndarray, label: np.ndarray, weight: np.ndarray, intercept: float, variance: float
) -> float:
    """Log marginal likelihood of a prior variance of the weights, up to a constant."""
    odds = design @ weight + intercept
    likelihood = float((label * odds - np.logaddexp(0, odds)).sum())
    chance = probability(odds)
    information = chance * (1 - chance)
    centred = design - information @ design / information.sum()  # the intercept is free
    curvature = np.eye(len(weight)) + variance * (centred.T * information) @ centred
    return likelihood - weight @ weight / (2 * variance) - np.linalg.slogdet(curvature)[1] / 2


def _fit_baseline(
    name: str, x: np.ndarray, label: np.ndarray, features: Sequence[str], seen: Sequence[str]
) -> Linear:
    missing = [feature for feature in seen if feature not in features]
    if missing:
        raise SparkifyError(f"The baseline {name} needs the feature {missing[0]}, which is absent.")
    x = x[:, [list(features).index(feature) for feature in seen]]
    common: dict[str, Any] = {"features": tuple(seen), "typical": _median(x)}
    return _fit_linear(name, x, label, common)


def _fit_boosted(
    name: str,
    x: np.ndarray,
    label: np.ndarray,
    common: dict[str, Any],
    regression: Linear,
    how: Fitting,
) -> Boosted:
    start = regression.log_odds_matrix(x)
    booster = boosting.fit(x, label, start, how.settings, seed=how.seed, workers=how.workers)
    return Boosted(name, **common, regression=regression, booster=booster)


def _median(x: np.ndarray) -> np.ndarray:
    """Median of each column's known values; NaN where none is known."""
    known = ~np.isnan(x).all(axis=0)
    result = np.full(x.shape[1], np.nan)
    result[known] = np.nanmedian(x[:, known], axis=0)
    return result


def probability(log_odds: np.ndarray) -> np.ndarray:
    return 1 / (1 + np.exp(-log_odds))


def log_odds(chance: Any) -> Any:
    clipped = np.clip(chance, 1e-9, 1 - 1e-9)
    return np.log(clipped / (1 - clipped))
