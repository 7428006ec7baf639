"""Whatever a person gets wrong: a clear message, an exit code, and nothing changed."""

from __future__ import annotations

import contextlib
import ctypes
import importlib
import json
import os
import select
import shutil
import signal
import stat
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.support.machine.images import file_system
from tests.support.machine.namespace import enter_private_namespace, mount_entries
from tests.support.machine.processes import call_as, start_as, wait_for
from tests.support.models.twins import content, error, fd_of
from tests.support.mount.daemons import Mount, Said, policyfs
from tests.support.mount.stores import Mounts

UID = 10010
POLICY = f"""\
apiVersion: policyfs/v1
kind: Policy
metadata: {{name: plain}}
apps:
  app: {{uid: {UID}}}
  several: {{uid: [10020, 10021]}}
  nouid: {{}}
  groups: {{uid: 10019, gid: [100, 10019]}}
rules:
  - {{id: all, allow: [all], who: {{app: app}}, paths: "/***"}}
"""


class Ground:
    """A store, a mountpoint and a policy that are fine, to be spoiled one at a time."""

    def __init__(self, arena: Path) -> None:
        self.arena = arena
        self.store = arena / "store"
        self.mountpoint = arena / "mnt"
        self.policy = arena / "policy.yaml"
        self.trail = arena / "trail"
        (self.store / "dir").mkdir(parents=True)
        (self.store / "file").write_text("text\n")
        self.store.chmod(0o700)  # nothing to warn of
        self.mountpoint.mkdir()
        self.policy.write_text(POLICY)
        self.uid = 0
        self.environment = {
            "POLICYFS_RUNTIME_DIR": str(arena / "run"),
            "POLICYFS_TRAIL_DIR": str(self.trail),
            "POLICYFS_KEY_DIR": str(arena / "keys"),
        }
        # Imported once, here: a plain uid cannot read the checkout, and each child would do it again.
        policyfs("--version")
        importlib.import_module("policyfs.daemon.daemon")

    def run(self, *arguments: str | Path, prepare: Callable[[], object] = lambda: None) -> Said:
        """A command in a process of its own, which is ended after 20 s, after *prepare* in it."""

        def command() -> Said:
            prepare()
            os.environ.update(self.environment)
            signal.alarm(20)
            return policyfs(*arguments)

        return call_as(self.uid, command)

    def umount(self) -> Said:
        """`policyfs umount`, and the daemon's end. The command waits for daemons by their command lines, and
        one that is forked off the tests has that of the tests."""
        pidfd = os.pidfd_open(json.loads(self.run("status", "--json", self.mountpoint).stdout)["pid"])
        try:
            ended = self.run("umount", self.mountpoint)
            wait_for(lambda: select.select([pidfd], [], [], 0)[0], "the daemon has ended")
        finally:
            os.close(pidfd)
        return ended

    def mount(self, *options: str | Path, prepare: Callable[[], object] = lambda: None) -> Said:
        """What `policyfs mount` says; it must not succeed."""
        before = self.look()
        said = self.run(
            "mount", "--policy", self.policy, *options, self.store, self.mountpoint, prepare=prepare
        )
        assert self.look() == before, "something was changed"
        assert said.returncode != 0
        assert said.stdout == ""
        assert "Traceback" not in said.stderr
        assert said.stderr.startswith("policyfs: "), said.stderr
        return said

    def look(self) -> list[object]:
        """Everything that a refused mount might have changed."""
        tree = [
            (str(path), path.lstat().st_mode, path.lstat().st_mtime_ns, path.lstat().st_nlink)
            for path in sorted([self.store, *self.store.rglob("*")])
            if os.path.lexists(path)
        ]
        mounted = [(entry.mountpoint, entry.fstype) for entry in mount_entries()]
        sockets = sorted(Path(self.environment["POLICYFS_RUNTIME_DIR"]).glob("*"))
        return [tree, mounted, sockets]


@pytest.fixture
def ground(arena: Path) -> Ground:
    return Ground(arena)


# ---------------------------------------------------------------- the store


def test_a_store_that_is_missing(ground: Ground) -> None:
    shutil.rmtree(ground.store)
    said = ground.mount()
    assert said.returncode == 1
    assert f"the store {ground.store} does not exist" in said.stderr


def test_a_store_that_is_a_file(ground: Ground) -> None:
    shutil.rmtree(ground.store)
    ground.store.write_text("a file")
    said = ground.mount()
    assert said.returncode == 1
    assert f"the store {ground.store} is not a directory" in said.stderr


