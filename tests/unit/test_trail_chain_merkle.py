"""Merkle trees: the hashes of RFC 6962, however they are computed."""

from __future__ import annotations

import hashlib
import random

import pytest

from policyfs.trail.chain.merkle import MerkleTree, root_of


def entries(count: int) -> bytes:
    return random.Random(count).randbytes(32 * count)


def by_definition(data: bytes) -> bytes:
    """RFC 6962, 2.1, word by word."""
    size = len(data) // 32
    if not size:
        return hashlib.sha256(b"").digest()
    if size == 1:
        return hashlib.sha256(b"\0" + data).digest()
    half = 1
    while half * 2 < size:
        half *= 2
    left, right = by_definition(data[: 32 * half]), by_definition(data[32 * half :])
    return hashlib.sha256(b"\1" + left + right).digest()


@pytest.mark.parametrize("count", [*range(20), 31, 32, 33, 100])
def test_the_root_is_that_of_the_definition(count: int) -> None:
    data = entries(count)
    tree = MerkleTree()
    tree.add(data[: 32 * (count // 3)])
    tree.add(data[32 * (count // 3) :])
    assert tree.size == count
    assert tree.root() == root_of(data) == by_definition(data)
