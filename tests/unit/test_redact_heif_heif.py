"""HEIF: every place in which an item or a box may hold something, byte by byte."""

from __future__ import annotations

import zlib
from dataclasses import replace

import pytest

from policyfs.domain import DENY_UNKNOWN
from policyfs.redact.core.categories import Tells
from policyfs.redact.core.patches import MemorySource, apply, in_order
from policyfs.redact.plan import Outcome, Plan, locate
from policyfs.redact.registry import locate_in
from tests.support.samples import jpegs, motion, movies
from tests.support.samples.heifs import (
    XMP_TYPE,
    XMP_UUID,
    Layout,
    Thing,
    full,
    heif,
    hvcc,
    nal,
    obu,
    picture,
    two_chains,
    user_sei,
)
from tests.support.samples.media import HOME
from tests.support.samples.movies import box as make_box
from tests.support.samples.movies import u32

CITY = HOME.city.encode()
XMP = jpegs.xmp_packet(f"<photoshop:City>{HOME.city}</photoshop:City>")
EXIF = b"\0\0\0\0" + jpegs.exif("MM")
SECRET = b"47.804531, 13.042287"
PICTURE = Thing(1, b"hvc1", picture(), properties=(1, 2))


def plan(data: bytes, *words: str, kind: str = "image/heic") -> tuple[Plan, bytes]:
    """The plan and what is read; what must hold for any of them."""
    found = locate(kind, frozenset(words or ("location",)), MemorySource(data))
    assert not found.reason.startswith("internal error"), found.reason
    out = apply(data, found.patches)
    if found.outcome is not Outcome.REFUSE:
        again = locate(kind, frozenset(words or ("location",)), MemorySource(out))
        assert again.outcome is Outcome.CLEAN, again
    return found, out


def read(data: bytes, *words: str, kind: str = "image/heic") -> bytes:
    """What is read of a file that is not refused."""
    found, out = plan(data, *words, kind=kind)
    assert found.outcome is not Outcome.REFUSE, found.reason
    return out


def told(data: bytes, hide: Tells) -> bytes:
    """What is read where this is hidden."""
    source = MemorySource(data)
    return apply(data, in_order(locate_in("image/heic", source, hide).patches, len(data)))


def refused(data: bytes) -> str:
    found, _ = plan(data)
    assert found.outcome is Outcome.REFUSE
    return found.reason


def free_of_place(out: bytes) -> bool:
    latitude = jpegs.pack("MM", *jpegs.LATITUDE)
    return CITY not in out and latitude not in out and b"47.8045" not in out


def test_a_file_without_metadata_is_clean():
    found, _ = plan(heif([PICTURE]))
    assert found.outcome is Outcome.CLEAN


@pytest.mark.parametrize("where", ["mdat", "idat"])
@pytest.mark.parametrize("pieces", [1, 3])
@pytest.mark.parametrize(("iloc", "infe"), [(0, 2), (1, 2), (1, 3), (2, 3)])
def test_exif_and_xmp_wherever_their_pieces_lie(where, pieces, iloc, infe):
    if iloc == 0:
        where = "mdat"  # this version knows no idat
    data = heif(
        [
            PICTURE,
            Thing(2, b"Exif", EXIF, where=where, pieces=pieces),
            Thing(3, b"mime", XMP, XMP_TYPE, where=where, pieces=pieces),
        ],
        Layout(iloc_version=iloc, infe_version=infe),
    )
    out = read(data)
    assert free_of_place(out)
    assert b"Testmaker" in (out if pieces == 1 else out.replace(b"\0" * 8, b""))
    assert picture() in out
    if pieces > 1:
        assert b"nobody's" not in out


def test_item_infos_of_the_first_versions_are_told_by_their_type():
    things = [Thing(1, b"mime", jpegs.plain(), b"image/jpeg"), Thing(3, b"mime", XMP, XMP_TYPE)]
    out = read(heif(things, Layout(infe_version=0)))
    assert CITY not in out


def test_a_base_offset():
    data = heif([PICTURE, Thing(2, b"Exif", EXIF)], Layout(base=200))
    out = read(data)
    assert free_of_place(out)
    assert b"Testmaker" in out


