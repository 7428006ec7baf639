"""B5 and B6: a directory that is hidden from one app while another works in it (shared mount).

The prober learns nothing from what the kernel asks the daemon about, and whatever it does, the
app in the directory keeps its working directory. What the kernel answers by itself, because it
holds the directory for the other app, is the limit that the threat model states: KERNEL_TELLS.
"""

from __future__ import annotations

import ctypes
import errno
import os
from collections import Counter
from pathlib import Path
from typing import Final

import pytest

from tests.support.machine.counts import count
from tests.support.machine.processes import start_as
from tests.support.mount.daemons import Mount

CAMERA, GALLERY = 10010, 10011
PROBES: Final = count(600, 100_000)
POLICY = f"""\
apiVersion: policyfs/v1
kind: Policy
apps:
  camera: {{uid: {CAMERA}}}
  gallery: {{uid: {GALLERY}}}
rules:
  - {{id: own, allow: [all], who: {{app: any}}, paths: "/Android/data/{{app}}/***"}}
  - {{id: all, allow: [all], who: {{app: any}}, paths: "/Android/***"}}
  - id: private
    deny: [all]
    paths: "/Android/data/*/***"
    unless: {{path: "/Android/data/{{app}}/***"}}
    errno: ENOENT
"""
_libc = ctypes.CDLL(None, use_errno=True)


def _raw(name: str, *arguments) -> None:
    if getattr(_libc, name)(*arguments) < 0:
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code))


def _handle_at(path: bytes) -> None:
    handle = (ctypes.c_char * 256)()
    handle[0:4] = (128).to_bytes(4, "little")
    _raw("name_to_handle_at", -100, path, ctypes.byref(handle), ctypes.byref(ctypes.c_int()), 0)


def _watch(path: bytes) -> None:
    fd = _libc.inotify_init()
    try:
        _raw("inotify_add_watch", fd, path, 0xFFF)
    finally:
        os.close(fd)


def _open(path: bytes, flags: int) -> None:
    os.close(os.open(path, flags, 0o600))


PROBE: Final = {
    "stat": os.stat,
    "lstat": os.lstat,
    "access": lambda p: _raw("access", p, os.F_OK),
    "access for reading": lambda p: _raw("access", p, os.R_OK),
    "open": lambda p: _open(p, os.O_RDONLY),
    "open a directory": lambda p: _open(p, os.O_RDONLY | os.O_DIRECTORY),
    "open without following": lambda p: _open(p, os.O_RDONLY | os.O_NOFOLLOW),
    "list": os.listdir,
    "chdir": os.chdir,
    "chmod": lambda p: os.chmod(p, 0o777),
    "chown": lambda p: os.chown(p, -1, GALLERY),
    "utimens": os.utime,
    "getxattr": lambda p: os.getxattr(p, b"user.x"),
    "listxattr": os.listxattr,
    "setxattr": lambda p: os.setxattr(p, b"user.x", b"y"),
    "removexattr": lambda p: os.removexattr(p, b"user.x"),
    "stat below": lambda p: os.stat(p + b"/album"),
    "open below": lambda p: _open(p + b"/album/notes.txt", os.O_RDONLY),
    "create below": lambda p: _open(p + b"/new", os.O_WRONLY | os.O_CREAT),
    "mkdir below": lambda p: os.mkdir(p + b"/new"),
    "list below": lambda p: os.listdir(p + b"/album"),
    "unlink below": lambda p: os.unlink(p + b"/album/notes.txt"),
    "rename a link below": lambda p: os.rename(p + b"/link", p + b"/other"),
    "rename from below": lambda p: os.rename(p + b"/album/notes.txt", p + b"/../gallery/notes.txt"),
    "readlink below": lambda p: os.readlink(p + b"/link"),
    "through dots": lambda p: os.stat(p + b"/../camera/album"),
    "rmdir below": lambda p: os.rmdir(p + b"/empty"),
    # answered by the kernel from what it holds:
    "mkdir": os.mkdir,
    "create": lambda p: _open(p, os.O_WRONLY | os.O_CREAT | os.O_EXCL),
    "open for writing": lambda p: _open(p, os.O_WRONLY),
    "truncate": lambda p: os.truncate(p, 0),
    "unlink": os.unlink,
    "readlink": os.readlink,
    "symlink": lambda p: os.symlink(b"x", p),
    "rename onto": lambda p: os.rename(p + b"/../gallery/mine", p),
    "rmdir": os.rmdir,
    "rmdir below, in use": lambda p: os.rmdir(p + b"/album"),
    "rename below, in use": lambda p: os.rename(p + b"/album", p + b"/other"),
    "rename it": lambda p: os.rename(p, p + b".mine"),
    "rename a directory onto": lambda p: os.rename(p + b"/../gallery/directory", p),
    "open as a path": lambda p: _open(p, os.O_PATH),
    "statfs": os.statvfs,
    "inotify": _watch,
    "file handle": _handle_at,
}
KERNEL_TELLS: Final = {
    "mkdir": "EEXIST",
    "create": "EEXIST",
    "open for writing": "EISDIR",
    "truncate": "EISDIR",
    "unlink": "EISDIR",
    "readlink": "EINVAL",
    "symlink": "EEXIST",
    "rename onto": "EISDIR",
    "rmdir": "EACCES",
    "rmdir below, in use": "EACCES",
    "rename below, in use": "EACCES",
    "rename it": "EACCES",
    "rename a directory onto": "EACCES",
    "open as a path": "",
    "statfs": "",
    "inotify": "",
    "file handle": "ENOTSUP",
}
"""Probes that tell an existing directory from none while another app uses it, and their answer."""


