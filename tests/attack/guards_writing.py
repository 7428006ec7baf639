"""Guards of what is written (threats C), taken out; and daemons that stop where a race is decided."""

from __future__ import annotations

import contextlib
import errno
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final, Self

import trio

import policyfs.fs.checked.head_writes as checked_module
import policyfs.fs.data.write_paths as paths_module
import policyfs.fs.inodes.replaced_files as orphans_module
import policyfs.fs.opening.lifecycle as lifetimes_module
import policyfs.policy.raw_names as raw_names_module
from policyfs.fs.access.brakes import Brakes
from policyfs.fs.checked.change_lock import ChangeLock
from policyfs.fs.checked.head_writes import Checker
from policyfs.fs.data.write_paths import DirectWrites
from policyfs.fs.namespace import rename
from policyfs.fs.namespace.create import Creator
from policyfs.fs.opening.lifecycle import Lifecycle
from policyfs.fs.opening.open_files import BackingFiles
from policyfs.fs.opening.opener import Opener
from policyfs.fs.opening.request import OpenContext
from policyfs.fs.sharing import kernel_locks
from policyfs.fs.sharing.name_lock import NameLock
from policyfs.policy.moves.moves import Mover
from policyfs.policy.raw_names import Changes
from policyfs.store.locking.latches import HeldFiles, Latches
from policyfs.store.owner import Owners
from policyfs.store.tree import Tree
from tests.attack.guards import named, put

STOPS: Final = "POLICYFS_TEST_STOPS"
WAITS: Final = "POLICYFS_TEST_WAITS"
_LONG_S: Final = 60.0


def stopper() -> Callable[[], None]:
    """Says in the first of two fifos that it has come so far, and goes on when the other says so."""
    says, hears = (os.open(path, os.O_RDWR) for path in os.environ[STOPS].split(":"))

    def stop() -> None:
        os.write(says, b".")
        os.read(hears, 1)

    return stop


class Stops:
    """The test's half of stopper(): tells when the daemon has stopped, and lets it go on."""

    def __init__(self, environment: dict[str, str], directory: Path) -> None:
        """environment: of a daemon that is not started yet. directory: for the fifos."""
        fifos = [directory / name for name in ("says", "hears")]
        for fifo in fifos:
            os.mkfifo(fifo)
        environment[STOPS] = ":".join(map(str, fifos))
        self._says, self._hears = (os.open(fifo, os.O_RDWR | os.O_NONBLOCK) for fifo in fifos)

    def stopped(self) -> bool:
        """Return True once for each stop."""
        try:
            return bool(os.read(self._says, 1))
        except BlockingIOError:
            return False

    def go_on(self, times: int = 1000) -> None:
        """Let the daemon pass so many stops; by default all that a test may meet."""
        os.write(self._hears, b"." * times)


def stops_when_judged() -> None:
    """No guard is gone, but the daemon stops when a change is judged and not made yet."""
    stop, take = stopper(), Latches.take

    def stopping(self: Latches, fd: int) -> int | None:
        stop()
        return take(self, fd)

    put(Latches, "take", stopping)


def stops_when_looked() -> None:
    """No guard is gone, but the daemon stops between its last look at a file and the change."""
    stop, is_still = stopper(), Checker._is_still

    def stopping(self: Checker, handle: Any, judged: bytes | None) -> bool:
        found = is_still(self, handle, judged)
        stop()
        return found

    put(Checker, "_is_still", stopping)


def stops_before_removal() -> None:
    """No guard is gone, but the daemon stops when it has looked at a name, and is about to take it away."""
    stop, calls = stopper(), {name: getattr(Tree, name) for name in ("unlink", "rename2")}

    def stopping(name: str) -> Callable[..., None]:
        def call(self: Tree, *arguments: Any) -> None:
            if not arguments[1].startswith(b"policyfs-aside-"):
                stop()
            calls[name](self, *arguments)

        return call

    for name in calls:
        put(Tree, name, stopping(name))


