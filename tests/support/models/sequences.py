"""Random sequences of calls by several uids through several mounts: what is called, and by whom.

A sequence is plain data, so that it can be cut down and replayed. Handles are slots: what is done
with an empty one is skipped.
"""

from __future__ import annotations

import contextlib
import errno
import itertools
import os
import random
import stat
from collections.abc import Callable
from typing import Any, Final, NamedTuple

from tests.support.models.model import rename2
from tests.support.samples import jpegs

NAMES: Final = ("one", "two", "a", "b")
"""All that names are made of; the first two are also names of apps."""
SLOTS: Final = 4
PLACE: Final = jpegs.with_segments(jpegs.plain(), jpegs.exif_segment(jpegs.exif()))
PLAIN: Final = jpegs.with_segments(jpegs.plain(), jpegs.exif_segment(jpegs.exif(place=False)))
TEXT: Final = b"words in lines, and nothing else in them\n" * 18
JUNK: Final = bytes(random.Random(1).choices(range(128, 255), k=700))
DATA: Final = {"place": PLACE, "plain": PLAIN, "text": TEXT, "junk": JUNK, "bit": b"some bytes"}
SECRET: Final = jpegs.pack("II", *jpegs.LATITUDE)

_R, _W, _RW = os.O_RDONLY, os.O_WRONLY, os.O_RDWR
_C, _T, _A, _X = os.O_CREAT, os.O_TRUNC, os.O_APPEND, os.O_EXCL
FLAGS: Final = (
    _R, _R, _R, _RW, _W | _C, _RW | _C, _W | _T, _RW | _C | _T, _RW | _C | _X, _W | _A | _C, _R | _T,
)  # fmt: skip


class Step(NamedTuple):
    """One call: by which uid (an index), through which mount (an index), what, with what."""

    who: int
    mount: int
    call: str
    arguments: tuple[Any, ...]

    def __str__(self) -> str:
        words = ", ".join(repr(a if not isinstance(a, bytes) else a.decode()) for a in self.arguments)
        return f"uid {self.who} through {self.mount}: {self.call}({words})"


# ---------------------------------------------------------------- making sequences


class Chance(random.Random):
    """Choices for one sequence, mostly of what may be there. paths: what is there at first, or may have
    been made since; opened: uid, mount and slot of earlier opens."""

    def __init__(self, seed: str) -> None:
        super().__init__(seed)
        self.paths = [b"a", b"one/a", b"two/b"]
        self.directories = [b"", b"one", b"two"]
        self.opened: list[tuple[int, int, int]] = []


def a_new_path(chance: Chance) -> bytes:
    name = chance.choice(NAMES[2:] if chance.random() < 0.8 else NAMES).encode()
    directory = chance.choice(chance.directories)
    return directory + b"/" + name if directory.count(b"/") < 2 and directory else name


def a_path(chance: Chance) -> bytes:
    return chance.choice(chance.paths) if chance.random() < 0.75 else a_new_path(chance)


def a_directory(chance: Chance) -> bytes:
    return chance.choice([*chance.directories, b"a"] if chance.random() < 0.9 else [a_path(chance)])


