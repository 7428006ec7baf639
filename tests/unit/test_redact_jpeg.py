"""Whole JPEGs: every place that a lazy parser overlooks, judged by other people's readers."""

from __future__ import annotations

import re
import subprocess
import zipfile
from io import BytesIO

import piexif
import pytest

from policyfs.redact.plan import Outcome, locate
from policyfs.redact.ranges import MemorySource, apply
from tests.support import jpegs, media
from tests.support.jpegs import (
    COM,
    EOI,
    GPS_IFD,
    TEXT_COORDINATES,
    exif,
    exif_segment,
    ifd,
    leaks,
    long,
    photo_with,
    plain,
    segment,
    text,
    tiff,
    with_segments,
    xmp_packet,
    xmp_segment,
)
from tests.support.media import HOME

LOCATION = frozenset({"location"})
PLACE_TAG = re.compile(
    r"GPS|City|Location|Country|State\b|Province|Latitude|Longitude|Altitude(?!Ref)", re.IGNORECASE
)


def redact(data: bytes) -> bytes:
    """The file as an app under redaction reads it; asserts what must always hold."""
    plan = locate("image/jpeg", LOCATION, MemorySource(data))
    assert plan.outcome is not Outcome.REFUSE, plan.reason
    assert (plan.outcome is Outcome.PATCH) == bool(plan.patches)
    out = apply(data, plan.patches)
    assert len(out) == len(data)
    again = locate("image/jpeg", LOCATION, MemorySource(out))
    assert again.outcome is Outcome.CLEAN, (again, "redacting twice changes something")
    return out


def place_tags(tmp_path, data: bytes) -> dict[str, object]:
    """Tags with a place in their name or value that exiftool still finds."""
    path = tmp_path / "out.jpg"
    path.write_bytes(data)
    (tags,) = jpegs.exiftool(path)
    words = (*HOME.names, "47.80", "13.04", "47 48", "13 2 ")
    return {
        name: value
        for name, value in tags.items()
        if PLACE_TAG.search(name.rpartition(":")[2]) or any(w in str(value) for w in words)
    }


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


