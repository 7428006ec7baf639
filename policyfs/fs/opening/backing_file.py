"""The store's file behind a node: a descriptor by a name that leads to it, or by what still has it open."""

from __future__ import annotations

import errno
import itertools
import os
from typing import Final

import trio

from policyfs.domain import FileType
from policyfs.fs.context import FsContext
from policyfs.fs.inodes.node import Node, StaleNodeError
from policyfs.fs.inodes.replaced_files import ReplacedFiles
from policyfs.linux.statx import Stat

_MOVED: Final = frozenset({errno.ENOENT, errno.ESTALE, errno.ELOOP, errno.ENXIO})
"""What opening by a name says where it no longer leads to the file."""


class BackingFiles:
    """Descriptors of backing files. remote: another process or machine answers for the store, and to open a
    file may take long.
    """

    def __init__(self, fs: FsContext, *, replaced_files: ReplacedFiles, remote: bool = False) -> None:
        self._tree = fs.tree
        self._nodes = fs.nodes
        self._handles = fs.handles
        self._resolver = fs.resolver
        self._replaced_files = replaced_files
        self._remote = remote

    def find(self, node: Node) -> tuple[int, Stat]:
        """An O_RDONLY descriptor of a node's file, the caller's to close, and its attributes."""
        if node.parent is None:
            return self.reopen_unlinked(node)
        try:
            return self.open_named(node)
        except OSError as error:
            if error.errno != errno.ESTALE or self._replaced_files.find(node) < 0:
                raise
        return self.reopen_unlinked(node)

    async def find_apart(self, node: Node) -> tuple[int, Stat]:
        """find(), and of a store that may take its time elsewhere than on the loop: to open a file of which
        somebody reads a page that does not come waits for that page (fs/fuse/file.c, fuse_finish_open).
        """
        if not self._remote or node.parent is None:
            return self.find(node)
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
            return self.find(node)  # it has gone or moved: what still leads there
        stat = self._stat_if_same(node, fd)
        return self.find(node) if stat is None else (fd, stat)

    def open_named(self, node: Node) -> tuple[int, Stat]:
        """An O_RDONLY descriptor by the first name that still leads to the node. ESTALE without one."""
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
        dirfd, name, _ = self._resolver.locate(node)  # slower: tries every name, forgets dead ones
        fd = self._tree.open_file(dirfd, name, os.O_RDONLY)
        stat = self._tree.fstat(fd)
        if not self._nodes.is_same(node, stat) or stat.ftype is not FileType.REGULAR:
            os.close(fd)
            raise StaleNodeError
        return fd, stat

    def _stat_if_same(self, node: Node, fd: int) -> Stat | None:
        """The attributes behind a descriptor if it is of the node's file; None, and it is closed, if not."""
        stat = self._tree.fstat(fd)
        if self._nodes.is_same(node, stat) and stat.ftype is FileType.REGULAR:
            return stat
        os.close(fd)
        return None

    def reopen_unlinked(self, node: Node) -> tuple[int, Stat]:
        """A file without a name can be opened again only while the daemon holds it (/proc/self/fd)."""
        if node.open is not None and node.open.fd >= 0:
            fd = self._tree.reopen(node.open.fd, os.O_RDONLY)
            return fd, self._tree.fstat(fd)
        for handle in self._handles.of_node(node):
            if handle.fd >= 0 and not node.byte_path.finds_kind:
                fd = self._tree.reopen(handle.fd, os.O_RDONLY)
                return fd, self._tree.fstat(fd)
        kept = self._replaced_files.find(node)
        if kept >= 0:
            fd = self._tree.reopen(kept, os.O_RDONLY)
            return fd, self._tree.fstat(fd)
        raise StaleNodeError
