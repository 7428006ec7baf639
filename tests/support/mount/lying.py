"""A program: a FUSE file system in memory that breaks the promises it is told to break, as some stores do.

`python lying.py MOUNTPOINT[,MOUNTPOINT] [PROMISE ...]`. All mountpoints show the same files, as machines do
that share a store; the kernel remembers names and attributes of each for a second. It breaks a promise only
when a file is closed, where that is possible, so that a look before the close shows nothing. What it refuses
openly: no-unnamed, no-flags, no-links, no-xattrs, full. It speaks to /dev/fuse itself: pyfuse3 knows neither
TMPFILE nor STATX.
"""

from __future__ import annotations

import ctypes
import errno
import os
import select
import stat
import struct
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from typing import Final

PROMISES: Final = (
    "bytes", "size", "folds", "folds-apart", "unnamed", "noreplace", "exchange", "links", "trusted", "user",
    "birth", "range-locks", "flock", "unlocks",
)  # fmt: skip
"""What it can break. bytes: they are lost at the close. size: the size stays that of a new file. links: they
are copies. birth: an inode's birth time is its mtime. folds-apart: each spelling is a file of
its own number. The locks: granted to all. unlocks: a lock
of a byte outlives its open file."""

_HEADER: Final = struct.Struct("=IIQQIIIHH")
_OUT: Final = struct.Struct("=IiQ")
_FLAGS: Final = 1 << 1 | 1 << 5 | 1 << 10 | 1 << 12  # POSIX_LOCKS, BIG_WRITES, FLOCK_LOCKS, AUTO_INVAL_DATA
_ROOT: Final = 1
_VALID_S: Final = 1


@dataclass
class Inode:
    number: int
    mode: int
    uid: int
    gid: int
    data: bytearray = field(default_factory=bytearray)
    shown: int = 0
    nlink: int = 0
    opens: int = 0
    unnamed: bool = False
    xattrs: dict[bytes, bytes] = field(default_factory=dict)
    names: dict[bytes, int] = field(default_factory=dict)
    times: list[int] = field(default_factory=lambda: [time.time_ns()] * 3)
    born: int = field(default_factory=time.time_ns)

    @property
    def is_dir(self) -> bool:
        return stat.S_ISDIR(self.mode)


