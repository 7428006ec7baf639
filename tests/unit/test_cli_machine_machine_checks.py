"""Checks of the machine: each finding from its facts."""

from __future__ import annotations

import ctypes
import importlib.util
import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from policyfs.cli.machine import machine_checks
from policyfs.cli.machine.findings import Finding, State
from policyfs.linux.mountinfo import FSTYPE, mounts
from tests.support.machine.processes import call_as

CLONE_NEWUSER = 0x10000000
FULL_MAP = "         0          0 4294967295\n"


def _compiled(directory: Path, name: str, *options: str) -> Path:
    """A shared library without any code."""
    made = directory / name
    command = ["gcc", "-shared", "-o", str(made), "-Wl,--no-as-needed", "-x", "c", "/dev/null", "-x", "none"]
    subprocess.run([*command, *options], check=True, timeout=30)
    return made


@pytest.mark.parametrize(
    ("release", "state"),
    [
        ("6.18.44-fc", State.OK),
        ("6.9.0", State.OK),
        ("6.10.1-amd64", State.OK),
        ("6.1.0-18-amd64", State.SLOW),
        ("5.15.0", State.SLOW),
        ("odd", State.SLOW),
    ],
)
def test_kernel_versions(release: str, state: State) -> None:
    assert machine_checks.check_kernel(release).state is state


@pytest.mark.parametrize(
    ("limit", "state"), [(512, State.BAD), (4096, State.SLOW), (20_000, State.OK), (1 << 30, State.OK)]
)
def test_descriptor_limits(limit: int, state: State) -> None:
    assert machine_checks.check_descriptors(limit).state is state


@pytest.mark.parametrize(
    ("capabilities", "uid_map", "state"),
    [
        ("000001fffeffffff", FULL_MAP, State.OK),
        ("0000000000000000", FULL_MAP, State.BAD),
        ("000001ffffdfffff", FULL_MAP, State.BAD),  # all but CAP_SYS_ADMIN
        ("000001ffffffffff", "0 100000 65536\n", State.SLOW),
    ],
)
def test_capability(capabilities: str, uid_map: str, state: State) -> None:
    status = f"Name:\tpython\nCapPrm:\t0000000000000000\nCapEff:\t{capabilities}\nSeccomp:\t0\n"
    assert machine_checks.check_capability(status, uid_map).state is state


def test_a_missing_device_is_bad_and_says_what_to_do(tmp_path: Path) -> None:
    finding = machine_checks.check_device(str(tmp_path / "fuse"))
    assert finding.state is State.BAD
    assert "modprobe fuse" in finding.todo


def test_a_missing_library_is_bad_and_says_what_to_do(tmp_path: Path) -> None:
    """A pyfuse3 that was compiled on another release of the system."""
    library = _compiled(tmp_path, "libfuse3.so", "-Wl,-soname,libfuse3.so.9")
    extension = _compiled(tmp_path, "pyfuse3.so", str(library))
    assert machine_checks.linked_libfuse(extension) == "libfuse3.so.9"
    finding = machine_checks.check_libfuse(extension)
    assert finding.state is State.BAD
    assert "cannot load libfuse3.so.9" in finding.what
    assert "apt install libfuse3-9;" in finding.todo


def test_a_pyfuse3_without_libfuse_is_bad_and_says_what_to_do(tmp_path: Path) -> None:
    finding = machine_checks.check_libfuse(_compiled(tmp_path, "pyfuse3.so"))
    assert finding.state is State.BAD
    assert "not linked to libfuse3" in finding.what
    assert machine_checks.check_libfuse(tmp_path / "none").state is State.BAD


def test_libfuse_is_the_one_that_the_loader_takes() -> None:
    extension = importlib.util.find_spec("pyfuse3").origin
    loaded = subprocess.run(["ldd", extension], capture_output=True, text=True, check=True, timeout=30).stdout
    assert re.findall(r"libfuse3\S*(?= =>)", loaded) == [machine_checks.linked_libfuse()]


@pytest.mark.mount
def test_a_machine_on_which_no_daemon_can_make_its_own_procfs_is_told() -> None:
    assert machine_checks.check_own_proc().state is State.OK
    finding = call_as(0, _check_in_user_namespace)
    assert finding.state is State.OFF
    assert "can make all apps of a mount wait" in finding.what
    assert "outside of a container" in finding.todo


def _check_in_user_namespace() -> Finding:
    """Check as root of a container does: with all rights in its own user namespace only."""
    assert not ctypes.CDLL(None).unshare(CLONE_NEWUSER)
    return machine_checks.check_own_proc()


def test_this_machine_has_what_the_tests_need() -> None:
    assert machine_checks.check_libfuse().state is State.OK
    assert machine_checks.check_bridge().state is State.OK
    assert machine_checks.check_libmagic().state is State.OK


def test_without_libmagic_the_advice_is_to_install_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "policyfs.content.libmagic", None)  # its import fails
    finding = machine_checks.check_libmagic()
    assert finding.state is State.BAD
    assert "apt install libmagic1" in finding.todo


def test_a_trail_directory_that_does_not_exist_yet_is_fine(tmp_path: Path) -> None:
    assert machine_checks.check_trail(str(tmp_path / "a" / "b")).state is State.OK
    assert list(tmp_path.iterdir()) == []


def test_a_trail_below_a_file_is_bad(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    assert machine_checks.check_trail(str(tmp_path / "file")).state is State.BAD


@pytest.mark.parametrize(("mode", "state"), [(0o4755, State.OFF), (0o755, State.OK)])
def test_a_setuid_fusermount_is_told(tmp_path: Path, mode: int, state: State) -> None:
    program = tmp_path / "fusermount3"
    program.touch()
    program.chmod(mode)
    finding = machine_checks.check_fusermount(str(program))
    assert finding.state is state
    assert ("NoNewPrivileges" in finding.todo) == (state is State.OFF)
    assert machine_checks.check_fusermount(None).state is State.OK


def test_no_name_that_a_user_chose_for_a_mount_reaches_the_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    mount = next(one for one in mounts() if one.path == "/")
    evil = replace(mount, path="/home/x\x1b]0;y\x07\npolicyfs: well", fstype=FSTYPE)
    monkeypatch.setattr(machine_checks, "mounts", lambda: [evil])
    [finding] = machine_checks.check_daemons()
    assert finding.name.isprintable()
    assert finding.todo.isprintable()