def test_an_item_that_is_a_piece_of_another():
    """Method 2: the Exif item has no place of its own in the file."""
    holder = Thing(2, b"mime", b"12345" + EXIF + b"end", b"application/octet-stream")
    data = heif([PICTURE, holder, Thing(3, b"Exif", of=(2, 5, len(EXIF)))])
    out = read(data)
    assert free_of_place(out)
    assert picture() in out


def test_items_that_are_pieces_of_themselves():
    data = heif([PICTURE, Thing(2, b"Exif", of=(2, 0, 40)), Thing(3, b"Exif", of=(9, 0, 40))])
    assert plan(data)[0].outcome is Outcome.CLEAN


@pytest.mark.parametrize(
    "exif",
    [
        b"\0\0\0\6Exif\0\0" + jpegs.exif("II"),
        b"\0\0\0\0" + jpegs.exif("II"),
        jpegs.exif("II"),
        b"Exif\0\0" + jpegs.exif("II"),
        b"\0\0\0\0Exif\0\0" + jpegs.exif("II"),  # the offset lies
        b"\0\0\x10\0" + jpegs.exif("II"),
        b"\0\0\0\x14" + SECRET + jpegs.exif("II"),  # something before the header
    ],
)
def test_where_the_tiff_header_is(exif):
    out = read(heif([PICTURE, Thing(2, b"Exif", exif)]))
    assert free_of_place(out)
    assert jpegs.pack("II", *jpegs.LATITUDE) not in out
    assert b"Testmaker" in out


def test_exif_that_is_none():
    found, out = plan(heif([PICTURE, Thing(2, b"Exif", b"\0\0\0\0junk " + SECRET)]))
    assert free_of_place(out)
    assert found.findings[0].broken


def test_a_rule_that_denies_what_is_not_understood():
    data = heif([PICTURE, Thing(2, b"Exif", b"\0\0\0\0junk " + SECRET)])
    found, _ = plan(data, "location", DENY_UNKNOWN)
    assert found.outcome is Outcome.REFUSE


@pytest.mark.parametrize("encoding", [b"deflate", b"gzip", b"br", SECRET])
def test_packed_xmp(encoding):
    packed = {b"deflate": zlib.compress(XMP), b"gzip": b"\x1f\x8b" + XMP}.get(encoding, XMP)
    data = heif([PICTURE, Thing(2, b"mime", packed, XMP_TYPE, encoding)])
    out = read(data)
    assert free_of_place(out)
    assert packed not in out
    if encoding == b"deflate":
        at = data.index(packed)
        plain = zlib.decompress(out[at : at + len(packed)])
        assert CITY not in plain
        assert b"dc:format" in plain


def test_content_types_are_told_as_readers_do():
    for kind in (b"Application/RDF+XML", b"application/rdf+xml;charset=utf-8"):
        assert CITY not in read(heif([PICTURE, Thing(2, b"mime", XMP, kind)]))


@pytest.mark.parametrize(
    "thing",
    [
        Thing(2, b"mime", SECRET, b"text/plain"),
        Thing(2, b"uri ", SECRET, b"urn:example:anything"),
        Thing(2, b"jumb", SECRET),
        Thing(2, b"rgan", SECRET),
        Thing(2, b"hvc1", SECRET),  # called a picture, but none
        Thing(2, b"av01", b"\xff" + SECRET),
        Thing(2, b"jpeg", SECRET),
        Thing(2, b"j2k1", SECRET),
        Thing(2, b"unci", SECRET),
    ],
)
def test_what_other_items_hold_goes(thing):
    found, out = plan(heif([PICTURE, thing]))
    assert SECRET not in out
    assert picture() in out
    assert any(thing.kind.decode() in finding.tag for finding in found.findings)


def test_what_is_behind_the_numbers_of_a_grid():
    grid = b"\0\0\0\0\0\x40\0\x30"
    out = read(heif([PICTURE, Thing(2, b"grid", grid.ljust(12, b"\0") + SECRET)]))
    assert grid in out
    assert SECRET not in out


