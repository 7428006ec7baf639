"""`policyfs run` at a terminal: a command that stops itself (Ctrl-Z in an editor), and the shell."""

from __future__ import annotations

import fcntl
import os
import select
import signal
import subprocess
import sys
import termios
import time
from typing import Final

import pytest

from tests.mount.test_run import Runner, runner
from tests.support.machine.counts import first

__all__ = ["runner"]
pytestmark = pytest.mark.mount
SHELL: Final = 'set -m; "$@"; echo "shell $?"; fg; echo "then $?"'
"""Runs a command as a job, and continues the command after it has stopped."""
STOPS: Final = 'kill "{signal}", 0; print "went on\\n"'
"""Perl: the command stops its process group, as far as its user may, as vim (TSTP) and nano (STOP) do."""
DEADLINE_S: Final = 30.0


def _said_at_terminal(words: list[str], environment: dict[str, str]) -> str:
    """What is printed at a terminal until a shell has run a job twice, or until the deadline."""
    ours, theirs = os.openpty()

    def take() -> None:
        os.setsid()
        fcntl.ioctl(0, termios.TIOCSCTTY, 0)

    shell = subprocess.Popen(
        ["bash", "-c", SHELL, "bash", *words], stdin=theirs, stdout=theirs, stderr=theirs,
        env=os.environ | environment | {"LC_ALL": "C"}, preexec_fn=take,
    )  # fmt: skip
    said, until_s = "", time.monotonic() + DEADLINE_S
    try:
        while not said.endswith("then 0\r\n") and time.monotonic() < until_s:
            if select.select([ours], (), (), 0.1)[0]:
                said += os.read(ours, 4096).decode()
    finally:
        group = os.tcgetpgrp(ours)
        if "then " not in said and group > 0:  # the job is in the foreground still
            os.killpg(group, signal.SIGKILL)
        shell.kill()
        shell.wait()
        for fd in (ours, theirs):
            os.close(fd)
    return said


@pytest.mark.parametrize("name", first(1, [("TSTP",), ("STOP",)]))
def test_the_shell_goes_on_while_the_command_has_stopped(runner: Runner, name: str) -> None:
    """The signal of the command does not reach policyfs, which is root's."""
    words = ["run", "--policy", str(runner.policy), "--app", "app", str(runner.at), "--"]
    words += ["perl", "-e", STOPS.format(signal=name)]
    said = _said_at_terminal([sys.executable, "-m", "policyfs.cli.main", *words], runner.environment)
    job, stopped = '"$@"', f"{128 + signal.SIGSTOP}"
    said = said.replace(f"[1]+  Stopped                 {job}", "")  # bash before 5.2.37 says it, too
    assert said.split() == ["shell", stopped, job, "went", "on", "then", "0"]
