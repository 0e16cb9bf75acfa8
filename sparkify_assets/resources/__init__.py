"""What the assets run on: the Spark session and the lake.

Only this package knows how tables are stored and how Spark is started.
"""