def test_a_description_that_may_tell_a_place_is_refused():
    """Its zeros are sound. If they were shared with metadata, the cleaned file would be refused."""
    assert "may tell a place" in refused(heif([PICTURE, Thing(2, b"iovl", b"48.137154, 11.576124")]))


def test_zeros_behind_the_units_of_a_picture():
    data = heif([Thing(1, b"hvc1", picture() + bytes(9), properties=(1, 2))])
    assert plan(data)[0].outcome is Outcome.CLEAN
    for many in (9, 5000):
        hiding = Thing(2, b"hvc1", picture() + bytes(many) + SECRET, properties=(1, 2))
        assert SECRET not in read(heif([PICTURE, hiding]))


def test_what_nobody_refers_to_goes():
    data = heif([PICTURE], Layout(junk=SECRET, after=make_box(b"free", SECRET) + b"\0\0\0\7" + SECRET))
    out = read(data)
    assert SECRET not in out
    assert picture() in out


@pytest.mark.parametrize("kind", [b"free", b"skip", b"udta", b"uuid", b"abcd", b"sefd", b"moof", b"meta"])
def test_other_boxes_are_free_space_afterwards(kind):
    box = make_box(kind, b"0123456789abcdef" + SECRET)
    out = read(heif([PICTURE], Layout(before=box, after=box, in_meta=box if kind != b"idat" else b"")))
    assert SECRET not in out
    assert out.count(b"free") + out.count(b"skip") >= 3


def test_xmp_in_a_uuid_box():
    out = read(heif([PICTURE], Layout(after=make_box(b"uuid", XMP_UUID + XMP))))
    assert CITY not in out
    assert XMP_UUID in out
    assert b"dc:format" in out


def test_a_wide_mdat():
    out = read(heif([PICTURE, Thing(2, b"Exif", EXIF)], Layout(wide_mdat=True)))
    assert free_of_place(out)
    assert picture() in out


def test_names_are_free_texts():
    data = heif([replace(PICTURE, name=SECRET), Thing(2, b"mime", b"abc", b"text/" + SECRET, name=b"me")])
    out = read(data)
    assert SECRET not in out
    assert b"infe" in out
    assert b"\0\0me\0" in out or b"me\0" in out


def test_the_name_of_the_handler():
    named = heif([PICTURE]).replace(b"pict" + bytes(13), b"pict" + bytes(12) + b"x")
    assert read(named) == named
    assert told(named, Tells.DEVICE)[40:80].count(b"x") == 0


PROPERTY_FREE = [
    (b"udes", b"en\0Title\0" + SECRET + b"\0\0"),
    (b"altt", SECRET + b"\0en\0"),
    (b"unkn", SECRET),
    (b"uuid", b"0123456789abcdef" + SECRET),
    (b"free", SECRET),
    (b"colr", b"prof" + SECRET),
    (b"colr", b"text" + SECRET),
    (b"auxC", SECRET + b"\0"),
    (b"ispe", bytes(8) + SECRET),
    (b"irot", SECRET),
    (b"pixi", bytes(60) + SECRET),
    (b"auxC", b"Rosa in her garden\0"),
]


@pytest.mark.parametrize(("kind", "payload"), PROPERTY_FREE)
def test_properties_that_tell(kind, payload):
    body = make_box(kind, payload) if kind in (b"colr", b"uuid", b"free") else full(kind, payload)
    layout = Layout(properties=(*Layout().properties, body))
    out = read(heif([replace(PICTURE, properties=(1, 2, 0x83))], layout))
    assert SECRET not in out
    assert b"Rosa" not in out
    # The property after it keeps its number, and the item refers to it no more.
    assert b"\0\1\3\1\2\0" in out


@pytest.mark.parametrize(
    ("kind", "tells"),
    [
        (b"udes", Tells.PEOPLE),
        (b"altt", Tells.PEOPLE),
        (b"crtt", Tells.TIME),
        (b"mdft", Tells.TIME),
        (b"itai", Tells.TIME),
        (b"wbpr", Tells.OTHER),
    ],
)
def test_properties_by_word(kind, tells):
    body = full(kind, b"\x11\x22\x33\x44en\0a quince\0\0\0")
    data = heif([replace(PICTURE, properties=(1, 2, 3))], Layout(properties=(*Layout().properties, body)))
    for each in Tells:
        assert (body in told(data, each)) == (each != tells)


