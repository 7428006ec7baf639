"""This module chooses decisions for access vectors: the bridge repeats their answers without Python.

A decision is chosen only if it depends on the caller's uid and the node's only name alone: no fact (but the
kind of a frozen copy), no owner of a directory above, no writer. Never one that must be on record before its
answer. See docs/architecture/vectors.md."""

from __future__ import annotations

import contextlib
import os
import stat as stat_bits
from collections.abc import Callable
from typing import Final, NamedTuple

from policyfs.domain import NO_FACTS, Audit, Decision, Facts, FileType, Need, Op
from policyfs.fs.access.views import Views
from policyfs.fs.context import FsContext, FsPart
from policyfs.fs.inodes.caller import Caller
from policyfs.fs.inodes.handles import FMODE_EXEC
from policyfs.fs.inodes.node import ROOT_ID, BytePath, Node
from policyfs.fs.inodes.open_state import Mode
from policyfs.fs.kernel_cache.attributes import Timeouts, cold
from policyfs.kernel import vectors
from policyfs.kernel.bridge import pyfuse3
from policyfs.policy.decide import PathState
from policyfs.store.frozen import Version

_NUMBERS: Final = 1 << 64
"""The least key (NodeTable.key_of) of inodes on other file systems that are mounted in the store."""
_ODD: Final = (
    os.O_ACCMODE | os.O_TRUNC | os.O_APPEND | os.O_CREAT | os.O_EXCL | os.O_DIRECT | os.O_DIRECTORY
    | os.O_PATH | os.O_SYNC | os.O_NOATIME | FMODE_EXEC
)  # fmt: skip
"""Flags of open(2) that the bridge does not handle: Python answers each open that has one of them."""
_ACCESS: Final = 1 << 2
"""A bit of Node.asked: access(2) with any mode (the bit of vectors.UNCOUNTED, which is no request)."""
_IN_IT: Final = 1 << 7
"""A bit of Node.asked, for a directory: a second LOOKUP of a name in this directory."""
_MISSED: Final = 1 << 11
"""A bit of Node.asked: a LOOKUP of an absent name in the directory that the kernel did not keep."""
_LONGEST_NAME: Final = bytes(255)
_FORMATS: Final = {
    FileType.REGULAR: stat_bits.S_IFREG,
    FileType.DIRECTORY: stat_bits.S_IFDIR,
    FileType.SYMLINK: stat_bits.S_IFLNK,
}


class Copied(NamedTuple):
    """The copy that an open shows: the facts about it, its hidden words, and the version of its file."""

    facts: Facts
    hidden: frozenset[str]
    version: Version


