"""Directories that no other user can change, whatever the umask of the caller is."""

from __future__ import annotations

import os
from contextlib import suppress
from typing import Final

_PARENT: Final = 0o755


def make_private(path: str | os.PathLike[str], mode: int = 0o700) -> None:
    """Make a directory with this mode, unless it exists. Make missing parents so that only their owner may
    change them. Raises OSError.

    os.makedirs and Path.mkdir give parents the mode 0777 less the umask. With umask 0, every user could then
    replace the directory.
    """
    try:
        os.mkdir(path, mode)
    except FileExistsError:
        if not os.path.isdir(path):
            raise
    except FileNotFoundError:
        above = os.path.dirname(os.path.abspath(path))
        if above == os.path.abspath(path):
            raise
        make_private(above, _PARENT)
        with suppress(FileExistsError):  # another process made it meanwhile
            os.mkdir(path, mode)
