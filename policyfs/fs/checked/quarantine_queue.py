"""The queue of refused files that wait for the quarantine.

A file is added at its last release, and copied on a thread; no app waits. It holds a descriptor and space
that count for its app, so each app may have a few. Further files, and all when the quarantine is full, are
dropped, on record."""

from __future__ import annotations

import contextlib
import errno
import os
import time
from collections import Counter, deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

import trio

from policyfs.domain import Audit, Decision
from policyfs.fs.access.audit import Call, Recorder
from policyfs.fs.inodes.caller import Caller
from policyfs.fs.inodes.handles import Handle
from policyfs.fs.inodes.pending_writes import Refusal
from policyfs.kernel.bridge import pyfuse3
from policyfs.store import freeing
from policyfs.store.quarantine import STRANGERS, About, FullError, Limits, Quarantine
from policyfs.store.tree import Tree

CALL: Final = Call("quarantine", "close")
_WAITING_EACH: Final = 16
"""The limit of files of one app that wait for their copy; all strangers count as one app."""
_CROWDED: Final = _WAITING_EACH // 2
"""Once so many files of an app wait for their copy, the app's next draft waits, too."""
_ROOM_S: Final = 5.0
"""The longest wait of a draft."""
_MODE: Final = 0o600
"""The mode recorded for a refused file if the mode of the store's file cannot be read."""
_END_S: Final = 10.0
"""The longest time for which a daemon that ends still copies waiting files."""
_NOT_RECORDED: Final = "the trail could not take the record about this refused file"


@dataclass(frozen=True, slots=True)
class QuarantineStats:
    """Counts of files. kept, dropped: since the mount began. waiting: now."""

    kept: int
    dropped: int
    waiting: int


@dataclass(slots=True)
class _Waiting:
    caller: Caller
    fd: int
    refusal: Refusal
    about: About


class QuarantineQueue:
    """The queue of one mount's refused files. Event loop only, but ``close`` comes after its end; threads
    copy the files. warn: logs a problem with a path of the store."""

    def __init__(
        self, *, tree: Tree, recorder: Recorder, quarantine: Quarantine, limits: Limits, mount: str,
        store: str, warn: Callable[[str, bytes], None],
    ) -> None:  # fmt: skip
        self._tree = tree
        self._recorder = recorder
        self._quarantine = quarantine
        self._limits = limits
        self._mount = mount
        self._store = store
        self._root = tree.identity()
        self._warn = warn
        self._waiting: deque[_Waiting] = deque()
        self._each: Counter[str] = Counter()
        self._come = trio.Event()
        self._left = trio.Event()
        self._kept = self._dropped = 0

    def stats(self) -> QuarantineStats:
        """Return the counts so far."""
        return QuarantineStats(self._kept, self._dropped, len(self._waiting))

    async def room(self, caller: Caller) -> None:
        """Wait while many files of an app wait for their copy, at most _ROOM_S: a program may write refused
        files faster than the disk of the trail takes them, and later ones would be dropped."""
        app = caller.principal.app or STRANGERS
        with trio.move_on_after(_ROOM_S):
            while self._each[app] >= _CROWDED:
                await self._left.wait()

    def take(self, handle: Handle, fd: int, refusal: Refusal) -> None:
        """Queue the refused file behind *fd*, which is closed later. handle: of its last writer. Raise
        FUSEError(EIO) if the file is dropped, and that cannot be recorded."""
        caller = refusal.writer or handle.caller
        app = caller.principal.app or STRANGERS
        item = _Waiting(caller, fd, refusal, self._about(handle, caller, app, refusal))
        if self._each[app] >= _WAITING_EACH:
            freeing.close(fd)
            self._dropped += 1
            why = f"{_WAITING_EACH} files of {app} are already waiting to be copied"
            self._recorder.decided(
                caller, CALL, item.about.path, _dropped(refusal), kind=refusal.kind, note=_lost(why)
            )
            return
        self._each[app] += 1
        self._waiting.append(item)
        self._come.set()

    def _about(self, handle: Handle, caller: Caller, app: str, refusal: Refusal) -> About:
        uid, gid, mode = caller.uid, caller.gid, _MODE
        with contextlib.suppress(OSError):  # if the store fails, the file is kept all the same
            stat = self._tree.fstat(handle.fd)
            uid, gid, mode = stat.uid, stat.gid, stat.mode & 0o777
        return About(
            time_ns=time.time_ns(), mount=self._mount, store=self._store, app=app,
            uid=uid, gid=gid, pid=caller.pid, path=handle.node.path(), mode=mode,
            kind=refusal.kind, reason=refusal.reason,
            rules=tuple(dict.fromkeys(match.rule for match in refusal.rules)), root=self._root,
        )  # fmt: skip

    async def run(self) -> None:
        """Copy queued files into the quarantine, until the task is cancelled."""
        await trio.to_thread.run_sync(self._quarantine.clean)
        while True:
            while self._waiting:
                with trio.CancelScope(shield=True):  # INVARIANT: each file that is kept gets its record
                    await self._keep(self._pop())
            self._come = trio.Event()
            await self._come.wait()

    def _pop(self) -> _Waiting:
        item = self._waiting.popleft()
        self._each[item.about.app] -= 1
        self._left.set()
        self._left = trio.Event()
        return item

    async def _keep(self, item: _Waiting) -> None:
        decision, note = await trio.to_thread.run_sync(self._keep_now, item)
        self._count(decision)
        try:
            await self._recorder.recorded(
                item.caller, CALL, item.about.path, decision, kind=item.refusal.kind, note=note
            )
        except pyfuse3.FUSEError:
            self._warn(f"{_NOT_RECORDED}: {note}", item.about.path)

    def _keep_now(self, item: _Waiting) -> tuple[Decision, str]:
        """Copy a refused file into the quarantine. Return the decision and the note for the record."""
        try:
            entry = self._quarantine.keep(item.fd, item.about, self._limits)
        except FullError as error:
            return _dropped(item.refusal), _lost(f"the quarantine is full: {error}")
        except OSError as error:
            return _dropped(item.refusal), _lost(f"the quarantine cannot be written: {error.strerror}")
        finally:
            os.close(item.fd)
        size = 0 if entry.about is None else entry.about.size
        decision = Decision(allowed=True, errno=0, rules=item.refusal.rules, audit=Audit.REQUIRED)
        return decision, f"kept as {entry.id}, {size} bytes: {item.refusal.reason}"

    def _count(self, decision: Decision) -> None:
        self._kept += decision.allowed
        self._dropped += not decision.allowed

    def close(self) -> None:
        """Copy waiting files for at most _END_S seconds, and drop the others, after the event loop's end."""
        until = time.monotonic() + _END_S
        while self._waiting:
            item = self._pop()
            if time.monotonic() < until:
                decision, note = self._keep_now(item)
            else:
                os.close(item.fd)
                decision, note = _dropped(item.refusal), _lost("the daemon has ended")
            self._count(decision)
            try:
                self._recorder.decided(
                    item.caller, CALL, item.about.path, decision, kind=item.refusal.kind, note=note
                )
            except pyfuse3.FUSEError:
                self._warn(f"{_NOT_RECORDED}: {note}", item.about.path)


def _dropped(refusal: Refusal) -> Decision:
    return Decision(allowed=False, errno=errno.ENOSPC, rules=refusal.rules, audit=Audit.REQUIRED)


def _lost(why: str) -> str:
    return f"the refused file is lost: {why}"
