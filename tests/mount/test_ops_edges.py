"""At the edges: odd places, few descriptors, users that die, names of one file that the policy parts."""

from __future__ import annotations

import json
import os
import resource
import signal
from pathlib import Path

import pytest

from tests.support.machine.processes import call_as, start_as, wait_for
from tests.support.models.twins import content, error, fd_of
from tests.support.mount.daemons import Mount, policyfs
from tests.support.mount.stores import Mounts, wait_until_closed

ONE, TWO = 10010, 10011
POLICY = f"""\
apiVersion: policyfs/v1
kind: Policy
apps:
  one: {{uid: {ONE}}}
  two: {{uid: {TWO}}}
rules:
  - {{id: all, allow: [all], who: {{app: one}}, paths: "/***"}}
  - {{id: open, allow: [see, read, write, create], who: {{app: two}}, paths: "/open/**"}}
  - {{id: own, allow: [all], who: {{app: any}}, paths: ["/home/{{app}}/***", "/run/{{uid}}/***"]}}
"""


# ---------------------------------------------------------------- odd places


ODD = ("new\nline and space", "comma,and=equals", "back\\slash quo\"te'", "\udcff\udcfe raw ünï", "-o")


@pytest.mark.parametrize("name", ODD, ids=range(len(ODD)))
def test_stores_and_mountpoints_of_odd_names(mounts: Mounts, arena: Path, name: str) -> None:
    store, mountpoint = arena / f"store {name}", arena / name
    (store / "open").mkdir(parents=True)
    (store / "open/file").write_text("text\n")
    store.chmod(0o700)
    mountpoint.mkdir()
    prepared = mounts.prepare(POLICY, store)
    mount = Mount(store, mountpoint, prepared.policy, work=mounts.work)
    mounts.all.append(mount)
    mount.start()
    assert call_as(ONE, content, str(mount / "open/file")) == b"text\n"
    call_as(ONE, lambda: os.mkdir(mount / "open/new"))
    assert (store / "open/new").is_dir()
    status = mount.status()
    assert (status["mountpoint"], status["store"]) == (str(mountpoint), str(store))
    with mount.as_environment():
        status = json.loads(policyfs("status", "--json", mountpoint).stdout)
        said = policyfs("status", mountpoint)
        # 1 where it is not well, as under `make sanitize`, which goes without the filter of system calls.
        assert (said.returncode == bool(status["problems"]), said.stderr) == (True, "")
        (event,) = wait_for(lambda: mount.events(operation="mkdir"), "mkdir is on record")
        assert event["path"] == "/open/new"
        listed = policyfs("audit", "search", "--op", "mkdir", "--path", "/open/**")
        assert (listed.returncode, "/open/new" in listed.stdout) == (0, True)
        assert policyfs("reload", mountpoint).returncode == 0
        assert policyfs("umount", mountpoint).returncode == 0
    assert not mount.is_mounted()
    assert mount.process is not None
    mount.process.wait(10)


def test_paths_are_taken_from_where_the_command_is_given(mounts: Mounts, arena: Path) -> None:
    store = arena / "store"
    (store / "open").mkdir(parents=True)
    (arena / "link").symlink_to("store")
    mount = mounts.prepare(POLICY, store)
    here = os.getcwd()
    try:
        os.chdir(arena)
        mount.store, mount.policy = Path("link/../link"), Path(os.path.relpath(mount.policy))
        mount.start()
        relative = os.path.relpath(mount.mountpoint)
        with mount.as_environment():
            said = policyfs("status", "--json", f"./{relative}/")
            assert json.loads(said.stdout)["store"] == str(store)
            assert policyfs("reload", relative).returncode == 0
    finally:
        os.chdir(here)
    assert call_as(ONE, lambda: os.listdir(mount)) == ["open"]


# ---------------------------------------------------------------- few descriptors


def test_few_descriptors_are_an_error_for_a_while(mounts: Mounts, empty_store: Path) -> None:
    for number in range(300):
        (empty_store / f"f{number}").write_text(f"{number}")
    mount = mounts.start(POLICY, empty_store, "--no-passthrough")
    used = mount.descriptors()
    resource.prlimit(mount.pid, resource.RLIMIT_NOFILE, (used + 60, used + 60))

    def open_all() -> tuple[set[str], dict[int, bytes]]:
        held, said = {}, set()
        for number in range(300):
            try:
                held[number] = os.open(mount / f"f{number}", os.O_RDONLY)
            except OSError as full:  # a later open may succeed: the daemon gets descriptors back
                said.add(os.strerror(full.errno or 0))
        read = {number: os.pread(fd, 10, 0) for number, fd in held.items()}
        for fd in held.values():
            os.close(fd)
        return said, read

    said, read = call_as(ONE, open_all)
    assert 10 < len(read) < 300
    assert said == {"Too many open files"}
    assert read == {number: b"%d" % number for number in read}
    wait_until_closed(mount)
    assert call_as(ONE, content, str(mount / "f299")) == b"299"
    assert mount.status()["bugs"] == 0


def test_many_files_may_be_open(mounts: Mounts, empty_store: Path) -> None:
    """As many as a process may have, and the daemon is none the worse for it."""
    for number in range(900):
        (empty_store / f"f{number}").write_text(f"{number}")
    mount = mounts.start(POLICY, empty_store)

    def hold(channel) -> list[bytes]:
        held = [os.open(mount / f"f{number}", os.O_RDWR) for number in range(900)]
        channel.send("held")
        channel.recv()
        return [os.pread(fd, 10, 0) for fd in held[::100]]

    child = start_as(ONE, hold)
    child.receive()
    assert mount.status()["handles"]["files"] == 900
    child.send("read")
    assert child.result() == [b"%d" % number for number in range(0, 900, 100)]
    status = wait_for(
        lambda: s if (s := mount.status())["handles"]["open"] == 0 else None, "all are released"
    )
    assert status["lost_replies"] == 0


