"""Benchmarks: what the project claims, measured. `make bench` prints every table."""
