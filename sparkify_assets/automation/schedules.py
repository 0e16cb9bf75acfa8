"""Schedules: when a job is run. All are stopped until somebody switches them on.

Belongs here: times, and when a run would change nothing. Does not belong here: what is run
(`jobs.py`).
"""

import os
from collections.abc import Callable
from typing import Any

import dagster as dg

from sparkify_assets import learnable
from sparkify_assets.automation import news, runs
from sparkify_assets.automation.housekeeping import housekeeping
from sparkify_assets.automation.jobs import check_freshness, rescore, retrain
from sparkify_assets.datasets import DATASETS, Dataset
from sparkify_assets.errors import NotEnoughDataError, SettingError, SourceError
from sparkify_assets.resources.io_manager import LakeResource
from sparkify_assets.resources.lake import Lake

RESCORE_VARIABLE = "SPARKIFY_RESCORE_CRON"
RETRAIN_VARIABLE = "SPARKIFY_RETRAIN_CRON"
HOUSEKEEPING_VARIABLE = "SPARKIFY_HOUSEKEEPING_CRON"
_EVERY_DAY = "0 5 * * *"
_EVERY_MONDAY = "0 6 * * 1"
_EVERY_SUNDAY = "0 3 * * 0"
_EVERY_HOUR = "30 * * * *"


def schedules() -> list[dg.ScheduleDefinition]:
    """All schedules. Raises SettingError where a time cannot be understood."""
    to_rescore = _time(RESCORE_VARIABLE, _EVERY_DAY)
    to_retrain = _time(RETRAIN_VARIABLE, _EVERY_MONDAY)
    to_keep = _time(HOUSEKEEPING_VARIABLE, _EVERY_SUNDAY)
    return [
        schedule
        for each in DATASETS.values()
        for schedule in (
            rescore_daily(each, to_rescore),
            retrain_weekly(each, to_retrain),
            check_freshness_hourly(each, _EVERY_HOUR),
            housekeeping_weekly(each, to_keep),
        )
    ]


def _time(variable: str, default: str) -> str:
    """A cron expression from the environment, or the default."""
    given = os.environ.get(variable, "").strip() or default
    try:
        dg.ScheduleDefinition(name="tried", job_name="tried", cron_schedule=given)
    except dg.DagsterInvalidDefinitionError:
        raise SettingError(
            f"{variable}={given!r} is not a time to run at. Expected is a cron expression, in UTC: "
            f"minute, hour, day of the month, month, day of the week. Correct it, or unset it for "
            f"the default, {default!r}."
        ) from None
    return given


def rescore_daily(chosen: Dataset, cron: str) -> dg.ScheduleDefinition:
    """Scores a dataset anew, unless that would give what is there."""
    name = chosen.name

    def why_not(lake: Lake) -> str | None:
        if news.live_version(lake, name) is None:
            return _not_yet(name, "no model is live")
        if chosen.source and news.is_of_simulated(lake, name):
            return _not_yet(name, "the live model learned from a simulated log")
        if not chosen.source and news.was_given(lake, name):
            return (
                "its log was named in a launchpad; a simulated one would take its place. Name it "
                f"in {chosen.source_variable}."
            )
        if news.is_scored(lake, name) and _log_is_as_it_was(lake, chosen):
            return "the log and the live model are as at the last scoring."
        return None

    return _schedule(
        chosen,
        rescore,
        "daily",
        cron,
        f"Scores the users of {name} anew, by the model that is live, where the log or that model "
        f"has changed. When: {RESCORE_VARIABLE}, by default every day at 05:00 UTC.",
        why_not,
    )


def _log_is_as_it_was(lake: Lake, chosen: Dataset) -> bool:
    """Not where the source cannot be reached: then a run says so for everybody to see."""
    try:
        return news.log_now(chosen) == news.log_then(lake, chosen.name)
    except SourceError:
        return False


def retrain_weekly(chosen: Dataset, cron: str) -> dg.ScheduleDefinition:
    """Trains a model of a dataset."""
    name = chosen.name

    def why_not(lake: Lake) -> str | None:
        if not lake.exists(name, "feature_table"):
            return _not_yet(name, "there is no feature table")
        try:
            learnable.check(lake, name, lake.version(name, "feature_table"))
        except NotEnoughDataError as error:
            return str(error)
        return None

    return _schedule(
        chosen,
        retrain,
        "weekly",
        cron,
        f"Trains a new model on the feature table of {name}, which goes live only if it is good "
        f"enough. When: {RETRAIN_VARIABLE}, by default on Mondays at 06:00 UTC.",
        why_not,
    )


def check_freshness_hourly(chosen: Dataset, cron: str) -> dg.ScheduleDefinition:
    """Looks whether a dataset's scores have become too old."""
    said = f"Checks that the scores of {chosen.name} are young enough, though nothing else runs."
    return _schedule(chosen, check_freshness, "hourly", cron, said)


def housekeeping_weekly(chosen: Dataset, cron: str) -> dg.ScheduleDefinition:
    """Keeps a dataset's tables small."""
    said = (
        f"Puts small files of {chosen.name} together and removes old versions. When: "
        f"{HOUSEKEEPING_VARIABLE}, by default on Sundays at 03:00 UTC."
    )
    return _schedule(chosen, housekeeping, "weekly", cron, said)


def _schedule(
    chosen: Dataset,
    job: Any,
    often: str,
    cron: str,
    description: str,
    why_not: Callable[[Lake], str | None] = lambda lake: None,
) -> dg.ScheduleDefinition:
    """Asks for a job on a dataset, unless `why_not` has a reason or such a run is under way."""
    name = chosen.name

    @dg.schedule(
        cron,
        name=f"{job.name}_{name}_{often}",
        job=job,
        execution_timezone="UTC",
        description=description,
    )
    def scheduled(
        context: dg.ScheduleEvaluationContext, lake: LakeResource
    ) -> dg.RunRequest | dg.SkipReason:
        runs.end_lost(context.instance)
        # Another one of the same would find nothing left to do; those of other jobs queue.
        if runs.is_under_way(context.instance, name, job.name):
            return dg.SkipReason(f"{name}: such a run is queued or under way already.")
        reason = why_not(lake.lake)
        return dg.SkipReason(f"{name}: {reason}") if reason else dg.RunRequest(partition_key=name)

    return scheduled


def _not_yet(name: str, reason: str) -> str:
    return f"{reason}. Run the job `everything` for {name} first."
