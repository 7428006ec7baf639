"""Delivery to files and commands."""

from __future__ import annotations

import errno
import os
import re
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from policyfs.forward.config import SinkDoc
from policyfs.forward.delivery import CommandDelivery, DeliveryError, FileDelivery, delivery_to
from policyfs.forward.messages import Message, message_of
from tests.support.machine.documents import CHECKOUT
from tests.support.machine.processes import wait_for
from tests.support.mount.trail import a_denial, an_event
from tests.support.programs.log_servers import journald, rsyslog
from tests.unit.test_forward_messages import NASTY, item_of

MESSAGES = [message_of(item_of(an_event(), seq)) for seq in (1, 2)]
WHOLE = b"".join(one.line + b"\n" for one in MESSAGES)
BATCH = [message_of(item_of(event, seq)) for seq, event in enumerate([an_event(NASTY), a_denial()], 1)]
SHIPPING = (CHECKOUT / "docs/shipping.md").read_text(encoding="utf-8")
AUDIT = (CHECKOUT / "docs/audit.md").read_text(encoding="utf-8")


def test_a_file_is_appended_to_for_its_owner_alone(tmp_path: Path) -> None:
    file = tmp_path / "file"
    delivery = FileDelivery(str(file))
    delivery.deliver(MESSAGES)
    delivery.deliver(MESSAGES)
    assert file.read_bytes() == WHOLE * 2
    assert file.stat().st_mode & 0o777 == 0o600


def test_a_file_that_was_rotated_is_made_anew(tmp_path: Path) -> None:
    file = tmp_path / "file"
    delivery = FileDelivery(str(file))
    delivery.deliver(MESSAGES)
    file.rename(tmp_path / "file.1")
    delivery.deliver(MESSAGES)
    assert file.read_bytes() == WHOLE


