"""Content kinds: one name per kind, contradictions unknown; against the installed libmagic."""

from __future__ import annotations

import random
import struct

import magic
import pytest

from policyfs.content.kinds import (
    SNIFF_BYTES,
    agreed,
    is_kind,
    movie_kind,
    normalise,
    picture_kind,
    settle,
    stream_kind,
)
from policyfs.content.workers.worker import Detector, SniffError
from policyfs.redact.audio.mp3 import kind_behind_junk
from tests.fuzz.seeds import KINDS, seeds_of

TOLD_BY_WHOLE_FILES = {
    "image/avif",
    "image/heif",
    "image/x-canon-cr2",
    "video/quicktime",
}
"""Kinds whose little files here have another's name; tests/redaction has real ones."""

JPEG = b"\xff\xd8\xff\xe0\0\x10JFIF\0\1\1\0\0\1\0\1\0\0"


@pytest.fixture(scope="module")
def detector():
    return Detector()


@pytest.mark.parametrize(
    ("answer", "kind"),
    [
        ("image/jpeg", "image/jpeg"),
        ("image/jpeg; charset=binary", "image/jpeg"),
        ("Image/JPEG", "image/jpeg"),
        ("image/jpg", "image/jpeg"),
        ("application/x-empty", "inode/x-empty"),
        ("inode/x-empty; charset=binary", "inode/x-empty"),
        ("application/octet-stream", "application/octet-stream"),
        ("audio/wav", "audio/x-wav"),
        ("audio/x-hx-aac-adts", "audio/aac"),
        ("video/MP2T", "video/mp2t"),
        ("audio/mpegapplication/octet-stream", "audio/mpeg"),
        ("image/x-ms-bmpimage/x-ms-bmp", "image/bmp"),
        ("image/heif", "image/heif"),
        ("image/heic", "image/heic"),
        ("application/vnd.oasis.opendocument.text", "application/vnd.oasis.opendocument.text"),
    ],
)
def test_one_name_per_kind(answer, kind):
    assert normalise(answer) == kind


@pytest.mark.parametrize(
    "answer",
    [
        "",
        "cannot open `x' (No such file or directory)",
        "regex error 14 for `a', (Memory exhausted)",
        "data",
        "image/",
        "/jpeg",
        "image/jpeg\ntext/plain",
        "image/jpegtext/plain",
        "image/jp eg",
        "image/\xe9",
        "a/" + "b" * 200,
    ],
)
def test_what_is_no_mime_type_is_a_failure(answer):
    assert normalise(answer) is None
    assert not is_kind(answer)


def tar_header(start: bytes) -> bytes:
    """The first block of a tar archive, checksum and all, that begins with other bytes."""
    block = bytearray(start.ljust(512, b"A"))
    block[257:265] = b"ustar\x0000"
    block[148:156] = b" " * 8
    block[148:156] = b"%06o\0 " % sum(block)
    return bytes(block)


def test_libmagic_can_be_made_to_call_a_jpeg_a_tar():
    """Why settle() exists: should this fail one day, the next test still holds."""
    assert magic.from_buffer(tar_header(JPEG), mime=True) == "application/x-tar"


@pytest.mark.parametrize(
    "head",
    [
        tar_header(JPEG),
        JPEG[:3],
        b"\x89PNG\r\n\x1a\n" + b"\0" * 100,
        tar_header(b"\x89PNG\r\n\x1a\n"),
        tar_header(b"GIF89a"),
        tar_header(b"RIFF\x10\0\0\0WEBPVP8 "),
        tar_header(b"II*\0\x08\0\0\0"),
        tar_header(b"MM\0*\0\0\0\x08"),
        tar_header(b"\0\0\0\x18ftypheic"),
    ],
    ids=[
        "jpeg+tar",
        "jpeg-start",
        "png-start",
        "png+tar",
        "gif+tar",
        "webp+tar",
        "tiff+tar",
        "tiffmm+tar",
        "heic+tar",
    ],
)
def test_a_file_that_readers_open_as_something_else_is_unknown(detector, head):
    with pytest.raises(SniffError, match="first bytes of the file differ"):
        detector.kind(head)


