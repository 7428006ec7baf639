"""JPEGs with a place where a lazy parser does not look: threats A5.

EXIF_CASES make EXIF structures in a byte order (II, MM), JPEG_CASES whole files. Each holds
media.HOME, decodes, and must hold nothing of it after redaction.
"""

from __future__ import annotations

import zipfile
from collections.abc import Callable
from io import BytesIO
from typing import Final

from tests.support.samples import jpegs
from tests.support.samples.jpegs import (
    COM,
    EOI,
    GPS_IFD,
    TEXT_COORDINATES,
    exif,
    exif_segment,
    ifd,
    long,
    plain,
    segment,
    text,
    tiff,
    with_segments,
    xmp_packet,
    xmp_segment,
)
from tests.support.samples.media import HOME


def sub_image() -> bytes:
    """A small JPEG with a place in its EXIF."""
    return with_segments(plain(2, 16), exif_segment(exif("MM")))


def thumbnail_exif(order: str) -> bytes:
    """EXIF whose thumbnail is a JPEG with a place in its own EXIF."""
    image = sub_image()
    first = ifd(order, 8, [text(0x010F, "Testmaker")], following=0x100)
    pair = [(0x0103, 3, 1, jpegs.pack(order, 6, size=2)), long(order, 0x0201, 0x200)]
    second = ifd(order, 0x100, [*pair, long(order, 0x0202, len(image))])
    return tiff(order, (8, first), (0x100, second), (0x200, image))


def gps_in_second(order: str) -> bytes:
    first = ifd(order, 8, [text(0x010F, "Testmaker")], following=0x100)
    second = ifd(order, 0x100, [text(0x010F, "Other"), long(order, GPS_IFD, 0x200)])
    return tiff(order, (8, first), (0x100, second), (0x200, ifd(order, 0x200, jpegs.gps(order))))


def gps_in_sub_directory(order: str, tag: int) -> bytes:
    first = ifd(order, 8, [text(0x010F, "Testmaker"), long(order, tag, 0x100)])
    second = ifd(order, 0x100, [text(0x0110, "Other"), long(order, GPS_IFD, 0x200)])
    return tiff(order, (8, first), (0x100, second), (0x200, ifd(order, 0x200, jpegs.gps(order))))


def orphaned_gps(order: str, pointer: int | None) -> bytes:
    """A GPS directory that nothing points to, or something that is off by some bytes."""
    entries = [text(0x010F, "Testmaker"), text(0x0110, "Modell 7")]
    if pointer is not None:
        entries.append(long(order, GPS_IFD, pointer))
    return tiff(order, (8, ifd(order, 8, entries)), (0x200, ifd(order, 0x200, jpegs.gps(order))))


def gps_shared_with_resolution(order: str) -> bytes:
    """Another tag's value is the latitude's bytes."""
    directory = ifd(order, 0x200, jpegs.gps(order))
    at = 0x200 + directory.index(jpegs.pack(order, *jpegs.LATITUDE))
    shared = [text(0x010F, "Testmaker"), (0x011A, 5, 1, b"")]
    entries = [*shared, long(order, GPS_IFD, 0x200)]
    first = bytearray(ifd(order, 8, entries))
    place = first.index(jpegs.pack(order, 0x011A, 5, size=2))
    first[place + 8 : place + 12] = jpegs.pack(order, at)
    return tiff(order, (8, bytes(first)), (0x200, directory))


def looping(order: str) -> bytes:
    """Directories whose next pointers go round, with a GPS directory on the way."""
    first = ifd(order, 8, [text(0x010F, "Testmaker"), long(order, 0x8769, 8)], following=0x100)
    second = ifd(order, 0x100, [text(0x0110, "M7"), long(order, GPS_IFD, 0x200)], following=8)
    return tiff(order, (8, first), (0x100, second), (0x200, ifd(order, 0x200, jpegs.gps(order))))


def maker_note(order: str) -> bytes:
    note = b"DJI\0" + jpegs.pack(order, *jpegs.LATITUDE) + HOME.city.encode()
    return exif(order, more=[(0x927C, 7, len(note), note)])


def xmp_in_exif(order: str) -> bytes:
    packet = xmp_packet(f"<photoshop:City>{HOME.city}</photoshop:City>")
    iptc = jpegs.iptc_place()
    more = [(0x02BC, 1, len(packet), packet), (0x83BB, 7, len(iptc), iptc)]
    return tiff(order, (8, ifd(order, 8, [text(0x010F, "Testmaker"), *more])))


def comment_in_exif(order: str) -> bytes:
    comment = b"ASCII\0\0\0taken at " + TEXT_COORDINATES.encode()
    return exif(order, more=[(0x9286, 7, len(comment), comment), text(0x010E, TEXT_COORDINATES)])


