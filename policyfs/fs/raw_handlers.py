"""Handlers of the requests that do not go to pyfuse3. A handler translates a request, and decides nothing.

What may need a thread for long takes a turn of its app (sharing/turns.py), but FSYNC and FSYNCDIR: their
quick handlers return Work (kernel/operations.py), which needs no task."""

from __future__ import annotations

import errno
import os
import struct
from collections.abc import Callable
from functools import partial
from typing import Final

from policyfs.fs.context import FsContext, FsPart
from policyfs.fs.error_boundary import guarded, guarded_now
from policyfs.fs.inodes.node import Node
from policyfs.fs.namespace.operations import DataOperations, NameOperations
from policyfs.fs.sharing.kernel_locks import locked
from policyfs.fs.sharing.shares import Turns
from policyfs.kernel import requests, vectors
from policyfs.kernel.bridge import open_reply
from policyfs.kernel.operations import BugLog, Handler, Quick, Request, Work
from policyfs.kernel.protocol import Opcode

_FS_IOC_GETFLAGS: Final = 0x80086601
_AT_ONCE: Final = 2
"""One app's limit of requests, of all opcodes, that may need a thread for long."""
_FLAGS: Final = struct.Struct("=II")


class RawHandlers(FsPart):
    """The object with one mount's handlers of requests that do not go to pyfuse3."""

    def __init__(
        self,
        fs: FsContext,
        *,
        names: NameOperations,
        data: DataOperations,
        sync_directory: Callable[[int], None],
        bugs: BugLog,
        comes_again: Callable[[int], object] = lambda _unique: None,
    ) -> None:
        """sync_directory: writes the directory behind a descriptor to the disk, and waits for the disk.
        comes_again: called with the number of each OPENDIR (Restoration.comes_again)."""
        super().__init__(fs)
        self._comes_again = comes_again
        self.policy_record = fs.gate.policy_record
        self._lookup = names.lookup
        self._attribute_setter = names.attribute_setter
        self._ranges = data.ranges
        self._sync = data.sync
        self._writer = data.writer
        self._listings = names.listings
        self._xattrs = names.xattrs
        self._sync_directory = sync_directory
        self.bugs = bugs
        self.kernel_locks = fs.locks
        self._turns = Turns(_AT_ONCE)

    def handlers(self) -> dict[Opcode, Handler]:
        """Return the handlers by opcode."""
        return {
            Opcode.FALLOCATE: self.fallocate,
            Opcode.LSEEK: self.lseek,
            Opcode.COPY_FILE_RANGE: self.copy_file_range,
            Opcode.COPY_FILE_RANGE_64: self.copy_file_range,
            Opcode.IOCTL: self.ioctl,
            Opcode.STATX: self.statx,
            Opcode.FSYNC: self.fsync,
            Opcode.OPENDIR: self.opendir,
            Opcode.READDIR: self.readdir,
            Opcode.GETXATTR: self.getxattr,
        }

    def quick_handlers(self) -> dict[Opcode, Quick]:
        """Return the handlers that the bridge tries first, by opcode. Such handlers never wait."""
        return {
            Opcode.FSYNC: self.fsync_now,
            Opcode.FSYNCDIR: self.fsyncdir_now,
            Opcode.GETXATTR: self.getxattr_now,
            Opcode.OPENDIR: self.opendir_now,
            Opcode.READDIR: self.readdir_now,
            Opcode.WRITE: self.write_dropped_now,
        }

    def _node(self, request: Request) -> Node:
        return self._nodes.get(request.nodeid)

    @guarded_now
    def fsync_now(self, request: Request) -> Work | None:
        """Answer FSYNC of a file without held bytes. Return None for any other file: fsync() answers then."""
        asked = requests.fsync(request)
        fd = vectors.writer_file(asked.fh)
        if fd >= 0:  # of the bridge, which holds no bytes, and goes on with the file
            return self._sync.sync_file(fd, datasync=asked.datasync)
        return self._sync.fsync_now(self._handles.get(asked.fh), datasync=asked.datasync)

    @guarded
    async def fsync(self, request: Request) -> bytes:
        """Answer FSYNC of any file."""
        asked = requests.fsync(request)
        await self._sync.fsync(self._handles.get(asked.fh), datasync=asked.datasync)
        return b""

    @guarded_now
    def fsyncdir_now(self, request: Request) -> Work:
        """Answer FSYNCDIR."""
        fd = os.dup(self._listings.directory_fd(requests.fsync(request).fh))

        def sync() -> None:
            try:
                self._sync_directory(fd)
            finally:
                os.close(fd)

        return Work(sync, partial(os.close, fd))

    @guarded_now
    def opendir_now(self, request: Request) -> bytes | None:
        """Answer OPENDIR if path and caller alone decide; else return None: opendir() answers then."""
        caller = self._gate.caller(request)
        caller.unique = request.unique
        self._comes_again(request.unique)
        fh = self._listings.opendir_now(self._node(request), caller)
        return None if fh is None else open_reply(fh)

    @guarded
    async def opendir(self, request: Request) -> bytes:
        """Answer OPENDIR. It may look for facts about each name in the directory, until a signal comes."""
        fh = -1
        with request.interruptible() as scope:
            caller = self._gate.caller(request)
            caller.unique = request.unique
            self._comes_again(request.unique)
            fh = await self._listings.opendir(self._node(request), caller)
        if scope.cancelled_caught:
            raise OSError(errno.EINTR, "interrupted")
        return open_reply(fh)

    @guarded_now
    def readdir_now(self, request: Request) -> bytes | None:
        """Answer READDIR from a snapshot that is there; else return None: readdir() answers then."""
        asked = requests.read_directory(request)
        return self._listings.names_now(asked.fh, asked.start, asked.size)

    @locked(errno.EIO, waits=False)
    @guarded
    async def readdir(self, request: Request) -> bytes:
        """Answer READDIR, with names only. (READDIRPLUS goes to pyfuse3.)"""
        asked = requests.read_directory(request)
        return await self._listings.names(asked.fh, asked.start, asked.size)

    @guarded_now
    def write_dropped_now(self, request: Request) -> None:
        """Refuse a WRITE whose data the bridge has dropped (kernel/queue/_lanes.c). Others go to pyfuse3."""
        self._writer.give_up(request.nodeid, *requests.write_range(request))

    @guarded_now
    def getxattr_now(self, request: Request) -> None:
        """Refuse GETXATTR at once if no object has the attribute, and the caller sees this one; else
        getxattr() answers. (`ls -l` asks every file for ACLs and labels.)"""
        asked = requests.getxattr(request)
        self._xattrs.absent_now(self._node(request), asked.name, self._gate.caller(request))

    @guarded
    async def getxattr(self, request: Request) -> bytes:
        """Answer GETXATTR."""
        asked = requests.getxattr(request)
        value = await self._xattrs.getxattr(self._node(request), asked.name, self._gate.caller(request))
        return requests.getxattr_reply(asked, value)

    @guarded
    async def fallocate(self, request: Request) -> bytes:
        """Answer FALLOCATE."""
        asked = requests.fallocate(request)
        handle = self._handles.get(asked.fh)
        async with self._turns.of(handle.caller.holder):
            await self._ranges.allocate(handle, asked.mode, asked.offset, asked.length)
        return b""

    @guarded
    async def lseek(self, request: Request) -> bytes:
        """Answer LSEEK, a search for holes or data."""
        asked = requests.seek(request)
        found = await self._ranges.seek(self._handles.get(asked.fh), asked.offset, asked.whence)
        return requests.offset_reply(found)

    @guarded
    async def copy_file_range(self, request: Request) -> bytes:
        """Answer COPY_FILE_RANGE and COPY_FILE_RANGE_64."""
        asked = requests.copy_range(request)
        source, target = self._handles.get(asked.fh_in), self._handles.get(asked.fh_out)
        if asked.flags:
            raise OSError(errno.EINVAL, "no flags are known")
        async with self._turns.of(target.caller.holder):
            copied = await self._ranges.copy(source, asked.offset_in, target, asked.offset_out, asked.length)
        return requests.copied_reply(request, copied)

    @guarded
    async def ioctl(self, request: Request) -> bytes:
        """Answer IOCTL: only FS_IOC_GETFLAGS, which tells no more than stat does
        (docs/decisions/0025-one-ioctl.md)."""
        asked = requests.ioctl(request)
        if asked.command != _FS_IOC_GETFLAGS:
            raise OSError(errno.ENOTTY, "not through this mount")
        flags = await self._attribute_setter.inode_flags(self._node(request), self._gate.caller(request))
        return requests.ioctl_reply(_FLAGS.pack(flags, 0)[: asked.out_size])

    @guarded
    async def statx(self, request: Request) -> bytes:
        """Answer STATX: the attributes of GETATTR, and the birth time."""
        node = self._node(request)
        stat = await self._lookup.look(node, self._gate.caller(request))
        return requests.statx_reply(self._lookup.attributes(node, stat), stat.btime_ns)
