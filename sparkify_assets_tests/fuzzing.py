"""Lines of a log, mutated at random: what a log may hold that was not written as it should be.

Belongs here: the mutations, and which of them leave an event. Does not belong here: what is
expected of the pipeline (`test_fuzzing.py`), and how many are tried (`benchmarks/fuzz.py`).

Every event carries a serial number in a field of its own, which no mutation touches by intent, so
that it can be told whether one was lost or counted twice.
"""

from __future__ import annotations

import bz2
import gzip
import json
import random
import string
import zlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import zstandard

SERIAL = "itemInSession"
WHOLE, NUMBERS = ("ts", "sessionId", "status", "registration"), ("length",)
TEXTS = ("userId", "page", "auth", "method", "location", "userAgent", "artist", "song")
REQUIRED = ("ts", "page", "auth")
OPTIONAL = (
    "sessionId",
    "status",
    "registration",
    "length",
    "method",
    "level",
    "location",
    "artist",
    "song",
)

Event = dict[str, Any]

SONG = ("artist", "song", "length")
EVENT: Event = {
    "ts": 1538352117000,
    "userId": "30",
    "sessionId": 29,
    "page": "NextSong",
    "auth": "Logged In",
    "method": "PUT",
    "status": 200,
    "level": "paid",
    "itemInSession": 50,
    "location": "Somewhere, CA",
    "userAgent": '"An agent"',
    "lastName": "Doe",
    "firstName": "Jo",
    "registration": 1538173362000,
    "gender": "F",
    "artist": "An artist",
    "song": "A song",
    "length": 277.89016,
}
"""As the log writes one."""


@dataclass(frozen=True)
class Mutated:
    """A line without its newline."""

    how: str
    line: bytes
    is_event: bool | None
    """None where that is for the parser to say."""


def corpus(real_rows: Path | None = None) -> list[Event]:
    """Events to start from: the real ones in a folder, if it is there; otherwise ones like them."""
    if real_rows and real_rows.is_dir():
        lines = gzip.decompress((real_rows / "mini_events_partial.jsonl.gz").read_bytes())
        return [json.loads(line) for line in lines.splitlines()]
    other = {name: value for name, value in EVENT.items() if name not in SONG}
    pages = ["Home", "Thumbs Up", "Roll Advert", "Submit Downgrade", "Cancellation Confirmation"]
    return [
        EVENT | {"userId": str(user), "ts": EVENT["ts"] + user, "song": "A söng"}
        for user in range(20)
    ] + [other | {"page": page} for page in pages]


def mutated(events: list[Event], chance: random.Random) -> Iterator[Mutated]:
    """Without end: events of the corpus with their serials, every other one of them mutated."""
    kinds = list(MUTATIONS.items())
    serial = 0
    while True:
        event = chance.choice(events) | {SERIAL: serial}
        how, mutate = chance.choice(kinds) if serial % 2 else ("as it is", as_it_is)
        line, is_event = mutate(event, chance)
        yield Mutated(how, line.replace(b"\n", b" "), is_event)
        serial += 1


# Mutations

Mutation = Callable[[Event, random.Random], tuple[bytes, bool | None]]


def dumped(event: Mapping[str, Any]) -> bytes:
    return json.dumps(event, ensure_ascii=False).encode("utf-8", "surrogatepass")


def with_value(event: Event, field: str, value: str) -> bytes:
    """With JSON, or what is to be none, as a field's value."""
    return dumped(event | {field: "@@"}).replace(b'"@@"', value.encode("utf-8", "surrogatepass"))


def as_it_is(event: Event, chance: random.Random) -> tuple[bytes, bool | None]:
    return dumped(event), True


def wrong_type_of_number(event: Event, chance: random.Random) -> tuple[bytes, bool | None]:
    value = chance.choice(['"text"', "true", "[1]", '{"a": 1}', '""', "[]"])
    return with_value(event, chance.choice(WHOLE + NUMBERS), value), False


def wrong_type_of_text(event: Event, chance: random.Random) -> tuple[bytes, bool | None]:
    return with_value(event, chance.choice(TEXTS), chance.choice(["[1]", '{"a": 1}', "[]"])), False


