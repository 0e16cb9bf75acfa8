"""Schedules: when a job is run. All are stopped until somebody switches them on.

Belongs here: times, and when a run would change nothing. Does not belong here: what is run
(`jobs.py`).
"""

import os

import dagster as dg

from sparkify_assets.automation import news
from sparkify_assets.automation.jobs import check_freshness, rescore, retrain
from sparkify_assets.datasets import Dataset, dataset
from sparkify_assets.errors import SettingError, SourceError
from sparkify_assets.resources.io_manager import LakeResource
from sparkify_assets.resources.lake import Lake

RESCORE_VARIABLE = "SPARKIFY_RESCORE_CRON"
RETRAIN_VARIABLE = "SPARKIFY_RETRAIN_CRON"
_EVERY_DAY = "0 5 * * *"
_EVERY_MONDAY = "0 6 * * 1"
_EVERY_HOUR = "30 * * * *"


def schedules() -> list[dg.ScheduleDefinition]:
    """All schedules, of `full`. Raises SettingError where a time cannot be understood."""
    full = dataset("full")
    return [
        rescore_daily(full, _time(RESCORE_VARIABLE, _EVERY_DAY)),
        retrain_weekly(full, _time(RETRAIN_VARIABLE, _EVERY_MONDAY)),
        check_freshness_hourly(full, _EVERY_HOUR),
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

    @dg.schedule(
        cron,
        name=f"rescore_{name}_daily",
        job=rescore,
        execution_timezone="UTC",
        description=(
            f"Scores the users of {name} anew, by the model that is live, where the log or that "
            f"model has changed. When: {RESCORE_VARIABLE}, by default every day at 05:00 UTC."
        ),
    )
    def scheduled(lake: LakeResource) -> dg.RunRequest | dg.SkipReason:
        if news.live_version(lake.lake, name) is None:
            return _not_yet(name, "no model is live")
        if chosen.source and news.is_of_simulated(lake.lake, name):
            return _not_yet(name, "the live model learned from a simulated log")
        if not chosen.source and news.was_given(lake.lake, name):
            return dg.SkipReason(
                f"{name}: its log was named in a launchpad; a simulated one would take its place. "
                f"Name it in {chosen.source_variable}."
            )
        if news.is_scored(lake.lake, name) and _log_is_as_it_was(lake.lake, chosen):
            return dg.SkipReason(f"{name}: the log and the live model are as at the last scoring.")
        return dg.RunRequest(partition_key=name)

    return scheduled


def _log_is_as_it_was(lake: Lake, chosen: Dataset) -> bool:
    """Not where the source cannot be reached: then a run says so for everybody to see."""
    try:
        return news.log_now(chosen) == news.log_then(lake, chosen.name)
    except SourceError:
        return False


def retrain_weekly(chosen: Dataset, cron: str) -> dg.ScheduleDefinition:
    """Trains a model of a dataset."""
    name = chosen.name

    @dg.schedule(
        cron,
        name=f"retrain_{name}_weekly",
        job=retrain,
        execution_timezone="UTC",
        description=(
            f"Trains a new model on the feature table of {name}, which goes live only if it is "
            f"good enough. When: {RETRAIN_VARIABLE}, by default on Mondays at 06:00 UTC."
        ),
    )
    def scheduled(lake: LakeResource) -> dg.RunRequest | dg.SkipReason:
        if not lake.lake.exists(name, "feature_table"):
            return _not_yet(name, "there is no feature table")
        return dg.RunRequest(partition_key=name)

    return scheduled


def check_freshness_hourly(chosen: Dataset, cron: str) -> dg.ScheduleDefinition:
    """Looks whether a dataset's scores have become too old."""
    name = chosen.name

    @dg.schedule(
        cron,
        name=f"check_freshness_{name}_hourly",
        job=check_freshness,
        execution_timezone="UTC",
        description=f"Checks that the scores of {name} are young enough, though nothing else runs.",
    )
    def scheduled() -> dg.RunRequest:
        return dg.RunRequest(partition_key=name)

    return scheduled


def _not_yet(name: str, reason: str) -> dg.SkipReason:
    return dg.SkipReason(f"{name}: {reason}. Run the job `everything` for {name} first.")
