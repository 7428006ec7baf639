"""The record of a handle, and the data with which the next daemon begins."""

from __future__ import annotations

from typing import NamedTuple


class Setup(NamedTuple):
    """The data with which the next daemon begins: device, connection, INIT request, digest of the policy, and
    the inode of the store's root (NodeTable.root: number and birth time)."""

    device: int
    connection: int
    init: bytes
    policy: str
    root: tuple[int, int] = (0, 0)
    flags: int = 0
    """The flags of INIT that are in use (kernel/session.py, Negotiated); 0: unknown."""


class SavedHandle(NamedTuple):
    """An open file, an open directory with its number as *fh*, or a descriptor of an open file without a name
    (OpenState.fd) with its node's number as *fh*. unique: the number of the request that opened it. fd: -1
    for a reader in passthrough. kept: Listing.kept. passed: True in passthrough."""

    unique: int
    fh: int
    nodeid: int
    flags: int
    uid: int
    gid: int
    pid: int
    fd: int
    is_directory: bool
    kept: bool
    by_kind: bool
    is_unnamed: bool
    passed: bool
    owner: int = 0
    """Checksum of the owner in Handle.facts (sum_of_text); 0 if it is unknown."""
    created: bool = False
    changed: bool = False
