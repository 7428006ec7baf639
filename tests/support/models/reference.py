"""What a mount must answer to the calls of sequences.py: the policy's word first, then a plain directory's.

The twin is a plain directory that root keeps as the store ought to be: what the policy allows is
done there too, and its answer is the one that the mount has to give. Who owns what, in the
policy's sense, is kept on the twin's files as well. So there is no model of a file system here.

Where policyfs promises less than one answer (docs/architecture.md: what is changed through another
mount may be seen a moment later; who keeps a mediated file open may see bytes of any time since
he opened it) each that is promised will do, but nothing that the policy hides.
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Callable
from typing import Any

from policyfs.domain import FileType, Op
from tests.support.models.emptied_files import EmptiedFiles
from tests.support.models.naive_policy import Node
from tests.support.models.oracle import TOP
from tests.support.models.sequences import DATA, SECRET, Step, marks
from tests.support.models.twin_tree import IN_USE, READ, SEE, WRITE, Expected, Found, Handle, Skip, refused


class Reference(EmptiedFiles):
    """The right answers for one sequence."""

    # ------------------------------------------------------------ one step

    def expect(self, step: Step) -> Expected:
        """What the step has to come to. Raises Skip."""
        self.leave_alone(step)
        return getattr(self, "on_" + step.call)(step, *step.arguments)

    # ------------------------------------------------------------ opening

    def _ops(self, flags: int) -> Op:
        ops = Op.SEE
        if flags & os.O_ACCMODE != os.O_WRONLY:
            ops |= Op.READ
        if flags & (os.O_ACCMODE | os.O_TRUNC):
            ops |= Op.WRITE
        return ops

    def _owns(self, step: Step, path: bytes | int) -> bool:
        """Rule 5 is for files of others: an app writes its own in parts, also where it is under redaction."""
        return self.owner(path) == self.oracles[step.mount].caller(self.uids[step.who]).app

    def _opening(self, step: Step, path: bytes, flags: int) -> Found | Expected:
        """An open up to the point where it is allowed: what is opened (no status: a new file)."""
        exclusive = bool(flags & os.O_CREAT and flags & os.O_EXCL)
        found = self.find(step, path, follow=not exclusive)
        oracle, uid = self.oracles[step.mount], self.uids[step.who]
        if found.error:
            return refused(found.error, *(IN_USE if flags & (os.O_CREAT | os.O_ACCMODE | os.O_TRUNC) else ()))
        if found.status is None:
            if not flags & os.O_CREAT:
                return refused(errno.ENOENT)
            node = oracle.new(uid, TOP + b"/" + found.path, FileType.REGULAR, self.above(found.path))
            ops = Op.CREATE | Op.WRITE | self._ops(flags & ~os.O_TRUNC)
            code = oracle.decide(uid, ops, node).errno
            return refused(code) if code else found
        if not found.seen:
            return refused(
                errno.ENOENT, *(IN_USE if flags & (os.O_CREAT | os.O_ACCMODE | os.O_TRUNC) else ())
            )
        if exclusive:
            return refused(errno.EEXIST)
        if stat.S_ISDIR(found.status.st_mode):
            if flags & (os.O_ACCMODE | os.O_CREAT | os.O_TRUNC):
                return refused(errno.EISDIR)
            raise Skip
        node = self.node(step.mount, found.path, found.status)
        code = oracle.decide(uid, self._ops(flags), node).errno
        others = self.other_answers(step, self._ops(flags), found)
        if code:
            return refused(code, *others)
        hides = oracle.hidden_now(uid, node)
        if hides and self._ops(flags) & Op.WRITE:
            if found.status.st_size and not flags & os.O_TRUNC and not self._owns(step, found.path):
                return refused(errno.EACCES)
        elif hides and oracle.shown(uid, node, self.data(found.path)) is None:
            if step.call == "open" and (step.who, found.status.st_ino) in self.wrote:
                raise Skip  # while this app writes the file itself each read is judged instead
            return refused(errno.EACCES)
        return found

    def _open_it(self, step: Step, found: Found, flags: int, slot: tuple[int, int, int]) -> None:
        """The twin's part of an open that was allowed."""
        oracle, uid = self.oracles[step.mount], self.uids[step.who]
        new = found.status is None
        kept = flags & (os.O_CREAT | os.O_TRUNC | os.O_APPEND)
        keeps_old = self.keeps_old(step, found, flags)
        if keeps_old:
            kept &= ~os.O_TRUNC
        fd = os.open(self.at(found.path), os.O_RDWR | os.O_NOFOLLOW | kept, 0o644)
        if new:
            os.chmod(fd, 0o644)
            self._made(step, found.path)
        elif self._ops(flags) & Op.WRITE and self.owner(fd) not in {"none", oracle.caller(uid).app}:
            self.disown(fd)
        self.note_fd(fd)
        status = os.fstat(fd)
        if new or self._ops(flags) & Op.WRITE:
            self.wrote.add((step.who, status.st_ino))
        node = self.node(step.mount, found.path, os.lstat(self.at(found.path)))
        checks, hides = oracle.checks(uid, node), oracle.could_hide(uid, node)
        self.handles[slot] = Handle(
            fd, step.who, step.mount, flags, node, status.st_ino,
            len(self.versions[status.st_ino]) - 1, checks or hides, hides, new and checks,
            new or bool(flags & os.O_TRUNC) or not status.st_size, self.generations[step.mount],
            oracle,
        )  # fmt: skip
        if keeps_old:
            self.begin_empty(step, status.st_ino)

    def on_open(self, step: Step, slot: int, path: bytes, flags: int) -> Expected:
        key = (step.who, step.mount, slot)
        if key in self.handles:
            raise Skip
        found = self._opening(step, path, flags)
        if isinstance(found, Expected):
            return found
        may_say = frozenset()
        if self.keeps_old(step, found, flags):
            self.let_nobody_else(found)
        if found.status is not None:
            may_say = self.other_answers(step, self._ops(flags), found)
            if found.status.st_nlink > 1:
                may_say |= {errno.EACCES}  # under redaction by another name
        return Expected(True, native=lambda: self._open_it(step, found, flags, key), may_say=may_say,
                        changes=bool(flags & (os.O_CREAT | os.O_TRUNC | os.O_ACCMODE)))  # fmt: skip

    def on_content(self, step: Step, path: bytes) -> Expected:
        found = self._opening(step, path, os.O_RDONLY)
        if isinstance(found, Expected):
            return found
        assert found.status is not None
        oracle, uid = self.oracles[step.mount], self.uids[step.who]
        node = self.node(step.mount, found.path, found.status)
        data = self.data(found.path)
        shown = oracle.shown(uid, node, data) or b""
        others = {shown}
        if found.status.st_nlink > 1:
            for name in self.names_of(found.status.st_ino):
                other = self.node(step.mount, name, os.lstat(self.at(name)))
                others.add(oracle.shown(uid, other, data) or b"")
        may_say = self.other_answers(step, READ, found)
        if found.status.st_nlink > 1:
            may_say |= {errno.EACCES}

        def check(ours: bytes, theirs: bytes) -> str:
            return "" if ours in others else f"not {_short(theirs)}"

        return Expected(True, native=lambda: shown, may_say=may_say, check=check)

    def on_put(self, step: Step, path: bytes, data: str) -> Expected:
        flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC
        found = self._opening(step, path, flags)
        if isinstance(found, Expected):
            said = {f"open {errno.errorcode[code]}" for code in found.errnos}
            return Expected(
                True, native=lambda: None, check=lambda ours, _: "" if ours in said else f"not {said}"
            )
        oracle, uid = self.oracles[step.mount], self.uids[step.who]
        slot = (-1, step.mount, 0)
        if found.status is not None and (self.writers(found.status.st_ino) or found.status.st_nlink > 1):
            node = self.node(step.mount, found.path, found.status)
            if oracle.could_hide(uid, node) or oracle.checks(uid, node):
                raise Skip  # who else writes it, or its other name, may make that fail half way

        def native() -> str:
            self._open_it(step, found, flags, slot)
            handle = self.handles.pop(slot)
            try:
                node = self.node(step.mount, found.path, os.fstat(handle.fd))
                code = oracle.decide(uid, WRITE, node).errno if handle.mediated else 0
                if not code and not oracle.meets(uid, node, DATA[data]):
                    code = errno.EPERM
                if not code:
                    self.replaced(handle)
                    os.write(handle.fd, DATA[data])
                    self.note_fd(handle.fd)
                elif handle.created and code == errno.EPERM:
                    os.unlink(self.at(found.path))
            finally:
                kept = self.emptied.pop(handle.ino, None)  # what was refused has left the old bytes
                os.close(handle.fd)
            said = f"write {errno.errorcode[code]}" if code else "fine"
            return f"{said} close EPERM" if kept else said

        def check(ours: str, theirs: str) -> str:
            return "" if ours == theirs else f"not {theirs}"

        return Expected(True, native=native, check=check, changes=True)

    # ------------------------------------------------------------ handles

    def _handle(self, step: Step, slot: int) -> Handle:
        handle = self.handles.get((step.who, step.mount, slot))
        if handle is None:
            raise Skip
        return handle

    def _now(self, handle: Handle) -> list[Node]:
        """The handle's file by each name it has now; by its last one if it has none."""
        names = self.names_of(handle.ino)
        found = [self.node(handle.mount, name, os.lstat(self.at(name))) for name in names]
        if found:
            return found
        oracle = self.oracles[handle.mount]
        data = os.pread(handle.fd, 1 << 20, 0) if oracle.wants_kinds else b""
        owner = self.owner(handle.fd)
        return [oracle.node(handle.node.path, FileType.REGULAR, data, owner, handle.node.owners)]

    def _codes(self, handle: Handle, ops: Op) -> frozenset[int]:
        """What the policy says now of what a handle is used for, by any of the names (and the one that it was
        opened by); 0: allowed."""
        oracle, uid = self.oracles[handle.mount], self.uids[handle.who]
        codes = {oracle.decide(uid, ops, node).errno for node in self._now(handle)}
        return frozenset(codes | {0 if handle.generation == self.generations[handle.mount] else errno.EACCES})

    def on_pread(self, step: Step, slot: int, offset: int, size: int) -> Expected:
        handle = self._handle(step, slot)
        if handle.flags & os.O_ACCMODE == os.O_WRONLY:
            return refused(errno.EBADF)
        if not handle.mediated:
            return Expected(True, native=lambda: os.pread(handle.fd, size, offset))
        codes = self._codes(handle, READ) - {0}
        if self.is_emptied(handle):
            return Expected(True, native=lambda: b"", may_say=codes)
        oracle, uid = self.oracles[step.mount], self.uids[step.who]
        nodes = [handle.node, *self._now(handle)]
        shown: set[bytes | None] = set()
        for version in self.versions[handle.ino][handle.since :]:
            for node in nodes:
                owned = node._replace(facts=node.facts._replace(owner=version.owner))
                shown.add(oracle.shown(uid, owned, version.data))
                before = handle.oracle.shown(uid, owned, version.data)
                if before not in {None, version.data}:
                    shown.add(before)  # a copy in which something is hidden stays what it was
        refusals = {errno.EACCES} if None in shown or len(nodes) > 2 else set()
        if handle.generation != self.generations[step.mount]:
            refusals |= {errno.EACCES, errno.ENOENT, errno.EPERM, errno.EROFS}
        pieces = {data[offset : offset + size] for data in shown if data is not None}

        def check(ours: bytes, _theirs: object) -> str:
            if ours in pieces or _in_pages(ours, offset, pieces):
                return ""
            return f"{_short(ours)} is none of {[_short(piece) for piece in pieces]}"

        return Expected(True, native=lambda: None, check=check, may_say=codes | refusals)

    def _changed(
        self, step: Step, handle: Handle, after: bytes, change: Callable[[], Any], *, empties: bool
    ) -> Expected:
        """A write or truncation of an open file that makes it *after*."""
        oracle, uid = self.oracles[step.mount], self.uids[step.who]
        before = self.seen(handle)
        native = Expected(True, native=change, after=lambda: self.note_fd(handle.fd), changes=True)
        if not handle.mediated:
            return native
        codes = self._codes(handle, WRITE)
        if 0 not in codes:
            return refused(*codes)
        native.may_say = codes - {0}
        nodes = self._now(handle)
        if any(oracle.hidden_now(uid, node) for node in nodes) and not empties:
            if not handle.emptied and not self._owns(step, handle.fd):
                return refused(errno.EACCES, *native.may_say)
            native.may_say |= {errno.EACCES}  # somebody else may have written since
        elif handle.emptied and not empties:
            native.may_say |= {errno.EACCES}  # it was under redaction, and somebody has moved it since
        if any(oracle.checks(uid, node) for node in nodes):
            if not before and (len(after) < 600 or not after[0]):
                raise Skip  # may be held, or a draft that begins with a gap: nobody else sees it yet
            unmet = [node for node in nodes if not oracle.meets(uid, node, after)]
            if after and unmet and after != before:
                self.unless_late(before, after, not oracle.could_hide(uid, handle.node))
                if len(unmet) < len(nodes) or handle.generation != self.generations[step.mount]:
                    native.may_say |= {errno.EPERM}
                    return native
                if handle.created and errno.EACCES in native.may_say:
                    raise Skip  # by which of the two it is refused decides whether it stays
                if handle.created:
                    self.refusals.add((step.mount, handle.ino))
                self.keep_for_good(handle)
                return refused(errno.EPERM, *native.may_say)
        elif after and oracle.checks(uid, handle.node) and not oracle.meets(uid, handle.node, after):
            native.may_say |= {errno.EPERM}  # somebody has moved it since it was opened
        return native

    def on_pwrite(self, step: Step, slot: int, offset: int, data: str) -> Expected:
        handle = self._handle(step, slot)
        if handle.flags & os.O_ACCMODE == os.O_RDONLY:
            return refused(errno.EBADF)
        before, new = self.seen(handle), DATA[data]
        if handle.flags & os.O_APPEND:
            offset = len(before)
        after = before[:offset].ljust(offset, b"\0") + new + before[offset + len(new) :]
        write = self.replacing(handle, lambda: os.pwrite(handle.fd, new, offset))
        return self._changed(step, handle, after, write, empties=False)

    def on_ftruncate(self, step: Step, slot: int, size: int) -> Expected:
        handle = self._handle(step, slot)
        if handle.flags & os.O_ACCMODE == os.O_RDONLY:
            return refused(errno.EINVAL, errno.EBADF)
        before = self.seen(handle)
        if size and not before and handle.mediated:
            raise Skip  # may be held
        if self.is_emptied(handle):
            return Expected(True, native=lambda: None, may_say=self._codes(handle, WRITE) - {0})
        oracle, nodes = self.oracles[step.mount], (handle.node, *self._now(handle))
        if before and not size and any(oracle.checks(self.uids[step.who], node) for node in nodes):
            raise Skip  # others may have the file open
        after = before[:size].ljust(size, b"\0")
        expected = self._changed(step, handle, after, lambda: os.ftruncate(handle.fd, size), empties=not size)
        expected.may_say |= self._codes(handle, WRITE) - {0}  # decided anew on every road
        return expected

    def on_truncate(self, step: Step, path: bytes, size: int) -> Expected:
        found = self.there(step, path, WRITE)
        if isinstance(found, Expected):
            found.errnos |= {errno.EISDIR}
            return found
        assert found.status is not None
        if stat.S_ISDIR(found.status.st_mode):
            return refused(errno.EISDIR)
        oracle, uid = self.oracles[step.mount], self.uids[step.who]
        node = self.node(step.mount, found.path, found.status)
        before = self.data(found.path)
        after = before[:size].ljust(size, b"\0")
        may_say = self.other_answers(step, WRITE, found)
        checks = oracle.checks(uid, node)
        if oracle.hidden_now(uid, node) and size:
            if before and not self._owns(step, found.path):
                return refused(errno.EACCES, *may_say)
            may_say |= {errno.EACCES}
        if checks and not before and size:
            raise Skip
        disowns = self.owner(found.path) not in {"none", oracle.caller(uid).app}

        def native() -> None:
            os.truncate(self.at(found.path), size)
            if disowns:
                self.disown(found.path)
            self.note_path(found.path)

        if checks and after and after != before and not oracle.meets(uid, node, after):
            if disowns:
                self.disown(found.path)  # whoever opens it for writing may change it
            return refused(errno.EPERM, *may_say)
        return Expected(True, native=native, may_say=may_say, changes=True)

    def on_fstat(self, step: Step, slot: int) -> Expected:
        handle = self._handle(step, slot)
        named = bool(self.names_of(handle.ino))
        sizes = {len(version.data) for version in self.versions[handle.ino]} | {len(self.seen(handle))}

        def check(ours: tuple[int, ...], theirs: tuple[int, ...]) -> str:
            same = (ours[0], ours[3]) == (theirs[0], theirs[3]) or not named
            return "" if same and ours[2] in sizes else f"not {theirs}"

        may_say = self._codes(handle, SEE) - {0}
        return Expected(True, native=lambda: marks(os.fstat(handle.fd)), check=check,
                        may_say=may_say if named else frozenset({errno.ESTALE, errno.ENOENT}))  # fmt: skip

    def on_close(self, step: Step, slot: int) -> Expected:
        handle = self._handle(step, slot)
        return Expected(True, native=lambda: self._close((step.who, step.mount, slot), handle), changes=True)

    def _close(self, key: tuple[int, int, int], handle: Handle) -> None:
        del self.handles[key]
        self.empty_at_close(handle)
        last = not any(h.mount == handle.mount for h in self.writers(handle.ino))
        if last and (handle.mount, handle.ino) in self.refusals:
            self.refusals.discard((handle.mount, handle.ino))
            if not os.fstat(handle.fd).st_size:
                for name in self.names_of(handle.ino)[:1]:
                    os.unlink(self.at(name))
        os.close(handle.fd)

    def close_all(self) -> None:
        """Everything is closed on both sides."""
        for key, handle in list(self.handles.items()):
            self._close(key, handle)


def _short(data: bytes) -> str:
    name = next((name for name, whole in DATA.items() if data == whole), "")
    return f"{len(data)} bytes{' of ' + name if name else ''} {data[:24]!r}"


def _in_pages(data: bytes, offset: int, pieces: set[bytes]) -> bool:
    """Is each page of the data from some version: a page is read at one time, a file is not."""
    at = 0
    while at < len(data):
        end = min(len(data), (offset + at) // 4096 * 4096 + 4096 - offset)
        if not any(piece[at:end] == data[at:end] for piece in pieces):
            return False
        at = end
    return bool(data)


def leaked(data: object) -> bool:
    """Are bytes of a place in what was read."""
    return isinstance(data, bytes) and SECRET in data