OPENED_BY_FIRST_BYTES = {
    "Matroska": b"\x1aE\xdf\xa3\x93B\x86\x81\1B\xf7\x81\1B\x82\x88matroska",
    "Matroska, its type late": b"\x1aE\xdf\xa3\xc3\xec\xaa" + bytes(42) + b"B\x82\x88matroska",
    "AVI": b"RIFF\0\1\0\0AVI LIST",
    "WAV": b"RIFF\0\1\0\0WAVEfmt ",
    "AIFF": b"FORM\0\0\1\0AIFFCOMM",
    "FLAC": b"fLaC\0\0\0\x22",
    "Ogg": b"OggS\0\2" + bytes(22) + b"\1vorbis",
    "MP3": b"ID3\3\0\0\0\0\x10\0TIT2",
    "PDF": b"%PDF-1.4\n",
    "BMP": b"BM\0\1\0\0\0\0\0\0\x36\0\0\0\x28\0\0\0",
    "RAF": b"FUJIFILMCCD-RAW 0201",
    "RW2": b"IIU\0\x18\0\0\0",
    "ORF": b"IIRO\x08\0\0\0",
    "X3F": b"FOVb\0\0\2\0",
    "JPEG XL": b"\xff\x0a",
    "QuickTime": b"\0\0\0\x08wide\0\0\1\0mdat",
    "WMV": bytes.fromhex("3026b2758e66cf11a6d900aa0062ce6c"),
    "FLV": b"FLV\1\5\0\0\0\t",
    "MPEG": b"\0\0\1\xba\x21\0\1\0",
}


@pytest.mark.parametrize("case", OPENED_BY_FIRST_BYTES)
@pytest.mark.parametrize("way", ["tar", "disk image", "console"])
def test_what_later_bytes_claim_hides_no_file_that_players_and_viewers_open(detector, case, way) -> None:
    start = OPENED_BY_FIRST_BYTES[case]
    head = bytearray(tar_header(start) if way == "tar" else start.ljust(SNIFF_BYTES, b"\0"))
    if way == "disk image":
        head[32769:32774] = head[34817:34822] = b"CD001"
    if way == "console":
        head[256:272] = b"SEGA MEGA DRIVE "
    plain = detector.kind(start.ljust(4096, b"\0"))
    assert found(detector, bytes(head)) in (None, plain)
    assert way != "tar" or found(detector, bytes(head)) is None


def found(detector: Detector, head: bytes) -> str | None:
    try:
        return detector.kind(head)
    except SniffError:
        return None


@pytest.mark.parametrize(
    ("kind", "first", "settled"),
    [
        ("application/x-tar", "text/plain", "application/x-tar"),
        ("application/x-tar", "image/x-x3f", None),
        ("application/x-tar", "application/pdf", None),
        ("application/x-tar", "application/zip", "application/x-tar"),
        ("audio/x-mod", "audio/flac", None),
        ("audio/x-mod", "audio/midi", "audio/x-mod"),
        ("application/octet-stream", "video/x-flv", "video/x-flv"),
        ("application/octet-stream", "text/plain", "application/octet-stream"),
    ],
)
def test_the_first_bytes_and_the_whole_head(kind, first, settled) -> None:
    assert agreed(kind, first) == settled


def test_a_photo_with_the_mark_of_a_boot_sector_stays_a_photo(detector) -> None:
    """One photo of 65,536 has these two bytes there by chance, and libmagic cannot name such a file."""
    head = bytearray(JPEG.ljust(4096, b"A"))
    head[510:512] = b"\x55\xaa"
    assert detector.kind(bytes(head)) == "image/jpeg"


FRAME = b"\xff\xfb\x90\xc4" + bytes(range(1, 200)) + bytes(214)
ADTS = b"\xff\xf1\x50\x80\x32\x1f\xfc" + bytes(range(1, 250)) + bytes(144)
COVER = b"APIC" + (70_000).to_bytes(4) + b"\0\0" + b"\xff\xd8\xff\xe0" * 17_500
TAG = b"ID3\3\0\0" + bytes(len(COVER) >> shift & 0x7F for shift in (21, 14, 7, 0)) + COVER


