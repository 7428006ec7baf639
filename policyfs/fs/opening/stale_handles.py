"""Stale handles: open files that the kernel keeps in passthrough, and the policy in force would not open."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Final, NamedTuple

import trio

from policyfs.domain import NO_FACTS, Decision, Op
from policyfs.errors import errno_name
from policyfs.fs.context import FsContext
from policyfs.fs.inodes.caller import NO_ID
from policyfs.fs.inodes.handles import Handle
from policyfs.fs.inodes.open_state import Mode

_SLICE: Final = 64
"""The number of handles that are decided in a row. Then other requests may run."""
_FACTS_S: Final = 3.0
"""The time limit for finding facts of files. After this time, unknown facts count against the handle."""
LISTED: Final = 200
"""The limit of handles that an answer or a record lists. The count beside the list includes all handles."""


class StaleHandle(NamedTuple):
    """An open file that the policy would not open now. uid: None if unknown. access: read, write or both."""

    app: str
    uid: int | None
    pid: int
    path: bytes
    ino: int
    access: str
    reason: str

    def fields(self) -> dict[str, object]:
        """Return this open file as a dictionary, for a record of the trail."""
        return self._asdict() | {"path": self.path.decode("utf-8", "backslashreplace")}


def summary(stale: Sequence[StaleHandle]) -> dict[str, object]:
    """Return the number of stale handles, their number for each app, and the first LISTED of them."""
    return {
        "count": len(stale),
        "apps": dict(Counter(one.app for one in stale)),
        "files": [one.fields() for one in stale[:LISTED]],
    }


class StaleHandles:
    """The part of a mount that finds stale handles after each reload, until they are closed."""

    def __init__(self, fs: FsContext) -> None:
        self._fs: Final = fs
        self._found: dict[Handle, StaleHandle] = {}

    def live(self) -> list[StaleHandle]:
        """Return the stale handles that are still open."""
        open_now = set(self._fs.handles)
        self._found = {handle: one for handle, one in self._found.items() if handle in open_now}
        return list(self._found.values())

    async def find(self) -> list[StaleHandle]:
        """Return the open files in passthrough that the policy in force would not open."""
        generation, found = self._fs.gate.generation, dict[Handle, StaleHandle]()
        until = trio.current_time() + _FACTS_S
        for number, handle in enumerate(list(self._fs.handles)):
            if number % _SLICE == 0:
                await trio.lowlevel.checkpoint()
            if handle.mode is Mode.PASSTHROUGH:
                reason = await self._reason(handle, until)
                if reason:
                    found[handle] = self._told(handle, reason)
            if generation != self._fs.gate.generation:
                break  # find() is called again for the next policy
        else:
            self._found = found
        return self.live()

    async def _reason(self, handle: Handle, until: float) -> str:
        """Return the reason why the policy would not open the file now, or "" if the policy would open it."""
        gate, node = self._fs.gate, handle.node
        ops = Op.SEE
        ops |= Op.READ if handle.readable else Op(0)
        ops |= Op.WRITE if handle.writable else Op(0)
        decision: Decision | None = None
        with trio.move_on_after(max(0.0, until - trio.current_time())):
            try:
                if handle.facts is not None:
                    decision = gate.judge(handle.caller.principal, ops, node, handle.facts)
                else:
                    decision = await gate.node(handle.caller, ops, node)
            except OSError as error:
                return f"policyfs cannot find the file any more ({errno_name(error.errno or 0)})"
        if decision is None:
            decision = gate.judge(handle.caller.principal, ops, node, NO_FACTS)
        if not decision.allowed:
            return f"the policy now refuses this open: {errno_name(decision.errno)}"
        if handle.readable and not decision.redact <= handle.hides:
            hidden = ", ".join(sorted(decision.redact - handle.hides))
            return f"shows data that the policy now hides: {hidden}"
        if handle.writable and decision.content and not node.view.checked:
            return "writes bytes that the policy now checks"
        return ""

    def _told(self, handle: Handle, reason: str) -> StaleHandle:
        caller, node = handle.caller, handle.node
        words = [*(["read"] if handle.readable else []), *(["write"] if handle.writable else [])]
        uid = None if caller.uid == NO_ID else caller.uid
        return StaleHandle(
            caller.principal.label, uid, caller.pid, node.path(), node.ino, " and ".join(words), reason
        )
