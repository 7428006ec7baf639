"""A read-only app mount whose daemon is killed: another daemon takes over, and no call of an app fails."""

from __future__ import annotations

import fcntl
import json
import os
import signal
import statistics
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from policyfs.kernel.work import MOST_LATE_DEATHS
from tests.support.machine.counts import count
from tests.support.machine.processes import call_as, code_of, start_as, wait_for
from tests.support.mount.daemons import Mount
from tests.support.samples import jpegs
from tests.support.samples.jpegs import leaks

APP = 10110
POLICY = f"""\
apiVersion: policyfs/v1
kind: Policy
apps:
  viewer: {{uid: {APP}}}
rules:
  - {{id: viewer, allow: [see, read], who: {{app: viewer}}, paths: ["/Music/**", "/DCIM/**", "/late/**"]}}
  - {{id: no-location, require: {{redact: location}}, who: {{app: viewer}}, paths: "/DCIM/**"}}
"""
SONGS = 60
LATE = ("tests.support.mount.forgetting_late",)
BIG = 4 << 20
LIVED_S = 1.1
"""A daemon that lived longer has a successor, also if the one before did not (daemon/keeper/keeper.py)."""
PAUSE_S = 20.0
REST_S = count(50, 0) / 1000
"""A program's pause between two changes or rounds. In a take-over each program has a call that waits."""
READING = ("tests.support.mount.readers_on",)
"""A daemon whose bridge reads all requests, and answers repeats."""
SPARE = "policyfs-spare"


@pytest.fixture
def filled(empty_store: Path) -> Path:
    for name in ("Music", "Music/deep", "DCIM", "Private"):
        (empty_store / name).mkdir()
    for number in range(SONGS):
        (empty_store / f"Music/{number}.txt").write_text(f"song {number}\n")
    (empty_store / "Music/big").write_bytes(os.urandom(BIG))
    (empty_store / "DCIM/a.jpg").write_bytes(jpegs.photo_with(jpegs.exif()))
    (empty_store / "Private/diary.txt").write_text("dear\n")
    return empty_store


def kept(
    mounts, store: Path, *options: str, policy: str = POLICY, program: tuple[str, ...] = READING
) -> Mount:
    mount = mounts.prepare(policy, store, "--app", "viewer", "--read-only", *options)
    mount.program = program
    return mount.start()


def let_live() -> None:
    """Wait until a daemon that serves has lived long enough."""
    lived = time.monotonic() + LIVED_S
    wait_for(lambda: time.monotonic() > lived, "the daemon has lived long enough")


def kill_daemon(mount: Mount, just_before: Callable[[], object] = lambda: None) -> int:
    """Kill the daemon once it has lived long enough. Wait for the next one. Return the killed one's pid."""
    before = mount.status()
    let_live()
    just_before()
    os.kill(before["pid"], signal.SIGKILL)

    def follows() -> bool:
        try:
            return mount.status()["takeover"]["count"] == before["takeover"]["count"] + 1
        except AssertionError:
            return False

    wait_for(follows, "another daemon", PAUSE_S)
    return int(before["pid"])


def children_of(mount: Mount) -> list[tuple[int, str]]:
    """The keeper's children, with the names that ps shows."""
    assert mount.process is not None
    found, keeper = [], mount.process.pid
    for pid in Path(f"/proc/{keeper}/task/{keeper}/children").read_text().split():
        with suppress(FileNotFoundError, ProcessLookupError):
            found.append((int(pid), Path(f"/proc/{pid}/comm").read_text().strip()))
    return found


def records(mount: Mount, kind: str) -> list[dict[str, object]]:
    found = [json.loads(line) for line in mount.trail_lines()]
    return [one for one in found if one.get("type") == kind]


