"""The sensor that starts a run when a dataset's source has new or changed files.

Belongs here: when to ask for a run, and saying why not. Does not belong here: what a source looks
like from outside (`events/source.py`), and what has changed (`news.py`).
"""

import json
from dataclasses import asdict, dataclass

import dagster as dg

from sparkify_assets.automation import news
from sparkify_assets.automation.jobs import everything, rescore
from sparkify_assets.datasets import DATASETS, Dataset
from sparkify_assets.errors import SourceError
from sparkify_assets.resources.io_manager import LakeResource
from sparkify_assets.resources.lake import Lake

_UNDER_WAY = [
    dg.DagsterRunStatus.QUEUED,
    dg.DagsterRunStatus.NOT_STARTED,
    dg.DagsterRunStatus.STARTING,
    dg.DagsterRunStatus.STARTED,
    dg.DagsterRunStatus.CANCELING,
]


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


@dg.sensor(
    jobs=[everything, rescore],
    minimum_interval_seconds=30,
    description=(
        "Starts a run of a dataset whose source has new or changed files, once they no longer "
        "change from one look to the next: `rescore` where a model is live, else `everything`."
    ),
)
def new_log_files(context: dg.SensorEvaluationContext, lake: LakeResource) -> dg.SensorResult:
    before = {name: Seen(**seen) for name, seen in json.loads(context.cursor or "{}").items()}
    found = {
        name: _under_way(context.instance, name, before.get(name))
        or look(dataset, lake.lake, before.get(name))
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


def _under_way(instance: dg.DagsterInstance, name: str, before: Seen | None) -> Found | None:
    """A run of the dataset may be about to take the files in."""
    runs = dg.RunsFilter(tags={"dagster/partition": name}, statuses=_UNDER_WAY)
    if not instance.get_runs_count(runs):
        return None
    return Found("a run is queued or under way", before)


def look(dataset: Dataset, lake: Lake, before: Seen | None) -> Found:
    """Compare a dataset's source with its last ingest and with the last look.

    Files start a run when two looks in a row find them the same, so that none is read while it is
    still being written.
    """
    if not dataset.source:
        return Found("simulated, has no source")
    try:
        now = news.log_now(dataset)
    except SourceError as error:
        return Found(f"cannot be looked at: {error}", before)
    files = f"{now.files:,} file{'' if now.files == 1 else 's'}"
    if now == news.log_then(lake, dataset.name):
        return Found(f"{files}, as at the last ingest")
    if before is None or before.digest != now.digest:
        return Found(
            f"{files}, not as at the last ingest; next time a run, if they stay so",
            Seen(now.digest),
        )
    seen = Seen(now.digest, requested=True)
    if before.requested:
        return Found(f"{files}, not taken in by the run that was asked for: see what it said", seen)
    # A model of made-up users says nothing of real ones.
    can_score = news.live_version(lake, dataset.name) and not news.is_of_simulated(
        lake, dataset.name
    )
    job = rescore if can_score else everything
    request = dg.RunRequest(
        # With the ingest, as files that come back as they once were are news as well.
        run_key=f"{dataset.name}-{now.digest}-after-{news.ingests(lake, dataset.name)}",
        partition_key=dataset.name,
        job_name=job.name,
    )
    return Found(f"{files}, not as at the last ingest: {job.name} is asked for", seen, request)
