"""Upgrades of a mount in use: the daemon is followed by one that a command starts, and no call fails."""

from __future__ import annotations

import fcntl
import mmap
import os
import shutil
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from tests.mount.test_takeover import (
    POLICY,
    SONGS,
    client,
    filled,  # noqa: F401
    records,
)
from tests.mount.test_takeover_writes import (
    APP,
    LONGEST_S,
    OF_APP,
    changing,
    work,  # noqa: F401
)
from tests.mount.test_takeover_writes import POLICY as WRITES
from tests.support.machine.counts import SOAK, count, first
from tests.support.machine.documents import CHECKOUT
from tests.support.machine.processes import call_as, code_of, start_as, wait_for
from tests.support.mount.daemons import Mount

PAUSE_S = 30.0
VERSION = "VERSION: Final = 6\n"
BEFORE = ("fs/saved/state_memory.py", VERSION, VERSION.replace("6", "5"))
"""Code that saves the state in the layout before."""
DIES = "import os, signal; os.kill(os.getpid(), signal.SIGKILL)"
ORPHAN = "import os, time; os.kill(os.getppid(), 9); time.sleep(0.5); "
"""The candidate's keeper is killed."""


def start_follower(mount: Mount, *options: str) -> int:
    """Start a daemon that is to follow the mount's. Return its exit code, or 0 once it serves."""
    before, old, given = mount.status(), mount.process, mount.options
    assert old is not None
    mount.options = (*given, *options, "--follow")
    new = mount.launch()
    mount.options = given

    def is_over() -> bool:
        if new.poll() is not None:
            return True
        try:
            return bool(mount.status()["takeover"]["upgrades"] > before["takeover"]["upgrades"])
        except AssertionError:
            return False

    wait_for(is_over, "the next daemon", PAUSE_S)
    if code := new.poll():
        mount.process = old
        return int(code)
    assert old.wait(PAUSE_S) == 0
    return 0


def follow(mount: Mount, *options: str) -> None:
    """Start a daemon that follows the mount's. The mount is then that of the new process."""
    assert start_follower(mount, *options) == 0, mount.log.read_text()


class Copies:
    """Copies of the code, in which a word is another one."""

    def __init__(self, place: Path) -> None:
        self._place = place

    def use(self, mount: Mount, *changes: tuple[str, str, str]) -> None:
        """Let the mount's next daemons run a new copy. changes: module, text, and the text in its place."""
        copy = self._place / f"code-{len(list(self._place.iterdir()))}"
        shutil.copytree(CHECKOUT / "policyfs", copy / "policyfs")
        for module, before, after in changes:
            path = copy / "policyfs" / module
            text = path.read_text()
            assert text.count(before) == 1
            path.write_text(text.replace(before, after))
        mount.wrapper = ("env", f"--chdir={copy}")
        mount.executed = True

    def running(self) -> list[str]:
        """The processes that run a copy."""
        found = []
        for entry in Path("/proc").glob("[0-9]*"):
            with suppress(OSError):
                if str(self._place) in os.readlink(entry / "cwd"):
                    found.append(entry.name)
        return found


@pytest.fixture
def copies(arena: Path) -> Iterator[Copies]:
    place = arena / "copies"
    place.mkdir()
    yield Copies(place)
    shutil.rmtree(place)


def test_no_call_fails_in_upgrades(mounts, filled: Path) -> None:  # noqa: F811
    mount = mounts.prepare(POLICY, filled, "--app", "viewer", "--read-only").start()
    upgrades, pauses = count(3, 100), []
    with client(mount) as found:
        for _ in range(upgrades):
            follow(mount)
            pauses.append(mount.status()["takeover"]["pause_ms"])
    print(f"pauses {sorted(pauses)} ms")
    failed, calls, _, names, distinct = found
    assert failed == []
    assert isinstance(calls, int) and calls > 0
    assert (names, distinct) == (SONGS + 2, SONGS + 2)
    takeover = mount.status()["takeover"]
    assert (takeover["count"], takeover["upgrades"], takeover["reason"]) == (upgrades, upgrades, "upgrade")
    wait_for(lambda: mount.status()["handles"]["open"] == 0, "all handles are released")


@pytest.mark.timeout(900 if SOAK else 120)
@pytest.mark.parametrize("options", [OF_APP, ()], ids=["app", "shared"])
def test_each_change_is_made_once_in_upgrades(mounts, work: Path, options: tuple[str, ...]) -> None:  # noqa: F811
    mount = mounts.start(WRITES, work, "--keeper", *options)
    upgrades = count(2, 40)
    with changing(mount / "Work") as told:
        for _ in range(upgrades):
            follow(mount)
    for failed, calls, longest, differences in told:
        assert (failed, differences) == ([], [])
        assert calls > 20
        assert longest < LONGEST_S
    status = mount.status()
    assert (status["takeover"]["unknown"], status["bugs"]) == (0, 0)


