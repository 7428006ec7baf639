"""Answers of children, a process that ends with another one, and signals that name another sender."""

from __future__ import annotations

import contextlib
import fcntl
import os
import signal
from pathlib import Path

import pytest

from policyfs.linux.child import answer_of, close_others, end_with_writer, send_as
from tests.support.machine.inchild import in_child


def test_the_answer_comes_from_a_child_without_other_descriptors(tmp_path: Path) -> None:
    kept, other = os.open(tmp_path, os.O_PATH), os.open(tmp_path, os.O_PATH)
    try:
        found = answer_of(lambda: b" ".join(_descriptors()), kept=(kept,))
    finally:
        os.close(kept)
        os.close(other)
    assert found is not None
    assert str(kept).encode() in found.split()
    assert not {b"0", b"1", b"2", b"%d" % other} & set(found.split())


def _descriptors() -> list[bytes]:
    return [b"%d" % fd for fd in range(4096) if os.path.exists(f"/proc/self/fd/{fd}")]


def test_an_answer_may_be_larger_than_a_pipe_but_not_than_the_limit() -> None:
    assert answer_of(lambda: bytes(1_000_000)) == bytes(1_000_000)
    assert answer_of(lambda: bytes(1_000_000), most=999_999) is None


def test_a_child_that_raises_or_is_killed_has_no_answer(capfd: pytest.CaptureFixture[str]) -> None:
    assert answer_of(lambda: os.kill(os.getpid(), signal.SIGKILL) or b"") == b""
    assert answer_of(lambda: b"%d" % (1 // 0)) == b""
    assert capfd.readouterr().err == ""
    assert answer_of(lambda: b"%d" % (1 // 0), kept=(2,)) == b""
    assert "ZeroDivisionError" in capfd.readouterr().err


def test_a_child_that_goes_on_after_its_answer_or_gives_none_in_time_is_killed() -> None:
    reader, writer = os.pipe()

    def closes_and_waits() -> bytes:
        os.closerange(0, writer)
        os.closerange(writer + 1, 1000)
        signal.pause()
        return b""

    assert answer_of(closes_and_waits, kept=(writer,)) == b""
    assert answer_of(lambda: signal.pause() or b"", timeout_s=0.01, kept=(writer,)) is None
    os.close(writer)
    assert os.read(reader, 1) == b"", "no child has the pipe any more"
    os.close(reader)


def test_close_others() -> None:
    assert in_child(_closes) == [False, True, False]


def _closes() -> list[bool]:
    fds = sorted(os.pipe())
    kept = os.dup(fds[0])
    with contextlib.suppress(OSError):
        fcntl.fcntl(fds[0], fcntl.F_DUPFD, 200)
    inherited = [fd for fd in range(300) if os.path.exists(f"/proc/self/fd/{fd}")]
    close_others(*(fd for fd in inherited if fd not in {*fds, 200}))
    return [os.path.exists(f"/proc/self/fd/{fd}") for fd in (fds[0], kept, 200)]


def _signals(*, first: bool, spare: bool) -> list[bool]:
    """Whether the signal is there before, and after, the writer's end. first: which had ended before."""
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGUSR1})
    read, write = os.pipe()
    more = os.dup(write) if spare else -1
    if first:
        os.close(write)
    end_with_writer(read, signal.SIGUSR1)
    found = [signal.SIGUSR1 in signal.sigpending()]
    if not first:
        os.close(write)
    found.append(signal.sigtimedwait({signal.SIGUSR1}, 0 if spare else 5) is not None)
    if spare:
        os.close(more)
        found.append(signal.sigtimedwait({signal.SIGUSR1}, 5) is not None)
    return found


def test_the_signal_comes_with_the_end_of_the_last_writer() -> None:
    assert in_child(lambda: _signals(first=False, spare=False)) == [False, True]
    assert in_child(lambda: _signals(first=False, spare=True)) == [False, False, True]


def test_if_the_writer_has_ended_already_the_signal_comes_at_once() -> None:
    assert in_child(lambda: _signals(first=True, spare=False)) == [True, True]


def test_a_descriptor_that_is_no_pipe_is_an_error() -> None:
    with pytest.raises(OSError, match="Bad file descriptor"):
        end_with_writer(10_000, signal.SIGUSR1)


def test_the_receiver_sees_the_named_sender() -> None:
    def process() -> int:
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
        pid = os.fork()
        if pid == 0:
            info = signal.sigwaitinfo({signal.SIGTERM})
            os._exit(9 if (info.si_pid, info.si_uid) == (4711, 12) else 1)
        send_as(pid, signal.SIGTERM, pid=4711, uid=12)
        return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])

    assert in_child(process) == 9
