"""Guards of the access vector cache, taken out."""

from __future__ import annotations

from typing import Any, Final

from policyfs.fs.inodes import handles
from policyfs.fs.inodes.handles import HandleTable
from policyfs.fs.inodes.node_table import NodeTable
from policyfs.fs.inodes.vectors import NO_VECTORS, AccessVectors
from policyfs.fs.kernel_cache.invalidation import Invalidation
from policyfs.fs.kernel_cache.repeats import Copied, Repeats
from policyfs.fs.namespace import open_directories
from policyfs.fs.namespace.entries import Entries
from policyfs.fs.namespace.open_directories import OpenDirectories
from policyfs.fs.opening.lifecycle import Lifecycle
from policyfs.kernel import vectors
from tests.attack.guards import named, put

_EVERYONE: Final = range(10010, 10014)


def vectors_of_anyone() -> None:
    """What was decided for one uid is answered to others."""
    install = AccessVectors.install

    def for_all(
        self: AccessVectors, node: Any, parent: int, fd: int, name: bytes, _: int, *rest: Any
    ) -> bool:
        installed = [install(self, node, parent, fd, name, uid, *rest) for uid in _EVERYONE]
        return all(installed)

    put(AccessVectors, "install", for_all)
    readers_on()


def vectors_kept_at_reload() -> None:
    """A new policy drops no vector."""
    put(AccessVectors, "drop_all", lambda self: None)
    readers_on()


def vectors_kept_at_rename() -> None:
    """A node that gets or loses a name keeps its vectors."""
    for name in ("add_name", "drop_name"):
        change = getattr(NodeTable, name)

        def keeping(self: NodeTable, *words: Any, change: Any = change) -> None:
            own, self.vectors = self.vectors, NO_VECTORS
            try:
                change(self, *words)
            finally:
                self.vectors = own

        put(NodeTable, name, keeping)
    _without_drops(Entries, "keep_open")
    put(AccessVectors, "drop_nodes", lambda self, nodes: None)  # nor does the watch's word for it drop them
    readers_on()


def _without_drops(owner: type, name: str) -> None:
    """Leave out the drops of vectors in a method."""
    method = getattr(owner, name)

    def keeping(self: Any, *words: Any, **named: Any) -> Any:
        nodes = self if isinstance(self, NodeTable) else self._nodes
        own, nodes.vectors = nodes.vectors, NO_VECTORS
        try:
            return method(self, *words, **named)
        finally:
            nodes.vectors = own

    put(owner, name, keeping)


def open_vectors_kept_at_writers() -> None:
    """An open for writing ends no open vector."""
    _without_drops(Lifecycle, "enter")
    put(AccessVectors, "drop_nodes", lambda self, nodes: None)
    readers_on()


def open_vectors_kept_at_unlink() -> None:
    """A file that loses its last name keeps its open vector, and with it the kernel's backing file."""
    for owner, name in ((Entries, "keep_open"), (Entries, "drop"), (NodeTable, "drop_name")):
        _without_drops(owner, name)
    put(AccessVectors, "drop_nodes", lambda self, nodes: None)
    readers_on()


def changes_not_told() -> None:
    """The watch never tells of a change in the store; the bridge alone could notice it."""
    put(Invalidation, "_apply", lambda self, event, notifier, resolver: True)
    readers_on()


def copies_of_any_version() -> None:
    """The bridge opens the copy that it knows, whatever the file's version is now."""
    opened = Repeats.opened

    def of_any(self: Repeats, *words: Any) -> bool:
        copied = words[-1]._replace(version=()) if isinstance(words[-1], Copied) else words[-1]
        return opened(self, *words[:-1], copied)

    put(Repeats, "opened", of_any)


def few_handles() -> None:
    """There is room for 400 open files; no guard is missing."""
    put(handles, "_HANDLES", 400)
    readers_on()


def open_vectors_beyond_shares() -> None:
    """The bridge opens files although the mount has few handles left."""
    few_handles()
    put(HandleTable, "has_plenty", property(lambda self: True))


def few_listings() -> None:
    """There is room for 480 names in open listings, or 60 open directories; no guard is missing."""
    put(open_directories, "_LISTED", 480)
    readers_on()


def directories_beyond_shares() -> None:
    """The bridge opens directories although the mount has few listings left."""
    few_listings()
    put(OpenDirectories, "has_plenty", property(lambda self: True))


def names_without_exceptions() -> None:
    """The decision on most names in a directory is that on all."""
    allow = vectors.allow_directory

    def of_all(*told: Any) -> bool:
        return allow(*told[:-2], b"", told[-1])

    put(vectors, "allow_directory", of_all)


def readers_on() -> None:
    """The readers read the device from the first request on."""
    vectors.set_shares(0, 0)


VECTORS: Final = named(
    vectors_of_anyone, vectors_kept_at_reload, vectors_kept_at_rename, open_vectors_kept_at_writers,
    open_vectors_kept_at_unlink, open_vectors_beyond_shares, changes_not_told, copies_of_any_version,
    few_handles, few_listings, directories_beyond_shares, readers_on, names_without_exceptions,
)  # fmt: skip