def test_a_store_inside_the_mountpoint(ground: Ground) -> None:
    inside = ground.mountpoint / "media"
    inside.mkdir()
    ground.store = inside
    said = ground.mount()
    assert said.returncode == 1
    assert "is inside the mountpoint" in said.stderr


def test_a_store_that_is_the_mountpoint(ground: Ground) -> None:
    ground.store = ground.mountpoint
    assert "is inside the mountpoint" in ground.mount().stderr


def test_a_store_around_the_mountpoint(ground: Ground) -> None:
    ground.mountpoint = ground.store / "dir"
    said = ground.mount()
    assert said.returncode == 1
    assert "is inside the store" in said.stderr


def test_symlinks_do_not_hide_where_things_are(ground: Ground) -> None:
    (ground.arena / "elsewhere").symlink_to(ground.store)
    ground.mountpoint = ground.arena / "elsewhere" / "dir"
    assert "is inside the store" in ground.mount().stderr


# ---------------------------------------------------------------- the mountpoint


def test_a_mountpoint_that_is_missing(ground: Ground) -> None:
    ground.mountpoint.rmdir()
    said = ground.mount()
    assert said.returncode == 1
    assert "does not exist; create it" in said.stderr
    ground.mountpoint = ground.arena / "no" / "such" / "place"
    assert "create the directory" in ground.mount().stderr


def test_a_mountpoint_that_is_a_file(ground: Ground) -> None:
    ground.mountpoint.rmdir()
    ground.mountpoint.write_text("a file")
    said = ground.mount()
    assert said.returncode == 1
    assert "is not a directory" in said.stderr
    assert ground.mountpoint.read_text() == "a file"


def test_a_mountpoint_that_is_not_empty(ground: Ground) -> None:
    (ground.mountpoint / "mine").write_text("precious")
    said = ground.mount()
    assert said.returncode == 1
    assert "is not empty, and the mount would hide its files; choose an empty directory" in said.stderr


def test_a_mountpoint_that_is_mounted_on_already(ground: Ground) -> None:
    subprocess.run(["mount", "-t", "tmpfs", "tmpfs", str(ground.mountpoint)], check=True, timeout=10)
    try:
        (ground.mountpoint / "in use").touch()
        said = ground.mount()
    finally:
        subprocess.run(["umount", str(ground.mountpoint)], check=True, timeout=10)
    assert said.returncode == 1
    assert str(ground.mountpoint) in said.stderr


def test_a_mountpoint_that_has_a_policyfs_mount(ground: Ground, mounts: Mounts) -> None:
    live = mounts.start(POLICY, ground.store)
    ground.mountpoint = live.mountpoint
    said = ground.mount()
    assert said.returncode == 1
    assert f"something is mounted on {live.mountpoint} already" in said.stderr
    assert call_as(UID, content, str(live / "file")) == b"text\n"


@pytest.fixture
def dead(ground: Ground, mounts: Mounts) -> Iterator[Mount]:
    """A mount whose daemon was killed."""
    mount = mounts.start(POLICY, ground.store)
    assert mount.process is not None
    os.kill(mount.pid, signal.SIGKILL)
    mount.process.wait(10)
    ground.mountpoint = mount.mountpoint
    ground.environment = mount.environment
    yield mount
    mount.force_away()
    mount.process = None
    mount.control_socket.unlink(missing_ok=True)


def test_a_dead_mount_in_the_way(ground: Ground, dead: Mount) -> None:
    with dead.as_environment():
        status = policyfs("status", dead.mountpoint)
        every = policyfs("status")
    assert status.returncode == 1
    assert f"`policyfs umount {dead.mountpoint}` removes this mount" in status.stderr
    assert f"{dead.mountpoint}: no daemon answers: the daemon has ended" in every.stderr
    cleared = ground.run("umount", dead.mountpoint)
    assert cleared.returncode == 0, cleared
    assert not dead.is_mounted()


def test_a_dead_mount_is_cleared_by_the_next_one(dead: Mount) -> None:
    dead.start()
    assert call_as(UID, content, str(dead / "file")) == b"text\n"
    assert len([entry for entry in mount_entries() if entry.mountpoint == str(dead.mountpoint)]) == 1
    assert dead.stop() == []


# ---------------------------------------------------------------- the policy


