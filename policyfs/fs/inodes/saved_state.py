"""The state of a mount that outlives its daemon: nodes, handles and INIT, in memory of the keeper.

Each record is written as part of the operation, before the kernel gets the answer (decision 70). A take-over
restores nodes and handles whose view the policy still gives, but no writer of a redacted view.
"""

from __future__ import annotations

import json
import os
import select
import struct
import zlib
from collections.abc import Callable
from functools import cached_property, lru_cache
from typing import TYPE_CHECKING, Final

from policyfs.fs.inodes import saved_held
from policyfs.fs.inodes.open_state import Mode
from policyfs.fs.inodes.saved_nodes import UNSAVED_BYTES, SavedNodes
from policyfs.fs.inodes.vectors import MAX_NODES
from policyfs.fs.saved import intents, saved_copies, saved_locks
from policyfs.fs.saved.record_table import RecordTable
from policyfs.fs.saved.saved_handle import SavedHandle, Setup
from policyfs.fs.saved.state_memory import HEADER_BYTES, VERSION, Handover, StateMemory, layout_of
from policyfs.kernel import vectors, work
from policyfs.kernel.work import Outliving

if TYPE_CHECKING:
    from policyfs.fs.inodes.caller import Caller
    from policyfs.fs.inodes.handles import Handle
    from policyfs.fs.inodes.node import Node

_WORD: Final = struct.Struct("=Q")
(_LAST_ID, _UNSAVED, _LOCKED, _SERVING, _DIED, _TAKEN_OVER, _PAUSE, _LAST_INDEX, _AGAIN, _UNKNOWN,
 _POLICIES, _EARLY, _UPGRADED, _UPGRADES, _ANNOUNCER, _ANNOUNCER_SINCE) = range(0, 128, 8)  # fmt: skip
_SETUP_BYTES: Final = 4000
_HANDLE: Final = struct.Struct("=QQQIIIIiBI")
"""unique (Caller), fh (an open directory: its number), nodeid, flags, uid, gid, pid, descriptor, bits, and
checksum of the owner in Handle.facts (0: unknown)."""
_FD_AT: Final = struct.calcsize("=QQQIIII")
_BITS_AT: Final = 44
_DIRECTORY, _KEPT, _BY_KIND, _UNNAMED, _PASSED, _CREATED, _CHANGED = 1, 2, 4, 8, 16, 32, 64
_INTENTS, _LOCKS = 1 << 10, 1 << 12
COUNTS_BYTES: Final = MAX_NODES * vectors.COUNT_BYTES
"""The size of SavedState.counts in bytes."""
_HANDLES: Final = 6 << 17
"""More than open files, open directories and descriptors may be together (HandleTable, OpenDirectories)."""
_EACH: Final = 4
"""The records of each sort for each node that the kernel may remember. One app gets at most half of them."""
_ABSENT, _NAME_BYTES = 1 << 15, 255
_COPIES: Final = 1 << 14
_HELD: Final = 1 << 11
_LOST: Final = "very many files with bytes not checked yet, or locks of an owner, would be lost"
_NO_ROOM: Final = "there was no room to save a file or a change"


