"""A mount that an automounter makes (x-systemd.automount in fstab): it answers the app that asked for it."""

from __future__ import annotations

import ctypes
import fcntl
import os
import signal
import struct
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import pytest

from tests.mount.test_stores_in_stores import POLICY
from tests.support.machine.images import kernel_has
from tests.support.machine.namespace import detach
from tests.support.machine.processes import wait_for
from tests.support.mount.stores import Mounts

READY, FAIL = 0x9360, 0x9361  # linux/auto_fs.h: AUTOFS_IOC_READY, AUTOFS_IOC_FAIL
PACKET: Final = struct.Struct("=iii")  # its begin: version, type, token
PACKET_BYTES: Final = 304
MOUNTED_S: Final = 20.0


class Automounter:
    """What systemd is for a mountpoint: the first use of the mountpoint waits until ended() is called."""

    def __init__(self, place: Path) -> None:
        self._asked, told = os.pipe()
        options = f"fd={told},pgrp={os.getpgrp()},minproto=5,maxproto=5,direct"
        libc = ctypes.CDLL(None, use_errno=True)
        done = libc.mount(b"automounter", os.fsencode(place), b"autofs", 0, options.encode())
        os.close(told)
        assert not done, os.strerror(ctypes.get_errno())
        self._place = place
        self._root = os.open(place, os.O_RDONLY | os.O_DIRECTORY)
        self._token = 0

    def asked(self) -> None:
        """Wait until a process uses the mountpoint."""
        _, _, self._token = PACKET.unpack_from(os.read(self._asked, PACKET_BYTES))

    def ended(self, *, well: bool) -> None:
        """Let that process go on."""
        fcntl.ioctl(self._root, READY if well else FAIL, self._token)

    def close(self) -> None:
        for fd in (self._root, self._asked):
            os.close(fd)
        for _ in range(2):  # the mount, and the automounter's own
            detach(str(self._place))


@pytest.fixture
def place(arena: Path) -> Iterator[tuple[Path, Automounter]]:
    made = arena / "place"
    made.mkdir()
    automounter = Automounter(made)
    yield made, automounter
    automounter.close()


@pytest.mark.skipif(not kernel_has("autofs"), reason="this kernel has no autofs")
def test_the_first_use_makes_the_mount(place, mounts: Mounts, empty_store: Path) -> None:
    """Only processes of the automounter's group get past it. The daemon leaves this group."""
    where, automounter = place
    (empty_store / "photo").touch()
    mount = mounts.prepare(POLICY, empty_store)
    mount.trail.mkdir(parents=True)
    mount.mountpoint = where
    with subprocess.Popen(
        ["ls", where], stdout=subprocess.PIPE, text=True, start_new_session=True
    ) as user:
        automounter.asked()
        words = ["mount", "--policy", mount.policy, "--log", mount.log, empty_store, where]
        with subprocess.Popen(
            [sys.executable, "-m", "policyfs.cli.main", *words], env=os.environ | mount.environment
        ) as mounting:
            try:
                assert mounting.wait(MOUNTED_S) == 0
            finally:
                automounter.ended(well=mounting.returncode == 0)
                mounting.kill()
        assert user.communicate(timeout=MOUNTED_S)[0] == "photo\n"
    pid = int(mount.status()["pid"])
    os.kill(pid, signal.SIGTERM)
    wait_for(lambda: not Path(f"/proc/{pid}").exists() or not mount.control_socket.exists(), "it ends")
