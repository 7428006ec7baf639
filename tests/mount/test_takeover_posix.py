"""A mount with --posix whose daemon is killed: modes, ACLs and special files go on, as in the store."""

from __future__ import annotations

import contextlib
import os
import stat
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.mount.test_idmapped import OPTIONS as IDMAPPED
from tests.mount.test_idmapped import POLICY as BOX
from tests.mount.test_idmapped import USER, filled  # noqa: F401
from tests.mount.test_native_where_free import FIFO, through
from tests.mount.test_takeover import kill_daemon, let_live
from tests.mount.test_takeover_held import is_over
from tests.mount.test_takeover_writes import APP, OF_APP
from tests.posix.cases_acl import ACCESS, DEFAULT, acl
from tests.support.machine.processes import call_as, code_of, start_as, wait_for
from tests.support.machine.user_namespaces import call_inside, idmapped

POLICY = f"""\
apiVersion: policyfs/v1
kind: Policy
apps:
  editor: {{uid: {APP}}}
rules:
  - {{id: all, allow: [all], who: {{app: editor}}, paths: "/***"}}
"""
NAMED = acl(f"u6 U6:{APP} g0 m6 o0")


@pytest.fixture
def work(empty_store: Path) -> Path:
    empty_store.chmod(0o755)
    (empty_store / "Work").mkdir()
    os.chown(empty_store / "Work", APP, APP)
    return empty_store


@pytest.mark.parametrize("options", [OF_APP, ()], ids=["app", "shared"])
def test_what_modes_and_acls_say_goes_on(mounts, work: Path, options: tuple[str, ...]) -> None:
    mount = mounts.start(POLICY, work, "--keeper", "--posix", *options)
    stored, at = work / "Work", mount.mountpoint / "Work"
    for name in ("shut", "named", "open"):
        (stored / name).write_bytes(b"12345")
        (stored / name).chmod(0o600 if name != "open" else 0o644)
    os.setxattr(stored / "named", ACCESS, NAMED)

    def codes() -> list[str]:
        return [code_of((at / name).read_bytes) for name in ("shut", "named", "open")]

    def app(channel) -> None:
        with open(at / "named", "r+b", buffering=0) as file:
            channel.send((codes(), code_of((at / "open").write_bytes, b"")))
            channel.recv()
            file.write(b"after")
            channel.send((codes(), code_of((at / "open").write_bytes, b"")))
            channel.recv()
            channel.send((file.read(), file.write(b"on")))

    child, before = start_as(APP, app), (["EACCES", "", ""], "EACCES")
    assert child.receive() == before
    kill_daemon(mount)
    child.send("go on")
    assert child.receive() == before
    assert mount.status()["takeover"]["possible"] is True

    def closed_meanwhile() -> None:
        os.removexattr(stored / "named", ACCESS)
        (stored / "named").chmod(0o600)
        (stored / "open").chmod(0o600)

    kill_daemon(mount, closed_meanwhile)
    wait_for(lambda: call_as(APP, codes) == ["EACCES"] * 3, "the changes of the store are seen")
    child.send("end")
    assert child.receive() == (b"", 2)
    child.result()
    assert (stored / "named").read_bytes() == b"afteron"
    assert mount.status()["bugs"] == 0


MODES: dict[str, tuple[tuple[str, ...], Callable[[Path], object], int]] = {
    "mknod": (("make_special before", "make_special after"), lambda at: os.mknod(at, FIFO), FIFO),
    "suid": (("chmod_fd before", "chmod_fd after"), lambda at: at.chmod(0o6755), 0o6755),
    "chgrp": (("chown_fd before", "chown_fd after"), lambda at: os.chown(at, -1, APP), 0o750),
    "acl": (("set_acl before", "set_acl after"), lambda at: os.setxattr(at, ACCESS, NAMED), 0o660),
    "new": (("create_unnamed after",), lambda at: os.close(os.open(at, os.O_CREAT, 0o666)), 0o664),
}


@pytest.mark.parametrize("name", MODES)
def test_a_change_that_kills_the_daemon_is_made_once(mounts, work: Path, name: str) -> None:
    """`new` is below a directory with a default ACL, which umask(2) does not change."""
    steps, change, mode = MODES[name]
    mount = mounts.prepare(POLICY, work, "--keeper", "--posix", *OF_APP)
    mount.program = ("tests.support.mount.dying_checks",)
    mount.environment["POLICYFS_TEST_STEPS"] = ",".join(f"Tree.{step} 1" for step in steps)
    os.setxattr(work / "Work", DEFAULT, acl("u6 g6 o4"))
    mount.start()
    at = mount.mountpoint / "Work"
    for number, _ in enumerate(steps):
        path, stored = at / str(number), work / "Work" / str(number)
        if name in {"suid", "chgrp", "acl"}:
            stored.touch()
            os.chown(stored, APP, 0 if name == "chgrp" else APP)
            stored.chmod(0o2750 if name == "chgrp" else 0o600)
        let_live()
        assert call_as(APP, lambda: code_of(os.stat, at / "arm")) == "ENOENT"
        assert call_as(APP, code_of, change, path) == ""
        wait_for(lambda: is_over(mount, number + 1), "another daemon", 20)  # noqa: B023
        for found in (stored.lstat(), call_as(APP, os.lstat, path)):
            assert (found.st_mode & ~stat.S_IFREG, found.st_uid, found.st_gid) == (mode, APP, APP)
        if name == "mknod":
            assert call_as(APP, through, path) == b"hello"
    assert len(list((work / "Work").iterdir())) == len(steps)
    assert mount.status()["bugs"] == 0


def test_an_idmapped_mount_goes_on(mounts, filled: Path, arena: Path) -> None:  # noqa: F811
    mount = mounts.start(BOX, filled, "--keeper", *IDMAPPED)
    with contextlib.ExitStack() as stack:
        target = arena / "bound"
        target.mkdir()
        stack.enter_context(idmapped(mount.mountpoint, target))

        def writes(name: str) -> tuple[str, str]:
            return code_of((target / "Work" / name).write_text, name), code_of(
                (target / "Work/shut").write_text, "by another"
            )

        assert call_inside(writes, "one", uid=USER) == ("", "")
        kill_daemon(mount)
        assert call_inside(writes, "two", uid=USER) == ("", "")
        assert call_inside(writes, "three", uid=USER + 1) == ("EACCES", "EACCES")
        assert [(filled / "Work" / name).stat().st_uid for name in ("one", "two")] == [USER] * 2
    assert mount.status()["bugs"] == 0
