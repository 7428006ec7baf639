"""Delivery of trails (audit logs) to other programs and machines, by a process outside of the daemon."""
