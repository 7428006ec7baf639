"""The door for requests that pyfuse3 has no handlers for, without a kernel."""

from __future__ import annotations

import errno
import random
import struct
import threading
from typing import Any

import pytest
import trio
import trio.testing

from policyfs.kernel import operations
from policyfs.kernel.bridge import pyfuse3
from policyfs.kernel.operations import Door, Handler, Quick, Request, Work
from policyfs.kernel.protocol import InitFlag, Opcode


class Sent:
    """A request as the bridge hands it over."""

    def __init__(self, unique: int, uid: int = 0) -> None:
        self.data = struct.pack("=IIQQIIIHH", 40, Opcode.GETLK, unique, 1, uid, 0, 0, 0, 0)
        self.answers: list[tuple[int, bytes]] = []

    def rests(self) -> None:
        return None

    def answer(self, code: int, body: bytes = b"") -> bool:
        self.answers.append((code, body))
        return True


class Turns(trio.abc.Instrument):
    """Counts the turns of the event loop."""

    def __init__(self) -> None:
        self.now = 0

    def before_io_wait(self, timeout: float) -> None:
        del timeout
        self.now += 1


def _begun(
    monkeypatch: pytest.MonkeyPatch, sent: list[Sent], in_a_turn: int = 100
) -> list[tuple[int, int, int]]:
    """Take so many requests in each turn of the loop. Of each in the order of their begins: unique, uid, and
    turn."""
    turns, begun = Turns(), []
    monkeypatch.setattr(operations, "take_requests", lambda *_: None)

    async def handler(request: Request) -> bytes:
        begun.append((request.unique, request.uid, turns.now))
        return b""

    async def main() -> None:
        door: Any = Door({Opcode.GETLK: handler}, bugs=None)  # type: ignore[arg-type] # has none
        async with trio.open_nursery() as nursery:
            await nursery.start(door.serve)
            await trio.testing.wait_all_tasks_blocked()
            for number, one in enumerate(sent, 1):
                door._take(one)
                if number % in_a_turn == 0:
                    await trio.lowlevel.checkpoint()
            await trio.testing.wait_all_tasks_blocked()
            nursery.cancel_scope.cancel()

    trio.run(main, instruments=[turns])
    assert all(one.answers == [(0, b"")] for one in sent)
    return begun


@pytest.mark.parametrize("together", [1, 5])
def test_of_those_taken_together_one_begins_in_each_turn(
    monkeypatch: pytest.MonkeyPatch, together: int
) -> None:
    """Who reads the next request comes in between: it may be another app's."""
    begun = _begun(monkeypatch, [Sent(number) for number in range(together)])
    assert [unique for unique, _, _ in begun] == list(range(together)), "in the order in which they came"
    assert len({turn for _, _, turn in begun}) == together


def test_no_request_waits_for_those_of_another_uid_to_begin(monkeypatch: pytest.MonkeyPatch) -> None:
    """32 requests of one uid may be taken before another uid's request, which then took 32 turns."""
    many, few = [Sent(number, uid=1) for number in range(32)], [Sent(40, uid=2), Sent(41, uid=2)]
    begun = _begun(monkeypatch, many + few)
    first = begun[0][2]
    assert [unique for unique, uid, _ in begun if uid == 1] == list(range(32))
    assert [unique for unique, uid, turn in begun if uid == 2 and turn - first <= 3] == [40, 41]
    for uid in (1, 2):
        turns = [turn for _, of, turn in begun if of == uid]
        assert len(set(turns)) == len(turns), "one of a uid in each turn"


