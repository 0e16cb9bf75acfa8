"""What fits on which machine, and what is said where a run does not."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from sparkify_assets import capacity
from sparkify_assets.capacity import (
    GIB,
    check_disk,
    check_memory,
    local_tasks,
    memory_bytes,
    tasks_that_fit,
)
from sparkify_assets.errors import CapacityError
from sparkify_assets.resources.lake import Lake
from sparkify_assets.resources.spark import spark_master, spark_settings
from sparkify_assets_tests.running import command

Machine = Callable[[float, int], None]


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch) -> Machine:
    """Makes this machine one of so many GiB and cores."""

    def become(gigabytes: float, cores: int) -> None:
        monkeypatch.setattr(capacity, "memory_bytes", lambda: int(gigabytes * GIB))
        monkeypatch.setattr(capacity, "cores", lambda: cores)

    monkeypatch.delenv("SPARKIFY_SPARK_MASTER", raising=False)
    return become


@pytest.mark.parametrize(
    ("gigabytes", "cores", "tasks"), [(24, 2, 2), (8, 8, 3), (3, 2, 1), (1, 4, 1), (512, 64, 64)]
)
def test_a_task_a_core_as_far_as_memory_goes(
    machine: Machine, gigabytes: float, cores: int, tasks: int
) -> None:
    machine(gigabytes, cores)
    assert tasks_that_fit(gigabytes * GIB, cores) == tasks
    assert spark_master() == f"local[{tasks}]"


@pytest.mark.parametrize(
    ("master", "tasks"),
    [("local", 1), ("local[3]", 3), ("local[*]", 5), ("local[4,2]", 4), ("spark://a:7077", 0)],
)
def test_tasks_on_this_machine(machine: Machine, master: str, tasks: int) -> None:
    machine(24, 5)
    assert local_tasks(master) == tasks


def test_a_run_that_fits_is_let_through(machine: Machine) -> None:
    machine(8, 4)
    check_memory(spark_master())
    check_memory(spark_master(), rows=180_000)
    machine(2, 4)
    check_memory("spark://elsewhere:7077")


def test_too_many_tasks_are_refused_with_the_setting_that_fits(machine: Machine) -> None:
    machine(8, 16)
    with pytest.raises(CapacityError, match=r"16 tasks .* SPARKIFY_SPARK_MASTER=local\[3\]"):
        check_memory("local[16]")


def test_a_machine_that_is_too_small(machine: Machine) -> None:
    machine(1.5, 2)
    with pytest.raises(CapacityError, match=r"has 1\.6 GB of memory; a run takes about 2\.9 GB"):
        check_memory(spark_master())


def test_too_many_rows_to_learn_from(machine: Machine) -> None:
    machine(24, 2)
    with pytest.raises(CapacityError, match=r"4,000,000 rows to learn from takes about .* fewer"):
        check_memory(spark_master(), rows=4_000_000)


def test_a_container_is_as_large_as_its_limit(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    whole = memory_bytes()
    limit = tmp_path / "memory.max"
    monkeypatch.setattr(capacity, "_LIMITS", (str(limit),))
    for said, expected in (("max\n", whole), (f"{GIB}\n", GIB), (str(2**60), whole)):
        limit.write_text(said)
        assert memory_bytes() == expected


def test_too_little_disk_is_named(tmp_path: Path) -> None:
    check_disk(tmp_path / "not" / "yet", 1, "The log")
    with pytest.raises(CapacityError, match=rf"The log takes about .* of disk; {tmp_path} has"):
        check_disk(tmp_path / "not" / "yet", 1e18, "The log")


def test_the_command_says_so_before_anything_starts(
    machine: Machine, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    machine(1.5, 2)
    lake = Lake(str(tmp_path / "lake"))
    said = command(lake, None)
    assert said.code == 1
    assert said.lines[0].startswith("  FAILED ingest: This machine has 1.6 GB of memory;")
    assert not (tmp_path / "lake").exists()


def test_the_users_own_settings_of_spark_are_left_alone(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    file = tmp_path / "spark-defaults.conf"
    file.write_text("# mine\nspark.driver.memory  3g\nspark.ui.enabled=true\n\n")
    monkeypatch.setenv("SPARK_CONF_DIR", str(tmp_path))
    found = spark_settings()
    assert not {"spark.driver.memory", "spark.ui.enabled"} & set(found)
    assert found["spark.sql.session.timeZone"] == "UTC"
