"""`policy`: the actions that check, test, explain and compare policies."""