# ---------------------------------------------------------------- users that die


@pytest.mark.parametrize("options", [(), ("--no-passthrough",)], ids=["passthrough", "mediated"])
def test_users_killed_in_the_middle_leave_nothing(
    mounts: Mounts, empty_store: Path, options: tuple[str, ...]
) -> None:
    (empty_store / "big").write_bytes(os.urandom(8 << 20))
    mount = mounts.start(POLICY, empty_store, *options)

    def use(channel) -> None:
        channel.send("going")
        number = 0
        while True:
            number += 1
            with fd_of(mount / f"n{os.getpid()}", os.O_RDWR | os.O_CREAT) as fd:
                os.write(fd, b"x" * 100_000)
                content(str(mount / "big"))
                os.listdir(mount)
                os.rename(mount / f"n{os.getpid()}", mount / f"m{os.getpid()}")

    for round_ in range(6):
        children = [start_as(ONE, use) for _ in range(3)]
        for child in children:
            child.receive()
            os.kill(child.pid, signal.SIGSTOP if round_ % 2 else signal.SIGCONT)
        for child in children:
            child.kill()
    wait_until_closed(mount)
    assert mount.status()["bugs"] == 0
    assert call_as(ONE, content, str(mount / "big")) == (empty_store / "big").read_bytes()


def test_a_signal_interrupts_nothing_halfway(mounts: Mounts, empty_store: Path) -> None:
    """EINTR is for sleeps: calls on files return their whole result under a storm of signals."""
    mount = mounts.start(POLICY, empty_store, "--no-passthrough")

    def write_and_read() -> tuple[bool, int]:
        ticks = []
        signal.signal(signal.SIGALRM, lambda *_: ticks.append(1))
        signal.setitimer(signal.ITIMER_REAL, 0.0005, 0.0005)
        data = os.urandom(1 << 20)
        with fd_of(mount / "file", os.O_RDWR | os.O_CREAT) as fd:
            for _ in range(20):
                assert os.pwrite(fd, data, 0) == len(data)
                os.fsync(fd)
            back = content(str(mount / "file"))
        signal.setitimer(signal.ITIMER_REAL, 0)
        return back == data, len(ticks)

    whole, ticks = call_as(ONE, write_and_read)
    assert whole
    assert ticks > 10


# ---------------------------------------------------------------- names that the policy parts


def test_two_names_of_one_file_are_decided_each_by_itself(mounts: Mounts, empty_store: Path) -> None:
    for place in ("open", "closed"):
        (empty_store / place).mkdir()
    (empty_store / "open/file").write_text("text\n")
    os.link(empty_store / "open/file", empty_store / "closed/file")
    mount = mounts.start(POLICY, empty_store)
    for _ in range(3):
        assert call_as(ONE, content, str(mount / "closed/file")) == b"text\n"
        assert call_as(TWO, lambda: error(content, str(mount / "closed/file"))) == "ENOENT"
        assert call_as(TWO, content, str(mount / "open/file")) == b"text\n"
    assert call_as(TWO, lambda: os.stat(mount / "open/file").st_nlink) == 2

    def hold(channel) -> str:
        with fd_of(mount / "closed/file", os.O_RDONLY) as fd:
            channel.send(fd)
            channel.recv()
            return error(os.pread, fd, 10, 0)

    child = start_as(ONE, hold)
    fd = child.receive()
    assert call_as(TWO, lambda: error(os.open, f"/proc/{child.pid}/fd/{fd}", os.O_RDONLY)) in {
        "EACCES",
        "ENOENT",
    }
    # A name that goes leaves the other as it was, whichever it is.
    (empty_store / "closed/file").unlink()
    child.send("read")
    assert child.result() == "b'text\\n'"
    assert call_as(TWO, content, str(mount / "open/file")) == b"text\n"


def test_the_callers_own_name_and_number_in_paths(mounts: Mounts, empty_store: Path) -> None:
    for place in ("home/one", "home/two", f"run/{ONE}", f"run/{TWO}"):
        (empty_store / place).mkdir(parents=True)
        (empty_store / place / "file").write_text(place)
    mount = mounts.start(POLICY, empty_store)
    assert call_as(TWO, lambda: [sorted(os.listdir(mount / place)) for place in ("", "home", "run")]) == [
        ["home", "run"], ["two"], [str(TWO)],
    ]  # fmt: skip
    assert (
        call_as(TWO, lambda: [error(os.stat, mount / "home/one"), error(os.stat, mount / f"run/{ONE}")])
        == ["ENOENT"] * 2
    )
    assert call_as(TWO, content, str(mount / f"run/{TWO}/file")) == f"run/{TWO}".encode()
    assert call_as(TWO, lambda: error(os.mkdir, mount / "home/two/new")) == "None"
    assert call_as(10099, lambda: os.listdir(mount)) == []


def test_statfs_is_the_stores(mounts: Mounts, empty_store: Path) -> None:
    mount = mounts.start(POLICY, empty_store)
    ours, native = call_as(ONE, os.statvfs, mount.mountpoint), os.statvfs(empty_store)
    assert (ours.f_bsize, ours.f_frsize, ours.f_blocks, ours.f_files, ours.f_namemax) == (
        native.f_bsize, native.f_frsize, native.f_blocks, native.f_files, 255,
    )  # fmt: skip
    assert abs(ours.f_bavail - native.f_bavail) < native.f_blocks // 100
