"""Mounts of this process's own: nobody else sees them, and those of the machine come in."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest

from policyfs.linux.confinement.namespaces import bind, enter_own_mounts, fork_first_process, mount_own_proc
from tests.support.machine.inchild import in_child


def _bound(source: Path, target: Path) -> list[object]:
    before = os.readlink("/proc/self/ns/mnt")
    enter_own_mounts()
    bind(str(source), str(target))
    lines = Path("/proc/self/mountinfo").read_text("utf-8", "surrogateescape").splitlines()
    propagation = {line.split(" - ")[0].split()[6:] != [] for line in lines if f" {target} " in line}
    shared = [line for line in lines if " shared:" in line.split(" - ")[0]]
    return [before != os.readlink("/proc/self/ns/mnt"), sorted(os.listdir(target)), len(propagation), shared]


def test_a_directory_is_shown_elsewhere_to_this_process_alone(tmp_path: Path) -> None:
    source, target = tmp_path / "source", tmp_path / "target"
    for place in (source, target):
        place.mkdir()
    (source / "a").write_bytes(b"")
    other, listed, mounts, shared = in_child(lambda: _bound(source, target))
    assert other
    assert listed == ["a"]
    assert mounts == 1
    assert shared == [], "no mount made here may reach others"
    assert os.listdir(target) == []


def _errno_of_bind(source: Path, target: Path) -> int:
    enter_own_mounts()
    try:
        bind(str(source), str(target))
    except OSError as error:
        return error.errno or 0
    return 0


def test_what_cannot_be_bound_is_an_error_with_its_errno(tmp_path: Path) -> None:
    assert in_child(lambda: _errno_of_bind(tmp_path / "absent", tmp_path)) == 2
    with pytest.raises(FileNotFoundError) as caught:
        bind(str(tmp_path), str(tmp_path / "absent"))
    assert str(tmp_path / "absent") in str(caught.value)


def test_processes_of_a_namespace_end_with_the_first_one() -> None:
    heard, says = os.pipe()
    first = fork_first_process()
    if first == 0:
        enter_own_mounts()
        mount_own_proc()
        if os.fork() == 0:
            while True:
                signal.pause()  # it keeps the pipe open
        os.write(says, f"{os.getpid()} {sorted(filter(str.isdigit, os.listdir('/proc')))}".encode())
        os._exit(3)
    os.close(says)
    with os.fdopen(heard, "rb") as pipe:
        assert pipe.read() == b"1 ['1', '2']"
    assert os.waitstatus_to_exitcode(os.waitpid(first, 0)[1]) == 3
    assert in_child(lambda: os.getpid() > 1), "later children are not of the namespace"
