"""The store's files behind nodes. The daemon opens such a file by a name, or again by an open descriptor."""

from __future__ import annotations

import contextlib
import errno
import itertools
import os
from collections.abc import Iterator
from typing import Final

import trio

from policyfs.domain import FileType
from policyfs.fs.access.views import version_of
from policyfs.fs.context import FsContext, FsPart
from policyfs.fs.inodes.handles import Handle
from policyfs.fs.inodes.node import ROOT_ID, BytePath, Node, StaleNodeError
from policyfs.fs.kernel_cache.forgetting import KernelCache
from policyfs.linux.statx import Stat, fstatx_of_new

_MOVED: Final = frozenset({errno.ENOENT, errno.ESTALE, errno.ELOOP, errno.ENXIO})
"""Errors of an open by a name that leads to another file now, or to no file."""


class BackingFiles(FsPart):
    """The part of a mount that opens backing files for reading."""

    def find(self, node: Node, *, opening: bool = False) -> tuple[int, Stat]:
        """Open a node's file O_RDONLY. Return the descriptor, which the caller closes, and the attributes.
        opening: True for an open of an app, False for a request through an open handle."""
        if node.parent is None:
            return self.reopen_unlinked(node, opening=opening)
        try:
            return self.open_named(node)
        except OSError as error:
            if error.errno != errno.ESTALE or self._replaced_files.find(node) < 0:
                raise
        return self.reopen_unlinked(node, opening=opening)

    async def find_apart(self, node: Node, *, opening: bool = True) -> tuple[int, Stat]:
        """Open a node's file as find() does, on a thread if the store is remote: an open then waits for reads
        of other pages of the file, which may never end (fs/fuse/file.c, fuse_finish_open)."""
        if not self._remote or node.parent is None:
            return self.find(node, opening=opening)
        try:
            dirfd, name, _ = self._resolver.locate(node)
            above = os.dup(dirfd)
            try:
                fd = await trio.to_thread.run_sync(self._tree.open_file, above, name, os.O_RDONLY)
            finally:
                os.close(above)
        except OSError as error:
            if error.errno not in _MOVED:
                raise
            # removed or moved: find() tries the other names and descriptors
            return self.find(node, opening=opening)
        stat = self._stat_if_same(node, fd)
        return self.find(node, opening=opening) if stat is None else (fd, stat)

    def open_named(self, node: Node) -> tuple[int, Stat]:
        """Open a node's file O_RDONLY by the first name that leads to it, or raise OSError (ESTALE)."""
        for parent, name in itertools.islice(node.all_names(), 1):
            try:
                fd = self._tree.open_file(self._resolver.dirfd(parent), name, os.O_RDONLY)
            except OSError as error:
                if error.errno not in _MOVED:
                    raise
                break
            stat = self._stat_if_same(node, fd)
            if stat is not None:
                return fd, stat
        dirfd, name, _ = self._resolver.locate(node)  # slower: tries every name, forgets dead names
        fd = self._tree.open_file(dirfd, name, os.O_RDONLY)
        stat = fstatx_of_new(fd)
        if not self._nodes.is_same(node, stat) or stat.ftype is not FileType.REGULAR:
            os.close(fd)
            raise StaleNodeError
        return fd, stat

    def _stat_if_same(self, node: Node, fd: int) -> Stat | None:
        """Return the file's attributes if *fd* is of the node's file. Else close *fd* and return None."""
        stat = fstatx_of_new(fd)
        if self._nodes.is_same(node, stat) and stat.ftype is FileType.REGULAR:
            return stat
        os.close(fd)
        return None

    def _has_names(self, fd: int) -> bool:
        return self._tree.fstat(fd).nlink > 0

    def reopen_unlinked(self, node: Node, *, opening: bool) -> tuple[int, Stat]:
        """Open a file without a name again, by a descriptor that the daemon has. Raise StaleNodeError without
        one, or if the file was only moved, also by link(2) and unlink(2): the rules for its new path must
        decide.

        opening: False for a request through an open handle, which goes on even after such a move."""
        held = -1 if node.open is None else node.open.fd
        if held >= 0 and not (opening and self._has_names(held)):
            fd = self._tree.reopen(held, os.O_RDONLY)
            return fd, fstatx_of_new(fd)
        for handle in self._handles.of_node(node):
            if handle.fd >= 0 and not node.byte_path.finds_kind and not self._has_names(handle.fd):
                fd = self._tree.reopen(handle.fd, os.O_RDONLY)
                return fd, fstatx_of_new(fd)
        kept = self._replaced_files.find(node)
        if kept >= 0:
            fd = self._tree.reopen(kept, os.O_RDONLY)
            return fd, fstatx_of_new(fd)
        raise StaleNodeError