EXIF_CASES: Final[dict[str, Callable[[str], bytes]]] = {
    "ordinary": exif,
    "in the second directory": gps_in_second,
    "in a sub-directory": lambda order: gps_in_sub_directory(order, 0x014A),
    "in the EXIF directory": lambda order: gps_in_sub_directory(order, 0x8769),
    "in the thumbnail": thumbnail_exif,
    "orphaned": lambda order: orphaned_gps(order, None),
    "pointer off by 2": lambda order: orphaned_gps(order, 0x202),
    "pointer outside": lambda order: orphaned_gps(order, 0xFFFFFF),
    "pointer to the first directory": lambda order: orphaned_gps(order, 8),
    "shared with another tag": gps_shared_with_resolution,
    "in a loop": looping,
    "in a maker note": maker_note,
    "XMP and IPTC in EXIF": xmp_in_exif,
    "in comments": comment_in_exif,
    "cut off": lambda order: exif(order)[:-20],
}


def trailing_archive() -> bytes:
    made = BytesIO()
    with zipfile.ZipFile(made, "w") as archive:
        archive.writestr(zipfile.ZipInfo("place.txt"), f"{HOME.city} {TEXT_COORDINATES}")
    return made.getvalue()


def mp4_trailer() -> bytes:
    place = f"+{HOME.latitude}+{HOME.longitude}/".encode()
    box = (len(place) + 12).to_bytes(4) + b"\xa9xyz" + len(place).to_bytes(2) + b"\x15\xc7" + place
    udta = (len(box) + 8).to_bytes(4) + b"udta" + box
    return b"\0\0\0\x18ftypmp42\0\0\0\0mp42isom" + (len(udta) + 8).to_bytes(4) + b"moov" + udta


def samsung_trailer() -> bytes:
    name = b"MCC_Data" + HOME.country.encode()
    block = b"\0\0\xa1\x0a" + len(name).to_bytes(4, "little") + name
    head = b"SEFH" + (1).to_bytes(4, "little") * 2 + block
    return head + len(head).to_bytes(4, "little") + b"SEFT"


def multi_picture(order: str = "MM", gap: bytes = b"") -> bytes:
    """A JPEG with a second one behind it, that its multi-picture directory tells of."""
    first, second = plain(), sub_image()
    size = len(jpegs.mpf_segment(order, [(0, 0), (0, 0)], 0))
    at = len(first) + size + len(gap)
    mpf = jpegs.mpf_segment(order, [(0, at - len(gap)), (at, len(second))], 2)
    return with_segments(first, mpf) + gap + second


def split_exif() -> bytes:
    block = exif("II")
    middle = len(block) - 60
    return with_segments(plain(), exif_segment(block[:middle]), exif_segment(block[middle:]))


def resources(*blocks: bytes) -> bytes:
    return with_segments(plain(), jpegs.photoshop_segment(b"".join(blocks)))


def split_resources() -> bytes:
    block = jpegs.resource(0x0404, jpegs.iptc_place())
    parts = [jpegs.photoshop_segment(block[at : at + 40]) for at in range(0, len(block), 40)]
    return with_segments(plain(), *parts)


def thumbnail_resource(number: int) -> bytes:
    return jpegs.resource(number, b"\0" * 28 + sub_image())


def more_xmp(size: int) -> bytes:
    packet = xmp_packet(f"<photoshop:City>{HOME.city}</photoshop:City>" * 3)
    digest, parts = jpegs.more_xmp_segments(packet, size)
    main = xmp_packet("", attributes=f'xmpNote:HasExtendedXMP="{digest}"')
    return with_segments(plain(), xmp_segment(main), *reversed(parts))


def lying(length: int) -> bytes:
    """An EXIF segment that says it is `length` bytes long."""
    made = exif_segment(exif())
    return with_segments(plain(), made[:2] + length.to_bytes(2) + made[4:])


