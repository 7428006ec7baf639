"""The stream of all trails (audit logs) for other programs, by a process outside of the daemon."""