@pytest.mark.parametrize(
    ("head", "kind"),
    [
        (TAG + FRAME, "audio/mpeg"),  # the sound lies behind the head: the locator finds which it is
        (b"junk" * 99 + FRAME * 200, "audio/mpeg"),
        (bytes(5000) + FRAME * 200, "audio/mpeg"),
        (b"junk" * 99 + ADTS * 200, "audio/aac"),
        (b"\1junk" * 99 + FRAME * 6 + b"TAG" + bytes(125), "audio/mpeg"),
        (b"\1junk" * 99 + FRAME * 6 + FRAME[:200], "audio/mpeg"),
        (b"\1junk" * 99 + FRAME * 3, "application/octet-stream"),
        (b"\1junk" * 99 + FRAME * 50 + b"\2other data of a game" * 99, "application/octet-stream"),
        (b"\1junk" * 9000 + FRAME * 200, "application/octet-stream"),
        (b"\1junk" + b"\xff" * 65_000, "application/octet-stream"),
        (b"RF64\xff\xff\xff\xffWAVEds64\x1c\0\0\0" + bytes(28) + b"fmt ", "audio/x-wav"),
        (b"BW64\xff\xff\xff\xffWAVEds64\x1c\0\0\0" + bytes(28) + b"fmt ", "audio/x-wav"),
        (b"RF64\xff\xff\xff\xff" + bytes(range(255)), "application/octet-stream"),
        (b"RF64\x70\1\0\0WAVEds64\x1c\0\0\0" + bytes(28) + b"fmt ", "audio/x-wav"),
        (b"BW64\x70\1\0\0WAVEds64\x1c\0\0\0" + bytes(28) + b"fmt ", "audio/x-wav"),
    ],
)
def test_sound_that_libmagic_does_not_find(detector, head, kind) -> None:
    assert detector.kind(head) == kind


def test_bytes_by_chance_are_no_sound(detector) -> None:
    """Four frames to the end of a head: two bytes of each header have to match, 2 ** -60 for each place."""
    chance = random.Random(1)
    heads = (b"\1" + chance.randbytes(SNIFF_BYTES - 1) for _ in range(50))
    assert {kind_behind_junk(head) for head in heads} == {None}


@pytest.mark.parametrize("name", ["DCIM/1.jpg", "BMW/1.jpg", "ID3 tags", "RIFF", "II", "From Ann", "OggS"])
def test_an_archive_of_any_names_stays_one(detector, name) -> None:
    assert detector.kind(tar_header(name.encode().ljust(512, b"\0"))) == "application/x-tar"


@pytest.mark.parametrize(
    ("kind", "head", "settled"),
    [
        ("image/jpeg", JPEG, "image/jpeg"),
        ("image/x-canon-cr2", b"II*\0\x10\0\0\0CR", "image/x-canon-cr2"),
        ("video/mp4", b"\0\0\0\x18ftypmp42", "video/mp4"),
        ("application/octet-stream", b"\0\0\0\x18ftypxxxx", "application/octet-stream"),
        ("application/octet-stream", b"IIU\0\x18\0\0\0", "image/x-panasonic-rw2"),
        ("audio/x-wav", b"RIFF\0\0\0\0WAVE", "audio/x-wav"),
        ("text/plain", b"JUNK" + JPEG, "text/plain"),
        ("application/zip", JPEG, None),
        ("application/octet-stream", JPEG, None),
        ("audio/x-wav", b"RIFF\0\0\0\0WEBP", None),
        ("image/jpegx", JPEG, None),
    ],
)
def test_settle(kind, head, settled):
    assert settle(kind, head) == settled


