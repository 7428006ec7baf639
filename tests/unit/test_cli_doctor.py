"""doctor: each finding from its facts, the trial mount, the command's output and exit code."""

from __future__ import annotations

import dataclasses
import importlib.util
import json
import os
import re
import subprocess
import tempfile
from pathlib import Path

import pytest

from policyfs.cli import doctor
from policyfs.cli.doctor import Finding, State
from policyfs.kernel.protocol import InitFlag
from policyfs.kernel.trial import try_passthrough
from policyfs.store.facts import probe
from tests.support.mounts import policyfs
from tests.support.namespace import mounts_below


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
    assert doctor.check_kernel(release).state is state


@pytest.mark.parametrize(
    ("limit", "state"), [(512, State.BAD), (4096, State.SLOW), (20_000, State.OK), (1 << 30, State.OK)]
)
def test_descriptor_limits(limit: int, state: State) -> None:
    assert doctor.check_descriptors(limit).state is state


FULL_MAP = "         0          0 4294967295\n"


@pytest.mark.parametrize(
    ("capabilities", "uid_map", "state"),
    [
        ("000001fffeffffff", FULL_MAP, State.OK),
        ("0000000000000000", FULL_MAP, State.BAD),
        ("000001ffffdfffff", FULL_MAP, State.BAD),  # all but CAP_SYS_ADMIN
        ("000001ffffffffff", "0 100000 65536\n", State.BAD),
    ],
)
def test_capability(capabilities: str, uid_map: str, state: State) -> None:
    status = f"Name:\tpython\nCapPrm:\t0000000000000000\nCapEff:\t{capabilities}\nSeccomp:\t0\n"
    assert doctor.check_capability(status, uid_map).state is state


def test_a_missing_device_is_bad_and_says_what_to_do(tmp_path: Path) -> None:
    finding = doctor.check_device(str(tmp_path / "fuse"))
    assert finding.state is State.BAD
    assert "modprobe fuse" in finding.todo


def _compiled(directory: Path, name: str, *options: str) -> Path:
    """A shared library without any code."""
    made = directory / name
    command = ["gcc", "-shared", "-o", str(made), "-Wl,--no-as-needed", "-x", "c", "/dev/null", "-x", "none"]
    subprocess.run([*command, *options], check=True, timeout=30)
    return made


def test_a_missing_library_is_bad_and_says_what_to_do(tmp_path: Path) -> None:
    """A pyfuse3 that was compiled on another release of the system."""
    library = _compiled(tmp_path, "libfuse3.so", "-Wl,-soname,libfuse3.so.9")
    extension = _compiled(tmp_path, "pyfuse3.so", str(library))
    assert doctor.linked_libfuse(extension) == "libfuse3.so.9"
    finding = doctor.check_libfuse(extension)
    assert finding.state is State.BAD
    assert "cannot load libfuse3.so.9" in finding.what
    assert "apt install libfuse3-9;" in finding.todo


def test_a_pyfuse3_without_libfuse_is_bad_and_says_what_to_do(tmp_path: Path) -> None:
    finding = doctor.check_libfuse(_compiled(tmp_path, "pyfuse3.so"))
    assert finding.state is State.BAD
    assert "not linked to libfuse3" in finding.what
    assert doctor.check_libfuse(tmp_path / "none").state is State.BAD


def test_libfuse_is_the_one_that_the_loader_takes() -> None:
    extension = importlib.util.find_spec("pyfuse3").origin
    loaded = subprocess.run(["ldd", extension], capture_output=True, text=True, check=True, timeout=30).stdout
    assert re.findall(r"libfuse3\S*(?= =>)", loaded) == [doctor.linked_libfuse()]


def test_this_machine_has_what_the_tests_need() -> None:
    assert doctor.check_libfuse().state is State.OK
    assert doctor.check_bridge().state is State.OK
    assert doctor.check_libmagic().state is State.OK


def test_a_trail_directory_that_does_not_exist_yet_is_fine(tmp_path: Path) -> None:
    assert doctor.check_trail(str(tmp_path / "a" / "b")).state is State.OK
    assert list(tmp_path.iterdir()) == []


