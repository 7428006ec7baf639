"""Events of opens that the bridge has answered by itself (kernel/_events.c).

Python has decided on such an open once, and recorded it. Its repeats have the same path, rules and policy:
a rename or a reload drops the vector first. So they differ only in process, time, handle, and version of the
file.
"""

from __future__ import annotations

import os
from contextlib import suppress
from typing import TYPE_CHECKING, Final

import trio

from policyfs.domain import Decision
from policyfs.fs.access.audit import Recorder, path_text
from policyfs.fs.opening.request import call_of
from policyfs.kernel import vectors
from policyfs.trail.event import Event

if TYPE_CHECKING:
    from policyfs.fs.opening.request import OpenContext

_CALLERS: Final = 4
"""The limit of uids with a recorded vector on one node: as many as have a place in the bridge (GRANTS)."""

_TIME, _GID, _PID, _EXE, _SYSCALL, _HANDLE, _SIZE, _MTIME = map(
    Event._fields.index,
    ("time_ns", "gid", "pid", "exe", "syscall", "handle", "size_before", "mtime_before_ns"),
)


class RepeatedOpens:
    """Puts opens of the bridge on record. One for each mount; event loop only.

    INVARIANT: settle() is called before any other event of the mount is made, before the journal's next
    flush, and whenever a vector ends. So these events are on the trail in the right order, and as early as
    those of Python.
    """

    def __init__(self, recorder: Recorder) -> None:
        self._recorder = recorder
        self._templates: dict[int, dict[int, Event]] = {}
        recorder.settle_first(self.settle)

    def __len__(self) -> int:
        return len(self._templates)

    def has_room(self, opening: OpenContext) -> bool:
        """True if the events of this caller's repeats can be told apart from those of others."""
        known = self._templates.get(opening.request.node.nodeid, ())
        return opening.request.caller.uid in known or len(known) < _CALLERS

    def note(self, opening: OpenContext, decision: Decision) -> None:
        """Note an open whose repeats the bridge answers from now on, and the decision on these."""
        request = opening.request
        event = self._recorder.event_of(
            request.caller, request.call, request.node.path(), decision,
            kind=opening.kind, io=opening.handle.mode.value, view=request.node.view.label,
        )  # fmt: skip
        if event is not None:
            self._templates.setdefault(request.node.nodeid, {})[request.caller.uid] = event

    def forget(self, nodeid: int) -> None:
        """Put the opens of a node on record. INVARIANT: the bridge answers no further opens of the node."""
        self.settle()
        self._templates.pop(nodeid, None)

    def forget_all(self) -> None:
        """Put all opens on record. INVARIANT: the bridge answers no further opens."""
        self.settle()
        self._templates.clear()

    def settle(self) -> None:
        """Put the opens that the bridge has answered so far on record, in the order of their times.

        Raises RuntimeError, after all others are on record, if there is one that was never decided here.
        """
        if not self._templates:
            return
        unknown = 0
        for seen in sorted(vectors.take_events()):
            template = self._templates.get(seen.nodeid, {}).get(seen.uid)
            if template is None:
                unknown += 1
                continue
            self._recorder.repeated(_repeat(template, seen))
        if unknown:
            raise RuntimeError(f"the bridge answered {unknown} opens that were not decided")

    async def run(self) -> None:
        """Put opens on record whenever many events wait in the bridge. Returns at once without vectors.

        Otherwise the bridge would have no place for further events, and the app would wait for Python.
        """
        bell = vectors.events_bell()
        while bell >= 0:
            await trio.lowlevel.wait_readable(bell)
            with suppress(BlockingIOError):
                os.read(bell, 8)
            self.settle()


def _repeat(template: Event, seen: vectors.Seen) -> Event:
    """Return the event of a repeat. (Event._replace would take four times as long.)"""
    values = list(template)
    values[_TIME] = seen.time_ns
    values[_GID] = seen.gid
    values[_PID] = seen.pid
    values[_EXE] = path_text(seen.program)
    values[_SYSCALL] = call_of(seen.flags).syscall
    values[_HANDLE] = vectors.index_of(seen.fh)
    values[_SIZE] = seen.size
    values[_MTIME] = seen.mtime_ns
    return Event._make(values)
