"""A program that watches directories by inotify(7), as media servers and synchronisers do."""

from __future__ import annotations

import ctypes
import os
import select
import struct
import time
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Final, NamedTuple

MODIFY, ATTRIB, CLOSE_WRITE, MOVED_FROM, MOVED_TO = 0x2, 0x4, 0x8, 0x40, 0x80
CREATE, DELETE, OVERFLOW, ISDIR = 0x100, 0x200, 0x4000, 0x40000000
NAMES: Final = {
    MODIFY: "MODIFY", ATTRIB: "ATTRIB", CLOSE_WRITE: "CLOSE_WRITE", MOVED_FROM: "MOVED_FROM",
    MOVED_TO: "MOVED_TO", CREATE: "CREATE", DELETE: "DELETE", OVERFLOW: "OVERFLOW",
}  # fmt: skip
END: Final = "the end"
"""The name of a file whose CREATE ends the watch."""
_libc = ctypes.CDLL(None, use_errno=True)
_EVENT: Final = struct.Struct("iIII")


class Told(NamedTuple):
    """An event: its kind and name ("" for the directory itself), the cookie of a move, and when it came."""

    directory: str
    kind: str
    name: str
    cookie: int
    at_s: float

    def __str__(self) -> str:
        return f"{self.kind} {self.name}"


def watch(channel: Connection, directories: list[Path], limit_s: float = 20.0) -> list[Told]:
    """Send "watching", and return all events up to the CREATE of END."""
    fd = _libc.inotify_init1(os.O_NONBLOCK)
    paths = {}
    for directory in directories:
        number = _libc.inotify_add_watch(fd, os.fsencode(directory), sum(NAMES) & ~OVERFLOW)
        assert number >= 0, os.strerror(ctypes.get_errno())
        paths[number] = directory.name
    channel.send("watching")
    told: list[Told] = []
    end_s = time.monotonic() + limit_s
    while (left_s := end_s - time.monotonic()) > 0:
        if select.select([fd], [], [], left_s)[0]:
            told += _parsed(os.read(fd, 1 << 20), paths)
        names = [one.name for one in told]
        if END in names:
            return told[: names.index(END) + 1]
    return told


def _parsed(raw: bytes, paths: dict[int, str]) -> list[Told]:
    found, at, now_s = [], 0, time.monotonic()
    while at < len(raw):
        number, mask, cookie, length = _EVENT.unpack_from(raw, at)
        at += _EVENT.size
        name = os.fsdecode(raw[at : at + length].rstrip(b"\0"))
        at += length
        kind = "+".join(word for bit, word in NAMES.items() if mask & bit)
        kind += " DIR" if mask & ISDIR else ""
        found.append(Told(paths.get(number, ""), kind, name, cookie, now_s))
    return found
