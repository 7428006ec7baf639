"""Shared descriptors: descriptors that all handles of an open node use, and the shares in which they count.

A node has such a descriptor for a draft, for a lease, or for a file that has lost its name. The descriptor
can stay open longer than the handle that it was opened for, until the node's last release. INVARIANT:
a shared descriptor counts in the share of an app that has the node open. Otherwise an app could keep files
open that other apps have written, and so use up the shares of these apps. Or an app could close the handle
for which a descriptor counts, and keep the descriptor through another handle.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

from policyfs.fs.sharing.shares import Holder, Shares

if TYPE_CHECKING:
    from policyfs.fs.inodes.node import Node


@dataclass(slots=True, eq=False)
class _Charge:
    holder: Holder


class SharedDescriptors:
    """A record of the shared descriptors of each open node. shares: the shares in which they count."""

    def __init__(self, shares: Shares) -> None:
        self._shares = shares
        self._of_nodes: dict[Node, set[_Charge]] = {}

    def take(self, node: Node, holder: Holder) -> Callable[[], None]:
        """Count a shared descriptor of a node for *holder* (an app or a stranger's uid). Return the function
        that ends this count, to be called once when the descriptor is closed."""
        charge = _Charge(holder)
        self._of_nodes.setdefault(node, set()).add(charge)
        self._shares.take(holder)
        return partial(self._give, node, charge)

    def _give(self, node: Node, charge: _Charge) -> None:
        charges = self._of_nodes[node]
        charges.remove(charge)
        if not charges:
            del self._of_nodes[node]
        self._shares.give(charge.holder)

    def hand_on(self, node: Node, holders: Collection[Holder]) -> None:
        """Take a node's shared descriptors out of the shares of holders that have closed the node. Count
        these descriptors in the share of a holder that has the node open.

        holders: all holders that have the node open. If there is none, nothing changes.
        """
        for charge in self._of_nodes.get(node, ()) if holders else ():
            if charge.holder not in holders:
                self._shares.give(charge.holder)
                charge.holder = next(iter(holders))
                self._shares.take(charge.holder)
