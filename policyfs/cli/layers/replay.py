"""The commit of a layer: its changes, made again in the store through the app's mount.

What the mount refuses stays in the layer, and so does what others changed since the command ran. A commit
works in batches. The paths of a batch are in a journal before the first is changed; the batch leaves the
layer once the store has it on disk. A commit that was killed is so made again from the batch on.
"""

from __future__ import annotations

import contextlib
import errno
import json
import os
import stat
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Final, NamedTuple

from policyfs.cli.layers.changes import (
    DIRECTORY,
    OPAQUE,
    TOO_LONG,
    Before,
    Entry,
    Found,
    Hidden,
    Place,
    data_from,
    entries,
    moved,
    parent_of,
    same_content,
    state_of,
    status_of,
    xattrs,
)
from policyfs.linux.libc import open_beneath, sync_file_system
from policyfs.trail.lines.table import shown

_BATCH: Final = 500
_PIECE: Final = 1 << 20
_SECTOR: Final = 512
_MOST_BESIDE: Final = 200
_NEW: Final = os.O_CREAT | os.O_EXCL


class Outcome(NamedTuple):
    """The outcome of one path. kept: why it stays in the layer; empty if it is in the store now."""

    path: bytes
    kept: str


class Replay:
    """One commit. Its descriptors: upper of the layer, view of the mount, store for syncfs(2), journal.

    states: what was below the layer when its command ended. begun_ns: when its last command began, for what
    has no state because that command was killed. hidden: by the policy of the mount. resumed: paths that an
    interrupted commit was changing.
    """

    def __init__(
        self, upper: int, view: int, store: int, journal: int, states: Mapping[bytes, Before], begun_ns: int,
        hidden: Hidden,
    ) -> None:  # fmt: skip
        self._upper, self._view, self._store, self._journal = upper, view, store, journal
        self._states, self._begun_ns, self._hidden = states, begun_ns, hidden
        self.resumed = frozenset(read_journal(journal))
        self._links: dict[tuple[int, int], bytes] = {}
        self._moved: dict[bytes, bytes] = {}
        self._last: set[bytes] = set()
        self._changed: set[int] = set()

    def run(self, is_wanted: Callable[[bytes], bool]) -> Iterator[Outcome]:
        """Make the wanted changes, and yield what became of each. Raises OSError of the layer itself."""
        found = list(entries(self._upper, copied=True))
        wanted = {entry.path for entry in found if is_wanted(entry.path)}
        for path in list(wanted):
            while path := os.path.dirname(path):
                wanted.add(path)
        chosen = [entry for entry in found if entry.path in wanted]
        self._find_names(chosen)
        first_names = frozenset(self._links.values())
        chosen.sort(key=lambda entry: (entry.path not in first_names, entry.path in self._last))
        kept: set[bytes] = set()
        for first in range(0, len(chosen), _BATCH):
            outcomes = self._batch(chosen[first : first + _BATCH])
            kept.update(outcome.path for outcome in outcomes if outcome.kept)
            yield from outcomes
        for entry in reversed(chosen):
            if entry.is_directory and entry.path not in kept:
                self._finish_directory(entry)

    def _batch(self, batch: Sequence[Entry]) -> list[Outcome]:
        self._note([entry.path for entry in batch])
        outcomes, done = [], []
        for entry in batch:
            try:
                is_change = self._replay(entry)
            except OSError as error:
                outcomes.append(Outcome(entry.path, error.strerror or str(error)))
                continue
            if not entry.is_directory:
                done.append(entry)
            if is_change:
                outcomes.append(Outcome(entry.path, ""))
        sync_file_system(self._store)
        for entry in done:
            with parent_of((self._upper, entry.path)) as (directory, name):
                os.unlink(name, dir_fd=directory)
        self._note([])
        return outcomes

    def _note(self, paths: Sequence[bytes]) -> None:
        data = json.dumps(list(map(os.fsdecode, paths))).encode()
        os.pwrite(self._journal, data, 0)  # until it is cut, the text ends with the rest of a longer one
        os.ftruncate(self._journal, len(data))
        os.fsync(self._journal)

    def _find_names(self, chosen: Sequence[Entry]) -> None:
        """Find out which files of the layer are in the store by another name: linked (_links) or moved
        (_moved). INVARIANT: such a file is linked or renamed there, since the layer has only what the command
        saw of it. What it is moved from is removed last (_last)."""
        removed: dict[bytes, tuple[os.stat_result, bytes]] = {}
        for entry in chosen:
            is_linked = entry.stat.st_nlink > 1 and stat.S_ISREG(entry.stat.st_mode)
            if not (entry.is_gone or is_linked) or (now := status_of((self._view, entry.path))) is None:
                continue
            if entry.is_gone:
                begun_ns = self._before(entry.path, now).begun_ns
                for path, status in _files(self._view, entry.path, now):
                    if status.st_ctime_ns < begun_ns:
                        removed[path] = status, entry.path
            elif self._is_seen(entry, now):
                self._links.setdefault((entry.stat.st_dev, entry.stat.st_ino), entry.path)
        olds = ((path, status) for path, (status, _) in removed.items())
        news = ((entry.path, entry.stat) for entry in chosen if entry.stat.st_nlink == 1)
        self._moved = moved(olds, news, self._upper, self._view)
        self._last = {removed[old][1] for old in self._moved.values()}

    def _is_seen(self, entry: Entry, now: os.stat_result) -> bool:
        """Return True if a file of the layer may be the one in the store as the command saw it: a file with
        several names is copied without a mark. The mount lets nobody change a file in part who sees it in
        part."""
        if entry.is_copied or not stat.S_ISREG(now.st_mode):
            return entry.is_copied
        try:
            os.close(open_beneath(self._view, entry.path, os.O_WRONLY | os.O_NOFOLLOW | os.O_NONBLOCK))
        except OSError:
            return True
        return False

    # -- one object -------------------------------------------------------------------------------------

    def _replay(self, entry: Entry) -> bool:
        """Make one change. Return False if the store is so already. Raises OSError; ESTALE if others changed
        the object."""
        place = self._view, entry.path
        now = status_of(place)
        if entry.is_gone and now is None:
            return entry.path in self._last
        if entry.path not in self.resumed:
            self._check_unchanged(entry, now)
        if entry.is_gone and now is not None:
            for old in self._moved.values():
                if old == entry.path or old.startswith(entry.path + b"/"):
                    raise OSError(errno.EBUSY, f"{shown(os.fsdecode(old))} was to be renamed, which failed")
            return self._remove(place, now)
        if entry.is_directory:
            if len(entry.path) >= TOO_LONG:
                raise OSError(errno.ENAMETOOLONG, os.strerror(errno.ENAMETOOLONG))
            return self._make_directory(entry, place, now)
        if stat.S_ISREG(entry.stat.st_mode) or stat.S_ISLNK(entry.stat.st_mode):
            return self._put(entry, place, now)
        if now is not None and stat.S_IFMT(now.st_mode) == stat.S_IFMT(entry.stat.st_mode):
            return False
        raise OSError(errno.ENOTSUP, "fifos, sockets and devices are not committed")

    def _put(self, entry: Entry, place: Place, now: os.stat_result | None) -> bool:
        """Put a file or symlink into the store. What is there goes when the new object can take its place."""
        with parent_of(place) as (directory, name), parent_of((self._upper, entry.path)) as (source, _):
            is_file = stat.S_ISREG(entry.stat.st_mode)
            target = b"" if is_file else os.readlink(name, dir_fd=source)

            def make(at: bytes) -> None:
                if is_file:
                    self._put_file(entry, (source, name), (directory, at), None)
                else:
                    os.symlink(target, at, dir_fd=directory)

            if now is not None and stat.S_ISDIR(now.st_mode):
                self._remove(place, now)
                now = None
            if now is None:
                make(name)
                return True
            if is_file and stat.S_ISREG(now.st_mode):
                return self._put_file(entry, (source, name), (directory, name), now)
            if not is_file and stat.S_ISLNK(now.st_mode) and os.readlink(name, dir_fd=directory) == target:
                return False
            self._note_links(now)
            self._replace((directory, name), make)
        return True

    def _check_unchanged(self, entry: Entry, now: os.stat_result | None) -> None:
        if now is not None and now.st_ino in self._changed:
            return
        before, begun_ns, hidden = self._before(entry.path, now)
        if now is not None and (shown_now := set(hidden) - set(self._hidden(entry.path))):
            what = ", ".join(sorted(shown_now))
            raise OSError(errno.ESTALE, f"the command saw it without {what}, which the policy shows now")
        is_late = before is not None and before[3] >= begun_ns
        both_made_it = entry.is_directory and before is None and now is not None and stat.S_ISDIR(now.st_mode)
        if is_late or (state_of(now) != before and not both_made_it):
            raise OSError(errno.ESTALE, "others have changed it since the command began")

    def _before(self, path: bytes, now: os.stat_result | None) -> Before:
        return self._states.get(path) or Before(state_of(now), self._begun_ns)

    def _remove(self, place: Place, status: os.stat_result) -> bool:
        """Remove an object, and all below it unless others have changed something there."""
        with parent_of(place) as (directory, name):
            if not stat.S_ISDIR(status.st_mode):
                self._note_links(status)
                os.unlink(name, dir_fd=directory)
                return True
            below = list(entries(self._view, place[1]))
            self._check_below(below, self._before(place[1], status).begun_ns)
            for entry in reversed(below):
                self._note_links(entry.stat)
                with parent_of((self._view, entry.path)) as (inner, last):
                    (os.rmdir if entry.is_directory else os.unlink)(last, dir_fd=inner)
            os.rmdir(name, dir_fd=directory)
        return True

    def _check_below(self, below: Sequence[Entry], begun_ns: int) -> None:
        """Raise ESTALE if others have changed something that is to be removed with its directory."""
        for entry in below:
            is_ours = entry.is_directory or entry.stat.st_ino in self._changed
            if entry.stat.st_ctime_ns >= begun_ns and not is_ours and not self.resumed:
                told = f"others have changed {shown(os.fsdecode(entry.path))} since the command began"
                raise OSError(errno.ESTALE, told)

    def _note_links(self, status: os.stat_result) -> None:
        """Note that a change of one name of a file changes its ctime by its other names."""
        if status.st_nlink > 1 and not stat.S_ISDIR(status.st_mode):
            self._changed.add(status.st_ino)

    def _make_directory(self, entry: Entry, place: Place, now: os.stat_result | None) -> bool:
        is_change = False
        with parent_of(place) as (directory, name), parent_of((self._upper, entry.path)) as (source, _):
            if now is not None and not stat.S_ISDIR(now.st_mode):
                self._remove(place, now)
                now = None
            if now is None:
                os.mkdir(name, stat.S_IMODE(entry.stat.st_mode), dir_fd=directory)
                is_change = True
            elif entry.is_opaque:
                is_change = self._empty(entry)
            if entry.is_opaque:
                _reveal(source, name)
            return self._set_attributes(entry, (source, name), (directory, name)) or is_change

    def _empty(self, entry: Entry) -> bool:
        """Remove from a directory of the store what is not in the layer."""
        own = set(os.listdir(fd := open_beneath(self._upper, entry.path, DIRECTORY)))
        os.close(fd)
        names = os.listdir(fd := open_beneath(self._view, entry.path, DIRECTORY))
        os.close(fd)
        others = {os.path.join(entry.path, os.fsencode(name)) for name in set(names) - own}
        below = [one for one in entries(self._view, entry.path) if one.path in others]
        self._check_below(below, self._before(entry.path, None).begun_ns)
        for one in below:
            self._remove((self._view, one.path), one.stat)
        return bool(below)

    def _put_file(self, entry: Entry, source: Place, target: Place, now: os.stat_result | None) -> bool:
        """Make a file in the store like the one in the layer: a changed one in place, so that its other names
        change, too; a new one in place of one with several names under a name of its own first."""
        linked = self._links.setdefault((entry.stat.st_dev, entry.stat.st_ino), entry.path)
        if linked != entry.path:
            return self._put_name(linked, source, target, now)
        if (old := self._moved.get(entry.path)) is not None:
            with parent_of((self._view, old)) as (directory, name):
                self._note_links(os.stat(name, dir_fd=directory, follow_symlinks=False))
                os.rename(name, target[1], src_dir_fd=directory, dst_dir_fd=target[0])
            del self._moved[entry.path]
            self._set_attributes(entry, source, target)
            return True
        if now is not None and now.st_nlink > 1 and not self._is_seen(entry, now):
            self._replace(target, lambda beside: self._write(entry, source, (target[0], beside), _NEW))
            self._set_attributes(entry, source, target)
            return True
        if now is not None:
            self._note_links(now)
        is_same = now is not None and entry.stat.st_size == now.st_size and same_content(source, target)
        if not is_same:
            is_seen = now is not None and (entry.is_copied or now.st_nlink > 1)
            self._write(entry, source, target, _NEW if now is None else 0 if is_seen else os.O_TRUNC)
        return self._set_attributes(entry, source, target) or not is_same

    def _put_name(self, linked: bytes, source: Place, target: Place, now: os.stat_result | None) -> bool:
        """Give a file that is in the store by another name this name, too."""
        if not same_content((self._view, linked), source):  # others, or the policy, kept it away
            raise OSError(errno.EBUSY, f"{shown(os.fsdecode(linked))} is the same file, and is not committed")
        with parent_of((self._view, linked)) as (directory, name):
            there = os.stat(name, dir_fd=directory, follow_symlinks=False)
            if now is not None and os.path.samestat(now, there):
                return False

            def link(at: bytes) -> None:
                os.link(name, at, src_dir_fd=directory, dst_dir_fd=target[0], follow_symlinks=False)

            if now is None:
                link(target[1])
            else:
                self._replace(target, link)
        return True

    @staticmethod
    def _replace(target: Place, make: Callable[[bytes], None]) -> None:
        """Make an object under a name beside another, and rename it over the other."""
        beside = b"%s.policyfs-%x" % (target[1][:_MOST_BESIDE], os.getpid())
        try:
            make(beside)
            os.rename(beside, target[1], src_dir_fd=target[0], dst_dir_fd=target[0])
        except OSError:
            with contextlib.suppress(OSError):
                os.unlink(beside, dir_fd=target[0])
            raise

    @staticmethod
    def _write(entry: Entry, source: Place, target: Place, flags: int) -> None:
        """Write a file. flags: of open(2). Without O_TRUNC the mount refuses a file that the app sees in
        part."""
        with open(open_beneath(*source, os.O_RDONLY | os.O_NOFOLLOW), "rb", buffering=0) as from_:
            if flags != _NEW and _free_bytes(target[0]) < entry.stat.st_blocks * _SECTOR:
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))  # before the file is emptied
            flags |= os.O_WRONLY | os.O_NOFOLLOW | os.O_CLOEXEC
            to = os.open(target[1], flags, stat.S_IMODE(entry.stat.st_mode), dir_fd=target[0])
            try:
                os.ftruncate(to, 0)
                _copy(from_.fileno(), to, entry.stat.st_size)
            finally:
                os.close(to)  # a check of content may refuse it only now

    def _set_attributes(self, entry: Entry, source: Place, target: Place) -> bool:
        """Give an object the mode, extended attributes and mtime of the one in the layer. Times of a new or
        changed file, which a policy may refuse, are not a change of their own. Return True for a change."""
        fd = open_beneath(*target, os.O_PATH | os.O_NOFOLLOW)
        path, is_change = f"/proc/self/fd/{fd}", False
        try:
            now = os.fstat(fd)
            wanted, has = xattrs(source), xattrs(target)
            for name in has.keys() - wanted.keys():
                os.removexattr(path, name)
                is_change = True
            for name, value in wanted.items():
                if has.get(name) != value:
                    os.setxattr(path, name, value)
                    is_change = True
            if stat.S_IMODE(now.st_mode) != stat.S_IMODE(entry.stat.st_mode):
                os.chmod(path, stat.S_IMODE(entry.stat.st_mode))
                is_change = True
            if not entry.is_directory and now.st_mtime_ns != entry.stat.st_mtime_ns:
                os.utime(path, ns=(entry.stat.st_atime_ns, entry.stat.st_mtime_ns))
                is_change = True
        finally:
            os.close(fd)
        return is_change

    def _finish_directory(self, entry: Entry) -> None:
        """Take a directory out of the layer if all that was in it is in the store, and set its mtime
        there."""
        with parent_of((self._upper, entry.path)) as (directory, name):
            try:
                os.rmdir(name, dir_fd=directory)
            except OSError as error:
                if error.errno != errno.ENOTEMPTY:
                    raise
                return
        with contextlib.suppress(OSError), parent_of((self._view, entry.path)) as (directory, name):
            times = entry.stat.st_atime_ns, entry.stat.st_mtime_ns
            os.utime(name, ns=times, dir_fd=directory, follow_symlinks=False)


