"""Queries on the trail: expressions, selections, summaries, the index."""
