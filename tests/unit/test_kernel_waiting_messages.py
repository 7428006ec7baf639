"""Notifications wait for one that hangs for the same directory or pages, and only so many."""

from __future__ import annotations

from policyfs.kernel import messages
from policyfs.kernel.waiting_messages import WaitingMessages


def name(directory: int, name: bytes) -> bytes:
    return messages.entry(directory, name, messages.EXPIRE_ONLY)


def test_a_message_waits_for_its_own_directory():
    waiting = WaitingMessages(10)
    assert not waiting.add(name(1, b"a"), None), "nothing hangs"
    waiting.begin(name(1, b"a"))
    assert waiting.add(name(1, b"c"), None)
    assert waiting.add(name(1, b"b"), None)
    assert not waiting.add(name(2, b"b"), None)
    assert not waiting.add(messages.inode(1, 0, 0), None), "the directory's pages are not its lock"
    assert not waiting.add(messages.epoch(), None), "it waits for nothing"
    assert waiting.end(name(1, b"a")) == [(name(1, b"c"), None), (name(1, b"b"), None)]
    assert not waiting.add(name(1, b"b"), None)
    assert waiting.end(name(1, b"a")) == []


def test_its_function_waits_with_it():
    waiting = WaitingMessages(10)
    waiting.begin(messages.inode(7, 0, 0))
    assert waiting.add(messages.inode(7, 0, 0), print)
    assert waiting.end(messages.inode(7, 0, 0)) == [(messages.inode(7, 0, 0), print)]


def test_a_message_that_waits_for_nothing_keeps_none():
    waiting = WaitingMessages(10)
    waiting.begin(messages.epoch())
    assert not waiting.add(messages.epoch(), None)
    assert waiting.end(messages.epoch()) == []


def test_any_directory_is_a_directory():
    waiting = WaitingMessages(10)
    waiting.begin(messages.inode(7, 0, 0))
    assert not waiting.add_to_any_directory(name(3, b"a"))
    waiting.begin(messages.entry(1, b"b", messages.EXPIRE_ONLY))
    assert waiting.add_to_any_directory(name(3, b"a"))
    assert waiting.end(messages.inode(7, 0, 0)) == []
    assert waiting.end(name(1, b"b")) == [(name(3, b"a"), None)]


def test_no_more_wait_than_there_is_room_for_in_all_directories_together():
    waiting = WaitingMessages(3)
    for directory in (1, 2):
        waiting.begin(name(directory, b"held"))
    kept = [waiting.add(name(1 + number % 2, b"%d" % number), None) for number in range(5)]
    assert kept == [True, True, True, False, False]
    assert not waiting.add_to_any_directory(name(3, b"a"))
    assert len(waiting.end(name(1, b"held"))) == 2
    assert waiting.add_to_any_directory(name(3, b"a"))