def test_a_subtype_of_bytes_stays_only_where_it_has_a_meaning():
    name = b"urn:com:apple:photo:2020:aux:hdrgainmap\0"
    data = heif([PICTURE], Layout(properties=(*Layout().properties, full(b"auxC", name + SECRET))))
    out = read(data)
    assert name in out
    assert SECRET not in out


def test_sei_in_a_picture_and_in_its_configuration():
    body = b"\x05" + bytes((16 + len(SECRET),)) + b"0123456789abcdef" + SECRET + b"\x80"
    configuration = hvcc((33, b"\1\2\3"), (39, body))
    item = Thing(1, b"hvc1", user_sei(SECRET) + picture(), properties=(1, 2))
    out = read(heif([item], Layout(properties=(configuration, Layout().properties[1]))))
    assert SECRET not in out
    assert picture() in out


@pytest.mark.parametrize("order", [(1, 3, 2), (3, 1, 2)])
def test_a_picture_goes_if_its_configurations_have_lengths_of_several_sizes(order):
    """Readers take the first one, or the last: by one of them, a message lies within a slice."""
    four, shape = Layout().properties
    two = four[:29] + bytes((four[29] & ~3 | 1,)) + four[30:]
    item = Thing(1, b"hvc1", two_chains(b"\x26\x01", user_sei(SECRET)), properties=order)
    out = read(heif([item, replace(PICTURE, number=2)], Layout(properties=(four, shape, two))))
    assert SECRET not in out
    assert picture() in out


def test_messages_within_a_message_of_a_picture_go():
    body = b"\x85" + bytes((len(SECRET),)) + SECRET + b"\x80"  # 133, scalable nesting
    out = read(heif([Thing(1, b"hvc1", nal(39, body) + picture(), properties=(1, 2))]))
    assert SECRET not in out
    assert picture() in out


def test_an_item_of_a_type_that_does_not_stay_goes_whole():
    """Its next reader finds blanks for a type."""
    broken = Thing(2, b"mime", b"<x:xmpmeta>" + SECRET * 20, content=b"application/rdf+xml ")
    out = read(heif([PICTURE, broken]))
    assert SECRET not in out
    assert b"xmpmeta" not in out


@pytest.mark.parametrize(
    ("kind", "bytes_of_its_header"),
    [(b"\0\0\0\x10abcd", 4), (b"\0\0\0\0\0\0\0\0", 8), (b"\xff" * 8, 8), (b"\xff" * 8, 4)],
)
def test_an_item_over_the_header_of_a_box_that_changes_is_refused(kind, bytes_of_its_header):
    """What the header becomes would change the item, and what the item becomes the header."""
    old = heif([PICTURE, Thing(2, b"Exif", EXIF)])
    behind = kind + bytes(8)
    start, size = len(old) + 8 - bytes_of_its_header, 4
    data = old.replace(u32(old.index(EXIF)) + u32(len(EXIF)), u32(start) + u32(size)) + behind
    assert data != old + behind
    assert "overlap its structure" in plan(data)[0].reason


def test_sei_that_shows_the_picture_stays():
    brightness = nal(39, b"\x90\x04\1\2\3\4\x80")
    data = heif([Thing(1, b"hvc1", brightness + picture(), properties=(1,))])
    assert plan(data)[0].outcome is Outcome.CLEAN


def test_a_picture_that_is_cut_off_by_the_end_of_the_file():
    data = heif([Thing(2, b"Exif", EXIF), PICTURE])
    out = read(data[:-10])
    assert free_of_place(out)
    assert picture()[:-10] in out


def test_avif_metadata_units():
    frame = obu(1, b"\1\2\3\4") + obu(6, bytes(range(1, 60)))
    item = Thing(1, b"av01", obu(5, b"\4\xb5" + SECRET) + frame)
    out = read(heif([item], Layout(brand=b"avif", properties=())), kind="image/avif")
    assert SECRET not in out
    assert frame in out


