"""Checks of the models: that one is live, that the newest one is, and that its users are the same.

Only the first one stops a run; the others warn, as scores of the present model are still there.
"""

import dagster as dg

from sparkify_assets import metadata
from sparkify_assets.checks.results import result
from sparkify_assets.churn import drift, registry
from sparkify_assets.datasets import PARTITIONS
from sparkify_assets.resources.io_manager import LakeResource
from sparkify_assets.tables import MODEL_REGISTRY

_DECIDED = ["model_version", "stage", "pinned", "decision", "trained_at"]


@dg.asset_check(
    asset="model_registry",
    blocking=True,
    partitions_def=PARTITIONS,
    description="There is a model that scores the users.",
)
def a_model_is_live(
    context: dg.AssetCheckExecutionContext, lake: LakeResource
) -> dg.AssetCheckResult:
    known = lake.lake.read_polars(context.partition_key, MODEL_REGISTRY, _DECIDED)
    live = known.filter(stage=registry.LIVE)["model_version"].to_list()
    return result(
        bool(live),
        expected="a model scores users",
        found=f"{live[0]} does" if live else registry.none_is_live(known).rstrip("."),
        look=_all_models(lake, context.partition_key),
        more={"live version": ", ".join(live) or "none"},
    )


@dg.asset_check(
    asset="model_registry",
    partitions_def=PARTITIONS,
    description="The model that was trained last scores the users.",
)
def new_model_went_live(
    context: dg.AssetCheckExecutionContext, lake: LakeResource
) -> dg.AssetCheckResult:
    newest = lake.lake.version(context.partition_key, "model_registry").metadata["newest"]
    known = lake.lake.read_polars(context.partition_key, MODEL_REGISTRY, _DECIDED)
    row = known.filter(model_version=newest).row(0, named=True)
    live = known.filter(stage=registry.LIVE)["model_version"].to_list()
    scoring = live[0] if live else "none"
    return result(
        row["stage"] == registry.LIVE,
        expected=f"the newest model, {newest}, scores users",
        found=f"it is {row['stage']}, and {scoring} scores users. {row['decision'].rstrip('.')}",
        look=_all_models(lake, context.partition_key),
        warns=True,
        more={"newest version": newest, "live version": scoring},
    )


def _all_models(lake: LakeResource, dataset: str) -> str:
    """Python that shows what was decided of each model."""
    path = lake.lake.folder(dataset, MODEL_REGISTRY.name)
    return f"import polars as pl; print(pl.read_delta({path!r}).select({_DECIDED}).to_dicts())"


@dg.asset_check(
    asset="churn_scores",
    partitions_def=PARTITIONS,
    description=f"Features and probabilities are spread as at the training: of each the PSI is "
    f"less than {drift.LARGE} above what chance gives.",
)
def users_are_as_at_training(
    context: dg.AssetCheckExecutionContext, lake: LakeResource
) -> dg.AssetCheckResult:
    said = lake.lake.version(context.partition_key, "churn_scores").metadata
    found = [drift.Drift(**each) for each in said["drift"]]
    moved = [each for each in found if each.level == "large"]
    return result(
        not moved,
        expected=f"each PSI is less than {drift.LARGE} above what chance gives",
        found=drift.in_words(found, said["model_version"]),
        warns=True,
        more={
            "drift": metadata.records(
                {
                    "what": each.name,
                    "psi": round(each.psi, 3),
                    "by chance up to": round(each.by_chance, 3),
                    "drift": each.level,
                }
                for each in found
            )
        },
    )
