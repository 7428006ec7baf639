"""Inspection of files for commands. For root, confined workers read the files, as in a mount."""

from __future__ import annotations

import contextlib
import os
import stat
from collections.abc import Awaitable, Callable, Iterator
from typing import TYPE_CHECKING, TypeVar

from policyfs.cli.common.processes import own_instance
from policyfs.errors import PolicyfsError

if TYPE_CHECKING:
    from policyfs.content.sniffer import Sniffer
    from policyfs.redact.plan import Plan

T = TypeVar("T")


@contextlib.contextmanager
def opened(path: str) -> Iterator[int]:
    """Yield an O_RDONLY descriptor of the regular file at a path. Raises PolicyfsError."""
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    except OSError as error:
        raise PolicyfsError(f"cannot read {path}: {error.strerror}") from error
    try:
        if not stat.S_ISREG(os.fstat(fd).st_mode):
            raise PolicyfsError(f"{path} is not a regular file")
        yield fd
    finally:
        os.close(fd)


def kind_in_worker(fd: int) -> str | None:
    """Return the content kind of a file, found by a worker process without rights; None if it is unknown.
    Only root can start such a worker. Raises SnifferError."""
    return _by_worker(lambda sniffer: sniffer.kind_of_fd(fd))


def plan_for(fd: int, words: frozenset[str]) -> tuple[str | None, Plan]:
    """Return a file's content kind, and the redaction plan for some words (such as ``location``).

    For root, a confined worker parses the file. For any other user, this process parses the file, with only
    that user's rights. Raises SnifferError.
    """
    from policyfs.content.workers.worker import Detector, Passed, SniffError  # loads libmagic
    from policyfs.redact.plan import Outcome, Plan, locate

    if os.geteuid() == 0:
        return _by_worker(lambda sniffer: sniffer.locate(fd, words))
    source = Passed(fd, os.fstat(fd).st_size)
    try:
        kind = Detector().kind(source.read(0, 1 << 16))
    except SniffError as error:
        return None, Plan(Outcome.REFUSE, reason=str(error))
    return kind, locate(kind, words, source)


def start_sniffer() -> Sniffer:
    """Start one confined worker, under a uid that no process has. The search for this uid reads the uids of
    all processes. If the kernel permits it, the search uses an instance of procfs that no app can lock."""
    from policyfs.content.sniffer import Sniffer

    with own_instance():
        return Sniffer.start(workers=1)


def _by_worker(question: Callable[[Sniffer], Awaitable[T]]) -> T:
    """Start a worker, ask it one question, and end the worker. Return the answer."""
    import trio

    async def ask() -> T:
        try:
            return await question(sniffer)
        finally:
            await sniffer.aclose()

    sniffer = start_sniffer()
    return trio.run(ask)