@pytest.mark.parametrize(
    ("head", "kind"),
    [
        (b"", "inode/x-empty"),
        (b"\0", "application/octet-stream"),
        (b"hello there\n", "text/plain"),
        (b'{"a": 1}', "application/json"),
        (b"<svg xmlns='http://www.w3.org/2000/svg'/>", "image/svg+xml"),
        (JPEG, "image/jpeg"),
        (JPEG + b"\0" * 40_000 + b"PK\x05\x06" + b"\0" * 18, "image/jpeg"),
        (b"\xff\xd8\xff\xff\xff\xe1" + b"A" * 100, "image/jpeg"),
        (b"GIF89a\1\0\1\0\0\0\0;", "image/gif"),
        (b"\x89PNG\r\n\x1a\n\0\0\0\x0dIHDR" + struct.pack(">II", 1, 1) + b"\x08\2\0\0\0", "image/png"),
        (b"RIFF\x24\0\0\0WEBPVP8 ", "image/webp"),
        (b"\0\0\0\x18ftypheic\0\0\0\0mif1heic", "image/heic"),
        (b"\0\0\0\x18ftypmif1\0\0\0\0mif1heic", "image/heif"),
        (b"\0\0\0\x18ftypmp42\0\0\0\0isommp42", "video/mp4"),
        (b"fLaC\0\0\0\x22", "audio/flac"),
        (b"1\n00:00:01,000 --> 00:00:02,000\nhi\n", "application/x-subrip"),
        (b"JUNK" + JPEG + bytes(range(256)), "application/octet-stream"),
    ],
)
def test_kinds_of_small_files(detector, head, kind):
    assert detector.kind(head) == kind


def test_only_the_head_decides(detector):
    """A write behind the head can change no kind."""
    head = JPEG.ljust(SNIFF_BYTES, b"\0")
    assert detector.kind(head + b"PK\3\4" * 1000) == detector.kind(head) == "image/jpeg"


MOVIE_HEADS = {
    "a camera's brand": (b"\0\0\0\x18ftypXAVC\0\0\0\0XAVCmp42", "video/mp4"),
    "a segment's brand": (b"\0\0\0\x18ftypmsdh\0\0\0\0msdhmsix", "video/mp4"),
    "a book": (b"\0\0\0\x18ftypaax \0\0\0\1aax M4B ", "audio/mp4"),
    "a raw photo": (b"\0\0\0\x18ftypcrx \0\0\0\1crx isom", None),
    "a picture's brand among others": (b"\0\0\0\x18ftypmif3\0\0\0\0miafheic", None),
    "padding first": (b"\0\0\0\x08wide\0\0\1\0mdat" + bytes(20), "video/quicktime"),
    "skipped first": (b"\0\0\0\x0cskip\0\0\0\0\0\0\0\x40moov" + bytes(20), "video/quicktime"),
    "a large box": (b"\0\0\0\x08wide\0\0\0\1mdat" + (1 << 33).to_bytes(8), "video/quicktime"),
    "a preview first": (b"\0\0\0\x14pnot" + bytes(12) + b"\0\0\1\0moov" + bytes(20), "video/quicktime"),
    "brands behind padding": (
        b"\0\0\0\x08free\0\0\0\x10ftypisom\0\0\0\0\0\0\1\0moov" + bytes(20),
        "video/quicktime",
    ),
    "padding alone": (b"\0\0\0\x0cskip" + bytes(40), None),
    "no size": (b"\0\0\0\x07wide\0\0\1\0mdat" + bytes(20), None),
    "a brand of no size": (b"\0\0\0\x02ftypXAVC" + bytes(20), None),
}


@pytest.mark.parametrize("case", MOVIE_HEADS)
def test_movies_that_libmagic_does_not_know(case):
    head, kind = MOVIE_HEADS[case]
    assert movie_kind(head) == kind


def brands(*names: str, before: bytes = b"") -> bytes:
    """The head of a file with a major brand and those it is compatible with."""
    first, *others = (name.ljust(4).encode() for name in names)
    body = first + bytes(4) + b"".join(others)
    return before + (8 + len(body)).to_bytes(4) + b"ftyp" + body + b"\0\0\1\0meta" + bytes(90)


