"""The way to a file's bytes: finding it, and what must hold before an app gets a handle on it.

The parts of an open that decide nothing about roads: descriptors by name or by what is still held,
whether the node is the caller's at all, rule 5 of the policy language, and a writer's arrival.
"""

from __future__ import annotations

import errno
import functools
import itertools
import os
from collections.abc import Callable
from typing import Final, NoReturn, TypeVar, TypeVarTuple

import trio

from policyfs.domain import OWNER_NONE, Audit, Decision, FileType, Op
from policyfs.fs.access.audit import Call
from policyfs.fs.access.gate import Gate
from policyfs.fs.access.kind_proof import KindEvidence
from policyfs.fs.access.views import Views, version_of
from policyfs.fs.inodes.handles import Caller, Handle, HandleTable
from policyfs.fs.inodes.node_table import Flavor, NamesForgotten, Node, NodeTable, StaleNodeError
from policyfs.fs.inodes.replaced_files import ReplacedFiles
from policyfs.fs.inodes.resolver import Resolver
from policyfs.fs.redacted.leased import LeasedFiles
from policyfs.linux.statx import Stat
from policyfs.store.leases import break_foreign
from policyfs.store.tree import Tree

JUDGED: Final = frozenset({Flavor.COPY, Flavor.LEASED})
"""Flavors that decide by what they find in the very bytes that they show."""
_UNPROVEN: Final = "its kind decides, and somebody has the file open for writing, or mapped"
_NEVER_PROVEN: Final = "its kind decides, and nothing proves it on this store to one who writes as well"

T = TypeVar("T")
Ts = TypeVarTuple("Ts")

_MOVED: Final = frozenset({errno.ENOENT, errno.ESTALE, errno.ELOOP, errno.ENXIO})
"""What opening by a name says where it no longer leads to the file."""
_LEASE_WAIT_S: Final = 50.0
"""Longer than the kernel's lease-break-time: after it the holder has lost its lease by force."""

_FMODE_EXEC: Final = 0x20
"""In the flags of an open that execve(2) makes (include/linux/fs.h); it stays open while the program runs."""

_FLAG_NAMES: Final = (
    (os.O_APPEND, "O_APPEND"), (os.O_TRUNC, "O_TRUNC"), (os.O_CREAT, "O_CREAT"), (os.O_EXCL, "O_EXCL"),
    (os.O_DIRECT, "O_DIRECT"), (os.O_TMPFILE & ~os.O_DIRECTORY, "O_TMPFILE"),
)  # fmt: skip


@functools.lru_cache(maxsize=256)
def ops_of(flags: int) -> Op:
    """The operations that opening with these flags needs. Any O_TRUNC is a write."""
    mode = flags & os.O_ACCMODE
    ops = Op.SEE
    if mode != os.O_WRONLY:
        ops |= Op.READ
    if mode != os.O_RDONLY or flags & os.O_TRUNC:
        ops |= Op.WRITE
    return ops


@functools.lru_cache(maxsize=256)
def describe(flags: int) -> str:
    """Open flags as people write them, e.g. ``open(O_WRONLY|O_TRUNC)``."""
    mode = ("O_RDONLY", "O_WRONLY", "O_RDWR", "O_RDWR")[flags & os.O_ACCMODE]
    return "open(" + "|".join([mode, *(name for bit, name in _FLAG_NAMES if flags & bit)]) + ")"


