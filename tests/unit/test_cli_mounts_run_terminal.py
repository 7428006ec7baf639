"""The pty of a command, and its relay to the terminal of the caller."""

from __future__ import annotations

import os
import select
import signal
import termios
import time
from collections.abc import Iterator
from typing import Final

import pytest

from policyfs.cli.mounts.run_terminal import Terminal, terminal_for

DEADLINE_S: Final = 20.0


@pytest.fixture
def caller() -> Iterator[tuple[int, int]]:
    """A terminal at which this process's streams are: the side of the person, and the side of programs."""
    person, program = os.openpty()
    before = {number: signal.getsignal(number) for number in (signal.SIGWINCH, signal.SIGCONT)}
    yield person, program
    for number, handler in before.items():
        signal.signal(number, handler)
    os.close(person)
    os.close(program)


def _until(fd: int, wanted: bytes) -> bytes:
    said, until_s = b"", time.monotonic() + DEADLINE_S
    while wanted not in said and time.monotonic() < until_s:
        if select.select([fd], (), (), 0.1)[0]:
            said += os.read(fd, 4096)
    return said


def _command(terminal: Terminal, script: str) -> int:
    pid = os.fork()
    if pid == 0:
        try:
            os.setsid()
            terminal.take()
            os.execv("/bin/sh", ["sh", "-c", script])
        finally:
            os._exit(99)
    return pid


def _relay(terminal: Terminal, pid: int) -> int:
    """Relay until the command has ended."""
    pidfd = os.pidfd_open(pid)
    terminal.begin()
    while True:
        poll = select.poll()
        for fd, events in [(pidfd, select.POLLIN), *terminal.watched()]:
            poll.register(fd, events)
        ready = dict(poll.poll(DEADLINE_S * 1000))
        terminal.relay(ready)
        if not ready or pidfd in ready:
            break
    terminal.end()
    os.close(pidfd)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def _in_session(program: int, script: str) -> int:
    """In a child that leads a session at the caller's terminal: a command with its own terminal."""
    pid = os.fork()
    if pid:
        return pid
    try:
        os.setsid()
        for fd in range(3):
            os.dup2(program, fd)
        os.close(os.open(os.ttyname(program), os.O_RDWR))  # which becomes the controlling terminal
        terminal = terminal_for(0)
        assert terminal is not None
        os._exit(_relay(terminal, _command(terminal, script)))
    finally:
        os._exit(98)


def test_what_is_typed_and_said_goes_through(caller: tuple[int, int]) -> None:
    person, program = caller
    modes = termios.tcgetattr(program)
    script = 'echo ready; read line; echo "got $line"; kill -INT $$'
    pid = _in_session(program, script)
    assert b"ready\r\n" in _until(person, b"ready")
    os.write(person, b"words\n")
    assert b"got words\r\n" in _until(person, b"got words\r\n")
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 256 - signal.SIGINT
    assert termios.tcgetattr(program) == modes, "the caller's terminal has its modes again"


def test_ctrl_c_is_for_the_command(caller: tuple[int, int]) -> None:
    person, program = caller
    pid = _in_session(program, "trap 'exit 7' INT; echo ready; while :; do sleep 0.05; done")
    _until(person, b"ready")
    os.write(person, b"\x03")
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 7


def test_all_that_was_said_comes_and_only_once_where_input_is_no_terminal(caller: tuple[int, int]) -> None:
    person, program = caller
    terminal = Terminal([program], 0)  # no stream is standard input
    pid = _command(terminal, "i=0; while [ $i -lt 300 ]; do echo line $i; i=$((i+1)); done >/dev/tty")
    assert _relay(terminal, pid) == 0
    said = _until(person, b"line 299\r\n")
    assert said.replace(b"\r\n", b"\n") == b"".join(b"line %d\n" % i for i in range(300))
    assert said.count(b"\r") == 300


def test_without_a_terminal_there_is_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "isatty", lambda fd: False)
    assert terminal_for(0) is None
