"""This module invalidates the kernel's caches after events of the watch, which reports changes elsewhere.

So names, attributes, pages and listings are right again within milliseconds, as are the paths and owners of
directories that the daemon remembers. Access depends on these alone: each open is decided anew."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from functools import partial

from policyfs.domain import FileType
from policyfs.fs.access.hiding_owners import HidingOwners
from policyfs.fs.access.views import version_of
from policyfs.fs.inodes.directory_handles import DirectoryHandles
from policyfs.fs.inodes.node import ROOT_ID, Node
from policyfs.fs.inodes.node_table import NodeTable
from policyfs.fs.inodes.open_state import Mode
from policyfs.fs.inodes.resolver import Resolver
from policyfs.fs.kernel_cache.announcements import Announcements
from policyfs.fs.kernel_cache.attributes import Timeouts
from policyfs.kernel import vectors
from policyfs.kernel.notify import Notifier
from policyfs.store.frozen import Version
from policyfs.store.modified_files import ModifiedFiles
from policyfs.store.watch import Change, Watch, WatchEvent, inode_hint

_LISTED = (
    Change.CREATE | Change.DELETE | Change.MOVED_FROM | Change.MOVED_TO | Change.ATTRIB | Change.CLOSE_WRITE
)
_MOVES = Change.MOVED_FROM | Change.MOVED_TO | Change.MOVED
_ENTRY_CHANGES = Change.CREATE | Change.DELETE | Change.MOVED_FROM | Change.MOVED_TO


class Invalidation:
    """A reader of one mount's watch that sends the kernel invalidations for each event.

    Without a watch, timeouts stay short (attributes.UNWATCHED_S). Once a request reaches another file system
    mounted within the store, they become short for ever: its file handles may equal those of the store's
    directories, so that events could be about either."""

    def __init__(
        self, watch: Watch | None, nodes: NodeTable, timeouts: Timeouts, handles: DirectoryHandles
    ) -> None:
        self._watch = watch
        self._nodes = nodes
        self._timeouts = timeouts
        self._handles = handles
        self._directories = handles.by_handle
        self.is_gone, self.is_outside = handles.is_gone, handles.is_outside
        self._covered = watch is not None
        self.events = 0
        self.overflows = 0
        self.announcements: Announcements | None = None
        self.modified: ModifiedFiles | None = None
        """The files that were written lately, if the announcements tell of them."""
        self.owners_above: HidingOwners | None = None
        """It gets each directory whose owner may have changed."""
        self.listed: Iterable[tuple[int, bytes]] = ()
        """Names that the kernel got with a listing (ListedNames)."""
        self.shows_all: Callable[[Node], bool] = lambda _: False
        """A function that returns True if all callers see every name in a directory, of any object."""

    def report(self) -> dict[str, object]:
        """Return the counts of the watch on the store, for ``status``."""
        return {"running": self.watching, "events": self.events, "overflows": self.overflows}

    @property
    def watching(self) -> bool:
        """True if a watch runs, and covers every directory that a request has reached so far."""
        return self._covered

    def learn(self, node: Node, fd: int) -> None:
        """Note the file handle by which events name a directory that a request has found."""
        if not self._handles.learn(node, fd) and self._covered:
            # No event can be matched to this directory.
            self._covered = self._timeouts.watched = False
            self._nodes.vectors.drop_all()

    def wait_s(self) -> float:
        """Return the time after which take() has events without any of the watch; infinite if unknown."""
        return float("inf") if self.modified is None else max(0.0, self.modified.wait_s())

    def start(self) -> None:
        """Allow long timeouts from now on. The daemon calls this when it begins to read events."""
        self._timeouts.watched = self._covered
        self._timeouts.reported = self.knows

    def knows(self, node: Node) -> bool:
        """Return True if the daemon knows the file handle by which the watch's events name this directory."""
        return self._watch is not None and self._handles.knows(node)

    def take(self, notifier: Notifier, resolver: Resolver, *, links: bool = False) -> bool:
        """Read some events and send their invalidations. Return True if more events may wait. links: read
        those that name no directory."""
        if self._watch is None:
            return False
        lost = False
        read = self._watch.read_links if links else self._watch.read_events
        events = read(but_pid=os.getpid())
        if self.modified is not None and not links:
            events = self.modified.sift(events)
        for event in events:
            self.events += 1
            if self.announcements is not None and event.dir_handle is not None:
                target = self._directories.get(event.target_handle or b"")
                self.announcements.note(event, self._directories.get(event.dir_handle), target)
            if event.overflow:
                self.overflows += 1
                lost = True
            elif not lost:
                try:
                    lost = not self._apply(event, notifier, resolver)
                except OSError:
                    # The daemon cannot find the changed object, as after a lost event. (For a file that was
                    # being removed, open_by_handle_at has answered ENOMEM.)
                    lost = True
        if lost:
            (self.forget_attributes if links else self.reset)(notifier, resolver)
        if self.announcements is not None:
            self.announcements.lost += lost and not links
            if self.modified is not None:
                self.announcements.lost += self.modified.missed
                self.modified.missed = 0
            self.announcements.flush(partial(notifier.inval_then, ROOT_ID, pages=False))
        return self._watch.has_more

    def reset(self, notifier: Notifier, resolver: Resolver) -> None:
        """Make the kernel drop everything that it keeps, because events were lost."""
        known = self.forget_attributes(notifier, resolver)
        if not notifier.inc_epoch():  # a kernel with FUSE before 7.44: name by name
            for node in known:
                for parent, name in node.all_names():
                    notifier.inval_entry(parent.nodeid, name, True)
        notifier.expire_entries(self.listed)  # the reason is in NameExpiry.expire_at_once

    def forget_attributes(
        self, notifier: Notifier, resolver: Resolver, lost: Iterable[int] = ()
    ) -> list[Node]:
        """Make the kernel drop all attributes, pages and listings, also *lost* ones'. Return the others."""
        resolver.drop_all()  # and all access vectors
        if self.owners_above is not None:
            self.owners_above.changed_all()
        known = [node for node in self._nodes if node.lookups or node.nodeid == ROOT_ID]
        for node in known:
            node.changes += 1
        # The notifier takes any number of nodes, but no nodes once it is closed.
        notifier.inval_inodes([*(node.nodeid for node in known), *lost])
        return known

    def _apply(self, event: WatchEvent, notifier: Notifier, resolver: Resolver) -> bool:
        """Send the invalidations for an event. Return False if the notifier could not take all of them."""
        directory = self._directories.get(event.dir_handle) if event.dir_handle is not None else None
        if directory is None and event.name is not None:
            return True  # the kernel knows no name in this directory
        if (stale := self._of_bridge(directory, event)) is not None:
            return not stale or notifier.inval_inode(stale)
        taken = True
        if directory is not None and event.name is not None and not self._stays(directory, event):
            gentle = event.is_dir or not event.kind & _ENTRY_CHANGES
            directory.changes += 1
            taken = notifier.inval_inode(directory.nodeid, 0, 0)
            taken &= notifier.inval_entry(directory.nodeid, event.name, gentle)
        return taken & self._target(event, notifier, resolver)

    def _of_bridge(self, directory: Node | None, event: WatchEvent) -> int | None:
        """Return the bridge's node of a file that an app has written in passthrough, or 0 if the kernel knows
        the file's attributes. Return None for any other event. (No bytes in a raw directory change who sees a
        name that the kernel keeps: see Timeouts.entry.)"""
        if event.kind not in {Change.CLOSE_WRITE, Change.MODIFY}:
            return None
        if event.target_handle is None or directory is None:
            return None
        hint = inode_hint(event.target_handle)
        return None if hint is None or self._nodes.several_devices else vectors.changed(hint)

    def _stays(self, directory: Node, event: WatchEvent) -> bool:
        """Return True if the kernel may keep the name: the event changes neither who sees it nor its node."""
        if not event.kind & _LISTED:
            return True
        if event.is_dir or event.kind & _ENTRY_CHANGES or event.target_handle is None:
            return False
        ino = inode_hint(event.target_handle)
        if ino is None or not self.shows_all(directory):
            return False
        return not any(node.byte_path.finds_kind for node in self._nodes.same_inode(ino))

    def _target(self, event: WatchEvent, notifier: Notifier, resolver: Resolver) -> bool:
        """Invalidate the changed object itself. Return False if the notifier could not take all of it."""
        if event.target_handle is None or self._watch is None:
            return True
        directory = self._directories.get(event.target_handle)
        if directory is not None:
            directory.changes += 1
            self._nodes.vectors.drop(directory)
            if event.kind & _MOVES:
                resolver.moved(directory)
            elif event.kind & Change.DELETE:
                resolver.drop(directory.nodeid)
            if event.kind & Change.ATTRIB and self.owners_above is not None:
                self.owners_above.changed(directory)
            return notifier.inval_inode(directory.nodeid, 0, 0)
        hint = inode_hint(event.target_handle)
        unknown = hint is not None and next(self._nodes.same_inode(hint), None) is None
        if unknown and not self._nodes.several_devices:
            return True  # the kernel does not know this file
        stat = self._watch.stat_of_handle(event.target_handle)
        if stat is None:
            if hint is not None:  # The file was removed. The vector of a copy does not keep the file open.
                self._nodes.vectors.drop_nodes(self._nodes.same_inode(hint))
            return True
        nodes = list(self._nodes.same_inode(self._nodes.key_of(stat)))
        self._nodes.vectors.drop_nodes(nodes)
        version = version_of(stat)
        taken = all(self._forget_other_names(node, event, notifier) for node in nodes)
        return taken and all(self._forget_node(node, version, notifier) for node in nodes)

    def _forget_other_names(self, node: Node, event: WatchEvent, notifier: Notifier) -> bool:
        """Invalidate the changed file's other names, as _apply() does for the name in the event."""
        taken = True
        if event.name is None or event.kind & _ENTRY_CHANGES:
            return taken
        for parent, name in node.all_names():
            named = name == event.name and parent is self._directories.get(event.dir_handle or b"")
            if not named and (node.byte_path.finds_kind or not self.shows_all(parent)):
                parent.changes += 1
                taken &= notifier.inval_inode(parent.nodeid, 0, 0)
                taken &= notifier.inval_entry(parent.nodeid, name, True)
        return taken

    @staticmethod
    def _forget_node(node: Node, version: Version, notifier: Notifier) -> bool:
        """Invalidate attributes and pages (in passthrough the file's own). Not if the kernel has this
        version: it drops a GETATTR reply that a notification overtakes, and a reader gets the old size."""
        if node.was_told(version) and (node.cached is None or node.cached.version == version):
            return True
        passthrough = node.open is not None and node.open.mode is Mode.PASSTHROUGH
        if passthrough and node.ftype is FileType.REGULAR:
            return notifier.inval_inode(node.nodeid)
        return notifier.inval_inode(node.nodeid, 0, 0)
