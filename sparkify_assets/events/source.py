"""From what a setting names to the files of an event log that workers can open.

Belongs here: paths, folders, globs, object stores, downloads, telling apart what can be read, and
by what it is seen that files are new or changed.
Does not belong here: reading the lines (`ingest.py`) and judging them (`parse.py`).
"""

from __future__ import annotations

import contextlib
import errno
import fnmatch
import hashlib
import json
import logging
import os
import re
import shutil
import sys
import time
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import BinaryIO
from urllib.parse import quote, unquote, urlsplit

import pyarrow as pa
import pyarrow.fs
import requests
import urllib3
from tqdm import tqdm

from sparkify_assets.errors import SourceError, UnreachableError
from sparkify_assets.storage import open_filesystem, printable

logger = logging.getLogger("sparkify_assets")

_LOG_NAME = re.compile(r"\.(json|jsonl|ndjson)(\.(gz|bz2|zst))?\Z", re.IGNORECASE)
_COMPRESSED_NAME = re.compile(r"\.(gz|bz2|zst)\Z", re.IGNORECASE)
_MAGIC = {
    "gz": re.compile(rb"\x1f\x8b"),
    "bz2": re.compile(rb"BZh[1-9]"),
    "zst": re.compile(rb"\x28\xb5\x2f\xfd|[\x50-\x5f]\x2a\x4d\x18"),
    "zip": re.compile(rb"PK\x03\x04"),
    "xz": re.compile(rb"\xfd7zXZ\x00"),
    "Parquet": re.compile(rb"PAR1"),
}
_READABLE = (None, "gz", "bz2", "zst")
_WILDCARD = re.compile(r"[*?\[]")
_ADDRESS = re.compile(r"\w+://[^\s'\"]+")

_AT_ONCE = 16  # files that are looked into together, for the sake of object stores
_ATTEMPTS = 5  # in a row without progress
_PROGRESS_BYTES = 2**20  # what counts as progress
_FIRST_PAUSE_SECONDS = 0.5  # doubled by every further attempt
_TIMEOUT_SECONDS = (10, 60)  # to connect, between two bytes
_SLOW_SECONDS, _SLOW_BYTES = 60, 2**16  # who sends less in that time will not get done
_TO_LOOK_SECONDS = (5, 15)
_CHUNK_BYTES = 2**20
_SHOWN_CHARS = 100  # of what a server says in its own words


@dataclass(frozen=True)
class LogFile:
    """One file of an event log."""

    uri: str
    """A path or URI that `open_filesystem` takes, on any worker that sees the same storage."""
    name: str
    """Short, relative to the source; what `source_file` holds."""
    size: int
    """Bytes as stored."""
    stamp: str
    """Another one when the file has changed: its time, or what its server says of its version."""
    compression: str | None
    """None, 'gz', 'bz2' or 'zst'."""


@dataclass(frozen=True)
class Fingerprint:
    """What a log's files look like from outside; equal as long as none is new, changed or gone."""

    files: int
    size: int
    """Bytes as stored."""
    digest: str

    @classmethod
    def of(cls, files: Iterable[LogFile | _Found]) -> Fingerprint:
        known = sorted((file.name, file.size, file.stamp) for file in files)
        digest = hashlib.sha256(json.dumps(known).encode()).hexdigest()[:16]
        return cls(len(known), sum(size for _, size, _ in known), digest)


def find_log_files(source: str, *, variable: str, downloads: Path) -> list[LogFile]:
    """The files that `source` names, in order of their names; at least one.

    `source` is a path, folder, glob, http(s) URL or object-store URI. A folder gives its *.json,
    *.jsonl and *.ndjson, also .gz, .bz2 and .zst, that are not hidden. An http(s) URL is
    downloaded into the folder `downloads`, unless the copy there is still the newest or the
    server cannot be reached.
    `variable` is the setting that errors name. Raises SourceError.
    """
    source = _given(source, variable)
    with _naming(variable, source):
        if re.match("https?://", source, re.IGNORECASE):
            return [_log_file(_download(source, downloads), by_content=True)]
        with ThreadPoolExecutor(_AT_ONCE) as pool:
            return list(pool.map(_log_file, _find(source)))


def look(source: str, *, variable: str) -> Fingerprint:
    """The fingerprint that `find_log_files` would find now, without opening or downloading a file.

    Raises SourceError, also where a server does not say by what a change could be seen.
    """
    source = _given(source, variable)
    with _naming(variable, source):
        is_url = re.match("https?://", source, re.IGNORECASE)
        return Fingerprint.of([_ask(source)] if is_url else _find(source))


def _given(source: str, variable: str) -> str:
    if source := source.strip():
        return source
    raise SourceError(f"{variable} is empty. Name an event log, or unset it.")


