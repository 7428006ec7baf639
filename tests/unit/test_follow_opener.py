"""The opener answers its two questions, and no other."""

from __future__ import annotations

import os
import socket
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from policyfs.follow.opener import Opener, OpenerAccess
from tests.support.mount.trail import MOUNT_ID, an_event, segments, write_trail


@pytest.fixture
def connection(tmp_path: Path) -> Iterator[socket.socket]:
    write_trail(tmp_path / "trail", [an_event()])
    (tmp_path / "trail" / MOUNT_ID / "secret").write_text("x")
    ours, theirs = socket.socketpair()
    opener = Opener(ours, tmp_path / "trail")
    thread = threading.Thread(target=opener.serve)
    thread.start()
    yield theirs
    theirs.close()
    thread.join()


def test_its_answers_are_those_of_the_trail(connection: socket.socket, tmp_path: Path) -> None:
    access = OpenerAccess(connection)
    (file,) = segments(tmp_path / "trail" / MOUNT_ID)
    assert access.chains() == {MOUNT_ID: [file.name]}
    with os.fdopen(access.open(MOUNT_ID, file.name), "rb") as opened:
        assert opened.read() == file.read_bytes()
        assert not os.get_inheritable(opened.fileno())
        with pytest.raises(OSError, match="Bad file"):
            os.write(opened.fileno(), b"x")


@pytest.mark.parametrize(
    "words",
    [
        ["open", MOUNT_ID, "secret"], ["open", MOUNT_ID, "../../keys/keys.public"], ["open", "../trail", "x"],
        ["open", "other", "00000001-20260301T080000Z.jsonl"], ["open"], ["exec", "x"], [], ["checkpoints"],
    ],
    ids=str,
)  # fmt: skip
def test_another_question_has_no_answer(connection: socket.socket, words: list[str]) -> None:
    access = OpenerAccess(connection)
    with pytest.raises(OSError):
        access._ask(*words)
    assert access.chains()  # and it goes on


def test_an_opener_that_has_ended_is_an_error() -> None:
    ours, theirs = socket.socketpair()
    ours.close()
    with pytest.raises(OSError, match="Broken pipe"):
        OpenerAccess(theirs).chains()
    theirs.close()
