"""Delivery of trails to other programs and machines, by a process of its own."""