@contextlib.contextmanager
def _naming(variable: str, source: str) -> Iterator[None]:
    """Errors within name the setting and its value, and hold no secret of it.

    Nor does what they come from, so it is cut off: it may quote an address, and Dagster keeps it.
    """
    where = f"{variable}={printable(source)}"
    try:
        yield
    except SourceError as error:
        raise type(error)(f"{where}: {_as_shown(str(error), source)}") from None
    except PermissionError:
        raise SourceError(f"{where}: may not be read by this user.") from None
    except UnicodeDecodeError:
        raise SourceError(f"{where}: a file's name in it is not UTF-8. Rename the file.") from None
    except (OSError, pa.ArrowException) as error:
        reason = _as_shown(str(error).partition("\n")[0], source)
        raise SourceError(f"{where}: cannot be read: {reason}") from None


def _as_shown(text: str, source: str) -> str:
    return _ADDRESS.sub(lambda found: printable(found[0]), text.replace(source, printable(source)))


@dataclass(frozen=True)
class _Found:
    """A file that nobody has looked into yet; as in LogFile."""

    uri: str
    name: str
    size: int
    stamp: str

    @classmethod
    def of(cls, uri: str, name: str, info: pa.fs.FileInfo) -> _Found:
        return cls(uri, name, info.size, str(info.mtime_ns))


def _find(source: str) -> list[_Found]:
    """In order of their names; at least one."""
    is_uri = "://" in source
    uri, _, query = source.partition("?") if is_uri else (source, "", "")
    if not is_uri:
        uri = os.path.abspath(os.path.expanduser(source))
    filesystem, path = _open_source(uri, query)
    info = filesystem.get_file_info(path)
    if info.type == pa.fs.FileType.File:
        return [_Found.of(source if is_uri else path, info.base_name, info)]
    if info.type == pa.fs.FileType.Directory:
        folder, pattern = uri.rstrip("/"), None
    elif info.type == pa.fs.FileType.NotFound and _WILDCARD.search(path):
        steps = uri.split("/")
        first = next(i for i, step in enumerate(steps) if _WILDCARD.search(step))
        folder, pattern = "/".join(steps[:first]), "/".join(steps[first:])
        if is_uri:
            pattern = unquote(pattern)
    elif info.type == pa.fs.FileType.NotFound:
        raise SourceError("there is no such file or folder.")
    else:
        raise SourceError("is neither a file nor a folder.")

    filesystem, base = _open_source(folder or "/", query)
    found = _list(filesystem, base, pattern)
    if isinstance(filesystem, pa.fs.LocalFileSystem):
        found = _each_once(base, found)
    if not found:
        what = f"no file matches {pattern}" if pattern else "the folder holds no log"
        raise SourceError(
            f"{what}. Expected are files that end in .json, .jsonl or .ndjson, also with "
            ".gz, .bz2 or .zst; a glob may name others."
        )
    suffix = f"?{query}" if query else ""
    return [
        _Found.of(f"{folder}/{quote(name)}{suffix}" if is_uri else f"{folder}/{name}", name, info)
        for name, info in sorted(found.items())
    ]


def _open_source(uri: str, query: str) -> tuple[pa.fs.FileSystem, str]:
    whole = f"{uri}?{query}" if query else uri
    try:
        return open_filesystem(whole)
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError) as error:
        scheme = uri.partition("://")[0]
        reason = str(error).partition("\n")[0]
        raise SourceError(
            f"storage of the kind {scheme}:// cannot be opened ({reason}). "
            "Use a path, folder, glob, http(s)://, s3://, gs://, abfs:// or hdfs:// address."
        ) from error


def _list(
    filesystem: pa.fs.FileSystem, folder: str, pattern: str | None
) -> dict[str, pa.fs.FileInfo]:
    """The log files in `folder`, or whatever matches `pattern`, by name relative to `folder`."""
    deep = pattern is not None and ("/" in pattern or "**" in pattern)
    selector = pa.fs.FileSelector(folder, recursive=deep, allow_not_found=True)
    base = folder.rstrip("/")
    files = {
        info.path[len(base) :].lstrip("/"): info
        for info in filesystem.get_file_info(selector)
        if info.type == pa.fs.FileType.File
    }
    return {name: info for name, info in files.items() if _is_wanted(name, pattern)}


def _each_once(folder: str, found: dict[str, pa.fs.FileInfo]) -> dict[str, pa.fs.FileInfo]:
    """Less the links to other files of the folder, as each line counts once.

    Raises SourceError where a file is a link to a place outside of the folder: who may put files
    into a folder is not always to see what is elsewhere on this machine.
    """
    inside = Path(folder).resolve()
    names: dict[Path, str] = {}
    for name in sorted(found, key=lambda name: ((inside / name).resolve() != inside / name, name)):
        place = (inside / name).resolve()
        if not place.is_relative_to(inside):
            raise SourceError(
                f"{name} is a link to a place outside of the folder. Put the file itself there, or "
                "name the folder that it is in."
            )
        names.setdefault(place, name)
    return {name: found[name] for name in names.values()}


