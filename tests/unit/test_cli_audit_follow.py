"""`policyfs audit follow` as root starts it: each line at least once, by processes with only their rights."""

from __future__ import annotations

import contextlib
import json
import os
import pwd
import random
import re
import shlex
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from policyfs.cli.main import build_parser, main
from policyfs.domain import Audit
from policyfs.journal.files.compression import compress
from policyfs.journal.sealing.keys import KeyStore
from policyfs.journal.writing.journal import Journal
from tests.support.machine.counts import count
from tests.support.machine.documents import CHECKOUT
from tests.support.machine.processes import call_as, tool_as, wait_for
from tests.support.mount.trail import (
    MOUNT_ID,
    ROOMY,
    Clock,
    a_denial,
    a_journal,
    an_event,
    segments,
    write_trail,
)
from tests.support.programs.log_servers import journald, rsyslog

USER = "nobody"
UID = pwd.getpwnam(USER).pw_uid
OTHER = "fedcba9876543210"
PROGRAM = [sys.executable, "-m", "policyfs.cli.main", "audit"]
SHIPPING = (CHECKOUT / "docs/shipping.md").read_text(encoding="utf-8")


class Place:
    """A trail that root alone reads, a cursor, and a file of lines."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.trail = root / "trail"
        self.trail.mkdir(mode=0o700)
        self.cursor = root / "state/cursor"
        self.out = root / "out.jsonl"
        self.errors = root / "errors"
        self.user = USER

    def command(self, *words: str) -> list[str]:
        where = ["--trail", str(self.trail), "--cursor", str(self.cursor), "--user", self.user]
        return [*PROGRAM, "follow", *where, *words]

    def start(self, *words: str) -> subprocess.Popen[bytes]:
        with self.out.open("ab") as out, self.errors.open("wb") as errors:
            return subprocess.Popen(self.command(*words), stdout=out, stderr=errors)

    @contextlib.contextmanager
    def following(self, *words: str) -> Iterator[subprocess.Popen[bytes]]:
        process = self.start(*words)
        try:
            yield process
            process.send_signal(signal.SIGTERM)
            assert process.wait(15) == 0, self.errors.read_text()
        finally:
            process.kill()
            process.wait()

    def fails(self) -> str:
        """What a start says that ends with 1 or 2 by itself."""
        process = self.start()
        try:
            assert process.wait(20) in {1, 2}
        finally:
            process.kill()
            process.wait()
        return self.errors.read_text()

    def lines(self) -> list[dict[str, Any]]:
        """The whole lines; a killed process may cut one."""
        found = []
        for line in self.out.read_text().splitlines() if self.out.exists() else []:
            with contextlib.suppress(ValueError):
                found.append(json.loads(line))
        return found

    def paths(self) -> list[str]:
        return [line["path"] for line in self.lines() if line["type"] == "event"]

    def on_trail(self) -> list[str]:
        """The trail as `search` reads it."""
        done = subprocess.run(
            [*PROGRAM, "search", "--json", "--trail", self.trail], capture_output=True, text=True, check=False
        )
        return [json.dumps(json.loads(line) | {"id": ""}) for line in done.stdout.splitlines()]

    def wait_for_all(self) -> None:
        """Wait until each line of the trail is there, and check their order."""
        expected = self.on_trail()

        def found() -> list[str]:
            return [json.dumps(line | {"id": ""}) for line in self.lines() if line["type"] != "hole"]

        wait_for(lambda: set(expected) <= set(found()), "all lines", 20)
        assert list(dict.fromkeys(found())) == expected
        ids: dict[str, str] = {}
        assert all(ids.setdefault(line["id"], str(line)) == str(line) for line in self.lines())


@pytest.fixture
def place() -> Iterator[Place]:
    root = Path(tempfile.mkdtemp(prefix="policyfs-follow-"))
    root.chmod(0o711)
    yield Place(root)
    shutil.rmtree(root)


@pytest.fixture
def disk(place: Place) -> Iterator[Path]:
    """A small disk of the user."""
    disk = place.root / "disk"
    disk.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size=64k,mode=700,uid={UID}", "x", disk], check=True)
    yield disk
    subprocess.run(["umount", disk], check=True)


def child_of(process: subprocess.Popen[bytes]) -> int:
    children = Path(f"/proc/{process.pid}/task/{process.pid}/children")
    (child,) = wait_for(lambda: children.read_text().split(), "the process that writes lines")
    return int(child)


def status_of(pid: int) -> dict[str, str]:
    text = Path(f"/proc/{pid}/status").read_text()
    return dict(re.findall(r"^(\w+):\s*(.*)$", text, re.MULTILINE))


def test_all_mounts_and_then_only_what_is_new(place: Place) -> None:
    write_trail(place.trail, [an_event(), a_denial()])
    journal = Journal(str(place.trail / OTHER), OTHER, keep=0)
    with place.following():
        wait_for(lambda: len(place.paths()) == 2, "the lines of one mount")
        journal.record(an_event(b"/other"), Audit.REQUIRED)
        wait_for(lambda: len(place.paths()) == 3, "the line of another mount")
    journal.record(an_event(b"/later"), Audit.REQUIRED)
    journal.close()
    with place.following():
        wait_for(lambda: place.lines()[-1]["type"] == "close", "the rest")
    assert place.paths() == ["/DCIM/a.jpg", "/Private/a.jpg", "/other", "/later"]
    assert {line["id"].partition(":")[0] for line in place.lines()} == {MOUNT_ID, OTHER}
    assert place.cursor.stat().st_uid == UID
    assert place.cursor.stat().st_mode & 0o777 == 0o600


def test_a_query_selects_events_and_leaves_out_no_other_record(place: Place) -> None:
    write_trail(place.trail, [an_event(), a_denial()])
    with place.following("decision:deny"):
        wait_for(lambda: place.lines()[-1:] and place.lines()[-1]["type"] == "close", "the lines")
    assert [line["type"] for line in place.lines()] == ["header", "event", "close"]
    assert place.paths() == ["/Private/a.jpg"]


# -- rights


def test_who_writes_lines_can_neither_read_the_trail_nor_the_keys(place: Place) -> None:
    """Attack D1.8: Take over the process that parses and writes lines of the trail, to read or change the
    trail, or use its key
    Guard: policyfs/follow/opener.py::contain, policyfs/cli/audit/follow.py::_become
    Also: ::test_the_opener_has_no_network_and_no_right_but_to_end_the_other
    Without: ::test_it_can_where_no_user_is_taken_on
    """
    write_trail(place.trail, [an_event()])
    KeyStore(place.root / "keys").signer()
    with place.following() as opener:
        wait_for(place.lines, "a line")
        child = status_of(child_of(opener))
        assert child["Uid"].split() == [str(UID)] * 4
        assert int(child["CapEff"], 16) == int(child["CapPrm"], 16) == 0
        files = [os.path.realpath(f"/proc/{child_of(opener)}/fd/{fd}") for fd in range(3, 20)]
        assert not [file for file in files if "keys" in file or file.endswith("trail")]
    for file in (*segments(place.trail / MOUNT_ID), *(place.root / "keys").iterdir()):
        assert b"Permission denied" in tool_as(UID, "cat", file).stderr


def test_it_can_where_no_user_is_taken_on(place: Place) -> None:
    write_trail(place.trail, [an_event()])
    weak = "import policyfs.cli.audit.follow as f, policyfs.cli.main as m, os, sys;"
    weak += " f._become = lambda *_: None; os.access = lambda *_: False; sys.exit(m.main(sys.argv[1:]))"
    process = subprocess.Popen([sys.executable, "-c", weak, *place.command()[3:]], stdout=subprocess.DEVNULL)
    try:
        wait_for(place.cursor.exists, "the cursor")
        assert status_of(child_of(process))["Uid"].split() == ["0"] * 4
    finally:
        process.terminate()
        process.wait(20)


def test_the_opener_has_no_network_and_no_right_but_to_end_the_other(place: Place) -> None:
    write_trail(place.trail, [an_event()])
    with place.following() as opener:
        wait_for(place.lines, "a line")
        fields = status_of(opener.pid)
        assert int(fields["CapEff"], 16) == int(fields["CapPrm"], 16) == 1 << 5  # CAP_KILL
        assert fields["NoNewPrivs"] == "1"
        interfaces = Path(f"/proc/{opener.pid}/net/dev").read_text().splitlines()[2:]
        assert [line.split(":")[0].strip() for line in interfaces] == ["lo"]


def test_without_its_opener_the_other_process_ends(place: Place) -> None:
    write_trail(place.trail, [an_event()])
    opener = place.start()
    try:
        wait_for(place.lines, "a line")
        gone = Path(f"/proc/{child_of(opener)}/stat")
    finally:
        opener.kill()
        opener.wait()
    wait_for(lambda: not gone.exists() or " Z " in gone.read_text(), "the end of the other process")


@pytest.mark.parametrize("is_later", [True, False], ids=["made later", "made anew"])
def test_a_trail_root_that_comes_later_is_read_after_a_restart(place: Place, is_later: bool) -> None:
    """Landlock permitted only the root that was there at the start: EACCES for ever, and nobody ended it."""
    write_trail(place.trail, [an_event(b"/old")])
    if is_later:
        shutil.rmtree(place.trail)
    opener = place.start()
    try:
        wait_for(place.cursor.exists, "its first cursor", 15)
        if not is_later:
            wait_for(place.lines, "a line")
            shutil.rmtree(place.trail)
        place.trail.mkdir(mode=0o700)
        write_trail(place.trail, [an_event(b"/new")])
        assert opener.wait(15) == 1  # systemd starts it again
    finally:
        opener.kill()
        opener.wait()
    with place.following():
        wait_for(lambda: "/new" in place.paths(), "the new line")


def test_root_a_stranger_and_who_may_write_the_trail_write_no_lines(place: Place) -> None:
    write_trail(place.trail, [an_event()])
    place.user = "root"
    assert "the lines are not written as root" in place.fails()
    place.user = "no-such-user"
    assert "useradd --system no-such-user" in place.fails()
    place.user = USER
    os.chown(place.trail, UID, -1)
    assert "may write in" in place.fails()
    assert place.lines() == []


# -- kills, full disks, rotation


def test_lines_come_once_or_more_through_kills_and_compression(place: Place) -> None:
    """The writers of lines and of the trail are killed at random; segments are compressed meanwhile."""
    chance, written = random.Random(3), 0
    for round_ in range(count(4, 40)):
        opener = place.start()
        until_s = time.monotonic() + chance.uniform(0.3, 1.2)
        with a_journal(place.trail, limits=ROOMY, segment_bytes=20_000) as journal:
            while time.monotonic() < until_s:
                for _ in range(5):
                    written += 1
                    journal.record(an_event(b"/%d/%d" % (round_, written)), Audit.REQUIRED)
                time.sleep(0.01)
            child = child_of(opener)
            os.kill(child if round_ % 2 else opener.pid, signal.SIGKILL)
            opener.wait(20)
            wait_for(lambda child=child: not Path(f"/proc/{child}").exists(), "the end of the other process")
            directory = os.open(place.trail / MOUNT_ID, os.O_RDONLY)
            for file in segments(place.trail / MOUNT_ID)[:-1:2]:
                assert file.name.endswith(".zst") or compress(directory, file.name, 0)
            os.close(directory)
            if round_ % 2:
                journal.record(an_event(b"/cut"), Audit.REQUIRED)
        if round_ % 2:  # the daemon was killed within a line
            with segments(place.trail / MOUNT_ID)[-1].open("ab") as file:
                file.write(b'{"type":"event","seq":')
    with place.following():
        place.wait_for_all()
    assert not [line for line in place.lines() if line["type"] == "hole"]


def test_what_rotation_removed_before_it_was_read_is_a_hole(place: Place) -> None:
    clock = Clock()
    with a_journal(place.trail, clock, segment_bytes=5000, keep=3) as journal:

        def record(number: int) -> None:
            journal.record(an_event(b"/%d" % number), Audit.REQUIRED)
            clock.forward(2)
            journal.flush()

        with place.following():
            for number in range(40):
                record(number)
                if not number % 10:
                    wait_for(lambda number=number: f"/{number}" in place.paths(), "a line")
        for number in range(40, 110):  # many segments more than are kept
            record(number)
        with place.following():
            wait_for(lambda: "/109" in place.paths(), "the newest line")
    numbers = [line["seq"] for line in place.lines() if line["type"] != "hole"]
    holes = [line for line in place.lines() if line["type"] == "hole"]
    missing = {number for one in holes for number in range(one["first"], one["last"] + 1)}
    assert missing
    assert sorted(missing | set(numbers)) == list(range(1, max(numbers) + 1))
    assert not missing & set(numbers)
    assert numbers == sorted(numbers)


def test_a_full_disk_of_the_lines_ends_it_and_leaves_no_part_of_one(place: Place, disk: Path) -> None:
    write_trail(place.trail, [an_event(b"/%d" % number) for number in range(400)], limits=ROOMY)
    place.out = disk / "out.jsonl"
    assert "cannot write the lines: No space left on device" in place.fails()
    assert place.out.read_bytes() == b""
    subprocess.run(["mount", "-o", "remount,size=2m", disk], check=True)
    with place.following():
        place.wait_for_all()


def test_a_full_disk_of_the_cursor_ends_it_and_leaves_out_no_line(place: Place, disk: Path) -> None:
    place.cursor = disk / "state/cursor"
    with a_journal(place.trail, limits=ROOMY) as journal:
        process = place.start()
        wait_for(place.cursor.exists, "the first cursor")
        with contextlib.suppress(OSError), (disk / "full").open("wb", 0) as file:
            while True:
                file.write(bytes(512))
        journal.record(an_event(b"/1"), Audit.REQUIRED)
        assert process.wait(20) == 1
        assert "cannot write the cursor" in place.errors.read_text()
        before = place.out.read_bytes()
        assert "cannot write the cursor" in place.fails()
        assert place.out.read_bytes() == before  # not the same lines at each start
        (disk / "full").unlink()
        journal.record(an_event(b"/2"), Audit.REQUIRED)
    with place.following():
        place.wait_for_all()


def test_a_line_that_a_kill_cut_stays_alone(place: Place) -> None:
    write_trail(place.trail, [an_event()])
    place.out.write_bytes(b'{"id":"x')
    with place.following():
        place.wait_for_all()
    assert place.out.read_bytes().startswith(b'{"id":"x\n{"id"')


def test_lines_that_the_next_program_has_not_read_come_again(place: Place) -> None:
    write_trail(place.trail, [an_event(b"/%d" % number) for number in range(20)], limits=ROOMY)
    process = subprocess.Popen(place.command(), stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    assert process.stdout is not None
    assert process.stderr is not None
    assert process.stdout.read(300).startswith(b'{"id"')
    process.stdout.close()
    with process.stderr:
        assert b"the program that reads the lines has ended" in process.stderr.read()
    assert process.wait(20) == 1
    with place.following():
        place.wait_for_all()


def _follow_directly(trail: str, out: str) -> int:
    """The command in this process, until the trail's end is there."""
    fd = os.open(out, os.O_WRONLY | os.O_APPEND)
    os.dup2(fd, 1)

    def end() -> None:
        wait_for(lambda: b'"type":"close"' in Path(out).read_bytes(), "the end")
        os.kill(os.getpid(), signal.SIGTERM)

    threading.Thread(target=end).start()
    return main(["audit", "follow", "--trail", trail])


