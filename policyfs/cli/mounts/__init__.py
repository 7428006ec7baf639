"""`mount`, `run`: commands that start a daemon."""
