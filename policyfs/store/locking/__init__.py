"""Locks on files of the store: POSIX and BSD locks, latches, leases, and their holders."""
