"""The file system's parts on a real directory, without a kernel in front: requests are method calls.

What a mount cannot be made to do at will (a policy that changes while a file is being sniffed, a
writer that comes between two steps) is done here step by step: the sniffer answers when it is told.
"""

from __future__ import annotations

import functools
import os
from collections.abc import Awaitable, Callable, Hashable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import trio

from policyfs.content.cache import KindCache
from policyfs.domain import Audit
from policyfs.fs.access.audit import Recorder
from policyfs.fs.access.facts import FactFinder
from policyfs.fs.access.gate import Gate
from policyfs.fs.access.hiding_owners import HidingOwners
from policyfs.fs.access.shown_modes import ShownModes
from policyfs.fs.access.views import Views
from policyfs.fs.checked.change_lock import ChangeLock
from policyfs.fs.checked.drafts import Drafts
from policyfs.fs.checked.head_writes import Checker
from policyfs.fs.checked.moved_file import MovedFiles
from policyfs.fs.checked.rejection import Rejections
from policyfs.fs.checked.withheld_names import WithheldNames
from policyfs.fs.context import FsContext
from policyfs.fs.data.operations import DataOperations
from policyfs.fs.data.ranges import Ranges
from policyfs.fs.data.read import FileReader
from policyfs.fs.data.sync import FileSync
from policyfs.fs.data.write import FileWriter
from policyfs.fs.data.write_guard import WriteGuard
from policyfs.fs.data.write_paths import DirectWrites, DraftWrites, HeadCheckedWrites
from policyfs.fs.inodes.handles import Caller, Handle, HandleTable
from policyfs.fs.inodes.node import ROOT_ID, BytePath, Node
from policyfs.fs.inodes.node_table import NodeTable
from policyfs.fs.inodes.replaced_files import ReplacedFiles
from policyfs.fs.inodes.resolver import Resolver
from policyfs.fs.kernel_cache.attributes import Timeouts
from policyfs.fs.namespace.create import Creator
from policyfs.fs.namespace.entries import Entries
from policyfs.fs.namespace.link import Linker
from policyfs.fs.namespace.lookup import Lookup
from policyfs.fs.namespace.operations import NameOperations
from policyfs.fs.namespace.readdir import DirectoryListings
from policyfs.fs.namespace.rename import Renamer
from policyfs.fs.namespace.setattr import AttributeSetter
from policyfs.fs.namespace.tmpfile import Tmpfiles
from policyfs.fs.namespace.unlink import Remover
from policyfs.fs.namespace.xattr import ExtendedAttributes
from policyfs.fs.namespace.xattr_bans import AttributeBans
from policyfs.fs.opening.backing_file import BackingFiles
from policyfs.fs.opening.byte_paths import LeasedPath, LivePath, RawPath
from policyfs.fs.opening.copy_path import CopyPath
from policyfs.fs.opening.lifecycle import Lifecycle
from policyfs.fs.opening.open_files import OpenFiles
from policyfs.fs.opening.opener import Opener
from policyfs.fs.opening.passthrough import Passthrough
from policyfs.fs.opening.preconditions import Preconditions
from policyfs.fs.opening.write_access import WriteAccess
from policyfs.fs.redacted.copies import Redactor
from policyfs.fs.redacted.hidden_words import HiddenWords
from policyfs.fs.redacted.leased import LeasedFiles
from policyfs.fs.redacted.plans import PlanFinder
from policyfs.journal.committer import Committer
from policyfs.journal.journal import JournalError
from policyfs.journal.ticket import Ticket
from policyfs.policy.decide import Engine
from policyfs.redact import plan as plans
from policyfs.redact.core.patches import MemorySource
from policyfs.store.copies import CopyCache
from policyfs.store.facts import probe
from policyfs.store.latches import Latches
from policyfs.store.owner import Owners
from policyfs.store.tree import Tree
from policyfs.trail.event import Event