def test_positions_locks_and_mappings_go_on_in_other_code(mounts, work: Path, copies: Copies) -> None:  # noqa: F811
    mount = mounts.prepare(WRITES, work, *OF_APP, "--keeper")
    copies.use(mount, BEFORE)
    mount.start()
    path = mount.mountpoint / "Work/0/file"

    def app(channel) -> None:
        with open(path, "w+b", buffering=0) as file:
            file.write(b"x" * 4096)
            file.seek(7)
            mapped = mmap.mmap(file.fileno(), 4096)
            fcntl.lockf(file, fcntl.LOCK_EX)
            channel.send("ready")
            channel.recv()
            file.write(b"written")
            mapped[20] = ord("m")
            mapped.flush()
            channel.send((file.tell(), mapped[7:14]))
            channel.recv()

    child = start_as(APP, app)
    assert child.receive() == "ready"
    code = mount.status()["code"]
    copies.use(mount)
    follow(mount)
    status = mount.status()
    assert status["code"] != code
    assert call_as(APP, code_of, _lock, path) in {"EAGAIN", "EACCES"}
    child.send("go on")
    assert child.receive() == (14, b"written")
    assert records(mount, "mount")[-1]["upgraded_from"] == code
    assert records(mount, "resume")[-1]["upgrades"] is True
    assert not status["trail"]["last_end"], "the daemon before has not crashed"

    copies.use(mount, BEFORE)
    assert start_follower(mount) == 1
    assert "the running daemon saves its state in layout 6, and this code continues" in mount.log.read_text()
    assert mount.status()["pid"] == status["pid"]
    child.send("end")
    child.result()
    assert (work / "Work/0/file").read_bytes()[7:21] == b"written" + b"x" * 6 + b"m"


def _lock(path: Path) -> None:
    with path.open("r+b") as file:
        fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)


ASKS = "self._ask(state.keeper)"
UPGRADE, DAEMON = "daemon/keeper/upgrade.py", "daemon/daemon.py"
BROKEN = {
    "no keeper when it asks": (UPGRADE, ASKS, ORPHAN + ASKS),
    "after it got the state": (UPGRADE, "os.close(self._pidfd)", DIES),
    "right before its first request": (DAEMON, "self._mountpoint.has_begun = True", DIES),
    "before it asks": (UPGRADE, ASKS, DIES),
    "in its build": (DAEMON, "self._reload = Reload(", "1 / 0; self._reload = Reload("),
    "of other features": (DAEMON, "if known and answer", "if True or answer"),
    "no keeper before it asks": (UPGRADE, "        _check_keeper(state)\n        try:",
                                 f"        {ORPHAN}_check_keeper(state)\n        try:"),
    "no keeper before its first request": (DAEMON, "known, answer =", ORPHAN + "known, answer ="),
}  # fmt: skip


@pytest.mark.parametrize("change", first(2, [(change,) for change in BROKEN.values()]), ids=BROKEN.keys())
def test_the_old_code_goes_on_if_the_candidate_ends(
    mounts,
    filled: Path,  # noqa: F811
    copies: Copies,
    change: tuple[str, str, str],
) -> None:
    mount = mounts.prepare(POLICY, filled, "--app", "viewer", "--read-only").start()
    code = mount.status()["code"]
    with client(mount) as found:
        copies.use(mount, change)
        assert start_follower(mount) != 0
        wait_for(lambda: not copies.running(), "the candidate's end", PAUSE_S)
        wait_for(lambda: _answers(mount), "the old code", PAUSE_S)
        mount.wrapper, mount.executed = (), False
        assert mount.status()["code"] == code
        mount.expected_log += ["Error", "Traceback", "main_task_outcome.error"]
        follow(mount)  # the next one can
    assert found[0] == []
    assert mount.status()["bugs"] == 0


def _answers(mount: Mount) -> bool:
    try:
        return bool(mount.status()["takeover"]["possible"])
    except AssertionError:
        return False


def test_a_changed_policy_waits_for_a_reload_and_options_for_a_new_mount(mounts, filled: Path) -> None:  # noqa: F811
    mount = mounts.prepare(POLICY, filled, "--app", "viewer", "--read-only").start()
    before, late = mount.status(), mount.mountpoint / "Music/0.txt"
    mount.policy.write_text(POLICY.replace('"/Music/**", ', ""))
    follow(mount, "--copy-max", "1M", "--nodes-max", "50000")
    status = mount.status()
    assert status["policy"]["digest"] == before["policy"]["digest"]
    assert call_as(APP, code_of, late.read_text) == ""
    assert status["copy_bytes"] == 1 << 20
    assert mount.reload().returncode == 0
    assert call_as(APP, code_of, late.read_text) == "ENOENT"

    mount.expected_log.append("policyfs: ")
    for broken in (POLICY + "nonsense: 1\n", POLICY.replace("viewer", "other")):
        mount.policy.write_text(broken)
        assert start_follower(mount) != 0
    mount.policy.write_text(POLICY)
    assert start_follower(mount, "--no-passthrough", "--posix") == 1
    assert "options that need a new mount differ: no_passthrough, posix" in mount.log.read_text()
    assert mount.status()["pid"] == status["pid"]


def test_a_mount_without_a_keeper_is_not_followed(mounts, work: Path) -> None:  # noqa: F811
    mount = mounts.start(WRITES, work, *OF_APP)
    given, mount.options = mount.options, (*mount.options, "--follow")
    old = mount.process
    assert mount.launch().wait(PAUSE_S) == 1
    mount.process, mount.options = old, given
    assert "cannot be followed: it has no keeper" in mount.log.read_text()
    assert mount.status()["takeover"] is None
