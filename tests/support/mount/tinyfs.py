"""The smallest file system on the kernel layer: one backing file, with and without passthrough.

It runs in a forked child, because pyfuse3 has one session per process, and takes commands from
the test: `tiny.call("counters")` runs `TinyFs.counters()` there.

    /            node 1
    /f           node 2, passthrough where the kernel agrees, else mediated
    /m           node 3, mediated, the same bytes
    /slow        node 4, mediated; READ and SETATTR wait until the test calls "let_go"
    /d           node 5, an empty directory
    any name created: node 10 and up, passthrough, kept beside the backing file
Everything else is ENOENT. The inode number shown is INO_BASE plus the node's number.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import os
import stat
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import trio

from policyfs.kernel import session
from policyfs.kernel.backing import Backing, BackingRefused
from policyfs.kernel.bridge import (
    FH_PASSTHROUGH,
    Pending,
    RawRequest,
    counters,
    fh_index,
    lost_replies,
    pack_fh,
    pyfuse3,
    raw_request,
    take_requests,
    waiting,
)
from policyfs.kernel.notify import Notifier
from policyfs.kernel.operations import Door, Work
from policyfs.kernel.operations import Request as DoorRequest
from policyfs.kernel.protocol import NO_FLAGS, Opcode
from policyfs.kernel.requests import fallocate, fsync, lock, offset_reply, seek
from tests.support.machine.processes import Child, start_as, wait_for

INO_BASE = 7_000_000_000_000
NAMES = {b"f": 2, b"m": 3, b"slow": 4, b"d": 5}
DIRECTORIES = {1, 5}


@dataclass(frozen=True, slots=True)
class Options:
    """How to mount. timeout_s: of entries and attributes. weak: give up CAP_SYS_ADMIN after
    mounting, before anything is registered. door: handle FALLOCATE, LSEEK and SETLK, see Asked.
    kind: a class derived from TinyFs, in its place."""

    passthrough: bool = True
    user_id: int = 0
    group_id: int = 0
    allow_other: bool = True
    read_only: bool = False
    timeout_s: float = 0.0
    weak: bool = False
    door: bool = False
    kind: type[TinyFs] | None = None


@dataclass(slots=True)
class Request:
    """What a test may want to know of a request that came."""

    opcode: str
    nodeid: int
    uid: int
    gid: int
    pid: int
    length: int
    body: bytes
    umask: int = 0


@dataclass(slots=True)
class State:
    """What changes while it serves."""

    handles: dict[int, int] = field(default_factory=dict)  # fh -> descriptor, -1 for none
    released: list[int] = field(default_factory=list)
    requests: list[Request] = field(default_factory=list)
    refused: list[tuple[int, str]] = field(default_factory=list)
    ids: dict[int, int] = field(default_factory=dict)  # node -> backing id
    made: dict[bytes, int] = field(default_factory=dict)
    modes: list[tuple[int, int]] = field(default_factory=list)
    forgotten: list[int] = field(default_factory=list)
    xattrs: list[bytes] = field(default_factory=list)
    through_door: list[tuple[str, int, int, bytes]] = field(default_factory=list)
    bugs: list[str] = field(default_factory=list)
    flags: int = 0  # FH_* of mediated files and directories
    index: int = 0


def note(ctx: pyfuse3.RequestContext | None = None) -> Request:
    """The request being processed, for the test to look at."""
    raw: RawRequest = raw_request()
    umask = ctx.umask if ctx is not None else 0
    name = Opcode(raw.opcode).name
    return Request(name, raw.nodeid, raw.uid, raw.gid, raw.pid, raw.length, raw.body, umask)


class TinyFs(pyfuse3.Operations):
    """The file system, and the commands that a test may call."""

    def __init__(self, backing: Path, options: Options, device: session.Device) -> None:
        super().__init__()
        self.file = backing
        self.options = options
        self.device = device
        self.backing = Backing(device.fd)
        self.state = State()
        self.gate = trio.Event()
        self.waiting = trio.Event()
        self.notifier: Notifier | None = None
        self.door_scope = trio.CancelScope()

    # -- commands ---------------------------------------------------------------------------

    def counters(self) -> dict[str, int]:
        return counters()

    def negotiated(self) -> session.Negotiated | None:
        return session.negotiated()

    def look(self) -> State:
        return self.state

    def notify(self, method: str, *arguments: Any) -> bool:
        if self.notifier is None:
            agreed = session.negotiated()
            assert agreed is not None
            self.notifier = Notifier(self.device.fd, minor=agreed.minor)
        return getattr(self.notifier, method)(*arguments)

    def notifier_stats(self):
        assert self.notifier is not None
        return self.notifier.stats()

    def open_with(self, flags: int) -> None:
        self.state.flags = flags

    def register(self, path: str, flags: int = os.O_RDONLY) -> int | BackingRefused | str:
        fd = os.open(path, flags)
        try:
            return self.backing.register(fd)
        except OSError as exc:
            return errno.errorcode[exc.errno]
        finally:
            os.close(fd)

    def release_id(self, backing_id: int) -> int:
        self.backing.release(backing_id)
        return self.backing.live

    def is_waiting(self) -> bool:
        return self.waiting.is_set()

    def under_way(self) -> tuple[int, int]:
        """Requests that were read and wait for their turn; requests under way."""
        return waiting()

    def close_door(self) -> None:
        self.door_scope.cancel()

    def answer_badly(self) -> None:
        """From now on FALLOCATE is answered by its offset: twice; never; not at all well; well."""

        def take(pending: Pending) -> None:
            offset = fallocate(DoorRequest(pending.data)).offset
            tries = {0: [(0, b""), (5, b"")], 1: [], 2: [(-1, b""), (1000, b""), (5, b"body"), (28, b"")]}
            for answer in tries[offset]:
                try:
                    self.state.bugs.append(str(pending.answer(*answer)))
                except (RuntimeError, ValueError) as error:
                    self.state.bugs.append(type(error).__name__)

        take_requests(take, {Opcode.FALLOCATE})

    def let_go(self) -> None:
        self.gate.set()

    # -- handlers ---------------------------------------------------------------------------

    def bug(self, where: str, error: BaseException) -> None:
        self.state.bugs.append(f"{where}: {error}")

    async def wait(self) -> None:
        self.waiting.set()
        await self.gate.wait()

    def _path(self, node: int) -> Path:
        names = [name for name, number in self.state.made.items() if number == node]
        return self.file.with_name(f"made-{names[0].decode()}") if names else self.file

    async def getattr(self, inode, ctx=None):
        return self._attributes(inode)

    def _attributes(self, node):
        entry = pyfuse3.EntryAttributes()
        entry.st_ino = node
        entry.st_rdev = INO_BASE + node
        entry.st_nlink = 1
        entry.entry_timeout = entry.attr_timeout = self.options.timeout_s
        if node in DIRECTORIES:
            entry.st_mode = stat.S_IFDIR | 0o777
            return entry
        status = os.stat(self._path(node))
        entry.st_mode = stat.S_IFREG | 0o666
        entry.st_size = status.st_size
        entry.st_blocks = status.st_blocks
        entry.st_mtime_ns = status.st_mtime_ns
        return entry

    async def lookup(self, parent_inode, name, ctx):
        node = {**NAMES, **self.state.made}.get(name) if parent_inode == 1 else None
        if node is None:
            raise pyfuse3.FUSEError(errno.ENOENT)
        return self._attributes(node)

    async def forget(self, inode_list):
        self.state.forgotten += [node for node, _ in inode_list]

    async def setattr(self, inode, attr, fields, fh, ctx):
        self.state.requests.append(note(ctx))
        if inode == 4:
            await self.wait()
        if fields.update_size:
            os.truncate(self._path(inode), attr.st_size)
        return self._attributes(inode)

    def _handle(self, node, flags):
        self.state.index += 1
        if node not in (3, 4):
            path = self._path(node)
            known = self.state.ids.get(node)
            answer = known or self.register(str(path))
            if isinstance(answer, int):
                self.state.ids[node] = answer
                fh = pack_fh(self.state.index, FH_PASSTHROUGH, answer)
                self.state.handles[fh] = -1
                return fh
            assert isinstance(answer, BackingRefused), answer
            self.state.refused.append((answer.errno, answer.reason))
        fh = pack_fh(self.state.index, self.state.flags)
        self.state.handles[fh] = os.open(self._path(node), flags & os.O_ACCMODE)
        return fh

    async def open(self, inode, flags, ctx):
        self.state.requests.append(note(ctx))
        if flags & os.O_TRUNC:
            os.truncate(self._path(inode), 0)
        return pyfuse3.FileInfo(fh=self._handle(inode, flags))

    async def create(self, parent_inode, name, mode, flags, ctx):
        self.state.requests.append(note(ctx))
        self.state.modes.append((mode, ctx.umask))
        node = self.state.made[name] = 10 + len(self.state.made)
        self._path(node).touch()
        return pyfuse3.FileInfo(fh=self._handle(node, flags)), self._attributes(node)

    async def mkdir(self, parent_inode, name, mode, ctx):
        self.state.modes.append((mode, ctx.umask))
        raise pyfuse3.FUSEError(errno.EROFS)

    async def read(self, fh, off, size):
        request = note()
        self.state.requests.append(request)
        if request.nodeid == 4:
            await self.wait()
        return os.pread(self.state.handles[fh], size, off)

    async def write(self, fh, off, buf):
        self.state.requests.append(note())
        return os.pwrite(self.state.handles[fh], buf, off)

    async def flush(self, fh):
        self.state.requests.append(note())

    async def fsync(self, fh, datasync):
        pass

    async def release(self, fh):
        self.state.released.append(fh)
        fd = self.state.handles.pop(fh)
        if fd >= 0:
            os.close(fd)

    async def opendir(self, inode, ctx):
        self.state.requests.append(note(ctx))
        return pack_fh(inode, self.state.flags)

    async def readdir(self, fh, start_id, token):
        names = list({**NAMES, **self.state.made}.items()) if fh_index(fh) == 1 else []
        for position, (name, node) in enumerate(names[start_id:], start_id + 1):
            if not pyfuse3.readdir_reply(token, name, self._attributes(node), position):
                break

    async def releasedir(self, fh):
        pass

    async def statfs(self, ctx):
        data = pyfuse3.StatvfsData()
        data.f_bsize = data.f_frsize = 4096
        data.f_namemax = 255
        return data

    async def getxattr(self, inode, name, ctx):
        self.state.xattrs.append(name)
        raise pyfuse3.FUSEError(errno.ENODATA)

    async def access(self, inode, mode, ctx):
        return True


_libc = ctypes.CDLL(None, use_errno=True)


def lose_cap_sys_admin() -> None:
    """Drop CAP_SYS_ADMIN (number 21) from the effective and permitted sets of this thread."""
    header = (ctypes.c_uint32 * 2)(0x20080522, 0)  # _LINUX_CAPABILITY_VERSION_3
    data = (ctypes.c_uint32 * 6)()  # effective, permitted, inheritable of 32 capabilities, twice
    assert _libc.capget(header, data) == 0
    for word in (0, 1):
        data[word] &= ~(1 << 21)
    assert _libc.capset(header, data) == 0


def serve(channel, mountpoint: str, backing: Path, options: Options) -> int:
    """The child: mounts, sends its Device, serves and obeys until the connection ends; returns how
    many replies the kernel did not take."""
    device = session.mount_device(
        mountpoint,
        source="tiny fs",
        user_id=options.user_id,
        group_id=options.group_id,
        allow_other=options.allow_other,
        default_permissions=False,
        read_only=options.read_only,
    )
    if options.weak:
        lose_cap_sys_admin()
    ops = (options.kind or TinyFs)(backing, options, device)
    asked = Asked(ops)
    door = Door(asked.handlers(), ops, asked.quick()) if options.door else None
    flags = NO_FLAGS if door is None else door.init_flags
    session.attach(ops, device, passthrough=options.passthrough, flags=flags)
    channel.send(device)
    trio.run(_run, channel, ops, door)
    session.close()
    return lost_replies()


ENOTSUPP = 524
"""An errno that NFS reports, and that the kernel takes in no reply of FUSE."""
STORY = {
    1: OSError(errno.ENOSPC, ""), 2: ValueError("a bug"), 3: pyfuse3.FUSEError(errno.EROFS),
    8: OSError(ENOTSUPP, ""),
}  # fmt: skip


class Asked:
    """What a TinyFs with a door does: LSEEK answers 1,000 more than was asked for, FALLOCATE does
    as its offset says (see STORY). SETLK succeeds, from byte SLOW on when the test lets it go; SETLKW there
    rests meanwhile."""

    SLOW, SLOW_TO_THE_END, AT_ONCE = 4, 5, 6

    def __init__(self, ops: TinyFs) -> None:
        self._ops = ops

    def handlers(self):
        return {
            Opcode.FALLOCATE: self.fallocate, Opcode.LSEEK: self.lseek,
            Opcode.SETLK: self.lock, Opcode.SETLKW: self.lock,
        }  # fmt: skip

    def _note(self, request: DoorRequest) -> None:
        who = (request.opcode.name, request.nodeid, request.uid, request.body)
        self._ops.state.through_door.append(who)

    def quick(self):
        return {Opcode.FSYNC: self.sync_now, Opcode.LSEEK: self.lseek_now}

    def sync_now(self, request: DoorRequest) -> Work | None:
        self._note(request)
        if request.nodeid == NAMES[b"m"]:  # nobody does what is left of it
            return None
        data = fsync(request).datasync

        def work() -> None:
            self._ops.state.through_door.append(("in a thread", threading.get_ident() != self._loop))
            if data:
                raise STORY[1]

        self._loop = threading.get_ident()
        return Work(work)

    def lseek_now(self, request: DoorRequest) -> bytes | None:
        offset = seek(request).offset
        if offset in STORY:
            raise STORY[offset]
        return offset_reply(offset + 2000) if offset == self.AT_ONCE else None

    async def lseek(self, request: DoorRequest) -> bytes:
        self._note(request)
        return offset_reply(seek(request).offset + 1000)

    async def lock(self, request: DoorRequest) -> bytes:
        self._note(request)
        asked = lock(request)
        if not asked.flock and asked.start >= self.SLOW:
            if asked.sleep:
                request.rests()
            await self._ops.wait()
        return b""

    async def fallocate(self, request: DoorRequest) -> bytes:
        self._note(request)
        offset = fallocate(request).offset
        if offset in STORY:
            raise STORY[offset]
        if offset == self.SLOW:
            with request.interruptible() as scope:
                await self._ops.wait()
            if scope.cancelled_caught:
                raise OSError(errno.EINTR, "")
        elif offset == self.SLOW_TO_THE_END:
            await self._ops.wait()
        return b""


async def _serve_door(ops: TinyFs, door: Door, task_status=trio.TASK_STATUS_IGNORED) -> None:
    with ops.door_scope:
        await door.serve(task_status=task_status)


async def _run(channel, ops: TinyFs, door: Door | None) -> None:
    async with trio.open_nursery() as nursery:
        if door is not None:
            await nursery.start(_serve_door, ops, door)
        nursery.start_soon(_obey, channel, ops)
        await pyfuse3.main()
        nursery.cancel_scope.cancel()


async def _obey(channel, ops: TinyFs) -> None:
    while True:
        await trio.lowlevel.wait_readable(channel.connection.fileno())
        name, arguments = channel.recv()
        channel.send(getattr(ops, name)(*arguments))


def error_of(function: Callable[..., Any], *arguments: Any) -> int:
    """The errno that a call fails with; an AssertionError if it does not."""
    try:
        function(*arguments)
    except OSError as exc:
        return exc.errno or 0
    raise AssertionError(f"{function} {arguments} did not fail")


class Tiny:
    """A running TinyFs, as the test sees it."""

    def __init__(self, mountpoint: Path, backing: Path, options: Options) -> None:
        self.mountpoint = mountpoint
        self.backing = backing
        self.child: Child = start_as(0, serve, str(mountpoint), backing, options)
        try:
            self.device: session.Device = self.child.receive()
        except BaseException:
            self.child.kill()
            raise

    @property
    def root(self) -> str:
        return str(self.mountpoint)

    def path(self, name: str) -> str:
        return str(self.mountpoint / name)

    def call(self, name: str, *arguments: Any) -> Any:
        self.child.send((name, arguments))
        return self.child.receive(10.0)

    def count(self, opcode: str) -> int:
        return self.call("counters")[opcode]

    def initialised(self) -> session.Negotiated:
        return wait_for(lambda: self.call("negotiated"), "INIT")

    def stop(self) -> None:
        """Unmount by force and end the child, whatever state they are in."""
        with contextlib.suppress(session.MountError):
            session.unmount(self.root, lazy=True, force=True)
        self.child.kill()
