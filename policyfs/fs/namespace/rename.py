"""Removing, linking and renaming: what changes the names of things that are there."""

from __future__ import annotations

import contextlib
import errno
import os
import time
from collections.abc import Callable
from typing import Final, NoReturn

from policyfs.domain import NO_FACTS, Audit, Decision, Facts, FileType, Need, Op, Principal
from policyfs.fs.access.audit import Call
from policyfs.fs.access.gate import Gate
from policyfs.fs.access.kind_proof import KindEvidence
from policyfs.fs.access.ledger import recorded_first
from policyfs.fs.access.strictest import stricter
from policyfs.fs.access.views import version_of
from policyfs.fs.checked.change_lock import ChangeLock
from policyfs.fs.checked.move_proof import ELSEWHERE, Source, decide_link, decide_rename
from policyfs.fs.checked.moved_file import MovedFiles, Named, Unsettled
from policyfs.fs.checked.withheld_names import WithheldNames
from policyfs.fs.data.read_write import FileIO
from policyfs.fs.inodes.handles import Caller, Handle
from policyfs.fs.inodes.hard_links import check_room
from policyfs.fs.inodes.node_table import Node, NodeTable, StaleNodeError
from policyfs.fs.inodes.resolver import Resolver
from policyfs.fs.kernel_cache.attributes import Timeouts
from policyfs.fs.namespace.lookup import Lookup, child_path
from policyfs.fs.namespace.tmpfile import Tmpfiles
from policyfs.fs.opening.opener import Opener
from policyfs.fs.opening.passthrough import Passthrough
from policyfs.kernel.bridge import pyfuse3
from policyfs.linux.statx import Stat
from policyfs.policy.decide import End, PathState
from policyfs.store.frozen import Version
from policyfs.store.tree import Tree

_EXCHANGE: Final = int(pyfuse3.RENAME_EXCHANGE)
_NOREPLACE: Final = int(pyfuse3.RENAME_NOREPLACE)
_TRIES: Final = 10
"""How often a rename is decided anew because more was written meanwhile."""


class _HiddenError(OSError):
    """One end of a request is hidden from the caller, by this decision. key: of its inode."""

    def __init__(self, decision: Decision, key: int) -> None:
        super().__init__(decision.errno, "hidden from the caller")
        self.decision = decision
        self.key = key


class _HeldError(Exception):
    """What is about to take another's name is not in the store yet: this handle's writer has it held."""

    def __init__(self, handle: Handle) -> None:
        super().__init__("held")
        self.handle = handle


