"""Messages to deliver, and their forms: JSON lines, syslog (RFC 5424) and fields of journald (pure)."""

from __future__ import annotations

import base64
import json
import re
import struct
import zlib
from collections.abc import Iterator, Mapping
from typing import Final, NamedTuple

from policyfs.forward.follower import BAD, BROKEN, GAP, Item
from policyfs.trail.event import DENY
from policyfs.trail.record import Fields, Record
from policyfs.trail.render import paths, why
from policyfs.trail.sentences import describe
from policyfs.trail.summary import COUNTED
from policyfs.trail.table import shown

ALERT: Final = "alert"
CHECKPOINT: Final = "checkpoint"

SEVERE, WARNING, NOTICE, INFO = 3, 4, 5, 6
"""Severities of syslog: error, warning, notice, informational."""

_NOT_IN_NAMES: Final = re.compile("[^!-~]")
_FACILITY: Final = 13  # log audit
_SD_ID: Final = "policyfs@32473"  # RFC 5612: the enterprise number for documentation; policyfs has none
_SD_FIELDS: Final = ("app", "uid", "operation", "decision", "errno", "rules", "path", "new_path", "kind")
_TIME: Final = re.compile(r"(.*\.\d{6})\d*Z")
_JOURNAL_NAME: Final = re.compile(r"[^A-Z0-9_]")
_TEXT_MOST: Final = 2048


class Message(NamedTuple):
    """One message to deliver: a line of the trail, an alert, or a checkpoint (signed end of a trail).

    kind: the type of the record, or ALERT or CHECKPOINT. id: it stays the same if the message is sent again.
    time: such as ``2026-03-01T08:15:00.000000001Z``. severity: a severity of syslog. text: one line for
    people. line: the bytes of the JSON line, or of the checkpoint. fields: the parsed fields of the JSON
    line.
    """

    kind: str
    id: str
    time: str
    severity: int
    text: str
    line: bytes
    fields: Mapping[str, object]


def message_of(item: Item) -> Message:
    """Return the message for a line of the trail. Its JSON has the line's id and then the line's fields."""
    record = item.record
    name = f"{item.mount_id}:{record.seq}"
    if item.kind == BAD:
        offset = record.fields.get("offset")  # anything, if the trail itself has a record of this type
        name = f"{item.mount_id}:{record.place.segment}:{offset if isinstance(offset, int) else ''}"
    elif item.kind in {GAP, BROKEN}:
        name = f"{item.mount_id}:after:{record.seq}:{zlib.crc32(item.raw):08x}"  # two may have one seq
    fields = with_id(name, record.fields)
    line = f'{{"id":"{name}",'.encode() + item.raw[1:]
    if "id" in record.fields:  # readers of JSON take the last of two members of one name
        line = json.dumps(fields, separators=(",", ":")).encode()
    time = str(record.fields["time"])
    return Message(item.kind, name, time, _severity(record), _text(record), line, fields)


def with_id(name: str, fields: Mapping[str, object]) -> Fields:
    """Return the fields of a record, with the record's id as ``id``.

    If the record has a field ``id`` already (the id of a file in the quarantine), it becomes ``file_id``.
    """
    return {"id": name, **{"file_id" if key == "id" else key: value for key, value in fields.items()}}


def _severity(record: Record) -> int:
    if record.event is not None:
        return NOTICE if record.event.decision == DENY else INFO
    if record.kind in COUNTED or record.kind in {GAP, BROKEN, BAD}:
        return SEVERE
    return NOTICE if record.kind in {"policy", "detached", "failed", "clock", "pruned"} else INFO


def _text(record: Record) -> str:
    event = record.event
    if event is None:
        if record.kind in {GAP, BROKEN, BAD}:
            return f"{record.kind} after seq {record.seq}: {shown(str(record.fields.get('reason')))}"
        return describe(record)
    who = shown(event.app) if event.app != "stranger" else f"uid {event.uid}"
    return f"{who} {shown(event.operation)} {paths(event)}: {shown(event.decision)} {why(event)}".rstrip()


