"""Passthrough: this module chooses a node's mode at the node's first open, and keeps the backing ids."""

from __future__ import annotations

import os
import time
from collections import Counter, OrderedDict
from typing import Final

import trio

from policyfs.fs.inodes.node import BytePath, Node
from policyfs.fs.inodes.open_state import Mode, OpenState
from policyfs.fs.inodes.saved_state import SavedState
from policyfs.kernel import vectors
from policyfs.kernel.backing import Backing, BackingRefused
from policyfs.linux import libc
from policyfs.linux.libc import NoReserve
from policyfs.linux.statx import is_append_only
from policyfs.store.copies import Copy

_IDLE_S: Final = 1.0
_IDLE_MAX: Final = 256


_TELLS_EACH: Final = "the store is a FUSE file system, which may report a write error only to the writer"


class Passthrough:
    """The part of a mount that registers backing files with the kernel, and chooses the mode of nodes.

    backing: None if passthrough is switched off. tells_each: True if the store reports write errors only to
    the open file that wrote: the daemon could not read the kernel's, so it mediates the store's files, and
    passes only copies through. reserves: True if the store reserves blocks for root, which the kernel would
    use for apps (NoReserve)."""

    def __init__(self, backing: Backing | None, *, tells_each: bool = False, reserves: bool = False) -> None:
        self._backing = backing
        self._tells_each = tells_each
        self._reserves = reserves
        self.why = "" if backing is not None else "switched off (--no-passthrough)"
        self._idle: OrderedDict[int, tuple[int, float]] = OrderedDict()
        self._due: list[int] = []
        """Ids for a thread to release after the next expire(): this may free the bytes of a large removed
        file."""
        self._is_releasing = False
        self.refused: Counter[str] = Counter()
        self.saved: SavedState | None = None
        """The state in which backing ids are saved for the next daemon; None if there will be none."""

    def switch_off(self, why: str) -> None:
        """Mediate all files, because the kernel refuses passthrough. why: the reason, for `status`."""
        self.expire(everything=True)
        self._backing = None
        self.why = why

    @property
    def enabled(self) -> bool:
        """True if files may be passed through."""
        return self._backing is not None

    def lets_bridge_register(self) -> bool:
        """Let the bridge register the store's files as choose() does. Return False if it must not."""
        user = libc.unreserved_user() if self._reserves else os.geteuid()
        if not self.enabled or self._tells_each or user < 0:
            return False
        vectors.register_as(user)
        return True

    def report(self) -> dict[str, object]:
        """Return the counts for ``status``."""
        return {
            "enabled": self.enabled,
            "why_not": self.why,
            "refused": dict(self.refused),
        }

    @property
    def live(self) -> int:
        """The number of backing ids that are registered now."""
        return 0 if self._backing is None else self._backing.live + vectors.own_backed()

    def choose(self, node: Node, state: OpenState, fd: int) -> None:
        """Set the mode of a node that is being opened. *fd*: an O_RDONLY descriptor of its bytes.

        INVARIANT: a node has one backing id while any of its handles is open. A mediated node stays mediated:
        if a node used both modes, the kernel would fail with EIO.
        """
        if state.backing_id or self.take_idle(node, state):
            return
        state.mode = Mode.MEDIATED
        # INVARIANT: a file that can only grow (chattr +a) is mediated: the kernel would write at any offset
        # after fcntl(F_SETFL), and through mappings.
        node.mediated |= node.byte_path is BytePath.RAW and is_append_only(fd)
        if self._backing is not None and not node.mediated:
            own = self._tells_each and node.byte_path is BytePath.RAW
            answer = BackingRefused(0, _TELLS_EACH) if own else self._register(self._backing, fd)
            if isinstance(answer, BackingRefused):
                self.refused[answer.reason] += 1
            else:
                state.backing_id = answer
                state.mode = Mode.PASSTHROUGH
                vectors.passes_through()
                if self.saved is not None:
                    self.saved.nodes.backed(node, answer)
                return
        node.mediated = True
        if self.saved is not None:
            self.saved.nodes.put(node)

    def _register(self, backing: Backing, fd: int) -> int | BackingRefused:
        if not self._reserves:
            return backing.register(fd)
        with NoReserve():
            return backing.register(fd)

    def choose_copy(self, node: Node, state: OpenState, copy: Copy) -> None:
        """Set the mode of a node that shows a copy. A copy is registered once, for all nodes that show it."""
        if not state.backing_id:
            if not copy.backing_id:
                self.choose(node, state, copy.frozen.fd)
                copy.backing_id = state.backing_id
                if self.saved is not None:
                    self.saved.copies.backed(copy.serial, copy.backing_id)
            elif not node.mediated:
                state.backing_id, state.mode = copy.backing_id, Mode.PASSTHROUGH
                if self.saved is not None:
                    self.saved.nodes.backed(node, copy.backing_id)

    def take_idle(self, node: Node, state: OpenState) -> bool:
        """Reuse the backing id of a file that was closed a moment ago. Return False if the node has none."""
        kept = self._idle.pop(node.nodeid, None)
        if kept is None:
            return False
        state.backing_id, state.mode = kept[0], Mode.PASSTHROUGH
        return True

    def has(self, node: Node) -> bool:
        """Return True if the node's file is registered, open or idle."""
        return node.nodeid in self._idle or (node.open is not None and node.open.backing_id != 0)

    def release(self, node: Node, state: OpenState) -> None:
        """Release a closed node's backing id: a named raw file's after _IDLE_S, a copy's with the copy."""
        backing_id, state.backing_id = state.backing_id, 0
        if not backing_id:
            return
        if node.byte_path is BytePath.COPY:
            self._unsave(node.nodeid)
            return
        if node.byte_path is BytePath.RAW and node.parent is not None:
            self._idle[node.nodeid] = (backing_id, time.monotonic())
            if len(self._idle) <= _IDLE_MAX:
                return
            nodeid, (backing_id, _) = self._idle.popitem(last=False)
        else:
            nodeid = node.nodeid
        self._give_back_later(nodeid, backing_id)

    def adopt(self, backing_id: int) -> None:
        """Take over the backing id of a copy, which the daemon before has registered."""
        if self._backing is not None:
            self._backing.adopt(backing_id)

    def restore(self, node: Node, backing_id: int) -> None:
        """Take over a node's backing id, which the daemon before has registered."""
        if self._backing is None:
            return
        self._backing.adopt(backing_id)
        if node.open is None:
            self._idle[node.nodeid] = (backing_id, time.monotonic())
        else:
            node.open.backing_id, node.open.mode = backing_id, Mode.PASSTHROUGH

    def drop(self, node: Node) -> None:
        """Release an idle backing id at once: it would keep a removed file's blocks in use."""
        kept = self._idle.pop(node.nodeid, None)
        if kept is not None:
            self._unsave(node.nodeid)
            self.give_back(kept[0])

    def drop_later(self, node: Node) -> None:
        """Release a file's idle backing id at the next call of expire()."""
        kept = self._idle.pop(node.nodeid, None)
        if kept is not None:
            self._give_back_later(node.nodeid, kept[0])

    def expire(self, *, everything: bool = False) -> bool:
        """Release ids idle for too long, or *everything*. Return True if the next call is due in 50 ms."""
        oldest = time.monotonic() - _IDLE_S
        while self._idle:
            nodeid, (backing_id, since) = next(iter(self._idle.items()))
            if since > oldest and not everything:
                break
            del self._idle[nodeid]
            self._give_back_later(nodeid, backing_id)
        self._release_due()
        return bool(self._idle or self._due)

    def _unsave(self, nodeid: int) -> None:
        """Save that a node has no backing id. INVARIANT: before the id is given back: an open with an id that
        the kernel does not know fails."""
        if self.saved is not None:
            self.saved.nodes.unbacked(nodeid)

    def save_to(self, state: SavedState) -> None:
        """Save each change of backing ids from now on."""
        self.saved = state
        if self._backing is not None:
            self._backing.told = state.registered

    def adopt_open(self, state: OpenState, backing_id: int) -> None:
        """Take over the backing id of an open node, which the bridge registered and NodeTable saved."""
        self.adopt(backing_id)
        state.backing_id, state.mode = backing_id, Mode.PASSTHROUGH

    def release_all_but(self, registered: set[int], kept: set[int]) -> None:
        """Release backing ids of the daemon before that nothing has: of opens that its death cut short."""
        if self._backing is not None:
            self._backing.release_forgotten(registered - kept)

    def _give_back_later(self, nodeid: int, backing_id: int) -> None:
        if self._backing is not None:
            self._unsave(nodeid)
            self._backing.forget(backing_id)
            self._due.append(backing_id)

    def _release_due(self) -> None:
        if self._backing is None or not self._due or self._is_releasing:
            return
        due, backing, self._due, self._is_releasing = self._due, self._backing, [], True

        def done(_: object) -> None:
            self._is_releasing = False

        try:
            trio.lowlevel.start_thread_soon(lambda: backing.release_forgotten(due), done)
        except RuntimeError:  # no thread can be started
            self._is_releasing = False
            backing.release_forgotten(due)

    def give_back(self, backing_id: int) -> None:
        """Release an id that no node will use again."""
        if self._backing is not None:
            self._backing.release(backing_id)
