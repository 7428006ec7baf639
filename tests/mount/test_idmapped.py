"""Idmapped binds of mounts with --idmap, as Proxmox makes them for each `mp` of an unprivileged container."""

from __future__ import annotations

import contextlib
import errno
import os
import shutil
import stat
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Final

import pytest

from tests.support.machine.processes import code_of, wait_for
from tests.support.machine.user_namespaces import FIRST, call_inside, idmapped
from tests.support.mount.daemons import Mount, policyfs
from tests.support.mount.stores import Mounts
from tests.support.samples import jpegs

OPTIONS: Final = ("--app", "box", "--any-uid", "--posix", "--idmap")
POLICY: Final = """\
apiVersion: policyfs/v1
kind: Policy
metadata: {name: box}
apps: {box: {}, other: {}}
rules:
  - {id: all, allow: [all], who: {app: box}, paths: "/**"}
  - {id: look, allow: [see, read], who: {app: other}, paths: "/**"}
  - {id: no-place, require: {redact: location}, who: {app: box}, paths: "/DCIM/**"}
  - {id: clean, require: {clean: location}, who: {app: box}, paths: "/Inbox/**"}
"""
PHOTO: Final = jpegs.photo_with(jpegs.exif())
USER: Final = 1000


@pytest.fixture
def filled(empty_store: Path) -> Path:
    empty_store.chmod(0o755)
    for name, owner in (("DCIM", 0), ("Inbox", USER), ("Work", USER), ("Roots", 0)):
        (empty_store / name).mkdir()
        os.chown(empty_store / name, owner, owner)
        for file, mode in (("open", 0o644), ("shut", 0o600)):
            (empty_store / name / file).write_text(f"{file} in {name}\n")
            (empty_store / name / file).chmod(mode)
            os.chown(empty_store / name / file, owner, owner)
    (empty_store / "DCIM/a.jpg").write_bytes(PHOTO)
    (empty_store / "Inbox/a.jpg").write_bytes(b"")
    os.chown(empty_store / "Inbox/a.jpg", USER, USER)
    return empty_store


@pytest.fixture
def box(mounts: Mounts, filled: Path) -> Mount:
    return mounts.start(POLICY, filled, *OPTIONS)


@pytest.fixture
def inside(box: Mount, arena: Path) -> Iterator[Path]:
    """The mount as the container has it."""
    with idmapped(box.mountpoint, arena / "inside") as place:
        yield place


def _said(call: Callable[..., Any], *arguments: Any) -> Any:
    try:
        return call(*arguments)
    except OSError as error:
        return errno.errorcode[error.errno or 0]


def _about(path: Path) -> Any:
    found = path.lstat()
    return stat.filemode(found.st_mode), found.st_uid, found.st_gid, found.st_nlink


def _steps(root: Path) -> list[Any]:
    """Work in the directories of two owners; tells each result."""
    os.umask(0o022)
    told: list[Any] = []
    for name in ("Work", "Roots"):
        at = root / name
        for acl in ("u:1001:rw", "d:u:9:rwx,d:g:5:r"):
            done = subprocess.run(["setfacl", "-m", acl, at], capture_output=True, check=False)
            told.append(done.returncode)
        told.append(_said(os.chmod, at, 0o2775))
        told += [name, sorted(os.listdir(at)), _about(at)]
        for old in ("open", "shut"):
            told += [_about(at / old), _said((at / old).read_text), _said((at / old).write_text, "more\n")]
            told += [_said(os.chmod, at / old, 0o640), _said(os.chown, at / old, 7, 7)]
            told.append(_said(_about, at / old))
        for make in (
            lambda path: path.write_text("new\n"), Path.mkdir, lambda path: path.symlink_to("open"),
            os.mkfifo, lambda path: os.close(os.open(path, os.O_CREAT | os.O_EXCL, 0o4755)),
        ):  # fmt: skip
            told += [_said(make, at / "new"), _said(_about, at / "new")]
            listed = subprocess.run(["getfacl", "-n", "new"], cwd=at, capture_output=True, check=False)
            told.append(listed.stdout)
            told += [_said(os.rename, at / "new", at / "renamed"), _said(os.link, at / "renamed", at / "too")]
            for path in (at / "renamed", at / "too"):
                told.append(_said(lambda path=path: path.rmdir() if path.is_dir() else path.unlink()))
        told += [_said(os.truncate, at / "open", 2), _said(os.utime, at / "shut")]
        told.append(_said(os.unlink, at / "shut"))
    return told


