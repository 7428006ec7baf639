"""The requests that change attributes (SETATTR) or read inode flags (FS_IOC_GETFLAGS)."""

from __future__ import annotations

import contextlib
import errno
import os
import stat as stat_bits
from dataclasses import dataclass, replace
from typing import Final, TypeVar

from policyfs.domain import Facts, FileType, Op
from policyfs.fs.access.audit import Call
from policyfs.fs.access.kept_changes import exact
from policyfs.fs.access.ledger import recorded_first
from policyfs.fs.context import FsContext, FsPart
from policyfs.fs.data.sync import FileSync
from policyfs.fs.data.write import FileWriter
from policyfs.fs.inodes.caller import Caller
from policyfs.fs.inodes.handles import Handle
from policyfs.fs.inodes.node import BytePath, Node, StaleNodeError
from policyfs.fs.inodes.open_state import Mode
from policyfs.fs.namespace.lookup import Lookup
from policyfs.fs.namespace.setid import SetIdBits, caller_groups
from policyfs.fs.opening.open_files import OpenFiles
from policyfs.fs.opening.opener import Opener
from policyfs.kernel.bridge import pyfuse3
from policyfs.linux.statx import Stat
from policyfs.store.ranges import inode_flags

T = TypeVar("T")

_OF_NAMES: Final = 0x1000 | 0x1000_0000
"""FS_INDEX_FL and FS_INLINE_DATA_FL (linux/fs.h): they tell how much room a directory's names take."""


@dataclass(frozen=True, slots=True)
class Change:
    """The change that SETATTR requests; None: no change. Times in ns, size in bytes. kill_priv: clear suid,
    sgid and capabilities, too."""

    mode: int | None
    uid: int | None
    gid: int | None
    size: int | None
    atime_ns: int | None
    mtime_ns: int | None
    kill_priv: bool

    @property
    def attributes(self) -> bool:
        """True if the request changes more than the size."""
        fields = (self.mode, self.uid, self.gid, self.atime_ns, self.mtime_ns)
        return any(field is not None for field in fields)