def _mount_with(ground: Ground, text: str) -> Said:
    ground.policy.write_text(text)
    return ground.mount()


def test_a_policy_that_is_missing(ground: Ground) -> None:
    ground.policy.unlink()
    said = ground.mount()
    assert said.returncode == 3
    assert f"cannot read the policy {ground.policy}: No such file or directory" in said.stderr


def test_a_policy_directory_without_policies(ground: Ground) -> None:
    ground.policy = ground.arena / "policies"
    ground.policy.mkdir()
    (ground.policy / "README.txt").write_text("nothing here")
    said = ground.mount()
    assert said.returncode == 3


@pytest.mark.parametrize("text", ["", "\n\n", "# only words\n", "---\n", "null\n", "[]\n"])
def test_a_policy_that_is_empty(ground: Ground, text: str) -> None:
    said = _mount_with(ground, text)
    assert said.returncode == 3
    assert str(ground.policy) in said.stderr


def test_a_policy_that_is_no_text(ground: Ground) -> None:
    ground.policy.write_bytes(b"\xff\xfe\x00" + os.urandom(500))
    said = ground.mount()
    assert said.returncode == 3


def test_a_policy_with_mistakes(ground: Ground) -> None:
    said = _mount_with(ground, POLICY.replace("allow: [all]", "alow: [al]").replace("uid: 10010", "uid: -3"))
    assert said.returncode == 3
    assert said.stderr.count(f"{ground.policy}:") >= 2  # every mistake at once, with its place
    assert "^" in said.stderr
    assert "help:" in said.stderr


def test_a_policy_that_names_an_unknown_app(ground: Ground) -> None:
    policy = POLICY.replace("who: {app: app}", "who: {app: nobody}")
    said = _mount_with(ground, policy)
    assert said.returncode == 3
    assert "nobody" in said.stderr
    line = policy[: policy.index("nobody")].count("\n") + 1
    assert f"{ground.policy}:{line}:" in said.stderr


# ---------------------------------------------------------------- options


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (["--app", "nobody"], "the policy has no app 'nobody'; its apps are app, groups, nouid, several"),
        (["--app", "several"], "has several uids"),
        (["--app", "nouid"], "has no uid"),
        (["--app", "app", "--uid", "7"], "uid 7 does not belong to the app app"),
        (["--any-uid"], "need --app"),
        (["--gid", "100"], "need --app"),
        (["--app", "app", "--any-uid", "--gid", "100"], "leave out --uid and --gid"),
        (["--app", "groups", "--gid", "7"], "group 7 does not belong to the app groups"),
        (["--uid", "10010"], "need --app"),
    ],
)
def test_options_that_cannot_be(ground: Ground, options: list[str], says: str) -> None:
    said = ground.mount(*options)
    assert said.returncode == 2
    assert says in said.stderr


@pytest.mark.parametrize(
    "arguments",
    [
        [], ["mount"], ["mount", "store"], ["mount", "--policy", "p"], ["mount", "--copy-max", "lots"],
        ["unmount"], ["mount", "--bogus"], ["umount"], ["reload"], ["policy"], ["policy", "check"], ["audit"],
        ["audit", "search", "-n", "0"], ["audit", "search", "--decision", "maybe"],
    ],
    ids=" ".join,
)  # fmt: skip
def test_command_lines_that_say_nothing(ground: Ground, arguments: list[str]) -> None:
    said = ground.run(*arguments)
    assert said.returncode == 2
    assert "usage: policyfs" in said.stderr


def test_times_that_are_none(ground: Ground) -> None:
    ground.trail.mkdir()
    said = ground.run("audit", "search", "--since", "the day before")
    assert said.returncode == 2
    assert "the day before" in said.stderr


# ---------------------------------------------------------------- the machine


def test_not_root(ground: Ground) -> None:
    ground.uid = UID
    os.chmod(ground.policy, 0o644)
    said = ground.mount()
    assert said.returncode == 1
    assert "mounting needs root" in said.stderr


def _hide_the_device() -> None:
    enter_private_namespace()
    kept = {name: os.stat(f"/dev/{name}") for name in ("null", "urandom", "zero")}
    subprocess.run(["mount", "-t", "tmpfs", "tmpfs", "/dev"], check=True, timeout=10)
    for name, status in kept.items():
        os.mknod(f"/dev/{name}", status.st_mode, status.st_rdev)
    os.mkdir("/dev/shm")
    os.symlink("/proc/self/fd", "/dev/fd")


