"""The forms of a message: nothing of a path is lost or breaks out of its field."""

from __future__ import annotations

import json
import re
import struct
from pathlib import Path

import pytest

from policyfs.forward.follower import Item
from policyfs.forward.messages import journal_datagram, journal_fields, made, message_of, syslog
from policyfs.trail.event import Event
from policyfs.trail.record import Place, Record, parse_line
from tests.support.mount.trail import MOUNT_ID, a_denial, an_event, line_of

NASTY = b'/DCIM/a"b]c\\d \xff\n<13>1 forged\x1b[2J.jpg'


def item_of(event: Event, seq: int = 7) -> Item:
    raw = line_of(event, seq)[:-1]
    record = parse_line(raw, Place(MOUNT_ID, "x", 1))
    assert isinstance(record, Record)
    return Item(MOUNT_ID, raw, record)


def fields_of(data: bytes) -> list[tuple[str, bytes]]:
    """Parse journald's native form, as journald does."""
    found = []
    while data:
        head, _, rest = data.partition(b"\n")
        if b"=" in head:
            name, _, value = head.partition(b"=")
            data = rest
        else:
            (size,) = struct.unpack_from("<Q", rest)
            name, value = head, rest[8 : 8 + size]
            assert rest[8 + size : 9 + size] == b"\n"
            data = rest[9 + size :]
        found.append((name.decode(), value))
    return found


def test_the_line_is_that_of_the_trail_with_an_id() -> None:
    item = item_of(an_event())
    message = message_of(item)
    assert json.loads(message.line) == {"id": f"{MOUNT_ID}:7", **json.loads(item.raw)}
    assert message.line == f'{{"id":"{MOUNT_ID}:7",'.encode() + item.raw[1:]


def test_people_read_one_line() -> None:
    assert message_of(item_of(a_denial())).text == "gallery open /Private/a.jpg: deny EACCES no-private"
    assert "\n" not in message_of(item_of(an_event(NASTY))).text


def test_what_somebody_should_look_at_is_louder() -> None:
    def severity(kind: str) -> int:
        fields = {"type": kind, "time": "2026-01-01T00:00:00.0Z"}
        record = Record(Place(MOUNT_ID, "x", 1), kind, 7, 1, fields, None)
        return message_of(Item(MOUNT_ID, b'{"type":""}', record)).severity

    assert message_of(item_of(a_denial())).severity < message_of(item_of(an_event())).severity
    assert severity("killed") == severity("damage") < severity("policy") < severity("header")


@pytest.mark.parametrize("offset", ["7", '"', '"7\\",\\"id\\":\\"1"'])
def test_a_forged_bad_line_does_not_change_the_form(offset: str) -> None:
    raw = b'{"type":"bad_line","seq":7,"time":"2026-01-01T00:00:00.000000000Z","offset":"%s"}'
    raw = raw % json.dumps(offset)[1:-1].encode()
    record = parse_line(raw, Place(MOUNT_ID, "x", 1))
    assert isinstance(record, Record)
    assert json.loads(message_of(Item(MOUNT_ID, raw, record)).line)["id"] == f"{MOUNT_ID}:x:"


def test_journald_gets_the_exact_bytes_of_a_path() -> None:
    message = message_of(item_of(an_event(NASTY, rules=("one", "two"))))
    found = fields_of(journal_datagram(message))
    assert found == list(journal_fields(message))
    values = dict(found)
    assert values["POLICYFS_PATH"] == NASTY
    assert values["POLICYFS_UID"] == b"10011"
    assert [value for name, value in found if name == "POLICYFS_RULES"] == [b"one", b"two"]
    assert all(re.fullmatch("[A-Z][A-Z0-9_]*", name) for name, _ in found)
    assert values["PRIORITY"] == b"6"


@pytest.mark.parametrize("exact", ["L2NhZu=", "L2NhZuk", "L2?NhZuk=", "\u00e9"])
def test_a_field_that_is_no_base64_takes_no_other_field_away(exact: str) -> None:
    """Somebody has changed the line, or the disk has. The lines after it must be delivered, too."""
    line = {"type": "quarantine", "seq": 3, "time": "2026-01-01T00:00:00.000000000Z", "done": "drop"}
    raw = json.dumps(line | {"id": "x", "path": "/caf\ufffd", "path_b64": exact}).encode()
    record = parse_line(raw, Place(MOUNT_ID, "x", 1))
    assert isinstance(record, Record)
    values = dict(journal_fields(message_of(Item(MOUNT_ID, raw, record))))
    assert values["POLICYFS_PATH"] == "/caf\ufffd".encode()
    assert values["POLICYFS_DONE"] == b"drop"


def test_syslog_is_rfc_5424_whatever_the_name_of_a_file() -> None:
    line = syslog(message_of(item_of(an_event(NASTY))), "host", 4)
    assert b"\n" not in line
    found = re.fullmatch(
        rb"<(\d+)>1 (\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z) host policyfs 4 event "
        rb'\[policyfs@32473((?: \w+="(?:[^"\\\]]|\\["\\\]])*")*)\] (\{.*\})',
        line,
    )
    assert found is not None, line
    assert found[1] == b"110"
    assert json.loads(found[4])["path_b64"]
    assert rb'path="/DCIM/a\"b\]c\\\\d \\\\xff\\x0a<13>1 forged\\x1b' in found[3] or b"forged" in found[3]


def test_a_message_that_is_too_long_is_text_and_says_so() -> None:
    event = an_event(redacted=tuple((at, 1) for at in range(250)))
    whole = syslog(message_of(item_of(event)), "h", 1)
    cut = syslog(message_of(item_of(event)), "h", 1, most=1000)
    assert len(whole) > 1000 > len(cut)
    assert b'cut="1"' in cut
    assert b'cut="1"' not in whole


def test_the_sizes_of_journal_fields_are_told(tmp_path: Path) -> None:
    message = message_of(item_of(an_event(b"/a\nb")))
    assert b"POLICYFS_PATH\n" + struct.pack("<Q", 4) + b"/a\nb\n" in journal_datagram(message)


def test_a_changed_type_takes_no_other_message_away() -> None:
    message = made("\ud800 x\n", "a:1", "2026-03-01T08:15:00.000000001Z", 5, "text", {})
    assert b" policyfs 7 __x_ [" in syslog(message, "host", 7, as_text=True)


def test_the_number_of_a_refused_file_is_not_that_of_its_line() -> None:
    raw = b'{"type":"quarantine","seq":3,"time":"2026-03-01T08:15:00.000000001Z","id":"0007"}'
    record = parse_line(raw, Place(MOUNT_ID, "x", 1))
    assert isinstance(record, Record)
    message = message_of(Item(MOUNT_ID, raw, record))
    told = json.loads(message.line)
    assert (told["id"], told["file_id"]) == (f"{MOUNT_ID}:3", "0007")
    assert ("POLICYFS_FILE_ID", b"0007") in list(journal_fields(message))
