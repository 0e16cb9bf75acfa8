"""From which columns of which tables each column comes, from the scores back to the raw events.

Belongs here: the lineage of columns between tables. What days, labels and features are made of is
read off the expressions that compute them (`made_of`); the other tables' is said here.
Does not belong here: the columns themselves (`tables.py`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from functools import cache

from sparkify_assets.churn import days, features, labels
from sparkify_assets.tables import (
    CHURN_FACTORS,
    CLEANED_EVENTS,
    EVALUATION_METRICS,
    EVALUATION_PREDICTIONS,
    LIVE_METRICS,
    MODEL_REGISTRY,
    MODEL_TRIALS,
    SCORE_OUTCOMES,
    TRAINED_MODEL,
)

Origin = tuple[str, str]  # table, column
Lineage = dict[str, list[Origin]]  # by column

_REPAIRED = {
    "event_time": ["ts"],
    "registered_at": ["registration"],
    "state": ["location"],
    "os": ["user_agent"],
    "browser": ["user_agent"],
    "device": ["user_agent"],
    "artist_key": ["artist"],
    "song_key": ["song", "artist"],
}
_ROW = ("protocol", "user_id", "as_of")
_LEARNED_OF_KINDS = ("share", "words", "chances", "visits")
_MOVED = ("user_id", "day", "moves")
# Of the registry: what is copied from the training, and what is measured on the predictions.
_OF_REGISTRY = (
    "model_version",
    "stage",
    "pinned",
    "decision",
    "went_live_at",
    "compared_with",
    "trained_at",
    "trained_model_version",
)
_WORTH = ("baseline", "baseline_difference", "baseline_share", "decision", "stage")
_OF_JURY = (
    "difference",
    "ci_low",
    "ci_high",
    "log_loss_difference",
    "jury_rows",
    "jury_positives",
    "decision",
    "stage",
)
_EVENTS_BEFORE: list[Origin] = [("user_days", name) for name in ("user_id", "day", "events")]


@cache
def lineage(table: str) -> Lineage:
    """The origins of a table's columns; of the first tables, made of the log itself, none."""
    return _LINEAGES[table]() if table in _LINEAGES else {}


def made_of(table: str) -> list[str]:
    """The tables that a table's columns come from."""
    found = (origin for origins in lineage(table).values() for origin, _ in origins)
    return list(dict.fromkeys(found))


def _from(table: str, columns: Mapping[str, Iterable[str]]) -> Lineage:
    return {name: [(table, of) for of in sorted(origins)] for name, origins in columns.items()}


def _same(table: str, columns: Iterable[str]) -> Lineage:
    return _from(table, {name: [name] for name in columns})


def _all(columns: Iterable[str], origins: list[Origin]) -> Lineage:
    return dict.fromkeys(columns, origins)


def _cleaned_events() -> Lineage:
    return _from("raw_events", {name: _REPAIRED.get(name, [name]) for name in CLEANED_EVENTS.names})


def _feature_table() -> Lineage:
    rows: Lineage = {
        "user_id": [("user_labels", "user_id")],
        "as_of": [("user_labels", name) for name in ("first_event_at", "last_event_at")],
        "label": [("user_labels", "churned_at")],
    }
    return _from("user_days", features.made_of()) | rows


def _learned(*more: Origin) -> list[Origin]:
    """What a model that learns from the core features is made of."""
    learned = ("user_id", "as_of", *features.CORE, "label")
    return [*(("feature_table", name) for name in learned), *more]


def _trained_model() -> Lineage:
    known = {"libraries", "horizon_days", "feature_table_version", "log_end"}
    fitted = [name for name in TRAINED_MODEL.names if name not in known]
    return _all(fitted, _learned(("model_trials", "settings")))


def _evaluation_predictions() -> Lineage:
    learned = [n for n in EVALUATION_PREDICTIONS.names if n not in (*_ROW, "label", "repeat")]
    everything = [("feature_table", name) for name in (*_ROW, *features.FEATURE_NAMES, "label")]
    return _all(learned, everything) | _same("feature_table", (*_ROW, "label"))


