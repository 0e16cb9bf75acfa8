"""Which errors are tried again, how often, after how long; and which are not."""

import json
import subprocess
import sys
from typing import Any

import dagster as dg
import pytest

from sparkify_assets import retries
from sparkify_assets.assets.declaring import as_step
from sparkify_assets.errors import ConflictError, SourceError, UnreachableError
from sparkify_assets.retries import MOST_RETRIES, RETRIES_TAG, for_dagster


def materialized(
    *errors: Exception, monkeypatch: pytest.MonkeyPatch, tags: dict[str, str] | None = None
) -> tuple[dg.ExecuteInProcessResult, int]:
    """A run of an asset that raises these errors, one a try; how often it was tried."""
    monkeypatch.setattr(retries, "FIRST_PAUSE_SECONDS", 0.001)
    tried = 0

    @dg.asset
    @as_step()
    def unlucky(context: dg.AssetExecutionContext) -> None:
        nonlocal tried
        tried += 1
        if tried <= len(errors):
            raise errors[tried - 1]

    result = dg.materialize([unlucky], raise_on_error=False, tags=tags)
    return result, tried


def said(result: dg.ExecuteInProcessResult) -> str:
    (failure,) = result.get_step_failure_events()
    data: Any = failure.event_specific_data
    return data.user_failure_data.description


def test_what_may_pass_is_tried_again(monkeypatch: pytest.MonkeyPatch) -> None:
    passing = [UnreachableError("no answer"), ConflictError("changed"), TimeoutError("slow")]
    result, tried = materialized(*passing, monkeypatch=monkeypatch)
    assert result.success
    assert tried == 4


def test_what_does_not_pass_is_said_at_last(monkeypatch: pytest.MonkeyPatch) -> None:
    result, tried = materialized(*[UnreachableError("no answer")] * 9, monkeypatch=monkeypatch)
    assert not result.success
    assert tried == 1 + MOST_RETRIES
    assert said(result) == "no answer"


def test_what_cannot_pass_is_said_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    result, tried = materialized(SourceError("no log there"), monkeypatch=monkeypatch)
    assert not result.success
    assert tried == 1
    assert said(result) == "no log there"


def test_a_fault_of_the_program_is_not_tried_again(monkeypatch: pytest.MonkeyPatch) -> None:
    result, tried = materialized(ZeroDivisionError("a fault"), monkeypatch=monkeypatch)
    assert not result.success
    assert tried == 1


def test_nothing_is_tried_again_where_somebody_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    result, tried = materialized(
        UnreachableError("no answer"), monkeypatch=monkeypatch, tags={RETRIES_TAG: "no"}
    )
    assert not result.success
    assert tried == 1


def test_pauses_double() -> None:
    pauses = [for_dagster(TimeoutError(), attempt=n, tags={}) for n in range(MOST_RETRIES)]
    assert all(isinstance(pause, dg.RetryRequested) for pause in pauses)
    seconds = [pause.seconds_to_wait for pause in pauses]  # type: ignore[attr-defined]
    assert seconds == [20.0, 40.0, 80.0]
    last = for_dagster(TimeoutError("slow"), attempt=MOST_RETRIES, tags={})
    assert isinstance(last, dg.Failure)


# A process of its own, since others here need its JVM.
SPARK_DIES = """
import json
import dagster as dg
from pyspark import SparkContext
from sparkify_assets import retries
from sparkify_assets.assets.declaring import as_step
from sparkify_assets.resources.spark import SparkResource

retries.FIRST_PAUSE_SECONDS = 0.001
counts = []

@dg.asset
@as_step()
def unlucky(context: dg.AssetExecutionContext, pyspark: SparkResource) -> None:
    spark = pyspark.spark_session
    if len(counts) != 1:
        counts.append(0)
        SparkContext._gateway.proc.kill()
    counts.append(spark.range(5).count())

idle_tries = []

@dg.asset(deps=[unlucky])
@as_step()
def idle(context: dg.AssetExecutionContext, pyspark: SparkResource) -> None:
    idle_tries.append(context.retry_number)
    if len(idle_tries) == 1:
        SparkContext._gateway.proc.kill()

said = []
for tags in ({}, {retries.RETRIES_TAG: "no"}):
    result = dg.materialize(
        [unlucky, idle], resources={"pyspark": SparkResource(master="local[1]")},
        raise_on_error=False, tags=tags,
    )
    failed = result.get_step_failure_events()
    said.append([each.event_specific_data.user_failure_data.description for each in failed])
print(json.dumps([counts, said, idle_tries]))
"""


def test_where_spark_has_died_the_step_is_tried_again_with_another() -> None:
    done = subprocess.run(
        [sys.executable, "-c", SPARK_DIES], capture_output=True, text=True, check=True
    )
    counts, (tried_again, watched), idle_tries = json.loads(done.stdout.splitlines()[-1])
    assert counts == [0, 5, 0]
    assert tried_again == []
    assert idle_tries == [0, 1], "also a step that needs no Spark, once what it did is looked up"
    (words,) = watched
    assert words.startswith("Spark's process (java) was ended, as happens where the machine has no")