KINDS = (
    (b"\xff\xd8\xff", "image/jpeg"),
    (b"\x89PNG\r\n\x1a\n", "image/png"),
    (b"words", "text/plain"),
)


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

    async def _turn(self) -> None:
        self.asked.set()
        if self.gate is not None:
            await self.gate.wait()

    def _kind(self, head: bytes) -> str:
        if not head:
            return "inode/x-empty"
        return next((kind for start, kind in KINDS if head.startswith(start)), "application/octet-stream")

    async def kind_of_fd(self, fd: int, *, lane: Hashable = None) -> str | None:
        head = os.pread(fd, 64, 0)
        await self._turn()
        return self._kind(head)

    async def kind_of_head(self, head: bytes, *, lane: Hashable = None) -> str | None:
        await self._turn()
        return self._kind(head)

    async def locate(self, fd: int, what: frozenset[str], *, lane: Hashable = None, version: Hashable = None):
        data = os.pread(fd, 1 << 24, 0)
        await self._turn()
        kind = self._kind(data)
        return kind, plans.locate(kind, what, MemorySource(data))


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


class Parts:
    """One file system on a store, shared by all uids (or the mount of *app*)."""

    def __init__(self, store: Path, engine: Engine, app: str | None = None, descriptors: int = 64) -> None:
        self.store = store
        self.sink, self.sniffed = Sink(), Sniffed()
        self.dropped_pages: list[int] = []
        self.forgotten: list[Node] = []
        self.sizes_forgotten: list[int] = []
        self.attributes_forgotten: list[int] = []
        self.tree = tree = Tree.open(str(store))
        self.nodes = nodes = NodeTable(tree.fstat(tree.root_fd), engine.root, engine.child)
        self.handles = handles = HandleTable()
        self.timeouts = Timeouts(alone=app is not None)
        self.timeouts.use(engine)
        self.resolver = resolver = Resolver(
            tree, nodes, capacity=descriptors, watched=lambda: True, on_open=lambda node, fd: None
        )
        owners = Owners(probe(tree.root_fd).trusted_xattr)
        assert owners.how == "xattr", "this test needs a store with trusted xattrs"
        self.owners = owners
        self.owners_above = HidingOwners(tree, nodes, resolver, owners, watched=lambda: True)
        self.gate = gate = Gate(
            engine,
            owners_above=self.owners_above,
            app=app,
            resolver=resolver,
            facts=FactFinder(tree, owners, self.sniffed, KindCache()),
            recorder=Recorder(self.sink, "/mnt"),
            open_fd=handles.descriptor_of,
        )
        self.fs = fs = FsContext(tree, nodes, handles, resolver, gate)
        self.copies = CopyCache(1 << 26)
        plans = PlanFinder(self.sniffed, None)
        self.redactor = redactor = Redactor(
            tree, plans, None, self.copies, reflink=False, size_cap=1 << 24, places=None
        )
        views = Views(nodes, gate.facts, redactor.copyable)
        self.passthrough = passthrough = Passthrough(None)
        self.leased = leased = LeasedFiles(fs, plans, None, self.dropped_pages.append)
        self._latches = Latches(f"{store}.lock")
        change_lock = ChangeLock(self._latches)
        self.withheld_names = withheld_names = WithheldNames(nodes, self.forgotten.append, self._forget_now)
        rejections = Rejections(fs, self.forgotten.append)
        drafts = Drafts(fs, kinds=self.sniffed, plans=plans, change_lock=change_lock, rejections=rejections)
        replaced_files = ReplacedFiles()
        self.backing_files = BackingFiles(fs, replaced_files=replaced_files)
        self.write_access = WriteAccess(
            fs, views=views, leased=leased, change_lock=change_lock, drafts=drafts,
            forget_names=self.forgotten.append,
        )  # fmt: skip
        self.lifecycle = Lifecycle(fs, passthrough=passthrough, leased=leased, forget_size=self._forget_size)
        preconditions = Preconditions(fs, views=views, replaced_files=replaced_files)
        hidden = HiddenWords(fs)
        served = {"preconditions": preconditions, "passthrough": passthrough, "lifecycle": self.lifecycle}
        paths = {
            BytePath.RAW: RawPath(fs, **served),
            BytePath.LIVE: LivePath(fs, hidden=hidden, redactor=redactor),
            BytePath.COPY: CopyPath(fs, redactor=redactor, **served),
            BytePath.LEASED: LeasedPath(leased),
        }
        self.opener = Opener(
            fs, paths=paths, preconditions=preconditions, lifecycle=self.lifecycle,
            backing_files=self.backing_files, write_access=self.write_access, replaced_files=replaced_files,
        )  # fmt: skip
        self.open_files = open_files = OpenFiles(
            fs, backing_files=self.backing_files, forget_attributes=self.attributes_forgotten.append
        )
        guard = WriteGuard(fs, hidden, self.dropped_pages.append)
        checker = Checker(fs, self.sniffed, change_lock, rejections)
        draft = DraftWrites(guard, drafts, self.dropped_pages.append)
        head_checked = HeadCheckedWrites(tree, guard, checker, draft)
        held = {"guard": guard, "head_checked": head_checked, "draft": draft}
        self.reader = FileReader(fs, paths)
        self.writer = FileWriter(
            fs, direct=DirectWrites(tree, guard, change_lock, remote=False),
            drop_pages=self.dropped_pages.append, **held,
        )  # fmt: skip
        self.sync = FileSync(
            fs, checker=checker, withheld_names=withheld_names, backing_fd=open_files.backing_fd, **held
        )
        self.lookup = Lookup(
            fs, views=views, timeouts=self.timeouts, replaced_files=replaced_files,
            withheld_names=withheld_names,
            modes=ShownModes(gate, by_mount=False, any_uid=False, read_only=False),
        )  # fmt: skip
        self.listings = DirectoryListings(
            fs, timeouts=self.timeouts, lookup=self.lookup, withheld_names=withheld_names
        )
        self.creator = Creator(fs, lookup=self.lookup, opener=self.opener, withheld_names=withheld_names)
        self.tmpfiles = Tmpfiles(fs, lookup=self.lookup, opener=self.opener, open_files=open_files)
        entries = Entries(
            fs, open_files=open_files, replaced_files=replaced_files, passthrough=passthrough,
            withheld_names=withheld_names,
        )  # fmt: skip
        self.remover = Remover(fs, entries=entries, open_files=open_files)
        self.linker = Linker(
            fs, entries=entries, lookup=self.lookup, open_files=open_files, tmpfiles=self.tmpfiles,
            change_lock=change_lock, withheld_names=withheld_names,
        )  # fmt: skip
        self.renamer = Renamer(
            fs, entries=entries, open_files=open_files, sync=self.sync,
            moved_files=MovedFiles(fs, self.sniffed, plans, None), timeouts=self.timeouts,
            change_lock=change_lock, forget_all_names=lambda: self.forgotten.append(self.root),
        )  # fmt: skip
        self.attribute_setter = AttributeSetter(
            fs, lookup=self.lookup, opener=self.opener, open_files=open_files, writer=self.writer,
            sync=self.sync, set_id_bits=None,
        )  # fmt: skip
        self.xattrs = ExtendedAttributes(
            fs, open_files=open_files, bans=AttributeBans(gate), change_lock=change_lock, set_id_bits=None
        )
        self.names = NameOperations(
            self.lookup, self.listings, self.creator, self.tmpfiles, self.linker, self.remover, self.renamer,
            self.attribute_setter, self.xattrs,
        )  # fmt: skip
        ranges = Ranges(fs, reader=self.reader, writer=self.writer, open_files=open_files)
        self.data = DataOperations(self.reader, self.writer, self.sync, ranges)

    async def _forget_now(self, node: Node) -> None:
        self.forgotten.append(node)

    async def _forget_size(self, nodeid: int) -> None:
        self.sizes_forgotten.append(nodeid)

    def close(self) -> None:
        for handle in list(self.handles):
            self.opener.close(handle)
        self.copies.close()
        self.resolver.close()
        self.tree.close()
        self._latches.close()

    def reload(self, engine: Engine) -> None:
        """What the daemon does at a reload."""
        self.gate.use(engine)
        self.timeouts.use(engine)
        self.nodes.use(engine.root, engine.child)

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
