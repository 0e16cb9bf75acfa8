"""The tables of results: that they say what the lake says, and touch nothing else."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import polars as pl
import pytest

from sparkify_assets.pages import put_between
from sparkify_assets.report import words
from sparkify_assets.report.figures import Estimate
from sparkify_assets.report.measures import ESTIMATES
from sparkify_assets.resources.lake import Lake
from sparkify_assets.results import BEGIN, END, PLACES, main, section
from sparkify_assets.tables import EVALUATION_METRICS
from sparkify_assets_tests.running import Run

PROJECT = Path(__file__).parents[1]


@pytest.fixture
def page(finished: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of the project's own pages; of that in docs, which has all results.

    With a character and a line's end that an editor might lose.
    """
    monkeypatch.setenv("SPARKIFY_LAKE", finished.lake.root)
    project = tmp_path / "project"
    (project / "docs").mkdir(parents=True)
    for place in PLACES:
        text = (PROJECT / place).read_bytes()
        (project / place).write_bytes(text + b"\r\n\t \xe2\x80\xa8\n")
    return project / "docs/results.md"


def write(page: Path, *arguments: str) -> int:
    return main([*arguments, "--folder", str(page.parents[1])])


def written(page: Path) -> list[list[str]]:
    """The table between the comments: its rows of cells."""
    found = page.read_text(encoding="utf-8").partition(BEGIN)[2].partition(END)[0]
    lines = [line for line in found.splitlines() if line.startswith("| ")]
    return [[cell.strip() for cell in line.strip("|").split(" | ")] for line in lines]


def test_between_the_comments_stands_what_the_table_says(finished: Run, page: Path) -> None:
    assert write(page, "--partition", "mini") == 0
    measured = finished.lake.read_polars("mini", EVALUATION_METRICS)
    said = finished.lake.version("mini", "raw_events").metadata
    assert f"{BEGIN}\n\n{section('mini', measured, said)}\n\n{END}" in page.read_text()

    names = {
        "PR AUC": ("pr_auc", "chosen"),
        "PR AUC of guessing (share who churned)": ("prevalence", "chosen"),
        "ROC AUC (guessing: 0.5)": ("roc_auc", "chosen"),
        "Weighted F1": ("weighted_f1", "chosen"),
        "Weighted F1 of always saying “stays”": ("weighted_f1_always_stays", "chosen"),
        "Calibration error (0 is perfect)": ("expected_calibration_error", "chosen"),
    }
    rows = {cells[0]: cells[1:] for cells in written(page)}
    for name, (metric, model) in names.items():
        for estimate, cell in zip(ESTIMATES, rows[name], strict=True):
            row = measured.row(
                by_predicate=(pl.col("protocol") == estimate.protocol)
                & (pl.col("estimate") == estimate.estimate)
                & (pl.col("model") == model)
                & (pl.col("metric") == metric),
                named=True,
            )
            assert cell == f"{row['value']:.3f} [{row['ci_low']:.3f}, {row['ci_high']:.3f}]"
    counts = measured.filter(protocol="forecast", estimate="grouped").row(0, named=True)
    assert rows["rows that churned, of all tested"][0] == (
        f"{counts['positives']:,} of {counts['rows']:,}"
    )


def test_baselines_stand_below_the_measure_they_belong_to(finished: Run, page: Path) -> None:
    write(page)
    rows = written(page)
    at = next(i for i, cells in enumerate(rows) if cells[0].startswith("ROC AUC"))
    assert [cells[0] for cells in rows[at + 1 : at + 4]] == [
        f"&emsp;{name}" for name in ("logistic regression", "level only", "sessions per day")
    ]
    level = finished.lake.read_polars("mini", EVALUATION_METRICS).filter(
        protocol="whole_log", model="level_only", metric="roc_auc"
    )
    shown = level.select("value", "ci_low", "ci_high").row(0)
    assert rows[at + 2][3] == words.interval(Estimate(*shown))


