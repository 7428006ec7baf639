"""Events of requests that the bridge has answered by itself (kernel/table/_events.c): repeats of a decided,
recorded open, and opens and changes by one decision for all files in a directory.

They have the same path, rules and policy, since a rename or a reload first drops the vector, and differ only
in process, time, handle, and version of the file."""

from __future__ import annotations

import os
from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING, Final, NamedTuple

import trio

from policyfs.domain import RAW_VIEW, Decision
from policyfs.fs.access.audit import RELEASE, Call, Recorder
from policyfs.fs.inodes.caller import Caller
from policyfs.fs.inodes.node import Node
from policyfs.fs.inodes.open_state import Mode
from policyfs.fs.opening.request import call_of, describe
from policyfs.journal.writing.programs import path_text
from policyfs.kernel import vectors
from policyfs.kernel.vectors import Answer
from policyfs.policy.raw_names import Changes
from policyfs.trail.lines.bounds import bounded
from policyfs.trail.lines.event import Event

if TYPE_CHECKING:
    from policyfs.fs.opening.request import OpenContext

_CALLERS: Final = 4
"""The limit of uids with recorded vectors on one node (GRANTS in the bridge)."""

_PATH_BYTES: Final = 1024
"""The longest path, in bytes, of a node whose opens the bridge may answer: the path stays in memory."""

_DECIDED: Final = 4096
"""The limit of event objects that files with equal events share. A full map is emptied."""

_TIME, _GID, _PID, _EXE, _SYSCALL, _PATH, _HANDLE, _SIZE, _MTIME, _SIZE_AFTER, _MTIME_AFTER = map(
    Event._fields.index,
    (
        "time_ns", "gid", "pid", "exe", "syscall", "path", "handle", "size_before", "mtime_before_ns",
        "size_after", "mtime_after_ns",
    ),
)  # fmt: skip


LISTING: Final = Call("list", "opendir")
"""An OPENDIR in the words of the trail. Its event has no handle, and no version of a file."""
_SET: Final = Call("attr", "utimens")
_SYSCALLS: Final = ((1, "chmod"), (2, "chown"), (4, "utimens"))
"""The changes of a SETATTR, by bits (_avc.h, AVC_CHMOD)."""
_REMOVED: Final = Call("unlink", "unlink")
_MOVED: Final = (Call("rename", "rename"), Call("rename", "renameat2(RENAME_NOREPLACE)"))
"""A RENAME in the words of the trail, by its flags."""


class _Template(NamedTuple):
    """The event of a request whose repeats the bridge answers. Many files share an event: it has no path."""

    event: Event
    path: bytes
    kind: Answer


