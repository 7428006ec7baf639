"""Handlers of the requests that come through pyfuse3. A handler translates a request, and decides nothing.

INVARIANT: a request during which the kernel holds a lock that other apps need (fs/namei.c, fs/readdir.c) is
`locked` (sharing/kernel_locks.py)."""

from __future__ import annotations

import contextlib
import errno
import os
import stat
import struct
from collections import deque
from typing import TYPE_CHECKING, Final, NamedTuple

import trio

from policyfs.content.workers import announcer
from policyfs.domain import FileType
from policyfs.fs.context import FsContext
from policyfs.fs.data.locks import Locks
from policyfs.fs.error_boundary import guarded
from policyfs.fs.inodes.caller import Caller
from policyfs.fs.inodes.handles import Handle
from policyfs.fs.inodes.node import Node
from policyfs.fs.kernel_cache.announcements import PHANTOM_HANDLE, Announcements
from policyfs.fs.namespace.operations import DataOperations, NameOperations
from policyfs.fs.namespace.setattr import Change
from policyfs.fs.opening.opener import Opener
from policyfs.fs.sharing.kernel_locks import locked
from policyfs.fs.sharing.pauses import in_slices
from policyfs.kernel.bridge import pyfuse3, raw_request
from policyfs.kernel.operations import RESENT, BugLog
from policyfs.store.ranges import Buffer
from policyfs.store.tree import TIME_NOW

if TYPE_CHECKING:
    from collections.abc import Callable, Container, Sequence

_WRITE_FLAGS: Final = struct.Struct("=20xI8xI")  # struct fuse_write_in: write_flags, flags (see _wire.h)
_FUSE_WRITE_CACHE: Final = 1 << 0  # page-cache write-back, not a write(2)
_FUSE_WRITE_KILL_SUIDGID: Final = 1 << 2
_FLUSH_OWNER: Final = struct.Struct("=16xQ")  # struct fuse_flush_in: fh, unused, lock_owner
_SETATTR_VALID: Final = struct.Struct("=I")  # struct fuse_setattr_in: valid
_FATTR_ATIME_NOW: Final = 1 << 7
_FATTR_MTIME_NOW: Final = 1 << 8
_FATTR_KILL_SUIDGID: Final = 1 << 11


_AT_ONCE: Final = 16
"""The number of references to forget between two possible pauses for other requests (in_slices)."""


class Before(NamedTuple):
    """The traces of the daemon before. comes_again: called with the number of each OPEN (Restoration).
    refused: the numbers of FLUSHes and RELEASEs that have probably killed daemons: they check no bytes."""

    comes_again: Callable[[int], Callable[[], None]]
    refused: Container[int]


