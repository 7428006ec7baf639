"""A zygote whose parsers have bugs that a hostile file sets off (A6): each by a word in the file."""

from __future__ import annotations

import _thread
import os
import signal
import sys
import time
from collections.abc import Callable
from typing import Any, Final

import policyfs.content.workers.worker as worker_module
from policyfs.content.workers.zygote import main
from policyfs.domain import Patch
from policyfs.redact.plan import Outcome, Plan

_locate = worker_module.locate


def _hang(size: int) -> Plan:
    """Compute for a while, then wait for ever: the deadline counts both; other tests need the processor."""
    while time.process_time() < 0.2:
        pass
    lock = _thread.allocate_lock()
    while lock.acquire():
        pass
    raise AssertionError


def _crash(size: int) -> Plan:
    os.kill(os.getpid(), signal.SIGSEGV)
    return Plan(Outcome.CLEAN)


def _end(size: int) -> Plan:
    os._exit(0)


def _eat(size: int) -> Plan:
    kept = []
    while True:
        kept.append(bytearray(1 << 24))


def _recurse(size: int) -> Plan:
    return _recurse(size)


def _outside(size: int) -> Plan:
    return Plan(Outcome.PATCH, (Patch(size - 4, b"12345678"),))


def _backwards(size: int) -> Plan:
    return Plan(Outcome.PATCH, (Patch(40, b"12"), Patch(20, b"12")))


BUGS: Final[dict[bytes, Callable[[int], Plan]]] = {
    b"hang": _hang,
    b"crash": _crash,
    b"end": _end,
    b"eat memory": _eat,
    b"recurse": _recurse,
    b"lie: outside": _outside,
    b"lie: backwards": _backwards,
}


def marked(word: bytes) -> bytes:
    """What in a file sets a bug off."""
    return b"<bug: " + word + b">"


def locate_with_bugs(kind: str | None, what: frozenset[str], source: Any, **later: bool) -> Plan:
    """As it should be, but for the bugs."""
    data = source.read(0, 1 << 16)
    for word, bug in BUGS.items():
        if marked(word) in data:
            return bug(source.size)
    return _locate(kind, what, source, **later)


if __name__ == "__main__":
    worker_module.locate = locate_with_bugs
    sys.exit(main())
