"""The index of a Matroska file: its usual form needs no walk, and any other form is walked."""

from __future__ import annotations

import pytest

from policyfs.redact.core.patches import MemorySource
from policyfs.redact.matroska import cues
from policyfs.redact.plan import Outcome, locate
from tests.support.samples.matroskas import cluster, el, film, ident_bytes, number
from tests.support.samples.redacted import redacted

KIND = "video/x-matroska"
CUES, POINT, TIME, POSITIONS = 0x1C53BB6B, 0xBB, 0xB3, 0xB7
TRACK, CLUSTER = number(0xF7, 1), number(0xF1, 70_000)
LONG = b"\x01" + bytes(6)


def point(*positions: bytes, size: bytes | None = None) -> bytes:
    return el(POINT, number(TIME, 40), *positions, size=size)


PLAIN = el(POSITIONS, TRACK, CLUSTER)
MORE = el(POSITIONS, TRACK, CLUSTER, number(0xF0, 300), number(0xB2, 5), el(0x5378, b"\1"))


@pytest.mark.parametrize(
    ("data", "plain"),
    [
        (point(PLAIN), True),
        (point(PLAIN, MORE) * 9, True),
        (el(0xBF, b"crc4") + point(PLAIN), True),
        (point(PLAIN, size=LONG + bytes([len(number(TIME, 40) + PLAIN)])), True),
        (b"", False),
        (point(PLAIN) + b"\0", False),
        (point(PLAIN) + el(0xEC, b"in a village"), False),
        (point(PLAIN) + b"a quince", False),
        (point(el(POSITIONS, TRACK, el(0xF1, b"nine bytes"))), False),
        (point(el(POSITIONS, TRACK, el(0x4444, b"ab"))), False),
        (point(), False),
        (point(PLAIN, size=b"\x83"), False),
        (point(PLAIN, size=b"\xfe"), False),
        (point(el(POSITIONS, TRACK, CLUSTER, size=b"\x83")), False),
        (point(el(POSITIONS, TRACK, CLUSTER, size=b"\xfe")), False),
        (el(POINT, PLAIN), False),
    ],
)
def test_an_index_by_its_form(data: bytes, plain: bool) -> None:
    assert (cues.cluster_positions(data) is not None) is plain


def test_too_many_entries(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cues, "MAX_POINTS", 9)
    assert cues.cluster_positions(point(PLAIN) * 9) is not None
    assert cues.cluster_positions(point(PLAIN) * 10) is None


def test_positions_of_clusters() -> None:
    other = el(POSITIONS, number(0xF1, 9), TRACK, el(0xF1, b"\0\0\xf1"), number(0xF0, 0xF181F1))
    found = cues.cluster_positions(point(PLAIN) + point(MORE, other) * 2)
    assert found == {(70_000).to_bytes(3), b"\x09", b"\0\0\xf1"}


def test_a_film_with_a_key_frame_for_each_picture_is_served() -> None:
    start = film(cluster())
    at = start.index(ident_bytes(0x1F43B675)) - start.index(ident_bytes(0x1549A966))
    data = film(cluster(), el(CUES, point(el(POSITIONS, TRACK, number(0xF1, at))) * 36_000))
    assert locate(KIND, frozenset({"location"}), MemorySource(data)).outcome is Outcome.CLEAN


def test_an_index_with_a_text_loses_the_text() -> None:
    text = b"47.8045 N, 13.0423 E"
    out = redacted(KIND, film(el(CUES, point(PLAIN), el(0x4444, text), point(PLAIN))), "location")
    assert text not in out
    assert out.count(point(PLAIN)) == 2