class Handlers(pyfuse3.Operations):
    """The object with the handlers of one mount. pyfuse3 calls one method for each request."""

    supports_dot_lookup = False
    enable_writeback_cache = False
    enable_acl = False

    def __init__(
        self,
        fs: FsContext,
        *,
        names: NameOperations,
        data: DataOperations,
        opener: Opener,
        locks: Locks,
        bugs: BugLog,
        announcements: Announcements | None = None,
        before: Before | None = None,
        read_only: bool = False,
    ) -> None:
        """before: None without a daemon before this one. read_only: refuse each change with EROFS, also if
        root has made the mount writable."""
        super().__init__()
        self._tree = fs.tree
        self._nodes = fs.nodes
        self._handles = fs.handles
        self._gate = fs.gate
        self.policy_record = fs.gate.policy_record
        self._names = names
        self._lookup = names.lookup
        self._listings = names.listings
        self._data = data
        self._opener = opener
        self._locks = locks
        self._announcements = announcements
        self._read_only = read_only
        self._comes_again, self._refused = before or Before(lambda _unique: lambda: None, ())
        self.bugs = bugs
        self.kernel_locks = fs.locks
        self._forgets: deque[tuple[int, int]] = deque()
        self._forgetting = False

    def _node(self, inode: int) -> Node:
        return self._nodes.get(inode)

    def _changer(self, ctx: pyfuse3.RequestContext) -> Caller:
        """Return the caller of a change, with the request's number. INVARIANT: before the first await."""
        self._may_change()
        return self._numbered(ctx)

    def _may_change(self) -> None:
        if self._read_only:
            raise pyfuse3.FUSEError(errno.EROFS)

    def _numbered(self, ctx: pyfuse3.RequestContext) -> Caller:
        caller = self._gate.caller(ctx)
        caller.unique = raw_request().unique & ~RESENT
        return caller

    @guarded
    async def forget(self, inode_list: Sequence[tuple[int, int]]) -> None:
        """Handle FORGET and BATCH_FORGET. The kernel may send tens of thousands, and nobody waits: one task
        handles all, a few at a time."""
        self._forgets.extend(inode_list)
        if self._forgetting:
            return
        self._forgetting = True
        try:
            await in_slices(self._forget_some)
        finally:
            self._forgetting = False

    def _forget_some(self) -> bool:
        """Forget a few references. Return True if more references are left."""
        for _ in range(min(_AT_ONCE, len(self._forgets))):
            self._nodes.forget(*self._forgets.popleft())
        return bool(self._forgets)

    # -- changes that inotify reports --------------------------------------------------------------

    def _announcing(self, ctx: pyfuse3.RequestContext) -> Announcements | None:
        """Return the announcements if the request is of the announcer. INVARIANT: each handler of a change
        asks this first: the announcer changes nothing."""
        own = self._announcements
        return own if own is not None and own.is_from(ctx.pid) else None

    async def _announced(
        self, own: Announcements, parent: int, name: bytes, format_: int, ctx: pyfuse3.RequestContext
    ) -> pyfuse3.EntryAttributes:
        """Return the true answer to a LOOKUP as that of MKNOD or MKDIR. format_: S_IFREG or S_IFDIR."""
        entry = await self._found(own, parent, name, ctx)
        if entry.st_ino and stat.S_IFMT(entry.st_mode) == format_:
            return entry
        if entry.st_ino:
            self._nodes.forget(entry.st_ino, 1)
        own.answered(parent, name)
        raise pyfuse3.FUSEError(errno.ENOENT)

    async def _found(
        self, own: Announcements, parent: int, name: bytes, ctx: pyfuse3.RequestContext
    ) -> pyfuse3.EntryAttributes:
        try:
            entry = await self._lookup.lookup(self._node(parent), name, self._gate.caller(ctx))
        except (OSError, pyfuse3.FUSEError) as error:
            if error.errno == errno.ENOENT:
                own.answered(parent, name)
            raise
        own.answered(parent, name, entry.st_mode if entry.st_ino else 0)
        return entry

    # -- look-ups and listings --------------------------------------------------------------------

    @locked(errno.EIO)
    @guarded
    async def lookup(self, parent: int, name: bytes, ctx: pyfuse3.RequestContext) -> pyfuse3.EntryAttributes:
        """Answer LOOKUP."""
        if not self._gate.admits(ctx):
            return self._lookup.lookup_from_outside(self._node(parent), name)
        if (own := self._announcing(ctx)) is not None and (phantom := own.look_up(parent, name)) is not None:
            return phantom
        found = 0
        try:
            if own is not None:
                entry = await self._found(own, parent, name, ctx)
            else:
                entry = await self._lookup.lookup(self._node(parent), name, self._gate.caller(ctx))
            found = entry.st_ino
            if own is not None and own.is_asked_again(parent, name):
                entry.entry_timeout = 0.0
            return entry
        finally:
            if not found:
                self._opener.second_tries.failed(ctx.pid)

    @guarded
    async def getattr(self, inode: int, ctx: pyfuse3.RequestContext) -> pyfuse3.EntryAttributes:
        """Answer GETATTR."""
        return await self._lookup.getattr(self._node(inode), self._gate.caller(ctx))

    @guarded
    async def readlink(self, inode: int, ctx: pyfuse3.RequestContext) -> bytes:
        """Answer READLINK."""
        return await self._lookup.readlink(self._node(inode), self._gate.caller(ctx))

    @guarded
    async def access(self, inode: int, mode: int, ctx: pyfuse3.RequestContext) -> bool:
        """Answer ACCESS, which the kernel sends for access(2), chdir(2) and chroot(2)."""
        return await self._lookup.access(self._node(inode), mode, self._gate.caller(ctx))

    @locked(errno.EIO, waits=False)
    @guarded
    async def readdir(self, fh: int, start_id: int, token: pyfuse3.ReaddirToken) -> None:
        """Answer READDIRPLUS."""
        await self._listings.readdir(fh, start_id, token)

    @guarded
    async def releasedir(self, fh: int) -> None:
        """Answer RELEASEDIR."""
        await self._listings.releasedir(fh)

    @guarded
    async def statfs(self, ctx: pyfuse3.RequestContext) -> pyfuse3.StatvfsData:
        """Answer STATFS. A caller that the mount does not admit gets zeros, as from the kernel."""
        reply = pyfuse3.StatvfsData()
        if not self._gate.admits(ctx):
            return reply
        found = await trio.to_thread.run_sync(self._tree.statvfs)  # waits as long as the store hangs
        reply.f_bsize, reply.f_frsize = found.f_bsize, found.f_frsize
        reply.f_blocks, reply.f_bfree, reply.f_bavail = found.f_blocks, found.f_bfree, found.f_bavail
        reply.f_files, reply.f_ffree, reply.f_favail = found.f_files, found.f_ffree, found.f_favail
        reply.f_namemax = min(found.f_namemax, 255)
        return reply

    # -- files ------------------------------------------------------------------------------------

    @guarded
    async def open(self, inode: int, flags: int, ctx: pyfuse3.RequestContext) -> pyfuse3.FileInfo:
        """Answer OPEN."""
        if (own := self._announcing(ctx)) is not None:
            return own.open(inode, flags)
        request = raw_request()  # before the first await
        rests = request.rests
        if flags & (os.O_ACCMODE | os.O_TRUNC):
            self._may_change()
        node, caller = self._node(inode), self._numbered(ctx)
        ended = self._comes_again(caller.unique)
        try:
            await self._data.sync.settle_late_of(node, caller)
            handle = await self._opener.open(node, flags, caller, rests)
        finally:
            ended()
        return pyfuse3.FileInfo(fh=pyfuse3.FileHandleT(handle.fh), keep_cache=False)

    @locked(errno.EBUSY)
    @guarded
    async def create(
        self, parent: int, name: bytes, mode: int, flags: int, ctx: pyfuse3.RequestContext
    ) -> tuple[pyfuse3.FileInfo, pyfuse3.EntryAttributes]:
        """Answer CREATE."""
        if (own := self._announcing(ctx)) is not None:
            own.check(announcer.WRITTEN_FILE, parent, name)
            entry = await self._announced(own, parent, name, stat.S_IFREG, ctx)
            self._nodes.forget(entry.st_ino, 1)  # the kernel gets the phantom
            phantom = own.phantom(is_dir=False)
            return own.open(phantom.st_ino, flags), phantom
        caller = self._changer(ctx)
        ended = self._comes_again(caller.unique)
        try:
            handle, entry = await self._names.creator.create(self._node(parent), name, mode, flags, caller)
        finally:
            ended()
        return pyfuse3.FileInfo(fh=pyfuse3.FileHandleT(handle.fh), keep_cache=False), entry

    @guarded
    async def read(  # type: ignore[override]  # pyfuse3 sends any buffer (handlers.pxi, fuse_read_async)
        self, fh: int, off: int, size: int
    ) -> Buffer:
        """Answer READ. For files in passthrough it comes only after readahead(2) or posix_fadvise(2)."""
        return await self._data.reader.read(self._handles.get(fh), off, size)

    @guarded
    async def write(self, fh: int, off: int, buf: bytes) -> int:
        """Answer WRITE. The kernel sends WRITE only for mediated files."""
        request = raw_request()  # before the first await
        flags, file_flags = _WRITE_FLAGS.unpack_from(request.body)
        handle = self._handles.get(fh)
        back, kill = bool(flags & _FUSE_WRITE_CACHE), bool(flags & _FUSE_WRITE_KILL_SUIDGID)
        append = bool(file_flags & os.O_APPEND)  # fcntl(F_SETFL) may have changed this flag since the open
        unique = request.unique & ~RESENT if append else 0
        return await self._data.writer.write(
            handle, off, buf, append=append, kill_priv=kill, back=back, unique=unique
        )

    @guarded
    async def flush(self, fh: int) -> None:
        """Answer FLUSH: an app has closed a descriptor of the handle."""
        if fh == PHANTOM_HANDLE or self._handles.is_lost(fh):
            return
        request = raw_request()  # before the first await
        (owner,) = _FLUSH_OWNER.unpack_from(request.body)
        handle = self._handles.get(fh)
        self._locks.flushed(handle, owner)
        if request.unique & ~RESENT in self._refused:
            raise pyfuse3.FUSEError(errno.EIO)
        await self._gate.recorder.pay(handle.caller.holder)
        await self._data.sync.flush(handle)

    @guarded
    async def release(self, fh: int) -> None:
        """Answer RELEASE: no app has a descriptor or a mapping of the handle any more."""
        if fh == PHANTOM_HANDLE or self._handles.is_lost(fh):
            return
        handle = self._handles.get(fh)
        is_refused = raw_request().unique & ~RESENT in self._refused  # before the first await
        if self._announcements is not None and handle.writable:
            self._announcements.released(handle.node)
        try:
            try:
                self._locks.released(handle)
            finally:  # close the file even if the store cannot release a lock
                if not is_refused:  # else close() drops held bytes, on record
                    await self._data.sync.finish(handle)
        finally:
            self._opener.close(handle)

    # -- names ------------------------------------------------------------------------------------

    @locked(errno.EBUSY)
    @guarded
    async def mkdir(
        self, parent: int, name: bytes, mode: int, ctx: pyfuse3.RequestContext
    ) -> pyfuse3.EntryAttributes:
        """Answer MKDIR."""
        if (own := self._announcing(ctx)) is not None:
            own.check(announcer.DIRECTORY, parent, name)
            return await self._announced(own, parent, name, stat.S_IFDIR, ctx)
        return await self._names.creator.mkdir(self._node(parent), name, mode, self._changer(ctx))

    @locked(errno.EBUSY)
    @guarded
    async def mknod(
        self,
        parent: int,
        name: bytes,
        mode: int,
        rdev: int,
        ctx: pyfuse3.RequestContext,
    ) -> pyfuse3.EntryAttributes:
        """Answer MKNOD."""
        if (own := self._announcing(ctx)) is not None:
            own.check(announcer.FILE, parent, name)
            return await self._announced(own, parent, name, stat.S_IFREG, ctx)
        return await self._names.creator.mknod(self._node(parent), name, mode, rdev, self._changer(ctx))

    @locked(errno.EBUSY)
    @guarded
    async def symlink(
        self, parent: int, name: bytes, target: bytes, ctx: pyfuse3.RequestContext
    ) -> pyfuse3.EntryAttributes:
        """Answer SYMLINK."""
        return await self._names.creator.symlink(self._node(parent), name, target, self._changer(ctx))

    @locked(errno.EXDEV)
    @guarded
    async def link(
        self, inode: int, new_parent: int, new_name: bytes, ctx: pyfuse3.RequestContext
    ) -> pyfuse3.EntryAttributes:
        """Answer LINK."""
        node, parent = self._node(inode), self._node(new_parent)
        return await self._names.linker.link(node, parent, new_name, self._changer(ctx))

    @locked(errno.EBUSY)
    @guarded
    async def unlink(self, parent: int, name: bytes, ctx: pyfuse3.RequestContext) -> None:
        """Answer UNLINK."""
        if (own := self._announcing(ctx)) is not None:
            own.check(announcer.REMOVED_FILE, parent, name)
            return
        await self._names.remover.remove(self._node(parent), name, self._changer(ctx), directory=False)

    @locked(errno.EBUSY)
    @guarded
    async def rmdir(self, parent: int, name: bytes, ctx: pyfuse3.RequestContext) -> None:
        """Answer RMDIR."""
        if (own := self._announcing(ctx)) is not None:
            own.check(announcer.REMOVED_DIRECTORY, parent, name)
            return
        await self._names.remover.remove(self._node(parent), name, self._changer(ctx), directory=True)

    @locked(errno.EXDEV)
    @guarded
    async def rename(
        self, parent_old: int, name_old: bytes, parent_new: int, name_new: bytes, flags: int,
        ctx: pyfuse3.RequestContext,
    ) -> None:  # fmt: skip
        """Answer RENAME and RENAME2."""
        if (own := self._announcing(ctx)) is not None:
            own.check(announcer.MOVED, parent_old, name_old, (parent_new, name_new))
            entry = await self._announced(own, parent_new, name_new, stat.S_IFREG, ctx)
            self._nodes.forget(entry.st_ino, 1)  # the kernel gets no reference by RENAME
            return
        await self._names.renamer.rename(
            self._node(parent_old), name_old, self._node(parent_new), name_new, flags, self._changer(ctx)
        )

    # -- attributes -------------------------------------------------------------------------------

    @guarded
    async def setattr(
        self, inode: int, attr: pyfuse3.EntryAttributes, fields: pyfuse3.SetattrFields, fh: int | None,
        ctx: pyfuse3.RequestContext,
    ) -> pyfuse3.EntryAttributes:  # fmt: skip
        """Answer SETATTR."""
        (valid,) = _SETATTR_VALID.unpack_from(raw_request().body)  # before the first await
        change = Change(
            mode=attr.st_mode if fields.update_mode else None,
            uid=attr.st_uid if fields.update_uid else None,
            gid=attr.st_gid if fields.update_gid else None,
            size=attr.st_size if fields.update_size else None,
            atime_ns=_time(attr.st_atime_ns, valid & _FATTR_ATIME_NOW) if fields.update_atime else None,
            mtime_ns=_time(attr.st_mtime_ns, valid & _FATTR_MTIME_NOW) if fields.update_mtime else None,
            kill_priv=bool(valid & _FATTR_KILL_SUIDGID),
        )
        handle: Handle | None = None if fh is None else self._handles.get(fh)
        own = self._announcing(ctx)
        if own is not None and own.is_phantom(inode):
            return own.attributes()
        node = self._node(inode)
        if own is not None:
            return await self._lookup.getattr(node, self._gate.caller(ctx))
        self._may_change()
        with self._lock_of(node):
            return await self._names.attribute_setter.setattr(node, change, handle, self._gate.caller(ctx))

    @guarded
    async def getxattr(self, inode: int, name: bytes, ctx: pyfuse3.RequestContext) -> bytes:
        """Return an extended attribute to pyfuse3, which asks before a SETXATTR with XATTR_CREATE or
        XATTR_REPLACE. (raw_handlers.py answers GETXATTR.)"""
        return await self._names.xattrs.getxattr(self._node(inode), name, self._gate.caller(ctx))

    @guarded
    async def listxattr(self, inode: int, ctx: pyfuse3.RequestContext) -> list[bytes]:
        """Answer LISTXATTR."""
        return await self._names.xattrs.listxattr(self._node(inode), self._gate.caller(ctx))

    @guarded
    async def setxattr(self, inode: int, name: bytes, value: bytes, ctx: pyfuse3.RequestContext) -> None:
        """Answer SETXATTR. pyfuse3 has already checked XATTR_CREATE and XATTR_REPLACE."""
        self._may_change()
        node = self._node(inode)
        with self._lock_of(node):
            await self._names.xattrs.setxattr(node, name, value, self._gate.caller(ctx))

    @guarded
    async def removexattr(self, inode: int, name: bytes, ctx: pyfuse3.RequestContext) -> None:
        """Answer REMOVEXATTR."""
        node = self._node(inode)
        with self._lock_of(node):
            await self._names.xattrs.removexattr(node, name, self._changer(ctx))

    def _lock_of(self, node: Node) -> contextlib.AbstractContextManager[None]:
        """Return a context for a change of a node's attributes: the kernel then holds the node's lock."""
        is_directory = node.ftype is FileType.DIRECTORY
        return self.kernel_locks.under_lock(errno.EBUSY) if is_directory else contextlib.nullcontext()


def _time(given_ns: int, now: int) -> int:
    """Return the time to set in ns, or TIME_NOW: then the store takes its own clock, as for ctime."""
    return TIME_NOW if now else given_ns
