"""Reads of mediated handles. Each read is decided again under the policy in force."""

from __future__ import annotations

import errno
from collections.abc import Mapping
from typing import Final

from policyfs.domain import Op
from policyfs.fs.access.audit import Call
from policyfs.fs.context import FsContext
from policyfs.fs.inodes.handles import Handle
from policyfs.fs.inodes.node import BytePath
from policyfs.fs.inodes.open_state import Mode
from policyfs.fs.opening.byte_paths import PathServer
from policyfs.store.ranges import Buffer

_READ: Final = Op.SEE | Op.READ
_OTHER_VIEW: Final = "the policy now hides data that this open file shows: open the file again"


class FileReader:
    """The reader of mediated handles. It reads bytes that the apps may see now."""

    def __init__(self, fs: FsContext, paths: Mapping[BytePath, PathServer]) -> None:
        self._gate = fs.gate
        self._paths = paths

    async def read(self, handle: Handle, offset: int, size: int) -> Buffer:
        """Return up to *size* bytes from *offset*. Raise FUSEError for a refusal, or OSError."""
        if handle.mode is Mode.PASSTHROUGH:
            # readahead(2) and POSIX_FADV_WILLNEED send a READ even for such a handle, and nobody gets the
            # answer: the kernel reads the file itself. The app sees no error.
            raise OSError(errno.EOPNOTSUPP, "the kernel reads this file itself")
        await self.may_read(handle, Call("read", "read"))
        data = await self._paths[handle.node.byte_path].read(handle, offset, size)
        handle.bytes_read += len(data)
        return data

    async def may_read(self, handle: Handle, call: Call) -> bool:
        """Refuse a read that the policy in force denies, or from which it hides more than the handle does.
        Return False only for a handle that was not opened for reading, by an app that sees the file."""
        node = handle.node
        if not handle.readable and not (seeing := await self._gate.handle(handle, Op.SEE)).allowed:
            self._gate.refuse(handle.caller, call, node.path(), seeing)
        decision = await self._gate.handle(handle, _READ)
        if not decision.allowed and handle.readable:
            self._gate.refuse(handle.caller, call, node.path(), decision)
        if decision.redact - handle.hides:  # by a policy newer than the open
            self._gate.refuse(
                handle.caller, call, node.path(), decision, error=errno.EACCES, note=_OTHER_VIEW
            )
        return decision.allowed
