"""Churn: labels, days, features, models and what they say.

Pure functions, in Polars and NumPy; Dagster is not known here.
"""
