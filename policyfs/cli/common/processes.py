"""Reads of the files of other processes in /proc, for commands. An app cannot make a command wait there
without end.

policyfs.linux.procfs says how an app makes processes wait in /proc.
"""

from __future__ import annotations

import contextlib
import os
import pickle
from collections.abc import Callable, Iterator
from typing import Final, TypeVar

from policyfs.errors import PolicyfsError
from policyfs.kernel import mount_api
from policyfs.linux import procfs
from policyfs.linux.child import answer_of

T = TypeVar("T")

_MOST_S: Final = 30.0


def look(function: Callable[[], T], timeout_s: float = _MOST_S) -> T:
    """Return the result of a function that reads files of other processes with policyfs.linux.procfs.

    The function runs in a forked child, without the descriptors of this process. If the kernel permits it,
    the child reads its own instance of procfs, which no app can lock. Otherwise a lock of an app can keep the
    child waiting, and no signal ends the wait. So only a child may wait. Raises what the function raises, and
    PolicyfsError after *timeout_s* seconds.
    """
    answer = answer_of(lambda: pickle.dumps(_outcome(function)), timeout_s=timeout_s)
    if answer is None:
        raise PolicyfsError(
            f"the files of other processes in /proc cannot be read within {timeout_s:g} s; perhaps an app"
            " keeps a directory in /proc locked. Run this command as root, outside of a container: then it"
            " reads /proc by an instance of its own, which no app can lock"
        )
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


def _outcome(function: Callable[[], T]) -> tuple[T | None, Exception | None]:
    try:
        os.chdir("/")  # the child must not keep a mount in use
        with contextlib.suppress(OSError):
            procfs.use(mount_api.procfs_instance())
        return function(), None
    except Exception as error:  # noqa: BLE001 - the command raises it again
        return None, error
