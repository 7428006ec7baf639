"""Inspection of single files: only regular files, and never by our own parser as root."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from policyfs.cli.common.looking import kind_in_worker, opened, plan_for
from policyfs.content import sniffer as sniffers
from policyfs.content.workers import worker
from policyfs.errors import PolicyfsError
from policyfs.linux import procfs
from policyfs.redact.plan import Outcome
from tests.support.mount.steps import PHOTO

WORDS = frozenset({"location"})


@pytest.fixture
def photo(tmp_path: Path) -> str:
    (tmp_path / "a.jpg").write_bytes(PHOTO)
    return str(tmp_path / "a.jpg")


def test_a_regular_file_is_opened_for_reading_and_closed(photo: str) -> None:
    with opened(photo) as fd:
        assert os.pread(fd, len(PHOTO), 0) == PHOTO
        with pytest.raises(OSError, match="Bad file descriptor"):
            os.write(fd, b"x")
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.fstat(fd)


def test_anything_else_is_told_and_no_one_waits_for_a_writer(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "fifo")
    before = len(os.listdir("/proc/self/fd"))
    for name, told in (("fifo", "not a regular"), (".", "not a regular"), ("absent", "cannot read")):
        with pytest.raises(PolicyfsError, match=told), opened(str(tmp_path / name)):
            raise AssertionError(name)
    assert len(os.listdir("/proc/self/fd")) == before


class Worker:
    """Stands in for a confined worker."""

    def __init__(self) -> None:
        self.asked: list[object] = []
        self.ended = 0
        self.fails: Exception | None = None

    def start(self, workers: int) -> Worker:
        assert workers == 1
        assert os.stat(procfs.root()).st_dev != os.stat("/proc").st_dev, "no app can lock this instance"
        return self

    async def kind_of_fd(self, fd: int) -> str:
        self.asked.append(fd)
        if self.fails is not None:
            raise self.fails
        return "image/jpeg"

    async def locate(self, fd: int, words: frozenset[str]) -> tuple[str, str]:
        self.asked.append((fd, words))
        return "image/jpeg", "a plan"

    async def aclose(self) -> None:
        self.ended += 1


@pytest.fixture
def confined(monkeypatch: pytest.MonkeyPatch) -> Worker:
    made = Worker()
    monkeypatch.setattr(sniffers, "Sniffer", made)
    return made


def test_for_root_a_worker_parses_the_file(confined: Worker, monkeypatch: pytest.MonkeyPatch) -> None:
    def parsed(*_: object) -> None:
        raise AssertionError("root has parsed the file itself")

    monkeypatch.setattr(os, "geteuid", lambda: 0)
    monkeypatch.setattr(worker, "Detector", parsed)
    assert plan_for(5, WORDS) == ("image/jpeg", "a plan")
    assert confined.asked == [(5, WORDS)]
    assert confined.ended == 1


def test_the_worker_ends_also_after_an_error(confined: Worker) -> None:
    confined.fails = sniffers.SnifferError("it died")
    with pytest.raises(sniffers.SnifferError, match="it died"):
        kind_in_worker(5)
    assert confined.ended == 1


def test_any_other_user_parses_with_their_own_rights(
    confined: Worker, monkeypatch: pytest.MonkeyPatch, photo: str
) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    with opened(photo) as fd:
        kind, plan = plan_for(fd, WORDS)
    assert kind == "image/jpeg"
    assert plan.outcome is not Outcome.REFUSE
    assert not confined.asked


def test_a_file_whose_kind_cannot_be_found_is_refused(
    confined: Worker, monkeypatch: pytest.MonkeyPatch, photo: str
) -> None:
    class Failing:
        def kind(self, head: bytes) -> str:
            raise worker.SniffError("libmagic gave up")

    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    monkeypatch.setattr(worker, "Detector", Failing)
    with opened(photo) as fd:
        kind, plan = plan_for(fd, WORDS)
    found: Any = plan
    assert (kind, found.outcome, found.reason) == (None, Outcome.REFUSE, "libmagic gave up")
