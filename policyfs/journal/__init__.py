"""The journal of the trail on disk (layer 2)."""
