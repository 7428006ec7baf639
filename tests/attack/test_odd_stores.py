"""B7: what a store may hold that is no plain file, programs with suid, and names in another case."""

from __future__ import annotations

import os
import shutil
import stat
import tempfile
from pathlib import Path
from typing import Final

import pytest

from tests.attack.guards_reaching import FOLDED
from tests.support.machine.processes import call_as, start_as
from tests.support.models.twins import content, error, fd_of
from tests.support.mount.daemons import Mount
from tests.support.mount.stores import Mounts

APP, OTHER = 10010, 10011
POLICY = f"""\
apiVersion: policyfs/v1
kind: Policy
apps:
  app: {{uid: {APP}}}
  other: {{uid: {OTHER}}}
rules:
  - {{id: all, allow: [all], who: {{app: any}}, paths: "/***"}}
  - {{id: private, deny: [all], who: {{app: app}}, paths: "/**/Private/***", errno: ENOENT}}
"""


# ---------------------------------------------------------------- names in any case


@pytest.fixture
def folding_store(store_on) -> Path:
    """A store with a directory that finds names in any case (see weakened.py, `folding`)."""
    store = store_on("ext4")
    for place in (FOLDED, "plain"):
        (store / place / "Private").mkdir(parents=True)
        (store / place / "Private" / "diary").write_text("secret")
        (store / place / "open").write_text("open to all")
    return store


def _words(path: Path) -> str:
    return error(content, str(path))


def test_a_directory_that_folds_is_closed(without, folding_store: Path) -> None:
    """Attack B7.3: Use a store, or a directory in it, that ignores the case of names
    Guard: policyfs/store/facts.py::StoreFacts.check, policyfs/fs/inodes/resolver.py::Resolver._step
    Also: tests/unit/test_store_facts.py
    Without: ::test_a_rule_is_walked_around_where_such_a_directory_is_open
    """
    mount = without("folding", POLICY, folding_store)
    for name in ("private/diary", "PRIVATE/diary", "Private/diary", "open", "OPEN"):
        assert call_as(APP, _words, mount / FOLDED / name) in {"EACCES", "ENOENT"}
    assert call_as(APP, lambda: error(os.listdir, mount / FOLDED)) == "EACCES"
    assert call_as(APP, lambda: error(os.mkdir, mount / FOLDED / "private")) == "EACCES"
    Path("/proc/sys/vm/drop_caches").write_text("2")  # the kernel forgets the directory, and finds it again
    assert call_as(OTHER, _words, mount / FOLDED / "Private/diary") == "EACCES"
    # The rest of the store is as it was, and who reads the daemon's log knows why.
    assert call_as(OTHER, _words, mount / "plain/Private/diary") == "b'secret'"
    assert call_as(APP, _words, mount / "plain/open") == "b'open to all'"
    assert call_as(APP, _words, mount / "plain/private/diary") == "ENOENT"
    assert mount.log.read_text().count("ignores the case of names") == 1


def test_a_rule_is_walked_around_where_such_a_directory_is_open(without, folding_store: Path) -> None:
    mount = without("folding,open-though-folding", POLICY, folding_store)
    assert call_as(APP, _words, mount / FOLDED / "Private/diary") == "ENOENT"
    assert call_as(APP, _words, mount / FOLDED / "private/diary") == "b'secret'"


# ---------------------------------------------------------------- suid and special files

CAPABILITY: Final = bytes.fromhex("0100000200200000000000000000000000000000")  # CAP_NET_RAW, effective


def furnish(store: Path) -> Path:
    for name in ("suid", "capable"):
        shutil.copy("/usr/bin/id", store / name)
    (store / "suid").chmod(0o4777)
    (store / "capable").chmod(0o777)
    os.setxattr(store / "capable", "security.capability", CAPABILITY)
    os.mkfifo(store / "fifo", 0o666)
    (store / "fifo").chmod(0o666)
    os.mknod(store / "device", stat.S_IFCHR | 0o666, os.makedev(1, 5))
    (store / "device").chmod(0o666)
    return store


