"""A machine that systemd boots as its first process: this machine's /usr, and all else in memory.

Its processes and mounts are in namespaces of their own, and end with it. `boot.sh` makes its root.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final

from tests.support.machine.processes import wait_for

CHECKOUT: Final = Path(__file__).resolve().parents[3]
BOOT: Final = Path(__file__).with_name("boot.sh")
POLICYFS: Final = CHECKOUT / ".venv/bin/policyfs"
_CALL_S: Final = 60
_BOOT_S: Final = 60
_PATH: Final = "/usr/sbin:/usr/bin:/sbin:/bin"


class Booted:
    """A running machine. root: its root directory, as this process sees it."""

    def __init__(self, pid: int, namespaces: Sequence[str] = ()) -> None:
        """pid: its first process. namespaces: nsenter's words for those of its own, beside the usual."""
        self.pid, self._namespaces = pid, namespaces
        self.root = Path(f"/proc/{pid}/root")

    def words(self, *command: str) -> list[str]:
        """The words that run a command in it."""
        namespaces = ("--mount", "--uts", "--ipc", "--pid", "--root", "--wd")
        return ["nsenter", f"--target={self.pid}", *namespaces, *self._namespaces, *command]

    def __call__(self, *command: str, check: bool = True, deadline_s: float = _CALL_S) -> str:
        """Run a command in it. Return all that it prints."""
        done = subprocess.run(
            self.words(*command), stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
            text=True, errors="replace", timeout=deadline_s, check=False, env={"PATH": _PATH},
        )  # fmt: skip
        assert done.returncode == 0 or not check, (command, done.stdout)
        return done.stdout

    def state(self, unit: str) -> str:
        """The state of a unit, such as ``active`` or ``activating``."""
        return self("systemctl", "show", "--value", "--property=ActiveState", unit).strip()

    def main_pid(self, unit: str) -> int:
        """The pid of a service in its own process namespace."""
        return int(self("systemctl", "show", "--value", "--property=MainPID", unit))


@contextlib.contextmanager
def booted(
    place: Path, setup: Path, socket: str = "run/systemd/private", *, own_network: bool = False
) -> Iterator[Booted]:
    """Boot a machine, and end it. place: a directory without a `root`. setup: a shell script that runs in the
    new root, before systemd. socket: it is there once the machine has booted. own_network: True for a network
    namespace of its own."""
    log = place / "boot.log"
    root = place / "root"
    root.mkdir()
    groups = place / "cgroup"
    groups.mkdir()
    # Only the first namespace of control groups may make a hierarchy. With cgroup2 alone, none is needed.
    hierarchy = ["mount", "-t", "cgroup", "-o", "none,name=policyfs-test", "cgroup", str(groups)]
    made = subprocess.run(hierarchy, capture_output=True, check=False).returncode == 0
    network = ["--net"] if own_network else []
    unshared = ["unshare", "--fork", "--kill-child", "--pid", "--mount", "--uts", "--ipc", "--cgroup"]
    with log.open("wb") as output:
        process = subprocess.Popen(
            [*unshared, *network, "--propagation", "private", "sh", BOOT, root, CHECKOUT, setup],
            stdin=subprocess.DEVNULL, stdout=output, stderr=output,
            env={"PATH": _PATH, "BASE": sys.base_prefix},
        )  # fmt: skip
    try:
        children = Path(f"/proc/{process.pid}/task/{process.pid}/children")
        wait_for(lambda: bool(children.read_text().split()), "the first process", _BOOT_S)
        machine = Booted(int(children.read_text().split()[0]), network)
        path = machine.root / socket
        wait_for(lambda: process.poll() is not None or _is_there(path), "the machine answers", _BOOT_S)
        yield machine
    except BaseException:
        print(log.read_text(errors="replace")[-4000:])
        raise
    finally:
        with contextlib.suppress(ProcessLookupError, NameError, UnboundLocalError):
            os.kill(machine.pid, signal.SIGKILL)
        process.kill()
        process.wait(_CALL_S)
        if made:
            subprocess.run(["umount", str(groups)], check=True)


def _is_there(path: Path) -> bool:
    try:
        return path.exists()
    except OSError:
        return False
