"""Attributes of nodes in replies to the kernel, and their timeouts."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from typing import Final

from policyfs.domain import FileType, Principal
from policyfs.fs.inodes.node import Node
from policyfs.fs.inodes.open_state import Mode, OpenState
from policyfs.kernel.bridge import pyfuse3
from policyfs.linux.statx import Stat
from policyfs.policy.decide import Engine, PathState
from policyfs.store.frozen import Version

LONG_S: Final = 86_400.0
"""The timeout of kernel cache entries in seconds if a watch reports every change of a name."""
UNWATCHED_S: Final = 1.0
"""The timeout in seconds without a watch: apps may see a change in the store only after this time."""
COLD_S: Final = 60.0
"""The longest timeout of a file's attributes: a watch reports writes at the close, truncations not at all."""
_SPREAD: Final = 0.25
"""The spread of COLD_S as a fraction, so that the attributes of a library do not expire at one moment."""


class Timeouts:
    """The part of a mount that finds the times for which the kernel may keep answers, by policy, callers and
    watch.

    alone: True if only one app uses this mount, and *keeps* is True. any_uid: the app of an app mount that
    admits every uid. guarded: True if the daemon refuses some callers. uids_differ: True if the app's answers
    depend on the uid. keeps: False with either: the kernel may keep nothing. watched: True while a watch
    reports changes. reported: tells if it reports those in a directory. forgets_absent: True if the daemon
    can make the kernel forget absent names (INC_EPOCH). told_apart: True if some app sees attributes by its
    rights (access/shown_modes.py). posix: True with --posix (Gate.free)."""

    def __init__(
        self, *, alone: bool, guarded: bool = False, posix: bool = False, any_uid: str | None = None
    ) -> None:
        self._one_app = alone
        self._any_uid = any_uid
        self.guarded = guarded
        self.uids_differ = False
        self.keeps = not guarded
        self.alone = alone and self.keeps
        self.posix = posix
        self.watched = False
        self.forgets_absent = False
        self.told_apart = False
        self.reported: Callable[[Node], bool] = lambda _: False
        self._engine: Engine | None = None
        self.same_inode: Callable[[int], Iterable[Node]] = lambda _: ()
        """A function that returns all nodes of a backing inode (NodeTable.same_inode)."""

    def use(self, engine: Engine) -> None:
        """Use the engine of another policy to find out whether answers depend on the caller."""
        self._engine = engine
        self.uids_differ = self._any_uid is not None and engine.uids_matter(self._any_uid)
        self.keeps = not (self.guarded or self.uids_differ)
        self.alone = self._one_app and self.keeps

    def entry(self, state: PathState, ftype: FileType | None = None) -> float:
        """Return the seconds for which the kernel may keep a name at this path, found or absent. ftype: the
        object's type, or None if it does not matter. INVARIANT: more than 0 only if every caller gets the
        same answer."""
        if not self.keeps:
            return 0.0
        if not self.alone and (self._engine is None or self._differs(self._engine, state, ftype)):
            return 0.0
        return LONG_S if self.watched else UNWATCHED_S

    def _differs(self, engine: Engine, state: PathState, ftype: FileType | None) -> bool:
        if self.posix:
            return engine.caller_matters(state)
        differ = engine.distinctions
        return differ.node(state) if ftype is FileType.REGULAR else differ.sight(state)

    def entry_of(self, node: Node, state: PathState) -> float:
        """Return the seconds for which the kernel may keep a name of this node, and note that (node.kept). 0
        for a copy or a leased file in a raw view: the next open may find a proof, and need another node."""
        if node.view.raw and node.byte_path.finds_kind:
            return 0.0
        allowed = self.entry(state, node.ftype)
        if allowed:
            node.kept = True
        return allowed

    def outlast(self, old: PathState, new: PathState, ftype: FileType) -> bool:
        """Return True if the kernel, which moves an entry with its timeout (fs/fuse/dir.c,
        fuse_rename_common), would keep it longer than the new path allows."""
        return self.entry(old, ftype) > self.entry(new, ftype)

    def alike_below(self, who: Principal, old: PathState, new: PathState) -> bool:
        """Return True if the kernel's answers about names below a directory are right for every caller at
        both paths, since they move with it. who: the principal that moves it."""
        engine = self._engine
        if engine is None or self.told_apart:
            return False
        return all(
            engine.shows_plainly_below(who, state) and (self.alone or not self._differs_below(engine, state))
            for state in (old, new)
        )

    def _differs_below(self, engine: Engine, state: PathState) -> bool:
        return engine.caller_matters_below(state) if self.posix else engine.distinctions.below(state)

    def missing(self, state: PathState, *, by_kind: bool) -> float:
        """Return the seconds for which the kernel may keep a name as absent, or hidden. Short if the daemon
        cannot make it forget, or if a kind decides here (*by_kind*): a name may be hidden since sniffing
        failed, and absent names must look the same."""
        allowed = self.entry(state)
        return min(allowed, UNWATCHED_S) if by_kind or not self.forgets_absent else allowed

    def attr(self, state: PathState, node: Node, stat: Stat) -> float:
        """Return the seconds for which the kernel may keep a node's attributes: 0 for a file that may be
        written in passthrough (a mapping shows no change), longer the older a file's last change is, short
        for a directory whose file handle in events is not known yet (Invalidation.learn)."""
        if self.is_written(node) and (stat.size or self._is_open_elsewhere(node)):
            return 0.0  # an empty file has no page in a mapping; what makes it longer, the kernel sees
        if node.open is not None and node.byte_path.finds_kind and not self.entry(state):
            # The node's bytes do not change while an app can read them. With a timeout of 0 the kernel would
            # ask for attributes at every read of a page-cached file. Access by path sends a LOOKUP anyway.
            return 0.0 if self.told_apart and not self.alone else UNWATCHED_S
        return self.attributes(
            state, stat, reported=node.ftype is not FileType.DIRECTORY or self.reported(node)
        )

    def is_written(self, node: Node) -> bool:
        """Return True if a program has the node's file open in passthrough, and may write it."""
        if node.ftype is not FileType.REGULAR:
            return False
        opened = (each.open for each in self.same_inode(node.ino))
        return any(each is not None and each.writers and each.mode is Mode.PASSTHROUGH for each in opened)

    def _is_open_elsewhere(self, node: Node) -> bool:
        return any(each is not node and each.open is not None for each in self.same_inode(node.ino))

    def attributes(self, state: PathState, stat: Stat, *, reported: bool) -> float:
        """Return the seconds for attributes of an object not open. reported: the watch reports changes."""
        if self.told_apart and not self.alone:
            return 0.0
        allowed, ftype = self.entry(state), stat.ftype
        if not reported:
            return min(allowed, UNWATCHED_S)
        if ftype is not FileType.REGULAR or allowed <= UNWATCHED_S:
            return allowed
        if stat.nlink > 1:
            return UNWATCHED_S  # another name may be in a directory that the watch does not know
        age = time.time() - max(stat.mtime_ns, stat.ctime_ns) / 1e9
        return min(cold(stat.ino), max(UNWATCHED_S, age))

    def listing(self, state: PathState) -> bool:
        """Return True if the kernel may keep a directory's listing for every caller."""
        engine = self._engine
        return self.alone or (self.keeps and engine is not None and not self._differs_below(engine, state))


