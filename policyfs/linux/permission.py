"""A check of another user's access: a child becomes that user, and asks the kernel (faccessat2(2))."""

from __future__ import annotations

import ctypes
import json
from collections.abc import Sequence
from typing import Final

from policyfs.linux.child import answer_of
from policyfs.linux.confinement.identity import become
from policyfs.linux.libc import AT_EMPTY_PATH, LIBC

_FACCESSAT2: Final = 439  # the same number on all architectures (arch/*/syscalls: common table since 5.8)
_AT_EACCESS: Final = 0x200


def first_refusal(uid: int, gid: int, groups: Sequence[int], wanted: Sequence[tuple[int, int]]) -> int | None:
    """Return the index of the first object to which a user lacks access, or None. wanted: descriptors (O_PATH
    is enough), each with a sum of R_OK, W_OK and X_OK. Needs root. Raises PermissionError."""

    def refused() -> bytes:
        become(uid, gid, groups)
        return json.dumps([at for at, (fd, mode) in enumerate(wanted) if not _may(fd, mode)][:1]).encode()

    answer = answer_of(refused, kept=[fd for fd, _ in wanted])
    if not answer:
        raise PermissionError(f"cannot become the user {uid}")
    return next(iter(json.loads(answer)), None)


def _may(fd: int, mode: int) -> bool:
    flags = AT_EMPTY_PATH | _AT_EACCESS
    number, empty = ctypes.c_long(_FACCESSAT2), ctypes.c_char_p(b"")
    answer: int = LIBC.syscall(number, ctypes.c_int(fd), empty, ctypes.c_int(mode), ctypes.c_int(flags))
    return answer == 0
