"""B11: who asks is not who it seems: another uid after the open, a thread's fsuid, groups, namespaces."""

from __future__ import annotations

import ast
import ctypes
import os
import socket
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import pytest

from tests.support.machine.processes import call_as, start_as
from tests.support.models.twins import content, error
from tests.support.mount.daemons import Mount
from tests.support.mount.stores import Mounts
from tests.support.samples import jpegs

APP, OTHER, MAPS = 10010, 10011, 10012
PHOTO: Final = jpegs.photo_with(jpegs.exif())
POLICY = f"""\
apiVersion: policyfs/v1
kind: Policy
apps:
  app: {{uid: {APP}}}
  other: {{uid: {OTHER}}}
  maps: {{uid: {MAPS}, grants: [media.location]}}
rules:
  - {{id: own, allow: [all], who: {{app: any}}, paths: "/{{app}}/***"}}
  - {{id: photos, allow: [see, read, write], who: {{app: any}}, paths: "/DCIM/**"}}
  - {{id: place, require: {{redact: [location]}}, who: {{not: {{grant: media.location}}}}, paths: "/DCIM/**"}}
"""
CLONE_NEWUSER, CLONE_NEWPID, CLONE_NEWNS = 0x10000000, 0x20000000, 0x20000
SYS_SETFSUID: Final = 122
PR_SET_DUMPABLE: Final = 4
_libc = ctypes.CDLL(None, use_errno=True)


def furnish(store: Path) -> Path:
    (store / "DCIM").mkdir()
    (store / "DCIM/a.jpg").write_bytes(PHOTO)
    for name, uid in (("app", APP), ("other", OTHER)):
        (store / name).mkdir()
        (store / name / "file").write_text(name)
        for path in (store / name, store / name / "file"):
            os.chown(path, uid, uid)
            path.chmod(0o777)
    return store


@pytest.fixture(scope="module")
def mount(module_mounts: Mounts, module_arena: Path) -> Mount:
    store = module_arena / "store"
    store.mkdir(mode=0o700)
    return module_mounts.start(POLICY, furnish(store))


def _become(uid: int) -> None:
    os.setresgid(uid, uid, uid)
    os.setresuid(uid, uid, uid)


def _as_first_then(mount: Path, first: int, second: int, path: str) -> dict[str, str]:
    """Opened as one uid; the process becomes another; what the descriptor and the name give then."""
    os.setgroups([])
    os.setresgid(first, first, first)
    os.setresuid(first, first, 0)
    fd = os.open(mount / path, os.O_RDONLY)
    os.setresuid(0, 0, 0)
    _become(second)
    return {
        "descriptor": error(os.pread, fd, 1 << 20, 0),
        "again": error(content, f"/proc/self/fd/{fd}"),
        "name": error(content, str(mount / path)),
        "fstat": error(os.fstat, fd).partition("(")[0],
    }


def test_a_descriptor_keeps_what_it_was_opened_with_and_gives_no_more(mount: Mount) -> None:
    """The bytes that the opener was given stay given; whatever is asked anew is asked by who asks.

    Attack B11.1: Change uid between open and read; pass the descriptor to another process; change a
    thread's fsuid
    Guard: policyfs/fs/access/gate.py::Gate.caller
    Also: ::test_a_descriptor_that_is_handed_over_is_the_senders, ::test_a_threads_own_fsuid_is_who_asks,
    tests/mount/test_app_mount.py::test_a_setuid_caller_is_not_let_in
    Without: ::test_the_other_apps_files_are_open_where_the_process_is_asked_for_its_first_uid
    """
    said = call_as(0, _as_first_then, mount.mountpoint, OTHER, APP, "other/file")
    assert said["descriptor"] == "b'other'"
    assert said["again"] in {"ENOENT", "EACCES", "ESTALE"}
    assert said["name"] == "ENOENT"
    photo = call_as(0, _as_first_then, mount.mountpoint, OTHER, MAPS, "DCIM/a.jpg")
    assert repr(PHOTO) != photo["descriptor"]
    assert photo["name"] == repr(PHOTO)
    back = call_as(0, _as_first_then, mount.mountpoint, MAPS, OTHER, "DCIM/a.jpg")
    assert back["descriptor"] == repr(PHOTO)
    assert repr(PHOTO) not in {back["again"], back["name"]}
    assert call_as(OTHER, content, str(mount / "other/file")) == b"other"


def test_a_descriptor_that_is_handed_over_is_the_senders(mount: Mount) -> None:
    ours, theirs = socket.socketpair()

    def receive(channel: Any) -> dict[str, str]:
        _, [fd], _, _ = socket.recv_fds(theirs, 10, 1)
        return {
            "descriptor": error(os.pread, fd, 10, 0), "again": error(content, f"/proc/self/fd/{fd}"),
            "written": error(os.pwrite, fd, b"x", 0), "emptied": error(os.ftruncate, fd, 0),
            "named": error(os.chmod, fd, 0o600),
        }  # fmt: skip

    def send() -> None:
        fd = os.open(mount / "other/file", os.O_RDONLY)
        socket.send_fds(ours, [b"fd"], [fd])

    receiver = start_as(APP, receive)
    call_as(OTHER, send)
    said = receiver.result()
    ours.close()
    theirs.close()
    assert said["descriptor"] == "b'other'"  # it is the sender who gave it away
    assert said["again"] in {"ENOENT", "EACCES", "ESTALE"}
    assert (said["written"], said["emptied"]) == ("EBADF", "EINVAL")
    assert said["named"] in {"ENOENT", "EACCES"}
    assert (mount.store / "other/file").stat().st_mode & 0o777 == 0o777


