"""Locks that apps take through a mount, held on the store's own files.

A lock on a file is a lock on the same inode in each view, in each mount, and in the store itself. For each
lock owner of an app, the daemon has one open file description of the backing file. The owner's byte
ranges are OFD locks of that description (fcntl(2)), and the owner's flock(2) is a flock of it. So these locks
conflict with each other and with all other locks by the kernel's own rules, and end when the descriptor is
closed. No call here waits. A refused lock is tried again, in the order of arrival, when a lock of this
table is released. If the conflicting lock is not in this table, retry_all() tries again.

A lock owner (struct fuse_lk_in: owner) is a number that the kernel gives to a process's table of descriptors
(POSIX locks) or to an open file description (OFD locks, flock). The kernel does not tell POSIX locks and OFD
locks apart: both come as byte ranges.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Final

from policyfs.store.locking.ofd import RDLCK, UNLCK, WRLCK, Asked, Blocker, Owner, find_blocker, set_lock
from policyfs.store.spans import Span, Spans

_DEADLOCK_LOOKS: Final = 16
"""The limit of waiting requests that the search for a deadlock follows. (The kernel follows 10.)"""

Inode = tuple[int, int]
"""A backing inode: its number (of NodeTable.key_of) and its birth time in ns."""


@dataclass(frozen=True, slots=True)
class Limits:
    """Limits of a lock table. holders: descriptors of all apps together (one holder, with one descriptor, for
    each lock owner and file).

    waiting: waiting requests of all apps together. spans: byte ranges of one owner in one file.

    An app gets one more holder only if the number of its holders is smaller than the number of free holders.
    So one app alone gets half of the limit. An app without a holder gets one as long as any holder is free.
    The same is true for waiting requests.
    """

    holders: int
    waiting: int
    spans: int


@dataclass(frozen=True, slots=True)
class LockStats:
    """The counts of a lock table. held: locked byte ranges and flocks. descriptors: open descriptors of
    owners.

    waiting: requests that wait now. refused: requests beyond a limit. deadlocks: requests that got EDEADLK.
    """

    held: int
    descriptors: int
    waiting: int
    refused: int
    deadlocks: int


@dataclass(slots=True, eq=False)
class Holder:
    """The holder of locks: one lock owner's descriptor of one file, and the owner's locks there.

    app: the app, or the uid of a stranger, for which the descriptor counts. handles: the mount's open handles
    through which the owner locked."""

    inode: Inode
    owner: Owner
    app: object
    fd: int
    writable: bool
    spans: Spans = field(default_factory=Spans)
    pid: int = 0
    handles: set[int] = field(default_factory=set)


@dataclass(slots=True, eq=False)
class Waiter:
    """A request that waits for a lock. told: called once, when the wait ends, with 0 (locked) or an errno."""

    holder: Holder
    asked: Asked
    handle: int
    told: Callable[[int], None]


class LockTable:
    """The locks that apps have taken through one mount. The table owns all descriptors that it gets. Use the
    table on one thread only.

    The table calls ranges_held with True when the first byte range is locked, and with False when the last
    byte range is unlocked. In between, each close(2) by a process matters: the close may release locks.
    """

    def __init__(self, limits: Limits, ranges_held: Callable[[bool], None]) -> None:
        self._limits = limits
        self._ranges_held = ranges_held
        self._ranges = 0  # owners with locked byte ranges
        self._files: dict[Inode, dict[Owner, Holder]] = {}
        self._through: dict[int, set[Holder]] = {}
        self._waiters: dict[Inode, list[Waiter]] = {}
        self._count: dict[object, int] = {}
        self._holders = 0
        self._waiting = 0
        self._refused = 0
        self._deadlocks = 0
        self.changed: Callable[[Holder, bool], None] = lambda _holder, _is_locked: None
        """A function that is called after each change of an owner's locks in a file, before the reply: with
        True while there are any, with False before the descriptor is closed."""

    # -- owners -----------------------------------------------------------------------------------

    def find(self, inode: Inode, owner: Owner) -> Holder | None:
        """Return the holder (descriptor and locks) of a lock owner in a file, or None."""
        return self._files.get(inode, {}).get(owner)

    def room(self, app: object) -> None:
        """Make room for one more descriptor by closing idle ones. Raises ENOLCK if there is still no room."""
        if self._full(app):
            for idle in self._idle():
                self._give_up(idle)
        if self._full(app):
            self._refused += 1
            raise OSError(errno.ENOLCK, "too many locks")

    def _full(self, app: object) -> bool:
        return self._count.get(app, 0) >= self._limits.holders - self._holders

    def _idle(self) -> list[Holder]:
        """Return the holders without locks and waiting requests: their descriptors only save later opens."""
        busy = {id(waiter.holder) for waiter in self._all_waiters()}
        return [holder for holder in self._all() if not holder.spans and id(holder) not in busy]

    def add(self, inode: Inode, owner: Owner, app: object, fd: int, *, writable: bool) -> Holder:
        """Add a holder: the descriptor and the locks that one lock owner has in a file. Return the holder.

        fd: a descriptor of the file that nobody else uses; the table closes it. O_RDWR if *writable*, else
        O_RDONLY."""
        holder = Holder(inode, owner, app, fd, writable)
        self._files.setdefault(inode, {})[owner] = holder
        self._count[app] = self._count.get(app, 0) + 1
        self._holders += 1
        return holder

    def strengthen(self, holder: Holder, fd: int) -> None:
        """Replace a holder's descriptor by *fd*, which is O_RDWR and of the same file.

        The lock owner loses no lock meanwhile. Until now the owner had only read locks, and two open file
        descriptions of one file can have read locks of the same bytes."""
        try:
            for span in holder.spans:
                set_lock(fd, holder.owner, Asked(span.start, span.end, RDLCK, 0))
        except OSError:
            os.close(fd)
            raise
        old, holder.fd, holder.writable = holder.fd, fd, True
        if holder.spans:
            self.changed(holder, True)
        os.close(old)

    def restore(self, holder: Holder) -> bool:
        """Add a holder of the daemon before, whose descriptor has kept its locks. Return False if it has not:
        then another owner may have them."""
        made = self.add(holder.inode, holder.owner, holder.app, holder.fd, writable=holder.writable)
        for span in holder.spans:
            asked = Asked(span.start, span.end, WRLCK if span.exclusive else RDLCK, holder.pid)
            if not all(self._try(made, asked, handle)[0] for handle in holder.handles):
                return False
        return True

    # -- locking ----------------------------------------------------------------------------------

    def attempt(self, holder: Holder, asked: Asked, handle: int) -> bool:
        """Lock or unlock without waiting. Return False if a lock of another owner conflicts. Raises OSError:
        ENOLCK (a limit), EBADF (WRLCK without a writable descriptor)."""
        done, freed = self._try(holder, asked, handle)
        if freed:
            self._wake(holder.inode)
        return done

    def _try(self, holder: Holder, asked: Asked, handle: int) -> tuple[bool, bool]:
        """Lock or unlock without waiting. Return two booleans. The first is True if the request is done, the
        second if other owners may now lock more bytes."""
        self._bound_spans(holder, asked)
        holder.handles.add(handle)
        self._through.setdefault(handle, set()).add(holder)
        had = len(holder.spans)
        done = set_lock(holder.fd, holder.owner, asked)
        if done:
            self._note(holder, asked, had)
        elif holder.owner.flock and had:
            holder.spans = Spans()  # flock(2): to change a lock, the kernel releases it and requests another
            self.changed(holder, False)
            return False, True
        return done, done and had > 0 and asked.kind != WRLCK

    def _bound_spans(self, holder: Holder, asked: Asked) -> None:
        room = self._limits.spans - len(holder.spans)
        grows = holder.spans.splits(asked.start, asked.end) if asked.kind == UNLCK else 2
        if grows > room:
            self._refused += 1
            raise OSError(errno.ENOLCK, "too many byte ranges")

    def _note(self, holder: Holder, asked: Asked, had: int) -> None:
        if asked.kind == UNLCK:
            holder.spans.unlock(asked.start, asked.end)
            if had and not holder.spans:
                self._count_ranges(holder, -1)
            self.changed(holder, bool(holder.spans))
            return
        if not had:
            self._count_ranges(holder, 1)
        holder.spans.lock(asked.start, asked.end, exclusive=asked.kind == WRLCK)
        holder.pid = asked.pid
        if not had:  # moved to the end: like the kernel, blocker() names the owner that locked first
            owners = self._files[holder.inode]
            owners[holder.owner] = owners.pop(holder.owner)
        self.changed(holder, True)

    def _count_ranges(self, holder: Holder, change: int) -> None:
        """Count lock owners with locked byte ranges. change: 1 after an owner's first lock, -1 after its
        last."""
        if not holder.owner.flock:
            self._ranges += change
            if self._ranges == (change > 0):
                self._ranges_held(change > 0)

    def blocker(self, inode: Inode, owner: Owner, asked: Asked, fd: int) -> Blocker | None:
        """Return a lock that conflicts with an owner's request (F_GETLK), or None. For UNLCK, return the
        owner's own lock in that range, as F_OFD_GETLK does. fd: any descriptor of the file."""
        mine = self.find(inode, owner)
        if asked.kind == UNLCK:
            span = mine.spans.first_overlap(asked.start, asked.end) if mine is not None else None
            return _blocker(span, mine.pid) if span is not None and mine is not None else None
        for other, span in self._conflicts(inode, owner, asked):
            return _blocker(span, other.pid)
        return find_blocker(fd if mine is None else mine.fd, asked)

    def _conflicts(self, inode: Inode, owner: Owner, asked: Asked) -> Iterator[tuple[Holder, Span]]:
        for other, holder in self._files.get(inode, {}).items():
            if other != owner and other.flock == owner.flock:
                span = holder.spans.conflict(asked.start, asked.end, exclusive=asked.kind == WRLCK)
                if span is not None:
                    yield holder, span

    # -- waiting ----------------------------------------------------------------------------------

    def wait(self, holder: Holder, asked: Asked, handle: int, told: Callable[[int], None]) -> Waiter:
        """Add a waiting request for a lock that attempt() did not get. Raises OSError: EDEADLK, or ENOLCK (a
        limit)."""
        of_app = sum(waiter.holder.app == holder.app for waiter in self._all_waiters())
        if of_app >= self._limits.waiting - self._waiting:
            self._refused += 1
            raise OSError(errno.ENOLCK, "too many requests wait for locks")
        if not holder.owner.flock and self._deadlock(holder, asked):
            self._deadlocks += 1
            raise OSError(
                errno.EDEADLK,
                "a deadlock: the lock's holder waits, directly or through others, for a lock of the caller",
            )
        waiter = Waiter(holder, asked, handle, told)
        self._waiters.setdefault(holder.inode, []).append(waiter)
        self._waiting += 1
        return waiter

    def cancel(self, waiter: Waiter) -> None:
        """End the wait of a request, without a call of `waiter.told`. Do nothing if the wait has ended."""
        queue = self._waiters.get(waiter.holder.inode, [])
        if waiter in queue:
            self._remove(waiter)

    def _remove(self, waiter: Waiter) -> None:
        queue = self._waiters[waiter.holder.inode]
        queue.remove(waiter)
        self._waiting -= 1
        if not queue:
            del self._waiters[waiter.holder.inode]

    def retry_all(self) -> None:
        """Try every waiting request again, even those that wait for locks held outside this table."""
        for inode in list(self._waiters):
            self._wake(inode)

    def _wake(self, inode: Inode) -> None:
        again = True
        while again:
            again = False
            for waiter in list(self._waiters.get(inode, ())):
                answer = 0
                try:
                    done, freed = self._try(waiter.holder, waiter.asked, waiter.handle)
                except OSError as error:
                    done, freed, answer = True, False, error.errno or errno.EIO
                again |= freed
                if done:
                    self._remove(waiter)
                    waiter.told(answer)

    def _deadlock(self, holder: Holder, asked: Asked) -> bool:
        """Return True if the owner of a conflicting lock waits for this owner, directly or through other
        owners that wait."""
        waits: dict[int, list[Waiter]] = {}
        for waiter in self._all_waiters():
            if not waiter.holder.owner.flock:
                waits.setdefault(waiter.holder.owner.number, []).append(waiter)
        me, seen, looks = holder.owner.number, set[int](), _DEADLOCK_LOOKS
        ahead = [other.owner.number for other, _ in self._conflicts(holder.inode, holder.owner, asked)]
        while ahead:
            number = ahead.pop()
            if number == me:
                return True
            if number in seen:
                continue
            seen.add(number)
            for waiter in waits.get(number, ())[:looks]:
                looks -= 1
                blocked = self._conflicts(waiter.holder.inode, waiter.holder.owner, waiter.asked)
                ahead += [other.owner.number for other, _ in blocked]
        return False

    # -- the end of locks ---------------------------------------------------------------------------

    def drop(self, inode: Inode, owner: Owner) -> None:
        """Release all locks of an owner in a file, because a process closed a descriptor of the file."""
        holder = self.find(inode, owner)
        if holder is not None:
            self._give_up(holder)

    def released(self, handle: int) -> None:
        """Release the flock(2) and OFD locks that were taken through *handle*, because its file is closed
        now. End the waiting requests of the handle with EINTR."""
        for waiter in [waiter for waiter in self._all_waiters() if waiter.handle == handle]:
            self._remove(waiter)
            waiter.told(errno.EINTR)
        for holder in self._through.pop(handle, ()):
            self._give_up(holder)

    def _give_up(self, holder: Holder) -> None:
        owners = self._files.get(holder.inode, {})
        if owners.get(holder.owner) is not holder:
            return
        if holder.spans:
            self._count_ranges(holder, -1)
            self.changed(holder, False)
        if any(waiter.holder is holder for waiter in self._waiters.get(holder.inode, ())):
            # Another thread of the process still waits for a lock in the same file, so the holder stays.
            # If the thread gets its lock, the holder is linked to the thread's handle again.
            for span in holder.spans:
                set_lock(holder.fd, holder.owner, Asked(span.start, span.end, UNLCK, 0))
            holder.spans = Spans()
            self._unlink(holder)
            self._wake(holder.inode)
            return
        del owners[holder.owner]
        if not owners:
            del self._files[holder.inode]
        self._unlink(holder)
        self._holders -= 1
        self._count[holder.app] -= 1
        if not self._count[holder.app]:
            del self._count[holder.app]
        os.close(holder.fd)
        if holder.spans:
            self._wake(holder.inode)

    def _unlink(self, holder: Holder) -> None:
        """Unlink a holder from its handles: the end of a handle no longer releases the holder's locks."""
        for handle in holder.handles:
            through = self._through.get(handle)
            if through is not None:
                through.discard(holder)
                if not through:
                    del self._through[handle]
        holder.handles.clear()

    def close(self) -> None:
        """Release all locks. Waiting requests get EINTR."""
        for waiter in list(self._all_waiters()):
            self._remove(waiter)
            waiter.told(errno.EINTR)
        for holder in self._all():
            self._give_up(holder)

    # -- counts -------------------------------------------------------------------------------------

    def _all(self) -> list[Holder]:
        return [holder for owners in self._files.values() for holder in owners.values()]

    def _all_waiters(self) -> Iterator[Waiter]:
        for queue in list(self._waiters.values()):
            yield from list(queue)

    @property
    def waiting(self) -> int:
        """Return the number of waiting requests."""
        return self._waiting

    def stats(self) -> LockStats:
        """Return the present counts."""
        held = sum(len(holder.spans) for holder in self._all())
        return LockStats(held, self._holders, self._waiting, self._refused, self._deadlocks)


def _blocker(span: Span, pid: int) -> Blocker:
    return Blocker(span.start, span.end, WRLCK if span.exclusive else RDLCK, pid)
