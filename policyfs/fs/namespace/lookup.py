"""Look-ups of names, and attributes in the form that the caller may see."""

from __future__ import annotations

import contextlib
import errno
import os
import time
from typing import Final

from policyfs.domain import RAW_VIEW, Decision, FileType, Need, Op
from policyfs.fs.access.audit import Call
from policyfs.fs.access.gate import PolicyChangedError
from policyfs.fs.access.path_answers import Unseen
from policyfs.fs.access.shown_modes import ShownModes
from policyfs.fs.access.views import Views
from policyfs.fs.checked.withheld_names import WithheldNames
from policyfs.fs.context import FsContext, FsPart
from policyfs.fs.inodes.caller import Caller
from policyfs.fs.inodes.node import ROOT_ID, BytePath, Node, check_room, child_path
from policyfs.fs.kernel_cache.attributes import Timeouts, absent, fill, shown_size, shown_times, shown_version
from policyfs.fs.kernel_cache.name_expiry import AbsentNames
from policyfs.fs.kernel_cache.repeats import Repeats
from policyfs.kernel.bridge import pyfuse3
from policyfs.linux.statx import Stat
from policyfs.policy.decide import PathState
from policyfs.store.names.aside_names import is_reserved

_DIRECTORY_SIZE: Final = 4096
_WITH_FACTS: Final = (FileType.REGULAR, FileType.DIRECTORY, FileType.SYMLINK)
_RELOADS: Final = 10

_OTHERS: Final = 0o077
_ENTER: Final = 0o055