def test_thumbnails_are_pictures_of_their_own():
    thumb = jpegs.photo_with(jpegs.exif("II"))
    for thing in (Thing(2, b"jpeg", thumb, pieces=2), Thing(2, b"mime", thumb, b"image/jpeg")):
        out = read(heif([PICTURE, thing], Layout(references=((b"thmb", 2, (1,)),), gap=b"")))
        assert jpegs.pack("II", *jpegs.LATITUDE) not in out
        assert b"Testmaker" in out


def test_bytes_that_are_a_picture_to_one_reader_and_exif_to_another():
    data = heif([PICTURE, Thing(2, b"Exif", EXIF)])
    at = data.index(EXIF)
    plain = Layout(properties=(*Layout().properties, full(b"uncC", bytes(20))))
    both = [
        PICTURE,
        Thing(2, b"Exif", EXIF),
        Thing(3, b"unci", extents=((at, len(EXIF)),), properties=(3,)),
    ]
    longer = heif(both, plain)
    moved = longer.index(EXIF)
    both[2] = replace(both[2], extents=((moved, len(EXIF)),))
    assert "share bytes" in refused(heif(both, plain))


def test_bytes_that_are_exif_to_one_reader_and_xmp_to_another():
    things = [PICTURE, Thing(2, b"Exif", EXIF), Thing(3, b"mime", b"", XMP_TYPE, extents=((0, 8),))]
    at = heif(things).index(EXIF)
    things[2] = replace(things[2], extents=((at, len(EXIF)),))
    found, out = plan(heif(things))
    assert free_of_place(out)
    assert b"Testmaker" not in out
    assert any(finding.broken for finding in found.findings)


def test_bytes_that_are_one_picture_or_another():
    """What is taken out of the one would make something else of the other."""
    sei = user_sei(b"x" * 20) + picture()
    things = [Thing(1, b"hvc1", sei, properties=(1, 2)), Thing(2, b"av01", extents=((0, 8),))]
    at = heif(things).index(sei)
    for start in range(at, at + 40):
        things[1] = replace(things[1], extents=((start, at + len(sei) - start),))
        plan(heif(things))
    both = [things[0], Thing(2, b"hvc1", extents=((0, 8),), properties=(1,))]
    both[1] = replace(both[1], extents=((heif(both).index(sei), len(sei)),))
    assert picture() in read(heif(both))


def test_exif_that_is_said_to_lie_in_the_tables():
    assert "structure" in refused(heif([PICTURE, Thing(2, b"Exif", EXIF, extents=((30, 40),))]))


def test_extents_behind_the_end():
    things = [
        PICTURE,
        Thing(2, b"Exif", EXIF, extents=((1 << 20, 40),)),
        Thing(3, b"hvc1", extents=((1 << 21, 9),)),
    ]
    assert EXIF not in read(heif(things))


def test_two_types_for_one_number():
    plain = Layout(properties=(full(b"uncC", bytes(20)), Layout().properties[0]))
    one = Thing(1, b"unci", EXIF, properties=(1,))
    data = heif([one, replace(PICTURE, number=2), Thing(1, b"Exif", EXIF)], plain)
    assert "share bytes" in refused(data)


@pytest.mark.parametrize("broken", [b"iloc", b"iinf", b"ipma", b"iref"])
def test_tables_that_are_no_tables(broken):
    data = bytearray(heif([PICTURE], Layout(references=((b"cdsc", 1, (1,)),))))
    at = data.index(broken)
    data[at + 4 : at + 16] = b"\xff" * 12
    plan(bytes(data))
    if broken != b"iref":
        assert refused(bytes(data))


def test_no_picture_at_all():
    assert "no picture" in refused(make_box(b"ftyp", b"heic" + bytes(4)) + make_box(b"mdat", SECRET))
    assert refused(b"nothing of that kind, at all")


def test_a_film_behind_a_picture_is_found_by_its_brands_once_more():
    """Also if they are of an odd size."""
    film = movies.movie(head=make_box(b"ftyp", b"isom" + bytes(4) + b"isomx"))
    out = read(heif([PICTURE], Layout(after=film)))
    assert movies.SAMPLE in out


