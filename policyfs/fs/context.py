"""The parts of a mount that nearly every operation needs, in one object."""

from __future__ import annotations

import errno
from dataclasses import dataclass
from typing import Final, NoReturn

from policyfs.domain import Audit, Decision
from policyfs.fs.access.audit import Call
from policyfs.fs.access.gate import Gate
from policyfs.fs.access.kept_changes import KeptChanges
from policyfs.fs.inodes.caller import Caller
from policyfs.fs.inodes.handles import Handle, HandleTable
from policyfs.fs.inodes.node_table import NodeTable
from policyfs.fs.inodes.open_state import OpenState
from policyfs.fs.inodes.pending_writes import Head
from policyfs.fs.inodes.replaced_files import ReplacedFiles
from policyfs.fs.inodes.resolver import Resolver
from policyfs.fs.saved.intents import Intent, Intents, Outcome
from policyfs.fs.sharing.kernel_locks import KernelLocks
from policyfs.fs.sharing.name_lock import NameLock
from policyfs.store.facts import StoreFacts
from policyfs.store.locking.latches import HeldFiles
from policyfs.store.tree import Tree

_NOT_KNOWN: Final = "the daemon was killed during this request, and nothing tells if it has made the change"


@dataclass(frozen=True, slots=True)
class FsContext:
    """The parts of one mount: store, nodes that the kernel knows, open files, and the policy's decisions.

    held: marks of files with held bytes, for other daemons of the store. locks: limits waits under the
    kernel's locks. name_lock: keeps other daemons from changes of a name. intents: for a daemon after this
    one. facts: the features of the store. kept: keeps what changes would lose, for undo."""

    tree: Tree
    nodes: NodeTable
    handles: HandleTable
    resolver: Resolver
    gate: Gate
    held: HeldFiles
    name_lock: NameLock
    locks: KernelLocks
    intents: Intents
    replaced_files: ReplacedFiles
    facts: StoreFacts
    kept: KeptChanges

    def note_held(self, handle: Handle, state: OpenState) -> None:
        """Mark a file if it has held bytes, else remove its mark, and save these bytes for the next daemon.
        If it cannot be marked, discard its held bytes and raise OSError. handle: of the file.

        INVARIANT: follows each change of a head or a draft, before the reply, with no await in between: then
        every other daemon knows of held bytes, and renames this file over no other. (Late writes need no
        mark: refused, the file still has its accepted bytes.)"""
        if self.nodes.saved is not None:
            self.nodes.saved.held.put(handle.node, state)
        if (state.unsaved and not state.is_late) == (state.mark is not None):
            return
        if state.mark is None:
            try:
                state.mark = self.held.mark(handle.fd)
            except OSError:
                self._take_back(handle, state)
                raise
        else:
            mark, state.mark = state.mark, None
            self.held.unmark(mark)

    def _take_back(self, handle: Handle, state: OpenState) -> None:
        """Discard all held bytes, which are of the last change: before it the file had no mark. The app gets
        the error."""
        held = state.draft or state.head
        if self.nodes.saved is not None:
            self.nodes.saved.held.drop(handle.node.nodeid)
        state.drop_held()
        if held is not None:
            state.head = Head(self.tree.fstat(handle.fd).size, created=held.created, refused=held.refused)


def refuse_unknown(gate: Gate, caller: Caller, call: Call, path: bytes, new_path: bytes = b"") -> NoReturn:
    """Refuse, on record (EIO), a request that has come again, if nothing tells whether it was done."""
    decision = Decision(allowed=True, errno=0, audit=Audit.REQUIRED)
    gate.refuse(caller, call, path, decision, new_path=new_path or None, note=_NOT_KNOWN, error=errno.EIO)


class FsPart:
    """A part of a mount that works with its context."""

    def __init__(self, fs: FsContext) -> None:
        self._tree = fs.tree
        self._nodes = fs.nodes
        self._handles = fs.handles
        self._resolver = fs.resolver
        self._gate = fs.gate
        self._name_lock = fs.name_lock
        self._locks = fs.locks
        self._intents = fs.intents
        self._held = fs.held
        self._replaced_files = fs.replaced_files
        self._kept = fs.kept
        self._remote = fs.facts.remote
        self._note_held = fs.note_held

    def _was_made(self, caller: Caller, call: Call, path: bytes, new_path: bytes = b"") -> Intent | None:
        """Return a killed daemon's intent if this request comes again and its change was made; None if the
        change is to be made. Refuse it on record (EIO) if nothing tells."""
        if (found := self._intents.before(caller.unique)) is None or found[1] is Outcome.NOT_MADE:
            return None
        if found[1] is Outcome.UNKNOWN:
            refuse_unknown(self._gate, caller, call, path, new_path)
        return found[0]