def test_requests_of_a_uid_begin_in_their_order_whenever_they_come(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two tasks that begin in the same turn run in any order."""
    uids = random.Random(1)
    begun = _begun(monkeypatch, [Sent(number, uid=uids.randrange(4)) for number in range(1000)], in_a_turn=3)
    for uid in range(4):
        own = [(unique, turn) for unique, of, turn in begun if of == uid]
        assert own == sorted(own)
        assert len({turn for _, turn in own}) == len(own), "one of a uid in each turn"


class Bridge(Sent):
    """A request with more ends than an answer: from a thread, and no more counted as under way."""

    def __init__(self, unique: int, opcode: Opcode = Opcode.GETLK, body: bytes = b"") -> None:
        super().__init__(unique)
        self.data = struct.pack("=IIQQIIIHH", 40 + len(body), opcode, unique, 1, 0, 0, 0, 0, 0) + body
        self.sent: list[int] = []
        self.rested = 0

    def rests(self) -> None:
        self.rested += 1

    def send(self, code: int) -> bool:
        self.sent.append(code)
        return True


class Bugs:
    def __init__(self) -> None:
        self.found: list[tuple[str, BaseException]] = []

    def bug(self, where: str, error: BaseException) -> None:
        self.found.append((where, error))


def served(
    monkeypatch: pytest.MonkeyPatch, handler: Handler, requests: list[Bridge], quick: Quick | None = None
) -> Bugs:
    """Take these requests, one after the other was dealt with, and end the session."""
    bugs, taken = Bugs(), []
    monkeypatch.setattr(operations, "take_requests", lambda take, opcodes: taken.append((take, opcodes)))

    async def main() -> None:
        door = Door({Opcode.GETLK: handler}, bugs, {} if quick is None else {Opcode.GETLK: quick})
        async with trio.open_nursery() as nursery:
            await nursery.start(door.serve)
            for one in requests:
                taken[0][0](one)
                await trio.testing.wait_all_tasks_blocked(0.01)
            nursery.cancel_scope.cancel()

    trio.run(main)
    assert taken[0][1] == {Opcode.GETLK, Opcode.INTERRUPT}
    assert taken[-1] == (None, set()), "the bridge takes none after the session"
    return bugs


def a_handler(outcome: Exception | bytes) -> Handler:
    async def handler(request: Request) -> bytes:
        del request
        if isinstance(outcome, Exception):
            raise outcome
        return outcome

    return handler


@pytest.mark.parametrize(
    ("outcome", "code", "bugs"),
    [
        (PermissionError(errno.EACCES, "no"), errno.EACCES, 0),
        (pyfuse3.FUSEError(errno.EPERM), errno.EPERM, 0),
        (OSError("without a number"), errno.EIO, 0),
        (KeyError("a bug"), errno.EIO, 1),
    ],
)
def test_every_request_gets_one_answer_and_only_a_bug_is_logged(
    monkeypatch: pytest.MonkeyPatch, outcome: Exception, code: int, bugs: int
) -> None:
    one, other = Bridge(2), Bridge(4)
    found = served(monkeypatch, a_handler(outcome), [one, other])
    assert one.answers == other.answers == [(code, b"")]
    assert found.found == [("GETLK", outcome)] * 2 * bugs


def test_what_needs_no_task_is_answered_at_once_and_the_rest_is_left_to_the_handler(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def quick(request: Request) -> bytes | None:
        if request.unique == 6:
            raise BlockingIOError(errno.EAGAIN, "no")
        return b"quick" if request.unique == 2 else None

    requests = [Bridge(2), Bridge(4), Bridge(6)]
    found = served(monkeypatch, a_handler(b"slow"), requests, quick)
    assert [one.answers for one in requests] == [[(0, b"quick")], [(0, b"slow")], [(errno.EAGAIN, b"")]]
    assert not found.found


@pytest.mark.parametrize(("error", "code"), [(None, 0), (OSError(errno.ENOSPC, "full"), errno.ENOSPC)])
def test_a_thread_answers_its_work_and_the_session_ends_after_it(
    monkeypatch: pytest.MonkeyPatch, error: OSError | None, code: int
) -> None:
    order: list[str] = []
    may_end = threading.Event()

    def work() -> None:
        may_end.wait(5)
        order.append("worked")
        if error is not None:
            raise error

    one = Bridge(2)
    threading.Timer(0.1, may_end.set).start()
    served(monkeypatch, a_handler(b""), [one], lambda _: Work(work))
    order.append("over")
    assert order == ["worked", "over"]
    assert (one.sent, one.answers, one.rested) == ([code], [], 1)


@pytest.mark.parametrize("drop", [None, OSError(errno.EIO, "the disk")])
def test_work_for_which_no_thread_starts_is_dropped_and_the_session_ends(
    monkeypatch: pytest.MonkeyPatch, drop: OSError | None
) -> None:
    """Else the request has no answer, and the daemon stays after umount."""
    order: list[str] = []
    failure = RuntimeError("can't start new thread")

    def refuse(*_: object) -> None:
        raise failure

    def dropped() -> None:
        order.append("dropped")
        if drop is not None:
            raise drop

    monkeypatch.setattr(trio.lowlevel, "start_thread_soon", refuse)
    one, other = Bridge(2), Bridge(4)
    work = Work(lambda: order.append("worked"), dropped)
    found = served(monkeypatch, a_handler(b""), [one, other], lambda _: work)
    assert order == ["dropped"] * 2
    for each in (one, other):
        assert (each.sent, each.answers) == ([], [(errno.EIO, b"")])
    assert found.found == [("GETLK", failure)] * 2


def test_a_signal_ends_only_what_may_be_interrupted(monkeypatch: pytest.MonkeyPatch) -> None:
    noted = []

    async def handler(request: Request) -> bytes:
        with request.interruptible() as scope:
            await trio.sleep_forever()
        noted.append((request.unique, scope.cancelled_caught))
        raise InterruptedError(errno.EINTR, "a signal")

    waiting, left = Bridge(2), Bridge(4)
    stranger = Bridge(10, Opcode.INTERRUPT, struct.pack("=Q", 8))
    signal = Bridge(12, Opcode.INTERRUPT, struct.pack("=Q", 1 << 63 | 2))
    served(monkeypatch, handler, [waiting, left, stranger, signal])
    assert noted == [(2, True)]
    assert waiting.answers == [(errno.EINTR, b"")]
    assert not [*left.answers, *signal.answers, *stranger.answers]


def test_a_signal_that_came_before_the_wait_counts() -> None:
    async def main() -> None:
        request = Request(Bridge(2).data)
        request.interrupt()
        with request.interruptible() as scope:
            await trio.lowlevel.checkpoint()
        assert scope.cancelled_caught

    trio.run(main)


def test_a_request_is_read_as_the_kernel_wrote_it() -> None:
    body = struct.pack("=QQI", 1, 2, 3)
    resent = 1 << 63 | 8
    data = struct.pack("=IIQQIIIHH", 60, Opcode.LSEEK, resent, 5, 1000, 1001, 42, 0, 0) + body
    request = Request(data)
    assert (request.unique, request.nodeid, request.umask) == (8, 5, 0)
    assert (request.uid, request.gid, request.pid, request.body) == (1000, 1001, 42, body)


@pytest.mark.parametrize("opcode", [Opcode.SETLK, Opcode.READDIR, Opcode.GETLK])
def test_the_kernel_is_asked_for_what_is_handled(opcode: Opcode) -> None:
    flags = Door({opcode: a_handler(b"")}, Bugs()).init_flags
    assert bool(flags & InitFlag.POSIX_LOCKS) == (opcode is Opcode.SETLK)
    assert bool(flags & InitFlag.READDIRPLUS_AUTO) == (opcode is Opcode.READDIR)
