"""Which nodes the kernel is asked to give back, and when. The kernel is one that may give them back."""

from __future__ import annotations

from policyfs.domain import RAW_VIEW, FileType
from policyfs.fs.inodes.node import BytePath, Node
from policyfs.fs.inodes.node_table import NodeTable
from policyfs.fs.inodes.open_state import OpenState
from policyfs.fs.kernel_cache.pruning import Pruning
from policyfs.linux.statx import Stat
from tests.support.models.policies import engine_of

RULES = '- {id: a, allow: [see], who: {app: any}, paths: ["/**"]}\n'


class Kernel:
    """One that gives back what it is asked for, but for what it uses itself."""

    def __init__(self, nodes: NodeTable) -> None:
        self.nodes = nodes
        self.uses: set[int] = set()
        self.asked: list[list[int]] = []

    def prune(self, nodeids: list[int]) -> bool:
        self.asked.append(nodeids)
        for nodeid in nodeids:
            node = self.nodes.find(nodeid)
            if node is not None and nodeid not in self.uses and not node.children:
                self.nodes.forget(nodeid, 1)
        return True


def table() -> NodeTable:
    engine = engine_of(RULES)
    return NodeTable(_stat(2), engine.root, engine.child)


def _stat(ino: int) -> Stat:
    return Stat(ino, 1, 0o100644, 1, 0, 0, 0, 0, 4096, 0, 0, 0, 7)


def add(nodes: NodeTable, parent: Node, number: int) -> Node:
    node = nodes.add(_stat(number + 10), FileType.DIRECTORY, RAW_VIEW, BytePath.RAW, parent.state)
    node.lookups = 1
    nodes.add_name(node, parent, b"%d" % number)
    return node


def test_nothing_goes_within_the_bound() -> None:
    nodes = table()
    kernel, pruning = Kernel(nodes), Pruning(nodes, 100)
    for number in range(99):
        add(nodes, nodes.root, number)
    pruning.prune(kernel)
    assert kernel.asked == []


def test_the_oldest_go_beyond_it() -> None:
    nodes = table()
    kernel, pruning = Kernel(nodes), Pruning(nodes, 1000)
    made = [add(nodes, nodes.root, number) for number in range(1200)]
    pruning.prune(kernel)
    assert len(nodes) < 1000
    assert nodes.find(made[0].nodeid) is None
    assert nodes.find(made[-1].nodeid) is made[-1]
    assert pruning.asked == len(kernel.asked[0])


def test_a_chain_goes_from_its_end() -> None:
    nodes = table()
    kernel, pruning = Kernel(nodes), Pruning(nodes, 10)
    node = nodes.root
    for number in range(100):
        node = add(nodes, node, number)
    pruning.prune(kernel)
    assert set(nodes) == {nodes.root}
    assert kernel.asked[0] == sorted(kernel.asked[0], reverse=True)


def test_what_is_in_use_is_not_asked_for_and_stays() -> None:
    nodes = table()
    kernel, pruning = Kernel(nodes), Pruning(nodes, 1)
    opened, above = add(nodes, nodes.root, 0), add(nodes, nodes.root, 1)
    below = add(nodes, above, 2)
    opened.open = OpenState()
    kernel.uses.add(below.nodeid)
    for _ in range(300):
        pruning.prune(kernel)
    assert set(nodes) == {nodes.root, opened, above, below}
    assert {nodeid for asked in kernel.asked for nodeid in asked} == {above.nodeid, below.nodeid}


def test_it_asks_less_and_less_often_where_nothing_comes_of_it() -> None:
    nodes = table()
    kernel, pruning = Kernel(nodes), Pruning(nodes, 100)
    made = [add(nodes, nodes.root, number) for number in range(1000)]
    kernel.uses |= {node.nodeid for node in made}
    for _ in range(1000):
        pruning.prune(kernel)
    assert len(kernel.asked) < 40
    kernel.uses.clear()  # and soon again once it does
    for _ in range(100):
        pruning.prune(kernel)
    assert len(nodes) <= 100


def test_a_kernel_that_cannot_be_told_keeps_them() -> None:
    class Old:
        def prune(self, nodeids: list[int]) -> bool:
            return False

    nodes = table()
    pruning = Pruning(nodes, 10)
    for number in range(100):
        add(nodes, nodes.root, number)
    pruning.prune(Old())
    assert (len(nodes), pruning.asked) == (101, 0)
