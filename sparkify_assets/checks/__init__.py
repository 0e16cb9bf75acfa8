"""Asset checks: what must hold of a table before anything is built on it."""

import warnings

# Dagster 1.13 calls partitioned checks a preview; without, a check of mini would stand for full.
warnings.filterwarnings("ignore", message="Specifying a partitions_def on an AssetCheckSpec")
