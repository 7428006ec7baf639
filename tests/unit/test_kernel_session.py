"""Mounting and unmounting without a mount: options, their order, errors, and what is left open."""

from __future__ import annotations

import contextlib
import errno
import os
import socket
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from policyfs.kernel import bridge, mount_api, session
from policyfs.kernel.bridge import pyfuse3
from policyfs.kernel.protocol import InitFlag
from policyfs.kernel.session import Device, MountError, is_connected, mount_device, negotiated, unmount
from policyfs.linux.mountinfo import FSTYPE, mounts

NO_CONNECTION = 1 << 30
BASE = mount_api.MOUNT_NOSUID | mount_api.MOUNT_NODEV


class Kernel:
    """Stands in for the mount API: notes its calls in their order, and fails at one of them."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.calls: list[str] = []
        self.options: dict[str, str | bool] = {}
        self.attributes = 0
        self.fails: dict[str, int] = {}
        monkeypatch.setattr(session, "DEVICE_PATH", os.devnull)
        monkeypatch.setattr(mount_api, "detached", self.detached)
        monkeypatch.setattr(mount_api, "device_minor", lambda _: NO_CONNECTION)
        monkeypatch.setattr(mount_api, "attach", self.attach)

    def called(self, name: str) -> None:
        self.calls.append(name)
        if name in self.fails:
            raise OSError(self.fails[name], os.strerror(self.fails[name]))

    def detached(self, fstype: str, options: list, attributes: int) -> int:
        self.called("detached")
        assert fstype == "fuse"
        self.attributes = attributes
        self.options = dict((one, True) if isinstance(one, str) else one for one in options)
        return os.open("/", os.O_PATH)

    def attach(self, mount_fd: int, place: str | int) -> None:
        assert os.fstat(mount_fd).st_ino == os.stat("/").st_ino
        self.called(f"attach {place}")

    def take(self, conn_id: int) -> None:
        """Of the control files."""
        assert conn_id == NO_CONNECTION
        self.called("take")


@pytest.fixture
def kernel(monkeypatch: pytest.MonkeyPatch) -> Kernel:
    return Kernel(monkeypatch)


def mounted(path: Path, **options) -> Device:
    settings = {"user_id": 7, "group_id": 8, "allow_other": False, "default_permissions": False} | options
    return mount_device(str(path), source="/srv/store", **settings)


@contextlib.contextmanager
def nothing_left_open() -> Iterator[None]:
    before = os.listdir("/proc/self/fd")
    yield
    assert os.listdir("/proc/self/fd") == before


# -- mounting ----------------------------------------------------------------------------------------


def test_a_mount_admits_one_user_unless_all_are_to_be_let_in(kernel: Kernel, tmp_path: Path) -> None:
    with nothing_left_open():
        device = mounted(tmp_path)
        assert kernel.options == {
            "source": "/srv/store", "subtype": "policyfs", "fd": str(device.fd), "rootmode": "40000",
            "user_id": "7", "group_id": "8",
        }  # fmt: skip
        assert kernel.attributes == BASE
        assert (device.path, device.conn_id) == (str(tmp_path), NO_CONNECTION)
        assert not os.get_blocking(device.fd)
        assert not os.get_inheritable(device.fd)
        os.close(device.fd)


@pytest.mark.parametrize(
    ("asked", "option", "attributes"),
    [
        ({"allow_other": True}, ("allow_other", True), BASE),
        ({"default_permissions": True}, ("default_permissions", True), BASE),
        ({"max_read": 4096}, ("max_read", "4096"), BASE),
        ({"read_only": True}, ("ro", True), BASE | mount_api.MOUNT_RDONLY),
    ],
)
def test_each_option_is_the_kernels(
    kernel: Kernel, tmp_path: Path, asked: dict, option: tuple[str, object], attributes: int
) -> None:
    os.close(mounted(tmp_path).fd)
    plain = set(kernel.options)
    os.close(mounted(tmp_path, **asked).fd)
    assert (set(kernel.options) - plain, kernel.options[option[0]]) == ({option[0]}, option[1])
    assert kernel.attributes == attributes


def test_an_app_has_no_control_files_before_it_can_reach_the_mount(kernel: Kernel, tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(tmp_path)
    with nothing_left_open():
        os.close(mounted(tmp_path / "link", control=kernel).fd)
    assert kernel.calls == ["detached", "take", f"attach {tmp_path}"]


def test_a_mount_is_attached_to_an_open_directory(kernel: Kernel, tmp_path: Path) -> None:
    """Nothing is looked up then, and the descriptor stays its owner's."""
    place_fd = os.open(tmp_path, os.O_PATH)
    with nothing_left_open():
        os.close(mounted(tmp_path, place_fd=place_fd).fd)
        assert kernel.calls == ["detached", f"attach {place_fd}"]
    os.close(place_fd)


