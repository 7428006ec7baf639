"""Replay: requests that a trail has recorded are decided again under another policy."""
