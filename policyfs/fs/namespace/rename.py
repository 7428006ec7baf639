"""The RENAME requests: a new name for a file (also with NOREPLACE), or an exchange of two names."""

from __future__ import annotations

import contextlib
import errno
from collections.abc import Callable
from functools import partial
from typing import Final, NamedTuple, NoReturn

import trio

from policyfs.domain import NO_FACTS, Audit, Decision, Facts, FileType, Op, Principal
from policyfs.fs.access.audit import Call
from policyfs.fs.access.brakes import Changed, braked
from policyfs.fs.access.gate import stricter
from policyfs.fs.access.kept_changes import Replaced
from policyfs.fs.access.kind_proof import KindEvidence
from policyfs.fs.access.ledger import recorded_first
from policyfs.fs.checked.change_lock import ChangeLock
from policyfs.fs.checked.move_proof import ELSEWHERE, Source, decide_rename, elsewhere
from policyfs.fs.checked.moved_file import MovedFiles, Named, Unsettled
from policyfs.fs.context import FsContext, FsPart
from policyfs.fs.data.sync import FileSync
from policyfs.fs.inodes.caller import Caller
from policyfs.fs.inodes.handles import Handle
from policyfs.fs.inodes.node import Node, StaleNodeError, check_room, child_path
from policyfs.fs.kernel_cache.attributes import Timeouts
from policyfs.fs.namespace.entries import Entries, gone_version
from policyfs.fs.opening.open_files import OpenFiles
from policyfs.fs.saved.intents import ChangeKind, Intent, Side
from policyfs.fs.sharing.kernel_locks import MOST_S, LateError
from policyfs.kernel.bridge import pyfuse3
from policyfs.linux.statx import Stat
from policyfs.policy.decide import End, PathState
from policyfs.policy.moves.losses import rules_that_hide

_EXCHANGE: Final = int(pyfuse3.RENAME_EXCHANGE)
_NOREPLACE: Final = int(pyfuse3.RENAME_NOREPLACE)
_CALLS: Final = {_NOREPLACE: "renameat2(RENAME_NOREPLACE)", _EXCHANGE: "renameat2(RENAME_EXCHANGE)"}
_TRIES: Final = 100
"""The limit of decisions on one rename. The daemon decides again each time that it had to store held bytes
first, or that another file got the new name."""
_HELD_TRIES: Final = 10
"""The limit of times that the daemon stores held bytes first."""
_HELD_ELSEWHERE: Final = "another mount of the store has bytes of the file that are not checked yet"


class _HeldError(Exception):
    """The error for a rename of a file with held bytes, not in the store yet. handle: the writer's."""

    def __init__(self, handle: Handle) -> None:
        super().__init__("held")
        self.handle = handle


class _TargetChangedError(StaleNodeError):
    """The error if the new name may lead to another file than at the decision. Nothing was renamed."""


class _Side(NamedTuple):
    """One side of a rename: a name, the state of its path, and the object with the name (None: no object)."""

    parent: Node
    name: bytes
    state: PathState
    end: End | None
    key: int
    """The key of the object's inode, or 0 if there is no object."""


