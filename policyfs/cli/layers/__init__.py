"""Layers: what commands of `policyfs run --try` changed, kept apart from the store until a commit."""
