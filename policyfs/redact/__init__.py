"""Plans that hide places, devices, times and people in the bytes of a file.

Pure: bytes by range in, patches out. No file system, no clock, no event loop. docs/redaction.md
lists the findings in each kind of file, the parts that are neutralised because they are not
understood, and the parts that stay.
"""
