"""The trial mount: the answer to INIT, the file that is tried, and nothing left behind."""

from __future__ import annotations

import os
import socket
import stat
import struct
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest

from policyfs.kernel import trial
from policyfs.kernel.backing import BackingRefused
from policyfs.kernel.protocol import InitFlag, Opcode
from policyfs.kernel.session import MountError
from policyfs.kernel.trial import try_passthrough

OFFERED = InitFlag.INIT_EXT | InitFlag.PASSTHROUGH | InitFlag.ASYNC_READ
REFUSAL = BackingRefused(1, "no rights")


class Kernel:
    """The other end of the device: one request is there, and the answer is read afterwards."""

    def __init__(self) -> None:
        self.end, device = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self.device = device.detach()
        self.where: list[str] = []
        self.left: list[str] = []
        self.answer: int | BackingRefused = 1
        self.closed = False
        self.tried: os.stat_result | None = None
        self.mode = -1

    def send(self, opcode: int, offered: int = int(OFFERED)) -> None:
        body = struct.pack("=IIIII", 7, 45, 65536, offered & 0xFFFFFFFF, offered >> 32)
        self.end.send(struct.pack("=IIQQIIIHH", 40 + len(body), opcode, 6, 0, 0, 0, 0, 0, 0) + body)

    def mount_device(self, where: str, **options: object) -> SimpleNamespace:
        assert os.path.isdir(where)
        assert options["allow_other"] is False
        self.where.append(where)
        return SimpleNamespace(fd=self.device)

    def unmount(self, where: str, *, lazy: bool) -> None:
        assert lazy
        with pytest.raises(OSError, match="Bad file descriptor"):
            os.fstat(self.device)
        self.left.append(where)

    def backing(self, fd: int) -> Kernel:
        assert fd == self.device
        return self

    def register(self, fd: int) -> int | BackingRefused:
        self.tried = os.fstat(fd)
        with pytest.raises(OSError, match="Bad file descriptor"):
            os.write(fd, b"x")
        return self.answer

    def close(self) -> None:
        self.closed = True


@pytest.fixture
def kernel(monkeypatch: pytest.MonkeyPatch) -> Iterator[Kernel]:
    before = len(os.listdir("/proc/self/fd"))
    made = Kernel()
    monkeypatch.setattr(trial, "mount_device", made.mount_device)
    monkeypatch.setattr(trial, "unmount", made.unmount)
    monkeypatch.setattr(trial, "Backing", made.backing)
    yield made
    assert made.left == made.where
    assert not any(Path(where).exists() for where in made.where)
    made.end.close()
    assert len(os.listdir("/proc/self/fd")) == before, "a descriptor is left over"


@pytest.mark.parametrize(("answer", "refusal"), [(1, None), (REFUSAL, REFUSAL)])
def test_what_the_kernel_offers_and_answers_is_told(
    kernel: Kernel, answer: int | BackingRefused, refusal: BackingRefused | None
) -> None:
    kernel.answer = answer
    kernel.send(Opcode.INIT)
    found = try_passthrough()
    assert (found.minor, found.offered, found.backing) == (45, OFFERED, refusal)
    assert kernel.closed


def test_the_answer_agrees_to_passthrough_and_to_nothing_else(kernel: Kernel) -> None:
    kernel.send(Opcode.INIT)
    try_passthrough()
    reply = kernel.end.recv(4096)
    length, error, unique = struct.unpack_from("=IiQ", reply)
    assert (length, error, unique) == (len(reply), 0, 6)
    assert len(reply) == 16 + 64, "struct fuse_init_out"
    low, high = struct.unpack_from("=I", reply, 16 + 12)[0], struct.unpack_from("=I", reply, 16 + 32)[0]
    assert InitFlag(low | high << 32) == InitFlag.INIT_EXT | InitFlag.PASSTHROUGH
    assert struct.unpack_from("=I", reply, 16 + 36) == (1,), "max_stack_depth"


def test_a_file_of_the_given_file_system_is_tried_and_has_no_name(kernel: Kernel, tmp_path: Path) -> None:
    kernel.send(Opcode.INIT)
    try_passthrough(str(tmp_path))
    assert kernel.tried is not None
    assert stat.S_ISREG(kernel.tried.st_mode)
    assert (kernel.tried.st_dev, kernel.tried.st_nlink) == (tmp_path.stat().st_dev, 0)
    assert not any(tmp_path.iterdir())


def test_a_silent_kernel_is_not_waited_for(kernel: Kernel, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(trial, "_DEADLINE_MS", 10)
    with pytest.raises(MountError, match="did not begin"):
        try_passthrough()


def test_another_first_request_is_an_error(kernel: Kernel) -> None:
    kernel.send(Opcode.GETATTR)
    with pytest.raises(MountError, match="instead of INIT"):
        try_passthrough()
    assert kernel.tried is None
