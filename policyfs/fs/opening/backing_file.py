"""The store's file behind a node. The daemon opens this file by a name, or again by an open descriptor."""

from __future__ import annotations

import errno
import itertools
import os
from typing import Final

import trio

from policyfs.domain import FileType
from policyfs.fs.context import FsContext, FsPart
from policyfs.fs.inodes.node import Node, StaleNodeError
from policyfs.fs.inodes.replaced_files import ReplacedFiles
from policyfs.linux.statx import Stat, fstatx_of_new

_MOVED: Final = frozenset({errno.ENOENT, errno.ESTALE, errno.ELOOP, errno.ENXIO})
"""Errors of an open by a name that leads to another file now, or to no file."""


class BackingFiles(FsPart):
    """The part of a mount that opens backing files for reading. remote: True if another process or machine
    serves the store. An open may then take long."""

    def __init__(self, fs: FsContext, *, replaced_files: ReplacedFiles, remote: bool = False) -> None:
        super().__init__(fs)
        self._replaced_files = replaced_files
        self._remote = remote

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
