"""Lines of the daemon's log, while the reader of the log is slow, gone or without room."""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Iterator

import pytest

from policyfs.daemon.log import configure
from policyfs.daemon.log_writer import MOST_WAITING, PATIENCE_S, LogWriter
from tests.support.machine.processes import wait_for


@pytest.fixture
def pipe() -> Iterator[tuple[int, int]]:
    ends = os.pipe()
    yield ends
    for fd in ends:
        with contextlib.suppress(OSError):
            os.close(fd)


def _fill(fd: int) -> None:
    os.set_blocking(fd, False)
    with contextlib.suppress(BlockingIOError):
        while True:
            os.write(fd, b"x" * 4096)
    os.set_blocking(fd, True)


def _drain(fd: int) -> bytes:
    os.set_blocking(fd, False)
    data = b""
    with contextlib.suppress(BlockingIOError):
        while chunk := os.read(fd, 1 << 16):
            data += chunk
    return data


def _until_loss_is_told(fd: int) -> bytes:
    """Return all bytes from a pipe, up to the line about lost lines."""
    text = b""

    def told() -> bool:
        nonlocal text
        text += _drain(fd)
        return b"were lost" in text

    wait_for(told, "the loss is told")
    return text


@pytest.mark.parametrize("on_thread", [False, True])
def test_a_line_is_written_when_the_call_returns(pipe, on_thread: bool) -> None:
    writer = LogWriter(pipe[1])
    if on_thread:
        writer.write_on_thread()
    log = configure(writer, as_json=False)
    log.info("first")
    log.warning("second", path="a\udcff")
    first, second = _drain(pipe[0]).splitlines()
    assert b"info: first" in first
    assert b"warning: second" in second


def test_a_pipe_that_nobody_reads_costs_one_caller_a_moment(pipe) -> None:
    writer = LogWriter(pipe[1])
    writer.write_on_thread()
    log = configure(writer, as_json=False)
    _fill(pipe[1])
    begun = time.monotonic()
    for number in range(MOST_WAITING + 20):
        log.info("line", number=number)
    assert time.monotonic() - begun < PATIENCE_S + 2
    text = _until_loss_is_told(pipe[0])
    assert all(b"number=%d\n" % number in text for number in range(MOST_WAITING))
    assert b"number=%d\n" % MOST_WAITING not in text
    assert b'lines=20 reason="1000 lines waited"' in text
    log.info("as before")
    assert b"as before" in _drain(pipe[0]), "the next line is waited for again"


def test_a_pipe_that_nobody_reads_stops_no_start(pipe) -> None:
    log = configure(LogWriter(pipe[1]), as_json=False)
    _fill(pipe[1])
    begun = time.monotonic()
    log.info("lost")
    assert time.monotonic() - begun < PATIENCE_S + 2
    _drain(pipe[0])
    log.info("kept")
    text = _until_loss_is_told(pipe[0])
    assert b"kept" in text
    assert b'lines=1 reason="nobody reads them"' in text


@pytest.mark.parametrize("on_thread", [False, True])
def test_lines_without_room_are_counted_and_told_later(pipe, on_thread: bool) -> None:
    full = os.open("/dev/full", os.O_WRONLY)
    place = os.dup(full)
    try:
        writer = LogWriter(place)
        if on_thread:
            writer.write_on_thread()
        log = configure(writer, as_json=True)
        for _ in range(3):
            log.info("lost")
        os.dup2(pipe[1], place)
        log.info("kept")
    finally:
        os.close(full)
        os.close(place)
    text = _until_loss_is_told(pipe[0])
    assert b"kept" in text
    assert b'"lines": 3, "reason": "No space left on device"' in text
