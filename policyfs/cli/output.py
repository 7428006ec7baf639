"""Files that commands write."""

from __future__ import annotations

import os

from policyfs.errors import PolicyfsError


def write_private(path: str, text: str) -> None:
    """Write a file that only its owner may read. An existing one is replaced. Raises PolicyfsError."""
    new = f"{path}.new"
    try:
        fd = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
        with open(fd, "w", encoding="utf-8") as file:
            file.write(text)
        os.replace(new, path)
    except OSError as error:
        raise PolicyfsError(f"cannot write {path}: {error.strerror or error}") from error
