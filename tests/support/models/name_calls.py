"""What calls on names and attributes must come to."""

from __future__ import annotations

import errno
import os
import stat

from policyfs.domain import FileType, Op
from tests.support.models.naive_policy import Node
from tests.support.models.oracle import TOP
from tests.support.models.sequences import Step
from tests.support.models.twin_tree import (
    IN_USE,
    NATIVE_TROUBLE,
    OWNER_XATTR,
    READ,
    SEE,
    Expected,
    Found,
    Skip,
    TwinTree,
    refused,
)


class NameCalls(TwinTree):
    """Looking, attributes, names."""

    # ------------------------------------------------------------ looking

    def _look(self, step: Step, path: bytes, *, follow: bool) -> Expected:
        found = self.there(step, path, SEE, follow=follow)
        if isinstance(found, Expected):
            return found

        def check(ours: tuple[int, ...], theirs: tuple[int, ...]) -> str:
            sizes = {v.data for v in self.versions.get(found.status.st_ino, ())} if found.status else set()
            fits = ours[2] == theirs[2] or ours[2] in {len(data) for data in sizes}
            links = {theirs[1]}
            if stat.S_ISDIR(theirs[0]):  # 1 says that it is not counted: it must, where something is hidden
                links = {1} if self.hides_some(step, found.path) else {1, theirs[1]}
            same = (ours[0], ours[3]) == (theirs[0], theirs[3]) and ours[1] in links
            return "" if same and fits else f"not {theirs}"

        return Expected(True, native=lambda: self.natively(step), check=check,
                        may_say=self.other_answers(step, SEE, found))  # fmt: skip

    def on_stat(self, step: Step, path: bytes) -> Expected:
        return self._look(step, path, follow=True)

    def on_lstat(self, step: Step, path: bytes) -> Expected:
        return self._look(step, path, follow=False)

    def on_access(self, step: Step, path: bytes, mode: int) -> Expected:
        found = self.find(step, path, follow=True)
        directory = found.status is not None and stat.S_ISDIR(found.status.st_mode)
        ops = SEE
        if not directory:
            ops |= Op.READ if mode & (os.R_OK | os.X_OK) else Op(0)
            ops |= Op.WRITE if mode & os.W_OK else Op(0)
        there = self.there(step, path, ops)
        may = not isinstance(there, Expected)
        if may and mode & os.X_OK and not directory:
            assert found.status is not None
            may = bool(found.status.st_mode & 0o111)
        unsure = not isinstance(there, Expected) and bool(self.other_answers(step, ops, there))

        def check(ours: bool, theirs: bool) -> str:
            return "" if ours == theirs or (unsure and not ours) else f"not {theirs}"

        return Expected(True, native=lambda: may, check=check)

    def on_readlink(self, step: Step, path: bytes) -> Expected:
        found = self.there(step, path, SEE, follow=False)
        if isinstance(found, Expected):
            found.errnos |= {errno.EINVAL}  # of a directory that is hidden and in use: no symlink
            return found
        return Expected(True, native=lambda: self.natively(step))

    def on_list(self, step: Step, path: bytes) -> Expected:
        found = self.there(step, path, SEE)
        if isinstance(found, Expected):
            return found
        where = found.path

        def native() -> list[bytes]:
            names = os.listdir(self.at(where))
            paths = {name: (where + b"/" if where else b"") + name for name in names}
            return sorted(n for n, p in paths.items() if self.sees(step, p, os.lstat(self.at(p))))

        return Expected(True, native=native)

    def on_getxattr(self, step: Step, path: bytes) -> Expected:
        return self._xattrs(step, path, refused(errno.ENODATA))

    def on_listxattr(self, step: Step, path: bytes) -> Expected:
        return self._xattrs(step, path, Expected(True, native=list))

    def _xattrs(self, step: Step, path: bytes, none: Expected) -> Expected:
        """What is told of an object's xattrs: none where they are hidden or it may not be read."""
        found = self.there(step, path, SEE)
        if isinstance(found, Expected):
            return found
        if self.other_answers(step, READ, found):
            raise Skip
        assert found.status is not None
        node = self.node(step.mount, found.path, found.status)
        if self.oracles[step.mount].decide(self.uids[step.who], READ, node).errno:
            return none
        return self._unless_hidden(step, found, none, Expected(True, native=lambda: self.natively(step)))

    def _unless_hidden(self, step: Step, found: Found, hidden: Expected, shown: Expected) -> Expected:
        assert found.status is not None
        oracle, uid = self.oracles[step.mount], self.uids[step.who]
        if stat.S_ISREG(found.status.st_mode):
            node = self.node(step.mount, found.path, found.status)
            if oracle.decide(uid, READ, node).redact:
                return hidden
            if oracle.could_hide(uid, node) or found.status.st_nlink > 1:
                raise Skip
        return shown

    # ------------------------------------------------------------ attributes

    def _attr(self, step: Step, path: bytes) -> Expected:
        found = self.there(step, path, Op.SEE | Op.ATTR)
        if isinstance(found, Expected):
            return found
        return Expected(True, native=lambda: self.natively(step), changes=True,
                        may_say=self.other_answers(step, Op.SEE | Op.ATTR, found))  # fmt: skip

    def on_chmod(self, step: Step, path: bytes, _mode: int) -> Expected:
        return self._attr(step, path)

    def on_utime(self, step: Step, path: bytes, _mtime_ns: int) -> Expected:
        return self._attr(step, path)

    def on_setxattr(self, step: Step, path: bytes, _value: bytes) -> Expected:
        expected = self._attr(step, path)
        found = self.there(step, path, Op.SEE | Op.ATTR)
        if isinstance(found, Expected):
            return expected
        return self._unless_hidden(step, found, refused(errno.EOPNOTSUPP), expected)

    # ------------------------------------------------------------ names

    def _new(self, step: Step, path: bytes, ftype: FileType, ops: Op) -> Expected | Found:
        """A name that is to be made: where it would be, or why it must not."""
        found = self.find(step, path, follow=False)
        if found.error:
            return refused(found.error, *IN_USE)
        oracle, uid = self.oracles[step.mount], self.uids[step.who]
        node = oracle.new(uid, TOP + b"/" + found.path, ftype, self.above(found.path))
        code = oracle.decide(uid, ops, node).errno
        if found.status is not None:
            return refused(errno.EEXIST) if found.seen else refused(code or errno.EEXIST, *IN_USE)
        return refused(code) if code else found

    def _made(self, step: Step, path: bytes) -> None:
        """Something new belongs to its maker, in both senses."""
        uid = self.uids[step.who]
        os.chown(self.at(path), uid, uid, follow_symlinks=False)
        app = self.oracles[step.mount].caller(uid).app
        if app is not None:
            os.setxattr(self.at(path), OWNER_XATTR, app.encode(), follow_symlinks=False)
        self.note_path(path)

    def on_mkdir(self, step: Step, path: bytes) -> Expected:
        found = self._new(step, path, FileType.DIRECTORY, Op.SEE | Op.CREATE)
        if isinstance(found, Expected):
            return found
        return Expected(True, native=lambda: self.natively(step), changes=True,
                        after=lambda: self._made(step, found.path))  # fmt: skip

    def on_symlink(self, step: Step, _target: bytes, path: bytes) -> Expected:
        found = self._new(step, path, FileType.SYMLINK, Op.SEE | Op.CREATE)
        if isinstance(found, Expected):
            return found
        return Expected(True, native=lambda: self.natively(step), changes=True,
                        after=lambda: self._made(step, found.path))  # fmt: skip

    def _remove(self, step: Step, path: bytes, *, directory: bool) -> Expected:
        if not path:
            raise Skip
        found = self.there(step, path, Op.SEE | Op.DELETE, follow=False)
        if not isinstance(found, Expected):
            return Expected(True, native=lambda: self.natively(step), changes=True)
        there = self.find(step, path, follow=False)
        if there.status is None or not there.seen or directory != stat.S_ISDIR(there.status.st_mode):
            found.errnos |= (
                {errno.EACCES, errno.ENOTDIR, errno.EISDIR} if there.status or there.error else set()
            )
        return found

    def on_unlink(self, step: Step, path: bytes) -> Expected:
        return self._remove(step, path, directory=False)

    def on_rmdir(self, step: Step, path: bytes) -> Expected:
        return self._remove(step, path, directory=True)

    def on_rename(self, step: Step, old: bytes, new: bytes, flags: int) -> Expected:
        if not old or not new:
            raise Skip
        source, target = (self.find(step, path, follow=False) for path in (old, new))
        errors = {f.error for f in (source, target) if f.error}
        if source.status is None or not source.seen:
            errors.add(errno.ENOENT)
        if errors and old == new:  # nothing to do: the kernel says so of what is in use, hidden or not
            return Expected(True, native=lambda: None, may_say=IN_USE | errors | NATIVE_TROUBLE)
        if errors:
            # EACCES: of a directory that is hidden from the caller and in use by another.
            return refused(*errors, errno.ENOENT, errno.EACCES, *NATIVE_TROUBLE)
        assert source.status is not None
        if target.status is not None and target.seen and target.status.st_ino == source.status.st_ino:
            # Two names of one file: the kernel finds nothing to do, where it knows them as one.
            code = self._rename_code(step, source, target, exchange=bool(flags & 2))
            more = frozenset({code, errno.EEXIST} if code else ())
            return Expected(
                True,
                native=lambda: self.natively(step),
                may_say=more | self._settling(step, source, target),
            )
        if (flags & 2 and target.status is None) or new.startswith(old + b"/") or old.startswith(new + b"/"):
            return refused(errno.ENOENT, errno.EACCES, *NATIVE_TROUBLE)
        code = self._rename_code(step, source, target, exchange=bool(flags & 2))
        if code:
            more = NATIVE_TROUBLE if target.status is not None else frozenset()
            return refused(code, *more, *((errno.EACCES,) if code == errno.ENOENT else ()))
        if self._leaves_a_name(step, source, target) or (
            flags & 2 and self._leaves_a_name(step, target, source)
        ):
            return refused(*self._copied(step, source, target))
        may_say = self._settling(step, source, target) | self._apart(step, source, target)
        may_say |= self._unproven(step, source, target, exchange=bool(flags & 2))
        if flags & 2:
            may_say |= self._settling(step, target, source)
        if errno.EXDEV in may_say:
            may_say |= self._copied(step, source, target)
        return Expected(True, native=lambda: self.natively(step), changes=True, may_say=may_say)

    on_move = on_rename

    def _rename_code(
        self, step: Step, source: Found, target: Found, *, exchange: bool, proven: bool = True
    ) -> int:
        """What the policy says. proven: the kinds of what is moved count, though it may have writers."""
        oracle, uid = self.oracles[step.mount], self.uids[step.who]
        assert source.status is not None
        old = self._moved(step, source, proven=proven)
        above = tuple(self.above(target.path)) if oracle.naive.by_owner else ()
        replaced = None
        if target.status is not None:
            replaced = self._moved(step, target, proven=proven or not exchange)
        new = old._replace(path=TOP + b"/" + target.path, owners=above)
        return oracle.naive.rename(
            oracle.callers, oracle.caller(uid), old, new, replaced, exchange=exchange and replaced is not None
        )

    def _moved(self, step: Step, found: Found, *, proven: bool) -> Node:
        assert found.status is not None
        node = self.node(step.mount, found.path, found.status)
        if proven or not stat.S_ISREG(found.status.st_mode) or not self.writers(found.status.st_ino):
            return node
        return node._replace(facts=node.facts._replace(kind=None))

    def _copied(self, step: Step, source: Found, target: Found) -> frozenset[int]:
        """What is refused because only a copy could do it; EACCES where the copy could lose something."""
        oracle, uid = self.oracles[step.mount], self.uids[step.who]
        for one, other in ((source, target), (target, source)):
            for proven in (True, False) if one.status is not None else ():
                old = self._moved(step, one, proven=proven)
                if oracle.naive.loses(oracle.caller(uid), old, TOP + b"/" + other.path):
                    return frozenset({errno.EXDEV, errno.EACCES})
        return frozenset({errno.EXDEV})

    def _unproven(self, step: Step, source: Found, target: Found, *, exchange: bool) -> frozenset[int]:
        """A file that has a writer goes to no other rules for its kind, which may change at any time."""
        code = self._rename_code(step, source, target, exchange=exchange, proven=False)
        return frozenset({errno.EXDEV} if code else ())

    def _apart(self, step: Step, source: Found, target: Found) -> frozenset[int]:
        """Where owners of directories hide what is below, paths of two directories are never alike."""
        apart = os.path.dirname(source.path) != os.path.dirname(target.path)
        return frozenset({errno.EXDEV} if apart and self.oracles[step.mount].hides_by_owner else ())

    def _settling(self, step: Step, source: Found, target: Found) -> frozenset[int]:
        """What is moved to where content is required, from where it was not, must have no writer."""
        assert source.status is not None
        if not stat.S_ISREG(source.status.st_mode):
            return frozenset()
        oracle, uid = self.oracles[step.mount], self.uids[step.who]
        node = self.node(step.mount, source.path, source.status)
        moved = node._replace(path=TOP + b"/" + target.path)
        strange = oracle.checks(uid, moved) and not oracle.checks(uid, node)
        return frozenset({errno.EXDEV}) if strange else frozenset()

    def _leaves_a_name(self, step: Step, source: Found, target: Found) -> bool:
        """Has the file another name, and is other content asked for at the two paths? Then it could be
        written by one name without what is asked for at the other."""
        assert source.status is not None
        if not stat.S_ISREG(source.status.st_mode) or source.status.st_nlink < 2:
            return False
        old = self.node(step.mount, source.path, source.status)
        return self.oracles[step.mount].asks_otherwise(old, old._replace(path=TOP + b"/" + target.path))

    def on_link(self, step: Step, old: bytes, new: bytes) -> Expected:
        source, target = (self.find(step, path, follow=False) for path in (old, new))
        errors = {f.error for f in (source, target) if f.error}
        if source.status is None or not source.seen:
            errors.add(errno.ENOENT)
        if errors:
            return refused(*errors, errno.ENOENT, errno.EEXIST, errno.EPERM)
        assert source.status is not None
        if stat.S_ISDIR(source.status.st_mode) or target.status is not None:
            apart = self._apart(step, source, target)
            return refused(errno.EPERM, errno.EEXIST, errno.EACCES, errno.ENOENT, *apart)
        oracle, uid = self.oracles[step.mount], self.uids[step.who]
        above = tuple(self.above(target.path)) if oracle.naive.by_owner else ()
        codes, mine = set(), 0
        for path in {source.path, *self.names_of(source.status.st_ino)}:
            there = self.node(step.mount, path, os.lstat(self.at(path)))
            made = there._replace(path=TOP + b"/" + target.path, owners=above)
            code = oracle.naive.link(oracle.callers, oracle.caller(uid), there, made)
            codes.add(code)
            mine = code if path == source.path else mine
        if stat.S_ISLNK(source.status.st_mode) and source.status.st_uid != uid:
            codes.add(errno.EPERM)  # fs.protected_hardlinks, before anybody is asked
        if mine:
            return refused(*(codes - {0}))
        may_say = frozenset(codes - {0}) | self._apart(step, source, target)
        return Expected(True, native=lambda: self.natively(step), changes=True, may_say=may_say)
