"""PNG: what goes from where, byte by byte, and what stays as it was."""

from __future__ import annotations

import re
import zlib

import pytest

from policyfs.redact.core.bounded_inflate import inflated as inflated_within
from policyfs.redact.core.categories import UNKNOWN, Tells
from policyfs.redact.core.cleaners import Budget
from policyfs.redact.core.patches import MemorySource, apply
from policyfs.redact.plan import Outcome, locate
from policyfs.redact.registry import locate_in
from tests.support.samples import jpegs, pngs
from tests.support.samples.media import HOME

CITY = HOME.city.encode()
PLACE = b"47.80453, 13.04229"
XMP = jpegs.xmp_packet(f"<photoshop:City>{HOME.city}</photoshop:City><dc:format>x</dc:format>")


def inflated(data: bytes) -> tuple[bytes, bytes] | None:
    return inflated_within(data, Budget(0, 0))


def redact(data: bytes, hide: Tells = Tells.LOCATION) -> bytes:
    """What is read of a PNG; it is as long as before, and redacting it again finds nothing."""
    found = locate_in("image/png", MemorySource(data), hide)
    out = apply(data, sorted(found.patches, key=lambda p: p.offset))
    assert not locate_in("image/png", MemorySource(out), hide).patches
    assert len(out) == len(data)
    return out


def left(data: bytes, hide: Tells = Tells.LOCATION) -> list[tuple[bytes, bytes]]:
    """The chunks of what is read; a strict walk, with checksums."""
    return list(pngs.chunks(redact(data, hide)))


HIDING = {
    "EXIF": pngs.chunk(b"eXIf", jpegs.exif("MM")),
    "EXIF with its JPEG preamble": pngs.chunk(b"eXIf", b"Exif\0\0" + jpegs.exif("II")),
    "broken EXIF": pngs.chunk(b"eXIf", b"II*\0" + CITY),
    "deflated EXIF": pngs.chunk(b"zxIf", b"\0\0\0\0\0" + zlib.compress(jpegs.exif("MM"))),
    "a wrong checksum": pngs.chunk(b"tEXt", b"Location\0" + CITY, 7),
    "tEXt by its name": pngs.text("Location", HOME.city),
    "tEXt by its value": pngs.text("Comment", PLACE.decode()),
    "tEXt with an unknown name": pngs.text("my words", HOME.city),
    "tEXt without a name": pngs.chunk(b"tEXt", CITY),
    "a name that tells": pngs.text(HOME.city, ""),
    "zTXt": pngs.packed_text("Comment", PLACE),
    "zTXt of another method": pngs.chunk(b"zTXt", b"Comment\0\1" + CITY),
    "zTXt that is not deflated": pngs.chunk(b"zTXt", b"Comment\0\0" + CITY),
    "behind a deflated stream": pngs.chunk(b"zTXt", b"Comment\0\0" + zlib.compress(b"none") + CITY),
    "deflated without bound": pngs.packed_text("Comment", bytes(5 << 20) + CITY),
    "iTXt": pngs.international("Location", HOME.city.encode()),
    "a translated keyword": pngs.international("Comment", b"x", extra=b"en\0" + PLACE),
    "a language that is none": pngs.international("Comment", b"x", extra=PLACE + b"\0"),
    "XMP": pngs.international("XML:com.adobe.xmp", XMP),
    "deflated XMP": pngs.international("XML:com.adobe.xmp", XMP, packed=True),
    "XMP in a comment": pngs.text("Comment", XMP.decode("latin-1")),
    "markup": pngs.text("Comment", f"<city>{HOME.city}</city>"),
    "raw EXIF": pngs.packed_text("Raw profile type exif", pngs.profile("exif", b"Exif\0\0" + jpegs.exif())),
    "raw APP1": pngs.packed_text(
        "Raw profile type APP1", pngs.profile("generic", b"http://ns.adobe.com/xap/1.0/\0" + XMP)
    ),
    "raw IPTC": pngs.packed_text(
        "Raw profile type iptc", pngs.profile("IPTC", jpegs.resource(0x0404, jpegs.iptc_place()))
    ),
    "raw IPTC, bare": pngs.packed_text("Raw profile type 8bim", pngs.profile("8bim", jpegs.iptc_place())),
    "a raw profile that is none": pngs.packed_text("Raw profile type foo", b"\nfoo\n 3\n4d4d4d\n" + CITY),
    "a raw profile nobody knows": pngs.packed_text("Raw profile type foo", pngs.profile("foo", CITY)),
    "raw IPTC that is broken": pngs.packed_text(
        "Raw profile type iptc", pngs.profile("IPTC", b"8BIM" + CITY)
    ),
    "raw IPTC, bare and broken": pngs.packed_text(
        "Raw profile type iptc", pngs.profile("IPTC", b"\x1c\2\5\xff" + CITY)
    ),
    "raw XMP that is broken": pngs.packed_text(
        "Raw profile type xmp", pngs.profile("xmp", b"<?xpacket " + CITY)
    ),
    "C2PA": pngs.chunk(b"caBX", CITY),
    "an unknown chunk": pngs.chunk(b"abCd", CITY),
    "an unknown critical chunk": pngs.chunk(b"ABCD", CITY),
    "a neutral chunk that is none": pngs.chunk(b"zeRo", CITY),
    "a short time": pngs.chunk(b"tIME", CITY),
    "a long resolution": pngs.chunk(b"pHYs", bytes(9) + CITY),
    "a second header": pngs.chunk(b"IHDR", CITY.ljust(13)[:13]),
    "a colour profile that is none": pngs.chunk(b"iCCP", b"icc\0\0" + zlib.compress(CITY)),
    "frame data of no animation": pngs.chunk(b"fdAT", bytes(4) + CITY),
}


