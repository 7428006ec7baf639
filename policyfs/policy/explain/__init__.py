"""Explanations of decisions."""