class Renamer(FsPart):
    """The handler of RENAME for one mount. It keeps the names of nodes up to date."""

    def __init__(
        self,
        fs: FsContext,
        *,
        entries: Entries,
        open_files: OpenFiles,
        sync: FileSync,
        moved_files: MovedFiles,
        timeouts: Timeouts,
        change_lock: ChangeLock,
        forget_all_names: Callable[[], None],
    ) -> None:
        """forget_all_names: makes the kernel look up every name again, from the return of this call on."""
        super().__init__(fs)
        self._entries = entries
        self._open_files = open_files
        self._sync = sync
        self._moved_files = moved_files
        self._timeouts = timeouts
        self._change_lock = change_lock
        self._forget_all_names = forget_all_names

    async def rename(
        self, old_parent: Node, old: bytes, new_parent: Node, new: bytes, flags: int, caller: Caller
    ) -> None:
        """Rename as rename(2) does, also with NOREPLACE or EXCHANGE.

        A file that replaces another file, or that changes places with it, may have held bytes (a head or a
        draft): the writer has not closed the file yet. The daemon checks these bytes first. If the bytes were
        refused only after the rename, both files would be lost. A file that was only emptied keeps its bytes,
        as at a FLUSH, and moves with them. If another daemon of the store holds bytes of the file, only that
        daemon can check these bytes. Then the answer is EBUSY, on record.

        If another file takes the new name during the decision, the daemon decides again. After ESTALE the
        kernel would try only once more. So a program that replaces the file of the new name again and again
        could make the rename fail. Natively a rename never fails for this reason. But after MOST_S the daemon
        does not decide again, and the answer is ESTALE: the kernel holds the locks of both directories.
        """
        if flags & ~(_EXCHANGE | _NOREPLACE):
            raise OSError(errno.EINVAL, "unknown rename flags")
        check_room(new_parent, new)
        stored, ends = 0, trio.current_time() + MOST_S
        for _ in range(_TRIES):
            try:
                return await self._rename(old_parent, old, new_parent, new, flags, caller)
            except _HeldError as held:
                if stored == _HELD_TRIES:
                    break
                stored += 1
                settle = partial(self._sync.settle, held.handle)
                await self._locks.apart(caller.holder, settle, error=errno.EBUSY)
            except _TargetChangedError:
                if trio.current_time() > ends:
                    raise
            except LateError as late:
                if late.errno != errno.EXDEV:
                    raise
                sides = (old_parent, old), (new_parent, new)
                self._entries.refuse_late_move(caller, _call_of(flags), *sides, exchange=flags == _EXCHANGE)
        raise OSError(errno.EBUSY, "a program changes the file again and again, so it cannot be checked")

    @recorded_first
    @braked
    async def _rename(
        self, old_parent: Node, old: bytes, new_parent: Node, new: bytes, flags: int, caller: Caller
    ) -> None:
        exchange, call = bool(flags & _EXCHANGE), _call_of(flags)
        path, new_path = child_path(old_parent, old), child_path(new_parent, new)
        if self._was_made(caller, call, path, new_path):
            return
        generation = self._gate.generation
        new_state = self._gate.engine.child(new_parent.state, new)
        async with contextlib.AsyncExitStack() as stack:
            moved, target = (stack.enter_context(KindEvidence()) for _ in range(2))
            stack.enter_context(self._entries.on_record(caller, call, (old_parent, old), (new_parent, new)))
            old_end, old_stat, old_key = await self._entries.end(old_parent, old, caller, moved, new_state)
            there = await self._entries.target(
                new_parent, new, caller, target, old_end.state if exchange else None
            )
            replaced, new_stat, new_key = there or (None, None, 0)
            here = _Side(old_parent, old, old_end.state, old_end, old_key)
            to = _Side(new_parent, new, new_state, replaced, new_key)
            moving, sure = await self._settled(stack, caller, old_parent, old, old_stat, old_end, new_state)
            leaving, sure_there = replaced, None
            if exchange and replaced is not None and new_stat is not None:
                leaving, sure_there = await self._settled(
                    stack, caller, new_parent, new, new_stat, replaced, old_end.state
                )
            await self._keep_apart(stack, caller, here, to, sure, sure_there)
            self._check_places(generation, here, to)
            asked = (
                self._gate.engine, caller.principal, Source(moving, moved, moving is not old_end),
                new_state, None if leaving is None else Source(leaving, target, leaving is not replaced),
            )  # fmt: skip
            decision = decide_rename(*asked, exchange=exchange, same_directory=old_parent is new_parent)
            decision = self._gate.hidden(caller.principal, new_state, new_parent) or decision
            if decision.allowed and new_key != old_key and not (_holds(sure) and _holds(sure_there)):
                decision = elsewhere(*asked, exchange=exchange)
            decision = self._shown(caller.principal, decision, here, to, exchange=exchange)
            refuse = partial(self._refuse, caller, call, (path, new_path), (here, to), (sure, sure_there))
            if not decision.allowed:
                refuse(decision)
            self._count(caller, call, (path, new_path), (here, old_stat), (to, new_stat))
            gone = None if exchange or new_key == old_key or new_stat is None else gone_version(new_stat)
            if new_stat is not None and new_key != old_key:  # if they are names of one file, both stay
                ends = (old_stat, new_stat) if exchange else (old_stat,)
                self._check_held(caller, call, (path, new_path), *ends)
            decided = (old_parent, old, old_stat), (new_parent, new, new_stat), flags
            self._gate.recorder.program_of(caller)  # an app can make this take a moment
            self._check_files(*decided)  # the search for facts took time: other files may have the names now
            self._gate.recorder.decided(caller, call, path, decision, new_path=new_path, before=gone)
            if replaced is not None and not exchange:
                self._entries.keep_open(new_key, new_parent, new, replaced=True)
            if replaced is not None or decision.audit is Audit.REQUIRED:
                self._check_files(*decided)  # an open, or the record, took a moment, too
            try:
                with self._open_files.bytes_stay(old_key), self._open_files.bytes_stay(new_key):
                    if new_key != old_key:
                        self._keep(caller, call, here, to, (old_stat, new_stat), exchange=exchange)
                    self._move(*decided, unique=caller.unique)
            except OSError as error:
                _unless_lost(error, partial(elsewhere, *asked, exchange=exchange), refuse)
        self._follow(caller.principal, here, to, exchange=exchange)

    def _count(
        self, caller: Caller, call: Call, paths: tuple[bytes, bytes], *sides: tuple[_Side, Stat | None]
    ) -> None:
        """Count the moved object and the replaced one, unless both names are of one file."""
        changed = [
            Changed(side.state, side.end.ftype, side.end.facts.owner, stat)
            for side, stat in sides
            if side.end is not None and stat is not None
        ]
        if len({side.key for side, _ in sides}) == len(sides):
            self._gate.count(caller, call, paths[0], *changed, new_path=paths[1])

    def _keep(
        self, caller: Caller, call: Call, here: _Side, to: _Side, stats: tuple[Stat, Stat | None],
        *, exchange: bool,
    ) -> None:  # fmt: skip
        """Record the rename for undo, and keep what it replaces, as far as rules ask for it."""
        keeps = [
            None if side.end is None else self._gate.engine.decide(
                caller.principal, Op.SEE | Op.DELETE, side.state, side.end.ftype, side.end.facts
            ).keep
            for side in (here, to)
        ]  # fmt: skip
        if not any(keeps):
            return
        old, new = (
            (self._resolver.dirfd(side.parent), side.name, child_path(side.parent, side.name))
            for side in (here, to)
        )
        replaced = None if stats[1] is None else Replaced(stats[1], keeps[1])
        self._kept.rename(caller, call, keeps[0], (*old, stats[0]), new, replaced, exchange=exchange)

    def _check_places(self, generation: int, *sides: _Side) -> None:
        """Raise PolicyChangedError if a reload has come since the facts were found, or StaleNodeError if a
        directory was moved in the store to a path with other rules."""
        self._gate.unchanged(generation)
        for side in sides:
            if self._gate.engine.child(side.parent.state, side.name) != side.state:
                raise StaleNodeError

    def _check_files(
        self, old: tuple[Node, bytes, Stat], new: tuple[Node, bytes, Stat | None], flags: int
    ) -> None:
        """Check that both names still lead to the files of the decision. Raise StaleNodeError if not, but
        _TargetChangedError if only the new name leads elsewhere, and there are no flags: after an exchange
        the kernel swaps its entries, so it must look up both; with NOREPLACE it answers EEXIST itself."""
        self._resolver.still(*old)
        try:
            self._resolver.still(*new)
        except StaleNodeError:
            if flags:
                raise
            raise _TargetChangedError from None

    def _move(
        self, old: tuple[Node, bytes, Stat], new: tuple[Node, bytes, Stat | None], flags: int, *, unique: int
    ) -> None:
        """Rename the files of the decision, whose names are locked. No rename replaces a file that was made
        since the decision, except in a FUSE store without RENAME_NOREPLACE."""
        names = self._resolver.dirfd(old[0]), old[1], self._resolver.dirfd(new[0]), new[1]
        kind = ChangeKind.EXCHANGE if flags == _EXCHANGE else ChangeKind.MOVE
        self._intents.begin(Intent(unique, kind, self._end_of(*old), self._end_of(*new)))
        try:
            if flags or new[2] is not None:
                self._tree.rename2(*names, flags)
            else:
                self._tree.rename_to_free(*names)
        except FileExistsError:
            if new[2] is not None and not flags:
                raise
            raise (StaleNodeError if flags else _TargetChangedError) from None

    def _end_of(self, parent: Node, name: bytes, stat: Stat | None) -> Side:
        inode = (0, 0) if stat is None else (self._nodes.key_of(stat), stat.btime_ns)
        return Side(parent.nodeid, name, *inode)

    def _check_held(self, caller: Caller, call: Call, paths: tuple[bytes, bytes], *ends: Stat) -> None:
        """Raise _HeldError if this daemon holds bytes of one of these files; refuse the rename (EBUSY) if
        another does. A file that was only emptied keeps its old bytes in the store: the check may refuse all
        new ones.

        INVARIANT: no await between this call and the rename."""
        for stat in ends:
            if (holding := self._sync.holding(self._nodes.key_of(stat), stat)) is not None:
                raise _HeldError(holding)
        for stat in ends:
            if stat.ftype is FileType.REGULAR and self._held.is_held_elsewhere(stat):
                refusal = Decision(allowed=True, errno=0, audit=Audit.REQUIRED)
                self._gate.refuse(
                    caller, call, paths[0], refusal, new_path=paths[1], note=_HELD_ELSEWHERE,
                    error=errno.EBUSY,
                )  # fmt: skip

    def _refuse(
        self, caller: Caller, call: Call, paths: tuple[bytes, bytes], sides: tuple[_Side, _Side],
        looked_at: tuple[Named | None, ...], decision: Decision,
    ) -> NoReturn:  # fmt: skip
        named = [node for side in sides for node in self._nodes.named(side.key, side.parent, side.name)]
        error = self._entries.errno(decision, named)
        self._entries.refuse_move(caller, call, *paths, decision, error, looked_at)

    def _follow(self, who: Principal, old: _Side, new: _Side, *, exchange: bool) -> None:
        """Give the objects' nodes their new names, and make the kernel forget names where needed."""
        if old.end is not None:
            self._forget_times(who, old.state, new.state, old.end.ftype)
        moved = self._nodes.named(old.key, old.parent, old.name)
        if exchange and new.end is not None:
            self._forget_times(who, new.state, old.state, new.end.ftype)
            there = self._nodes.named(new.key, new.parent, new.name)
            self._entries.give_name(there, (new.parent, new.name), (old.parent, old.name))
        elif new.key == old.key:  # two names of one file: rename does nothing, and both stay
            if moved != self._nodes.named(new.key, new.parent, new.name):
                self._forget_all_names()  # but the kernel moves its entry, with the node of the old name
            return
        elif new.end is not None:
            self._entries.drop(new.key, new.parent, new.name)
        self._entries.give_name(moved, (old.parent, old.name), (new.parent, new.name))

    def _shown(
        self, who: Principal, decision: Decision, here: _Side, to: _Side, *, exchange: bool
    ) -> Decision:
        """Return the decision, or a denial (EXDEV) in two cases: a special file (fifo, socket, device) moves
        to a path where Gate.shows() hides such files from the caller, or one of a file's several names moves
        to a path where some caller has more rights (_lets_in)."""
        moves = ((here, to), (to, here)) if exchange else ((here, to),)
        for old, new in moves:
            if old.end is not None and not self._gate.shows(who, new.state, old.end.ftype, new.parent):
                decision = stricter(decision, ELSEWHERE)
            if decision.allowed and here.key != to.key and self._lets_in(who, old, new):
                decision = ELSEWHERE
        return decision

    def _lets_in(self, who: Principal, old: _Side, new: _Side) -> bool:
        """Return True if a file with several names moves to a path where some caller has more rights, and the
        app may not decide that. (With one name it could be copied there: policy/moves/moves.py. But a copy
        shares no bytes with the other names.) Names are counted now: one may just have come."""
        end, same = old.end, old.parent is new.parent
        if end is None or end.ftype is not FileType.REGULAR:
            return False
        if not self._gate.engine.gives_more(who, old.state, new.state, end.ftype, same_directory=same):
            return False
        return self._tree.stat(self._resolver.dirfd(old.parent), old.name).nlink > 1

    async def _keep_apart(
        self, stack: contextlib.AsyncExitStack, who: Caller, here: _Side, to: _Side, *ends: Named | None
    ) -> None:
        """Lock both names and these files until *stack* is closed, of two files the lower inode number first:
        other daemons change neither names nor attributes.

        INVARIANT: no await between this call and the change (checked/change_lock.py)."""
        if files := sorted(filter(None, ends), key=lambda named: named.ino):
            async with self._locks.limit(who.holder, errno.EBUSY):
                for named in files:
                    await stack.enter_async_context(self._change_lock.on(named.fd))
        names = ((self._resolver.dirfd(side.parent), side.name) for side in (here, to))
        if await stack.enter_async_context(self._name_lock.on(who.holder, *names)):
            raise _TargetChangedError  # decide anew: the facts may be outdated

    async def _settled(
        self, stack: contextlib.AsyncExitStack, caller: Caller, parent: Node, name: bytes, stat: Stat,
        end: End, to: PathState,
    ) -> tuple[End, Named | None]:  # fmt: skip
        """Return one side of the rename with the facts for the new path, and the checked file or None, of
        which holds() must be True at the rename.

        With more content requirements at the new path, also for other apps, it is checked under a lease until
        *stack* is closed; without a lease holds() is False. If requirements differ, it has one name only."""
        engine, who = self._gate.engine, caller.principal
        if end.ftype is not FileType.REGULAR:
            return end, None
        if not engine.asks_more(end.state, to):
            if not engine.asks_more(to, end.state):
                return end, None
            moved = Named.taking(self._tree.open_path(self._resolver.dirfd(parent), name))
            stack.callback(moved.close)
            return end, moved
        there = engine.view(who, to)
        words = there.bans if there.checked else None
        settled = await self._moved_files.settled(parent, name, stat, who.lane, words)
        if settled is None:
            unsettled = Unsettled.taking(self._tree.open_path(self._resolver.dirfd(parent), name))
            stack.callback(unsettled.close)
            return end, unsettled
        stack.callback(settled.close)
        if words is None:
            return end, settled
        return End(end.state, end.ftype, Facts(settled.kind, end.facts.owner, settled.free_of)), settled

    def _forget_times(self, who: Principal, old: PathState, new: PathState, ftype: FileType) -> None:
        """Make the kernel forget all names if it must not keep those that move: the new path may hide the
        object, callers may see other entries below it, or its timeouts are shorter. (Messages about single
        names would wait for the directories' locks, which the kernel holds until the reply.)"""
        if old is new:
            return
        seen = self._gate.engine.decide(who, Op.SEE, new, ftype, NO_FACTS).allowed
        below = ftype is FileType.DIRECTORY and not self._timeouts.alike_below(who, old, new)
        if not seen or below or self._timeouts.outlast(old, new, ftype):
            self._forget_all_names()


def _call_of(flags: int) -> Call:
    return Call("rename", _CALLS.get(flags, "rename"))


def _unless_lost(
    error: OSError, decide: Callable[[], Decision], refuse: Callable[[Decision], NoReturn]
) -> NoReturn:
    """Raise the store's error. But after EXDEV, if a copy would lose hidden data, refuse on record."""
    if error.errno == errno.EXDEV and rules_that_hide(decision := decide()):
        refuse(decision)
    raise error


def _holds(named: Named | None) -> bool:
    return named is None or named.holds()
