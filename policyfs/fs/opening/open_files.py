"""Descriptors of the store's files behind open nodes."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterator

from policyfs.domain import FileType
from policyfs.fs.access.views import version_of
from policyfs.fs.context import FsContext, FsPart
from policyfs.fs.inodes.handles import Handle
from policyfs.fs.inodes.node import ROOT_ID, BytePath, Node
from policyfs.fs.opening.backing_file import BackingFiles


class OpenFiles(FsPart):
    """The part of a mount that finds descriptors of open files, for operations on their names or attributes.

    forget_attributes: a function of a node's number. It makes the kernel ask for the node's attributes again.
    """

    def __init__(
        self, fs: FsContext, *, backing_files: BackingFiles, forget_attributes: Callable[[int], None]
    ) -> None:
        super().__init__(fs)
        self._backing_files = backing_files
        self._forget_attributes = forget_attributes

    def backing_fd(self, handle: Handle) -> int:
        """Return a descriptor of the store's file behind a handle in any view; the caller closes it. It can
        at least read. For a copy it is of the file that has the node's name now, or OSError (ESTALE) is
        raised."""
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
        the watch leaves out the daemon's own changes. answered: True if the reply is about the request's
        node."""
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
                self._forget_attributes(node.nodeid)

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
