"""The sensor that starts a run when a dataset's source has new or changed files.

Belongs here: when to ask for a run, and saying why not. Does not belong here: what a source looks
like from outside (`events/source.py`), what has changed (`news.py`), and what is enough to learn
from (`learnable.py`).
"""

import json
import os
from dataclasses import asdict, dataclass

import dagster as dg

from sparkify_assets import learnable
from sparkify_assets.automation import news, runs
from sparkify_assets.automation.jobs import prepare, rescore, retrain
from sparkify_assets.datasets import DATASETS, Dataset
from sparkify_assets.errors import NotEnoughDataError, SettingError, SourceError
from sparkify_assets.resources.io_manager import LakeResource
from sparkify_assets.resources.lake import Lake

LOOK_VARIABLE = "SPARKIFY_LOOK_SECONDS"
_LOOK_SECONDS = 30


@dataclass(frozen=True)
class Seen:
    """What the cursor remembers of a dataset whose files are not those of the last ingest."""

    digest: str
    requested: bool = False


@dataclass(frozen=True)
class Found:
    """What came of looking at a dataset's source."""

    words: str
    seen: Seen | None = None
    request: dg.RunRequest | None = None


def sensors() -> list[dg.SensorDefinition]:
    """All sensors. Raises SettingError where how often they look cannot be understood."""
    return [new_log_files(_seconds(LOOK_VARIABLE, _LOOK_SECONDS))]


def _seconds(variable: str, default: int) -> int:
    """A whole number of seconds from the environment, or the default."""
    given = os.environ.get(variable, "").strip() or str(default)
    if not (given.isascii() and given.isdigit() and int(given)):
        raise SettingError(
            f"{variable}={given!r} is not a time from one look to the next. Expected is a whole "
            f"number of seconds, at least 1. Correct it, or unset it for the default, {default}."
        )
    return int(given)


def new_log_files(seconds: int) -> dg.SensorDefinition:
    """Looks at the sources of all datasets, every so many seconds."""

    @dg.sensor(
        name="new_log_files",
        jobs=[prepare, rescore, retrain],
        minimum_interval_seconds=seconds,
        description=(
            "Starts a run of a dataset whose source has new or changed files, once they no longer "
            "change from one look to the next: `rescore` where a model is live, else `prepare`; "
            "and `retrain` for a first model, as soon as there is enough to learn from. How often "
            f"it looks: {LOOK_VARIABLE}, by default every {_LOOK_SECONDS} seconds."
        ),
    )
    def sensor(context: dg.SensorEvaluationContext, lake: LakeResource) -> dg.SensorResult:
        runs.end_lost(context.instance)
        before = {name: Seen(**seen) for name, seen in json.loads(context.cursor or "{}").items()}
        found = {
            name: _look(dataset, lake.lake, before.get(name), context.instance)
            for name, dataset in DATASETS.items()
        }
        said = "; ".join(f"{name}: {each.words}" for name, each in found.items())
        context.log.info(said)
        requests = [each.request for each in found.values() if each.request]
        seen = {name: asdict(each.seen) for name, each in found.items() if each.seen}
        return dg.SensorResult(
            run_requests=requests,
            skip_reason=None if requests else said,
            cursor=json.dumps(seen),
        )

    return sensor


def _look(dataset: Dataset, lake: Lake, before: Seen | None, instance: dg.DagsterInstance) -> Found:
    """Compare a dataset's source with its last ingest and with the last look.

    Files start a run when two looks in a row find them the same, so that none is read while it is
    still being written.
    """
    if runs.is_under_way(instance, dataset.name):
        # It may be about to take the files in.
        return Found("a run is queued or under way", before)
    if not dataset.source:
        return Found("simulated, has no source")
    try:
        now = news.log_now(dataset)
    except SourceError as error:
        return Found(f"cannot be looked at: {error}", before)
    files = f"{now.files:,} file{'' if now.files == 1 else 's'}"
    if now == news.log_then(lake, dataset.name):
        return _taken_in(dataset, lake, f"{files}, as at the last ingest", instance)
    if before is None or before.digest != now.digest:
        return Found(
            f"{files}, not as at the last ingest; next time a run, if they stay so",
            Seen(now.digest),
        )
    seen = Seen(now.digest, requested=True)
    if before.requested:
        return Found(f"{files}, not taken in by the run that was asked for: see what it said", seen)
    job = rescore if news.can_score(lake, dataset.name) else prepare
    request = dg.RunRequest(
        # With the ingest, as files that come back as they once were are news as well.
        run_key=f"{dataset.name}-{now.digest}-after-{news.ingests(lake, dataset.name)}",
        partition_key=dataset.name,
        job_name=job.name,
    )
    return Found(f"{files}, not as at the last ingest: {job.name} is asked for", seen, request)


def _taken_in(dataset: Dataset, lake: Lake, files: str, instance: dg.DagsterInstance) -> Found:
    """Without news of the source: is there a first model to be trained?"""
    name = dataset.name
    if not news.is_prepared(lake, name):
        return Found(f"{files}, but the features are not made of it: see what the run said")
    if news.can_score(lake, name):
        scored = news.is_scored(lake, name)
        return Found(files if scored else f"{files}, but not scored: see what the run said")
    features = lake.version(name, "feature_table")
    # With its run, as a lake that was removed begins again at version 0. Not with its time, which
    # is another one when housekeeping has put files together.
    run_key = f"{name}-features-{features.number}-of-{features.metadata.get('run_id')}"
    if runs.was_asked_for(instance, run_key):
        return Found(
            f"{files}; no model went live: see what `retrain` said; the next try is with "
            "the next new files"
        )
    try:
        learnable.check(lake, name, features)
    except NotEnoughDataError as error:
        return Found(f"{files}; no model is live, and none can be trained yet: {error}")
    request = dg.RunRequest(run_key=run_key, partition_key=name, job_name=retrain.name)
    return Found(f"{files}; no model is live: {retrain.name} is asked for", request=request)
