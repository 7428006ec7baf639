"""Trees that are deeper than one call can name, and what a daemon spends on them."""

from __future__ import annotations

import errno
import os
import subprocess
from pathlib import Path

LONG = b"\xff\xfe" * 125
"""A name of 250 bytes that is no UTF-8."""


def descend(levels: int, name: bytes = b"d") -> tuple[int, str]:
    """Make directories one in the other and go down into them, from the working directory. Returns how many
    were made, and the name of the errno that ended it ("" if none did)."""
    for made in range(levels):
        try:
            os.mkdir(name)
            os.chdir(name)
        except OSError as error:
            return made, errno.errorcode[error.errno or 0]
    return levels, ""


def opened_down(path: str | Path, levels: int, name: bytes = b"d") -> list[int]:
    """Descriptors of a directory and of those one in the other below it, opened one from the other."""
    fds = [os.open(path, os.O_RDONLY | os.O_DIRECTORY)]
    for _ in range(levels):
        fds.append(os.open(name, os.O_RDONLY | os.O_DIRECTORY, dir_fd=fds[-1]))
    return fds


def dug(path: Path, levels: int, name: bytes = b"d") -> list[int]:
    """Make directories one in the other below *path*; descriptors of it and of each."""
    fds = [os.open(path, os.O_RDONLY | os.O_DIRECTORY)]
    for _ in range(levels):
        os.mkdir(name, dir_fd=fds[-1])
        fds.append(os.open(name, os.O_RDONLY | os.O_DIRECTORY, dir_fd=fds[-1]))
    return fds


def clear(directory: Path) -> None:
    """Remove what is in a directory, however deep (shutil.rmtree gives up at 1,000 levels)."""
    for entry in os.listdir(directory):
        subprocess.run(["rm", "-rf", "--", directory / entry], check=True)


def cpu_s(pid: int) -> float:
    """Seconds that a daemon's loop has spent on a processor: how busy the machine is does not count."""
    return int(Path(f"/proc/{pid}/schedstat").read_text().split()[0]) / 1e9
