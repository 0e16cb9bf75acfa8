"""A user is erased: no file holds them, the others are as if they had never been there."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Collection
from pathlib import Path
from typing import Any

import dagster as dg
import polars as pl
import pytest
from polars.testing import assert_frame_equal

from sparkify_assets import erase as command_line
from sparkify_assets.errors import LakeError
from sparkify_assets.events import user_ids
from sparkify_assets.events.erased import Erased
from sparkify_assets.resources import erasure
from sparkify_assets.resources.lake import Lake
from sparkify_assets.tables import TABLES
from sparkify_assets_tests.running import EVENTS_TO_FEATURES, Run, copy, run
from sparkify_assets_tests.test_user_ids import KEY

MARK = "Xq"
SOME = "Xq-7-id"


def test_erased_users_are_known_again_without_being_named() -> None:
    some = Erased.nobody().with_users(["30", "9"])
    found = some.are(pl.Series(["30", "3", None, "9", ""]))
    assert found.to_list() == [True, False, False, True, False]
    again = Erased.from_json(some.to_json())
    assert again == some
    assert b'"30"' not in some.to_json()
    assert again.with_users(["5"]).are(pl.Series(["5", "30"])).all()
    assert Erased.nobody().with_users(["30"]).digests.isdisjoint(some.digests)


@pytest.mark.parametrize(
    ("line", "is_theirs"),
    [
        ('{"ts":1,"userId":"30","page":', True),
        ('{"userId": "30"}', True),
        ('{"userId":30,"ts":', True),
        ('{"userId":30}', True),
        (r'"{\"userId\":\"30\",\"ts\":5}"', True),
        ('{"userId":"9"}{"userId":"30"}', True),
        ('{"userId":"300"}', False),
        ('{"userId":"130"}', False),
        ('{"userId":"","itemInSession":30}', False),
        ("30", False),
        (None, False),
    ],
)
def test_rejected_lines_that_name_a_user(line: str | None, is_theirs: bool) -> None:
    some = Erased.nobody().with_users(["30"])
    named = some.are_named(pl.Series([line, "other"], dtype=pl.String))
    assert named.to_list() == [is_theirs, False]


def marked(lines: Path, to: Path, without: Collection[str] = ()) -> Path:
    """The log with ids that are like nothing else in it, and some lines that are no events."""
    with to.open("w") as written:
        for number, line in enumerate(lines.open()):
            event = json.loads(line)
            if event.get("userId"):
                event["userId"] = f"{MARK}-{event['userId']}-id"
            if event["userId"] in without:
                continue
            written.write(json.dumps(event) + "\n")
            theirs = event["userId"] == SOME and event["page"] == "Home"
            if number % 2_000 == 0 or theirs:
                written.write(json.dumps(event)[:-5] + "\n")
    return to


@pytest.fixture(scope="module")
def log(simulated_log: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return marked(simulated_log, tmp_path_factory.mktemp("log") / "log.json")


@pytest.fixture(scope="module", params=["plain", pytest.param("hashed", marks=pytest.mark.slow)])
def erased(
    request: pytest.FixtureRequest, log: Path, tmp_path_factory: pytest.TempPathFactory
) -> Any:
    """A lake of several runs, of which a user was erased; and the environment that it needs."""
    lake = Lake(str(tmp_path_factory.mktemp("erased") / "lake"))
    with pytest.MonkeyPatch.context() as patch:
        if request.param == "hashed":
            patch.setenv(user_ids.VARIABLE, KEY)
        made = run(lake, log)
        assert made.success, made.said
        assert run(lake, log, *EVENTS_TO_FEATURES, feature_table={"horizon_days": 9}).success
        assert run(lake, log, *EVENTS_TO_FEATURES).success
        assert len(holding(lake)) > 10
        patch.setenv("SPARKIFY_LAKE", lake.root)
        patch.delenv("DAGSTER_HOME", raising=False)
        assert command_line.main([SOME]) == 0
        yield lake


def ids() -> set[str]:
    return {SOME, user_ids.hashed_id(SOME, KEY.encode())}


def holding(lake: Lake) -> list[Path]:
    """The files in which the user stands: as bytes, or in any cell of a part file."""
    found = []
    for file in Path(lake.root, "mini").rglob("*"):
        if not file.is_file():
            continue
        told = [file.read_bytes().decode(errors="replace")]
        if file.suffix == ".parquet":
            told.append(str(pl.read_parquet(file).to_dicts()))
        if any(one in text for one in ids() for text in told):
            found.append(file)
    return found


def test_no_file_holds_them(erased: Lake) -> None:
    assert holding(erased) == []
    assert Path(erased.root, "mini", erasure.FILE).exists()


def test_every_table_can_be_read_and_lines_add_up(erased: Lake, log: Path) -> None:
    for name, table in TABLES.items():
        version = erased.version("mini", name)
        assert erased.read_polars("mini", table).height == version.rows, name
    raw, rejected = (erased.version("mini", name) for name in ("raw_events", "rejected_lines"))
    assert raw.rows_ever + rejected.rows_ever == len(log.read_text().splitlines())
    blank = erased.read_polars("mini", TABLES["rejected_lines"]).filter(pl.col("text").is_null())
    assert blank.height > 0
    assert blank["reason"].null_count() == 0


def test_the_next_run_makes_all_as_if_they_had_never_been_there(
    erased: Lake, simulated_log: Path, log: Path, tmp_path: Path
) -> None:
    lake = copy(erased, tmp_path / "lake")
    after = run(lake, log)
    assert after.success, after.said
    assert all(after.checks.values()), after.checks
    os.utime(log)  # so that it is read again
    again = run(lake, log, *EVENTS_TO_FEATURES)
    assert again.success, again.said
    assert all(again.checks.values()), again.checks
    assert again.materialized["raw_events"]["new_files"] == 1
    without = marked(simulated_log, tmp_path / "without.json", {SOME})
    never = Lake(str(tmp_path / "never"))
    assert run(never, without, *EVENTS_TO_FEATURES).success
    for name in ("cleaned_events", "label_days", "user_labels", "user_days", "feature_table"):
        table = TABLES[name]
        order = list(table.key or ("user_id", "event_time", "item_in_session", "page"))
        found, wanted = (one.read_polars("mini", table).sort(order) for one in (lake, never))
        assert_frame_equal(found, wanted)
    assert holding(lake) == []


def died(*of: Any, **named: Any) -> None:
    raise RuntimeError("the process dies")


@pytest.fixture
def own(finished: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Lake:
    """A lake that the command line finds, and Dagster's home beside it."""
    (tmp_path / "home").mkdir()
    monkeypatch.setenv("SPARKIFY_LAKE", str(tmp_path / "lake"))
    monkeypatch.setenv("DAGSTER_HOME", str(tmp_path / "home"))
    monkeypatch.delenv(user_ids.VARIABLE, raising=False)
    return copy(finished.lake, tmp_path / "lake")


