"""The second mount for sample requests: the options that it shares, and the end of its process."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from policyfs.cli.prove import canary_mount
from policyfs.cli.prove.canary_mount import prove_in_memory
from policyfs.cli.prove.prover import NotProvedError, WrongAnswerError
from policyfs.errors import PolicyfsError

CHILDREN = Path("/proc/thread-self/children")


class Prover:
    """Says what it is told to say."""

    def __init__(self, told: Counter[str] | Exception) -> None:
        self.told = told

    def prove_planted(self, mount_fd: int, store_fd: int, status: object) -> Counter[str]:
        assert (mount_fd, store_fd) == (5, 6)
        if isinstance(self.told, Exception):
            raise self.told
        return self.told


@pytest.fixture(autouse=True)
def nothing_left(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(canary_mount, "_second_mount", mounted)
    before = os.listdir("/proc/self/fd"), CHILDREN.read_text()
    yield
    assert (os.listdir("/proc/self/fd"), CHILDREN.read_text()) == before


@contextmanager
def mounted(*_: object) -> Iterator[tuple[int, int, Path]]:
    yield 5, 6, Path("/socket")


def proved(told: Counter[str] | Exception) -> Counter[str]:
    return prove_in_memory(Prover(told), {}, [])  # type: ignore[arg-type]


def test_the_counts_come_back() -> None:
    assert proved(Counter({"hiding": 3})) == {"hiding": 3}


@pytest.mark.parametrize(
    ("raised", "expected", "text"),
    [
        (WrongAnswerError("shown"), WrongAnswerError, "^shown$"),
        (NotProvedError("killed"), NotProvedError, "^killed$"),
        (PolicyfsError("no tmpfs"), NotProvedError, "^no second daemon, .*, serves a mount: no tmpfs$"),
        (ValueError("bug"), NotProvedError, r"ValueError\('bug'\)$"),
    ],
)
def test_errors_come_back(raised: Exception, expected: type[Exception], text: str) -> None:
    with pytest.raises(expected, match=text):
        proved(raised)


def test_a_process_that_is_killed_has_proved_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(canary_mount, "_result", lambda *_: os.kill(os.getpid(), 9))
    with pytest.raises(NotProvedError, match="the process that tests a store in memory has ended"):
        proved(Counter())


def test_the_second_mount_has_the_options_of_the_first() -> None:
    told = {"app": "camera", "uid": 7, "gid": [8], "posix": True, "avc": False, "trail_keep": 9, "words": []}
    args = canary_mount._arguments(told, Path("/place"))
    assert (args.app, args.uid, args.gid, args.posix, args.avc) == ("camera", 7, [8], True, False)
    assert (args.store, args.mountpoint, args.policy) == ("/place/store", "/place/mount", "/place/policy")
    assert (args.trail, args.trail_keep, args.no_xattrs) == ("/place/trail", 0, False)
