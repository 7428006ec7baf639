"""Requests on a file system without a kernel, step by step: what comes between two of their steps."""

from __future__ import annotations

import contextlib
import mmap
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import trio
import trio.testing

from policyfs.fs.checked.change_lock import ChangeLock
from policyfs.kernel.bridge import pyfuse3
from policyfs.store.locking.latches import Latches
from policyfs.store.tree import Tree
from tests.support.mount.file_system import Parts
from tests.support.samples import jpegs

CAMERA, GALLERY, MAPS = 10010, 10011, 10012
PHOTO = jpegs.with_segments(jpegs.plain(1, 64), jpegs.exif_segment(jpegs.exif()))
OPEN = """\
- {id: all, allow: [all], who: {app: any}, paths: "/**"}
"""
REDACTED = (
    OPEN
    + """\
- {id: hide, require: {redact: location}, who: {not: {grant: media.location}}, unless: {owner: self}}
"""
)
TYPES = """\
- {id: types, require: {content: [image/jpeg]}, paths: "/**"}
"""


def truncations(monkeypatch: pytest.MonkeyPatch, made: Parts) -> list[bool]:
    """For each truncation of a file of the store from now on: True if it ran on the event loop's thread."""
    noted: list[bool] = []
    truncate = type(made.tree).truncate_fd

    def note(self: object, fd: int, size: int) -> None:
        noted.append(threading.current_thread() is threading.main_thread())
        truncate(self, fd, size)

    monkeypatch.setattr(type(made.tree), "truncate_fd", note)
    return noted


async def errno_of(request) -> int:
    try:
        await request
    except pyfuse3.FUSEError as error:
        return error.errno
    except OSError as error:
        return error.errno or -1
    return 0


async def look_up(made: Parts, name: str, uid: int) -> pyfuse3.EntryAttributes:
    """Look a name of the root up; its attributes, as the kernel is told them."""
    return await made.lookup.lookup(made.root, name.encode(), made.caller(uid))


def replace(path: Path, data: bytes) -> None:
    """Give a name in the store another file, past the file system."""
    path.with_name("next").write_bytes(data)
    path.with_name("next").rename(path)


async def between(made: Parts, request, meanwhile) -> int:
    """Start a request that waits for a sniff, do something else, let the sniff end: its errno."""
    made.sniffed.gate, made.sniffed.asked = trio.Event(), trio.Event()
    found: list[int] = []

    async def run() -> None:
        found.append(await errno_of(request))

    async with trio.open_nursery() as nursery:
        nursery.start_soon(run)
        await made.sniffed.asked.wait()
        gate, made.sniffed.gate = made.sniffed.gate, None
        nursery.start_soon(meanwhile)
        await trio.testing.wait_all_tasks_blocked()
        gate.set()
    return found[0]


async def racing(made: Parts, handle, *requests) -> list[int]:
    """Start requests one after the other, while none can have the node's lock: their errnos, in order."""
    found = dict.fromkeys(range(len(requests)), -1)

    async def run(at: int, request) -> None:
        found[at] = await errno_of(request)

    async with trio.open_nursery() as nursery, handle.node.open.lock:
        for at, request in enumerate(requests):
            nursery.start_soon(run, at, request)
            await trio.testing.wait_all_tasks_blocked()
    return list(found.values())


@contextlib.contextmanager
def sizes_after_steps(path: Path) -> Iterator[list[int]]:
    """List the file's sizes after each step of this task: none where no other task runs in between."""
    task, seen = trio.lowlevel.current_task(), list[int]()

    class Watching(trio.abc.Instrument):
        def after_task_step(self, stepped: trio.lowlevel.Task) -> None:
            if stepped is task:
                seen.append(path.stat().st_size)

    watching = Watching()
    trio.lowlevel.add_instrument(watching)
    try:
        yield seen
    finally:
        trio.lowlevel.remove_instrument(watching)


def beside(monkeypatch: pytest.MonkeyPatch, meanwhile: Callable[[], object], *, fenced: bool = True) -> None:
    """Let somebody else do something after the judgement of each change: right before the change itself, or
    before its fence."""
    in_thread = ChangeLock.in_thread

    async def late(self, fd, fence, change, **named):
        def run():
            meanwhile()
            return change()

        if not fenced:
            meanwhile()
        return await in_thread(self, fd, fence, run if fenced else change, **named)

    monkeypatch.setattr(ChangeLock, "in_thread", late)


@contextlib.contextmanager
def mapped(path: Path) -> Iterator[mmap.mmap]:
    """A shared mapping of a whole file, which can be written. No descriptor of the file stays open."""
    with path.open("r+b") as file:
        memory = mmap.mmap(file.fileno(), 0)
    with memory:
        yield memory


def append(path: Path, data: bytes) -> None:
    """Append to a file in the store, past the file system."""
    with path.open("ab") as file:
        file.write(data)


def right_before_removals(monkeypatch: pytest.MonkeyPatch, meanwhile: Callable[[], object]) -> None:
    """Let somebody else do something once: right before the next system call that takes a name away."""
    calls = {name: getattr(Tree, name) for name in ("unlink", "rename2")}
    done: list[bool] = []

    def late(name: str) -> Callable[..., object]:
        def call(self: Tree, *arguments: object) -> object:
            if not done:
                done.append(True)
                meanwhile()
            return calls[name](self, *arguments)

        return call

    for name in calls:
        monkeypatch.setattr(Tree, name, late(name))


def before_names_are_locked(monkeypatch: pytest.MonkeyPatch, meanwhile: Callable[[], object]) -> None:
    """Let somebody else do something once: after the decision, right before the daemon locks a name."""
    take, done = Latches.take_number, list[bool]()

    def late(self: Latches, at: int) -> bool:
        if not done:
            done.append(True)
            meanwhile()
        return take(self, at)

    monkeypatch.setattr(Latches, "take_number", late)
