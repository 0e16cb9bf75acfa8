"""What `benchmarks.leaks` makes of rows and of its page."""

from __future__ import annotations

from datetime import date
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from benchmarks.leaks import BEGIN, END, LEAKS, METRICS, Task, markdown, oversampled, with_tables
from sparkify_assets_tests.test_evaluation import FEATURES

PAGE = Path(__file__).parents[1] / "docs" / "leaks.md"


def known_by_their_features(users: int = 60, rows: int = 4) -> Task:
    """Each user has a label and features of their own, which have nothing to do with each other."""
    draw = np.random.default_rng(0)
    of_user = pd.DataFrame(
        {
            "user_id": [f"u{user:03d}" for user in range(users)],
            "label": draw.permutation(users) < users // 3,
            **{name: draw.normal(size=users) for name in FEATURES},
        }
    )
    return Task(
        pd.concat([of_user.assign(as_of=date(2018, 10, 15 + n)) for n in range(rows)]), FEATURES
    )


def test_oversampling_evens_the_classes_and_keeps_every_row() -> None:
    label = np.arange(30) < 6
    rows = np.arange(2, 30)
    found = oversampled(label, rows)
    assert set(found) == set(rows)
    assert label[found].sum() == (~label[found]).sum() == 24
    assert len(oversampled(~label, rows)) == len(rows), "the many are never repeated"


def test_a_user_on_both_sides_is_recognised() -> None:
    task = known_by_their_features()
    by_user, by_row = (task.scores(fold, 0) for fold in (task.by_user(0), task.by_row(0)))
    assert by_user["prevalence"] == by_row["prevalence"] == pytest.approx(1 / 3)
    assert by_user["ROC AUC"] < 0.7 < by_row["ROC AUC"]


def test_the_page_has_a_table_of_every_leak_with_what_each_metric_gains() -> None:
    rows = [("a leak", "a task", "prevalence", 0.1, 0.1), ("a leak", "a task", "PR AUC", 0.2, 0.5)]
    table = markdown(1_000, rows)
    assert table.splitlines()[0] == "Simulated log of 1,000 users:"
    cells = [cell.strip() for cell in table.splitlines()[-1].strip("|").split("|")]
    assert cells == ["a leak", "a task", "0.100 → 0.100", "0.200 → 0.500 (+0.300)", "", "", ""]
    assert len(cells) == 2 + len(METRICS)

    page = with_tables(f"before\n{BEGIN}\nold\n{END}\nafter", [table])
    assert page == f"before\n{BEGIN}\n\n{table}\n\n{END}\nafter"
    with pytest.raises(ValueError, match="no place for the tables"):
        with_tables("a page", [table])


def test_the_committed_page_shows_every_leak() -> None:
    tables = PAGE.read_text().partition(BEGIN)[2]
    for words in LEAKS:
        assert tables.count(f"| {words} | ") == 2, words
