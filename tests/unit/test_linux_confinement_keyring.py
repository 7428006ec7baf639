"""A process that leaves its session keyring has its keys no more."""

from __future__ import annotations

import ctypes
import errno
import platform

import pytest

from policyfs.linux.confinement import keyring
from tests.support.machine.processes import call_as

ADD_KEY, KEYCTL = {"x86_64": (248, 250), "aarch64": (217, 219)}[platform.machine()]


def _finds_key() -> bool:
    libc = ctypes.CDLL(None)
    return libc.syscall(KEYCTL, 10, -3, b"user", b"policyfs-test", 0) > 0


def _leaves() -> tuple[bool, bool]:
    libc = ctypes.CDLL(None)
    assert libc.syscall(KEYCTL, 1, None) > 0
    assert libc.syscall(ADD_KEY, b"user", b"policyfs-test", b"secret", 6, -3) > 0
    before = _finds_key()
    keyring.leave_session_keyring()
    return before, _finds_key()


def test_it_is_left_with_its_keys() -> None:
    assert call_as(10010, _leaves) == (True, False)


@pytest.mark.parametrize("code", [errno.ENOSYS, errno.EPERM, errno.EDQUOT])
def test_only_a_kernel_that_has_none_is_forgiven(monkeypatch: pytest.MonkeyPatch, code: int) -> None:
    class Refuses:
        @staticmethod
        def syscall(*_: object) -> int:
            ctypes.set_errno(code)
            return -1

    monkeypatch.setattr(keyring, "LIBC", Refuses)
    if code == errno.EDQUOT:
        with pytest.raises(OSError, match="keyring"):
            keyring.leave_session_keyring()
    else:
        keyring.leave_session_keyring()
