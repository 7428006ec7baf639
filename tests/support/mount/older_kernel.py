"""`policyfs` to which the kernel seems to be an older one: flags and version of INIT, and the rest.

    POLICYFS_TEST_KERNEL=6.1 python -m tests.support.mount.older_kernel mount --foreground ...

With POLICYFS_TEST_DAEMON=tests.support.mount.older_kernel every test runs against it.
"""

from __future__ import annotations

import errno
import os
import struct
import sys
from typing import Final, NamedTuple

from policyfs.cli.main import main
from policyfs.kernel import backing, notify, session, trial
from policyfs.kernel.protocol import InitFlag


class Kernel(NamedTuple):
    """FUSE 7.minor, the highest INIT flag, and the highest notification of a release (uapi/linux/fuse.h)."""

    minor: int
    highest_bit: int
    highest_code: int


KERNELS: Final = {
    "6.1": Kernel(37, 33, 6),
    "6.6": Kernel(39, 36, 6),
    "6.8": Kernel(39, 36, 6),
    "6.12": Kernel(41, 40, 7),
}
_HEADER: Final = struct.Struct("=IiQ")
_ENTRY_CODE, _ENTRY_FLAGS = 3, slice(28, 32)


def pretend(kernel: Kernel) -> None:
    """Let this process see a kernel as it was."""
    known = InitFlag((1 << kernel.highest_bit + 1) - 1)
    prepare, init_answer, answer_init = session.prepare, session.init_answer, trial.answer_init
    register, send_all = backing.Backing.register, notify.write_notifications
    send_one = notify.Notifier._written

    def refused(message: bytes) -> int:
        _, code, _ = _HEADER.unpack_from(message)
        if code > kernel.highest_code:
            return errno.EINVAL
        flagged = code == _ENTRY_CODE and any(message[_ENTRY_FLAGS])
        assert not flagged or kernel.minor >= 38, "EXPIRE_ONLY, which this kernel would not see"
        return 0

    def prepared(flags: int, depth: int) -> None:
        prepare(flags & known, depth if InitFlag.PASSTHROUGH & known else 0)

    def answered() -> tuple[int, int, int, int, int] | None:
        answer = init_answer()
        return answer and (min(answer[0], kernel.minor), answer[1] & known, *answer[2:])

    def tried(fd: int) -> tuple[int, InitFlag]:
        minor, offered = answer_init(fd)
        return min(minor, kernel.minor), offered & known

    def registered(self: backing.Backing, fd: int) -> int | backing.BackingRefused:
        if InitFlag.PASSTHROUGH & known:
            return register(self, fd)
        return backing.BackingRefused(errno.ENOTTY, backing._REASONS[errno.ENOTTY])

    def sent(fd: int, several: bytes) -> tuple[int, int, int]:
        at = 0
        while at < len(several):
            size, _, _ = _HEADER.unpack_from(several, at)
            if error := refused(several[at : at + size]):
                return 0, 0, error
            at += size
        return send_all(fd, several)

    def written(self: notify.Notifier, message: bytes) -> int:
        return refused(message) or send_one(self, message)

    for owner, name, value in (
        (session, "prepare", prepared), (session, "init_answer", answered), (trial, "answer_init", tried),
        (backing.Backing, "register", registered), (notify, "write_notifications", sent),
        (notify.Notifier, "_written", written),
    ):  # fmt: skip
        assert hasattr(owner, name), name
        setattr(owner, name, value)


if __name__ == "__main__":
    pretend(KERNELS[os.environ["POLICYFS_TEST_KERNEL"]])
    sys.exit(main(sys.argv[1:]))
