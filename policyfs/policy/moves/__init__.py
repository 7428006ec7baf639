"""Renames and links: comparisons of the rights at two paths."""
