"""The search of frames in C: it passes over no frame that Python code would change, and over most others."""

from __future__ import annotations

from array import array

import hypothesis
import hypothesis.strategies as st
import pytest

from policyfs.redact.bitstreams import _heads
from policyfs.redact.bitstreams.decoder_config import Framing
from policyfs.redact.bitstreams.frame_table import _suspects, form_of
from policyfs.redact.bitstreams.frames import Frame, UnitLimits, clean_frame, is_picture
from policyfs.redact.bitstreams.layers import Layers
from policyfs.redact.bitstreams.nal_units import AV1, AVC, HEVC, MPEG, VVC
from policyfs.redact.bitstreams.photos import clean_photo
from policyfs.redact.core.block_starts import _LONG_MARKS
from policyfs.redact.core.categories import Tells, hidden_by
from policyfs.redact.core.cleaners import Cleaned, NotThisKindError, TooMuchError
from policyfs.redact.core.frame_table import FrameForm, FrameTable
from policyfs.redact.core.patches import MemorySource, apply
from policyfs.redact.plan import Outcome, locate
from tests.support.machine.counts import count
from tests.support.samples import pngs
from tests.support.samples.heifs import obu
from tests.support.samples.inners import Plain
from tests.support.samples.jpegs import exif, exif_segment, plain, segment, with_segments
from tests.support.samples.movies import CITY, SLICE, sei

EVERY = hidden_by(["all-metadata"])
PLACE = hidden_by(["location"])


class Pictures(Plain):
    """Cleans JPEG and PNG as files of their own."""

    def image(self, data: bytes) -> Cleaned | None:
        kind = "image/jpeg" if data.startswith(b"\xff\xd8\xff") else "image/png"
        words = frozenset({"location"} if self.hide == PLACE else {"all-metadata"})
        plan = locate(kind, words, MemorySource(data))
        return None if plan.outcome is Outcome.REFUSE else Cleaned(apply(data, plan.patches))


def passed_over(frame: bytes, form: FrameForm, hide: Tells = EVERY) -> bool:
    table = FrameTable(array("Q", (3,)), array("Q", (3 + len(frame),)), array("H", (0,)), (form,))
    return not list(_suspects(table, MemorySource(b"abc" + frame + b"\0\0\1\x06"), Plain(hide)))


def changes(frame: bytes, coded: Framing | None, lead: bytes, hide: Tells) -> bool:
    """Whether the Python code changes or refuses a frame."""
    one, source, inner = Frame(0, len(frame), lead), MemorySource(frame), Pictures(hide)
    try:
        found = [] if coded is None else clean_frame(source, one, coded, inner, UnitLimits()).patches
        if coded is None or coded.codec is MPEG or is_picture(source, one):
            found = found + clean_photo(source, one, inner).patches
    except (NotThisKindError, TooMuchError):
        return True
    return bool(found)


def nal(unit: bytes, length: int = 4) -> bytes:
    return len(unit).to_bytes(length) + unit


few = st.binary(max_size=9) | st.sampled_from([one + b"\xff\1" for one in _LONG_MARKS])
payloads = few | st.sampled_from(
    [
        *(b"\xff" * 7, bytes(9), b"\xff" * 300, CITY * 2, b"\0\0\3\0\0\3\1", b"\0\0\1\x06"),
        *(b"\xb5\0\x31GA94\3\xc2\xff\xfcAB\xfcCD\xff", b"\xb5\0\x31GA94\3\x41", b"\xb5\0\x31DTG1\x41\xf8"),
        *(b"\xb5\0\x3c\0\1\4brightness", b"\xb5\0\x3b" + bytes(40), b"\xb5\x58\x90" + b"\0a" * 8),
        *(b"\xb5\0\x3c" + b"twelve letters", b"\xb5\0\x99", bytes(range(16, 32)), b"\x26\0\4" + bytes(1100)),
        *(b"\xb5\0\x31GA94\3\x5f\xff47.80453, 13.04229", b"47.80453, 13.04229\0"),
        *(b"\1jumb\0c2pa", b"\0E\0x\0i\0f\0"),
        *(b"GA94\3\1\2", b"CC\1\xf8\1", b"GA94\4", b" " * 9, b"\xff ", b"CC\1\xf8" + bytes(300) + b"x"),
    ]
)
numbers = st.integers(0, 255) | st.sampled_from([1, 3, 4, 5, 136, 137, 144, 300])


