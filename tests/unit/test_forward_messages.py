"""Messages: the line of the trail with an id, and one line for people."""

from __future__ import annotations

import json
from typing import Any

import pytest

from policyfs.forward.follower import Item
from policyfs.forward.messages import Message, message_of
from policyfs.trail.lines.event import Event
from policyfs.trail.lines.record import Place, Record, parse_line
from tests.support.mount.trail import MOUNT_ID, a_denial, an_event, line_of

NASTY = b'/DCIM/a"b]c\\d \xff\n<13>1 forged\x1b[2J.jpg'


def item_of(event: Event, seq: int = 7) -> Item:
    raw = line_of(event, seq)[:-1]
    record = parse_line(raw, Place(MOUNT_ID, "x", 1))
    assert isinstance(record, Record)
    return Item(MOUNT_ID, raw, record)


def told(message: Message) -> dict[str, Any]:
    """The fields of a message's line."""
    fields: dict[str, Any] = json.loads(message.line)
    return fields


def test_the_line_is_that_of_the_trail_with_an_id() -> None:
    item = item_of(an_event(NASTY))
    message = message_of(item)
    assert told(message) == {"id": f"{MOUNT_ID}:7", **json.loads(item.raw)}
    assert message.line == f'{{"id":"{MOUNT_ID}:7",'.encode() + item.raw[1:]
    assert b"\n" not in message.line


def test_people_read_one_line() -> None:
    assert message_of(item_of(a_denial())).text == "gallery open /Private/a.jpg: deny EACCES no-private"
    assert message_of(item_of(an_event(NASTY))).text.isprintable()


@pytest.mark.parametrize("offset", ["7", '"', '"7\\",\\"id\\":\\"1"'])
def test_a_forged_bad_line_does_not_change_the_form(offset: str) -> None:
    raw = b'{"type":"bad_line","seq":7,"time":"2026-01-01T00:00:00.000000000Z","offset":"%s"}'
    raw = raw % json.dumps(offset)[1:-1].encode()
    record = parse_line(raw, Place(MOUNT_ID, "x", 1))
    assert isinstance(record, Record)
    assert told(message_of(Item(MOUNT_ID, raw, record)))["id"] == f"{MOUNT_ID}:x:"


def test_the_number_of_a_refused_file_is_not_that_of_its_line() -> None:
    raw = b'{"type":"quarantine","seq":3,"time":"2026-03-01T08:15:00.000000001Z","id":"0007"}'
    record = parse_line(raw, Place(MOUNT_ID, "x", 1))
    assert isinstance(record, Record)
    fields = told(message_of(Item(MOUNT_ID, raw, record)))
    assert (fields["id"], fields["file_id"]) == (f"{MOUNT_ID}:3", "0007")