def made(kind: str, name: str, time: str, severity: int, text: str, fields: Fields) -> Message:
    """Return a message that is not a line of the trail, such as an alert."""
    whole: Fields = {"type": kind, "id": name, "time": time, "text": text, **fields}
    return Message(kind, name, time, severity, text, json.dumps(whole, separators=(",", ":")).encode(), whole)


# -- syslog


def syslog(message: Message, host: str, pid: int, *, as_text: bool = False, most: int | None = None) -> bytes:
    """Return a message in the form of RFC 5424 (syslog). host, pid: of the sender. most: the limit in bytes.

    If the message is longer, its part MSG is the text for people (at most 2,048 bytes), and its structured
    data has ``cut="1"``. as_text: True if MSG is the text for people in any case.
    """
    moment = _TIME.sub(r"\1Z", message.time)
    kind = _NOT_IN_NAMES.sub("_", message.kind)[:32] or "-"  # a changed line may have any text as its type
    head = f"<{_FACILITY * 8 + message.severity}>1 {moment} {host} policyfs {pid} {kind} "
    data = _data(message, cut=False)
    body = message.text.encode() if as_text else message.line
    whole = b"%b%b %b" % (head.encode(), data, body)
    if most is None or len(whole) <= most:
        return whole
    text = message.text.encode()[:_TEXT_MOST]
    return b"%b%b %b" % (head.encode(), _data(message, cut=True), text.decode("utf-8", "ignore").encode())


def _data(message: Message, *, cut: bool) -> bytes:
    parts = [f'id="{_sd(message.id)}"']
    for name in _SD_FIELDS:
        value = message.fields.get(name)
        if isinstance(value, list):
            value = " ".join(map(str, value))
        if value not in (None, ""):
            parts.append(f'{name}="{_sd(str(value)[:_TEXT_MOST])}"')
    if cut:
        parts.append('cut="1"')
    return f"[{_SD_ID} {' '.join(parts)}]".encode()


def _sd(text: str) -> str:
    return re.sub(r'(["\\\]])', r"\\\1", shown(text))


# -- journald


def journal_fields(message: Message) -> Iterator[tuple[str, bytes]]:
    """Yield the fields of a message for journald, as pairs of name and bytes.

    A list of texts gives one field for each text. An empty list or None gives no field. A number, another
    list or a mapping gives one field in JSON. If the message has a field NAME_b64 (base64), journald's field
    for NAME has the decoded bytes. A field NAME_b64 that is no base64, as in a damaged line, is ignored.
    """
    yield "MESSAGE", message.text.encode()
    yield "PRIORITY", str(message.severity).encode()
    yield "SYSLOG_IDENTIFIER", b"policyfs"
    yield "POLICYFS_ID", message.id.encode()
    for name, value in message.fields.items():
        field = "POLICYFS_" + _JOURNAL_NAME.sub("_", name.upper())
        if name == "id" or name.endswith("_b64"):
            continue
        exact = _decoded(message.fields.get(name + "_b64"))
        if exact is not None:
            yield field, exact
        elif isinstance(value, list) and value and all(isinstance(one, str) for one in value):
            yield from ((field, one.encode("utf-8", "surrogatepass")) for one in value)
        elif isinstance(value, str):
            yield field, value.encode("utf-8", "surrogatepass")
        elif value not in ([], None):
            yield field, json.dumps(value).encode()


def _decoded(text: object) -> bytes | None:
    try:
        return base64.b64decode(text, validate=True) if isinstance(text, str) else None
    except ValueError:
        return None


def journal_datagram(message: Message) -> bytes:
    """Return a message in journald's native form. Each field is a line ``NAME=VALUE``.

    If the value contains a newline, the field is: the name, a newline, the length of the value (8 bytes,
    little-endian), the value, and a newline.
    """
    parts = []
    for name, value in journal_fields(message):
        if b"\n" in value:
            parts.append(b"%b\n%b%b\n" % (name.encode(), struct.pack("<Q", len(value)), value))
        else:
            parts.append(b"%b=%b\n" % (name.encode(), value))
    return b"".join(parts)
