"""Reads of /proc in a child process: its result, its errors, and the time that it may take."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from policyfs.cli.common.processes import look, own_instance, status_file
from policyfs.errors import PolicyfsError
from policyfs.linux import procfs
from tests.support.machine.processes import call_as, state_of, wait_for

LONG_S = 60.0


def test_the_result_comes_from_a_child_without_the_descriptors_of_this_process() -> None:
    reader, writer = os.pipe()
    try:
        assert look(os.getpid) != os.getpid()
        assert look(lambda: os.path.exists(f"/proc/self/fd/{reader}")) is False
        assert look(lambda: b"x" * 1_000_000) == b"x" * 1_000_000, "more than a pipe holds"
    finally:
        os.close(reader)
        os.close(writer)


def test_the_child_reads_an_instance_of_its_own_if_it_may() -> None:
    assert look(lambda: os.stat(procfs.root()).st_dev) != os.stat("/proc").st_dev
    assert procfs.root() == Path("/proc"), "this process goes on with /proc"
    assert call_as(12345, _reads_proc), "a user without rights"


def _reads_proc() -> bool:
    return look(lambda: os.stat(procfs.root()).st_dev) == os.stat("/proc").st_dev


def test_this_process_reads_an_instance_of_its_own_within_the_context() -> None:
    before = os.listdir("/proc/self/fd")
    with own_instance():
        assert os.stat(procfs.root()).st_dev != os.stat("/proc").st_dev
    assert (procfs.root(), os.listdir("/proc/self/fd")) == (Path("/proc"), before)
    assert call_as(12345, _has_shared_proc), "a user without rights"


def _has_shared_proc() -> bool:
    with own_instance():
        return procfs.root() == Path("/proc")


def test_the_child_is_no_user_of_the_directory_of_this_process() -> None:
    assert look(os.getcwd) == "/"


def test_an_error_is_raised_here() -> None:
    with pytest.raises(FileNotFoundError, match="absent"):
        look(lambda: os.stat("/absent"))
    pid = os.posix_spawn("/bin/true", ["true"], {})
    os.waitpid(pid, 0)
    with pytest.raises(OSError):
        status_file(pid)
    assert f"Pid:\t{os.getpid()}\n" in status_file(os.getpid())


def test_a_child_that_does_not_answer_in_time_is_an_error() -> None:
    begun = time.monotonic()
    told = r"cannot be read within 0\.2 s.* Run this command as root, outside of a container"
    with pytest.raises(PolicyfsError, match=told):
        look(lambda: time.sleep(LONG_S), timeout_s=0.2)
    assert time.monotonic() - begun < LONG_S / 2


def test_a_child_that_is_killed_is_an_error() -> None:
    with pytest.raises(PolicyfsError, match="was killed"):
        look(lambda: os.kill(os.getpid(), signal.SIGKILL))


@pytest.mark.parametrize("to_group", [True, False])
def test_ctrl_c_never_runs_the_callers_code_in_the_child(tmp_path: Path, to_group: bool) -> None:
    """Ctrl-C while a command waits for /proc: only the command itself cleans up, and its child ends."""
    log = tmp_path / "log"
    code = (
        "import os, sys, time\n"
        "from policyfs.cli.common.processes import look\n"
        "def note(text):\n"
        "    with open(sys.argv[1], 'a') as file:\n"
        "        file.write(f'{os.getpid()} {text}\\n')\n"
        "def wait():\n"
        "    note('waits')\n"
        f"    time.sleep({LONG_S})\n"
        "try:\n"
        "    look(wait)\n"
        "except KeyboardInterrupt:\n"
        "    note('cleans up')\n"
        "note('goes on')\n"
    )
    command = subprocess.Popen([sys.executable, "-c", code, str(log)], start_new_session=True)
    assert wait_for(lambda: log.exists() and b"waits" in log.read_bytes(), "the child waits")
    child = int(log.read_text().split()[0])
    (os.killpg if to_group else os.kill)(command.pid, signal.SIGINT)
    assert command.wait(LONG_S / 2) == 0
    assert wait_for(lambda: _is_dead(child), "the child is dead")
    assert log.read_text().splitlines()[1:] == [f"{command.pid} cleans up", f"{command.pid} goes on"]


def _is_dead(pid: int) -> bool:
    try:
        return state_of(pid) in {"Z", "X"}
    except FileNotFoundError:
        return True
