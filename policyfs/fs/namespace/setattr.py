"""Changing attributes and xattrs."""

from __future__ import annotations

import contextlib
import errno
import os
import stat as stat_bits
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

from policyfs.domain import Audit, Decision, Facts, FileType, Need, Op
from policyfs.fs.access.audit import Call
from policyfs.fs.access.gate import Gate
from policyfs.fs.access.ledger import recorded_first
from policyfs.fs.checked.change_lock import ChangeLock
from policyfs.fs.data.read_write import FileIO
from policyfs.fs.inodes.handles import Caller, Handle
from policyfs.fs.inodes.node_table import ROOT_ID, Flavor, Node, NodeTable
from policyfs.fs.inodes.resolver import Resolver
from policyfs.fs.namespace.lookup import Lookup
from policyfs.fs.namespace.setid import SetIdBits, caller_groups
from policyfs.fs.namespace.xattr_bans import AttributeBans
from policyfs.fs.opening.opener import Opener
from policyfs.fs.redacted.leased import LeasedFiles
from policyfs.kernel.bridge import pyfuse3
from policyfs.linux.statx import Stat
from policyfs.store.ranges import inode_flags
from policyfs.store.tree import ACLS, Tree

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Change:
    """What SETATTR asks for; None leaves a field alone. Times in ns, size in bytes."""

    mode: int | None
    uid: int | None
    gid: int | None
    size: int | None
    atime_ns: int | None
    mtime_ns: int | None
    kill_priv: bool

    @property
    def attributes(self) -> bool:
        """Does it change more than the size."""
        fields = (self.mode, self.uid, self.gid, self.atime_ns, self.mtime_ns)
        return any(field is not None for field in fields)


