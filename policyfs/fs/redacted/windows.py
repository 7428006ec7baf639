"""Windows of films: the frames in a range are looked at in the very bytes that an app gets.

The index of a film tells where its frames are. If an app reads a range, the daemon reads all frames that have
a byte in the range into memory (a window). A worker looks at the window, and the app gets bytes of the same
window, with the worker's patches. So the first byte of a film needs no look at the whole film, and a program
that writes the film meanwhile can add no byte that was not looked at.

A program that plays a film reads it in order. Then one window is for several reads (Ahead), since each look
makes the daemon and a worker wait for each other.

A checksum stays only if no byte that it covers changes. So before a checksum is read, the frames under it are
looked at, too.
"""

from __future__ import annotations

import errno
import mmap
import os
import weakref
from collections import deque
from collections.abc import Awaitable, Callable, Hashable, Iterator
from contextlib import contextmanager, suppress
from operator import attrgetter
from typing import Final, NamedTuple, NoReturn, Protocol

import trio

from policyfs.content.whole_plans import batches
from policyfs.domain import Audit, Decision, Patch, in_turn
from policyfs.fs.access.audit import Call
from policyfs.fs.access.gate import Gate
from policyfs.fs.inodes.handles import Handle
from policyfs.fs.redacted.patching import patched
from policyfs.linux.libc import proc_fd
from policyfs.redact.core.frame_table import FrameTable, void_sum
from policyfs.redact.core.values import Outcome, Plan
from policyfs.store.frozen import new_memfd
from policyfs.store.page_cache import buffer_of, read_all, read_store

MAX_WINDOW_BYTES: Final = 32 << 20
"""The largest window: one read, and the frames at its two ends (redact/core/frame_table.py bounds them)."""
WINDOWS_AT_ONCE: Final = 2
"""The number of windows in memory at the same time for one app, or for one stranger."""
AHEAD_BYTES: Final = 4 << 20
"""The size of a window for several reads, without the rest of the frames at its two ends."""
KEPT_WINDOWS: Final = 8
"""The number of windows that are kept for further reads, in all films together: about 32 MiB, 64 at most."""
_SPARE: Final = 4
"""The limit of memories, of 8 MiB at most, that are kept for the looks at further windows."""
_PLACES: Final = 4
"""The number of programs that can read one film in order at the same time."""
_CHANGED: Final = "the film has changed"
_READING: Final = Call("read", "read")


FilmProof = Callable[[int], Awaitable[bool]]
"""A function of the film's descriptor. It returns True if the bytes that were read are of the film's plan."""


class FrameLooker(Protocol):
    """The part of the sniffer that looks at frames."""

    async def look(
        self, fd: int, kind: str, what: frozenset[str], frames: FrameTable, *, lane: Hashable = None
    ) -> Plan:
        """Return the plan that hides *what* in these frames of the bytes behind *fd*."""


class Window(NamedTuple):
    """A range of a film that was looked at. start: the offset in the film. shown: the wanted bytes. patches:
    the changes to the window, from its start on. why: the reason why the window cannot be shown, or ""."""

    start: int = 0
    shown: bytearray = bytearray()
    patches: tuple[Patch, ...] = ()
    why: str = ""


class Ahead:
    """A window for several reads of one lane. film: refers to the FilmFrames that has looked at it.

    shown: the bytes from *start* to *end* with hidden data replaced; None before the look, and if there is
    something in the window that cannot be shown. done: set after the look."""

    __slots__ = ("done", "end", "film", "lane", "shown", "start")

    def __init__(self, film: weakref.ref[FilmFrames], lane: Hashable, start: int, end: int) -> None:
        self.film, self.lane, self.start, self.end = film, lane, start, end
        self.shown: memoryview | None = None
        self.done = trio.Event()


class _Memory:
    """Memory of a film and a lane, that workers can read. New memory takes most of the time of a look."""

    __slots__ = ("fd", "film", "lane", "mapped")

    def __init__(self, film: weakref.ref[FilmFrames], lane: Hashable, size: int) -> None:
        self.film, self.lane, self.fd = film, lane, new_memfd()
        os.fchmod(self.fd, 0o400)
        os.ftruncate(self.fd, size)
        self.mapped = mmap.mmap(self.fd, size)

    def close(self) -> None:
        self.mapped.close()
        os.close(self.fd)


