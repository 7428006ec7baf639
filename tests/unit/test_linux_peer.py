"""Processes at the other end of a socket."""

from __future__ import annotations

import os
import socket

from policyfs.linux.peer import peer_of


def test_a_peer_is_by_the_kernels_word() -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        assert peer_of(ours) == (os.getpid(), os.getuid())