class AttributeSetter(FsPart):
    """The handler of SETATTR and FS_IOC_GETFLAGS for one mount."""

    def __init__(
        self,
        fs: FsContext,
        *,
        lookup: Lookup,
        opener: Opener,
        open_files: OpenFiles,
        writer: FileWriter,
        sync: FileSync,
        set_id_bits: SetIdBits | None,
    ) -> None:
        super().__init__(fs)
        self._lookup = lookup
        self._opener = opener
        self._open_files = open_files
        self._writer = writer
        self._sync = sync
        self._set_id_bits = set_id_bits

    # -- setattr ----------------------------------------------------------------------------------

    async def setattr(
        self, node: Node, change: Change, handle: Handle | None, caller: Caller
    ) -> pyfuse3.EntryAttributes:
        """Change attributes: the size needs `write`, others `attr`, chown(path, -1, -1) `see`."""
        if change.size is not None:
            await self._truncate(node, change.size, handle, caller)
        elif not change.attributes:
            await self._gate.require(caller, Op.SEE, node, Call("attr", "chown"))
        if change.mtime_ns is not None:
            await self._sync.settle_late_of(node)  # they would change the mtime that is set
        fd = self._open_files.descriptor(node, handle)
        try:
            if change.attributes:
                await self._attributes(node, change, fd, caller)
            elif change.kill_priv:
                with self._open_files.bytes_stay(node.ino):
                    self._tree.clear_killpriv(fd)
            elif change.size is None and self._set_id_bits is not None:
                self._nothing(self._set_id_bits, node, fd, caller)
            stat = self._lookup.told(self._tree.fstat(fd), node, node.state, caller)
            return self._lookup.attributes(node, stat)
        finally:
            os.close(fd)

    async def _truncate(self, node: Node, size: int, handle: Handle | None, caller: Caller) -> None:
        if node.ftype is not FileType.REGULAR:
            raise OSError(errno.EISDIR, "not a file")
        if handle is not None and handle.writable and handle.fd >= 0:
            if node.byte_path is BytePath.RAW and handle.mode is Mode.PASSTHROUGH:
                await self._writer.set_size(handle, size, Call("truncate", "truncate"))
            else:
                await self._writer.truncate(handle, size)
            return
        opened = await self._opener.open_to_truncate(node, size, caller)
        try:
            try:
                await self._writer.truncate(opened, size, by_path=True)
                if node.open is not None and node.open.draft is not None:
                    await self._sync.flush(opened, empties=True)  # raises if the content is refused
            finally:  # other handles of the file must not keep a refused draft
                await self._sync.finish(opened, patient=False)  # an app waits for the answer
        finally:
            self._opener.close(opened)
        if node.open is not None:
            node.open.cut = True

    @recorded_first
    async def _attributes(self, node: Node, change: Change, fd: int, caller: Caller) -> None:
        names = [
            name
            for name, wanted in (
                ("chmod", change.mode is not None),
                ("chown", change.uid is not None or change.gid is not None),
                ("utimens", change.atime_ns is not None or change.mtime_ns is not None),
            )
            if wanted
        ]
        call = Call("attr", "+".join(names))
        decision = await self._gate.require(caller, Op.SEE | Op.ATTR, node, call)
        stat = self._tree.fstat(fd)
        if self._set_id_bits is None:  # with --posix the kernel has checked this by the caller's groups
            self._native_limits(change, stat, caller)
        self._gate.recorder.decided(caller, call, node.path(), decision)
        if decision.keep is not None:
            change = replace(change, atime_ns=exact(change.atime_ns), mtime_ns=exact(change.mtime_ns))
            asked = {name: getattr(change, name) for name in ("mode", "uid", "gid", "atime_ns", "mtime_ns")}
            self._kept.attributes(caller, call, decision.keep, node.path(), fd, stat, asked)
        if change.uid is not None or change.gid is not None:
            with self._open_files.bytes_stay(node.ino):
                self._chown(change, stat, fd, caller)
        if change.mode is not None:
            suid = all(self._gate.free(caller.principal, state, node.parent) for state in node.states())
            await self._chmod(node, fd, stat_bits.S_IMODE(change.mode), suid=suid)
        if change.atime_ns is not None or change.mtime_ns is not None:
            with self._open_files.bytes_stay(node.ino):
                before = self._tree.fstat(fd)
                self._tree.utimens_fd(fd, change.atime_ns, change.mtime_ns)
                now, modified = self._tree.fstat(fd), change.mtime_ns is not None
                for each in self._nodes.same_inode(node.ino):  # the draft may be of another view, or app
                    if each.open is not None and each.open.draft is not None:
                        each.open.draft.dated(before, now, modified=modified)
                        each.open.draft.keep(each.open.draft)

    def _chown(self, change: Change, stat: Stat, fd: int, caller: Caller) -> None:
        self._tree.chown_fd(
            fd, -1 if change.uid is None else change.uid, -1 if change.gid is None else change.gid
        )
        if self._set_id_bits is not None:
            self._set_id_bits.chowned(fd, stat, caller)
        elif change.mode is None:
            self._tree.clear_killpriv(fd)

    def _nothing(self, set_id_bits: SetIdBits, node: Node, fd: int, caller: Caller) -> None:
        """Handle chown(path, -1, -1), or a write to a suid file: set ctime and clear suid. If the caller may
        not, do nothing, without an error: it may be the writer."""
        if self._gate.judge(caller.principal, Op.SEE | Op.ATTR, node, Facts(None, None)).allowed:
            stat = self._tree.fstat(fd)
            if set_id_bits.loses_ids(stat, caller) and caller.uid not in {0, stat.uid}:
                if node.open is None or not node.open.writers:
                    raise OSError(errno.EPERM, "only the owner or a writer may remove suid")
                with self._open_files.bytes_stay(node.ino):
                    self._tree.clear_killpriv(fd)
            else:
                with self._open_files.bytes_stay(node.ino):
                    self._tree.chown_fd(fd, -1, -1)
                    set_id_bits.chowned(fd, stat, caller)

    async def _chmod(self, node: Node, fd: int, mode: int, *, suid: bool) -> None:
        generation, states = self._gate.generation, node.states()
        with contextlib.ExitStack() as stack:
            if suid and self._set_id_bits is not None:
                suid = await self._set_id_bits.may_set_ids(stack, fd, mode)
                self._gate.unchanged(generation)
                if node.states() != states:  # the decision was about other paths
                    raise StaleNodeError
            with self._open_files.bytes_stay(node.ino):
                self._tree.chmod_fd(fd, mode, suid=suid)

    @staticmethod
    def _native_limits(change: Change, stat: Stat, caller: Caller) -> None:
        """Raise OSError (EPERM) for a chown that Linux refuses: no policy lets an app give files away."""
        if caller.uid == 0:
            return
        if change.uid is not None and change.uid != stat.uid:
            raise OSError(errno.EPERM, "only root changes a file's owner")
        foreign = change.gid is not None and change.gid != stat.gid
        if foreign and (caller.uid != stat.uid or change.gid not in caller_groups(caller)):
            raise OSError(errno.EPERM, "not a group of the caller")

    # -- inode flags --------------------------------------------------------------------------------

    async def inode_flags(self, node: Node, caller: Caller) -> int:
        """Return the FS_*_FL bits, which the mount never changes, without _OF_NAMES if names may be hidden.
        Raise OSError (ENOTTY) if the object or the store has none."""
        await self._gate.require(caller, Op.SEE, node, Call("stat", "ioctl(FS_IOC_GETFLAGS)"))
        if node.ftype not in {FileType.REGULAR, FileType.DIRECTORY}:
            raise OSError(errno.ENOTTY, "no flags")
        path_fd = self._open_files.descriptor(node)
        try:
            fd = self._tree.reopen(path_fd, os.O_RDONLY)
        finally:
            os.close(path_fd)
        try:
            flags = inode_flags(fd)
        except OSError as error:
            if error.errno != errno.EOPNOTSUPP:
                raise
            raise OSError(errno.ENOTTY, "the file system of the store has no inode flags") from None
        finally:
            os.close(fd)
        if node.ftype is FileType.DIRECTORY and not self._gate.shows_all_in(caller.principal, node.state):
            flags &= ~_OF_NAMES
        return flags
