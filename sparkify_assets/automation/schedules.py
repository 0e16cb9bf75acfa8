"""Schedules: when a job is run. All are stopped until somebody switches them on.

Belongs here: times, and when a run would change nothing. Does not belong here: what is run
(`jobs.py`).
"""

import os

import dagster as dg

from sparkify_assets.automation import news
from sparkify_assets.automation.jobs import check_freshness, rescore, retrain
from sparkify_assets.datasets import DATASETS
from sparkify_assets.errors import SettingError, SourceError
from sparkify_assets.resources.io_manager import LakeResource

RESCORE_VARIABLE = "SPARKIFY_RESCORE_CRON"
RETRAIN_VARIABLE = "SPARKIFY_RETRAIN_CRON"
_EVERY_DAY = "0 5 * * *"
_EVERY_MONDAY = "0 6 * * 1"
_EVERY_HOUR = "30 * * * *"
_FULL = DATASETS["full"]


def schedules() -> list[dg.ScheduleDefinition]:
    """All schedules, of `full`. Raises SettingError where a time cannot be understood."""
    return [
        _rescore_daily(_time(RESCORE_VARIABLE, _EVERY_DAY)),
        _retrain_weekly(_time(RETRAIN_VARIABLE, _EVERY_MONDAY)),
        _check_hourly(),
    ]


def _time(variable: str, default: str) -> str:
    """A cron expression from the environment, or the default."""
    given = os.environ.get(variable, "").strip() or default
    try:
        dg.ScheduleDefinition(name="tried", job_name="tried", cron_schedule=given)
    except dg.DagsterInvalidDefinitionError as error:
        raise SettingError(
            f"{variable}={given!r} is not a time to run at. Expected is a cron expression in UTC: "
            "minute, hour, day of the month, month, day of the week, such as "
            f"{default!r}. Correct it, or unset it to run at {default!r}."
        ) from error
    return given


def _rescore_daily(cron: str) -> dg.ScheduleDefinition:
    @dg.schedule(
        cron,
        name="rescore_full_daily",
        job=rescore,
        execution_timezone="UTC",
        description=(
            "Scores the users of full anew, by the model that is live, where its log or that model "
            f"has changed. When: {RESCORE_VARIABLE}, by default every day at 05:00 UTC."
        ),
    )
    def rescore_full_daily(lake: LakeResource) -> dg.RunRequest | dg.SkipReason:
        if news.live_version(lake.lake, _FULL.name) is None:
            return _not_yet("no model is live")
        if news.is_scored(lake.lake, _FULL.name) and _log_is_as_it_was(lake):
            return dg.SkipReason("full: the log and the live model are as at the last scoring.")
        return dg.RunRequest(partition_key=_FULL.name)

    return rescore_full_daily


def _log_is_as_it_was(lake: LakeResource) -> bool:
    """Not where the source cannot be reached: then a run says so for everybody to see."""
    try:
        return news.log_now(_FULL) == news.log_then(lake.lake, _FULL.name)
    except SourceError:
        return False


def _retrain_weekly(cron: str) -> dg.ScheduleDefinition:
    @dg.schedule(
        cron,
        name="retrain_full_weekly",
        job=retrain,
        execution_timezone="UTC",
        description=(
            "Trains a new model on the feature table of full, which goes live only if it is good "
            f"enough. When: {RETRAIN_VARIABLE}, by default on Mondays at 06:00 UTC."
        ),
    )
    def retrain_full_weekly(lake: LakeResource) -> dg.RunRequest | dg.SkipReason:
        if not lake.lake.exists(_FULL.name, "feature_table"):
            return _not_yet("there is no feature table")
        return dg.RunRequest(partition_key=_FULL.name)

    return retrain_full_weekly


def _check_hourly() -> dg.ScheduleDefinition:
    @dg.schedule(
        _EVERY_HOUR,
        name="check_freshness_full_hourly",
        job=check_freshness,
        execution_timezone="UTC",
        description="Checks that the scores of full are young enough, also when nothing else runs.",
    )
    def check_freshness_full_hourly() -> dg.RunRequest:
        return dg.RunRequest(partition_key=_FULL.name)

    return check_freshness_full_hourly


def _not_yet(reason: str) -> dg.SkipReason:
    return dg.SkipReason(f"full: {reason}. Run the job `everything` for full first.")
