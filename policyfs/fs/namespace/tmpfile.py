"""Files without a name: open(2) with O_TMPFILE.

The daemon decides on such a file, and records the file on the trail, like a new file with the name UNNAMED in
the same directory. If an app gives the file a name, the daemon decides on a creation at the new path. Until
then the daemon treats the file like an open file that has lost its name.
"""

from __future__ import annotations

import errno
import os
from typing import Final

from policyfs.domain import OWNER_NONE, Audit, Decision, Facts, FileType, Op, Principal
from policyfs.fs.access.audit import Call
from policyfs.fs.access.kind_proof import KindEvidence
from policyfs.fs.access.ledger import recorded_first
from policyfs.fs.context import FsContext
from policyfs.fs.inodes.caller import Caller
from policyfs.fs.inodes.handles import Handle
from policyfs.fs.inodes.node import BytePath, Node, StaleNodeError, check_room, child_path
from policyfs.fs.namespace.lookup import Lookup
from policyfs.fs.opening.open_files import OpenFiles
from policyfs.fs.opening.opener import Opener
from policyfs.fs.opening.request import describe, ops_of
from policyfs.kernel.bridge import pyfuse3
from policyfs.linux.statx import Stat
from policyfs.policy.decide import PathState

UNNAMED: Final = b"#unnamed"
"""The name of files without a name, for rules: the pattern ``*`` matches it, ``*.jpg`` does not."""


