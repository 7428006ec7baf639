"""Processes that lock files as they are told, and say what came of it."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import signal
import struct
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Final

from tests.support.machine.processes import Child, start_as, wait_for

KINDS: Final = {"read": fcntl.F_RDLCK, "write": fcntl.F_WRLCK, "unlock": fcntl.F_UNLCK}
NAMES: Final = {value: name for name, value in KINDS.items()}
FLOCKS: Final = {"read": fcntl.LOCK_SH, "write": fcntl.LOCK_EX, "unlock": fcntl.LOCK_UN}
SORTS: Final = ("flock", "posix", "ofd")
_STRUCT: Final = struct.Struct("hhqqi4x")
_SET: Final = {
    ("posix", False): fcntl.F_SETLK, ("posix", True): fcntl.F_SETLKW,
    ("ofd", False): fcntl.F_OFD_SETLK, ("ofd", True): fcntl.F_OFD_SETLKW,
}  # fmt: skip
_GET: Final = {"posix": fcntl.F_GETLK, "ofd": fcntl.F_OFD_GETLK}


def lock(fd: int, sort: str, kind: str, start: int = 0, length: int = 0, *, wait: bool = False) -> str:
    """Lock or unlock; returns "ok" or the errno's name. length 0: to the end of the file."""
    try:
        if sort == "flock":
            fcntl.flock(fd, FLOCKS[kind] | (0 if wait else fcntl.LOCK_NB))
        else:
            fcntl.fcntl(fd, _SET[sort, wait], _STRUCT.pack(KINDS[kind], 0, start, length, 0))
    except OSError as error:
        return errno.errorcode[error.errno or 0]
    return "ok"


def blocker(fd: int, sort: str, kind: str, start: int = 0, length: int = 0) -> Any:
    """What F_GETLK or F_OFD_GETLK says: kind, start, length and pid ("unlock": free), or the errno."""
    try:
        answer = fcntl.fcntl(fd, _GET[sort], _STRUCT.pack(KINDS[kind], 0, start, length, 0))
    except OSError as error:
        return errno.errorcode[error.errno or 0]
    found, _, first, count, pid = _STRUCT.unpack(answer)
    return ("unlock", 0, 0, 0) if found == fcntl.F_UNLCK else (NAMES[found], first, count, pid)


def waits_natively(pid: int) -> bool:
    """Is a process asleep in the kernel's own lock(2) of a local file."""
    where = Path(f"/proc/{pid}/wchan").read_text()
    return "setlk" in where or "locks_lock" in where


class Interrupted(Exception):
    """Raised by a signal, out of a call that waits."""


class _Locker:
    """What a child does: one method for each command."""

    def __init__(self) -> None:
        self.fds: dict[str, int] = {}
        self.children: list[int] = []

    def open(self, name: str, path: str, flags: int) -> str:
        with contextlib.suppress(KeyError):
            os.close(self.fds.pop(name))
        self.fds[name] = os.open(path, flags | os.O_CLOEXEC)
        return "ok"

    def close(self, name: str) -> str:
        os.close(self.fds.pop(name))
        return "ok"

    def dup(self, name: str, new: str) -> str:
        self.fds[new] = os.dup(self.fds[name])
        return "ok"

    def lock(self, name: str, *arguments: Any, wait: bool = False) -> str:
        return lock(self.fds[name], *arguments, wait=wait)

    def wait(self, name: str, *arguments: Any) -> str:
        try:
            return lock(self.fds[name], *arguments, wait=True)
        except Interrupted:
            return "EINTR"

    def blocker(self, name: str, *arguments: Any) -> Any:
        return blocker(self.fds[name], *arguments)

    def fork(self) -> int:
        """A child that holds every descriptor and does nothing."""
        pid = os.fork()
        if pid == 0:
            signal.pause()
            os._exit(0)
        self.children.append(pid)
        return pid

    def in_child(self, name: str, *arguments: Any) -> str:
        """A lock asked for by a forked child, which ends at once."""
        read, write = os.pipe()
        pid = os.fork()
        if pid == 0:
            os.write(write, lock(self.fds[name], *arguments).encode())
            os._exit(0)
        os.close(write)
        os.waitpid(pid, 0)
        try:
            return os.read(read, 100).decode()
        finally:
            os.close(read)

    def end_child(self) -> str:
        pid = self.children.pop()
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
        return "ok"

    def inherit(self, name: str) -> str:
        """The descriptor outlives an exec."""
        os.set_inheritable(self.fds[name], True)
        return "ok"

    def write(self, name: str, data: bytes, offset: int) -> int:
        return os.pwrite(self.fds[name], data, offset)

    def read(self, name: str, size: int, offset: int) -> bytes:
        return os.pread(self.fds[name], size, offset)

    def unlink(self, path: str) -> str:
        os.unlink(path)
        return "ok"

    def size(self, name: str) -> int:
        return os.fstat(self.fds[name]).st_size