def test_a_user_who_may_read_the_trail_needs_no_root(place: Place) -> None:
    write_trail(place.trail, [an_event(), a_denial()])
    for path in (place.trail, *place.trail.rglob("*")):
        os.chown(path, 0, UID)
        path.chmod(0o750)
    place.out.touch()
    os.chown(place.out, UID, -1)
    build_parser("audit", "follow")  # imports what this user may not read
    assert call_as(UID, _follow_directly, str(place.trail), str(place.out)) == 0
    assert place.paths() == ["/DCIM/a.jpg", "/Private/a.jpg"]
    place.wait_for_all()


def test_a_program_that_reads_slowly_stops_no_end(place: Place) -> None:
    write_trail(place.trail, [an_event(b"/%d" % number) for number in range(400)], limits=ROOMY)
    process = subprocess.Popen(place.command(), stdout=subprocess.PIPE)
    assert process.stdout is not None
    got = [process.stdout.readline()]
    process.send_signal(signal.SIGTERM)
    reader = threading.Thread(target=lambda: got.extend(process.stdout or ()))
    reader.start()
    assert process.wait(20) == 0
    reader.join()
    process.stdout.close()
    place.out.write_bytes(b"".join(got))
    assert all(line.endswith(b"}\n") for line in got)
    with place.following():
        place.wait_for_all()


