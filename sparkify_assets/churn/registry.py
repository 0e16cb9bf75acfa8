"""Which of the models that were ever trained scores the users: the rules of the model registry.

Belongs here: comparing a new model with the baselines and with the present one, what follows from
it, pinning and rolling back. A registry is a frame with the columns of `model_registry`; every
function gives a new one. Does not belong here: where it is stored, and the command
(`sparkify_assets/registry.py`).

A new model goes live if it beats the baselines and is not worse than the present one. The present
one has learned from the very users that the new one would be compared on, so what is compared are
their twins: the same models, fitted without a fixed fifth of all users, the jury.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date, datetime
from typing import Any

import polars as pl

from sparkify_assets.churn import models, splits
from sparkify_assets.churn.evaluation import CHOSEN
from sparkify_assets.churn.metrics import Difference, paired_difference, roc_auc_interval
from sparkify_assets.churn.models import BASELINES, Model
from sparkify_assets.errors import NotEnoughDataError, SettingError, SparkifyError

LIVE, RETIRED, REFUSED = "live", "retired", "refused"
_VERSION_LENGTH = 12
Row = Mapping[str, Any]  # of the registry, or of `trained_model`


@dataclass(frozen=True)
class Worth:
    """What predictions of rows not seen are worth beside guessing and the baselines."""

    roc_auc: tuple[float, float, float]  # with its 95 % interval
    over: Mapping[str, Difference]  # by baseline

    @property
    def nearest(self) -> str:
        """The baseline that it is least ahead of."""
        return min(self.over, key=lambda name: self.over[name].pr_auc)


@dataclass(frozen=True)
class Verdict:
    """Whether a new model may score users, why, and the figures that say so."""

    good: bool
    words: str
    figures: dict[str, Any] = field(default_factory=dict)


def entry(trained: pl.DataFrame, trained_at: datetime, trained_model_version: int) -> Row:
    """The chosen model of `trained_model`, with the registry's columns that are not decided yet."""
    chosen = trained.filter("chosen").drop("chosen").row(0, named=True)
    return {
        **chosen,
        "model_version": chosen["sha256"][:_VERSION_LENGTH],
        "trained_at": trained_at,
        "trained_model_version": trained_model_version,
    }


# Stored models


def open_model(row: Row, part: str = "artifact") -> Model:
    """The model in a row, or with part="twin" its twin; SparkifyError if its bytes were altered."""
    recorded = row["sha256" if part == "artifact" else f"{part}_sha256"]
    found = hashlib.sha256(row[part]).hexdigest()
    if found != recorded:
        raise SparkifyError(
            f"The stored model {row['model']} was altered: its checksum is {found[:12]}..., "
            f"recorded was {recorded[:12]}.... Train again, or score with another version."
        )
    return models.load(row[part])


def usable(row: Row, columns: Sequence[str], horizon_days: int) -> Model:
    """The model in a row of the registry, if it can score a feature table with these columns.

    Raises SparkifyError where a feature is missing, the horizon is another or the bytes were
    altered.
    """
    version = row["model_version"]
    missing = [name for name in row["features"] if name not in columns]
    if missing:
        raise SparkifyError(
            f"The model version {version} needs features that the feature table does not have: "
            f"{', '.join(missing)}. Score with another version (python -m "
            "sparkify_assets.registry)."
        )
    if row["horizon_days"] != horizon_days:
        raise SparkifyError(
            f"The model version {version} looks {row['horizon_days']} days ahead, the feature "
            f"table {horizon_days}. Make the table with the model's horizon, or train again."
        )
    return open_model(row)


def live(registry: pl.DataFrame) -> dict[str, Any] | None:
    """The row of the model that scores users, if there is one."""
    rows = registry.filter(stage=LIVE)
    return rows.row(0, named=True) if rows.height else None


def of_then(registry: pl.DataFrame, as_of: date, horizon_days: int) -> dict[str, Any] | None:
    """The newest model that was live and had learned from a log that ended by `as_of`, if any is.

    Of models that were trained before `log_end` was kept it is not known.
    """
    was_live = pl.col("went_live_at").is_not_null()
    known = registry.filter(was_live, pl.col("log_end") <= as_of, horizon_days=horizon_days)
    return known.sort("log_end", "trained_at").row(-1, named=True) if known.height else None


def live_model(
    registry: pl.DataFrame, columns: Sequence[str], horizon_days: int
) -> tuple[Row, Model]:
    """The model that scores users and its row; SparkifyError where none can."""
    row = live(registry)
    if row is None:
        raise SparkifyError(none_is_live(registry))
    return row, usable(row, columns, horizon_days)


