"""Files of boxes with pictures in them: what a format does not know becomes free space."""

from __future__ import annotations

import pytest

from policyfs.redact.core.categories import hidden_by
from policyfs.redact.core.cleaners import Cleaned, Found, NotThisKindError
from policyfs.redact.core.patches import MemorySource, apply, in_order
from policyfs.redact.isobmff import box_file
from policyfs.redact.isobmff.boxes import Box
from policyfs.redact.isobmff.item_data import Gathered, Span
from tests.support.samples.inners import Plain
from tests.support.samples.movies import box

FTYP = box(b"ftyp", b"test")


class Pictures(box_file.BoxFile):
    """A format with pictures anywhere, and notes that lose their vowels."""

    name = "test"
    ftyp_bytes = 16
    brand = b"test"

    def box(self, box: Box) -> bool:
        if box.kind == b"pict":
            self.ground.claim(Gathered(self.source, [Span(box.body, box.end)]), Found(), media=True)
            self.ground.area(box.body, box.end)
            return True
        return box.kind == b"note" and self.block(
            box, lambda data, _: Cleaned(data.replace(b"o", b" ")) if data else None
        )


def read(data: bytes) -> bytes:
    found = Pictures(MemorySource(data), Plain(hidden_by(["location"]))).locate()
    return apply(data, in_order(found.patches, len(data)))


def test_known_boxes_stay_and_others_are_freed():
    picture = FTYP + box(b"pict", b"picture")
    out = read(picture + box(b"note", b"foo") + box(b"what", b"secret") + box(b"mdat", b"secret") + b"secret")
    free, mdat = box(b"free", bytes(6)), box(b"mdat", bytes(6))
    assert out == picture + box(b"note", b"f  ") + free + mdat + bytes(6)
    assert read(picture + box(b"note")) == picture + box(b"free")


def test_a_payload_that_is_too_long_is_not_read(monkeypatch):
    monkeypatch.setattr(box_file, "MAX_PAYLOAD_BYTES", 2)
    picture = FTYP + box(b"pict", b"picture")
    assert read(picture + box(b"note", b"foo")) == picture + box(b"free", bytes(3))


@pytest.mark.parametrize(
    "data",
    [
        b"",
        box(b"pict", b"picture"),
        box(b"ftyp", b"else") + box(b"pict", b"picture"),
        box(b"ftyp", b"test, and more") + box(b"pict", b"picture"),
        b"\0\0\0\x10ftyptest",
    ],
)
def test_what_does_not_start_like_such_a_file(data):
    with pytest.raises(NotThisKindError, match="start like a test file"):
        read(data)


def test_a_file_without_a_picture():
    with pytest.raises(NotThisKindError, match="no picture"):
        read(FTYP + box(b"note", b"foo"))
