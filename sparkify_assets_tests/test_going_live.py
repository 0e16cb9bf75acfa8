"""Going live through the pipeline: what a bad model or bad users change, and what stays."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

from sparkify_assets import registry as command
from sparkify_assets.churn import registry
from sparkify_assets.churn.models import Calibrated
from sparkify_assets.resources.lake import Lake
from sparkify_assets.storage import write_part
from sparkify_assets.summary import summary
from sparkify_assets.tables import (
    CHURN_SCORES,
    EVALUATION_PREDICTIONS,
    FEATURE_TABLE,
    MODEL_REGISTRY,
    TRAINED_MODEL,
    Table,
)
from sparkify_assets_tests.running import Run, copy, run, versions

SCORING = ("model_registry", "churn_scores")


@pytest.fixture
def lake(finished: Run, tmp_path: Path) -> Lake:
    return copy(finished.lake, tmp_path / "lake")


def rewritten(lake: Lake, table: Table, change: Callable[[pl.DataFrame], pl.DataFrame]) -> None:
    """A table's next version, of which its writer says the same."""
    version = lake.version("mini", table.name)
    if not version.slices:
        rows = lake.read_polars("mini", table)
        lake.write_polars("mini", table, change(rows), version.metadata)
        return
    parts = [
        write_part(f"{version.path}/{name}", change(lake.read_polars("mini", table, slices={name})))
        for name in version.slices
    ]
    lake.commit("mini", table, parts, version.metadata, slices=version.slices)


def trained_anew(lake: Lake) -> str:
    """Another model in `trained_model`, a little more pessimistic; its version."""
    known = lake.read_polars("mini", TRAINED_MODEL)
    model = registry.open_model(known.row(by_predicate=pl.col("chosen"), named=True))
    assert isinstance(model, Calibrated)
    line = replace(model.line, intercept=model.line.intercept + 0.1)
    saved = replace(model, line=line).save()
    sha256 = hashlib.sha256(saved).hexdigest()
    rewritten(
        lake,
        TRAINED_MODEL,
        lambda table: table.with_columns(
            pl.when("chosen").then(pl.lit(value)).otherwise(name).alias(name)
            for name, value in (("artifact", saved), ("sha256", sha256))
        ),
    )
    return sha256[:12]


def guessing(lake: Lake) -> None:
    """Out-of-fold predictions of a model that knows nothing."""
    noise = np.random.default_rng(0)
    rewritten(
        lake,
        EVALUATION_PREDICTIONS,
        lambda table: table.with_columns(
            probability=pl.when(pl.col("model") == "chosen")
            .then(pl.Series(noise.random(table.height)))
            .otherwise("probability")
        ),
    )


def scored_by(lake: Lake) -> set[str]:
    return set(lake.read_polars("mini", CHURN_SCORES)["model_version"])


def known(lake: Lake) -> dict[str, str]:
    table = lake.read_polars("mini", MODEL_REGISTRY)
    return dict(table.select("model_version", "stage").rows())


@pytest.fixture
def commanded(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture) -> Callable[..., Any]:
    """`python -m sparkify_assets.registry ...`: code, output, errors."""

    def call(lake: Lake, *arguments: str) -> tuple[int, str, str]:
        monkeypatch.setenv("SPARKIFY_LAKE", lake.root)
        code = command.main(list(arguments))
        return code, *capsys.readouterr()

    return call


def test_scores_name_the_live_version(finished: Run) -> None:
    (version,) = known(finished.lake)
    assert known(finished.lake) == {version: "live"}
    assert scored_by(finished.lake) == {version}
    said = finished.lake.version("mini", "churn_scores").metadata
    assert said["model_version"] == version
    for asset in ("churn_scores", "churn_report"):
        assert finished.materialized[asset]["model_version"] == version
    assert finished.materialized["model_registry"]["live_version"] == version
    (model,) = finished.lake.read_polars("mini", MODEL_REGISTRY)["model"]
    assert f"scored by       {model} {version}, trained 20" in summary(finished.lake, "mini")
    page = Path(finished.lake.root, "mini", "churn_report", "churn_report.html").read_text()
    assert f"<code>{version}</code>, trained " in page


def test_a_good_new_model_takes_over(lake: Lake) -> None:
    (old,) = known(lake)
    new = trained_anew(lake)
    found = run(lake, None, *SCORING)
    assert found.success
    assert found.checks["model_registry:new_model_went_live"]
    assert known(lake) == {old: "retired", new: "live"}
    assert scored_by(lake) == {new}


def test_a_bad_new_model_is_refused_and_the_present_one_goes_on(lake: Lake) -> None:
    (old,) = known(lake)
    new = trained_anew(lake)
    guessing(lake)
    found = run(lake, None, *SCORING)
    assert found.success
    assert [name for name, passed in found.checks.items() if not passed] == [
        "model_registry:new_model_went_live"
    ]
    assert (
        "WARNING model_registry.new_model_went_live: Expected: the newest model, "
        f"{new}, scores users. Found: it is refused, and {old} scores users. "
        "Not told from guessing: ROC AUC 0."
    ) in found.said
    assert known(lake) == {old: "live", new: "refused"}
    assert scored_by(lake) == {old}
    assert versions(lake)["churn_scores"] == 1


