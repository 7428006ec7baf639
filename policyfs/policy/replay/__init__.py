"""Recorded requests, decided again under another policy."""
