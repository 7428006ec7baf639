"""The cursor: a file that says how far the lines of the trail were written out, for each hash chain."""

from __future__ import annotations

import fcntl
import json
import os
from typing import Final

from policyfs.errors import PolicyfsError
from policyfs.follow.follower import Position
from policyfs.journal.files.segments import write_file
from policyfs.linux.private_files import make_private

_FLAGS: Final = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC

Positions = dict[str, Position | None]
"""Dictionary from the name of a hash chain to the position in it; None: at its oldest line."""


class Cursor:
    """The file of a cursor, in a directory that is locked against a second reader."""

    def __init__(self, path: str) -> None:
        """Open and lock the directory of the file. Create it if it is missing. Raises PolicyfsError."""
        self._path: Final = path
        directory, self._name = os.path.split(os.path.abspath(path))
        try:
            make_private(directory)
            self._fd: Final = os.open(directory, _FLAGS)
            fcntl.flock(self._fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(self._fd)
            raise PolicyfsError(
                f"another `policyfs audit follow` has its cursor in {directory}: use another directory"
            ) from None
        except OSError as exc:
            raise PolicyfsError(f"cannot use {directory} for the cursor: {exc.strerror}") from exc

    def load(self) -> Positions | None:
        """Return the positions, or None if there is no file yet. Raises PolicyfsError."""
        try:
            with open(os.open(self._name, os.O_RDONLY | os.O_NOFOLLOW, dir_fd=self._fd), "rb") as file:
                chains = json.loads(file.read())["chains"]
            return {str(mount_id): _position(fields) for mount_id, fields in chains.items()}
        except FileNotFoundError:
            return None
        except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as exc:
            raise PolicyfsError(
                f"cannot read the cursor {self._path}: {exc}. If you remove it, all lines come again"
            ) from exc

    def save(self, positions: Positions) -> None:
        """Write the positions to the disk. After a crash, the file has either all old or all new ones. Raises
        PolicyfsError."""
        chains = {mount_id: one and one._asdict() for mount_id, one in positions.items()}
        try:
            write_file(self._fd, self._name, json.dumps({"chains": chains}).encode() + b"\n")
        except OSError as exc:
            raise PolicyfsError(
                f"cannot write the cursor {self._path}: {exc.strerror}. The next start repeats some lines"
            ) from exc


def _position(fields: dict[str, object] | None) -> Position | None:
    if fields is None:
        return None
    values = [fields[name] for name in Position._fields]
    for value, default in zip(values, Position(), strict=True):
        if type(value) is not type(default):
            raise TypeError(f"{value!r} is not part of a position")
    return Position(*values)  # type: ignore[arg-type]
