"""The file system's parts on a real directory, without a kernel in front: requests are method calls.

What a mount cannot be made to do at will (a policy that changes while a file is being sniffed, a
writer that comes between two steps) is done here step by step: the sniffer answers when it is told.
"""

from __future__ import annotations

import contextlib
import functools
import os
import struct
import tempfile
from collections.abc import Awaitable, Callable, Hashable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import trio
import trio.testing

from policyfs.domain import Audit
from policyfs.fs.filesystem import FileSystem
from policyfs.fs.foundation import Foundation, Settings
from policyfs.fs.inodes.caller import Admitted, Caller
from policyfs.fs.inodes.handles import Handle
from policyfs.fs.inodes.node import ROOT_ID, Node
from policyfs.journal.writing.committer import Committer
from policyfs.journal.writing.journal import JournalError
from policyfs.journal.writing.ticket import Ticket
from policyfs.kernel.bridge import FH_KEEP_CACHE, open_reply
from policyfs.policy.decide import Engine
from policyfs.redact import plan as plans
from policyfs.redact.core.frame_table import FrameTable
from policyfs.redact.core.patches import MemorySource
from policyfs.store.kept.bins import Bins
from policyfs.store.kept.kept_files import KeptFiles
from policyfs.store.kept.room import Room
from policyfs.store.locking.leases import LeaseKeeper
from policyfs.store.owner import Owners
from policyfs.store.quarantine import Limits, Quarantine
from policyfs.store.tree import Tree
from policyfs.store.trial import probe
from policyfs.trail.lines.event import Event

KINDS = (
    (b"\xff\xd8\xff", "image/jpeg"),
    (b"\x89PNG\r\n\x1a\n", "image/png"),
    (b"words", "text/plain"),
)


def kept_in(tree: Tree) -> KeptFiles:
    """What is kept for undo in a store; for a machine of no name."""
    return KeptFiles(tree, Bins(tree.root_fd, "machine"), Room(tree.root_fd), most_bytes=1 << 20)


def on_trio(test: Callable[..., Awaitable[None]]) -> Callable[..., None]:
    """Run an async test, 20 seconds at most."""

    @functools.wraps(test)
    def run(*args, **kwargs) -> None:
        async def main() -> None:
            with trio.fail_after(20):
                await test(*args, **kwargs)

        trio.run(main)

    return run


class Sniffed:
    """Kinds by the first bytes. While *gate* is an event that is not set, no answer comes."""

    def __init__(self) -> None:
        self.gate: trio.Event | None = None
        self.asked = trio.Event()

    async def wanted(self) -> None:
        """Wait until a task waits for the gate, if there is one (a copy is made on a thread before), and all
        others wait, too."""
        with trio.fail_after(10):
            while self.gate is not None and not self.gate.statistics().tasks_waiting:  # noqa: ASYNC110
                await trio.sleep(0.001)  # a gate has no event for that
        await trio.testing.wait_all_tasks_blocked()

    async def _turn(self) -> None:
        self.asked.set()
        if self.gate is not None:
            await self.gate.wait()

    def _kind(self, head: bytes) -> str:
        if not head:
            return "inode/x-empty"
        return next((kind for start, kind in KINDS if head.startswith(start)), "application/octet-stream")

    async def kind_of_fd(
        self, fd: int, *, lane: Hashable = None, first: bool = False, must: bool = False
    ) -> str | None:
        head = os.pread(fd, 64, 0)
        await self._turn()
        return self._kind(head)

    async def kind_of_head(self, head: bytes, *, lane: Hashable = None) -> str | None:
        await self._turn()
        return self._kind(head)

    async def index(
        self, fd: int, what: frozenset[str], *, lane: Hashable = None, version: Hashable = None,
        first: bool = False,
    ):  # fmt: skip
        data = os.pread(fd, 1 << 24, 0)
        await self._turn()
        kind = self._kind(data)
        return kind, plans.locate(kind, what, MemorySource(data), frames_later=True)

    async def look(
        self, fd: int, kind: str, what: frozenset[str], frames: FrameTable, *, lane: Hashable = None,
        first: bool = False,
    ) -> plans.Plan:  # fmt: skip
        return plans.look_at(frames, what, MemorySource(os.pread(fd, 1 << 24, 0)))


class Sink:
    """Events in a list; *broken*: nothing that must be recorded can be."""

    def __init__(self) -> None:
        self.events: list[Event] = []
        self.broken = False
        self.at_once = Committer(self.commit).at_once

    def admit(self, event: Event, audit: Audit, *, paid: bool = False) -> Ticket | None:
        if audit is Audit.REQUIRED:
            return Ticket(event, 0.0)
        self.events.append(event)
        return None

    def commit(self, tickets: Sequence[Ticket]) -> None:
        for ticket in tickets:
            ticket.error = JournalError("no room") if self.broken else None
            if not self.broken:
                self.events.append(ticket.event)


class Notes:
    """What the kernel is asked to forget, by the numbers of nodes."""

    def __init__(self) -> None:
        self.pages: list[int] = []
        self.sizes: list[int] = []

    def is_over(self) -> bool:
        """The kernel stays."""
        return False

    def inval_inode(self, nodeid: int, offset: int = -1, length: int = 0) -> None:
        del length
        if offset == 0:
            self.pages.append(nodeid)

    def inval_attributes_now(self, nodeid: int) -> None:
        self.sizes.append(nodeid)

    def tend(self) -> None:
        """Nothing hangs here."""

    def inval_then(self, nodeid: int, done: Callable[[], None], *, pages: bool) -> bool:
        del pages
        self.sizes.append(nodeid)
        done()
        return True

    def inval_inodes(self, nodeids: Iterable[int]) -> bool:
        self.sizes += nodeids
        return True

    def inval_entry(self, parent: int, name: bytes, expire: bool) -> None:
        """It knows no names."""

    def expire_entries(self, entries: Iterable[tuple[int, bytes]]) -> bool:
        for parent, name in entries:
            self.inval_entry(parent, name, True)
        return True

    def inval_entries_now(self, entries: Iterable[tuple[int, bytes, bool]]) -> bool:
        for entry in entries:
            self.inval_entry(*entry)
        return True

    def inc_epoch_now(self) -> bool:
        return True

    def inc_epoch(self) -> bool:
        return True