MAKERS: Final[dict[str, tuple[int, Callable[[Chance], tuple[Any, ...]]]]] = {
    "open": (12, lambda c: (c.randrange(SLOTS), a_path(c), c.choice(FLAGS))),
    "put": (8, lambda c: (a_path(c), c.choice(list(DATA)[:4]))),
    "content": (7, lambda c: (a_path(c),)),
    "pread": (9, lambda c: (c.randrange(SLOTS), c.choice((0, 0, 100, 3000)), c.choice((10, 9000)))),
    "pwrite": (8, lambda c: (c.randrange(SLOTS), c.choice((0, 0, 5, 800, 3000)), c.choice(list(DATA)))),
    "ftruncate": (3, lambda c: (c.randrange(SLOTS), c.choice((0, 0, 10, 3000)))),
    "fstat": (2, lambda c: (c.randrange(SLOTS),)),
    "close": (6, lambda c: (c.randrange(SLOTS),)),
    "truncate": (3, lambda c: (a_path(c), c.choice((0, 0, 10, 3000)))),
    "unlink": (5, lambda c: (a_path(c),)),
    "rmdir": (2, lambda c: (a_directory(c),)),
    "mkdir": (5, lambda c: (a_new_path(c),)),
    "rename": (8, lambda c: (a_path(c), c.choice((a_path, a_new_path))(c), c.choice((0, 0, 0, 1, 2)))),
    "move": (3, lambda c: (a_directory(c), a_directory(c), c.choice((0, 0, 1, 2)))),
    "link": (5, lambda c: (a_path(c), a_new_path(c))),
    "symlink": (2, lambda c: (c.choice((b"a", b"nowhere", b"b")), a_new_path(c))),
    "readlink": (1, lambda c: (a_path(c),)),
    "stat": (4, lambda c: (a_path(c),)),
    "lstat": (4, lambda c: (a_path(c),)),
    "access": (3, lambda c: (a_path(c), c.choice((os.F_OK, os.R_OK, os.W_OK, os.X_OK)))),
    "list": (7, lambda c: (a_directory(c),)),
    "chmod": (3, lambda c: (a_path(c), c.choice((0o600, 0o644, 0o755)))),
    "utime": (2, lambda c: (a_path(c), c.randrange(10**18))),
    "setxattr": (2, lambda c: (a_path(c), c.choice((b"1", b"22")))),
    "getxattr": (2, lambda c: (a_path(c),)),
    "listxattr": (1, lambda c: (a_path(c),)),
}
"""Call -> (how often, its arguments)."""


ON_HANDLES: Final = frozenset({"pread", "pwrite", "ftruncate", "fstat", "close"})


def sequence(seed: str, length: int, through: tuple[tuple[int, int], ...]) -> list[Step]:
    """A random sequence. through: the pairs of uid and mount there are (indices)."""
    chance = Chance(seed)
    calls = chance.choices(list(MAKERS), [weight for weight, _ in MAKERS.values()], k=length)
    return [_step(chance, call, through) for call in calls]


def _step(chance: Chance, call: str, through: tuple[tuple[int, int], ...]) -> Step:
    if call in ON_HANDLES and not chance.opened:
        call = "open"
    who, mount = chance.choice(through)
    arguments = MAKERS[call][1](chance)
    if call in ON_HANDLES:
        who, mount, slot = chance.choice(chance.opened[-3:])
        arguments = (slot, *arguments[1:])
    elif call == "open":
        chance.opened.append((who, mount, arguments[0]))
        chance.paths.append(arguments[1])
    elif call in {"rename", "link", "symlink"}:
        chance.paths.append(arguments[1])
    elif call == "put":
        chance.paths.append(arguments[0])
    elif call == "mkdir":
        chance.directories.append(arguments[0])
    return Step(who, mount, call, arguments)


# ---------------------------------------------------------------- making calls


