"""What users are called, where they live and what they listen with: made up, and noise by design.

Belongs here: names, places and agents. Does not belong here: anything that changes what a user
does (`population.py`).
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np
import polars as pl

# Of the real full file's users, 11,651 are men and 10,626 women.
SHARE_OF_MEN = 11_651 / 22_277

WOMEN = """
Abigail Addison Alexis Alice Allison Amelia Anna Aria Ashley Audrey Autumn Ava Avery Bella Brianna
Brooklyn Camila Caroline Charlotte Chloe Claire Daisy Delilah Eleanor Elena Eliza Ella Emilia Emma
Eva Evelyn Faith Grace Hailey Hannah Harper Hazel Isabella Ivy Jade Jasmine Julia June Kayla Kylie
Laila Layla Leah Lillian Lily Lucy Luna Mackenzie Madeline Madison Maya Melanie Mia Mila Molly
Naomi Natalie Nora Olivia Paige Penelope Piper Quinn Rachel Riley Ruby Sadie Sarah Savannah Sofia
Sophia Stella Sydney Taylor Valentina Vera Victoria Violet Vivian Willow Ximena Zoe
""".split()
MEN = """
Aaron Adam Adrian Aiden Alexander Andrew Anthony Asher Austin Benjamin Blake Brandon Brayden Caleb
Cameron Carson Carter Charles Christian Christopher Colin Connor Daniel David Diego Dominic Dylan
Eli Elijah Ethan Evan Everett Ezra Felix Gabriel Gavin George Grayson Henry Hudson Hunter Ian Isaac
Isaiah Jack Jackson Jacob James Jason Jayden Jeremiah John Jonathan Jordan Jose Joseph Joshua
Julian Justin Kevin Landon Leo Levi Liam Logan Lucas Luke Mason Mateo Matthew Max Micah Michael
Nathan Nathaniel Nicholas Noah Nolan Oliver Owen Parker Robert Ryan Samuel Sebastian Thomas Tyler
Vincent William Wyatt Xavier Zachary
""".split()
SURNAMES = """
Smith Johnson Williams Brown Jones Garcia Miller Davis Rodriguez Martinez Hernandez Lopez Gonzalez
Wilson Anderson Thomas Taylor Moore Jackson Martin Lee Perez Thompson White Harris Sanchez Clark
Ramirez Lewis Robinson Walker Young Allen King Wright Scott Torres Nguyen Hill Flores Green Adams
Nelson Baker Hall Rivera Campbell Mitchell Carter Roberts Gomez Phillips Evans Turner Diaz Parker
Cruz Edwards Collins Reyes Stewart Morris Morales Murphy Cook Rogers Gutierrez Ortiz Morgan Cooper
Peterson Bailey Reed Kelly Howard Ramos Kim Cox Ward Richardson Watson Brooks Chavez Wood Bennett
Gray Mendoza Ruiz Hughes Price Alvarez Castillo Sanders Patel Myers Long Ross Foster Jimenez
""".split()

# States with their population in millions, the most populous first.
STATES = {
    **{"CA": 39, "TX": 29, "FL": 21, "NY": 19, "PA": 13, "IL": 13, "OH": 12, "GA": 11, "NC": 10},
    **{"MI": 10, "NJ": 9, "VA": 8, "WA": 8, "AZ": 7, "MA": 7, "TN": 7, "IN": 7, "MO": 6, "MD": 6},
    **{"WI": 6, "CO": 6, "MN": 6, "SC": 5, "AL": 5, "LA": 5, "KY": 4, "OR": 4, "OK": 4, "CT": 4},
    **{"UT": 3, "IA": 3, "NV": 3, "AR": 3, "MS": 3, "KS": 3, "NM": 2, "NE": 2, "ID": 2, "WV": 2},
    **{"HI": 1, "NH": 1, "ME": 1, "MT": 1, "RI": 1, "DE": 1, "SD": 1, "ND": 1, "AK": 1, "VT": 1},
}
PLACE_STARTS = """
Ash Bay Beaver Birch Black Blue Brook Cedar Clear Cold Crest Deer East Elk Fair Fern Fox Glen Gold
Grand Green Hay High Iron Lake Lark Long Maple Mill North Oak Pine Red River Rock Rose Salt Sand
Silver South Spring Stone Sun Thorn West White Wild Wind Winter
""".split()
PLACE_ENDS = """
 Beach| City| Falls| Grove| Heights| Rapids| Springs|boro|bridge|brook|burg|bury|dale|field|ford
