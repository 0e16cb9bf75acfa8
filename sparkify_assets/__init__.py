"""Sparkify Assets: from a music service's event log to who is about to leave, and why."""

from importlib.metadata import version

__version__ = version("sparkify-assets")
