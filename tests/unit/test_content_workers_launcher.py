"""The launcher: it forks zygotes that have one descriptor, and does nothing else."""

from __future__ import annotations

import array
import contextlib
import os
import select
import signal
import socket
from collections.abc import Callable
from typing import NoReturn

import pytest

from policyfs.content.workers.launcher import DYING, GUARD, MAX_MESSAGE, START, ZYGOTE_FD, Live, serve
from policyfs.linux.threads import ParkedThread
from tests.support.machine.inchild import in_child


def pair() -> tuple[socket.socket, socket.socket]:
    return socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)


def ordered(live: Live | str, send: Callable[[socket.socket], None]) -> list[tuple[bytes, int]]:
    """Serve what was sent, and the daemon's end: answers, and the descriptors with each."""
    ours, theirs = pair()
    with ours, theirs:
        send(ours)
        ours.shutdown(socket.SHUT_WR)
        serve(theirs, live)
        theirs.shutdown(socket.SHUT_WR)
        answers = []
        while (got := socket.recv_fds(ours, MAX_MESSAGE, 4))[0]:
            answers.append((got[0], len(got[1])))
            for fd in got[1]:
                os.close(fd)
        return answers


def start(control: socket.socket, ours: socket.socket) -> None:
    socket.send_fds(control, [START], [ours.fileno()])


def tell(control: socket.socket) -> int:
    """A zygote that says what it has, and ends."""
    leader = os.getsid(0) == os.getpid()
    descriptors = sorted(int(name) for name in os.listdir("/proc/self/fd"))
    control.sendall(f"{os.getpid()} {leader} {descriptors[:5]} {control.fileno()}".encode())
    return 7


def _started(live: Live, count: int = 1) -> list[object]:
    daemon, zygote = pair()

    def send(control: socket.socket) -> None:
        for _ in range(count):
            start(control, zygote)

    answers = ordered(live, send)
    zygote.close()
    pids = [int(answer) for answer, _ in answers]
    exits = [os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) for pid in pids]
    said = []
    while data := daemon.recv(MAX_MESSAGE):
        said.append(data.decode())
    daemon.close()
    return [pids, [fds for _, fds in answers], exits, sorted(said)]


def test_a_zygote_has_its_socket_and_nothing_of_the_launcher() -> None:
    pids, fds, exits, said = in_child(lambda: _started(tell))
    assert fds == [1], "a pidfd comes with the pid"
    assert exits == [7]
    # the last one is the listing's own
    assert said == [f"{pids[0]} True {[0, 1, 2, ZYGOTE_FD, ZYGOTE_FD + 1]} {ZYGOTE_FD}"]


def test_each_order_starts_one() -> None:
    pids, _, exits, said = in_child(lambda: _started(tell, 3))
    assert len(set(pids)) == len(said) == 3
    assert exits == [7, 7, 7]


def _fail(_control: socket.socket) -> int:
    raise RuntimeError("a bug")


def test_a_zygote_that_fails_ends_and_the_launcher_goes_on() -> None:
    assert in_child(lambda: _started(_fail, 2))[2] == [1, 1]


def test_where_no_zygote_can_be_started_the_answer_is_the_reason() -> None:
    daemon, zygote = pair()
    with daemon, zygote:
        reason = "no " + "x" * 3000
        answers = ordered(reason, lambda control: start(control, zygote))
        assert answers == [(reason.encode()[:MAX_MESSAGE], 0)]


@pytest.mark.parametrize("message", [b"", b"stop", START + b"x", START])
def test_an_order_that_it_does_not_know_ends_it(message: bytes) -> None:
    """START without a descriptor, too. Descriptors of a bad order do not stay open."""
    daemon, zygote = pair()
    with daemon, zygote:
        before = len(os.listdir("/proc/self/fd"))

        def send(control: socket.socket) -> None:
            if message != START:
                control.sendmsg(
                    [message], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", [zygote.fileno()]))]
                )
            else:
                control.send(message)
            start(control, zygote)

        assert ordered("unused", send) == []
        assert len(os.listdir("/proc/self/fd")) == before


