"""What a person is told when a log or a lake cannot be used, and that nothing is lost by it."""

from __future__ import annotations

import contextlib
import gzip
import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from polars.testing import assert_frame_equal

from sparkify_assets import capacity
from sparkify_assets.churn.cutoffs import slice_of_row
from sparkify_assets.errors import LakeError
from sparkify_assets.resources.lake import Lake, as_promised
from sparkify_assets.storage import write_part
from sparkify_assets.tables import FEATURE_TABLE, TABLES, USER_LABELS
from sparkify_assets_tests.running import (
    Run,
    command,
    copy,
    environment,
    run,
    tables,
    versions,
)
from sparkify_assets_tests.serving import serving

LAST_LINE = "The run failed. Tables that are not named above are as they were."
TMPFS_BYTES = 32 * 2**20


@pytest.fixture(scope="module")
def lines(simulated_log: Path) -> list[bytes]:
    """Good lines, of the log's first day."""
    with simulated_log.open("rb") as log:
        return [next(log).rstrip(b"\n") for _ in range(1_500)]


@pytest.fixture(scope="module")
def earlier(finished: Run, tmp_path_factory: pytest.TempPathFactory) -> Lake:
    """A lake that holds an earlier run. What fails at once leaves it as it is."""
    return copy(finished.lake, tmp_path_factory.mktemp("earlier"))


@pytest.fixture
def own(finished: Run, tmp_path: Path) -> Lake:
    """A lake that holds an earlier run, for tests that add versions."""
    return copy(finished.lake, tmp_path / "lake")


def changed(lines: list[bytes], **fields: Any) -> bytes:
    """The same lines with other fields; those that become None are left out."""
    events = [json.loads(line) | fields for line in lines]
    kept = [{name: v for name, v in event.items() if v is not None} for event in events]
    return b"\n".join(json.dumps(event).encode() for event in kept)


Content = Callable[[list[bytes]], bytes]


# A log that is no log


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("nowhere.json", None, "{variable}: there is no such file or folder."),
        ("folder", lambda lines: b"a folder", "{variable}: the folder holds no log. Expected are"),
        ("a.json", lambda lines: b"", "{variable}: the file a.json is empty (0 bytes)."),
        ("a.json.gz", b"\n".join, "a.json.gz ends in .gz but does not hold gz data"),
        ("a.json", lambda lines: gzip.compress(lines[0]), "Rename it to end in .gz."),
        (
            "a.json.gz",
            lambda lines: gzip.compress(b"\n".join(lines))[:-1_000],
            "a.json.gz could be read up to byte 0 of its decompressed content; "
            "it is damaged or cut off (Truncated compressed stream). Get the file anew.",
        ),
        ("a.json", lambda lines: b"\n\r\n\n", "none of its 3 lines is an event. Expected is one"),
        ("a.json", lambda lines: b"ts,page\n1,Home\n", "byte 0: not JSON: Expecting value at char"),
        ("a.json", lambda lines: b"[" + lines[0] + b"]", "byte 0: not a JSON object: an array."),
        ("a.json", lambda lines: lines[0].decode().encode("utf-16"), "(it looks like UTF-16)."),
        ("a.json", lambda lines: lines[0][:-9], "byte 0: line is cut off."),
        (
            "a.json",
            lambda lines: changed(lines, page=None),
            "a.json is not an event log: none of its 1,500 lines is an event. Expected is one "
            "JSON object a line. Commonest reasons: field page is missing (1,500 lines).",
        ),
        ("a.json", lambda lines: changed(lines, ts="now"), "field ts is text, a whole number is"),
        ("a.json", lambda lines: changed(lines, auth={}), "field auth is an object, text is"),
        (
            "a.json",
            lambda lines: changed(lines, ts=1538352000),
            "byte 0: ts looks like seconds: 1538352000; milliseconds since 1970 are expected.",
        ),
        ("a.json", lambda lines: changed(lines, ts=-1), "ts is out of range: -1 ms is not in 1990"),
        (
            "a.json",
            lambda lines: changed(lines, ts=32_503_680_000_000),  # the year 3000
            "ts is out of range: 32503680000000 ms is not in 1990-01-01 to 2100-01-01.",
        ),
    ],
)
def test_what_is_no_log_is_said_in_one_line_and_changes_no_table(
    name: str,
    content: Content | None,
    message: str,
    lines: list[bytes],
    earlier: Lake,
    tmp_path: Path,
) -> None:
    source = tmp_path / name
    if name == "folder":
        source.mkdir()
    elif content:
        source.write_bytes(content(lines))
    before = files(earlier)
    said = command(earlier, source)
    assert (said.code, said.out) == (1, "")
    failed, last = said.lines
    assert failed.startswith("  FAILED ingest: ")
    assert message.format(variable=f"SPARKIFY_MINI_SOURCE={source}") in failed
    assert last == LAST_LINE
    assert files(earlier) == before
    assert versions(earlier) == dict.fromkeys(TABLES, 0)


