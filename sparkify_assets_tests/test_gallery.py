"""The pictures of docs/findings.md: written by a command, from what is in the lake."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from xml.etree import ElementTree

import pytest

from sparkify_assets.gallery import BEGIN, END, main
from sparkify_assets_tests.running import Run

DOCS = Path(__file__).parents[1] / "docs"
NAMES = ("pages", "songs", "active-days", "levels", "tenure")


@pytest.fixture
def page(tmp_path: Path, finished: Run) -> Iterator[Path]:
    file = tmp_path / "docs" / "findings.md"
    file.parent.mkdir()
    file.write_text(f"before\n{BEGIN}\nold\n{END}\nafter\n", encoding="utf-8")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SPARKIFY_LAKE", finished.lake.root)
        yield file


def test_pictures_stand_beside_the_page_that_shows_them(page: Path) -> None:
    assert main(["--page", str(page)]) == 0
    text = page.read_text(encoding="utf-8")
    assert text.startswith(f"before\n{BEGIN}\n\n**mini**, simulated: 100 users")
    assert text.endswith(f"{END}\nafter\n")
    assert "LEAKS" in text
    assert "old" not in text
    written = {file.stem: file.read_text(encoding="utf-8") for file in page.parent.rglob("*.svg")}
    assert set(written) == {f"findings-{name}" for name in NAMES}
    for name, drawn in written.items():
        assert f"](pictures/{name}.svg)" in text
        assert "Simulated data, not real users" in drawn
        ElementTree.fromstring(drawn)
    assert main(["--page", str(page)]) == 0
    assert page.read_text(encoding="utf-8") == text


def test_what_is_missing_is_said_and_nothing_is_written(
    page: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = page.read_bytes()
    assert main(["--partition", "full", "--page", str(page)]) == 2
    assert "raw_events of full is not in the lake" in capsys.readouterr().err
    page.write_text("no place", encoding="utf-8")
    assert main(["--page", str(page)]) == 2
    assert BEGIN in capsys.readouterr().err
    assert page.read_text(encoding="utf-8") == "no place" != before.decode()
    assert not list(page.parent.rglob("*.svg"))


def test_the_projects_own_page_shows_what_is_there() -> None:
    text = (DOCS / "findings.md").read_text(encoding="utf-8")
    assert text.count(BEGIN) == text.count(END) == 1
    for name in NAMES:
        assert f"](pictures/findings-{name}.svg)" in text
        drawn = (DOCS / "pictures" / f"findings-{name}.svg").read_text(encoding="utf-8")
        assert "Simulated data, not real users" in drawn
