"""`policyfs umount`: what it asks the daemon, for whom it waits, and what it tells of those that stay."""

from __future__ import annotations

import errno
import os
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from policyfs.cli import main
from policyfs.cli.main import build_parser
from policyfs.cli.mounts import umount
from policyfs.cli.mounts.umount import daemon_died
from policyfs.daemon.control import control
from policyfs.errors import EXIT_OK, EXIT_REFUSED, EXIT_USAGE, PolicyfsError
from policyfs.kernel import probe, session
from policyfs.kernel.probe import MountState
from policyfs.kernel.session import MountError
from policyfs.store.locking import holders
from policyfs.store.locking.holders import Holder
from tests.support.mount.control_sockets import ControlSocket

VI = Holder(7, 0, "vi", "cwd", b"/mnt", elsewhere=False)
WELL = {"failing": False}
FAILING = {"failing": True, "directory": "/trail", "last_error": "full", "refused": 3}


class World:
    """A mountpoint, what the kernel says of it, and its daemon's socket. Mounts are stood in for."""

    def __init__(self, place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.path = str(place / "mnt")
        Path(self.path).mkdir()
        self.state = MountState.ALIVE
        self.unmounts: list[tuple[bool, bool]] = []
        self.refuses: list[int] = []
        self.ends = True
        self.daemon: ControlSocket | None = None
        self.left: list[ControlSocket] = []
        monkeypatch.setenv("POLICYFS_RUNTIME_DIR", str(place / "run"))
        monkeypatch.setattr(probe, "mount_state", lambda _: self.state)
        monkeypatch.setattr(session, "unmount", self.unmount)
        monkeypatch.setattr(holders, "holders", lambda _: [VI])
        monkeypatch.setattr(holders, "holders_of", lambda device: [VI] if device == "0:42" else [])
        # The socket is this process's own, which does not end with it.
        monkeypatch.setattr(os, "pidfd_open", self.pidfd_open)

    def pidfd_open(self, pid: int) -> int:
        """A descriptor that is readable at once: of a process that has ended."""
        assert pid == os.getpid()
        reader, writer = os.pipe()
        os.close(writer)
        return reader

    def status(self, **more: Any) -> dict[str, Any]:
        return {"pid": 77, "leaving": False, "connection": 42, "trail": WELL} | more

    def serve(self, **status: Any) -> ControlSocket:
        answers: dict[str, Any] = {command: {} for command in ("ending", "staying", "abort")}
        path = Path(control.socket_path(self.path))
        self.daemon = ControlSocket(path, status=self.status(**status), **answers)
        return self.daemon

    def leave(self, **status: Any) -> ControlSocket:
        """A daemon that lives on without its mount."""
        path = Path(control.leaving_path(self.path, 77))
        made = ControlSocket(path, status=self.status(leaving=True, **status), abort={})
        self.left.append(made)
        return made

    def unmount(self, path: str, *, lazy: bool, force: bool) -> None:
        assert path == self.path
        self.unmounts.append((lazy, force))
        if self.refuses:
            raise MountError("cannot unmount", self.refuses.pop(0))
        if self.ends and self.daemon is not None:
            self.daemon.close()

    def close(self) -> None:
        for one in (*self.left, self.daemon):
            if one is not None:
                one.close()


@pytest.fixture
def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[World]:
    made = World(tmp_path, monkeypatch)
    yield made
    made.close()


def run(world: World, *words: str) -> int:
    return main.main(["umount", *words, world.path])


# -- the usual end -------------------------------------------------------------------------------------


def test_the_daemon_is_told_and_waited_for(world: World, capsys: pytest.CaptureFixture[str]) -> None:
    daemon = world.serve()
    assert run(world) == EXIT_OK
    assert world.unmounts == [(False, False)]
    assert daemon.commands == ["status", "status", "ending"]
    assert capsys.readouterr() == ("", "")


def test_a_daemon_whose_socket_gets_its_other_name_meanwhile_is_found(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Between the look for names and the connection it has neither the one nor the other."""
    daemon, (reader, writer), names = world.serve(), os.pipe(), umount._socket_paths
    world.ends = False

    def renamed_after(path: str) -> list[Path]:
        found = names(path)
        if world.unmounts and not world.left:
            daemon.close()
            world.leave()
        return found

    monkeypatch.setattr(umount, "_END_S", 2.0)
    monkeypatch.setattr(umount, "_socket_paths", renamed_after)
    monkeypatch.setattr(os, "pidfd_open", lambda _: os.dup(reader))  # it lives
    assert run(world, "--lazy") == EXIT_OK
    os.close(writer)
    os.close(reader)


def test_events_that_are_not_on_record_are_told_before_they_are_lost(world: World, capsys) -> None:
    world.serve(trail=FAILING)
    assert run(world) == EXIT_OK
    assert capsys.readouterr().err == (
        "policyfs: the trail in /trail cannot be written (full): 3 refused requests are not on record\n"
    )


def test_nothing_there_is_an_error(world: World, capsys) -> None:
    world.state = MountState.NONE
    assert run(world) == EXIT_REFUSED
    assert capsys.readouterr().err == f"policyfs: nothing is mounted on {world.path}\n"
    assert world.unmounts == []


def test_a_dead_mount_is_detached(world: World) -> None:
    world.state = MountState.DEAD
    assert run(world) == EXIT_OK
    assert world.unmounts == [(True, False)]


@pytest.mark.parametrize("state", MountState, ids=lambda state: state.value)
@pytest.mark.parametrize("died", [True, False])
def test_only_a_dead_mount_is_unmounted_if_that_is_asked_for(
    world: World, capsys, monkeypatch: pytest.MonkeyPatch, state: MountState, died: bool
) -> None:
    """The systemd units ask for it: their start may have failed because of a mount that lives."""
    monkeypatch.setattr(umount, "daemon_died", lambda _: died)
    world.state = state
    assert run(world, "--dead") == EXIT_OK
    dead = state is MountState.DEAD or (state is MountState.SILENT and died)
    assert world.unmounts == [(True, died)] * dead
    assert capsys.readouterr() == ("", "")


@pytest.mark.parametrize("option", ["--lazy", "--wait", "--abort"])
def test_these_detach_a_mount_in_use(world: World, option: str) -> None:
    world.serve()
    assert run(world, option) == EXIT_OK
    assert world.unmounts == [(True, False)]


def test_waiting_and_aborting_are_two_things(world: World) -> None:
    with pytest.raises(SystemExit) as usage:
        run(world, "--wait", "--abort")
    assert usage.value.code == EXIT_USAGE


# -- mounts in use ---------------------------------------------------------------------------------------


def test_a_mount_that_is_listed_all_the_time_is_unmounted_between_two_listings(world: World) -> None:
    world.serve()
    world.refuses = [errno.EBUSY] * 20
    assert run(world) == EXIT_OK
    assert world.unmounts == [(False, False)] * 21


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(umount, "_UNUSED_S", 0.0)


@pytest.mark.usefixtures("impatient")
def test_a_busy_mount_stays_and_its_users_are_named(world: World, capsys) -> None:
    daemon = world.serve()
    world.refuses = [errno.EBUSY]
    assert run(world) == EXIT_REFUSED
    assert daemon.commands[-2:] == ["ending", "staying"]
    assert world.unmounts == [(False, False)]
    assert capsys.readouterr().err == f"policyfs: cannot unmount\n  {VI}\n"


@pytest.mark.usefixtures("impatient")
def test_no_name_of_its_users_reaches_the_terminal(world: World, monkeypatch, capsys) -> None:
    world.serve()
    evil = Holder(1, 2, "\udcff\x1b[2J\n", "cwd", b"/mnt/\xff\x1b]0;x\x07\n\xe2\x80\xae", elsewhere=False)
    monkeypatch.setattr(holders, "holders", lambda _: [evil])
    world.refuses = [errno.EBUSY]
    assert run(world) == EXIT_REFUSED
    said = capsys.readouterr().err
    assert said.replace("\n", "", 2).isprintable()
    assert "\n  \\xff\\x1b[2J\\x0a (pid 1, uid 2): cwd /mnt/\\xff" in said


@pytest.mark.parametrize(("code", "again"), [(errno.EBUSY, True), (errno.EPERM, False)])
def test_a_busy_mount_whose_daemon_was_killed_is_removed_by_force(
    world: World, monkeypatch: pytest.MonkeyPatch, code: int, again: bool
) -> None:
    monkeypatch.setattr(umount, "daemon_died", lambda _: True)
    world.refuses = [code]
    assert run(world) == (EXIT_OK if again else EXIT_REFUSED)
    assert world.unmounts == [(False, True), (True, True)][: 2 if again else 1]


class Leaving(World):
    """The mount goes, and its daemon lives on."""

    def unmount(self, path: str, *, lazy: bool, force: bool) -> None:
        super().unmount(path, lazy=lazy, force=force)
        self.leave()


@pytest.fixture
def leaving(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Leaving]:
    place = tmp_path / "a b"
    place.mkdir()
    made = Leaving(place, monkeypatch)
    made.serve()
    yield made
    made.close()


@pytest.mark.parametrize(("words", "code"), [((), EXIT_REFUSED), (("--lazy",), EXIT_OK)])
def test_who_still_uses_an_unmounted_mount_is_named(
    leaving: Leaving, capsys, words: tuple[str, ...], code: int
) -> None:
    assert run(leaving, *words) == code
    said = capsys.readouterr().err
    assert f"{leaving.path} is unmounted, but these processes still use the mount (daemon 77)" in said
    assert f"`policyfs umount --wait '{leaving.path}'`" in said
    assert said.endswith(f"\n  {VI}\n")


@pytest.mark.parametrize("option", ["--wait", "--abort"])
def test_the_end_of_its_users_is_waited_for(leaving: Leaving, monkeypatch, option: str) -> None:
    waits: list[float] = []

    def sleep(seconds: float) -> None:
        waits.append(seconds)
        if len(waits) == 3:
            leaving.left[0].close()

    monkeypatch.setattr(umount.time, "sleep", sleep)
    assert run(leaving, option) == EXIT_OK
    assert len(waits) == 3
    assert ("abort" in leaving.left[0].commands) == (option == "--abort")


def test_an_abort_that_does_not_end_the_daemon_in_time_is_told(leaving: Leaving, monkeypatch, capsys) -> None:
    """A thread of it waits for a store that does not answer."""
    monkeypatch.setattr(umount, "_END_S", 0.05)
    monkeypatch.setattr(umount, "_POLL_LONG_S", 0.01)
    assert run(leaving, "--abort") == EXIT_REFUSED
    assert "abort" in leaving.left[0].commands
    assert "did not end within 0.05 s" in capsys.readouterr().err


def test_a_daemon_that_left_before_is_no_mount_but_has_users(world: World, capsys) -> None:
    world.state = MountState.NONE
    world.leave()
    assert run(world) == EXIT_REFUSED
    assert "still use the mount" in capsys.readouterr().err
    assert world.unmounts == []


class Late:
    """A daemon that has left, and whose loop hangs: it takes commands, and answers none until it ends."""

    def __init__(self, world: World, monkeypatch: pytest.MonkeyPatch) -> None:
        self.ends = threading.Event()
        self.signals: list[int] = []
        world.state = MountState.NONE
        self.socket = world.leave()
        self.socket.answers["status"] = lambda _: {"ended": self.ends.wait(30)}
        monkeypatch.setattr(umount, "_STATUS_S", 0.05)
        monkeypatch.setattr(umount.signal, "pidfd_send_signal", lambda _, number: self.kill(number))

    def kill(self, number: int) -> None:
        self.signals.append(number)
        self.end()

    def end(self) -> None:
        self.ends.set()
        self.socket.close()


@pytest.fixture
def late(world: World, monkeypatch: pytest.MonkeyPatch) -> Iterator[Late]:
    made = Late(world, monkeypatch)
    yield made
    made.end()


def test_a_daemon_that_hangs_is_waited_for_until_it_ends(world: World, late: Late, monkeypatch) -> None:
    waits: list[float] = []

    def sleep(seconds: float) -> None:
        waits.append(seconds)
        if len(waits) == 3:
            late.end()

    monkeypatch.setattr(umount.time, "sleep", sleep)
    assert run(world, "--wait") == EXIT_OK
    assert len(waits) == 3
    assert late.signals == []


def test_a_daemon_that_hangs_is_killed_by_an_abort(world: World, late: Late) -> None:
    assert run(world, "--abort") == EXIT_OK
    assert late.signals == [signal.SIGKILL]


def test_a_daemon_that_hangs_is_told(world: World, late: Late, monkeypatch, capsys) -> None:
    monkeypatch.setattr(umount, "_END_S", 0.05)
    assert run(world) == EXIT_REFUSED
    assert f"its daemon (pid {os.getpid()}) does not answer" in capsys.readouterr().err
    assert run(world, "--lazy") == EXIT_OK
    assert f"its daemon (pid {os.getpid()}) does not answer" in capsys.readouterr().err
    assert late.signals == []


def test_a_daemon_of_a_later_mount_is_not_waited_for(world: World, monkeypatch) -> None:
    """Another one answers at the same place already."""
    daemon = world.serve()
    world.ends = False
    pids = iter((77, 77, 99, 99, 99))
    daemon.answers["status"] = lambda _: world.status(pid=next(pids))
    assert run(world) == EXIT_OK


def test_a_daemon_that_does_not_end_in_time_is_told(world: World, monkeypatch, capsys) -> None:
    world.serve()
    world.ends = False
    monkeypatch.setattr(umount, "_END_S", 0.05)
    assert run(world) == EXIT_REFUSED
    assert "did not end within 0.05 s" in capsys.readouterr().err


def test_a_daemon_that_is_silent_and_lives_is_waited_for_in_time(world: World, monkeypatch, capsys) -> None:
    """It seals the trail."""
    world.serve()
    monkeypatch.setattr(umount, "_END_S", 0.05)
    monkeypatch.setattr(umount, "_POLL_LONG_S", 0.01)
    held = os.pipe()
    monkeypatch.setattr(os, "pidfd_open", lambda _: os.dup(held[0]))
    assert run(world) == EXIT_REFUSED
    assert "did not end within" in capsys.readouterr().err
    for fd in held:
        os.close(fd)


# -- daemons that died -----------------------------------------------------------------------------------


HOLDS = """\
import os, socket, sys, time
with socket.socket(socket.AF_UNIX) as server:
    server.bind(sys.argv[1]); server.listen(4); print("there", flush=True); time.sleep(60)
"""


def test_a_daemon_has_died_if_nobody_lives_behind_its_socket(world: World) -> None:
    path = control.socket_path(world.path)
    path.parent.mkdir()
    assert not daemon_died(world.path), "no socket says nothing"
    with subprocess.Popen(
        [sys.executable, "-I", "-S", "-c", HOLDS, str(path)], stdout=subprocess.PIPE
    ) as child:
        assert child.stdout is not None
        child.stdout.readline()
        assert not daemon_died(world.path)
        keeps = socket.socket(socket.AF_UNIX)
        keeps.connect(str(path))
        child.send_signal(signal.SIGKILL)
        child.wait()
    assert daemon_died(world.path), "its socket refuses"
    keeps.close()


@pytest.mark.parametrize(
    ("lines", "died"),
    [
        ("State:\tS (sleeping)\nSigPnd:\t0000000000000000\nShdPnd:\t0000000000000000\n", False),
        ("State:\tD (disk sleep)\nSigPnd:\t0000000000000000\nShdPnd:\t0000000000000100\n", True),
        ("State:\tD (disk sleep)\nSigPnd:\t0000000000000100\nShdPnd:\t0000000000000000\n", True),
        ("State:\tD (disk sleep)\nSigPnd:\t0000000000004000\nShdPnd:\t0000000000000000\n", False),
        ("State:\tZ (zombie)\nSigPnd:\t0000000000000000\nShdPnd:\t0000000000000000\n", True),
        ("State:\tX (dead)\nSigPnd:\t0000000000000000\nShdPnd:\t0000000000000000\n", True),
        (None, True),
    ],
)
def test_a_killed_daemon_that_waits_for_its_store_has_died(
    world: World, monkeypatch: pytest.MonkeyPatch, lines: str | None, died: bool
) -> None:
    world.serve()

    def status_file(pid: int) -> str:
        assert pid == os.getpid()
        if lines is None:
            raise FileNotFoundError(errno.ENOENT, "it has just ended")
        return lines

    monkeypatch.setattr(umount, "status_file", status_file)
    assert daemon_died(world.path) == died


def test_a_daemon_whose_state_cannot_be_read_in_time_is_not_taken_for_dead(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    world.serve()

    def status_file(pid: int) -> str:
        raise PolicyfsError(f"{pid} cannot be read within 30 s")

    monkeypatch.setattr(umount, "status_file", status_file)
    assert not daemon_died(world.path)


def test_a_busy_mount_is_told_even_if_its_users_cannot_be_found(monkeypatch: pytest.MonkeyPatch) -> None:
    def look(find: object) -> list[Holder]:
        raise PolicyfsError("cannot be read within 30 s")

    monkeypatch.setattr(umount, "look", look)
    assert umount._holders("/mnt") == ["cannot be read within 30 s"]


def test_options_are_those_of_the_manual() -> None:
    parser = build_parser("umount")
    found = parser.parse_args(["umount", "--lazy", "--wait", "/mnt"])
    assert (found.lazy, found.wait, found.abort, found.mountpoint) == (True, True, False, "/mnt")
