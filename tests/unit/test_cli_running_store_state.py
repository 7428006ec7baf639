"""The store of a running mount, as `status` finds it in the daemon's process: here in this one."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from policyfs.cli.running import store_state
from policyfs.cli.running.store_state import store_problems
from policyfs.store.store_record import check_store
from tests.support.machine.images import file_system


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("POLICYFS_STATE_DIR", str(tmp_path / "state"))
    made = tmp_path / "store"
    made.mkdir()
    return made


@pytest.fixture
def status(store: Path) -> Iterator[dict[str, Any]]:
    fd = os.open(store, os.O_PATH)
    found = os.fstat(fd)
    root = {"fd": fd, "device": found.st_dev, "inode": found.st_ino, "writable": True}
    yield {"store": str(store), "pid": os.getpid(), "root": root}
    os.close(fd)


def test_a_store_in_place_has_no_problem(status: dict[str, Any]) -> None:
    assert store_problems(status) == []


def test_a_directory_in_its_place_is_one(store: Path, status: dict[str, Any]) -> None:
    store.rename(store.parent / "old")
    [told] = store_problems(status)
    assert f"the store {store} is not at its path any more (No such file or directory)" in told
    store.mkdir()
    [told] = store_problems(status)
    assert f"another directory or file system is at {store}" in told


def test_a_record_that_cannot_be_read_is_told(store: Path, status: dict[str, Any]) -> None:
    check_store(str(store))
    [record] = (store.parent / "state").iterdir()
    record.write_text("")
    [told] = store_problems(status)
    assert "the record of the store" in told


def test_of_a_process_that_is_not_the_daemon_nothing_is_told(store: Path, status: dict[str, Any]) -> None:
    store.rmdir()
    assert store_problems(status | {"root": status["root"] | {"inode": 1}}) == []
    assert store_problems(status | {"root": None}) == []


def test_the_path_counts_only_in_the_daemons_mount_namespace(store: Path, status: dict[str, Any]) -> None:
    words = ["unshare", "--mount", "sh", "-c", "echo; exec sleep 60"]
    root = os.open(store, os.O_RDONLY)
    with subprocess.Popen(words, stdin=root, stdout=subprocess.PIPE) as other:
        assert other.stdout is not None
        other.stdout.readline()
        store.rmdir()
        assert store_problems(status | {"pid": other.pid, "root": status["root"] | {"fd": 0}}) == []
        other.kill()
    os.close(root)
    assert len(store_problems(status)) == 1


@pytest.mark.mount
def test_a_disk_that_was_removed_is_told(
    tmp_path: Path, store: Path, status: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Linux 6.1 tells of it only in /sys, until somebody writes."""
    with file_system("ext4", tmp_path) as root:
        fd = os.open(root, os.O_PATH)
        found = os.fstat(fd)
        there = {"fd": fd, "device": found.st_dev, "inode": found.st_ino}
        status |= {"store": str(root), "root": status["root"] | there}
        assert store_problems(status) == []
        monkeypatch.setattr(store_state, "_DISKS", str(tmp_path))
        assert store_problems(status) == [
            f"the disk of the store {root} was removed; repair it, mount it again, and make this mount anew"
        ]
        os.close(fd)
