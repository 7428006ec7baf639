"""Changes under a rule with `keep`: what a change would lose is kept first, or the change is refused.

Each method is called right before its change, after the decision. It does nothing if no rule asks for it."""

from __future__ import annotations

import contextlib
import errno
import os
import time
from collections import OrderedDict
from collections.abc import Iterator, Mapping
from dataclasses import replace
from functools import partial
from typing import Final, NamedTuple

import trio

from policyfs.domain import NO_FACTS, OWNER_NONE, Audit, Decision, FileType, Keep, Op
from policyfs.fs.access.audit import Call
from policyfs.fs.access.gate import Gate
from policyfs.fs.inodes.caller import Caller
from policyfs.fs.inodes.handles import Handle
from policyfs.linux.libc import TIME_NOW
from policyfs.linux.statx import Stat, fstatx
from policyfs.policy.decide import PathState
from policyfs.policy.rules.tally import strongest
from policyfs.store.kept.bins import STRANGERS
from policyfs.store.kept.kept_files import KeptFiles, UnkeptError, until_of
from policyfs.store.kept.record import OWN, Inode, Record, State, xattrs_of
from policyfs.store.owner import OWNER_XATTR
from policyfs.store.tree import Tree

_YOUNG_NS: Final = 600 * 10**9
"""The age below which an app's own file (a temporary one, a save of an editor) is not kept, and the time in
which one version is kept of a file that the app overwrites again and again."""
_DATED_NS: Final = 10**9 // 2
_REMEMBERED: Final = 1 << 14


class Replaced(NamedTuple):
    """The object that a rename replaces, and what the policy asks for it."""

    stat: Stat
    keep: Keep | None


class _Written(NamedTuple):
    """A file that an app has open for writing, or has written. version: (size, mtime) at its last close, or
    None while it is open. kept_ns: when its bytes were kept last."""

    app: str
    version: tuple[int, int] | None
    kept_ns: int


class _Writer(NamedTuple):
    app: str
    record: Record
    inode: Inode


