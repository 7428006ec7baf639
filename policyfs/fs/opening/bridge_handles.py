"""Handles that the bridge opens and releases by itself, for repeats of opens that Python decided (_opens.c).

A node has an open vector while the bridge may answer its opens. The vector counts as one more handle of the
node (Lifecycle.enter), which keeps mode and backing id. See docs/architecture/vectors.md."""

from __future__ import annotations

import os
import time
from collections.abc import Iterable
from itertools import islice
from typing import Final, NamedTuple, Protocol

from policyfs.domain import Audit, Decision, FileType
from policyfs.fs.context import FsContext, FsPart
from policyfs.fs.inodes.caller import Caller
from policyfs.fs.inodes.handles import Handle
from policyfs.fs.inodes.node import Node
from policyfs.fs.inodes.open_state import Mode, OpenState
from policyfs.fs.kernel_cache.repeats import Copied, Repeats
from policyfs.fs.opening.lifecycle import Lifecycle
from policyfs.fs.opening.passthrough import Passthrough
from policyfs.fs.opening.repeated_opens import RepeatedOpens
from policyfs.fs.opening.request import OpenContext
from policyfs.fs.redacted.copies import Redactor
from policyfs.fs.sharing.shares import Holder, Shares
from policyfs.kernel import vectors
from policyfs.linux.statx import Stat
from policyfs.policy.raw_names import Changes
from policyfs.store.copies import Copy
from policyfs.store.frozen import Version

_MOST: Final = 1 << 15
"""The limit of nodes with an open vector, each with a backing file open in the kernel; half for one app."""
_MOST_LISTED: Final = 1 << 13
"""The limit of directories whose opens the bridge may answer. One more replaces the oldest."""
_AGE_S: Final = 2.0
"""The time between two looks at what the bridge has open."""
_UNUSED_AGES: Final = 30
"""A node loses its vector if it was not opened for this number of periods of _AGE_S (a minute in all)."""
_RECENT_S: Final = 60.0
"""An open counts as a repeat if the node's last open was less than this time ago, or up to twice as long."""
_PART: Final = 256
"""The limit of nodes whose vectors one call of expire() ends, so that no request waits long for the call."""
_SPARED: Final = 16
"""The number of vectors that end together to make room in the cache of frozen copies."""


class OpenDirectories(Protocol):
    """The table of a mount's open directories (namespace/open_directories.py)."""

    @property
    def has_plenty(self) -> bool:
        """True if every app's share has room left even after the bridge has opened all that it can open."""

    def adopt(self, fh: int, node: Node, caller: Caller) -> None:
        """Put a directory that the bridge has opened into the table."""


class _Shown(NamedTuple):
    """The copy that a vector shows, kept open for *payer*, and the data for the bridge's handles."""

    copy: Copy
    payer: str | None
    copied: Copied


class _Entered(NamedTuple):
    """The open state of a node with a vector, the holder whose share has it, and the copy of a COPY node."""

    state: OpenState
    holder: Holder
    shown: _Shown | None = None


