"""POSIX ACLs (acl(5)): who may, what new files inherit, what chmod and setfacl do to one another."""

from __future__ import annotations

import itertools
import os
import struct
from collections.abc import Iterator

from tests.posix.calls import access, create, gone, list_sorted, opened
from tests.posix.cases_attrs import thing
from tests.posix.cases_names import create_reading, mknod, things
from tests.posix.sides import ROOT, Case, User, case, do

ACCESS, DEFAULT = "system.posix_acl_access", "system.posix_acl_default"
OWNER = User(65534, 65534)
NAMED = User(70001, 70001)
OF_NAMED_GROUP = User(70002, 70003)
BY_SUPPLEMENT = User(70004, 70004, (70003, 65534))
MEMBER = User(70005, 65534)
OTHER = User(70006, 70006)
USERS = (ROOT, OWNER, NAMED, OF_NAMED_GROUP, BY_SUPPLEMENT, MEMBER, OTHER)

_TAGS = {"u": 1, "U": 2, "g": 4, "G": 8, "m": 16, "o": 32}


def acl(text: str) -> bytes:
    """An ACL from words such as `u7 U6:70001 g0 m7 o0`, in the form of its xattr."""
    entries = []
    for word in text.split():
        permission, _, who = word[1:].partition(":")
        entries.append((_TAGS[word[0]], int(permission), int(who or 0xFFFFFFFF)))
    return struct.pack("<I", 2) + b"".join(struct.pack("<HHI", *entry) for entry in entries)


ACLS = {
    "a named user may": "u6 U6:70001 g0 m6 o0",
    "a named user may not": "u6 U0:70001 g6 m6 o6",
    "the mask cuts": "u6 U7:70001 g7 G7:70003 m4 o0",
    "a named group may": "u6 g0 G6:70003 m6 o0",
    "a named group may not": "u6 g4 G0:70003 m6 o6",
    "nobody but others": "u0 U0:70001 g0 m0 o7",
    "no more than a mode": "u6 g4 o0",
}
BAD = {
    "nothing": b"", "short": b"\2\0\0\0\1", "version": struct.pack("<I", 9),
    "no mask": acl("u6 U6:1 g0 o0"), "twice": acl("u6 u6 g0 o0"), "no others": acl("u6 g0"),
}  # fmt: skip


def rights() -> Iterator[Case]:
    """Whom an ACL lets do what, to a file and in a directory."""
    for (name, text), user in itertools.product(ACLS.items(), USERS):
        yield case(
            f"file: {name}", thing("file"), do(ROOT, os.setxattr, "x", ACCESS, acl(text)),
            do(user, opened, "x", os.O_RDONLY), do(user, opened, "x", os.O_WRONLY),
            do(user, access, "x", os.R_OK), do(user, access, "x", os.W_OK), do(user, access, "x", os.X_OK),
            do(user, os.utime, "x"), do(user, os.truncate, "x", 3), do(user, os.getxattr, "x", ACCESS),
            do(user, os.listxattr, "x"), do(user, os.chmod, "x", 0o640), do(user, opened, "x", os.O_RDWR),
        )  # fmt: skip
        yield case(
            f"directory: {name}", things(("dir", "d"), ("file", "d/x"), ("dir", "d/s")),
            do(ROOT, os.setxattr, "d", ACCESS, acl(text.replace("6", "7"))), do(user, list_sorted, "d"),
            do(user, access, "d/x", os.F_OK), do(user, opened, "d/x", os.O_RDONLY),
            do(user, create, "d/new"), do(user, os.rename, "d/s", "d/t"), do(user, os.unlink, "d/x"),
        )  # fmt: skip


def inheritance() -> Iterator[Case]:
    """What is new below a directory with a default ACL."""
    defaults = (
        "u7 g5 o0",
        "u7 U7:70001 g5 m7 o0",
        "u6 U6:70001 g0 G4:70003 m6 o4",
        "u0 g0 o0",
        "u7 U5:1 g7 m0 o7",
    )
    for text, user in itertools.product(defaults, (ROOT, OWNER, BY_SUPPLEMENT)):
        steps = [do(ROOT, os.setxattr, "d", DEFAULT, acl(text))]
        for (mode, umask), call in itertools.product(
            ((0o666, 0o077), (0o777, 0o022), (0o640, 0), (0o4711, 0o777)), (create_reading, os.mkdir, mknod)
        ):
            steps += [
                do(user, call, "d/x", mode, umask=umask), do(ROOT, os.listxattr, "d/x"),
                do(ROOT, os.getxattr, "d/x", ACCESS), do(ROOT, os.getxattr, "d/x", DEFAULT),
                do(ROOT, gone, "d/x"),
            ]  # fmt: skip
        steps += [
            do(user, os.symlink, "t", "d/l"), do(user, os.mkdir, "d/s"),
            do(user, create_reading, "d/s/x", 0o666),
            do(ROOT, os.getxattr, "d/s/x", ACCESS), do(ROOT, os.removexattr, "d", DEFAULT),
            do(user, create_reading, "d/y", 0o666, umask=0o077),
        ]  # fmt: skip
        yield case(
            f"new where the default is {text}",
            do(ROOT, os.mkdir, "d"),
            do(ROOT, os.chmod, "d", 0o3777),
            *steps,
        )


def changes() -> Iterator[Case]:
    """setxattr and removexattr of ACLs, and chmod of what has one."""
    for user, kind in itertools.product(USERS, ("file", "dir")):
        yield case(
            f"ACLs of a {kind}", thing(kind, mode=0o2755),
            do(user, os.setxattr, "x", ACCESS, acl(ACLS["the mask cuts"])),
            do(user, os.chmod, "x", 0o2770), do(ROOT, os.getxattr, "x", ACCESS),
            do(user, os.setxattr, "x", DEFAULT, acl("u7 g5 o0")), do(ROOT, os.listxattr, "x"),
            do(user, os.setxattr, "x", ACCESS, acl("u7 g5 o1"), os.XATTR_CREATE), do(user, os.listxattr, "x"),
            do(user, os.setxattr, "x", ACCESS, acl("u7 g5 o1")), do(user, os.listxattr, "x"),
            do(user, os.removexattr, "x", ACCESS), do(user, os.removexattr, "x", DEFAULT),
            do(user, os.removexattr, "x", ACCESS), do(ROOT, os.chown, "x", 70001, 70003),
            *(do(user, os.setxattr, "x", ACCESS, value) for value in BAD.values()),
        )  # fmt: skip
    yield case(
        "ACLs of a symlink", thing("link"), do(OWNER, os.setxattr, "x", ACCESS, acl("u6 g0 o0")),
        do(ROOT, _set_on_link), do(ROOT, os.listxattr, "x"),
    )  # fmt: skip
    many = " ".join(f"U6:{70100 + number}" for number in range(60))
    yield case(
        "a long ACL", thing("file"), do(OWNER, os.setxattr, "x", ACCESS, acl(f"u6 {many} g0 m6 o0")),
        do(User(70131, 70131), opened, "x", os.O_RDWR), do(OTHER, opened, "x", os.O_RDONLY),
        do(OTHER, lambda: len(os.getxattr("x", ACCESS))),
    )  # fmt: skip


def _set_on_link() -> None:
    os.setxattr("x", ACCESS, acl("u6 g0 o0"), follow_symlinks=False)


def all_cases() -> list[Case]:
    """Every case of this table."""
    return [*rights(), *inheritance(), *changes()]
