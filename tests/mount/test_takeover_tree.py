"""A daemon is killed in a first scan, of whose files its bridge alone knew: no call fails."""

from __future__ import annotations

import os
import time
from multiprocessing.connection import Connection
from pathlib import Path

import pytest

from tests.mount.test_raw_changes import warm
from tests.mount.test_takeover import kill_daemon
from tests.support.machine.counts import count, first
from tests.support.machine.processes import call_as, start_as, wait_for
from tests.support.mount.daemons import Mount
from tests.support.mount.stores import Mounts

APP = 10113
POLICY = f"""\
apiVersion: policyfs/v1
kind: Policy
apps: {{one: {{uid: {APP}, gid: {APP}}}}}
defaults: {{audit: best_effort}}
rules:
  - {{id: all, allow: [all], who: {{app: one}}}}
  - {{id: shut, deny: [all], who: {{app: one}}, paths: "/*/secret", errno: ENOENT}}
"""
DIRECTORIES, FILES, HELD = count(20, 40), 40, 20
KILLS = count(2, 12)


@pytest.fixture
def store(empty_store: Path) -> Path:
    empty_store.chmod(0o777)
    for number in range(DIRECTORIES):
        directory = empty_store / f"{number}"
        directory.mkdir()
        directory.chmod(0o777)
        for name in (*map(str, range(FILES)), "secret"):
            (directory / name).write_text(f"{number}/{name}")
            (directory / name).chmod(0o666)
    return empty_store


def _scans(channel: Connection, top: str, pause_s: float) -> tuple[int, list[str]]:
    """Read all files, once, while some stay open. Return their number, and what went wrong."""
    os.chdir(f"{top}/0")
    held = {name: os.open(name, os.O_RDONLY) for name in sorted(os.listdir("."))[:HELD]}
    channel.send("begun")
    wrong: list[str] = []
    seen = 0

    def check(path: str, found: bytes) -> None:
        if found != path.encode():
            wrong.append(f"{path}: {found!r}")

    for number in range(DIRECTORIES):
        try:
            names = sorted(os.listdir(f"{top}/{number}"))
            for name in names:
                path = f"{number}/{name}"
                if os.stat(f"{top}/{path}").st_size != len(path):
                    wrong.append(f"{path}: another size")
                check(path, Path(f"{top}/{path}").read_bytes())
                seen += 1
            for name, fd in held.items():
                check(f"0/{name}", os.pread(fd, 99, 0))
        except OSError as error:
            wrong.append(str(error))
        time.sleep(pause_s)
    for fd in held.values():
        os.close(fd)
    return seen, wrong


def _holds(channel: Connection, directory: str) -> list[str]:
    """List a directory; open its files for the first time when told; look at them when told again."""
    sizes = {entry.name: entry.stat().st_size for entry in os.scandir(directory)}
    channel.send("listed")
    channel.recv()
    how = (os.O_RDONLY, os.O_PATH)
    held = [(name, os.open(f"{directory}/{name}", how[int(name) % 2])) for name in sizes]
    channel.send("open")
    channel.recv()
    wrong: list[str] = []
    for name, fd in held:
        path = f"/proc/self/fd/{fd}"  # no name that the kernel could look up again
        try:
            if os.listxattr(path) or os.stat(path).st_size != sizes[name]:
                wrong.append(f"{name}: another file")
            if not Path(path).read_text().endswith(f"/{name}"):
                wrong.append(f"{name}: other bytes")
            os.close(fd)
        except OSError as error:
            wrong.append(f"{name}: {error}")
    return wrong


@pytest.mark.parametrize("options", [("--read-only",), ("--keeper",)], ids=" ".join)
def test_the_next_daemon_knows_the_files_of_the_bridge(
    mounts: Mounts, store: Path, options: tuple[str, ...]
) -> None:
    mount = mounts.prepare(POLICY, store, *options, "--app", "one").start()
    child = start_as(APP, _holds, str(mount / "1"))
    assert child.receive() == "listed"

    def just_before() -> None:
        child.send("now")
        assert child.receive() == "open"

    kill_daemon(mount, just_before)
    child.send("now")
    assert child.result() == []
    assert mount.status()["bugs"] == 0
    wait_for(lambda: mount.status()["handles"]["open"] == 0, "all handles are released")
    _forgotten(mount)


@pytest.mark.parametrize(
    "options", first(1, [(("--keeper", "shared"),), (("--read-only",),), (("--keeper",),)]), ids=" ".join
)
def test_a_first_scan_goes_on(mounts: Mounts, store: Path, options: tuple[str, ...]) -> None:
    alone = () if "shared" in options else ("--app", "one")
    mount = mounts.prepare(POLICY, store, *(one for one in options if one != "shared"), *alone).start()
    child = start_as(APP, _scans, str(mount.mountpoint), KILLS * 2.5 / DIRECTORIES)
    assert child.receive() == "begun"
    answered = 0
    for _ in range(KILLS):
        answered += mount.status()["vectors"]["opens"]
        kill_daemon(mount)
        assert mount.status()["takeover"]["possible"] is True
    seen, wrong = child.result(60)
    assert wrong == []
    assert seen == DIRECTORIES * FILES
    assert answered + mount.status()["vectors"]["opens"] > seen // 2
    assert mount.status()["bugs"] == 0
    _forgotten(mount)


def _forgotten(mount: Mount) -> None:
    """Nodes of all daemons are given up, and their numbers are not used again."""
    Path("/proc/sys/vm/drop_caches").write_text("2")
    wait_for(lambda: mount.status()["nodes"] < DIRECTORIES, "the files are forgotten")
    assert call_as(APP, _reads_all, str(mount.mountpoint)) == DIRECTORIES * FILES


def _reads_all(top: str) -> int:
    paths = [f"{number}/{name}" for number in range(DIRECTORIES) for name in range(FILES)]
    return sum(Path(f"{top}/{path}").read_text() == path for path in paths)


def hold_over(channel: Connection, directory: str) -> None:
    warm(directory, "0")
    channel.recv()
    with Path(directory, "new").open("x+b", buffering=0) as file:
        file.write(b"before")
        channel.send(None)
        channel.recv()
        file.write(b" and after")
        os.fsync(file.fileno())
        assert os.pread(file.fileno(), 6, 0) == b"before"
        assert Path(directory, "new").read_bytes() == b"before and after"


@pytest.mark.parametrize(("is_taken", "deaths"), [(False, 1), (True, 1), (False, 2)])
def test_a_killed_daemon_takes_no_new_file_along(
    mounts: Mounts, store: Path, *, is_taken: bool, deaths: int
) -> None:
    mount = mounts.prepare(POLICY, store, "--app", "one", "--keeper").start()
    child = start_as(APP, hold_over, str(mount / "1"))

    def make() -> None:
        child.send(None)
        assert child.receive() is None
        if is_taken:
            assert mount.reload().returncode == 0
            assert mount.status()["vectors"]["handles"] == 0, "Python has the handle"

    kill_daemon(mount, make)
    for _ in range(1, deaths):
        kill_daemon(mount)
    child.send(None)
    child.result()
    assert (store / "1/new").read_bytes() == b"before and after"
    wait_for(lambda: mount.status()["handles"]["open"] == 0, "the file is closed", 10)
    (release,) = wait_for(lambda: mount.events(operation="release", path="/1/new"), "the release")
    assert release["size_after"] == 16
    assert mount.status()["takeover"]["unknown"] == mount.status()["bugs"] == 0