class Parts:
    """One file system on a store, shared by all uids (or the mount of *app*), without watch."""

    def __init__(
        self, store: Path, engine: Engine, app: str | None = None, descriptors: int = 64,
        admitted: Admitted | None = None, latches: Path | None = None, keeper: LeaseKeeper | None = None,
        copy_bytes: int = 1 << 24,
    ) -> None:  # fmt: skip
        """latches: the file of locks that it shares with other file systems; by default one of its own.
        keeper: keeps the leases of files of more than *copy_bytes*."""
        self.store = store
        self.sink, self.sniffed, self.notes = Sink(), Sniffed(), Notes()
        self.bugs: list[BaseException] = []
        self.tree = tree = Tree.open(str(store))
        facts = replace(
            probe(tree.root_fd), leases=keeper is not None, reflink=False, times_tell=False, fanotify=False,
            remote=False,
        )  # fmt: skip
        self.owners = owners = Owners(facts.trusted_xattr)
        assert owners.how == "xattr", "this test needs a store with trusted xattrs"
        self._beside = contextlib.ExitStack()
        beside = Path(self._beside.enter_context(tempfile.TemporaryDirectory()))
        self.whole = whole = FileSystem(
            Settings(
                mountpoint="/mnt", store=str(store), app=app, device_fd=None, copy_bytes=copy_bytes,
                cache_bytes=1 << 26, directories=descriptors, descriptors=64,
                quarantine=Limits(1 << 20, 100), latches=str(latches or beside / "lock"),
                admitted=admitted,
            ),
            engine,
            Foundation(
                tree=tree, facts=facts, owners=owners, sniffer=self.sniffed, keeper=keeper,
                watch=None, journal=self.sink, kept=kept_in(tree),
                quarantine=Quarantine(beside / "quarantine"),
                remembered=None, warn=lambda message, path: None,
            ),
            self,
        )  # fmt: skip
        whole.timeouts.watched = True
        whole.kernel_cache.notifier = self.notes
        self.fs, self.data, self.names = whole.context, whole.data, whole.names
        self.nodes, self.handles, self.resolver, self.gate = (
            whole.nodes, whole.handles, whole.resolver, whole.gate,
        )  # fmt: skip
        self.copies, self.passthrough, self.timeouts = whole.copies, whole.passthrough, whole.timeouts
        self.opener, self.leased = whole.opener, whole.leased
        self.owners_above = whole.changes.owners_above
        # Each by its name in the file system: `redactor`, `writer`, `renamer` ...
        for part in (whole.opening, whole.data, whole.names):
            for name in part.__slots__:
                setattr(self, name, getattr(part, name))

    def bug(self, where: str, error: BaseException) -> None:
        """Take note of an unexpected exception."""
        del where
        self.bugs.append(error)

    def close(self) -> None:
        for handle in list(self.handles):
            self.opener.close(handle)
        self.whole.close()
        self.tree.close()
        self._beside.close()

    def reload(self, engine: Engine) -> None:
        """Decide by another policy, as after a reload."""
        self.whole.use(engine)

    def caller(self, uid: int) -> Caller:
        """A process of that uid."""
        return self.gate.caller(_Context(uid))

    @property
    def root(self) -> Node:
        return self.nodes.root

    async def walk(self, path: str, uid: int) -> Node:
        """The node that a path leads this caller to, as the kernel asks for it."""
        node = self.root
        for name in path.strip("/").split("/"):
            entry = await self.lookup.lookup(node, name.encode(), self.caller(uid))
            assert entry.st_ino not in (0, ROOT_ID), f"{name} of {path} is absent"
            node = self.nodes.get(entry.st_ino)
        return node

    async def open(self, path: str, flags: int, uid: int) -> Handle:
        """open(2): what is stale is looked up once more, as the kernel does."""
        try:
            return await self.opener.open(await self.walk(path, uid), flags, self.caller(uid))
        except OSError as error:
            if type(error).__name__ != "StaleNodeError":
                raise
        return await self.opener.open(await self.walk(path, uid), flags, self.caller(uid))

    async def write(self, handle: Handle, offset: int, data: bytes) -> int:
        return await self.writer.write(handle, offset, data, append=False, kill_priv=False)

    async def release(self, handle: Handle) -> None:
        """RELEASE."""
        try:
            await self.sync.finish(handle)
        finally:
            self.opener.close(handle)


class _Context:
    """A request's context as pyfuse3 gives it."""

    def __init__(self, uid: int) -> None:
        self.uid, self.gid, self.pid, self.umask = uid, uid, os.getpid(), 0o022


@contextmanager
def parts(store: Path, engine: Engine, **options) -> Iterator[Parts]:
    """The parts on a store, closed afterwards."""
    made = Parts(store, engine, **options)
    try:
        yield made
    finally:
        made.close()


def keeps_pages(handle: Handle) -> bool:
    """True if the reply to the open lets the kernel keep the pages that it has of the file."""
    _, flags, _ = struct.unpack("=QIi", open_reply(handle.fh))
    return bool(flags & FH_KEEP_CACHE)
