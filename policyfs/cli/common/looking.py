"""Inspection of files for commands. Confined workers read the files, as in a mount."""

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
    """Return a file's kind, found by a confined worker; None if unknown. Raises SnifferError."""
    return _by_worker(lambda sniffer: sniffer.kind_of_fd(fd))


def plan_for(fd: int, words: frozenset[str]) -> tuple[str | None, Plan]:
    """Return a file's content kind, and the redaction plan for some words (such as ``location``), found by a
    confined worker process. Raises SnifferError.
    """
    return _by_worker(lambda sniffer: sniffer.locate(fd, words))


def start_sniffer(workers: int = 1) -> Sniffer:
    """Start confined workers; for root, under uids that no process has. Their search reads all processes, if
    possible in an instance of procfs that no app can lock. Raises SnifferError."""
    from policyfs.content.sniffer import Sniffer

    with own_instance():
        return Sniffer.start(workers=workers)


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