def message(kind: int, payload: bytes) -> bytes:
    return b"".join(b"\xff" * (n // 255) + bytes((n % 255,)) for n in (kind, len(payload))) + payload


messages = st.lists(st.builds(message, numbers, payloads) | few, max_size=3).map(b"".join)
endings = st.sampled_from([b"\x80", b"", b"\x80\0\0", b"\0", b"\x40", b"\xff\x80"])
uuids = st.sampled_from(
    [
        *(bytes.fromhex(first) + bytes(12) for first in ("0387f44e", "b9edb930", "e958f491")),
        *(b"MISPmicrosectime", b"MISPnanosectime\0", bytes.fromhex("dc45e9bde6d948b7962cd820d923eeef")),
    ]
)
behind_uuids = st.binary(max_size=9) | st.sampled_from(
    [
        b"47.8,13",
        b"12:34:56",
        b"8\xb06'",
        b"osm.org/",
        b"N47",
        b"\1\0\xff12",
        b"2024-5-6 47.80453 13.04229",
        b"x" * 40,
    ]
)
marks = st.builds(lambda uuid, rest: b"\x06" + message(5, uuid + rest) + b"\x80", uuids, behind_uuids)


@hypothesis.given(marks, st.sampled_from([EVERY, PLACE, hidden_by(["time"]), hidden_by(["device"])]))
@hypothesis.settings(max_examples=count(200, 5_000), deadline=None)
def test_marks_of_encoders_and_times_in_frames(unit: bytes, hide: Tells) -> None:
    data, coded = nal(unit) + SLICE, Framing(AVC, 4)
    if passed_over(data, form_of(coded), hide):
        assert not changes(data, coded, b"", hide)


units = st.builds(
    lambda head, body, end: head + body + end,
    st.sampled_from(
        [
            *(
                b"\x06",
                b"\x65",
                b"\x67",
                b"\x09",
                b"\x0c",
                b"\x18",
                b"\x0b",
                b"\x1e",
                b"\x1c",
                b"\0",
                b"\xff",
                b"\x21",
                b"\xb6",
                b"\xbf",
            ),
            *(
                b"\x4e\1",
                b"\x50\1",
                b"\x26\1",
                b"\x42\1",
                b"\x4c\1",
                b"\x7c\1",
                b"\x7e\1",
                b"\x60\1",
                b"\0\0",
            ),
            *(b"\0\xb9", b"\0\xc1", b"\0\1", b"\0\x79", b"\0\x21", b"\0\xe1", b"\xb2", b"\xb3\1", b""),
        ]
    ),
    messages | payloads | few,
    endings,
)


@st.composite
def frames(draw: st.DrawFn) -> tuple[bytes, Framing]:
    codec = draw(st.sampled_from([AVC, HEVC, VVC]))
    size = draw(st.sampled_from([0, 1, 2, 4, 4, 4]))
    parts = []
    for unit in draw(st.lists(units, max_size=5)):
        code = draw(st.sampled_from([b"\0\0\1", b"\0\0\0\1"]))
        parts.append(nal(unit, size) if size and len(unit) < 256 and draw(st.booleans()) else code + unit)
    return b"".join(parts) + draw(st.sampled_from([b"", b"", b"\0", b"\0\0\0\0", b"\0\0\0\x09", b"what"])), (
        Framing(codec, size, draw(st.sampled_from([Layers.NONE, Layers.NONE, *Layers])))
    )


@hypothesis.given(frames(), st.integers(0, 7), st.sampled_from([EVERY, PLACE]))
@hypothesis.settings(max_examples=count(200, 5_000), deadline=None)
def test_frames_of_units(frame: tuple[bytes, Framing], lead: int, hide: Tells) -> None:
    data, coded = frame
    head, rest = (data[:lead], data[lead:]) if lead > 4 else (b"", data)
    if passed_over(rest, form_of(coded, head), hide):
        assert not changes(rest, coded, head, hide)


def one_obu(kind: int, body: bytes, sized: bool) -> bytes:
    size = bytes((len(body) & 0x7F | 0x80, len(body) >> 7)) if len(body) > 127 else bytes((len(body),))
    return bytes((kind << 3 | 2 * sized,)) + size * sized + body


obus = st.builds(
    one_obu,
    st.integers(0, 15),
    st.builds(
        lambda head, body, end: head + body + end, few | st.sampled_from([b"\4", b"\1"]), payloads, endings
    ),
    st.sampled_from([True, True, True, False]),
)


@hypothesis.given(st.lists(obus, max_size=5).map(b"".join), few, st.sampled_from([EVERY, PLACE]))
@hypothesis.settings(max_examples=count(200, 5_000), deadline=None)
def test_frames_of_av1(data: bytes, behind: bytes, hide: Tells) -> None:
    data, coded = data + behind, Framing(AV1, 0)
    if passed_over(data, form_of(coded), hide):
        assert not changes(data, coded, b"", hide)


@hypothesis.given(st.lists(units | payloads, max_size=5), few, st.sampled_from([EVERY, PLACE]))
@hypothesis.settings(max_examples=count(200, 5_000), deadline=None)
def test_frames_of_mpeg(parts: list[bytes], before: bytes, hide: Tells) -> None:
    data, coded = before + b"".join(b"\0\0\1" + part for part in parts), Framing(MPEG, 0)
    if passed_over(data, form_of(coded), hide):
        assert not changes(data, coded, b"", hide)


PHOTO = plain(size=16)
PNG = pngs.plain()
SEGMENTS = [
    *(exif_segment(exif("MM")), segment(0xFE, b"a comment"), segment(0xE0, b"JFIF\0\1\1\0\0\1\0\1\0\0")),
    *(segment(0xE0, b"JFIF\0\1\1\0\0\1\0\1\1\1abc"), segment(0xE0, b"AVI1" + bytes(10)), segment(0xE5, b"x")),
    *(segment(0xE0, b"AVI1" + bytes(9) + b"abc"), segment(0xDD, b"\0\1"), segment(0xDB, b"\0abc")),
    *(segment(0xC4, b"\0" + bytes(16)), segment(0xEE, b"Adobe\0\x64\0\0\0\0\0"), b"\xff\xd0", b"\xff\xff"),
]


@st.composite
def photos(draw: st.DrawFn) -> bytes:
    data = bytearray(draw(st.sampled_from([PHOTO, PHOTO, PNG])))
    for _ in range(draw(st.integers(0, 3))):
        at = draw(st.integers(0, len(data)))
        data[at : at + draw(st.integers(0, 2))] = draw(few | st.sampled_from(SEGMENTS))
    whole = bytes(data)
    if draw(st.booleans()) and whole.startswith(b"\xff\xd8"):
        whole = with_segments(whole, *draw(st.lists(st.sampled_from(SEGMENTS), max_size=3)))
    behind = draw(st.sampled_from([b"", b"\0\0", PHOTO, b"\0" + PHOTO, b"trailer", b"\0\0\0\x10ftypisom"]))
    return draw(st.sampled_from([b"", b"", b"\0", b"frame"])) + whole + behind


@hypothesis.given(
    photos(),
    st.sampled_from([EVERY, PLACE]),
    st.sampled_from([None, Framing(MPEG, 0), Framing(AVC, 4), Framing(AV1, 0)]),
)
@hypothesis.settings(max_examples=count(200, 5_000), deadline=None)
def test_frames_that_are_pictures(data: bytes, hide: Tells, coded: Framing | None) -> None:
    if passed_over(data, form_of(coded), hide):
        assert not changes(data, coded, b"", hide)


@pytest.mark.parametrize(
    ("frame", "coded"),
    [
        (SLICE, Framing(AVC, 4)),
        (nal(b"\x09\xf0") + nal(b"\x67\x42\0\x1e") + nal(b"\x06\1\2\0\3\x80") + SLICE, Framing(AVC, 4)),
        (b"\0\0\0\1\x09\xf0\0\0\0\1\x06\0\1\x80\x80\0\0\1\x65slice", Framing(AVC, 0)),
        (nal(b"\x0c" + b"\xff" * 900 + b"\x80") + SLICE, Framing(AVC, 4)),
        (sei(4, b"\xb5\0\x31GA94\3\xc2\xff\xfcAB\xfcCD\xff") + SLICE, Framing(AVC, 4)),
        (nal(b"\x4e\1\x04\x09\xb5\0\x3c\0\1\4HDR\x80") + nal(b"\x26\1slice"), Framing(HEVC, 4)),
        (obu(2, b"") + obu(5, b"\1abcd\x80") + obu(6, b"slice"), Framing(AV1, 0)),
        (b"\0\0\1\xb3abc\0\0\1\xb2GA94\3\1\2\0\0\1\0slice", Framing(MPEG, 0)),
        (PHOTO, None),
        (with_segments(PHOTO, SEGMENTS[2], SEGMENTS[4], SEGMENTS[7]) + bytes(5) + PHOTO, None),
        (b"a frame of another codec" * 90, None),
    ],
)
def test_usual_frames_are_passed_over(frame: bytes, coded: Framing | None) -> None:
    assert passed_over(frame, form_of(coded))


def test_marks_of_encoders_are_passed_over_if_they_need_not_go() -> None:
    frame = sei(5, bytes.fromhex("0387f44e") + bytes(range(14))) + SLICE
    assert passed_over(frame, form_of(Framing(AVC, 4)), PLACE)
    assert not passed_over(frame, form_of(Framing(AVC, 4)), hidden_by(["device"]))
    frame = sei(5, b"MISPmicrosectime" + bytes(12)) + SLICE
    assert passed_over(frame, form_of(Framing(AVC, 4)), PLACE)
    assert not passed_over(frame, form_of(Framing(AVC, 4)), hidden_by(["time"]))


@pytest.mark.parametrize("wrong", ["ends", "tracks", "rules", "leads", "order", "codes"])
def test_arrays_that_do_not_fit_are_not_taken(wrong: str) -> None:
    one, track, rules = array("Q", (0,)), array("H", (0,)), array("Q", bytes(8 * 15))
    ends, leads = array("Q", (2,)), (b"",)
    match wrong:
        case "ends":
            ends = array("Q")
        case "tracks":
            track = array("H", (1,))
        case "rules":
            rules = array("Q", bytes(8 * 14))
        case "leads":
            leads = ("",)
        case "order":
            one = array("Q", (3,))
        case _:
            ends = array("L", (2,))
    with pytest.raises((ValueError, TypeError)):
        _heads.suspects(b"abcd", 0, one, ends, track, rules, leads, 0, array("I", bytes(8)))


def test_a_frame_that_is_not_whole_in_the_bytes_is_left() -> None:
    one, track, rules = array("Q", (0,)), array("H", (0,)), array("Q", bytes(8 * 15))
    ends, found = array("Q", (2,)), array("I", bytes(8))
    assert _heads.suspects(b"a", 0, one, ends, track, rules, (b"",), 0, found) == (0, 0)
    assert _heads.suspects(b"abc", 1, one, ends, track, rules, (b"",), 0, found) == (0, 0)


@hypothesis.given(st.lists(st.tuples(st.integers(0, 9), st.integers(0, 9), st.integers(0, 2))))
def test_frames_are_sorted(frames: list[tuple[int, int, int]]) -> None:
    columns = [array(code, [one[at] for one in frames]) for at, code in enumerate("QQH")]
    count = _heads.order(*columns)
    kept = sorted({one for one in frames if one[0] < one[1]})
    assert list(zip(*(column[:count] for column in columns), strict=True)) == kept