def test_what_leaks_and_what_is_simulated_is_said(page: Path) -> None:
    write(page)
    table = written(page)
    assert [cell for cell in table[0] if "LEAKS" in cell] == ["Whole log (**LEAKS**)"]
    assert table[0][0] == "mini, simulated"
    seed = [cells[1:] for cells in table if "the notebook before" in cells[0]]
    assert seed == [["", "", "0.40"], ["", "", "0.80"]]
    assert "simulated: 100 users, 61 days, seed 5. Every figure is about" in page.read_text()


def test_of_a_real_log_only_the_last_part_of_its_place_is_told(finished: Run) -> None:
    measured = finished.lake.read_polars("mini", EVALUATION_METRICS)
    said = {"source": "s3://secret-bucket/of/somebody/events/", "simulated": False}
    lines = section("full", measured, said).splitlines()
    assert lines[0] == "**full**, from `events`, not simulated."
    assert lines[2].startswith("| full | Forecast")
    assert not any("simulated" in line or "secret" in line for line in lines[1:])


def test_an_estimate_that_is_missing_is_not_known(finished: Run) -> None:
    measured = finished.lake.read_polars("mini", EVALUATION_METRICS)
    there = measured.filter(pl.col("estimate") == "grouped")
    row = next(line for line in section("mini", there, {}).splitlines() if "| PR AUC |" in line)
    assert row.split(" | ")[2] == "not known"


def test_writing_it_again_changes_nothing_and_all_else_is_as_it_was(page: Path) -> None:
    before = page.read_bytes()
    write(page)
    once = page.read_bytes()
    write(page)
    assert page.read_bytes() == once != before
    outside = re.compile(re.escape(BEGIN).encode() + b".*" + re.escape(END).encode(), re.DOTALL)
    assert outside.sub(b"", once) == outside.sub(b"", before)
    assert list(page.parent.iterdir()) == [page]


@pytest.mark.parametrize(
    "text",
    ["no comments", f"{BEGIN} only", f"{END}\n{BEGIN}", f"{BEGIN}\n{END}\n{BEGIN}\n{END}"],
)
def test_a_page_without_a_place_for_them_is_left_alone(
    text: str, page: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    page.write_text(text)
    assert write(page) == 2
    said = capsys.readouterr().err
    assert f"{page} is as it was: " in said
    assert BEGIN in said
    assert page.read_text() == text


def test_what_is_not_there_is_said(
    page: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    before = page.read_bytes()
    assert write(page, "--partition", "full") == 2
    assert "Materialize evaluation_metrics for full first" in capsys.readouterr().err
    assert write(page, "--partition", "tiny") == 2
    assert "There is no dataset 'tiny'" in capsys.readouterr().err
    assert main(["--folder", str(tmp_path)]) == 2
    assert "README.md" in capsys.readouterr().err
    monkeypatch.setenv("SPARKIFY_LAKE", str(tmp_path / "empty"))
    assert write(page) == 2
    assert "`make run`" in capsys.readouterr().err
    assert page.read_bytes() == before


def test_two_datasets_stand_one_below_the_other(
    finished: Run, page: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lake = Lake(str(tmp_path / "two"))
    for table in ("evaluation_metrics", "raw_events"):
        for name in ("full", "mini"):
            shutil.copytree(finished.lake.folder("mini", table), lake.folder(name, table))
    monkeypatch.setenv("SPARKIFY_LAKE", lake.root)
    assert write(page) == 0
    text = page.read_text()
    assert text.index(BEGIN) < text.index("**mini**") < text.index("**full**") < text.index(END)


def test_the_readme_has_the_main_ones(finished: Run, page: Path) -> None:
    write(page)
    short = written(page.parents[1] / "README.md")
    assert 5 < len(short) < len(written(page))
    assert all(cells in written(page) for cells in short)


def test_the_projects_own_pages_have_a_place_for_them() -> None:
    for place in PLACES:
        page = PROJECT / place
        once = put_between(page, "made", BEGIN, END)
        assert f"{BEGIN}\n\nmade\n\n{END}" in once
        assert once != page.read_text(encoding="utf-8")
