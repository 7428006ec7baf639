"""The LINK request, which gives a file another name."""

from __future__ import annotations

import contextlib
import errno
import os

from policyfs.domain import Decision, FileType, Need, Op
from policyfs.fs.access.audit import Call
from policyfs.fs.access.gate import stricter
from policyfs.fs.access.kind_proof import KindEvidence
from policyfs.fs.access.ledger import recorded_first
from policyfs.fs.checked.change_lock import ChangeLock
from policyfs.fs.checked.move_proof import ELSEWHERE, Source, decide_link
from policyfs.fs.checked.withheld_names import WithheldNames
from policyfs.fs.context import FsContext, FsPart
from policyfs.fs.inodes.caller import Caller
from policyfs.fs.inodes.node import Node, StaleNodeError, check_room, child_path
from policyfs.fs.namespace.entries import Entries
from policyfs.fs.namespace.lookup import Lookup
from policyfs.fs.opening.open_files import OpenFiles
from policyfs.fs.path_bounds import KEPT_NAMES
from policyfs.fs.saved.intents import ChangeKind, Intent, Side
from policyfs.kernel.bridge import pyfuse3
from policyfs.linux.statx import Stat
from policyfs.policy.decide import End


class Linker(FsPart):
    """The handler of LINK. The policy must allow the new link for every known name of the file."""

    def __init__(
        self, fs: FsContext, *, entries: Entries, lookup: Lookup, open_files: OpenFiles,
        change_lock: ChangeLock, withheld_names: WithheldNames,
    ) -> None:  # fmt: skip
        super().__init__(fs)
        self._entries = entries
        self._lookup = lookup
        self._open_files = open_files
        self._change_lock = change_lock
        self._withheld_names = withheld_names

    @recorded_first
    async def link(self, node: Node, parent: Node, name: bytes, caller: Caller) -> pyfuse3.EntryAttributes:
        """Give a file another name. Decide on the request for each known name of the file."""
        call = Call("link", "link")
        check_room(parent, name)
        if node.ftype is FileType.DIRECTORY:
            raise OSError(errno.EPERM, "a directory has one name")
        with KindEvidence() as evidence:
            return await self._link(node, parent, name, caller, call, evidence)

    def _check_pending(self, node: Node, stat: Stat) -> None:
        """Refuse a name that no daemon would remove after a later refusal of a new file's content: EMLINK if
        this one cannot keep the name, EBUSY if another one holds the bytes."""
        same = list(self._nodes.same_inode(node.ino))
        if any(each.open is not None and each.open.is_new for each in same):
            if any(len(each.links or ()) + 1 >= KEPT_NAMES for each in same):
                raise OSError(errno.EMLINK, "the content of this file must be checked first")
        elif not stat.size and node.ftype is FileType.REGULAR and self._held.is_held_elsewhere(stat):
            raise OSError(errno.EBUSY, "another mount has bytes of the file that are not checked yet")

    async def _link(
        self, node: Node, parent: Node, name: bytes, caller: Caller, call: Call, evidence: KindEvidence
    ) -> pyfuse3.EntryAttributes:
        path, new_path = node.path(), child_path(parent, name)
        new_state = self._gate.engine.child(parent.state, name)
        dirfd, old_name, old_stat = self._resolver.locate(node)
        if self._withheld_names.has(old_stat):
            raise OSError(errno.ENOENT, "not shown", old_name)
        fd = self._tree.open_path(dirfd, old_name)
        async with contextlib.AsyncExitStack() as stack:
            stack.callback(os.close, fd)
            who, engine = caller.principal, self._gate.engine
            need = Need.NOTHING
            for state in node.states():
                need |= self._gate.needed(who, state, node.ftype)
                need |= engine.needs_move(who, state, new_state, node.ftype)
                need |= engine.needs(who, Op.READ | Op.WRITE, state, node.ftype)
            generation = self._gate.generation
            facts = await self._gate.facts_of(node, need, who, evidence=evidence)
            async with self._locks.limit(caller.holder, errno.EBUSY):
                await stack.enter_async_context(self._change_lock.on(fd))
            self._gate.unchanged(generation)
            self._resolver.locate(node)  # drops dead names: another daemon may have moved the file
            moved = self._gate.engine.child(parent.state, name) != new_state  # in the store, to other rules
            if moved or not self._nodes.is_same(node, self._tree.fstat(fd)):
                raise StaleNodeError
            decision: Decision | None = None
            same = not node.is_beyond and all(above is parent for above, _ in node.all_names())
            for state in node.states():
                source = Source(End(state, node.ftype, facts), evidence)
                answer = decide_link(engine, who, source, new_state, same_directory=same)
                decision = stricter(decision, answer)
            for state in node.states():
                decision = self._gate.hidden_by_any(who, state, node) or decision
            decision = self._gate.hidden(who, new_state, parent) or decision
            if not self._gate.shows(who, new_state, node.ftype, parent):
                decision = stricter(decision, ELSEWHERE)
            if decision is None or not decision.allowed:
                self._entries.refuse_move(caller, call, path, new_path, decision)
            self._check_pending(node, self._tree.fstat(fd))
            self._gate.recorder.decided(caller, call, path, decision, new_path=new_path)
            dirfd = self._resolver.dirfd(parent)
            if not self._was_made(caller, call, path, new_path):
                if self._intents.are_kept:
                    self._tree.check_free(dirfd, name)  # later the name would tell that the link was made
                side = Side(parent.nodeid, name, node.ino, node.btime_ns)
                self._intents.begin(Intent(caller.unique, ChangeKind.NAME, side))
                if not self._tree.hard_links:
                    raise OSError(errno.EPERM, "the store keeps no hard links")  # as natively on vfat
                with self._open_files.bytes_stay(node.ino, answered=False):
                    self._tree.link(fd, dirfd, name)
            stat = self._tree.fstat(fd)
        return self._lookup.entry(parent, name, new_state, stat, caller)
