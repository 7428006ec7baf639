"""This module builds one mount's file system. It connects the rooms of fs/, and no other module does.

The daemon builds the foundation (store, journal, sniffer, leases, watch) and passes it in.
"""

from __future__ import annotations

import contextlib
from dataclasses import dataclass
from typing import Final

from policyfs.content.cache import KindCache
from policyfs.fs.access.audit import Recorder
from policyfs.fs.access.facts import FactFinder
from policyfs.fs.access.gate import Gate
from policyfs.fs.access.hiding_owners import HidingOwners
from policyfs.fs.access.kept_changes import KeptChanges
from policyfs.fs.access.ledger import current as current_ledger
from policyfs.fs.access.shown_modes import ShownModes
from policyfs.fs.access.views import Views
from policyfs.fs.checked.change_lock import ChangeLock
from policyfs.fs.checked.drafts import Drafts
from policyfs.fs.checked.head_writes import Checker
from policyfs.fs.checked.moved_file import MovedFiles
from policyfs.fs.checked.quarantine_queue import QuarantineQueue
from policyfs.fs.checked.rejection import Rejections
from policyfs.fs.checked.restored_held import RestoredHeld
from policyfs.fs.checked.withheld_names import WithheldNames
from policyfs.fs.context import FsContext
from policyfs.fs.data.late_writes import LateWrites
from policyfs.fs.data.locks import Locks
from policyfs.fs.data.ranges import Ranges
from policyfs.fs.data.read import FileReader
from policyfs.fs.data.sync import FileSync
from policyfs.fs.data.write import FileWriter
from policyfs.fs.data.write_guard import WriteGuard
from policyfs.fs.data.write_paths import DirectWrites, DraftWrites, HeadCheckedWrites
from policyfs.fs.foundation import Foundation, Settings
from policyfs.fs.handlers import Before, Handlers
from policyfs.fs.inodes.directory_handles import DirectoryHandles
from policyfs.fs.inodes.handles import HandleTable
from policyfs.fs.inodes.node import BytePath, Node
from policyfs.fs.inodes.node_table import NodeTable
from policyfs.fs.inodes.replaced_files import ReplacedFiles
from policyfs.fs.inodes.resolver import Resolver
from policyfs.fs.inodes.vectors import AccessVectors
from policyfs.fs.kernel_cache.announcements import Announcements
from policyfs.fs.kernel_cache.attributes import Timeouts
from policyfs.fs.kernel_cache.forgetting import KernelCache
from policyfs.fs.kernel_cache.invalidation import Invalidation
from policyfs.fs.kernel_cache.name_expiry import StayingNames
from policyfs.fs.kernel_cache.pruning import Pruning
from policyfs.fs.kernel_cache.repeats import Repeats
from policyfs.fs.namespace.create import Creator
from policyfs.fs.namespace.entries import Entries
from policyfs.fs.namespace.link import Linker
from policyfs.fs.namespace.lookup import Lookup
from policyfs.fs.namespace.operations import DataOperations, NameOperations
from policyfs.fs.namespace.readdir import DirectoryListings
from policyfs.fs.namespace.recovery import Recovery
from policyfs.fs.namespace.rename import Renamer
from policyfs.fs.namespace.restoration import Restoration, RestoredBytes
from policyfs.fs.namespace.setattr import AttributeSetter
from policyfs.fs.namespace.setid import SetIdBits
from policyfs.fs.namespace.unlink import Remover
from policyfs.fs.namespace.xattr import AttributeBans, ExtendedAttributes
from policyfs.fs.opening.bridge_handles import BridgeHandles
from policyfs.fs.opening.byte_paths import LeasedPath, LivePath, PathServer, RawPath
from policyfs.fs.opening.copy_path import CopyPath
from policyfs.fs.opening.lifecycle import Lifecycle
from policyfs.fs.opening.open_files import BackingFiles, OpenFiles
from policyfs.fs.opening.opener import Opener
from policyfs.fs.opening.passthrough import Passthrough
from policyfs.fs.opening.preconditions import Preconditions
from policyfs.fs.opening.raw_directories import RawDirectories
from policyfs.fs.opening.stale_handles import StaleHandles
from policyfs.fs.opening.write_access import WriteAccess
from policyfs.fs.raw_handlers import RawHandlers
from policyfs.fs.redacted.copies import Redactor
from policyfs.fs.redacted.leased import LeasedFiles
from policyfs.fs.redacted.plans import PlanFinder
from policyfs.fs.redacted.restored_copies import RestoredCopies
from policyfs.fs.saved.intents import Intents
from policyfs.fs.sharing.kernel_locks import KernelLocks
from policyfs.fs.sharing.name_lock import NameLock
from policyfs.kernel import vectors
from policyfs.kernel.backing import Backing
from policyfs.kernel.bridge import hear_flushes
from policyfs.kernel.operations import BugLog, Handler, Quick
from policyfs.kernel.protocol import Opcode
from policyfs.policy.decide import Engine
from policyfs.store.copies import CopyCache
from policyfs.store.locking.latches import HeldFiles, Latches
from policyfs.store.locking.leases import LeaseKeeper
from policyfs.store.locking.locks import Limits, LockTable
from policyfs.store.memory import MemoryPlaces
from policyfs.store.modified_files import ModifiedFiles
from policyfs.store.names.new_names import NewNames
from policyfs.store.names.new_records import NewRecords
from policyfs.store.store_record import marker_file

