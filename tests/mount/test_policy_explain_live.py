"""`policyfs policy explain FILE`: what it says of a file on a mount is what a call on the mount gets."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.machine.processes import call_as, code_of
from tests.support.mount.daemons import Mount, Said, policyfs

CAMERA, GALLERY, SORTER, NOBODY = 10010, 10011, 10012, 65533

POLICY = """\
apiVersion: policyfs/v1
kind: Policy
apps:
  camera: {uid: 10010}
  gallery: {uid: 10011}
  sorter: {uid: 10012}
rules:
  - {id: folders, allow: [create], who: {app: sorter}, paths: "/DCIM/**", when: {type: inode/directory}}
  - {id: look, allow: [see, read], who: {app: any}, paths: "/DCIM/**"}
  - {id: own, allow: [all], who: {app: camera}, paths: ["/DCIM/**", "/Pictures/***"]}
  - {id: no-place, require: {redact: [location]}, who: {app: gallery}}
  - {id: secret, deny: [all], who: {app: gallery}, paths: "/DCIM/secret/***"}
  - {id: pictures, require: {content: [image/png]}, paths: "/Pictures/**"}
"""


@pytest.fixture
def fuller(store: Path) -> Path:
    (store / "DCIM/unknown.bin").write_bytes(bytes(range(7, 200)) * 9)
    (store / "DCIM/secret").mkdir()
    (store / "DCIM/secret/a.txt").write_text("words\n")
    (store / "DCIM/roots.jpg").write_bytes((store / "DCIM/Camera/a.jpg").read_bytes())
    (store / "DCIM/roots.jpg").chmod(0o600)
    (store / "DCIM/all.txt").write_text("words\n")
    (store / "DCIM/all.txt").chmod(0o666)
    (store / "DCIM/open").mkdir()
    (store / "DCIM/open").chmod(0o777)
    store.chmod(0o755)  # its modes count with --posix
    for name in ("DCIM", "DCIM/Camera", "Pictures", "DCIM/Camera/b.jpg"):
        os.chown(store / name, CAMERA, CAMERA)
    return store


def ask(mount: Mount, path: str, *options: str) -> Said:
    return policyfs("policy", "explain", mount.mountpoint, path, *options)


def answer(mount: Mount, path: str, *options: str) -> dict[str, Any]:
    said = ask(mount, path, "--json", *options)
    assert said.returncode == 0, said
    found: dict[str, Any] = json.loads(said.stdout)
    return found


_CALLS: dict[str, tuple[Any, ...]] = {
    "chmod": (os.chmod, 0o640),
    "mkdir": (os.mkdir,),
    "setxattr": (os.setxattr, "user.word", b"1"),
    "utimens": (os.utime,),
}


def tried(mount: Mount, uid: int, op: str, path: str, to: str = "") -> str:
    """The errno of the real call."""
    at = f"{mount.mountpoint}{path}"
    if op in {"rename", "link"}:
        return call_as(uid, code_of, getattr(os, op), at, f"{mount.mountpoint}{to}")
    if op == "create":
        return call_as(uid, code_of, os.open, at, os.O_CREAT | os.O_EXCL | os.O_WRONLY)
    if op == "delete":
        return call_as(uid, code_of, os.unlink, at)
    if op == "symlink":
        return call_as(uid, code_of, os.symlink, "words", at)
    if op in _CALLS:
        call, *arguments = _CALLS[op]
        return call_as(uid, code_of, call, at, *arguments)
    return call_as(uid, code_of, os.open, at, {"read": os.O_RDONLY, "write": os.O_WRONLY}[op])


CASES = [
    (GALLERY, "read", "/DCIM/Camera/a.jpg", None),
    (GALLERY, "read", "/DCIM/unknown.bin", "redaction"),
    (GALLERY, "read", "/DCIM/secret/a.txt", "policy"),
    (GALLERY, "write", "/DCIM/Camera/a.jpg", "policy"),
    (NOBODY, "read", "/DCIM/Camera/a.jpg", "policy"),
    (CAMERA, "read", "/DCIM/roots.jpg", "mode bits"),
    (CAMERA, "read", "/DCIM/absent.jpg", "store"),
    (CAMERA, "create", "/DCIM/Camera/b.jpg", "store"),
    (CAMERA, "delete", "/DCIM/secret/a.txt", "mode bits"),
    (CAMERA, "chmod", "/DCIM/roots.jpg", "mode bits"),
    (CAMERA, "create", "/DCIM/new.jpg", None),
    (CAMERA, "create", "/DCIM/none/new.jpg", "store"),
    (GALLERY, "create", "/DCIM/none/new.jpg", "store"),
    (CAMERA, "setxattr", "/DCIM/all.txt", None),
    (CAMERA, "setxattr", "/DCIM/roots.jpg", "mode bits"),
    (CAMERA, "utimens", "/DCIM/all.txt", None),
    (CAMERA, "utimens", "/DCIM/roots.jpg", "mode bits"),
    (CAMERA, "utimens", "/DCIM/Camera/b.jpg", None),
    (SORTER, "mkdir", "/DCIM/open/a", None),
    (SORTER, "create", "/DCIM/open/b", "policy"),
    (SORTER, "symlink", "/DCIM/open/c", "policy"),
]


MOVES = [
    (GALLERY, "rename", "/DCIM/Camera/a.jpg", "/DCIM/b.jpg", "policy"),
    (CAMERA, "rename", "/DCIM/Camera/b.jpg", "/Pictures/b.jpg", "policy"),
    (CAMERA, "rename", "/DCIM/absent.jpg", "/DCIM/b.jpg", "store"),
    (CAMERA, "rename", "/DCIM/secret/a.txt", "/DCIM/a.txt", "mode bits"),
    (CAMERA, "rename", "/DCIM/Camera/b.jpg", "/DCIM/secret/b.jpg", "mode bits"),
    (CAMERA, "link", "/DCIM/Camera/b.jpg", "/DCIM/Camera/a.jpg", "store"),
    (CAMERA, "rename", "/DCIM/Camera/b.jpg", "/DCIM/none/c.jpg", "store"),
    (CAMERA, "link", "/DCIM/Camera/b.jpg", "/DCIM/Camera/d.jpg", None),
    (CAMERA, "rename", "/DCIM/Camera/b.jpg", "/DCIM/Camera/c.jpg", None),
]


def test_the_layer_that_refuses_is_the_one_that_does(
    shared_mount, fuller: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    mount = shared_mount(POLICY, "--posix", store=fuller)
    monkeypatch.setenv("POLICYFS_RUNTIME_DIR", str(mount.runtime))
    for uid, op, path, layer in CASES:
        found = answer(mount, path, "--uid", str(uid), "--op", op)
        assert found["refused_by"] == layer, (uid, op, path, found)
        assert tried(mount, uid, op, path) == (found["errno"] or ""), (uid, op, path, found)
    for uid, op, path, to, layer in MOVES:
        found = answer(mount, path, "--uid", str(uid), "--op", op, "--to", to)
        assert found["refused_by"] == layer, (uid, op, path, to, found)
        assert tried(mount, uid, op, path, to) == (found["errno"] or ""), (uid, op, path, to, found)
    _of_a_process(mount)
    _of_an_open_file(mount)
    for top in (mount.mountpoint, fuller):
        said = ask(mount, f"{top}/DCIM/unknown.bin", "--uid", str(GALLERY)).stdout
        assert "  a path begins at the root of the mount: ask for /DCIM/unknown.bin\n" in said


def _of_a_process(mount: Mount) -> None:
    """--pid: the user of a running process."""
    with subprocess.Popen(["sleep", "30"], user=GALLERY, group=GALLERY) as process:
        try:
            said = ask(mount, "/DCIM/unknown.bin", "--pid", str(process.pid))
        finally:
            process.kill()
    lines = said.stdout.splitlines()
    assert lines[0] == (
        "gallery (uid 10011) may not read /DCIM/unknown.bin (EACCES): "
        "policyfs cannot clean files of the kind application/octet-stream."
    )
    assert lines[1] == "  refused by: redaction"
    assert "  live: application/octet-stream, owner none, 1,737 bytes" in lines


def _of_an_open_file(mount: Mount) -> None:
    """The file's real mode, while somebody has it open."""
    with _opened(mount, GALLERY) as path:
        found = answer(mount, path, "--uid", str(GALLERY))
        [one] = found["open"]
        assert (one["mode"], one["handles"], one["held"]) == ("passthrough", 1, 0)
        assert one["view"] == "redacted(location)"


