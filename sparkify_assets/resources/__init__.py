"""What the assets run on: the Spark session and the lake. Only this package knows storage and session."""
