"""Writing of the files that commands produce."""

from __future__ import annotations

import contextlib
import os
import tempfile
from pathlib import Path

from policyfs.errors import PolicyfsError


def write_private(path: str, text: str) -> None:
    """Write a text to a file of mode 0600, and replace an existing file. Raises PolicyfsError."""
    new = f"{path}.new"
    try:
        fd = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
        with open(fd, "w", encoding="utf-8") as file:
            file.write(text)
        os.replace(new, path)
    except OSError as error:
        raise PolicyfsError(f"cannot write {path}: {error.strerror or error}") from error


def replace_file(path: Path, data: bytes, *, known: bytes | None = None) -> None:
    """Replace a file's bytes in one step (rename), and keep its mode and owner.

    Without *known*, a missing file is made (mode 0600). With *known*, the file must exist and have these
    bytes right before the rename. *path* must be without symbolic links: a link itself would be replaced. On
    any error the file stays as it is, and nothing is left beside it. Raises OSError, and PolicyfsError if the
    bytes are not the known ones.
    """
    # a short prefix: the file's own name may already have the greatest length
    fd, new = tempfile.mkstemp(prefix=".", dir=path.parent)
    try:
        with open(fd, "wb") as file:
            file.write(data)
            file.flush()
            if known is not None or path.exists():
                stat = path.stat()
                os.fchown(file.fileno(), stat.st_uid, stat.st_gid)
                os.fchmod(file.fileno(), stat.st_mode & 0o7777)  # last: fchown clears set-id bits
            os.fsync(file.fileno())
        if known is not None and path.read_bytes() != known:
            raise PolicyfsError(
                f"another program changed {path} meanwhile, so this command did not write the file: try again"
            )
        os.rename(new, path)
    except BaseException:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(new)
        raise