def test_no_fuse_device(ground: Ground) -> None:
    said = ground.mount(prepare=_hide_the_device)
    assert said.returncode == 1
    assert "cannot open /dev/fuse" in said.stderr


def _refuse_the_device() -> None:
    _hide_the_device()
    os.mknod("/dev/fuse", stat.S_IFCHR | 0o666, os.makedev(10, 254))  # a device that nothing drives


def test_a_kernel_without_fuse(ground: Ground) -> None:
    said = ground.mount(prepare=_refuse_the_device)
    assert said.returncode == 1
    assert "modprobe fuse" in said.stderr


def test_root_without_its_rights(ground: Ground) -> None:
    def drop() -> None:
        libc = ctypes.CDLL(None, use_errno=True)
        header, data = (ctypes.c_uint32 * 2)(0x20080522, 0), (ctypes.c_uint32 * 6)()
        assert libc.capget(header, data) == 0
        for word in (0, 1):
            data[word] &= ~(1 << 21)  # CAP_SYS_ADMIN
        assert libc.capset(header, data) == 0

    said = ground.mount(prepare=drop)
    assert said.returncode == 1
    assert "root" in said.stderr or "CAP_SYS_ADMIN" in said.stderr


# ---------------------------------------------------------------- the trail


def test_a_trail_that_cannot_be_written(ground: Ground) -> None:
    ground.trail.write_text("a file in the way")
    said = ground.mount()
    assert said.returncode == 1
    assert str(ground.trail) in said.stderr
    said = ground.mount("--foreground")
    assert said.returncode == 1
    assert str(ground.trail) in said.stderr


def test_a_trail_on_a_read_only_disk(ground: Ground, arena: Path) -> None:
    disk = arena / "disk"
    disk.mkdir()
    with file_system("tmpfs", disk) as root:
        subprocess.run(["mount", "-o", "remount,ro", str(root)], check=True, timeout=10)
        said = ground.mount("--trail", root / "trail", "--log", arena / "log")
    assert said.returncode == 1
    assert "Read-only file system" in said.stderr


def test_a_trail_where_others_may_write(ground: Ground) -> None:
    ground.trail.mkdir()
    ground.trail.chmod(0o777)
    said = ground.mount()
    assert said.returncode == 1
    assert "write" in said.stderr
    ground.trail.chmod(0o700)
    words = ("mount", "--policy", ground.policy, ground.store, ground.mountpoint)
    assert ground.run(*words).returncode == 0
    ground.umount()
    for directory in ground.trail.iterdir():
        directory.chmod(0o777)
    said = ground.mount()
    assert said.returncode == 1
    assert "write" in said.stderr


# ---------------------------------------------------------------- a reload


def test_a_reload_with_a_broken_policy(ground: Ground, mounts: Mounts) -> None:
    mount = mounts.start(POLICY, ground.store)
    before = mount.status()["policy"]
    for broken in (
        "",
        "nonsense: [",
        POLICY.replace("id: all,", ""),
        POLICY.replace("who: {app: app}", "who: {app: x}"),
    ):
        mount.policy.write_text(broken)
        said = mount.reload()
        assert said.returncode == 3, said
        assert str(mount.policy) in said.stderr
        assert mount.status()["policy"] == before
        assert call_as(UID, content, str(mount / "file")) == b"text\n"
    mount.policy.unlink()
    assert mount.reload().returncode == 3
    assert mount.status()["policy"] == before
    mount.expected_log.append("old policy stays")


# ---------------------------------------------------------------- a store that is full, or read-only


def _write_until_full(path: Path) -> tuple[int, str]:
    done = 0
    with fd_of(path, os.O_WRONLY | os.O_CREAT) as fd:
        while done < 256 << 20:
            try:
                done += os.write(fd, b"\xff\xd8\xff\xe0" + b"x" * ((1 << 20) - 4))
            except OSError as full:
                return done, str(full.errno)
    return done, "never full"


FULL_ROADS = {
    "passthrough": ("", ()),
    "mediated": ("", ("--no-passthrough",)),
    "checked": ('  - {id: check, require: {content: "image/*"}}\n', ()),
}


