"""Messages to deliver: lines of the trail with an id, and alerts (pure)."""

from __future__ import annotations

import json
import zlib
from collections.abc import Mapping
from typing import NamedTuple

from policyfs.forward.follower import BAD, BROKEN, GAP, Item
from policyfs.trail.lines.record import Fields, Record
from policyfs.trail.lines.table import shown
from policyfs.trail.text.render import paths, why
from policyfs.trail.text.sentences import describe


class Message(NamedTuple):
    """One message to deliver: a line of the trail, or an alert.

    id: it stays the same if the message is sent again. time: such as ``2026-03-01T08:15:00.000000001Z``.
    text: one line for people. line: the bytes of the JSON line.
    """

    id: str
    time: str
    text: str
    line: bytes


def message_of(item: Item) -> Message:
    """Return the message for a line of the trail. Its JSON has the line's id and then the line's fields."""
    record = item.record
    name = f"{item.mount_id}:{record.seq}"
    if item.kind == BAD:
        offset = record.fields.get("offset")  # anything, if the trail itself has a record of this type
        name = f"{item.mount_id}:{record.place.segment}:{offset if isinstance(offset, int) else ''}"
    elif item.kind in {GAP, BROKEN}:
        name = f"{item.mount_id}:after:{record.seq}:{zlib.crc32(item.raw):08x}"  # two may have one seq
    line = f'{{"id":"{name}",'.encode() + item.raw[1:]
    if "id" in record.fields:  # readers of JSON take the last of two members of one name
        line = json.dumps(with_id(name, record.fields), separators=(",", ":")).encode()
    return Message(name, str(record.fields["time"]), _text(record), line)


def with_id(name: str, fields: Mapping[str, object]) -> Fields:
    """Return the fields of a record, with the record's id as ``id``. If the record has a field ``id`` already
    (the id of a file in the quarantine), it becomes ``file_id``."""
    return {"id": name, **{"file_id" if key == "id" else key: value for key, value in fields.items()}}


def _text(record: Record) -> str:
    event = record.event
    if event is None:
        if record.kind in {GAP, BROKEN, BAD}:
            return f"{record.kind} after seq {record.seq}: {shown(str(record.fields.get('reason')))}"
        return describe(record)
    who = shown(event.app) if event.app != "stranger" else f"uid {event.uid}"
    return f"{who} {shown(event.operation)} {paths(event)}: {shown(event.decision)} {why(event)}".rstrip()


def alert_message(name: str, time: str, text: str, fields: Fields) -> Message:
    """Return the message of an alert. name: the id of the message. fields: more fields of its line."""
    whole: Fields = {"type": "alert", "id": name, "time": time, "text": text, **fields}
    return Message(name, time, text, json.dumps(whole, separators=(",", ":")).encode())