CLIENT = """
import json, mmap, os, sys, time
top, songs, big = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
os.chdir(f"{top}/Music/deep")
files = [open(f"{top}/Music/{n}.txt", "rb", buffering=0) for n in range(10)]
for file in files: assert file.read(5) == b"song "
whole = os.open(f"{top}/Music/big", os.O_RDONLY)
first = os.pread(whole, big, 0)
mapped = mmap.mmap(whole, big, prot=mmap.PROT_READ)
listing = os.scandir(f"{top}/Music"); some = [next(listing).name for _ in range(7)]
print("ready", flush=True)
failed, calls, worst = [], 0, 0.0
while not select_input():
    began = time.monotonic(); n = calls % songs
    for call in (
        lambda: os.stat(f"{top}/Music/{n}.txt").st_size == len(f"song {n}\\n") or 1/0,
        lambda: open(f"{top}/Music/{n}.txt").read() == f"song {n}\\n" or 1/0,
        lambda: [open(f"{top}/Music/{k}.txt").close() for k in range(20)],
        lambda: os.fstat(whole).st_size == big or 1/0,
        lambda: os.pread(whole, 4096, calls * 4096 % big) == first[calls * 4096 % big:][:4096] or 1/0,
        lambda: mapped[calls % big] == first[calls % big] or 1/0,
        lambda: os.stat("../0.txt"), os.getcwd,
        lambda: len(os.listdir(f"{top}/Music")) == songs + 2 or 1/0,
    ):
        try: call()
        except Exception as error: failed.append(repr(error))
    calls += 1; worst = max(worst, time.monotonic() - began)
for n, file in enumerate(files): assert file.read() == f"{n}\\n".encode(), n
names = some + [one.name for one in listing]
print(json.dumps([failed[:5], calls, worst, len(names), len(set(names))]), flush=True)
"""
INPUT = f"import select, sys\ndef select_input(): return select.select([sys.stdin], [], [], {REST_S})[0]\n"


@contextmanager
def client(mount: Mount) -> Iterator[list[object]]:
    """An app that makes calls of all kinds meanwhile; afterwards the list has its last words."""
    line = ["setpriv", f"--reuid={APP}", f"--regid={APP}", "--clear-groups", "/usr/bin/python3", "-c"]
    words = [*line, INPUT + CLIENT, str(mount.mountpoint), str(SONGS), str(BIG)]
    found: list[object] = []
    with subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            assert process.stdout.readline() == "ready\n"
            yield found
            out, _ = process.communicate("end\n", timeout=30)
            assert process.returncode == 0
            found += json.loads(out)
        finally:
            process.kill()