def _probe(_channel, path: bytes, rounds: int) -> dict[str, Counter[str]]:
    answers: dict[str, Counter[str]] = {name: Counter() for name in PROBE}
    for _ in range(rounds):
        for name, probe in PROBE.items():
            try:
                probe(path)
                said = ""
            except OSError as error:
                said = errno.errorcode[error.errno or 0]
            answers[name][said] += 1
    return answers


def _work(channel, home: bytes) -> tuple[int, list[str]]:
    """The honest app: goes into its directory and uses it by relative names until told to stop."""
    os.chdir(home)
    turns, wrong = 0, []
    below = os.open("album", os.O_RDONLY | os.O_DIRECTORY)
    channel.send("in")
    while not channel.poll(0.002):
        turns += 1
        try:
            assert os.getcwdb() == home, os.getcwdb()
            assert sorted(os.listdir(b".")) == [b"album", b"empty", b"link"]
            assert Path("album/notes.txt").read_bytes() == b"camera's own\n"
            assert os.stat(b"../camera").st_ino == os.stat(b".").st_ino
            assert os.stat(below).st_ino
            assert os.readlink(f"/proc/self/fd/{below}") == os.fsdecode(home) + "/album"
        except (OSError, AssertionError) as error:
            wrong.append(repr(error))
    return turns, wrong


@pytest.fixture
def home(empty_store: Path) -> Path:
    for name in ("camera/album", "camera/empty", "gallery"):
        (empty_store / "Android/data" / name).mkdir(parents=True)
    for directory in (empty_store / "Android/data/camera", empty_store / "Android/data/gallery"):
        directory.chmod(0o777)
    (empty_store / "Android/data/camera/album/notes.txt").write_text("camera's own\n")
    (empty_store / "Android/data/camera/link").symlink_to("album")
    (empty_store / "Android/data/gallery/directory").mkdir()
    (empty_store / "Android/data/gallery/directory").chmod(0o777)
    mine = empty_store / "Android/data/gallery/mine"
    mine.write_text("gallery's own\n")
    mine.chmod(0o666)
    return empty_store


