"""Requests on names: one module for one family of system calls."""