class AttributeSetter:
    """SETATTR and the xattr requests of one mount."""

    def __init__(
        self, *, tree: Tree, nodes: NodeTable, resolver: Resolver, gate: Gate, lookup: Lookup,
        opener: Opener, io: FileIO, leased: LeasedFiles, set_id_bits: SetIdBits | None, bans: AttributeBans,
        change_lock: ChangeLock,
    ) -> None:  # fmt: skip
        self._bans = bans
        self._change_lock = change_lock
        self._tree = tree
        self._nodes = nodes
        self._resolver = resolver
        self._gate = gate
        self._lookup = lookup
        self._opener = opener
        self._io = io
        self._leased = leased
        self._set_id_bits = set_id_bits

    # -- setattr ----------------------------------------------------------------------------------

    async def setattr(
        self, node: Node, change: Change, handle: Handle | None, caller: Caller
    ) -> pyfuse3.EntryAttributes:
        """Change attributes: truncation is a write, all else is `attr`."""
        if change.size is not None:
            await self._truncate(node, change.size, handle, caller)
        fd = self._any_fd(node, handle)
        try:
            if change.attributes:
                await self._attributes(node, change, fd, caller)
            elif change.kill_priv:
                with self._opener.bytes_stay(node.ino):
                    self._tree.clear_killpriv(fd)
            elif change.size is None and self._set_id_bits is not None:
                self._nothing(self._set_id_bits, node, fd, caller)
            stat = self._lookup.told(self._tree.fstat(fd), node, node.state, caller)
            return self._lookup.attributes(node, stat)
        finally:
            os.close(fd)

    def _any_fd(self, node: Node, handle: Handle | None) -> int:
        """A descriptor of the node's object, the caller's to close."""
        if node.nodeid == ROOT_ID:
            return os.dup(self._tree.root_fd)
        if node.parent is None and node.open is not None and node.open.fd >= 0:
            return os.dup(node.open.fd)
        if node.parent is None and handle is not None and handle.fd >= 0:
            return os.dup(handle.fd)
        if node.parent is None and node.ftype is FileType.DIRECTORY:  # removed, and somebody is in it
            return os.dup(self._resolver.dirfd(node))
        return self._resolver.open_checked(node)

    async def _truncate(self, node: Node, size: int, handle: Handle | None, caller: Caller) -> None:
        if node.ftype is not FileType.REGULAR:
            raise OSError(errno.EISDIR, "not a file")
        call = Call("truncate", "truncate")
        if handle is not None and handle.writable and handle.fd >= 0:
            if node.flavor is Flavor.RAW:
                decision = await self._gate.handle(handle, Op.SEE | Op.WRITE)
                if not decision.allowed:
                    self._gate.refuse(caller, call, node.path(), decision)
                await self._io.set_size(handle, size)
            else:
                await self._io.truncate(handle, size)
            return
        opened = await self._opener.open_to_truncate(node, size, caller)
        try:
            try:
                await self._io.truncate(opened, size, by_path=True)
                if node.open is not None and node.open.draft is not None:
                    await self._io.flush(opened)  # what may not stay is told here: nothing comes after
            finally:  # a draft that was refused is not left to those who have the file open
                await self._io.finish(opened)
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
        if self._set_id_bits is None:  # else the kernel has asked, who knows the caller's groups
            self._native_limits(change, stat, caller)
        self._gate.recorder.decided(caller, call, node.path(), decision)
        if change.uid is not None or change.gid is not None:
            with self._opener.bytes_stay(node.ino):
                self._chown(change, stat, fd, caller)
        if change.mode is not None:
            suid = all(self._gate.free(caller.principal, state, node.parent) for state in node.states())
            await self._chmod(node, fd, stat_bits.S_IMODE(change.mode), suid=suid)
        if change.atime_ns is not None or change.mtime_ns is not None:
            with self._opener.bytes_stay(node.ino):
                before = self._tree.fstat(fd)
                self._tree.utimens_fd(fd, change.atime_ns, change.mtime_ns)
                if node.open is not None and node.open.draft is not None:
                    node.open.draft.dated(before, self._tree.fstat(fd))

    def _chown(self, change: Change, stat: Stat, fd: int, caller: Caller) -> None:
        self._tree.chown_fd(
            fd, -1 if change.uid is None else change.uid, -1 if change.gid is None else change.gid
        )
        if self._set_id_bits is not None:
            self._set_id_bits.chowned(fd, stat, caller)
        elif change.mode is None:
            self._tree.clear_killpriv(fd)

    def _nothing(self, set_id_bits: SetIdBits, node: Node, fd: int, caller: Caller) -> None:
        """chown(path, -1, -1), or a write to a file with suid: as natively, ctime moves and suid goes.

        Whoever may not change attributes just gets them: he may be the one who writes.
        """
        if self._gate.judge(caller.principal, Op.SEE | Op.ATTR, node, Facts(None, None)).allowed:
            stat = self._tree.fstat(fd)
            if set_id_bits.loses_ids(stat, caller) and caller.uid not in {0, stat.uid}:
                if node.open is None or not node.open.writers:
                    raise OSError(errno.EPERM, "only the owner drops suid, or who writes")
                with self._opener.bytes_stay(node.ino):
                    self._tree.clear_killpriv(fd)
            else:
                with self._opener.bytes_stay(node.ino):
                    self._tree.chown_fd(fd, -1, -1)
                    set_id_bits.chowned(fd, stat, caller)

    async def _chmod(self, node: Node, fd: int, mode: int, *, suid: bool) -> None:
        generation = self._gate.generation
        with contextlib.ExitStack() as stack:
            if suid and self._set_id_bits is not None:
                suid = await self._set_id_bits.may_set_ids(stack, fd, mode)
                self._gate.unchanged(generation)
            with self._opener.bytes_stay(node.ino):
                self._tree.chmod_fd(fd, mode, suid=suid)

    @staticmethod
    def _native_limits(change: Change, stat: Stat, caller: Caller) -> None:
        """The policy may let an app change attributes, never give files away: chown as natively.

        Only root changes the owner, and only root or the owner the group, to the caller's own
        (other groups of the caller are not in the request: EPERM, as if it were no member).
        """
        if caller.uid == 0:
            return
        if change.uid is not None and change.uid != stat.uid:
            raise OSError(errno.EPERM, "only root changes a file's owner")
        foreign = change.gid is not None and change.gid != stat.gid
        if foreign and (caller.uid != stat.uid or change.gid not in caller_groups(caller)):
            raise OSError(errno.EPERM, "not a group of the caller")

    # -- inode flags --------------------------------------------------------------------------------

    async def inode_flags(self, node: Node, caller: Caller) -> int:
        """FS_*_FL bits (immutable, append-only, ...): what stat does not tell of attributes. ENOTTY
        where the store has none. They cannot be changed through the mount.
        """
        await self._gate.require(caller, Op.SEE, node, Call("stat", "ioctl(FS_IOC_GETFLAGS)"))
        if node.ftype not in {FileType.REGULAR, FileType.DIRECTORY}:
            raise OSError(errno.ENOTTY, "no flags")
        path_fd = self._any_fd(node, None)
        try:
            fd = self._tree.reopen(path_fd, os.O_RDONLY)
        finally:
            os.close(path_fd)
        try:
            return inode_flags(fd)
        except OSError as error:
            if error.errno != errno.EOPNOTSUPP:
                raise
            raise OSError(errno.ENOTTY, "the store has no flags") from None
        finally:
            os.close(fd)

    # -- xattrs -----------------------------------------------------------------------------------

    async def getxattr(self, node: Node, name: bytes, caller: Caller) -> bytes:
        """Value of a user.* xattr. ENODATA for any other namespace, under redaction, and without `read`.

        ACLs: only where the kernel asks for them to check them (--posix). They say no more than modes do.
        """
        if self._set_id_bits is not None and name in ACLS:
            await self._gate.require(caller, Op.SEE, node, Call("getxattr", "getxattr"))
            return self._with_fd(node, lambda fd: self._tree.acl(fd, name))
        if not _is_user(name):
            raise OSError(errno.ENODATA, "no such xattr here")
        if not await self._shows_xattrs(node, caller, "getxattr"):
            raise OSError(errno.ENODATA, "no xattrs are shown under redaction, nor of what may not be read")
        return self._with_fd(node, lambda fd: self._tree.getxattr(fd, name))

    async def listxattr(self, node: Node, caller: Caller) -> list[bytes]:
        """Names of the user.* xattrs, and of ACLs where shown; none under redaction or without `read`."""
        if not await self._shows_xattrs(node, caller, "listxattr"):
            return []
        acls = [] if self._set_id_bits is None else self._with_fd(node, self._tree.acl_names)
        return [*acls, *self._with_fd(node, lambda fd: [n for n in self._tree.listxattr(fd) if _is_user(n)])]

    async def _shows_xattrs(self, node: Node, caller: Caller, syscall: str) -> bool:
        """True if the caller may read the object's xattrs. A refusal of `read` is no event: programs list the
        xattrs of whatever they see.
        """
        await self._gate.require(caller, Op.SEE, node, Call(syscall, syscall))
        decision = await self._gate.node(caller, Op.SEE | Op.READ, node)
        return decision.allowed and not await self._hides_xattrs(node, caller, decision)

    async def _hides_xattrs(self, node: Node, caller: Caller, reading: Decision | None = None) -> bool:
        """True if the caller is under redaction of the file. reading: what was decided on `read`."""
        if reading is None:
            reading = await self._gate.node(caller, Op.SEE | Op.READ, node)
        return bool(reading.redact) and node.ftype is FileType.REGULAR and await self._hidden(node, caller)

    async def _hidden(self, node: Node, caller: Caller) -> bool:
        """Is the caller under redaction of the file, whatever its kind."""
        owner = None
        need = self._gate.engine.needs(caller.principal, Op.SEE | Op.READ, node.state, node.ftype)
        if need & Need.OWNER:
            dirfd, name, stat = self._resolver.locate(node)
            owner = self._gate.facts.owner_at(dirfd, name, stat)
        return bool(self._gate.judge(caller.principal, Op.SEE | Op.READ, node, Facts(None, owner)).redact)

    @recorded_first
    async def setxattr(self, node: Node, name: bytes, value: bytes, caller: Caller) -> None:
        """Set a user.* xattr. Other namespaces: EPERM (security, trusted), else EOPNOTSUPP; that, too,
        where nothing may be told.
        """
        facts = await self._bans.facts(node, caller)
        call = Call("xattr", "setxattr")
        decision = await self._may_change_xattr(node, name, caller, call)
        set_id_bits = self._set_id_bits
        with contextlib.ExitStack() as stack:
            path_fd = self._any_fd(node, None)
            stack.callback(os.close, path_fd)
            # Until it is set, no other daemon moves the file to where it could not be.
            async with self._change_lock.on(path_fd):
                if _is_user(name):
                    self._bans.check(node, caller, call, facts)
                self._gate.recorder.decided(caller, call, node.path(), decision)
                with self._opener.bytes_stay(node.ino):
                    if set_id_bits is not None and name in ACLS:
                        self._with_fd(node, lambda fd: set_id_bits.set_acl(fd, name, value, caller))
                    else:
                        self._with_fd(node, lambda fd: self._tree.setxattr(fd, name, value))

    @recorded_first
    async def removexattr(self, node: Node, name: bytes, caller: Caller) -> None:
        """Remove a user.* xattr."""
        call = Call("xattr", "removexattr")
        decision = await self._may_change_xattr(node, name, caller, call)
        self._gate.recorder.decided(caller, call, node.path(), decision)
        remove = self._tree.remove_acl if name in ACLS else self._tree.removexattr
        with self._opener.bytes_stay(node.ino):
            self._with_fd(node, lambda fd: remove(fd, name))

    async def _may_change_xattr(self, node: Node, name: bytes, caller: Caller, call: Call) -> Decision:
        decision = await self._gate.require(caller, Op.SEE | Op.ATTR, node, call)
        if not _is_user(name) and not (self._set_id_bits is not None and name in ACLS):
            if not name.startswith((b"security.", b"trusted.", b"user.")):
                raise OSError(errno.EOPNOTSUPP, "no ACLs through this mount, and no namespaces unknown to it")
            refusal = Decision(allowed=False, errno=errno.EPERM, audit=Audit.REQUIRED)
            shown = name.decode("utf-8", "backslashreplace")
            self._gate.refuse(caller, call, node.path(), refusal, note=f"xattr {shown}")
        if _is_user(name) and await self._hides_xattrs(node, caller):
            # The answer must not depend on what is there: it would tell, and a change would destroy it.
            code = errno.EOPNOTSUPP if call.syscall == "setxattr" else errno.ENODATA
            raise OSError(code, "xattrs are hidden under redaction")
        return decision

    def _with_fd(self, node: Node, use: Callable[[int], T]) -> T:
        fd = self._any_fd(node, None)
        try:
            return use(fd)
        finally:
            os.close(fd)


def _is_user(name: bytes) -> bool:
    """user.* without what could be taken for ours."""
    return name.startswith(b"user.") and not name.startswith(b"user.policyfs.")
