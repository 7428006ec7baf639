"""Backing files of passthrough, and their registration with a FUSE connection."""

from __future__ import annotations

import errno
import fcntl
import struct
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Final

from policyfs.kernel.bridge import MAX_BACKING_ID

# include/uapi/linux/fuse.h: _IOW(229, 1, struct fuse_backing_map), _IOW(229, 2, uint32_t)
_BACKING_OPEN: Final = 0x4010E501
_BACKING_CLOSE: Final = 0x4004E502
_MAP: Final = struct.Struct("=iIQ")  # fd, flags 0, padding 0
_ID: Final = struct.Struct("=I")

_REASONS: Final = {
    errno.EPERM: "the daemon lacks CAP_SYS_ADMIN in the initial user namespace,"
    " or the mount was made without passthrough",
    errno.ELOOP: "the store's file system is itself stacked on another (for example an overlay)",
    errno.EOPNOTSUPP: "the kernel was built without FUSE passthrough",
    errno.ENOTTY: "the kernel has no FUSE passthrough (passthrough came with Linux 6.9)",
}


@dataclass(frozen=True, slots=True)
class BackingRefused:
    """The kernel's refusal of passthrough for a file. The daemon must serve the file's reads and writes."""

    errno: int
    reason: str


class Backing:
    """The registry of one connection's backing ids. Each id is released exactly once. The caller closes
    device_fd after the last use of this object."""

    def __init__(self, device_fd: int) -> None:
        self._device_fd = device_fd
        self._ids: set[int] = set()
        self.told: Callable[[int, bool], None] = lambda _id, _is_registered: None
        """Called with each id and True when it is registered, with False after its release, on any thread."""

    @property
    def live(self) -> int:
        """The number of backing ids that are registered now."""
        return len(self._ids)

    def register(self, fd: int) -> int | BackingRefused:
        """Register the file behind *fd*, and return its backing id. The caller may close *fd* afterwards.

        The kernel opens the file once for each handle, with the flags of the app's open and the credentials
        that this process has at registration. So one id, made from an O_RDONLY descriptor, serves readers and
        writers. The id does not count as a writer against leases. Return BackingRefused if passthrough is
        impossible for the file. Raises OSError for other errors (EBADF, EISDIR, EINVAL, ENOMEM, ...).
        """
        request = bytearray(_MAP.pack(fd, 0, 0))  # a bytearray: for bytes, ioctl would not return the number
        try:
            backing_id: int = fcntl.ioctl(self._device_fd, _BACKING_OPEN, request, True)
        except OSError as exc:
            reason = _REASONS.get(exc.errno or 0)
            if reason is None:
                raise
            return BackingRefused(exc.errno or 0, reason)
        if not 0 < backing_id <= MAX_BACKING_ID:
            raise OSError(errno.EPROTO, f"the kernel returned the invalid backing id {backing_id}")
        self._ids.add(backing_id)
        self.told(backing_id, True)
        return backing_id

    def adopt(self, backing_id: int) -> None:
        """Add an id that a daemon before has registered on this connection."""
        self._ids.add(backing_id)

    def release(self, backing_id: int) -> None:
        """Release an id, which the kernel may have dropped with its connection. Open files stay open. Raises
        KeyError for an unknown id."""
        self._ids.remove(backing_id)
        self._close(backing_id)

    def forget(self, backing_id: int) -> None:
        """Count an id as released. The caller then passes the id to release_forgotten()."""
        self._ids.remove(backing_id)

    def release_forgotten(self, backing_ids: Iterable[int]) -> None:
        """Release ids as release() does, after forget(), and on any thread. Raises OSError as release()."""
        for backing_id in backing_ids:
            self._close(backing_id)

    def _close(self, backing_id: int) -> None:
        try:
            fcntl.ioctl(self._device_fd, _BACKING_CLOSE, _ID.pack(backing_id))
        except OSError as exc:
            if exc.errno not in (errno.ENOENT, errno.EPERM, errno.ENOTCONN):
                raise
        self.told(backing_id, False)

    def close(self) -> None:
        """Release all ids."""
        for backing_id in tuple(self._ids):
            self.release(backing_id)
