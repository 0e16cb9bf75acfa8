"""Keyed hashes in the place of user ids: everywhere after cleaning, by one key, or not at all."""

from __future__ import annotations

import json
from pathlib import Path

import polars as pl
import pytest
from polars.testing import assert_frame_equal

from sparkify_assets.errors import SettingError
from sparkify_assets.events import user_ids
from sparkify_assets.resources.lake import Lake
from sparkify_assets.tables import CLEANED_EVENTS, FEATURE_TABLE, TABLES
from sparkify_assets_tests.running import EVENTS_TO_FEATURES, Run, command, copy, run, versions

KEY = "0123456789abcdef" * 2
OTHER_KEY = KEY[::-1]
RAW = {"raw_events", "rejected_lines"}


def test_a_hash_is_hmac_sha256() -> None:
    """Of RFC 4231's second test: key "Jefe", data "what do ya want for nothing?"."""
    found = user_ids.hashed_id("what do ya want for nothing?", b"Jefe")
    assert found == "5bdcc146bf60754e6a042426089575c7"


def test_each_user_has_one_hash() -> None:
    users = pl.Series("user_id", ["30", "9", "30", ""])
    first, second, third, nobody = user_ids.hashed(users, KEY.encode())
    assert first == third
    assert len({first, second, nobody}) == 3
    assert user_ids.hashed_id("30", OTHER_KEY.encode()) != first


@pytest.mark.parametrize("key", ["", "   ", "Xshort", "x" * 31])
def test_a_key_that_could_be_guessed_is_refused(monkeypatch: pytest.MonkeyPatch, key: str) -> None:
    monkeypatch.setenv(user_ids.VARIABLE, key)
    with pytest.raises(SettingError, match="openssl rand -hex 32") as raised:
        user_ids.key()
    assert not key.strip() or key not in str(raised.value)


@pytest.fixture(scope="module")
def marked_log(simulated_log: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same log, with ids that are like nothing else in it."""
    file = tmp_path_factory.mktemp("marked") / "log.json"
    with file.open("w") as lines:
        for line in simulated_log.open():
            event = json.loads(line)
            if event.get("userId"):
                event["userId"] = f"Xq-{event['userId']}-id"
            lines.write(json.dumps(event) + "\n")
    return file


@pytest.fixture(scope="module")
def hashed_run(marked_log: Path, tmp_path_factory: pytest.TempPathFactory) -> Run:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv(user_ids.VARIABLE, KEY)
        made = run(Lake(str(tmp_path_factory.mktemp("hashed") / "lake")), marked_log)
    assert made.success, made.said
    return made


def test_no_id_of_the_log_stands_in_a_table_after_cleaning(hashed_run: Run) -> None:
    lake = hashed_run.lake
    holding = {
        name
        for name, table in TABLES.items()
        if "Xq-" in str(lake.read_polars("mini", table).to_dict(as_series=False))
    }
    assert holding == {"raw_events"}
    for file in Path(lake.root, "mini").rglob("*"):
        if file.suffix in (".json", ".html", ".crc"):
            assert "Xq-" not in file.read_text(), file
    assert "Xq-" not in hashed_run.said
    assert KEY not in hashed_run.said


def test_the_key_is_nowhere(hashed_run: Run) -> None:
    for file in Path(hashed_run.lake.root, "mini").rglob("*"):
        assert file.is_dir() or KEY.encode() not in file.read_bytes(), file


def test_nothing_but_the_ids_is_another(hashed_run: Run, finished: Run) -> None:
    of_hash = {
        user_ids.hashed_id(f"Xq-{user}-id", KEY.encode()): user
        for user in finished.lake.read_polars("mini", TABLES["user_labels"])["user_id"]
    }
    # Kinds of users are learned from users in the order of their ids.
    learned = [name for name in FEATURE_TABLE.names if "kind_" in name]
    for table, key in ((CLEANED_EVENTS, None), (FEATURE_TABLE, FEATURE_TABLE.key)):
        plain = finished.lake.read_polars("mini", table).drop(learned, strict=False)
        hashed = hashed_run.lake.read_polars("mini", table, plain.columns).with_columns(
            pl.col("user_id").replace_strict(of_hash)
        )
        order = list(key or plain.columns)
        assert_frame_equal(hashed.sort(order), plain.sort(order))


@pytest.mark.parametrize("key", [None, OTHER_KEY])
def test_ids_of_two_kinds_do_not_meet(
    hashed_run: Run,
    marked_log: Path,
    key: str | None,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    lake = copy(hashed_run.lake, tmp_path / "lake")
    before = versions(lake)
    if key:
        monkeypatch.setenv(user_ids.VARIABLE, key)
    said = command(lake, marked_log)
    assert said.code == 1
    assert "The user ids in the tables of mini are hashed with a key" in said.err
    assert ("no SPARKIFY_USER_ID_KEY is set" if key is None else "another key") in said.err
    assert (key or KEY) not in said.err
    assert versions(lake) == before


def test_a_lake_of_plain_ids_stays_one(
    finished: Run, simulated_log: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lake = copy(finished.lake, tmp_path / "lake")
    before = versions(lake)
    monkeypatch.setenv(user_ids.VARIABLE, KEY)
    said = command(lake, simulated_log)
    assert said.code == 1
    assert "are as they are in the log" in said.err
    assert versions(lake) == before


def test_the_next_run_with_the_same_key_has_nothing_to_do(
    hashed_run: Run, marked_log: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(user_ids.VARIABLE, KEY)
    again = run(copy(hashed_run.lake, tmp_path / "lake"), marked_log, *EVENTS_TO_FEATURES)
    assert again.success
    assert again.materialized["cleaned_events"]["new_days"] == 0
