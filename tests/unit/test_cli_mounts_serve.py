"""The process of a mount: its first words, its exit code, and its end by signals. The daemon is played."""

from __future__ import annotations

import fcntl
import gc
import json
import os
import signal
import stat
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest

from policyfs.cli.mounts import serve as serving
from policyfs.cli.mounts.serve import fork_daemon, serve, serve_here
from policyfs.cli.mounts.start import Start
from policyfs.daemon.control import control
from policyfs.daemon.keeper.keeper import Keeper
from policyfs.daemon.options import MountOptions
from policyfs.daemon.policies.policies import Loader
from policyfs.errors import EXIT_OK, EXIT_POLICY, EXIT_REFUSED, PolicyfsError
from policyfs.journal.files.retention import Retention
from policyfs.linux.code_digest import code_digest
from policyfs.linux.service_manager import ServiceManager
from tests.support.mount.trail import read_all

SEALER = "policyfs.journal.sealing.sealer"
LOADER = Loader(
    list,
    lambda sources: pytest.fail("nothing is parsed"),
    lambda policy: pytest.fail("nothing is compiled"),
)


class PolicyError(PolicyfsError):
    exit_code = EXIT_POLICY


class Played:
    """A daemon that does what a test says, and notes in a file that it was closed."""

    run_it: Callable[[Callable[[], None]], object]
    notes: Path
    fails: BaseException | None = None
    ordered = True

    def __init__(self, *_: object) -> None:
        if self.fails is not None:
            raise self.fails
        self.end = SimpleNamespace(ordered=self.ordered)

    def run(self, ready: Callable[[], None]) -> None:
        type(self).run_it(ready)

    def close(self) -> None:
        ignored = all(signal.getsignal(number) is signal.SIG_IGN for number in serving._ENDING)
        self.notes.write_text(f"{os.getpid()} {ignored}")


