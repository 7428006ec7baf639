"""Backing ids: what is asked of the kernel, refusals that mean "no passthrough", and one release each."""

from __future__ import annotations

import errno
import fcntl
import struct

import pytest

from policyfs.kernel.backing import Backing, BackingRefused
from policyfs.kernel.bridge import MAX_BACKING_ID

DEVICE = 77
OPEN, CLOSE = 0x4010E501, 0x4004E502


class Kernel:
    """Stands in for ioctl(2) on the device: gives ids one after the other, or fails."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.next, self.fails = 1, 0
        self.opened: list[tuple[int, ...]] = []
        self.closed: list[int] = []
        monkeypatch.setattr(fcntl, "ioctl", self)

    def __call__(self, fd: int, request: int, argument: bytes | bytearray, *_: object) -> int:
        assert fd == DEVICE
        if self.fails:
            raise OSError(self.fails, "no")
        if request == OPEN:
            assert isinstance(argument, bytearray), "ioctl would return the bytes"
            self.opened.append(struct.unpack("=iIQ", argument))
            self.next += 1
            return self.next - 1
        assert request == CLOSE
        self.closed.append(struct.unpack("=I", argument)[0])
        return 0


@pytest.fixture
def kernel(monkeypatch: pytest.MonkeyPatch) -> Kernel:
    return Kernel(monkeypatch)


def test_each_id_is_released_once(kernel: Kernel) -> None:
    backing = Backing(DEVICE)
    assert [backing.register(5), backing.register(6)] == [1, 2]
    assert kernel.opened == [(5, 0, 0), (6, 0, 0)]
    assert backing.live == 2
    backing.release(1)
    with pytest.raises(KeyError):
        backing.release(1)
    with pytest.raises(KeyError):
        backing.release(3)
    backing.close()
    backing.close()
    assert kernel.closed == [1, 2]
    assert backing.live == 0


def test_a_forgotten_id_is_released_later(kernel: Kernel) -> None:
    backing = Backing(DEVICE)
    assert [backing.register(5), backing.register(6)] == [1, 2]
    backing.forget(1)
    assert backing.live == 1
    backing.close()
    assert kernel.closed == [2]
    backing.release_forgotten([1])
    assert kernel.closed == [2, 1]


@pytest.mark.parametrize("code", [errno.EPERM, errno.ELOOP, errno.EOPNOTSUPP, errno.ENOTTY])
def test_a_refusal_of_passthrough_is_an_answer(kernel: Kernel, code: int) -> None:
    kernel.fails = code
    backing = Backing(DEVICE)
    answer = backing.register(5)
    assert isinstance(answer, BackingRefused)
    assert answer.errno == code
    assert answer.reason
    assert backing.live == 0


@pytest.mark.parametrize("code", [errno.EBADF, errno.EISDIR, errno.EINVAL, errno.ENOMEM])
def test_anything_else_is_an_error(kernel: Kernel, code: int) -> None:
    kernel.fails = code
    backing = Backing(DEVICE)
    with pytest.raises(OSError, match="no") as caught:
        backing.register(5)
    assert caught.value.errno == code
    assert backing.live == 0


@pytest.mark.parametrize("given", [-1, 0, MAX_BACKING_ID + 1])
def test_an_id_that_a_handle_cannot_carry_is_an_error(kernel: Kernel, given: int) -> None:
    kernel.next = given
    backing = Backing(DEVICE)
    with pytest.raises(OSError, match=str(given)):
        backing.register(5)
    assert backing.live == 0


@pytest.mark.parametrize("code", [errno.ENOENT, errno.EPERM, errno.ENOTCONN])
def test_an_id_that_went_with_its_connection_is_released(kernel: Kernel, code: int) -> None:
    backing = Backing(DEVICE)
    backing.register(5)
    kernel.fails = code
    backing.close()
    assert backing.live == 0


def test_a_release_that_fails_otherwise_is_told_and_not_tried_again(kernel: Kernel) -> None:
    backing = Backing(DEVICE)
    backing.register(5)
    kernel.fails = errno.EIO
    with pytest.raises(OSError, match="no"):
        backing.release(1)
    assert backing.live == 0