def cold(ino: int) -> float:
    """Return the limit in seconds for which the kernel may keep the attributes of a regular file."""
    return COLD_S - _SPREAD * COLD_S * _fraction(ino)


def _fraction(ino: int) -> float:
    """Return a number from 0 to 1 for an inode. Neighbouring inodes are far apart (Fibonacci hashing)."""
    return (ino * 0x9E3779B97F4A7C15 >> 32 & 0xFFFF) / 0x10000


def fill(
    stat: Stat, nodeid: int, entry_s: float, attr_s: float, size: int | None = None
) -> pyfuse3.EntryAttributes:
    """Return the reply with a node's attributes. pyfuse3 lacks fields: st_ino carries the node number,
    st_rdev the store's inode number, st_blocks a device number (kernel/bridge moves them)."""
    entry = pyfuse3.EntryAttributes()
    entry.st_ino = pyfuse3.InodeT(nodeid)
    entry.st_rdev = stat.ino
    entry.generation = 0
    entry.entry_timeout = entry_s
    entry.attr_timeout = attr_s
    entry.st_mode = pyfuse3.ModeT(stat.mode)
    entry.st_nlink = stat.nlink
    entry.st_uid = stat.uid
    entry.st_gid = stat.gid
    entry.st_size = stat.size if size is None else size
    entry.st_blksize = stat.blksize
    entry.st_blocks = stat.blocks or stat.rdev
    entry.st_atime_ns = stat.atime_ns
    entry.st_mtime_ns = stat.mtime_ns
    entry.st_ctime_ns = stat.ctime_ns
    return entry


def shown_size(node: Node, stat: Stat) -> int:
    """Return a file's size as readers of this node see it, with held bytes: a copy's size, but the new one
    after a truncation through this node."""
    state = node.open
    if state is None:
        return stat.size
    if (version := _held(state)) is not None:
        return version.size
    if state.draft is not None and state.draft.changed:
        return state.draft.size
    return stat.size if state.head is None else state.head.size(stat.size)


def shown_times(node: Node, stat: Stat) -> Stat:
    """Return a file's attributes with the modification time that the file will get from its draft."""
    draft = None if node.open is None else node.open.draft
    if draft is None or not draft.changed or draft.times_ns is None:
        return stat
    return stat._replace(mtime_ns=draft.times_ns[1])


def shown_version(node: Node, stat: Stat) -> Version:
    """Return the version of the file that readers of this node see."""
    held = None if node.open is None else _held(node.open)
    return Version(stat.size, stat.mtime_ns, stat.ctime_ns) if held is None else held


def _held(state: OpenState) -> Version | None:
    """Return the version that a node's copy or lease shows; None if it shows the file, or is being made."""
    shown = state.copy is not None or state.lease is not None
    return state.version if shown and not state.cut else None


def absent(entry_s: float) -> pyfuse3.EntryAttributes:
    """Return a negative entry: the kernel may keep the name as absent for *entry_s* seconds."""
    entry = pyfuse3.EntryAttributes()
    entry.st_ino = pyfuse3.InodeT(0)
    entry.entry_timeout = entry_s
    entry.attr_timeout = 0.0
    return entry


def name_only(ino: int, mode: int) -> pyfuse3.EntryAttributes:
    """Return a directory entry without a node: name, inode number, and the type in the mode."""
    entry = pyfuse3.EntryAttributes()
    entry.st_ino = pyfuse3.InodeT(0)
    entry.st_rdev = ino
    entry.st_mode = pyfuse3.ModeT(mode)
    entry.entry_timeout = 0
    entry.attr_timeout = 0
    return entry
