"""How close a simulated full log comes to the real one.

The real figures are facts of the real full file (hours of the day: of the mini file, the only one
for which they are known), as published with this project's specification. The goal of each row is
how far it may be off; `value` is how far it is, both in percent.

Chance alone, as one standard deviation: the churn share of 22,277 users is off by 1.3 %, a page
seen n times by 100 / sqrt(n) %, and the songs of an hour of the day, in a log as small as the real
mini file, by 2 to 3 %. Of the users who stay, 4.3 % have one session (simulated: 4.4 %, mean of
four seeds); so the 5 % quantile of their days lies on the step from minutes to days and may be off
by half.
"""

from __future__ import annotations

import argparse

import numpy as np
import polars as pl
from numpy.typing import NDArray

from benchmarks.measuring import report
from sparkify_assets.simulation.blocks import blocks_of, live
from sparkify_assets.simulation.machine import IS_KNOWN, STATES

USERS, DAYS, SEED = 22_277, 61, 1

EVENTS = 26_259_199
LOGGED_OUT_EVENTS = 778_479
PAID_EVENTS = 20_595_828
USER_SESSIONS = 297_063
CHURNED = 5_003

PAGES = {
    "NextSong": 20_850_272,
    "Home": 1_343_102,
    "Thumbs Up": 1_151_465,
    "Add to Playlist": 597_921,
    "Roll Advert": 385_212,
    "Add Friend": 381_664,
    "Login": 296_350,
    "Logout": 296_005,
    "Thumbs Down": 239_212,
    "Downgrade": 184_240,
    "Help": 155_100,
    "Settings": 147_074,
    "About": 92_759,
    "Upgrade": 50_507,
    "Save Settings": 29_516,
    "Error": 25_962,
    "Submit Upgrade": 15_135,
    "Submit Downgrade": 6_494,
    "Cancel": 5_003,
    "Register": 802,
    "Submit Registration": 401,
}

SHARES = (0.05, 0.25, 0.5, 0.75, 0.95)
# Of users: those who churned, then those who stayed.
QUANTILES = {
    "events": ((48, 249, 646, 1424, 3635), (56, 268, 702, 1570, 3893)),
    "sessions": ((1, 4, 8, 16, 38), (2, 5, 10, 18, 39)),
    "events_a_session": ((25, 51, 76, 108, 168), (20, 44, 73, 105, 162)),
    "days_from_first_to_last_event": ((0.15, 8.6, 22.7, 38.5, 55.2), (4.0, 39.7, 52.2, 57.7, 60.2)),
}

# Songs by hour of the day, UTC.
HOURS = (
    *(9062, 8388, 8336, 8355, 8147, 8178, 8054, 8091, 8253, 8498, 8882, 8830),
    *(9326, 9644, 10494, 11354, 11636, 11460, 11124, 10930, 10856, 10458, 10122, 9630),
)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--users", type=int, default=USERS)
    parser.add_argument("--seed", type=int, default=SEED)
    given = parser.parse_args()
    users, states, hours = simulate(given.users, given.seed)
    scale = given.users / USERS

    page_of_state = np.array([state.page for state in STATES])
    paid = np.array([state.level == "paid" for state in STATES])
    known = IS_KNOWN[: len(STATES)]
    events = states.sum()
    off("users with at least one event", len(users), USERS * scale, 3)
    off("share of users who churn", int(users["churned"].sum()) / len(users), CHURNED / USERS, 3)
    off("user-sessions", int(users["sessions"].sum()), USER_SESSIONS * scale, 3)
    off("share of events that are paid", states[paid].sum() / events, PAID_EVENTS / EVENTS, 3)
    off("events", events, EVENTS * scale, 3)
    off("share logged out", states[~known].sum() / events, LOGGED_OUT_EVENTS / EVENTS, 3)

    counts = {page: states[page_of_state == page].sum() for page in PAGES}
    for page, real in PAGES.items():
        if page != "NextSong":
            limit = 5 if real > 10_000 else 10
            per_song = counts[page] / counts["NextSong"]
            off(f"{page} per song", per_song, real / PAGES["NextSong"], limit)

    for name, (churned, stayed) in QUANTILES.items():
        for who, real_quantiles in ((True, churned), (False, stayed)):
            values = users.filter(pl.col("churned") == who)[name].to_numpy()
            for at, real_value in zip(SHARES, real_quantiles, strict=True):
                label = f"{name}, {'churned' if who else 'stayed'}, {at:.0%}"
                off(label, float(np.quantile(values, at)), real_value, 10)

    real_hours = np.array(HOURS) / sum(HOURS)
    for hour, real_share in enumerate(real_hours):
        off(f"songs at {hour:02} h", hours[hour] / hours.sum(), real_share, 5)


def off(row: str, ours: float, real: float, limit: float) -> None:
    """Reports by how many percent a figure is off."""
    report("calibration", row, float(100 * abs(ours / real - 1)), "% off", limit)


def simulate(users: int, seed: int) -> tuple[pl.DataFrame, NDArray[np.int64], NDArray[np.int64]]:
    """One row a user; how often each state is seen; songs by hour of the day."""
    song = np.array([state.page == "NextSong" for state in STATES])
    cancelled = np.array([state.auth == "Cancelled" for state in STATES])
    states = np.zeros(len(STATES), dtype=np.int64)
    hours = np.zeros(24, dtype=np.int64)
    parts = []
    for block in blocks_of(users, DAYS, seed):
        events = live(block).events
        states += np.bincount(events["state"], minlength=len(STATES))
        songs = events["time"][song[events["state"]]]
        hours += np.bincount(songs // 3_600 % 24, minlength=24)
        own = events[IS_KNOWN[events["state"]]]
        frame = pl.DataFrame({name: own[name] for name in ("user", "time", "session")})
        parts.append(
            frame.with_columns(cancelled=cancelled[own["state"]])
            .group_by("user")
            .agg(
                events=pl.len(),
                sessions=pl.col("session").n_unique(),
                days_from_first_to_last_event=(pl.col("time").max() - pl.col("time").min())
                / 86_400,
                churned=pl.col("cancelled").any(),
            )
            .with_columns(events_a_session=pl.col("events") / pl.col("sessions"))
        )
    return pl.concat(parts), states, hours


if __name__ == "__main__":
    main()
