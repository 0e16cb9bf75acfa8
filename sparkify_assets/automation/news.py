"""What has changed since a dataset was last run.

Belongs here: comparing its source, its tables and its live model with what was made of them.
Does not belong here: what is done about it (`schedules.py`, `sensors.py`).
"""

from itertools import pairwise

from sparkify_assets.churn import registry
from sparkify_assets.datasets import Dataset
from sparkify_assets.events import log, source
from sparkify_assets.events.source import Fingerprint
from sparkify_assets.resources.lake import Lake
from sparkify_assets.tables import MODEL_REGISTRY

_LOG = "raw_events"
_SCORES = "churn_scores"
_FROM_LOG_TO_FEATURES = (_LOG, "cleaned_events", "user_days", "feature_table")


def log_now(dataset: Dataset) -> Fingerprint:
    """Of the log that an ingest would read now. Raises SourceError."""
    if dataset.source:
        return source.look(dataset.source, variable=dataset.source_variable)
    return log.simulated_fingerprint(
        dataset.name, users=dataset.users, days=dataset.days, seed=dataset.seed
    )


def log_then(lake: Lake, dataset: str) -> Fingerprint | None:
    """Of the log that is in the lake, where that is known."""
    known = lake.exists(dataset, _LOG) and lake.version(dataset, _LOG).metadata.get("fingerprint")
    return Fingerprint(**known) if known else None


def ingests(lake: Lake, dataset: str) -> int:
    """How many times a log was ingested."""
    return lake.version(dataset, _LOG).number + 1 if lake.exists(dataset, _LOG) else 0


def live_version(lake: Lake, dataset: str) -> str | None:
    """The version of the model that scores, where one is live."""
    if not lake.exists(dataset, MODEL_REGISTRY.name):
        return None
    known = lake.read_polars(dataset, MODEL_REGISTRY, ["model_version", "stage"])
    live = registry.live(known)
    return live["model_version"] if live else None


def is_of_simulated(lake: Lake, dataset: str) -> bool:
    """Whether the models learned from a simulated log."""
    known = lake.exists(dataset, MODEL_REGISTRY.name)
    return known and bool(lake.version(dataset, MODEL_REGISTRY.name).metadata.get("simulated"))


def can_score(lake: Lake, dataset: str) -> bool:
    """Whether a model is live that may score a real log: one of made-up users may not."""
    return bool(live_version(lake, dataset)) and not is_of_simulated(lake, dataset)


def was_given(lake: Lake, dataset: str) -> bool:
    """Whether the log in the lake is a real one."""
    known = lake.exists(dataset, _LOG)
    return known and lake.version(dataset, _LOG).metadata.get("simulated") is False


def is_prepared(lake: Lake, dataset: str) -> bool:
    """Whether the features are of the log that is in the lake."""
    return _is_made(lake, dataset, *_FROM_LOG_TO_FEATURES)


def is_scored(lake: Lake, dataset: str) -> bool:
    """Whether the scores are of the log and by the live model that are in the lake."""
    if not _is_made(lake, dataset, *_FROM_LOG_TO_FEATURES, _SCORES):
        return False
    model = lake.version(dataset, _SCORES).metadata.get("model_version")
    return model == live_version(lake, dataset)


def _is_made(lake: Lake, dataset: str, *names: str) -> bool:
    """Whether each of these tables is of the newest version of the one before it."""
    if not all(lake.exists(dataset, name) for name in names):
        return False
    versions = {name: lake.version(dataset, name) for name in names}
    return all(
        versions[made].metadata.get(of) == versions[of].number for of, made in pairwise(names)
    )
