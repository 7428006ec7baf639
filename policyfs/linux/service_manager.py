"""Messages to the service manager that started this process: sd_notify(3), for units of Type=notify."""

from __future__ import annotations

import contextlib
import os
import socket
import struct


def is_journal(fd: int) -> bool:
    """Return True if a descriptor leads to systemd's journal, which gives each line its time itself."""
    found = os.fstat(fd)
    return os.environ.get("JOURNAL_STREAM") == f"{found.st_dev}:{found.st_ino}"  # systemd.exec(5)


class ServiceManager:
    """The socket $NOTIFY_SOCKET, if any, opened at once: later the daemon may open none."""

    def __init__(self) -> None:
        self._socket: socket.socket | None = None
        self._pid = os.getpid()
        if address := os.environ.get("NOTIFY_SOCKET"):
            self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC)
            self._socket.connect("\0" + address[1:] if address[0] == "@" else address)

    @property
    def waits(self) -> bool:
        """True if a service manager waits for ready()."""
        return self._socket is not None

    @property
    def is_reload(self) -> bool:
        """True if this command is the reload (ExecReload=) of a unit whose new main process it may name."""
        return self._socket is not None and "MAINPID" in os.environ  # systemd.exec(5)

    def main_is(self, pid: int) -> None:
        """Tell the service manager the unit's new main process, as the last message. Raises OSError."""
        if self._socket is not None:
            with self._socket:
                self._socket.send(f"MAINPID={pid}".encode())
            self._socket = None

    def ready(self) -> None:
        """Tell the service manager that the service has started. Only the first call sends a message. A child
        of the service's process, for which this object was made, sends it in the name of that process."""
        if self._socket is not None:
            with contextlib.suppress(OSError), self._socket:
                whose = struct.pack("=iII", self._pid, os.getuid(), os.getgid())  # struct ucred (unix(7))
                named = [(socket.SOL_SOCKET, socket.SCM_CREDENTIALS, whose)]
                self._socket.sendmsg([b"READY=1"], named if os.getpid() != self._pid else [])
            self._socket = None