def test_a_line_that_a_crash_cut_stays_alone(tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.write_bytes(b'{"type":"eve')
    file.chmod(0o600)
    FileDelivery(str(file)).deliver(MESSAGES)
    assert file.read_bytes() == b'{"type":"eve\n' + WHOLE


def _of_an_app(file: Path) -> None:
    file.touch(0o600)
    os.chown(file, 10010, 10010)


def _for_all(file: Path) -> None:
    file.touch()
    file.chmod(0o644)


def _with_two_names(file: Path) -> None:
    file.touch(0o600)
    file.with_name("other").hardlink_to(file)


@pytest.mark.parametrize("make", [_of_an_app, _for_all, _with_two_names, os.mkfifo, Path.mkdir])
def test_a_file_that_an_app_made_before_gets_no_line(tmp_path: Path, make: Callable[[Path], None]) -> None:
    """The app would read the trail."""
    file = tmp_path / "file"
    make(file)
    with pytest.raises(DeliveryError, match=r"remove it|not a regular file|Is a directory"):
        FileDelivery(str(file)).deliver(MESSAGES)
    assert not file.is_file() or file.read_bytes() == b""


def test_a_full_disk_leaves_no_part_of_a_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each try left one."""
    file, write = tmp_path / "file", os.write
    FileDelivery(str(file)).deliver(MESSAGES)
    room = [10]

    def full(fd: int, data: bytes) -> int:
        if not room:
            raise OSError(errno.ENOSPC, "No space left on device")
        return write(fd, data[: room.pop()])

    monkeypatch.setattr(os, "write", full)
    with pytest.raises(DeliveryError, match="No space left"):
        FileDelivery(str(file)).deliver(MESSAGES)
    monkeypatch.undo()
    assert file.read_bytes() == WHOLE
    FileDelivery(str(file)).deliver(MESSAGES)
    assert file.read_bytes() == WHOLE * 2


def test_a_full_disk_cuts_no_line_of_another_sink(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file, write = tmp_path / "file", os.write

    def full(fd: int, data: bytes) -> int:
        with file.open("ab") as other:
            other.write(b"a line of another program\n")
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "write", full)
    with pytest.raises(DeliveryError, match="No space left"):
        FileDelivery(str(file)).deliver(MESSAGES)
    monkeypatch.setattr(os, "write", write)
    assert file.read_bytes() == b"a line of another program\n"


def test_no_symlink_is_followed(tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(tmp_path / "target")
    with pytest.raises(DeliveryError):
        FileDelivery(str(tmp_path / "link")).deliver(MESSAGES)
    assert not (tmp_path / "target").exists()


def test_a_command_gets_the_lines(tmp_path: Path) -> None:
    CommandDelivery(["/bin/sh", "-c", f"cat >>{tmp_path}/got"], 10).deliver(MESSAGES)
    assert (tmp_path / "got").read_bytes() == WHOLE
    CommandDelivery(["/bin/sh", "-c", f"cat >{tmp_path}/got"], 10, as_text=True).deliver(MESSAGES[:1])
    assert (tmp_path / "got").read_text() == "gallery open /DCIM/a.jpg: allow gallery-sees passthrough\n"


@pytest.mark.parametrize("script", ["exit 0", "read -r line", "exec 0<&-"], ids=["none", "first", "closed"])
@pytest.mark.parametrize("batch", [MESSAGES, MESSAGES * 500], ids=["small", "large"])
def test_lines_that_a_command_did_not_read_are_not_taken(script: str, batch: list[Message]) -> None:
    """A page that a broken script swallowed with exit code 0 counted as delivered."""
    with pytest.raises(DeliveryError, match="ended with 0, but did not read the last"):
        CommandDelivery(["/bin/sh", "-c", script], 20).deliver(batch)


@pytest.mark.parametrize(
    ("words", "why"),
    [
        (["/bin/sh", "-c", "echo no room >&2; exit 3"], "ended with 3: no room"),
        (["/bin/sh", "-c", "kill -9 $$"], "ended with -9"),
        (["/nowhere"], "No such file"),
    ],
)
def test_a_command_that_fails_has_not_taken_them(words: list[str], why: str) -> None:
    with pytest.raises(DeliveryError, match=why):
        CommandDelivery(words, 10).deliver(MESSAGES)


@pytest.mark.parametrize("after", ["wait", "exit 0"], ids=["hangs", "ends"])
def test_the_children_of_a_command_that_takes_long_are_killed(tmp_path: Path, after: str) -> None:
    """Also if the command itself has ended. A child still has its standard error then."""
    script = f"sleep 300 & echo $! >{tmp_path}/pid; {after}"
    with pytest.raises(DeliveryError, match="did not read its input and end within"):
        CommandDelivery(["/bin/sh", "-c", script], 0.5).deliver(MESSAGES)
    pid = int((tmp_path / "pid").read_text())
    for _ in range(100):
        if not Path(f"/proc/{pid}").exists() or "Z" in Path(f"/proc/{pid}/stat").read_text().split()[2]:
            return
        time.sleep(0.02)
    os.kill(pid, 9)
    pytest.fail("the child of a killed command lives on")


def test_each_destination_has_its_delivery() -> None:
    for key, value, kind in (("file", "/x", FileDelivery), ("command", ["/bin/true"], CommandDelivery)):
        assert type(delivery_to(SinkDoc.model_validate({"id": "x", key: value}))) is kind


def test_rsyslogd_follows_the_file_over_its_own_death_and_a_rename(tmp_path: Path) -> None:
    """Lines from before its start, while it runs, while it is dead, and after logrotate."""
    (settings,) = re.findall(r"^```rsyslog\n(.*?)^```", SHIPPING, re.MULTILINE | re.DOTALL)
    file, state = tmp_path / "lines", tmp_path / "state"
    state.mkdir()
    written: list[str] = []

    def deliver(first: int) -> None:
        events = [an_event(NASTY + b"%d" % seq) for seq in range(first, first + 20)]
        events.append(an_event(redacted=tuple((at, 1) for at in range(250))))
        batch = [message_of(item_of(event, seq)) for seq, event in enumerate(events, first)]
        FileDelivery(str(file)).deliver(batch)
        written.extend(message.line.decode() for message in batch)

    deliver(0)
    with rsyslog(state, settings.replace("/var/spool/policyfs/lines.jsonl", str(file))) as server:
        for turn in range(1, 4):
            wait_for(lambda: set(written) <= set(server.received()), f"the lines before turn {turn}")
            if turn == 2:
                server.kill()
            if turn == 3:
                file.rename(tmp_path / "lines.1")
            deliver(100 * turn)
            if turn == 2:
                server.start()
        wait_for(lambda: set(written) <= set(server.received()), "all lines")
        assert list(dict.fromkeys(server.received())) == written


def test_logger_hands_each_line_to_journald(tmp_path: Path) -> None:
    (script,) = re.findall(r"^  *command: \[/bin/sh, -c, '(.*logger --journald.*)'\]$", AUDIT, re.MULTILINE)
    with journald(tmp_path) as server:
        CommandDelivery([*server.inside, "/bin/sh", "-c", script], 10).deliver(BATCH)
        found = wait_for(lambda: server.entries("SYSLOG_IDENTIFIER=policyfs"), "the entries")
    assert [str(entry["MESSAGE"]).encode() for entry in found] == [one.line for one in BATCH]
    alone = ["/usr/bin/unshare", "-m", "/bin/sh", "-c", f"mount -t tmpfs x /run; {script}"]
    with pytest.raises(DeliveryError, match="ended with 1"):  # nobody takes them
        CommandDelivery(alone, 10).deliver(BATCH)