def none_is_live(registry: pl.DataFrame) -> str:
    """Why nothing scores, and what to do."""
    newest = registry.sort("trained_at").tail(1)
    said = [f"{v}: {why}" for v, why in newest.select("model_version", "decision").rows()]
    return (
        f"No model scores users. The newest is {' '.join(said) or 'none at all.'} Train on more, "
        "or take one all the same: python -m sparkify_assets.registry pin VERSION."
    )


# Comparing


def worth(predictions: pl.DataFrame, resamples: int = 1000) -> Worth:
    """Of the chosen procedure, from the forecast protocol's grouped `evaluation_predictions`."""
    wide = (
        predictions.filter(pl.col("repeat") == pl.col("repeat").min())
        .pivot("model", index=["user_id", "as_of", "label"], values="probability")
        .sort("user_id", "as_of")
    )
    users, label, chosen = (wide[name].to_numpy() for name in ("user_id", "label", CHOSEN))
    return Worth(
        roc_auc_interval(users, label, chosen, resamples),
        {
            name: paired_difference(users, label, chosen, wide[name].to_numpy(), resamples)
            for name in BASELINES
        },
    )


def compared(new: Row, present: Row, rows: pl.DataFrame, resamples: int = 1000) -> Difference:
    """The new model's twin minus the present one's, on the jury's rows of a feature table.

    `rows`: user_id, as_of, label and the features of both. Raises NotEnoughDataError where they
    cannot be compared.
    """
    for row in (new, present):
        if row["twin"] is None:
            raise NotEnoughDataError(
                f"without the jury too few users were left to fit {row['model_version']} again."
            )
    jury = rows.filter(splits.jury(rows["user_id"])).sort("user_id", "as_of")
    label = jury["label"].to_numpy().astype(bool)
    if not label.any() or label.all():
        raise NotEnoughDataError(f"all {len(label)} rows of the jury have the same outcome.")
    first, second = (open_model(row, "twin").predict(jury) for row in (new, present))
    return paired_difference(jury["user_id"].to_numpy(), label, first, second, resamples)


def judge(
    new: Row,
    present: Row | None,
    worth_of_new: Worth,
    rows: pl.DataFrame,
    resamples: int = 1000,
) -> Verdict:
    """Whether `new` may take over from `present`, with `rows` as in `compared`.

    A present model that cannot score these rows (features, horizon, altered bytes) counts as none.
    """
    unusable = ""
    try:
        if present:
            usable(present, rows.columns, new["horizon_days"])
    except SparkifyError as error:
        present, unusable = None, f" {error} So it is not compared with."
    beaten, words, figures = _against_baselines(worth_of_new, first=present is None)
    if present is None:
        return Verdict(beaten, words + unusable, figures)
    good, more, compared_figures = _against_present(new, present, rows, resamples)
    return Verdict(beaten and good, f"{words} {more}", figures | compared_figures)


def _against_baselines(found: Worth, *, first: bool) -> tuple[bool, str, dict[str, Any]]:
    """Better than guessing for sure, and than each simple rule as measured.

    Where no model scores yet, it is enough not to be clearly worse than a rule: with few churned
    users the difference is mostly luck, and what there is else is no score at all.
    """
    value, low, high = found.roc_auc
    nearest, ahead = found.nearest, found.over[found.nearest]
    figures = {
        "baseline": nearest,
        "baseline_difference": ahead.pr_auc,
        "baseline_share": ahead.share_above,
    }
    if low <= 0.5:
        words = f"Not told from guessing: ROC AUC {value:.3f} [{low:.3f}, {high:.3f}] out of fold."
        return False, words, figures
    better = ahead.pr_auc > 0
    passed = better or (first and ahead.high >= 0)
    how = "Better than" if better else "Not told from" if passed else "Not better than"
    rule = "every baseline; the nearest is " if better else ""
    return (
        passed,
        f"{how} {rule}{nearest.replace('_', ' ')}: PR AUC {_signed(ahead)} out of fold, higher in "
        f"{ahead.share_above:.0%} of resamples.",
        figures,
    )


