"""For what the kernel waits when it takes a notification (their bytes: test_kernel_notify.py)."""

from __future__ import annotations

import pytest

from policyfs.kernel import messages


def test_names_wait_for_their_directory():
    gentle = messages.entry(7, b"b", messages.EXPIRE_ONLY)
    asked = [messages.entry(7, b"a", 0), gentle]
    assert len({messages.awaited(message) for message in asked}) == 1
    assert messages.awaited(asked[0]) not in {None, messages.awaited(messages.entry(8, b"a", 0))}


def test_all_pages_wait_for_those_of_their_file():
    first, second = messages.all_pages([7, 8])
    assert messages.awaited(first) == messages.awaited(messages.inode(7, 4096, 0)) is not None
    assert messages.awaited(first) != messages.awaited(second)
    assert messages.awaited(first) != messages.awaited(messages.entry(7, b"a", 0))


@pytest.mark.parametrize(
    "message", [messages.inode(7, -1, 0), messages.inode(7, 0, 4096), messages.epoch(), messages.prune([7])]
)
def test_others_wait_for_nothing(message):
    assert messages.awaited(message) is None
