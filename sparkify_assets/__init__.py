"""Sparkify Assets: from a music service's event log to who is about to leave, and why."""
