"""Processes that look at files: their start, confinement, queue and protocol."""
