"""Changes of the store that inotify reports in an app mount (docs/decisions/0069-inotify.md).

For each change, the announcer (content/workers/announcer.py) makes one call in the mount, and the daemon
answers its requests without a change. A name that is gone, or whose file was written, gets a *phantom* in
these answers: a node of one order, which no other caller ever gets, and which no answer may be kept of. To a
directory that is gone no path leads: for a name in it, the announcer gets a name in the root that has the
directory's number, and that only its LOOKUP finds.

INVARIANT: the kernel is told of a removal, a move or an open for writing only of a phantom. No request of the
announcer changes the store: a request that the present order does not lead to fails with EBUSY."""

from __future__ import annotations

import contextlib
import errno
import itertools
import os
import stat
import time
from collections import OrderedDict, deque
from collections.abc import Awaitable, Callable
from typing import Final, NamedTuple, Protocol

import trio

from policyfs.content.workers.announcer import (
    ATTRIBUTES,
    BYTES,
    DIRECTORY,
    FILE,
    MAX_ORDER,
    MOVED,
    REMOVED_DIRECTORY,
    REMOVED_FILE,
    WRITTEN,
    WRITTEN_FILE,
)
from policyfs.domain import NO_FACTS, FileType, Op
from policyfs.fs.access.gate import Gate
from policyfs.fs.inodes.node import ROOT_ID, Node
from policyfs.fs.inodes.node_table import PHANTOMS, NodeTable
from policyfs.kernel.bridge import FH_DIRECT_IO, FH_NOFLUSH, pack_fh, pyfuse3
from policyfs.store.names.aside_names import is_reserved
from policyfs.store.watch import Change, WatchEvent, inode_hint

_MOST: Final = 16_384
"""The limit of waiting orders. Further changes are lost for inotify."""
_OWN_S: Final = 1.0
"""The time for which a file counts as written by the app itself after the release of its handle."""
_OWN_FILES: Final = 1024
PHANTOM_HANDLE: Final = pack_fh(0, FH_DIRECT_IO | FH_NOFLUSH)
"""The file handle of all phantoms. Other handles have an index from 1 on (HandleTable.new_index)."""
_TRIES: Final = 3
"""The limit of calls for one order. A call fails if the kernel still has an answer about the name."""
_AGAIN: Final = frozenset({errno.EBUSY, errno.EEXIST, errno.ENOENT, errno.ESTALE})
BY_NUMBER: Final = b"policyfs-aside-announced-"
"""The beginning of names that lead to directories that are gone. No object gets such a name."""
_KEPT_S: Final = 60.0
"""The time for which the kernel keeps a phantom's attributes: longer than a call takes."""
_MADE: Final = frozenset({FILE, WRITTEN_FILE, DIRECTORY})
_SEEN_BEFORE: Final = frozenset({REMOVED_FILE, REMOVED_DIRECTORY, MOVED})
_TOLD: Final = frozenset({stat.S_IFREG, stat.S_IFDIR})
_ON_PHANTOMS: Final = _SEEN_BEFORE | {WRITTEN}


class Place(NamedTuple):
    """A name in a directory. parent: the directory's node number."""

    parent: int
    name: bytes


class _Left(NamedTuple):
    """The first half of a move. place: the old place, if the app saw the name. was_there: False if the kernel
    already had the directory at its new place."""

    place: Place | None
    is_dir: bool
    was_there: bool


class Order(NamedTuple):
    """One call that the announcer makes. to: the new place after a MOVED. moved_s: the time (monotonic) at
    which the move of a DIRECTORY was noted, in which there may be mounts."""

    kind: bytes
    at: Place
    to: Place | None = None
    moved_s: float = 0.0

    @property
    def places(self) -> list[Place]:
        """The place, and the new place of a move."""
        return [self.at] if self.to is None else [self.at, self.to]


def _ino(event: WatchEvent) -> int | None:
    return None if event.target_handle is None else inode_hint(event.target_handle)


class Process(Protocol):
    """The running announcer."""

    pid: int

    def is_alive(self) -> bool:
        """Return True until the process has ended."""