PICTURE_HEADS = {
    "Canon's raw": (brands("crx", "crx", "isom"), "image/x-canon-cr3"),
    "later HEIF": (brands("mif2", "mif2", "heic"), "image/heic"),
    "by a profile": (brands("MiHE", "mif1", "miaf"), "image/heic"),
    "JPEG in HEIF": (brands("jpeg", "mif1"), "image/heif"),
    "AVIF": (brands("MA1B", "mif1", "avif"), "image/avif"),
    "JPEG 2000, part 15": (brands("jph", "jph", before=b"\0\0\0\x0cjP  \r\n\x87\n"), "image/jph"),
    "a long list of brands": (brands("abcd", *["abcd"] * 3000, "mif1", "heic"), "image/heic"),
    "behind another box": (brands("mif1", "heic", before=b"\0\0\0\x08free"), "image/heic"),
    "a size of 64 bits": (b"\0\0\0\1ftyp" + (28).to_bytes(8) + b"abcd\0\0\0\0heic", "image/heic"),
    "a movie": (brands("XAVC", "mp42"), None),
    "no brand": (b"\0\0\0\x02ftypheic" + bytes(20), None),
}


@pytest.mark.parametrize("case", PICTURE_HEADS)
def test_pictures_in_boxes_that_libmagic_does_not_know(case, detector):
    head, kind = PICTURE_HEADS[case]
    assert picture_kind(head) == kind
    if kind is not None:
        assert detector.kind(head) == kind


@pytest.mark.parametrize("major", ["isom", "mp42", "M4V", "M4A", "qt", "3gp5", "MSNV", "dash"])
@pytest.mark.parametrize("way", ["a brand", "the last of many", "a second box", "behind the head"])
def test_a_picture_with_the_first_brand_of_a_film_or_a_sound_is_unknown(detector, major, way) -> None:
    """Viewers open it as a picture, by any of its brands."""
    head = {
        "a brand": brands(major, "mif1", "heic"),
        "the last of many": brands(major, *[major] * 3000, "heic"),
        "a second box": brands("heic", before=brands(major, major)[:20]),
        "behind the head": brands(major, *[major] * 20_000, "heic"),
    }[way]
    with pytest.raises(SniffError, match="first bytes of the file differ"):
        detector.kind(head)
    assert found(detector, brands(major, *[major] * 3000, "iso2")) is not None


def test_a_film_of_sonys_cameras_is_a_film(detector) -> None:
    """libmagic calls it a sound, so a rule about films would miss it."""
    assert detector.kind(brands("MSNV", "MSNV", "mp42")) == "video/mp4"
    assert detector.kind(brands("M4B", "mp42")) == "audio/mp4"


def test_a_picture_in_boxes_that_libmagic_calls_something_else():
    assert settle("text/plain", b"\0\0\0\x0cjP  \r\n\x87\n") is None
    assert settle("application/x-tar", b"\xff\x4f\xff\x51\0\x2f") is None


@pytest.mark.parametrize("kind", sorted(set(KINDS) - TOLD_BY_WHOLE_FILES))
def test_a_kind_with_a_locator_is_found_in_its_files(kind: str, detector) -> None:
    """Else its format would be redacted in tests, and never in a mount."""
    heads = [file[:SNIFF_BYTES] for file in seeds_of(kind)]
    assert kind in {detector.kind(head) for head in heads}
    for head in heads:
        assert settle(kind, head) == kind


@pytest.mark.parametrize("first", ["audio/x-ape", "image/x-os2-graphics"])
def test_a_few_letters_that_begin_a_text_or_an_archive_make_no_other_kind(first: str) -> None:
    for kind in ("text/csv", "application/x-tar"):
        assert agreed(kind, first) == kind


@pytest.mark.parametrize(
    ("head", "kind"),
    [
        ((b"G" + bytes(187)) * 3, "video/mp2t"),
        ((bytes(4) + b"G" + bytes(187)) * 9, "video/mp2t"),
        ((b"G" + bytes(187)) * 2, None),
        ((b"G" + bytes(187)) * 3 + bytes(188), None),
        (b"GIF8" + bytes(999), None),
        (b"", None),
    ],
)
def test_transport_streams_are_known_by_their_marks(head: bytes, kind: str | None) -> None:
    assert stream_kind(head) == kind
