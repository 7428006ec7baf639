"""This module chooses the node that serves an open of a file: by view, path state, byte path and lane.

docs/architecture/views.md has the rules: which byte path serves which open, and why ESTALE leads an open to
another node. A LIVE, COPY or LEASED node of a redacted view belongs to one lane: pages that a LIVE node's
writer wrote are not for others, and COPY and LEASED nodes show the result of one lane's worker. A LIVE node
of a view that only refuses bytes belongs to all who may write; readers have another, without held bytes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from policyfs.domain import Facts, FileType, Lane, Need, Op, Principal, View, to_clean
from policyfs.fs.expiring import Expiring
from policyfs.fs.inodes.caller import Caller
from policyfs.fs.inodes.node import BytePath, Node
from policyfs.fs.inodes.node_table import NodeTable
from policyfs.linux.statx import Stat
from policyfs.policy.decide import Engine, PathState
from policyfs.store.frozen import Version

_PENDING_S: Final = 5.0
_LOOKED_UP: Final = 2
"""The number of LOOKUPs before the kernel's second try: one checks its entry, one finds the name anew."""

Copyable = Callable[[Stat, int, frozenset[str], Principal], bool]
"""Function that tells if a principal gets a frozen copy: (attributes, NodeTable.key_of, words, principal)."""


def version_of(stat: Stat) -> Version:
    """Return the version of a file's bytes, as far as stat shows it."""
    return Version(stat.size, stat.mtime_ns, stat.ctime_ns)


