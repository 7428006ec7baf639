"""Where records end up: the journal of the trail on disk."""
