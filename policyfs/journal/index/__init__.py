"""Indexes of segments."""
