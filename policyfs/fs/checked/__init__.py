"""Checked writes: content is checked before it reaches the store."""
