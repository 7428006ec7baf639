"""The line on the terminal that shows that long work goes on."""

from __future__ import annotations

import os
import pty
import re
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest

from policyfs.domain import Audit
from tests.support.mount.trail import a_journal, an_event

CHECKOUT = Path(__file__).resolve().parents[2]
POLICY = CHECKOUT / "policies/family-photos.yaml"
PROGRAM = """
import os, sys, time
realpath = os.path.realpath
os.path.realpath = lambda *words, **more: (time.sleep(0.1), realpath(*words, **more))[1]  # a slow disk
from policyfs.cli.common import progress
progress._PATIENCE_S = {patience}
from policyfs.cli.main import process
sys.exit(process())
"""
CLEARED = "\r\x1b[K"
COMMANDS = {
    "audit verify --trail {trail}": "policyfs audit verify",
    "audit export --trail {trail}": "policyfs audit export",
    "audit report --trail {trail} --html {new}": "policyfs audit report",
    "policy check {policy}": "policyfs policy check",
    "accept {store}": "policyfs accept",
    "doctor {store} --trail {trail}": "policyfs doctor",
}
"""What the line begins with, for each command."""


class Terminal:
    """Commands with a terminal as their standard error."""

    def __init__(self, place: Path) -> None:
        self.place = place
        (place / "store").mkdir(mode=0o700)
        (place / "store/words").write_text("words")
        with a_journal(place / "trail") as journal:
            journal.record(an_event(b"/words"), Audit.REQUIRED)

    def run(self, command: str, streams: Sequence[str] = ("stderr",), patience: float = 0.001) -> str:
        """What comes to the terminal."""
        places = {name: self.place / name for name in ("trail", "store", "new")}
        words = [word.format(policy=POLICY, **places) for word in command.split()]
        ours, theirs = pty.openpty()
        variables = {f"POLICYFS_{name}_DIR": str(self.place / name) for name in ("CACHE", "STATE", "KEY")}
        child = subprocess.Popen(
            [sys.executable, "-c", PROGRAM.format(patience=patience), *words],
            env=os.environ | variables,
            **{"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL, **dict.fromkeys(streams, theirs)},
        )
        os.close(theirs)
        text = b""
        try:
            while data := os.read(ours, 1 << 16):
                text += data
        except OSError:  # EIO: the other end is closed
            pass
        os.close(ours)
        assert child.wait(timeout=60) in {0, 1}, text
        return text.decode()


@pytest.fixture
def terminal(tmp_path: Path) -> Terminal:
    return Terminal(tmp_path)


@pytest.mark.parametrize("command", COMMANDS, ids=lambda command: " ".join(command.split()[:2]))
def test_long_work_shows_that_it_goes_on(terminal: Terminal, command: str) -> None:
    said = terminal.run(command)
    assert re.search(rf"\r\x1b\[K{COMMANDS[command]}, \d+ s\r", said)
    assert re.sub(r"\r\x1b\[K[^\r]*(?=\r\x1b\[K)", "", said).endswith(CLEARED), "the last line is removed"


def test_no_line_stays_in_the_output(terminal: Terminal) -> None:
    """What a terminal shows that both streams come to is what a pipe gets."""
    said = terminal.run("policy check {policy}", ["stdout", "stderr"])
    assert f"{CLEARED}policyfs policy check, " in said
    shown = re.sub(r"\r\x1b\[K[^\r]*(?=\r\x1b\[K)", "", said).replace(CLEARED, "")
    assert shown == terminal.run("policy check {policy}", ["stdout"])
    assert shown.count("fine;") == 1


def test_short_work_shows_nothing(terminal: Terminal) -> None:
    assert terminal.run("policy check {policy}", patience=60) == ""
    assert CLEARED not in terminal.run("policy check {policy}", ["stdout"])