def _raise_interrupted(*_: object) -> None:
    raise Interrupted


def _serve(channel: Any) -> None:
    signal.signal(signal.SIGUSR1, _raise_interrupted)
    locker = _Locker()
    while (message := channel.recv()) is not None:
        name, arguments = message
        if name == "exec":  # goes on as another program that reads its input until it is killed
            channel.send("ok")
            os.execv("/bin/sleep", ["sleep", "60"])
        try:
            channel.send(getattr(locker, name)(*arguments))
        except OSError as error:
            channel.send(errno.errorcode[error.errno or 0])


class Locker:
    """A process with open files; each call here is carried out there."""

    def __init__(self, uid: int, path: Path | None = None, flags: int = os.O_RDWR) -> None:
        self.forked: list[int] = []
        self.path = path
        self.child: Child = start_as(uid, _serve)
        if path is not None:
            opened = self("open", "f", str(path), flags)
            if opened != "ok":
                self.kill()
            assert opened == "ok", f"uid {uid}: {path}: {opened}"

    @property
    def pid(self) -> int:
        return self.child.pid

    def __call__(self, command: str, *arguments: Any) -> Any:
        self.start(command, *arguments)
        return self.answer()

    def start(self, command: str, *arguments: Any) -> None:
        """Without waiting for the answer."""
        self.child.send((command, arguments))

    def answer(self, deadline_s: float = 15.0) -> Any:
        """Of what was started."""
        return self.child.receive(deadline_s)

    def exec(self) -> str:
        """The process becomes another program; returns once it is that."""
        self("exec")
        comm, where = Path(f"/proc/{self.pid}/comm"), Path(f"/proc/{self.pid}/wchan")
        # The kernel gives it its new name before it closes what is to be closed.
        return wait_for(
            lambda: comm.read_text() == "sleep\n" and "nanosleep" in where.read_text() and "ok",
            "the other program",
        )

    def fork(self) -> int:
        """A child of the process, with all its descriptors; returns its pid."""
        self.forked.append(self("fork"))
        return self.forked[-1]

    def answered(self, within_s: float = 0.0) -> bool:
        """Is there an answer."""
        return self.child.channel.poll(within_s)

    def lock(self, *arguments: Any) -> Any:
        """Of the file that it was made with."""
        return self("lock", "f", *arguments)

    def signal(self) -> None:
        """A signal that is caught."""
        os.kill(self.pid, signal.SIGUSR1)

    def kill(self) -> None:
        """kill -9, and wait for its end."""
        self.child.kill()


@contextlib.contextmanager
def lockers() -> Iterator[Callable[..., Locker]]:
    """Makes lockers, and ends them."""
    made: list[Locker] = []

    def make(uid: int, path: Path | None = None, flags: int = os.O_RDWR) -> Locker:
        made.append(Locker(uid, path, flags))
        return made[-1]

    try:
        yield make
    finally:
        for one in made:
            one.kill()
            for pid in one.forked:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
