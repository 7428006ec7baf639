"""Byte ranges of open files: fallocate, holes, and copies within the store.

Raw views work on the store's file. Elsewhere fallocate is a checked write of zeros (FileWriter.allocate), all
of a file is data, and a copy gets the errno after which the kernel reads and writes."""

from __future__ import annotations

import errno
import os
from typing import Final

import trio

from policyfs.fs.access.audit import Call
from policyfs.fs.context import FsContext
from policyfs.fs.data.read import FileReader
from policyfs.fs.data.write import FileWriter
from policyfs.fs.inodes.handles import Handle, open_state
from policyfs.fs.inodes.node import BytePath
from policyfs.fs.inodes.open_state import Mode
from policyfs.fs.kernel_cache.attributes import shown_size
from policyfs.fs.opening.open_files import OpenFiles
from policyfs.store import ranges
from policyfs.store.ranges import KEEP_SIZE, PUNCH_HOLE, ZERO_RANGE

_MODES: Final = frozenset({0, KEEP_SIZE, KEEP_SIZE | PUNCH_HOLE, ZERO_RANGE, KEEP_SIZE | ZERO_RANGE})
"""The permitted modes of fallocate. Others shift bytes into or out of checked or hidden ranges."""

_COPY_MOST: Final = 64 << 20
"""The limit of bytes copied for one request, for which a killed caller waits; a multiple of block sizes."""


def _as_stored(handle: Handle) -> bool:
    """Return True if readers see just the store's bytes: a mediated writer's mapped page is not there yet."""
    node = handle.node
    if handle.mode is not Mode.PASSTHROUGH and node.open is not None and node.open.writers:
        return False
    return node.byte_path is BytePath.RAW or (node.byte_path is BytePath.LIVE and not node.view.redact)


class Ranges:
    """The handler of FALLOCATE, LSEEK and COPY_FILE_RANGE for one mount."""

    def __init__(
        self, fs: FsContext, *, reader: FileReader, writer: FileWriter, open_files: OpenFiles,
        shares_blocks: bool = False,
    ) -> None:  # fmt: skip
        """shares_blocks: True if two files of the store can share blocks (reflink)."""
        self._tree = fs.tree
        self._shares_blocks = shares_blocks
        self._reader = reader
        self._writer = writer
        self._open_files = open_files

    async def allocate(self, handle: Handle, mode: int, offset: int, length: int) -> None:
        """Allocate as fallocate(2) does. Raise OSError (EOPNOTSUPP) for modes that are not in _MODES."""
        if mode not in _MODES:
            raise OSError(errno.EOPNOTSUPP, "not through this mount")
        await self._writer.allocate(handle, mode, offset, length)

    async def seek(self, handle: Handle, offset: int, whence: int) -> int:
        """Return the offset of the next data or hole. If the app may not read the raw bytes, or held or
        mapped bytes have no blocks yet, the answer is one extent of data, which is right for any file."""
        if whence not in {os.SEEK_DATA, os.SEEK_HOLE}:
            raise OSError(errno.EINVAL, "only SEEK_DATA and SEEK_HOLE reach the daemon")
        readable = await self._reader.may_read(handle, Call("read", "lseek"))
        fd = await self._open_files.backing_fd_apart(handle)
        try:
            if readable and _as_stored(handle):
                return await trio.to_thread.run_sync(ranges.seek, fd, offset, whence)
            size = shown_size(handle.node, self._tree.fstat(fd))
        finally:
            os.close(fd)
        if not 0 <= offset < size:
            raise OSError(errno.ENXIO, "behind the end")
        return offset if whence == os.SEEK_DATA else size

    async def copy(self, source: Handle, source_at: int, target: Handle, target_at: int, length: int) -> int:
        """Copy as copy_file_range(2) does, in raw views, after new decisions. Return the number of bytes.

        Raise OSError: EOPNOTSUPP for another view, where the kernel reads and writes; ENOSYS for a permitted
        copy in passthrough without shared blocks, which it does faster itself, for the rest of the mount
        (fs/fuse/file.c, fuse_copy_file_range)."""
        if source.node.byte_path is not BytePath.RAW or target.node.byte_path is not BytePath.RAW:
            raise OSError(errno.EOPNOTSUPP, "copy by read and write")
        await self._reader.may_read(source, Call("read", "copy_file_range"))
        if open_state(source).holds_back or open_state(target).holds_back:  # possible after a reload
            raise OSError(errno.EOPNOTSUPP, "copy by read and write")
        by_kernel = not self._shares_blocks and source.mode is target.mode is Mode.PASSTHROUGH
        length = min(length, _COPY_MOST)
        fd = self._open_files.backing_fd(source)
        try:
            return await self._writer.copy_into(
                target, fd, source_at, target_at, length, by_kernel=by_kernel
            )
        finally:
            os.close(fd)
