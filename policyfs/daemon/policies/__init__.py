"""Policies in force: reloads, exceptions, and the watch on their files."""
