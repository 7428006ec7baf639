"""One mount's file system, assembled: what decides, finds, opens, names and forgets.

Collaborators come in through constructors, here and nowhere else. What it stands on (store,
journal, sniffer, leases, watch) is built by mount.py and handed in.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

import trio

from policyfs.content.cache import KindCache
from policyfs.content.disk_cache import Remembered
from policyfs.content.sniffer import Sniffer
from policyfs.fs.access.audit import Recorder
from policyfs.fs.access.facts import FactFinder
from policyfs.fs.access.gate import Admitted, Gate
from policyfs.fs.access.hiding_owners import HidingOwners
from policyfs.fs.access.ledger import Sink
from policyfs.fs.access.shown_modes import ShownModes
from policyfs.fs.access.views import Views
from policyfs.fs.checked.change_lock import ChangeLock
from policyfs.fs.checked.drafts import Drafts
from policyfs.fs.checked.head_writes import Checker
from policyfs.fs.checked.moved_file import MovedFiles
from policyfs.fs.checked.quarantine_queue import QuarantineQueue
from policyfs.fs.checked.rejection import Rejections
from policyfs.fs.checked.withheld_names import WithheldNames
from policyfs.fs.data.locks import Locks
from policyfs.fs.data.ranges import Ranges
from policyfs.fs.data.read_write import FileIO
from policyfs.fs.error_boundary import BugLog
from policyfs.fs.handlers import Handlers
from policyfs.fs.inodes.handles import HandleTable
from policyfs.fs.inodes.node_table import Node, NodeTable
from policyfs.fs.inodes.replaced_files import ReplacedFiles
from policyfs.fs.inodes.resolver import Resolver
from policyfs.fs.kernel_cache.attributes import Timeouts
from policyfs.fs.kernel_cache.invalidation import Invalidation
from policyfs.fs.kernel_cache.pruning import Pruning
from policyfs.fs.namespace.create import Creator
from policyfs.fs.namespace.lookup import Lookup
from policyfs.fs.namespace.readdir import DirectoryListings
from policyfs.fs.namespace.rename import EntryChanger
from policyfs.fs.namespace.setattr import AttributeSetter
from policyfs.fs.namespace.setid import SetIdBits
from policyfs.fs.namespace.tmpfile import Tmpfiles
from policyfs.fs.namespace.xattr_bans import AttributeBans
from policyfs.fs.opening.backing_file import BackingFiles
from policyfs.fs.opening.copies import CopyOpener
from policyfs.fs.opening.lifecycle import Lifecycle
from policyfs.fs.opening.opener import Opener
from policyfs.fs.opening.passthrough import Passthrough
from policyfs.fs.path_bounds import MAX_NODES
from policyfs.fs.raw_handlers import RawHandlers
from policyfs.fs.redacted.copies import Redactor
from policyfs.fs.redacted.leased import LeasedFiles
from policyfs.fs.redacted.plans import PlanFinder
from policyfs.fs.redacted.second_looks import KindsConfirmed, SecondLooks
from policyfs.kernel.backing import Backing
from policyfs.kernel.bridge import hear_flushes
from policyfs.kernel.notify import Notifier
from policyfs.kernel.operations import Handler, Quick
from policyfs.kernel.protocol import Opcode
from policyfs.policy.decide import Engine
from policyfs.store.copies import CopyCache
from policyfs.store.facts import StoreFacts
from policyfs.store.latches import Latches
from policyfs.store.leases import LeaseKeeper
from policyfs.store.locks import Limits, LockTable
from policyfs.store.memory import MemoryPlaces
from policyfs.store.owner import Owners
from policyfs.store.quarantine import Limits as QuarantineLimits
from policyfs.store.quarantine import Quarantine
from policyfs.store.tree import Tree
from policyfs.store.watch import Watch

_FOLDING_SAID: Final = 1000
"""Of how many directories it is said that they are closed."""
_CLONE_IDLE_S: Final = 10.0
_WAITING_LOCKS: Final = 1024
"""How many requests may wait for locks, in all."""
_LOCKED_RANGES: Final = 4096
"""How many byte ranges one lock owner may have in one file."""
_FORGET_S: Final = 2.0


@dataclass(frozen=True, slots=True)
class Settings:
    """How a mount is to behave. app: whose mount it is, None for a shared one. Sizes in bytes.

    directories, lock_owners, descriptors, copies: how many descriptors may be kept for directories, locks,
    open files and frozen copies. nodes: how many files and directories the kernel may know. latches: the
    file through which the daemons of one store keep out of each other's way. device_fd: of the FUSE
    connection; None switches passthrough off. posix: behave natively where no rule asks for anything.
    policy_modes: show everyone modes by the policy (see ShownModes). any_uid: an app's mount that admits
    every uid. admitted: whom one with several groups admits. read_only: nobody writes. quarantine: what each
    app may have there.
    """

    mountpoint: str
    store: str
    app: str | None
    device_fd: int | None
    copy_bytes: int
    cache_bytes: int
    directories: int
    descriptors: int
    quarantine: QuarantineLimits
    posix: bool = False
    lock_owners: int = 512
    copies: int = 1024
    nodes: int = MAX_NODES
    latches: str = ""
    policy_modes: bool = False
    any_uid: bool = False
    admitted: Admitted | None = None
    read_only: bool = False


@dataclass(frozen=True, slots=True)
class Foundation:
    """What the file system stands on; all of it is closed by who made it.

    warn: says in the daemon's log what is wrong with a path of the store.
    """

    tree: Tree
    facts: StoreFacts
    owners: Owners
    sniffer: Sniffer
    keeper: LeaseKeeper
    watch: Watch | None
    journal: Sink
    quarantine: Quarantine
    remembered: Remembered | None
    warn: Callable[[str, bytes], None]


class FileSystem:
    """All parts of one mount. The notifier comes once the session runs."""

    def __init__(self, settings: Settings, engine: Engine, base: Foundation, bugs: BugLog) -> None:
        tree, sniffer, facts = base.tree, base.sniffer, base.facts
        keeper = base.keeper if facts.leases else None
        self._undo = contextlib.ExitStack()
        self._warn = base.warn
        self._folding: set[int] = set()
        self.notifier: Notifier | None = None
        self.nodes = nodes = NodeTable(tree.fstat(tree.root_fd), engine.root, engine.child)
        self.pruning = Pruning(nodes, settings.nodes)
        self.handles = handles = HandleTable(settings.descriptors)
        self.timeouts = timeouts = Timeouts(
            alone=settings.app is not None, guarded=settings.admitted is not None
        )
        self.changes = changes = Invalidation(base.watch, nodes, timeouts, tree.root_fd)
        self.resolver = resolver = Resolver(
            tree, nodes, capacity=settings.directories, watched=lambda: timeouts.watched,
            on_open=changes.learn, on_folding=self._say_folding,
        )  # fmt: skip
        self._undo.callback(resolver.close)
        finder, plans = self._finders(base, keeper)
        recorder = Recorder(base.journal, settings.mountpoint)
        owners_above = changes.owners_above = HidingOwners(
            tree, nodes, resolver, base.owners, watched=lambda: timeouts.watched
        )
        self.gate = gate = Gate(
            engine, app=settings.app, resolver=resolver, facts=finder, recorder=recorder,
            posix=settings.posix,
            owners_above=owners_above, open_fd=handles.descriptor_of, admitted=settings.admitted,
        )  # fmt: skip
        timeouts.use(engine)
        self.modes = modes = self._shown_modes(settings)
        backing = None if settings.device_fd is None else Backing(settings.device_fd)
        self.passthrough = passthrough = Passthrough(
            backing, tells_each=facts.tells_each, reserves=facts.reserves
        )
        self.copies = CopyCache(settings.cache_bytes, settings.copies, give_back=passthrough.give_back)
        self._undo.callback(self.copies.close)
        memory = self._undo.enter_context(MemoryPlaces())
        redactor = Redactor(
            tree, plans, keeper, self.copies, reflink=facts.reflink, size_cap=settings.copy_bytes,
            places=memory, apart=settings.app is None,
        )  # fmt: skip
        change_lock = ChangeLock(self._undo.enter_context(contextlib.closing(Latches(settings.latches))))
        views = Views(
            nodes, finder, redactor.copyable, proves_raw=lambda: keeper is not None and passthrough.enabled
        )
        self.leased = leased = LeasedFiles(tree, nodes, gate, plans, keeper, self.drop_pages)
        withheld_names = WithheldNames(nodes, self.forget_names, self.forget_names_now)
        rejections = Rejections(tree, resolver, gate, self.forget_names)
        self.quarantine = self._quarantine_queue(settings, base, recorder)
        self.drafts = drafts = Drafts(
            tree=tree, gate=gate, kinds=sniffer, plans=plans, change_lock=change_lock, rejections=rejections,
            quarantine=self.quarantine,
        )  # fmt: skip
        self._replaced_files = replaced_files = ReplacedFiles()
        self._undo.callback(replaced_files.close)
        backing_files = BackingFiles(
            tree=tree, nodes=nodes, handles=handles, resolver=resolver, gate=gate, views=views, leased=leased,
            forget_names=self.forget_names, replaced_files=replaced_files, remote=facts.remote,
            leases_mean=keeper is not None,
        )  # fmt: skip
        lifecycle = Lifecycle(
            nodes=nodes, handles=handles, gate=gate, passthrough=passthrough, leased=leased,
            forget_size=self.forget_size, remote=facts.remote,
        )  # fmt: skip
        copy_opener = CopyOpener(
            tree=tree, resolver=resolver, gate=gate, passthrough=passthrough, redactor=redactor,
            backing_files=backing_files, lifecycle=lifecycle,
        )  # fmt: skip
        self.opener = opener = Opener(
            tree=tree, nodes=nodes, handles=handles, resolver=resolver, gate=gate,
            backing_files=backing_files, lifecycle=lifecycle, passthrough=passthrough,
            copy_opener=copy_opener, leased=leased, change_lock=change_lock, drafts=drafts,
            replaced_files=replaced_files, forget_attributes=self.forget_attributes,
        )  # fmt: skip
        io = FileIO(
            tree=tree, nodes=nodes, handles=handles, gate=gate, views=views, redactor=redactor,
            leased=leased, drop_pages=self.drop_pages, backing_fd=opener.backing_fd, change_lock=change_lock,
            checker=Checker(tree, gate, sniffer, change_lock, rejections), drafts=drafts,
            remote=facts.remote, withheld_names=withheld_names,
        )  # fmt: skip
        self.lookup = lookup = Lookup(
            tree=tree,
            nodes=nodes,
            handles=handles,
            resolver=resolver,
            gate=gate,
            views=views,
            timeouts=timeouts,
            replaced_files=replaced_files,
            withheld_names=withheld_names,
            modes=modes,
        )
        self.listings = DirectoryListings(
            tree=tree, nodes=nodes, resolver=resolver, gate=gate, timeouts=timeouts, lookup=lookup,
            withheld_names=withheld_names,
        )  # fmt: skip
        creator = Creator(
            tree=tree,
            nodes=nodes,
            resolver=resolver,
            gate=gate,
            lookup=lookup,
            opener=opener,
            withheld_names=withheld_names,
        )
        tmpfiles = Tmpfiles(
            tree=tree, nodes=nodes, handles=handles, resolver=resolver, gate=gate, lookup=lookup,
            opener=opener,
        )  # fmt: skip
        entry_changer = EntryChanger(
            tree=tree, nodes=nodes, resolver=resolver, gate=gate, lookup=lookup, opener=opener, io=io,
            passthrough=passthrough, tmpfiles=tmpfiles,
            moved_files=MovedFiles(tree, nodes, resolver, sniffer, plans, keeper),
            timeouts=self.timeouts, change_lock=change_lock, forget_all_names=self.forget_all_names,
            withheld_names=withheld_names,
        )  # fmt: skip
        attribute_setter = AttributeSetter(
            tree=tree,
            nodes=nodes,
            resolver=resolver,
            gate=gate,
            lookup=lookup,
            opener=opener,
            io=io,
            leased=leased,
            bans=AttributeBans(gate),
            change_lock=change_lock,
            set_id_bits=SetIdBits(tree, keeper) if settings.posix else None,
        )
        self._operations = RawHandlers(
            nodes=nodes, handles=handles, gate=gate, lookup=lookup, attribute_setter=attribute_setter,
            ranges=Ranges(tree=tree, io=io, opener=opener),
            tmpfiles=tmpfiles, io=io, listings=self.listings, sync_directory=tree.fsyncdir, bugs=bugs,
        )  # fmt: skip
        lock_limits = Limits(settings.lock_owners, _WAITING_LOCKS, _LOCKED_RANGES)
        self.locks = locks = Locks(
            table=LockTable(lock_limits, hear_flushes), tree=tree, handles=handles,
            find_file=opener.backing_fd, forget=self.forget_seen,
            forget_now=self.forget_attributes_now, bugs=bugs,
        )  # fmt: skip
        self._undo.callback(locks.close)
        self.handlers = Handlers(
            tree=tree, nodes=nodes, handles=handles, gate=gate, lookup=lookup, listings=self.listings,
            opener=opener, io=io,
            creator=creator, entry_changer=entry_changer, attribute_setter=attribute_setter, locks=locks,
            bugs=bugs,
        )  # fmt: skip

    def _shown_modes(self, settings: Settings) -> ShownModes:
        """The owners and modes of this mount; the kernel keeps no attributes where they differ by caller."""
        modes = ShownModes(
            self.gate, by_mount=settings.policy_modes, any_uid=settings.any_uid, read_only=settings.read_only
        )
        self.timeouts.told_apart = modes.in_use
        return modes

    def _finders(self, base: Foundation, keeper: LeaseKeeper | None) -> tuple[FactFinder, PlanFinder]:
        """What finds kinds and plans, and has them looked at twice."""
        kinds, times_tell = KindCache(beneath=base.remembered), base.facts.times_tell
        self.second_looks = second = self._undo.enter_context(
            SecondLooks(base.tree, base.sniffer, keeper if times_tell else None, base.warn)
        )
        finder = FactFinder(
            base.tree, base.owners, base.sniffer, kinds, keeper, times_tell=times_tell,
            look_again=KindsConfirmed(kinds, second).ask,
        )  # fmt: skip
        return finder, PlanFinder(base.sniffer, base.remembered, second)

    def _quarantine_queue(self, settings: Settings, base: Foundation, recorder: Recorder) -> QuarantineQueue:
        """Make the queue of refused files. Files that still wait in it at the end are kept then."""
        queue = QuarantineQueue(
            tree=base.tree, recorder=recorder, quarantine=base.quarantine, limits=settings.quarantine,
            mount=settings.mountpoint, store=settings.store, warn=base.warn,
        )  # fmt: skip
        self._undo.callback(queue.close)
        return queue

    def requests(self) -> dict[Opcode, Handler]:
        """Handlers of the requests that pyfuse3 does not know."""
        return self._operations.handlers() | self.locks.requests()

    def quick_requests(self) -> dict[Opcode, Quick]:
        """Handlers that are asked before those, and do not wait."""
        return self._operations.quick_handlers() | self.locks.quick_requests()

    def _say_folding(self, node: Node) -> None:
        """Nothing in a directory that finds names whatever their case is shown; said once of each."""
        if node.nodeid not in self._folding and len(self._folding) < _FOLDING_SAID:
            self._folding.add(node.nodeid)
            self._warn("this directory finds names whatever their case: it is closed", node.path())

    def drop_pages(self, nodeid: int) -> None:
        """The kernel must forget what it keeps of a node's bytes."""
        if self.notifier is not None:
            self.notifier.inval_inode(nodeid, 0, 0)

    def forget_attributes(self, nodeid: int) -> None:
        """The kernel must ask for a node's attributes, as soon as it hears of it."""
        if self.notifier is not None:
            self.notifier.inval_inode(nodeid)

    def forget_attributes_now(self, nodeid: int) -> None:
        """The kernel must ask for the attributes of a node that is open; it does when this returns."""
        if self.notifier is not None:
            self.notifier.inval_attributes_now(nodeid)

    async def forget_size(self, nodeid: int) -> None:
        """The kernel must ask for a node's attributes before it goes by them again."""
        await self.forget_seen(nodeid, pages=False)

    async def forget_seen(self, nodeid: int, *, pages: bool) -> None:
        """The kernel must ask for a node's attributes, and its pages if so told; it does when this
        returns.
        """
        forgotten, token = trio.Event(), trio.lowlevel.current_trio_token()

        def done() -> None:
            with contextlib.suppress(trio.RunFinishedError):
                token.run_sync_soon(forgotten.set)

        if self.notifier is not None and self.notifier.inval_then(nodeid, done, pages=pages):
            with trio.move_on_after(_FORGET_S):  # a notifier that is being closed says nothing more
                await forgotten.wait()

    def forget_names(self, node: Node) -> None:
        """The watch does not report what we do ourselves: names, listings and attributes."""
        for known in self.nodes.same_inode(node.ino):
            for parent, name in known.all_names():
                if self.notifier is not None:
                    self.notifier.inval_entry(parent.nodeid, name, True)
                    self.notifier.inval_inode(parent.nodeid, 0, 0)
                    self.notifier.inval_inode(known.nodeid)

    async def forget_names_now(self, node: Node) -> None:
        """As forget_names; the kernel has forgotten them when this returns."""
        self.forget_names(node)
        await self.forget_size(node.nodeid)  # notifications go in the order in which they were asked for

    def forget_all_names(self) -> None:
        """Every name is asked for again, also by what comes before our next word to the kernel.

        A kernel before FUSE 7.44 cannot be told at once: it forgets them a moment later.
        """
        if self.notifier is not None and not self.notifier.inc_epoch_now():
            self.changes.reset(self.notifier, self.resolver)

    def use(self, engine: Engine) -> None:
        """Decide by another policy from now on, and let the kernel forget what the old one allowed."""
        self.gate.use(engine)
        self.timeouts.use(engine)
        self.modes.use(engine)
        self.timeouts.told_apart = self.modes.in_use
        self.nodes.use(engine.root, engine.child)
        if self.notifier is not None:
            self.changes.reset(self.notifier, self.resolver)

    def expire(self) -> None:
        """Give up what was kept for a moment only; called several times a second."""
        if self.notifier is not None:
            self.pruning.prune(self.notifier)
        self.passthrough.expire()
        self._replaced_files.expire()
        self.copies.expire_clones(_CLONE_IDLE_S)
        self.copies.sweep()

    def close(self) -> None:
        """Give up everything that was made here."""
        for handle in self.handles:  # cut off while they were open
            if handle.writable and handle.node.open is not None and handle.node.open.draft is not None:
                self.drafts.give_up(handle, handle.node.open.draft)
        self._undo.close()