class WindowRoom:
    """The room for windows in memory: WINDOWS_AT_ONCE of each app, and of each stranger; and KEPT_WINDOWS.
    kept: the windows for several reads. They end with their film, and so does the memory for further ones."""

    def __init__(self) -> None:
        self._limits: dict[Hashable, trio.CapacityLimiter] = {}
        self.kept: deque[Ahead] = deque(maxlen=KEPT_WINDOWS)
        self._spare: list[_Memory] = []

    def of(self, lane: Hashable) -> trio.CapacityLimiter:
        """Return the limiter of the app, or of the stranger, that has this lane."""
        return self._limits.setdefault(in_turn(lane), trio.CapacityLimiter(WINDOWS_AT_ONCE))

    def keep(self, film: FilmFrames, lane: Hashable, start: int, end: int) -> Ahead:
        """Return a new window of this film and lane, in place of the oldest if there are KEPT_WINDOWS."""
        self.kept.append(made := Ahead(weakref.ref(film, self._forget), lane, start, end))
        return made

    def _forget(self, film: weakref.ref[FilmFrames]) -> None:
        self.kept = deque((one for one in self.kept if one.film is not film), maxlen=KEPT_WINDOWS)
        for memory in [memory for memory in self._spare if memory.film is film]:
            self._spare.remove(memory)
            memory.close()

    @contextmanager
    def memory(self, film: FilmFrames, lane: Hashable, size: int) -> Iterator[tuple[int, memoryview]]:
        """Yield a descriptor of *size* bytes of memory, and a view of them. INVARIANT: memory is used again
        for the same film and lane only, since a worker may keep its descriptor."""
        most = max(size, 2 * AHEAD_BYTES)
        for memory in self._spare:
            if memory.film() is film and memory.lane == lane and most == len(memory.mapped):
                self._spare.remove(memory)
                break
        else:
            memory = _Memory(weakref.ref(film, self._forget), lane, most)
        try:
            os.ftruncate(memory.fd, size)
            with memoryview(memory.mapped) as whole, whole[:size] as buffer:
                yield memory.fd, buffer
        except BaseException:
            memory.close()
            raise
        self._spare.append(memory)
        if most == size or len(self._spare) > _SPARE:
            self._spare.pop(-1 if most == size else 0).close()

    def ahead(self, film: FilmFrames, lane: Hashable, start: int, end: int) -> list[Ahead]:
        """Return the kept windows of this film and lane that have these bytes, or the first ones of them."""
        found: list[Ahead] = []
        for one in sorted(self.kept, key=attrgetter("start")):
            if one.film() is film and one.lane == lane and one.start <= start < min(one.end, end):
                found.append(one)
                start = one.end
        return found