@pytest.mark.parametrize("road", FULL_ROADS)
def test_a_full_store(mounts: Mounts, arena: Path, road: str) -> None:
    rules, options = FULL_ROADS[road]
    disk = arena / "disk"
    disk.mkdir()
    with file_system("tmpfs", disk) as root:
        store = root / "store"
        store.mkdir(mode=0o700)
        (store / "file").write_bytes(b"\xff\xd8\xff\xe0 kept")
        mount = mounts.start(POLICY + rules, store, *options)
        done, code = call_as(UID, _write_until_full, mount / "big")
        assert code == str(28)  # ENOSPC
        assert (store / "big").stat().st_size == done
        assert call_as(UID, content, str(mount / "file")) == b"\xff\xd8\xff\xe0 kept"

        def more() -> list[str]:
            return [
                error(lambda: _write(mount / "more", b"\xff\xd8\xff\xe0 more")),
                error(os.unlink, mount / "big"),
            ]

        said = call_as(UID, more)
        assert said[1] == "None"
        call_as(UID, lambda: _write(mount / "after", b"\xff\xd8\xff\xe0 after"))
        assert (store / "after").read_bytes() == b"\xff\xd8\xff\xe0 after"
        assert mount.status()["bugs"] == 0
        assert mount.stop() == []


def _write(path: Path, data: bytes) -> None:
    with fd_of(path, os.O_WRONLY | os.O_CREAT) as fd:
        os.write(fd, data)


def _no_more_inodes(root: Path) -> None:
    subprocess.run(["mount", "-o", "remount,nr_inodes=20", str(root)], check=True, timeout=10)


def test_a_store_without_room_for_names(mounts: Mounts, arena: Path) -> None:
    disk = arena / "disk"
    disk.mkdir()
    with file_system("tmpfs", disk) as root:
        store = root / "store"
        store.mkdir(mode=0o700)
        mount = mounts.start(POLICY, store)
        _no_more_inodes(root)

        def make() -> set[str]:
            return {error(os.mkdir, mount / f"d{number}") for number in range(40)} | {
                error(os.mknod, mount / "n"), error(os.symlink, "x", mount / "s"),
                error(lambda: _write(mount / "f", b"")),
            }  # fmt: skip

        assert call_as(UID, make) == {"None", "ENOSPC"}
        assert not any(path.is_file() or path.is_symlink() for path in store.iterdir())
        assert mount.stop() == []


def _try_to_change(mount: Mount) -> dict[str, str]:
    file, new = mount / "file", mount / "n"
    return {
        "write": error(os.open, file, os.O_WRONLY), "create": error(os.open, new, os.O_CREAT),
        "truncate": error(os.truncate, file, 0), "mkdir": error(os.mkdir, new),
        "unlink": error(os.unlink, file), "rmdir": error(os.rmdir, mount / "dir"),
        "rename": error(os.rename, file, new), "link": error(os.link, file, new),
        "symlink": error(os.symlink, "x", new), "chmod": error(os.chmod, file, 0),
        "utimens": error(os.utime, file), "setxattr": error(os.setxattr, file, "user.a", b""),
        "mknod": error(os.mknod, new), "chown": error(os.chown, file, UID, UID),
    }  # fmt: skip


@pytest.mark.parametrize("when", ["before", "meanwhile"])
def test_a_read_only_store(mounts: Mounts, arena: Path, when: str) -> None:
    disk = arena / "disk"
    disk.mkdir()
    with file_system("tmpfs", disk) as root:
        store = root / "store"
        (store / "dir").mkdir(parents=True)
        (store / "file").write_text("text\n")
        os.chown(store / "file", UID, UID)
        mount = mounts.prepare(POLICY, store)
        if when == "meanwhile":
            mount.start()
        subprocess.run(["mount", "-o", "remount,ro", str(root)], check=True, timeout=10)
        if when == "before":
            mount.start()
        answers = call_as(UID, _try_to_change, mount)
        assert answers == dict.fromkeys(answers, "EROFS")
        assert call_as(UID, content, str(mount / "file")) == b"text\n"
        assert call_as(UID, lambda: sorted(os.listdir(mount))) == ["dir", "file"]
        assert mount.status()["bugs"] == 0
        assert mount.stop() == []


