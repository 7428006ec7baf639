"""Read leases: they show programs that have a file open for writing."""

from __future__ import annotations

import errno
import fcntl
import os
import signal
from pathlib import Path

import pytest

from policyfs.linux.leases import writers_seen


def test_a_command_sees_programs_that_write_a_file(tmp_path: Path) -> None:
    file = tmp_path / "a"
    file.write_text("words")
    fd = os.open(file, os.O_RDONLY)
    before = signal.getsignal(signal.SIGIO)
    try:
        with writers_seen(fd) as written:
            assert not written()
            assert signal.getsignal(signal.SIGIO) == signal.SIG_IGN
            with pytest.raises(BlockingIOError):
                os.open(file, os.O_WRONLY | os.O_NONBLOCK)
            assert written()
        assert fcntl.fcntl(fd, fcntl.F_GETLEASE) == fcntl.F_UNLCK
        with file.open("a"), writers_seen(fd) as written:
            assert written()
        assert signal.getsignal(signal.SIGIO) == before
    finally:
        os.close(fd)


def test_without_an_answer_of_the_kernel_no_writer_is_overlooked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Root without CAP_LEASE gets EACCES for a file of another user."""
    (tmp_path / "a").write_text("words")
    fd = os.open(tmp_path / "a", os.O_RDONLY)
    before = signal.getsignal(signal.SIGIO)

    def refuses(*_: object) -> int:
        raise PermissionError(errno.EACCES, "Permission denied")

    monkeypatch.setattr(fcntl, "fcntl", refuses)
    with pytest.raises(PermissionError, match="cannot find out"), writers_seen(fd):
        pass
    signal.signal(signal.SIGIO, before)
    os.close(fd)