def files(lake: Lake) -> list[Path]:
    return sorted(path for path in Path(lake.root).rglob("*") if path.is_file())


@pytest.mark.parametrize("fields", [{"userId": ""}, {"userId": None}, {"auth": "Logged Out"}])
def test_a_log_without_users_is_said_so(
    fields: dict[str, Any], lines: list[bytes], own: Lake, tmp_path: Path
) -> None:
    (tmp_path / "log.json").write_bytes(changed(lines, **fields))
    said = command(own, tmp_path / "log.json")
    assert said.code == 1
    assert said.lines[-2:] == [
        "  FAILED clean events: None of the log's 1,500 events is of a known user: expected are "
        "events with a userId, and with auth Logged In or Cancelled.",
        LAST_LINE,
    ]
    assert {name for name, number in versions(own).items() if number} == {
        "raw_events",
        "rejected_lines",
    }


@pytest.mark.parametrize("answers", [True, False])
def test_what_an_address_hides_is_kept_nowhere(
    answers: bool, lines: list[bytes], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sparkify_assets.events.source._FIRST_PAUSE_SECONDS", 0.001)
    with serving() as server:
        server.content = b"\n".join(lines)
        address = server.url().replace("//", "//user:secret@")
        if not answers:
            server.statuses = [503] * 99
        done = run(Lake(str(tmp_path / "lake")), address, "raw_events", "rejected_lines")
    assert done.success == answers
    assert "secret" not in done.said
    assert not [event for event in done.result.all_events if "secret" in repr(event)]
    for file in tmp_path.rglob("*"):
        assert "secret" not in file.name
        assert not file.is_file() or b"secret" not in file.read_bytes(), file


# A log with bad lines


def test_odd_lines_are_kept_or_rejected_one_by_one(
    lines: list[bytes], spark: object, tmp_path: Path
) -> None:
    event = json.loads(lines[0]) | {"userId": "odd"}

    def odd(**fields: Any) -> bytes:
        return json.dumps(event | fields).encode()

    long = "la" * 500_000
    placed: list[tuple[bytes, str | None]] = [
        (b"\xef\xbb\xbf" + odd(sessionId=1), None),
        (odd(sessionId=2) + b"\r", None),
        (odd(sessionId=3, song=long, page="NextSong"), None),
        (b"", "blank line"),
        (b"\r", "blank line"),
        (long.encode(), "not JSON: Expecting value at character 0"),
        (odd(ts=1538352000), "ts looks like seconds: 1538352000; milliseconds since 1970 are"),
        (odd(ts=-5), "ts is out of range: -5 ms is not in 1990-01-01 to 2100-01-01"),
        (odd(ts=32_503_680_000_000), "ts is out of range: 32503680000000 ms is not in"),
        (odd(page=None), "field page is missing"),
        (odd(status="OK"), "field status is text, a whole number is expected"),
        (odd()[:-30], "line is cut off"),
    ]
    # The good lines stand between the first odd line and the others.
    whole = [placed[0][0], *lines, *(line for line, _ in placed[1:])]
    log = tmp_path / "log.json"
    log.write_bytes(b"\n".join(whole))
    lake = Lake(str(tmp_path / "lake"))
    found = run(lake, log, "raw_events", "rejected_lines", "cleaned_events", "label_days")
    assert all(found.checks.values())
    written = tables(lake, "raw_events", "rejected_lines", "cleaned_events")

    odd_ones = written["raw_events"].filter(user_id="odd").sort("session_id")
    assert odd_ones["session_id"].to_list() == [1, 2, 3]
    assert odd_ones["song"].to_list()[2] == long
    assert written["raw_events"].height == len(lines) + 3
    assert written["cleaned_events"].filter(user_id="odd").height == 3

    rejected = written["rejected_lines"].sort("byte_offset").rows(named=True)
    expected = [(line, reason) for line, reason in placed if reason]
    data = log.read_bytes()
    for row, (line, reason) in zip(rejected, expected, strict=True):
        assert row["reason"].startswith(reason)
        assert row["source_file"] == "log.json"
        assert data[row["byte_offset"] :].startswith(line)
        assert row["text"] == line.rstrip(b"\r").decode()


def test_too_many_rejected_lines_stop_the_run(
    lines: list[bytes], own: Lake, finished: Run, tmp_path: Path
) -> None:
    (tmp_path / "log.json").write_bytes(b"\n".join([*lines, *[b"no event"] * 20]))
    said = command(own, tmp_path / "log.json")
    assert said.code == 1
    place = own.folder("mini", "rejected_lines")
    unusual, failed, last = said.lines[2:]
    assert unusual.startswith("  WARNING raw_events.as_many_rows_as_usual: Expected: 48,")
    assert failed == (
        "  CHECK FAILED rejected_lines.few_lines_are_rejected: Expected: at most 1.00% of the "
        "lines not to be events. Found: 20 of 1,520 lines of the log (1.32%) that are not events. "
        f"To look: import polars as pl; print(pl.read_delta({place!r}))"
    )
    assert last == LAST_LINE
    assert [line.split()[:2] for line in said.lines[:2]] == [
        ["raw_events", "1,500"],
        ["rejected_lines", "20"],
    ]
    assert {name for name, number in versions(own).items() if number} == {
        "raw_events",
        "rejected_lines",
    }
    assert set(pl.read_delta(place)["text"]) == {"no event"}
    earlier = pl.read_delta(own.folder("mini", "raw_events"), version=0)
    assert earlier.height == finished.lake.version("mini", "raw_events").rows


# A feature table that nothing can be learned from, or that cannot be scored


def cancelling(*users: int) -> Callable[[pl.DataFrame], pl.DataFrame]:
    """Labels by which only these users, in order of their ids, ever cancel."""

    def change(table: pl.DataFrame) -> pl.DataFrame:
        names = table["user_id"].unique().sort()
        chosen = names.gather(list(users)).to_list()
        label = pl.when(pl.col("label").is_not_null()).then(pl.col("user_id").is_in(chosen))
        return table.with_columns(label=label)

    return change


def spoilt(name: str, value: float | None, *, learned: bool) -> Callable[..., pl.DataFrame]:
    """A feature with this value, in the rows to learn from or in those to score."""
    where = pl.col("label").is_not_null() if learned else pl.col("label").is_null()
    return lambda table: table.with_columns(
        pl.when(where).then(pl.lit(value, pl.Float64)).otherwise(name).alias(name)
    )


def with_features(lake: Lake, change: Callable[[pl.DataFrame], pl.DataFrame]) -> None:
    """Other rows in the slices of the feature table."""
    version = lake.version("mini", "feature_table")
    changed = change(lake.read_polars("mini", FEATURE_TABLE)).with_columns(slice=slice_of_row())
    parts = [
        write_part(f"{version.path}/{name}", as_promised(FEATURE_TABLE, rows))
        for (name,), rows in changed.partition_by("slice", as_dict=True).items()
    ]
    lake.commit("mini", FEATURE_TABLE, parts, version.metadata, slices=version.slices)


@pytest.mark.parametrize(
    ("asset", "change", "message"),
    [
        ("trained_model", cancelling(1, 2, 3), "3 users churned; at least 10 are needed to train"),
        ("trained_model", cancelling(), "0 users churned; at least 10 are needed to train"),
        ("trained_model", cancelling(*range(100)), "0 users stayed; at least 10 are needed"),
        (
            "trained_model",
            spoilt("session_rate_ratio", float("inf"), learned=True),
            "rows hold infinite values, in session_rate_ratio.",
        ),
        (
            "churn_scores",
            spoilt("session_rate_ratio", float("inf"), learned=False),
            "rows hold infinite values, in session_rate_ratio.",
        ),
    ],
)
def test_a_bad_feature_table_leaves_model_and_scores_as_they_were(
    asset: str, change: Callable[..., pl.DataFrame], message: str, own: Lake
) -> None:
    with_features(own, change)
    found = run(own, None, asset)
    assert not found.success
    (failed,) = [line for line in found.said.splitlines() if "FAILED" in line]
    assert message in failed
    assert {name for name, number in versions(own).items() if number} == {"feature_table"}


def test_unknown_and_constant_features_are_learned_from_and_scored(own: Lake) -> None:
    unknown, constant = pl.lit(None, pl.Float64), pl.lit(1.0)
    with_features(own, lambda rows: rows.with_columns(session_rate_ratio=unknown, is_paid=constant))
    found = run(own, None, "trained_model", "churn_scores")
    assert found.success
    assert tables(own, "churn_scores")["churn_scores"]["probability"].is_between(0, 1).all()


def test_a_horizon_longer_than_the_log_leaves_model_and_scores_as_they_were(own: Lake) -> None:
    assets = ("feature_table", "trained_model", "churn_scores")
    found = run(own, None, *assets, feature_table={"horizon_days": 90})
    assert not found.success
    assert (
        "FAILED trained model: The log covers 61 days (2018-10-01 to 2018-12-01); no cutoff leaves "
        "room for history before it and a horizon of 90 days after it."
    ) in found.said
    assert "FAILED churn scores: The model version" in found.said
    assert {name for name, number in versions(own).items() if number} == {"feature_table"}


# A command or a lake that cannot be


def test_an_unknown_dataset_is_named_at_once(tmp_path: Path) -> None:
    lake = Lake(str(tmp_path / "lake"))
    said = command(lake, None, partition="maxi")
    assert (said.code, said.out) == (2, "")
    assert said.err == "There is no dataset 'maxi'. There are: mini, full.\n"
    assert not Path(lake.root).exists()


@pytest.mark.parametrize("simulated", [False, True])
@pytest.mark.parametrize("place", ["/proc/lake", "/dev/null/lake", "{tmp}/a file", "{tmp}/closed"])
def test_a_lake_that_cannot_be_written_is_named(
    place: str, simulated: bool, simulated_log: Path, tmp_path: Path
) -> None:
    if place.endswith("closed") and os.geteuid() == 0:
        pytest.skip("root may write into any folder")
    (tmp_path / "a file").write_text("not a folder")
    (tmp_path / "closed").mkdir(mode=0o500)
    root = place.format(tmp=tmp_path)
    said = command(Lake(root), None if simulated else simulated_log)
    assert said.code == 1
    failed, last = said.lines
    assert failed.startswith(f"  FAILED ingest: {root}")
    assert "cannot be written (" in failed
    assert failed.endswith("Give this user the right to, or set SPARKIFY_LAKE to another place.")
    assert last == LAST_LINE


# A full disk


@contextlib.contextmanager
def nearly_full(folder: Path, finished: Run, free_bytes: int) -> Iterator[Lake]:
    """A lake with an earlier run, on a disk of its own that has only so much left."""
    mount = ["mount", "-t", "tmpfs", "-o", f"size={TMPFS_BYTES}", "none", str(folder)]
    try:
        refused = subprocess.run(mount, capture_output=True, text=True).stderr
    except FileNotFoundError:
        refused = "there is no command mount"
    if refused:
        pytest.skip(f"no small disk can be made here: {refused.strip()}")
    try:
        lake = copy(finished.lake, folder / "lake")
        with (folder / "filler").open("wb", buffering=0) as filler:
            with contextlib.suppress(OSError):
                while True:
                    filler.write(bytes(4096))
            filler.truncate(filler.tell() - free_bytes)
        yield lake
    finally:
        subprocess.run(["umount", str(folder)], check=True)


@pytest.fixture(scope="module")
def small_disk(finished: Run, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lake]:
    with nearly_full(tmp_path_factory.mktemp("disk"), finished, free_bytes=0) as lake:
        yield lake


@pytest.fixture(scope="module")
def before(finished: Run) -> dict[str, pl.DataFrame]:
    return tables(finished.lake)


@pytest.mark.parametrize(
    "assets",
    [
        ("raw_events", "rejected_lines"),
        ("cleaned_events", "label_days"),
        ("user_labels", "user_days"),
        ("user_kinds",),
        ("feature_table",),
        ("trained_model",),
        ("model_registry",),
        ("churn_scores",),
        ("churn_report",),
    ],
    ids=lambda assets: assets[0],
)
def test_a_full_disk_is_said_and_changes_no_table(
    assets: tuple[str, ...],
    small_disk: Lake,
    before: dict[str, pl.DataFrame],
    simulated_log: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """As when something else fills it during the run; what is full before is said before."""
    monkeypatch.setattr(capacity, "LAKE_SHARE", 0)
    lake = small_disk
    report = Path(lake.root, "mini", "churn_report")
    page = (report / "churn_report.html").read_text()
    found = run(lake, simulated_log, *assets)
    assert not found.success
    assert found.materialized == {}
    (failed,) = [line for line in found.said.splitlines() if line]
    assert failed.startswith("  FAILED ")
    assert f"The disk of {lake.root}" in failed
    assert failed.endswith(
        "is full (0 MB free). Nothing of this step was committed: what was there before is as it "
        "was. Make room, or set SPARKIFY_LAKE to another place, and run again."
    )
    assert versions(lake) == dict.fromkeys(TABLES, 0)
    for name, table in tables(lake).items():
        assert_frame_equal(table, before[name])
    assert [path.name for path in report.iterdir()] == ["churn_report.html"]
    assert (report / "churn_report.html").read_text() == page


def test_a_commit_on_a_full_disk_leaves_the_table_readable(
    small_disk: Lake, before: dict[str, pl.DataFrame]
) -> None:
    with pytest.raises(LakeError, match="is full"):
        small_disk.commit("mini", USER_LABELS, [])
    assert_frame_equal(tables(small_disk, "user_labels")["user_labels"], before["user_labels"])


def test_a_disk_without_room_is_said_before_the_log_is_read(
    small_disk: Lake, simulated_log: Path
) -> None:
    said = command(small_disk, simulated_log)
    assert said.code == 1
    assert re.search(
        r"What is made of this log \(mini\) takes about \d+ MB of disk; .* has 0 MB free",
        said.lines[0],
    )
    assert versions(small_disk) == dict.fromkeys(TABLES, 0)


def test_no_room_for_a_simulated_log(small_disk: Lake) -> None:
    said = command(small_disk, None)
    assert said.code == 1
    assert len(said.lines) == 2
    assert "The log of 225 users and 61 days takes about 157 MB of disk; " in said.lines[0]


# A process of its own, with a JVM of its own that could say something too


_WITHOUT_FORESIGHT = """
import sys
from sparkify_assets import capacity
from sparkify_assets.__main__ import main
capacity.LAKE_SHARE = 0
sys.exit(main(["--partition", "mini"]))
"""


def test_a_terminal_shows_no_stack_trace(
    finished: Run,
    simulated_log: Path,
    before: dict[str, pl.DataFrame],
    tmp_path: Path,
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    """The disk is full when Spark's tasks clean: Python and Java would have much to say of it."""
    # By another name, so that every day is of another file than before.
    log = tmp_path_factory.mktemp("log") / "log.json"
    shutil.copy(simulated_log, log)
    room = finished.lake.version("mini", "raw_events").size + 300_000
    with nearly_full(tmp_path, finished, free_bytes=room) as lake:
        done = subprocess.run(
            [sys.executable, "-W", "ignore", "-c", _WITHOUT_FORESIGHT],
            env=environment(lake, log),
            capture_output=True,
            text=True,
        )
        written = tables(lake, "cleaned_events")
        newer = {name for name, number in versions(lake).items() if number}
    # Java says so of its own module, before it can be told to be quiet.
    told = [line for line in done.stderr.splitlines() if "incubator modules" not in line]
    assert (done.returncode, done.stdout) == (1, "")
    assert [line.split()[:2] for line in told] == [
        ["Materializing", "mini"],
        ["raw_events", f"{before['raw_events'].height:,}"],
        ["rejected_lines", "0"],
        ["FAILED", "clean"],
        ["The", "run"],
    ]
    assert f"FAILED clean events: The disk of {lake.root} is full (" in told[3]
    assert newer == {"raw_events", "rejected_lines"}
    assert_frame_equal(written["cleaned_events"], before["cleaned_events"])
