"""Damaged and hostile files: redaction never fails, never grows a file, and is done in one go."""

from __future__ import annotations

import struct

from hypothesis import given, settings
from hypothesis import strategies as st

from policyfs.redact.core.categories import Tells
from policyfs.redact.core.patches import MemorySource, apply
from policyfs.redact.documents.tracks import refine_kind
from policyfs.redact.plan import Outcome, locate
from policyfs.redact.tags.iptc import clean_iim
from policyfs.redact.xmp.packet import clean_xmp
from tests.support.machine.counts import count
from tests.support.samples import jpegs, motion
from tests.support.samples.hidden import EXIF_CASES, JPEG_CASES, multi_picture
from tests.support.samples.inners import PLACES, Plain
from tests.support.samples.media import HOME

WORDS = st.sampled_from(["location", "device", "time", "people", "all-metadata"])
MARKERS = [b"\xff\xd8", b"\xff\xd9", b"\xff\xe1", b"\xff\xed", b"\xff\xda", b"\xff\xff", b"Exif\0\0", b"8BIM"]

quick = settings(max_examples=count(250, 20_000))


def seeds() -> list[bytes]:
    """Files to damage: every case of the corpus."""
    exifs = [jpegs.photo_with(make(order)) for make in EXIF_CASES.values() for order in ("II", "MM")]
    parts = [(0x0AA1, b"MCC_Data", b"232"), (0x0A30, b"MotionPhoto_Data", motion.VIDEO)]
    behind = [motion.VIDEO, motion.blocks(parts), jpegs.plain(2, 16) + motion.VIDEO]
    return [
        *exifs,
        *(make() for make in JPEG_CASES.values()),
        *(jpegs.photo_with(jpegs.exif()) + tail for tail in behind),
    ]


SEEDS = seeds()

edits = st.lists(
    st.tuples(
        st.floats(0, 1, exclude_max=True),
        st.sampled_from(["flip", "cut", "repeat", "insert", "truncate", "word"]),
        st.binary(min_size=1, max_size=4),
        st.sampled_from(MARKERS),
        st.integers(1, 200),
    ),
    min_size=1,
    max_size=6,
)


def damage(data: bytes, changes) -> bytes:
    """The file after some accidents, most of them within its first kilobytes, where metadata is."""
    out = bytearray(data)
    for where, kind, some, marker, size in changes:
        at = int(where * max(1, min(len(out), 2000 if size % 3 else len(out))))
        if kind == "flip":
            out[at : at + len(some)] = some[: len(out) - at]
        elif kind == "word":
            word = struct.pack(">H" if size % 2 else "<H", size if size % 5 else 0xFFFF)
            out[at : at + 2] = word[: len(out) - at]
        elif kind == "cut":
            del out[at : at + size]
        elif kind == "repeat":
            out[at:at] = out[at : at + size]
        elif kind == "insert":
            out[at:at] = marker
        elif size % 4 == 0:
            del out[at:]
    return bytes(out)


def check(data: bytes, word: str = "location") -> bytes:
    """One file through locate; what must hold for any bytes at all. Returns what is read."""
    what = frozenset({word})
    plan = locate("image/jpeg", what, MemorySource(data))
    assert not plan.reason.startswith("internal error"), plan.reason
    if plan.outcome is Outcome.REFUSE:
        assert not plan.patches
        return b""
    end = 0
    for patch in plan.patches:
        assert patch.offset >= end
        assert patch.size
        end = patch.end
    assert end <= len(data)
    assert bool(plan.patches) == (plan.outcome is Outcome.PATCH)
    out = apply(data, plan.patches)
    again = locate("image/jpeg", what, MemorySource(out))
    assert again.outcome is Outcome.CLEAN, again
    return out


@quick
@given(st.sampled_from(SEEDS), edits, WORDS)
def test_damaged_files(data, changes, word):
    check(damage(data, changes), word)


@quick
@given(st.sampled_from(SEEDS[-3:]), st.integers(1, 200), st.binary(min_size=1, max_size=4), WORDS)
def test_damaged_trailers(data, back, some, word):
    at = max(0, len(data) - back)
    check(data[:at] + some + data[at + len(some) :], word)


@settings(max_examples=count(150, 5000))
@given(st.binary(max_size=400))
def test_bytes_that_start_like_a_jpeg(data):
    check(b"\xff\xd8\xff" + data)


@settings(max_examples=count(150, 5000))
@given(st.sampled_from([*EXIF_CASES]), st.sampled_from(["II", "MM"]), edits, WORDS)
def test_damaged_exif(case, order, changes, word):
    """The segment is sound, the structure in it is not."""
    check(jpegs.photo_with(damage(EXIF_CASES[case](order), changes)[:60000]), word)


@settings(max_examples=count(150, 5000))
@given(st.sampled_from(["utf-8", "utf-16-le", "utf-16-be", "utf-32-le"]), edits, st.sampled_from(Tells))
def test_damaged_xmp(encoding, changes, hide):
    packet = jpegs.xmp_packet(
        f"<photoshop:City>{HOME.city}</photoshop:City><dc:title>Quince</dc:title>",
        attributes='exif:GPSLatitude="47,48.27N" xmp:CreateDate="2019" xmlns:a="b" a:b="c"',
        encoding=encoding,
    )
    inner = Plain(hide)
    broken = damage(packet, changes)
    out = clean_xmp(broken, inner).data
    assert len(out) == len(broken)
    assert clean_xmp(out, inner).data == out


@settings(max_examples=count(150, 5000))
@given(edits)
def test_damaged_iptc(changes):
    broken = damage(jpegs.iptc_place(), changes)
    out = clean_iim(broken, PLACES).data
    assert len(out) == len(broken)
    assert clean_iim(out, PLACES).data == out


@settings(max_examples=count(100, 5000))
@given(st.binary(max_size=300), st.sampled_from(["text/plain", "application/json", "text/xml", "image/png"]))
def test_any_bytes_have_a_kind(head, mime):
    assert refine_kind(mime, head)


@settings(max_examples=count(15, 300))
@given(st.lists(st.tuples(st.sampled_from(SEEDS), edits), min_size=20, max_size=20))
def test_exiftool_finds_no_coordinates_in_what_is_left_of_damaged_files(tmp_path_factory, files):
    directory = tmp_path_factory.mktemp("fuzz")
    paths = []
    for number, (data, changes) in enumerate(files):
        out = check(damage(data, changes))
        if out:
            paths.append(directory / f"{number}.jpg")
            paths[-1].write_bytes(out)
    for tags in jpegs.exiftool(*paths) if paths else ():
        found = [name for name in tags if "GPSL" in name or "GPSPos" in name or "City" in name]
        assert not found, (tags["SourceFile"], found)


def test_multi_picture_directories_that_point_everywhere():
    """Many images, each of which would be searched to the end of the file."""
    data = multi_picture("MM")
    many = data + (b"\xff\xd8\xff\xc0\0\x08\x08\0\1\0\1\0\xff\xda\0\x04\0\0\0\0" + bytes(50)) * 200
    check(many)