class Lookup(FsPart):
    """The handler of LOOKUP, GETATTR, READLINK and ACCESS for one mount."""

    def __init__(
        self,
        fs: FsContext,
        *,
        views: Views,
        timeouts: Timeouts,
        withheld_names: WithheldNames,
        modes: ShownModes,
        absent_names: AbsentNames,
        repeats: Repeats,
    ) -> None:
        self._repeats = repeats
        self._modes = modes
        self._absent_names = absent_names
        self._withheld_names = withheld_names
        super().__init__(fs)
        self.views = views
        self._timeouts = timeouts

    # -- lookup ---------------------------------------------------------------------------------

    async def lookup(self, parent: Node, name: bytes, caller: Caller) -> pyfuse3.EntryAttributes:
        """Return the entry of a name. For a hidden or absent one raise FUSEError (ENOENT), or return a
        negative entry for the kernel to keep.

        After a reload decide again. ESTALE would use up the second try of the open, which it may need itself.
        """
        for _ in range(_RELOADS):
            with contextlib.suppress(PolicyChangedError):
                return await self._lookup(parent, name, caller)
        return await self._lookup(parent, name, caller)

    def lookup_from_outside(self, parent: Node, name: bytes) -> pyfuse3.EntryAttributes:
        """Refuse a caller not admitted (EACCES), but not its look at a directory in use (_held_directory)."""
        held = self._held_directory(parent, name)
        if held is None:
            raise pyfuse3.FUSEError(errno.EACCES)
        return held

    async def _lookup(self, parent: Node, name: bytes, caller: Caller) -> pyfuse3.EntryAttributes:
        """Decide once on a LOOKUP. Raise PolicyChangedError, or PathTooLongError also for names that do not
        exist.

        INVARIANT: for a name that the path alone hides, no call on the store depends on the name: the reply
        takes as long as for an absent name (decision 10), except for a directory that others use
        (_held_directory)."""
        if is_reserved(name):
            raise pyfuse3.FUSEError(errno.ENOENT)
        check_room(parent, name)
        dirfd = self._resolver.dirfd_on_the_way(parent)  # first: perhaps the parent was moved elsewhere
        state, unseen = self._gate.asked_for(caller.principal, parent.state, name)
        if unseen.whatever is not None:
            held = self._held_directory(parent, name)
            return held or self._not_there(parent, name, state, caller, unseen.whatever)
        nothing_to_see = unseen.but_directory is not None and not self._tree.is_dir(dirfd, name)
        who, needs = caller.principal, self._gate.engine.needs
        by_facts = any(needs(who, Op.SEE, state, ftype) for ftype in _WITH_FACTS)
        fd, stat = (-1, None) if nothing_to_see else self._seen(parent, dirfd, name, by_facts=by_facts)
        try:
            return await self._decided(parent, name, state, caller, unseen, dirfd, fd, stat)
        finally:
            if fd >= 0:
                os.close(fd)

    def _seen(self, parent: Node, dirfd: int, name: bytes, *, by_facts: bool) -> tuple[int, Stat | None]:
        """Return descriptor and attributes of the object with this name, or -1 and None. The descriptor
        (O_PATH) is -1 but for a decision by facts, or if an open or a stat has just missed its file
        (ReplacedFiles.missed)."""
        fd = -1
        try:
            if by_facts:
                fd = self._tree.open_path(dirfd, name)
            elif self._replaced_files.is_path_wanted(parent, name):
                with contextlib.suppress(OSError):  # no descriptor is free, or no object has the name
                    fd = self._tree.open_path(dirfd, name)
            if fd < 0:
                return -1, self._tree.stat(dirfd, name)
        except FileNotFoundError:
            return -1, None
        try:
            return fd, self._tree.fstat(fd)
        except BaseException:
            os.close(fd)
            raise

    async def _decided(
        self, parent: Node, name: bytes, state: PathState, caller: Caller, unseen: Unseen, dirfd: int,
        fd: int, stat: Stat | None,
    ) -> pyfuse3.EntryAttributes:  # fmt: skip
        """Decide on a LOOKUP of a name that the path alone does not hide. fd, stat: the result of _seen()."""
        withheld_names = stat is not None and self._withheld_names.has(stat)
        if (
            withheld_names
            or stat is None
            or not self._gate.shows(caller.principal, state, stat.ftype, parent)
        ):
            if unseen.but_directory is not None:
                return self._not_there(parent, name, state, caller, unseen.but_directory)
            if withheld_names:
                raise pyfuse3.FUSEError(errno.ENOENT)  # not cached: the name may be shown again at any moment
            return self._nothing(parent, name, state, caller)
        decision = await self._gate.at(caller.principal, Op.SEE, state, dirfd, name, stat, parent, fd=fd)
        if not decision.allowed:
            held = self._held_directory(parent, name)
            return held or self._not_there(parent, name, state, caller, decision)
        if self._withheld_names.has(stat):  # the file's content was refused during the decision
            raise pyfuse3.FUSEError(errno.ENOENT)
        node, stat = self._found(parent, name, state, stat, caller, fd)
        reply = self.entry_of(node, state, self.told(stat, node, state, caller), caller)
        if self.views.is_resized(node.view, caller):
            reply.entry_timeout = 0.0  # else the first try of each other thread would find this LEASED node
        elif not self._replaced_files.is_wanted(node):
            self._repeats.looked_up(node, reply, caller)
        return reply

    def _nothing(
        self, parent: Node, name: bytes, state: PathState, caller: Caller
    ) -> pyfuse3.EntryAttributes:
        need = self._gate.engine.needs(caller.principal, Op.SEE, state, FileType.REGULAR)
        timeout = self._timeouts.missing(state, by_kind=bool(need & Need.KIND))
        self._repeats.allow_files(parent, caller)
        if not timeout:
            self._repeats.missed(parent, state, caller)
            raise pyfuse3.FUSEError(errno.ENOENT)
        self._absent_names.add(parent.nodeid, name)
        return absent(timeout)

    def _not_there(
        self, parent: Node, name: bytes, state: PathState, caller: Caller, decision: Decision
    ) -> pyfuse3.EntryAttributes:
        """Reply like a missing name, with the same negative-cache timeout."""
        call, path = Call("lookup", "lookup"), child_path(parent, name)
        if decision.errno != errno.ENOENT or not self._timeouts.entry(state):
            self._gate.refuse(caller, call, path, decision)
        self._gate.recorder.decided(caller, call, path, decision)
        return self._nothing(parent, name, state, caller)

    def _held_directory(self, parent: Node, name: bytes) -> pyfuse3.EntryAttributes | None:
        """Return an entry for a hidden directory that other callers use, else None. If this LOOKUP failed,
        the kernel would drop it, and their working directory. This caller's next request gets ENOENT."""
        node = None if self._timeouts.alone else self._nodes.directory(parent, name)
        if node is None or not node.lookups:
            return None
        try:
            stat = self._tree.stat(self._resolver.dirfd(parent), name)
        except FileNotFoundError:
            return None
        if not self._nodes.is_same(node, stat):
            return None
        self._nodes.refer(node)
        return fill(_uncounted(stat), node.nodeid, 0.0, 0.0)

    def entry(
        self, parent: Node, name: bytes, state: PathState, stat: Stat, caller: Caller
    ) -> pyfuse3.EntryAttributes:
        """Return the reply for a name that the caller sees. This adds one kernel reference to the node."""
        node, stat = self._found(parent, name, state, stat, caller)
        return self.entry_of(node, state, self.told(stat, node, state, caller), caller)

    def listed(self, node: Node, caller: Caller) -> None:
        """Note that a listing has sent a file's name and node to the kernel, which soon looks the name up."""
        if not self._replaced_files.is_wanted(node):
            self._repeats.listed(node, caller)

    def _found(
        self, parent: Node, name: bytes, state: PathState, stat: Stat, caller: Caller, fd: int = -1
    ) -> tuple[Node, Stat]:
        self._absent_names.found(parent.nodeid, name)
        node = self.node_for(parent, name, state, stat, caller)
        if stat.ftype is FileType.DIRECTORY:
            stat = self._resolver.learn(node, parent, name) or stat
        if stat.ftype is FileType.REGULAR and self._replaced_files.is_wanted(node):
            self._keep_for_open(node, parent, name, caller.pid, fd)
        return node, stat

    def _keep_for_open(self, node: Node, parent: Node, name: bytes, thread: int, fd: int) -> None:
        """Keep a node's file for the thread's next open, even if the name leads to another file by then."""
        try:
            if fd >= 0:
                kept: int | None = os.dup(fd)
            else:
                kept = self._resolver.open_if_same(node, parent, name, self._tree.open_path)
        except OSError:
            return  # gone already, or no descriptor is free
        if kept is not None:
            self._replaced_files.keep(node, kept, thread)

    def entry_of(
        self, node: Node, state: PathState, stat: Stat, caller: Caller
    ) -> pyfuse3.EntryAttributes:
        """Return the reply that gives a node to the kernel. This adds one kernel reference to the node."""
        self._nodes.refer(node, caller.holder)
        if node.ftype is FileType.DIRECTORY:
            node.named_s = time.monotonic()
        self._nodes.vectors.check_copy(node, stat)
        entry_s = self._timeouts.entry_of(node, state)
        attr_s = self._timeouts.attr(state, node, stat)
        node.tell(shown_version(node, stat))
        return fill(stat, node.nodeid, entry_s, attr_s, shown_size(node, stat))

    def created(
        self, node: Node, parent: Node, name: bytes, state: PathState, stat: Stat, caller: Caller
    ) -> pyfuse3.EntryAttributes:
        """Return the reply for a file that the caller has just created under this name."""
        self._absent_names.found(parent.nodeid, name)
        return self.entry_of(node, state, self.told(stat, node, state, caller), caller)

    def node_for(self, parent: Node, name: bytes, state: PathState, stat: Stat, caller: Caller) -> Node:
        """Return the node by which this caller gets the object with this name and these attributes."""
        if stat.ftype is not FileType.REGULAR:
            return self.views.directory(stat, state, parent, name, RAW_VIEW)
        engine = self._gate.engine
        view = engine.view(caller.principal, state)

        def owner() -> str:
            return self._gate.facts.owner_at(self._resolver.dirfd(parent), name, stat)

        byte_path = self.views.byte_path(engine, caller, view, state, stat, owner, writing=False)
        whose = self.views.whose(engine, caller, view, byte_path, state, owner)
        return self.views.node(stat, view, byte_path, state, parent, name, caller, whose)

    # -- attributes -----------------------------------------------------------------------------

    async def getattr(self, node: Node, caller: Caller) -> pyfuse3.EntryAttributes:
        """Return the reply with a node's attributes. ESTALE if the file has lost its name: the kernel looks
        it up, and asks once more. A second ESTALE would be the app's, so the file of that LOOKUP is kept for
        a moment."""
        above = node.parent
        try:
            stat = await self.look(node, caller)
        except OSError as error:
            if error.errno == errno.ESTALE and node.ftype is FileType.REGULAR:
                self._replaced_files.missed(node, caller.pid)
                if above is not None and node.links is None:
                    self._nodes.vectors.drop(above)  # the next LOOKUP must reach Python, which keeps its file
                else:
                    self._nodes.vectors.drop_beside(node)
            raise
        reply = self.attributes(node, stat)
        self._repeats.seen(node, caller)
        return reply

    async def look(self, node: Node, caller: Caller) -> Stat:
        """Return a node's attributes in the form for the caller. Refuse the caller if the node is hidden."""
        if node.nodeid != ROOT_ID:
            await self._gate.require(caller, Op.SEE, node, Call("stat", "stat"))
        return self.told(self.stat(node), node, node.state, caller)

    def told(self, stat: Stat, node: Node, state: PathState, caller: Caller) -> Stat:
        """Return attributes in the form for the caller: a directory's without counts if names in it may be
        hidden, and owner, group and mode by ShownModes."""
        shown = self._modes.shown(shown_times(node, stat), node, caller)
        if stat.ftype is not FileType.DIRECTORY or self._gate.shows_all_in(caller.principal, state):
            return shown
        return _uncounted(shown)

    def stat(self, node: Node) -> Stat:
        """Return a node's attributes in the store, or raise OSError (ESTALE)."""
        if node.nodeid == ROOT_ID:
            return self._tree.fstat(self._tree.root_fd)
        if node.parent is None and node.open is not None and node.open.fd >= 0:
            return self._tree.fstat(node.open.fd)
        if node.parent is None and node.ftype is FileType.DIRECTORY:
            return self._tree.fstat(self._resolver.dirfd(node))
        try:
            return self._resolver.locate(node)[2]
        except OSError as error:
            if error.errno != errno.ESTALE:
                raise
            if node.ftype is FileType.DIRECTORY and (fd := self._resolver.removed_fd(node)) >= 0:
                return self._tree.fstat(fd)
            self._nodes.vectors.drop(node)  # from here on the handle table has all handles of the node
            if node.open is None or node.open.stat is None:
                if (fd := self._replaced_files.find(node)) >= 0:
                    return self._tree.fstat(fd)
                raise
        fd = next((h.fd for h in self._handles.of_node(node) if h.fd >= 0), -1)
        if fd >= 0 and node.byte_path is not BytePath.COPY:
            return self._tree.fstat(fd)
        return node.open.stat._replace(nlink=0)  # removed in the store: the attributes of the last open

    def attributes(self, node: Node, stat: Stat) -> pyfuse3.EntryAttributes:
        """Return the reply to GETATTR and SETATTR."""
        if node.nodeid == ROOT_ID and self._timeouts.posix:
            stat = _entered(stat)
        self._nodes.vectors.check_copy(node, stat)
        timeout = self._timeouts.attr(node.state, node, stat)
        node.tell(shown_version(node, stat))
        return fill(stat, node.nodeid, 0.0, timeout, shown_size(node, stat))

    async def readlink(self, node: Node, caller: Caller) -> bytes:
        """Return the target of a symlink as data, without following it."""
        await self._gate.require(caller, Op.SEE, node, Call("readlink", "readlink"))
        fd = self._resolver.open_checked(node)
        try:
            return self._tree.readlink_fd(fd)
        finally:
            os.close(fd)

    async def access(self, node: Node, mode: int, caller: Caller) -> bool:
        """Return the answer to access(2) and chdir(2). mode: bits R_OK, W_OK, X_OK."""
        ops = Op.SEE
        if node.ftype is not FileType.DIRECTORY:
            ops |= Op.READ if mode & (os.R_OK | os.X_OK) else Op(0)
            ops |= Op.WRITE if mode & os.W_OK else Op(0)
        await self._gate.require(caller, ops, node, Call("access", "access"))
        if node.ftype is FileType.DIRECTORY and node.parent is not None:
            self._resolver.learn(node, node.parent, node.name)  # chdir(2): the process is in it from now on
        if mode & os.X_OK and node.ftype is FileType.REGULAR:
            return bool(self.stat(node).mode & 0o111)  # as natively, also for root
        self._repeats.passed(node, mode, ops, caller)
        return True


def _uncounted(stat: Stat) -> Stat:
    """Return a directory's attributes without link count and size, which tell of the names in it."""
    return stat._replace(nlink=min(stat.nlink, 1), size=_DIRECTORY_SIZE, blocks=_DIRECTORY_SIZE // 512)


def _entered(stat: Stat) -> Stat:
    """Return the attributes of a store's top directory as the kernel needs them with --posix: who closes the
    store to all but root shuts apps out of the store, not out of the mount."""
    is_closed = stat.uid == 0 and not stat.mode & _OTHERS
    return stat._replace(mode=stat.mode | _ENTER) if is_closed else stat
