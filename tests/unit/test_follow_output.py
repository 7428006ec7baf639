"""What counts as taken: a file on the disk, and what the reader of a pipe or socket has read."""

from __future__ import annotations

import os
import socket
import threading
from pathlib import Path

import pytest

from policyfs.errors import PolicyfsError
from policyfs.follow.output import Output, StoppedError
from tests.support.machine.processes import wait_for


def a_pair(kind: str) -> tuple[int, int]:
    if kind == "pipe":
        return os.pipe()
    reader, writer = socket.socketpair()
    return reader.detach(), writer.detach()


@pytest.mark.parametrize("kind", ["pipe", "socket"])
def test_lines_are_taken_once_they_were_read(kind: str) -> None:
    reader, writer = a_pair(kind)
    output = Output(writer, lambda: False)
    output.write(b"x" * 5000)
    done: list[str] = []
    thread = threading.Thread(target=lambda: (output.wait_until_taken(), done.append("taken")))
    thread.start()
    assert len(os.read(reader, 4000)) == 4000
    assert not done
    while not done and os.read(reader, 1000):
        wait_for(lambda: done or output._unread(), "an answer")
    thread.join(10)
    assert done
    output.write(b"more")
    os.close(reader)
    with pytest.raises(PolicyfsError, match="has ended"):
        output.wait_until_taken()
    with pytest.raises(PolicyfsError, match="has ended"):
        output.write(b"more")
    os.close(writer)


@pytest.mark.parametrize("kind", ["pipe", "socket"])
def test_who_was_asked_to_end_waits_for_no_reader_for_ever(kind: str, monkeypatch) -> None:
    monkeypatch.setattr("policyfs.follow.output._PATIENCE_S", 0.1)
    reader, writer = a_pair(kind)
    output = Output(writer, lambda: True)
    with pytest.raises(StoppedError):
        output.write(b"x" * (1 << 20))
    with pytest.raises(StoppedError):
        output.wait_until_taken()
    os.close(reader)
    os.close(writer)


def test_a_file_is_taken_at_once(tmp_path: Path) -> None:
    with (tmp_path / "out").open("wb", buffering=0) as file:
        output = Output(file.fileno(), lambda: False)
        output.write(b"x" * 100_000)
        output.wait_until_taken()
        output.wait(0)
    assert (tmp_path / "out").stat().st_size == 100_000
