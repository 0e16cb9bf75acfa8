"""Which model goes live, and what a person can do about it."""

from __future__ import annotations

import hashlib
from datetime import date, datetime, timedelta, timezone
from typing import Any

import numpy as np
import polars as pl
import pytest

from sparkify_assets.churn import registry, splits
from sparkify_assets.churn.evaluation import evaluate
from sparkify_assets.churn.models import BASELINES, CANDIDATES, Linear
from sparkify_assets.churn.registry import Verdict, Worth, consider, considered, judge, worth
from sparkify_assets.errors import NotEnoughDataError, SettingError, SparkifyError
from sparkify_assets.tables import MODEL_REGISTRY
from sparkify_assets_tests.test_evaluation import FEATURES, rows

NONE_YET = pl.DataFrame(schema=MODEL_REGISTRY.polars_schema)
DAY_0 = datetime(2026, 1, 1, tzinfo=timezone.utc)
GOOD, BAD = Verdict(True, "Good."), Verdict(False, "Bad.")


def linear(*weights: float, intercept: float = -2.0) -> Linear:
    zeros, ones = np.zeros(len(weights)), np.ones(len(weights))
    return Linear(
        "logistic_regression",
        ("signal", "noise")[: len(weights)],
        zeros,
        spread=ones,
        mean=zeros,
        deviation=ones,
        unknown_share=zeros,
        weight=np.array(weights),
        unknown_weight=zeros,
        intercept=intercept,
    )


def model(version: str, day: int = 0, twin: Linear | None = None, **more: Any) -> dict[str, Any]:
    """What is known of a newly trained model."""
    twin = twin or linear(1.0, 0.0)
    saved = twin.save()
    sha256 = hashlib.sha256(saved).hexdigest()
    return {
        "model_version": version,
        "model": "logistic_regression",
        "trained_at": DAY_0 + timedelta(days=day),
        "features": list(twin.features),
        "artifact": saved,
        "sha256": sha256,
        "twin": saved,
        "twin_sha256": sha256,
        "horizon_days": 10,
        "pr_auc": 0.1,
        **more,
    }


def later(days: int) -> datetime:
    return DAY_0 + timedelta(days=days)


def of(*trained: tuple[str, Verdict]) -> pl.DataFrame:
    """A registry to which these models came one a day."""
    known = NONE_YET
    for day, (version, verdict) in enumerate(trained):
        known = considered(known, model(version, day), verdict, later(day))
    return known


def stages(known: pl.DataFrame) -> dict[str, str]:
    return dict(known.select("model_version", "stage").rows())


def users(count: int = 600, seed: int = 0) -> pl.DataFrame:
    """Rows of users whose signal goes with churn, and whose noise does not."""
    draw = np.random.default_rng(seed)
    signal = draw.normal(size=count)
    return pl.DataFrame(
        {
            "user_id": [str(i) for i in range(count)],
            "as_of": date(2018, 11, 21),
            "label": draw.random(count) < 1 / (1 + np.exp(2 - 2 * signal)),
            "signal": signal,
            "noise": draw.normal(size=count),
        }
    )


def predictions(**probability: np.ndarray) -> pl.DataFrame:
    """As `evaluation_predictions`; baselines that are not given guess."""
    rows = users()
    guess = dict.fromkeys(BASELINES, np.full(rows.height, 0.2))
    return pl.concat(
        rows.select(
            "user_id",
            "as_of",
            "label",
            repeat=pl.lit(0),
            model=pl.lit(name),
            probability=pl.Series(said),
        )
        for name, said in (guess | probability).items()
    )


KNOWS, GUESSES = linear(2.0, 0.0).predict(users()), linear(0.0, 2.0).predict(users())
SURELY = worth(predictions(chosen=KNOWS), 200)


# Against the baselines


def test_better_than_all_baselines_is_good() -> None:
    verdict = judge(model("new"), None, SURELY, users())
    assert verdict.good
    assert verdict.words.startswith("Better than every baseline; the nearest is ")
    assert verdict.words.endswith("higher in 100% of resamples.")
    assert verdict.figures["baseline_share"] == 1
    assert SURELY.over["prevalence"].pr_auc > 0.3


def test_a_guess_is_refused_even_where_no_model_is_live() -> None:
    found = worth(predictions(chosen=GUESSES), 200)
    assert found.roc_auc[1] < 0.5 < found.roc_auc[2]
    verdict = judge(model("new"), None, found, users())
    assert not verdict.good
    assert verdict.words.startswith("Not told from guessing: ROC AUC 0.")


def test_a_model_of_features_that_never_vary_is_refused() -> None:
    frame = rows().assign(**dict.fromkeys(FEATURES, 1.0))
    tested = evaluate(frame, FEATURES, "forecast", candidates=CANDIDATES[:2]).predictions
    verdict = judge(model("new"), None, worth(pl.from_pandas(tested), 200), users())
    assert not verdict.good
    assert verdict.words.startswith("Not told from guessing")


