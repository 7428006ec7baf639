"""The restoration of a dead daemon's nodes, handles and absent names by the daemon that takes over."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Callable, Mapping
from contextlib import suppress
from functools import partial
from typing import NamedTuple

from policyfs.domain import FileType, Lane, View
from policyfs.fs.checked.restored_held import RestoredHeld
from policyfs.fs.context import FsContext
from policyfs.fs.data.locks import Locks
from policyfs.fs.inodes.caller import Caller
from policyfs.fs.inodes.handles import Handle, open_state
from policyfs.fs.inodes.node import BytePath, Node
from policyfs.fs.inodes.open_state import Mode
from policyfs.fs.inodes.pending_writes import Head
from policyfs.fs.inodes.saved_nodes import SavedNode, sum_of_view
from policyfs.fs.inodes.saved_state import SavedState
from policyfs.fs.kernel_cache.name_expiry import AbsentNames
from policyfs.fs.namespace.open_directories import OpenDirectories
from policyfs.fs.namespace.recovery import Recovery
from policyfs.fs.opening.lifecycle import Lifecycle
from policyfs.fs.opening.passthrough import Passthrough
from policyfs.fs.redacted.restored_copies import RestoredCopies
from policyfs.fs.saved.intents import ChangeKind, Intent, Side
from policyfs.fs.saved.saved_handle import SavedHandle
from policyfs.kernel import vectors
from policyfs.policy.collector import paused
from policyfs.policy.decide import PathState


class RestoredBytes(NamedTuple):
    """The parts of a mount that give open files their frozen copies and held bytes back."""

    copies: RestoredCopies
    held: RestoredHeld


class Restoration:
    """The part of a mount that saves its state for the next daemon, and restores that of the daemon before.

    INVARIANT: a restored node gives no right: each request on it is decided anew, and the resolver compares
    the inode behind its name. A handle without a restored node is dropped: its requests get EIO."""

    def __init__(
        self, fs: FsContext, lifecycle: Lifecycle, passthrough: Passthrough, directories: OpenDirectories,
        absent_names: AbsentNames, locks: Locks, recovery: Recovery, restored: RestoredBytes,
    ) -> None:  # fmt: skip
        self._fs = fs
        self._lifecycle = lifecycle
        self._passthrough = passthrough
        self._directories = directories
        self._absent_names = absent_names
        self._locks = locks
        self._recovery = recovery
        self._copies, self._held = restored
        self._begun: dict[int, SavedHandle] = {}
        self.refused: set[int] = set()
        """The numbers of requests that have probably killed daemons (SavedState.suspects)."""

    def save_to(self, state: SavedState) -> None:
        """Save each change from now on. Nodes and handles that are there already are not saved."""
        state.nodes.uid_of = self._uid_of
        self._fs.nodes.saved = self._fs.handles.saved = state
        self._directories.saved = self._absent_names.saved = state
        self._passthrough.save_to(state)
        self._copies.save_to(state.copies)
        self._locks.save_to(state.locks)
        self._fs.intents.save_to(state)
        state.held.generation = lambda: self._fs.gate.generation

    def restore(self, state: SavedState) -> int:
        """Restore a state, before any request is answered, and save each change from then on. Return how many
        files and directories are open."""
        self._fs.handles.follows = self._directories.follows = True
        state.nodes.uid_of = self._uid_of
        with paused():
            found, nodes = state.nodes.read(), self._fs.nodes
            own = list(state.nodes.own(state.own, state.registered))
            found.early |= {one.nodeid: one for one in own}
            nodes.restore(found, state.last_id, self._seen)
        begun = self._fs.intents.read(state)
        self._fs.intents.keep(state, state.nodes.begun)  # INVARIANT: before the bridge's records of them go
        for one in own:
            if (node := nodes.find(one.nodeid)) is not None:
                state.nodes.put(node)  # before the bridge forgets them (vectors.start)
        shared = self._fs.gate.app is None  # else the bridge answers no LOOKUP
        for nodeid, lookups in vectors.read_counts(state.counts) if shared else ():
            # Saved before the bridge forgets them, too.
            if nodeid in found.parents:
                state.nodes.count(nodeid, lookups)
            elif nodeid in found.early and (node := nodes.find(nodeid)) is not None:
                node.lookups += lookups
                state.nodes.put(node)
        self._fs.handles.number_from(state.last_index)
        ids = {nodeid: one.backing_id for nodeid, one in found.early.items() if one.backing_id}
        backed = {nodeid: backing_id for nodeid, backing_id in ids.items() if nodes.find(nodeid)}
        seen = set[int]()
        kept = self._copies.restore(state.copies, seen)
        for backing_id in kept:
            self._passthrough.adopt(backing_id)
        handles = self._restore_handles(state, backed, seen)
        self._copies.release()
        for nodeid, backing_id in backed.items():
            if (node := nodes.find(nodeid)) is None:
                continue
            if node.byte_path is BytePath.COPY and node.open is None:
                state.nodes.unbacked(nodeid)  # the copy has the id, or none
                continue
            self._passthrough.restore(node, backing_id)
            kept.add(backing_id)
        self._passthrough.release_all_but(state.backing_ids(), kept)
        for parent, name in state.absent_names():
            self._absent_names.add(parent, name)
        self._locks.restore(state.locks, is_same=self._is_of)
        for nodeid in nodes.lost:
            state.nodes.gone(nodeid)
        self.save_to(state)  # now, as names are given below
        self._held.restore(state.held, state.policies)
        self._recovery.settle(self._fs.intents, [*begun, *state.nodes.begun])
        for suspect in state.suspects[1]:
            self.comes_again(suspect.unique)()  # it gets EIO, so its app has no handle
            self.refused.add(suspect.unique)
        found.early.clear()
        return handles

    def _uid_of(self, lane: Lane) -> int | None:
        gate, uid = self._fs.gate, lane[1] if isinstance(lane, tuple) else lane
        if isinstance(uid, str):
            apps = {app.name: app.uids for app in gate.engine.policy.apps}
            uids = apps.get(uid)
            uid = 0 if gate.app is not None else uids[0][0] if uids else None
        return uid if uid is not None and gate.principal(uid).lane == lane else None

    def _seen(self, saved: SavedNode, state: PathState) -> tuple[View, Lane] | None:
        """Return the view and the lane of a node under the policy in force; None if the view is another."""
        gate, uids = self._fs.gate, [saved.uid]
        if saved.uid is None:  # lanes share the node: any of them has the view
            apps = [] if gate.app is not None else [app.uids for app in gate.engine.policy.apps]
            uids = [0, *(ranges[0][0] for ranges in apps if ranges)]
        for uid in uids:
            if uid is not None:
                who = gate.principal(uid)
                view = gate.engine.view(who, state)
                if sum_of_view(view) == saved.view:
                    return view, None if saved.uid is None else who.lane
        return None

    def _restore_handles(self, state: SavedState, backed: Mapping[int, int], seen: set[int]) -> int:
        """Restore open files and directories. Return their number. backed: the backing ids of nodes. seen:
        the descriptors that are taken over already."""
        count = 0
        for handle in sorted(state.handles(), key=lambda one: one.is_unnamed):
            node = self._fs.nodes.find(handle.nodeid)
            is_right = node is not None and handle.fd not in seen and self._is_right(handle, node, backed)
            if node is not None and is_right and self._reopen(handle, node, backed):
                count += not handle.is_unnamed
            else:
                state.drop(handle)
                if handle.fd not in seen:
                    _close(handle.fd)
            seen |= {handle.fd} - {-1}
        return count + self._restore_opens(state, backed, seen)

    def _restore_opens(self, state: SavedState, backed: Mapping[int, int], seen: set[int]) -> int:
        """Restore the handles that the bridge had given out by itself, as handles of Python. Return their
        number. INVARIANT: each is saved as such before the bridge drops it (vectors.start)."""
        count, known = 0, {(handle.is_directory, handle.fh) for handle in state.handles()}
        for one in vectors.read_opens(state.opens):
            if (node := self._fs.nodes.find(one.nodeid)) is None:
                if one.file not in seen:
                    _close(one.file)
                continue
            is_directory, made = node.ftype is FileType.DIRECTORY, bool(one.flags & os.O_CREAT)
            fh = vectors.number_of(one.fh) if is_directory else one.fh
            if (is_directory, fh) in known:  # Python had taken it over, so its request was answered
                continue
            handle = SavedHandle(
                one.unique, fh, one.nodeid, one.flags, one.uid, one.gid, one.pid,
                -1 if one.file in seen else one.file, is_directory, kept=is_directory, by_kind=False,
                is_unnamed=False, passed=not is_directory, created=made,
            )  # fmt: skip
            if made and node.parent is not None:
                side = Side(node.parent.nodeid, node.name, node.ino, node.btime_ns)
                state.nodes.begun.append(made_it := Intent(one.unique, ChangeKind.NAME, side))
                self._fs.intents.keep(state, [made_it])  # INVARIANT: before the handle counts as Python's
            if self._is_right(handle, node, backed):
                state.keep(handle)
                self._reopen(handle, node, backed)
                count += 1
            else:
                _close(handle.fd)
        return count

    def _is_right(self, saved: SavedHandle, node: Node, backed: Mapping[int, int]) -> bool:
        """Return True if a saved handle can be one of the node: a descriptor is of this inode, and gives what
        the app may do with the handle, no more and no less."""
        if saved.is_directory or node.ftype is not FileType.REGULAR:
            return saved.is_directory and node.ftype is FileType.DIRECTORY
        reads = saved.flags & os.O_ACCMODE == os.O_RDONLY
        if saved.is_unnamed:
            if node.open is None or node.open.fd >= 0:
                return False  # with a name, it was about to lose it, and perhaps has
        elif saved.passed == node.mediated or (saved.passed and node.nodeid not in backed):
            return False
        elif node.byte_path is BytePath.COPY:
            made = self._copies.of(node, saved.fd, backed.get(node.nodeid, 0))
            shown = None if node.open is None else node.open.copy
            return reads and made is not None and shown in {None, made.copy}
        elif saved.fd < 0:
            return saved.passed and reads
        try:
            mode = fcntl.fcntl(saved.fd, fcntl.F_GETFL) & (os.O_ACCMODE | os.O_PATH)
            wanted = os.O_RDONLY if reads else os.O_RDWR
            return mode == wanted and self._fs.nodes.is_same(node, self._fs.tree.fstat(saved.fd))
        except OSError:
            return False

    def _is_of(self, fd: int, inode: tuple[int, int]) -> bool:
        try:
            stat = self._fs.tree.fstat(fd)
        except OSError:
            return False
        return (self._fs.nodes.key_of(stat), stat.btime_ns) == inode

    def _reopen(self, saved: SavedHandle, node: Node, backed: Mapping[int, int]) -> bool:
        """Take a handle over. Return False if all apps with the file open have used up their descriptors."""
        caller = Caller(self._fs.gate.principal, saved.uid, saved.gid, saved.pid, 0, program="")
        if saved.is_unnamed:
            if node.open is None or (give_back := self._fs.handles.charge(node)) is None:
                return False
            node.open.fd, node.open.fd_closed = saved.fd, give_back
            return True
        caller.unique = saved.unique
        self._begun[saved.unique] = saved
        if saved.is_directory:
            self._directories.restore(saved, node, caller)
            return True
        writes = saved.flags & os.O_ACCMODE != os.O_RDONLY
        state = self._lifecycle.enter(node, writing=writes)
        if writes:
            state.writer_uids |= {saved.uid}
        handle = Handle(
            vectors.number_of(saved.fh), node, caller, saved.flags, saved.fd, saved.fh,
            Mode.PASSTHROUGH if saved.passed else Mode.MEDIATED,
            by_kind=saved.by_kind, generation=self._fs.gate.generation, created=saved.created,
            changed=saved.changed,
        )  # fmt: skip
        if writes:
            self._fs.kept.inherits(handle)
        made = self._copies.of(node, saved.fd, backed.get(node.nodeid, 0))
        if node.byte_path is BytePath.COPY and made is not None:
            self._copies.show(handle, state, made, saved.owner)
        elif saved.fd >= 0:
            state.stat = stat = self._fs.tree.fstat(saved.fd)
            if writes and node.view.checked and state.head is None:
                # As at an open: held bytes, if there are any, come later (RestoredHeld).
                state.head = Head(stat.size, created=saved.created and not stat.size)
        self._fs.handles.add(handle)
        return True

    def comes_again(self, unique: int) -> Callable[[], None]:
        """Drop the handle that the daemon before has made for a request, if this request comes again: the
        kernel did not get that handle. unique: the number of an OPEN or OPENDIR. Return a function to call
        after the request: a handle that has inherited held bytes stays until then."""
        if not self._begun or (saved := self._begun.pop(unique, None)) is None:
            return _nothing
        if saved.is_directory:
            self._directories.remove(self._directories.find(saved.fh))
        elif not self._fs.handles.is_lost(saved.fh):
            handle = self._fs.handles.get(saved.fh)
            state = open_state(handle)
            leave = partial(self._lifecycle.leave, handle, state)
            if handle.writable and state.writers == 1 and state.unsaved:
                if not saved.flags & os.O_TRUNC:
                    return leave
                state.drop_held()  # its O_TRUNC comes again
                self._fs.note_held(handle, state)
            leave()
        return _nothing


def _close(fd: int) -> None:
    """Close what the keeper's sweep has left open for a handle; -1: nothing."""
    with suppress(OSError):
        os.close(fd)


def _nothing() -> None:
    """Do nothing."""
