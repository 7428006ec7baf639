"""Writing of the files that commands produce."""

from __future__ import annotations

import contextlib
import errno
import os
import stat
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Final, TextIO

from policyfs.errors import PolicyfsError
from policyfs.linux import libc

_NO_UNNAMED: Final = frozenset({errno.EOPNOTSUPP, errno.EISDIR, errno.EINVAL})
"""Errors of open(2) with O_TMPFILE if the file system has no unnamed files, such as FAT and NFS."""


@contextlib.contextmanager
def private_file(path: str) -> Iterator[TextIO]:
    """Provide a new text file of mode 0600. When the context ends, the file replaces *path*.

    If *path* is a symbolic link, the file replaces the link. Another user may have made *path*, or may still
    have it open, so no byte is written into an existing file. After an error, *path* stays as it is. Raises
    OSError (EINVAL if *path* is a device, for example).
    """
    with contextlib.suppress(FileNotFoundError):
        mode = os.lstat(path).st_mode
        if not (stat.S_ISREG(mode) or stat.S_ISLNK(mode)):
            raise OSError(errno.EINVAL, "it is not a regular file", path)
    with replacing(path) as fd, open(fd, "w", encoding="utf-8", newline="") as file:
        yield file
        file.flush()
        os.fsync(file.fileno())


def write_private(path: str, text: str) -> None:
    """Write a text to a file of mode 0600, and replace an existing file. Raises PolicyfsError."""
    try:
        with private_file(path) as file:
            file.write(text)
    except OSError as error:
        raise PolicyfsError(f"cannot write {path}: {error.strerror or error}") from error


def replace_file(path: Path, data: bytes, *, known: bytes | None = None) -> None:
    """Replace a file's bytes in one step (rename), and keep its mode (no set-id bits) and owner.

    Without *known*, a missing file is made (mode 0600). With *known*, the file must exist and have these
    bytes right before the rename. *path* must be without symbolic links: one as its last name is an error. On
    any error the file stays as it is, and nothing is left beside it. Raises OSError, and PolicyfsError if the
    bytes are not the known ones.
    """
    flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
    with replacing(str(path)) as fd:
        with open(fd, "wb") as file:
            file.write(data)
            file.flush()
            if known is not None or os.path.lexists(path):
                # INVARIANT: no link is followed, and no set-id bit kept: others may exchange the file.
                with open(os.open(path, flags), "rb") as old:
                    like = os.fstat(old.fileno())
                if not stat.S_ISREG(like.st_mode):
                    raise OSError(errno.EINVAL, "it is not a regular file", str(path))
                with contextlib.suppress(PermissionError) if os.geteuid() else contextlib.nullcontext():
                    os.fchown(file.fileno(), like.st_uid, like.st_gid)
                os.fchmod(file.fileno(), like.st_mode & 0o777)
            os.fsync(file.fileno())
        if known is not None and _bytes_of(path, flags, len(known) + 1) != known:
            raise PolicyfsError(
                f"another program changed {path} meanwhile, so this command did not write the file: try again"
            )


def _bytes_of(path: Path, flags: int, most: int) -> bytes:
    with open(os.open(path, flags), "rb") as file:
        return file.read(most)


@contextlib.contextmanager
def new_file(path: str, mode: int | None = None) -> Iterator[int]:
    """Provide the descriptor of a new file. When the context ends, the file gets the name *path* and a mode
    (None: the one that the umask leaves of 0666).

    Until then no other user can read the file. After an error, or an interrupt, nothing is left of it. Raises
    OSError (EEXIST if the name is taken: no file is overwritten).
    """
    if os.path.lexists(path):
        raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), path)
    with contextlib.ExitStack() as stack:
        above = os.open(os.path.dirname(path) or ".", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        stack.callback(os.close, above)
        unnamed = _unnamed_file(above)
        fd = stack.enter_context(replacing(path)) if unnamed is None else unnamed
        stack.callback(os.close, fd)
        yield fd
        if mode is not None:
            os.fchmod(fd, mode)
        if unnamed is not None:
            libc.link_fd(fd, above, os.fsencode(os.path.basename(path)))
            return
        # The rename may replace only this empty file. Its mode is the one that the umask leaves.
        placeholder = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o666)
        stack.callback(os.close, placeholder)
        if mode is None:
            os.fchmod(fd, os.fstat(placeholder).st_mode & 0o777)


def _unnamed_file(above: int) -> int | None:
    """Create a file without a name in a directory. Return its descriptor, or None if that is impossible."""
    try:
        return os.open(".", os.O_TMPFILE | os.O_RDWR | os.O_CLOEXEC, 0o666, dir_fd=above)
    except OSError as error:
        if error.errno not in _NO_UNNAMED:
            raise
    return None


@contextlib.contextmanager
def replacing(path: str) -> Iterator[int]:
    """Provide the descriptor of a new file of mode 0600, which the caller closes. When the context ends, the
    file replaces *path*. After an error nothing is left of it."""
    # a short prefix: the file's own name may already have the greatest length
    fd, new = tempfile.mkstemp(prefix=".", dir=os.path.dirname(path) or ".")
    try:
        yield fd
        os.rename(new, path)
    except BaseException:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(new)
        raise


def write_new(files: Mapping[str, str]) -> None:
    """Write new text files, by their paths: all, or none. No file is overwritten. Raises PolicyfsError."""
    done: list[str] = []
    try:
        for path, data in [(path, text.encode()) for path, text in files.items()]:
            with new_file(path) as fd, open(fd, "wb", closefd=False) as file:
                file.write(data)
            done.append(path)
    except OSError as error:
        failed = next(path for path in files if path not in done)
        for path in done:
            os.unlink(path)
        raise PolicyfsError(f"cannot write {failed}: {error.strerror}") from error
