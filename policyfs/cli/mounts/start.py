"""The start of a mount by a command: who starts it, with which options, and the record if it fails."""

from __future__ import annotations

import argparse
import contextlib
import fcntl
import os
import time
from pathlib import Path
from typing import Final

from policyfs.cli.common.on_record import record, starter, trail_root
from policyfs.daemon.control import control
from policyfs.errors import PolicyfsError
from policyfs.linux.mountinfo import resolve
from policyfs.linux.private_files import make_private

_NOT_OPTIONS: Final = frozenset({"run", "command", "kept", "follow"})
_WAIT_S: Final = 5.0
"""The longest wait for another start at the mountpoint. A process that was killed during its start has the
lock until the kernel has freed its memory (some 50 ms)."""
_PAUSE_S: Final = 0.01


def options_of(args: argparse.Namespace) -> dict[str, object]:
    """Return the options of a command, also defaults, as a dictionary from names to values: all its arguments
    except those in _NOT_OPTIONS."""
    return {name: value for name, value in vars(args).items() if name not in _NOT_OPTIONS}


class Start:
    """One start of a mount, from the command until the mount answers or the start fails.

    root: the trail root (the directory of all trails). told: the fields about the caller and the options, for
    the trail's record of the start or of its failure.
    """

    def __init__(self, root: Path, told: dict[str, object], mountpoint: str, places: list[str]) -> None:
        self.root = root
        self.told = told
        self._mountpoint = mountpoint
        self._places = places
        self._is_over = False
        self._lock: int | None = None

    @classmethod
    def of(cls, args: argparse.Namespace) -> Start:
        """Return the start that a command line describes."""
        root = Path(trail_root(args.trail)).absolute()
        try:  # a dead mount may be there: it does not answer stat
            mountpoint = resolve(args.mountpoint)
        except OSError:
            mountpoint = os.path.abspath(args.mountpoint)
        places = [os.path.realpath(args.store), mountpoint]
        own = {"store": os.path.abspath(args.store), "mountpoint": mountpoint}
        told = {"options": options_of(args) | own, **starter(f"policyfs {args.command}")}
        return cls(root, told, mountpoint, places)

    def claim(self) -> None:
        """Lock the mountpoint until the mount answers or the start fails. If another process is making a
        mount there, wait until it has ended, at most _WAIT_S; then raise PolicyfsError.

        INVARIANT: the mountpoint is checked under this lock. Otherwise two processes could find it free, and
        mount one over the other. Then the lower mount would have no control socket, and would come back, with
        its old policy, when the upper one is unmounted.
        """
        path = control.start_lock_path(self._mountpoint)
        try:
            make_private(path.parent)
            self._lock = _locked(path)
        except BlockingIOError as error:
            raise PolicyfsError(
                f"another process is making a mount at {self._mountpoint}; wait until it has ended"
            ) from error
        except OSError as error:
            raise PolicyfsError(
                f"cannot lock {path}: {error.strerror}; set POLICYFS_RUNTIME_DIR to a writable directory"
            ) from error

    def _release(self) -> None:
        """Remove the lock of claim(). The daemon shares the lock, so closing it is not enough."""
        if self._lock is not None:
            # If the daemon has removed the locked file, the path may lead to the file of another process.
            if os.fstat(self._lock).st_nlink:
                with contextlib.suppress(OSError):
                    os.unlink(control.start_lock_path(self._mountpoint))
            fcntl.flock(self._lock, fcntl.LOCK_UN)
            os.close(self._lock)
            self._lock = None

    def answered(self) -> None:
        """Note that the mount answers. If the daemon fails later, that is not a failed start."""
        self._is_over = True
        self._release()

    def failed(self, reason: str) -> None:
        """Write on the trail, once, that the mount did not start. Never raises. Nothing is written after
        answered(), without a trail root, or if the trail root is inside the store or the mountpoint."""
        self._release()
        root = os.path.realpath(self.root)
        inside = any(root == place or root.startswith(place.rstrip("/") + "/") for place in self._places)
        if self._is_over or inside or not os.path.isdir(root):
            return
        self._is_over = True
        with contextlib.suppress(PolicyfsError, OSError):
            name = control.mount_id(self._mountpoint)
            end: dict[str, object] = {"cause": "error", "how": "the mount did not start"}
            record(self.root, name, "failed", {"reason": reason, **self.told}, end=end)


def _locked(path: Path) -> int:
    """Create a file, if it is missing, and lock it. Return its descriptor. Raises OSError; BlockingIOError if
    another process has the lock for _WAIT_S. It removes the file before it releases the lock: so a file
    without a name is no lock any more, and the next file is tried."""
    until_s = time.monotonic() + _WAIT_S
    while True:
        fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() > until_s:
                os.close(fd)
                raise
            time.sleep(_PAUSE_S)
        else:
            if os.fstat(fd).st_nlink:
                return fd
        os.close(fd)