@pytest.fixture
def played(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[type[Played]]:
    monkeypatch.setenv("POLICYFS_KEY_DIR", str(tmp_path / "keys"))
    made = type("Daemon", (Played,), {"notes": tmp_path / "closed"})
    monkeypatch.setattr(serving, "_built", made)
    before = {number: signal.getsignal(number) for number in (*serving._ENDING, signal.SIGHUP)}
    yield made
    for number, handler in before.items():
        signal.signal(number, handler)


@pytest.fixture
def start(tmp_path: Path) -> Start:
    for name in ("store", "mnt", "trail"):
        (tmp_path / name).mkdir()
    return Start(tmp_path / "trail", {"options": {}}, str(tmp_path / "mnt"), [str(tmp_path / "store")])


@pytest.fixture
def options(tmp_path: Path) -> MountOptions:
    return MountOptions(
        store=str(tmp_path / "store"), mountpoint=str(tmp_path / "mnt"), app=None, any_uid=False,
        user_id=None, group_ids=(), trail=tmp_path / "trail/0123", posix=False,
        read_only=False, passthrough=True, copy_bytes=1, cache_bytes=1, segment_bytes=1, keep=Retention(),
    )  # fmt: skip


def failures(start: Start) -> list[str]:
    chain = start.root / control.mount_id(start._mountpoint)
    records = read_all(chain) if chain.exists() else []
    return [str(one.fields["reason"]) for one in records if one.kind == "failed"]


# -- in this process -----------------------------------------------------------------------------------


@pytest.mark.parametrize(("ordered", "code"), [(True, EXIT_OK), (False, EXIT_REFUSED)])
def test_the_exit_code_is_that_of_the_mounts_end(
    played: type[Played], options: MountOptions, ordered: bool, code: int
) -> None:
    heard: list[str] = []
    played.ordered = ordered
    played.run_it = lambda ready: ready()
    assert serve(options, LOADER, lambda: heard.append("ready"), as_json=True) == code
    assert heard == ["ready"]
    assert played.notes.read_text() == f"{os.getpid()} True", "signals do not disturb the end"


def test_each_daemon_of_a_keeper_runs_the_code_of_the_first(
    options: MountOptions, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Other code may lie there when a daemon takes over."""
    found = []

    def run(_keeper: object) -> int:
        found.append((code_digest.cache_info().currsize, SEALER in sys.modules))
        return 7

    monkeypatch.setattr(serving, "_may_follow", lambda: True)
    launcher = SimpleNamespace(descriptors=list, is_child=False)
    monkeypatch.setattr(serving, "_executed", lambda _: launcher)
    monkeypatch.setattr(Keeper, "run", run)
    monkeypatch.delitem(sys.modules, SEALER, raising=False)
    code_digest.cache_clear()
    own = replace(options, app="viewer", keeper=True)
    assert serve(own, LOADER, lambda: None, as_json=True) == 7
    assert found == [(1, True)]


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_before_the_mount_ends_it_in_order(
    played: type[Played], options: MountOptions, number: signal.Signals
) -> None:
    before = signal.getsignal(number)

    def run(_: object) -> None:
        assert signal.getsignal(number) is not before, "it would end the tests"
        os.kill(os.getpid(), number)
        time.sleep(5)

    played.run_it = run
    assert serve(options, LOADER, lambda: None, as_json=True) == EXIT_OK
    assert played.notes.exists(), "it is closed"


def test_a_hangup_before_the_mount_is_nothing(played: type[Played], options: MountOptions) -> None:
    def run(_: object) -> None:
        assert signal.getsignal(signal.SIGHUP) is signal.SIG_IGN
        os.kill(os.getpid(), signal.SIGHUP)

    played.run_it = run
    assert serve(options, LOADER, lambda: None, as_json=True) == EXIT_OK
    played.fails = PolicyError("no")
    with pytest.raises(PolicyError):
        serve(options, LOADER, lambda: None, as_json=True)


def test_a_mount_that_answers_here_has_not_failed(
    played: type[Played], options: MountOptions, start: Start
) -> None:
    played.run_it = lambda ready: None
    assert serve_here(options, LOADER, start, ServiceManager(), as_json=True) == EXIT_OK
    start.failed("never ready")
    assert failures(start) == ["never ready"]


# -- in the background ---------------------------------------------------------------------------------


def forked(options: MountOptions, log: Path | None, start: Start, **more: object) -> int:
    """Fork with the outputs of a command: pytest's own are other files."""
    with pytest.MonkeyPatch.context() as patch, ExitStack() as stack:
        for name, fd in (("stdout", 1), ("stderr", 2)):
            patch.setattr(sys, name, stack.enter_context(open(fd, "w", closefd=False)))
        return fork_daemon(options, LOADER, log, start, **more)


def wait(pid: int) -> int:
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def test_the_pid_is_told_once_the_mount_answers(
    played: type[Played], options: MountOptions, start: Start, tmp_path: Path
) -> None:
    reader, writer = os.pipe()

    def run(ready: Callable[[], None]) -> None:
        sys.stdout.write("in the log")
        os.write(writer, json.dumps([os.getsid(0), os.getcwd(), os.readlink("/proc/self/fd/0")]).encode())
        ready()

    played.run_it = run
    start.root.rmdir()
    gc.collect()  # what earlier tests have left open and forgotten
    before = os.listdir("/proc/self/fd")
    pid = forked(options, None, start)
    assert os.listdir("/proc/self/fd") == before
    assert wait(pid) == EXIT_OK
    assert json.loads(os.read(reader, 1000)) == [pid, "/", "/dev/null"]
    log = options.trail / "daemon.log"
    assert "in the log" in log.read_text()
    assert log.stat().st_mode & 0o777 == 0o600
    for directory in (options.trail, start.root):
        assert directory.stat().st_mode & 0o777 == 0o700
    start.failed("later")
    assert failures(start) == []
    for fd in (reader, writer):
        os.close(fd)


def test_a_daemon_of_a_unit_is_no_child_of_the_command_and_has_its_log(
    played: type[Played], options: MountOptions, start: Start
) -> None:
    reader, writer = os.pipe()

    def run(ready: Callable[[], None]) -> None:
        ready()
        os.write(writer, json.dumps([os.getpid(), os.readlink("/proc/self/fd/2")]).encode())

    played.run_it = run
    pid = forked(options, None, start, of_unit=True)
    os.close(writer)
    told = b"".join(iter(lambda: os.read(reader, 1000), b""))
    os.close(reader)
    assert json.loads(told) == [pid, os.readlink("/proc/self/fd/2")]
    assert not (options.trail / "daemon.log").exists()
    with pytest.raises(ChildProcessError):
        os.waitpid(pid, 0)
    os.wait()  # the process between


def test_the_daemon_keeps_no_descriptor_that_the_caller_left_open(
    played: type[Played], options: MountOptions, start: Start, tmp_path: Path
) -> None:
    """A script's lock file, for example: a second script would wait for its lock without end."""
    lock = tmp_path / "lock"
    fd = os.open(lock, os.O_RDWR | os.O_CREAT, 0o600)
    os.set_inheritable(fd, True)
    fcntl.flock(fd, fcntl.LOCK_EX)
    reader, writer = os.pipe()

    def run(ready: Callable[[], None]) -> None:
        ready()
        os.close(writer)
        signal.pause()

    played.run_it = run
    pid = forked(options, None, start)
    os.close(fd)
    os.close(writer)
    assert os.read(reader, 1) == b"", "it runs"
    again = os.open(lock, os.O_RDWR)
    try:
        fcntl.flock(again, fcntl.LOCK_EX | fcntl.LOCK_NB)
    finally:
        os.kill(pid, signal.SIGKILL)
        assert wait(pid) == -signal.SIGKILL
        for each in (again, reader):
            os.close(each)


def test_an_error_of_the_daemon_has_its_words_and_exit_code(
    played: type[Played], options: MountOptions, start: Start
) -> None:
    played.fails = PolicyError("the policy is no policy")
    with pytest.raises(PolicyfsError, match="the policy is no policy") as error:
        forked(options, None, start)
    assert error.value.exit_code == EXIT_POLICY
    assert failures(start) == ["the policy is no policy"]
    start.failed("again")
    assert len(failures(start)) == 1, "the daemon has recorded it"


def test_an_error_with_a_name_that_is_no_text_has_its_words(
    played: type[Played], options: MountOptions, start: Start
) -> None:
    played.fails = PolicyError("the store /\udcff is gone")
    with pytest.raises(PolicyfsError, match=r"the store /\\udcff is gone") as error:
        forked(options, None, start)
    assert error.value.exit_code == EXIT_POLICY
    assert failures(start) == [r"the store /\udcff is gone"]


def test_an_error_is_on_record_also_if_nobody_waits_for_it(
    played: type[Played], options: MountOptions, start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = os.write

    def nobody(fd: int, data: bytes) -> int:
        if stat.S_ISFIFO(os.fstat(fd).st_mode):
            raise BrokenPipeError
        return real(fd, data)

    played.fails = PolicyError("the policy is no policy")
    monkeypatch.setattr(os, "write", nobody)
    with pytest.raises(PolicyfsError):
        forked(options, None, start)
    assert failures(start) == ["the policy is no policy"]


def test_a_daemon_that_breaks_leaves_its_traceback_in_the_log(
    played: type[Played], options: MountOptions, start: Start, tmp_path: Path
) -> None:
    played.fails = ZeroDivisionError("a bug")
    log = tmp_path / "logs/own.log"
    with pytest.raises(PolicyfsError, match=f"the daemon ended; see {log}") as error:
        forked(options, log, start)
    assert error.value.exit_code == EXIT_REFUSED
    assert "Traceback" in log.read_text()
    assert "a bug" in log.read_text()
    assert failures(start) == ["ZeroDivisionError('a bug')"]


def test_a_daemon_that_is_killed_has_no_words(
    played: type[Played], options: MountOptions, start: Start
) -> None:
    played.run_it = lambda ready: os.kill(os.getpid(), signal.SIGKILL)
    with pytest.raises(PolicyfsError, match="the daemon ended; see") as error:
        forked(options, None, start)
    assert error.value.exit_code == EXIT_REFUSED


def test_a_log_that_cannot_be_written_is_told_before_anything_starts(
    played: type[Played], options: MountOptions, start: Start, tmp_path: Path
) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(PolicyfsError, match=r"cannot write the log .* choose another with --log"):
        forked(options, tmp_path / "file/log", start)
    (tmp_path / "link").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(PolicyfsError, match=r"cannot write the log .* choose another with --log"):
        forked(options, tmp_path / "link", start)
    assert not (tmp_path / "elsewhere").exists()


def test_the_mount_ends_with_the_process_that_has_its_lifeline(
    played: type[Played], options: MountOptions, start: Start
) -> None:
    def run(ready: Callable[[], None]) -> None:
        ready()
        time.sleep(20)

    played.run_it = run
    lifeline = os.pipe()
    pid = forked(options, None, start, lifeline=lifeline)
    assert os.waitpid(pid, os.WNOHANG) == (0, 0)
    os.close(lifeline[1])
    assert wait(pid) == EXIT_OK
    assert played.notes.read_text() == f"{pid} True"
    os.close(lifeline[0])