def number_for_text(event: Event, chance: random.Random) -> tuple[bytes, bool | None]:
    return with_value(event, chance.choice(TEXTS), chance.choice(["5", "-1.5", "true"])), True


def required_is_missing(event: Event, chance: random.Random) -> tuple[bytes, bool | None]:
    field = chance.choice(REQUIRED)
    if chance.random() < 0.5:
        return dumped(event | {field: None}), False
    return dumped({name: value for name, value in event.items() if name != field}), False


def optional_is_missing(event: Event, chance: random.Random) -> tuple[bytes, bool | None]:
    return dumped(event | {chance.choice(OPTIONAL): None}), True


def huge_number(event: Event, chance: random.Random) -> tuple[bytes, bool | None]:
    digits = "9" * chance.choice([19, 20, 30, 309, 5_000])
    value = chance.choice(["-", ""]) + digits + chance.choice(["", ".0"])
    return with_value(event, chance.choice(WHOLE), value), False


def no_number(event: Event, chance: random.Random) -> tuple[bytes, bool | None]:
    value = chance.choice(
        ["NaN", "Infinity", "-Infinity", "1e", "0x10", "01", "+5", "1_000", "--1"]
    )
    return with_value(event, chance.choice(WHOLE + NUMBERS), value), False


def fraction(event: Event, chance: random.Random) -> tuple[bytes, bool | None]:
    field = chance.choice(("sessionId", "status"))
    return with_value(event, field, f"{chance.randrange(10_000)}.5"), False


def whole_number_as_float(event: Event, chance: random.Random) -> tuple[bytes, bool | None]:
    field = chance.choice(("sessionId", "status"))
    return with_value(event, field, f"{chance.randrange(10_000)}.0"), True


def impossible_time(event: Event, chance: random.Random) -> tuple[bytes, bool | None]:
    times = (0, -1, 1538352117, 1538352117 * 10**6, 4102444800000, 2**62, 4000000000000)
    return dumped(event | {"ts": chance.choice(times)}), False


def long_before_registration(event: Event, chance: random.Random) -> tuple[bytes, bool | None]:
    days = chance.choice([366, 1_000, 10_000])
    registration = event.get("registration") or event["ts"]
    return dumped(event | {"registration": registration, "ts": registration - days * 86_400_000}), (
        False
    )


def another_day(event: Event, chance: random.Random) -> tuple[bytes, bool | None]:
    return dumped(event | {"ts": event["ts"] + chance.randrange(-10, 30) * 86_400_000}), True


def deep_nesting(event: Event, chance: random.Random) -> tuple[bytes, bool | None]:
    depth = chance.choice([3, 100, 900, 1_100, 5_000, 100_000])
    opening, closing = chance.choice([("[", "]"), ('{"a":', "}")])
    inside = "1" if chance.random() < 0.8 else ""
    return with_value(event, "more", opening * depth + inside + closing * depth), None


def nul_byte(event: Event, chance: random.Random) -> tuple[bytes, bool | None]:
    return with_value(event, chance.choice(TEXTS), '"a\0b"'), False


def escaped_nul(event: Event, chance: random.Random) -> tuple[bytes, bool | None]:
    return with_value(event, chance.choice(TEXTS), r'"a\u0000b"'), True


def half_a_character(event: Event, chance: random.Random) -> tuple[bytes, bool | None]:
    half = chance.choice([r'"a\ud83d"', r'"\udc00b"', r'"\ude00\ud83d"'])
    return with_value(event, chance.choice(TEXTS), half), False


def invalid_utf8(event: Event, chance: random.Random) -> tuple[bytes, bool | None]:
    bad = chance.choice([b"\xff", b"\xc3", b"\xed\xa0\x80", b"\xf8\x88\x80\x80\x80", b"\x80"])
    return with_value(event, chance.choice(TEXTS), '"a@b"').replace(b'"a@b"', b'"' + bad + b'"'), (
        False
    )


def other_encoding(event: Event, chance: random.Random) -> tuple[bytes, bool | None]:
    return dumped(event).decode("utf-8", "replace").encode("utf-16"), False


