"""CR3 files put together box by box, as Canon's cameras do: builders for tests of redaction."""

from __future__ import annotations

from tests.support.samples import jpegs
from tests.support.samples.media import HOME
from tests.support.samples.movies import Track as Trak
from tests.support.samples.movies import box, mvhd, u16, u32, uuid

CITY = HOME.city.encode()
XMP = jpegs.xmp_packet(f"<photoshop:City>{HOME.city}</photoshop:City>")
SECRET = b"47.804531, 13.042287"
LATITUDE = jpegs.pack("II", *jpegs.LATITUDE)
CANON = bytes.fromhex("85c0b687820f11e08111f4ce462b6a48")
PREVIEW = bytes.fromhex("eaf42b5e1c984b88b9fbb7dc406e4d16")
XMP_UUID = bytes.fromhex("be7acfcb97a942e89c71999491e3afac")
RAW = bytes(range(1, 200)) * 3
COLOURS = bytes(range(60))


def tiff(*entries: jpegs.Entry) -> bytes:
    return jpegs.tiff("II", (8, jpegs.ifd("II", 8, entries)))


MAKER = tiff(
    (0x0006, jpegs.ASCII, 10, b"Canon R99\0"),
    (0x4001, jpegs.SHORT, 30, COLOURS),
    (0x0035, jpegs.LONG, 4, b"zone" * 4),
    (0x7777, jpegs.ASCII, len(SECRET), SECRET),
)


def canon(**other: bytes) -> bytes:
    """Canon's own box."""
    blocks = {
        "CNCV": b"CanonCR3_001/00.09.00/00.00.00",
        "CTBO": u32(1, 1) + bytes(16),
        "CMT1": tiff(jpegs.text(0x010F, "Canon"), jpegs.text(0x0110, "EOS R99"), jpegs.text(0x013B, "Rosa")),
        "CMT2": tiff(jpegs.text(0x9003, "2024:05:17 11:22:33")),
        "CMT3": MAKER,
        "CMT4": tiff(*jpegs.gps("II")),
        "THMB": bytes(4) + u16(160, 120) + u32(0, 1) + jpegs.photo_with(jpegs.exif("II")),
    }
    return uuid(CANON, *(box(k.encode(), v) for k, v in (blocks | other).items()))


def craw(kind: bytes, sample: bytes, number: int) -> tuple[Trak, bytes]:
    entry = u16(1, 1) + box(kind, bytes(8))
    return Trak(format=b"CRAW", samples=(sample,), number=number, entry=entry), sample


def cr3(*, after: bytes = b"", own: bytes | None = None, moov: bytes = b"", lead: bytes = b"") -> bytes:
    """A whole file: a JPEG (behind `lead`), raw pixels, timed metadata."""
    photo = jpegs.photo_with(jpegs.exif("II"))
    timed = Trak(kind=b"meta", format=b"CTMD", samples=(SECRET,), number=3)
    tracks = [craw(b"JPEG", lead + photo, 1), craw(b"CMP1", RAW, 2), (timed, SECRET)]
    extra = uuid(XMP_UUID, XMP) + uuid(PREVIEW, bytes(8), box(b"PRVW", bytes(16) + photo))
    at, whole = 0, b""
    for _ in range(2):
        offsets, places = at, []
        for _, sample in tracks:
            places.append(offsets)
            offsets += len(sample)
        traks = b"".join(t.trak([p]) for (t, _), p in zip(tracks, places, strict=True))
        mine = canon() if own is None else own
        whole = box(b"ftyp", b"crx ", u32(1), b"crx isom") + box(b"moov", mine, mvhd(), traks, moov) + extra
        at = len(whole) + 8
    return whole + box(b"mdat", *(sample for _, sample in tracks), b"between") + after