def _is_wanted(name: str, pattern: str | None) -> bool:
    if any(step.startswith(".") for step in name.split("/")):
        return False
    return bool(_LOG_NAME.search(name)) if pattern is None else _matches(name, pattern)


def _matches(name: str, pattern: str) -> bool:
    if "**" in pattern:
        none = pattern.replace("**/", "")
        return fnmatch.fnmatchcase(name, pattern) or fnmatch.fnmatchcase(name, none)
    return name.count("/") == pattern.count("/") and all(
        fnmatch.fnmatchcase(step, part)
        for step, part in zip(name.split("/"), pattern.split("/"), strict=True)
    )


def _log_file(file: _Found, *, by_content: bool = False) -> LogFile:
    """`by_content`: the ending need not tell the compression, as in a download without ending."""
    name = file.name
    filesystem, path = open_filesystem(file.uri)
    if file.size == 0:
        raise SourceError(f"the file {name} is empty (0 bytes).")
    with filesystem.open_input_stream(path, compression=None) as stream:
        start = stream.read(8)
    found = next((kind for kind, magic in _MAGIC.items() if magic.match(start)), None)
    if found not in _READABLE:
        raise SourceError(f"the file {name} is a {found} file. Unpack it to JSON lines first.")
    ending = name.rpartition(".")[2].lower() if _COMPRESSED_NAME.search(name) else None
    if ending is None and by_content:
        ending = found
    if ending is not None and found != ending:
        raise SourceError(
            f"the file {name} ends in .{ending} but does not hold {ending} data"
            + (f", it holds {found} data" if found else "")
            + ". It may be damaged or wrongly named."
        )
    if found != ending:
        raise SourceError(f"the file {name} holds {found} data. Rename it to end in .{found}.")
    return LogFile(file.uri, name, file.size, file.stamp, found)


@dataclass(frozen=True)
class _Version:
    """What a server said about a file, kept beside the download to know it again."""

    etag: str | None = None
    last_modified: str | None = None
    length: int | None = None

    @classmethod
    def of(cls, response: requests.Response) -> _Version:
        headers = response.headers
        whole = re.fullmatch(r"bytes \d+-\d+/(\d+)", headers.get("Content-Range", ""))
        length = whole[1] if whole else headers.get("Content-Length")
        return cls(
            headers.get("ETag"), headers.get("Last-Modified"), int(length) if length else None
        )

    @classmethod
    def load(cls, path: Path) -> _Version | None:
        try:
            return cls(**json.loads(path.read_text()))
        except (OSError, ValueError, TypeError):
            return None

    def save(self, path: Path) -> None:
        path.write_text(json.dumps(asdict(self)))

    @property
    def stamp(self) -> str:
        return self.etag or self.last_modified or ""

    @property
    def validator(self) -> str | None:
        """What If-Range accepts: it knows no weak ETags."""
        strong = self.etag if self.etag and not self.etag.startswith("W/") else None
        return strong or self.last_modified


class _Interrupted(Exception):
    """The server can be asked again."""


def _ask(url: str) -> _Found:
    """What a server says of a file. Asked as for a download, as not every server answers HEAD."""
    headers = {"Accept-Encoding": "identity", "Range": "bytes=0-0"}
    try:
        name = _file_name(url)
        with requests.get(url, headers=headers, stream=True, timeout=_TO_LOOK_SECONDS) as response:
            _check_status(response)
            version = _Version.of(response)
    except (_Interrupted, requests.RequestException, ValueError) as error:
        raise SourceError(f"the server cannot be asked: {_cause(error)}.") from error
    if version.length is None:
        raise SourceError("the server does not say how long the file is, so no change can be seen.")
    return _Found(url, name, version.length, version.stamp)


def _file_name(url: str) -> str:
    name = unquote(urlsplit(url).path).rstrip("/").rpartition("/")[2]
    return name if name.strip(".") else "download"  # also where it would be another folder's


def _download(url: str, folder: Path) -> _Found:
    """The whole file at `url`, in a folder of its own so that equal names do not collide."""
    try:
        name = _file_name(url)
        target = folder / hashlib.sha256(url.encode()).hexdigest()[:12] / name
        target.parent.mkdir(parents=True, exist_ok=True)
        _download_with_retries(url, target)
    except (OSError, ValueError) as error:
        if isinstance(error, requests.RequestException) or not isinstance(error, OSError):
            raise SourceError(f"the address cannot be used: {_cause(error)}.") from error
        free = shutil.disk_usage(_existing(folder)).free / 1e6
        raise SourceError(
            f"the download cannot be stored in {folder} ({free:,.0f} MB free): "
            f"{error.strerror or error}."
        ) from error
    version = _Version.load(_note(target)) or _Version()
    return _Found(str(target), name, _size(target), version.stamp)


