"""Compose files and units as their users write them, with what their services have."""
