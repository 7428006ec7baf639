"""Parts that may stay: metadata that a writer put into the value of one is gone from the view.

Each part of a file that redaction keeps without understanding its value has a row here. The value is replaced
by bytes with a manifest of C2PA, an XMP packet, EXIF or a text, each with a position.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator

import pytest

from policyfs.redact.core.patches import MemorySource, apply
from policyfs.redact.exif.makernote_tags import NOTE_TABLES
from policyfs.redact.exif.makernotes import TABLES
from policyfs.redact.exif.tags import TYPE_SIZES
from policyfs.redact.plan import Outcome, locate
from tests.redaction.planted_parts import (
    Planted,
    boxes,
    matroskas,
    others,
    sounds_and_avi,
    stills,
)
from tests.support.machine.counts import SOAK
from tests.support.samples.notes import MAKERS, photo_by
from tests.support.samples.plants import PLANTS, tells

LOCATION = frozenset({"location"})
_BLOCKS = [name for name in PLANTS if "text" not in name]
_TEXTS = [name for name in PLANTS if "text" in name]


def view(kind: str, data: bytes, words: frozenset[str] = LOCATION, *, twice: bool = True) -> bytes:
    """What an app reads; nothing if the file is refused. twice: nothing is found in it again."""
    plan = locate(kind, words, MemorySource(data))
    assert "internal error" not in plan.reason
    if plan.outcome is Outcome.REFUSE:
        return b""
    out = apply(data, plan.patches)
    if twice or SOAK:
        again = locate(kind, words, MemorySource(out))
        assert again.outcome is Outcome.CLEAN, again.reason
    return out


def tiff(tag: int, kind: int, value: bytes, order: str = "<") -> bytes:
    """A TIFF of 16 x 16 pixels with one more tag."""
    pixels, count = bytes(256), len(value) // TYPE_SIZES[kind]
    rows = {256: 16, 257: 16, 258: 8, 259: 1, 262: 1, 273: 0, 277: 1, 278: 16, 279: 256}
    rows.pop(tag, None)
    at = 8 + 2 + 12 * (len(rows) + 1) + 4
    rows[273] = at
    entries = {t: struct.pack(order + "HHII", t, 4, 1, v) for t, v in rows.items()}
    entries[tag] = struct.pack(order + "HHII", tag, kind, count, at + 256)
    head = (b"II*\0" if order == "<" else b"MM\0*") + struct.pack(order + "I", 8)
    directory = struct.pack(order + "H", len(entries)) + b"".join(entries[t] for t in sorted(entries))
    return head + directory + bytes(4) + pixels + value


_KINDS = (1, 2, 3, 4, 5, 7, 11, 12)


def _tags() -> Iterator[int]:
    yield from sorted(TABLES["IFD"])
    yield from (0xCD2F, 0xCD41, 0xCD42, 0xCD45, 0xCEA1, 0xC001)


@pytest.mark.parametrize("name", PLANTS)
def test_tags_of_tiff(name: str) -> None:
    value = PLANTS[name]
    for number, tag in enumerate(_tags()):
        kinds = {7, _KINDS[number % len(_KINDS)]} if "text" not in name else {7}
        for kind in sorted(kinds):
            whole = value.ljust(-(-len(value) // 8) * 8, b"\x81")
            data = tiff(tag, kind, whole, "<>"[number % 2])
            assert tells(data)
            twice = number % 5 == 0
            assert not tells(view("image/tiff", data, twice=twice)), f"{tag:04x} of type {kind}"
            if "text" not in name:
                device = view("image/tiff", data, frozenset({"device"}), twice=twice)
                assert not tells(device), f"{tag:04x} of type {kind}"


@pytest.mark.parametrize("make", [stills, sounds_and_avi, boxes, matroskas, others])
def test_parts_that_may_stay(make: Callable[[bytes], Iterator[Planted]]) -> None:
    """Each part has one block and one text, in turn; with POLICYFS_SOAK=1 each of all."""
    rows, found = 0, 0
    files = {name: list(make(value)) for name, value in PLANTS.items()}
    for number, row in enumerate(zip(*files.values(), strict=True)):
        names = PLANTS if SOAK else (_BLOCKS[number % len(_BLOCKS)], _TEXTS[number % len(_TEXTS)])
        for name, planted in zip(PLANTS, row, strict=True):
            if name in names and not (planted.colours and name in _TEXTS):
                found += tells(planted.data)
                out = view(planted.kind, planted.data, twice=number % 5 == 0)
                assert not tells(out), f"{name} in {planted.name}"
        rows += 1
    assert rows > 200
    assert found > rows


def test_tags_of_maker_notes(monkeypatch: pytest.MonkeyPatch) -> None:
    found = 0
    for name in sorted(MAKERS.keys() & NOTE_TABLES.keys()):
        maker = MAKERS[name]
        for number, tag in enumerate(sorted(NOTE_TABLES[name])):
            value = list(PLANTS.values())[number % len(PLANTS)]
            monkeypatch.setitem(MAKERS, name, maker._replace(tags=((tag, 7, len(value), value),)))
            data = photo_by(name, "II" if number % 2 else "MM")
            found += tells(data)
            assert not tells(view("image/jpeg", data, twice=number % 5 == 0)), f"{name} {tag:04x}"
    assert found > 800