# -- recipes of docs/shipping.md


def recipe(place: Place, name: str) -> str:
    """The command of the unit with this description, for this trail."""
    (unit,) = [
        block
        for block in re.findall(r"^```ini\n(.*?)^```", SHIPPING, re.MULTILINE | re.DOTALL)
        if name in block
    ]
    file = place.root / "policyfs-follow.service"
    file.write_text(unit)
    verified = subprocess.run(
        ["systemd-analyze", "verify", "--man=no", file], capture_output=True, text=True, check=False
    )
    assert str(file) not in verified.stderr
    (script,) = re.findall(r"^ExecStart=/bin/sh -c '(.*)'$", unit, re.MULTILINE)
    command = shlex.join([*PROGRAM, "follow", "--user", USER, "--trail", str(place.trail)])
    script = script.replace("policyfs audit follow", command)
    return script.replace("/var/lib/policyfs-follow", str(place.root / "state"))


def test_rsyslogd_follows_the_file_over_its_own_death_and_a_rename(place: Place) -> None:
    """Lines from before its start, while it runs, while it is dead, and after logrotate."""
    (settings,) = re.findall(r"^```rsyslog\n(.*?)^```", SHIPPING, re.MULTILINE | re.DOTALL)
    spool, state = place.root / "spool", place.root / "rsyslog"
    spool.mkdir()
    state.mkdir()
    script = recipe(place, "in a file").replace("/var/spool/policyfs", str(spool))
    place.out = state / "received"
    follow = subprocess.Popen(["/bin/sh", "-c", script])
    try:
        with (
            a_journal(place.trail, limits=ROOMY) as journal,
            rsyslog(state, settings.replace("/var/spool/policyfs", str(spool))) as server,
        ):
            for turn in range(4):
                if turn == 2:
                    server.kill()
                for number in range(20):
                    journal.record(an_event(b'/"\\\xff\n<13>/%d/%d' % (turn, number)), Audit.REQUIRED)
                journal.record(an_event(redacted=tuple((at, 1) for at in range(250))), Audit.REQUIRED)
                if turn == 2:
                    server.start()
                place.wait_for_all()
                if turn == 2:
                    (spool / "lines.jsonl").rename(spool / "lines.1")
                    follow.terminate()
                    assert follow.wait(20) == 0
                    follow = subprocess.Popen(["/bin/sh", "-c", script])
            assert (spool / "lines.jsonl").stat().st_mode & 0o777 == 0o600
    finally:
        follow.terminate()
        follow.wait(20)


def test_systemd_cat_hands_each_line_to_journald(place: Place) -> None:
    write_trail(place.trail, [an_event(b'/"\\\xff\n<13>/%d' % number) for number in range(50)], limits=ROOMY)
    with journald(place.root) as server:
        command = [*server.inside, "/bin/sh", "-c", recipe(place, "in the journal")]
        follow = subprocess.Popen(command, start_new_session=True)
        try:

            def found() -> list[str]:
                entries = server.entries("SYSLOG_IDENTIFIER=policyfs-trail")
                return [json.dumps(json.loads(str(one["MESSAGE"])) | {"id": ""}) for one in entries]

            wait_for(lambda: len(found()) >= len(place.on_trail()), "the entries", 20)
            assert found() == place.on_trail()
        finally:
            os.killpg(follow.pid, signal.SIGTERM)
            follow.wait(20)


def test_the_old_command_says_what_replaces_it() -> None:
    words = [*PROGRAM, "forward", "--config", "/etc/policyfs/forward.yaml"]
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert "`policyfs audit follow`" in done.stderr
    assert "docs/shipping.md" in done.stderr