def test_clearly_worse_than_a_simple_rule_is_refused_even_where_no_model_is_live() -> None:
    half = linear(1.0, 1.0).predict(users())
    found = worth(predictions(chosen=half, sessions_per_day=KNOWS), 200)
    assert found.nearest == "sessions_per_day"
    verdict = judge(model("new"), None, found, users())
    assert not verdict.good
    assert verdict.words.startswith("Not better than sessions per day: PR AUC -0.")


def test_not_told_from_a_simple_rule_is_enough_only_where_no_model_is_live() -> None:
    almost = linear(2.0, 0.2).predict(users())
    found = worth(predictions(chosen=almost, sessions_per_day=KNOWS), 200)
    ahead = found.over["sessions_per_day"]
    assert ahead.low < ahead.pr_auc < 0 < ahead.high
    first = judge(model("new"), None, found, users())
    assert first.good
    assert first.words.startswith("Not told from sessions per day: PR AUC -0.0")
    assert not judge(model("new"), model("old"), found, users()).good


# Against the present one


@pytest.mark.parametrize(
    ("twin", "good", "words"),
    [
        (linear(2.0, 0.0), True, "Not clearly worse than old on users that neither learned from"),
        (linear(2.0, 0.3), True, "Not clearly worse than old"),
        (linear(0.0, 2.0), False, "Clearly worse than old on users that neither learned from"),
    ],
)
def test_refused_only_if_clearly_worse(twin: Linear, good: bool, words: str) -> None:
    verdict = judge(model("new", twin=twin), model("old"), SURELY, users(2_000), 200)
    assert verdict.good == good
    assert words in verdict.words
    jury = users(2_000).filter(splits.jury(users(2_000)["user_id"]))
    assert verdict.figures["jury_rows"] == jury.height
    assert verdict.figures["jury_positives"] == jury["label"].sum()
    assert (verdict.figures["ci_high"] >= 0) == good


def test_users_outside_the_jury_have_no_say() -> None:
    rows = users(2_000)
    jury = pl.Series(splits.jury(rows["user_id"]))
    other = rows.with_columns(label=pl.when(jury).then("label").otherwise(~pl.col("label")))
    new = model("new", twin=linear(0.5, 1.0))
    assert judge(new, model("old"), SURELY, rows, 200) == judge(
        new, model("old"), SURELY, other, 200
    )


def test_what_cannot_be_compared_does_not_replace_the_present_one() -> None:
    one_class = users().with_columns(label=pl.lit(False))
    verdict = judge(model("new"), model("old"), SURELY, one_class)
    assert not verdict.good
    assert "Cannot be compared with old: all " in verdict.words
    assert "rows of the jury have the same outcome." in verdict.words
    without_twin = model("new") | {"twin": None, "twin_sha256": None}
    verdict = judge(without_twin, model("old"), SURELY, users())
    assert not verdict.good
    assert "without the jury too few users were left to fit new again." in verdict.words
    with pytest.raises(NotEnoughDataError):
        registry.compared(without_twin, model("old"), users())


@pytest.mark.parametrize(
    ("fault", "words"),
    [
        ({"features": ["signal", "gone"]}, "needs features that the feature table does not have"),
        ({"horizon_days": 30}, "looks 30 days ahead, the feature table 10"),
        ({"artifact": b"altered"}, "was altered: its checksum is"),
    ],
)
def test_a_present_model_that_cannot_score_is_replaced(fault: dict, words: str) -> None:
    verdict = judge(model("new"), model("old") | fault, SURELY, users())
    assert verdict.good
    assert words in verdict.words
    known = considered(NONE_YET, model("old") | fault, GOOD, DAY_0)
    with pytest.raises(SparkifyError, match=words):
        registry.live_model(known, users().columns, 10)


# What follows


def test_one_is_live_and_the_one_before_is_retired() -> None:
    known = of(("a", GOOD), ("b", BAD), ("c", GOOD))
    assert stages(known) == {"a": "retired", "b": "refused", "c": "live"}
    assert known["went_live_at"].to_list() == [DAY_0, None, later(2)]
    assert known["decision"].to_list() == ["Good.", "Bad.", "Good."]


def test_a_live_model_that_is_trained_again_changes_nothing() -> None:
    known = of(("a", GOOD), ("b", GOOD))
    again = consider(known, model("b", 5), SURELY, users(), later(5))
    assert again.equals(known)


def test_an_earlier_model_that_is_trained_again_keeps_its_one_row() -> None:
    known = considered(of(("a", GOOD), ("b", GOOD)), model("a", 2), GOOD, later(2))
    assert stages(known) == {"b": "retired", "a": "live"}
    refused = considered(of(("a", GOOD), ("b", GOOD)), model("a", 2), BAD, later(2))
    assert stages(refused) == {"b": "live", "a": "refused"}
    assert refused.filter(model_version="a")["went_live_at"].to_list() == [DAY_0]


