"""Inspection of single files: only regular files, and only by the parsers of confined workers."""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import tempfile
from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace

import pytest

from policyfs.cli.common.looking import kind_in_worker, opened, plan_for, start_sniffer
from policyfs.content import sniffer as sniffers
from policyfs.content.workers import execution, worker, zygote
from policyfs.content.workers.sandbox import Limits
from policyfs.errors import PolicyfsError
from policyfs.linux import procfs
from tests.support.machine.processes import call_as
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


def test_a_worker_parses_the_file(confined: Worker, monkeypatch: pytest.MonkeyPatch) -> None:
    def parsed(*_: object) -> None:
        raise AssertionError("the command has parsed the file itself")

    monkeypatch.setattr(worker, "Detector", parsed)
    assert plan_for(5, WORDS) == ("image/jpeg", "a plan")
    assert confined.asked == [(5, WORDS)]
    assert confined.ended == 1


def test_the_worker_ends_also_after_an_error(confined: Worker) -> None:
    confined.fails = sniffers.SnifferError("it died")
    with pytest.raises(sniffers.SnifferError, match="it died"):
        kind_in_worker(5)
    assert confined.ended == 1


def _looked_as_a_user(path: str) -> tuple[str | None, str, str]:
    """Look at a file as a user without rights, whose launcher is a fork of this process."""

    class Forked:
        def __init__(self, words: Sequence[str], *, pass_fds: Sequence[int], **_: object) -> None:
            self.pid = os.fork()
            if self.pid == 0:
                control = socket.socket(fileno=pass_fds[0])
                os._exit(zygote.launch(control, Limits(**json.loads(words[-2]))))

        def wait(self) -> None:
            os.waitpid(self.pid, 0)

    execution.subprocess = SimpleNamespace(Popen=Forked, DEVNULL=subprocess.DEVNULL)
    sniffer = start_sniffer(2)
    status = Path(f"/proc/{sniffer.stats().worker_pids[1]}/status").read_text(encoding="ascii")
    held = sniffer.stats().confinement
    sniffer.close()
    with opened(path) as fd:
        kind, plan = plan_for(fd, WORDS)
    return kind, plan.outcome.value, held + status


def test_for_a_user_a_worker_without_rights_parses_the_file(tmp_path: Path) -> None:
    zygote.prepared()  # the user cannot read the modules
    path = Path(tempfile.mkdtemp(dir="/var/tmp")) / "a.jpg"
    try:
        path.parent.chmod(0o755)
        path.write_bytes(PHOTO)
        kind, outcome, told = call_as(10010, _looked_as_a_user, str(path))
    finally:
        shutil.rmtree(path.parent)
    assert (kind, outcome) == ("image/jpeg", "patch")
    fields = dict(line.split(":", 1) for line in told.splitlines() if ":" in line)
    assert fields["NoNewPrivs"].strip() == "1"
    assert fields["Seccomp"].strip() == "2"
    assert int(fields["CapPrm"], 16) == int(fields["CapEff"], 16) == 0
    assert told.startswith("uid 10010, no_new_privs, limits")
