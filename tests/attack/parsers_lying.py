"""A zygote whose workers were taken over: they keep what they see of one file for another, and lie in
every field of an answer (F1). What a worker does is chosen by a word in the file."""

from __future__ import annotations

import _thread
import random
import sys
from typing import Any, Final

import policyfs.content.workers.worker as worker_module
from policyfs.content import plans
from policyfs.content.workers import protocol
from policyfs.content.workers.zygote import main
from policyfs.domain import Patch
from policyfs.redact.plan import Outcome, Plan, RemovedPart

SECRET: Final = b"the secret of the one app: "
SECRET_BYTES: Final = 300
VICTIM: Final = b"<show it here>"
NEW: Final = random.Random(1).randbytes(5000)
"""More than a JPEG's plan may put in."""
_RAW: Final = b"raw frame: "
_kept: list[bytes] = []


def marked(word: str) -> bytes:
    """What in a file makes a worker lie so."""
    return f"<lie: {word}>".encode()


def _plan(plan: Plan, kind: str = "image/jpeg") -> bytes:
    return plans.pack_plan(kind, plan)


def _patches(*patches: Patch) -> bytes:
    return _plan(Plan(Outcome.PATCH, patches))


def _finding(size: int) -> bytes:
    return _plan(Plan(Outcome.CLEAN, findings=(RemovedPart(size, 100, "x", "y", "location"),)))


LIES: Final[dict[str, Any]] = {
    "kind": lambda size: _plan(Plan(Outcome.CLEAN), "no kind"),
    "long kind": lambda size: _plan(Plan(Outcome.CLEAN), "image/" + "x" * 200),
    "finding outside": _finding,
    "patch outside": lambda size: _patches(Patch(size - 2, b"abcd")),
    "patches overlap": lambda size: _patches(Patch(9, b"abcd"), Patch(10, b"abcd")),
    "patches and clean": lambda size: _plan(Plan(Outcome.CLEAN, (Patch(9, b"abcd"),))),
    "new bytes": lambda size: _patches(Patch(20, NEW)),
    "no patches": lambda size: _plan(Plan(Outcome.PATCH)),
    "bytes behind": lambda size: _plan(Plan(Outcome.CLEAN)) + b"x",
    "too short": lambda size: _plan(Plan(Outcome.CLEAN))[:-1],
    "nothing": lambda size: b"",
    "another request": lambda size: _RAW + protocol.REPLY.pack(77, 0, 0, 3) + b"a/b",
    "no status": lambda size: _RAW + protocol.REPLY.pack(1, 9, 0, 3) + b"a/b",
    "too much": lambda size: _RAW + protocol.REPLY.pack(1, 0, 0, 1 << 31),
    "flood": lambda size: _RAW + b"\xff" * (1 << 26),
    "half an answer": lambda size: _RAW + protocol.REPLY.pack(1, 0, 0, 100) + b"a/b",
    "never": None,
}
"""By word: the payload of the answer to a request about a file of so many bytes."""


_PLANS: Final = frozenset({protocol.Command.LOCATE, protocol.Command.INDEX})


class Liar(worker_module.Detector):
    """Detector of a worker that was taken over."""

    def answer(self, request: Any) -> bytes:
        if request.fd is None:
            return super().answer(request)
        if request.command not in _PLANS:
            return self._kind(request)
        source = worker_module.Passed(request.fd, request.size)
        data = source.read(0, min(request.size, 1 << 16))
        if SECRET in data:
            at = data.index(SECRET)
            _kept.append(data[at : at + SECRET_BYTES])
        if VICTIM in data and _kept:
            return _patches(Patch(data.index(VICTIM), _kept[-1]))
        for word, lie in LIES.items():
            if marked(word) in data:
                if lie is None:
                    lock = _thread.allocate_lock()
                    while lock.acquire():  # the second time for ever; other tests need the processor
                        pass
                return bytes(lie(request.size))
        return super().answer(request)

    def _kind(self, request: Any) -> bytes:
        data = worker_module.Passed(request.fd, request.size).read(0, min(request.size, 1 << 16))
        if SECRET in data:
            _kept.append(SECRET)
        return b"image/jpeg" if VICTIM in data and _kept else super().answer(request)


_pack_reply = protocol.pack_reply


def packed(number: int, status: protocol.Status, payload: bytes, *, retire: bool = False) -> bytes:
    """A frame, or whatever is sent in its place."""
    if payload.startswith(_RAW):
        return payload.removeprefix(_RAW)
    return _pack_reply(number, status, payload, retire=retire)


if __name__ == "__main__":
    worker_module.Detector = Liar
    protocol.pack_reply = packed
    sys.exit(main())