GPMF = b"GoPro\0DEVC\0\1\0\0GPS5l\x14\0\1" + jpegs.pack("MM", *jpegs.LATITUDE) + HOME.city.encode()
JPEG_CASES: Final[dict[str, Callable[[], bytes]]] = {
    "two EXIF segments": lambda: with_segments(plain(), exif_segment(exif("MM")), exif_segment(exif("II"))),
    "EXIF split over segments": split_exif,
    "EXIF behind the scan": lambda: plain()[:-2] + exif_segment(exif()) + EOI,
    "XMP behind the scan": lambda: (
        plain()[:-2]
        + xmp_segment(xmp_packet(f"<exif:GPSAreaInformation>{HOME.city}</exif:GPSAreaInformation>"))
        + EOI
    ),
    "XMP": lambda: with_segments(
        plain(), xmp_segment(xmp_packet(f"<photoshop:City>{HOME.city}</photoshop:City>"))
    ),
    "two XMP packets": lambda: with_segments(
        plain(),
        xmp_segment(xmp_packet("")),
        xmp_segment(xmp_packet("", attributes=f'photoshop:City="{HOME.city}"')),
    ),
    "extended XMP in one": lambda: more_xmp(60000),
    "extended XMP in pieces": lambda: more_xmp(37),
    "extended XMP without its start": lambda: with_segments(
        plain(),
        *jpegs.more_xmp_segments(xmp_packet(f"<photoshop:City>{HOME.city}</photoshop:City>"), 300)[1][1:],
    ),
    "IPTC": lambda: resources(jpegs.resource(0x0404, jpegs.iptc_place())),
    "IPTC in another resource": lambda: resources(jpegs.resource(0x1234, jpegs.iptc_place())),
    "IPTC split over segments": split_resources,
    "EXIF in a resource": lambda: resources(jpegs.resource(0x0422, exif("MM"))),
    "XMP in a resource": lambda: resources(
        jpegs.resource(0x0424, xmp_packet(f"<photoshop:City>{HOME.city}</photoshop:City>"))
    ),
    "thumbnail resource": lambda: resources(thumbnail_resource(0x040C)),
    "resource's name": lambda: resources(jpegs.resource(0x0404, b"", TEXT_COORDINATES.encode())),
    "thumbnail in JFXX": lambda: with_segments(plain(), segment(0xE0, b"JFXX\0\x10" + sub_image())),
    "odd EXIF preamble": lambda: with_segments(plain(), segment(0xE1, b"xxExif\0\0" + exif())),
    "lower-case EXIF": lambda: with_segments(plain(), segment(0xE1, b"exif\0\0" + exif())),
    "EXIF without preamble": lambda: with_segments(plain(), segment(0xE1, exif())),
    "EXIF in COM": lambda: with_segments(plain(), segment(COM, b"Exif\0\0" + exif())),
    "FLIR": lambda: with_segments(plain(), segment(0xE1, b"FLIR\0\1\0\0" + exif())),
    "GoPro": lambda: with_segments(plain(), segment(0xE6, GPMF)),
    "comment": lambda: with_segments(plain(), segment(COM, TEXT_COORDINATES.encode())),
    "JUMBF": lambda: with_segments(plain(), segment(0xEB, b"JP\0\1\0\0\0\1" + TEXT_COORDINATES.encode())),
    "behind the JFIF header": lambda: with_segments(
        plain(), segment(0xE0, b"JFIF\0\1\1\0\0\1\0\1\0\0" + HOME.city.encode())
    ),
    "behind the Adobe header": lambda: with_segments(
        plain(), segment(0xEE, b"Adobe\0\x64\0\0\0\0\1" + HOME.city.encode())
    ),
    "ICC profile that is none": lambda: with_segments(
        plain(), segment(0xE2, b"ICC_PROFILE\0\1\1" + HOME.city.encode())
    ),
    "junk between segments": lambda: with_segments(plain(), segment(COM, b""), exif()),
    "junk in fill bytes": lambda: with_segments(plain(), b"\xff" * 9 + b"\0" + exif()),
    "fill bytes": lambda: with_segments(plain(), b"\xff" * 77 + exif_segment(exif())),
    "length of zero": lambda: lying(0),
    "length of one": lambda: lying(1),
    "length too short": lambda: lying(30),
    "trailer": lambda: plain() + HOME.city.encode(),
    "archive behind": lambda: plain() + trailing_archive(),
    "video behind": lambda: plain() + mp4_trailer(),
    "maker's trailer": lambda: plain() + samsung_trailer(),
    "JPEG behind": lambda: plain() + sub_image(),
    "JPEG behind zeros": lambda: plain() + bytes(5000) + sub_image(),
    "JPEG behind junk": lambda: plain() + b"junk" + sub_image(),
    "cut-off JPEG behind": lambda: plain() + sub_image()[:-2],
    "multi-picture, big endian": lambda: multi_picture("MM"),
    "multi-picture, little endian": lambda: multi_picture("II"),
    "multi-picture behind a gap": lambda: multi_picture("MM", b"gap" + HOME.city.encode()),
    "no EOI, then a JPEG": lambda: plain()[:-2] + sub_image(),
    "archive behind a scan without EOI": lambda: plain()[:-2] + b"\xff\x3c" + trailing_archive(),
}
