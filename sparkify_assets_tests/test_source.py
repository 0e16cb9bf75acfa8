"""From what a setting names to the files of a log."""

from __future__ import annotations

import bz2
import gzip
import os
import re
import traceback
from collections.abc import Iterator
from pathlib import Path

import pytest

from sparkify_assets.errors import SourceError, UnreachableError
from sparkify_assets.events import source as module
from sparkify_assets.events.source import (
    Fingerprint,
    LogFile,
    find_log_files,
    look,
    open_filesystem,
    printable,
)
from sparkify_assets_tests.serving import Server, serving


def find(source: object, downloads: Path = Path("downloads")) -> list[LogFile]:
    return find_log_files(str(source), variable="A_SOURCE", downloads=downloads)


def names(source: object) -> list[str]:
    return [file.name for file in find(source)]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    root = tmp_path / "my logs"
    for name in ("b.json", "a.jsonl", "c.ndjson", ".hidden.json", "notes.txt", "x/d.json"):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text("{}\n")
    (root / "e.JSON.gz").write_bytes(gzip.compress(b"{}\n"))
    (root / "x" / "y").mkdir()
    (root / "x" / "y" / "f.json.bz2").write_bytes(bz2.compress(b"{}\n"))
    return root


def test_a_file(folder: Path) -> None:
    (file,) = find(folder / "notes.txt")
    assert (file.uri, file.name, file.size) == (str(folder / "notes.txt"), "notes.txt", 3)
    assert file.compression is None
    assert file.stamp == str((folder / "notes.txt").stat().st_mtime_ns)


def test_a_folder(folder: Path) -> None:
    assert names(folder) == ["a.jsonl", "b.json", "c.ndjson", "e.JSON.gz"]
    assert [file.compression for file in find(f"{folder}/")] == [None, None, None, "gz"]


@pytest.mark.parametrize(
    ("pattern", "expected"),
    [
        ("*.json", ["b.json"]),
        ("[ab].*", ["a.jsonl", "b.json"]),
        ("?.txt", None),
        ("*.txt", ["notes.txt"]),
        ("*/*.json", ["x/d.json"]),
        ("x/*", ["d.json"]),
        ("**/*.json", ["b.json", "x/d.json"]),
        ("x/**/*.bz2", ["y/f.json.bz2"]),
        ("nowhere/*.json", None),
    ],
)
@pytest.mark.parametrize("as_uri", [False, True])
def test_a_glob(folder: Path, pattern: str, expected: list[str] | None, as_uri: bool) -> None:
    source = f"{folder.as_uri() if as_uri else folder}/{pattern}"
    if as_uri and re.search(r"[?\[]", pattern):
        pytest.skip("a URI's own meaning of ? and [ comes first")
    if expected is None:
        with pytest.raises(SourceError, match="no file matches"):
            find(source)
    else:
        assert names(source) == expected


def test_a_uri(folder: Path) -> None:
    files = find(folder.as_uri())
    assert [file.name for file in files] == names(folder)
    for file in files:
        filesystem, path = open_filesystem(file.uri)
        assert filesystem.get_file_info(path).size == file.size


def test_home_and_relative_paths(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(folder))
    monkeypatch.chdir(folder / "x")
    assert find("~/b.json")[0].uri == find("../b.json")[0].uri == str(folder / "b.json")


def test_a_name_with_wildcards_that_exists(tmp_path: Path) -> None:
    (tmp_path / "log[1].json").write_text("{}\n")
    assert names(tmp_path / "log[1].json") == ["log[1].json"]


@pytest.mark.parametrize(
    ("source", "message"),
    [
        (" ", "A_SOURCE is empty"),
        ("nothing.json", "A_SOURCE=nothing.json: there is no such file or folder"),
        ("empty.json", r"empty.json is empty \(0 bytes\)"),
        ("hollow", "holds no log. Expected are files that end in .json"),
        ("*.csv", r"no file matches \*.csv"),
        ("/dev/null", "is neither a file nor a folder"),
        ("ftp://host/log.json", "storage of the kind ftp:// cannot be opened"),
        ("not.json.gz", "ends in .gz but does not hold gz data"),
        ("other.json.zst", "ends in .zst but does not hold zst data, it holds gz data"),
        ("gzip.json", "holds gz data. Rename it to end in .gz"),
        ("log.zip", "is a zip file. Unpack it"),
    ],
)
def test_what_cannot_be_a_log(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, source: str, message: str
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "hollow").mkdir()
    contents = {
        "empty.json": b"",
        "not.json.gz": b"{}\n",
        "other.json.zst": gzip.compress(b"{}\n"),
        "gzip.json": gzip.compress(b"{}\n"),
        "log.zip": b"PK\x03\x04....",
    }
    for name, content in contents.items():
        Path(name).write_bytes(content)
    with pytest.raises(SourceError, match=message):
        find(source)


