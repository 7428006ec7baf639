"""Random reads, writes, maps, truncations and holes on one file, every byte compared with a model.

The file is driven through several mounts of one store by turns, or through all of them at the same
time. What a mount answers is compared at once; the whole file now and then, and natively at the
end. Every choice comes from the seed, so that a run is found again.
"""

from __future__ import annotations

import ctypes
import errno
import mmap
import os
import random
from collections import Counter, deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final

from tests.support.machine.processes import wait_for

KEEP_SIZE, PUNCH_HOLE, ZERO_RANGE = 1, 2, 16
COLLAPSE_RANGE, INSERT_RANGE = 8, 32
FALLOCATE_MODES: Final = {
    "allocate": 0,
    "allocate beyond": KEEP_SIZE,
    "punch": PUNCH_HOLE | KEEP_SIZE,
    "zero": ZERO_RANGE,
    "zero within": ZERO_RANGE | KEEP_SIZE,
}
MOST: Final = 192 * 1024
"""How large the file grows (bytes)."""

_PAGE: Final = mmap.PAGESIZE
_TRACE: Final = 40
_WHOLE_EVERY: Final = 250

_libc = ctypes.CDLL(None, use_errno=True)


def fallocate(fd: int, mode: int, offset: int, length: int) -> None:
    """fallocate(2). Raises OSError."""
    if _libc.fallocate(fd, mode, ctypes.c_int64(offset), ctypes.c_int64(length)) != 0:
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code))


@dataclass(frozen=True, slots=True)
class Plan:
    """What one run does.

    paths: the file, through each mount. together: through all at the same time, else by turns, a
    mount being left (everything closed) before the next is taken. head: bytes that the file has to
    begin with from its first write on (its kind); a write that spoils them must be EPERM.
    """

    paths: tuple[bytes, ...]
    together: bool
    head: bytes
    operations: int
    seed: int


@dataclass(slots=True)
class Session:
    """The file as one mount has it open. exact: fstat's size must be the model's."""

    path: bytes
    fds: list[tuple[int, int]] = field(default_factory=list)
    area: mmap.mmap | None = None
    exact: bool = True


class Differs(AssertionError):
    """The mount answered something else than the model."""


