"""What `benchmarks.drivers` makes of a table of factors."""

from __future__ import annotations

import json
from typing import Any

import pandas as pd
import pytest

from benchmarks.drivers import DIRECTIONS, DRIVERS, NOISE_THEMES, groups, show_all, show_chosen
from sparkify_assets.churn.factors import Agreement, Factors
from sparkify_assets.churn.features import CORE, FEATURE_NAMES, FEATURES

THEMES = {feature.name: feature.theme for feature in FEATURES}


def found(ranked: list[str]) -> Factors:
    """Factors in this order; themes in the order of their first feature."""
    themes = list(dict.fromkeys(THEMES[name] for name in ranked))
    table = pd.DataFrame(
        {
            "feature": ranked,
            "theme": [THEMES[name] for name in ranked],
            "rank": range(1, len(ranked) + 1),
            "theme_rank": [1 + themes.index(THEMES[name]) for name in ranked],
            "share": 1 / len(ranked),
            "direction": [DIRECTIONS.get(name, 0) for name in ranked],
        }
    )
    return Factors(table, 5, Agreement(0.9, 0.8), Agreement(None, None))


def printed(capsys: pytest.CaptureFixture[str]) -> dict[str, dict[str, Any]]:
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert len({line["row"] for line in lines}) == len(lines)
    return {line["row"].partition(") ")[2]: line for line in lines}


def test_every_driver_has_features_and_none_is_noise() -> None:
    by_driver = groups(found(FEATURE_NAMES).table)
    assert set(by_driver) == set(DRIVERS)
    for name, rows in by_driver.items():
        assert not set(rows["theme"]) & set(NOISE_THEMES), name
    assert set(DIRECTIONS) <= set(FEATURE_NAMES)
    assert set(DIRECTIONS) & set(CORE)


def test_a_driver_below_a_feature_of_noise_misses_its_goal(
    capsys: pytest.CaptureFixture[str],
) -> None:
    noise = [name for name in FEATURE_NAMES if THEMES[name] in NOISE_THEMES]
    others = [name for name in FEATURE_NAMES if name not in noise]
    show_all(found(others + noise))
    rows = printed(capsys)
    assert all(line["met"] is not False for line in rows.values())
    assert rows[f"noise: best rank ({noise[0]})"]["value"] == len(others) + 1

    settings = [name for name in others if name.startswith("settings_per")]
    show_all(found([name for name in others if name not in settings] + noise + settings))
    rows = printed(capsys)
    missed = [name for name, line in rows.items() if line["met"] is False]
    assert missed == ["Settings: best rank"]


def test_directions_are_compared_with_the_generators(capsys: pytest.CaptureFixture[str]) -> None:
    factors = found(FEATURE_NAMES)
    for show in (lambda: show_chosen("boosted_regression", factors), lambda: show_all(factors)):
        show()
        right = printed(capsys)["directions as in the generator"]
        assert (right["value"], right["met"]) == (len(DIRECTIONS), True)
    show_chosen("boosted_regression", found(list(CORE)))
    right = printed(capsys)["directions as in the generator"]
    assert right["value"] == len(set(DIRECTIONS) & set(CORE))
    factors.table.loc[factors.table["feature"] == "many_thumbs_up", "direction"] = 1
    show_chosen("boosted_regression", factors)
    right = printed(capsys)["directions as in the generator"]
    assert (right["value"], right["met"]) == (len(DIRECTIONS) - 1, False)