class BackingFiles:
    """Who gets at which file, for one mount's Opener."""

    def __init__(
        self,
        *,
        tree: Tree,
        nodes: NodeTable,
        handles: HandleTable,
        resolver: Resolver,
        gate: Gate,
        views: Views,
        leased: LeasedFiles,
        forget_names: NamesForgotten,
        replaced_files: ReplacedFiles,
        remote: bool = False,
        leases_mean: bool = False,
    ) -> None:
        """remote: another process or machine answers for the store, and to open a file may take long.
        leases_mean: a read lease proves that nobody writes.
        """
        self._remote = remote
        self._leases_mean = leases_mean
        self._tree = tree
        self._nodes = nodes
        self._handles = handles
        self._resolver = resolver
        self._gate = gate
        self._views = views
        self._leased = leased
        self._forget_names = forget_names
        self._replaced_files = replaced_files

    def sent_back(self, node: Node, caller: Caller, *, writing: bool) -> None:
        """An open was answered with ESTALE: the kernel looks the name up, and tries once more."""
        self._replaced_files.missed(node)
        if writing:
            self._views.expect_writing(node.ino, caller)
        if node.flavor is Flavor.COPY and node.whose == self._views.whose(caller, node.view, node.flavor):
            self._views.outdated(node.view, caller)

    def let_in(self, node: Node, caller: Caller) -> None:
        """An open was answered, and not with ESTALE."""
        self._views.expect_nothing(node.ino, caller)

    def find(self, node: Node) -> tuple[int, Stat]:
        """An O_RDONLY descriptor of a node's file, the caller's to close, and its attributes."""
        if node.parent is None:
            return self.reopen_unlinked(node)
        try:
            return self.open_named(node)
        except OSError as error:
            if error.errno != errno.ESTALE or self._replaced_files.find(node) < 0:
                raise
        return self.reopen_unlinked(node)

    async def find_apart(self, node: Node) -> tuple[int, Stat]:
        """find(), and of a store that may take its time elsewhere than on the loop: to open a file of which
        somebody reads a page that does not come waits for that page (fs/fuse/file.c, fuse_finish_open).
        """
        if not self._remote or node.parent is None:
            return self.find(node)
        try:
            dirfd, name, _ = self._resolver.locate(node)
            above = os.dup(dirfd)
            try:
                fd = await trio.to_thread.run_sync(self._tree.open_file, above, name, os.O_RDONLY)
            finally:
                os.close(above)
        except OSError as error:
            if error.errno not in _MOVED:
                raise
            return self.find(node)  # it has gone or moved: what still leads there
        stat = self._stat_if_same(node, fd)
        return self.find(node) if stat is None else (fd, stat)

    def open_named(self, node: Node) -> tuple[int, Stat]:
        """An O_RDONLY descriptor by the first name that still leads to the node. ESTALE without one."""
        for parent, name in itertools.islice(node.all_names(), 1):
            try:
                fd = self._tree.open_file(self._resolver.dirfd(parent), name, os.O_RDONLY)
            except OSError as error:
                if error.errno not in _MOVED:
                    raise
                break
            stat = self._stat_if_same(node, fd)
            if stat is not None:
                return fd, stat
        dirfd, name, _ = self._resolver.locate(node)  # slower: tries every name, forgets dead ones
        fd = self._tree.open_file(dirfd, name, os.O_RDONLY)
        stat = self._tree.fstat(fd)
        if not self._nodes.is_same(node, stat) or stat.ftype is not FileType.REGULAR:
            os.close(fd)
            raise StaleNodeError
        return fd, stat

    def _stat_if_same(self, node: Node, fd: int) -> Stat | None:
        """The attributes behind a descriptor if it is of the node's file; None, and it is closed, if not."""
        stat = self._tree.fstat(fd)
        if self._nodes.is_same(node, stat) and stat.ftype is FileType.REGULAR:
            return stat
        os.close(fd)
        return None

    def reopen_unlinked(self, node: Node) -> tuple[int, Stat]:
        """A file without a name can be opened again only while the daemon holds it (/proc/self/fd)."""
        if node.open is not None and node.open.fd >= 0:
            fd = self._tree.reopen(node.open.fd, os.O_RDONLY)
            return fd, self._tree.fstat(fd)
        for handle in self._handles.of_node(node):
            if handle.fd >= 0 and node.flavor in {Flavor.RAW, Flavor.LIVE}:
                fd = self._tree.reopen(handle.fd, os.O_RDONLY)
                return fd, self._tree.fstat(fd)
        kept = self._replaced_files.find(node)
        if kept >= 0:
            fd = self._tree.reopen(kept, os.O_RDONLY)
            return fd, self._tree.fstat(fd)
        raise StaleNodeError

    def check_view(self, node: Node, caller: Caller) -> None:
        """The node must be of the caller's view, by every name it has, and not another app's own."""
        for state in node.states():
            view = self._gate.engine.view(caller.principal, state)
            if view is not node.view and not (view.raw and node.view.raw):
                raise StaleNodeError
        if node.whose is not None and node.whose != self._views.whose(caller, node.view, node.flavor):
            raise StaleNodeError

    def check_road(self, node: Node, caller: Caller, stat: Stat, owner: str, *, writing: bool) -> None:
        """The node must be of the road that this open takes now."""
        try:
            self.check_view(node, caller)
        except StaleNodeError:
            if writing:  # the kernel looks up once more only: the node it gets must be a writer's
                self._views.expect_writer(node.ino, self._gate.engine.view(caller.principal, node.state))
            raise
        if node.parent is None and node.flavor is not Flavor.COPY:
            return
        if node.view.raw and node.flavor in JUDGED and not writing:
            self._views.proven(node.ino, caller)
            return
        flavor = self._views.flavor(
            self._gate.engine, caller, node.view, node.state, stat, lambda: owner, writing=writing
        )
        if flavor is not node.flavor:
            if writing:
                self._views.expect_writer(node.ino, node.view)
            raise StaleNodeError

    def demand_proof(self, node: Node, caller: Caller, call: Call, ops: Op, evidence: KindEvidence) -> bool:
        """Go on with an open for reading that is allowed for the file's kind only if a lease proves it.

        Else a reader is sent back to LOOKUP, for a node that shows a copy. Where no name leads to one, and
        to who wants to write as well: EBUSY while somebody writes, EACCES where leases mean nothing, on
        record. Who only writes gets no bytes.
        Returns whether the kind decided. INVARIANT: no await between this and a reader's last step.
        """
        if not evidence.asked or not ops & Op.READ or node.view.redact or node.flavor in JUDGED:
            return False
        if not self._gate.hangs_on_kind(caller.principal, ops, node, evidence.owner):
            return False
        writing = bool(ops & Op.WRITE)
        if not evidence.holds() or not (writing or node.flavor is Flavor.RAW):
            self.unproven(node, caller, call, writing=writing)
        return True

    def unproven(self, node: Node, caller: Caller, call: Call, *, writing: bool) -> NoReturn:
        """Refuse an open whose file's kind is not proven: ESTALE to a reader, else for good."""
        if not writing and node.parent is not None:
            self._views.unproven(node.ino, caller)
            self._views.outdated(node.view, caller)
            raise StaleNodeError
        decision = Decision(allowed=True, errno=0, audit=Audit.REQUIRED)
        note, error = (_UNPROVEN, errno.EBUSY) if self._leases_mean else (_NEVER_PROVEN, errno.EACCES)
        self._gate.refuse(caller, call, node.path(), decision, note=note, error=error)

    def check_running(self, node: Node, flags: int) -> None:
        """O_RDONLY|O_TRUNC of a running program is ETXTBSY.

        The kernel looks whether a file is being executed (fs/namei.c, handle_truncate) only after
        OPEN was answered, and the bytes would be gone. Any other writer it refuses by itself.
        """
        if not flags & os.O_TRUNC or flags & os.O_ACCMODE != os.O_RDONLY:
            return
        for other in self._nodes.same_inode(node.ino):
            if any(handle.flags & _FMODE_EXEC for handle in self._handles.of_node(other)):
                raise OSError(errno.ETXTBSY, "it is being executed")

    def by_emptying(
        self, node: Node, caller: Caller, call: Call, stat: Stat, owner: str, *, empties: bool
    ) -> bool:
        """Rule 5: under redaction an app writes a file that it does not own only by emptying it.

        Returns whether it does so here; refuses otherwise.
        """
        who = caller.principal
        if not node.view.redact or (who.app is not None and owner == who.app):
            return False
        if not self._views.hidden_now(self._gate.engine, who, node.state, lambda: owner):
            return False
        if stat.size and not empties:
            self._views.writer_came(node.ino, node.view)  # no writer comes: readers go the way they went
            decision = Decision(allowed=False, errno=errno.EACCES, audit=Audit.REQUIRED)
            self._gate.refuse(
                caller, call, node.path(), decision,
                note="under redaction a file of another owner is written only by emptying it first",
            )  # fmt: skip
        return True

    async def writer(self, node: Node, fd: int) -> int:
        """A descriptor for writing, after every lease on the file is broken.

        It is kept while the handle lives, so that no lease comes between it and the kernel's
        own open of the backing file.
        """
        self._leased.give_way(node.ino)
        probe = await self._called(break_foreign, fd)
        with trio.move_on_after(_LEASE_WAIT_S):
            while probe is None:
                await trio.sleep(0.005)
                probe = await self._called(break_foreign, fd)
        if probe is None:
            raise OSError(errno.EBUSY, "a lease on the file is not given up")
        try:
            return await self._called(self._tree.reopen, fd, os.O_RDWR)
        finally:
            os.close(probe)

    async def _called(self, function: Callable[[*Ts], T], *arguments: *Ts) -> T:
        """What opens a file: see find_apart()."""
        if self._remote:
            return await trio.to_thread.run_sync(function, *arguments)
        return function(*arguments)

    def see(self, handle: Handle) -> None:
        """Note the version that an app under redaction begins to write on: empty, by rule 5.

        ESTALE if another writer was quicker: the kernel opens again, and that is decided anew.
        """
        stat = self._tree.fstat(handle.fd)
        if handle.emptied and stat.size:
            raise StaleNodeError
        handle.seen = version_of(stat)

    def before_writing(self, node: Node, handle: Handle, stat: Stat, owner: str) -> None:
        if self._tree.clear_killpriv(handle.fd):
            self._forget_names(node)  # the kernel keeps the mode
        if owner not in {OWNER_NONE, handle.caller.principal.app}:
            self._gate.facts.owners.set(handle.fd, stat, OWNER_NONE)
            self._forget_names(node)  # who sees them may hang on the owner
        self._views.writer_came(node.ino, node.view)
        if not handle.flags & os.O_TRUNC:
            self.see(handle)
