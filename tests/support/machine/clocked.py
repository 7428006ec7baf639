"""`policyfs` with a clock that tests can step: what CLOCK_REALTIME says to the daemon, and to nobody else.

    python -m tests.support.machine.clocked FILE mount --foreground ...

FILE holds eight bytes: by how many nanoseconds the clock is wrong. A time namespace would not do: it
moves the clocks that nobody can set.
"""

from __future__ import annotations

import mmap
import os
import struct
import sys
import time
from pathlib import Path

from policyfs.cli.main import main
from policyfs.content.cache import KindCache
from policyfs.journal.writing.journal import Journal

_OFFSET = struct.Struct("=q")


def step(file: Path, offset_s: float) -> None:
    """Make the clock of who was started with that file wrong by so much from now on."""
    with file.open("r+b" if file.exists() else "wb") as out:
        out.write(_OFFSET.pack(round(offset_s * 1e9)))


def wrong_by(file: str) -> None:
    """Let this process's clock go by the file."""
    fd = os.open(file, os.O_RDONLY)
    shared = mmap.mmap(fd, _OFFSET.size, prot=mmap.PROT_READ)
    os.close(fd)
    true_ns = time.time_ns

    def time_ns() -> int:
        return true_ns() + int(_OFFSET.unpack(shared[: _OFFSET.size])[0])

    time.time_ns = time_ns
    time.time = lambda: time_ns() / 1e9
    for owner in (KindCache, Journal):  # their defaults were bound when they were imported
        for defaults in (owner.__init__.__kwdefaults__ or {},):
            defaults.update({name: time_ns for name, value in defaults.items() if value is true_ns})
        owner.__init__.__defaults__ = tuple(
            time_ns if value is true_ns else value for value in owner.__init__.__defaults__ or ()
        )


if __name__ == "__main__":
    wrong_by(sys.argv.pop(1))
    raise SystemExit(main())
