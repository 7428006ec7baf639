"""Kept objects: those that apps have removed or overwritten, for undo."""
