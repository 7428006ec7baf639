"""Writes whose content is checked before it reaches the store."""
