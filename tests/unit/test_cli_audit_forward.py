"""`policyfs audit forward` as root starts it: two processes, and each has only the rights of its part."""

from __future__ import annotations

import ctypes
import json
import os
import platform
import pwd
import random
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from policyfs.domain import Audit
from policyfs.journal.sealing.keys import KeyStore
from policyfs.journal.writing.journal import Journal
from tests.support.machine.counts import count
from tests.support.machine.processes import wait_for
from tests.support.mount.trail import MOUNT_ID, ROOMY, a_denial, a_journal, an_event, write_trail

USER = "nobody"
UID = pwd.getpwnam(USER).pw_uid
OTHER = "fedcba9876543210"


class Place:
    """A trail that root alone reads, and a directory in which the forwarder's user works."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.trail = root / "trail"
        self.trail.mkdir(mode=0o700)
        self.work = root / "work"
        self.work.mkdir()
        os.chown(self.work, UID, -1)
        self.out = self.work / "out.jsonl"
        self.config = root / "forward.yaml"
        self.keys = root / "keys"

    def configure(self, text: str, user: str = f"user: {USER}\n") -> None:
        head = f"apiVersion: policyfs/v1\nkind: Forward\n{user}state: {self.root}/state\n"
        self.config.write_text(head + text)

    def command(self, *words: str) -> list[str]:
        program = [sys.executable, "-m", "policyfs.cli.main", "audit", "forward"]
        return [*program, "--trail", str(self.trail), "--config", str(self.config), *words]

    @property
    def environment(self) -> dict[str, str]:
        return os.environ | {"POLICYFS_KEY_DIR": str(self.keys)}

    def run(self, *words: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            self.command(*words),
            env=self.environment,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )

    def start(self) -> subprocess.Popen[bytes]:
        return subprocess.Popen(self.command(), env=self.environment, stderr=subprocess.DEVNULL)

    def lines(self) -> list[dict[str, object]]:
        if not self.out.exists():
            return []
        return [json.loads(line) for line in self.out.read_text().splitlines() if line.endswith("}")]

    def paths(self) -> list[object]:
        return [line["path"] for line in self.lines() if line["type"] == "event"]


@pytest.fixture
def place() -> Iterator[Place]:
    root = Path(tempfile.mkdtemp(prefix="policyfs-forward-"))
    root.chmod(0o711)
    yield Place(root)
    shutil.rmtree(root)


FILE = "sinks:\n  - {{id: copy, file: '{}'}}\n"


def test_all_mounts_are_delivered_once_each_line(place: Place) -> None:
    write_trail(place.trail, [an_event(), a_denial()])
    journal = Journal(str(place.trail / OTHER), OTHER, keep=0)
    journal.record(an_event(b"/other"), Audit.REQUIRED)
    journal.close()
    place.configure(FILE.format(place.out))
    done = place.run("--once")
    assert (done.returncode, done.stderr) == (0, "")
    assert sorted(map(str, place.paths())) == ["/DCIM/a.jpg", "/Private/a.jpg", "/other"]
    assert {str(line["id"]).partition(":")[0] for line in place.lines()} == {MOUNT_ID, OTHER}
    assert place.out.stat().st_uid == UID
    assert place.run("--once").returncode == 0
    assert len(place.paths()) == 3
    status = json.loads((place.root / "state/status.json").read_text())
    assert status["sinks"]["copy"]["failing"] == ""
    assert set(status["sinks"]["copy"]["at"]) == {MOUNT_ID, OTHER}


def test_who_delivers_can_neither_read_the_trail_nor_the_keys(place: Place) -> None:
    write_trail(place.trail, [an_event()])
    KeyStore(place.keys).signer()
    script = place.root / "spy"
    script.write_text(
        f"#!/bin/sh\nexport LC_ALL=C\ncat >/dev/null\nexec >{place.work}/told 2>&1\nid -u\n"
        f"grep CapEff /proc/self/status\ncat {place.trail}/*/* ; cat {place.keys}/* ; touch {place.trail}/x\n"
        "ls -l /proc/self/fd\nexit 0\n"
    )
    script.chmod(0o755)
    place.configure(f"sinks:\n  - {{id: spy, command: ['{script}']}}\n")
    assert place.run("--once").returncode == 0
    told = (place.work / "told").read_text()
    assert told.splitlines()[0] == str(UID)
    assert re.search(r"CapEff:\s*0{16}\n", told)
    assert told.count("Permission denied") == 3
    assert "jsonl" not in re.sub("cat: .*", "", told)  # no descriptor of a segment is handed on


ADD_KEY, KEYCTL = {"x86_64": (248, 250), "aarch64": (217, 219)}[platform.machine()]


def _have_a_key() -> None:
    libc = ctypes.CDLL(None)
    assert libc.syscall(KEYCTL, 1, None) > 0  # a new session keyring
    assert libc.syscall(ADD_KEY, b"user", b"policyfs-test", b"secret", 6, -3) > 0


def test_who_delivers_has_no_keys_of_the_caller(place: Place) -> None:
    """Whoever is in a session keyring may read its keys, whatever uid the process has."""
    write_trail(place.trail, [an_event()])
    script = place.root / "spy"
    find = f'print syscall({KEYCTL}, 10, -3, ($a = "user"), ($b = "policyfs-test"), 0) > 0 ? "found" : "none"'
    script.write_text(f"#!/bin/sh\ncat >/dev/null\nperl -e '{find}' >{place.work}/told\n")
    script.chmod(0o755)
    place.configure(f"sinks:\n  - {{id: spy, command: ['{script}']}}\n")
    done = subprocess.run(
        place.command("--once"), env=place.environment, timeout=60, check=False, preexec_fn=_have_a_key
    )
    assert done.returncode == 0
    assert (place.work / "told").read_text() == "none"


def test_no_word_of_a_command_reaches_the_terminal(place: Place) -> None:
    """It may repeat what stands in a line, such as the name of a file."""
    write_trail(place.trail, [an_event()])
    script = 'cat >/dev/null; printf "\\33[2Jx" >&2; exit 3'
    place.configure(f"sinks:\n  - {{id: spy, command: [/bin/sh, -c, '{script}']}}\n")
    done = place.run("--once")
    assert done.returncode == 1
    assert "ended with 3" in done.stderr
    assert done.stderr.replace("\n", "").isprintable()


def test_it_can_where_no_user_is_taken_on(place: Place) -> None:
    write_trail(place.trail, [an_event()])
    KeyStore(place.keys).signer()
    script = f"cat >/dev/null; cat {place.trail}/*/*.jsonl {place.keys}/*.private >{place.work}/told"
    place.configure(f"sinks:\n  - {{id: spy, command: [/bin/sh, -c, '{script}']}}\n")
    weak = "import policyfs.cli.audit.forward as f, policyfs.cli.main as m, os, sys;"
    weak += " f._become = lambda *_: None; os.access = lambda *_: False; sys.exit(m.main(sys.argv[1:]))"
    words = [sys.executable, "-c", weak, *place.command("--once")[3:]]
    assert subprocess.run(words, env=place.environment, check=False, timeout=60).returncode == 0
    assert "/DCIM/a.jpg" in (place.work / "told").read_text()


def test_the_opener_has_no_network_and_no_right_but_to_end_the_other(place: Place) -> None:
    write_trail(place.trail, [an_event()])
    KeyStore(place.keys).signer()
    place.configure(FILE.format(place.out))
    opener = place.start()
    try:
        wait_for(place.lines, "a line")
        status = Path(f"/proc/{opener.pid}/status").read_text()
        fields = dict(re.findall(r"^(\w+):\s*(.*)$", status, re.MULTILINE))
        assert int(fields["CapEff"], 16) == int(fields["CapPrm"], 16) == 1 << 5  # CAP_KILL
        assert fields["NoNewPrivs"] == "1"
        interfaces = Path(f"/proc/{opener.pid}/net/dev").read_text().splitlines()[2:]
        assert [line.split(":")[0].strip() for line in interfaces] == ["lo"]
        children = Path(f"/proc/{opener.pid}/task/{opener.pid}/children").read_text().split()
        assert len(children) == 1
        child = dict(
            re.findall(r"^(\w+):\s*(.*)$", Path(f"/proc/{children[0]}/status").read_text(), re.MULTILINE)
        )
        assert child["Uid"].split() == [str(UID)] * 4
        assert int(child["CapEff"], 16) == 0
        opener.send_signal(signal.SIGTERM)
        assert opener.wait(15) == 0
        wait_for(lambda: not Path(f"/proc/{children[0]}").exists(), "the end of the forwarder")
    finally:
        opener.kill()
        opener.wait()


def test_without_its_opener_the_forwarder_ends(place: Place) -> None:
    write_trail(place.trail, [an_event()])
    place.configure(FILE.format(place.out))
    opener = place.start()
    try:
        wait_for(place.lines, "a line")
        (child,) = Path(f"/proc/{opener.pid}/task/{opener.pid}/children").read_text().split()
    finally:
        opener.kill()
        opener.wait()
    gone = Path(f"/proc/{child}/stat")
    wait_for(lambda: not gone.exists() or " Z " in gone.read_text(), "the end of the forwarder")


@pytest.mark.parametrize("is_later", [True, False], ids=["made later", "made anew"])
def test_a_trail_root_that_comes_later_is_read_after_a_restart(place: Place, is_later: bool) -> None:
    """Landlock permitted only the root that was there at the start: EACCES for ever, and nobody ended it."""
    write_trail(place.trail, [an_event(b"/old")])
    if is_later:
        shutil.rmtree(place.trail)
    other = f"  - {{id: new, file: '{place.work}/n', start: now}}\n"
    place.configure(FILE.format(place.out) + other)
    opener = place.start()
    try:
        wait_for((place.root / "state/status.json").exists, "its first status", 15)
        if not is_later:
            wait_for(place.lines, "a line")
            shutil.rmtree(place.trail)
        place.trail.mkdir(mode=0o700)
        write_trail(place.trail, [an_event(b"/new")])
        assert opener.wait(15) == 1  # systemd starts it again
    finally:
        opener.kill()
        opener.wait()
    wait_for(lambda: place.run("--once").returncode == 0, "the end of the other process", 15)
    assert place.paths()[-1] == "/new"
    assert b'"path":"/new"' in (place.work / "n").read_bytes()


def test_a_forwarder_that_is_killed_at_random_loses_nothing(place: Place) -> None:
    place.configure(FILE.format(place.out))
    chance = random.Random(3)
    written = []
    with a_journal(place.trail, limits=ROOMY, segment_bytes=20_000) as journal:
        for round_ in range(count(3, 40)):
            opener = place.start()
            until_s = time.monotonic() + chance.uniform(0.4, 1.5)
            while time.monotonic() < until_s:
                for _ in range(5):
                    written.append(f"/{round_}/{len(written)}")
                    journal.record(an_event(written[-1].encode()), Audit.REQUIRED)
                time.sleep(0.01)
            children = Path(f"/proc/{opener.pid}/task/{opener.pid}/children")
            for child in wait_for(lambda children=children: children.read_text().split(), "the forwarder"):
                os.kill(int(child), signal.SIGKILL)
            opener.wait(30)
    assert place.run("--once").returncode == 0
    found = place.paths()
    assert list(dict.fromkeys(found)) == written  # each at least once, the first ones in order


@pytest.mark.parametrize(
    ("user", "why"),
    [
        ("", "must not be delivered as root"),
        ("user: root\n", "`user:` is root"),
        ("user: no-such-user\n", "there is no user"),
    ],
)
def test_root_delivers_nothing(place: Place, user: str, why: str) -> None:
    place.configure(FILE.format(place.out), user)
    done = place.run("--once")
    assert done.returncode == 2
    assert why in done.stderr


def test_a_user_who_may_write_the_trail_is_refused(place: Place) -> None:
    write_trail(place.trail, [an_event()])
    os.chown(place.trail, UID, -1)
    place.configure(FILE.format(place.out))
    done = place.run("--once")
    assert done.returncode == 1
    assert "may write in" in done.stderr


def test_a_sink_that_takes_nothing_is_an_error_of_once(place: Place) -> None:
    write_trail(place.trail, [an_event()])
    place.configure(FILE.format(place.out) + "  - {id: none, file: /nowhere/log}\n")
    done = place.run("--once")
    assert done.returncode == 1
    assert "none: /nowhere/log: No such file or directory" in done.stderr
    assert place.paths() == ["/DCIM/a.jpg"]


def test_a_configuration_is_checked_before_anything(place: Place) -> None:
    place.configure("sinks:\n  - {id: a, to: nowhere, file: /x}\n")
    done = place.run()
    assert done.returncode == 2
    assert "forward.yaml:6:13" in done.stderr
    assert not (place.root / "state").exists()
    place.configure(FILE.format(place.out))
    done = place.run("--check")
    assert (done.returncode, done.stdout) == (0, f"{place.config}: 1 sinks, 0 alerts\n")
