"""A FUSE mount and its session: the /dev/fuse descriptor, the mount (mount_api.py), INIT, and umount2(2)."""

from __future__ import annotations

import contextlib
import ctypes
import errno
import os
import select
import stat
from dataclasses import dataclass
from typing import Final

from policyfs.errors import PolicyfsError
from policyfs.kernel import bridge, mount_api, work
from policyfs.kernel.bridge import adopt, attached, end_at_faults, init_answer, prepare, pyfuse3, take_turns
from policyfs.kernel.fusectl import ControlFiles, OpenedError
from policyfs.kernel.protocol import NO_FLAGS, WANTED, InitFlag
from policyfs.kernel.readiness import Readiness
from policyfs.kernel.vectors import start as start_readers
from policyfs.linux.confinement.user_namespaces import in_namespace
from policyfs.linux.libc import LIBC
from policyfs.linux.memory import usable_bytes
from policyfs.linux.mountinfo import ABSENT, FSTYPE, mounts_at, mounts_of_device, resolve

DEVICE_PATH: Final = "/dev/fuse"
STACK_DEPTH: Final = 1
"""The limit of file systems stacked below this mount. With 1, the store may be any file system that is not
stacked itself. (An overlay is stacked: the kernel refuses its files with ELOOP.)"""

UNDER_WAY: Final = 32
"""The limit of requests under way of one lane. A uid has three lanes (_lanes.c)."""
IN_ALL: Final = 192
"""The limit of all requests under way, of which a lane leaves as many as it has itself. A lane with none may
always begin one."""
_WAITING_SHARE: Final = 8
_WAITING_BYTES: Final = 256 << 20
"""The limit of bytes in large requests that wait in the lanes, or 1/_WAITING_SHARE of the memory if that is
more. Requests beyond it are refused."""

_READ_AHEAD_KIB: Final = 1024
_DIRTY_BYTES: Final = 32 << 20
"""The limit of bytes in dirty pages of mappings. The kernel may send the daemon one request for each page:
8,192 in all. All apps share the kernel's limit of 65,535 requests in the background (_lanes.h), and the
bridge lets up to 45,000 READs wait."""
_TRIES: Final = 20
"""The limit of tries to make a connection whose control files no app opens before root owns them."""
# sys/mount.h
_MNT_FORCE: Final = 1
_MNT_DETACH: Final = 2
_UMOUNT_NOFOLLOW: Final = 8


class MountError(PolicyfsError):
    """A failure to mount or unmount. errno: the cause, or 0 if no system call failed."""

    def __init__(self, message: str, code: int = 0) -> None:
        super().__init__(message)
        self.errno = code


@dataclass(frozen=True, slots=True)
class Device:
    """A mounted /dev/fuse descriptor. conn_id: the connection's number in /sys/fs/fuse/connections."""

    fd: int
    path: str
    conn_id: int


@dataclass(frozen=True, slots=True)
class Negotiated:
    """The result of INIT. minor: FUSE 7.minor. offered: the kernel's flags. flags: those in use. max_write:
    the most bytes in a WRITE."""

    minor: int
    passthrough: bool
    max_stack_depth: int
    flags: InitFlag
    offered: InitFlag
    max_write: int


def mount_device(
    mountpoint: str,
    *,
    source: str,
    user_id: int,
    group_id: int,
    allow_other: bool,
    default_permissions: bool,
    read_only: bool = False,
    max_read: int = 0,
    control: ControlFiles | None = None,
    place_fd: int | None = None,
    user_namespace: int | None = None,
) -> Device:
    """Mount a new FUSE connection on a directory, always nosuid and nodev. Raises MountError.

    Without allow_other, the kernel admits only processes whose real, effective and saved ids are user_id and
    group_id, not even root. max_read: the most bytes in one READ; 0 for the kernel's limit. control: takes
    the connection's control files from user_id before any process can reach the mount. place_fd: a descriptor
    of the directory, whose automounter is then not asked. user_namespace: a descriptor of the user namespace
    that the mount belongs to: the kernel translates its uids, and admits only its processes. The result's
    descriptor is non-blocking and close-on-exec.
    """
    path = _checked_mountpoint(mountpoint)
    options: list[str | tuple[str, str]] = [
        ("source", source), ("subtype", FSTYPE.partition(".")[2]), ("rootmode", "40000"),
        ("user_id", str(user_id)), ("group_id", str(group_id)),
    ]  # fmt: skip
    if allow_other:
        options.append("allow_other")
    if default_permissions:
        options.append("default_permissions")
    if max_read:
        options.append(("max_read", str(max_read)))
    if read_only:
        options.append("ro")
    for _ in range(_TRIES):
        with contextlib.suppress(OpenedError):
            return _mounted(path, place_fd, options, control, user_namespace, read_only=read_only)
    raise MountError(
        f"cannot mount on {path}: a process with uid {user_id} opens the control files of each new mount in"
        " /sys/fs/fuse/connections; end this process"
    )


