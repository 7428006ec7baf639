"""Whole JPEGs: every place that a lazy parser overlooks, judged by other people's readers."""

from __future__ import annotations

import re
import subprocess

import piexif
import pytest

from policyfs.redact.core.patches import MemorySource, apply
from policyfs.redact.plan import Outcome, locate
from tests.support.samples import exiftool, jpegs, media
from tests.support.samples.hidden import EXIF_CASES, JPEG_CASES, lying, more_xmp, multi_picture, sub_image
from tests.support.samples.jpegs import exif, leaks, photo_with, plain, segment, with_segments
from tests.support.samples.media import HOME

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


@pytest.mark.parametrize(
    "behind",
    [b"", b"\xff\xd9", exif(), b"\xff\xdb\0\x43", b"\xff\xd8\xff\xd9", b"\xff", b"\0" * 9, b"\xff\xe1\1"],
)
def test_a_head_without_a_picture_is_redacted(tmp_path, behind):
    """Of broken downloads and recovered files that is what is left."""
    photo = jpegs.photo_with(exif(more=[jpegs.text(0x0131, "GIMP")]))
    data = photo[: photo.index(b"\xff\xdb")] + behind
    assert leaks(data)
    out = redact(data)
    assert not leaks(out)
    assert b"GIMP" in out
    if len(behind) > 1:
        (tmp_path / "head.jpg").write_bytes(out)
        assert jpegs.exiftool(tmp_path / "head.jpg")[0]["IFD0:Software"] == "GIMP"


def test_a_scan_without_a_frame_is_no_picture_and_goes():
    scan = segment(0xDA, b"\1\1\0\0\x3f\0") + media.HOME.city.encode()
    for behind in (b"", b"\xff\xd9", segment(0xFE, b"words") + b"\xff\xd9", scan):
        out = redact(b"\xff\xd8" + segment(0xFE, b"kept") + scan + behind)
        assert media.HOME.city.encode() not in out
        assert b"kept" in out


def test_what_is_understood_only_behind_such_a_scan_leaves_no_head():
    scan = segment(0xDA, b"\1\1\0\0\x3f\0") + media.HOME.city.encode()
    plan = locate("image/jpeg", LOCATION, MemorySource(b"\xff\xd8" + scan + segment(0xFE, b"kept")))
    assert plan.outcome is Outcome.REFUSE
    assert "no picture" in plan.reason


def test_what_goes_with_such_a_scan_is_not_joined_to_what_stays():
    """Half a resource is none: without its other half it is nothing that is understood."""
    block = jpegs.resource(0x0404, jpegs.record(2, 5, b"Quince " * 9)) + jpegs.resource(0x0406, b"\1")
    first, second = (jpegs.photoshop_segment(part) for part in (block[:40], block[40:]))
    scan = segment(0xDA, b"\1\1\0\0\x3f\0")
    out = redact(b"\xff\xd8" + segment(0xFE, b"kept") + first + scan + second)
    assert b"kept" in out
    assert b"Quince" not in out


def test_a_frame_that_ends_the_file_is_a_head():
    data = b"\xff\xd8" + segment(0xC0, b"\x08\0\1\0\1\1\1\x11\0")
    assert redact(data) == data


@pytest.mark.parametrize("code", [0xC0, 0xDA, 0xDB, 0xE1, 0xFE])
def test_what_a_video_cuts_off_goes_with_its_marker(code):
    """Where the video is none, the next reader finds what is behind in that segment."""
    photo = plain()[:-2] + segment(code, bytes(60000))[:6]
    video = b"\0\0\0\x18ftypmp42" + media.HOME.city.encode().ljust(12)
    out = redact(photo + video + plain(2))
    assert media.HOME.city.encode() not in out
    assert out.endswith(plain(2))
    assert jpegs.pixels(out[: len(photo)]) == jpegs.pixels(plain())


def test_a_thumbnail_that_is_no_picture_becomes_zeros():
    """That there was one stays: its tags are not what was asked for."""
    pair = [(0x0103, 3, 1, b"\6\0"), jpegs.long("II", 0x0201, 0x100), jpegs.long("II", 0x0202, 30)]
    one, two = jpegs.ifd("II", 8, [jpegs.text(0x010F, "T")], 0x60), jpegs.ifd("II", 0x60, pair)
    block = jpegs.tiff("II", (8, one), (0x60, two), (0x100, media.HOME.city.ljust(30).encode()))
    assert redact(photo_with(block)) == photo_with(block[:0x100] + bytes(30))