def stops_when_decided() -> None:
    """No guard is gone, but the daemon stops when it has decided on a name, and is about to lock it, and a
    request may keep the kernel's locks for longer than the stops take."""
    stop, take = stopper(), NameLock.take
    put(kernel_locks, "MOST_S", _LONG_S)
    put(rename, "MOST_S", _LONG_S)

    def stopping(self: NameLock, wanted: list[int]) -> bool:
        stop()
        return take(self, wanted)

    put(NameLock, "take", stopping)


def says_that_it_waits() -> None:
    """No guard is gone, but the daemon says in a fifo that another daemon is in its way."""
    says, waited = os.open(os.environ[WAITS], os.O_RDWR), ChangeLock._waited

    async def saying(self: ChangeLock, fd: int) -> None:
        os.write(says, b".")
        await waited(self, fd)

    put(ChangeLock, "_waited", saying)
    take = NameLock.take

    def taken(self: NameLock, wanted: list[int]) -> bool:
        is_taken = take(self, wanted)
        if not is_taken:
            os.write(says, b".")
        return is_taken

    put(NameLock, "take", taken)


def not_looked_again() -> None:
    """What was judged is written, whatever the file is by then."""
    put(Checker, "_is_still", lambda self, handle, judged: True)


def latches_open() -> None:
    """Nobody waits for the change of another daemon to end."""
    put(Latches, "take_number", lambda self, at: True)
    put(Latches, "give", lambda self, at: None)


def names_unlocked() -> None:
    """Nobody waits for the change of a name by another daemon."""
    put(NameLock, "take", lambda self, wanted: True)


def marks_unseen() -> None:
    """No daemon looks which files have bytes that another one holds."""
    put(HeldFiles, "is_held_elsewhere", lambda self, stat: False)


def stops_while_judging() -> None:
    """No guard is gone, but what is written is judged no sooner than the daemon is told to; others are served
    meanwhile."""
    says, hears = (os.open(path, os.O_RDWR | os.O_NONBLOCK) for path in os.environ[STOPS].split(":"))
    kind = Checker._kind

    async def waiting(self: Checker, handle: Any, head: bytes) -> str | None:
        os.write(says, b".")
        while True:
            with contextlib.suppress(BlockingIOError):
                os.read(hears, 1)
                return await kind(self, handle, head)
            await trio.sleep(0.0005)

    put(Checker, "_kind", waiting)


def stops_before_open() -> None:
    """No guard is gone, but each open waits until the daemon is told to go on; others are served meanwhile.
    What is kept for a moment is kept for longer, since a test may take longer."""
    says, hears = (os.open(path, os.O_RDWR | os.O_NONBLOCK) for path in os.environ[STOPS].split(":"))
    opened = Opener.open

    async def waiting(self: Opener, *request: Any) -> Any:
        os.write(says, b".")
        while True:
            with contextlib.suppress(BlockingIOError):
                os.read(hears, 1)
                return await opened(self, *request)
            await trio.sleep(0.0005)

    put(Opener, "open", waiting)
    put(orphans_module, "_KEPT_S", 30.0)


def says_before_emptying() -> None:
    """No guard is gone, but the daemon says in a fifo that an open has come as far as O_TRUNC."""
    says, finish = os.open(os.environ[WAITS], os.O_RDWR), Lifecycle.finish

    def saying(self: Lifecycle, opening: OpenContext) -> None:
        finish(self, opening)
        if opening.request.flags & os.O_TRUNC:
            os.write(says, b".")

    put(Lifecycle, "finish", saying)


def lock_of_its_own() -> None:
    """Each view of a file has a lock of its own."""
    put(lifetimes_module, "_is_written", lambda node: False)


def content_unjudged() -> None:
    """Whatever is written is of the right kind."""
    put(checked_module, "meets", lambda kind, content: True)


