"""Mounts of lying.py: a store, also of two machines, which breaks the promises that it is told to break."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

from tests.support.machine.namespace import detach
from tests.support.machine.processes import wait_for
from tests.support.mount import lying


@contextlib.contextmanager
def untrue(directory: Path, *broken: str, machines: int = 1) -> Iterator[list[Path]]:
    """Serve such a store below *directory*. The value: where each machine has it. broken: of lying.py."""
    places = [directory / f"untrue-{number}" for number in range(machines)]
    for place in places:
        place.mkdir()
    words = [",".join(map(os.fspath, places)), *broken]
    server = subprocess.Popen([sys.executable, "-S", lying.__file__, *words], cwd="/")
    try:
        wait_for(lambda: all(map(os.path.ismount, places)), "the store is mounted")
        yield places
    finally:
        for place in places:
            detach(os.fspath(place))
        server.kill()
        server.wait(10)
