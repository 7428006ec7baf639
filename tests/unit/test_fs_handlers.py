"""What handlers do by themselves: requests that name many nodes let others in between."""

from __future__ import annotations

from collections import deque

import pytest
import trio

from policyfs.domain import RAW_VIEW, FileType
from policyfs.fs.handlers import Handlers
from policyfs.fs.inodes.node import BytePath
from policyfs.fs.inodes.node_table import NodeTable
from policyfs.fs.sharing import pauses
from policyfs.linux.statx import Stat
from tests.support.models.policies import engine_of

RULES = '- {id: a, allow: [see], who: {app: any}, paths: ["/**"]}\n'
MANY = 2000


def _stat(ino: int) -> Stat:
    return Stat(ino, 1, 0o100644, 1, 0, 0, 0, 0, 4096, 0, 0, 0, 7)


def _table() -> NodeTable:
    engine = engine_of(RULES)
    nodes = NodeTable(_stat(2), engine.root, engine.child)
    for number in range(MANY):
        node = nodes.add(_stat(number + 10), FileType.REGULAR, RAW_VIEW, BytePath.RAW, engine.root)
        node.lookups = 1
        nodes.add_name(node, nodes.root, b"%d" % number)
    return nodes


def _turns_of_others(messages: int = 1) -> int:
    """Turns that another task has while the kernel gives up all nodes in so many messages."""
    nodes = _table()
    handlers = object.__new__(Handlers)  # of all that it stands on, forget() needs these
    handlers._nodes, handlers._forgets, handlers._forgetting = nodes, deque(), False
    given_up = [(node.nodeid, 1) for node in nodes]
    turns = 0

    async def main() -> None:
        nonlocal turns
        async with trio.open_nursery() as nursery:
            for first in range(messages):
                nursery.start_soon(handlers.forget, given_up[first::messages])
            while len(nodes) > 1:
                turns += 1
                await trio.lowlevel.checkpoint()

    trio.run(main)
    assert set(nodes) == {nodes.root}
    return turns


def test_the_kernel_gives_up_many_nodes_at_once_and_others_go_on(monkeypatch: pytest.MonkeyPatch) -> None:
    """It has sent 100,000 in some messages, and everybody waited 0.6 s.

    Attack E1.3: Have the kernel forget 70,000 known files in one message, when it is short of memory
    Guard: policyfs/fs/handlers.py::Handlers.forget
    Without: ::test_they_wait_for_all_of_them_where_it_is_done_in_one_go
    """
    monkeypatch.setattr(pauses, "SLICE_S", 0.0)  # whatever the clock: a turn for each few of them
    assert _turns_of_others() >= MANY // 16
    assert _turns_of_others(messages=50) >= MANY // 16


def test_they_wait_for_all_of_them_where_it_is_done_in_one_go(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pauses, "SLICE_S", 1e9)
    assert _turns_of_others() < 5
