"""Asset checks: what must hold of a table before anything is built on it."""