class FilmFrames:
    """The frames of one film, looked at as they are read. kind: the file's kind. what: the words to hide.
    proof: called after each read of the film; None if the bytes need no proof."""

    __slots__ = ("__weakref__", "_frames", "_kind", "_looker", "_next", "_proof", "_room", "_sums", "_what")

    def __init__(
        self, looker: FrameLooker, room: WindowRoom, frames: FrameTable, kind: str, what: frozenset[str],
        proof: FilmProof | None = None,
    ) -> None:  # fmt: skip
        self._looker = looker
        self._room = room
        self._frames = frames
        self._kind = kind
        self._what = what
        self._proof = proof
        self._next: deque[int] = deque(maxlen=_PLACES)  # the ends of the last reads
        self._sums: dict[int, bool] = {}  # for each checksum that was read: True if it is void

    async def read(self, fd: int, offset: int, size: int, lane: Hashable) -> tuple[memoryview, str]:
        """Read up to *size* bytes at an offset of the film behind *fd*, with hidden data in frames replaced.
        Return the bytes, and the reason why they cannot be shown ("" if they can). Raises OSError."""
        size = max(0, min(size, os.fstat(fd).st_size - offset))
        void: list[Patch] = []
        for at, covered in self._frames.sums_in(offset, offset + size):
            why = await self._check_sum(fd, at, covered, lane)
            if why:
                return memoryview(b""), why
            void += void_sum(at) if self._sums[at] else ()
        frames = self._frames.overlapping(offset, offset + size)
        if not len(frames):
            data = await read_store(fd, offset, size)
            if not await self._is_proved(fd):
                return memoryview(b""), _CHANGED
            return patched(data, offset, tuple(void)), ""
        shown = await self._ahead(fd, offset, offset + size, lane)
        if shown is None:
            window = await self._seen(fd, (offset, offset + size), frames, lane)
            if window.why:
                return memoryview(b""), window.why
            shown = _patched_window(window, offset)
        return patched(shown, offset, tuple(void)), ""

    async def _ahead(self, fd: int, start: int, end: int, lane: Hashable) -> memoryview | None:
        """Return bytes of kept windows, or None if these bytes must be looked at alone. If the read begins
        where another has ended, make the windows that it needs, and begin the next one. INVARIANT: a lane
        gets what its own worker looked at."""
        in_order = start in self._next
        if in_order:
            self._next.remove(start)
        self._next.append(end)
        kept = self._room.ahead(self, lane, start, end)
        reached = kept[-1].end if kept else start
        if in_order and reached >= end:
            if kept[-1].done.is_set() and not self._room.ahead(self, lane, reached, reached + 1):
                self._look_further(fd, reached, lane)
        elif in_order and (more := self._keep(fd, reached, end, lane)) is not None:
            kept.append(more)
            reached = more.end
            await self._fill(more, fd)
        return await _bytes_of(kept, start, end) if reached >= end else None

    def _look_further(self, fd: int, start: int, lane: Hashable) -> None:
        """Begin to fill the window from *start* on, while apps get the bytes of the window before."""
        try:
            own = os.dup(fd)
        except OSError:
            return  # the read that needs the window makes it
        if (following := self._keep(fd, start, start, lane)) is None:
            os.close(own)
        else:
            trio.lowlevel.spawn_system_task(self._fill_beside, following, own)

    def _keep(self, fd: int, start: int, end: int, lane: Hashable) -> Ahead | None:
        """Return a new window from *start* to *end* or more; None at the film's end, or too long frames."""
        far = min(max(end, start + AHEAD_BYTES), os.fstat(fd).st_size)
        frames = self._frames.overlapping(start, far)
        if not len(frames) or max(far, *frames.ends) - min(start, *frames.starts) > 2 * AHEAD_BYTES:
            return None
        return self._room.keep(self, lane, start, far)

    async def _fill_beside(self, ahead: Ahead, fd: int) -> None:
        """Fill the window after the one that is being read. An error is left to the read of its bytes."""
        try:
            with suppress(Exception):  # see above
                await self._fill(ahead, fd)
        finally:
            os.close(fd)

    async def _fill(self, ahead: Ahead, fd: int) -> None:
        try:
            frames = self._frames.overlapping(ahead.start, ahead.end)
            window = await self._seen(fd, (ahead.start, ahead.end), frames, ahead.lane)
            ahead.shown = None if window.why else _patched_window(window, ahead.start)
        finally:
            ahead.done.set()

    async def _check_sum(self, fd: int, at: int, end: int, lane: Hashable) -> str:
        """Return why it cannot be known whether a checksum over [at, end) is void, or "". INVARIANT: it is
        the same in each read: it depends on all frames under it, and on none not looked at."""
        if at in self._sums:
            return ""
        void = False
        for frames in batches(self._frames.overlapping(at, end)):
            window = await self._seen(fd, (frames.starts[0], frames.starts[0]), frames, lane)
            if window.why:
                return window.why
            void = void or bool(window.patches)
        self._sums[at] = void
        return ""

    async def _seen(self, fd: int, wanted: tuple[int, int], frames: FrameTable, lane: Hashable) -> Window:
        """Read these frames and the wanted range, and let a worker look at the frames."""
        start, end = min(wanted[0], frames.starts[0]), max(wanted[1], *frames.ends)
        if end - start > MAX_WINDOW_BYTES:
            return Window(why=f"a frame of the film has more than {MAX_WINDOW_BYTES >> 20} MiB")
        async with self._room.of(lane):
            with self._room.memory(self, lane, end - start) as (memory, buffer):
                if await trio.to_thread.run_sync(read_all, fd, buffer, start) < end - start:
                    return Window(why="the film has shrunk")
                if not await self._is_proved(fd):
                    return Window(why=_CHANGED)
                plan = await self._look(memory, frames.shifted(-start), lane)
                if plan.outcome is Outcome.REFUSE:
                    return Window(why=f"cannot be redacted: {plan.reason}")
                shown = bytearray(buffer[wanted[0] - start : wanted[1] - start])
        return Window(start, shown, plan.patches)

    async def _is_proved(self, fd: int) -> bool:
        return self._proof is None or await self._proof(fd)

    async def _look(self, memory: int, frames: FrameTable, lane: Hashable) -> Plan:
        """Let a worker look at frames in memory. The worker gets no descriptor that it could write to."""
        fd = os.open(proc_fd(memory), os.O_RDONLY | os.O_CLOEXEC)
        try:
            return await self._looker.look(fd, self._kind, self._what, frames, lane=lane)
        finally:
            os.close(fd)


async def _bytes_of(kept: list[Ahead], start: int, end: int) -> memoryview | None:
    """Return a copy of some bytes of windows, or None if they must be looked at alone."""
    for one in kept:
        await one.done.wait()
    shown = buffer_of(end - start)
    for one in kept:
        if one.shown is None:
            return None
        first, last = max(start, one.start), min(end, one.end)
        shown[first - start : last - start] = one.shown[first - one.start : last - one.start]
    return shown


def _patched_window(window: Window, offset: int) -> memoryview:
    """Return the wanted bytes of a window, which begin at *offset* of the film, with hidden data replaced."""
    return patched(memoryview(window.shown), offset - window.start, window.patches)


def refuse_window(gate: Gate, handle: Handle, why: str) -> NoReturn:
    """Refuse a read on record (EIO), because frames in its range cannot be shown. Other ranges still can."""
    gate.refuse(
        handle.caller, _READING, handle.node.path(), Decision(allowed=True, errno=0, audit=Audit.REQUIRED),
        note=why, error=errno.EIO,
    )  # fmt: skip
