"""The assets: what depends on what, and what Dagster's UI shows of it. No logic."""