NAMES = (
    "a b.json",
    "a\nb.json",
    "ü♫.json",
    "a%20b.json",
    "-rf.json",
    "a'b\".json",
    "[a].json",
    "a?b",
)


@pytest.mark.parametrize(
    "name", [*NAMES, "a\\b.json", "a#b.json", "a:b.json", "x=1.json", "~.json"]
)
def test_a_name_is_but_a_name(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_text("{}\n")
    ways = [tmp_path / name]
    ways += [tmp_path, tmp_path.as_uri()] if name.endswith(".json") else [tmp_path / "a*"]
    for source in ways:
        (file,) = find(source)
        filesystem, path = open_filesystem(file.uri)
        assert file.name == name
        assert filesystem.open_input_file(path).read() == b"{}\n"


def test_nobody_waits_for_what_is_no_file(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.json")
    with pytest.raises(SourceError, match="is neither a file nor a folder"):
        find(tmp_path / "pipe.json")
    (tmp_path / "gone.json").symlink_to(tmp_path / "nowhere")
    (tmp_path / "round.json").symlink_to(tmp_path / "round.json")
    (tmp_path / "folder.json").mkdir()
    with pytest.raises(SourceError, match="the folder holds no log"):
        find(tmp_path)


def test_a_look_sees_what_an_ingest_would_find_without_opening_it(folder: Path) -> None:
    for source in (folder, folder / "a.jsonl", folder / "**" / "*.json", folder.as_uri()):
        now = look(f" {source}", variable="A_SOURCE")
        assert now == Fingerprint.of(find(source))
    (folder / "a.jsonl").write_text("")
    now = look(str(folder), variable="A_SOURCE")
    assert (now.files, now.size) == (4, 3 + 3 + (folder / "e.JSON.gz").stat().st_size)
    with pytest.raises(SourceError, match=r"A_SOURCE=/nowhere: there is no such file or folder"):
        look("/nowhere", variable="A_SOURCE")


@pytest.mark.skipif(os.getuid() == 0, reason="root may read anything")
def test_a_file_that_may_not_be_read(tmp_path: Path) -> None:
    (tmp_path / "log.json").write_text("{}\n")
    (tmp_path / "log.json").chmod(0)
    with pytest.raises(SourceError, match=r"log.json: may not be read by this user"):
        find(tmp_path / "log.json")


def test_secrets_are_not_printed() -> None:
    shown = printable("s3://key:secret@bucket/log.json?session_token=abc")
    assert shown == "s3://bucket/log.json"


@pytest.mark.parametrize(
    "address",
    [
        "ftp://user:secret@host/log.json?key=secret",
        "http://user:secret@/log.json?key=secret",
        "http://user:a secret@/log.json?key=secret",
        "http://user:secret@host:port/log.json?key=secret",
        "http://user:secret@127.0.0.1:1/log.json?key=secret",
        "http://user:secret@nowhere.invalid/log.json?key=secret",
        "s3://user:secret@bucket/log.json?key=secret",
    ],
)
def test_no_error_holds_what_an_address_hides(
    address: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nor do the errors that it comes from, which Dagster keeps as well."""
    monkeypatch.setattr(module, "_FIRST_PAUSE_SECONDS", 0.001)
    for ask in (lambda: find(address, tmp_path), lambda: look(address, variable="A_SOURCE")):
        with pytest.raises(SourceError, match="A_SOURCE=") as raised:
            ask()
        assert "secret" not in "".join(traceback.format_exception(raised.value))


def test_what_others_chose_cannot_write_more_than_a_line(server: Server, tmp_path: Path) -> None:
    (tmp_path / "a\n\x1b[2J\u202eb.json").write_text("")
    with pytest.raises(SourceError, match=r"the file a\\n\\x1b\[2J\\u202eb.json is empty"):
        find(tmp_path)
    server.reason = "gone\x1b[2J" + "x" * 10_000
    server.statuses = [410]
    with pytest.raises(SourceError, match=r"410 gone\\x1b\[2Jx{10,100}\. Check") as raised:
        find(server.url(), tmp_path / "downloads")
    assert len(str(raised.value)) < 300


def test_a_file_whose_name_is_no_text(tmp_path: Path) -> None:
    (tmp_path / os.fsdecode(b"\xff.json")).write_text("{}\n")
    with pytest.raises(SourceError, match=r"name in it is not UTF-8\. Rename the file"):
        find(tmp_path)


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    monkeypatch.setattr(module, "_FIRST_PAUSE_SECONDS", 0.001)
    with serving() as server:
        yield server


def downloaded(server: Server, folder: Path, name: str = "log.json") -> bytes:
    (file,) = find(server.url(name), folder)
    assert file.name == name
    assert file.size == Path(file.uri).stat().st_size
    assert not list(folder.rglob("*.part*"))
    return Path(file.uri).read_bytes()


def test_a_download(server: Server, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert downloaded(server, tmp_path) == server.content
    assert "log.json: 100%" in capsys.readouterr().err
    assert downloaded(server, tmp_path) == server.content
    assert server.requests == [(200, None), (304, None)]
    server.content, server.etag = b"{}\n", '"2"'
    assert downloaded(server, tmp_path) == b"{}\n"


def test_a_download_without_etag_is_known_by_its_length(server: Server, tmp_path: Path) -> None:
    server.etag = None
    downloaded(server, tmp_path)
    kept = server.content
    server.content = b"#" * len(kept)
    assert downloaded(server, tmp_path) == kept
    server.content += b"\n"
    assert downloaded(server, tmp_path) == server.content


def test_a_download_that_breaks_off_goes_on(server: Server, tmp_path: Path) -> None:
    server.break_after = [2_000_000, 500_000]
    assert downloaded(server, tmp_path) == server.content
    assert server.requests == [(200, None), (206, "bytes=2000000-"), (206, "bytes=2500000-")]
    assert server.sent == len(server.content)


@pytest.mark.parametrize("drips_bytes", [0, 10])
def test_a_server_that_stalls_is_asked_again(
    server: Server, tmp_path: Path, drips_bytes: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_TIMEOUT_SECONDS", (1, 0.5))
    monkeypatch.setattr(module, "_SLOW_SECONDS", 1)
    server.stall_after, server.drips_bytes = [2_000_000], drips_bytes
    assert downloaded(server, tmp_path) == server.content
    assert [status for status, _ in server.requests] == [200, 206]
    assert int(re.findall(r"\d+", server.requests[1][1] or "")[0]) >= 2_000_000


def test_a_server_that_goes_on_stalling(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_SLOW_SECONDS", 0.3)
    server.stall_after, server.drips_bytes = [1_000] * 9, 10
    with pytest.raises(UnreachableError, match="5 attempts: the server hardly sends anything"):
        find(server.url(), tmp_path)


def test_a_download_goes_on_in_the_next_run(server: Server, tmp_path: Path) -> None:
    server.break_after = [1_000] + [0] * 9
    with pytest.raises(SourceError, match=r"1,000 bytes are kept; the next run goes on") as raised:
        find(server.url(), tmp_path)
    assert "secret" not in str(raised.value)
    server.break_after = []
    assert downloaded(server, tmp_path) == server.content
    assert server.sent == len(server.content)


def test_a_file_that_changes_during_the_download_is_fetched_anew(
    server: Server, tmp_path: Path
) -> None:
    server.break_after = [1_000] + [0] * 9
    with pytest.raises(SourceError):
        find(server.url(), tmp_path)
    server.break_after, server.etag, server.content = [], '"2"', b"{}\n" * 10
    assert downloaded(server, tmp_path) == server.content


def test_a_server_that_is_busy_for_a_while(server: Server, tmp_path: Path) -> None:
    server.statuses = [503, 429]
    assert downloaded(server, tmp_path) == server.content


def test_a_range_that_no_longer_exists(server: Server, tmp_path: Path) -> None:
    server.break_after = [1_000] + [0] * 9
    with pytest.raises(SourceError):
        find(server.url(), tmp_path)
    server.break_after, server.statuses = [], [416]
    assert downloaded(server, tmp_path) == server.content


@pytest.mark.parametrize(
    ("statuses", "message"),
    [
        ([404], "the server answered 404 Not Found"),
        ([403], "the server answered 403 Forbidden"),
        ([500] * 9, "failed after 5 attempts: the server answered 500"),
    ],
)
def test_error_statuses(server: Server, tmp_path: Path, statuses: list[int], message: str) -> None:
    server.statuses = statuses
    with pytest.raises(SourceError, match=rf"A_SOURCE=http://127.*/folder/log.json: .*{message}"):
        find(server.url(), tmp_path)


def test_a_server_that_is_not_there(server: Server, tmp_path: Path) -> None:
    url = server.url().replace(str(server.server_port), "1")
    with pytest.raises(SourceError, match="the connection was refused"):
        find(url, tmp_path)


def test_a_copy_serves_while_the_server_does_not(server: Server, tmp_path: Path) -> None:
    downloaded(server, tmp_path)
    server.statuses = [503] * 9
    assert downloaded(server, tmp_path) == server.content


@pytest.mark.parametrize("etag", ['"1"', None])
def test_a_look_at_a_server_tells_its_version_without_a_download(
    server: Server, tmp_path: Path, etag: str | None
) -> None:
    server.etag = etag
    taken_in = Fingerprint.of(find(server.url(), tmp_path))
    sent = server.sent
    assert look(server.url(), variable="A_SOURCE") == taken_in
    assert server.requests[-1][1] == "bytes=0-0"
    if etag:
        server.etag = '"2"'
    else:
        server.content += b"{}\n"
    assert look(server.url(), variable="A_SOURCE") != taken_in
    assert server.sent <= sent + 2  # it counts a byte after having sent it


@pytest.mark.parametrize(
    ("status", "message"),
    [(404, "the server answered 404 Not Found"), (503, "the server cannot be asked: .* 503")],
)
def test_a_look_at_a_server_that_does_not_answer(server: Server, status: int, message: str) -> None:
    server.statuses = [status]
    with pytest.raises(SourceError, match=f"A_SOURCE=http://.*/log.json: {message}") as raised:
        look(server.url(), variable="A_SOURCE")
    assert "secret" not in str(raised.value)
    with pytest.raises(SourceError, match="the connection was refused"):
        look(server.url().replace(str(server.server_port), "1"), variable="A_SOURCE")


def test_a_server_that_says_nothing_of_its_files_version(server: Server) -> None:
    server.says_length = False
    server.etag = None
    with pytest.raises(SourceError, match="does not say how long the file is"):
        look(server.url(), variable="A_SOURCE")


@pytest.mark.parametrize("url", ["http://", "http://[::1", "http://a b/c.json"])
def test_an_address_that_is_none(tmp_path: Path, url: str) -> None:
    with pytest.raises(SourceError, match=r"A_SOURCE=http://.*the address cannot be used"):
        find(url, tmp_path)


@pytest.mark.parametrize(
    "to", ["file:///etc/passwd?a=secret", "ftp://an:secret@127.0.0.1/log.json", "///"]
)
def test_a_server_does_not_send_us_elsewhere_than_to_a_server(
    server: Server, tmp_path: Path, to: str
) -> None:
    server.redirect_to = to
    with pytest.raises(SourceError, match=r"the address cannot be used") as raised:
        find(server.url(), tmp_path)
    assert "secret" not in str(raised.value)
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == []


@pytest.mark.parametrize(
    "name", ["..", "%2e%2e", "a%2F..%2F..%2Fb", "x%2Fy.json", ".", "%2e%2e%2f"]
)
def test_a_download_stays_in_its_folder(server: Server, tmp_path: Path, name: str) -> None:
    place = tmp_path / "downloads"
    (file,) = find(server.url(name), place)
    assert Path(file.uri).resolve().is_relative_to(place)
    assert {path.name for path in tmp_path.iterdir()} == {"downloads"}
    assert Path(file.uri).read_bytes() == server.content


def test_a_link_that_leads_out_of_the_folder_is_refused(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "elsewhere.json").write_text("{}\n")
    (folder / "y.json").symlink_to(tmp_path / "elsewhere.json")
    for place in (folder, folder / "*.json"):
        with pytest.raises(SourceError, match=r"y\.json is a link to a place outside"):
            find(place)
    (folder / "y.json").unlink()
    (folder / "x" / "up").symlink_to(tmp_path)
    with pytest.raises(SourceError, match=r"x/up/elsewhere\.json is a link to a place outside"):
        find(folder / "**" / "*.json")
    link = tmp_path / "link"
    link.symlink_to(folder)
    assert "a.jsonl" in names(link), "a folder that is named may be one"


def test_a_file_that_has_several_names_is_read_once(folder: Path) -> None:
    before = names(folder), names(folder / "**" / "*.json*")
    (folder / "0.json").symlink_to(folder / "a.jsonl")
    (folder / "x" / "up").symlink_to(folder)
    assert (names(folder), names(folder / "**" / "*.json*")) == before
    assert names(folder / "0.json") == ["0.json"]


def test_compressed_downloads(server: Server, tmp_path: Path) -> None:
    server.content = gzip.compress(b"{}\n")
    assert find(server.url("log.json.gz"), tmp_path)[0].compression == "gz"
    assert find(server.url("export"), tmp_path)[0].compression == "gz"
    server.content = b"<html>please log in</html>"
    with pytest.raises(SourceError, match="does not hold gz data"):
        find(server.url("other.json.gz"), tmp_path)


def test_a_downloads_folder_that_cannot_be_written(server: Server, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(SourceError, match=r"cannot be stored in .*file/folder \([\d,]+ MB free\)"):
        find(server.url(), tmp_path / "file" / "folder")
