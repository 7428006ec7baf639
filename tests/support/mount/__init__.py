"""Stores, daemons and mounts for tests."""
