"""B10: forged attributes, descriptors that lead to files, file handles, names that take another's place.

The thief has every right but reading and writing on /kept, and everything in /own; what lies in /kept is
the owner's, who can delete it because it owns it. To trusted attributes the kernel lets nobody but root;
so root is the thief, too.
"""

from __future__ import annotations

import ctypes
import os
from collections.abc import Callable
from pathlib import Path
from typing import Final

import pytest

from tests.support.machine.processes import call_as
from tests.support.models.twins import content, error, fd_of
from tests.support.mount.daemons import Mount
from tests.support.mount.stores import Mounts

THIEF, OWNER = 10010, 10011
POLICY = f"""\
apiVersion: policyfs/v1
kind: Policy
apps:
  thief: {{uid: [{THIEF}, 0]}}
  owner: {{uid: {OWNER}}}
rules:
  - {{id: thief, allow: [see, attr], who: {{app: thief}}, paths: "/kept/***"}}
  - {{id: own, allow: [all], who: {{app: any}}, paths: "/own/***"}}
  - {{id: look, allow: [see, read], who: {{app: owner}}, paths: "/kept/***"}}
  - {{id: new, allow: [create, write], who: {{app: owner}}, paths: "/kept/***"}}
  - {{id: mine, allow: [all], who: {{app: owner}}, paths: "/kept/**", when: {{owner: self}}}}
"""
XATTRS: Final = (
    "trusted.policyfs.owner", "user.policyfs.owner", "user.policyfs.", "security.capability",
    "security.selinux", "security.ima", "system.posix_acl_access", "system.posix_acl_default", "trusted.x",
)  # fmt: skip
_libc = ctypes.CDLL(None, use_errno=True)


def furnish(store: Path) -> Path:
    for name in ("own", "kept"):
        (store / name).mkdir()
        (store / name).chmod(0o777)
    (store / "kept/bare").write_text("nobody's")
    (store / "kept/bare").chmod(0o666)
    return store


def make_kept(mount: Mount) -> None:
    """The owner makes what it owns."""

    def make() -> None:
        with fd_of(mount / "kept/file", os.O_WRONLY | os.O_CREAT, 0o666) as fd:
            os.write(fd, b"the owner's words")

    if not (mount.store / "kept/file").exists():
        call_as(OWNER, make)


@pytest.fixture(scope="module")
def mount(module_mounts: Mounts, module_arena: Path) -> Mount:
    store = module_arena / "store"
    store.mkdir(mode=0o700)
    return module_mounts.start(POLICY, furnish(store))


def forged(path: str) -> dict[str, str]:
    """Tries to set, read and remove each attribute that could make a file somebody else's."""
    return {
        f"{call.__name__} {name}": error(call, path, name, *more)
        for name in XATTRS
        for call, more in ((os.setxattr, (b"thief",)), (os.getxattr, ()), (os.removexattr, ()))
    }


def test_no_attribute_makes_a_file_somebody_elses(mount: Mount) -> None:
    """Attack B10.6: Forge `trusted.*`, `security.*`, `user.policyfs.*` attributes
    Guard: policyfs/fs/namespace/xattr.py::ExtendedAttributes._decided,
    policyfs/fs/namespace/xattr.py::ExtendedAttributes.getxattr
    Also: tests/mount/test_ops_attrs.py::test_xattrs_outside_user_are_neither_shown_nor_set
    Without: ::test_the_owner_loses_it_where_attributes_are_let_through
    """
    make_kept(mount)
    kept = mount.store / "kept/file"
    before = {name: os.getxattr(kept, name) for name in os.listxattr(kept)}
    assert "trusted.policyfs.owner" in before
    for uid, name in ((THIEF, "kept/file"), (0, "kept/file"), (THIEF, "kept/bare"), (0, "kept/bare")):
        said = call_as(uid, forged, str(mount / name))
        refused = {call: answer for call, answer in said.items() if "posix_acl" not in call}
        assert set(refused.values()) <= {"EPERM", "EACCES", "ENODATA", "ENOTSUP", "EINVAL"}, (uid, refused)
    assert {name: os.getxattr(kept, name) for name in os.listxattr(kept)} == before
    assert call_as(THIEF, lambda: error(content, str(mount / "kept/file"))) == "EACCES"
    assert call_as(OWNER, content, str(mount / "kept/file")) == b"the owner's words"
    # The owner can do with it what it could: it still is the owner.
    assert call_as(OWNER, lambda: error(os.unlink, mount / "kept/file")) == "None"


