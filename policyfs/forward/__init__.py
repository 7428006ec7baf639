"""Delivery of trails to other programs and machines, by a separate process."""