def test_a_head_of_which_nothing_is_understood_is_refused():
    data = b"\xff\xd8" + segment(0xE1, b"Exif\0\0II*\0\x08\0\0\0") + segment(0xE5, b"Lisbon")
    assert locate("image/jpeg", LOCATION, MemorySource(data)).outcome is Outcome.REFUSE


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
def test_readers_miss_no_extended_xmp(tmp_path, size):
    path = tmp_path / "out.jpg"
    path.write_bytes(redact(more_xmp(size)))
    (tags,) = jpegs.exiftool(path)
    assert tags["Main:Rating" if "Main:Rating" in tags else "XMP-xmp:Rating"] == 4
    warnings = [tags[name] for name in tags if "Warning" in name]
    assert warnings == ["[minor] Unknown APP1 segment"], tags


@pytest.mark.parametrize("encoding", ["utf-8", "utf-16-le", "utf-32-be"])
def test_extended_xmp_goes_with_its_digest(encoding):
    packet = jpegs.xmp_packet("<xmp:Rating>3</xmp:Rating>")
    digest, parts = jpegs.more_xmp_segments(packet, 500)
    main = jpegs.xmp_packet("", attributes=f'xmpNote:HasExtendedXMP="{digest}"', encoding=encoding)
    out = redact(with_segments(plain(), jpegs.xmp_segment(main), *parts))
    assert digest.encode(encoding) not in out
    assert digest.encode() not in out
    assert jpegs.XMP_MORE_HEADER not in out
    assert packet not in out


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
        answer = exiftool.run("-validate", "-warning", "-error", "-a", "-s3", str(path), deadline_s=30)
        return set(answer.stdout.decode().splitlines()[1:])

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


def restarting(size: int) -> bytes:
    """A picture with a restart marker after every two blocks."""
    command = ["jpegtran", "-restart", "2B"]
    done = subprocess.run(command, input=plain(3, size), capture_output=True, check=True, timeout=30)
    return done.stdout


@pytest.mark.parametrize("code", [0x01, 0x02, 0xBF])
@pytest.mark.parametrize("marker", [b"\xff\xd2", b"\xff\xd6", b"\xff\xd7"])
def test_a_damaged_byte_ends_no_picture_with_restart_markers(code, marker):
    """A decoder goes on at the next restart marker."""
    data = restarting(128)
    at = data.index(marker) - 20
    damaged = data[:at] + bytes([0xFF, code]) + data[at + 2 :]
    out = redact(damaged)
    assert out == damaged
    assert jpegs.pixels(out) == jpegs.pixels(damaged) != jpegs.pixels(data)


@pytest.mark.parametrize(
    "between",
    [
        b"\xff\xd3",
        b"\xff\xd3 \xff\xe9",
        b"\xff\xd3 \xff\xd3 \xff\xd4",
        b"\xff\xc9",
        b"\xff\xd3 \xff\2 \xff\xd9",
    ],
)
def test_what_stands_behind_a_scan_without_an_end_goes_though_it_has_a_restart_marker(between):
    place = jpegs.TEXT_COORDINATES.encode()
    out = redact(restarting(48)[:-2] + b"PK\3\4 \xff\2 " + place + b" " + between + b" " + place)
    assert not leaks(out)


def test_a_video_behind_a_scan_without_an_end_is_found_though_it_has_restart_markers():
    video = b"\0\0\0\x18ftypmp42" + bytes(12) + b"\xff\xd3 \xff\xd4" + jpegs.TEXT_COORDINATES.encode()
    assert not leaks(redact(restarting(48)[:-2] + video))
    assert not leaks(redact(restarting(48)[:-2] + b"\xff\2 " + video))


def icc_profile(size: int) -> bytes:
    """The header of a display profile and a table without tags, padded."""
    return (size.to_bytes(4) + b"lcms\4\0\0\0mntrRGB XYZ ").ljust(36, b"\0") + b"acsp" + bytes(size - 40)


