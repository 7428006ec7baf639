"""The file handles of directories (name_to_handle_at(2)), by which the watch's events name them. A handle
leads to its directory also after a move."""

from __future__ import annotations

import errno
import os
from collections.abc import Sequence
from typing import Final

from policyfs.fs.inodes.node import Node
from policyfs.fs.inodes.node_table import NodeTable
from policyfs.linux import libc
from policyfs.linux.mountinfo import mount_id_of_fd
from policyfs.store.tree import Tree
from policyfs.store.watch import Watch

_NONE: Final = b""
"""Stands for the handle of a directory without one, so that no look-up asks the store for it again."""


class DirectoryHandles:
    """The table of the file handles of a mount's directories. by_handle: the node of each. INVARIANT: only of
    directories on the store's own mount: handles of another file system may equal theirs. The watch reports
    changes in each of them. watch: None: nothing does."""

    def __init__(self, tree: Tree, nodes: NodeTable, watch: Watch | None = None) -> None:
        self._tree = tree
        self._nodes = nodes
        self._watch = watch
        self._mount_id = mount_id_of_fd(tree.root_fd)
        self.by_handle: dict[bytes, Node] = {}
        self._handles: dict[int, bytes] = {}
        self.learn(nodes.root, tree.root_fd)
        nodes.tell_of_gone(self._gone)

    def _gone(self, node: Node) -> None:
        handle = self._handles.pop(node.nodeid, None)
        if handle is not None and self.by_handle.get(handle) is node:
            del self.by_handle[handle]
            if self._watch is not None:
                self._watch.remove(handle)

    def learn(self, node: Node, fd: int) -> bool:
        """Note the handle of the directory behind *fd* (O_PATH is enough), and watch it. Return False if it
        has none, is on another mount, or cannot be watched."""
        self._handles[node.nodeid] = _NONE
        try:
            handle, mount_id = libc.handle_and_mount(fd)
            if mount_id != self._mount_id:
                return False
            if self._watch is not None:
                self._watch.add(fd)
        except OSError:
            return False
        self._handles[node.nodeid] = handle
        self.by_handle[handle] = node
        return True

    def knows(self, node: Node) -> bool:
        """Return True if the table has the handle of this directory."""
        return bool(self._handles.get(node.nodeid))

    def has_asked(self, node: Node) -> bool:
        """Return True if learn() was called for this directory, also if it has no handle."""
        return node.nodeid in self._handles

    def path_of(self, node: Node, fd: int = -1) -> Sequence[bytes] | None:
        """Return the names that lead from the store's root to a directory now, by its handle, or by *fd*;
        None if it is gone or outside the store. INVARIANT: a hint: it may move again at any time."""
        if fd >= 0:
            return self._path(node, fd)
        handle = self._handles.get(node.nodeid)
        if not handle:
            return None
        try:
            fd = self._open(handle)
        except OSError:
            return None
        try:
            return self._path(node, fd)
        finally:
            os.close(fd)

    def is_gone(self, node: Node) -> bool:
        """Return True if the file system has a directory no more, by its handle. INVARIANT: final."""
        try:
            fd = self._open(self._handles.get(node.nodeid) or b"")
        except OSError as error:
            return error.errno == errno.ESTALE
        try:
            return not self._tree.fstat(fd).nlink
        finally:
            os.close(fd)

    def is_outside(self, node: Node) -> bool:
        """Return True if a directory is gone, or is outside the store now."""
        return node is not self._nodes.root and self.knows(node) and self.path_of(node) is None

    def _open(self, handle: bytes) -> int:
        if not handle:
            raise OSError(errno.ENODATA, "a directory without a handle")
        root = os.open(b".", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC, dir_fd=self._tree.root_fd)
        try:  # open_by_handle_at takes no O_PATH descriptor
            return libc.open_handle(root, handle, os.O_PATH | os.O_DIRECTORY)
        finally:
            os.close(root)

    def _path(self, node: Node, fd: int) -> Sequence[bytes] | None:
        try:
            stat = self._tree.fstat(fd)
            path, root = (os.readlink(libc.proc_fd(one)) for one in (fd, self._tree.root_fd))
        except OSError:  # ENAMETOOLONG: a path of more than 4,095 bytes
            return None
        below = os.fsencode(root).rstrip(b"/") + b"/"
        names = os.fsencode(path)
        if not stat.nlink or not self._nodes.is_same(node, stat) or not names.startswith(below):
            return None
        return names.removeprefix(below).split(b"/")
