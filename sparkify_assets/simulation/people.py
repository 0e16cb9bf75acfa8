"""What users are called, where they live and what they listen with: made up, and noise by design.

Belongs here: names, places and agents. Does not belong here: anything that changes what a user
does (`population.py`).
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np
import polars as pl

from sparkify_assets.simulation.words import (
    MEN,
    PLACE_ENDS,
    PLACE_STARTS,
    STATE_MILLIONS,
    SURNAMES,
    WOMEN,
)

# Of the real full file's users, 11,651 are men and 10,626 women.
SHARE_OF_MEN = 11_651 / 22_277

# How shares fall with the place in a list: (exponent, shift). Fitted to the real files, so that
# the 22,277 users of full show 886 places and 85 agents, and the 225 of mini 114 and 56.
PLACES, PLACE_SHARES = 900, (1.15, 3.0)
AGENTS, AGENT_SHARES = 85, (1.7, 8.0)
NAME_SHARES = (1.0, 8.0)


CHROME = "AppleWebKit/537.36 (KHTML, like Gecko) Chrome/{} Safari/537.36"
SAFARI = "AppleWebKit/{0} (KHTML, like Gecko) Version/{1} Safari/{0}"
MOBILE = "AppleWebKit/537.51.2 (KHTML, like Gecko) Version/7.0 Mobile/11D257 Safari/9537.53"
WINDOWS = {
    "Windows NT 6.1; WOW64": 30,
    "Windows NT 6.3; WOW64": 9,
    "Windows NT 6.1": 8,
    "Windows NT 6.2; WOW64": 5,
    "Windows NT 5.1": 4,
    "Windows NT 6.0": 1,
}
MACS = {"10_9_4": 20, "10_9_2": 4, "10_9_3": 3, "10_8_5": 3, "10_7_5": 3, "10_6_8": 3, "10_10": 1}
CHROMES = {"36.0.1985.143": 10, "36.0.1985.125": 7, "37.0.2062.94": 4, "37.0.2062.103": 1}
SAFARIS = {("537.78.2", "7.0.6"): 10, ("537.77.4", "7.0.5"): 6, ("537.76.4", "7.0.4"): 2}
FIREFOXES = {"31.0": 10, "32.0": 2, "30.0": 1}


def draw_people(rng: np.random.Generator, users: int) -> pl.DataFrame:
    """One row a user: gender, firstName, lastName, location, userAgent."""
    man = rng.random(users) < SHARE_OF_MEN
    women, men = (_chosen(rng, users, names, *NAME_SHARES) for names in (WOMEN, MEN))
    frame = pl.DataFrame({"man": man, "woman's": women, "man's": men})
    return frame.select(
        gender=pl.when("man").then(pl.lit("M")).otherwise(pl.lit("F")),
        firstName=pl.when("man").then("man's").otherwise("woman's"),
        lastName=_chosen(rng, users, SURNAMES, *NAME_SHARES),
        location=_chosen(rng, users, places(), *PLACE_SHARES),
        userAgent=_chosen(rng, users, agents(), *AGENT_SHARES),
    )


@lru_cache(maxsize=1)
def places() -> list[str]:
    """Made-up places, "City, ST", the most populous first."""
    rng = np.random.default_rng(PLACES)
    names = [start + end.replace("_", " ") for start in PLACE_STARTS for end in PLACE_ENDS]
    names = [names[place] for place in rng.permutation(len(names))]
    shares = np.array(list(STATE_MILLIONS.values()), dtype=float)
    shares /= shares.sum()
    found = []
    for number in range(PLACES):
        towns = 3 if number < 40 else 1 if number % 3 else 2
        codes = rng.choice(
            list(STATE_MILLIONS), size=1 if number % 8 else 2, replace=False, p=shares
        )
        found.append(f"{'-'.join(names.pop() for _ in range(towns))}, {'-'.join(codes)}")
    return found


@lru_cache(maxsize=1)
def agents() -> list[str]:
    """User agents, the most common first; as in the real files, those with a comma are quoted."""
    every: dict[str, float] = {}
    for version, weight in CHROMES.items():
        web = CHROME.format(version)
        for system, share in WINDOWS.items():
            every[f"Mozilla/5.0 ({system}) {web}"] = weight * share
        for system, share in MACS.items():
            every[f"Mozilla/5.0 (Macintosh; Intel Mac OS X {system}) {web}"] = weight * share
        every[f"Mozilla/5.0 (X11; Linux x86_64) {web}"] = weight * 3
    for system, share in MACS.items():
        for pair, weight in SAFARIS.items():
            web = SAFARI.format(*pair)
            every[f"Mozilla/5.0 (Macintosh; Intel Mac OS X {system}) {web}"] = weight * share
    for version, weight in FIREFOXES.items():
        tail = f"rv:{version}) Gecko/20100101 Firefox/{version}"
        for system, share in WINDOWS.items():
            every[f"Mozilla/5.0 ({system}; {tail}"] = weight * share
        for system in ("Macintosh; Intel Mac OS X 10.9", "X11; Ubuntu; Linux x86_64"):
            every[f"Mozilla/5.0 ({system}; {tail}"] = weight * 12
    for device, system in (("iPhone", "iPhone OS 7_1_2"), ("iPad", "OS 7_1_2")):
        every[f"Mozilla/5.0 ({device}; CPU {system} like Mac OS X) {MOBILE}"] = 60
    for system, share in WINDOWS.items():
        every[f"Mozilla/5.0 ({system}; Trident/7.0; rv:11.0) like Gecko"] = 2 * share
        every[f"Mozilla/5.0 (compatible; MSIE 9.0; {system}; Trident/5.0)"] = 1.5 * share
    common = sorted(every, key=lambda agent: (-every[agent], agent))[:AGENTS]
    return [f'"{agent}"' if "," in agent else agent for agent in common]


def _chosen(
    rng: np.random.Generator, users: int, names: list[str], exponent: float, shift: float
) -> pl.Series:
    """Draws names whose shares fall with their place as (place + shift) ** -exponent."""
    shares = (np.arange(len(names)) + shift) ** -exponent
    return pl.Series(names).gather(rng.choice(len(names), size=users, p=shares / shares.sum()))
