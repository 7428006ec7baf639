"""Requests of canaries under another uid, on plain directories: whatever they meet is told."""

from __future__ import annotations

import errno
import os
import re
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from policyfs.cli.prove import canary_requests as module
from policyfs.cli.prove.canary_requests import Answer, Identity, NoAnswerError, ask, in_process
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
    with pytest.raises(NoAnswerError, match=r"within 0\.05 s"):
        in_process(NOBODY, lambda: time.sleep(60))


def test_who_makes_requests_is_the_user_for_files_alone() -> None:
    def look() -> list[object]:
        status = Path("/proc/thread-self/status").read_text()
        names = ("Uid", "Gid", "Groups", "CapEff", "CapPrm")
        return [re.search(rf"^{name}:(.*)$", status, re.MULTILINE)[1].split() for name in names]  # type: ignore[index]

    uids, gids, groups, *capabilities = in_process(Identity(65534, 65533), look)
    assert (uids, gids, groups) == (["0", "0", "0", "65534"], ["0", "0", "0", "65533"], [])
    assert {int(one, 16) for (one,) in capabilities} == {0}
    uids, gids, groups, *capabilities = in_process(Identity(65534, 65533, is_whole=True), look)
    assert (uids, gids, groups) == (["65534"] * 4, ["65533"] * 4, [])
    assert {int(one, 16) for (one,) in capabilities} == {0}


class Killer:
    """A process of a user, such as an app, that kills whom it is told to."""

    def __init__(self, uid: int) -> None:
        self.pids, self.answers = os.pipe(), os.pipe()
        self.kept = (self.pids[1], self.answers[0])
        self.child = os.fork()
        if self.child == 0:
            try:
                os.setresuid(uid, uid, uid)
                while pid := os.read(self.pids[0], 16):
                    try:
                        os.kill(int(pid), signal.SIGKILL)
                    except PermissionError:
                        os.write(self.answers[1], b"refused")
            finally:
                os._exit(0)

    def attack(self) -> str:
        """Return whether this process could not be killed."""
        os.write(self.pids[1], b"%-16d" % os.getpid())
        return os.read(self.answers[0], 16).decode()

    def end(self) -> None:
        os.kill(self.child, signal.SIGKILL)
        os.waitpid(self.child, 0)
        for fd in (*self.pids, *self.answers):
            os.close(fd)


def test_only_a_process_with_all_ids_of_the_app_can_be_killed_by_the_app() -> None:
    uid = 64_123
    killer = Killer(uid)
    try:
        assert in_process(Identity(uid, uid), killer.attack, killer.kept) == "refused"
        who = f"root and the processes of uid {uid} and the kernel"
        with pytest.raises(NoAnswerError, match=rf"was killed 3 times; only {who} can do that"):
            in_process(Identity(uid, uid, is_whole=True), killer.attack, killer.kept)
    finally:
        killer.end()