def test_where_no_model_is_good_enough_nothing_is_scored_until_one_is_pinned(
    lake: Lake, commanded: Callable[..., Any]
) -> None:
    (version,) = known(lake)
    rewritten(lake, MODEL_REGISTRY, pl.DataFrame.clear)
    guessing(lake)
    found = run(lake, None, *SCORING)
    assert not found.success
    assert (
        "CHECK FAILED model_registry.a_model_is_live: Expected: a model scores users. "
        f"Found: No model scores users. The newest is {version}: Not told from guessing"
    ) in found.said
    assert known(lake) == {version: "refused"}
    assert versions(lake)["churn_scores"] == 0
    alone = run(lake, None, "churn_scores")
    assert "FAILED churn scores: No model scores users." in alone.said
    assert versions(lake)["churn_scores"] == 0

    code, out, err = commanded(lake, "pin", version[:5])
    assert (code, err) == (0, "")
    assert out.startswith(f"{version} is live in mini and pinned. To score with it:")
    assert run(lake, None, "churn_scores").success
    assert scored_by(lake) == {version}
    assert versions(lake)["churn_scores"] == 1


def test_an_altered_model_scores_nobody(lake: Lake) -> None:
    rewritten(lake, MODEL_REGISTRY, lambda table: table.with_columns(artifact=pl.lit(b"other")))
    found = run(lake, None, "churn_factors", "churn_scores")
    assert not found.success
    assert found.materialized == {}
    assert found.said.count("was altered: its checksum is") == 2
    assert (versions(lake)["churn_factors"], versions(lake)["churn_scores"]) == (0, 0)


def test_a_model_for_another_horizon_scores_nobody(lake: Lake) -> None:
    rewritten(lake, MODEL_REGISTRY, lambda table: table.with_columns(horizon_days=pl.lit(30)))
    found = run(lake, None, "churn_scores")
    assert not found.success
    assert "looks 30 days ahead, the feature table 10" in found.said
    assert versions(lake)["churn_scores"] == 0


def test_predictions_on_another_table_than_the_models_decide_nothing(lake: Lake) -> None:
    said = lake.version("mini", "evaluation_predictions").metadata | {"feature_table": 7}
    rows = lake.read_polars("mini", EVALUATION_PREDICTIONS)
    lake.write_polars("mini", EVALUATION_PREDICTIONS, rows, said)
    found = run(lake, None, "model_registry")
    assert not found.success
    assert "Materialize trained_model and evaluation_predictions together." in found.said
    assert versions(lake)["model_registry"] == 0


def test_users_that_changed_are_a_warning(lake: Lake) -> None:
    more = ["session_rate_ratio", "sessions_so_far"]
    rewritten(lake, FEATURE_TABLE, lambda table: table.with_columns(pl.col(more) * 3))
    found = run(lake, None, "churn_scores")
    assert found.success
    assert [name for name, passed in found.checks.items() if not passed] == [
        "churn_scores:users_are_as_at_training"
    ]
    warning = next(line for line in found.said.splitlines() if "WARNING" in line)
    assert all(name in warning for name in more)
    said = lake.version("mini", "churn_scores").metadata["drift"]
    assert set(more) <= {drift["name"] for drift in said if drift["level"] == "large"}


# The command


def test_the_command_lists_pins_unpins_and_rolls_back(
    lake: Lake, commanded: Callable[..., Any]
) -> None:
    (old,) = known(lake)
    trained = lake.read_polars("mini", MODEL_REGISTRY)
    now = trained["trained_at"][0]
    new = trained.row(0, named=True) | {"model_version": "b" * 12}
    rewritten(
        lake,
        MODEL_REGISTRY,
        lambda table: registry.considered(
            table,
            new | {"trained_at": now.replace(year=now.year + 1)},
            registry.Verdict(True, "Better."),
            now,
        ),
    )
    code, out, _ = commanded(lake)
    lines = out.splitlines()
    assert code == 0
    assert lines[0].split() == ["version", "stage", "trained", "(UTC)", "model", "PR", "AUC", "why"]
    assert [line.split()[:2] for line in lines[1:]] == [["b" * 12, "live"], [old, "retired"]]
    assert lines[1].endswith("  Better.")

    code, out, _ = commanded(lake, "--partition", "mini", "rollback")
    assert code == 0
    assert out.startswith(f"{old} is live in mini and pinned.")
    assert known(lake) == {old: "live", "b" * 12: "retired"}
    assert commanded(lake, "list")[1].splitlines()[2].split()[1:3] == ["live,", "pinned"]
    code, out, _ = commanded(lake, "unpin")
    assert out.startswith(f"{old} is live in mini, and no longer pinned")
    assert lake.version("mini", "model_registry").number == 3
    assert lake.version("mini", "model_registry").metadata["run_id"].endswith("registry unpin")


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("pin", "ffff"), "No version begins with 'ffff'. There are: "),
        (("rollback",), "There is no earlier version that was live."),
        (("unpin",), "No version is pinned."),
        (("--partition", "maxi"), "There is no dataset 'maxi'. There are: mini, full."),
        (("--partition", "full"), "The table model_registry of full is not in the lake "),
    ],
)
def test_what_the_command_cannot_do_changes_nothing(
    arguments: tuple[str, ...], said: str, finished: Run, commanded: Callable[..., Any]
) -> None:
    code, out, err = commanded(finished.lake, *arguments)
    assert (code, out) == (2, "")
    assert err.startswith(said)
    assert versions(finished.lake)["model_registry"] == 0


def test_a_registry_that_changed_meanwhile_is_not_overwritten(
    lake: Lake, commanded: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    (version,) = known(lake)
    pin = registry.pin

    def slowly(*given: Any) -> pl.DataFrame:
        rewritten(lake, MODEL_REGISTRY, lambda table: table)
        return pin(*given)

    monkeypatch.setattr(registry, "pin", slowly)
    code, _, err = commanded(lake, "pin", version)
    assert code == 2
    assert "model_registry of mini has changed meanwhile. Nothing was written; try again." in err
    assert not lake.read_polars("mini", MODEL_REGISTRY)["pinned"].any()