def _mounted(
    path: str, place_fd: int | None, options: list[str | tuple[str, str]], control: ControlFiles | None,
    user_namespace: int | None, *, read_only: bool,
) -> Device:  # fmt: skip
    """Make a connection, and mount it. Raises MountError; OpenedError if an app has opened a control file."""
    attributes = mount_api.MOUNT_NOSUID | mount_api.MOUNT_NODEV | (mount_api.MOUNT_RDONLY * read_only)

    def create() -> tuple[int, int]:
        fd = _opened_device()
        try:
            return fd, mount_api.detached("fuse", [*options, ("fd", str(fd))], attributes)
        except BaseException:
            os.close(fd)
            raise

    try:
        fd, mount_fd = create() if user_namespace is None else in_namespace(user_namespace, create)
    except OSError as exc:
        raise _refused(path, exc) from exc
    try:
        try:
            conn_id = _set_up(mount_fd, control, path)
            _attach(mount_fd, path, place_fd)
        finally:
            os.close(mount_fd)
        return Device(fd, path, conn_id)
    except BaseException:
        os.close(fd)  # aborts the connection, if there is one
        raise


def _opened_device() -> int:
    try:
        return os.open(DEVICE_PATH, os.O_RDWR | os.O_CLOEXEC | os.O_NONBLOCK)
    except OSError as exc:
        raise MountError(_device_advice(exc), exc.errno or 0) from exc


def _set_up(mount_fd: int, control: ControlFiles | None, path: str) -> int:
    """Return the number of a new connection. INVARIANT: all settings that must be in force before the first
    request are made here."""
    try:
        conn_id = mount_api.device_minor(mount_fd)
        if control is not None:
            control.take(conn_id)
        _read_further_ahead(conn_id)
        _bound_dirty_pages(conn_id)
    except OSError as exc:
        raise _refused(path, exc) from exc
    return conn_id


def _attach(mount_fd: int, path: str, place_fd: int | None) -> None:
    """Attach a detached mount to a directory. Raises MountError, also if it appears in its own store, because
    *path* is in a bind mount of it (mount_namespaces(7), propagation): the daemon would wait for itself."""
    try:
        mount_api.attach(mount_fd, path if place_fd is None else place_fd)
    except OSError as exc:
        raise _refused(path, exc) from exc
    for mount in mounts_of_device(mount_api.device_minor(mount_fd)):
        if mount.path.startswith(mount.source.rstrip("/") + "/"):
            unmount(path, lazy=True)
            raise MountError(
                f"cannot mount on {path}: this directory is also in the store, as {mount.path}, so the mount"
                " would wait for itself; choose another mountpoint", errno.EBUSY,
            )  # fmt: skip


def _refused(path: str, exc: OSError) -> MountError:
    advice = {
        errno.EPERM: ": mounting needs CAP_SYS_ADMIN; run as root",
        errno.ENOSYS: ": the kernel is older than Linux 5.2",
    }.get(exc.errno or 0, "")
    return MountError(f"cannot mount on {path}: {exc.strerror}{advice}", exc.errno or 0)


def _read_further_ahead(conn_id: int) -> None:
    """Let the kernel read ahead 1 MiB at a time (default: 128 KiB), if sysfs can be written. INVARIANT:
    called before INIT is answered, when the kernel takes the value as its limit (fs/fuse/inode.c,
    process_init_reply)."""
    path = f"/sys/class/bdi/0:{conn_id}/read_ahead_kb"
    with contextlib.suppress(OSError), open(path, "w", encoding="ascii") as setting:
        setting.write(str(_READ_AHEAD_KIB))


def _bound_dirty_pages(conn_id: int) -> None:
    """Limit the mount's dirty pages to _DIRTY_BYTES (Linux 6.3). The default is 1 % of the limit for all:
    with 150 GiB of memory, an app's single dirty pages in a file that hangs would use up the requests in the
    background."""
    path = f"/sys/class/bdi/0:{conn_id}"
    with contextlib.suppress(OSError, ValueError):
        with open(f"{path}/strict_limit", "w", encoding="ascii") as setting:
            setting.write("1")
        with open(f"{path}/max_bytes", "r+", encoding="ascii") as setting:
            if int(setting.read()) > _DIRTY_BYTES:
                setting.write(str(_DIRTY_BYTES))


def _checked_mountpoint(mountpoint: str) -> str:
    try:
        path = resolve(mountpoint)
        there = mounts_at(path)
        if any(mount.fstype == FSTYPE for mount in there):
            raise MountError(
                f"{path} has a policyfs mount already, alive or dead; `policyfs umount {path}` removes this"
                " mount",
                errno.EBUSY,
            )
        if there and there[-1].fstype in {"autofs", ABSENT}:  # stat(2) would wait for this mount, or fail
            return path
        mode = os.stat(path).st_mode
    except OSError as exc:
        advice = "; a dead mount of another program is there" if exc.errno == errno.ENOTCONN else ""
        message = f"cannot mount on {mountpoint}: {exc.strerror}{advice}"
        raise MountError(message, exc.errno or 0) from exc
    if not stat.S_ISDIR(mode):
        raise MountError(f"cannot mount on {mountpoint}: the mountpoint is not a directory", errno.ENOTDIR)
    return path