class RepeatedOpens:
    """The part of a mount that records the opens that the bridge has answered. Event loop only.

    INVARIANT: settle() is called before any other event, before each flush of the journal, and when a vector
    ends, so that the trail has these events in order, and as early as those of Python's opens."""

    def __init__(self, recorder: Recorder) -> None:
        self._recorder = recorder
        self._templates: dict[int, tuple[_Template, ...]] = {}
        self._of_files: dict[int, tuple[_Template, ...]] = {}
        """By directory: the events of opens of its files by the bridge's own nodes (RawDirectories)."""
        self._decided: dict[Event, Event] = {}
        recorder.settle_first(self.settle)

    def __len__(self) -> int:
        return len(self._templates)

    def has_room(self, node: Node, caller: Caller) -> bool:
        """Return True if the bridge may answer and record a node's opens by this caller: fewer than _CALLERS
        other uids have a vector, and the path has at most _PATH_BYTES."""
        known = self._templates.get(node.nodeid)
        if known is None:
            return len(node.path()) <= _PATH_BYTES
        return len(known) < _CALLERS or any(one.event.uid == caller.uid for one in known)

    def note(self, opening: OpenContext, decision: Decision) -> None:
        """Note an open whose repeats the bridge will answer. INVARIANT: it answers none before this returns,
        or settle() could not build the event."""
        request = opening.request
        event = self._recorder.event_of(
            request.caller, request.call, request.node.path(), decision,
            kind=opening.kind or opening.evidence.kind, io=opening.handle.mode.value,
            view=request.node.view.label, redacted=opening.redacted,
        )  # fmt: skip
        self._keep(request.node, event)

    def note_listing(self, node: Node, caller: Caller, decision: Decision) -> None:
        """Note an OPENDIR whose repeats the bridge will answer. See note()."""
        self._keep(node, self._recorder.event_of(caller, LISTING, node.path(), decision))

    def note_files(self, directory: Node, caller: Caller, opened: Decision, changes: Changes | None) -> None:
        """Note the decisions by which the bridge opens, makes, changes and removes files in a directory."""
        path, how = directory.path(), (Mode.PASSTHROUGH.value, RAW_VIEW.label)
        keep = partial(self._keep, directory, templates=self._of_files)
        of_opens = partial(self._recorder.event_of, caller, path=path, io=how[0], view=how[1])
        keep(of_opens(call_of(0), decision=opened))
        if changes is None:
            return
        if changes.written is not None:
            keep(of_opens(call_of(os.O_WRONLY), decision=changes.written), kind=Answer.WRITTEN)
        keep(of_opens(Call("create", describe(os.O_CREAT)), decision=changes.made), kind=Answer.MADE)
        for kind, call, allowed in (
            (Answer.SET, _SET, changes.dated),
            (Answer.REMOVED, _REMOVED, changes.removed),
            (Answer.MOVED, _MOVED[0], changes.moved),
        ):
            event = None if allowed is None else self._recorder.event_of(caller, call, path, allowed)
            keep(event, kind=kind)
        keep(self._recorder.release_of(caller, path, *how), kind=Answer.RELEASED)

    def _keep(
        self, node: Node, event: Event | None, templates: dict[int, tuple[_Template, ...]] | None = None,
        kind: Answer = Answer.OPENED,
    ) -> None:  # fmt: skip
        if event is None:
            return
        templates = self._templates if templates is None else templates
        same = bounded(_without_repeat(event))
        if len(self._decided) >= _DECIDED:
            self._decided.clear()
        if not same.redacted:  # else each file has ranges of its own
            same = self._decided.setdefault(same, same)
        others = (
            one for one in templates.get(node.nodeid, ()) if (one.event.uid, one.kind) != (event.uid, kind)
        )
        templates[node.nodeid] = (*others, _Template(same, event.path, kind))

    def forget(self, nodeid: int) -> None:
        """Record all answered opens, and forget a node's. INVARIANT: the bridge answers no more of them."""
        self.settle()
        self._templates.pop(nodeid, None)
        self._of_files.pop(nodeid, None)

    def forget_all(self) -> None:
        """Record and forget all answered opens. INVARIANT: the bridge answers none any more."""
        self.settle()
        self._templates.clear()
        self._of_files.clear()
        self._decided.clear()

    def settle(self) -> None:
        """Record all opens that the bridge has answered, in order. RuntimeError: some are undecided."""
        if not (self._templates or self._of_files):
            return
        unknown = 0
        for seen in sorted(vectors.take_events()):
            known = (
                self._of_files.get(seen.parent, ()) if seen.parent else self._templates.get(seen.nodeid, ())
            )
            template = next((one for one in known if _is_of(one, seen)), None)
            if template is None:
                unknown += 1
                continue
            event = _repeat(template, seen)
            if seen.kind == Answer.MOVED:
                event = self._moved(event, seen)
            self._recorder.repeated(event)
        if unknown:
            raise RuntimeError(f"the bridge answered {unknown} opens that were not decided")

    def _moved(self, event: Event, seen: vectors.Seen) -> Event:
        """Return the event of a rename with its new path, and with the version of the replaced file."""
        above = next(one.path for one in self._of_files[seen.new_parent] if one.event.uid == seen.uid)
        size, mtime_ns = (seen.size, seen.mtime_ns) if seen.fh else (None, None)
        return event._replace(
            new_path=_below(above, seen.new_name), syscall=_MOVED[seen.flags].syscall, size_before=size,
            mtime_before_ns=mtime_ns,
        )  # fmt: skip

    async def run(self) -> None:
        """Record opens whenever many events wait in the bridge, where else apps would wait for room."""
        bell = vectors.events_bell()
        while bell >= 0:
            await trio.lowlevel.wait_readable(bell)
            with suppress(BlockingIOError):
                os.read(bell, 8)
            self.settle()


def _is_of(template: _Template, seen: vectors.Seen) -> bool:
    return template.event.uid == seen.uid and (not seen.parent or template.kind == seen.kind)


def _without_repeat(event: Event) -> Event:
    """Return an event without the fields in which repeats or files differ. (_repeat() sets these fields.)"""
    return event._replace(
        time_ns=0, gid=0, pid=0, exe="", syscall="", path=b"", handle=None, size_before=None,
        mtime_before_ns=None,
    )  # fmt: skip


def _below(directory: bytes, name: bytes) -> bytes:
    return directory.rstrip(b"/") + b"/" + name


def _repeat(template: _Template, seen: vectors.Seen) -> Event:
    """Return the event of a repeat. (Event._replace() takes four times as long.)"""
    values = list(template.event)
    values[_PATH] = _below(template.path, seen.name) if seen.name else template.path
    values[_TIME] = seen.time_ns
    values[_GID] = seen.gid
    values[_PID] = seen.pid
    values[_EXE] = path_text(seen.program)
    if template.event.operation == LISTING.operation:
        values[_SYSCALL] = LISTING.syscall
        return Event._make(values)
    if seen.kind == Answer.MOVED:
        return Event._make(values)  # the rest is _moved()'s
    if seen.kind == Answer.SET:
        values[_SYSCALL] = "+".join(name for bit, name in _SYSCALLS if seen.flags & bit)
        return Event._make(values)
    if seen.kind != Answer.REMOVED:
        values[_HANDLE] = vectors.index_of(seen.fh)
    if seen.kind == Answer.MADE:
        values[_SYSCALL] = describe(seen.flags | os.O_CREAT)
        return Event._make(values)
    values[_SIZE] = seen.size
    values[_MTIME] = seen.mtime_ns
    if seen.kind == Answer.REMOVED:
        values[_SYSCALL] = _REMOVED.syscall
        return Event._make(values)
    if seen.kind == Answer.RELEASED:
        values[_SYSCALL] = RELEASE.syscall
        values[_SIZE_AFTER] = seen.size_after
        values[_MTIME_AFTER] = seen.mtime_after_ns
        return Event._make(values)
    values[_SYSCALL] = call_of(seen.flags).syscall
    return Event._make(values)