@pytest.mark.parametrize("case", HIDING)
def test_places_go(case):
    for data in (pngs.plain(HIDING[case]), pngs.plain(after=HIDING[case])):
        chunks = left(data)
        whole = b"".join(body for _, body in chunks)
        for _, body in chunks:
            for at in range(len(body)):
                if body[at] == 0x78 and (found := inflated(body[at:])) is not None:
                    whole += found[0]
        for text in (CITY, PLACE, jpegs.pack("MM", *jpegs.LATITUDE), jpegs.pack("II", *jpegs.LATITUDE)):
            assert text not in whole
            assert text.hex().encode() not in whole.replace(b"\n", b"")
        kept = [kind for kind, _ in chunks if kind not in (b"zeRo", HIDING[case][4:8])]
        assert chunks[0][0] == b"IHDR"
        assert kept[-2:] == [b"IDAT", b"IEND"]


@pytest.mark.parametrize(
    "behind", [CITY, pngs.plain(pngs.text("Location", HOME.city)), bytes(5000) + CITY, b"PK\3\4" + CITY]
)
def test_what_is_behind_becomes_zeros(behind):
    data = pngs.plain(behind=behind)
    out = redact(data)
    assert out == pngs.plain().ljust(len(data), b"\0")


def test_what_is_not_asked_for_stays():
    kept = (
        pngs.chunk(b"gAMA", bytes(4)),
        pngs.chunk(b"pHYs", bytes(9)),
        pngs.chunk(b"tIME", bytes([7, 232, 5, 17, 11, 22, 33])),
        pngs.text("Title", "A quince"),
        pngs.packed_text("Software", b"Quillpaint"),
        pngs.international("Comment", "Früchte".encode(), packed=True, extra=b"de\0"),
        pngs.chunk(b"vpAg", bytes(9)),
    )
    data = pngs.plain(*kept)
    assert redact(data) == data


