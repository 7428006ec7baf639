"""Proposals of policies from the requests of a trail."""