class Lying:
    """The files. Each method named after an opcode returns the body of the reply, or raises OSError."""

    def __init__(self, broken: set[str]) -> None:
        self.broken = broken
        self.inodes = {_ROOT: Inode(_ROOT, 0o40700, 0, 0, nlink=2)}
        self.handles: dict[int, int] = {}
        self.locks: list[tuple[bool, int, int, int, int, int, int]] = []
        self.last = _ROOT
        self.uid = self.gid = 0

    # -- replies ----------------------------------------------------------------------------------------

    def _attr(self, one: Inode) -> bytes:
        size = one.shown if "size" in self.broken and not one.is_dir else len(one.data)
        seconds, rest = zip(*(divmod(at, 10**9) for at in one.times), strict=True)
        return struct.pack(
            "=6Q10I", one.number, size, -(-len(one.data) // 512), *seconds, *rest, one.mode, one.nlink,
            one.uid, one.gid, 0, 4096, 0,
        )  # fmt: skip

    def _entry(self, one: Inode) -> bytes:
        return struct.pack("=4Q2I", one.number, 0, _VALID_S, _VALID_S, 0, 0) + self._attr(one)

    def _attributes(self, one: Inode) -> bytes:
        return struct.pack("=QII", _VALID_S, 0, 0) + self._attr(one)

    def _opened(self, one: Inode) -> bytes:
        one.opens += 1
        handle = max(self.handles, default=0) + 1
        self.handles[handle] = one.number
        return struct.pack("=QIi", handle, 0, 0)

    # -- names ------------------------------------------------------------------------------------------

    def _of(self, node: int) -> Inode:
        if node not in self.inodes:
            raise OSError(errno.ESTALE, "")
        return self.inodes[node]

    def _find(self, parent: int, name: bytes) -> Inode | None:
        names = self._of(parent).names
        if self.broken & {"folds", "folds-apart"}:
            name = next((known for known in names if known.lower() == name.lower()), name)
        return self.inodes.get(names.get(name, 0))

    def _found(self, parent: int, name: bytes) -> Inode:
        if (one := self._find(parent, name)) is None:
            raise OSError(errno.ENOENT, "")
        return one

    def _new(self, mode: int) -> Inode:
        self.last += 1
        one = self.inodes[self.last] = Inode(self.last, mode, self.uid, self.gid)
        return one

    def _put(self, parent: int, name: bytes, one: Inode) -> Inode:
        if self._find(parent, name) is not None:
            raise OSError(errno.EEXIST, "")
        if "full" in self.broken:
            raise OSError(errno.ENOSPC, "")
        self._of(parent).names[name] = one.number
        one.nlink += 2 if one.is_dir else 1
        self._changed(parent)
        return one

    def _drop(self, parent: int, name: bytes) -> Inode:
        one = self._found(parent, name)
        del self._of(parent).names[name]
        one.nlink -= 2 if one.is_dir else 1
        self._changed(parent)
        self._end(one)
        return one

    def _end(self, one: Inode) -> None:
        if one.nlink <= 0 and one.opens == 0:
            self.inodes.pop(one.number, None)

    def _changed(self, node: int) -> None:
        self._of(node).times[1:] = [time.time_ns()] * 2

    def lookup(self, node: int, body: bytes) -> bytes:
        one = self._found(node, body[:-1])
        if "folds-apart" in self.broken and body[:-1] not in self._of(node).names:
            one = self.inodes[self.last + 1] = replace(one, number=self.last + 1)
            self.last += 1
        return self._entry(one)

    def mkdir(self, node: int, body: bytes) -> bytes:
        mode, umask = struct.unpack_from("=2I", body)
        return self._entry(self._put(node, body[8:-1], self._new(stat.S_IFDIR | mode & ~umask)))

    def mknod(self, node: int, body: bytes) -> bytes:
        mode, _, umask, _ = struct.unpack_from("=4I", body)
        return self._entry(self._put(node, body[16:-1], self._new(mode & ~umask)))

    def symlink(self, node: int, body: bytes) -> bytes:
        name, target, _ = body.split(b"\0")
        one = self._put(node, name, self._new(stat.S_IFLNK | 0o777))
        one.data[:] = target
        return self._entry(one)

    def readlink(self, node: int, _: bytes) -> bytes:
        return bytes(self._of(node).data)

    def unlink(self, node: int, body: bytes) -> bytes:
        self._drop(node, body[:-1])
        return b""

    def rmdir(self, node: int, body: bytes) -> bytes:
        if self._found(node, body[:-1]).names:
            raise OSError(errno.ENOTEMPTY, "")
        self._drop(node, body[:-1])
        return b""

    def rename(self, node: int, body: bytes, skipped: int = 8) -> bytes:
        new_parent, flags = struct.unpack_from("=Q", body)[0], 0
        if skipped == 16:
            flags = struct.unpack_from("=I", body, 8)[0]
        old, new, _ = body[skipped:].split(b"\0")
        if flags and "no-flags" in self.broken:
            raise OSError(errno.EINVAL, "")
        one, other = self._found(node, old), self._find(new_parent, new)
        if flags & 1 and other is not None and "noreplace" not in self.broken:
            raise OSError(errno.EEXIST, "")
        if flags & 2 and "exchange" not in self.broken:
            self._of(node).names[old] = self._found(new_parent, new).number
        else:
            if other is not None and other is not one:
                self._drop(new_parent, new)
            del self._of(node).names[old]
        self._of(new_parent).names[new] = one.number
        self._changed(node)
        self._changed(new_parent)
        return b""

    def rename2(self, node: int, body: bytes) -> bytes:
        return self.rename(node, body, 16)

    def link(self, node: int, body: bytes) -> bytes:
        one = self._of(struct.unpack_from("=Q", body)[0])
        if "no-links" in self.broken and not one.unnamed:
            raise OSError(errno.EPERM, "")
        if "links" in self.broken and not one.unnamed:
            copy = self._new(one.mode)
            copy.data[:] = one.data
            one = copy
        return self._entry(self._put(node, body[8:-1], one))

    def opendir(self, _node: int, _: bytes) -> bytes:
        return struct.pack("=QIi", 0, 0, 0)

    def readdir(self, node: int, body: bytes) -> bytes:
        _, offset, size = struct.unpack_from("=QQI", body)
        out = b""
        for at, (name, number) in enumerate(list(self._of(node).names.items())[offset:], offset + 1):
            if number in self.inodes:
                kind = stat.S_IFMT(self.inodes[number].mode) >> 12
                entry = struct.pack("=QQII", number, at, len(name), kind) + name
                entry += bytes(-len(entry) % 8)
                if len(out) + len(entry) > size:
                    break
                out += entry
        return out

    # -- files ------------------------------------------------------------------------------------------

    def create(self, node: int, body: bytes) -> bytes:
        _, mode, umask, _ = struct.unpack_from("=4I", body)
        one = self._put(node, body[16:-1], self._new(stat.S_IFREG | mode & ~umask & 0o7777))
        return self._entry(one) + self._opened(one)

    def tmpfile(self, _node: int, body: bytes) -> bytes:
        if "no-unnamed" in self.broken:
            raise OSError(errno.EOPNOTSUPP, "")
        _, mode, umask, _ = struct.unpack_from("=4I", body)
        one = self._new(stat.S_IFREG | mode & ~umask & 0o7777)
        one.unnamed = True
        return self._entry(one) + self._opened(one)

    def open(self, node: int, _: bytes) -> bytes:
        return self._opened(self._of(node))

    def read(self, node: int, body: bytes) -> bytes:
        _, offset, size = struct.unpack_from("=QQI", body)
        return bytes(self._of(node).data[offset : offset + size])

    def write(self, node: int, body: bytes) -> bytes:
        _, offset, size = struct.unpack_from("=QQI", body)
        one = self._of(node)
        one.data.extend(bytes(max(offset - len(one.data), 0)))
        one.data[offset : offset + size] = body[40:]
        self._changed(node)
        return struct.pack("=II", size, 0)

    def release(self, node: int, body: bytes) -> bytes:
        handle, _, flags, owner = struct.unpack_from("=QIIQ", body)
        self.handles.pop(handle, None)
        ends = (True, node, owner) if flags & 2 else None
        self.locks = [lock for lock in self.locks if lock[:3] != ends]
        if "unlocks" not in self.broken:  # the kernel tells no unlock of an OFD lock, but its handle's end
            self.locks = [lock for lock in self.locks if lock[0] or lock[6] != handle]
        one = self.inodes.get(node)
        if one is None:
            return b""
        one.opens -= 1
        if "bytes" in self.broken:
            one.data.clear()
        if "unnamed" in self.broken and one.unnamed:
            one.nlink = 0
        for prefix in ("trusted", "user"):
            if prefix in self.broken:
                mine = [name for name in one.xattrs if name.startswith(prefix.encode() + b".")]
                for name in mine:
                    del one.xattrs[name]
        self._end(one)
        return b""

    def flush(self, node: int, body: bytes) -> bytes:
        owner = struct.unpack_from("=QIIQ", body)[3]
        self.locks = [lock for lock in self.locks if lock[:3] != (False, node, owner)]
        return b""

    def fsync(self, _node: int, _: bytes) -> bytes:
        return b""

    releasedir = fsyncdir = access = fsync

    def statfs(self, _node: int, _: bytes) -> bytes:
        free = 0 if "full" in self.broken else 1 << 20
        return struct.pack("=5Q10I", 1 << 20, free, free, 1 << 20, 1 << 19, 4096, 255, 4096, *[0] * 7)

    # -- attributes -------------------------------------------------------------------------------------

    def getattr(self, node: int, _: bytes) -> bytes:
        return self._attributes(self._of(node))

    def setattr(self, node: int, body: bytes) -> bytes:
        one = self._of(node)
        valid, _, _, size, _, *rest = struct.unpack_from("=IIQQQ3Q3I5I", body)
        if valid & 1:
            one.mode = stat.S_IFMT(one.mode) | rest[6] & 0o7777
        if valid & 2:
            one.uid = rest[8]
        if valid & 4:
            one.gid = rest[9]
        if valid & 8:
            one.data[size:] = bytes(max(size - len(one.data), 0))
            one.shown = size
        for bit, now, at in ((16, 128, 0), (32, 256, 1)):
            if valid & bit:
                one.times[at] = time.time_ns() if valid & now else rest[at] * 10**9 + rest[3 + at]
        one.times[2] = time.time_ns()
        return self._attributes(one)

    def statx(self, node: int, _: bytes) -> bytes:
        one = self._of(node)
        born = one.times[1] if "birth" in self.broken else one.born
        size = one.shown if "size" in self.broken and not one.is_dir else len(one.data)
        times = (one.times[0], born, one.times[2], one.times[1])
        ids = one.nlink, one.uid, one.gid, one.mode
        return b"".join((
            struct.pack("=QII2Q", _VALID_S, 0, 0, 0, 0),
            struct.pack("=IIQIIIHHQ", 0xFFF, 4096, 0, *ids, 0, one.number),
            struct.pack("=QQQ", size, -(-len(one.data) // 512), 0),
            *(struct.pack("=qIi", *divmod(at, 10**9), 0) for at in times),
            bytes(16 + 14 * 8),
        ))  # fmt: skip

    def setxattr(self, node: int, body: bytes) -> bytes:
        if "no-xattrs" in self.broken:
            raise OSError(errno.EOPNOTSUPP, "")
        name, _, value = body[8:].partition(b"\0")
        self._of(node).xattrs[name] = value
        return b""

    def getxattr(self, node: int, body: bytes) -> bytes:
        if body[8:-1] not in self._of(node).xattrs:
            raise OSError(errno.ENODATA, "")
        return self._sized(body, self._of(node).xattrs[body[8:-1]])

    def listxattr(self, node: int, body: bytes) -> bytes:
        return self._sized(body, b"".join(name + b"\0" for name in self._of(node).xattrs))

    def removexattr(self, node: int, body: bytes) -> bytes:
        if self._of(node).xattrs.pop(body[:-1], None) is None:
            raise OSError(errno.ENODATA, "")
        return b""

    @staticmethod
    def _sized(body: bytes, value: bytes) -> bytes:
        size = struct.unpack_from("=I", body)[0]
        if size and size < len(value):
            raise OSError(errno.ERANGE, "")
        return value if size else struct.pack("=II", len(value), 0)

    # -- locks ------------------------------------------------------------------------------------------

    def _blocking(self, node: int, body: bytes) -> Iterator[tuple[bool, int, int, int, int, int, int]]:
        _, owner, start, end, kind, _, flags = struct.unpack_from("=QQQQIII", body)
        if ("flock" if flags & 1 else "range-locks") in self.broken or kind == 2:
            return
        for lock in self.locks:
            apart = lock[0] != bool(flags & 1) or lock[1] != node or lock[2] == owner
            if not apart and lock[3] <= end and start <= lock[4] and 1 in {kind, lock[5]}:
                yield lock

    def setlk(self, node: int, body: bytes) -> bytes:
        handle, owner, start, end, kind, _, flags = struct.unpack_from("=QQQQIII", body)
        if next(self._blocking(node, body), None) is not None:
            raise OSError(errno.EAGAIN, "")
        mine = bool(flags & 1), node, owner
        self.locks = [one for one in self.locks if one[:3] != mine or one[4] < start or end < one[3]]
        if kind != 2:
            self.locks.append((*mine, start, end, kind, handle))
        return b""

    setlkw = setlk

    def getlk(self, node: int, body: bytes) -> bytes:
        found = next(self._blocking(node, body), None)
        _, _, start, end, _, _ = struct.unpack_from("=QQQQII", body)
        if found is not None:
            return struct.pack("=QQII", found[3], found[4], found[5], 0)
        return struct.pack("=QQII", start, end, 2, 0)

    # -- the device -------------------------------------------------------------------------------------

    def answer(self, device: int, request: bytes) -> None:
        _, opcode, unique, node, self.uid, self.gid, *_ = _HEADER.unpack_from(request)
        if opcode in {2, 36, 42}:  # FORGET, INTERRUPT, BATCH_FORGET have no reply
            return
        code, body = 0, b""
        try:
            body = self._reply(opcode, node, request[_HEADER.size :])
        except OSError as error:
            code = -(error.errno or errno.EIO)
        os.write(device, _OUT.pack(_OUT.size + len(body), code, unique) + body)

    def _reply(self, opcode: int, node: int, body: bytes) -> bytes:
        if opcode == 26:
            major, minor, ahead, low = struct.unpack_from("=4I", body)
            limits = 12, 9, 1 << 17, 1, 32, 0, 0, 0, 0
            return struct.pack("=IIIIHHIIHHIIH22x", major, minor, ahead, low & _FLAGS, *limits)
        name = _NAMES.get(opcode)
        if name is None:
            raise OSError(errno.ENOSYS, "")
        found: bytes = getattr(self, name)(node, body)
        return found


_NAMES: Final = {
    1: "lookup", 3: "getattr", 4: "setattr", 5: "readlink", 6: "symlink", 8: "mknod", 9: "mkdir",
    10: "unlink", 11: "rmdir", 12: "rename", 13: "link", 14: "open", 15: "read", 16: "write",
    17: "statfs", 18: "release",
    20: "fsync", 21: "setxattr", 22: "getxattr", 23: "listxattr", 24: "removexattr", 25: "flush",
    27: "opendir", 28: "readdir", 29: "releasedir", 30: "fsyncdir", 31: "getlk",
    32: "setlk", 33: "setlkw", 34: "access",
    35: "create", 45: "rename2", 51: "tmpfile", 52: "statx",
}  # fmt: skip


def serve(mountpoints: list[str], broken: set[str]) -> None:
    """Mount on each, and serve until all are unmounted."""
    libc = ctypes.CDLL(None, use_errno=True)
    poll, store, open_now = select.poll(), Lying(broken), set[int]()
    for at in mountpoints:
        device = os.open("/dev/fuse", os.O_RDWR | os.O_CLOEXEC | os.O_NONBLOCK)
        options = f"fd={device},rootmode=40000,user_id=0,group_id=0,allow_other,default_permissions"
        if libc.mount(b"lying", os.fsencode(at), b"fuse.lying", 0, options.encode()):
            raise OSError(ctypes.get_errno(), "mount")
        poll.register(device, select.POLLIN)
        open_now.add(device)
    while open_now:
        for device, _ in poll.poll():
            try:
                store.answer(device, os.read(device, 1 << 18))
            except OSError as error:
                if error.errno == errno.ENODEV:
                    poll.unregister(device)
                    open_now.discard(device)
                    os.close(device)


if __name__ == "__main__":
    serve(sys.argv[1].split(","), set(sys.argv[2:]))
