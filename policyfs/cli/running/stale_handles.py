"""Stale handles: files open in passthrough that the policy in force would not open in this way any more.

`policyfs reload` reports stale handles. `policyfs reload --strict` can close them: it ends their processes.
"""

from __future__ import annotations

import contextlib
import os
import select
import signal
import sys
import time
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from functools import partial
from typing import Final

from policyfs.cli.common.processes import look
from policyfs.daemon.control import control
from policyfs.errors import PolicyfsError
from policyfs.policy.errors import harmless
from policyfs.store.locking.holders import Holder, holders_of
from policyfs.trail.lines.table import shown

_SHOWN: Final = 20
_DELETED: Final = b" (deleted)"
_ROUNDS: Final = 100
"""The maximum number of rounds. A status lists only 200 stale handles. When the processes of these handles
have ended, the next status lists other stale handles."""
_CLOSED_S: Final = 5.0
_TERM_S: Final = 5.0
_KILL_S: Final = 5.0
_SIGNALS: Final = ((signal.SIGTERM, _TERM_S), (signal.SIGKILL, _KILL_S))


def told(stale: object) -> Iterator[str]:
    """Yield lines of text on stale handles. stale: their summary, from a status or from a reload's answer."""
    if not isinstance(stale, Mapping) or not stale.get("count"):
        return
    count, files = stale["count"], stale["files"]
    by_app = ", ".join(f"{app} {number}" for app, number in sorted(stale["apps"].items()))
    yield (
        f"{count} open file{'' if count == 1 else 's'} in passthrough that this policy would not open in this"
        f" way ({by_app}); apps can use {'this file' if count == 1 else 'these files'} until they close"
        f" {'it' if count == 1 else 'them'}:"
    )
    for one in files[:_SHOWN]:
        path = harmless(str(one["path"]))
        yield f"  {one['app']} {path} (pid {one['pid']}, {one['access']}): {one['reason']}"
    if count > _SHOWN:
        yield f"  and {count - _SHOWN} more; `policyfs status --json` has {len(files)} of them"


def end_holders(mountpoint: str, status: Callable[[], control.Json], *, yes: bool) -> None:
    """List the processes that have stale handles, ask the user, and end these processes.

    Stale handles are open files that the policy in force would not open in this way any more. status: returns
    the mount's status. yes: do not ask. Raises PolicyfsError if some processes or open files remain.
    """
    for _ in range(_ROUNDS):
        now = status()
        files = _stale(now)[1]
        found = _holding(mountpoint, now, files)
        if not found:
            break
        print(f"{mountpoint}: these processes have files open that this policy would not open in this way:")
        for pid, holds in found.items():
            first = holds[0]
            print(f"  {shown(first.command)} (pid {pid}, uid {first.uid}): {len(holds)} of these files")
        if not yes and not _agreed(len(found)):
            raise PolicyfsError(
                "no process was ended; `reload --strict --yes` ends the processes without a question"
            )
        left = _ended(list(found), partial(_holding, mountpoint, now, files))
        print(f"{mountpoint}: {len(found) - len(left)} of {len(found)} processes ended")
        if left:
            raise PolicyfsError(f"these processes do not end: {', '.join(map(str, left))}")
    _check_closed(mountpoint, status)


def _stale(status: control.Json) -> tuple[int, list[Mapping[str, object]]]:
    stale = status.get("stale_handles")
    if not isinstance(stale, Mapping):
        return 0, []
    files = stale.get("files")
    return int(stale.get("count", 0)), files if isinstance(files, list) else []


def _check_closed(mountpoint: str, status: Callable[[], control.Json]) -> None:
    """Wait until the mount has no stale handle. Raises PolicyfsError after _CLOSED_S."""
    until_s = time.monotonic() + _CLOSED_S
    while count := _stale(status())[0]:
        if time.monotonic() > until_s:
            raise PolicyfsError(
                f"{mountpoint}: {count} open file{'' if count == 1 else 's'} that this policy would not"
                f" open in this way stay{'s' if count == 1 else ''} open, and no process was found that this"
                " command may end; `policyfs status --json` lists the files. `policyfs umount --abort` makes"
                " them unusable"
            )
        time.sleep(0.1)


def _holding(
    mountpoint: str, status: control.Json, files: Sequence[Mapping[str, object]]
) -> dict[int, list[Holder]]:
    """Return the processes that seem to have one of *files* open or mapped, by pid, each with these files. Of
    a process whose pid is in *files*, each file of the mount counts."""
    opened = {(_as_told(os.fsencode(mountpoint)) + str(one["path"]), one["uid"]) for one in files}
    inodes = {(one["ino"], one["uid"]) for one in files}  # a container has the file at another path
    pids = {one["pid"] for one in files}  # thread ids: only a main thread's id is a process id
    spared = {status["pid"], os.getpid(), os.getppid(), 1}
    found: dict[int, list[Holder]] = {}
    for holder in look(lambda: holders_of(f"0:{status['connection']}")):
        file = holder.what.startswith("fd ") or holder.what == "mapping"
        # the process that opened the file, or a process of the same user that got the descriptor from it
        path = _as_told(holder.path.removesuffix(_DELETED))
        stale = (
            holder.pid in pids or (path, holder.uid) in opened or (holder.ino, holder.uid) in inodes
        )
        if file and stale and holder.pid not in spared:
            found.setdefault(holder.pid, []).append(holder)
    return found


def _as_told(path: bytes) -> str:
    return path.decode("utf-8", "backslashreplace")


def _agreed(count: int) -> bool:
    if not sys.stdin.isatty():
        return False
    answer = input(f"End {'this process' if count == 1 else f'these {count} processes'}? [y/N] ")
    return answer.strip().lower() in ("y", "yes")


def _ended(pids: list[int], holding: Callable[[], Collection[int]]) -> list[int]:
    """End processes, first with SIGTERM, then with SIGKILL. Return the pids of the processes that still run.

    holding: returns the pids that have the files open, asked after pidfds are open: a pid may be used again.
    """
    fds: dict[int, int] = {}
    try:
        for pid in pids:
            with contextlib.suppress(ProcessLookupError):
                fds[pid] = os.pidfd_open(pid)
        now = holding()
        left = [pid for pid in fds if pid in now]
        for number, patience_s in _SIGNALS:
            for pid in left:
                with contextlib.suppress(ProcessLookupError):
                    signal.pidfd_send_signal(fds[pid], number)
            left = _alive(left, fds, time.monotonic() + patience_s)
            if not left:
                break
        return left
    finally:
        for fd in fds.values():
            os.close(fd)


def _alive(pids: list[int], fds: Mapping[int, int], until_s: float) -> list[int]:
    waiting = {fds[pid]: pid for pid in pids}
    poller = select.poll()
    for fd in waiting:
        poller.register(fd, select.POLLIN)
    while waiting and time.monotonic() < until_s:
        for fd, _ in poller.poll(max(0.0, until_s - time.monotonic()) * 1000):
            poller.unregister(fd)
            del waiting[fd]
    return list(waiting.values())