class Names(Protocol):
    """The part of KernelCache that makes the kernel look names up again."""

    def expire_entries(self, names: list[tuple[int, bytes]]) -> None: ...
    def forget_name(self, parent: int, name: bytes) -> None: ...
    async def forget_seen(self, nodeid: int, *, pages: bool) -> None: ...


class Announcements:
    """The orders of one mount, and the answers to the announcer's requests. Event loop only.

    uid: the announcer's, which sees what the app sees. INVARIANT: each order is counted. told: carried out.
    left_out: the app does not see the name, or it was gone again, or it is a symlink's or special file's.
    lost: other orders, and changes for which there was none."""

    def __init__(self, gate: Gate, nodes: NodeTable, kernel: Names, uid: int) -> None:
        self._gate, self._nodes, self._kernel, self.uid = gate, nodes, kernel, uid
        self._new: list[Order] = []
        self._flushed: list[list[Order]] = []
        self._orders: deque[Order] = deque()
        self._some = trio.Event()
        self._from: _Left | None = None
        self._now: Order | None = None
        self._last: Order | None = None
        self._policies = 0
        self._phantom = 0
        self._numbers = itertools.count(PHANTOMS)
        self._own: OrderedDict[int, float] = OrderedDict()
        self.withheld: Callable[[int], bool] = lambda _ino: False
        """A function that returns True if the names of a file with this inode number may be withheld."""
        self.process: Process | None = None
        """The announcer. INVARIANT: it stays here until it has ended, so that its requests are known."""
        self.is_gone: Callable[[Node], bool] = lambda _node: False
        """A function that returns True if the store's file system has a node's directory no more."""
        self.is_outside: Callable[[Node], bool] = lambda _node: False
        """A function that returns True if a node's directory is gone, or was moved out of the store."""
        self.told = self.left_out = self.lost = 0
        self._unseen = False

    # -- changes of the store ---------------------------------------------------------------------

    def note(self, event: WatchEvent, parent: Node | None, target: Node | None) -> None:
        """Take an event of the watch. parent: the node of its directory, None if the kernel has none. target:
        the node of the changed directory.

        Call this before the event's invalidations, which change what the daemon knows of names."""
        left, self._from = self._from, None
        place = None if parent is None else self._place(parent, event)
        if event.kind & Change.MOVED_FROM:
            was_there = target is None or (target.parent is parent and target.name == event.name)
            self._from = _Left(place if self._was_seen(place, event) else None, event.is_dir, was_there)
        elif event.kind & Change.MOVED_TO:
            self._moved(left or _Left(None, event.is_dir, target is None), place)
        elif place is not None:
            self._changed(place, event)

    def flush(self, when_forgotten: Callable[[Callable[[], None]], bool]) -> None:
        """Queue the orders of the events since the last call, once the kernel has got their invalidations.
        when_forgotten: calls its argument then, on any thread; returns False if it cannot."""
        if not self._new:
            return
        batch, self._new = self._new, []
        token = trio.lowlevel.current_trio_token()

        def forgotten() -> None:
            with contextlib.suppress(trio.RunFinishedError):
                token.run_sync_soon(self._queue, batch)

        if when_forgotten(forgotten):
            self._flushed.append(batch)
        else:
            self.lost += len(batch)

    def policy_changed(self) -> None:
        """Drop the orders that tell of names which the app saw under the old policy. Others ask again."""
        self._from = None
        self._policies += 1
        for orders in (self._orders, *self._flushed, self._new):
            told = [order for order in orders if order.kind not in _SEEN_BEFORE]
            self.lost += len(orders) - len(told)
            orders.clear()
            orders.extend(told)

    @property
    def waiting(self) -> int:
        """The number of orders that are not carried out yet."""
        return len(self._orders) + (self._now is not None)

    def _queue(self, batch: list[Order]) -> None:
        self._flushed = [other for other in self._flushed if other is not batch]
        room = max(0, _MOST - len(self._orders))
        self.lost += max(0, len(batch) - room)
        self._orders.extend(batch[:room])
        self._some.set()

    def _place(self, parent: Node, event: WatchEvent) -> Place | None:
        name = event.name
        if name is None or is_reserved(name) or not parent.lookups:
            return None
        ftype = FileType.DIRECTORY if event.is_dir else FileType.REGULAR
        if self._is_shown(parent, name, ftype) is False:
            return None
        return Place(parent.nodeid, name)

    def _is_shown(self, parent: Node, name: bytes, ftype: FileType) -> bool | None:
        """Return True if the app sees such a name by its path alone, False if not, None if facts decide."""
        gate, who = self._gate, self._gate.principal(self.uid)
        state, _ = gate.asked_for(who, parent.state, name)
        if gate.engine.needs(who, Op.SEE, state, ftype):
            return None
        return gate.decide(who, Op.SEE, state, ftype, NO_FACTS, parent).allowed

    def _was_seen(self, place: Place | None, event: WatchEvent) -> bool:
        """Return True if the app saw a name that is gone now: by its node, or its path."""
        if place is None:
            return False
        parent = self._nodes.get(place.parent)
        if event.is_dir:
            known, types = self._nodes.directory(parent, place.name) is not None, [FileType.DIRECTORY]
        else:
            ino = _ino(event)
            if ino is None or self.withheld(ino):
                return False
            known = bool(self._nodes.named(ino, parent, place.name))
            types = [FileType.REGULAR, FileType.SYMLINK]  # the event does not tell which: a rule may hide one
        return known or all(self._is_shown(parent, place.name, ftype) is True for ftype in types)

    def _changed(self, place: Place, event: WatchEvent) -> None:
        made, gone = event.kind & Change.CREATE, event.kind & Change.DELETE
        # The kernel merges events: a name that was made and removed at once was never seen.
        if gone and not made and self._was_seen(place, event):
            self._removed(place, is_dir=event.is_dir)
        if made:
            self._new.append(Order(DIRECTORY if event.is_dir else FILE, place))
        if event.kind & Change.CLOSE_WRITE and not self._is_own(event):
            shown = self._is_shown(self._nodes.get(place.parent), place.name, FileType.REGULAR)
            self._wrote(place, seen=shown is True or self._was_seen(place, event))
        elif event.kind & Change.MODIFY and not self._is_own(event):
            self._new.append(Order(BYTES, place))
        elif event.kind & Change.ATTRIB and not made and not gone:
            self._new += [] if self._new[-1:] == [Order(ATTRIBUTES, place)] else [Order(ATTRIBUTES, place)]

    def _wrote(self, place: Place, *, seen: bool) -> None:
        """Announce a write. seen: False if the app sees the name by its new bytes at the earliest."""
        last = self._new[-1] if self._new else None
        if last == Order(FILE, place):
            self._new[-1] = Order(WRITTEN_FILE, place)
        elif last in (Order(WRITTEN, place), Order(WRITTEN_FILE, place)):
            return
        elif not seen:
            self._new.append(Order(WRITTEN_FILE, place))
        else:  # the kernel must ask for the name, and get the phantom
            self._kernel.expire_entries([place])
            self._new += [Order(BYTES, place), Order(WRITTEN, place)]

    def _removed(self, place: Place | None, *, is_dir: bool) -> None:
        if place is not None:
            self._new.append(Order(REMOVED_DIRECTORY if is_dir else REMOVED_FILE, place))

    def _moved(self, left: _Left, new: Place | None) -> None:
        """Announce a move. A directory's is announced as a new name, which takes along what the kernel has
        below, then as the end of the old name."""
        if left.is_dir:
            if new is not None and left.was_there:
                self._new.append(Order(DIRECTORY, new, moved_s=time.monotonic()))
        elif new is not None and left.place is not None:
            self._new.append(Order(MOVED, left.place, new))
            return
        elif new is not None:
            self._new.append(Order(WRITTEN_FILE, new))
        self._removed(left.place, is_dir=left.is_dir)

    def released(self, node: Node) -> None:
        """Note that the app has released a handle that could write: inotify has reported this already."""
        self._own[node.ino] = time.monotonic()
        self._own.move_to_end(node.ino)
        if len(self._own) > _OWN_FILES:
            self._own.popitem(last=False)

    def _is_own(self, event: WatchEvent) -> bool:
        ino = _ino(event)
        if ino is None:
            return False
        if time.monotonic() - self._own.get(ino, -_OWN_S) < _OWN_S:
            return True
        return any(node.open is not None and node.open.writers for node in self._nodes.same_inode(ino))

    # -- the orders -------------------------------------------------------------------------------

    async def run(self, call: Callable[[bytes], Awaitable[int]]) -> None:
        """Let *call* carry out one order after the other: it sends a message, and returns the errno. Return
        only by an exception of *call*. (Then the order is lost.)"""
        while True:
            while not self._orders:
                self._some = trio.Event()
                await self._some.wait()
            order = self._orders.popleft()
            # INVARIANT: WRITTEN gets a phantom, so it follows BYTES, which asks if the app sees the name.
            if order.kind == WRITTEN and self._last != Order(BYTES, order.at):
                self._count(1)
                continue
            self._last, policies = None, self._policies
            try:
                code = await self._carried_out(order, call)
            except BaseException:
                self.lost += 1
                raise
            if policies == self._policies:
                self._last = None if code else order
                if code and order.kind == MOVED:  # the app does not see the new name
                    self._orders.appendleft(Order(REMOVED_FILE, order.at))
            self._count(code)

    def _count(self, code: int) -> None:
        """Count an order by the errno of its call, or of the order before that it depends on."""
        self.told += not code
        self.left_out += bool(code and self._unseen)
        self.lost += bool(code and not self._unseen)

    def _message(self, order: Order) -> bytes | None:
        """Return the message for the announcer: the kind, then the present path and the name of each place.
        None if the kernel has forgotten a directory, so that no program watches it."""
        parts = [order.kind]
        for parent, name in order.places:
            node = self._nodes.find(parent)
            if node is None or not (node.lookups or parent == ROOT_ID):
                return None
            is_gone = parent != ROOT_ID and self.is_gone(node)
            parts += [BY_NUMBER + b"%d" % parent if is_gone else node.path().strip(b"/"), name]
        return b"\0".join(parts)

    def _forget_numbers(self, message: bytes) -> None:
        """Make the kernel forget the names by number, so that working directories there have no path."""
        for path in message.split(b"\0")[1::2]:
            if path.startswith(BY_NUMBER):
                self._kernel.forget_name(ROOT_ID, path)

    async def _carried_out(self, order: Order, call: Callable[[bytes], Awaitable[int]]) -> int:
        code, policies = 0, self._policies
        for number in range(_TRIES):
            if number:
                await self._expire(order)
                if policies != self._policies:
                    break  # INVARIANT: the app saw the name under the policy before
            self._unseen = False
            message = self._message(order)
            if message is None or len(message) > MAX_ORDER:
                self._unseen = message is None
                return errno.ENAMETOOLONG
            self._now, self._phantom = order, 0
            try:
                code = await call(message)
            finally:
                self._now, self._phantom = None, 0
                self._forget_numbers(message)
            self._unseen |= code == errno.ENOENT and self._has_left(order)
            if self._unseen or code not in _AGAIN or (order.moved_s and code == errno.EEXIST):
                break
        return code

    def _has_left(self, order: Order) -> bool:
        """Return True if a directory of an order was moved out of the store: the app does not see it."""
        nodes = [self._nodes.find(place.parent) for place in order.places]
        return any(node is not None and self.is_outside(node) and not self.is_gone(node) for node in nodes)

    async def _expire(self, order: Order) -> None:
        for place in order.places:
            self._kernel.expire_entries([place])
            await self._kernel.forget_seen(place.parent, pages=False)

    # -- answers to the announcer -----------------------------------------------------------------

    def is_from(self, pid: int) -> bool:
        """Return True if a request is of the announcer. A process that waits for an answer has not ended. So
        while the announcer lives, no other process has its pid, and a request with this pid is its own."""
        process = self.process
        return process is not None and pid == process.pid and process.is_alive()

    def look_up(self, parent: int, name: bytes) -> pyfuse3.EntryAttributes | None:
        """Return the phantom for the announcer's LOOKUP, or raise ENOENT if the order makes the name. None:
        the true answer."""
        now = self._now
        if now is None:
            return None
        if parent == ROOT_ID and name.startswith(BY_NUMBER):
            return self._directory(now, name)
        if now.to is not None and (now.to.parent, now.to.name) == (parent, name):
            raise pyfuse3.FUSEError(errno.ENOENT)
        if (now.at.parent, now.at.name) != (parent, name):
            return None
        if now.kind in _MADE and not self._is_named(now):
            raise pyfuse3.FUSEError(errno.ENOENT)
        if now.kind not in _ON_PHANTOMS:
            return None
        return self.phantom(is_dir=now.kind == REMOVED_DIRECTORY)

    def _directory(self, now: Order, name: bytes) -> pyfuse3.EntryAttributes:
        for parent in {place.parent for place in now.places}:
            if name == BY_NUMBER + b"%d" % parent and (node := self._nodes.find(parent)) is not None:
                self._nodes.refer(node)
                entry = self._entry(node.nodeid, node.ino, is_dir=True)
                entry.attr_timeout = 0.0
                return entry
        raise pyfuse3.FUSEError(errno.ENOENT)

    def answered(self, parent: int, name: bytes, mode: int = 0) -> None:
        """Note the true answer to the announcer's LOOKUP, or to a call for this name: the app sees an object
        with this mode, or none. So the order of this name is left out, not lost."""
        now = self._now
        if now is not None and (parent, name) in now.places and stat.S_IFMT(mode) not in _TOLD:
            self._unseen = True

    def is_asked_again(self, parent: int, name: bytes) -> bool:
        """Return True if the kernel must ask for this name again: the next order wants the phantom."""
        now = self._now
        return now is not None and (now.kind, now.at.parent, now.at.name) == (BYTES, parent, name)

    def phantom(self, *, is_dir: bool) -> pyfuse3.EntryAttributes:
        """Return a new phantom."""
        self._phantom = next(self._numbers)
        return self.attributes(is_dir=is_dir)

    def is_phantom(self, inode: int) -> bool:
        """Return True for the phantom's number."""
        return bool(self._phantom) and inode == self._phantom

    def _is_named(self, order: Order) -> bool:
        """Return True if the kernel already has a moved directory at its new place. It keeps the name then:
        without the name, it would remove all mounts below."""
        if not order.moved_s:
            return False
        node = self._nodes.directory(self._nodes.get(order.at.parent), order.at.name)
        return node is not None and node.named_s > order.moved_s

    def attributes(self, *, is_dir: bool = False) -> pyfuse3.EntryAttributes:
        """Return the phantom's attributes."""
        return self._entry(self._phantom, self._phantom, is_dir=is_dir)

    def _entry(self, nodeid: int, ino: int, *, is_dir: bool) -> pyfuse3.EntryAttributes:
        entry = pyfuse3.EntryAttributes()
        entry.st_ino = pyfuse3.InodeT(nodeid)
        entry.st_rdev = ino
        entry.entry_timeout, entry.attr_timeout = 0.0, _KEPT_S
        entry.st_mode = pyfuse3.ModeT(stat.S_IFDIR | 0o700 if is_dir else stat.S_IFREG | 0o600)
        entry.st_nlink = 1
        entry.st_uid = self.uid
        return entry

    def check(self, kind: bytes, parent: int, name: bytes, to: tuple[int, bytes] | None = None) -> None:
        """Raise FUSEError (EBUSY) unless the order makes this name, or removes it or moves it to *to*, and
        the kernel has the phantom for it."""
        now = self._now
        there = None if now is None or now.to is None else (now.to.parent, now.to.name)
        if (
            now is None
            or (now.kind, now.at.parent, now.at.name, there) != (kind, parent, name, to)
            or not (self._phantom or kind in _MADE)
        ):
            raise pyfuse3.FUSEError(errno.EBUSY)

    def open(self, inode: int, flags: int) -> pyfuse3.FileInfo:
        """Return the answer to the announcer's OPEN. Raise FUSEError (EBUSY) unless it is of the phantom."""
        if not self.is_phantom(inode) or flags & os.O_TRUNC:
            raise pyfuse3.FUSEError(errno.EBUSY)
        return pyfuse3.FileInfo(fh=pyfuse3.FileHandleT(PHANTOM_HANDLE), keep_cache=False)