class OpenFiles(FsPart):
    """The part of a mount that finds descriptors of open files, for operations on names or attributes."""

    def __init__(self, fs: FsContext, *, backing_files: BackingFiles, cache: KernelCache) -> None:
        super().__init__(fs)
        self._backing_files = backing_files
        self._cache = cache

    def backing_fd(self, handle: Handle) -> int:
        """Return a descriptor of the store's file behind a handle in any view; the caller closes it. It can
        at least read. For a copy it is of the file with the node's name now, else OSError (ESTALE)."""
        if handle.fd >= 0 and handle.node.byte_path is not BytePath.COPY:
            return os.dup(handle.fd)
        return self._backing_files.find(handle.node)[0]

    async def backing_fd_apart(self, handle: Handle) -> int:
        """Return the same descriptor as backing_fd(), but open a file of a remote store on a thread."""
        if handle.fd >= 0 and handle.node.byte_path is not BytePath.COPY:
            return os.dup(handle.fd)
        return (await self._backing_files.find_apart(handle.node, opening=False))[0]

    def keep(self, node: Node, fd: int) -> None:
        """Keep *fd* for an open file that loses its last name, until the last release. Close it at once if
        all apps with the file open have used up their shares of descriptors."""
        give_back = None if node.open is None else self._handles.charge(node)
        if node.open is not None and give_back is not None:
            node.open.fd, node.open.fd_closed = fd, give_back
            if self._handles.saved is not None:
                self._handles.saved.unnamed(node, fd, self._handles.of_node(node)[0].caller)
        else:
            os.close(fd)

    @contextlib.contextmanager
    def bytes_stay(self, ino_key: int, *, answered: bool = True) -> Iterator[None]:
        """Wrap a change of a file's names or attributes. ino_key: NodeTable.key_of. INVARIANT: no await
        inside.

        The new ctime makes a new version: it is noted in handles that have emptied the file under redaction
        (Handle.seen), so that they may still write. The kernel is told about the file's other nodes, since
        the watch leaves out the daemon's own changes. answered: True if the reply is about the node."""
        nodes = list(self._nodes.same_inode(ino_key))
        going_on = [
            handle
            for node in nodes
            for handle in self._handles.of_node(node)
            if handle.emptied and handle.fd >= 0 and handle.seen == version_of(self._tree.fstat(handle.fd))
        ]
        try:
            yield
        finally:
            for handle in going_on:
                handle.seen = version_of(self._tree.fstat(handle.fd))
            for node in () if answered and len(nodes) == 1 else nodes:
                self._cache.forget_attributes(node.nodeid)

    def descriptor(self, node: Node, handle: Handle | None = None) -> int:
        """Return a descriptor of the node's object; the caller closes it. handle: the open file of the
        request, if any, whose own file is meant even if the name leads elsewhere by now."""
        if node.nodeid == ROOT_ID:
            return os.dup(self._tree.root_fd)
        if node.parent is None and node.open is not None and node.open.fd >= 0:
            return os.dup(node.open.fd)
        if handle is not None and handle.fd >= 0 and node.byte_path is not BytePath.COPY:
            return os.dup(handle.fd)
        if node.parent is None and node.ftype is FileType.DIRECTORY:  # removed, but a process is in it
            return os.dup(self._resolver.dirfd(node))
        return self._resolver.open_checked(node)