def test_consider_compares_with_the_live_one() -> None:
    known = considered(NONE_YET, model("a"), GOOD, DAY_0)
    worse = consider(known, model("b", 1, linear(0.0, 2.0)), SURELY, users(2_000), later(1), 200)
    assert stages(worse) == {"a": "live", "b": "refused"}
    row = worse.row(by_predicate=pl.col("model_version") == "b", named=True)
    assert row["compared_with"] == "a"
    assert row["ci_high"] < 0
    assert row["decision"].startswith("Better than every baseline")
    same = consider(worse, model("c", 2), SURELY, users(2_000), later(2), 200)
    assert stages(same) == {"a": "retired", "b": "refused", "c": "live"}
    assert same.filter(model_version="c")["difference"].to_list() == [0.0]


def test_nothing_live_is_said_with_the_way_out() -> None:
    for known, newest in ((NONE_YET, "none at all."), (of(("a", BAD)), "a: Bad.")):
        with pytest.raises(SparkifyError, match=f"The newest is {newest} .* pin VERSION"):
            registry.live_model(known, users().columns, 10)


# What a person can do


def test_a_pinned_version_stays_whatever_is_trained() -> None:
    known = registry.pin(of(("a", GOOD), ("b", GOOD)), "a", later(2))
    assert stages(known) == {"a": "live", "b": "retired"}
    assert known["went_live_at"].to_list() == [later(2), later(1)]
    trained = considered(known, model("c", 3), GOOD, later(3))
    assert stages(trained) == {"a": "live", "b": "retired", "c": "refused"}
    assert trained["decision"][-1] == "a is pinned; without that this one would go live. Good."
    free = considered(registry.unpin(trained), model("d", 4), GOOD, later(4))
    assert stages(free)["d"] == "live"
    assert not free["pinned"].any()


def test_a_refused_version_can_be_pinned_and_only_one_is() -> None:
    known = registry.pin(of(("a", BAD), ("b", BAD)), "a", later(2))
    known = registry.pin(known, "b", later(3))
    assert stages(known) == {"a": "retired", "b": "live"}
    assert known.filter("pinned")["model_version"].to_list() == ["b"]


def test_rolling_back_goes_to_the_live_one_before_and_further_back() -> None:
    known = of(("a", GOOD), ("b", GOOD), ("c", BAD), ("d", GOOD))
    for version in ("b", "a"):
        known = registry.rollback(known, later(9))
        assert registry.live(known)["model_version"] == version  # type: ignore[index]
        assert known.filter("pinned")["model_version"].to_list() == [version]
    with pytest.raises(SettingError, match="no earlier version that was live"):
        registry.rollback(known, later(9))


def test_versions_may_be_shortened_and_unknown_ones_are_answered_with_those_there_are() -> None:
    known = of(("abc1", GOOD), ("abd2", GOOD))
    assert stages(registry.pin(known, "abc", later(2)))["abc1"] == "live"
    for wrong, said in (("x", "No version begins"), ("ab", "2 versions begin"), ("", "begin")):
        with pytest.raises(SettingError, match=f"{said} with '{wrong}'. There are: abc1, abd2."):
            registry.pin(known, wrong, later(2))
    with pytest.raises(SettingError, match="There are: none"):
        registry.pin(NONE_YET, "abc", later(2))
    with pytest.raises(SettingError, match="No version is pinned"):
        registry.unpin(known)


def test_an_altered_version_cannot_be_pinned() -> None:
    known = of(("a", GOOD)).with_columns(artifact=pl.lit(b"altered"))
    with pytest.raises(SparkifyError, match="was altered"):
        registry.pin(known, "a", later(1))


def test_worth_by_hand() -> None:
    found = worth(predictions(chosen=KNOWS), 100)
    assert isinstance(found, Worth)
    assert set(found.over) == set(BASELINES)
    label = users()["label"].to_numpy()
    churned, stayed = KNOWS[label], KNOWS[~label]
    above = (churned[:, None] > stayed).mean()
    assert found.roc_auc[0] == pytest.approx(above)
    assert found.over["prevalence"].rows == 600


# As it would have been then


def test_the_model_of_a_past_day_had_learned_from_no_later_log_and_was_live() -> None:
    ends = {"a": date(2018, 11, 1), "b": date(2018, 11, 8), "c": date(2018, 11, 8), "d": None}
    known = NONE_YET
    for day, (version, end) in enumerate(ends.items()):
        verdict = BAD if version == "c" else GOOD
        known = considered(known, model(version, day, log_end=end), verdict, later(day))

    def version_at(day: date) -> str | None:
        row = registry.of_then(known, day, 10)
        return row and row["model_version"]

    assert version_at(date(2018, 10, 31)) is None
    assert version_at(date(2018, 11, 1)) == "a"
    assert version_at(date(2018, 11, 7)) == "a"
    assert version_at(date(2018, 11, 8)) == "b"  # c was never live, of d nothing is known
    assert registry.of_then(known, date(2018, 11, 8), 30) is None
