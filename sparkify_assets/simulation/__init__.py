"""The event generator: simulated logs of a music service, made like the real Sparkify ones.

Belongs here: everything that knows how the simulated users behave. Does not belong here: anything
that reads a log. Nothing here knows Dagster, and Spark is used only to share out the work.
"""

from sparkify_assets.simulation.log import LogSummary, write_log

# A log of 225 users and 61 days that comes close to the real mini file, which has 286,500 events
# and 52 users who cancel: this one has 281,685 and 53.
MINI_SEED = 58

__all__ = ["MINI_SEED", "LogSummary", "write_log"]
