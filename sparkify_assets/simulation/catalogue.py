"""Songs: how often each is played, how long it lasts, what it and its artist are called.

Belongs here: the made-up catalogue. Does not belong here: when songs are played (`sessions.py`).

A song's number is its place by popularity. There is one catalogue for logs of every size: a small
log shows as few of its songs as the real small file does of the real ones.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np
import polars as pl
from numpy.typing import NDArray

from sparkify_assets.simulation.words import FIRST_WORDS, SECOND_WORDS

SONGS = 253_564
ARTISTS = 38_337

# The catalogue is the same in every log.
SEED = 20181001

# (exponent, shift) of the power laws by which plays fall with a song's place, and songs with an
# artist's. Fitted to the real files: the 20.9 million plays of full show 253,564 songs by 38,337
# artists, the 228,108 of mini 58,480 by 17,655, and the first song has .5 % of the plays.
PLAYS = (1.08, 32.0)
SONGS_OF_ARTISTS = (1.1, 70.0)
# Every artist has one song past this place.
RARE = 100_000

# Lengths in seconds of the plays of the real mini file: (share of plays below, length).
LENGTHS = (
    *((0, 0.8), (0.001, 27.0), (0.005, 59.4), (0.01, 81.3), (0.02, 108.5), (0.05, 138.3)),
    *((0.1, 163.6), (0.2, 190.3), (0.3, 207.2), (0.4, 221.3), (0.5, 234.5), (0.6, 249.0)),
    *((0.7, 266.6), (0.8, 292.3), (0.85, 311.7), (0.9, 344.8), (0.95, 405.4), (0.98, 500.0)),
    *((0.99, 591.7), (0.995, 655.8), (0.998, 815.5), (0.999, 1087.2), (0.9995, 1467.9)),
    *((0.9998, 2008.0), (1, 3024.7)),
)

# What stands before, between and after the two words.
ARTIST_FORMS = (
    *(("The ", " ", "s"), ("", " ", ""), ("", " & The ", "s"), ("DJ ", " ", "")),
    *(("", " ", " Quartet"), ("", " ", " feat. The Others")),
)
SONG_FORMS = (
    *(("", " ", ""), ("The ", " ", ""), ("My ", " ", ""), ("", " In The ", ""), ("", " And ", "")),
    *(("Your ", " ", ""), ("No ", " ", ""), ("", " ", " (Live)"), ("", " ", " (Album Version)")),
    *(("Oh ", " ", ""), ("", " Without A ", ""), ("Goodbye ", " ", ""), ("One ", " ", "")),
    *(("", " ", ' (7" Mix)'), ("", " Like A ", ""), ("Every ", " ", ""), ("", " ", " Blues")),
    *(("Under The ", " ", ""), ("", " On The ", ""), ("", " ", " / Reprise"), ("Dear ", " ", "")),
    *(("", " For A ", ""), ("Another ", " ", ""), ("", " ", " (Remix)"), ("", " ", " Song")),
    *(("Like The ", " ", ""), ("Hello ", " ", ""), ("", " ", " (2008 Digital Remaster)")),
)


def draw_songs(rng: np.random.Generator, plays: int) -> NDArray[np.int32]:
    """Songs for that many plays, by popularity."""
    return _power_law(rng.random(plays), SONGS, *PLAYS)


@lru_cache(maxsize=1)
def lengths() -> NDArray[np.float64]:
    """Each song's length in seconds, to five places like the real ones."""
    shares, seconds = zip(*LENGTHS, strict=True)
    rng = np.random.default_rng([SEED, 0])
    return np.round(np.interp(rng.random(SONGS), shares, seconds), 5)


@lru_cache(maxsize=1)
def artists() -> NDArray[np.int32]:
    """Each song's artist, 0 the one with the most songs."""
    rng = np.random.default_rng([SEED, 1])
    artist = _power_law(rng.random(SONGS), ARTISTS, *SONGS_OF_ARTISTS)
    artist[RARE + rng.permutation(SONGS - RARE)[:ARTISTS]] = np.arange(ARTISTS)
    return artist


def titles(songs: NDArray[np.int32]) -> pl.DataFrame:
    """Columns artist, song, length of those songs; no two songs, no two artists share a name."""
    return pl.DataFrame(
        {
            "artist": _named(artists()[songs], ARTIST_FORMS),
            "song": _named(songs, SONG_FORMS),
            "length": lengths()[songs],
        }
    )


def garbled(text: str) -> str:
    """The text as in the real files: UTF-8 read as Latin-1, twice."""
    for _ in range(2):
        text = text.encode("utf-8").decode("latin-1")
    return text


def _named(numbers: NDArray[np.int32], forms: tuple[tuple[str, str, str], ...]) -> pl.Series:
    # The multiplier, prime to all three, scatters neighbours over the words.
    firsts, seconds = len(FIRST_WORDS), len(SECOND_WORDS)
    places = numbers.astype(np.int64) * 7_919 % (firsts * seconds * len(forms))
    before, between, after = (pl.Series(part) for part in zip(*forms, strict=True))
    form = places // (firsts * seconds)
    columns = [
        before.gather(form),
        pl.Series([garbled(word) for word in FIRST_WORDS]).gather(places % firsts),
        between.gather(form),
        pl.Series([garbled(word) for word in SECOND_WORDS]).gather(places // firsts % seconds),
        after.gather(form),
    ]
    frame = pl.DataFrame({str(place): column for place, column in enumerate(columns)})
    return frame.select(pl.concat_str(pl.all())).to_series()


def _power_law(
    uniform: NDArray[np.float64], size: int, exponent: float, shift: float
) -> NDArray[np.int32]:
    """Places in [0, size) whose density falls as (place + shift) ** -exponent."""
    power = 1 - exponent
    low, high = shift**power, (size + shift) ** power
    places = ((low + uniform * (high - low)) ** (1 / power) - shift).astype(np.int32)
    return np.minimum(places, size - 1)
