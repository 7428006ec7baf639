"""Entries of camcorders' messages: what each of them tells."""

from __future__ import annotations

from policyfs.redact.bitstreams import sei
from policyfs.redact.bitstreams.camera_data import MARK, entries
from policyfs.redact.core.categories import NOTHING, UNKNOWN, Tells
from tests.support.samples.mpegs import EXPOSED, GPS, PLACE, mdpm
from tests.unit.test_redact_registry import cleaners

TIME = b"\x18\2\x20\x24\5"
CAMERA = b"\xe0\0\1\3\0"


def told(payload: bytes) -> list[Tells]:
    return [entry.tells for entry in entries(MARK + payload)]


def test_what_entries_tell():
    place = Tells.LOCATION | Tells.TIME
    assert told(b"\4" + TIME + EXPOSED + GPS[0] + CAMERA) == [Tells.TIME, Tells.OTHER, place, Tells.DEVICE]
    assert told(b"\1" + b" " * 5) == [NOTHING]
    assert told(b"\2" + b"\xf3home" + b"\xb0ab") == [UNKNOWN, UNKNOWN]
    assert told(b"\0at home") == [UNKNOWN]
    assert told(b"") == []
    assert told(b"\0\0\0") == []


def test_entries_go_one_by_one():
    unit = mdpm(TIME, EXPOSED, *GPS, CAMERA)[4:]
    for hide, kept, gone in (
        (Tells.LOCATION, (TIME, EXPOSED, CAMERA), GPS),
        (Tells.DEVICE, (TIME, EXPOSED, *GPS), (CAMERA,)),
        (Tells.TIME, (EXPOSED, CAMERA), (TIME, *GPS)),
    ):
        new = sei.blanked(unit, 1, cleaners(hide))
        assert new is not None
        plain = new.data.replace(b"\0\0\3", b"\0\0")
        assert all(entry in plain for entry in kept)
        assert not [entry for entry in gone if entry in plain]
        assert sei.blanked(new.data, 1, cleaners(hide)) is None


def test_a_text_among_entries_goes_with_all_of_them():
    new = sei.blanked(mdpm(TIME, b"\xe4" + PLACE + b"ab")[4:], 1, cleaners())
    assert new is not None
    assert PLACE[:8] not in new.data
    assert TIME not in new.data