def _device_advice(exc: OSError) -> str:
    if exc.errno in (errno.ENOENT, errno.ENODEV, errno.ENXIO):
        return f"cannot open {DEVICE_PATH}: the kernel has no FUSE; try `modprobe fuse`"
    if exc.errno in (errno.EACCES, errno.EPERM):
        return f"cannot open {DEVICE_PATH}: {exc.strerror}; a container needs --device /dev/fuse"
    return f"cannot open {DEVICE_PATH}: {exc.strerror}"


def attach(
    ops: pyfuse3.Operations, device: Device, *, passthrough: bool, flags: InitFlag = NO_FLAGS,
    vectors: tuple[int, int] | None = None, answered: bytes = b"", outliving: work.Outliving | None = None,
) -> Readiness:  # fmt: skip
    """Make the mounted device pyfuse3's session. A process has one session. From then on, a fault in C ends
    the process without a core dump, which would wait for all threads.

    flags: INIT flags to request besides WANTED. INIT is answered when pyfuse3.main() runs. vectors: the
    limits of nodes and directories in the access vector cache (kernel/vectors.py); None: no such cache.
    answered: the INIT request, if a daemon that has died has answered it (bridge.adopt). outliving: memory
    that the next process reads, and what the one before left. The session uses a duplicate of device.fd. The
    caller keeps device.fd, for backing ids and notifications. The caller calls the result's end() after
    pyfuse3.terminate(), and closes the result and device.fd after close(). Raises MountError if
    pyfuse3 does not use the bridge: its replies would be wrong.
    """
    wanted = WANTED | flags | (InitFlag.PASSTHROUGH if passthrough else NO_FLAGS)
    prepare(int(wanted), STACK_DEPTH if passthrough else 0)
    duplicate = os.dup(device.fd)
    try:
        pyfuse3.init(ops, f"/dev/fd/{duplicate}", set())
    except BaseException:
        os.close(duplicate)
        raise
    waiting = max(_WAITING_BYTES, usable_bytes() // _WAITING_SHARE)
    readiness = Readiness(duplicate, take_turns(UNDER_WAY, IN_ALL, waiting))
    readiness.install()
    if vectors is not None:
        memory, counts, own = outliving[0] if outliving is not None else (None, None, None)
        start_readers(
            duplicate, readiness.fileno(), nodes=vectors[0], directories=vectors[1], memory=memory,
            counts=counts, own=own,
        )  # fmt: skip
    if not attached():
        raise MountError(
            "pyfuse3 is not bound to policyfs's bridge: another library loaded libfuse3 into the"
            " process before the bridge (perhaps by LD_PRELOAD); see"
            " docs/decisions/0001-symbol-interposition.md"
        )
    end_at_faults()
    if outliving is not None:
        work.start(*outliving[1:])
    if answered:
        adopt(answered)
    return readiness


def close() -> None:
    """End the session. The mount stays, and the caller unmounts it."""
    bridge.detach()
    pyfuse3.close(unmount=False)


def negotiated() -> Negotiated | None:
    """Return the result of INIT, or None before it was answered."""
    answer = init_answer()
    if answer is None:
        return None
    minor, offered, flags, depth, max_write = answer
    in_use = InitFlag(flags)
    passthrough = InitFlag.PASSTHROUGH in in_use
    return Negotiated(minor, passthrough, depth, in_use, InitFlag(offered), max_write)


def unmount(mountpoint: str, *, lazy: bool = False, force: bool = False) -> None:
    """Unmount the topmost mount on a path, dead or alive, without a request to its file system.

    lazy: detach the mount at once; open files can still be used. force: first abort the connection, so that
    all its requests fail and no process waits. Raises MountError: EBUSY if files are open and lazy is False,
    EINVAL if nothing is mounted there.
    """
    path = resolve(mountpoint)
    flags = _UMOUNT_NOFOLLOW | (_MNT_DETACH if lazy else 0) | (_MNT_FORCE if force else 0)
    if LIBC.umount2(os.fsencode(path), flags) == 0:
        return
    code = ctypes.get_errno()
    advice = {
        errno.EBUSY: ": files of the mount are open, or a program has its working directory in the mount;"
        f" `fuser -vm {path}` shows the programs",
        errno.EINVAL: ": nothing is mounted there",
        errno.EPERM: ": unmounting needs CAP_SYS_ADMIN; run as root",
    }.get(code, "")
    raise MountError(f"cannot unmount {path}: {os.strerror(code)}{advice}", code)


def is_connected(device: Device) -> bool:
    """Return True if the kernel still has the connection: requests may come, or may wait for answers."""
    poll = select.poll()
    poll.register(device.fd, select.POLLIN)
    return not any(events & select.POLLERR for _, events in poll.poll(0))