def icc_segments(profile: bytes, total: int) -> list[bytes]:
    step = -(-len(profile) // total)
    return [
        segment(0xE2, b"ICC_PROFILE\0" + bytes([n + 1, total]) + profile[n * step : (n + 1) * step])
        for n in range(total)
    ]


@pytest.mark.parametrize("total", [1, 3])
def test_a_colour_profile_stays(total):
    data = with_segments(plain(), *icc_segments(icc_profile(600), total))
    assert redact(data) == data


def test_a_colour_profile_with_a_part_missing_goes():
    parts = icc_segments(icc_profile(600), 3)
    assert b"lcms" not in redact(with_segments(plain(), *parts[:2]))


def test_a_cmyk_picture_keeps_its_colours(tmp_path):
    path = tmp_path / "cmyk.jpg"
    media.run("convert", "-size", "64x64", "plasma:red-blue", "-colorspace", "CMYK", str(path))
    media.write_tags(path, media.place_tags(HOME))
    out = redact(path.read_bytes())
    assert b"Adobe" in out
    assert not leaks(out)
    decoded = [
        subprocess.run(["convert", "jpg:-", "rgb:-"], input=data, capture_output=True, check=True).stdout
        for data in (path.read_bytes(), out)
    ]
    assert decoded[0] == decoded[1]


# --- EXIF under other headers, and in several segments ---


@pytest.mark.parametrize("header", [b"Exif\0\0", b"EXIF\0\xff", b"exif\0\1", b"\xff\xe1\0\x08Exif\0\0"])
def test_exif_that_only_lax_readers_take_keeps_what_tells_no_place(tmp_path, header):
    data = with_segments(plain(), segment(0xE1, header + exif()))
    path = tmp_path / "odd.jpg"
    path.write_bytes(redact(data))
    assert not leaks(path.read_bytes())
    (tags,) = jpegs.exiftool(path)
    assert "Testmaker" in tags.values()


def test_exif_over_several_segments_is_one(tmp_path):
    """As ExifTool writes it: each part under the same header, the first full."""
    block = exif("MM", more=[(0x9C9C, 1, 70000, jpegs.pack("MM", 0x400))])
    block += bytes(0x400 - len(block)) + b"x\0" * 35000
    parts = [block[at : at + 60000] for at in range(0, len(block), 60000)]
    data = with_segments(plain(), *(segment(0xE1, b"Exif\0\0" + part) for part in parts))
    assert leaks(data)
    out = redact(data)
    assert not leaks(out)
    path = tmp_path / "long.jpg"
    path.write_bytes(out)
    (tags,) = jpegs.exiftool(path)
    assert "Testmaker" in tags.values()


def test_exif_does_not_go_on_behind_a_segment_that_says_no_length():
    """Which readers, and we once more, find there as an empty one."""
    block = exif()
    cut = 64
    first, second = (segment(0xE1, b"Exif\0\0" + part) for part in (block[:cut], block[cut:]))
    assert not leaks(redact(with_segments(plain(), first, b"\xff\xe1\0\0", second)))


def test_segments_of_which_nothing_stays_are_not_read_into_memory():
    """Hundreds of megabytes of them must cost no memory; of the others there is a limit."""
    many = plain()[:2] + segment(0xE3, b"x" * 65000) * 300 + plain()[2:]
    out = redact(many)
    assert b"xx" not in out
    plan = locate("image/jpeg", LOCATION, MemorySource(many.replace(b"\xff\xe3", b"\xff\xe1")))
    assert plan.outcome is Outcome.REFUSE
    assert "metadata" in plan.reason


@pytest.mark.parametrize(
    "more",
    [
        [segment(0xFE, b"12 47.80 jan " * 5000)] * 60,
        [jpegs.xmp_segment(jpegs.xmp_packet("<dc:x/>" * 8000))] * 30,
        [jpegs.photoshop_segment(jpegs.resource(0x0404, b"\x1c\x02\x19\0\1a" * 9000))] * 20,
        [jpegs.photoshop_segment(jpegs.resource(0x03ED, b"") * 5000)] * 20,
    ],
)
def test_more_to_look_through_than_any_honest_picture_has(more):
    plan = locate("image/jpeg", LOCATION, MemorySource(with_segments(plain(), *more)))
    reason = "it has too many parts (such as segments, boxes, chunks or tags)"
    assert (plan.outcome, plan.reason) == (Outcome.REFUSE, reason)


def test_the_colour_type_of_photoshops_thumbnails_stays():
    data = with_segments(plain(), segment(jpegs.APP13, b"Adobe_CM\0\2"))
    assert redact(data) == data
    for told in (b"Adobe_CM\0\2\0" + HOME.city.encode(), b"Adobe_CM" + HOME.city.encode()):
        assert HOME.city.encode() not in redact(with_segments(plain(), segment(jpegs.APP13, told)))


@pytest.mark.parametrize("behind", [b"\n", b"\xff" * 300, b"\0\0ab\0", b" " * 40])
def test_filler_behind_a_picture_stays(behind):
    assert redact(plain() + behind) == plain() + behind


@pytest.mark.parametrize("behind", [b"Linz", b" " * 40 + b"Linz", bytes(8) + b"47.8"])
def test_what_is_more_than_filler_goes(behind):
    assert redact(plain() + behind) == plain() + bytes(len(behind))


@pytest.mark.parametrize("rest", [b"\0\0\0\xe2md", b"\xff\xe1", b"\xff\xe1\0\0\0", b"\xff\xd9", b"   "])
@pytest.mark.parametrize("before", [b"", segment(0xDC, b"\0\1") + b"junk"])
def test_no_filler_stays_behind_a_picture_without_an_end(before, rest):
    """Where a video ended the picture and is none, the next reader reads on to what is behind it."""
    photo = plain()[:-2] + before
    out = redact(photo + b"\0\0\0\x18ftypmp42".ljust(24, b"x") + rest)
    assert out[len(photo) + 3 :].count(0) == 21 + len(rest)
