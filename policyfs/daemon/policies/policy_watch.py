"""Reloads after changes of a policy's files (`policyfs mount --watch`)."""

from __future__ import annotations

import os
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Final, NamedTuple

import trio

from policyfs.daemon.end import MountEnd
from policyfs.daemon.log import Log, Notice
from policyfs.errors import PolicyfsError, UnreadableError

_LOOK_S: Final = 0.5
"""The pause between two looks at the files. A change counts only once two looks in a row find the same files.
So a half-written file does not count."""

CHANGED: Final = MountEnd("watch", "the policy's files have changed")


class _Mark(NamedTuple):
    name: str
    ino: int
    size: int
    mtime_ns: int
    ctime_ns: int


Marks = tuple[_Mark, ...]


def marks(path: Path) -> Marks:
    """Return identity, size and times of each file of a policy that can be read."""
    try:
        files = sorted(path.glob("*.yaml")) if path.is_dir() else [path]
    except OSError:
        return ()
    found = []
    for file in files:
        try:
            stat = os.stat(file)
        except OSError:  # the file is gone. Its missing mark is a change, too; a reload reads all files again
            continue
        found.append(_Mark(file.name, stat.st_ino, stat.st_size, stat.st_mtime_ns, stat.st_ctime_ns))
    return tuple(found)


async def watch(
    path: Path,
    is_new: Callable[[], bool],
    reload: Callable[[MountEnd], Awaitable[object]],
    log: Log,
) -> None:
    """Reload the policy after each change of its files, until cancelled; after a refusal only once they
    change again. Files that cannot be read are read again and again. is_new: returns True if the files' text
    is not in force, as the `reload` command may have loaded it. Raises UnreadableError."""
    loaded: Marks | None = ()
    last: Marks = ()
    unread: Marks = ()
    while True:
        await trio.sleep(_LOOK_S)
        # Both threads may be abandoned: a disk that hangs must not delay the end of the daemon.
        now = await trio.to_thread.run_sync(marks, path, abandon_on_cancel=True)
        settled, last = now == last, now
        if not settled or now == loaded:
            continue
        loaded = now
        if not now:
            Notice.POLICY_REFUSED.tell(log, reason=f"no file at {path}")
            continue
        try:
            if await trio.to_thread.run_sync(is_new, abandon_on_cancel=True):
                await reload(CHANGED)
        except UnreadableError as error:
            loaded = None  # without a change of the files, a network store may answer again
            if now != unread:
                Notice.POLICY_REFUSED.tell(log, reason=str(error))
            unread = now
        except PolicyfsError as error:
            Notice.POLICY_REFUSED.tell(log, reason=str(error))