class Exerciser:
    """One run of a plan."""

    def __init__(self, plan: Plan) -> None:
        self.plan = plan
        self.chance = random.Random(plan.seed)
        self.data = bytearray()
        self.done: Counter[str] = Counter()
        self.trace: deque[str] = deque(maxlen=_TRACE)
        self.sessions = [Session(path) for path in plan.paths]
        self.at = self.sessions[0]
        self.operations: tuple[Callable[[], None], ...] = (
            *(self.read,) * 6, *(self.write,) * 5, *(self.append,) * 2, *(self.map_read,) * 3,
            *(self.map_write,) * 3, *(self.truncate,) * 2, *(self.fallocate,) * 3, *(self.reopen,) * 2,
            self.copy_range, self.shift, self.holes, self.sync, self.size, self.empty, self.spoil, self.turn,
        )  # fmt: skip

    def run(self) -> Counter[str]:
        """All operations; returns how often each was done. Raises Differs, with the last steps."""
        try:
            self._fill()
            for number in range(self.plan.operations):
                if self.plan.together:
                    self.at = self.chance.choice(self.sessions)
                operation = self.chance.choice(self.operations)
                self.done[operation.__name__] += 1
                operation()
                if number % _WHOLE_EVERY == 0:
                    self.whole()
            for session in self.sessions:
                self._leave(session)
        except BaseException as error:
            error.add_note(f"seed {self.plan.seed}, the last steps:\n" + "\n".join(self.trace))
            raise
        return self.done

    # ------------------------------------------------------------ parts

    def _say(self, text: str) -> None:
        self.trace.append(f"{self.sessions.index(self.at)}: {text}")

    def _open(self, flags: int) -> int:
        fd = os.open(self.at.path, flags)
        self.at.fds.append((fd, flags))
        return fd

    def _fd(self, *, writing: bool) -> int:
        """An open descriptor for that, not of O_APPEND."""
        fits = [
            fd
            for fd, flags in self.at.fds
            if not flags & os.O_APPEND and (not writing or flags & os.O_ACCMODE == os.O_RDWR)
        ]
        return self.chance.choice(fits) if fits else self._open(os.O_RDWR)

    def _leave(self, session: Session) -> None:
        if session.area is not None:
            session.area.close()
            session.area = None
        for fd, _ in session.fds:
            os.close(fd)
        session.fds.clear()
        session.exact = False

    def _changed_size(self) -> None:
        """The other mounts may know the old size for a while."""
        for session in self.sessions:
            session.exact = session is self.at

    def _compare(self, found: bytes, offset: int, length: int) -> None:
        wanted = bytes(self.data[offset : offset + length])
        if found == wanted:
            return
        wrong = [i for i, (a, b) in enumerate(zip(found, wanted, strict=False)) if a != b]
        where = f"{len(wrong)} bytes differ, the first at {offset + wrong[0]}" if wrong else "all alike"
        raise Differs(
            f"{len(found)} bytes read of {len(wanted)} at {offset} (size {len(self.data)}): {where}"
        )

    def _span(self, longest: int = 16_000) -> tuple[int, int]:
        """An offset and a length, behind the head, within what the file may grow to; often at pages."""
        low = len(self.plan.head)
        offset = self.chance.randrange(low, MOST)
        length = self.chance.choice((1, self.chance.randrange(1, 600), self.chance.randrange(1, longest)))
        if self.chance.random() < 0.3:
            offset = max(low, offset // _PAGE * _PAGE + self.chance.choice((-1, 0, 0, 1)))
        return offset, min(length, MOST - offset)

    def _put(self, offset: int, data: bytes) -> None:
        if len(self.data) < offset:
            self.data.extend(bytes(offset - len(self.data)))
        if offset + len(data) > len(self.data):
            self._changed_size()
        self.data[offset : offset + len(data)] = data

    def _resize(self, size: int) -> None:
        del self.data[size:]
        self.data.extend(bytes(size - len(self.data)))
        self._changed_size()

    def _fill(self) -> None:
        """The head, where there is none yet: nothing else may come first."""
        if self.plan.head and not self.data:
            fd = self._fd(writing=True)
            assert os.pwrite(fd, self.plan.head, 0) == len(self.plan.head)
            self._say("head")
            self._put(0, self.plan.head)

    # ------------------------------------------------------------ operations

    def read(self) -> None:
        """pread, also behind the end."""
        offset, length = self.chance.randrange(MOST), self.chance.choice((1, 700, 5000, 40_000))
        fd = self._fd(writing=False)
        self._say(f"pread({length}, {offset})")
        self._compare(os.pread(fd, length, offset), offset, length)

    def write(self) -> None:
        """pwrite, also behind the end."""
        offset, length = self._span()
        data = self.chance.randbytes(length)
        fd = self._fd(writing=True)
        self._say(f"pwrite({length}, {offset}), size was {len(self.data)}")
        assert os.pwrite(fd, data, offset) == length
        self._put(offset, data)

    def append(self) -> None:
        """write with O_APPEND."""
        data = self.chance.randbytes(self.chance.randrange(1, 3000))
        if len(self.data) + len(data) > MOST:
            return
        fds = [fd for fd, flags in self.at.fds if flags & os.O_APPEND]
        fd = self.chance.choice(fds) if fds else self._open(os.O_RDWR | os.O_APPEND)
        self._say(f"append({len(data)}), size was {len(self.data)}")
        assert os.write(fd, data) == len(data)
        self._put(len(self.data), data)

    def _area(self) -> mmap.mmap | None:
        """The mapping, of the whole file as large as it was when it was mapped; within the file."""
        size = len(self.data)
        area = self.at.area
        if area is not None and (len(area) > size or self.chance.random() < 0.2):
            area.close()
            self.at.area = area = None
        if area is None and size:
            fd = self._fd(writing=True)
            self._say(f"mmap({size})")
            self.at.area = area = mmap.mmap(fd, size)
        return area

    def map_read(self) -> None:
        """Loads from a shared mapping."""
        area = self._area()
        if area is not None:
            offset = self.chance.randrange(len(area))
            length = min(self.chance.choice((1, 700, 9000)), len(area) - offset)
            self._say(f"load({length}, {offset})")
            self._compare(area[offset : offset + length], offset, length)

    def map_write(self) -> None:
        """Stores into a shared mapping, and always msync where others look at the same time."""
        area = self._area()
        low = len(self.plan.head)
        if area is None or len(area) <= low:
            return
        offset = self.chance.randrange(low, len(area))
        data = self.chance.randbytes(min(self.chance.choice((1, 300, 9000)), len(area) - offset))
        self._say(f"store({len(data)}, {offset})")
        area[offset : offset + len(data)] = data
        if self.chance.random() < 0.5:
            area.flush()
        self._put(offset, data)

    def truncate(self) -> None:
        """ftruncate and truncate, up and down; not into the head."""
        size = self.chance.choice((len(self.data), self.chance.randrange(MOST)))
        size = max(len(self.plan.head), size + self.chance.choice((-1, 0, 1)))
        self._say(f"truncate({size}), was {len(self.data)}")
        if self.chance.random() < 0.7:
            os.ftruncate(self._fd(writing=True), size)
        else:
            os.truncate(self.at.path, size)
        self._resize(size)

    def empty(self) -> None:
        """O_TRUNC, or truncate to nothing, and begin again."""
        if self.chance.random() < 0.7:  # a file that stays small shows less
            return
        self._say("empty")
        if self.chance.random() < 0.5:
            self._open(os.O_RDWR | os.O_TRUNC)
        else:
            os.ftruncate(self._fd(writing=True), 0)
        self._resize(0)
        self._fill()

    def spoil(self) -> None:
        """What makes the file another kind is refused, and changes nothing."""
        if not self.plan.head or not self.data:
            return
        fd = self._fd(writing=True)
        self._say("spoil")
        area = self.at.area
        if area is not None:  # stores that wait in the very page would be refused with it
            area.flush()
        try:
            if self.chance.random() < 0.5:
                os.pwrite(fd, b"no picture" * 60, 0)
            else:
                os.ftruncate(fd, 1)
        except PermissionError:  # EPERM or EACCES: which, other tests ask
            shown = min(len(area or b""), len(self.data))
            if area is not None:
                wait_for(lambda: area[:shown] == self.data[:shown], "the mapping shows the file again", 5.0)
            return
        raise Differs("the head was changed")

    def fallocate(self) -> None:
        """Allocate, punch holes, zero ranges."""
        name = self.chance.choice(list(FALLOCATE_MODES))
        offset, length = self._span()
        fd = self._fd(writing=True)
        self._say(f"{name}({length}, {offset}), size was {len(self.data)}")
        fallocate(fd, FALLOCATE_MODES[name], offset, length)
        self.done[name] += 1
        if not FALLOCATE_MODES[name] & KEEP_SIZE and offset + length > len(self.data):
            self._resize(offset + length)
        if name.startswith(("punch", "zero")):
            end = min(len(self.data), offset + length)
            if offset < end:
                self.data[offset:end] = bytes(end - offset)

    def copy_range(self) -> None:
        """copy_file_range within the file."""
        size = len(self.data)
        target, length = self._span()
        if not size:
            return
        source = self.chance.randrange(size)
        length = min(length, size - source)
        if source < target + length and target < source + length:
            return
        self._say(f"copy_file_range({length}, {source} to {target})")
        copied = os.copy_file_range(self._fd(writing=False), self._fd(writing=True), length, source, target)
        if copied < length and self.at.exact:
            raise Differs(f"{copied} bytes copied")
        if not copied:  # as far as this mount knows the source is behind the end
            return
        self.done["copied"] += 1
        self._put(target, bytes(self.data[source : source + copied]))

    def shift(self) -> None:
        """Ranges are not taken out nor put in: other mounts could not be told."""
        mode = self.chance.choice((COLLAPSE_RANGE, INSERT_RANGE))
        self._say("shift")
        try:
            fallocate(self._fd(writing=True), mode, _PAGE, _PAGE)
        except OSError as error:
            if error.errno == errno.EOPNOTSUPP:
                return
            raise
        raise Differs("a range was shifted")

    def holes(self) -> None:
        """Where there is a hole, there are zeros."""
        if not self.data or not self.at.exact:
            return
        offset = self.chance.randrange(len(self.data))
        fd = self._fd(writing=False)
        self._say(f"data behind {offset}")
        try:
            start = os.lseek(fd, offset, os.SEEK_DATA)
        except OSError as error:
            if error.errno != errno.ENXIO:
                raise
            start = len(self.data)
        if any(self.data[offset:start]):
            raise Differs(f"no hole from {offset} to {start}")

    def reopen(self) -> None:
        """Close a descriptor, or open one more."""
        fds = self.at.fds
        if len(fds) > 3 or (fds and self.chance.random() < 0.5):
            fd, _ = fds.pop(self.chance.randrange(len(fds)))
            self._say("close")
            os.close(fd)
        else:
            flags = self.chance.choice((os.O_RDONLY, os.O_RDWR, os.O_RDWR | os.O_APPEND))
            self._say(f"open({flags:o})")
            self._open(flags)

    def sync(self) -> None:
        """fsync or fdatasync."""
        self._say("sync")
        self.chance.choice((os.fsync, os.fdatasync))(self._fd(writing=True))

    def size(self) -> None:
        """fstat and the end by seeking, where nobody else changed the size."""
        if self.at.exact:
            fd = self._fd(writing=False)
            self._say("size")
            sizes = os.fstat(fd).st_size, os.lseek(fd, 0, os.SEEK_END), os.stat(self.at.path).st_size
            if sizes != (len(self.data),) * 3:
                raise Differs(f"sizes {sizes}, not {len(self.data)}")

    def turn(self) -> None:
        """Go to another mount, where they take turns: all closed here, then all opened there."""
        if not self.plan.together and self.chance.random() < 0.5:
            self._say("leave")
            self._leave(self.at)
            self.at = self.chance.choice(self.sessions)
            self.whole()

    def whole(self) -> None:
        """The whole file, read by the current mount."""
        fd = self._fd(writing=False)
        self._say("whole")
        self._compare(os.pread(fd, MOST + 1, 0), 0, MOST + 1)


def exercise(plan: Plan) -> tuple[bytes, Counter[str]]:
    """Run a plan; what the file holds at the end, and how often each operation was done."""
    one = Exerciser(plan)
    done = one.run()
    return bytes(one.data), done
