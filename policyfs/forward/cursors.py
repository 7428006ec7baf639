"""Cursors: files that say how far the lines of the trail were delivered to each sink.

A sink is a file or command that gets the lines. Its cursor has a position in each hash chain.
"""

from __future__ import annotations

import fcntl
import json
import os
from typing import Final

from policyfs.errors import PolicyfsError
from policyfs.forward.follower import Position
from policyfs.journal.files.segments import write_file
from policyfs.linux.private_files import make_private

_SUFFIX: Final = ".cursor"
_FLAGS: Final = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


class CursorStore:
    """The directory of the cursors (positions of sinks in the trail), locked against a second forwarder."""

    def __init__(self, path: str) -> None:
        """Open and lock the directory. Create it if it is missing. Raises PolicyfsError."""
        self.path: Final = path
        try:
            make_private(path)
            self._fd: Final = os.open(path, _FLAGS)
            try:
                fcntl.flock(self._fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                os.close(self._fd)
                raise PolicyfsError(
                    f"another `policyfs audit forward` uses {path}: end that process first"
                ) from None
        except OSError as exc:
            raise PolicyfsError(f"cannot use {path}, the `state:` directory: {exc.strerror}") from exc

    def load(self, sink: str) -> dict[str, Position] | None:
        """Return the position of a sink or alert in each hash chain, by the chain's name; None if it is new.
        sink: the id of the sink or alert in the configuration. Raises PolicyfsError."""
        try:
            with open(os.open(sink + _SUFFIX, os.O_RDONLY | os.O_NOFOLLOW, dir_fd=self._fd), "rb") as file:
                chains = json.loads(file.read())["chains"]
            return {str(mount_id): _position(fields) for mount_id, fields in chains.items()}
        except FileNotFoundError:
            return None
        except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as exc:
            where = f"{self.path}/{sink}{_SUFFIX}"
            raise PolicyfsError(
                f"cannot read {where}: {exc}. The file has the position of {sink} in the trail. If you remove"
                f" the file, {sink} begins as if it were new"
            ) from exc

    def save(self, sink: str, positions: dict[str, Position]) -> None:
        """Write the positions of a sink or alert to the disk. Raises OSError. After a crash, the file has
        either all old or all new positions."""
        chains = {mount_id: one._asdict() for mount_id, one in positions.items()}
        write_file(self._fd, sink + _SUFFIX, json.dumps({"chains": chains}).encode() + b"\n")

    def tell(self, name: str, fields: dict[str, object]) -> None:
        """Write *fields* as JSON to the file *name* beside the cursors, for people. Raises OSError."""
        write_file(self._fd, name, json.dumps(fields, indent=1).encode() + b"\n")

    def close(self) -> None:
        """Close the directory, and so release its lock."""
        os.close(self._fd)


def _position(fields: dict[str, object]) -> Position:
    values = [fields[name] for name in Position._fields]
    for value, default in zip(values, Position(), strict=True):
        if type(value) is not type(default):
            raise TypeError(f"{value!r} is not part of a position")
    return Position(*values)  # type: ignore[arg-type]