def test_encrypted_pictures_are_refused_and_what_describes_them_goes():
    scheme = make_box(b"sinf", make_box(b"frma", b"hvc1" + SECRET))
    data = heif([PICTURE], Layout(in_meta=full(b"ipro", (1).to_bytes(2) + scheme)))
    assert SECRET not in read(data)
    at = data.index(b"infe") + 10
    assert "encrypted" in refused(data[:at] + (1).to_bytes(2) + data[at + 2 :])


def test_an_item_without_a_length_holds_nothing():
    """exiftool leaves such ones where it deleted metadata."""
    data = heif([PICTURE, Thing(2, b"Exif", extents=((100, 0),)), Thing(3, b"mime", b"", XMP_TYPE)])
    assert plan(data)[0].outcome is Outcome.CLEAN


def test_two_items_that_share_their_metadata():
    """Writers keep equal metadata of two pictures once."""
    things = [PICTURE, Thing(2, b"Exif", EXIF), Thing(3, b"Exif", extents=((0, len(EXIF)),))]
    at = heif(things).index(EXIF)
    things[2] = replace(things[2], extents=((at, len(EXIF)),))
    out = read(heif(things))
    assert free_of_place(out)
    assert b"Testmaker" in out


# --- videos and sequences ---


def with_movie(*tracks: movies.Track, base: bytes | None = None) -> bytes:
    """A HEIC with tracks beside its items: moov behind it, then the samples."""
    base = heif([PICTURE, Thing(2, b"Exif", EXIF)]) if base is None else base
    samples = [sample for track in tracks for sample in track.samples]
    at, whole = 0, b""
    for _ in range(2):
        offsets, traks = at, b""
        for track in tracks:
            places = []
            for sample in track.samples:
                places.append(offsets)
                offsets += len(sample)
            traks += track.trak(places)
        whole = base + movies.box(b"moov", movies.mvhd(), traks)
        at = len(whole) + 8
    return whole + make_box(b"mdat", b"".join(samples) + b"between")


def test_a_sequence_of_pictures():
    frames = (picture(seed=5), picture(seed=6))
    shots = movies.Track(kind=b"pict", format=b"hvc1", samples=frames)
    gps = movies.Track(kind=b"meta", format=b"camm", samples=(SECRET,), number=2)
    out = read(with_movie(shots, gps))
    assert free_of_place(out)
    assert all(frame in out for frame in frames)
    assert b"between" not in out
    assert picture() in out


@pytest.mark.parametrize("at", [0, 333, 499])
def test_a_message_in_any_one_frame_of_a_sequence_goes(at):
    frames = [user_sei(SECRET) + picture() if number == at else picture() for number in range(500)]
    whole = with_movie(movies.Track(kind=b"pict", format=b"hvc1", samples=frames))
    assert not free_of_place(whole)
    assert free_of_place(read(whole))


def test_a_sequence_whose_frames_overlap_is_refused_if_one_changes():
    """A change within one frame could be a length or a start code of the other."""
    frame = user_sei(SECRET) + picture()
    whole = with_movie(movies.Track(kind=b"pict", format=b"hvc1", samples=(frame, picture(seed=5))))
    first = whole.rindex(frame)
    overlapping = whole.replace(u32(first, first + len(frame)), u32(first, first + len(frame) - 8))
    assert overlapping != whole
    assert free_of_place(read(whole))
    assert "overlap other frames" in refused(overlapping)


def test_a_sequence_without_items():
    shots = movies.Track(kind=b"pict", format=b"hvc1", samples=(picture(),))
    out = read(with_movie(shots, base=make_box(b"ftyp", b"hevc" + bytes(4) + b"msf1")))
    assert picture() in out


@pytest.mark.parametrize("wrap", [lambda video: make_box(b"mpvd", video), lambda video: video])
def test_a_motion_photo(wrap):
    video = movies.movie(movies.Track(), moov=movies.box(b"udta", movies.text_atom(b"\xa9xyz", movies.PLACE)))
    assert movies.PLACE in video
    out = read(heif([PICTURE], Layout(after=wrap(video))))
    assert movies.PLACE not in out
    assert movies.SAMPLE in out
    assert picture() in out


