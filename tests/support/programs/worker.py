"""One process that works in a directory of its own and knows exactly what must be in it.

Every operation is done twice: on the file system and on a model of it in memory. What can be
read is compared at once; the model is returned at the end, for comparison with the store.
"""

from __future__ import annotations

import errno
import mmap
import os
import random
from collections import Counter, deque
from collections.abc import Callable
from typing import Final

from tests.support.models.model import (
    RENAME_EXCHANGE,
    RENAME_NOREPLACE,
    UMASK,
    Directory,
    File,
    Held,
    Model,
    Symlink,
    check_bytes,
    check_stat,
    fails_with,
    rename2,
)

MAX_BYTES: Final = 150_000
MAX_NAMES: Final = 60
MAX_HELD: Final = 4


class Worker:
    """Does random operations below *top*, an existing empty directory.

    done: how often each operation ran. trace: the last operations, for a failure's message.
    """

    def __init__(self, top: bytes, seed: int) -> None:
        os.umask(UMASK)
        self.top = top
        self.chance = random.Random(seed)
        self.model: Model = {}
        self.held: list[Held] = []
        self.done: Counter[str] = Counter()
        self.trace: deque[str] = deque(maxlen=25)
        self.operations: list[Callable[[], None]] = [
            self.create, self.create, self.create, self.rewrite, self.append, self.pwrite, self.pwrite,
            self.truncate, self.rename, self.rename, self.exchange, self.link, self.unlink, self.mkdir,
            self.rmdir, self.list, self.stat, self.stat, self.read, self.read, self.map_read,
            self.map_write, self.chmod, self.utimens, self.xattr, self.symlink, self.fsync, self.hold,
            self.hold, self.use_held, self.use_held, self.use_held, self.let_go, self.impossible,
        ]  # fmt: skip

    def step(self) -> None:
        """One random operation."""
        operation = self.chance.choice(self.operations)
        self.note(operation.__name__)
        self.done[operation.__name__] += 1
        operation()

    def finish(self) -> Model:
        """Close what is open; what must be there now."""
        for held in self.held:
            os.close(held.fd)
        self.held.clear()
        return self.model

    def note(self, *what: object) -> None:
        """Remember for a failure's message."""
        self.trace.append(" ".join(map(str, what)))

    # -- choosing ---------------------------------------------------------------------------------

    def path(self, name: bytes) -> bytes:
        """The real path of a name of the model."""
        return self.top + b"/" + name if name else self.top

    def pick(self, *kinds: type) -> bytes | None:
        """Any name of one of these kinds."""
        names = [name for name, node in self.model.items() if isinstance(node, kinds)]
        chosen = self.chance.choice(names) if names else None
        self.note("  at", chosen)
        return chosen

    def pick_file(self) -> tuple[bytes, File] | None:
        """Any name of a regular file, and the file."""
        name = self.pick(File)
        node = self.model[name] if name is not None else None
        return (name, node) if name is not None and isinstance(node, File) else None

    def new_name(self) -> bytes | None:
        """A free name in any directory; None if there are many already."""
        if len(self.model) >= MAX_NAMES:
            return None
        above = self.chance.choice(
            [b"", *(n for n, node in self.model.items() if isinstance(node, Directory))]
        )
        if above.count(b"/") > 4:
            above = b""
        name = (above + b"/" if above else b"") + b"n%d \xff" % self.chance.randrange(1 << 30)
        self.note("  new", name)
        return name

    def some_bytes(self) -> bytes:
        """A few bytes, or many."""
        return self.chance.randbytes(self.chance.choice((1, 100, 4096, 5000, 40_000)))

    def below(self, directory: bytes) -> list[bytes]:
        """Every name below a directory."""
        return [name for name in self.model if name.startswith(directory + b"/")]

    # -- bytes ------------------------------------------------------------------------------------

    def create(self) -> None:
        """A new file, written at once."""
        if (name := self.new_name()) is None:
            self.unlink()
            return
        data, mode = self.some_bytes(), self.chance.choice((0o644, 0o600, 0o666, 0o777))
        fd = os.open(self.path(name), os.O_RDWR | os.O_CREAT | os.O_EXCL, mode)
        self.model[name] = file = File(mode=mode & ~UMASK)
        try:
            assert os.write(fd, data) == len(data)
            file.write(0, data)
            assert os.pread(fd, len(data) + 1, 0) == data
        finally:
            os.close(fd)

    def rewrite(self) -> None:
        """open(O_TRUNC) and new bytes."""
        if (found := self.pick_file()) is None:
            return
        name, file = found
        data = self.some_bytes()
        with open(self.path(name), "wb", buffering=0) as opened:
            file.truncate(0)
            assert opened.write(data) == len(data)
        file.write(0, data)

    def append(self) -> None:
        """O_APPEND, whatever the offset says."""
        if (found := self.pick_file()) is None or len(found[1].data) > MAX_BYTES:
            return
        name, file = found
        fd = os.open(self.path(name), os.O_WRONLY | os.O_APPEND)
        try:
            for _ in range(2):
                data = self.chance.randbytes(700)
                os.lseek(fd, 0, os.SEEK_SET)
                assert os.write(fd, data) == len(data)
                file.write(len(file.data), data)
        finally:
            os.close(fd)

    def pwrite(self) -> None:
        """Bytes somewhere, behind the end too."""
        if (found := self.pick_file()) is None:
            return
        name, file = found
        data, offset = self.some_bytes(), self.chance.randrange(MAX_BYTES)
        fd = os.open(self.path(name), os.O_RDWR)
        try:
            assert os.pwrite(fd, data, offset) == len(data)
            file.write(offset, data)
            assert os.fstat(fd).st_size == len(file.data)
        finally:
            os.close(fd)

    def truncate(self) -> None:
        """truncate(2) by path."""
        if (found := self.pick_file()) is not None:
            size = self.chance.choice((0, 1, len(found[1].data) // 2, len(found[1].data) + 5000))
            os.truncate(self.path(found[0]), min(size, MAX_BYTES))
            found[1].truncate(min(size, MAX_BYTES))

    def read(self) -> None:
        """The whole file by read(2)."""
        if (found := self.pick_file()) is not None:
            with open(self.path(found[0]), "rb", buffering=0) as opened:
                check_bytes(opened.read(), found[1])

    def map_read(self) -> None:
        """The whole file by a mapping."""
        if (found := self.pick_file()) is None or not found[1].data:
            return
        with (
            open(self.path(found[0]), "rb") as opened,
            mmap.mmap(opened.fileno(), 0, prot=mmap.PROT_READ) as mapped,
        ):
            check_bytes(mapped[:], found[1])

    def map_write(self) -> None:
        """Bytes in the middle by a shared mapping, read back by pread(2)."""
        if (found := self.pick_file()) is None or len(found[1].data) < 100:
            return
        name, file = found
        data = self.chance.randbytes(100)
        offset = self.chance.randrange(len(file.data) - 99)
        with open(self.path(name), "r+b") as opened, mmap.mmap(opened.fileno(), 0) as mapped:
            mapped[offset : offset + 100] = data
            file.write(offset, data)
            assert os.pread(opened.fileno(), 100, offset) == data

    # -- names ------------------------------------------------------------------------------------

    def rename(self) -> None:
        """To a new name or over another, of any kind."""
        old, new = self.pick(File, Directory, Symlink), self.pick(File, Symlink)
        if self.chance.random() < 0.6:
            new = self.new_name()
        if old is None or new is None or old == new or new.startswith(old + b"/"):
            return
        node, there = self.model[old], self.model.get(new)
        if isinstance(node, Directory) and there is not None:
            with fails_with(errno.ENOTDIR):
                os.rename(self.path(old), self.path(new))
        elif there is not None and self.chance.random() < 0.2:
            with fails_with(errno.EEXIST):
                rename2(self.path(old), self.path(new), RENAME_NOREPLACE)
        else:
            os.rename(self.path(old), self.path(new))
            if there is node:  # two names of one file: rename does nothing
                return
            self.forget(new)
            self.moved({old: new})

    def exchange(self) -> None:
        """Two names change places."""
        one, other = self.pick(File, Directory, Symlink), self.pick(File, Directory, Symlink)
        if one is None or other is None or one == other or self.nested(one, other):
            return
        rename2(self.path(one), self.path(other), RENAME_EXCHANGE)
        self.moved({one: other, other: one})

    @staticmethod
    def nested(one: bytes, other: bytes) -> bool:
        """Is one of them below the other."""
        return one.startswith(other + b"/") or other.startswith(one + b"/")

    def moved(self, names: dict[bytes, bytes]) -> None:
        """Rewrite the model's paths."""
        fresh: Model = {}
        for name, node in self.model.items():
            for old, new in names.items():
                if name == old or name.startswith(old + b"/"):
                    name = new + name[len(old) :]
                    break
            fresh[name] = node
        self.model = fresh

    def forget(self, name: bytes) -> None:
        """A name is gone from the model."""
        node = self.model.pop(name, None)
        if isinstance(node, File):
            node.links -= 1

    def link(self) -> None:
        """One more name."""
        found, name = self.pick_file(), self.new_name()
        if found is not None and name is not None:
            os.link(self.path(found[0]), self.path(name))
            found[1].links += 1
            self.model[name] = found[1]

    def unlink(self) -> None:
        """One name less."""
        if (name := self.pick(File, Symlink)) is not None:
            os.unlink(self.path(name))
            self.forget(name)

    def mkdir(self) -> None:
        """A directory."""
        if (name := self.new_name()) is not None:
            os.mkdir(self.path(name), 0o777)
            self.model[name] = Directory(mode=0o777 & ~UMASK)

    def rmdir(self) -> None:
        """A directory goes, or is not empty."""
        if (name := self.pick(Directory)) is None:
            return
        if self.below(name):
            with fails_with(errno.ENOTEMPTY):
                os.rmdir(self.path(name))
        else:
            os.rmdir(self.path(name))
            del self.model[name]

    def symlink(self) -> None:
        """A symlink; the target is data."""
        if (name := self.new_name()) is not None:
            target = b"x" * self.chance.randrange(1, 300)
            os.symlink(target, self.path(name))
            self.model[name] = Symlink(target)
            assert os.readlink(self.path(name)) == target

    def list(self) -> None:
        """All names of a directory, and their types."""
        directory = self.chance.choice([b"", self.pick(Directory) or b""])
        prefix = directory + b"/" if directory else b""
        expected = {
            name[len(prefix) :]: type(node)
            for name, node in self.model.items()
            if name.startswith(prefix) and b"/" not in name[len(prefix) :]
        }
        with os.scandir(self.path(directory)) as entries:
            found = {
                entry.name: Symlink if entry.is_symlink() else Directory if entry.is_dir() else File
                for entry in entries
            }
        assert found == expected, f"listed {found.keys() ^ expected.keys()} differ"

    # -- attributes -------------------------------------------------------------------------------

    def stat(self) -> None:
        """Attributes by path."""
        if (name := self.pick(File, Directory, Symlink)) is not None:
            check_stat(os.lstat(self.path(name)), self.model[name])

    def chmod(self) -> None:
        """Permission bits, which the policy does not go by."""
        if (name := self.pick(File, Directory)) is not None:
            node = self.model[name]
            assert not isinstance(node, Symlink)
            node.mode = self.chance.choice((0o700, 0o755, 0o750)) if isinstance(node, Directory) else 0
            if isinstance(node, File):
                node.mode = self.chance.choice((0o600, 0o644, 0o640, 0o777))
            os.chmod(self.path(name), node.mode)
            check_stat(os.stat(self.path(name)), node)

    def utimens(self) -> None:
        """Times in ns."""
        if (found := self.pick_file()) is not None:
            at_ns = self.chance.randrange(10**18, 2 * 10**18)
            os.utime(self.path(found[0]), ns=(at_ns - 5, at_ns))
            found[1].mtime_ns = at_ns
            check_stat(os.stat(self.path(found[0])), found[1])

    def xattr(self) -> None:
        """Set, read, list, remove."""
        if (found := self.pick_file()) is None:
            return
        path, file = self.path(found[0]), found[1]
        name = f"user.x{self.chance.randrange(3)}"
        if name in file.xattrs and self.chance.random() < 0.5:
            os.removexattr(path, name)
            del file.xattrs[name]
            with fails_with(errno.ENODATA):
                os.getxattr(path, name)
        else:
            file.xattrs[name] = self.chance.randbytes(self.chance.randrange(1, 60))
            os.setxattr(path, name, file.xattrs[name])
            assert os.getxattr(path, name) == file.xattrs[name]
        assert sorted(os.listxattr(path)) == sorted(file.xattrs)

    def fsync(self) -> None:
        """Of a file, or of a directory."""
        name = self.pick(File, Directory) if self.chance.random() < 0.2 else None
        if name is not None:
            fd = os.open(self.path(name), os.O_RDONLY)
            try:
                os.fsync(fd)
            finally:
                os.close(fd)

    def impossible(self) -> None:
        """What must fail, with the errno that it has natively."""
        found = self.pick_file()
        missing = self.path(b"no such name")
        for attempt in (os.stat, os.unlink, os.rmdir, os.listdir):
            with fails_with(errno.ENOENT):
                attempt(missing)
        if found is not None:
            path = self.path(found[0])
            with fails_with(errno.EEXIST):
                os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY))
            with fails_with(errno.EEXIST):
                os.mkdir(path)
            with fails_with(errno.ENOTDIR):
                os.listdir(path)
            with fails_with(errno.EEXIST):
                os.symlink(b"x", path)

    # -- files that stay open -----------------------------------------------------------------------

    def hold(self) -> None:
        """Open a file and keep it open, whatever becomes of its names."""
        if (found := self.pick_file()) is None or len(self.held) >= MAX_HELD:
            return
        flags = self.chance.choice((os.O_RDONLY, os.O_RDWR, os.O_RDWR | os.O_APPEND))
        self.held.append(Held(os.open(self.path(found[0]), flags), found[1], flags))

    def use_held(self) -> None:
        """Read, stat, write, truncate, sync through an open descriptor."""
        if not self.held:
            return
        held = self.chance.choice(self.held)
        file = held.file
        self.note("  held, links", file.links, "flags", held.flags, "size", len(file.data))
        check_stat(os.fstat(held.fd), file)
        if held.flags & os.O_RDWR:
            data = self.chance.randbytes(900)
            offset = len(file.data) if held.flags & os.O_APPEND else self.chance.randrange(MAX_BYTES)
            if offset <= 2 * MAX_BYTES:
                assert os.pwrite(held.fd, data, offset) == len(data)
                file.write(offset, data)
            if self.chance.random() < 0.3:
                size = self.chance.randrange(len(file.data) + 1)
                os.ftruncate(held.fd, size)
                file.truncate(size)
            if self.chance.random() < 0.2:
                os.fchmod(held.fd, 0o640)
                file.mode = 0o640
        check_bytes(os.pread(held.fd, len(file.data) + 1, 0), file)
        check_stat(os.fstat(held.fd), file)

    def let_go(self) -> None:
        """Close one of them."""
        if self.held:
            os.close(self.held.pop(self.chance.randrange(len(self.held))).fd)
