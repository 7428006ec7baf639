"""`policyfs`, and a look for memory that nobody can reach any more when it ends.

    python -m tests.sanitize.daemon mount --foreground ...

To be run with AddressSanitizer in the process (see __main__.py). The daemon's filter of system calls
is left out: the search for leaks attaches to its own threads.
"""

from __future__ import annotations

import ctypes
import gc
import sys

import policyfs.mount
from policyfs.cli.main import main


def look_for_leaks() -> None:
    """Report, and end the process with the sanitizer's exit code, if there are any."""
    gc.collect()
    ctypes.CDLL(None).__lsan_do_leak_check()


if __name__ == "__main__":
    assert hasattr(policyfs.mount, "close_door")
    policyfs.mount.close_door = lambda **_: True
    code = main()
    sys.stdout.flush()
    sys.stderr.flush()
    look_for_leaks()
    raise SystemExit(code)
