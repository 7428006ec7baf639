"""Requests of canaries under another uid, on plain directories: whatever they meet is told."""

from __future__ import annotations

import errno
import os
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from policyfs.cli import canary_requests as module
from policyfs.cli.canary_requests import Answer, Identity, NoAnswerError, ask
from policyfs.domain import Op
from policyfs.policy.analysis.canaries import Canary, Sort

NOBODY = Identity(65534, 65534)


@pytest.fixture
def place(tmp_path: Path) -> Iterator[int]:
    """A directory with a file that everybody may read, and one that nobody may but root."""
    (tmp_path / "shown").write_bytes(b"bytes")
    (tmp_path / "closed").touch(mode=0o600)
    (tmp_path / "shut").mkdir(mode=0o700)
    os.chmod(tmp_path / "shown", 0o644)
    os.chmod(tmp_path, 0o755)
    fd = os.open(tmp_path, os.O_RDONLY | os.O_DIRECTORY)
    yield fd
    os.close(fd)


def asked(fd: int, sort: Sort, path: bytes, op: Op = Op.READ) -> Answer:
    [answer] = ask(fd, NOBODY, [Canary(sort, path, op)], reads=True)
    return answer


def test_answers(place: int) -> None:
    found = asked(place, Sort.REDACTION, b"/shown")
    assert (found.errno, found.data) == (0, b"bytes")
    assert asked(place, Sort.DENIAL, b"/closed").errno == errno.EACCES
    assert asked(place, Sort.HIDING, b"/absent") == Answer(errno.ENOENT, 0, False)
    assert asked(place, Sort.HIDING, b"/shut/absent").listed is None
    found = asked(place, Sort.HIDING, b"/shown")
    assert (found.errno, found.listed) == (0, True)


def test_an_open_that_tells_of_a_hidden_name_counts(place: int, monkeypatch: pytest.MonkeyPatch) -> None:
    def absent(path: bytes, *, dir_fd: int) -> os.stat_result:
        raise FileNotFoundError(errno.ENOENT, "No such file or directory", path)

    monkeypatch.setattr(os, "lstat", absent)
    assert asked(place, Sort.HIDING, b"/closed").errno == errno.EACCES


def test_a_listing_that_fails_is_no_answer(place: int) -> None:
    with pytest.raises(NoAnswerError, match="uid 65534 could not make its requests: NotADirectoryError"):
        asked(place, Sort.HIDING, b"/shown/below")


def test_a_process_that_is_too_slow_is_no_answer(place: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "DEADLINE_S", 0.05)
    monkeypatch.setattr(module, "_become", lambda *_arguments, **_more: time.sleep(60))
    with pytest.raises(NoAnswerError, match=r"within 0\.05 s"):
        asked(place, Sort.DENIAL, b"/closed")