def _in_thread(fsuid: int, calls: Callable[[], list[str]]) -> list[str]:
    """The calls in a thread with another uid for the file system; the rest of the process keeps its own."""
    said: list[str] = []

    def run() -> None:
        _libc.syscall(SYS_SETFSUID, fsuid)
        said.extend(calls())

    thread = threading.Thread(target=run)
    thread.start()
    thread.join()
    return said


def test_a_threads_own_fsuid_is_who_asks(mount: Mount) -> None:
    """What counts is the uid that the kernel would check: that of the thread, for files."""

    def both() -> tuple[list[str], list[str]]:
        def calls() -> list[str]:
            return [error(content, str(mount / name)) for name in ("app/file", "other/file")]

        os.setgroups([])
        os.setresuid(APP, APP, 0)  # root is kept, so that a thread may become another for files
        os.seteuid(0)
        as_other = _in_thread(OTHER, calls)
        as_app = _in_thread(APP, calls)
        return as_other, as_app

    as_other, as_app = call_as(0, both)
    assert as_other == ["ENOENT", "b'other'"]
    assert as_app == ["b'app'", "ENOENT"]


@pytest.mark.parametrize("groups", [(), (OTHER,), (0, OTHER, MAPS)])
def test_no_group_makes_another_app(mount: Mount, groups: tuple[int, ...]) -> None:
    """Attack B11.3: Have the groups of another app; be root in a new user and pid namespace
    Guard: policyfs/fs/access/gate.py::Gate.caller
    Also: ::test_root_of_a_namespace_of_its_own_is_who_it_was
    Without: ::test_the_other_apps_files_are_open_where_the_process_is_asked_for_its_first_uid
    """
    for gid in (APP, OTHER):
        said = call_as(
            APP, lambda: [error(content, str(mount / n)) for n in ("other/file", "app/file")],
            gid=gid, groups=groups,
        )  # fmt: skip
        assert said == ["ENOENT", "b'app'"]
        photo = call_as(APP, content, str(mount / "DCIM/a.jpg"), gid=gid, groups=groups)
        assert photo != PHOTO


def _in_namespaces(mount: str, flags: int) -> dict[str, str]:
    """What uid 0 of a user namespace, with every right in it, gets from outside mounts."""
    uid, gid = os.getuid(), os.getgid()
    _libc.prctl(PR_SET_DUMPABLE, 1, 0, 0, 0)  # who gave up root has /proc/self closed to it
    assert _libc.unshare(flags) == 0, os.strerror(ctypes.get_errno())
    for name, line in (("setgroups", "deny"), ("uid_map", f"0 {uid} 1"), ("gid_map", f"0 {gid} 1")):
        Path(f"/proc/self/{name}").write_text(line)
    read, write = os.pipe()
    pid = os.fork()  # the first process of the pid namespace, if there is a new one
    if pid == 0:
        said = {
            "uid": str(os.getuid()), "own": error(content, mount + "/app/file"),
            "other": error(content, mount + "/other/file"), "list": error(os.listdir, mount),
            "chown": error(os.chown, mount + "/app/file", 0, 0),
            "mknod": error(os.mknod, mount + "/app/null", 0o20666, os.makedev(1, 3)),
            "trusted": error(os.setxattr, mount + "/app/file", "trusted.policyfs.owner", b"other"),
            "made": error(os.mkdir, mount + "/app/made"), "left": error(os.rmdir, mount + "/app/made"),
        }  # fmt: skip
        os.write(write, repr(said).encode())
        os._exit(0)
    os.waitpid(pid, 0)
    os.close(write)
    return ast.literal_eval(os.read(read, 10_000).decode())


@pytest.mark.parametrize("flags", [CLONE_NEWUSER, CLONE_NEWUSER | CLONE_NEWPID | CLONE_NEWNS])
def test_root_of_a_namespace_of_its_own_is_who_it_was(mount: Mount, flags: int) -> None:
    said = call_as(APP, _in_namespaces, str(mount.mountpoint), flags)
    assert said["uid"] == "0"
    if said["own"] == "EACCES":  # a mount of another user namespace: the kernel lets nobody in
        assert set(said.values()) <= {"0", "EACCES", "EPERM"}
        return
    assert said["own"] == "b'app'"
    assert said["other"] == "ENOENT"
    assert sorted(ast.literal_eval(said["list"])) == ["DCIM", "app"]
    assert said["chown"] in {"None", "EPERM", "EINVAL"}
    assert (mount.store / "app/file").stat().st_uid == APP
    assert said["mknod"] == "EPERM"
    assert said["trusted"] in {"EPERM", "ENOTSUP"}
    assert (said["made"], said["left"]) == ("None", "None")
    # By the directory, or by the name in it where another app keeps the directory in the kernel.
    denied = [e for e in mount.events(decision="deny", app="app") if e["path"] in {"/other", "/other/file"}]
    assert denied


def test_the_other_apps_files_are_open_where_the_process_is_asked_for_its_first_uid(
    without, empty_store: Path
) -> None:
    """A daemon that goes by what /proc says of the process does not see the thread's own uid."""
    mount = without("real-uid", POLICY, furnish(empty_store))

    def as_other() -> list[str]:
        os.setgroups([])
        os.setresuid(OTHER, 0, 0)
        return _in_thread(APP, lambda: [error(content, str(mount / "other/file"))])

    assert call_as(0, as_other) == ["b'other'"]
    assert call_as(0, _as_first_then, mount.mountpoint, OTHER, APP, "other/file")["name"] == "ENOENT"
