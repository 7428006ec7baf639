"""The end of an exception in a real mount, seen by an app that opens a file again and again."""

from __future__ import annotations

import contextlib
import mmap
import os
import struct
import time
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Final

from policyfs.policy.exceptions import instant_text
from tests.support.machine.counts import PATIENCE
from tests.support.machine.processes import start_as

LATE_S: Final = 0.5 * PATIENCE
"""What an end may be late, with room for a busy machine; the daemon's own bound is a tenth of a second."""
REST_S: Final = 0.005
_TIME: Final = struct.Struct("d")
QUIET: Final = """\
apiVersion: policyfs/v1
kind: Policy
apps:
  camera: {uid: 10010}
  gallery: {uid: 10011}
rules:
  - {id: camera, allow: [all], who: {app: camera}, paths: "/**", audit: best_effort}
"""
WIDE: Final = (
    QUIET + "  - {id: look, allow: [see, read], who: {app: gallery}, paths: '/***', audit: 'off'}\n"
)


def ending(left_s: float) -> tuple[str, float]:
    """A policy whose exception ends after this time, and that end on the monotonic clock."""
    now_ns, now_s = time.time_ns(), time.monotonic()
    until = instant_text(now_ns + round(left_s * 1e9))
    exception = (
        "exceptions:\n  - {id: party, allow: [see, read], who: {app: gallery}, paths: '/***',"
        f" until: {until}, reason: x, approved-by: Ann, audit: 'off'}}\n"
    )
    return QUIET + exception, now_s + left_s


class Tries:
    """An app that opens a file again and again, until it waits or is killed."""

    def __init__(self, uid: int, file: Path) -> None:
        self._last = mmap.mmap(-1, 8)
        self.child = start_as(uid, _tries, file, self._last)

    def last_s(self) -> float:
        """The time of its last success on the monotonic clock, 0 if there was none."""
        return float(_TIME.unpack(self._last[:8])[0])


def _tries(_channel: Connection, file: Path, last: mmap.mmap) -> None:
    while True:
        now_s = time.monotonic()
        with contextlib.suppress(OSError):
            os.stat(file)
            file.read_bytes()
            last[:8] = _TIME.pack(now_s)
        time.sleep(REST_S)