@contextlib.contextmanager
def _opened(mount: Mount, uid: int) -> Iterator[str]:
    """A file that a process of an app has open."""
    path = "/DCIM/Camera/big.jpg"
    words = ["sh", "-c", f"exec 3<{mount.mountpoint}{path}; echo; exec sleep 30"]
    with subprocess.Popen(words, user=uid, group=uid, stdout=subprocess.PIPE) as process:
        try:
            assert process.stdout is not None
            process.stdout.readline()
            yield path
        finally:
            process.kill()


NO_PLACE = """\
apiVersion: policyfs/v1
kind: Policy
apps:
  camera: {uid: 10010}
  gallery: {uid: 10011}
rules:
  - {id: all, allow: [all], who: {app: any}, paths: "/***"}
  - {id: no-place, require: {redact: [location]}, who: {app: gallery}}
"""


def _copy(source: Path, target: Path) -> None:
    target.write_bytes(source.read_bytes())


def test_who_owns_a_redacted_file_may_write_it(
    shared_mount, fuller: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    mount = shared_mount(NO_PLACE, store=fuller)
    monkeypatch.setenv("POLICYFS_RUNTIME_DIR", str(mount.runtime))
    call_as(GALLERY, _copy, mount / "DCIM/Camera/a.jpg", mount / "Pictures/mine.jpg")
    for path, layer in (("/Pictures/mine.jpg", None), ("/DCIM/Camera/a.jpg", "policy")):
        found = answer(mount, path, "--uid", str(GALLERY), "--op", "write")
        assert found["refused_by"] == layer, found
        assert tried(mount, GALLERY, "write", path) == (found["errno"] or "")


def test_a_read_only_app_mount(app_mount, fuller: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    mount = app_mount("camera", POLICY, "--read-only", store=fuller)
    monkeypatch.setenv("POLICYFS_RUNTIME_DIR", str(mount.runtime))
    found = answer(mount, "/DCIM/Camera/a.jpg", "--op", "delete")
    assert found["refused_by"] == "read-only"
    assert found["errno"] == tried(mount, CAMERA, "delete", found["path"])
    found = answer(mount, "/DCIM/Camera/a.jpg", "--uid", str(GALLERY))
    assert found["refused_by"] == "mount"
    assert found["errno"] == tried(mount, GALLERY, "read", found["path"])
    for uid, layer in ((CAMERA, "read-only"), (GALLERY, "mount")):
        options = ("--uid", str(uid), "--op", "rename", "--to", "/DCIM/Camera/c.jpg")
        found = answer(mount, "/DCIM/Camera/a.jpg", *options)
        assert found["refused_by"] == layer
        assert found["errno"] == tried(mount, uid, "rename", found["path"], "/DCIM/Camera/c.jpg")
        said = ask(mount, "/DCIM/Camera/a.jpg", *options).stdout.splitlines()
        assert f"({found['errno']})" in said[0]
        assert said[1] == f"  refused by: {layer}"
    for options, code, message in (
        (("--kind", "image/jpeg"), 2, "leave out --kind, --content, --directory"),
        (("--app", "gallery"), 2, f"use --uid {GALLERY} or --pid"),
        (("--at", "2030-01-31T18:00:00Z"), 2, "leave out --at and --monitor"),
        (("--monitor",), 2, "leave out --at and --monitor"),
        (("--uid=-5",), 2, "'-5' is not a uid"),
        (("--uid", "4294967295"), 2, "'4294967295' is not a uid"),
        (("--op", "fly"), 2, "no request is named"),
        (("--op", "rename"), 2, "add --to PATH"),
        (("--pid", "999999999"), 1, "there is no process 999999999"),
    ):
        said = ask(mount, "/DCIM", *options)
        assert said.returncode == code, said
        assert message in said.stderr
    assert "from the root of the mount" in ask(mount, "DCIM").stderr
