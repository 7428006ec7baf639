"""One JuiceFS volume, mounted by several machines (packaging/setup/soak.txt), and Redis as its database."""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.machine.namespace import detach
from tests.support.machine.processes import wait_for

_PROGRAM = shutil.which("juicefs", path=f"{os.path.dirname(sys.executable)}:{os.environ['PATH']}") or ""
JUICEFS = (
    pytest.mark.soak,
    pytest.mark.skipif(not (_PROGRAM and shutil.which("redis-server")), reason="no juicefs"),
)
_SERVER_S = 60


def _run(*words: str | Path) -> None:
    subprocess.run([_PROGRAM, *words], check=True, capture_output=True, timeout=_SERVER_S)


def mount_volume(meta: str, place: Path) -> None:
    """Mount the volume with this database, as one machine."""
    cache = place.with_name(f"cache-{place.name}")
    _run("mount", "-d", "--enable-xattr", "--cache-dir", cache, meta, place)


@contextlib.contextmanager
def juicefs(directory: Path, meta: str = "") -> Iterator[list[Path]]:
    """Mount one volume twice. meta: its database; SQLite by default. The value: where each machine has it."""
    meta, places = meta or f"sqlite3://{directory}/meta.db", [directory / name for name in ("one", "two")]
    _run("format", "--storage", "file", "--bucket", f"{directory}/objects/", meta, "library")
    try:
        for place in places:
            place.mkdir()
            mount_volume(meta, place)
        yield places
    finally:
        for place in places:
            subprocess.run(["umount", place], check=False, timeout=_SERVER_S)
            detach(os.fspath(place))


def servers_of(place: Path) -> list[int]:
    """Return the processes of JuiceFS that serve a mount; the one that starts another comes first."""
    found = []
    for one in Path("/proc").glob("[0-9]*/cmdline"):
        with contextlib.suppress(OSError):
            words = one.read_bytes().replace(b"\0", b" ").split()  # it joins its arguments itself
            if os.fsencode(place) in words and words[0].endswith(b"juicefs"):
                found.append(int(one.parent.name))
    return sorted(found)


class Redis:
    """A server that answers only when a change is on the disk. It can be killed and started again."""

    def __init__(self, directory: Path) -> None:
        directory.mkdir()
        self.socket = f"{directory}/socket"
        self._words = ["redis-server", "--port", "0", "--unixsocket", self.socket, "--dir", str(directory)]
        self._words += ["--save", "", "--appendonly", "yes", "--appendfsync", "always"]
        self.start()

    def start(self) -> None:
        self._server = subprocess.Popen(self._words, stdout=subprocess.DEVNULL)
        ask = ["redis-cli", "-s", self.socket, "ping"]
        wait_for(lambda: subprocess.run(ask, capture_output=True, check=False).stdout == b"PONG\n", "redis")

    def kill(self) -> None:
        self._server.kill()
        self._server.wait(10)