_FOLDING_SAID: Final = 1000
"""The log names at most this many directories that ignore the case of names."""
_CLONE_IDLE_S: Final = 10.0
_WAITING_LOCKS: Final = 1024
"""The limit of requests of all apps together that wait for locks."""
_LOCKED_RANGES: Final = 4096
"""The limit of byte ranges that one lock owner has in one file."""


@dataclass(frozen=True, slots=True)
class _Opening:
    views: Views
    repeats: Repeats
    redactor: Redactor
    restored_copies: RestoredCopies
    lifecycle: Lifecycle
    paths: dict[BytePath, PathServer]
    backing_files: BackingFiles
    write_access: WriteAccess
    open_files: OpenFiles
    change_lock: ChangeLock
    checker: Checker
    withheld_names: WithheldNames
    keeper: LeaseKeeper | None


class FileSystem:
    """The object that builds and connects all parts of one mount. The daemon sets the notifier later."""

    def __init__(self, settings: Settings, engine: Engine, base: Foundation, bugs: BugLog) -> None:
        keeper = base.keeper if base.facts.leases else None
        if keeper is not None or base.facts.delegates:
            base.keeper.root_dev = base.tree.fstat(base.tree.root_fd).dev
        self._settings, self._base, self._bugs = settings, base, bugs
        self.kernel_locks = KernelLocks(shared=settings.app is None, bug=bugs.bug)
        self._undo = contextlib.ExitStack()
        self._folding: set[bytes] = set()
        self._replaced_files = ReplacedFiles()
        self._undo.callback(self._replaced_files.close)
        finder, plans = self._finders(keeper)
        self.context = fs = self._context(engine, finder)
        self.modes = self._shown_modes()
        self.opening = self._opening(fs, plans, keeper)
        self.data = self._data(fs, self.opening)
        self.names = self._names(fs, self.opening, self.data, MovedFiles(fs, base.sniffer, plans, keeper))
        self._handlers(fs, self.opening, self.data, self.names)

    def _context(self, engine: Engine, finder: FactFinder) -> FsContext:
        settings, tree, owners = self._settings, self._base.tree, self._base.owners
        vectors = AccessVectors(in_use=settings.vectors, of_names=settings.vectors and settings.app is None)
        self.nodes = nodes = NodeTable(tree.fstat(tree.root_fd), engine.root, engine.child, vectors)
        self.pruning = Pruning(nodes, settings.nodes)
        self.handles = handles = HandleTable(settings.descriptors)
        self.timeouts = timeouts = Timeouts(
            alone=settings.app is not None, guarded=settings.admitted is not None, posix=settings.posix,
            any_uid=settings.app if settings.any_uid else None,
        )  # fmt: skip
        self.changes = changes = Invalidation(
            self._base.watch, nodes, timeouts, known := DirectoryHandles(tree, nodes, self._base.watch)
        )
        self.resolver = resolver = Resolver(
            tree, nodes, known, capacity=settings.directories, watched=lambda: timeouts.watched,
            on_open=changes.learn, on_folding=self._say_folding, request=current_ledger,
        )  # fmt: skip
        self._undo.callback(resolver.close)
        self.kernel_cache = KernelCache(nodes, changes, resolver)
        owners_above = changes.owners_above = HidingOwners(
            tree, nodes, resolver, owners, watched=lambda: timeouts.watched
        )
        self.gate = gate = Gate(
            engine, app=settings.app, resolver=resolver, facts=finder,
            recorder=Recorder(self._base.journal, settings.mountpoint, uids=not settings.idmap),
            posix=settings.posix, owners_above=owners_above, open_fd=handles.descriptor_of,
            admitted=settings.admitted, brakes=self._base.brakes,
        )  # fmt: skip
        timeouts.use(engine)
        timeouts.same_inode = nodes.same_inode
        changes.shows_all = lambda node: timeouts.alone and gate.shows_all_in(gate.principal(0), node.state)
        self.kernel_cache.expiry.staying = lambda: StayingNames(timeouts, gate).stays
        held = self._undo.enter_context(contextlib.closing(HeldFiles(settings.latches + ".held")))
        names = self._undo.enter_context(contextlib.closing(Latches(settings.latches + ".names")))
        name_lock = NameLock(names, self.kernel_locks, self._locks_in_store())
        intents = Intents(current_ledger)
        return FsContext(
            tree, nodes, handles, resolver, gate, held, name_lock, self.kernel_locks, intents,
            self._replaced_files, self._base.facts, KeptChanges(gate, tree, self._base.kept),
        )  # fmt: skip

    def _locks_in_store(self) -> Latches | None:
        """Return the locks between machines, if the store has locks and a marker."""
        facts, settings = self._base.facts, self._settings
        if not facts.remote or not facts.range_locks or settings.read_only:
            return None
        marker = marker_file(settings.store)
        if marker is None:
            return None
        return self._undo.enter_context(contextlib.closing(Latches(marker, in_store=True)))

    def _opening(self, fs: FsContext, plans: PlanFinder, keeper: LeaseKeeper | None) -> _Opening:
        settings, base, facts, cache = self._settings, self._base, self._base.facts, self.kernel_cache
        backing = None if settings.device_fd is None else Backing(settings.device_fd)
        self.passthrough = passthrough = Passthrough(
            backing, tells_each=facts.tells_each, reserves=facts.reserves
        )
        self.copies = CopyCache(settings.cache_bytes, settings.copies, give_back=passthrough.give_back)
        self._undo.callback(self.copies.close)
        redactor = Redactor(
            base.tree, plans, keeper, self.copies, reflink=facts.reflink, size_cap=settings.copy_bytes,
            places=self._undo.enter_context(MemoryPlaces()), apart=settings.app is None,
        )  # fmt: skip
        views = Views(fs.nodes, redactor.copyable, lambda: keeper is not None and passthrough.enabled)
        # A pool's files are leased in its branches, an NFS server's under a delegation.
        below = keeper if base.pool is None and not facts.delegates else base.keeper
        self.leased = leased = LeasedFiles(
            fs, plans, below, cache.drop_pages, base.pool, delegated=facts.delegates
        )
        latches = self._undo.enter_context(contextlib.closing(Latches(settings.latches)))
        change_lock = ChangeLock(latches, cache.is_over, base.warn)
        rejections = Rejections(fs, cache.forget_names)
        self.quarantine = self._quarantine_queue()
        self.drafts = drafts = Drafts(
            fs, kinds=base.sniffer, plans=plans, change_lock=change_lock, rejections=rejections,
            quarantine=self.quarantine, shares_blocks=facts.reflink,
        )  # fmt: skip
        preconditions = Preconditions(fs, views=views, keeper=keeper)
        withheld_names = WithheldNames(fs.nodes, cache.forget_names, cache.forget_names_now)
        lifecycle = Lifecycle(
            fs, passthrough=passthrough, leased=leased, drafts=drafts, withheld_names=withheld_names,
            cache=cache, keeper=keeper,
        )  # fmt: skip
        paths = self._byte_paths(fs, redactor, preconditions, lifecycle)
        backing_files = BackingFiles(fs)
        write_access = WriteAccess(
            fs, views=views, leased=leased, change_lock=change_lock, drafts=drafts,
            cache=cache,
        )  # fmt: skip
        repeats, bridged = self._bridge_answers(fs, views, passthrough, lifecycle, redactor)
        self.opener = Opener(
            fs, paths=paths, preconditions=preconditions, lifecycle=lifecycle, backing_files=backing_files,
            write_access=write_access, bridge_handles=bridged,
        )  # fmt: skip
        self.raw_directories.has_second_try = self.opener.second_tries.is_any_of
        self.stale_handles = StaleHandles(fs)
        open_files = OpenFiles(fs, backing_files=backing_files, cache=cache)
        return _Opening(
            views, repeats, redactor, RestoredCopies(fs, redactor, self.copies, plans), lifecycle,
            paths, backing_files, write_access, open_files, change_lock,
            Checker(fs, base.sniffer, change_lock, rejections), withheld_names, keeper,
        )  # fmt: skip

    def _bridge_answers(
        self, fs: FsContext, views: Views, passthrough: Passthrough, lifecycle: Lifecycle, redactor: Redactor
    ) -> tuple[Repeats, BridgeHandles]:
        """Make the parts that let the bridge answer, and those that know the handles it gives."""
        facts = self._base.facts
        # Without xattrs the answer is ENOSYS, and the kernel asks no more.
        vectors.no_capabilities(self._settings.xattrs and self._settings.admitted is None)
        repeats = Repeats(fs, views, self.timeouts)
        bridged = BridgeHandles(fs, lifecycle, passthrough, repeats, redactor)
        self.bridge_handles, self.copies.on_shortage = bridged, bridged.spare_copies
        self.raw_directories = RawDirectories(
            fs, views, self.timeouts, passthrough, bridged,
            # The bridge makes files without a name, and knows no other way.
            changes=facts.trusted_xattr and facts.unnamed and facts.noreplace and not facts.checks_callers
            and self._settings.announced_to is None and not self._settings.read_only,
            xattrs=self._settings.xattrs,
        )  # fmt: skip
        repeats.allow_files = self.raw_directories.allow
        return repeats, bridged

    def _byte_paths(
        self, fs: FsContext, redactor: Redactor, preconditions: Preconditions, lifecycle: Lifecycle
    ) -> dict[BytePath, PathServer]:
        return {
            BytePath.RAW: RawPath(
                fs, preconditions=preconditions, passthrough=self.passthrough, lifecycle=lifecycle),
            BytePath.LIVE: LivePath(fs, redactor=redactor),
            BytePath.COPY: CopyPath(
                fs, passthrough=self.passthrough, redactor=redactor, preconditions=preconditions,
                lifecycle=lifecycle,
            ),
            BytePath.LEASED: LeasedPath(self.leased),
        }  # fmt: skip

    def _data(self, fs: FsContext, opening: _Opening) -> DataOperations:
        facts, cache = self._base.facts, self.kernel_cache
        guard = WriteGuard(fs, cache)
        draft = DraftWrites(fs.tree, guard, self.drafts)
        head_checked = HeadCheckedWrites(fs.tree, guard, opening.checker, draft)
        direct = DirectWrites(fs.tree, guard, opening.change_lock, remote=facts.remote)
        reader = FileReader(fs, opening.paths)
        files = opening.open_files
        sync = FileSync(
            fs, guard=guard, head_checked=head_checked, draft=draft, checker=opening.checker,
            withheld_names=opening.withheld_names, open_files=files, cache=cache,
        )  # fmt: skip
        self.late_writes = LateWrites(sync.settle_late)
        writer = FileWriter(
            fs, guard=guard, direct=direct, head_checked=head_checked, draft=draft,
            cache=cache, put_off=self.late_writes.note,
        )  # fmt: skip
        ranges = Ranges(fs, reader=reader, writer=writer, open_files=files, shares_blocks=facts.reflink)
        return DataOperations(reader, writer, sync, ranges)

    def _names(
        self, fs: FsContext, opening: _Opening, data: DataOperations, moved_files: MovedFiles
    ) -> NameOperations:
        opener, open_files = self.opener, opening.open_files
        change_lock, withheld_names = opening.change_lock, opening.withheld_names
        entries = Entries(
            fs, open_files=open_files, passthrough=self.passthrough,
            withheld_names=withheld_names,
        )  # fmt: skip
        self.lookup = lookup = Lookup(
            fs, views=opening.views, timeouts=self.timeouts,
            withheld_names=withheld_names, modes=self.modes, absent_names=self.kernel_cache.absent_names,
            repeats=opening.repeats,
        )  # fmt: skip
        self.listings = DirectoryListings(
            fs, timeouts=self.timeouts, lookup=lookup, withheld_names=withheld_names,
            kernel_cache=self.kernel_cache, bridge_handles=self.bridge_handles,
            raw_directories=self.raw_directories,
        )  # fmt: skip
        set_id_bits = SetIdBits(fs.tree, opening.keeper) if self._settings.posix else None
        records = None
        if not self._settings.read_only:
            path = self._settings.latches + ".new"
            records = self._undo.enter_context(contextlib.closing(NewRecords(path, fs.tree)))
        return NameOperations(
            entries=entries,
            lookup=lookup,
            listings=self.listings,
            creator=Creator(
                fs, lookup=lookup, opener=opener, withheld_names=withheld_names,
                new_names=NewNames(fs.tree, records),
            ),
            linker=Linker(
                fs, entries=entries, lookup=lookup, open_files=open_files, change_lock=change_lock,
                withheld_names=withheld_names,
            ),
            remover=Remover(fs, entries=entries, open_files=open_files),
            renamer=Renamer(
                fs, entries=entries, open_files=open_files, sync=data.sync, moved_files=moved_files,
                timeouts=self.timeouts, change_lock=change_lock,
                forget_all_names=self.kernel_cache.forget_all_names,
            ),
            attribute_setter=AttributeSetter(
                fs, lookup=lookup, opener=opener, open_files=open_files, writer=data.writer,
                sync=data.sync, set_id_bits=set_id_bits,
            ),
            xattrs=ExtendedAttributes(
                fs, open_files=open_files, bans=AttributeBans(fs.gate), change_lock=change_lock,
                set_id_bits=set_id_bits, enabled=self._settings.xattrs,
            ),
        )  # fmt: skip

    def _handlers(
        self, fs: FsContext, opening: _Opening, data: DataOperations, names: NameOperations
    ) -> None:
        bugs, cache = self._bugs, self.kernel_cache
        lock_limits = Limits(self._settings.lock_owners, _WAITING_LOCKS, _LOCKED_RANGES)
        self.locks = locks = Locks(
            fs, table=LockTable(lock_limits, hear_flushes), find_file=opening.open_files.backing_fd,
            cache=cache, bugs=bugs,
        )  # fmt: skip
        self._undo.callback(locks.close)
        self.restoration = Restoration(
            fs, opening.lifecycle, self.passthrough, self.listings.open, cache.absent_names, locks,
            Recovery(fs, names.entries),
            RestoredBytes(
                opening.restored_copies, RestoredHeld(fs, opening.withheld_names, self.late_writes.restored)
            ),
        )  # fmt: skip
        self._operations = RawHandlers(
            fs, names=names, data=data, sync_directory=fs.tree.fsyncdir, bugs=bugs,
            comes_again=self.restoration.comes_again,
        )  # fmt: skip
        self.announcements: Announcements | None = None
        uid = self._settings.announced_to
        if uid is not None and self._base.watch is not None:
            self.announcements = Announcements(fs.gate, fs.nodes, cache, uid)
            self.announcements.is_gone = self.changes.is_gone
            self.announcements.is_outside = self.changes.is_outside
            self.announcements.withheld = opening.withheld_names.may_have
            self.changes.announcements = self.announcements
            self.changes.modified = ModifiedFiles(self._base.watch)
        self.handlers = Handlers(
            fs, names=names, data=data, opener=self.opener, locks=locks, bugs=bugs,
            announcements=self.announcements, read_only=self._settings.read_only,
            before=Before(self.restoration.comes_again, self.restoration.refused),
        )  # fmt: skip

    def _shown_modes(self) -> ShownModes:
        """Build ShownModes. If owners or modes can differ by caller, the kernel keeps no attributes."""
        by_mount, any_uid = self._settings.policy_modes, self._settings.any_uid
        read_only = self._settings.read_only
        modes = ShownModes(self.gate, by_mount=by_mount, any_uid=any_uid, read_only=read_only)
        self.timeouts.told_apart = modes.in_use
        return modes

    def _finders(self, keeper: LeaseKeeper | None) -> tuple[FactFinder, PlanFinder]:
        base, times_tell = self._base, self._base.facts.times_tell
        finder = FactFinder(
            base.tree, base.owners, base.sniffer, KindCache(beneath=base.remembered), keeper,
            times_tell=times_tell, locks=self.kernel_locks,
        )  # fmt: skip

        def tell(dev: int) -> bool:
            return times_tell and keeper is not None and not keeper.is_silent(dev)

        return finder, PlanFinder(base.sniffer, base.remembered, tell)

    def _quarantine_queue(self) -> QuarantineQueue:
        """Build the queue of refused files. At the mount's end it copies waiting files, but not for long."""
        settings, base = self._settings, self._base
        queue = QuarantineQueue(
            tree=base.tree, recorder=self.gate.recorder, quarantine=base.quarantine,
            limits=settings.quarantine, mount=settings.mountpoint, store=settings.store, warn=base.warn,
        )  # fmt: skip
        self._undo.callback(queue.close)
        return queue

    def requests(self) -> dict[Opcode, Handler]:
        """Return the handlers of the requests that do not go to pyfuse3."""
        return self._operations.handlers() | self.locks.requests()

    def quick_requests(self) -> dict[Opcode, Quick]:
        """Return the handlers that the bridge tries before those of requests(). Such handlers never wait."""
        return self._operations.quick_handlers() | self.locks.quick_requests()

    def _say_folding(self, node: Node) -> None:
        """Log, once for each directory, that the directory is refused since it ignores the case of names."""
        # By path: a node that the kernel forgot comes back with another number.
        if (path := node.path()) not in self._folding and len(self._folding) < _FOLDING_SAID:
            self._folding.add(path)
            told = "apps cannot use this directory: it ignores the case of names, so rules could be bypassed"
            self._base.warn(told, path)

    def use(self, engine: Engine) -> None:
        """Put another policy in force, and make the kernel forget attributes and pages. Never waits.
        INVARIANT: the caller calls KernelCache.expire_all_names() next."""
        self.nodes.vectors.drop_all()
        self.gate.use(engine)
        self.timeouts.use(engine)
        self.modes.use(engine)
        self.timeouts.told_apart = self.modes.in_use
        self.nodes.use(engine.root, engine.child)
        if self.announcements is not None:
            self.announcements.policy_changed()
        self.kernel_cache.forget_attributes_of_all()

    def expire(self) -> bool:
        """Release resources that were kept for a moment. Return True if the next call is due in 50 ms."""
        again = self.kernel_cache.tend(self.pruning)
        again |= self.bridge_handles.expire()  # before passthrough: it gives backing ids back
        again |= self.passthrough.expire() | self._replaced_files.expire() | self.resolver.expire()
        self.copies.expire_clones(_CLONE_IDLE_S)
        self.copies.sweep()
        return again

    def close(self) -> None:
        """Release everything that this object made."""
        for handle in self.handles:  # still open at the end of the mount
            if handle.writable and handle.node.open is not None and handle.node.open.draft is not None:
                self._undo.callback(self.drafts.give_up, handle, handle.node.open.draft)
        self._undo.close()
