"""Undo: the changes of an app since a time are planned (plan.py), then taken back step by step.

Each step looks again whether the object is the planned one, and is recorded as a change by UNDO, with what it
puts aside or overwrites kept: so an undo can be undone. An undo that is killed is repeated: what its records
have taken back by then is passed over, and the last of these, which may have been half done, is looked at."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import signal
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from typing import Any, Final

from policyfs.domain import FileType
from policyfs.linux import libc
from policyfs.linux.libc import proc_fd
from policyfs.linux.statx import Stat, fstatx
from policyfs.store import ranges
from policyfs.store.kept.bins import UNDO, Bins, Kept, new_name, part
from policyfs.store.kept.kept_files import KeptFiles, UnkeptError
from policyfs.store.kept.places import Places, Remade, open_directory
from policyfs.store.kept.plan import Action, Conflict, Conflicts, Past, Plan, Planner, Step, Undone
from policyfs.store.kept.record import NOTES, Inode, Record, State, xattrs_of
from policyfs.store.locking.ofd import WRLCK, Asked, Owner, set_lock
from policyfs.store.spans import LAST_BYTE
from policyfs.store.tree import ACLS, Tree

_AT_LEAST_S: Final = 86_400
_ACL: Final = os.fsdecode(ACLS[0])
_BASE_ACL: Final = 28
"""The bytes of an ACL without named users and groups, of which file systems store the mode only."""
_CLOSING_S: Final = 0.5
"""The time in which a daemon closes a file that its last writer has closed."""
_EXTENSION: Final = 32
"""The longest end of a name that is left as it is, in bytes."""


class ChangedError(Exception):
    """The error of a step whose object is not the planned one any more, or is in use."""


def pasts_of(
    bins: Bins, app: str, since_ns: int, until_ns: int, wanted: Callable[[bytes], bool]
) -> tuple[list[Past], Undone]:
    """Return an app's changes in this time, by time, and what undo has done since. wanted: chooses paths."""
    undone = _undone(bins, app, since_ns)
    remade = undone.remade
    sizes: dict[tuple[str, str], dict[str, os.stat_result]] = {}

    def past(whose: str, day: str, record: Record) -> Past:
        if (whose, day) not in sizes:
            sizes[whose, day] = dict(_stats(bins, whose, day))
        found = sizes[whose, day].get(record.kept) if record.kept else None
        kept = None if found is None else Kept(bins.machine, whose, day, record.kept)
        size, mtime_ns = (0, 0) if found is None else (found.st_size, found.st_mtime_ns)
        before, moved = record.before, record.moved
        if before is not None:
            first = remade.first(before.inode)
            before = before._replace(ino=first.ino, btime_ns=first.btime_ns)
        moved = None if moved is None else remade.first(moved)
        return Past(whose, replace(record, before=before, moved=moved), kept, size, mtime_ns)

    pasts = [
        past(app, day, record) for day, record in bins.records(app, since_ns, until_ns)
        if record.op not in NOTES and (wanted(record.path) or (record.new and wanted(record.new)))
    ]  # fmt: skip
    return sorted(pasts, key=lambda one: one.record.time_ns), undone


def has_writers(pasts: list[Past]) -> bool:
    """Return True if the app may still write one of the files: the release follows its close in a moment."""
    writing: set[Inode] = set()
    for past in pasts:
        if past.record.before is not None and past.record.op in {"write", "end"}:
            change = writing.add if past.record.op == "write" else writing.discard
            change(past.record.before.inode)
    return bool(writing)


def _undone(bins: Bins, app: str, since_ns: int) -> Undone:
    undone = Undone()
    found = sorted((each for _, each in bins.records(UNDO, since_ns)), key=lambda one: one.time_ns)
    for record in found:
        undone.last_ns = record.time_ns
        if record.op == "done":
            undone.dates.clear()
        elif record.op == "date" and record.why == app:
            undone.dates[record.path] = record.asked["mtime_ns"]
        if record.before is None:
            continue
        if record.op == "mkdir" and record.moved is not None:
            undone.remade.add(record.moved, record.before.inode)
        elif record.op in {"write", "end"} and app != UNDO:
            change = undone.unfinished.add if record.op == "write" else undone.unfinished.discard
            change(record.before.inode)
    ends = (one.of for one in reversed(found) if one.op == "done" or (one.of and one.op not in NOTES))
    last_of, left = next(ends, 0), set[int]()
    for record in reversed(found):
        if record.time_ns in undone.changes:
            continue  # an undo of the undo has taken it back
        if record.op == "left":
            left.add(record.of)
        elif record.of and record.of not in undone.changes:
            (undone.begun if record.of in {last_of, *left} else undone.changes).add(record.of)
    return undone


