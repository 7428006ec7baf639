"""The daemon's end of a worker, against one that was taken over: nothing it says does harm."""

from __future__ import annotations

import os
import signal
import socket
import subprocess

import pytest
import trio
import trio.testing

from policyfs.content.workers import protocol
from policyfs.content.workers.connection import WorkerGoneError, WorkerLink
from policyfs.content.workers.protocol import Command, Status
from policyfs.content.workers.zygote import ENDED


class Impostor:
    """A process that does nothing (its pid is what the link can kill) and a socket to speak with."""

    def __init__(self) -> None:
        self.process = subprocess.Popen(["sleep", "60"])
        ours, self.socket = socket.socketpair()
        ending, self.told = os.pipe()
        self.link = WorkerLink(self.process.pid, ours, os.pidfd_open(self.process.pid), ending)

    def say(self, data: bytes, *, then_end: bool = False) -> None:
        self.socket.sendall(data)
        if then_end:
            self.socket.shutdown(socket.SHUT_WR)


@pytest.fixture
def impostor():
    made = Impostor()
    yield made

    async def end() -> None:
        made.link.kill()
        await made.link.ended()

    trio.run(end)
    made.socket.close()
    os.close(made.told)
    assert made.process.wait(10) == -signal.SIGKILL


def ask(impostor: Impostor, command: Command = Command.KIND_HEAD) -> protocol.Reply:
    async def main() -> protocol.Reply:
        with trio.fail_after(10):
            return await impostor.link.ask(command, 0 if command != Command.KIND_HEAD else None, 0, b"head")

    return trio.run(main)


def test_an_honest_answer(impostor):
    impostor.say(protocol.pack_reply(1, Status.OK, b"image/jpeg", retire=True))
    assert ask(impostor) == protocol.Reply(1, Status.OK, True, b"image/jpeg")
    request = protocol.receive_request(impostor.socket)
    assert (request.number, request.command, request.payload, request.fd) == (
        1,
        Command.KIND_HEAD,
        b"head",
        None,
    )


@pytest.mark.parametrize(
    ("said", "why"),
    [
        (b"", "died"),
        (protocol.pack_reply(1, Status.OK, b"image/jpeg")[:-1], "died"),
        (protocol.pack_reply(1, Status.OK, b"image/jpeg")[:5], "died"),
        (protocol.pack_reply(2, Status.OK, b"image/jpeg"), "answered request 2, not 1"),
        (protocol.pack_reply(0, Status.OK, b"image/jpeg"), "answered request 0, not 1"),
        (protocol.REPLY.pack(1, 7, 0, 0), "status 7"),
        (protocol.REPLY.pack(1, 0, 0xFF, 0), "flags 255"),
        (protocol.REPLY.pack(1, 0, 0, 2**32 - 1), "where 500 are allowed"),
        (protocol.pack_reply(1, Status.OK, b"x" * 501), "where 500 are allowed"),
    ],
)
def test_anything_else_is_a_dead_worker(impostor, said, why):
    impostor.say(said, then_end=True)
    with pytest.raises(WorkerGoneError, match=why):
        ask(impostor)


@pytest.mark.parametrize(
    ("told", "why", "outside"),
    [
        (b"", "because its parent process", True),  # the pipe closes before the zygote's pidfd is readable
        (ENDED.pack(-signal.SIGKILL), "died of signal 9", True),
        (ENDED.pack(-signal.SIGSEGV), "died of signal 11", False),
        (ENDED.pack(23), r"exit code 23 \(Too many open files in system\)", False),
        (ENDED.pack(255), "exit code 255$", False),
    ],
)
def test_it_is_known_whether_another_process_ended_the_worker(impostor, told, why, outside):
    os.write(impostor.told, told)
    os.close(impostor.told)
    impostor.told = os.open(os.devnull, os.O_WRONLY)
    impostor.say(b"", then_end=True)
    with pytest.raises(WorkerGoneError, match=why) as raised:
        ask(impostor)
    assert raised.value.outside == outside


def test_a_plan_may_be_large_but_not_endless(impostor):
    impostor.say(protocol.REPLY.pack(1, 0, 0, protocol.MAX_REPLY_PAYLOAD + 1))
    with pytest.raises(WorkerGoneError, match="are allowed"):
        ask(impostor, Command.LOCATE)


def test_a_worker_that_speaks_unasked_is_not_fit(impostor):
    assert impostor.link.fit()
    impostor.say(b"x")
    assert not impostor.link.fit()


def test_a_worker_that_hangs_up_is_not_fit(impostor):
    impostor.socket.close()
    assert not impostor.link.fit()
    with pytest.raises(WorkerGoneError, match="died"):
        ask(impostor)


def test_a_large_request_waits_for_room(impostor):
    """A worker that reads slowly gets every byte, and the loop is not blocked meanwhile."""
    impostor.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    head = os.urandom(protocol.MAX_REQUEST_PAYLOAD)
    numbers = []

    def serve() -> None:
        for number in range(1, 21):
            request = protocol.receive_request(impostor.socket)
            assert request.payload == head
            impostor.say(protocol.pack_reply(number, Status.OK, b"a/b"))

    async def main() -> None:
        with trio.fail_after(20):
            async with trio.open_nursery() as nursery:
                nursery.start_soon(trio.to_thread.run_sync, serve)
                for _ in range(20):
                    numbers.append((await impostor.link.ask(Command.KIND_HEAD, None, 0, head)).number)

    trio.run(main)
    assert numbers == list(range(1, 21))


def test_a_failed_hello_is_told(impostor):
    impostor.say(protocol.pack_reply(protocol.HELLO, Status.FAILED, b"setresuid\n: EPERM"))
    with pytest.raises(WorkerGoneError, match=r"could not give up its rights: setresuid\?: EPERM"):
        trio.run(impostor.link.hello)


def test_killing_wakes_whoever_waits(impostor):
    async def wait() -> None:
        with pytest.raises(WorkerGoneError):
            await impostor.link.ask(Command.KIND_HEAD, None, 0, b"")

    async def main() -> None:
        with trio.fail_after(10):
            async with trio.open_nursery() as nursery:
                nursery.start_soon(wait)
                await trio.testing.wait_all_tasks_blocked()
                impostor.link.kill()
                impostor.link.kill()
            await impostor.link.ended()
            assert impostor.link.gone()

    trio.run(main)