class BridgeHandles(FsPart):
    """The part of a mount that lets the bridge answer opens, and takes its handles over when they are needed.

    INVARIANT: the daemon finds handles through the HandleTable, which first takes the bridge's."""

    def __init__(
        self, fs: FsContext, lifecycle: Lifecycle, passthrough: Passthrough, repeats: Repeats,
        redactor: Redactor,
    ) -> None:  # fmt: skip
        super().__init__(fs)
        self._lifecycle = lifecycle
        self._passthrough = passthrough
        self._repeats = repeats
        self._redactor = redactor
        self.events = RepeatedOpens(fs.gate.recorder)
        self.directories: OpenDirectories | None = None
        self._allowed: set[Node] = set()  # directories in which the bridge may open all files
        self._has_own = False  # it may have handles of nodes of its own
        self._listed: dict[Node, None] = {}  # directories that the bridge may open, the oldest first
        self._entered: dict[Node, _Entered] = {}
        self._ended: dict[Node, _Entered] = {}  # ended by end_all(), and not yet left by _leave_some()
        self._of_copies: dict[Node, None] = {}  # nodes in _entered or _ended with a copy, the oldest first
        self._unused: list[int] = []
        self._shares = Shares(_MOST, "files that the bridge opens")
        self._recent: set[int] = set()
        self._earlier: set[int] = set()
        self._aged_s = self._forgot_s = 0.0
        if fs.nodes.vectors.in_use:
            fs.nodes.vectors.tell_of_drops(self)
            fs.handles.take_from(self)

    def __len__(self) -> int:
        return len(self._entered)

    # -- vectors ------------------------------------------------------------------------------------

    def opened(self, opening: OpenContext) -> None:
        """Note an allowed open. If all its repeats get the same answer, let the bridge give it. INVARIANT: no
        await since the last decision on this open and its record."""
        if not self._nodes.vectors.in_use or not self._is_plain(opening):
            return
        request, state = opening.request, opening.shared
        node = request.node
        entered, shown = self._entered.get(node), self._shown(opening)
        if (entered is None and not self._is_repeat(node)) or not self.events.has_room(node, request.caller):
            return
        if entered is None:
            if not self._has_room(request.caller.holder):
                return
            self._enter(node, request.caller.holder, shown)
        elif entered.shown is not None and entered.shown != shown:
            return  # all repeats show the vector's copy and this copy's facts; the copy counts for one app
        copied = None if shown is None else shown.copied
        of_open, has_vector = (node, request.caller, request.flags, state.backing_id), entered is not None
        try:
            decision = self._repeats.judged(*of_open, copied)
            if decision is not None:
                self.events.note(opening, decision)  # first: a reader thread may answer the next open at once
                has_vector |= self._repeats.opened(*of_open, decision, copied)
        finally:
            if not has_vector:
                self.end(node)

    def _is_repeat(self, node: Node) -> bool:
        """Return True if the node had such an open not long ago: programs that open each file once need no
        vectors. More than _MOST other nodes in between may hide a repeat."""
        if node.nodeid in self._recent or node.nodeid in self._earlier:
            return True
        if len(self._recent) >= _MOST:
            self._earlier, self._recent = self._recent, set()
        self._recent.add(node.nodeid)
        return False

    def _has_room(self, holder: Holder) -> bool:
        try:
            self._shares.check(holder)
        except OSError:
            return False
        return True

    @staticmethod
    def _shown(opening: OpenContext) -> _Shown | None:
        handle, version = opening.handle, opening.shared.version
        if handle.copy is None or handle.facts is None or handle.hidden is None or version is None:
            return None
        return _Shown(handle.copy, handle.payer, Copied(handle.facts, handle.hidden, version))

    def _enter(self, node: Node, holder: Holder, shown: _Shown | None) -> None:
        """Count a node's vector as one more handle of the node, and keep the vector's copy open."""
        ended = self._ended.pop(node, None)
        self._entered[node] = _Entered(self._lifecycle.enter(node, writing=False), holder, shown)
        if shown is not None:
            shown.copy.pin(shown.payer)
        if ended is not None:
            self._leave(node, ended)
        if shown is not None:
            self._of_copies[node] = None
        self._shares.take(holder)

    def _leave(self, node: Node, entered: _Entered) -> None:
        if entered.shown is not None:
            entered.shown.copy.unpin(entered.shown.payer)
        self._lifecycle.let_go(node, entered.state)

    def _is_plain(self, opening: OpenContext) -> bool:
        """Return True for a passthrough read of a file that keeps its name, or of a confirmed copy."""
        request, handle, decision = opening.request, opening.handle, opening.decision
        return (
            decision.audit is not Audit.REQUIRED
            and not (decision.would_deny or opening.note)
            and handle.mode is Mode.PASSTHROUGH
            and (handle.copy is None or self._redactor.is_final(handle.copy))
            and not (request.writing or handle.by_kind or handle.created)
            and handle.generation == self._gate.generation
            and self._handles.has_plenty
            and self._replaced_files.find(request.node) < 0
            and not self._replaced_files.is_wanted(request.node)
        )

    def opened_directory(self, node: Node, caller: Caller) -> None:
        """Note an allowed OPENDIR whose reply let the kernel use its listing, and let the bridge answer
        repeats. INVARIANT: no await since the decision and its record."""
        if self.directories is None or not (self.directories.has_plenty and self._handles.has_plenty):
            return
        decision = self._repeats.judged_listing(node, caller)
        if decision is None or not self.events.has_room(node, caller):
            return
        if node not in self._listed and len(self._listed) >= _MOST_LISTED:
            self.end(next(iter(self._listed)))
        self._listed[node] = None
        self.events.note_listing(node, caller, decision)  # first, as in opened()
        if not self._repeats.opened_directory(node, caller, decision):
            self.end(node)

    def allowed(self, directory: Node, caller: Caller, decision: Decision, changes: Changes | None) -> None:
        """Note that the bridge may open all files in a directory (RawDirectories), and with *changes* also
        make, date and remove files. INVARIANT: not before this returns."""
        self._allowed.add(directory)
        self._has_own = True
        self.events.note_files(directory, caller, decision, changes)

    def learned(self, node: Node, backing_id: int) -> None:
        """Take over a node that the bridge had open as its own. Its backing id stays as of a closed file if
        the bridge has no handle of it."""
        state = self._lifecycle.enter(node, writing=False)
        try:
            self._passthrough.adopt_open(state, backing_id)
            self._adopt(vectors.end_opens(node.nodeid))
        finally:
            self._lifecycle.let_go(node, state)

    def end_directories(self) -> None:
        """Make the bridge open no more directories. Put the directories that it has open into the table."""
        listed, self._listed = self._listed, {}  # first: _adopt() may call this again
        try:
            while listed:
                node, _ = listed.popitem()
                self._adopt(vectors.end_opens(node.nodeid))
                self.events.forget(node.nodeid)
        finally:
            self._listed |= listed  # only after a bug

    def end(self, node: Node) -> None:
        """End the bridge's opens of a node, and put its handles into the table."""
        if node in self._allowed:
            self._allowed.discard(node)
            vectors.leave(node.nodeid)
            self.events.forget(node.nodeid)
        if node in self._entered or node in self._listed:
            self._adopt(vectors.end_opens(node.nodeid))  # this may call end_all()
            self.events.forget(node.nodeid)
        self._listed.pop(node, None)
        self._of_copies.pop(node, None)
        entered = self._entered.pop(node, None)
        if entered is not None:
            self._shares.give(entered.holder)
        else:
            entered = self._ended.pop(node, None)
        if entered is not None:
            self._leave(node, entered)

    def end_all(self) -> None:
        """End all opens of the bridge, and put its handles into the table. expire() gives backing ids back, a
        few at each call: all at once would take too long."""
        if self._entered or self._listed or self._has_own:
            self._ended |= self._entered
            self._entered = {}
            self._listed = {}
            self._allowed = set()
            self._has_own = False  # before _adopt(), which may call this
            self._shares = Shares(_MOST, self._shares.what)
            self._adopt(vectors.end_all_opens())
            self.events.forget_all()

    def spare_copies(self) -> bool:
        """End the oldest vectors that show copies, to make room in the cache. Return False if there are none.
        Handles that the bridge has given out keep their copy open."""
        nodes = list(islice(self._of_copies, _SPARED))
        for node in nodes:
            self.end(node)
        return bool(nodes)

    def expire(self) -> bool:
        """Put the bridge's opens on record, and end vectors that were not used for a minute. Return True if
        backing ids of ended vectors stay. The caller then calls again within 50 ms."""
        self.events.settle()
        self._leave_some()
        self._age()
        return bool(self._unused or self._ended)

    def _age(self) -> None:
        now = time.monotonic()
        if now < self._aged_s + _AGE_S:
            return
        self._aged_s = now
        if now >= self._forgot_s + _RECENT_S:
            self._forgot_s = now
            self._earlier, self._recent = self._recent, set()
        if self._entered or self._listed or self._has_own:
            handles, self._unused = vectors.age_opens(_UNUSED_AGES)
            self._adopt(handles)

    def _leave_some(self) -> None:
        some = [self._nodes.find(nodeid) for nodeid in self._unused[:_PART]]
        del self._unused[:_PART]
        some += list(islice(self._ended, _PART))
        for node in some:
            if node is not None:
                self.end(node)
                if node.open is None:
                    self._passthrough.drop_later(node)

    # -- handles ------------------------------------------------------------------------------------

    def take(self, fh: int) -> None:
        """Put the bridge's handle with this number into the handle table, if the bridge has it."""
        self._adopt(vectors.take_handle(fh))

    def take_of(self, node: Node) -> None:
        """Put all of the bridge's handles of a node into the handle table."""
        if node in self._entered or node in self._listed:
            self._adopt(vectors.take_handles(node.nodeid))

    def _adopt(self, opened: Iterable[vectors.Opened]) -> None:
        """Put handles of the bridge into the table, as if Python had opened them. INVARIANT: the bridge opens
        no more once a quarter of the limits is used (HandleTable.has_plenty), so no app exceeds its share."""
        for one in opened:
            node = self._nodes.find(one.nodeid)
            if node is None:
                raise RuntimeError("a handle of a node that is gone")
            caller = Caller(self._gate.principal, one.uid, one.gid, one.pid, 0, program="")
            if self.directories is not None and node.ftype is FileType.DIRECTORY:
                self.directories.adopt(one.fh, node, caller)
                vectors.free_taken(one.fh)
                continue
            entered = self._entered.get(node) or self._ended.get(node)
            writes = one.flags & os.O_ACCMODE != os.O_RDONLY
            state = self._lifecycle.enter(node, writing=writes)
            if writes:
                state.writer_uids |= {one.uid}
            if not state.backing_id:  # a node that was the bridge's own until now
                self._passthrough.take_idle(node, state)
            stat = stat_of(one.attributes, self._nodes.root_dev, node.btime_ns)
            if state.stat is None or state.stat.ctime_ns <= stat.ctime_ns:
                state.stat = stat
            handle = Handle(
                vectors.index_of(one.fh), node, caller, one.flags, one.file, one.fh, Mode.PASSTHROUGH,
                before=Version(stat.size, stat.mtime_ns, stat.ctime_ns), generation=self._gate.generation,
                created=bool(one.flags & os.O_CREAT),
            )  # fmt: skip
            shown = None if entered is None else entered.shown
            if shown is not None:
                handle.copy, handle.payer = shown.copy, shown.payer
                handle.facts, handle.hidden = shown.copied.facts, shown.copied.hidden
                shown.copy.pin(shown.payer)
            self._handles.add(handle)
            vectors.free_taken(one.fh)  # the next daemon, too, finds it in the table from now on
        if not self._handles.has_plenty:
            self.end_all()
        elif self.directories is not None and not self.directories.has_plenty:
            self.end_directories()


def stat_of(attributes: tuple[int, ...], dev: int, btime_ns: int) -> Stat:
    """Return attributes from the bridge (vectors.Opened), with device number and birth time, as Stat."""
    ino, mode, nlink, uid, gid, size, blocks, blksize, atime_ns, mtime_ns, ctime_ns = attributes
    return Stat(
        ino, dev, mode, nlink, uid, gid, size, blocks, blksize, atime_ns, mtime_ns, ctime_ns, btime_ns
    )