def _download_with_retries(url: str, target: Path) -> None:
    failures, before = 0, 0
    while error := _try_download(url, target):
        here = _size(_part(target))
        failures = 1 if here >= before + _PROGRESS_BYTES else failures + 1
        before = here
        if failures >= _ATTEMPTS or isinstance(error, requests.exceptions.SSLError):
            if target.exists() and _note(target).exists():
                logger.warning("%s: %s; the copy here is used", target.name, _cause(error))
                return
            kept = f" {here:,} bytes are kept; the next run goes on from there." if here else ""
            said = f"the download failed after {failures} attempts: {_cause(error)}.{kept}"
            if isinstance(error, requests.exceptions.SSLError):
                raise SourceError(said) from error  # a wrong certificate stays wrong
            raise UnreachableError(said) from error
        time.sleep(_FIRST_PAUSE_SECONDS * 2 ** (failures - 1))


def _try_download(url: str, target: Path) -> Exception | None:
    """None when `target` is the whole newest file; an error that may pass when tried again."""
    try:
        _download_once(url, target)
    except (
        _Interrupted,
        requests.ConnectionError,
        requests.Timeout,
        urllib3.exceptions.HTTPError,
    ) as error:
        return error
    return None


def _download_once(url: str, target: Path) -> None:
    part, note, part_note = _part(target), _note(target), _note(_part(target))
    kept = _Version.load(note) if target.exists() else None
    begun = _Version.load(part_note) if _size(part) else None
    # Content-Encoding would make lengths and ranges meaningless.
    headers = {"Accept-Encoding": "identity"}
    if begun and begun.validator:
        headers |= {"Range": f"bytes={_size(part)}-", "If-Range": begun.validator}
    elif kept:
        headers |= {"If-None-Match": kept.etag} if kept.etag else {}
        headers |= {"If-Modified-Since": kept.last_modified} if kept.last_modified else {}
    with requests.get(url, headers=headers, stream=True, timeout=_TIMEOUT_SECONDS) as response:
        if response.status_code == 304:
            return
        if response.status_code == 416:  # the file became shorter than what is here
            part.unlink()
            raise _Interrupted("the file changed meanwhile")
        _check_status(response)
        version = _Version.of(response)
        if response.status_code == 200 and version == kept and kept != _Version():
            return  # the server knows nothing of conditions, yet says the same as before
        resumed = response.status_code == 206
        version.save(part_note)
        with part.open("ab" if resumed else "wb") as file:
            _receive(response, file, version.length, target.name)
    if version.length is not None and _size(part) != version.length:
        if _size(part) > version.length:
            part.unlink()
        raise _Interrupted(f"it ended after {_size(part):,} of {version.length:,} bytes")
    part.replace(target)
    part_note.replace(note)


def _check_status(response: requests.Response) -> None:
    status = f"the server answered {response.status_code} {(response.reason or '')[:_SHOWN_CHARS]}"
    if response.status_code in (408, 429) or response.status_code >= 500:
        raise _Interrupted(status)
    if response.status_code not in (200, 206):
        raise SourceError(f"{status}. Check the address and the access to it.")


def _receive(response: requests.Response, file: BinaryIO, length: int | None, name: str) -> None:
    with tqdm(
        total=length,
        initial=file.tell(),
        desc=name,
        unit="B",
        unit_scale=True,
        file=sys.stderr,
        mininterval=0.2 if sys.stderr.isatty() else 10,
    ) as bar:
        began, before = time.monotonic(), file.tell()
        while chunk := response.raw.read1(_CHUNK_BYTES, decode_content=False):
            bar.update(file.write(chunk))
            now, here = time.monotonic(), file.tell()
            if now - began >= _SLOW_SECONDS:
                if here - before < _SLOW_BYTES:
                    slow = f"{here - before:,} bytes came in {now - began:.0f} seconds"
                    raise _Interrupted(f"the server hardly sends anything: {slow}")
                began, before = now, here


def _cause(error: BaseException) -> str:
    """The innermost cause, which is the one that people can read."""
    while inner := getattr(error, "reason", None) or error.__cause__ or error.__context__:
        if not isinstance(inner, BaseException):
            break
        error = inner
    if isinstance(error, OSError) and error.errno == errno.ECONNREFUSED:
        return "the connection was refused"
    return re.sub(r"^<[^>]*>: ", "", str(error)) or type(error).__name__


def _part(target: Path) -> Path:
    return target.with_name(target.name + ".part")


def _note(target: Path) -> Path:
    return target.with_name(target.name + ".version.json")


def _size(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0


def _existing(path: Path) -> Path:
    return path if path.exists() or path == path.parent else _existing(path.parent)
