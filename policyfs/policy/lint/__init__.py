"""Findings on policies that compile: what is probably not meant, each with an id, a reason and a place."""
