"""Requests on bytes: reads and writes, ranges, locks."""
