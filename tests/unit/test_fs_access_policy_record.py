"""Requests under a policy that is not on record: they wait for the record, and fail once that takes long."""

from __future__ import annotations

import errno
from collections.abc import Callable

import pytest
import trio
from trio.testing import MockClock

from policyfs.fs.access.policy_record import PolicyRecord
from policyfs.fs.error_boundary import guarded
from policyfs.kernel.bridge import pyfuse3


class Handlers:
    """Two handlers: one that decides, one that does not."""

    def __init__(self, record: PolicyRecord) -> None:
        self.bugs = self.policy_record = record

    @guarded
    async def lookup(self) -> str:
        return "found"

    @guarded
    async def release(self) -> str:
        return "released"


def run(main: Callable[[], object]) -> None:
    trio.run(main, clock=MockClock(autojump_threshold=0))


def test_nobody_waits_while_the_policy_is_on_record() -> None:
    async def main() -> None:
        record = PolicyRecord(trio.current_time)
        assert not record.is_missing
        assert await Handlers(record).lookup() == "found"
        assert trio.current_time() == 0

    run(main)


def test_requests_wait_for_the_record_but_not_long() -> None:
    async def main() -> None:
        record, written = PolicyRecord(trio.current_time), trio.Event()
        handlers = Handlers(record)
        record.expect(written)
        assert await handlers.release() == "released"
        async with trio.open_nursery() as nursery:
            nursery.start_soon(handlers.lookup)
            await trio.sleep(2)  # the disk is busy
            written.set()
        assert trio.current_time() == pytest.approx(2)
        record.expect(trio.Event())
        for _ in range(3):  # only the first one waits
            with pytest.raises(pyfuse3.FUSEError) as refused:
                await handlers.lookup()
            assert refused.value.errno == errno.EIO
        assert trio.current_time() == pytest.approx(5)

    run(main)


def test_the_record_of_an_earlier_policy_is_not_that_of_the_next() -> None:
    async def main() -> None:
        record, first, second = PolicyRecord(trio.current_time), trio.Event(), trio.Event()
        record.expect(first)
        record.expect(second)
        first.set()
        assert record.is_missing
        second.set()
        await record.wait()

    run(main)
