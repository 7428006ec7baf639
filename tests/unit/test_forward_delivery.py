"""Delivery to files and commands."""

from __future__ import annotations

import errno
import os
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from policyfs.forward.config import SinkDoc
from policyfs.forward.delivery import CommandDelivery, DeliveryError, FileDelivery
from policyfs.forward.forwarder import delivery_to
from policyfs.forward.journald import JournaldDelivery
from policyfs.forward.messages import message_of
from policyfs.forward.syslog import SyslogDelivery
from tests.support.mount.trail import an_event
from tests.unit.test_forward_messages import item_of

MESSAGES = [message_of(item_of(an_event(), seq)) for seq in (1, 2)]
WHOLE = b"".join(one.line + b"\n" for one in MESSAGES)


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


def test_a_command_that_reads_nothing_and_succeeds_has_taken_them() -> None:
    CommandDelivery(["/bin/true"], 10).deliver(MESSAGES * 500)


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
    with pytest.raises(DeliveryError, match="did not end within"):
        CommandDelivery(["/bin/sh", "-c", script], 0.5).deliver(MESSAGES)
    pid = int((tmp_path / "pid").read_text())
    for _ in range(100):
        if not Path(f"/proc/{pid}").exists() or "Z" in Path(f"/proc/{pid}/stat").read_text().split()[2]:
            return
        time.sleep(0.02)
    os.kill(pid, 9)
    pytest.fail("the child of a killed command lives on")


@pytest.mark.parametrize(
    ("to", "kind"),
    [
        ("journald", JournaldDelivery), ("command", CommandDelivery), ("file:/x", FileDelivery),
        ("unix:/dev/log", SyslogDelivery), ("udp://h:1", SyslogDelivery), ("tls://h:1", SyslogDelivery),
    ],
)  # fmt: skip
def test_each_target_has_its_delivery(to: str, kind: type) -> None:
    delivery = delivery_to(SinkDoc.model_construct(id="x", to=to, run=("/bin/true",)))
    assert type(delivery) is kind
    assert delivery.unsure_s == (5.0 if to.startswith("tls") else 0.0)