def test_the_owner_loses_it_where_attributes_are_let_through(without, empty_store: Path) -> None:
    mount = without("any-xattr", POLICY, furnish(empty_store))
    make_kept(mount)
    said = call_as(0, forged, str(mount / "kept/file"))
    assert said["removexattr trusted.policyfs.owner"] == "None"
    assert call_as(OWNER, lambda: error(os.unlink, mount / "kept/file")) == "EACCES"


def _code(result: int) -> str:
    return "None" if result >= 0 else error(_raise)


def _raise() -> None:
    raise OSError(ctypes.get_errno(), "")


def _fallocate(fd: int, mode: int) -> str:
    return _code(_libc.fallocate(fd, mode, ctypes.c_int64(0), ctypes.c_int64(8)))


def _tamper(path: str) -> dict[str, str]:
    """Every way to change a file that one may see, and give attributes to, but neither read nor write."""
    said = {
        "open to write": error(os.open, path, os.O_WRONLY),
        "open to read": error(os.open, path, os.O_RDONLY),
        "empty by open": error(os.open, path, os.O_RDONLY | os.O_TRUNC),
        "truncate": error(os.truncate, path, 0),
        "append": error(os.open, path, os.O_WRONLY | os.O_APPEND),
        "direct": error(os.open, path, os.O_RDWR | os.O_DIRECT),
    }
    os.chmod(path, 0o777)  # it may, and has nothing of it
    os.utime(path)
    said["after chmod"] = error(os.open, path, os.O_RDWR)
    said["chown"] = error(os.chown, path, THIEF, -1)
    with fd_of(path, os.O_PATH) as fd:
        said["by /proc"] = error(os.open, f"/proc/self/fd/{fd}", os.O_RDWR)
        said["truncate by /proc"] = error(os.truncate, f"/proc/self/fd/{fd}", 0)
        said["ftruncate"] = error(os.ftruncate, fd, 0)
        said["punch"] = _fallocate(fd, 3)
        said["link"] = error(os.link, f"/proc/self/fd/{fd}", os.path.dirname(path) + "/../own/linked")
        said["unlink"] = error(os.unlink, path)
    return said


def test_what_one_may_not_write_stays_as_it_is(mount: Mount) -> None:
    """Attack B10.8: Change a file that the app may only see: truncate by path and by descriptor, grant
    oneself access by chmod, use `/proc/self/fd`, replace the file
    Guard: policyfs/fs/access/gate.py::Gate.require
    Also: ::test_nothing_takes_the_place_of_what_one_may_not_write,
    tests/mount/test_ops_policy.py::test_a_refused_call_changes_nothing
    Without: ::test_it_is_emptied_where_nobody_is_refused
    """
    make_kept(mount)
    said = call_as(THIEF, _tamper, str(mount / "kept/file"))
    assert said.pop("chown") == "EPERM"
    assert {said.pop(name) for name in ("ftruncate", "punch")} <= {"EBADF", "EINVAL", "ENOTSUP"}
    assert set(said.values()) <= {"EACCES", "EXDEV", "ENOENT"}, said
    assert (mount.store / "kept/file").read_bytes() == b"the owner's words"
    assert not (mount.store / "own/linked").exists()
    assert call_as(OWNER, content, str(mount / "kept/file")) == b"the owner's words"


class _Handle(ctypes.Structure):
    _fields_ = [("size", ctypes.c_uint), ("kind", ctypes.c_int), ("data", ctypes.c_ubyte * 128)]