def _evaluation_metrics() -> Lineage:
    predicted = ("label", "probability", "user_id", "as_of", "repeat")
    measured: list[Origin] = [("evaluation_predictions", name) for name in predicted]
    tested = ("protocol", "estimate", "model")
    columns = [name for name in EVALUATION_METRICS.names if name not in (*tested, "metric")]
    return _all(columns, measured) | _same("evaluation_predictions", tested)


def _model_registry() -> Lineage:
    copied = set(MODEL_REGISTRY.names) & set(TRAINED_MODEL.names) - {"chosen"}
    artifact: Origin = ("trained_model", "artifact")
    found = _same("trained_model", copied) | _all(_OF_REGISTRY, [artifact])
    predicted = ("label", "probability", "user_id", "as_of")
    worth: list[Origin] = [("evaluation_predictions", name) for name in predicted]
    for columns, origins in ((_WORTH, worth), (_OF_JURY, [("trained_model", "twin"), *_learned()])):
        for name in columns:
            found[name] = [*found.get(name, []), *origins]
    return found


def _churn_factors() -> Lineage:
    words = {"feature", "theme", "meaning", "unit"}
    described = [n for n in CHURN_FACTORS.names if n.startswith(("churned_", "stayed_"))]
    ranked = [n for n in CHURN_FACTORS.names if n not in (*words, *described)]
    artifact: Origin = ("model_registry", "artifact")
    return (
        _all(words, [("model_registry", "features")])
        | _all(described, _learned())
        | _all(ranked, [artifact, *_learned()])
    )


def _churn_scores() -> Lineage:
    looked_at: list[Origin] = [("feature_table", name) for name in features.CORE]
    scored = ("probability", "risk_decile", "reason_1", "reason_2", "reason_3")
    return (
        _same("feature_table", ("user_id", "as_of"))
        | _all(scored, [("model_registry", "artifact"), *looked_at])
        | {
            "level": [("feature_table", "is_paid")],
            "model_version": [("model_registry", "model_version")],
            "flagged": [
                ("model_registry", "artifact"),
                ("model_registry", "threshold"),
                *looked_at,
            ],
            "events_known": _EVENTS_BEFORE,
        }
    )


def _score_outcomes() -> Lineage:
    happened: Lineage = {
        **_all(
            ("churned", "churned_at"), [("user_labels", "churned_at"), ("churn_scores", "as_of")]
        ),
        "late_events": [("churn_scores", "events_known"), *_EVENTS_BEFORE],
    }
    scored = (name for name in SCORE_OUTCOMES.names if name not in happened)
    return _same("churn_scores", scored) | happened


def _live_metrics() -> Lineage:
    seen = ("user_id", "as_of", "probability", "flagged", "churned", "churned_at", "backfilled")
    columns = [name for name in LIVE_METRICS.names if name not in ("week", "metric")]
    return _from(
        "score_outcomes", {"week": ["as_of"]} | dict.fromkeys(columns, (*seen, "late_events"))
    )


_LINEAGES: dict[str, Callable[[], Lineage]] = {
    "cleaned_events": _cleaned_events,
    "label_days": lambda: _from("cleaned_events", labels.made_of_events()),
    "user_labels": lambda: _from("label_days", labels.made_of()),
    "user_days": lambda: _from("cleaned_events", days.made_of()),
    "user_kinds": lambda: _all(_LEARNED_OF_KINDS, [("user_days", name) for name in _MOVED]),
    "feature_table": _feature_table,
    "model_trials": lambda: _all(MODEL_TRIALS.names, _learned()),
    "trained_model": _trained_model,
    "evaluation_predictions": _evaluation_predictions,
    "evaluation_metrics": _evaluation_metrics,
    "model_registry": _model_registry,
    "churn_factors": _churn_factors,
    "churn_scores": _churn_scores,
    "score_outcomes": _score_outcomes,
    "live_metrics": _live_metrics,
}
