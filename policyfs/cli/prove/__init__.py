"""`prove`: a test whether a mount answers as its policy does."""
