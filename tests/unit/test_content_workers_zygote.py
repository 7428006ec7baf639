"""The zygote's own protocol, spoken to it directly."""

from __future__ import annotations

import dataclasses
import json
import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from policyfs.content.workers import protocol
from policyfs.content.workers.sandbox import Limits
from policyfs.content.workers.zygote import FORK, READY
from tests.support.machine.processes import wait_for

LIMITS = Limits(
    uid=2_100_000_000, gid=2_100_000_000, address_space=512 << 20, cpu_s=60, descriptors=8, uids=8
)


class Zygote:
    """A real one, at the end of a socket."""

    def __init__(self, options: str) -> None:
        self.control, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self.control.settimeout(30)
        self.endings: dict[int, int] = {}
        environment = os.environ | {"PYTHONPATH": os.pathsep.join(entry for entry in sys.path if entry)}
        with theirs:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "policyfs.content.workers.zygote", str(theirs.fileno()), options],
                pass_fds=[theirs.fileno()],
                env=environment,
            )

    def fork(self) -> tuple[int, socket.socket]:
        self.control.send(FORK)
        message, fds, _, _ = socket.recv_fds(self.control, 1000, 3)
        os.close(fds[1])
        self.endings[int(message)] = fds[2]
        return int(message), socket.socket(fileno=fds[0])


@pytest.fixture
def zygote():
    made = Zygote(json.dumps(dataclasses.asdict(LIMITS)))
    with made.control:
        yield made
    assert made.process.wait(10) == 0


def test_it_forks_confined_workers_and_reaps_them(zygote):
    assert zygote.control.recv(100) == READY
    for _ in range(2):
        pid, sock = zygote.fork()
        with sock:
            reply, size = protocol.parse_reply_header(sock.recv(protocol.REPLY.size))
            assert (reply.number, reply.status) == (protocol.HELLO, protocol.Status.OK)
            assert b"seccomp" in sock.recv(size)
        wait_for(lambda pid=pid: not Path(f"/proc/{pid}").exists(), "the end of a worker without a daemon")


def test_a_worker_that_gets_nonsense_ends(zygote):
    zygote.control.recv(100)
    pid, sock = zygote.fork()
    with sock:
        sock.recv(1000)
        sock.sendall(b"\xff" * protocol.REQUEST.size)
        assert sock.recv(1000) == b""
    wait_for(lambda: not Path(f"/proc/{pid}").exists(), "the worker's end")


@pytest.mark.parametrize("order", [b"", b"nonsense"])
def test_an_order_it_does_not_know_ends_it_and_its_workers(zygote, order):
    zygote.control.recv(100)
    pid, sock = zygote.fork()
    with sock:
        zygote.control.send(order)
        assert zygote.process.wait(10) == 0
        assert not Path(f"/proc/{pid}").exists()


def test_bad_limits_are_told():
    made = Zygote("{}")
    with made.control:
        assert made.control.recv(1000).startswith(b"TypeError")
        assert made.process.wait(10) == 1


def test_signals_meant_for_a_terminals_group_do_not_end_it(zygote):
    zygote.control.recv(100)
    for number in (1, 2, 15):
        zygote.process.send_signal(number)
    pid, sock = zygote.fork()
    sock.close()
    assert pid