@pytest.mark.parametrize("options", [(), ("--no-passthrough",)], ids=["passthrough", "mediated"])
def test_no_call_fails_while_daemons_are_killed(mounts, filled: Path, options: tuple[str, ...]) -> None:
    """Fault daemon.2: The same in a mount with a keeper
    App: calls wait for another daemon ([70](decisions/0070-a-keeper.md))
    Store: each change, once
    Trail: as above; a record `mount` with `takeovers`; a denial (EIO) if nothing tells whether a change
    was made
    Also:
    tests/mount/test_takeover_writes.py::test_each_change_is_made_once_by_daemons_that_die_in_changes,
    tests/mount/test_takeover_calls.py::test_a_daemon_that_dies_at_any_call_has_made_a_change_once,
    tests/unit/test_fs_namespace_recovery.py::test_a_change_is_made_once_wherever_the_daemon_dies
    """
    kills = count(2, 60)
    mount = mounts.prepare(POLICY, filled, "--app", "viewer", "--read-only", *options)
    mount.program = READING
    mount.wrapper = ("setsid",) * (kills > 2)  # as a service: its session has a weight
    mount.start()
    pauses = []
    with client(mount) as found:
        for _ in range(kills):
            kill_daemon(mount)
            pauses.append(mount.status()["takeover"]["pause_ms"])
        if not options:
            wait_for(lambda: mount.status()["vectors"]["opens"], "repeats are answered without Python", 10)
        status = mount.status()
    failed, calls, worst, names, distinct = found
    median, p99 = statistics.median(pauses), sorted(pauses)[-1 - len(pauses) // 100]
    print(f"{kills} pauses: median {median}, p99 {p99}, worst {max(pauses)} ms; worst round {worst:.3f} s")
    assert failed == []
    assert isinstance(calls, int) and calls > kills
    assert (names, distinct) == (SONGS + 2, SONGS + 2)  # each once, in one listing over all take-overs
    assert status["takeover"]["count"] == kills
    assert status["takeover"]["possible"] is True
    assert status["bugs"] == 0
    wait_for(lambda: mount.status()["handles"]["open"] == 0, "all handles are released")


def test_what_the_bridge_has_opened_by_itself_goes_on(mounts, filled: Path) -> None:
    mount = kept(mounts, filled)
    song, music = mount.mountpoint / "Music/0.txt", mount.mountpoint / "Music"

    def app(channel) -> None:
        for _ in range(3):
            assert (song.read_text(), len(os.listdir(music))) == ("song 0\n", SONGS + 2)
        channel.send("warm")
        channel.recv()
        with open(song, "rb", buffering=0) as file:
            listed = os.open(music, os.O_RDONLY | os.O_DIRECTORY)
            channel.send("open")
            channel.recv()
            found = code_of(os.fstat, file.fileno()), file.read(), len(os.listdir(listed))
            os.close(listed)
        channel.send(found)

    def open_again() -> None:
        child.send("open")
        assert child.receive() == "open"

    child = start_as(APP, app)
    assert child.receive() == "warm"
    vectors = mount.status()["vectors"]
    assert vectors["opens"] > 0
    assert vectors["opendirs"] > 0
    kill_daemon(mount, open_again)  # no `status` in between: Python would take the handles over
    assert mount.status()["handles"]["open"] == 2
    child.send("go on")
    assert child.receive() == ("", b"song 0\n", SONGS + 2)
    child.result()
    wait_for(lambda: mount.status()["handles"]["open"] == 0, "all handles are released")
    assert mount.status()["bugs"] == 0


def test_the_trail_tells_of_the_take_over(mounts, filled: Path) -> None:
    mount = kept(mounts, filled)
    kill_daemon(mount)
    wait_for(lambda: len(records(mount, "mount")) == 2, "the record", 10)
    first, second = records(mount, "mount")
    assert "takeovers" not in first
    assert second["takeovers"] == 1
    assert second["policy"] == first["policy"]
    assert mount.notices("taken-over") == ["warning"]
    assert mount.process is not None
    assert mount.process.poll() is None


def test_what_is_hidden_stays_hidden_after_it(mounts, filled: Path) -> None:
    mount = kept(mounts, filled)
    diary, photo = mount.mountpoint / "Private/diary.txt", mount.mountpoint / "DCIM/a.jpg"
    for kills in (1, 0):
        with pytest.raises(FileNotFoundError):
            call_as(APP, diary.read_text)
        assert not leaks(call_as(APP, photo.read_bytes))
        for _ in range(kills):
            kill_daemon(mount)


def test_a_change_of_the_store_between_two_daemons_is_seen(mounts, filled: Path) -> None:
    mount = kept(mounts, filled)
    at = mount.mountpoint / "Music"
    assert call_as(APP, lambda: (len(os.listdir(at)), (at / "0.txt").read_text())) == (SONGS + 2, "song 0\n")
    assert call_as(APP, lambda: code_of(os.stat, at / "new.txt")) == "ENOENT"
    let_live()
    assert mount.process is not None
    os.kill(mount.process.pid, signal.SIGSTOP)  # the keeper
    try:
        os.kill(mount.status()["pid"], signal.SIGKILL)
        (filled / "Music/0.txt").write_text("another song\n")
        (filled / "Music/new.txt").write_text("new\n")
        (filled / "Music/1.txt").unlink()
    finally:
        os.kill(mount.process.pid, signal.SIGCONT)

    def seen() -> tuple[int, str, str, str]:
        found = (at / "new.txt").read_text() if (at / "new.txt").exists() else ""
        return len(os.listdir(at)), (at / "0.txt").read_text(), found, code_of(os.stat, at / "1.txt")

    wanted = (SONGS + 2, "another song\n", "new\n", "ENOENT")
    wait_for(lambda: call_as(APP, seen) == wanted, "the changes are seen", 10)


def test_the_policy_in_force_stays_in_force(mounts, filled: Path) -> None:
    mount = kept(mounts, filled)
    song = mount.mountpoint / "Music/0.txt"
    assert call_as(APP, song.read_text) == "song 0\n"
    mount.policy.write_text(POLICY.replace('"/Music/**", ', ""))
    assert mount.reload().returncode == 0
    mount.policy.write_text(POLICY)  # not loaded
    digest = mount.status()["policy"]["digest"]
    kill_daemon(mount)
    assert mount.status()["policy"]["digest"] == digest
    assert call_as(APP, lambda: code_of(song.read_text)) == "ENOENT"
    assert mount.reload().returncode == 0
    kill_daemon(mount)
    assert call_as(APP, song.read_text) == "song 0\n"


def ended(mount: Mount, reason: str) -> None:
    """The keeper tells why, and dies as the daemon did, and with it the connection. Take the mount away."""
    assert mount.process is not None
    assert mount.process.wait(20) == -signal.SIGKILL
    assert reason in mount.log.read_text().splitlines()[-1]
    assert call_as(APP, lambda: code_of(os.stat, mount.mountpoint / "Music/0.txt")) == "ENOTCONN"
    mount.force_away()
    mount.process = None


def test_locks_of_apps_go_on(mounts, filled: Path) -> None:
    mount = kept(mounts, filled)

    def app(channel) -> None:
        """Take locks, and answer what another process may have of them."""
        with open(mount.mountpoint / "Music/0.txt", "rb") as whole, open(
            mount.mountpoint / "Music/1.txt", "rb"
        ) as ranges:
            for order in iter(channel.recv, "end"):
                if order == "lock":
                    fcntl.flock(whole, fcntl.LOCK_EX)
                    fcntl.lockf(ranges, fcntl.LOCK_SH, 10, 5)
                elif order == "unlock":
                    fcntl.flock(whole, fcntl.LOCK_UN)
                channel.send((
                    code_of(fcntl.flock, whole, fcntl.LOCK_EX | fcntl.LOCK_NB) if order == "try" else "",
                    code_of(fcntl.lockf, ranges, fcntl.LOCK_SH | fcntl.LOCK_NB, 1, 7),
                ))  # fmt: skip

    def asked(child, order: str) -> object:
        child.send(order)
        return child.receive()

    first, second, patient = start_as(APP, app), start_as(APP, app), start_as(APP, app)
    assert asked(first, "lock") == ("", "")
    assert asked(second, "try") == ("EAGAIN", "")
    patient.send("lock")
    wait_for(lambda: mount.status()["locks"]["waiting"] == 1, "it waits")
    backing = open(filled / "Music/1.txt", "r+b")  # noqa: SIM115
    with backing:
        for last in (*[False] * (MOST_LATE_DEATHS - 1), True):
            assert mount.status()["takeover"]["possible"] is True
            kill_daemon(mount)
            assert asked(second, "try") == ("EAGAIN", "")
            with pytest.raises(BlockingIOError):
                fcntl.lockf(backing, fcntl.LOCK_EX | fcntl.LOCK_NB, 1, 12)
            if last:
                assert asked(first, "unlock") == ("", "")
                assert (patient.receive(), asked(patient, "unlock")) == (("", ""),) * 2
                assert asked(second, "try") == ("", "")
        for child in (first, second, patient):
            child.send("end")
            child.result()
        wait_for(lambda: mount.status()["locks"]["held"] == 0, "no locks")
        fcntl.lockf(backing, fcntl.LOCK_EX | fcntl.LOCK_NB)
    assert mount.status()["bugs"] == 0


def test_another_store_at_the_path_ends_the_mount(mounts, filled: Path) -> None:
    mount = kept(mounts, filled)
    mount.expected_log.append("is not the directory")
    let_live()
    filled.rename(filled.with_name("elsewhere"))
    filled.mkdir(mode=0o700)
    os.kill(mount.status()["pid"], signal.SIGKILL)
    assert mount.process is not None
    assert mount.process.wait(20) == 1
    assert call_as(APP, lambda: code_of(os.listdir, mount.mountpoint / "Music")) == "ENOTCONN"
    mount.force_away()
    mount.process = None


def test_five_short_lives_in_a_row_end_the_mount(mounts, filled: Path) -> None:
    mount = kept(mounts, filled)
    killed = 0
    assert mount.process is not None
    while killed < 6 and mount.process.poll() is None:
        for child, name in children_of(mount):
            if name != SPARE:
                os.kill(child, signal.SIGKILL)
                killed += 1
                wait_for(lambda gone=child: not Path(f"/proc/{gone}").exists(), "the daemon is gone")
    assert killed == 5
    ended(mount, "5 daemons in a row")


def test_without_a_spare_a_killed_daemon_ends_the_mount(mounts, filled: Path) -> None:
    mount = kept(mounts, filled)
    assert mount.status()["takeover"]["possible"] is True
    (spare,) = [pid for pid, name in children_of(mount) if name == SPARE]
    os.kill(spare, signal.SIGKILL)
    wait_for(lambda: not mount.status()["takeover"]["possible"], "the daemon tells it")
    os.kill(mount.status()["pid"], signal.SIGKILL)
    ended(mount, "the spare was killed")


def test_without_its_keeper_a_daemon_serves_on_until_it_is_killed(mounts, filled: Path) -> None:
    mount = kept(mounts, filled)
    daemon, at = mount.status()["pid"], mount.mountpoint / "Music"
    assert mount.process is not None
    os.kill(mount.process.pid, signal.SIGKILL)
    assert mount.process.wait(20) == -signal.SIGKILL
    try:
        wait_for(lambda: not mount.status()["takeover"]["possible"], "the daemon tells it")
        assert call_as(APP, lambda: code_of(os.stat, at / "0.txt")) == ""
    finally:
        os.kill(daemon, signal.SIGKILL)
    wait_for(lambda: call_as(APP, lambda: code_of(os.stat, at / "1.txt")) == "ENOTCONN", "its end", 10)
    mount.force_away()
    mount.process = None


@pytest.mark.parametrize("kernel", [None, "6.8", "6.12"])
def test_only_a_mount_that_can_be_taken_over_has_a_keeper(
    mounts, filled: Path, kernel: str | None
) -> None:
    """None: a mount with --no-keeper. Before Linux 6.9, unanswered requests would be lost."""
    mount = mounts.prepare(POLICY, filled, "--app", "viewer", *["--read-only"] * bool(kernel))
    mount.expected_mediated = kernel == "6.8"
    if kernel is not None:
        mount.program = ("tests.support.mount.older_kernel",)
        mount.environment["POLICYFS_TEST_KERNEL"] = kernel
    status = mount.start().status()
    assert (status["takeover"] is not None, status["pid"] != mount.pid) == (kernel == "6.12",) * 2


def test_nodes_that_are_not_read_yet_are_forgotten(mounts, filled: Path) -> None:
    for number in range(200):
        (filled / f"Music/link {number}").symlink_to("x")
    mount = kept(mounts, filled, program=LATE)
    call_as(APP, lambda: [os.lstat(mount / f"Music/link {number}") for number in range(200)])
    kill_daemon(mount)
    assert mount.status()["nodes"] > 200
    Path("/proc/sys/vm/drop_caches").write_text("2")
    wait_for(lambda: mount.status()["nodes"] < 10, "the links are forgotten")


def test_a_reload_takes_no_node_that_is_not_read_yet(mounts, filled: Path) -> None:
    mount = kept(mounts, filled, program=LATE)

    def holds(channel) -> None:
        fd = os.open(mount / "DCIM/a.jpg", os.O_PATH)
        channel.send("held")
        channel.recv()
        channel.send(code_of(os.fstat, fd))

    child = start_as(APP, holds)
    assert child.receive() == "held"
    kill_daemon(mount)
    mount.policy.write_text(POLICY.replace('"/Music/**", ', ""))  # for DCIM nothing changes
    assert mount.reload().returncode == 0
    child.send("look")
    assert child.receive() == ""
    child.result()
