"""Redaction plans: patches that hide places, devices, times and people in the bytes of a file.

The package is pure. It reads bytes by range and returns patches. It uses no file system, no clock and no
event loop. For each kind of file, docs/redaction.md lists the findings, the parts that become neutral because
they are not understood, and the parts that stay.
"""