def _stored(xattrs: Mapping[str, bytes | None]) -> dict[str, bytes | None]:
    """Return attributes as they are stored after they were set."""
    return {
        name: None if name == _ACL and value is not None and len(value) <= _BASE_ACL else value
        for name, value in xattrs.items()
    }


def _stats(bins: Bins, app: str, day: str) -> Iterator[tuple[str, os.stat_result]]:
    with contextlib.suppress(FileNotFoundError):
        fd = bins.directory(app, day)
        try:
            for name in bins.names(app, day):
                with contextlib.suppress(FileNotFoundError):
                    yield name, os.stat(name, dir_fd=fd, follow_symlinks=False)
        finally:
            os.close(fd)


def planned(tree: Tree, pasts: list[Past], since_ns: int, conflicts: Conflicts, undone: Undone) -> Plan:
    """Return the plan that takes changes back. Raise OSError."""
    places = Places(tree, undone.remade)
    try:
        return Planner(places, since_ns, conflicts, undone).make(pasts)
    finally:
        places.close()


class Undo:
    """The undo of one store. kept: records and keeps, as UNDO."""

    def __init__(self, tree: Tree, bins: Bins, kept: KeptFiles, remade: Remade) -> None:
        self._remade = remade
        self._tree = tree
        self._bins = bins
        self._kept = kept

    def carry_out(self, plan: Plan, app: str) -> list[Conflict]:
        """Take all steps. Return what could not be done. app: whose changes are taken back."""
        left: list[Conflict] = []
        for path, mtime_ns in plan.dates:
            self._tell("date", path, asked={"mtime_ns": mtime_ns}, why=app)
        for conflict in plan.conflicts:
            self._tell("left", conflict.path, of=conflict.of)
        actions: Mapping[Action, Callable[[Step], None]] = {
            Action.PUT: self._put, Action.MAKE: self._make, Action.MOVE: self._move,
            Action.EXCHANGE: self._exchange, Action.ASIDE: self._aside, Action.BYTES: self._bytes,
            Action.ATTRS: self._attrs,
        }  # fmt: skip
        for step in plan.steps:
            try:
                actions[step.action](step)
            except (ChangedError, UnkeptError, OSError) as error:
                why = str(getattr(error, "strerror", None) or error)
                left.append(Conflict(step.path, why, step.record.time_ns))
                self._tell("left", step.path, of=step.record.time_ns)
        for path, mtime_ns in plan.dates:
            with contextlib.suppress(OSError):
                fd = open_directory(self._tree, path)
                try:
                    self._tree.utimens_fd(fd, None, mtime_ns)
                finally:
                    os.close(fd)
        self._tell("done", b"")
        return left

    def _tell(self, op: str, path: bytes, **more: Any) -> None:
        """Write a record of NOTES."""
        now_ns = time.time_ns()
        with contextlib.suppress(UnkeptError):  # it is for an undo that is killed
            self._kept.note(UNDO, Record(now_ns, op, path, now_ns // 10**9 + _AT_LEAST_S, **more))

    # -- names --------------------------------------------------------------------------------------

    @contextlib.contextmanager
    def _in(self, path: bytes) -> Iterator[tuple[int, bytes]]:
        above, name = os.path.split(path)
        fd = open_directory(self._tree, above)
        try:
            yield fd, name
        finally:
            os.close(fd)

    def _put(self, step: Step) -> None:
        kept = _kept_of(step)
        with self._in(step.path) as (dirfd, name), self._kept_directory(kept) as source:
            was = self._tree.stat(source, kept.name.encode())
            if step.beside:
                name = beside(name, step.record.time_ns, lambda one: _is_free(self._tree, dirfd, one))
            path = os.path.join(os.path.dirname(step.path), name)
            self._note(step, "put", path, was, (dirfd,), moved=Inode.of(was))
            self._tree.rename_to_free(source, kept.name.encode(), dirfd, name)

    def _kept_directory(self, kept: Kept) -> contextlib.AbstractContextManager[int]:
        return _closed(self._bins.directory(kept.app, kept.day, kept.machine))

    def _make(self, step: Step) -> None:
        """Make a directory where no app sees it, so that a killed undo leaves a whole one, or none."""
        with self._in(step.path) as (dirfd, name):
            record = self._record(step, "mkdir", step.path, self._tree.fstat(dirfd), (dirfd,))
            where, made = self._bins.of(UNDO, record.until_s).fd, part(new_name(record.time_ns))
            os.mkdir(made, 0o700, dir_fd=where)
            try:
                with _closed(self._tree.open_dir(where, made.encode())) as fd:
                    self._set(fd, step)
                    stat = self._tree.fstat(fd)
                self._kept.note(UNDO, replace(record, before=State.of(stat), moved=step.inode))
                self._tree.rename_to_free(where, made.encode(), dirfd, name)
            except BaseException:
                os.rmdir(made, dir_fd=where)
                raise
            self._remade.add(step.inode, Inode.of(stat))

    def _move(self, step: Step) -> None:
        with self._in(step.path) as (old_dir, old), self._in(step.new) as (new_dir, new):
            stat = self._same(step.inode, old_dir, old)
            self._note(
                step, "rename", step.path, stat, (old_dir, new_dir), new=step.new, moved=Inode.of(stat)
            )
            self._tree.rename_to_free(old_dir, old, new_dir, new)

    def _exchange(self, step: Step) -> None:
        with self._in(step.path) as (old_dir, old), self._in(step.new) as (new_dir, new):
            stat = self._same(step.inode, old_dir, old)
            other = self._same(_before_of(step).inode, new_dir, new)
            self._note(
                step, "exchange", step.path, other, (old_dir, new_dir), new=step.new, moved=Inode.of(stat)
            )
            self._tree.rename2(old_dir, old, new_dir, new, libc.RENAME_EXCHANGE)

    def _aside(self, step: Step) -> None:
        with self._in(step.path) as (dirfd, name):
            stat = self._same(step.inode, dirfd, name)
            if stat.ftype is FileType.DIRECTORY:
                self._note(step, "rmdir", step.path, stat, (dirfd,))
                return self._tree.rmdir(dirfd, name)
            record = self._record(step, "unlink", step.path, stat, (dirfd,))
            return self._kept.take(UNDO, record, dirfd, name, stat)

    def _same(self, inode: Inode, dirfd: int, name: bytes) -> Stat:
        try:
            stat = self._tree.stat(dirfd, name)
        except FileNotFoundError:
            raise ChangedError("it is gone since the plan was made") from None
        if Inode.of(stat) != self._remade.present(inode):
            raise ChangedError("another object has taken its place since the plan was made")
        return stat

    # -- bytes and attributes -------------------------------------------------------------------------

    def _bytes(self, step: Step) -> None:
        kept = _kept_of(step)
        with contextlib.ExitStack() as stack:
            source_dir = stack.enter_context(self._kept_directory(kept))
            source = stack.enter_context(_closed(_open(kept.name, source_dir)))
            dirfd, name = stack.enter_context(self._in(step.path))
            if step.beside:
                free = beside(name, step.record.time_ns, lambda one: _is_free(self._tree, dirfd, one))
                target = stack.enter_context(_closed(_create(free, dirfd)))
                fill(source, target, dirfd)
                if step.record.before is not None:
                    set_attributes(self._tree, target, attributes_of(step.record.before))
                return
            _check_unwritten(dirfd, name)
            flags = os.O_RDWR | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
            target = stack.enter_context(_closed(os.open(name, flags, dir_fd=dirfd)))
            stat = self._tree.fstat(target)
            if Inode.of(stat) != self._remade.present(step.inode):
                raise ChangedError("another object has taken its place since the plan was made")
            whole = Asked(0, LAST_BYTE, WRLCK, 0)
            if not all(set_lock(target, Owner(0, flock), whole) for flock in (False, True)):
                raise ChangedError("a program has locked the file")
            record = self._record(step, "write", step.path, stat)
            record = replace(record, xattrs=xattrs_of(target, *map(os.fsencode, step.xattrs)))
            self._kept.copy(UNDO, record, target, stat)
            _leased(target, fcntl.F_WRLCK)  # not while a daemon has it for readers in passthrough
            if version_of(self._tree.fstat(target)) != version_of(stat):
                raise ChangedError("a program is writing it")
            fill(source, target, dirfd)
            self._set(target, step)
            self._kept.note(UNDO, replace(record, op="end", before=State.of(self._tree.fstat(target))))

    def _attrs(self, step: Step) -> None:
        with self._in(step.path) as (dirfd, name), _closed(self._tree.open_path(dirfd, name)) as fd:
            stat = self._tree.fstat(fd)
            if Inode.of(stat) != self._remade.present(step.inode):
                raise ChangedError("another object has taken its place since the plan was made")
            if step.attrs:
                self._kept.note(
                    UNDO, replace(self._record(step, "attr", step.path, stat), asked=dict(step.attrs))
                )
            if step.xattrs:
                record = self._record(step, "xattr", step.path, stat)
                old = xattrs_of(fd, *map(os.fsencode, step.xattrs))
                if step.record.set and old not in (_stored(step.record.set), step.xattrs):
                    raise ChangedError("others have changed its attributes since")
                self._kept.note(UNDO, replace(record, xattrs=old, set=dict(step.xattrs)))
            self._set(fd, step)
            before, set_ = step.record.before, _stored(step.record.set)
            if before is not None and set_.get(_ACL) and step.xattrs.get(_ACL, b"") is None:
                set_attributes(self._tree, fd, {"mode": before.mode & 0o7777})  # its mask stays as the mode

    def _set(self, fd: int, step: Step) -> None:
        for name, value in step.xattrs.items():
            if value is not None:
                os.setxattr(proc_fd(fd), name, value)
                continue
            with contextlib.suppress(OSError):  # it is not there
                os.removexattr(proc_fd(fd), name)
        set_attributes(self._tree, fd, step.attrs)

    # -- records ------------------------------------------------------------------------------------

    @staticmethod
    def _record(
        step: Step, op: str, path: bytes, stat: Stat, dirfds: tuple[int, ...] = ()
    ) -> Record:
        now_s = int(time.time())
        return Record(
            time.time_ns(), op, path, max(step.record.until_s, now_s + _AT_LEAST_S), os.getuid(), os.getpid(),
            before=State.of(stat), above=tuple(fstatx(fd).mtime_ns for fd in dirfds),
            of=step.record.time_ns,
        )  # fmt: skip

    def _note(
        self, step: Step, op: str, path: bytes, stat: Stat, dirfds: tuple[int, ...], *, new: bytes = b"",
        moved: Inode | None = None,
    ) -> None:  # fmt: skip
        record = self._record(step, op, path, stat, dirfds)
        self._kept.note(UNDO, replace(record, new=new, moved=moved))


def restored(tree: Tree, bins: Bins, kept: Kept, record: Record, path: bytes, to: str | None) -> str:
    """Copy a kept file to its path in the store, or to the new file *to*. Return the path. Raise OSError,
    FileExistsError if the name is taken."""
    where = to or os.fsdecode(path)
    with contextlib.ExitStack() as stack:
        if to is None:
            above, name = os.path.split(path)
            dirfd = stack.enter_context(_closed(open_directory(tree, above)))
        else:
            above, name = os.path.split(os.fsencode(os.path.abspath(to)))
            dirfd = stack.enter_context(_closed(os.open(above, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)))
        source_dir = stack.enter_context(_closed(bins.directory(kept.app, kept.day, kept.machine)))
        source = stack.enter_context(_closed(_open(kept.name, source_dir)))
        target = stack.enter_context(_closed(_create(name, dirfd)))
        fill(source, target, dirfd)
        if record.before is not None:
            set_attributes(tree, target, attributes_of(record.before))
    return where


def _create(name: bytes, dirfd: int) -> int:
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
    return os.open(name, flags, 0o600, dir_fd=dirfd)


def restored_below(tree: Tree, bins: Bins, plan: Plan, directory: str) -> list[Conflict]:
    """Copy all that a plan would bring back below a directory, under its old path; of several versions, the
    oldest. What is there already stays. Return what could not be copied."""
    left, made = [], set[bytes]()
    for step in plan.steps:
        if step.kept is None:
            continue
        try:
            with (
                _closed(bins.directory(step.kept.app, step.kept.day, step.kept.machine)) as source_dir,
                _closed(os.open(directory, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)) as top,
            ):
                _copy_below(tree, step, source_dir, top, step.path in made)
                made.add(step.path)
        except OSError as error:
            left.append(Conflict(step.path, error.strerror or str(error), step.record.time_ns))
    return left


def _copy_below(tree: Tree, step: Step, source_dir: int, top: int, is_made: bool) -> None:
    """Copy a kept object below *top*. is_made: True if a newer version of it was copied before."""
    kept, before = _kept_of(step), step.record.before
    stat = tree.stat(source_dir, kept.name.encode())
    *above, name = [part for part in step.path.split(b"/") if part]
    with contextlib.ExitStack() as stack:
        at = top
        for part in above:
            with contextlib.suppress(FileExistsError):
                os.mkdir(part, 0o700, dir_fd=at)
            at = stack.enter_context(_closed(tree.open_dir(at, part)))
        if is_made:
            os.unlink(name, dir_fd=at)
        if stat.ftype is FileType.SYMLINK:
            os.symlink(tree.readlink(source_dir, kept.name.encode()), name, dir_fd=at)
            return
        source = stack.enter_context(_closed(_open(kept.name, source_dir)))
        target = stack.enter_context(_closed(_create(name, at)))
        fill(source, target, at)
        if before is not None:
            set_attributes(tree, target, attributes_of(before))


def attributes_of(state: State) -> dict[str, int]:
    """Return the attributes in a state, for set_attributes()."""
    fields = ("mode", "uid", "gid", "atime_ns", "mtime_ns")
    return {name: getattr(state, name) for name in fields}


def set_attributes(tree: Tree, fd: int, attrs: Mapping[str, int]) -> None:
    """Set owner, mode and times of the object behind *fd*. Raise OSError."""
    if {"uid", "gid"} & attrs.keys():
        tree.chown_fd(fd, attrs.get("uid", -1), attrs.get("gid", -1))
    if "mode" in attrs:
        tree.chmod_fd(fd, attrs["mode"], suid=True)
    if {"atime_ns", "mtime_ns"} & attrs.keys():
        tree.utimens_fd(fd, attrs.get("atime_ns"), attrs.get("mtime_ns"))


def version_of(stat: Stat) -> tuple[int, int]:
    """Return what tells a file's bytes from later ones."""
    return stat.size, stat.mtime_ns


def fill(source: int, target: int, dirfd: int) -> None:
    """Give a file the bytes of another. Raise OSError. dirfd: a directory of the target's file system."""
    size = os.fstat(source).st_size
    if not ranges.share(source, target, size, dirfd):
        os.ftruncate(target, 0)
        ranges.copy_all(source, target, size)
    os.ftruncate(target, size)


def beside(name: bytes, time_ns: int, is_free: Callable[[bytes], bool]) -> bytes:
    """Return a free name near another one, such as ``a (before 13:40).jpg``."""
    stem, extension = os.path.splitext(name)
    told = time.strftime("%H:%M", time.localtime(time_ns // 10**9)).encode()
    if len(extension) > _EXTENSION:
        stem, extension = name, b""
    for number in range(1, 1000):
        more = b"" if number == 1 else b" %d" % number
        tail = b" (before %s%s)%s" % (told, more, extension)
        found = stem[: 255 - len(tail)] + tail
        if is_free(found):
            return found
    raise OSError(errno.EEXIST, "all names near it are taken")


def _is_free(tree: Tree, dirfd: int, name: bytes) -> bool:
    try:
        tree.check_free(dirfd, name)
    except FileExistsError:
        return False
    return True


def _kept_of(step: Step) -> Kept:
    if step.kept is None:
        raise ChangedError("nothing of it is kept")
    return step.kept


def _before_of(step: Step) -> State:
    if step.record.before is None:
        raise ChangedError("its record is damaged")
    return step.record.before


def _open(name: str, dirfd: int) -> int:
    return os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NOATIME, dir_fd=dirfd)


def _check_unwritten(dirfd: int, name: bytes) -> None:
    """Raise ChangedError if a program has the file open for writing, or mapped: no read lease is granted."""
    flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
    with _closed(os.open(name, flags, dir_fd=dirfd)) as fd:
        until_s = time.monotonic() + _CLOSING_S
        while not _leased(fd, fcntl.F_RDLCK):
            if time.monotonic() < until_s:
                time.sleep(0.05)
                continue
            raise ChangedError("a program has the file open for writing: stop it, then undo again")


def _leased(fd: int, kind: int) -> bool:
    """Take a lease, which ends with the descriptor: meanwhile others' opens wait (lease-break-time, 45 s).
    Return False if others have the file open."""
    try:
        fcntl.fcntl(fd, fcntl.F_SETSIG, signal.SIGURG)  # which is ignored: SIGIO would end the process
        fcntl.fcntl(fd, fcntl.F_SETLEASE, kind)
    except BlockingIOError:
        return False
    except OSError as error:
        if error.errno not in {errno.EINVAL, errno.EOPNOTSUPP}:
            raise
    return True


@contextlib.contextmanager
def _closed(fd: int) -> Iterator[int]:
    try:
        yield fd
    finally:
        os.close(fd)
