"""Delivery of trails (audit logs) to files and commands, by a process outside of the daemon."""