@pytest.mark.parametrize("at", ["take_out", "forget", "remove_file"])
def test_erasing_again_ends_what_broke_off(
    own: Lake, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, at: str
) -> None:
    copies = tmp_path / "none"
    user = own.read_polars("mini", TABLES["user_labels"])["user_id"][0]
    with monkeypatch.context() as patch:
        patch.setattr(Lake, at, died)
        with pytest.raises(RuntimeError):
            erasure.erase(own, "mini", [user], copies)
    assert erasure.traces(own, "mini", [user], copies)
    for name, table in TABLES.items():
        assert own.read_polars("mini", table).height == own.version("mini", name).rows
    erasure.erase(own, "mini", [user], copies)
    assert erasure.traces(own, "mini", [user], copies) == []


def test_copies_of_downloaded_logs_go(own: Lake, tmp_path: Path) -> None:
    copies = tmp_path / "copies"
    (copies / "a-server").mkdir(parents=True)
    downloaded, simulated = copies / "a-server" / "log.json", copies / "mini-simulated-9.json"
    for file in (downloaded, simulated):
        file.write_text('{"userId":"30"}')
    assert str(downloaded) in erasure.traces(own, "mini", ["30"], copies)
    erasure.erase(own, "mini", ["30"], copies)
    assert (downloaded.exists(), simulated.exists()) == (False, True)
    assert erasure.traces(own, "mini", ["30"], copies) == []


