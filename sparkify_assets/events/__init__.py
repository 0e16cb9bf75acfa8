"""From an event log to cleaned events; each step can be called without Dagster.

Belongs here: finding and reading the log (`source`), judging its lines (`parse`), spreading that
work over Spark (`ingest`), and cleaning the events (`clean`).
Does not belong here: anything about users as a whole (`churn/`), and where tables are kept
(`resources/`).
"""
