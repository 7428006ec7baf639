"""The requests that create files, directories and symlinks: CREATE, MKDIR, MKNOD and SYMLINK."""

from __future__ import annotations

import contextlib
import errno
import os
import stat as stat_bits
from collections.abc import Callable
from typing import Final, NamedTuple, NoReturn

from policyfs.domain import (
    FIXED_KINDS,
    OWNER_NONE,
    Audit,
    Decision,
    Facts,
    FileType,
    Op,
)
from policyfs.fs.access.audit import Call
from policyfs.fs.access.ledger import recorded_first
from policyfs.fs.checked.withheld_names import WithheldNames
from policyfs.fs.context import FsContext, FsPart
from policyfs.fs.inodes.caller import Caller
from policyfs.fs.inodes.handles import Handle
from policyfs.fs.inodes.node import BytePath, Node, StaleNodeError, check_room, child_path
from policyfs.fs.namespace.lookup import Lookup
from policyfs.fs.opening.opener import Opener
from policyfs.fs.opening.request import describe, ops_of
from policyfs.fs.saved.intents import ChangeKind, Intent, Side
from policyfs.kernel.bridge import pyfuse3
from policyfs.linux.statx import Stat
from policyfs.policy.decide import PathState
from policyfs.store.names.new_names import NOT_MADE, NewNames


class _New(NamedTuple):
    """A new object. INVARIANT: if *owned*, its owner came before its name, and is not set again: an open for
    writing by another mount's app may have ended the ownership."""

    fd: int
    owned: bool
    stat: Stat | None = None
    """The attributes since the object has its name and its owner, or None if they were not read."""


_TRIES: Final = 100
"""The limit of tries to make a file while other processes make and remove its name again and again."""


