"""Uids for workers: a block that nothing else has."""

from __future__ import annotations

import os

import pytest

from policyfs.content.workers import uids
from policyfs.content.workers.uids import BLOCK, NoUidsError, free_block
from policyfs.domain import WORKER_UIDS
from tests.support.machine.processes import start_as


def test_a_block_lies_in_the_range_kept_for_it():
    first = free_block()
    assert first in WORKER_UIDS
    assert first + BLOCK - 1 in WORKER_UIDS


@pytest.mark.parametrize("what", ["process", "account", "app"])
def test_what_somebody_has_is_not_taken(monkeypatch, what):
    """All but one block are somebody's."""
    free = WORKER_UIDS.start + 7 * BLOCK
    taken = set(WORKER_UIDS) - set(range(free, free + BLOCK))
    apps = []
    if what == "process":
        monkeypatch.setattr(uids, "_uids_of_processes", lambda: taken)
    elif what == "account":
        monkeypatch.setattr(uids, "_has_account", lambda uid: uid in taken)
    else:
        apps = [(WORKER_UIDS.start, free - 1), (free + BLOCK, WORKER_UIDS.stop - 1)]
    monkeypatch.setattr(uids, "_TRIES", 1 << 20)
    assert free_block(apps) == free


@pytest.mark.parametrize("place", range(3), ids=["real", "effective", "saved"])
def test_a_process_has_each_of_its_uids(place):
    numbers = [0, 0, 0]
    numbers[place] = uid = WORKER_UIDS.start + 5
    child = start_as(0, lambda channel: (os.setresuid(*numbers), channel.send("has it"), channel.recv()))
    try:
        child.receive()
        assert uid in uids._uids_of_processes()
    finally:
        child.kill()
    assert uid not in uids._uids_of_processes()


def test_another_block_is_chosen_where_a_user_namespace_lacks_the_range(monkeypatch):
    monkeypatch.setattr(uids, "_mapped", lambda name: [range(200_000)])
    first = free_block([(199_000, 199_999)])
    assert first + BLOCK <= 199_000
    assert first > 65_536


def test_without_any_there_is_a_clear_error(monkeypatch):
    monkeypatch.setattr(uids, "_mapped", lambda name: [range(65_536)])
    with pytest.raises(NoUidsError, match="need 32 free uids in a row"):
        free_block()