def test_an_id_may_be_a_number_that_stands_for_something_else(own: Lake) -> None:
    user = own.read_polars("mini", TABLES["user_labels"])["user_id"].sort()[0]
    for table in ("churn_scores", "user_labels"):
        own.write_file("mini", f"{table}/_contract_kept.json", b'{"version": %b}' % user.encode())
    assert command_line.main([user]) == 0


def test_what_is_left_is_named(own: Lake, monkeypatch: pytest.MonkeyPatch, capsys: Any) -> None:
    user = own.read_polars("mini", TABLES["user_labels"])["user_id"][0]
    left = Path(own.root, "mini", "churn_scores", "left.parquet")
    forget = Lake.forget

    def and_leave(self: Lake, dataset: str, table: str) -> None:
        forget(self, dataset, table)
        pl.DataFrame({"user_id": [user]}).write_parquet(left)

    monkeypatch.setattr(Lake, "forget", and_leave)
    assert command_line.main([user]) == 1
    assert str(left) in capsys.readouterr().err


def test_what_nobody_foresaw_is_no_success(
    own: Lake, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    monkeypatch.setattr(Lake, "forget", died)
    assert command_line.main(["30"]) == 1
    said = capsys.readouterr()
    assert "Erasing failed" in said.err
    assert "the process dies" in said.err
    assert "No file" not in said.out


def test_nobody_is_named_in_dagster_or_on_the_terminal(
    own: Lake, tmp_path: Path, capsys: Any
) -> None:
    assert command_line.main(["Xq-nobody-7"]) == 0
    with dg.DagsterInstance.get() as instance:
        (made,) = instance.get_runs()
    assert (made.job_name, made.tags["dagster/partition"]) == ("erase", "mini")
    said = capsys.readouterr()
    assert re.search(r"churn_scores +0 rows", said.out)
    assert "No table held them" in said.out
    assert "Xq" not in said.out + said.err
    for file in (tmp_path / "home").rglob("*"):
        assert file.is_dir() or b"Xq-nobody" not in file.read_bytes(), file


@pytest.mark.parametrize("content", [b"{", b"{}", b"[]", b"\xff"])
def test_a_list_that_is_damaged_brings_nobody_back(own: Lake, content: bytes) -> None:
    own.write_file("mini", erasure.FILE, content)
    with pytest.raises(LakeError, match=r"erased_users.json of mini .* is damaged"):
        erasure.erased_users(own, "mini")


def test_of_a_lake_that_is_none_nothing_is_claimed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("SPARKIFY_LAKE", str(tmp_path / "nowhere"))
    monkeypatch.delenv("DAGSTER_HOME", raising=False)
    assert command_line.main(["30"]) == 2
    assert "nobody was erased. Is SPARKIFY_LAKE the right one?" in capsys.readouterr().err
    assert not (tmp_path / "nowhere").exists()


def test_ids_come_from_standard_input(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[set[str]] = []

    def note(name: str, users: set[str]) -> int:
        asked.append(users)
        return 0

    monkeypatch.setattr(command_line, "run", note)
    monkeypatch.setattr("sys.stdin", iter(["30\n", "\n", " 9 \n"]))
    assert command_line.main(["-", "--partition", "full"]) == 0
    assert asked == [{"30", "9"}]
    monkeypatch.setattr("sys.stdin", iter([]))
    with pytest.raises(SystemExit):
        command_line.main(["-"])
    assert command_line.main(["30", "--partition", "other"]) == 2
