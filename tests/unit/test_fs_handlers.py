"""What handlers do by themselves: requests that name many nodes let others in between."""

from __future__ import annotations

import pytest
import trio

from policyfs.domain import RAW_VIEW, FileType
from policyfs.fs import handlers as handlers_module
from policyfs.fs.handlers import Handlers
from policyfs.fs.nodes import Flavor, NodeTable
from policyfs.fs.pauses import SLICE
from policyfs.store.statx import Stat
from tests.support.policies import engine_of

RULES = '- {id: a, allow: [see], who: {app: any}, paths: ["/**"]}\n'
MANY = 2000


def _stat(ino: int) -> Stat:
    return Stat(ino, 1, 0o100644, 1, 0, 0, 0, 0, 4096, 0, 0, 0, 7)


def _table() -> NodeTable:
    engine = engine_of(RULES)
    nodes = NodeTable(_stat(2), engine.root, engine.child)
    for number in range(MANY):
        node = nodes.add(_stat(number + 10), FileType.REGULAR, RAW_VIEW, Flavor.RAW, engine.root)
        node.lookups = 1
        nodes.add_name(node, nodes.root, b"%d" % number)
    return nodes


def _turns_of_others() -> int:
    """Turns that another task has while the kernel gives up all nodes in one message."""
    nodes = _table()
    handlers = object.__new__(Handlers)  # of all that it stands on, forget() needs the nodes
    handlers._nodes = nodes
    turns = 0

    async def forget(done: trio.Event) -> None:
        await handlers.forget([(node.nodeid, 1) for node in nodes])
        done.set()

    async def main() -> None:
        nonlocal turns
        done = trio.Event()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(forget, done)
            while not done.is_set():
                turns += 1
                await trio.lowlevel.checkpoint()

    trio.run(main)
    assert set(nodes) == {nodes.root}
    return turns


def test_the_kernel_gives_up_many_nodes_at_once_and_others_go_on() -> None:
    """Short of memory it has sent 70,000 in one message, and everybody waited 0.4 s."""
    assert _turns_of_others() >= MANY // SLICE


def test_they_wait_for_all_of_them_where_it_is_done_in_one_go(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(handlers_module, "SLICE", 2 * MANY)
    assert _turns_of_others() < 5
