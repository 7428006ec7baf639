"""Damaged TIFF files, raws and maker notes: redaction never fails and is done in one go."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from policyfs.redact.core.patches import MemorySource, apply
from policyfs.redact.plan import Outcome, locate
from tests.support.machine.counts import count
from tests.support.samples import tiffs
from tests.support.samples.jpegs import GPS_IFD, SUB_IFDS, gps, ifd, iptc_place, long, plain, text, xmp_packet
from tests.support.samples.media import HOME
from tests.support.samples.notes import MAKERS, note_of, photo_by

WORDS = ["location", "device", "time", "people", "all-metadata"]
TAGS = [0x8769, 0x8825, 0x014A, 0x927C, 0xC634, 0x02BC, 0x0111, 0x0117, 0x0201, 0x0202, 0x010F, 0x0103]


def crowded(order: str) -> bytes:
    """A TIFF with nearly everything that the walk follows."""
    packet, note = (
        xmp_packet(f"<photoshop:City>{HOME.city}</photoshop:City>"),
        note_of(MAKERS["Nikon"], order),
    )
    at = 0x3000
    data = tiffs.classic(
        order,
        text(0x010F, "NIKON"),
        text(0x0132, "2024:05:17 11:22:33"),
        (0x02BC, 1, len(packet), packet),
        (0x83BB, 7, len(iptc_place()), iptc_place()),
        (0x927C, 7, len(note), note),
        long(order, GPS_IFD, at),
        long(order, SUB_IFDS, at + 0x200, at + 0x400),
        following=at + 0x600,
    ).ljust(at, b"\0")
    preview = [long(order, 0x0201, at + 0xA00), long(order, 0x0202, len(plain()))]
    parts = [
        gps(order),
        preview,
        tiffs.picture(order, 8),
        [*tiffs.picture(order, 8), text(0x013B, HOME.city)],
    ]
    for index, entries in enumerate(parts):
        data = data.ljust(at + 0x200 * index, b"\0") + ifd(order, at + 0x200 * index, entries)
    return data.ljust(at + 0xA00, b"\0") + plain()


SEEDS = [
    *(("image/tiff", crowded(order)) for order in ("II", "MM")),
    ("image/tiff", tiffs.digital_negative("II")),
    ("image/x-olympus-orf", b"IIRO" + crowded("II")[4:]),
    ("image/x-panasonic-rw2", b"IIU\0" + crowded("II")[4:]),
    ("image/x-fuji-raf", tiffs.fuji(photo_by("FujiFilm", "MM"), record=HOME.city.encode())),
    *(("image/jpeg", photo_by(name, "MM")) for name in MAKERS),
]
DIRECTORIES = [8 + len(tiffs.PIXELS), 0x3000, 0x3200, 0x3600]

edits = st.lists(
    st.tuples(
        st.integers(0, 0x4000),
        st.sampled_from(["byte", "tag", "offset", "copy", "cut", "truncate"]),
        st.integers(0, 0x4000),
        st.sampled_from(TAGS),
    ),
    min_size=1,
    max_size=8,
)


def damage(data: bytes, changes) -> bytes:
    """The file after some accidents, half of which hit its directories."""
    out = bytearray(data)
    for where, kind, number, tag in changes:
        near = DIRECTORIES[where % len(DIRECTORIES)] + where % 200
        at = (near if where % 2 and len(out) > near else where) % max(1, len(out) - 12)
        if kind == "byte":
            out[at] = number % 256
        elif kind == "tag":
            out[at : at + 2] = tag.to_bytes(2, "little" if number % 2 else "big")
        elif kind == "offset":
            out[at : at + 4] = number.to_bytes(4, "little" if tag % 2 else "big")
        elif kind == "copy":
            start = number % max(1, len(out) - 12)
            out[at : at + 12] = out[start : start + 12]
        elif kind == "cut":
            del out[at : at + 1 + number % 40]
        else:
            del out[max(16, number) :]
    return bytes(out)


def check(kind: str, data: bytes, word: str) -> None:
    """What has to hold for any bytes at all."""
    plan = locate(kind, frozenset({word}), MemorySource(data))
    assert not plan.reason.startswith("internal error"), plan.reason
    if plan.outcome is Outcome.REFUSE:
        assert not plan.patches
        return
    end = 0
    for patch in plan.patches:
        assert patch.offset >= end
        assert patch.size
        end = patch.end
    assert end <= len(data)
    again = locate(kind, frozenset({word}), MemorySource(apply(data, plan.patches)))
    assert again.outcome is Outcome.CLEAN, again


@settings(max_examples=count(250, 20_000))
@given(st.sampled_from(SEEDS), edits, st.sampled_from(WORDS))
def test_damaged_files(seed, changes, word):
    kind, data = seed
    check(kind, damage(data, changes), word)


@settings(max_examples=count(60, 5000))
@given(st.sampled_from([b"II*\0", b"MM\0*", b"II+\0\x08\0\0\0", b"IIU\0", b"MMOR"]), st.binary(max_size=300))
def test_bytes_that_start_like_a_tiff(start, rest):
    for word in WORDS:
        check("image/tiff", start + rest, word)


@settings(max_examples=count(60, 5000))
@given(st.sampled_from([*MAKERS]), st.sampled_from(["II", "MM"]), edits)
def test_damaged_notes(name, order, changes):
    """The segment is sound, the structure in it is not."""
    data = photo_by(name, order)
    start, size = 12, len(data) - 12
    inside = [(start + where % min(size, 0x200), kind, number, tag) for where, kind, number, tag in changes]
    kept = [change for change in inside if change[1] in ("byte", "tag", "offset")]
    for word in WORDS:
        check("image/jpeg", damage(data, kept), word)