def unknown_level(event: Event, chance: random.Random) -> tuple[bytes, bool | None]:
    return with_value(
        event, "level", chance.choice(['""', '"Paid"', '"premium"', "1", "[]"])
    ), False


def negative_length(event: Event, chance: random.Random) -> tuple[bytes, bool | None]:
    return with_value(event, "length", chance.choice(["-1", "-1e-9", "-1e308"])), False


def repeated_key(event: Event, chance: random.Random) -> tuple[bytes, bool | None]:
    """The first counts."""
    field = chance.choice(TEXTS)
    return dumped(event).removesuffix(b"}") + f', "{field}": "again"}}'.encode(), True


def unknown_fields(event: Event, chance: random.Random) -> tuple[bytes, bool | None]:
    names = ("", "__proto__", "ts ", "TS", "source_file", "user_bucket", "🎵")
    return dumped({chance.choice(names): [None, {"a": "b"}], **event}), True


def cut_off(event: Event, chance: random.Random) -> tuple[bytes, bool | None]:
    line = dumped(event)
    return line[: chance.randrange(len(line))], False


def two_in_one(event: Event, chance: random.Random) -> tuple[bytes, bool | None]:
    return dumped(event) + chance.choice([b"", b" ", b",", b"\r", b"\0"]) + dumped(event), False


def in_an_array(event: Event, chance: random.Random) -> tuple[bytes, bool | None]:
    return chance.choice([b"[%b]", b"[%b,", b'"%b"', b"%b,", b"(%b)", b"//%b"]) % dumped(
        event
    ), False


def garbage(event: Event, chance: random.Random) -> tuple[bytes, bool | None]:
    return chance.randbytes(chance.randrange(1, 200)), None


def packed(event: Event, chance: random.Random) -> tuple[bytes, bool | None]:
    packs: list[Callable[[bytes], bytes]]
    packs = [gzip.compress, zlib.compress, bz2.compress, zstandard.compress]
    return chance.choice(packs)(dumped(event) + b"\n"), False


def flipped_byte(event: Event, chance: random.Random) -> tuple[bytes, bool | None]:
    line = bytearray(dumped(event))
    line[chance.randrange(len(line))] = chance.randrange(256)
    return bytes(line), None


def blank(event: Event, chance: random.Random) -> tuple[bytes, bool | None]:
    return chance.choice([b"", b" ", b"\t \t", b"\r", b"  \r"]), False


def spaces_around(event: Event, chance: random.Random) -> tuple[bytes, bool | None]:
    return b"\t " + dumped(event) + chance.choice([b" ", b"\r", b" \t\r"]), True


def mark_within_the_file(event: Event, chance: random.Random) -> tuple[bytes, bool | None]:
    return b"\xef\xbb\xbf" + dumped(event), False


def long_text(event: Event, chance: random.Random) -> tuple[bytes, bool | None]:
    text = chance.choice(string.ascii_letters + "é🎵") * chance.choice([300, 3_000, 30_000])
    return dumped(event | {chance.choice(TEXTS): text}), True


def strange_text(event: Event, chance: random.Random) -> tuple[bytes, bool | None]:
    texts = (
        "{",
        "[1]",
        '{"a": 1}',
        "null",
        "",
        " ",
        "<script>",
        "'; drop",
        "\u202e",
        "\x7f",
        "NaN",
    )
    return dumped(event | {chance.choice(TEXTS): chance.choice(texts)}), True


MUTATIONS: dict[str, Mutation] = {
    each.__name__.replace("_", " "): each
    for each in (
        wrong_type_of_number,
        wrong_type_of_text,
        number_for_text,
        required_is_missing,
        optional_is_missing,
        huge_number,
        no_number,
        fraction,
        whole_number_as_float,
        impossible_time,
        long_before_registration,
        another_day,
        deep_nesting,
        nul_byte,
        escaped_nul,
        half_a_character,
        invalid_utf8,
        other_encoding,
        unknown_level,
        negative_length,
        repeated_key,
        unknown_fields,
        cut_off,
        two_in_one,
        in_an_array,
        garbage,
        packed,
        flipped_byte,
        blank,
        spaces_around,
        mark_within_the_file,
        long_text,
        strange_text,
    )
}