EXIF_CASES = {
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


@pytest.mark.parametrize("order", ["II", "MM"])
@pytest.mark.parametrize("case", EXIF_CASES)
def test_exif(tmp_path, case, order):
    data = photo_with(EXIF_CASES[case](order))
    assert leaks(data), "the case itself must hold a place"
    out = redact(data)
    assert not leaks(out)
    assert not place_tags(tmp_path, out)
    assert jpegs.pixels(out) == jpegs.pixels(data)


@pytest.mark.parametrize("order", ["II", "MM"])
@pytest.mark.parametrize(
    "case",
    [
        "ordinary",
        "in the second directory",
        "in a sub-directory",
        "in a loop",
        "in a maker note",
        "in comments",
    ],
)
def test_other_exif_tags_stay(tmp_path, case, order):
    path = tmp_path / "out.jpg"
    path.write_bytes(redact(photo_with(EXIF_CASES[case](order))))
    (tags,) = jpegs.exiftool(path)
    assert tags["Main:Make" if "Main:Make" in tags else "IFD0:Make"] == "Testmaker"
    assert not [name for name in tags if "Warning" in name], tags


def trailing_archive() -> bytes:
    made = BytesIO()
    with zipfile.ZipFile(made, "w") as archive:
        archive.writestr("place.txt", f"{HOME.city} {TEXT_COORDINATES}")
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
JPEG_CASES = {
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


@pytest.mark.parametrize("case", JPEG_CASES)
def test_jpeg(tmp_path, case):
    data = JPEG_CASES[case]()
    assert leaks(data), "the case itself must hold a place"
    out = redact(data)
    assert not leaks(out)
    assert not place_tags(tmp_path, out)
    assert jpegs.pixels(out) == jpegs.pixels(data)


def test_room_in_tables():
    """No decoder takes such tables; the bytes behind them must not stay for all that."""
    data = with_segments(plain(), segment(0xDB, bytes(65) + exif()))
    assert leaks(data)
    assert not leaks(redact(data))


@pytest.mark.parametrize("depth", [2, 8])
def test_thumbnails_within_thumbnails(depth):
    data = sub_image()
    for _ in range(depth):
        data = with_segments(plain(2, 16), segment(0xE0, b"JFXX\0\x10" + data))
    assert leaks(data)
    out = redact(data)
    assert not leaks(out)
    assert jpegs.pixels(out) == jpegs.pixels(data)


def test_a_length_beyond_the_end_leaves_no_picture_and_is_refused():
    plan = locate("image/jpeg", LOCATION, MemorySource(lying(0xFFFF)))
    assert plan.outcome is Outcome.REFUSE
    assert not plan.patches


def test_multi_picture_images_still_decode():
    data = multi_picture("MM")
    out = redact(data)
    second = len(data) - len(sub_image())
    assert jpegs.pixels(out[second:]) == jpegs.pixels(data[second:])
    assert out[second : second + 2] == b"\xff\xd8"


def test_multi_picture_images_behind_a_gap_still_decode():
    data = multi_picture("MM", b"gap" * 100)
    out = redact(data)
    second = len(data) - len(sub_image())
    assert jpegs.pixels(out[second:]) == jpegs.pixels(data[second:])


@pytest.mark.parametrize("size", [60000, 37])
def test_extended_xmp_is_named_by_its_new_digest(tmp_path, size):
    path = tmp_path / "out.jpg"
    path.write_bytes(redact(more_xmp(size)))
    (tags,) = jpegs.exiftool(path)
    assert tags["Main:Rating" if "Main:Rating" in tags else "XMP-xmp:Rating"] == 4
    assert not [name for name in tags if "Warning" in name], tags


# --- real photos, real readers ---


def values(path) -> dict[str, object]:
    """A photo's tags, without those of the file itself and those that exiftool computes."""
    (tags,) = jpegs.exiftool(path)
    ignored = ("System", "File", "Composite", "ExifTool")
    return {
        name: value
        for name, value in tags.items()
        if not name.startswith(ignored) and name.split(":")[-2:-1] != ["File"] and name != "SourceFile"
    }


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    directory = tmp_path_factory.mktemp("photos")
    return {
        "with": media.photo(directory / "with.jpg"),
        "without": media.photo(directory / "without.jpg", place=None),
    }


def test_a_photo_without_a_place_is_left_alone(photos):
    data = photos["without"].read_bytes()
    plan = locate("image/jpeg", LOCATION, MemorySource(data))
    assert plan.outcome is Outcome.CLEAN
    assert not plan.patches


def test_a_photo_with_a_place_keeps_all_but_the_place(photos, tmp_path):
    data = photos["with"].read_bytes()
    out = tmp_path / "out.jpg"
    out.write_bytes(redact(data))
    before, after = values(photos["with"]), values(out)
    gone = before.keys() - after.keys()
    assert all(PLACE_TAG.search(name.rpartition(":")[2]) for name in gone), gone
    assert not [name for name in after if PLACE_TAG.search(name.rpartition(":")[2])]
    moved = {"IFD1:ThumbnailImage", "Main:ThumbnailImage"}
    assert {n: v for n, v in after.items() if n not in moved} == {
        n: v for n, v in before.items() if n in after and n not in moved
    }
    assert len(after) > 25
    assert jpegs.pixels(out.read_bytes()) == jpegs.pixels(data)


def test_exiftool_finds_a_photo_as_valid_as_before(photos, tmp_path):
    out = tmp_path / "out.jpg"
    out.write_bytes(redact(photos["with"].read_bytes()))

    def complaints(path):
        command = ["exiftool", "-validate", "-warning", "-error", "-a", "-s3", str(path)]
        answer = subprocess.run(command, capture_output=True, text=True, check=False, timeout=30).stdout
        return set(answer.splitlines()[1:])

    assert complaints(out) <= complaints(photos["with"])


def test_piexif_reads_a_photo_without_gps(photos):
    before = piexif.load(photos["with"].read_bytes())
    after = piexif.load(redact(photos["with"].read_bytes()))
    assert before["GPS"]
    assert not after["GPS"]
    assert after["Exif"] == before["Exif"]
    assert after["thumbnail"] == before["thumbnail"]
    del before["0th"][piexif.ImageIFD.GPSTag]
    assert set(after["0th"]) == set(before["0th"])


def test_exiv2_reads_a_photo_without_a_place(photos, tmp_path):
    out = tmp_path / "out.jpg"
    out.write_bytes(redact(photos["with"].read_bytes()))
    done = subprocess.run(["exiv2", "-pa", str(out)], capture_output=True, text=True, check=False, timeout=30)
    assert "Testmaker" in done.stdout
    assert "Xmp.dc.title" in done.stdout
    assert "Iptc.Application2.Byline" in done.stdout
    assert not [line for line in done.stdout.splitlines() if PLACE_TAG.search(line)]
    assert done.stderr == ""


@pytest.mark.parametrize(
    "arguments", [("-progressive",), ("-grayscale",), ("-restart", "1B"), ("-optimize",)]
)
def test_other_ways_to_encode(photos, arguments):
    """What jpegtran makes of a photo, its metadata copied along."""
    command = ["jpegtran", "-copy", "all", *arguments, str(photos["with"])]
    data = subprocess.run(command, capture_output=True, check=True, timeout=30).stdout
    out = redact(data)
    assert leaks(data)
    assert not leaks(out)
    assert jpegs.pixels(out) == jpegs.pixels(data)


def test_an_icc_profile_stays(photos, tmp_path):
    path = tmp_path / "in.jpg"
    path.write_bytes(photos["with"].read_bytes())
    profile = "/usr/share/color/icc/ghostscript/srgb.icc"
    media.run("exiftool", "-q", "-overwrite_original", f"-icc_profile<={profile}", str(path))
    out = redact(path.read_bytes())
    assert b"ICC_PROFILE" in path.read_bytes()
    marker = path.read_bytes().index(b"ICC_PROFILE")
    end = path.read_bytes().index(b"\xff\xdb", marker)
    assert path.read_bytes()[marker:end][:2000] == out[marker:end][:2000]
