"""Seals of stored indexes and known digests: HMAC-SHA256, so that no other user can change a file unnoticed.

The key is of the user who reads the trail, in a directory that only this user can enter (root's also has the
keys that sign the trail). If it is lost, the indexes are made again.
"""

from __future__ import annotations

import contextlib
import hmac
import os
import shlex
import stat
from pathlib import Path
from typing import Final

from policyfs.journal.files.segments import DIRECTORY, REGULAR, synced_file
from policyfs.linux.private_files import make_private

SEAL_BYTES: Final = 72
"""The length of a seal with its newline in bytes, a multiple of 8."""

_NAME: Final = "index.key"
_KEY_BYTES: Final = 32


class IndexSeal:
    """A maker and checker of the seals of one user's indexes. The constructor raises OSError if the key
    cannot be read or created, or others could read it."""

    def __init__(self, directory: Path) -> None:
        """directory: the directory of the secret key, which is created with mode 0700 if missing."""
        make_private(directory)
        place = os.open(directory, DIRECTORY)
        try:
            _check(os.fstat(place), directory)
            self._key: Final = _key_in(place)
        finally:
            os.close(place)

    def of(self, name: str, data: bytes) -> bytes:
        """Return the seal of the file *name* as bytes. data: the bytes of the file behind the seal."""
        digest = hmac.new(self._key, name.encode() + b"\n", "sha256")
        digest.update(data)
        return digest.hexdigest().ljust(SEAL_BYTES - 1).encode("ascii") + b"\n"

    def fits(self, seal: bytes, name: str, data: bytes) -> bool:
        """Return True if *seal* is the right seal for the file *name* with the bytes *data*."""
        return hmac.compare_digest(seal, self.of(name, data))


def _check(info: os.stat_result, path: Path | str) -> None:
    if info.st_uid != os.geteuid() or info.st_mode & 0o077:
        raise PermissionError(1, f"others could read or change {path}: chmod go= {shlex.quote(str(path))}")


def _key_in(place: int) -> bytes:
    for _ in range(2):
        with contextlib.suppress(FileNotFoundError):
            return _read(place)
        _make(place)
    return _read(place)


def _read(place: int) -> bytes:
    with open(os.open(_NAME, REGULAR, dir_fd=place), "rb") as file:
        info = os.fstat(file.fileno())
        _check(info, _NAME)
        key = file.read(_KEY_BYTES + 1)
    if not stat.S_ISREG(info.st_mode) or len(key) != _KEY_BYTES:
        raise OSError(f"{_NAME} is not a key: remove this file, and policyfs makes a new key")
    return key


def _make(place: int) -> None:
    """Create the key's file with all bytes at once; one of another process stays."""
    new = f".new-{_NAME}-{os.urandom(8).hex()}"
    try:
        with synced_file(place, new) as file:
            file.write(os.urandom(_KEY_BYTES))
        with contextlib.suppress(FileExistsError):
            os.link(new, _NAME, src_dir_fd=place, dst_dir_fd=place)
    finally:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(new, dir_fd=place)