class EntryChanger:
    """Changes names in the store as the policy allows, and keeps the nodes' names true."""

    def __init__(
        self,
        *,
        tree: Tree,
        nodes: NodeTable,
        resolver: Resolver,
        gate: Gate,
        lookup: Lookup,
        opener: Opener,
        io: FileIO,
        passthrough: Passthrough,
        moved_files: MovedFiles,
        tmpfiles: Tmpfiles,
        timeouts: Timeouts,
        change_lock: ChangeLock,
        withheld_names: WithheldNames,
        forget_all_names: Callable[[], None],
    ) -> None:
        """forget_all_names: makes the kernel ask for every name again, before anything more is answered."""
        self._tree = tree
        self._nodes = nodes
        self._resolver = resolver
        self._gate = gate
        self._lookup = lookup
        self._opener = opener
        self._io = io
        self._passthrough = passthrough
        self._moved_files = moved_files
        self._tmpfiles = tmpfiles
        self._timeouts = timeouts
        self._change_lock = change_lock
        self._withheld_names = withheld_names
        self._forget_all_names = forget_all_names

    # -- removing ---------------------------------------------------------------------------------

    @recorded_first
    async def remove(self, parent: Node, name: bytes, caller: Caller, *, directory: bool) -> None:
        """unlink and rmdir."""
        with KindEvidence() as evidence:
            await self._remove(parent, name, caller, evidence, directory=directory)

    async def _remove(
        self, parent: Node, name: bytes, caller: Caller, evidence: KindEvidence, *, directory: bool
    ) -> None:
        call = Call("rmdir", "rmdir") if directory else Call("unlink", "unlink")
        end, stat, _ = await self._end(parent, name, caller, evidence)
        ops = Op.SEE | Op.DELETE
        decision = self._gate.decide(caller.principal, ops, end.state, end.ftype, end.facts, parent)
        path = child_path(parent, name)
        key = self._nodes.key_of(stat)
        if not decision.allowed:
            error = self._errno(decision, self._nodes.named(key, parent, name))
            self._gate.refuse(caller, call, path, decision, error=error)
        self._gate.recorder.decided(caller, call, path, decision, before=_version_of(stat))
        self._resolver.still(parent, name, stat)
        dirfd = self._resolver.dirfd(parent)
        self._keep_open(key, parent, name, replaced=False)
        if directory:
            self._tree.rmdir(dirfd, name)
        else:
            with self._opener.bytes_stay(key):
                self._tree.unlink(dirfd, name)
        self._drop(key, parent, name)

    @staticmethod
    def _errno(decision: Decision, nodes: list[Node]) -> int:
        """What a refused rmdir or rename says, of the nodes that it names.

        After ENOENT the kernel drops the directory, also for those who are in it (fs/fuse/dir.c,
        fuse_rmdir, fuse_rename_common): one that others may be in says EACCES instead.
        """
        held = any(node.lookups and node.ftype is FileType.DIRECTORY for node in nodes)
        return errno.EACCES if held and decision.errno == errno.ENOENT else decision.errno

    def _open_to_read(self, dirfd: int, name: bytes) -> int:
        return self._tree.open_file(dirfd, name, os.O_RDONLY)

    def _keep_open(self, ino_key: int, parent: Node, name: bytes, *, replaced: bool) -> None:
        """A name is going away: open files that only it leads to, and a directory that somebody may
        be in, stay within reach (fstat and the like); for a moment also a file that is replaced.
        """
        for node in self._nodes.named(ino_key, parent, name):
            if node.ftype is FileType.DIRECTORY:
                fd = self._resolver.open_if_same(node, parent, name, self._tree.open_dir)
                if fd is not None:
                    self._resolver.keep_removed(node, fd)
                continue
            if node.ftype is not FileType.REGULAR or node.links:  # another name that is known
                continue
            if node.open is not None and node.open.fd >= 0:
                continue
            if node.open is None and not (replaced and node.lookups):
                continue
            fd = self._resolver.open_if_same(node, parent, name, self._open_to_read)
            if fd is not None:
                (self._opener if node.open is not None else self._opener.replaced_files).keep(node, fd)

    def _drop(self, ino_key: int, parent: Node, name: bytes) -> None:
        for node in self._nodes.named(ino_key, parent, name):
            self._passthrough.drop(node)
            self._nodes.drop_name(node, parent, name)
            self._resolver.drop(node.nodeid)

    # -- both ends --------------------------------------------------------------------------------

    async def _end(
        self, parent: Node, name: bytes, caller: Caller, evidence: KindEvidence,
        moves_to: PathState | None = None,
    ) -> tuple[End, Stat, int]:  # fmt: skip
        """One end of a request with everything the policy may ask of it. ENOENT if it is not there.

        evidence: keeps what proves its kind. moves_to: where what is there would go, which may hang on
        more facts than it does here.
        """
        check_room(parent, name)
        state = self._gate.engine.child(parent.state, name)
        dirfd = self._resolver.dirfd(parent)
        stat = self._tree.stat(dirfd, name)
        if self._withheld_names.has(stat) or not self._gate.shows(
            caller.principal, state, stat.ftype, parent
        ):
            raise OSError(errno.ENOENT, "not shown", name)
        need = self._gate.needed(caller.principal, state, stat.ftype)
        if moves_to is not None:
            need |= self._gate.engine.needs_move(caller.principal, state, moves_to, stat.ftype)
        generation = self._gate.generation
        evidence.expected = stat
        lane = caller.principal.lane
        facts = await self._gate.facts.find(need, dirfd, name, stat, lane, evidence=evidence)
        self._gate.unchanged(generation)
        if self._gate.engine.owner_matters_above(state):
            seen = self._gate.decide(caller.principal, Op.SEE, state, stat.ftype, facts, parent)
            if not seen.allowed:
                raise _HiddenError(seen, self._nodes.key_of(stat))
        return End(state, stat.ftype, facts), stat, self._nodes.key_of(stat)

    async def _target(
        self, call: Call, path: bytes, parent: Node, name: bytes, caller: Caller, evidence: KindEvidence,
        moves_to: PathState | None,
    ) -> tuple[End, Stat, int] | None:  # fmt: skip
        """What has the new name of a rename already. What the caller may not see he may not replace.

        moves_to: where it would go, in an exchange; then something must be there.
        """
        try:
            await self._withheld_names.free(self._tree.stat(self._resolver.dirfd(parent), name))
            return await self._end(parent, name, caller, evidence, moves_to)
        except FileNotFoundError:
            if moves_to is not None:
                raise
            return None
        except _HiddenError as hidden:
            error = self._errno(hidden.decision, self._nodes.named(hidden.key, parent, name))
            self._refuse_move(caller, call, path, child_path(parent, name), hidden.decision, error)

    @recorded_first
    async def link(self, node: Node, parent: Node, name: bytes, caller: Caller) -> pyfuse3.EntryAttributes:
        """One more name for a file; decided for every name that it is known by."""
        call = Call("link", "link")
        check_room(parent, name)
        if node.ftype is FileType.DIRECTORY:
            raise OSError(errno.EPERM, "a directory has one name")
        if node.parent is None and node.open is not None and node.open.fd >= 0:
            return await self._tmpfiles.link(node, parent, name, caller)
        with KindEvidence() as evidence:
            return await self._link(node, parent, name, caller, call, evidence)

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
            generation = self._gate.generation
            facts = await self._gate.facts_of(node, need, who, evidence=evidence)
            await stack.enter_async_context(self._change_lock.on(fd))
            self._gate.unchanged(generation)
            self._resolver.locate(node)  # by a name that it still has: another daemon may have moved it
            if not self._nodes.is_same(node, self._tree.fstat(fd)):
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
                self._refuse_move(caller, call, path, new_path, decision)
            self._gate.recorder.decided(caller, call, path, decision, new_path=new_path)
            with self._opener.bytes_stay(node.ino, answered=False):
                self._tree.link(fd, self._resolver.dirfd(parent), name)
            stat = self._tree.fstat(fd)
        return self._lookup.entry(parent, name, new_state, stat, caller)

    async def rename(
        self, old_parent: Node, old: bytes, new_parent: Node, new: bytes, flags: int, caller: Caller
    ) -> None:
        """rename(2), with NOREPLACE or EXCHANGE.

        A file that takes another's name is judged first, if its writer has something held (heads, drafts)
        and is still to close it: refused after that, it would be gone together with what it replaced.
        """
        if flags & ~(_EXCHANGE | _NOREPLACE):
            raise OSError(errno.EINVAL, "unknown rename flags")
        for _ in range(_TRIES):
            try:
                return await self._rename(old_parent, old, new_parent, new, flags, caller)
            except _HeldError as held:
                await self._io.settle(held.handle)
        raise OSError(errno.EBUSY, "somebody writes it faster than it can be judged")

    @recorded_first
    async def _rename(
        self, old_parent: Node, old: bytes, new_parent: Node, new: bytes, flags: int, caller: Caller
    ) -> None:
        exchange, call = bool(flags & _EXCHANGE), Call("rename", _RENAMES.get(flags, "rename"))
        path, new_path = child_path(old_parent, old), child_path(new_parent, new)
        generation = self._gate.generation
        new_state = self._gate.engine.child(new_parent.state, new)
        async with contextlib.AsyncExitStack() as stack:
            moved, target = (stack.enter_context(KindEvidence()) for _ in range(2))
            old_end, old_stat, old_key = await self._end(old_parent, old, caller, moved, new_state)
            there = await self._target(
                call, path, new_parent, new, caller, target, old_end.state if exchange else None
            )
            replaced, new_stat, new_key = there or (None, None, 0)
            moving, sure = await self._settled(stack, caller, old_parent, old, old_stat, old_end, new_state)
            leaving, sure_there = replaced, None
            if exchange and replaced is not None and new_stat is not None:
                leaving, sure_there = await self._settled(
                    stack, caller, new_parent, new, new_stat, replaced, old_end.state
                )
            await self._keep_apart(stack, sure, sure_there)
            self._gate.unchanged(generation)
            decision = decide_rename(
                self._gate.engine, caller.principal, Source(moving, moved, moving is not old_end),
                new_state, None if leaving is None else Source(leaving, target, leaving is not replaced),
                exchange=exchange, same_directory=old_parent is new_parent,
            )  # fmt: skip
            decision = self._gate.hidden(caller.principal, new_state, new_parent) or decision
            if decision.allowed and new_key != old_key and not (_holds(sure) and _holds(sure_there)):
                decision = ELSEWHERE
            back = (old_end.state, replaced.ftype, old_parent) if exchange and replaced else None
            for place in filter(None, ((new_state, old_end.ftype, new_parent), back)):
                decision = self._shown(caller.principal, decision, *place)
            if not decision.allowed:
                named = self._nodes.named
                error = self._errno(
                    decision, named(old_key, old_parent, old) + named(new_key, new_parent, new)
                )
                self._refuse_move(caller, call, path, new_path, decision, error, (sure, sure_there))
            gone = None
            if new_stat is not None and not exchange and new_key != old_key:  # two names of one file stay
                gone = _version_of(new_stat)
                if (holding := self._io.holding(old_key)) is not None:
                    raise _HeldError(holding)
            self._gate.recorder.decided(caller, call, path, decision, new_path=new_path, before=gone)
            self._resolver.still(old_parent, old, old_stat)
            self._resolver.still(new_parent, new, new_stat)
            if replaced is not None and not exchange:
                self._keep_open(new_key, new_parent, new, replaced=True)
            ends = (self._resolver.dirfd(old_parent), old, self._resolver.dirfd(new_parent), new)
            with self._opener.bytes_stay(old_key), self._opener.bytes_stay(new_key):
                if exchange or sure is None:
                    self._tree.rename2(*ends, flags)
                else:
                    self._rename_exactly(*ends, old_stat, new_stat, flags)
        self._forget_times(caller.principal, old_end.state, new_state, old_end.ftype)
        here = self._nodes.named(old_key, old_parent, old)
        if exchange and replaced is not None:
            self._forget_times(caller.principal, new_state, old_end.state, replaced.ftype)
            self._move(self._nodes.named(new_key, new_parent, new), new_parent, new, old_parent, old)
        elif new_key == old_key:
            return  # two names of one file: rename does nothing, both stay
        elif replaced is not None:
            self._drop(new_key, new_parent, new)
        self._move(here, old_parent, old, new_parent, new)

    def _shown(
        self, who: Principal, decision: Decision, state: PathState, ftype: FileType, parent: Node
    ) -> Decision:
        """The decision, or EXDEV if what moves there would not be shown to the caller."""
        shown = self._gate.shows(who, state, ftype, parent)
        return decision if shown else stricter(decision, ELSEWHERE)

    def _rename_exactly(
        self, old_dir: int, old: bytes, new_dir: int, new: bytes, moved: Stat, replaced: Stat | None,
        flags: int,
    ) -> None:  # fmt: skip
        """Move the very file that was looked at, or nothing (ESTALE: the kernel asks again).

        renameat2 goes by name, and between our last look and it somebody may swap the file through
        another mount or in the store. So nothing is replaced before it is known what was moved.
        """
        if replaced is not None and replaced.same_inode(moved) and not flags:
            return  # two names of one file: rename(2) does nothing, both stay
        swap = 0 if replaced is None or flags & _NOREPLACE else _EXCHANGE
        try:
            self._tree.rename2(old_dir, old, new_dir, new, swap or _NOREPLACE)
        except (FileExistsError, FileNotFoundError):
            raise StaleNodeError from None
        if not self._tree.stat(new_dir, new).same_inode(moved):
            with contextlib.suppress(FileExistsError):  # its old name is taken: it must not stay either
                self._tree.rename2(new_dir, new, old_dir, old, swap or _NOREPLACE)
                raise StaleNodeError
            self._tree.rename2(new_dir, new, old_dir, _aside(moved), _NOREPLACE)
            raise StaleNodeError
        if swap and replaced is not None and self._tree.stat(old_dir, old).same_inode(replaced):
            self._tree.unlink(old_dir, old)

    async def _keep_apart(self, stack: contextlib.AsyncExitStack, *ends: Named | None) -> None:
        """Until *stack* is closed no other daemon names such a file anew, or gives it attributes.

        INVARIANT: no await after this (fs/alone). Two are taken in the order of their numbers.
        """
        for named in sorted(filter(None, ends), key=lambda named: named.ino):
            await stack.enter_async_context(self._change_lock.on(named.fd))

    async def _settled(
        self, stack: contextlib.AsyncExitStack, caller: Caller, parent: Node, name: bytes, stat: Stat,
        end: End, to: PathState,
    ) -> tuple[End, Named | None]:  # fmt: skip
        """One end that is about to move, and what has to hold of it then (None: nothing).

        Where content is required at its new path and was not before, of this app or of another that may
        have it open, it is looked at while nobody can change it, until *stack* is closed; if that cannot
        be had, it never holds. A file that moves between such places either way must have one name.
        """
        engine, who = self._gate.engine, caller.principal
        if end.ftype is not FileType.REGULAR:
            return end, None
        if not engine.asks_more(end.state, to):
            if not engine.asks_more(to, end.state):
                return end, None
            moved = Named(self._tree.open_path(self._resolver.dirfd(parent), name))
            stack.callback(moved.close)
            return end, moved
        there = engine.view(who, to)
        words = there.bans if there.checked else None
        settled = await self._moved_files.settled(parent, name, stat, who.lane, words)
        if settled is None:
            unsettled = Unsettled(self._tree.open_path(self._resolver.dirfd(parent), name))
            stack.callback(unsettled.close)
            return end, unsettled
        stack.callback(settled.close)
        if words is None:
            return end, settled
        return End(end.state, end.ftype, Facts(settled.kind, end.facts.owner, settled.free_of)), settled

    def _refuse_move(
        self,
        caller: Caller,
        call: Call,
        path: bytes,
        new_path: bytes,
        decision: Decision | None,
        error: int = 0,
        looked_at: tuple[Named | None, ...] = (),
    ) -> NoReturn:
        """looked_at: what was found of the ends is told where a content requirement refuses them."""
        if decision is None:
            decision = Decision(allowed=False, errno=errno.EACCES, audit=Audit.REQUIRED)
        note = _WHY_ELSEWHERE if decision.errno == errno.EXDEV else ""
        if decision.errno == errno.EPERM:
            note = "; ".join(end.why for end in looked_at if end is not None and end.why)
        self._gate.refuse(caller, call, path, decision, new_path=new_path, note=note, error=error)

    def _forget_times(self, who: Principal, old: PathState, new: PathState, ftype: FileType) -> None:
        """What moves to where not all see it, or what is in it, must be asked for there at once."""
        if old is new:
            return
        seen = self._gate.engine.decide(who, Op.SEE, new, ftype, NO_FACTS).allowed
        if not seen or ftype is FileType.DIRECTORY or self._timeouts.outlast(old, new):
            self._forget_all_names()

    def _move(self, nodes: list[Node], old_parent: Node, old: bytes, new_parent: Node, new: bytes) -> None:
        """Nodes follow their file; what is below a moved directory finds out when it is asked for."""
        for node in nodes:
            self._nodes.add_name(node, new_parent, new)
            self._nodes.drop_name(node, old_parent, old)
            if node.ftype is FileType.DIRECTORY:
                self._resolver.drop(node.nodeid)


def _aside(moved: Stat) -> bytes:
    """A name for a file that was swapped in and whose own name is taken: nothing is lost."""
    return b"swapped-%d-%d" % (moved.ino, time.time_ns())


def _holds(named: Named | None) -> bool:
    return named is None or named.holds()


_WHY_ELSEWHERE: Final = (
    "an app could do more at the new path, or somebody writes it, or it has another name, or brings extended"
    " attributes to where none may be, or is not clean enough: copy it instead (mv does)"
)
_RENAMES: Final = {_NOREPLACE: "renameat2(RENAME_NOREPLACE)", _EXCHANGE: "renameat2(RENAME_EXCHANGE)"}


def _version_of(stat: Stat) -> Version | None:
    """What is said of a file that goes; of anything else only that it went."""
    return version_of(stat) if stat.ftype is FileType.REGULAR else None
