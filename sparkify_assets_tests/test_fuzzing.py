"""Mutated lines: each is an event or a rejected line, once, and nothing crashes."""

from __future__ import annotations

import itertools
import random
from datetime import datetime, timezone
from pathlib import Path

import polars as pl
import pytest

from sparkify_assets.events.parse import parse_block
from sparkify_assets.resources.lake import Lake
from sparkify_assets.tables import CLEANED_EVENTS, RAW_EVENTS, REJECTED_LINES
from sparkify_assets_tests.conftest import REAL_ROWS
from sparkify_assets_tests.fuzzing import MUTATIONS, Mutated, corpus, mutated
from sparkify_assets_tests.running import EVENTS_TO_FEATURES, run

NOW = datetime(2020, 3, 1, tzinfo=timezone.utc)


def misjudged(lines: list[Mutated], events: pl.DataFrame, rejected: pl.DataFrame) -> list[str]:
    """What became of lines otherwise than it should, in words; `events` and `rejected` in order."""
    starts = list(itertools.accumulate((len(each.line) + 1 for each in lines), initial=0))
    at = {start: number for number, start in enumerate(starts[:-1])}
    refused = [at.get(offset) for offset in rejected["byte_offset"]]
    numbers = set(refused)
    if None in refused or len(numbers) != len(refused):
        return ["a rejected line is none, or is one twice"]
    wrong = [
        f"{each.how} is {'rejected' if number in numbers else 'an event'}: {each.line[:200]!r}"
        for number, each in enumerate(lines)
        if each.is_event is not None and each.is_event == (number in numbers)
    ]
    accepted = [n for n in range(len(lines)) if n not in numbers]
    if events.height != len(accepted):
        return [*wrong, f"{len(accepted)} lines became {events.height} events"]
    for number, serial in zip(accepted, events["item_in_session"], strict=True):
        if lines[number].is_event and serial != number:
            wrong.append(f"in place of line {number} is {serial}")
    return wrong


@pytest.mark.parametrize("how", MUTATIONS)
def test_what_a_mutation_leaves(how: str) -> None:
    chance, events = random.Random(how), corpus()
    lines = []
    for number in range(60):
        line, is_event = MUTATIONS[how](events[number % 20] | {"itemInSession": number}, chance)
        lines.append(Mutated(how, line.replace(b"\n", b" "), is_event))
    data = b"".join(each.line + b"\n" for each in lines)
    block = parse_block(data, source_file="log", offset=0, first=False, until=NOW)
    assert misjudged(lines, block.events, block.rejected) == []


def test_a_mutated_log_goes_as_far_as_the_features(tmp_path: Path) -> None:
    """What is no event is rejected, and the rest can be worked with."""
    lines = list(itertools.islice(mutated(corpus(REAL_ROWS), random.Random(1)), 6_000))
    log = tmp_path / "log.json"
    log.write_bytes(b"".join(each.line + b"\n" for each in lines))
    done = run(
        Lake(str(tmp_path / "lake")), log, *EVENTS_TO_FEATURES, ingest={"max_rejected_share": 1.0}
    )
    assert done.success, done.said
    assert all(done.checks.values()), done.checks
    events = done.lake.read_polars("mini", RAW_EVENTS)
    rejected = done.lake.read_polars("mini", REJECTED_LINES)
    assert events.height + rejected.height == len(lines)
    assert not rejected["byte_offset"].is_duplicated().any()
    refused = set(rejected["byte_offset"])
    offset, sure = 0, set()
    for number, each in enumerate(lines):
        assert each.is_event is None or each.is_event == (offset not in refused), each
        sure |= {number} if each.is_event else set()
        offset += len(each.line) + 1
    found = events["item_in_session"].value_counts().filter(pl.col("item_in_session").is_in(sure))
    assert found.height == len(sure), "none is lost"
    assert done.lake.read_polars("mini", CLEANED_EVENTS).height <= events.height