class Repeats(FsPart):
    """The part of a mount that chooses access vectors. Handlers call a method after a decision."""

    def __init__(self, fs: FsContext, views: Views, timeouts: Timeouts) -> None:
        super().__init__(fs)
        self._views = views
        self._timeouts = timeouts
        self.allow_files: Callable[[Node, Caller], object] = lambda _directory, _caller: None
        """A function that lets the bridge answer for all files in a directory (RawDirectories.allow)."""

    def looked_up(self, node: Node, reply: pyfuse3.EntryAttributes, caller: Caller) -> None:
        """Note an allowed LOOKUP of a name that the kernel does not keep. After a repeat the bridge may
        answer, without attributes to keep. It may then also answer for other files in the directory."""
        if node.ftype is FileType.REGULAR and node.parent is not None:
            self.allow_files(node.parent, caller)
        if not self._nodes.vectors.of_names or reply.entry_timeout:
            return
        if not _is_looked_up_again(node):
            return
        if self._hangs_on_name_and_uid(node, caller) and self._leads_to_one_node(node, caller):
            self._install(node, caller, vectors.LOOKUP)

    def missed(self, directory: Node, state: PathState, caller: Caller) -> None:
        """Note a LOOKUP of an absent name that the kernel does not keep. From the second in a directory on,
        the bridge may answer, but only if the caller sees every name in it: it is faster than Python, so the
        time would tell absent from hidden names. state: that of the name."""
        if not self._nodes.vectors.of_names or not _is_asked_before(directory, _MISSED):
            return
        if (
            self._sight_hangs_on_name_and_uid(directory, caller)
            and self._gate.shows_all_in(caller.principal, directory.state)
            and not self._gate.engine.owner_matters_above(state)
            and directory.has_room(_LONGEST_NAME)
            and self._views.is_settled
        ):
            with contextlib.suppress(OSError):
                fd = self._resolver.dirfd(directory)
                self._nodes.vectors.see_all(directory, fd, caller.uid, keeps=False)

    def listed(self, node: Node, caller: Caller) -> None:
        """Note a file's name in a listing. Its first LOOKUP and GETATTR count as repeats, as `ls -l` sends
        three and one."""
        engine, who = self._gate.engine, caller.principal
        if not self._nodes.vectors.of_names or node.ftype is not FileType.REGULAR or not node.lookups:
            return
        node.asked |= vectors.LOOKUP | vectors.GETATTR
        if (
            self._hangs_on_name_and_uid(node, caller)
            # INVARIANT: decided here, with no await before the installation.
            and engine.decide(who, Op.SEE, node.state, node.ftype, NO_FACTS).allowed
            and self._leads_to_one_node(node, caller)
            and not self._timeouts.entry_of(node, node.last_state)
        ):
            self._install(node, caller, vectors.LOOKUP | vectors.GETATTR)

    def _leads_to_one_node(self, node: Node, caller: Caller) -> bool:
        """Return True if each LOOKUP of the name leads to this node, whatever facts and other requests."""
        if node.ftype is FileType.REGULAR:
            # The byte path of the node must depend on no fact, and on no open that was sent back to LOOKUP.
            need = self._gate.engine.needs(caller.principal, Op.SEE | Op.READ, node.state, node.ftype)
            return not need & Need.KIND and self._views.is_settled
        # Until a directory is reached, the time of its last LOOKUP matters (Resolver.dirfd_on_the_way).
        return node.ftype is not FileType.DIRECTORY or node.reached

    def seen(self, node: Node, caller: Caller) -> None:
        """Note an allowed GETATTR. After a repeat the bridge may answer: also about names that the kernel
        keeps, since a read changes the access time (fs/fuse/dir.c, fuse_invalidate_atime)."""
        if not self._nodes.vectors.in_use or not _is_repeat(node, vectors.GETATTR):
            return
        if not self._hangs_on_name_and_uid(node, caller):
            return
        grant, kept_s = self._of_attributes(node)
        if grant:
            self._install(node, caller, grant, kept_s=kept_s)

    def _of_attributes(self, node: Node) -> tuple[int, float]:
        """Return the bit GETATTR, or 0 if the bridge must not answer, and the longest timeout (s)."""
        kept = self._timeouts.entry_of(node, node.last_state) > 0
        if not (node.ftype is FileType.REGULAR if kept else self._nodes.vectors.of_names):
            return 0, 0.0
        return vectors.GETATTR, cold(node.ino) if kept and not self._timeouts.is_written(node) else 0.0

    def passed(self, node: Node, mode: int, ops: Op, caller: Caller) -> None:
        """Note an allowed access(2) with these mode bits; after a repeat the bridge may answer."""
        if not self._nodes.vectors.of_names or mode >= vectors.ACCESS_MODES or not _is_repeat(node, _ACCESS):
            return
        if mode & os.X_OK and node.ftype is FileType.REGULAR:
            return  # depends on the file's mode
        if self._hangs_on_name_and_uid(node, caller) and not self._gate.need(caller.principal, ops, node):
            self._install(node, caller, vectors.access(mode))

    def judged(
        self, node: Node, caller: Caller, flags: int, backing_id: int, copied: Copied | None = None
    ) -> Decision | None:
        """Return the decision by which the bridge may answer repeats of an allowed open for reading, or None.

        A repeat has the same uid, gid and flags, and is an event unless audit is off (vectors.take_events).
        None, for example, if the decision must be on record first, or a rule in monitor mode would deny.
        backing_id: 0 outside passthrough, where there are no repeats. copied: for a node that shows a copy.
        """
        if flags & _ODD or node.ftype is not FileType.REGULAR or not backing_id:
            return None
        who, ops = caller.principal, Op.SEE | Op.READ
        if copied is None:
            if not self._hangs_on_name_and_uid(node, caller) or self._gate.need(who, ops, node):
                return None
            if not self._gate.engine.view(who, node.state).raw or self._is_unsaved(node):
                return None
        elif self._gate.need(who, ops, node) & ~Need.KIND or not self._copy_hangs_on_version(
            node, caller, copied.version
        ):
            return None
        # INVARIANT: judged here, with no await before the installation: a vector outlives the open.
        decision = self._gate.judge(who, ops, node, NO_FACTS if copied is None else copied.facts)
        refused = not decision.allowed or decision.audit is Audit.REQUIRED or decision.would_deny
        hidden = frozenset() if copied is None else copied.hidden
        return None if refused or decision.redact != hidden else decision

    def opened(
        self, node: Node, caller: Caller, flags: int, backing_id: int, decision: Decision,
        copied: Copied | None = None,
    ) -> bool:  # fmt: skip
        """Let the bridge answer repeats of an open, by judged(), and the GETATTRs of an app that reads again.
        Return False if there is no room. INVARIANT: a reader thread may answer before the return: the caller
        notes all that repeats need before."""
        grant = vectors.OPEN if decision.audit is Audit.OFF else vectors.OPEN | vectors.RECORDED
        if copied is not None:
            return self._install(node, caller, grant, caller.gid, flags, backing_id, *copied.version)
        of_attributes, kept_s = self._of_attributes(node)
        grant |= of_attributes
        return self._install(node, caller, grant, caller.gid, flags, backing_id, kept_s=kept_s)

    def judged_listing(self, node: Node, caller: Caller) -> Decision | None:
        """Return the decision for repeats of an OPENDIR that let the kernel use its listing, or None."""
        who = caller.principal
        if not self._nodes.vectors.in_use or not self._sight_hangs_on_name_and_uid(node, caller):
            return None
        if self._gate.need(who, Op.SEE, node):
            return None
        # INVARIANT: judged here, with no await before the installation: a vector outlives the open.
        decision = self._gate.judge(who, Op.SEE, node, NO_FACTS)
        refused = not decision.allowed or decision.audit is Audit.REQUIRED or decision.would_deny
        return None if refused else decision

    def opened_directory(self, node: Node, caller: Caller, decision: Decision) -> bool:
        """Let the bridge answer repeats of an OPENDIR, by judged_listing(). All else as opened()."""
        grant = vectors.LIST if decision.audit is Audit.OFF else vectors.LIST | vectors.RECORDED
        return self._install(node, caller, grant, caller.gid)

    def _hangs_on_name_and_uid(self, node: Node, caller: Caller) -> bool:
        """Return True if a caller's answers about a node depend only on the uid and the node's only name."""
        if not self._sight_hangs_on_name_and_uid(node, caller):
            return False
        if node.ftype is FileType.REGULAR and (not node.view.raw or node.mediated or _is_written(node)):
            return False
        return node.nodeid == ROOT_ID or (node.byte_path is BytePath.RAW and self._is_only_raw_node(node))

    def _copy_hangs_on_version(self, node: Node, caller: Caller, version: Version) -> bool:
        """Return True if a copy depends only on version, uid and name. (Writers get another node.)"""
        if not self._sight_hangs_on_name_and_uid(node, caller) or node.ftype is not FileType.REGULAR:
            return False
        if not _are_in_64_bits(version.mtime_ns, version.ctime_ns):
            return False
        if node.byte_path is not BytePath.COPY or not node.view.redact or node.mediated or _is_written(node):
            return False
        others = self._nodes.same_inode(node.ino)
        return not any(other.open is not None and other.open.writers for other in others)

    def _sight_hangs_on_name_and_uid(self, node: Node, caller: Caller) -> bool:
        """Return True if only the uid and the node's only name decide whether a caller sees the node."""
        if not self._timeouts.watched or self._timeouts.told_apart:
            return False
        if node.nodeid == ROOT_ID:
            return bool(node.btime_ns) and _are_in_64_bits(node.btime_ns)
        if node.parent is None or node.links is not None or not node.lookups or node.out_of_reach:
            return False
        engine, state = self._gate.engine, node.last_state
        return (
            node.ino < _NUMBERS
            and node.btime_ns != 0
            and _are_in_64_bits(node.btime_ns)
            and node.ftype in _FORMATS
            and not engine.owner_matters_above(state)
            and not engine.needs(caller.principal, Op.SEE, state, node.ftype)
        )

    def _is_only_raw_node(self, node: Node) -> bool:
        return not any(
            other is not node and other.byte_path is BytePath.RAW
            for other in self._nodes.same_inode(node.ino)
        )

    def _is_unsaved(self, node: Node) -> bool:
        """Return True if held changes may empty the file: an open waits for the writer."""
        others = self._nodes.same_inode(node.ino)
        return any(other.open is not None and other.open.unsaved for other in others)

    def _install(self, node: Node, caller: Caller, grant: int, *opened: int, kept_s: float = 0.0) -> bool:
        directory = node.ftype is FileType.DIRECTORY
        if directory and not self._gate.shows_all_in(caller.principal, node.state):
            grant |= vectors.UNCOUNTED
        above = node.parent
        try:
            directory_fd = self._tree.root_fd if above is None else self._resolver.dirfd(above)
        except OSError:
            return False
        installed = self._nodes.vectors.install(
            node, 0 if above is None else above.nodeid, directory_fd, node.name, caller.uid, grant,
            self._nodes.root_dev, _FORMATS[node.ftype], kept_s, *opened,
        )  # fmt: skip
        if not installed:
            self._nodes.make_room()
        return installed


def _are_in_64_bits(*times_ns: int) -> bool:
    """Return True if all times are between 1970 and 2262. An app can set other times on some stores."""
    return all(0 <= time_ns < 1 << 63 for time_ns in times_ns)


def _is_repeat(node: Node, sort: int) -> bool:
    """Return True for a directory, else from the second request of a sort on: find(1) looks at each once."""
    return node.ftype is FileType.DIRECTORY or _is_asked_before(node, sort)


def _is_asked_before(node: Node, sort: int) -> bool:
    """Return True from the second request of one sort (a bit of Node.asked) on."""
    if node.asked & sort:
        return True
    node.asked |= sort
    return False


def _is_looked_up_again(node: Node) -> bool:
    """Return True as _is_repeat() does, or if another file of the directory had a second LOOKUP: `ls -l`, tar
    and cp ask twice about every file."""
    above = node.parent
    if _is_repeat(node, vectors.LOOKUP):
        if above is not None and node.ftype is not FileType.DIRECTORY:
            above.asked |= _IN_IT
        return True
    return above is not None and bool(above.asked & _IN_IT)


def _is_written(node: Node) -> bool:
    state = node.open
    return state is not None and (state.writers > 0 or state.mode is not Mode.PASSTHROUGH)
