"""Reads of the files of other processes in /proc, for commands. An app cannot make a command wait there
without end.

policyfs.linux.procfs says how an app makes processes wait in /proc.
"""

from __future__ import annotations

import contextlib
import os
import pickle
import select
import signal
import time
from collections.abc import Callable, Iterator
from typing import Final, TypeVar

from policyfs.errors import PolicyfsError
from policyfs.kernel import mount_api
from policyfs.linux import procfs

T = TypeVar("T")

_MOST_S: Final = 30.0
_CHUNK: Final = 1 << 16
_MAX_ANSWER: Final = 1 << 30
_MAX_DESCRIPTOR: Final = 1 << 16


def look(function: Callable[[], T], timeout_s: float = _MOST_S) -> T:
    """Return the result of a function that reads files of other processes with policyfs.linux.procfs.

    The function runs in a forked child, without the descriptors of this process. If the kernel permits it,
    the child reads its own instance of procfs, which no app can lock. Otherwise a lock of an app can keep the
    child waiting, and no signal ends the wait. So only a child may wait. Raises what the function raises, and
    PolicyfsError after *timeout_s* seconds.
    """
    reader, writer = os.pipe()
    pid = os.fork()
    if pid == 0:
        _child(function, writer)
    os.close(writer)
    try:
        answer = read_answer(reader, time.monotonic() + timeout_s)
    except BaseException:  # Ctrl-C
        _kill(pid)
        raise
    finally:
        os.close(reader)
    if answer is None:
        _kill(pid)
        raise PolicyfsError(
            f"the files of other processes in /proc cannot be read within {timeout_s:g} s; perhaps an app"
            " keeps a directory in /proc locked. Run this command as root, outside of a container: then it"
            " reads /proc by an instance of its own, which no app can lock"
        )
    os.waitpid(pid, 0)
    if not answer:
        raise PolicyfsError("the process that reads /proc for this command was killed")
    result, error = pickle.loads(answer)  # noqa: S301 - written by the child of this process
    if error is not None:
        raise error
    found: T = result
    return found


@contextlib.contextmanager
def own_instance() -> Iterator[None]:
    """Make this process read its own instance of procfs within the context, if the kernel permits it."""
    try:
        directory = mount_api.procfs_instance()
    except OSError:
        yield
        return
    procfs.use(directory)
    try:
        yield
    finally:
        procfs.use(-1)
        os.close(directory)


def status_file(pid: int) -> str:
    """Return the text of /proc/PID/status. Raises OSError, and PolicyfsError as look() does."""
    return look(lambda: procfs.text(pid, "status"))


def _child(function: Callable[[], T], writer: int) -> None:
    """Write the function's result to *writer*, and exit. First close all other descriptors, because the
    function may hang, and another process may wait for the end of this command's output.

    INVARIANT: no exception leaves this function. Otherwise the child would run the rest of the command.
    """
    try:
        signal.signal(signal.SIGINT, signal.SIG_DFL)  # Ctrl-C ends the child at once
        with open(writer, "wb") as file:
            pickle.dump(_outcome(function, writer), file)
    finally:
        os._exit(0)


def _outcome(function: Callable[[], T], writer: int) -> tuple[T | None, Exception | None]:
    try:
        os.closerange(0, writer)
        os.closerange(writer + 1, _MAX_DESCRIPTOR)
        os.chdir("/")  # the child must not keep a mount in use
        with contextlib.suppress(OSError):
            procfs.use(mount_api.procfs_instance())
        return function(), None
    except Exception as error:  # noqa: BLE001 - the command raises it again
        return None, error


def _kill(pid: int) -> None:
    """Kill a child, but do not wait for its end: it may live on until an app releases a lock."""
    os.kill(pid, signal.SIGKILL)
    with contextlib.suppress(ChildProcessError):
        os.waitpid(pid, os.WNOHANG)


def read_answer(reader: int, until: float, most: int = _MAX_ANSWER) -> bytes | None:
    """Return all bytes that a child writes until its end; None if it has not ended in time, or writes more
    than *most* bytes. until: an instant of time.monotonic()."""
    poller = select.poll()
    poller.register(reader, select.POLLIN)
    found = bytearray()
    while len(found) <= most and poller.poll(max(0.0, until - time.monotonic()) * 1000):
        chunk = os.read(reader, _CHUNK)
        if not chunk:
            return bytes(found)
        found += chunk
    return None
