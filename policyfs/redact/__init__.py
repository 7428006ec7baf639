"""Where the bytes of a file tell a place, and what to put there instead.

Pure: bytes by range in, patches out. No file system, no clock, no event loop. docs/redaction.md
says what is found in which kind of file, what is neutralised because it is not understood, and
what stays.
"""