class Hands:
    """Makes the calls of one process in one directory. slots: its open descriptors."""

    def __init__(self) -> None:
        self.slots: dict[int, int] = {}
        self.base = b""

    def make(self, base: bytes, call: str, arguments: tuple[Any, ...]) -> Any:
        """Make a call below *base*. Raises OSError."""
        self.base = base
        return getattr(self, "do_" + call)(*arguments)

    def at(self, path: bytes) -> bytes:
        return self.base + b"/" + path if path else self.base

    def do_open(self, slot: int, path: bytes, flags: int) -> None:
        self.slots[slot] = os.open(self.at(path), flags, 0o644)

    def do_put(self, path: bytes, data: str) -> str:
        """Write a whole file, as most programs do; which step failed is the answer."""
        try:
            fd = os.open(self.at(path), _W | _C | _T, 0o644)
        except OSError as error:
            return f"open {errno.errorcode[error.errno or 0]}"
        said = "fine"
        try:
            os.write(fd, DATA[data])
        except OSError as error:
            said = f"write {errno.errorcode[error.errno or 0]}"
        try:
            os.close(fd)
        except OSError as error:
            said += f" close {errno.errorcode[error.errno or 0]}"
        return said

    def do_content(self, path: bytes) -> bytes:
        fd = os.open(self.at(path), _R)
        try:
            return b"".join(iter(lambda: os.read(fd, 1 << 16), b""))
        finally:
            os.close(fd)

    def do_pread(self, slot: int, offset: int, size: int) -> bytes:
        return os.pread(self.slots[slot], size, offset)

    def do_pwrite(self, slot: int, offset: int, data: str) -> int:
        return os.pwrite(self.slots[slot], DATA[data], offset)

    def do_ftruncate(self, slot: int, size: int) -> None:
        os.ftruncate(self.slots[slot], size)

    def do_fstat(self, slot: int) -> tuple[int, ...]:
        return marks(os.fstat(self.slots[slot]))

    def do_close(self, slot: int) -> None:
        os.close(self.slots.pop(slot))

    def do_truncate(self, path: bytes, size: int) -> None:
        os.truncate(self.at(path), size)

    def do_unlink(self, path: bytes) -> None:
        os.unlink(self.at(path))

    def do_rmdir(self, path: bytes) -> None:
        os.rmdir(self.at(path))

    def do_mkdir(self, path: bytes) -> None:
        os.mkdir(self.at(path), 0o755)

    def do_rename(self, old: bytes, new: bytes, flags: int) -> None:
        rename2(self.at(old), self.at(new), flags)

    do_move = do_rename

    def do_link(self, old: bytes, new: bytes) -> None:
        os.link(self.at(old), self.at(new), follow_symlinks=False)

    def do_symlink(self, target: bytes, path: bytes) -> None:
        os.symlink(target, self.at(path))

    def do_readlink(self, path: bytes) -> bytes:
        return os.readlink(self.at(path))

    def do_stat(self, path: bytes) -> tuple[int, ...]:
        return marks(os.stat(self.at(path)))

    def do_lstat(self, path: bytes) -> tuple[int, ...]:
        return marks(os.lstat(self.at(path)))

    def do_access(self, path: bytes, mode: int) -> bool:
        return os.access(self.at(path), mode)

    def do_list(self, path: bytes) -> list[bytes]:
        return sorted(os.listdir(self.at(path)))

    def do_chmod(self, path: bytes, mode: int) -> None:
        os.chmod(self.at(path), mode)

    def do_utime(self, path: bytes, mtime_ns: int) -> int:
        os.utime(self.at(path), ns=(1, mtime_ns))
        return 0

    def do_setxattr(self, path: bytes, value: bytes) -> None:
        os.setxattr(self.at(path), "user.x", value)

    def do_getxattr(self, path: bytes) -> bytes:
        return os.getxattr(self.at(path), "user.x")

    def do_listxattr(self, path: bytes) -> list[str]:
        return sorted(name for name in os.listxattr(self.at(path)) if name.startswith("user."))

    def drop(self) -> None:
        """Close everything."""
        for fd in self.slots.values():
            with contextlib.suppress(OSError):
                os.close(fd)
        self.slots.clear()


def marks(status: os.stat_result) -> tuple[int, ...]:
    """Mode, links, size of a file, owner."""
    size = status.st_size if stat.S_ISREG(status.st_mode) else 0
    return (status.st_mode, status.st_nlink, size, status.st_uid)


def serve(channel: Any) -> None:
    """The life of a uid's process: make the calls that are asked for, answer with what came of them."""
    os.umask(0)
    hands: dict[int, Hands] = {}
    while (asked := channel.recv()) is not None:
        mount, base, call, arguments = asked
        mine = hands.setdefault(mount, Hands())
        if call == "drop":
            mine.drop()
            channel.send(("ok", None))
            continue
        try:
            channel.send(("ok", mine.make(base, call, arguments)))
        except OSError as error:
            channel.send(("error", error.errno))


def shorter(steps: list[Step], fails: Callable[[list[Step]], bool], tries: int) -> list[Step]:
    """The steps without those that a failure does not need (as far as *tries* replays show)."""
    left = itertools.count()
    size = len(steps) // 2
    while size:
        at = 0
        while at < len(steps):
            if next(left) >= tries:
                return steps
            fewer = steps[:at] + steps[at + size :]
            if fails(fewer):
                steps = fewer
            else:
                at += size
        size //= 2
    return steps