class Tmpfiles:
    """The handler of TMPFILE for one mount. It also gives such a file its first name."""

    def __init__(self, fs: FsContext, *, lookup: Lookup, opener: Opener, open_files: OpenFiles) -> None:
        self._tree = fs.tree
        self._nodes = fs.nodes
        self._handles = fs.handles
        self._resolver = fs.resolver
        self._gate = fs.gate
        self._lookup = lookup
        self._opener = opener
        self._open_files = open_files

    async def open(
        self, parent: Node, mode: int, flags: int, caller: Caller
    ) -> tuple[Handle, pyfuse3.EntryAttributes]:
        """Create and open a file without a name. Raise OSError (EOPNOTSUPP) if the store cannot make such
        files.
        """
        check_room(parent, UNNAMED)
        who, path = caller.principal, child_path(parent, UNNAMED)
        call = Call("create", describe(flags))
        state = self._gate.engine.child(parent.state, UNNAMED)
        ops = Op.CREATE | Op.WRITE | ops_of(flags & ~os.O_TRUNC)
        facts = Facts(None, who.app or OWNER_NONE)
        decision = self._gate.decide(who, ops, state, FileType.REGULAR, facts, parent)
        if not decision.allowed:
            self._gate.refuse(caller, call, path, decision)
        view = self._gate.engine.view(who, state)
        dirfd = self._resolver.dirfd(parent)
        suid = self._gate.free(who, state, parent)
        fd = self._tree.create_unnamed(dirfd, mode, caller.umask, caller.uid, caller.gid, suid=suid)
        within_reach, node = -1, None
        try:
            stat = self._owned(fd, caller)
            within_reach = self._tree.reopen(fd, os.O_RDONLY)
            byte_path = BytePath.RAW if view.raw else BytePath.LIVE
            engine, owner = self._gate.engine, caller.principal.app or OWNER_NONE
            whose = self._lookup.views.whose(engine, caller, view, byte_path, state, lambda: owner)
            node = self._lookup.views.unnamed(stat, view, byte_path, state, parent, UNNAMED, whose)
            handle = await self._opener.created(node, fd, flags, caller, decision, stat, call)
        except BaseException:
            os.close(fd)
            if within_reach >= 0:
                os.close(within_reach)
            if node is not None:
                self._nodes.closed(node)
            raise
        if node.open is not None:  # always True: the new handle has the node open
            node.open.fd = within_reach
            node.open.fd_closed = self._handles.charge(node) or node.open.fd_closed
        try:
            return handle, self._lookup.entry_of(node, state, self._lookup.told(stat, node, state, caller))
        except BaseException:
            self._opener.close(handle)  # the kernel gets no handle, and will never release it
            raise

    @recorded_first
    async def link(self, node: Node, parent: Node, name: bytes, caller: Caller) -> pyfuse3.EntryAttributes:
        """Give a file its name. The policy must allow the caller to create the file at that path.

        The open handles keep their view, and this view decides how the file's writes are checked. So each app
        that has the file open must have the same view at the new path, and at least the rights of its handle.
        The caller must have this view there, too: if the caller made a new file at that path, the caller's
        view would decide the checks. Otherwise the answer is EXDEV, or the policy's errno.

        An open file whose last known name was removed has no name either, but perhaps another name in the
        store, which was never looked up. INVARIANT: such a file gets no name here. The rules for its other
        name would not be asked.
        """
        check_room(parent, name)
        with KindEvidence() as evidence:
            return await self._link(node, parent, name, caller, evidence)

    async def _link(
        self, node: Node, parent: Node, name: bytes, caller: Caller, evidence: KindEvidence
    ) -> pyfuse3.EntryAttributes:
        """Give a file its name. If a process has the file open for writing, the kind counts as unknown, as
        for a new file: the writer could give the file another kind.
        """
        call, path, new_path = Call("link", "link"), node.path(), child_path(parent, name)
        state = self._gate.engine.child(parent.state, name)
        generation, ftype = self._gate.generation, FileType.REGULAR
        need = self._gate.needed(caller.principal, state, ftype)
        for who, _ in self._users(node):
            need |= self._gate.needed(who, state, ftype)
        facts = await self._gate.facts_of(node, need, caller.principal, evidence=evidence)
        if not evidence.holds():
            facts = facts._replace(kind=None)
        self._gate.unchanged(generation)
        if self._gate.engine.child(parent.state, name) != state:
            raise StaleNodeError  # the directory was moved in the store meanwhile, to other rules
        users = self._users(node)
        ops = Op.SEE | Op.CREATE
        for _, rights in users:
            ops |= rights
        decision = self._gate.decide(caller.principal, ops, state, ftype, facts, parent)
        if not decision.allowed:
            self._gate.refuse(caller, call, path, decision, new_path=new_path)
        everybody = self._with_caller(users, caller)
        kept = all(self._keeps(node, who, rights, state, facts, parent) for who, rights in everybody)
        if not kept or node.open is None or self._has_names(node.open.fd):
            refusal = Decision(allowed=False, errno=errno.EXDEV, audit=Audit.REQUIRED)
            note = "at the new path, other rights or checks would apply to a program that has the file open;"
            note = note if not kept else "the file has another name in the store, with rules of its own;"
            note += " copy the file instead"
            self._gate.refuse(caller, call, path, refusal, new_path=new_path, note=note)
        self._gate.recorder.decided(caller, call, path, decision, new_path=new_path)
        with self._open_files.bytes_stay(node.ino):
            self._tree.link(node.open.fd, self._resolver.dirfd(parent), name)
        # The caller may get another node. From now on the open handles are decided by the new path, too.
        self._nodes.add_name(node, parent, name)
        return self._lookup.entry(parent, name, state, self._tree.fstat(node.open.fd), caller)

    def _has_names(self, fd: int) -> bool:
        return self._tree.fstat(fd).nlink > 0

    def _users(self, node: Node) -> list[tuple[Principal, Op]]:
        return [(handle.caller.principal, _rights(handle)) for handle in self._handles.of_node(node)]

    @staticmethod
    def _with_caller(users: list[tuple[Principal, Op]], caller: Caller) -> list[tuple[Principal, Op]]:
        """Return the users of a file, and the caller, who may have got a descriptor from another app."""
        return [*users, (caller.principal, Op.SEE)]

    def _keeps(
        self, node: Node, who: Principal, rights: Op, state: PathState, facts: Facts, parent: Node
    ) -> bool:
        view = self._gate.engine.view(who, state)
        if view is not node.view and not (view.raw and node.view.raw):
            return False
        return self._gate.decide(who, Op.SEE | rights, state, FileType.REGULAR, facts, parent).allowed

    def _owned(self, fd: int, caller: Caller) -> Stat:
        stat = self._tree.fstat(fd)
        app = caller.principal.app
        if app is not None:
            self._gate.facts.owners.set(fd, stat, app)
            stat = self._tree.fstat(fd)
        return stat


def _rights(handle: Handle) -> Op:
    rights = Op.READ if handle.readable else Op(0)
    return rights | Op.WRITE if handle.writable else rights