def test_a_motion_photo_whose_video_is_none():
    found, out = plan(heif([PICTURE], Layout(after=make_box(b"mpvd", SECRET) + make_box(b"sefd", SECRET))))
    assert SECRET not in out
    assert any(finding.broken for finding in found.findings)
    assert SECRET not in read(heif([PICTURE], Layout(after=make_box(b"ftyp", b"isom" + bytes(4)) + SECRET)))


# --- what says nothing ---


@pytest.mark.parametrize("junk", [b"\xff" * 30, b" " * 30, b"\0\0\7", b"\0\0\0\x08wide"])
def test_filler_that_no_item_claims_stays(junk):
    data = heif([PICTURE], Layout(junk=junk))
    assert read(data) == data


def test_filler_beside_an_item_that_goes_is_its_end():
    """The text of the item is three bytes longer than its table says."""
    things = [PICTURE, Thing(2, b"mime", b"Salzburg", b"text/plain")]
    assert b"erg" not in read(heif(things, Layout(junk=b"erg")))
    assert b"erg" in read(heif([PICTURE], Layout(junk=b"erg")))


@pytest.mark.parametrize("kind", [b"prof", b"rICC"])
def test_an_empty_profile_stays(kind):
    layout = Layout(properties=(*Layout().properties, make_box(b"colr", kind)))
    data = heif([replace(PICTURE, properties=(1, 2, 3))], layout)
    assert read(data) == data


X265 = bytes.fromhex("2ca2de09b51747dbbb55a4fe7fc2fc4e")


def test_an_encoders_settings_tell_a_device():
    def file(payload: bytes, kind: int = 5) -> bytes:
        unit = nal(39, bytes((kind, len(payload))) + payload + b"\x80")
        return heif([Thing(1, b"hvc1", unit + picture(), properties=(1, 2))])

    for payload, kind in ((X265 + b"x265 (build 79)", 5), (b"\xb5\0\x3c\0\1\4", 4)):
        assert read(file(payload, kind)) == file(payload, kind)
    assert b"x265" not in read(file(X265 + b"x265 (build 79)"), "device")
    assert SECRET not in read(file(X265 + SECRET))
    assert SECRET not in read(file(X265[::-1] + SECRET))


def test_xmp_behind_the_mark_of_a_jpeg_segment_is_looked_into():
    mark = b"http://ns.adobe.com/xap/1.0/\0"
    plain = jpegs.xmp_packet("<dc:title>a quince</dc:title>")
    clean = heif([PICTURE, Thing(2, b"mime", mark + plain, XMP_TYPE)])
    assert read(clean) == clean
    out = read(heif([PICTURE, Thing(2, b"mime", mark + XMP, XMP_TYPE)]))
    assert CITY not in out
    assert b"<dc:format>image/jpeg" in out


def test_samsungs_blocks_in_a_box_are_cleaned_one_by_one():
    def file(*named: tuple[bytes, bytes], lead: bytes = b"") -> bytes:
        return heif(
            [PICTURE], Layout(after=make_box(b"sefd", lead, motion.blocks([(7, *pair) for pair in named])))
        )

    kept = ((b"Image_UTC_Data", b"1627032154000"), (b"Color_Display_P3", b"1"))
    data = file(*kept)
    assert read(data) == data
    assert b"1627032154000" not in read(data, "time")
    told = read(file(*kept, (b"MCC_Data", b"232"), (b"Whatever", SECRET), lead=SECRET))
    assert SECRET not in told
    assert b"MCC_Data" not in told
    assert b"1627032154000" in told
    assert SECRET not in read(heif([PICTURE], Layout(after=make_box(b"sefd", SECRET))))


def test_filler_beside_metadata_that_changes_is_its_end():
    """The item's length is three bytes less than what it holds."""
    told = jpegs.xmp_packet(f"<photoshop:City>{HOME.city}</photoshop:City>")
    assert b"erg" not in read(heif([PICTURE, Thing(2, b"mime", told, XMP_TYPE)], Layout(junk=b"erg")))
    plain = jpegs.xmp_packet("<dc:title>a quince</dc:title>")
    data = heif([PICTURE, Thing(2, b"mime", plain, XMP_TYPE)], Layout(junk=b"erg"))
    assert read(data) == data