class SavedState:
    """The memory that a mount's daemons have, one after the other: the keeper makes it, and they inherit it.
    It has no name: only the mount's processes, and root, can reach it."""

    def __init__(self, nodes: int, fd: int = -1, version: int = VERSION) -> None:
        """nodes: the number of nodes that the kernel may remember. Only memory that is used is taken. fd: the
        memory of another keeper, to read it; else it is made. version: of the layout."""
        self.room = nodes
        """The number of nodes that the tables are made for."""
        is_old = version == 5
        most = 2 * nodes if is_old else _EACH * nodes
        more, handles = (nodes // 4, 1 << 15) if is_old else (most, _HANDLES)
        tables = ((2, _SETUP_BYTES), (most, SavedNodes.ROOMS[0]), (more, SavedNodes.ROOMS[1]),
                  (handles, _HANDLE.size), (_ABSENT, _WORD.size + _NAME_BYTES),
                  (handles, _WORD.size), (more, SavedNodes.ROOMS[2]),
                  (_INTENTS, intents.ROOM), (_LOCKS, saved_locks.ROOM),
                  (_COPIES, saved_copies.ROOM), (_HELD, saved_held.ROOM))  # fmt: skip
        opens = HEADER_BYTES + work.WORK_BYTES
        counts = opens + vectors.OPENS_BYTES
        own = counts + COUNTS_BYTES
        at = own + vectors.OWN_BYTES
        size = at + sum(RecordTable.size_bytes(*one) for one in tables) + (0 if is_old else UNSAVED_BYTES)
        self.keeper = os.getpid()
        """The pid of the keeper, which makes this object."""
        self._file = StateMemory(nodes, size, fd, version)
        self.forget = self._file.forget
        self.park = self._file.park
        self._memory = self._file.map
        self.handover = self._file.handover
        self.before: Handover | None = None
        """The hand-over by which this state's first daemon got the mount from another keeper's."""
        made = []
        self.parts = [(HEADER_BYTES, at - HEADER_BYTES)]
        """Offset and size of each part of the memory, in bytes; of later layouts there may be more."""
        self.work = memoryview(self._memory)[HEADER_BYTES:opens]
        """The requests that the bridge has begun and not answered (kernel/work.py)."""
        self.opens = memoryview(self._memory)[opens:counts]
        """The handles that the bridge gives out by itself (kernel/answers/_opens.c)."""
        self.counts = memoryview(self._memory)[counts:own]
        """The look-ups that the bridge answers by itself (kernel/table/_avc_table.c)."""
        self.own = memoryview(self._memory)[own:at]
        """The nodes that the bridge makes (kernel/answers/_tree.c)."""
        for slots, room in tables:
            made.append(RecordTable(self._memory, at, slots, room))
            self.parts.append((at, RecordTable.size_bytes(slots, room)))
            at += self.parts[-1][1]
        if not is_old:
            self.parts.append((at, UNSAVED_BYTES))
        self._setup, short, long, *others = made
        (self._handle_table, self._absent_table, self._id_table, links, self.intents, locks, copies,
         held) = others  # fmt: skip
        self._with_descriptors = (
            (self._handle_table, _FD_AT), (locks, saved_locks.FD_AT), (copies, saved_copies.FD_AT),
            (held, saved_held.FD_AT),
        )  # fmt: skip
        unsaved = memoryview(bytearray(UNSAVED_BYTES) if is_old else self._memory)[-UNSAVED_BYTES:]
        self.nodes = SavedNodes(short, long, links, unsaved, lambda: self.policies)
        self.locks = saved_locks.SavedLocks(locks, self.locked)
        self.copies = saved_copies.SavedCopies(copies)
        self.held = saved_held.SavedHeldBytes(held, lambda: self.policies, self.locked)
        self._setup_slot = self._setup.take() or 0
        self._handles: dict[tuple[int, int], int] = {}
        self._absent: dict[tuple[int, bytes], int] = {}
        self._ids: dict[int, int] = {}

    def _get(self, word: int) -> int:
        return int(_WORD.unpack_from(self._memory, word)[0])

    def _set(self, word: int, value: int) -> None:
        _WORD.pack_into(self._memory, word, value)

    # -- for the keeper ------------------------------------------------------------------------------

    @property
    def obstacle(self) -> str:
        """The reason why no other daemon can take over now; the empty string if one can."""
        if self.before is not None and not self.before.is_taken:
            return "the daemon had not yet taken over"
        if self.setup() is None:
            return "the daemon had not yet answered the kernel"
        if self._get(_UNSAVED):
            return _NO_ROOM if self._get(_UNSAVED) == 1 else "the spare was killed before"
        return _LOST * bool(self._get(_LOCKED))

    @property
    def can_continue(self) -> bool:
        """True if another daemon can take over now."""
        return not self.obstacle

    @property
    def serving_ns(self) -> int:
        """The time (CLOCK_MONOTONIC, ns) at which the present daemon began to serve; 0 before."""
        return self._get(_SERVING)

    @property
    def is_dead(self) -> bool:
        """True if the daemon is known to be dead, even if threads of it last (park())."""
        if not (pidfd := self._file.parked):
            return False
        poll = select.poll()
        poll.register(pidfd, select.POLLIN)
        return any(events & select.POLLIN for _, events in poll.poll(0))

    def died(self, now_ns: int, *, was_early: bool) -> None:
        """Note the time of the daemon's death (CLOCK_MONOTONIC, ns). None serves until serves()."""
        self.park(0)
        self._set(_DIED, now_ns)
        self._set(_EARLY, was_early)
        self._set(_UPGRADED, 0)
        self._set(_SERVING, 0)

    def no_successor(self) -> None:
        """Note that there is no spare any more."""
        self._set(_UNSAVED, 2)

    @cached_property
    def suspects(self) -> tuple[list[work.Suspect], list[work.Suspect]]:
        """The requests that were in work when the daemon before was killed, and those of them that get EIO
        when they come again, since they have probably killed it. INVARIANT: for the daemon only, read first
        before the bridge begins requests."""
        found = work.read(self.work)
        return found, work.guilty(found, was_early=bool(self._get(_EARLY)))

    def outliving(self, *, shared: bool) -> Outliving:
        """Return what the bridge needs to save its handles and the requests in work. shared: True if it also
        answers LOOKUPs: not in an app's mount."""
        return (self.opens, self.counts if shared else None, self.own), self.work, *self.suspects

    # -- for a daemon of other code ------------------------------------------------------------------

    @classmethod
    def of(cls, fd: int) -> SavedState:
        """Open another keeper's state. Raises PolicyfsError if this code cannot continue it; OSError."""
        nodes, version = layout_of(fd)
        return cls(nodes, fd, version)

    def succeed(self, fd: int, number: Callable[[int], int]) -> None:
        """Continue another keeper's state, which has no more nodes and is *given*, in this new one. fd: its
        memory. number: returns this process's descriptor for one of that keeper, or -1. Raises OSError."""
        parts = zip(SavedState.of(fd).parts, self.parts, strict=False)
        self._file.copy(fd, [(there, here, size) for (there, size), (here, _) in parts])
        for table, at in self._with_descriptors:
            for slot, record in table.read().items():
                theirs = int.from_bytes(record[at : at + 4], "little", signed=True)
                if theirs >= 0 and len(record) >= at + 4:
                    ours = number(theirs).to_bytes(4, "little", signed=True)
                    table.put(slot, record[:at] + ours + record[at + 4 :])
        vectors.renumber_opens(self.opens, number)
        self._setup.read()
        if (setup := self.setup()) is not None:
            self.set_up(setup._replace(device=number(setup.device)))
        self._set(_UPGRADED, 1)
        self._set(_UPGRADES, self._get(_UPGRADES) + 1)

    # -- for the daemon ------------------------------------------------------------------------------

    def serves(self, now_ns: int) -> None:
        """Note that the daemon serves from now on (CLOCK_MONOTONIC, ns)."""
        if died_ns := self._get(_DIED):
            self._set(_DIED, 0)
            self._set(_PAUSE, now_ns - died_ns)
            self._set(_TAKEN_OVER, self.takeovers + 1)
        self._set(_SERVING, now_ns)

    @property
    def takeovers(self) -> int:
        """The number of take-overs so far."""
        return self._get(_TAKEN_OVER)

    @property
    def upgrades(self) -> tuple[int, bool]:
        """The number of take-overs by other code that a command has asked for, and True if the last was."""
        return self._get(_UPGRADES), bool(self._get(_UPGRADED))

    @property
    def pause_ns(self) -> int:
        """The time from the last daemon's death until the next one served, in ns; 0: none has died."""
        return self._get(_PAUSE)

    @property
    def again(self) -> tuple[int, int]:
        """The numbers of changes that a killed daemon had begun and whose requests came again: all, and those
        that got EIO, since nothing told whether they had been made."""
        return self._get(_AGAIN), self._get(_UNKNOWN)

    def came_again(self, *, is_known: bool) -> None:
        """Count a change that a killed daemon had begun (again)."""
        self._set(_AGAIN, self._get(_AGAIN) + 1)
        self._set(_UNKNOWN, self._get(_UNKNOWN) + (not is_known))

    def setup(self) -> Setup | None:
        """Return the last set_up(); None if there was none."""
        found = self._setup.read().get(self._setup_slot)
        if found is None:
            return None
        device, connection, init, policy, root, flags = json.loads(found)
        return Setup(device, connection, bytes.fromhex(init), policy, tuple(root), flags)

    def set_up(self, setup: Setup) -> None:
        """Save what the next daemon needs first. Raises ValueError if it is too long."""
        init = setup.init.hex()
        fields = [setup.device, setup.connection, init, setup.policy, setup.root, setup.flags]
        self._setup.put(self._setup_slot, json.dumps(fields).encode())

    def use_policy(self, digest: str) -> None:
        """Save the digest of the policy that is in force from now on. Other views than RAW_VIEW, which nodes
        have by the policy before, are not restored."""
        self._set(_POLICIES, self._get(_POLICIES) + 1)
        if (setup := self.setup()) is not None:
            self.set_up(setup._replace(policy=digest))

    @property
    def policies(self) -> int:
        """The number of the policy in force."""
        return self._get(_POLICIES)

    def is_full(self) -> None:
        """Note that a change could not be saved: no daemon takes over from now on. (No app can do it.)"""
        self._set(_UNSAVED, 1)

    def locked(self, change: int) -> None:
        """Count what comes (1) or goes (-1) and a take-over loses: very many locks, unsaved bytes."""
        self._set(_LOCKED, max(0, self._get(_LOCKED) + change))

    @property
    def announcer(self) -> tuple[int, int]:
        """The pid and the start (proc_pid_stat(5)) of the process whose requests change nothing; 0: none."""
        return self._get(_ANNOUNCER), self._get(_ANNOUNCER_SINCE)

    @announcer.setter
    def announcer(self, process: tuple[int, int]) -> None:
        self._set(_ANNOUNCER, 0)
        self._set(_ANNOUNCER_SINCE, process[1])
        self._set(_ANNOUNCER, process[0])

    # -- nodes ---------------------------------------------------------------------------------------

    @property
    def last_id(self) -> int:
        """The last number that a node got."""
        return self._get(_LAST_ID)

    def numbered(self, nodeid: int) -> None:
        """Note that a node got a number. No later daemon gives it to another node."""
        self._set(_LAST_ID, nodeid)

    def registered(self, backing_id: int, is_registered: bool) -> None:
        """Save that a backing id was registered or released. Thread-safe: both ends are single calls."""
        if not is_registered:
            if (slot := self._ids.pop(backing_id, None)) is not None:
                self._id_table.free(slot)
        elif (slot := self._id_table.take()) is not None:
            self._ids[backing_id] = slot
            self._id_table.put(slot, _WORD.pack(backing_id))

    def learned(self, node: Node, backing_id: int) -> None:
        """Save a node that was the bridge's, with its backing id (0: none), in one step."""
        if backing_id:
            self.registered(backing_id, True)
            self.nodes.backed(node, backing_id)
        else:
            self.nodes.put(node)

    def backing_ids(self) -> set[int]:
        """Read all backing ids that the daemon before had registered, and take their slots over."""
        for slot, record in self._id_table.read().items():
            if len(record) == _WORD.size:
                self._ids[_WORD.unpack(record)[0]] = slot
        return set(self._ids)

    # -- absent names --------------------------------------------------------------------------------

    def absent(self, parent: int, name: bytes) -> None:
        """Save a name that the kernel may keep as absent. parent: the node number of its directory."""
        if (parent, name) not in self._absent and (slot := self._absent_table.take()) is not None:
            self._absent[parent, name] = slot
            self._absent_table.put(slot, _WORD.pack(parent) + name)

    def present(self, parent: int, name: bytes) -> None:
        """Drop a name that the kernel keeps as absent no more."""
        if (slot := self._absent.pop((parent, name), None)) is not None:
            self._absent_table.free(slot)

    def absent_names(self) -> list[tuple[int, bytes]]:
        """Read all absent names of the daemon before, and take their slots over."""
        for slot, record in self._absent_table.read().items():
            if len(record) > _WORD.size:
                self._absent[_WORD.unpack_from(record)[0], record[_WORD.size :]] = slot
        return list(self._absent)

    # -- handles -------------------------------------------------------------------------------------

    @property
    def last_index(self) -> int:
        """The last index that a handle got. No other handle gets it: a RELEASE may come again."""
        return self._get(_LAST_INDEX)

    def indexed(self, index: int) -> None:
        """Note that a handle got an index."""
        self._set(_LAST_INDEX, index)

    def opened(self, handle: Handle) -> None:
        """Save an open file, but no writer that may only write because it owns the file, or emptied it."""
        if handle.writable and handle.node.view.redact:
            return
        if handle.node.nodeid in self.nodes.unsaved:
            self.nodes.put(handle.node, handle.caller.holder)
        caller, passed = handle.caller, handle.mode is Mode.PASSTHROUGH
        who = caller.unique, caller.uid, caller.gid, caller.pid
        fd = -1 if passed and not handle.writable else handle.fd
        bits = _BY_KIND * handle.by_kind | _PASSED * passed | _CREATED * handle.created
        bits |= _CHANGED * handle.changed
        owner = None if handle.facts is None else handle.facts.owner
        owner_sum = 0 if owner is None else sum_of_text(owner)
        self._put_handle(handle.fh, handle.node.nodeid, handle.flags, who, fd, bits, owner_sum)

    def closed(self, fh: int) -> None:
        """Drop an open file. INVARIANT: before its descriptor is closed."""
        self._closed(fh, 0)

    def changed(self, fh: int) -> None:
        """Save that an app has asked to change an open file."""
        if (slot := self._handles.get((0, fh))) is not None:
            record = bytearray(self._handle_table.get(slot))
            record[_BITS_AT] |= _CHANGED
            self._handle_table.put(slot, bytes(record))

    def unnamed(self, node: Node, fd: int, caller: Caller) -> None:
        """Save the descriptor of an open file that loses its last name. caller: an app that has it open."""
        who = caller.unique, caller.uid, caller.gid, caller.pid
        self._put_handle(node.nodeid, node.nodeid, 0, who, fd, _UNNAMED)

    def let_go(self, nodeid: int) -> None:
        """Drop the descriptor of unnamed(). INVARIANT: before it is closed."""
        self._closed(nodeid, _UNNAMED)

    def drop(self, handle: SavedHandle) -> None:
        """Drop a handle of the daemon before."""
        self._closed(handle.fh, _DIRECTORY * handle.is_directory | _UNNAMED * handle.is_unnamed)

    def listing(self, number: int, node: Node, caller: Caller, *, kept: bool) -> None:
        """Save an open directory."""
        if node.nodeid in self.nodes.unsaved:
            self.nodes.put(node, caller.holder)
        who = caller.unique, caller.uid, caller.gid, caller.pid
        self._put_handle(number, node.nodeid, 0, who, -1, _DIRECTORY | _KEPT * kept)

    def unlisted(self, number: int) -> None:
        """Drop an open directory."""
        self._closed(number, _DIRECTORY)

    def _put_handle(
        self, fh: int, nodeid: int, flags: int, who: tuple[int, int, int, int], fd: int, bits: int,
        owner: int = 0,
    ) -> None:  # fmt: skip
        if (slot := self._handle_table.take()) is None:
            return  # the limits let no app reach this; it would get EIO after a take-over
        self._handles[bits & (_DIRECTORY | _UNNAMED), fh] = slot
        unique, *caller = who
        self._handle_table.put(slot, _HANDLE.pack(unique, fh, nodeid, flags, *caller, fd, bits, owner))

    def _closed(self, fh: int, sort: int) -> None:
        slot = self._handles.pop((sort, fh), None)
        if slot is not None:
            self._handle_table.free(slot)

    def keep(self, handle: SavedHandle) -> None:
        """Save a handle that the bridge of the daemon before gave out."""
        caller = handle.unique, handle.uid, handle.gid, handle.pid
        bits = _DIRECTORY * handle.is_directory | _KEPT * handle.kept | _PASSED * handle.passed
        bits |= _CREATED * handle.created
        self._put_handle(handle.fh, handle.nodeid, handle.flags, caller, handle.fd, bits, handle.owner)

    def handles(self) -> list[SavedHandle]:
        """Read all handles of the daemon before, and take their slots over."""
        found = []
        for slot, record in self._handle_table.read().items():
            if len(record) != _HANDLE.size:
                self._handle_table.free(slot)
                continue
            unique, fh, nodeid, flags, uid, gid, pid, fd, bits, owner = _HANDLE.unpack(record)
            is_directory, is_kept = bool(bits & _DIRECTORY), bool(bits & _KEPT)
            by_kind, is_unnamed = bool(bits & _BY_KIND), bool(bits & _UNNAMED)
            one = SavedHandle(
                unique, fh, nodeid, flags, uid, gid, pid, fd, is_directory, is_kept, by_kind, is_unnamed,
                bool(bits & _PASSED), owner, bool(bits & _CREATED), bool(bits & _CHANGED),
            )  # fmt: skip
            self._handles[bits & (_DIRECTORY | _UNNAMED), fh] = slot
            found.append(one)
        return found


@lru_cache(maxsize=256)
def sum_of_text(text: str) -> int:
    """Return a checksum of a text, never 0."""
    return zlib.crc32(text.encode()) or 1
