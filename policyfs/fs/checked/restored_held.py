"""The restoration of held bytes by the daemon that takes over: writers go on, and all bytes are checked."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Callable

from policyfs.errors import PolicyfsError
from policyfs.fs.checked.drafts import saved_draft
from policyfs.fs.checked.head import HEAD_BYTES, overlay
from policyfs.fs.checked.withheld_names import WithheldNames
from policyfs.fs.context import FsContext, FsPart
from policyfs.fs.inodes.caller import Caller
from policyfs.fs.inodes.handles import Handle
from policyfs.fs.inodes.node import Node
from policyfs.fs.inodes.open_state import OpenState
from policyfs.fs.inodes.pending_writes import Draft, Head, Write
from policyfs.fs.inodes.saved_held import SavedHeld, SavedHeldBytes


class RestoredHeld(FsPart):
    """The part of a mount that gives restored writers their held bytes back.

    INVARIANT: no bytes count as checked because of a record. A draft is an unnamed file that only the daemon
    before can have made, with the inode of the record. put_off: notes a node with
    late writes (LateWrites.restored)."""

    def __init__(self, fs: FsContext, withheld_names: WithheldNames, put_off: Callable[[Node], None]) -> None:
        super().__init__(fs)
        self._withheld_names = withheld_names
        self._put_off = put_off

    def restore(self, saved: SavedHeldBytes, policy: int) -> None:
        """Restore all held bytes. policy: the number of the policy in force. Raise PolicyfsError if some are
        lost: apps were told that they are written."""
        for one in saved.read():
            node = self._nodes.find(one.nodeid)
            handles = [] if node is None else self._handles.of_node(node)
            writer = next((handle for handle in handles if handle.writable and handle.fd >= 0), None)
            if node is None or node.open is None or writer is None or not _is_draft(one):
                if one.is_unsaved and one.nodeid not in self._nodes.unsaved:  # else its handles are lost, too
                    raise PolicyfsError("bytes not checked yet were lost")
                saved.drop(one.nodeid)
                if one.fd >= 0 and _is_draft(one):
                    os.close(one.fd)  # the keeper's sweep has left it open
                continue
            try:
                self._give(one, writer, node.open, policy)
            except (OSError, LookupError, TypeError, ValueError) as error:
                raise PolicyfsError(f"bytes not checked yet were lost: {error}") from error

    def _give(self, one: SavedHeld, writer: Handle, state: OpenState, policy: int) -> None:
        node, fields = writer.node, one.fields
        state.writer_uids |= frozenset(fields["uids"])
        state.mapped = state.mapped or fields["mapped"]
        held: Draft | Head
        if one.fd >= 0:
            held = self._draft(one, writer, policy)
            state.draft, state.head = held, None
        else:
            held = state.head = self._head(one, writer)
        if fields["withheld"] and held.refused and held.created and not self._tree.fstat(writer.fd).size:
            self._withheld_names.withhold(node)
        self._note_held(writer, state)
        if state.is_late:
            self._put_off(node)

    def _draft(self, one: SavedHeld, writer: Handle, policy: int) -> Draft:
        stat = self._tree.fstat(writer.fd)
        release = self._handles.charge(writer.node) or (lambda: None)
        draft = saved_draft(self._nodes, writer.node, one.fd, stat, release)

        def caller(uid: int, gid: int, pid: int) -> Caller:
            return Caller(self._gate.principal, uid, gid, pid, 0, program="")

        one.fill(draft, one.refusal(caller, self._gate.generation, policy))
        return draft

    def _head(self, one: SavedHeld, writer: Handle) -> Head:
        fields = one.fields
        stat = self._tree.fstat(writer.fd)
        head = Head(stat.size, created=fields["created"], refused=fields["refused"])
        held, late = one.data or head.held, one.late
        if late:
            held = os.pread(writer.fd, HEAD_BYTES, 0)
            late = _placed(late, fields["end"], writer.fd)
            for offset, data in late:
                held = overlay(held, len(held) if offset is None else offset, data)
        head.has_room_for(held or b"", writer.caller.holder, self._handles.held_bytes)
        head.held, head.late = held, late
        return head


def _is_draft(one: SavedHeld) -> bool:
    """Return True unless the record is of a draft, and its descriptor is not."""
    if one.fd < 0:
        return True
    try:
        stat, mode = os.fstat(one.fd), fcntl.fcntl(one.fd, fcntl.F_GETFL) & os.O_ACCMODE
    except OSError:
        return False
    return (stat.st_dev, stat.st_ino) == one.inode and not stat.st_nlink and mode == os.O_RDWR


def _placed(late: tuple[Write, ...], end: int | None, fd: int) -> tuple[Write, ...]:
    """Return late writes of which a killed daemon may have made some, so that none is appended twice: appends
    to a file that was *end* bytes long, and has their first bytes behind that, get their places."""
    size = os.fstat(fd).st_size
    if end is None or size <= end:
        return late
    found, at, known = list[Write](), end, os.pread(fd, HEAD_BYTES, end)
    for offset, data in late:
        place = at if offset is None else offset
        if offset is None and not data.startswith(known[at - end : at - end + len(data)]):
            return late  # another program has appended
        at = max(at, place + len(data))
        found.append(Write(place, data))
    return tuple(found)
