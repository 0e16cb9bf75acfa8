"""Lakes that another version of the project has written."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from polars.testing import assert_frame_equal

from sparkify_assets import __version__
from sparkify_assets.errors import LakeError
from sparkify_assets.resources.lake import _FORMAT, _SLICES, _WRITER, LAKE_FORMAT, Lake
from sparkify_assets.tables import TABLES
from sparkify_assets_tests.running import Run, copy, run, tables, versions, without_times

Commit = dict[str, Any]


def rewritten(lake: Lake, change: Callable[[Commit], None], *names: str) -> None:
    """Change what every commit of these tables, or of all, says of itself."""
    for name in names or TABLES:
        for file in Path(lake.root, "mini", name, "_delta_log").glob("*.json"):
            actions = [json.loads(line) for line in file.read_text().splitlines()]
            for action in actions:
                if commit := action.get("commitInfo"):
                    change(commit)
            file.write_text("".join(json.dumps(action) + "\n" for action in actions))


def as_before_formats(commit: Commit) -> None:
    """As versions wrote it that said neither format nor version; their slices' keys are others."""
    for key in (_FORMAT, _WRITER):
        commit.pop(key, None)
    if slices := commit.get(_SLICES):
        changed = {name: each | {"key": "of before"} for name, each in json.loads(slices).items()}
        commit[_SLICES] = json.dumps(changed)


def test_a_version_says_who_wrote_it(finished: Run) -> None:
    assert {finished.lake.version("mini", name).writer for name in TABLES} == {__version__}


def test_the_lake_of_an_earlier_version_is_made_anew_and_keeps_what_cannot_be(
    finished: Run, simulated_log: Path, tmp_path: Path
) -> None:
    lake = copy(finished.lake, tmp_path / "lake")
    rewritten(lake, as_before_formats)
    before = versions(lake)
    done = run(lake, simulated_log, job="rescore")
    assert done.success
    assert "written by an early version of this project" in done.said
    assert "models and what was forecast stay" in done.said
    made = [name for name, number in versions(lake).items() if number > before[name]]
    assert {"raw_events", "cleaned_events", "feature_table", "churn_scores"} <= set(made)
    assert {lake.version("mini", name).writer for name in made} == {__version__}
    old, new = tables(finished.lake), tables(lake)
    for name in TABLES:
        assert_frame_equal(without_times(new[name]), without_times(old[name]))
    assert "early version" not in run(lake, simulated_log, job="rescore").said


@pytest.mark.parametrize("table", ["raw_events", "churn_scores"])
def test_the_lake_of_a_later_version_is_refused_before_the_first_step(
    finished: Run, simulated_log: Path, tmp_path: Path, table: str
) -> None:
    lake = copy(finished.lake, tmp_path / "lake")
    rewritten(lake, lambda commit: commit.update({_FORMAT: "99", _WRITER: "9.1"}), table)
    files = sorted(Path(lake.root).rglob("*"))
    done = run(lake, simulated_log)
    assert not done.success
    assert done.materialized == {}
    assert f"{table} was written by version 9.1 of this project, in lake format 99" in done.said
    assert f"reads up to {LAKE_FORMAT}" in done.said
    assert sorted(Path(lake.root).rglob("*")) == files
    with pytest.raises(LakeError, match="lake format 99"):
        lake.read_polars("mini", TABLES[table])
    with pytest.raises(LakeError, match="lake format 99"):
        lake.commit("mini", TABLES[table], [])
