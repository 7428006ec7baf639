"""The file that `policyfs inspect --write` saves: whole or absent, and of examined bytes alone."""

from __future__ import annotations

import argparse
import contextlib
import os
import signal
from pathlib import Path

import pytest

from policyfs.cli import inspect
from policyfs.cli import saved_copy as command
from policyfs.errors import PolicyfsError
from policyfs.store.frozen import Version
from tests.support.samples import jpegs

NO_PLACE, PLACE = b"a quince on a table.", b"47.804531, 13.042287"


@pytest.fixture
def photo(tmp_path: Path) -> Path:
    path = tmp_path / "b.jpg"
    path.write_bytes(jpegs.with_segments(jpegs.plain(), jpegs.segment(jpegs.COM, NO_PLACE)))
    return path


def _arguments(photo: Path) -> argparse.Namespace:
    words = {"redact": "location", "on_unknown": "zero", "json": False}
    return argparse.Namespace(path=str(photo), write=str(photo.with_name("out.jpg")), **words)


@pytest.mark.parametrize("guard", ["frozen", "examined again", "none"])
def test_a_writer_that_leaves_no_trace(photo: Path, monkeypatch: pytest.MonkeyPatch, guard: str) -> None:
    """The second write to a page of a shared mapping changes neither times nor size."""
    if guard != "frozen":
        monkeypatch.setattr(command, "_FROZEN_BYTES", 0)
    save = command.save
    version = Version(photo.stat().st_size, 0, 0)
    monkeypatch.setattr(command, "_version", lambda _: version)

    def late(fd, before, source, plan, path, look):
        photo.write_bytes(photo.read_bytes().replace(NO_PLACE, PLACE))
        save(fd, before, source, plan, path, look if guard != "none" else lambda _: plan)

    monkeypatch.setattr(inspect, "save", late)
    refused = pytest.raises(PolicyfsError, match="another program changed the file")
    with refused if guard == "examined again" else contextlib.nullcontext():
        inspect.run_inspect(_arguments(photo))
    leaks = {"frozen": [False], "examined again": [], "none": [True]}
    assert [PLACE in path.read_bytes() for path in photo.parent.glob("out*")] == leaks[guard]


@pytest.mark.parametrize("unnamed", [True, False])
def test_a_taken_name_stays(photo: Path, monkeypatch: pytest.MonkeyPatch, unnamed: bool) -> None:
    """File systems with and without O_TMPFILE."""
    if not unnamed:
        monkeypatch.setattr("policyfs.cli.common.output._unnamed_file", lambda _: None)
    assert inspect.run_inspect(_arguments(photo)) == 0
    out = photo.with_name("out.jpg")
    assert out.read_bytes() == photo.read_bytes()
    out.write_bytes(b"mine")
    with pytest.raises(PolicyfsError, match="File exists"):
        inspect.run_inspect(_arguments(photo))
    assert out.read_bytes() == b"mine"
    assert sorted(os.listdir(photo.parent)) == ["b.jpg", "out.jpg"]


@pytest.mark.parametrize("way", ["killed", "interrupted"])
def test_no_half_file_is_left(photo: Path, way: str) -> None:
    pid = os.fork()
    if pid == 0:
        pwrite = os.pwrite

        def stopped(fd: int, data: bytes, at: int) -> int:
            pwrite(fd, data[:100], at)
            if way == "killed":
                os.kill(os.getpid(), signal.SIGKILL)
            raise KeyboardInterrupt

        os.pwrite = stopped  # type: ignore[assignment]
        try:
            inspect.run_inspect(_arguments(photo))
        except KeyboardInterrupt:
            os._exit(7)
        os._exit(0)
    status = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    assert status == (-signal.SIGKILL if way == "killed" else 7)
    assert os.listdir(photo.parent) == ["b.jpg"]
