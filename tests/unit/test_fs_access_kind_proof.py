"""The lease under which a kind was found: let go of before its descriptor, and never too early."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
import trio
import trio.testing

from policyfs.fs.access.kind_proof import KindEvidence
from tests.support.mount.file_system import on_trio


class Held:
    """A lease as the evidence uses it: says whether the descriptor was still open at its end."""

    def __init__(self, fd: int) -> None:
        self.fd = fd
        self.good = True
        self.ended: list[bool] = []

    def holds(self) -> bool:
        return self.good

    def release(self) -> None:
        self.ended.append(is_open(self.fd))


def is_open(fd: int) -> bool:
    return Path(f"/proc/self/fd/{fd}").is_symlink()


def held() -> Held:
    return Held(os.open("/dev/null", os.O_RDONLY))


def keep(evidence: KindEvidence, lease: Held) -> Held:
    evidence.keep(lease.fd, lease)  # type: ignore[arg-type]
    return lease


def test_nothing_is_proven_before_a_lease_is_there_nor_after() -> None:
    evidence = KindEvidence()
    assert not evidence.holds()
    lease = keep(evidence, held())
    assert evidence.holds()
    lease.good = False  # a writer waits
    assert not evidence.holds()
    lease.good = True
    evidence.close()
    assert not evidence.holds()


def test_a_refused_lease_proves_nothing_and_its_descriptor_is_closed() -> None:
    with KindEvidence() as evidence:
        fd = os.open("/dev/null", os.O_RDONLY)
        evidence.keep(fd, None)
        assert not evidence.holds()
        assert is_open(fd)
    assert not is_open(fd)


def test_the_lease_ends_before_its_descriptor_and_once() -> None:
    evidence = KindEvidence()
    lease = keep(evidence, held())
    evidence.close()
    another = os.open("/dev/null", os.O_RDONLY)  # gets the number, which a second close must leave alone
    evidence.close()
    assert lease.ended == [True]
    assert is_open(another)
    os.close(another)


def test_a_second_kind_ends_the_first_ones_lease() -> None:
    with KindEvidence() as evidence:
        first, second = held(), held()
        keep(evidence, first)
        keep(evidence, second)
        assert first.ended == [True]
        assert not is_open(first.fd)
        second.good = False
        assert not evidence.holds(), "it goes by the second one now"
    assert second.ended == [True]


def test_it_is_let_go_if_the_request_fails() -> None:
    lease = held()
    with pytest.raises(RuntimeError, match="in between"), KindEvidence() as evidence:
        keep(evidence, lease)
        raise RuntimeError("in between")
    assert lease.ended == [True]


@on_trio
async def test_a_lease_outlives_the_reply_and_no_more() -> None:
    evidence = KindEvidence()
    lease = keep(evidence, held())
    evidence.close_later()
    assert evidence.holds(), "the reply is not sent yet"
    await trio.testing.wait_all_tasks_blocked()
    assert lease.ended == [True]
    assert not is_open(lease.fd)


@on_trio
async def test_without_a_lease_there_is_nothing_to_wait_for() -> None:
    evidence = KindEvidence()
    fd = os.open("/dev/null", os.O_RDONLY)
    evidence.keep(fd, None)
    evidence.close_later()
    assert not is_open(fd)
    await trio.lowlevel.checkpoint()