def test_an_overlay_as_store_is_served_without_passthrough(mounts: Mounts, arena: Path) -> None:
    for name in ("lower", "upper", "scratch", "merged"):
        (arena / name).mkdir()
    (arena / "lower" / "file").write_text("text\n")
    layers = f"lowerdir={arena}/lower,upperdir={arena}/upper,workdir={arena}/scratch"
    subprocess.run(
        ["mount", "-t", "overlay", "overlay", "-o", layers, str(arena / "merged")], check=True, timeout=10
    )
    try:
        mount = mounts.start(POLICY, arena / "merged")
        assert call_as(UID, content, str(mount / "file")) == b"text\n"
        call_as(UID, lambda: _write(mount / "new", b"written"))
        assert (arena / "merged" / "new").read_bytes() == b"written"
        refused = mount.status()["passthrough"]["refused"]
        assert sum(refused.values()) >= 1, refused
        assert mount.stop() == []
    finally:
        subprocess.run(["umount", str(arena / "merged")], check=True, timeout=10)


def test_a_store_that_disappears_is_said_and_survived(mounts: Mounts, arena: Path) -> None:
    """Its directory is moved away and another comes: what was mounted stays what is shown."""
    store = arena / "store"
    store.mkdir()
    (store / "file").write_text("first\n")
    mount = mounts.start(POLICY, store)
    store.rename(arena / "moved")
    store.mkdir()
    (store / "file").write_text("second\n")
    assert call_as(UID, content, str(mount / "file")) == b"first\n"

    def hold(channel) -> bytes:
        with fd_of(mount / "file", os.O_RDONLY) as fd:
            channel.send("open")
            channel.recv()
            return os.pread(fd, 100, 0)

    reader = start_as(UID, hold)
    reader.receive()
    shutil.rmtree(arena / "moved")
    reader.send("go on")
    assert reader.result() == b"first\n"
    assert call_as(UID, lambda: error(os.stat, mount / "file")) in {"ENOENT", "ESTALE"}
    with contextlib.suppress(OSError):
        call_as(UID, lambda: os.listdir(mount))
    assert call_as(UID, lambda: error(os.mkdir, mount / "new")) == "ENOENT"
    assert mount.status()["bugs"] == 0


@pytest.mark.parametrize("closed", [False, True])
def test_a_store_that_others_reach_is_mounted_with_a_warning(ground: Ground, closed: bool) -> None:
    ground.store.chmod(0o700 if closed else 0o755)
    said = ground.run("mount", "--policy", ground.policy, ground.store, ground.mountpoint)
    try:
        assert (said.returncode, said.stdout) == (0, "")
        assert said.stderr.startswith("policyfs: warning: ") is not closed
        assert (f"chmod 700 {ground.store}" in said.stderr) is not closed
    finally:
        ended = ground.umount()
    assert ended.returncode == 0


def test_without_the_right_to_pass_through_bytes_go_the_other_way(ground: Ground) -> None:
    """Root of a container with a user namespace of its own: the kernel refuses backing files."""

    def in_a_container(channel) -> dict[str, object]:
        libc = ctypes.CDLL(None, use_errno=True)
        assert libc.unshare(0x10000000 | 0x20000) == 0  # CLONE_NEWUSER | CLONE_NEWNS
        channel.send("unshared")
        channel.recv()
        os.environ.update(ground.environment)
        mounting = policyfs("mount", "--policy", ground.policy, ground.store, ground.mountpoint)
        assert (mounting.returncode, mounting.stdout) == (0, ""), mounting
        try:
            answers = [call_as(UID, content, str(ground.mountpoint / "file"))]
            call_as(UID, _write, ground.mountpoint / "new", b"written")
            answers.append((ground.store / "new").read_bytes())
            status = policyfs("status", "--json", ground.mountpoint).stdout
            shown = policyfs("status", ground.mountpoint).stdout
        finally:
            ended = policyfs("umount", ground.mountpoint)
        return {"answers": answers, "status": json.loads(status), "shown": shown, "ended": ended}

    child = start_as(0, in_a_container)
    child.receive()
    for kind in ("uid", "gid"):
        Path(f"/proc/{child.pid}/{kind}_map").write_text("0 0 65536\n2100000000 2100000000 65536\n")
    child.send("mapped")
    got = child.result(60)
    wait_for(lambda: not Path(f"/proc/{got['status']['pid']}").exists(), "the daemon's end")
    assert got["answers"] == [b"text\n", b"written"]
    assert got["ended"] == Said(0, "", "")
    assert got["status"]["fuse"]["READ"] > 0
    assert got["status"]["backing_ids"] == 0
    assert "the daemon runs in the user namespace of a container" in got["shown"]
    assert got["status"]["bugs"] == 0
