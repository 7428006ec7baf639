"""Descriptors that all handles of a node use count in the share of an app that has the node open."""

from __future__ import annotations

from typing import cast

from policyfs.fs.inodes.node import Node
from policyfs.fs.inodes.shared_descriptors import SharedDescriptors
from policyfs.fs.sharing.shares import Shares

NODE, OTHER = (cast("Node", object()) for _ in range(2))


def test_who_leaves_hands_on_what_it_took_to_one_who_stays() -> None:
    shares = Shares(10, "descriptors")
    descriptors = SharedDescriptors(shares)
    draft, unnamed = descriptors.take(NODE, "one"), descriptors.take(NODE, "two")
    elsewhere = descriptors.take(OTHER, "one")
    descriptors.hand_on(NODE, {"one": 1, "two": 1})
    assert (shares.held("one"), shares.held("two")) == (2, 1)
    descriptors.hand_on(NODE, {"two": 1})
    assert (shares.held("one"), shares.held("two")) == (1, 2)
    for give_back in (draft, unnamed, elsewhere):
        give_back()
    assert shares.used == shares.held("one") == shares.held("two") == 0


def test_the_last_one_keeps_what_it_has_until_that_is_closed() -> None:
    shares = Shares(10, "descriptors")
    descriptors = SharedDescriptors(shares)
    give_back = descriptors.take(NODE, "one")
    descriptors.hand_on(NODE, ())
    assert shares.held("one") == 1
    give_back()
    assert shares.used == 0