class KeptChanges:
    """The part of a mount that keeps what changes would lose. Event loop only; threads copy bytes."""

    def __init__(self, gate: Gate, tree: Tree, kept: KeptFiles) -> None:
        self._gate = gate
        self._tree = tree
        self._kept = kept
        self._written: OrderedDict[Inode, _Written] = OrderedDict()
        self._writers: dict[int, _Writer] = {}
        self._inherited: set[int] = set()
        self._dated: OrderedDict[tuple[str, Inode], int] = OrderedDict()
        self._taken: OrderedDict[Inode, tuple[str, int]] = OrderedDict()  # app, and bytes that count
        self._placed: OrderedDict[Inode, None] = OrderedDict()  # own files that took the place of kept ones

    def report(self) -> dict[str, int | str | None]:
        """Return what `policyfs status` tells about what is kept."""
        return self._kept.room.report()

    # -- names --------------------------------------------------------------------------------------

    def remove(
        self, caller: Caller, call: Call, keep: Keep | None, path: bytes, dirfd: int, name: bytes, stat: Stat
    ) -> bool:  # fmt: skip
        """Remove a locked name, as Tree.remove_same() does, or keep its object."""
        own = keep is not None and self._is_own(caller, stat, dirfd, name)
        if keep is None or (own and Inode.of(stat) not in self._placed):
            return self._tree.remove_same(dirfd, name, stat)
        record = self._record(caller, call.operation, path, keep, before=State.of(stat), dirfds=(dirfd,))
        if not self._tree.stat(dirfd, name).same_inode(stat):
            return False
        is_dir = stat.ftype is FileType.DIRECTORY
        if is_dir:
            record = replace(record, xattrs=self._xattrs(dirfd, name))
        with self._or_refused(caller, call, keep, path, record):
            if own:
                record = replace(record, why=OWN)
            elif not is_dir:
                self._kept.take(_app(caller), record, dirfd, name, stat)
                self._taken[Inode.of(stat)] = _app(caller), stat.blocks * 512
                while len(self._taken) > _REMEMBERED:
                    self._taken.popitem(last=False)
                return True
            self._kept.note(_app(caller), record)
        return self._tree.remove_same(dirfd, name, stat)

    def rename(
        self, caller: Caller, call: Call, keep: Keep | None, old: tuple[int, bytes, bytes, Stat],
        new: tuple[int, bytes, bytes], replaced: Replaced | None, *, exchange: bool,
    ) -> None:  # fmt: skip
        """Record a rename, and keep what it replaces. old, new: (directory, name, path) of locked names.
        keep: what the policy asks for the old path."""
        lost = None if replaced is None or exchange else replaced.keep
        own = self._is_own(caller, old[3], *old[:2])
        if own and lost is None and not exchange and Inode.of(old[3]) not in self._placed:
            return
        stronger = strongest((keep, None if replaced is None else replaced.keep))
        if stronger is None:
            return
        op = "exchange" if exchange else "rename" if replaced is None or lost is None else "replace"
        record = self._record(
            caller, op, old[2], stronger, dirfds=(old[0], new[0]), before=State.of(old[3])
        )
        record = replace(record, new=new[2], moved=Inode.of(old[3]), own=own)
        with self._or_refused(caller, call, stronger, old[2], record):
            if exchange and replaced is not None:
                self._kept.note(_app(caller), replace(record, before=State.of(replaced.stat)))
                self._place(Inode.of(old[3]))  # removed later, they are on record, too
                self._place(Inode.of(replaced.stat))
                return
            if replaced is None or lost is None:
                self._kept.note(_app(caller), record)
                return
            record = replace(record, before=State.of(replaced.stat))
            if replaced.stat.ftype is FileType.DIRECTORY:
                self._kept.note(_app(caller), replace(record, xattrs=self._xattrs(*new[:2])))
            elif self._is_own(caller, replaced.stat, *new[:2]):
                self._kept.note(_app(caller), replace(record, why=OWN))
            else:
                self._kept.hold(_app(caller), record, new[0], new[1], replaced.stat)
        if own:
            self._place(Inode.of(old[3]))

    def _place(self, inode: Inode) -> None:
        self._placed[inode] = None
        while len(self._placed) > _REMEMBERED:
            self._placed.popitem(last=False)

    def create(self, caller: Caller, path: bytes, state: PathState, dirfd: int) -> None:
        """Record a directory's time before an app makes a name in it: at most twice a second, as a new name
        loses nothing. path: the directory's. state: the new name's."""
        asked = caller.principal, Op.SEE | Op.DELETE, state, FileType.REGULAR, NO_FACTS
        keep = self._gate.engine.decide(*asked).keep
        if keep is None:
            return
        stat, app = self._tree.fstat(dirfd), _app(caller)
        key, now_ns = (app, Inode.of(stat)), time.time_ns()
        if now_ns - self._dated.get(key, 0) < _DATED_NS:
            return
        with contextlib.suppress(UnkeptError):
            self._kept.note(app, self._record(caller, "dated", path, keep, before=State.of(stat)))
        self._dated[key] = now_ns
        while len(self._dated) > _REMEMBERED:
            self._dated.popitem(last=False)

    def _xattrs(self, dirfd: int, name: bytes) -> dict[str, bytes | None]:
        fd = self._tree.open_path(dirfd, name)
        try:
            return xattrs_of(fd)
        finally:
            os.close(fd)

    def _is_own(self, caller: Caller, stat: Stat, dirfd: int, name: bytes) -> bool:
        """Return True for a file that the app has made just before, and that no other app has written."""
        if not self._is_young(stat) or stat.ftype is not FileType.REGULAR or caller.principal.app is None:
            return False
        with contextlib.suppress(OSError):
            fd = self._tree.open_path(dirfd, name)
            try:
                return self._gate.facts.owners.get(fd, stat) == caller.principal.app
            finally:
                os.close(fd)
        return False

    @staticmethod
    def _is_young(stat: Stat) -> bool:
        return 0 <= time.time_ns() - stat.btime_ns < _YOUNG_NS

    # -- bytes --------------------------------------------------------------------------------------

    async def before_writing(
        self, handle: Handle, call: Call, decision: Decision, stat: Stat, owner: str
    ) -> None:
        """Keep the bytes of a file before an app may change them. stat, owner: of the file. handle: has a
        descriptor that can read."""
        caller, keep = handle.caller, decision.keep
        app, inode, now_ns = _app(caller), Inode.of(stat), time.time_ns()
        written = self._written.get(inode)
        if keep is None:
            if written is not None and written.app != app:
                del self._written[inode]
            return
        if owner not in {OWNER_NONE, ""} and owner == caller.principal.app and self._is_young(stat):
            return
        path = handle.node.path()
        record = self._record(caller, "write", path, keep, before=State.of(stat))
        record = replace(record, xattrs=xattrs_of(handle.fd, OWNER_XATTR))
        known = written is not None and written.app == app and now_ns - written.kept_ns < _YOUNG_NS
        kept_ns = written.kept_ns if written is not None and known else now_ns
        if not known or written is None or written.version not in {None, (stat.size, stat.mtime_ns)}:
            with self._or_refused(caller, call, keep, path, record):
                copy = partial(self._kept.copy, app, record, handle.fd, stat)
                kept = await trio.to_thread.run_sync(copy)
                record = replace(record, kept=kept)
            kept_ns = now_ns
        else:
            with contextlib.suppress(UnkeptError):  # undo waits for the `end` of each
                self._kept.note(app, replace(record, xattrs={}))
        self._writers[handle.index] = _Writer(app, record, inode)
        self._remember(inode, _Written(app, None, kept_ns))

    def inherits(self, handle: Handle) -> None:
        """Note a handle for writing that the daemon before has opened. It kept the bytes if a rule asked."""
        self._inherited.add(handle.index)

    def _inherited_writer(self, handle: Handle) -> _Writer | None:
        """Return the writer of an inherited handle; None if nothing is kept of its app."""
        self._inherited.discard(handle.index)
        app, caller = _app(handle.caller), handle.caller
        until_s = self._kept.bins.last_until(app)
        if until_s is None or handle.fd < 0:
            return None
        record = Record(time.time_ns(), "end", handle.node.path(), until_s, caller.uid, caller.pid)
        return _Writer(app, record, Inode.of(fstatx(handle.fd)))

    def released(self, handle: Handle) -> None:
        """Record how an app leaves a file that it could write. handle: its descriptor is still open."""
        writer = self._writers.pop(handle.index, None)
        if handle.index in self._inherited:
            writer = self._inherited_writer(handle)
        if handle.fd < 0 or not (writer or (handle.writable and self._taken)):
            return
        stat = fstatx(handle.fd)
        self._count_growth(stat)
        if writer is None:
            return
        end = replace(
            writer.record, time_ns=time.time_ns(), op="end", before=State.of(stat), xattrs={}, above=()
        )
        with contextlib.suppress(UnkeptError):
            self._kept.note(writer.app, end)
        if not any(other.inode == writer.inode for other in self._writers.values()):
            written = self._written.get(writer.inode)
            if written is not None and written.app == writer.app:
                self._remember(writer.inode, written._replace(version=(stat.size, stat.mtime_ns)))

    def _count_growth(self, stat: Stat) -> None:
        """Count what a writer has added to a file since it was removed, and so kept."""
        inode = Inode.of(stat)
        if (taken := self._taken.get(inode)) is not None:
            app, size = taken
            self._taken[inode] = app, stat.blocks * 512
            self._kept.room.took(app, stat.blocks * 512 - size, files=0)

    def _remember(self, inode: Inode, written: _Written) -> None:
        self._written[inode] = written
        self._written.move_to_end(inode)
        while len(self._written) > _REMEMBERED:
            self._written.popitem(last=False)

    # -- attributes ---------------------------------------------------------------------------------

    def attributes(
        self, caller: Caller, call: Call, keep: Keep | None, path: bytes, fd: int, stat: Stat,
        asked: Mapping[str, int | None],
    ) -> None:  # fmt: skip
        """Record attributes before an app sets others. asked: mode, uid, gid, atime_ns, mtime_ns."""
        if asked.get("mtime_ns") is not None:
            self._written.pop(Inode.of(stat), None)  # the time tells no more whether others have written
        if keep is None or self._owns(caller, fd, stat):
            return
        wanted = {name: value for name, value in asked.items() if value is not None}
        record = self._record(caller, "attr", path, keep, before=State.of(stat))
        record = replace(record, asked=wanted)
        with self._or_refused(caller, call, keep, path, record):
            self._kept.note(_app(caller), record)

    def xattr(
        self, caller: Caller, call: Call, keep: Keep | None, path: bytes, fd: int, name: bytes,
        value: bytes | None = None,
    ) -> None:  # fmt: skip
        """Record an extended attribute before an app sets it to a value, or removes it (None)."""
        if keep is None or self._owns(caller, fd, stat := fstatx(fd)):
            return
        record = self._record(caller, "xattr", path, keep, before=State.of(stat))
        record = replace(record, xattrs=xattrs_of(fd, name), set={os.fsdecode(name): value})
        with self._or_refused(caller, call, keep, path, record):
            self._kept.note(_app(caller), record)

    def _owns(self, caller: Caller, fd: int, stat: Stat) -> bool:
        young = self._is_young(stat) and caller.principal.app is not None
        return young and self._gate.facts.owners.get(fd, stat) == caller.principal.app

    # -- records ------------------------------------------------------------------------------------

    def _record(
        self, caller: Caller, op: str, path: bytes, keep: Keep, *, before: State, dirfds: tuple[int, ...] = ()
    ) -> Record:
        return Record(
            time.time_ns(), op, path, until_of(keep.age_s), caller.uid, caller.pid, before=before,
            above=tuple(self._tree.fstat(dirfd).mtime_ns for dirfd in dirfds),
        )  # fmt: skip

    @contextlib.contextmanager
    def _or_refused(
        self, caller: Caller, call: Call, keep: Keep, path: bytes, record: Record
    ) -> Iterator[None]:
        """Refuse the change (EDQUOT) if what it loses cannot be kept, or let it through; both on record."""
        try:
            yield
        except UnkeptError as error:
            why = f"what this loses cannot be kept: {error}"
            allowed = not keep.strict
            decision = Decision(allowed=allowed, errno=0 if allowed else errno.EDQUOT, audit=Audit.REQUIRED)
            if not allowed:
                self._gate.refuse(caller, call, path, decision, note=why)
            with contextlib.suppress(UnkeptError):
                self._kept.note(_app(caller), replace(record, why=str(error)))
            best_effort = replace(decision, audit=Audit.BEST_EFFORT)
            self._gate.recorder.decided(caller, call, path, best_effort, note=why)


def exact(time_ns: int | None) -> int | None:
    """Return a time to set, or the present one for TIME_NOW, so that undo can tell it from later ones."""
    return time.time_ns() if time_ns == TIME_NOW else time_ns


def _app(caller: Caller) -> str:
    return caller.principal.app or STRANGERS
