"""Requests and replies of the door, by the layouts of the kernel's include/uapi/linux/fuse.h."""

from __future__ import annotations

import os
import stat
import struct

import pytest

from policyfs.kernel import requests
from policyfs.kernel.bridge import FH_KEEP_CACHE, FH_NOFLUSH, FH_PASSTHROUGH, open_reply, pack_fh, pyfuse3
from policyfs.kernel.operations import Request
from policyfs.kernel.protocol import Opcode


def request(opcode: Opcode, body: bytes) -> Request:
    """As the kernel sends it."""
    header = struct.pack("=IIQQIIIHH", 40 + len(body), opcode, 1 << 63 | 77, 9, 10, 11, 12, 0, 0)
    return Request(header + body)


def entry(mode: int, **attributes: int) -> pyfuse3.EntryAttributes:
    made = pyfuse3.EntryAttributes()
    made.st_ino, made.st_mode, made.st_rdev, made.st_nlink = 5, mode, 700, 2
    made.st_uid, made.st_gid, made.st_size, made.st_blksize, made.st_blocks = 10, 11, 12, 4096, 8
    made.entry_timeout, made.attr_timeout = 1.5, 86_400.25
    made.st_atime_ns, made.st_mtime_ns, made.st_ctime_ns = -1, 10**18 + 7, 3 * 10**9
    for name, value in attributes.items():
        setattr(made, name, value)
    return made


def test_headers() -> None:
    asked = request(Opcode.LSEEK, bytes(24))
    assert (asked.unique, asked.nodeid, asked.umask) == (77, 9, 0)
    assert (asked.uid, asked.gid, asked.pid) == (10, 11, 12)


def test_bodies() -> None:
    assert requests.fallocate(request(Opcode.FALLOCATE, struct.pack("=QQQII", 1, 2, 3, 4, 0))) == (1, 2, 3, 4)
    assert requests.seek(request(Opcode.LSEEK, struct.pack("=QqII", 1, -2, 3, 0))) == (1, -2, 3)
    assert requests.seek(request(Opcode.LSEEK, struct.pack("=QqII", 1, 2**63 - 1, 4, 0))).offset == 2**63 - 1
    numbers = (1, 2, 3, 4, 5, 1 << 62, 0)
    assert requests.copy_range(request(Opcode.COPY_FILE_RANGE, struct.pack("=7Q", *numbers))) == numbers
    asked = request(Opcode.IOCTL, struct.pack("=QIIQII", 1, 2, 3, 4, 5, 6))
    assert requests.ioctl(asked) == (1, 2, 3, 4, 5, 6)
    lock = struct.pack("=QQQQIIII", 1, 2**64 - 1, 0, 2**63 - 1, 1, 99, 1, 0)
    asked = requests.lock(request(Opcode.SETLKW, lock))
    assert asked == (1, 2**64 - 1, 0, 2**63 - 1, 1, 99, True, True)
    assert not requests.lock(request(Opcode.SETLK, lock)).sleep


def test_the_range_of_a_write_that_has_lost_its_data() -> None:
    body = struct.pack("=QQIIQII", 1, 1 << 40, 4096, 1, 2, 3, 0)
    assert requests.write_range(request(Opcode.WRITE, body)) == (1 << 40, 4096)


def test_bodies_of_readdir_and_getxattr() -> None:
    body = struct.pack("=QQIIQII", 1, 2, 4096, 0, 0, 0, 0)
    assert requests.read_directory(request(Opcode.READDIR, body)) == (1, 2, 4096)
    body = struct.pack("=II", 16, 0) + b"user.tag\0"
    assert requests.getxattr(request(Opcode.GETXATTR, body)) == (16, b"user.tag")


def test_entries_of_a_listing_stand_at_multiples_of_eight_bytes() -> None:
    buffer = requests.DirentBuffer(24 + 8 + 24 + 16)
    assert buffer.add(b"abc", 7, 8, 1)
    assert buffer.add(b"123456789", 8, 4, 2)
    assert not buffer.add(b"x", 9, 8, 3)
    data = buffer.data()
    assert len(data) == 72
    assert struct.unpack_from("=QQII8s", data) == (7, 1, 3, 8, b"abc" + bytes(5))
    assert struct.unpack_from("=QQII9s", data, 32) == (8, 2, 9, 4, b"123456789")


def test_an_xattr_or_its_size() -> None:
    assert requests.getxattr_reply(requests.GetXattr(0, b"user.a"), b"value") == struct.pack("=II", 5, 0)
    assert requests.getxattr_reply(requests.GetXattr(5, b"user.a"), b"value") == b"value"
    with pytest.raises(OSError, match="larger"):
        requests.getxattr_reply(requests.GetXattr(4, b"user.a"), b"value")


@pytest.mark.parametrize("parse", [requests.fallocate, requests.seek, requests.copy_range, requests.lock])
def test_what_is_cut_off_is_an_error(parse) -> None:
    with pytest.raises(struct.error):
        parse(request(Opcode.FALLOCATE, bytes(10)))


def test_short_replies() -> None:
    assert requests.offset_reply(1 << 40) == struct.pack("=Q", 1 << 40)
    assert requests.copied_reply(request(Opcode.COPY_FILE_RANGE, b""), 5) == struct.pack("=II", 5, 0)
    wide = request(Opcode.COPY_FILE_RANGE_64, b"")
    assert requests.copied_reply(wide, 1 << 40) == struct.pack("=Q", 1 << 40)
    assert requests.ioctl_reply(b"abcd") == bytes(16) + b"abcd"
    assert requests.lock_reply(1, 2, 2, 3) == struct.pack("=QQII", 1, 2, 2, 3)


@pytest.mark.parametrize(
    ("fh", "flags", "backing"),
    [
        (pack_fh(3, FH_PASSTHROUGH | FH_NOFLUSH, 0x7FFFFFFF), FH_PASSTHROUGH, 0x7FFFFFFF),
        (pack_fh(3, FH_KEEP_CACHE | FH_NOFLUSH), FH_KEEP_CACHE, 0),
    ],
)
def test_an_open_file_is_answered_with_its_flags_and_backing_id(fh: int, flags: int, backing: int) -> None:
    assert struct.unpack("=QIi", open_reply(fh)) == (fh, flags, backing)


def test_statx() -> None:
    reply = requests.statx_reply(entry(stat.S_IFREG | 0o640), 5 * 10**9 + 6)
    assert len(reply) == 32 + 256
    assert struct.unpack_from("=QII", reply) == (86_400, 250_000_000, 0)
    assert struct.unpack_from("=IIQIIIHxxQQQQ", reply, 32) == (
        0xFFF, 4096, 0, 2, 10, 11, stat.S_IFREG | 0o640, 700, 12, 8, 0,
    )  # fmt: skip
    times = [struct.unpack_from("=qI", reply, 32 + 64 + 16 * number) for number in range(4)]
    assert times == [(-1, 999_999_999), (5, 6), (3, 0), (10**9, 7)]
    assert struct.unpack_from("=IIII", reply, 32 + 128) == (0, 0, 0, 0)


def test_statx_without_birth_and_of_a_device() -> None:
    number = os.makedev(8, 300)
    reply = requests.statx_reply(entry(stat.S_IFBLK | 0o600, st_blocks=number, st_size=0), 0)
    mask, *_, blocks, attributes = struct.unpack_from("=IIQIIIHxxQQQQ", reply, 32)
    assert (mask, blocks, attributes) == (0x7FF, 0, 0)
    assert struct.unpack_from("=IIII", reply, 32 + 128) == (8, 300, 0, 0)