def test_a_trail_below_a_file_is_bad(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    assert doctor.check_trail(str(tmp_path / "file")).state is State.BAD


@pytest.mark.parametrize(
    ("field", "value", "name", "state"),
    [
        ("reflink", False, "reflink", State.SLOW),
        ("leases", False, "leases", State.OFF),
        ("trusted_xattr", False, "trusted xattrs", State.SLOW),
        ("user_xattr", False, "user xattrs", State.OFF),
        ("fanotify", False, "fanotify", State.SLOW),
        ("casefold", True, "case", State.OFF),
        ("read_only", True, "store", State.OFF),
    ],
)
def test_what_a_store_lacks(tmp_path: Path, field: str, value: bool, name: str, state: State) -> None:
    fd = os.open(tmp_path, os.O_RDONLY)
    try:
        facts = dataclasses.replace(probe(fd), **{field: value})
    finally:
        os.close(fd)
    [finding] = [row for row in doctor.check_store(facts, "/srv") if row.name == name]
    assert finding.state is state
    assert finding.todo


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
        [finding] = [row for row in doctor.probe_store(str(store)) if row.name == "store mode"]
        assert finding.state is state
        if state is State.OFF:
            assert f"(mode {mode:04o}, uid {os.geteuid()})" in finding.what
            assert f"chmod 700 {store}" in finding.todo


def test_a_store_that_is_not_there_is_bad(tmp_path: Path) -> None:
    [finding] = doctor.probe_store(str(tmp_path / "no"))
    assert finding.state is State.BAD


def test_the_table_says_what_to_do_below_what_is_wrong() -> None:
    table = doctor.render(
        [Finding("fuse", State.OK, "fine"), Finding("kernel", State.SLOW, "old", "new one")]
    )
    assert table.splitlines() == ["ok    fuse    fine", "slow  kernel  old", "              -> new one"]


@pytest.mark.mount
def test_the_trial_mount_finds_passthrough_and_leaves_nothing(tmp_path: Path) -> None:
    for directory in (None, str(tmp_path)):
        trial = try_passthrough(directory)
        assert trial.backing is None
        assert InitFlag.PASSTHROUGH in trial.offered
    assert list(tmp_path.iterdir()) == []
    assert not [entry for entry in mounts_below(Path("/tmp")) if entry.source == "trial"]


@pytest.mark.mount
def test_a_stacked_store_gets_no_passthrough(arena: Path) -> None:
    from tests.support.processes import tool_as

    for name in ("lower", "upper", "work", "merged"):
        (arena / name).mkdir()
    layers = f"lowerdir={arena}/lower,upperdir={arena}/upper,workdir={arena}/work"
    tool_as(0, "mount", "-t", "overlay", "overlay", "-o", layers, arena / "merged", check=True)
    try:
        finding = doctor.check_passthrough(str(arena / "merged"))
    finally:
        tool_as(0, "umount", arena / "merged", check=True)
    assert finding.state is State.SLOW
    assert "stacked" in finding.what


@pytest.mark.mount
def test_the_command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("POLICYFS_TRAIL_DIR", str(tmp_path / "trail"))
    said = policyfs("doctor", str(tmp_path))
    assert said.returncode == 0, said
    assert "passthrough" in said.stdout
    rows = json.loads(policyfs("doctor", "--json", str(tmp_path)).stdout)
    assert {"name", "state", "what", "todo"} == set(rows[0])
    assert [row["state"] for row in rows if row["name"] == "passthrough"] == ["ok"]


@pytest.mark.mount
def test_something_bad_is_exit_code_1(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    said = policyfs("doctor", "--trail", str(tmp_path / "file"))
    assert said.returncode == 1
    assert "bad   trail" in said.stdout


@pytest.mark.parametrize(("mode", "state"), [(0o4755, State.OFF), (0o755, State.OK)])
def test_a_setuid_fusermount_is_told(tmp_path: Path, mode: int, state: State) -> None:
    program = tmp_path / "fusermount3"
    program.touch()
    program.chmod(mode)
    finding = doctor.check_fusermount(str(program))
    assert finding.state is state
    assert ("NoNewPrivileges" in finding.todo) == (state is State.OFF)
    assert doctor.check_fusermount(None).state is State.OK


def test_a_trail_on_the_stores_file_system_is_told(tmp_path: Path) -> None:
    beside = doctor.check_trail_place(str(tmp_path / "trail/not/there/yet"), str(tmp_path))
    assert (beside.state, "no room" in beside.what) == (State.OFF, True)
    assert doctor.check_trail_place("/proc", str(tmp_path)).state is State.OK
    assert doctor.check_trail_place(str(tmp_path), str(tmp_path / "missing")).state is State.OFF
