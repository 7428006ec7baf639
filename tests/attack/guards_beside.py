"""The guards that stand before operations beside the main road (threat B10), to be taken out."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Callable
from typing import Any, Final

import policyfs.daemon.daemon as mount_module
from policyfs.domain import Decision
from policyfs.fs.access.gate import Gate
from policyfs.fs.checked.head_writes import Checker
from policyfs.fs.data.ranges import Ranges
from policyfs.fs.raw_handlers import RawHandlers
from policyfs.kernel import requests
from policyfs.kernel.operations import Request
from policyfs.store import ranges as store_ranges
from tests.attack.guards import put


def handles_undecided() -> None:
    """What an open handle is used for is not decided again."""

    async def handle(self: Gate, handle: Any, ops: Any) -> Decision:
        del self, handle, ops
        return Decision(allowed=True, errno=0)

    put(Gate, "handle", handle)


def copies_of_any_view() -> None:
    """copy_file_range takes the store's file, whatever the view of it is."""

    async def copy(self: Ranges, source: Any, source_at: int, target: Any, to: int, length: int) -> int:
        fd = self._open_files.backing_fd(source)
        try:
            return await self._writer.copy_into(target, fd, source_at, to, length)
        finally:
            os.close(fd)

    put(Ranges, "copy", copy)


def ranges_unjudged() -> None:
    """fallocate on a checked file is not judged."""

    async def allocate(self: Checker, change: Any, *asked: Any) -> None:
        del self
        store_ranges.allocate(change.handle.fd, *asked)

    put(Checker, "allocate", allocate)


def any_ioctl() -> None:
    """Every ioctl goes to the store's file, and no filter of system calls holds it up."""

    async def ioctl(self: RawHandlers, request: Request) -> bytes:
        asked = requests.ioctl(request)
        fd = self._attribute_setter._open_files.descriptor(self._nodes.get(request.nodeid))
        with os.fdopen(os.open(f"/proc/self/fd/{fd}", os.O_RDONLY)) as file:
            os.close(fd)
            data = bytearray(request.body[32:].ljust(max(asked.in_size, asked.out_size), b"\0"))
            fcntl.ioctl(file, asked.command, data)
        return requests.ioctl_reply(bytes(data[: asked.out_size]))

    put(RawHandlers, "ioctl", ioctl)
    put(mount_module, "close_door", lambda **_: True)


BESIDE: Final[dict[str, Callable[[], None]]] = {
    "handles-undecided": handles_undecided,
    "copies-of-any-view": copies_of_any_view,
    "ranges-unjudged": ranges_unjudged,
    "any-ioctl": any_ioctl,
}