def attack(mount: Mount) -> tuple[dict[str, Counter[str]], int, list[str]]:
    """Probe while the honest app works: the answers, its turns, and what went wrong for it."""
    hidden = os.fsencode(mount / "Android/data/camera")
    honest = start_as(CAMERA, _work, hidden)
    honest.receive()
    prober = start_as(GALLERY, _probe, hidden, -(-PROBES // len(PROBE)))
    try:
        answers = prober.result(deadline_s=600)
        honest.send("enough")
        turns, wrong = honest.result()
    finally:
        prober.kill()
        honest.kill()
    return answers, turns, wrong


@pytest.mark.timeout(count(120, 1200))
def test_probing_tells_nothing_and_disturbs_nobody(mounts, home) -> None:
    """Attack B6.1: Request another app's working directory, to which the policy denies access, so that the
    other app can no longer use it
    Guard: policyfs/fs/namespace/lookup.py::Lookup._held_directory
    Without: ::test_the_honest_app_is_thrown_out_where_hidden_is_absent
    """
    mount = mounts.start(POLICY, home)
    answers, turns, wrong = attack(mount)
    assert not wrong, wrong[:3]
    assert turns > 50
    assert sum(sum(said.values()) for said in answers.values()) >= PROBES
    told = {name: set(said) - {"ENOENT"} for name, said in answers.items()}
    assert {name: said for name, said in told.items() if said and name not in KERNEL_TELLS} == {}
    assert {name: said for name, said in told.items() if not said <= {KERNEL_TELLS.get(name)}} == {}
    assert sorted(os.listdir(home / "Android/data/camera")) == ["album", "empty", "link"]


def test_nothing_is_told_of_a_directory_that_nobody_uses(mounts, home) -> None:
    """Attack B5.1: Find out whether a name is hidden or missing, by any call
    Guard: policyfs/fs/namespace/lookup.py::Lookup._not_there
    Also: ::test_an_app_mount_tells_nothing_whoever_uses_it_elsewhere,
    ::test_a_hidden_file_is_as_good_as_none
    Without: ::test_a_refusal_tells_where_hidden_is_no_absence
    """
    mount = mounts.start(POLICY, home)
    prober = start_as(GALLERY, _probe, os.fsencode(mount / "Android/data/camera"), 2)
    absent = start_as(GALLERY, _probe, os.fsencode(mount / "Android/data/absent"), 2)
    answers, nothing = prober.result(), absent.result()
    different = {name: (answers[name], nothing[name]) for name in PROBE if answers[name] != nothing[name]}
    assert different == {}


def told_of(mount: Mount, hidden: str, absent: str) -> dict[str, tuple[Counter[str], Counter[str]]]:
    """Probes that answer otherwise for a hidden name than for one that is not there."""
    answers = start_as(GALLERY, _probe, os.fsencode(mount / hidden), 2).result()
    nothing = start_as(GALLERY, _probe, os.fsencode(mount / absent), 2).result()
    return {name: (answers[name], nothing[name]) for name in PROBE if answers[name] != nothing[name]}


def test_an_app_mount_tells_nothing_whoever_uses_it_elsewhere(mounts, home) -> None:
    """Not even what the kernel answers by itself: in this mount nobody holds the directory."""
    mine, shared = mounts.start(POLICY, home, "--app", "gallery"), mounts.start(POLICY, home)
    honest = start_as(CAMERA, _work, os.fsencode(shared / "Android/data/camera"))
    honest.receive()
    try:
        assert told_of(mine, "Android/data/camera", "Android/data/absent") == {}
        honest.send("enough")
        turns, wrong = honest.result()
    finally:
        honest.kill()
    assert turns
    assert not wrong


@pytest.mark.parametrize("options", [(), ("--app", "gallery")], ids=["shared", "app"])
def test_a_hidden_file_is_as_good_as_none(mounts, home, options) -> None:
    (home / "Android/data/file").write_text("camera's")
    mount = mounts.start(POLICY, home, *options)
    assert told_of(mount, "Android/data/file", "Android/data/none") == {}
    assert (home / "Android/data/file").read_text() == "camera's"


def test_a_refusal_tells_where_hidden_is_no_absence(without, home) -> None:
    (home / "Android/data/file").write_text("camera's")
    mount = without("hidden-is-refused", POLICY, home)
    hidden, absent = told_of(mount, "Android/data/file", "Android/data/none")["stat"]
    assert (set(hidden), set(absent)) == ({"EACCES"}, {"ENOENT"})


def test_the_honest_app_is_thrown_out_where_hidden_is_absent(without, home) -> None:
    mount = without("hidden-is-absent", POLICY, home)
    _, _, wrong = attack(mount)
    assert any("No such file or directory" in error for error in wrong)