class Views:
    """Chooses the node for an open: one that fits view, byte path, lane, state and version, or a new one."""

    def __init__(
        self, nodes: NodeTable, copyable: Copyable, proves_raw: Callable[[], bool] = lambda: False
    ) -> None:
        """proves_raw: returns True if a lease can prove the kind of a raw file in passthrough."""
        self._nodes = nodes
        self._copyable = copyable
        self._proves_raw = proves_raw
        # Opens that got ESTALE, by inode and thread. _unproven: readers without a proof. _coming: writers.
        self._unproven: Expiring[tuple[int, int], bool] = Expiring(_PENDING_S)
        self._coming: Expiring[tuple[int, int], bool] = Expiring(_PENDING_S)
        self._pending: Expiring[tuple[int, int], bool] = Expiring(_PENDING_S)  # by inode and view
        self._outdated: Expiring[tuple[int, int], int] = Expiring(_PENDING_S)  # look-ups, by view and thread
        self._resized: Expiring[tuple[int, int], bool] = Expiring(_PENDING_S)  # by view and thread
        self._kept: Expiring[int, int] = Expiring(_PENDING_S)  # by node: the thread that the node is kept for

    # -- which byte path -----------------------------------------------------------------------------

    def byte_path(
        self, engine: Engine, caller: Caller, view: View, state: PathState,
        stat: Stat, owner: Callable[[], str], *, writing: bool,
    ) -> BytePath:  # fmt: skip
        """Return the byte path for a caller's open now. owner: finds the file's owner, if it matters."""
        plain = BytePath.RAW if view.raw else BytePath.LIVE
        if writing or (view.raw and not self._unproven and self._proves_raw()):
            return plain
        key = self._nodes.key_of(stat)
        if not view.redact:
            if not self._reads_apart(engine, caller, view, state, key, owner):
                return plain
            return self._snapshot(stat, key, view, caller)
        if self._is_pending(key, view, caller) or self._being_written(key, view, caller):
            return BytePath.LIVE
        if not self.hidden_now(engine, caller.principal, state, owner):
            return BytePath.LIVE
        return self._snapshot(stat, key, view, caller)

    def _snapshot(self, stat: Stat, key: int, view: View, caller: Caller) -> BytePath:
        """Return the byte path of a file that must not change while an app reads it."""
        if not self.is_resized(view, caller) and self._copyable(stat, key, view.redact, caller.principal):
            return BytePath.COPY
        return BytePath.LEASED

    def _reads_apart(
        self, engine: Engine, caller: Caller, view: View, state: PathState, key: int, owner: Callable[[], str]
    ) -> bool:
        """Return True if a reader needs a copy or a lease only because nothing proves the file's kind."""
        if self._is_pending(key, view, caller):
            return False
        if self._unproven and self._unproven.get((key, caller.pid)):
            return True
        if view.raw and self._proves_raw():
            return False
        ops, who = Op.SEE | Op.READ, caller.principal
        need = engine.needs(who, ops, state, FileType.REGULAR)
        if not need & Need.KIND:
            return False
        facts = Facts(None, owner() if need & Need.OWNER else None)
        return not engine.decide(who, ops, state, FileType.REGULAR, facts).allowed

    def unproven(self, ino_key: int, caller: Caller) -> None:
        """Note that a reader's open got ESTALE because a writer prevents the proof of the file's kind."""
        self._unproven.put((ino_key, caller.pid), True)
        self._nodes.vectors.drop_nodes(self._nodes.same_inode(ino_key))

    @property
    def is_settled(self) -> bool:
        """True if no second try is expected after unproven(): then the look-up of a raw file depends only on
        name and caller."""
        return len(self._unproven) == 0

    def proven(self, ino_key: int, caller: Caller) -> None:
        """Note that a reader has opened the file after unproven()."""
        self._unproven.pop((ino_key, caller.pid))

    @staticmethod
    def hidden_now(
        engine: Engine, who: Principal, state: PathState, owner: Callable[[], str]
    ) -> frozenset[str]:
        """Return the words to hide from a caller, for the file's present owner and an unknown kind."""
        need = engine.needs(who, Op.SEE | Op.READ, state, FileType.REGULAR)
        facts = Facts(None, owner() if need & Need.OWNER else None)
        decision = engine.decide(who, Op.SEE | Op.READ, state, FileType.REGULAR, facts)
        if not decision.allowed:  # the caller may not read: hide all words, so the node is not LIVE
            return engine.view(who, state).redact
        return decision.redact

    def expect_writer(self, ino_key: int, view: View) -> None:
        """Note that an open for writing got ESTALE: the next look-ups in this view find the LIVE node."""
        self._pending.put((ino_key, view.key), True)

    def outdated(self, view: View, caller: Caller) -> None:
        """Note that an open of a frozen copy got ESTALE. The thread's next look-ups, of every file, since
        another may have taken the name, get a node that no other thread uses: so the kernel's last try cannot
        meet another caller's version."""
        self._outdated.put((view.key, caller.pid), _LOOKED_UP)

    def resized(self, view: View, caller: Caller) -> None:
        """Note that a thread's open got ESTALE because the file has become too large for a copy, or small
        enough: its next open is under a lease, whatever the size is by then."""
        self._resized.put((view.key, caller.pid), True)

    def is_resized(self, view: View, caller: Caller) -> bool:
        """Return True between resized() and the thread's next open. Its look-ups say nothing to others."""
        return bool(self._resized and self._resized.get((view.key, caller.pid)))

    def writer_came(self, ino_key: int, view: View) -> None:
        """Note that no writer is expected any more: the writer has its node, or will not come."""
        self._pending.pop((ino_key, view.key))

    def expect_writing(self, ino_key: int, caller: Caller) -> None:
        """Note that a thread's open for writing got ESTALE: it then finds a writer's node, in any view."""
        self._coming.put((ino_key, caller.pid), True)

    def expect_nothing(self, node: Node, caller: Caller) -> None:
        """Note that a thread's open was answered: its next look-ups need no node for a second try."""
        if self._coming:
            self._coming.pop((node.ino, caller.pid))
        if self._resized:
            self._resized.pop((node.view.key, caller.pid))

    def _is_pending(self, ino_key: int, view: View, caller: Caller) -> bool:
        return bool(
            (self._coming and self._coming.get((ino_key, caller.pid)))
            or (self._pending and self._pending.get((ino_key, view.key)))
        )

    def _being_written(self, ino_key: int, view: View, caller: Caller) -> bool:
        return any(
            node.byte_path is BytePath.LIVE
            and node.view is view
            and node.whose == caller.principal.lane
            and node.open is not None
            and node.open.writers
            for node in self._nodes.same_inode(ino_key)
        )

    # -- which node -----------------------------------------------------------------------------

    @classmethod
    def whose(
        cls, engine: Engine, caller: Caller, view: View, byte_path: BytePath, state: PathState,
        owner: Callable[[], str],
    ) -> Lane:  # fmt: skip
        """Return the lane that owns a caller's node of this view and byte path; None if lanes share the node.

        A COPY or LEASED node shows the result of one lane's worker. If a rule cleans written files, the
        writer's lane has its own node: only it may read what cleaning removes. If rules only refuse, all who
        may write share one, since only one draft can be stored, and others have a node without held bytes.
        owner: returns the file's owner, called if it matters."""
        if byte_path is BytePath.RAW:
            return None
        who = caller.principal
        refuses = byte_path is BytePath.LIVE and not (view.redact or to_clean(view.bans))
        if refuses and (cls._may_write(engine, who, state, owner) or not engine.distinctions.node(state)):
            return None  # this caller, or no caller, may write the file
        return who.lane

    @staticmethod
    def _may_write(engine: Engine, who: Principal, state: PathState, owner: Callable[[], str]) -> bool:
        need = engine.needs(who, Op.SEE | Op.WRITE, state, FileType.REGULAR)
        facts = Facts(None, owner() if need & Need.OWNER else None)
        return (
            bool(need & Need.KIND)
            or engine.decide(who, Op.SEE | Op.WRITE, state, FileType.REGULAR, facts).allowed
        )

    def node(
        self, stat: Stat, view: View, byte_path: BytePath, state: PathState, parent: Node, name: bytes,
        caller: Caller, whose: Lane,
    ) -> Node:  # fmt: skip
        """Return the node for a view of a file by this name. Add a new node if none fits."""
        key = self._nodes.key_of(stat)
        best: Node | None = None
        alone = byte_path is BytePath.COPY and self._is_outdated(view, caller)
        for node in self._nodes.same_inode(key):
            mine = self._is_kept_for(node, caller)
            if mine is False or (alone and not mine) or node.whose != whose:
                continue
            fits = self._fits(node, stat, view, byte_path, state)
            if fits and (best is None or mine or _newer(node, best)):
                best = node
                if mine:
                    break
        if best is None:
            best = self._nodes.add(stat, FileType.REGULAR, view, byte_path, state)
            best.whose = whose
            if alone:
                self._kept.put(best.nodeid, caller.pid)
        self._nodes.add_name(best, parent, name)
        return best

    def _is_kept_for(self, node: Node, caller: Caller) -> bool | None:
        """Return True if a node is kept for the caller's thread, False for another, None for no thread."""
        thread = self._kept.get(node.nodeid) if self._kept and node.open is None else None
        return None if thread is None else thread == caller.pid

    def _is_outdated(self, view: View, caller: Caller) -> bool:
        key = (view.key, caller.pid)
        left = self._outdated.get(key) or 0
        if left > 1:
            self._outdated.change(key, left - 1)
        else:
            self._outdated.pop(key)
        return left > 0

    def _fits(self, node: Node, stat: Stat, view: View, byte_path: BytePath, state: PathState) -> bool:
        if node.btime_ns != stat.btime_ns or node.ftype is not FileType.REGULAR:
            return False
        if node.view is not view or node.byte_path is not byte_path:
            return False
        if (node.parent is not None or node.links is not None) and not node.is_all(state):
            return False
        self._nodes.vectors.check_copy(node, stat)
        return self.serves(node, version_of(stat))

    @staticmethod
    def serves(node: Node, version: Version) -> bool:
        """Return True if the node can serve this version of the file: an open node keeps its own."""
        if node.open is None or node.open.version is None or not node.open.handles:
            return True
        return node.open.version == version

    def directory(self, stat: Stat, state: PathState, parent: Node, name: bytes, view: View) -> Node:
        """Return the node for a directory (one each) or a symlink (one for each path state), maybe new."""
        if stat.ftype is FileType.DIRECTORY:
            return self._nodes.directory_at(parent, name, stat)
        for node in self._nodes.same_inode(self._nodes.key_of(stat)):
            if node.is_all(state) and node.btime_ns == stat.btime_ns and node.ftype is stat.ftype:
                break
        else:
            node = self._nodes.add(stat, stat.ftype, view, BytePath.RAW, state)
        self._nodes.add_name(node, parent, name)
        return node


def _newer(node: Node, best: Node) -> bool:
    """Return True if only *node* is open: it is preferred, so that one version has one node."""
    return node.open is not None and best.open is None