def _runs_as(path: Path) -> bytes:
    """The effective uid of a program that prints it."""
    ours, theirs = os.pipe()
    pid = os.fork()
    if pid == 0:
        os.dup2(theirs, 1)
        os.execv(path, ["id", "-u"])
    os.close(theirs)
    said = os.read(ours, 100)
    os.waitpid(pid, 0)
    os.close(ours)
    return said.strip()


def _overwrite(channel, mount: Path, name: str) -> str:
    """A program of the app's own in the place of one with rights: written through a descriptor."""
    with fd_of(mount / name, os.O_WRONLY) as fd:
        os.pwrite(fd, b"#!/bin/sh\nid -u\n", 0)
        os.ftruncate(fd, 16)
        channel.send("written")
        channel.recv()
    return error(os.chmod, mount / name, 0o4777)


def rights(path: Path) -> tuple[int, list[str]]:
    return path.stat().st_mode & 0o6000, [n for n in os.listxattr(path) if n.startswith("security.cap")]


def overwritten(mount: Mount, store: Path, name: str) -> tuple[int, list[str]]:
    """What rights the program has while it is open for writing, with the app's words in it."""
    child = start_as(APP, _overwrite, mount.mountpoint, name)
    child.receive()
    found = rights(store / name)
    child.send("enough")
    child.result()
    return found


@pytest.fixture(scope="module", params=[(), ("--app", "app")], ids=["shared", "app"])
def odd(request, module_mounts: Mounts, module_arena: Path) -> Mount:
    store = Path(tempfile.mkdtemp(prefix="store-", dir=module_arena))  # another each time it is set up
    return module_mounts.start(POLICY, furnish(store), *request.param)


def test_a_program_with_rights_has_none_once_it_is_written(odd: Mount) -> None:
    """Attack B7.1: Overwrite a program that has suid or a capability, and run it
    Guard: policyfs/store/tree.py::Tree.clear_killpriv, policyfs/kernel/session.py::mount_device
    Also: tests/mount/test_ops_attrs.py::test_suid_and_sgid_are_never_set_and_go_when_a_file_is_written
    Without: ::test_rights_stay_and_pipes_are_shown_where_nobody_takes_care
    """
    assert call_as(APP, _runs_as, odd / "suid") == b"%d" % APP  # nosuid
    for name in ("suid", "capable"):
        assert overwritten(odd, odd.store, name) == (0, [])
        assert rights(odd.store / name) == (0, [])  # nor given again
    lines = [line.split() for line in Path("/proc/self/mountinfo").read_text().splitlines()]
    assert {"nosuid", "nodev"} <= set(next(w[5] for w in lines if w[4] == str(odd.mountpoint)).split(","))


def test_what_goes_round_the_daemon_is_not_there(odd: Mount) -> None:
    """Attack B7.2: Use fifos, sockets or devices that are in the store, or make them
    Guard: policyfs/fs/namespace/create.py::Creator.mknod, policyfs/fs/access/gate.py::Gate.shows
    Also: tests/mount/test_ops_names.py::test_what_would_go_round_the_daemon_is_not_there
    Without: ::test_rights_stay_and_pipes_are_shown_where_nobody_takes_care
    """
    for name in ("fifo", "device"):
        assert call_as(APP, lambda name=name: error(os.stat, odd / name)) == "ENOENT"
        assert call_as(APP, lambda name=name: error(os.open, odd / name, os.O_RDWR)) == "ENOENT"
    assert call_as(APP, lambda: sorted(os.listdir(odd))) == ["capable", "suid"]
    for kind in (stat.S_IFIFO, stat.S_IFSOCK, stat.S_IFCHR):
        assert call_as(APP, lambda kind=kind: error(os.mknod, odd / "new", kind | 0o666)) == "EPERM"
    assert not (odd.store / "new").exists()


def test_rights_stay_and_pipes_are_shown_where_nobody_takes_care(without, empty_store: Path) -> None:
    mount = without("rights-stay,specials-shown", POLICY, furnish(empty_store))
    assert overwritten(mount, empty_store, "suid")[0] == stat.S_ISUID
    assert call_as(APP, lambda: sorted(os.listdir(mount)))[:3] == ["capable", "device", "fifo"]
