"""Large plans are unpacked on threads."""

from __future__ import annotations

import threading

import pytest
import trio

from policyfs.content.plan_threads import unpacked_on_thread
from policyfs.content.plans import pack_plan, refusal
from policyfs.content.workers.protocol import WireError


def test_a_thread_unpacks_a_plan_and_raises_its_errors() -> None:
    plan = refusal("damaged")
    payload, readers = pack_plan("image/jpeg", plan), list[threading.Thread]()

    def read(offset: int, count: int) -> bytes:
        readers.append(threading.current_thread())
        return bytes(count)

    kind, found = trio.run(unpacked_on_thread, payload, 10, read)
    assert (kind, found.reason) == ("image/jpeg", "damaged")
    assert readers
    assert threading.main_thread() not in readers
    with pytest.raises(WireError, match="too early"):
        trio.run(unpacked_on_thread, payload[:-1], 10)
