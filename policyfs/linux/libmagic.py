"""libmagic(3): the kind of a file, by the file's first bytes."""

from __future__ import annotations

import ctypes
import os
from typing import Final

_SONAME: Final = "libmagic.so.1"
_MIME_TYPE: Final = 0x10  # magic.h
_FUNCTIONS: Final = (
    ("magic_open", ctypes.c_void_p, (ctypes.c_int,)),
    ("magic_load", ctypes.c_int, (ctypes.c_void_p, ctypes.c_char_p)),
    ("magic_buffer", ctypes.c_char_p, (ctypes.c_void_p, ctypes.c_char_p, ctypes.c_size_t)),
    ("magic_error", ctypes.c_char_p, (ctypes.c_void_p,)),
    ("magic_close", None, (ctypes.c_void_p,)),
    ("magic_version", ctypes.c_int, ()),
    ("magic_getpath", ctypes.c_char_p, (ctypes.c_char_p, ctypes.c_int)),
)
"""Name, result and arguments of each function (magic.h)."""


class MagicError(Exception):
    """The error if libmagic is missing, has no database, or fails."""


class Magic:
    """libmagic with its default database. Not for several threads at once."""

    def __init__(self) -> None:
        """Load the library and the database. Raises MagicError."""
        self._library = _library()
        self._cookie: int | None = self._library.magic_open(_MIME_TYPE)
        if self._cookie is None:
            raise MagicError("libmagic has no memory")
        if self._library.magic_load(self._cookie, None):
            raise self._failed()

    def __del__(self) -> None:
        if getattr(self, "_cookie", None) is not None:
            self._library.magic_close(self._cookie)

    def kind(self, head: bytes) -> str:
        """Return the MIME type of a file that begins with these bytes. Raises MagicError."""
        answer: bytes | None = self._library.magic_buffer(self._cookie, head, len(head))
        if answer is None:
            raise self._failed()
        return answer.decode("utf-8", "backslashreplace")

    def _failed(self) -> MagicError:
        reason: bytes | None = self._library.magic_error(self._cookie)
        return MagicError((reason or b"no reason given").decode("utf-8", "backslashreplace"))


def version() -> int:
    """Return the library's version, such as 544 for 5.44. Raises MagicError."""
    return int(_library().magic_version())


def database() -> str:
    """Return the paths of the default database, separated by colons. Raises MagicError."""
    return os.fsdecode(_library().magic_getpath(None, 0) or b"")


def _library() -> ctypes.CDLL:
    # By its soname: ctypes.util.find_library would start programs (ldconfig, or gcc from PATH).
    try:
        library = ctypes.CDLL(_SONAME)
    except OSError as error:
        raise MagicError(str(error)) from error
    for name, result, arguments in _FUNCTIONS:
        function = getattr(library, name)
        function.restype, function.argtypes = result, arguments
    return library
