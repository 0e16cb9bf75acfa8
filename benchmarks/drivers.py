"""Are the factors found the ones that drive churn in the generator? All of it on simulated data.

`python -m benchmarks.drivers [--users 2228] [--seed 1]`

What drives cancelling in the simulator is known: the rate of sessions, the level, and the hidden
cohort, which shows in adverts and thumbs for each song, and in the pages that lead to Cancel
(Downgrade, Settings, adverts, Thumbs Down). Gender, place and device are drawn without looking at
it: noise.

The product's model learns from a short list of features that was chosen with this in mind, so its
factors are compared with the generator by their order and direction only. The same kind of trees is
fitted on all features as well, noise and all, where a driver has to earn its rank.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from contextlib import redirect_stdout
from pathlib import Path

import pandas as pd

from benchmarks.measuring import report
from benchmarks.oracle import feature_table
from sparkify_assets.churn import cutoffs, evaluation, factors, models
from sparkify_assets.churn.features import FEATURE_NAMES, FEATURES
from sparkify_assets.resources.lake import Lake
from sparkify_assets.simulation import write_log

HORIZON_DAYS = 10
FOLDS, SEED = 5, 1
# What drives churn -> the features that tell of it.
DRIVERS = {
    "session rate": r"sessions?_(?:per_day|so_far|trend|rate)|gap_days|days_since_last|quiet_for",
    "hidden cohort": r"kind_",
    "level": r"is_paid|days_at_level|paid_share",
    "adverts": r"advert",
    "Thumbs Down": r"thumbs_down",
    "Thumbs Up": r"thumbs_up",
    "Downgrade": r"^downgrade_per",
    "Settings": r"^settings_per",
}
NOISE_THEMES = ("person", "device")
# Whether more of it comes with more churn in the generator; of the others it depends on the cohort.
DIRECTIONS = {
    "session_rate_ratio": 1,
    "sessions_per_day": 1,
    "is_paid": 1,
    "many_adverts": 1,
    "many_thumbs_down": 1,
    "many_thumbs_up": -1,
}


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--users", type=int, default=2_228)
    parser.add_argument("--days", type=int, default=61)
    parser.add_argument("--seed", type=int, default=1)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        log = Path(folder, "log.json")
        write_log(log, users=given.users, days=given.days, seed=given.seed)
        table = feature_table(Lake(str(Path(folder, "lake"))), log, HORIZON_DAYS)
    rows = cutoffs.learnable(table, cutoffs.FORECAST)
    with redirect_stdout(sys.stderr):
        chosen = evaluation.train(rows, FEATURE_NAMES, how=evaluation.How(FOLDS, SEED)).model
        everything = models.fit(
            models.BOOSTED, rows.to_pandas(), rows["label"].to_pandas(), FEATURE_NAMES, SEED
        )
        found, found_in_all = (
            factors.churn_factors(model, rows, FEATURES, folds=FOLDS, seed=SEED)
            for model in (chosen, everything)
        )
    label = rows["label"]
    _row("rows learned from (all figures are of simulated data)", rows.height, "rows")
    _row("rows of users who cancel within 10 days", int(label.sum()), "rows")
    show_chosen(chosen.name, found)
    show_all(found_in_all)


def groups(table: pd.DataFrame) -> dict[str, pd.DataFrame]:
    """The rows of `churn_factors` of each driver that has any."""
    found = {name: table[table["feature"].str.contains(tells)] for name, tells in DRIVERS.items()}
    return {name: rows for name, rows in found.items() if len(rows)}


def show_chosen(name: str, found: factors.Factors) -> None:
    """Order, direction and stability of the product's own factors."""
    who, table = f"model ({name})", found.table
    for driver, rows in groups(table).items():
        _row(f"{who} {driver}: best rank of {len(table)}", rows["rank"].min(), "")
    _directions(who, table)
    _stability(who, found)


def show_all(found: factors.Factors) -> None:
    """The drivers against noise and their directions, in a model that was given all."""
    table, who = found.table, f"all features ({models.BOOSTED})"
    noise = table[table["theme"].isin(NOISE_THEMES)]
    best, strongest = noise["rank"].min(), noise.sort_values("rank")["feature"].iloc[0]
    of = f"of {len(table)}"
    _row(f"{who} noise: features", len(noise), of)
    _row(f"{who} noise: best rank ({strongest})", best, of, len(table) / 2, most=False)
    _row(f"{who} noise: mean rank", noise["rank"].mean(), of)
    _row(f"{who} noise: share of all contributions", noise["share"].sum(), "")
    for driver, rows in groups(table).items():
        _row(f"{who} {driver}: best rank", rows["rank"].min(), of, best - 1)
        _row(f"{who} {driver}: mean rank of {len(rows)}", rows["rank"].mean(), of)
    themes = table.drop_duplicates("theme").set_index("theme")["theme_rank"]
    told = sorted({theme for rows in groups(table).values() for theme in rows["theme"]})
    last = themes[list(NOISE_THEMES)].min()
    for theme in told:
        goal = last - 1 if theme != "trend" else None  # mostly of other things than sessions
        _row(f"{who} theme {theme}: rank", themes[theme], f"of {len(themes)}", goal)
    for theme in NOISE_THEMES:
        _row(f"{who} theme {theme} (noise): rank", themes[theme], f"of {len(themes)}")
    _directions(who, table)
    _stability(who, found)


def _directions(who: str, table: pd.DataFrame) -> None:
    by_feature = table.set_index("feature")["direction"]
    known = {feature: way for feature, way in DIRECTIONS.items() if feature in by_feature}
    right = sum(by_feature[feature] == way for feature, way in known.items())
    _row(f"{who} directions as in the generator", right, f"of {len(known)}", len(known), most=False)


def _stability(who: str, found: factors.Factors) -> None:
    for what, agreement in (("factors", found.features), ("themes", found.themes)):
        for name, value in agreement._asdict().items():
            if value is not None:
                _row(f"{who} order of {what}, {name} rank correlation over folds", value, "")


def _row(
    row: str, value: float, unit: str, goal: float | None = None, *, most: bool = True
) -> None:
    report("drivers", row, float(value), unit, goal if goal is None else float(goal), most=most)


if __name__ == "__main__":
    main()
