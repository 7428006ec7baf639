"""Seals, keys and checkpoints of the journal."""