def test_words_take_what_they_are_about():
    data = pngs.plain(
        pngs.text("Title", "A quince"),
        pngs.text("Software", "Quillpaint"),
        pngs.text("Creation Time", "yesterday"),
        pngs.text("Location", HOME.city),
        pngs.text("Genre", "fruit"),
        pngs.chunk(b"tIME", bytes([7, 232, 5, 17, 11, 22, 33])),
    )
    gone = {}
    for hide in Tells:
        kept = dict(left(data, hide))
        gone[hide] = sum(1 for kind, _ in left(data, hide) if kind == b"zeRo")
        assert kept[b"IHDR"]
    assert gone == {
        Tells.LOCATION: 1,
        Tells.DEVICE: 1,
        Tells.TIME: 2,
        Tells.PEOPLE: 1,
        Tells.OTHER: 1,
    }
    assert sum(1 for kind, _ in left(data, UNKNOWN) if kind == b"zeRo") == 6


def test_deflated_metadata_keeps_what_was_not_asked_for():
    """A stream is written again at exactly the same length."""
    packet = jpegs.xmp_packet(
        f"<photoshop:City>{HOME.city}, {HOME.names}</photoshop:City>"
        "<photoshop:Headline>Quince</photoshop:Headline>"
    )
    chunks = dict(left(pngs.plain(pngs.international("XML:com.adobe.xmp", packet, packed=True))))
    plain, behind = inflated(chunks[b"iTXt"].split(b"\0\0\0", 1)[1]) or (b"", b"?")
    assert b"Quince" in plain
    assert CITY not in plain
    assert not behind


def test_animations_keep_their_frames():
    frames = pngs.chunk(b"acTL", bytes(8)) + pngs.chunk(b"fcTL", bytes(26))
    more = pngs.chunk(b"fcTL", bytes(26)) + pngs.chunk(b"fdAT", b"picture")
    data = pngs.plain(frames, after=more)
    assert redact(data) == data


@pytest.mark.parametrize(
    "data",
    [
        pngs.plain(pngs.chunk(b"acTL", bytes(9)), after=pngs.chunk(b"fdAT", bytes(4) + CITY)),
        pngs.plain(after=pngs.chunk(b"fdAT", bytes(4) + CITY)[:-1])[: -len(pngs.chunk(b"IEND"))],
    ],
    ids=["a head of no shape", "cut off"],
)
def test_frames_without_an_animation_go(data):
    """The head of an animation that goes makes no frames, for the first reader as for the second."""
    assert CITY not in redact(data)


@pytest.mark.parametrize("hide", [Tells.LOCATION, Tells.PEOPLE, UNKNOWN])
@pytest.mark.parametrize("words", ["<?xpacket {}", "<?xml-model {}?><city/>"])
def test_what_only_starts_like_xmp_goes_whole(words, hide):
    """Nothing is left of it by which the next reader would know it for XMP."""
    chunks = left(pngs.plain(pngs.text("Comment", words.format(HOME.city))), hide)
    assert [kind for kind, _ in chunks] == [b"IHDR", b"zeRo", b"IDAT", b"IEND"]


def test_what_goes_does_not_stand_in_for_what_stays():
    sound = pngs.chunk(b"gAMA", bytes(4))
    kept = [kind for kind, _ in left(pngs.plain(pngs.chunk(b"gAMA", bytes(5)), sound))]
    assert kept == [b"IHDR", b"zeRo", b"gAMA", b"IDAT", b"IEND"]


def test_a_picture_cut_off_stays_and_what_hides_in_its_length_goes():
    data = pngs.plain()
    cut = data[:-20]
    assert redact(cut) == cut
    at = data.index(b"IDAT") - 4
    lying = data[:at] + b"\x7f\xff\xff\xff" + data[at + 4 : -12] + pngs.text("Comment", HOME.city)
    out = redact(lying)
    assert CITY not in out
    assert out[:-100].rstrip(b"\0") == lying[: len(out[:-100].rstrip(b"\0"))]


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\x8aMNG\r\n\x1a\n",
        b"\x8bJNG\r\n\x1a\n",
        pngs.SIGNATURE,
        pngs.SIGNATURE + pngs.chunk(b"IEND"),
        pngs.SIGNATURE + pngs.text("Location", "x"),
        pngs.plain().replace(b"IHDR", b"xHDR"),
        pngs.plain().replace(b"IDAT", b"xDAT"),
        pngs.plain(pngs.text("a", "b")[:-2]),
        pngs.plain().replace(b"\0\0\0\x0dIHDR", b"\0\0\0\x15IHDR" + bytes(8)),
        pngs.SIGNATURE + pngs.chunk(b"CgBI", bytes(5)) + pngs.plain()[8:],
    ],
)
def test_what_is_no_picture_is_refused(data):
    plan = locate("image/png", frozenset({"location"}), MemorySource(data))
    assert plan.outcome is Outcome.REFUSE
    assert not plan.reason.startswith("internal")


