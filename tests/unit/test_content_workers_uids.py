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


@pytest.mark.parametrize("users", [0, 1, 2])
def test_another_block_is_chosen_where_a_user_namespace_lacks_the_range(monkeypatch, tmp_path, users):
    """Also below the subordinate uids of all users, however many these are."""
    monkeypatch.setattr(uids, "_mapped", lambda name: [range(231_072)])
    file, ranges = tmp_path / "subuid", ["bert:165536:65536\n", "anna:100000:65536\n"]
    file.write_text("".join(ranges[:users]))
    monkeypatch.setattr(uids, "_SUBORDINATE", (str(file),))
    first = free_block([(230_000, 231_071)])
    assert first + BLOCK <= (230_000, 165_536, 100_000)[users] < first + 2 * BLOCK


@pytest.mark.parametrize("whose", ["app", "subuid", "account"])
def test_in_a_container_of_65536_uids_they_come_from_those_that_nobody_gives(monkeypatch, tmp_path, whose):
    """As in an unprivileged LXC. What somebody has is left out, and all of it ends in an error."""
    monkeypatch.setattr(uids, "_mapped", lambda name: [range(65_536)])
    apps, file = [], tmp_path / "subuid"
    monkeypatch.setattr(uids, "_SUBORDINATE", (str(file),))
    first = free_block()
    assert first >= 60_706
    assert first + BLOCK <= 61_184
    if whose == "app":
        apps = [(1000, first)]
    elif whose == "subuid":
        file.write_text(f"# none\nuser:{first + BLOCK - 1}:1\n")
    else:
        monkeypatch.setattr(uids, "_has_account", lambda uid: uid == first)
    assert free_block(apps) == first + BLOCK
    file.write_text("user:60706:1000\n")
    with pytest.raises(NoUidsError, match="need 32 free uids in a row"):
        free_block()