def _against_present(
    new: Row, present: Row, rows: pl.DataFrame, resamples: int
) -> tuple[bool, str, dict[str, Any]]:
    """Not clearly worse; where that cannot be found out, the present one stays."""
    version = present["model_version"]
    figures: dict[str, Any] = {"compared_with": version}
    try:
        found = compared(new, present, rows, resamples)
    except SparkifyError as error:
        return False, f"Cannot be compared with {version}: {error}", figures
    figures |= {
        "difference": found.pr_auc,
        "ci_low": found.low,
        "ci_high": found.high,
        "log_loss_difference": found.log_loss,
        "jury_rows": found.rows,
        "jury_positives": found.positives,
    }
    good = found.high >= 0
    return (
        good,
        f"{'Not clearly' if good else 'Clearly'} worse than {version} on users that neither "
        f"learned from: PR AUC {_signed(found)}, log loss {found.log_loss:+.4f} "
        f"({found.positives:,} of {found.rows:,} rows churned).",
        figures,
    )


def _signed(found: Difference) -> str:
    return f"{found.pr_auc:+.3f} [{found.low:+.3f}, {found.high:+.3f}]"


# What follows


def consider(
    registry: pl.DataFrame,
    new: Row,
    worth_of_new: Worth,
    rows: pl.DataFrame,
    at: datetime,
    resamples: int = 1000,
) -> pl.DataFrame:
    """The registry after a training: the new model is live or refused, and why.

    `new` holds the columns that are not decided here; `rows` as in `compared`. A model that is
    live already changes nothing.
    """
    present = live(registry)
    if present and present["model_version"] == new["model_version"]:
        return registry
    return considered(registry, new, judge(new, present, worth_of_new, rows, resamples), at)


def considered(registry: pl.DataFrame, new: Row, verdict: Verdict, at: datetime) -> pl.DataFrame:
    """The registry with a new model, live or refused; one that was there before has one row still.

    A pinned model stays live whatever the verdict. `new` holds what is not decided here.
    """
    version, pins = new["model_version"], registry.filter("pinned")["model_version"].to_list()
    before = registry.filter(model_version=version)
    words = verdict.words
    if pins:
        otherwise = "would go live" if verdict.good else "would not go live in any case"
        words = f"{pins[0]} is pinned; without that this one {otherwise}. {words}"
    row = {
        **new,
        "stage": REFUSED,
        "pinned": False,
        "decision": words,
        "went_live_at": before["went_live_at"][0] if before.height else None,
        **verdict.figures,
    }
    added = pl.concat(
        [
            registry.filter(pl.col("model_version") != version),
            pl.DataFrame([row], schema=registry.schema),
        ]
    )
    return _put_live(added, version, at) if verdict.good and not pins else added


def pin(registry: pl.DataFrame, version: str, at: datetime) -> pl.DataFrame:
    """Let this version score users, whatever is trained, until `unpin`.

    `version` may be shortened as long as it is one version's. Raises SparkifyError if it is not,
    or if the stored model was altered.
    """
    row = _find(registry, version)
    open_model(row)
    version = row["model_version"]
    return _put_live(registry, version, at).with_columns(pinned=pl.col("model_version") == version)


def unpin(registry: pl.DataFrame) -> pl.DataFrame:
    """Let the next training decide again; until then the same version scores users."""
    if not registry["pinned"].any():
        raise SettingError("No version is pinned.")
    return registry.with_columns(pinned=pl.lit(False))


def rollback(registry: pl.DataFrame, at: datetime) -> pl.DataFrame:
    """Pin the version that was live before the present one, so that no training undoes it."""
    present = live(registry)
    earlier = registry.filter(pl.col("went_live_at").is_not_null()).sort("trained_at")
    if present:
        earlier = earlier.filter(pl.col("trained_at") < present["trained_at"])
    if earlier.is_empty():
        raise SettingError("There is no earlier version that was live.")
    return pin(registry, earlier["model_version"][-1], at)


def _put_live(registry: pl.DataFrame, version: str, at: datetime) -> pl.DataFrame:
    this, was_live = pl.col("model_version") == version, pl.col("stage") == LIVE
    return registry.with_columns(
        stage=pl.when(this)
        .then(pl.lit(LIVE))
        .when(was_live)
        .then(pl.lit(RETIRED))
        .otherwise("stage"),
        went_live_at=pl.when(this & ~was_live).then(pl.lit(at)).otherwise("went_live_at"),
    )


def _find(registry: pl.DataFrame, version: str) -> Row:
    rows = registry.filter(pl.col("model_version").str.starts_with(version))
    if not version or rows.height != 1:
        known = ", ".join(registry.sort("trained_at")["model_version"]) or "none"
        what = f"{rows.height} versions begin" if rows.height else "No version begins"
        raise SettingError(f"{what} with {version!r}. There are: {known}.")
    return rows.row(0, named=True)