class Creator(FsPart):
    """The handler of CREATE, MKDIR, MKNOD and SYMLINK. The caller becomes the owner of the new object."""

    def __init__(
        self,
        fs: FsContext,
        *,
        lookup: Lookup,
        opener: Opener,
        withheld_names: WithheldNames,
        new_names: NewNames,
    ) -> None:
        super().__init__(fs)
        self._new_names = new_names
        self._lookup = lookup
        self._opener = opener
        self._withheld_names = withheld_names

    def _may_create(
        self, parent: Node, name: bytes, caller: Caller, ops: Op, ftype: FileType, call: Call
    ) -> tuple[PathState, Decision]:
        """Decide on a new object. For the decision, the caller is the owner, and a file's kind is unknown."""
        check_room(parent, name)
        state = self._gate.engine.child(parent.state, name)
        facts = Facts(FIXED_KINDS.get(ftype), caller.principal.app or OWNER_NONE)
        decision = self._gate.decide(caller.principal, ops, state, ftype, facts, parent)
        if not decision.allowed:
            self._gate.refuse(caller, call, child_path(parent, name), decision)
        return state, decision

    async def create(
        self, parent: Node, name: bytes, mode: int, flags: int, caller: Caller
    ) -> tuple[Handle, pyfuse3.EntryAttributes]:
        """Create and open a regular file."""
        call = Call("create", describe(flags | os.O_CREAT))
        ops = Op.CREATE | Op.WRITE | ops_of(flags & ~os.O_TRUNC)
        state, decision = self._may_create(parent, name, caller, ops, FileType.REGULAR, call)
        if self._was_made(caller, call, child_path(parent, name)):
            new = self._found_again(parent, lambda at: self._tree.open_file(at, name, os.O_RDWR), caller)
        else:
            new = await self._new_file(parent, name, mode, flags, caller, state)
        fd = new.fd
        try:
            stat = await self._own_new(new, parent, name, caller)
            engine = self._gate.engine
            view = engine.view(caller.principal, state)
            byte_path = BytePath.RAW if view.raw else BytePath.LIVE
            owner = caller.principal.app or OWNER_NONE
            whose = self._lookup.views.whose(engine, caller, view, byte_path, state, lambda: owner)
            node = self._lookup.views.node(stat, view, byte_path, state, parent, name, caller, whose)
            try:
                handle = await self._opener.created(node, fd, flags, caller, decision, stat, call)
            except BaseException:
                await self._take_back(node, fd, parent, name, stat, caller)
                raise
        except BaseException:
            os.close(fd)
            raise
        try:
            if decision.audit is Audit.REQUIRED:
                stat = self._tree.fstat(fd)  # other processes may have changed the file during the record
            return handle, self._lookup.created(node, parent, name, state, stat, caller)
        except BaseException:
            self._opener.close(handle)  # the kernel gets no handle, and will never release it
            raise

    def _found_again(self, parent: Node, find: Callable[[int], int], caller: Caller) -> _New:
        """Return the object that a killed daemon has made for this request (_was_made). find: opens it."""
        fd, before = find(self._resolver.dirfd(parent)), self._intents.before(caller.unique)
        stat = self._tree.fstat(fd)
        if before is None or (self._nodes.key_of(stat), stat.btime_ns) != before[0].old[2:]:
            os.close(fd)
            raise StaleNodeError  # another program has taken the name just now
        return _New(fd, owned=True)

    def _begin(self, parent: Node, name: bytes, caller: Caller, fd: int = -1) -> None:
        """Keep the intent to give a new object its name. fd: -1 if it will be made with that name."""
        state = self._gate.engine.child(parent.state, name)
        self._kept.create(caller, parent.path(), state, self._resolver.dirfd(parent))
        if not self._intents.are_kept:
            return
        inode = (0, 0)
        if fd < 0:
            self._tree.check_free(self._resolver.dirfd(parent), name)  # later nothing would tell
        else:
            stat = self._tree.fstat(fd)
            inode = self._nodes.key_of(stat), stat.btime_ns
        self._intents.begin(Intent(caller.unique, ChangeKind.NAME, Side(parent.nodeid, name, *inode)))

    async def _take_back(
        self, node: Node, fd: int, parent: Node, name: bytes, stat: Stat, caller: Caller
    ) -> None:
        """Remove a new file whose open was refused, unless another process already uses it."""
        async with self._name_lock.on(caller.holder, (self._resolver.dirfd(parent), name)):
            self._nodes.vectors.drop_nodes(self._nodes.same_inode(node.ino))
            others = any(known.open is not None for known in self._nodes.same_inode(node.ino))
            if others or self._tree.fstat(fd).size or self._held.is_held_elsewhere(stat):
                return
            with contextlib.suppress(FileNotFoundError, PermissionError):  # EPERM: chattr +a
                self._tree.remove_same(self._resolver.dirfd(parent), name, stat)

    async def _new_file(
        self, parent: Node, name: bytes, mode: int, flags: int, caller: Caller, state: PathState
    ) -> _New:
        await self._freed(parent, name, caller, exclusive=bool(flags & os.O_EXCL))
        # A handle that may write at once would not clear suid: see SetIdBits.may_set_ids.
        suid = self._gate.free(caller.principal, state, parent) and not ops_of(flags) & Op.WRITE
        for _ in range(_TRIES):
            dirfd = self._resolver.dirfd(parent)
            try:
                return self._made(parent, name, mode, caller, suid=suid)
            except FileExistsError:
                if flags & os.O_EXCL:
                    raise
            with contextlib.suppress(FileNotFoundError):  # a process of another mount has removed the name
                await self._refuse_taken(parent, name, caller, self._tree.stat(dirfd, name))
        raise StaleNodeError

    async def _refuse_taken(self, parent: Node, name: bytes, caller: Caller, stat: Stat) -> NoReturn:
        """Refuse a name that is taken: ESTALE if the caller may see it (the kernel then opens it), else
        EEXIST."""
        if stat.ftype is FileType.SPECIAL:
            raise OSError(errno.EEXIST, "the name exists, but is hidden from everyone")
        state, dirfd = self._gate.engine.child(parent.state, name), self._resolver.dirfd(parent)
        try:
            seen = await self._gate.at(caller.principal, Op.SEE, state, dirfd, name, stat, parent)
        except FileNotFoundError:
            raise StaleNodeError from None
        if seen.allowed:
            raise StaleNodeError
        raise OSError(errno.EEXIST, "the name exists, but is hidden from the caller")

    def _made(self, parent: Node, name: bytes, mode: int, caller: Caller, *, suid: bool) -> _New:
        """Make a regular file, open O_RDWR. INVARIANT: its owner comes before its name, else another mount's
        app could write into a file that then belongs to the caller (impossible without unnamed files,
        docs/threat-model.md)."""
        who, app = (caller.umask, caller.uid, caller.gid), caller.principal.app
        dirfd = self._resolver.dirfd(parent)
        if app is not None:
            try:
                unnamed = self._unnamed(dirfd, mode, caller, app, suid=suid)
            except OSError:
                self._tree.check_free(dirfd, name)  # natively: EEXIST, even if the store is full
                raise
            if unnamed is not None:
                fd, stat = unnamed
                try:
                    self._begin(parent, name, caller, fd)
                    self._tree.link(fd, dirfd, name)
                except BaseException:
                    os.close(fd)
                    raise
                return self._by_name(fd, dirfd, name, stat)
            made = self._made_aside(parent, name, mode, caller, app, suid=suid)
            if made is not None:
                return made
        self._begin(parent, name, caller)
        return _New(self._tree.create_file(dirfd, name, mode, *who, suid=suid), owned=False)

    def _unnamed(
        self, dirfd: int, mode: int, caller: Caller, app: str, *, suid: bool
    ) -> tuple[int, Stat] | None:
        """Make a file without a name for *app*. Return its descriptor, and its attributes before it has an
        owner; None if the store has no such files."""
        try:
            fd = self._tree.create_unnamed(dirfd, mode, caller.umask, caller.uid, caller.gid, suid=suid)
        except OSError as error:
            if error.errno in {errno.EOPNOTSUPP, errno.EPERM}:  # EPERM: ext4, in a removed directory
                return None
            raise
        try:
            stat = self._tree.fstat(fd)
            self._gate.facts.owners.set(fd, stat, app)
        except BaseException:
            os.close(fd)
            raise
        return fd, stat

    def _made_aside(
        self, parent: Node, name: bytes, mode: int, caller: Caller, app: str, *, suid: bool
    ) -> _New | None:
        """Make a file for *app* under a temporary name, then give it its owner and its name. Return None as
        NewNames.make()."""
        dirfd, opened = self._resolver.dirfd(parent), -1

        def make(at: bytes) -> None:
            nonlocal opened
            who = caller.umask, caller.uid, caller.gid
            opened = self._tree.create_file(dirfd, at, mode, *who, suid=suid)

        def own(fd: int) -> None:
            self._gate.facts.owners.set(fd, self._tree.fstat(fd), app)
            self._begin(parent, name, caller, fd)

        named = NOT_MADE
        try:
            named = self._new_names.make(dirfd, name, make, own)
        finally:
            if named == NOT_MADE and opened >= 0:
                os.close(opened)
        if named == NOT_MADE:
            return None
        os.close(named)
        return _New(opened, owned=True)

    def _by_name(self, fd: int, dirfd: int, name: bytes, made: Stat) -> _New:
        """Open a new file (*made*) again by its name, and close *fd*: Tree.find needs a descriptor that was
        opened by a name."""
        named = -1
        try:
            named = self._tree.open_file(dirfd, name, os.O_RDWR)
            stat = self._tree.fstat(named)
        except OSError:
            stat = None
        if stat is not None and stat.same_inode(made):
            os.close(fd)
            return _New(named, owned=True, stat=stat)
        if named >= 0:
            os.close(named)
        return _New(fd, owned=True)

    async def _freed(self, parent: Node, name: bytes, caller: Caller, *, exclusive: bool) -> None:
        """Wait until a withheld name is free, then raise StaleNodeError: earlier decisions may be wrong now.
        Raise OSError (EBUSY, or EEXIST if *exclusive*) if it stays."""
        if not self._withheld_names:
            return
        try:
            stat = self._tree.stat(self._resolver.dirfd(parent), name)
            if not self._withheld_names.has(stat):
                return
            async with self._locks.limit(caller.holder):
                await self._withheld_names.free(stat)
        except FileNotFoundError:
            return
        except OSError as error:
            if exclusive and error.errno == errno.EBUSY:
                raise FileExistsError(
                    errno.EEXIST, "the name exists, but is withheld from everyone"
                ) from None
            raise
        raise StaleNodeError

    async def _own_new(self, new: _New, parent: Node, name: bytes, caller: Caller) -> Stat:
        """Record the owner of a new object, and return its attributes. If this fails, remove the object."""
        fd = new.fd
        try:
            stat = new.stat or self._tree.fstat(fd)
            if caller.principal.app is not None and not new.owned:
                self._gate.facts.owners.set(fd, stat, caller.principal.app)
                stat = self._tree.fstat(fd)
        except OSError:
            made = self._tree.fstat(fd)
            async with self._name_lock.on(caller.holder, (self._resolver.dirfd(parent), name)):
                with contextlib.suppress(FileNotFoundError, PermissionError):  # EPERM: chattr +a
                    self._tree.remove_same(self._resolver.dirfd(parent), name, made)
            raise
        return stat

    @recorded_first
    async def make(
        self,
        parent: Node,
        name: bytes,
        caller: Caller,
        ftype: FileType,
        call: Call,
        make: Callable[[int], _New],
    ) -> pyfuse3.EntryAttributes:
        """Make an object for mkdir, symlink or mknod, by *make* in the directory whose descriptor it gets."""
        was_made = self._was_made(caller, call, child_path(parent, name))
        state, decision = self._may_create(parent, name, caller, Op.SEE | Op.CREATE, ftype, call)
        if was_made:
            new = self._found_again(parent, lambda at: self._tree.open_path(at, name), caller)
        else:
            self._gate.recorder.decided(caller, call, child_path(parent, name), decision)
            new = make(self._resolver.dirfd(parent))
        try:
            if self._tree.fstat(new.fd).ftype is not ftype:
                raise StaleNodeError  # another object has taken the name, and keeps its owner
            stat = await self._own_new(new, parent, name, caller)
        finally:
            os.close(new.fd)
        return self._lookup.entry(parent, name, state, stat, caller)

    def _named(self, parent: Node, name: bytes, caller: Caller, make: Callable[[bytes], None]) -> _New:
        """Make an object that is no regular file, by *make* under a name that may be temporary. INVARIANT: as
        _made()."""
        app, dirfd = caller.principal.app, self._resolver.dirfd(parent)
        if app is not None:
            owners = self._gate.facts.owners

            def own(fd: int) -> None:
                owners.set(fd, self._tree.fstat(fd), app)
                self._begin(parent, name, caller, fd)

            fd = self._new_names.make(dirfd, name, make, own)
            if fd != NOT_MADE:
                return _New(fd, owned=True)
        self._begin(parent, name, caller)
        make(name)
        return _New(self._tree.open_path(dirfd, name), owned=False)

    async def mkdir(self, parent: Node, name: bytes, mode: int, caller: Caller) -> pyfuse3.EntryAttributes:
        """Make a directory."""

        def make(dirfd: int) -> _New:
            return self._named(
                parent, name, caller,
                lambda at: self._tree.mkdir(dirfd, at, mode, caller.umask, caller.uid, caller.gid),
            )  # fmt: skip

        return await self.make(parent, name, caller, FileType.DIRECTORY, Call("mkdir", "mkdir"), make)

    async def symlink(
        self, parent: Node, name: bytes, target: bytes, caller: Caller
    ) -> pyfuse3.EntryAttributes:
        """Make a symlink. The daemon stores the target as data, and only the kernel follows it."""

        def make(dirfd: int) -> _New:
            return self._named(
                parent, name, caller,
                lambda at: self._tree.symlink(dirfd, at, target, caller.uid, caller.gid),
            )  # fmt: skip

        return await self.make(parent, name, caller, FileType.SYMLINK, Call("symlink", "symlink"), make)

    async def mknod(
        self, parent: Node, name: bytes, mode: int, rdev: int, caller: Caller
    ) -> pyfuse3.EntryAttributes:
        """Make an empty regular file, or a fifo, socket or device, which the kernel opens without the daemon,
        only where the caller may do everything (Gate.free); else EPERM."""
        call = Call("mknod", "mknod")
        free = self._gate.free(caller.principal, self._gate.engine.child(parent.state, name), parent)
        ftype = FileType.REGULAR if stat_bits.S_IFMT(mode) in {0, stat_bits.S_IFREG} else FileType.SPECIAL
        if ftype is FileType.SPECIAL and not free:
            decision = Decision(allowed=False, errno=errno.EPERM, audit=Audit.REQUIRED)
            self._gate.refuse(
                caller, call, child_path(parent, name), decision,
                note="only regular files can be made here: fifos, sockets and devices bypass the daemon",
            )  # fmt: skip

        def make(dirfd: int) -> _New:
            # Check again: a reload or a move may have come while the request was put on record.
            still = self._gate.free(caller.principal, self._gate.engine.child(parent.state, name), parent)
            if ftype is FileType.REGULAR:
                return self._made(parent, name, mode, caller, suid=still)
            if not still:
                raise OSError(errno.EPERM, "the policy now has a requirement here")
            who = caller.umask, caller.uid, caller.gid
            return self._named(
                parent, name, caller, lambda at: self._tree.make_special(dirfd, at, mode, rdev, *who)
            )

        return await self.make(parent, name, caller, ftype, call, make)