def _by_handle(mount: str, where: str, of: str) -> dict[str, str]:
    """A handle of a file, opened against the mount: one that the mount gave, and one of the store's file."""
    handle, number = _Handle(size=128), ctypes.c_int()
    said = {}
    for name, path in (("of the mount", f"{mount}/{where}"), ("of the store", of)):
        handle.size = 128
        into = ctypes.byref(handle), ctypes.byref(number)
        given = _libc.name_to_handle_at(-100, os.fsencode(path), *into, 0)
        said[f"given {name}"] = _code(given)
        if given == 0:
            with fd_of(mount, os.O_RDONLY) as at:
                fd = _libc.open_by_handle_at(at, ctypes.byref(handle), os.O_RDONLY)
                said[f"opened {name}"] = repr(os.pread(fd, 9, 0)) if fd >= 0 else _code(fd)
    return said


def test_no_handle_opens_what_a_name_does_not(mount: Mount) -> None:
    """File handles need CAP_DAC_READ_SEARCH; and who has that is a stranger here all the same.

    Attack B10.9: Open a file by a file handle (open_by_handle_at), without the directories above it
    Guard: policyfs/kernel/session.py::attach (no handles are given), and then the kernel
    (CAP_DAC_READ_SEARCH) and policyfs/fs/access/gate.py::Gate.require
    Also: tests/mount/test_ops_unsupported.py::test_file_handles
    Without: ::test_a_handle_is_given_where_the_kernel_is_not_told_to_give_none
    """
    make_kept(mount)
    store = str(mount.store / "kept/file")
    for uid in (THIEF, 0):
        said = call_as(uid, _by_handle, str(mount.mountpoint), "kept/file", store)
        assert not any("owner" in answer for answer in said.values()), said
        assert said["given of the mount"] == "ENOTSUP"
        opened = {answer for name, answer in said.items() if name.startswith("opened")}
        assert opened <= {"EPERM", "ESTALE", "ENOENT", "EACCES", "ENOTSUP"}, said


def test_a_handle_is_given_where_the_kernel_is_not_told_to_give_none(without, empty_store: Path) -> None:
    """And what is opened by it is decided as if it had been opened by its name."""
    mount = without("handles-given", POLICY, furnish(empty_store))
    make_kept(mount)
    said = call_as(0, _by_handle, str(mount.mountpoint), "kept/file", str(mount.store / "kept/file"))
    assert said["given of the mount"] == "None"
    assert said["opened of the mount"] == "EACCES"


def test_it_is_emptied_where_nobody_is_refused(without, empty_store: Path) -> None:
    mount = without("nobody-refused,handles-undecided", POLICY, furnish(empty_store))
    make_kept(mount)
    call_as(THIEF, lambda: os.truncate(mount / "kept/file", 0))
    assert (empty_store / "kept/file").read_bytes() == b""


WAYS_IN: Final[dict[str, Callable[[str], object]]] = {
    "create": lambda m: os.open(m + "/kept/file", os.O_WRONLY | os.O_CREAT | os.O_EXCL),
    "onto": lambda m: os.rename(m + "/own/mine", m + "/kept/file"),
    "link": lambda m: os.link(m + "/own/mine", m + "/kept/other"),
    "mkdir": lambda m: os.mkdir(m + "/kept/file"),
    "symlink": lambda m: os.symlink("x", m + "/kept/other"),
}


def test_nothing_takes_the_place_of_what_one_may_not_write(mount: Mount) -> None:
    make_kept(mount)
    call_as(THIEF, lambda: (mount / "own/mine").write_text("the thief's"))
    said = call_as(THIEF, lambda: {w: error(call, str(mount.mountpoint)) for w, call in WAYS_IN.items()})
    assert set(said.values()) <= {"EEXIST", "EACCES"}, said
    assert (mount.store / "kept/file").read_bytes() == b"the owner's words"
    assert sorted(os.listdir(mount.store / "kept")) == ["bare", "file"]