@pytest.mark.parametrize("length", [0, 7, 10_000])
def test_a_profile_whose_length_is_wrong_is_taken_by_its_digits(length):
    kept = jpegs.exif(place=False)
    told = jpegs.exif()

    def text(block: bytes) -> bytes:
        digits = pngs.profile("exif", block)
        said = re.sub(rb"^(\nexif\n *)\d+", rb"\g<1>%d" % length, digits)
        assert said != digits
        return pngs.plain(pngs.packed_text("Raw profile type exif", said))

    assert redact(text(kept)) == text(kept)
    out = b"".join(
        inflated(body[body.index(b"\0\0") + 2 :])[0]
        for kind, body in pngs.chunks(redact(text(told)))
        if kind == b"zTXt"
    )
    assert b"54657374" in out  # the camera's name
    assert jpegs.pack("II", *jpegs.LATITUDE).hex().encode() not in out.replace(b"\n", b"")


@pytest.mark.parametrize("behind", [b"\n", b"\xff" * 100, b"\r\n\0"])
def test_filler_behind_stays(behind):
    assert redact(pngs.plain(behind=behind)) == pngs.plain(behind=behind)


COPIES = (
    ("exif:thumbnail:InteroperabilityIndex", "R98"),
    ("exif:thumbnail:InteroperabilityVersion", "48, 49, 48, 48"),
    ("exif:CFAPattern", "2, 0, 2, 0, 0, 1, 1, 2"), ("exif:FNumber", "14/5"), ("exif:thumbnail:Model", "M1"),
    ("tiff:alpha", "unspecified"), ("tiff:endian", "lsb"), ("tiff:photometric", "RGB"),
    ("tiff:document", "x"),
    ("tiff:rows-per-strip", "16"), ("tiff:software", "S"),
    ("dc:format", "image/jpeg"), ("dc:identifier", "i1"), ("stRef:documentID", "adobe:docid:photoshop:5"),
    ("stRef:instanceID", "uuid:511dc7d2"), ("xap:CreatorTool", "Q"), ("xmp:CreatorTool", "Q"),
    ("xap:MetadataDate", "2013-07-01"), ("xmp:MetadataDate", "2020-01-01"), ("xapMM:DocumentID", "a"),
    ("xmpMM:DerivedFrom", "xx"), ("xmpMM:DocumentID", "abc"), ("xmpMM:InstanceID", "x"), ("aux:LensID", "3"),
    ("Licensing", "public domain"), ("Permission", "granted"), ("Creator", "Q"), ("Generator", "Q 2"),
    ("pdf:HiResBoundingBox", "595x842+0+0"), ("pdf:Version", "PDF-1.3 "), ("xmpRights:Marked", "True"),
)  # fmt: skip
"""Names and values of tEXt chunks in PNGs that ImageMagick 6.9.11 makes of a JPEG, a TIFF and a PDF."""


@pytest.mark.parametrize(("name", "value"), COPIES)
def test_the_copies_of_tags_that_imagemagick_writes_stay_without_a_place(name, value):
    data = pngs.plain(pngs.text(name, value))
    assert redact(data) == data
    assert PLACE not in redact(pngs.plain(pngs.text(name, PLACE.decode())))


def test_a_comment_of_exif_that_imagemagick_copies_as_numbers_is_searched():
    def copied(text: bytes) -> bytes:
        return pngs.plain(pngs.text("exif:UserComment", ", ".join(map(str, b"ASCII\0\0\0" + text))))

    assert redact(copied(b"a quince on a table")) == copied(b"a quince on a table")
    assert b"52, 55, 46" not in redact(copied(PLACE))
