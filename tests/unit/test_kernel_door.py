"""The door for requests that pyfuse3 has no handlers for, without a kernel."""

from __future__ import annotations

import struct
from typing import Any

import pytest
import trio
import trio.testing

from policyfs.kernel import operations
from policyfs.kernel.operations import Door, Request
from policyfs.kernel.protocol import Opcode


class Sent:
    """A request as the bridge hands it over."""

    def __init__(self, unique: int) -> None:
        self.data = struct.pack("=IIQQIIIHH", 40, Opcode.GETLK, unique, 1, 0, 0, 0, 0, 0)
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


@pytest.mark.parametrize("together", [1, 5])
def test_of_those_taken_together_one_begins_in_each_turn(
    monkeypatch: pytest.MonkeyPatch, together: int
) -> None:
    """Who reads the next request comes in between: it may be another app's."""
    turns, begun = Turns(), []
    monkeypatch.setattr(operations, "take_requests", lambda *_: None)

    async def handler(request: Request) -> bytes:
        begun.append((request.unique, turns.now))
        return b""

    async def main() -> list[Sent]:
        door: Any = Door({Opcode.GETLK: handler}, bugs=None)  # type: ignore[arg-type] # has none
        sent = [Sent(number) for number in range(together)]
        async with trio.open_nursery() as nursery:
            await nursery.start(door.serve)
            await trio.testing.wait_all_tasks_blocked()
            for one in sent:
                door._take(one)
            await trio.testing.wait_all_tasks_blocked()
            nursery.cancel_scope.cancel()
        return sent

    sent = trio.run(main, instruments=[turns])
    assert [unique for unique, _ in begun] == list(range(together)), "in the order in which they came"
    assert len({turn for _, turn in begun}) == together
    assert all(one.answers == [(0, b"")] for one in sent)
