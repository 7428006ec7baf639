"""Checks of a store: each finding from its facts, and the trial mount."""

from __future__ import annotations

import dataclasses
import os
import subprocess
import tempfile
from pathlib import Path

import pytest

from policyfs.cli.machine import store_checks
from policyfs.cli.machine.findings import State
from policyfs.store.trial import probe


@pytest.mark.parametrize(
    ("field", "value", "name", "state"),
    [
        ("reflink", False, "reflink", State.SLOW),
        ("leases", False, "leases", State.OFF),
        ("trusted_xattr", False, "trusted xattrs", State.SLOW),
        ("user_xattr", False, "user xattrs", State.OFF),
        ("fanotify", False, "fanotify", State.SLOW),
        ("casefold", True, "case", State.BAD),
        ("read_only", True, "store", State.OFF),
        ("one_owner", True, "new files", State.OFF),
        ("root_as", 65534, "new files", State.BAD),
    ],
)
def test_what_a_store_lacks(tmp_path: Path, field: str, value: int, name: str, state: State) -> None:
    fd = os.open(tmp_path, os.O_RDONLY)
    try:
        facts = dataclasses.replace(probe(fd), **{field: value})
    finally:
        os.close(fd)
    [finding] = [row for row in store_checks.check_store(facts, "/srv") if row.name == name]
    assert finding.state is state
    assert finding.todo


def test_leases_on_nfs_4_depend_on_the_server(tmp_path: Path) -> None:
    fd = os.open(tmp_path, os.O_RDONLY)
    try:
        facts = dataclasses.replace(probe(fd), leases=False, name="nfs4")
    finally:
        os.close(fd)
    [finding] = [row for row in store_checks.check_store(facts, "/srv") if row.name == "leases"]
    assert (finding.state, "if the server grants" in finding.what) == (State.OK, True)


@pytest.mark.parametrize(
    ("above", "mode", "state"),
    [
        (0o755, 0o755, State.OFF),
        (0o755, 0o750, State.OFF),
        (0o755, 0o700, State.OK),
        (0o700, 0o755, State.OK),
    ],
)
def test_a_store_open_to_others_is_told(above: int, mode: int, state: State) -> None:
    with tempfile.TemporaryDirectory(dir="/tmp") as top:
        store = Path(top) / "store"
        store.mkdir()
        store.chmod(mode)
        os.chmod(top, above)
        [finding] = [row for row in store_checks.probe_store(str(store)) if row.name == "store mode"]
        assert finding.state is state
        if state is State.OFF:
            assert f"(mode {mode:04o}, uid {os.geteuid()})" in finding.what
            assert f"chmod 700 {store}" in finding.todo


def test_a_store_that_is_not_there_is_bad(tmp_path: Path) -> None:
    [finding] = store_checks.probe_store(str(tmp_path / "no"))
    assert finding.state is State.BAD


@pytest.mark.mount
def test_a_stacked_store_gets_no_passthrough(arena: Path) -> None:
    from tests.support.machine.processes import tool_as

    for name in ("lower", "upper", "work", "merged"):
        (arena / name).mkdir()
    layers = f"lowerdir={arena}/lower,upperdir={arena}/upper,workdir={arena}/work"
    tool_as(0, "mount", "-t", "overlay", "overlay", "-o", layers, arena / "merged", check=True)
    try:
        finding, _ = store_checks.check_passthrough(str(arena / "merged"))
    finally:
        tool_as(0, "umount", arena / "merged", check=True)
    assert finding.state is State.SLOW
    assert "stacked" in finding.what


def test_a_trail_on_the_stores_file_system_is_told(tmp_path: Path) -> None:
    beside = store_checks.check_trail_place(str(tmp_path / "trail/not/there/yet"), str(tmp_path))
    assert (beside.state, "no room" in beside.what) == (State.OFF, True)
    assert store_checks.check_trail_place("/proc", str(tmp_path)).state is State.OK
    assert store_checks.check_trail_place(str(tmp_path), str(tmp_path / "missing")).state is State.OFF


def test_files_that_no_app_sees_are_named(tmp_path: Path) -> None:
    [finding] = store_checks.check_left_aside(str(tmp_path))
    assert (finding.state, finding.todo) == (State.OK, "")
    (tmp_path / "a/b").mkdir(parents=True)
    for number in range(23):
        (tmp_path / "a/b" / f"policyfs-aside-{number:016x}").touch()
    *named, more = store_checks.check_left_aside(str(tmp_path))
    assert len({finding.what for finding in named}) == 20
    assert str(tmp_path / "a/b/policyfs-aside-") in named[0].what
    assert "mount the store again" in named[0].todo
    assert more.what == "and 3 more such files"


def test_a_file_that_a_daemon_has_just_removed_is_not_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "policyfs-aside-0123456789abcdef").touch()
    monkeypatch.setattr(os.path, "lexists", lambda _path: False)
    [finding] = store_checks.check_left_aside(str(tmp_path))
    assert finding.state is State.OK


def test_a_deep_tree_hides_no_file(tmp_path: Path) -> None:
    """An app can make one: os.walk calls itself for each level."""
    fd = os.open(tmp_path, os.O_RDONLY)
    for _ in range(1500):
        os.mkdir("d", dir_fd=fd)
        inner = os.open("d", os.O_RDONLY, dir_fd=fd)
        os.close(fd)
        fd = inner
    os.close(os.open("policyfs-aside-0123456789abcdef", os.O_CREAT | os.O_WRONLY, dir_fd=fd))
    os.close(fd)
    [finding] = store_checks.check_left_aside(str(tmp_path))
    subprocess.run(["rm", "-rf", tmp_path / "d"], check=True)  # shutil.rmtree calls itself, too
    assert finding.state is State.OFF
    assert "d/policyfs-aside-0123456789abcdef" in finding.what


def test_a_directory_that_cannot_be_searched_is_told(tmp_path: Path) -> None:
    """Its path has more bytes than a system call takes. An app can make such directories."""
    fd = os.open(tmp_path, os.O_RDONLY)
    for _ in range(20):
        os.mkdir("d" * 255, dir_fd=fd)
        inner = os.open("d" * 255, os.O_RDONLY, dir_fd=fd)
        os.close(fd)
        fd = inner
    os.close(os.open("policyfs-aside-0123456789abcdef", os.O_CREAT | os.O_WRONLY, dir_fd=fd))
    os.close(fd)
    [finding] = store_checks.check_left_aside(str(tmp_path))
    assert finding.state is State.OFF
    assert "File name too long" in finding.what
    assert finding.todo