|gate|haven|land|mont|mouth|port|ridge|side|ton|vale|view|ville|wick|wood|worth
""".replace("\n", "").split("|")

CHROME = "AppleWebKit/537.36 (KHTML, like Gecko) Chrome/{} Safari/537.36"
SAFARI = "AppleWebKit/{0} (KHTML, like Gecko) Version/{1} Safari/{0}"
MOBILE = "AppleWebKit/537.51.2 (KHTML, like Gecko) Version/7.0 Mobile/{} Safari/9537.53"
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


def draw_people(rng: np.random.Generator, users: int, style: str) -> pl.DataFrame:
    """One row a user: gender, firstName, lastName, location, userAgent."""
    man = rng.random(users) < SHARE_OF_MEN
    women, men = (_chosen(rng, users, names) for names in (WOMEN, MEN))
    frame = pl.DataFrame({"man": man, "woman's": women, "man's": men})
    return frame.select(
        gender=pl.when("man").then(pl.lit("M")).otherwise(pl.lit("F")),
        firstName=pl.when("man").then("man's").otherwise("woman's"),
        lastName=_chosen(rng, users, SURNAMES),
        location=_chosen(rng, users, places(style)),
        userAgent=_weighted(rng, users, agents(style)),
    )


@lru_cache(maxsize=2)
def places(style: str) -> list[str]:
    """Made-up places by population: 886 in a full log, 114 in a mini one, as in the real files."""
    rng = np.random.default_rng(886)
    names = [start + end for start in PLACE_STARTS for end in PLACE_ENDS]
    names = [names[place] for place in rng.permutation(len(names))]
    shares = np.array(list(STATES.values()), dtype=float)
    shares /= shares.sum()
    found = []
    for number in range(886):
        towns = 3 if number < 40 else 1 if number % 3 else 2
        codes = rng.choice(list(STATES), size=1 if number % 8 else 2, replace=False, p=shares)
        found.append(f"{'-'.join(names.pop() for _ in range(towns))}, {'-'.join(codes)}")
    return found[: 886 if style == "full" else 114]


@lru_cache(maxsize=2)
def agents(style: str) -> dict[str, float]:
    """User agents with their weights: 85 in a full log, 56 in a mini one, as in the real files.

    Those with a comma are in quote marks, as in the real files.
    """
    every: dict[str, float] = {}
    for version, weight in CHROMES.items():
        web = CHROME.format(version)
        for system, share in WINDOWS.items():
            every[f"Mozilla/5.0 ({system}) {web}"] = weight * share
        for system, share in MACS.items():
            every[f"Mozilla/5.0 (Macintosh; Intel Mac OS X {system}) {web}"] = weight * share
        every[f"Mozilla/5.0 (X11; Linux x86_64) {web}"] = weight * 3
    for system, share in MACS.items():
        for version_pair, weight in SAFARIS.items():
            web = SAFARI.format(*version_pair)
            every[f"Mozilla/5.0 (Macintosh; Intel Mac OS X {system}) {web}"] = weight * share
    for version, weight in FIREFOXES.items():
        tail = f"rv:{version}) Gecko/20100101 Firefox/{version}"
        for system, share in WINDOWS.items():
            every[f"Mozilla/5.0 ({system}; {tail}"] = weight * share
        for system in ("Macintosh; Intel Mac OS X 10.9", "X11; Ubuntu; Linux x86_64"):
            every[f"Mozilla/5.0 ({system}; {tail}"] = weight * 12
    for device, system in (("iPhone", "iPhone OS 7_1_2"), ("iPad", "OS 7_1_2")):
        web = MOBILE.format("11D257")
        every[f"Mozilla/5.0 ({device}; CPU {system} like Mac OS X) {web}"] = 60
    for system, share in WINDOWS.items():
        every[f"Mozilla/5.0 ({system}; Trident/7.0; rv:11.0) like Gecko"] = 2 * share
        every[f"Mozilla/5.0 (compatible; MSIE 9.0; {system}; Trident/5.0)"] = 1.5 * share
    common = sorted(every, key=lambda agent: (-every[agent], agent))[: 85 if style == "full" else 56]
    return {f'"{agent}"' if "," in agent else agent: every[agent] for agent in common}


def _chosen(rng: np.random.Generator, users: int, names: list[str]) -> pl.Series:
    """Draws by place: the further down the list, the rarer."""
    return _weighted(rng, users, {name: 1 / (place + 8) for place, name in enumerate(names)})


def _weighted(rng: np.random.Generator, users: int, weights: dict[str, float]) -> pl.Series:
    shares = np.array(list(weights.values()))
    drawn = rng.choice(len(shares), size=users, p=shares / shares.sum())
    return pl.Series(list(weights)).gather(drawn)