def late_unjudged() -> None:
    """Writes that wait for their check are stored without one."""
    judge = Checker._judge

    async def judged(self: Checker, change: Any, after: bytes) -> None:
        if not change.head.late:
            await judge(self, change, after)

    put(Checker, "_judge", judged)


def settled_by_word() -> None:
    """fsync and close say yes to what is held."""

    async def settle(self: Checker, *asked: Any) -> None:
        del self, asked

    put(Checker, "settle", settle)


def emptied_first() -> None:
    """O_TRUNC is carried out as the first thing, as open(2) of the store's file would."""
    find = BackingFiles.find

    def emptying(self: BackingFiles, node: Any, **opening: bool) -> tuple[int, Any]:
        fd, stat = find(self, node, **opening)
        with open(f"/proc/self/fd/{fd}", "r+b") as file:
            file.truncate(0)
        return fd, stat

    put(BackingFiles, "find", emptying)


def pages_take_long() -> None:
    """No guard is gone, but each page of a mapping takes a while to get into the store."""
    write_back = DirectWrites.write_back

    async def late(self: DirectWrites, *arguments: Any) -> int:
        await trio.sleep(6)
        return await write_back(self, *arguments)

    put(DirectWrites, "write_back", late)


def stops_in_a_page() -> None:
    """No guard is gone, but the daemon stops between its look at a file's size and the write of a page."""
    stop, put_all = stopper(), paths_module.put_all

    def stopping(*arguments: Any) -> None:
        stop()
        put_all(*arguments)

    put(paths_module, "put_all", stopping)


def store_is(remote: bool) -> Callable[[], None]:
    """No guard is gone, but pages are written as to a store of this machine, or of another one."""

    def weaken() -> None:
        make = DirectWrites.__init__

        def anew(self: DirectWrites, *parts: Any, **named: Any) -> None:
            make(self, *parts, **named | {"remote": remote})

        put(DirectWrites, "__init__", anew)

    return weaken


def owner_takes_long() -> None:
    """No guard is gone, but to set an owner takes 0.2 s."""
    set_owner = Owners.set

    def late(self: Owners, *request: Any) -> None:
        time.sleep(0.2)
        set_owner(self, *request)

    put(Owners, "set", late)


def name_before_owner() -> None:
    """A new file has its name before it has an owner: it is made neither without a name nor under another."""

    def fails(self: Tree, *request: Any, **options: Any) -> int:
        raise OSError(errno.EOPNOTSUPP, "no unnamed files")

    put(Tree, "create_unnamed", fails)
    put(Creator, "_made_aside", lambda self, *request, **options: None)


def limited_in_the_bridge() -> None:
    """The bridge removes and renames files, and opens them for writing, where a limit counts."""
    put(raw_names_module, "Changes", _Changing)


class _Changing(Changes):
    """Decisions that allow every change if they allow to make files."""

    def __new__(cls, made: Any, dated: Any, removed: Any, **others: Any) -> Self:
        if removed is None:
            removed, others = made, {"moved": made, "written": made}
        return super().__new__(cls, made, dated, removed, **others)


def directories_leave_limits() -> None:
    """A directory may be renamed to where a limit does not count its files, and a file linked there."""
    put(Mover, "_limits", lambda self, state: [])


def brakes_unsaved() -> None:
    """A brake is only in the daemon's memory."""
    put(Brakes, "_write", lambda self, path: None)


WRITING: Final = named(
    limited_in_the_bridge, directories_leave_limits, brakes_unsaved,
    owner_takes_long, name_before_owner, stops_when_judged, stops_when_looked, stops_before_removal,
    stops_when_decided, says_that_it_waits, not_looked_again, latches_open, names_unlocked, marks_unseen,
    stops_while_judging, stops_before_open, says_before_emptying, lock_of_its_own, content_unjudged,
    late_unjudged, settled_by_word, emptied_first, pages_take_long, stops_in_a_page,
) | {
    "store-is-local": store_is(remote=False),
    "store-is-remote": store_is(remote=True),
}  # fmt: skip