@pytest.mark.parametrize("at", ["detached", "take", "attach"])
@pytest.mark.parametrize(
    ("code", "advice"),
    [(errno.EPERM, "run as root"), (errno.ENOSYS, "older than Linux 5.2"), (errno.EBUSY, "")],
)
def test_a_mount_that_the_kernel_refuses_leaves_nothing_open(
    kernel: Kernel, tmp_path: Path, at: str, code: int, advice: str
) -> None:
    kernel.fails[f"attach {tmp_path}" if at == "attach" else at] = code
    with nothing_left_open(), pytest.raises(MountError) as refused:
        mounted(tmp_path, control=kernel)
    assert refused.value.errno == code
    said = str(refused.value)
    assert said.startswith(f"cannot mount on {tmp_path}: {os.strerror(code)}")
    assert said.endswith(advice)
    assert advice or said.endswith(os.strerror(code))


# -- places and devices -----------------------------------------------------------------------------


def test_a_place_that_cannot_be_mounted_on_is_told_before_anything_is_opened(
    kernel: Kernel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(session, "DEVICE_PATH", "/nowhere")
    (tmp_path / "file").touch()
    (tmp_path / "loop").symlink_to("loop")
    for name, code, told in (
        ("none", errno.ENOENT, "No such file"),
        ("none/below", errno.ENOENT, "No such file"),
        ("file", errno.ENOTDIR, "the mountpoint is not a directory"),
        ("loop", errno.ELOOP, "symbolic links"),
    ):
        with pytest.raises(MountError, match=told) as refused:
            mounted(tmp_path / name)
        assert refused.value.errno == code
    assert kernel.calls == []


def test_no_mount_is_made_over_one_of_ours_nor_over_a_dead_one(
    kernel: Kernel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    one = mounts()[0]
    others, ours = [replace(one, fstype="ext4")], [replace(one, fstype=FSTYPE)]
    monkeypatch.setattr(session, "mounts_at", lambda _: others + ours)
    with pytest.raises(MountError, match=f"`policyfs umount {tmp_path}` removes this mount") as refused:
        mounted(tmp_path)
    assert (refused.value.errno, kernel.calls) == (errno.EBUSY, [])
    monkeypatch.setattr(session, "mounts_at", lambda _: others)
    os.close(mounted(tmp_path).fd)

    def dead(path: str) -> str:
        raise OSError(errno.ENOTCONN, "not connected", path)

    monkeypatch.setattr(session, "resolve", dead)
    with pytest.raises(MountError, match="a dead mount of another program is there"):
        mounted(tmp_path)


def test_a_device_that_cannot_be_opened_has_a_remedy(
    kernel: Kernel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(str(tmp_path / "socket"))
        for path, code, told in (
            (str(tmp_path / "none"), errno.ENOENT, "modprobe fuse"),
            (str(tmp_path / "socket"), errno.ENXIO, "modprobe fuse"),
            ("/proc/sys/kernel/ngroups_max", errno.EACCES, "a container needs --device /dev/fuse"),
            (str(tmp_path), errno.EISDIR, "directory"),
        ):
            monkeypatch.setattr(session, "DEVICE_PATH", path)
            with nothing_left_open(), pytest.raises(MountError, match=told) as refused:
                mounted(tmp_path)
            assert refused.value.errno == code
            assert str(refused.value).startswith(f"cannot open {path}: ")
    assert kernel.calls == []


# -- unmounting -------------------------------------------------------------------------------------


def test_nothing_is_mounted_on_a_plain_directory(tmp_path: Path) -> None:
    with pytest.raises(MountError, match="nothing is mounted there") as refused:
        unmount(str(tmp_path))
    assert refused.value.errno == errno.EINVAL


class Library:
    """Stands in for the C library."""

    def __init__(self, code: int = 0) -> None:
        self.code, self.calls = code, list[tuple[bytes, int]]()

    def umount2(self, path: bytes, flags: int) -> int:
        self.calls.append((path, flags))
        if self.code:
            session.ctypes.set_errno(self.code)
        return -1 if self.code else 0


@pytest.mark.parametrize(
    ("options", "flags"),
    [({}, 8), ({"lazy": True}, 8 | 2), ({"force": True}, 8 | 1), ({"lazy": True, "force": True}, 8 | 3)],
)
def test_a_mount_is_removed_at_its_own_path_and_never_through_a_link(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, options: dict, flags: int
) -> None:
    library = Library()
    monkeypatch.setattr(session, "LIBC", library)
    (tmp_path / "link").symlink_to(tmp_path)
    unmount(str(tmp_path / "link"), **options)
    assert library.calls == [(os.fsencode(tmp_path), flags)]


@pytest.mark.parametrize(
    ("code", "told"),
    [(errno.EBUSY, "fuser -vm"), (errno.EPERM, "run as root"), (errno.ENOMEM, "Cannot allocate memory")],
)
def test_a_refused_unmount_has_a_remedy(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: int, told: str
) -> None:
    monkeypatch.setattr(session, "LIBC", Library(code))
    with pytest.raises(MountError, match=told) as refused:
        unmount(str(tmp_path))
    assert refused.value.errno == code
    assert f"cannot unmount {tmp_path}: {os.strerror(code)}" in str(refused.value)


# -- sessions ---------------------------------------------------------------------------------------


def test_a_connection_has_ended_once_its_device_is_in_error() -> None:
    reader, writer = os.pipe()
    device = Device(writer, "/mnt", 1)
    assert is_connected(device)
    os.close(reader)
    assert not is_connected(device)
    os.close(writer)


def test_what_was_negotiated_is_known_after_init(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(session, "init_answer", lambda: None)
    assert negotiated() is None
    offered = InitFlag.PASSTHROUGH | InitFlag.ASYNC_READ
    for flags in (InitFlag.PASSTHROUGH, InitFlag(0)):
        answer = 45, int(offered), int(flags), 2, 4096
        monkeypatch.setattr(session, "init_answer", lambda answer=answer: answer)
        found = negotiated()
        assert found is not None
        assert (found.minor, found.max_stack_depth, found.max_write) == (45, 2, 4096)
        assert (found.flags, found.offered) == (flags, offered)
        assert found.passthrough == bool(flags)


@pytest.fixture
def no_session(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """pyfuse3 makes no session; afterwards its wait is its own again."""
    monkeypatch.setattr(pyfuse3, "init", lambda *_: None)
    monkeypatch.setattr(pyfuse3, "_wait_fuse_readable", pyfuse3._wait_fuse_readable)
    yield
    bridge.prepare(0, 0)


def test_a_session_beside_the_bridge_is_none(no_session: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(session, "attached", lambda: False)
    reader, writer = os.pipe()
    with pytest.raises(MountError, match="LD_PRELOAD"):
        session.attach(pyfuse3.Operations(), Device(reader, "/mnt", 1), passthrough=False)
    for fd in (reader, writer):
        os.close(fd)


@pytest.mark.parametrize("passthrough", [True, False])
def test_a_session_asks_for_what_it_uses_and_leaves_the_device_to_its_owner(
    no_session: None, monkeypatch: pytest.MonkeyPatch, passthrough: bool
) -> None:
    asked: list[tuple[InitFlag, int]] = []
    monkeypatch.setattr(session, "prepare", lambda flags, depth: asked.append((InitFlag(flags), depth)))

    def fails(_: object, path: str, *__: object) -> None:
        assert os.path.realpath(path) == os.path.realpath(f"/proc/self/fd/{reader}")
        assert path != f"/dev/fd/{reader}", "a duplicate"
        raise RuntimeError("no session")

    monkeypatch.setattr(pyfuse3, "init", fails)
    reader, writer = os.pipe()
    with nothing_left_open(), pytest.raises(RuntimeError, match="no session"):
        session.attach(
            pyfuse3.Operations(), Device(reader, "/mnt", 1), passthrough=passthrough,
            flags=InitFlag.POSIX_ACL,
        )  # fmt: skip
    ((flags, depth),) = asked
    assert InitFlag.POSIX_ACL in flags
    assert (InitFlag.PASSTHROUGH in flags, depth) == (passthrough, 1 if passthrough else 0)
    for fd in (reader, writer):
        os.close(fd)