def _become_daemon(ours: socket.socket, theirs: socket.socket, abort_fd: int) -> NoReturn:
    """In a forked process: start a launcher, let it guard a connection, and end."""
    try:
        if os.fork() == 0:
            ours.close()
            serve(theirs, "unused")
        else:
            socket.send_fds(ours, [GUARD], [abort_fd])
            start(ours, theirs)
            socket.recv_fds(ours, MAX_MESSAGE, 4)  # it has taken both orders
    finally:
        os._exit(0)


def test_a_connection_is_ended_when_the_parked_thread_ends() -> None:
    """The daemon's other threads last: here it is the test itself. Orders are taken before and after."""
    ours, theirs = pair()
    ended, abort_fd = os.pipe()
    with ours, theirs:
        launcher = os.fork()
        if launcher == 0:
            with contextlib.suppress(BaseException):
                ours.close()
                serve(theirs, "unused")
            os._exit(0)
        parked = ParkedThread()
        socket.send_fds(ours, [GUARD], [abort_fd, parked.pidfd])
        os.close(abort_fd)
        for before in (True, False):
            start(ours, theirs)
            assert ours.recv(MAX_MESSAGE) == b"unused"
            assert bool(select.select([ended], [], [], 0 if before else 10)[0]) is not before
            parked.end()
        assert os.read(ended, 8) == b"1"
    os.waitpid(launcher, 0)
    assert os.read(ended, 8) == b"", "once"
    os.close(ended)


def test_a_connection_is_ended_when_the_socket_closes_first() -> None:
    """A process that dies closes its sockets before its last thread's pidfd is readable."""
    ours, theirs = pair()
    ended, abort_fd = os.pipe()
    with theirs:
        parked = ParkedThread()
        socket.send_fds(ours, [GUARD], [abort_fd, parked.pidfd])
        os.close(abort_fd)
        ours.close()
        serve(theirs, "unused", is_child=False)
        assert select.select([ended], [], [], 0)[0]
        assert os.read(ended, 8) == b"1"
        parked.end()
    os.close(ended)


def test_a_killed_daemons_connection_is_ended() -> None:
    """Even if the daemon's socket lasts, as with threads that last: here the test has it, too."""
    ours, theirs = pair()
    ended, abort_fd = os.pipe()
    with ours, theirs:
        daemon = os.fork()
        if daemon == 0:
            _become_daemon(ours, theirs, abort_fd)
        os.close(abort_fd)
        os.waitpid(daemon, 0)
        assert select.select([ended], [], [], 10)[0]
        assert os.read(ended, 8) == b"1"
    os.close(ended)


@pytest.mark.parametrize("is_followed", [True, False])
def test_a_connection_with_a_keeper_is_ended_only_if_none_follows(*, is_followed: bool) -> None:
    """The next daemon closes what the dead one had. The keeper is told of the death, and here ends then."""

    def process() -> list[object]:
        signal.pthread_sigmask(signal.SIG_BLOCK, {DYING})
        ours, theirs = pair()
        (ended, abort_fd), daemon, keeper = os.pipe(), os.getpid(), os.fork()
        if keeper == 0:
            ours.close()
            os.close(abort_fd)
            info = signal.sigtimedwait({DYING}, 20)
            os._exit(7 if info and info.si_pid == daemon else 1)
        launcher = os.fork()
        if launcher == 0:
            with contextlib.suppress(BaseException):
                ours.close()
                os.close(ended)
                serve(theirs, "unused")
            os._exit(0)
        theirs.close()
        parked, keeper_fd = ParkedThread(), os.pidfd_open(keeper)
        order = GUARD + b" %d %d" % (daemon, keeper)
        socket.send_fds(ours, [order], [abort_fd, parked.pidfd, keeper_fd])
        os.close(abort_fd)
        if is_followed:
            ours.close()
        parked.end()
        told = os.read(ended, 8)
        os.kill(keeper, signal.SIGKILL) if is_followed else ours.close()
        codes = [os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) for pid in (keeper, launcher)]
        return [told.decode(), codes]

    assert in_child(process) == (["", [-signal.SIGKILL, 0]] if is_followed else ["1", [7, 0]])
