"""The opener: a process that may read the trail, and passes open files of the trail to the reader.

The reader is the process that parses and writes lines. It runs as another user, who can neither read nor
write the trail. The opener has no network, and keeps only the capability to end the reader. With Landlock it
can open only the trail, and only for reading. It answers two requests of the reader.
"""

from __future__ import annotations

import json
import os
import socket
import struct
from pathlib import Path
from typing import Final

from policyfs.errors import PolicyfsError
from policyfs.follow.source import DirectAccess, Listing
from policyfs.journal.files.segments import segment_number
from policyfs.linux.confinement import capabilities
from policyfs.linux.confinement.capabilities import Capability
from policyfs.linux.confinement.landlock import read_only_below
from policyfs.linux.libc import LIBC

_CLONE_NEWNET: Final = 0x40000000
_HEAD: Final = struct.Struct("<I")
_QUESTION: Final = 4096


def contain(directories: list[str]) -> None:
    """Give up all rights that the opener does not need. Raises OSError if capabilities cannot be dropped.
    directories: the only directories below which this process may read files from now on."""
    LIBC.unshare(_CLONE_NEWNET)  # may fail: Landlock remains, and no code of the opener uses a network
    capabilities.no_new_privs()
    capabilities.keep(frozenset({Capability.KILL}))  # to end the reader, which has another uid
    read_only_below([path for path in directories if os.path.isdir(path)])


class Opener:
    """The server in the opener's process. It answers the reader's requests for files of the trail."""

    def __init__(self, connection: socket.socket, root: Path) -> None:
        self._connection: Final = connection
        self._root: Final = root
        self._access: Final = DirectAccess(root)

    def serve(self) -> None:
        """Answer the reader's requests until the reader has ended. Raises PolicyfsError if this process
        may not read the trail root."""
        with self._connection, self._connection.makefile("rb") as questions:
            while question := questions.readline(_QUESTION):
                try:
                    self._answer(json.loads(question))
                except (BrokenPipeError, ConnectionResetError):
                    return

    def _answer(self, words: list[str]) -> None:
        fd: int | None = None
        answer: dict[str, object] = {}
        try:
            match words:
                case ["chains"]:
                    answer["chains"] = self._access.chains()
                case ["open", mount_id, name] if segment_number(name) is not None:
                    fd = self._access.open(mount_id, name)
                case _:
                    answer["errno"] = 22
        except OSError as exc:
            if isinstance(exc, PermissionError):
                self._check_root()
            answer = {"errno": exc.errno or 5, "error": str(exc)}
        text = json.dumps(answer).encode()
        head = _HEAD.pack(len(text))
        try:
            socket.send_fds(self._connection, [head], [] if fd is None else [fd])
            self._connection.sendall(text)
        finally:
            if fd is not None:
                os.close(fd)

    def _check_root(self) -> None:
        """Raise PolicyfsError if the trail root may not be read: Landlock permits the one at the start."""
        try:
            os.listdir(self._root)
        except PermissionError as exc:
            raise PolicyfsError(
                f"may not read {self._root}: it was made or mounted after the start of this command, or does"
                " not belong to root; start the command again"
            ) from exc
        except OSError:
            pass  # such as a missing root. Once a new root is made, a later request raises PolicyfsError


class OpenerAccess:
    """Access to the trail by requests to the opener, a process that may read the trail. Not thread-safe."""

    def __init__(self, connection: socket.socket) -> None:
        self._connection: Final = connection

    def chains(self) -> Listing:
        """Return the names of the files (segments) of each hash chain, or {} if there is no trail."""
        found = self._ask("chains")[0]["chains"]
        assert isinstance(found, dict)  # noqa: S101 - for the type checker
        return found

    def open(self, mount_id: str, name: str) -> int:
        """Return a descriptor for reading the file *name* of the hash chain *mount_id*. Raises OSError."""
        _, fds = self._ask("open", mount_id, name)
        return fds[0]

    def _ask(self, *words: str) -> tuple[dict[str, object], list[int]]:
        self._connection.sendall(json.dumps(words).encode() + b"\n")
        head, fds, _, _ = socket.recv_fds(self._connection, _HEAD.size, 1)
        for fd in fds:
            os.set_inheritable(fd, False)
        head += self._exactly(_HEAD.size - len(head))
        answer = json.loads(self._exactly(_HEAD.unpack(head)[0]))
        if "errno" in answer:
            raise OSError(answer["errno"], answer.get("error", os.strerror(answer["errno"])))
        return answer, fds

    def _exactly(self, size: int) -> bytes:
        parts = []
        while size:
            part = self._connection.recv(min(size, 1 << 16))
            if not part:
                raise ConnectionResetError(104, "the opener has ended")
            parts.append(part)
            size -= len(part)
        return b"".join(parts)