def read_journal(journal: int) -> list[bytes]:
    """Return the paths that an interrupted commit was changing. A text that was cut off was not acted on."""
    os.lseek(journal, 0, os.SEEK_SET)
    with open(os.dup(journal), encoding="ascii") as text, contextlib.suppress(ValueError):
        return list(map(os.fsencode, json.loads(text.read())))
    return []


def _files(view: int, path: bytes, status: os.stat_result) -> Iterator[Found]:
    """Yield the regular files at or below a path of a view."""
    if stat.S_ISDIR(status.st_mode):
        yield from ((one.path, one.stat) for one in entries(view, path) if stat.S_ISREG(one.stat.st_mode))
    elif stat.S_ISREG(status.st_mode):
        yield path, status


def _copy(source: int, target: int, size: int) -> None:
    """Copy a file, and leave holes where it has holes. Raises OSError."""
    at = 0
    while at < size:
        begin = data_from(source, at, size)
        if begin >= size:
            break  # only a hole is left
        at = os.lseek(source, begin, os.SEEK_HOLE)
        while begin < at:
            piece = os.pread(source, min(_PIECE, at - begin), begin)
            if not piece:
                raise OSError(errno.EIO, "the file in the layer was cut")
            left = memoryview(piece)
            while left:
                done = os.pwrite(target, left, begin)
                left, begin = left[done:], begin + done
    os.ftruncate(target, size)


def _reveal(directory: int, name: bytes) -> None:
    """Make a directory of a layer opaque no more: only the directories in it are. Raises OSError."""
    path = f"/proc/self/fd/{directory}/{os.fsdecode(name)}"
    with os.scandir(path) as found:
        for one in found:
            if one.is_dir(follow_symlinks=False):
                os.setxattr(one.path, OPAQUE, b"y")
    try:
        os.removexattr(path, OPAQUE)
    except OSError as error:
        if error.errno != errno.ENODATA:  # its mark was only that of a directory above it
            raise


def _free_bytes(directory: int) -> int:
    found = os.fstatvfs(directory)
    return found.f_bavail * found.f_frsize