@pytest.mark.parametrize("uid", [0, USER])
def test_it_is_as_on_the_native_file_system(box: Mount, filled: Path, arena: Path, uid: int) -> None:
    twin = arena / "twin"
    shutil.copytree(filled, twin)
    for path in (filled, *filled.rglob("*")):
        os.chown(twin / path.relative_to(filled), path.stat().st_uid, path.stat().st_gid)
    with idmapped(box.mountpoint, arena / "inside") as mounted, idmapped(twin, arena / "native") as native:
        assert call_inside(_steps, mounted, uid=uid) == call_inside(_steps, native, uid=uid)
    owners = [(path.name, path.stat().st_uid) for path in sorted(filled.rglob("*"))]
    assert owners == [(path.name, path.stat().st_uid) for path in sorted(twin.rglob("*"))]
    assert max(owner for _, owner in owners) < FIRST


def test_what_the_policy_hides_is_hidden(inside: Path) -> None:
    shown = call_inside((inside / "DCIM/a.jpg").read_bytes)
    assert (len(shown), jpegs.leaks(shown)) == (len(PHOTO), [])


@pytest.mark.parametrize("name", ["Inbox/a.jpg", "Inbox/new.jpg"])
@pytest.mark.parametrize("uid", [0, USER])
def test_checked_writes_work(inside: Path, filled: Path, name: str, uid: int) -> None:
    """Of a file that is there the kernel does not tell who opens it."""
    assert call_inside((inside / name).write_bytes, PHOTO, uid=uid) == len(PHOTO)
    written = (filled / name).read_bytes()
    assert (len(written), jpegs.leaks(written)) == (len(PHOTO), [])
    owner = (filled / name).stat()
    assert (owner.st_uid, owner.st_gid) == ((USER, USER) if name == "Inbox/a.jpg" else (uid, uid))


def test_the_trail_names_app_and_process_and_no_uid(box: Mount, inside: Path) -> None:
    def both() -> int:
        (inside / "Work/open").read_text()
        (inside / "Work/made").write_text("x")
        (inside / "Work/dir").mkdir()
        return 0

    call_inside(both)
    for operation in ("open", "create", "mkdir"):
        event = wait_for(lambda op=operation: box.events(operation=op), f"{operation} on the trail")[0]
        assert (event["app"], event["uid"], event["gid"]) == ("box", None, None)
        assert event["pid"] > 0
        assert "python" in event["exe"]
    assert {(event["uid"], event["gid"]) for event in box.events(type="event")} == {(None, None)}
    with box.as_environment():
        lines = policyfs("audit", "search", "--app", "box").stdout.splitlines()[1:]
    assert {line.split()[4] for line in lines} == {"?"}, lines


def test_opens_that_the_bridge_answers_are_recorded_alike(mounts: Mounts, filled: Path, arena: Path) -> None:
    box = mounts.prepare(POLICY, filled, *OPTIONS)
    box.program = ("tests.support.mount.readers_on",)
    box.start()
    with idmapped(box.mountpoint, arena / "inside") as inside:
        call_inside(lambda: [(inside / "Work/open").read_text() for _ in range(50)] and None)
        assert box.fuse("OPEN") == 50
        assert box.status()["bugs"] == 0
        opens = wait_for(lambda: len(found := box.events(operation="open")) == 50 and found, "50 opens")
    assert {(event["app"], event["uid"], event["gid"]) for event in opens} == {("box", None, None)}


def test_without_the_option_it_is_refused_and_doctor_knows(mounts: Mounts, filled: Path, arena: Path) -> None:
    plain = mounts.start(POLICY, filled, *OPTIONS[:-1])
    assert code_of(contextlib.ExitStack().enter_context, idmapped(plain.mountpoint, arena / "x")) == "EINVAL"
    line = next(line for line in policyfs("doctor").stdout.splitlines() if "idmapped mounts" in line)
    assert line.split()[:5] == ["ok", "idmapped", "mounts", "for", "mounts"]
    assert "fails (EINVAL)" in line


@pytest.mark.parametrize(
    "rule",
    [
        '{id: no, deny: [see], who: {uid: 1000, app: any}, paths: "/x"}',
        '{id: own, allow: [see], paths: "/{uid}/*"}',
    ],
)
def test_rules_about_single_uids_are_refused(box: Mount, filled: Path, arena: Path, rule: str) -> None:
    before = box.policy.read_text()
    box.policy.write_text(POLICY + f"  - {rule}\n")
    (arena / "empty").mkdir()
    with box.as_environment():
        at_start = policyfs("mount", "--policy", box.policy, *OPTIONS, filled, arena / "empty")
    for said in (at_start, box.reload()):
        assert said.returncode != 0
        assert "rules about single uids of the app box" in said.stderr
    box.policy.write_text(before)


@pytest.mark.parametrize("missing", ["--posix", "--any-uid"])
def test_it_needs_the_kernels_checks_and_one_app(filled: Path, arena: Path, missing: str) -> None:
    (arena / "policy.yaml").write_text(POLICY)
    words = [word for word in OPTIONS if word != missing]
    said = policyfs("mount", "--policy", arena / "policy.yaml", *words, filled, arena)
    assert said.returncode == 2
    assert "--idmap needs --posix and --any-uid" in said.stderr
