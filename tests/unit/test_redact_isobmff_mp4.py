"""Movies: what is hidden, byte by byte, and what is not harmed."""

from __future__ import annotations

from contextlib import suppress
from time import thread_time

import pytest

from policyfs.redact.core.categories import hidden_by
from policyfs.redact.core.cleaners import NotThisKindError, TooMuchError
from policyfs.redact.core.patches import MemorySource, apply, in_order
from policyfs.redact.isobmff.box_edits import Block
from policyfs.redact.isobmff.box_rules import clean_children
from policyfs.redact.isobmff.mp4 import INDEX_RULES
from policyfs.redact.registry import locate_in
from tests.support.machine.counts import PATIENCE
from tests.support.samples import movies
from tests.support.samples.inners import PLACES
from tests.support.samples.jpegs import exif as make_exif
from tests.support.samples.jpegs import exif_segment, plain, with_segments, xmp_packet
from tests.support.samples.movies import (
    AVCC,
    CITY,
    PLACE,
    SAMPLE,
    SLICE,
    Track,
    box,
    data,
    fragmented,
    free_form,
    ftyp,
    full,
    handler,
    itunes,
    keyed,
    kinds,
    large,
    loci,
    movie,
    sei,
    text_atom,
    u16,
    u32,
    uuid,
)

SECRETS = (
    PLACE,
    CITY,
    b"47.80453",
    int(47.80453 * 65536).to_bytes(4),
    b"Q\0u\0i\0n\0c\0e",
    b"\x51\x75\x69\x6e\x63",
)
TELEMETRY = b"\x51\x75\x69\x6e\x63ebury" * 3


def read(file: bytes, *words: str, kind: str = "video/mp4") -> bytes:
    """What a reader gets; and what holds for every file: same size, sound boxes, nothing found again."""
    hide = hidden_by(words or ("location",))
    found = locate_in(kind, MemorySource(file), hide)
    out = apply(file, in_order(found.patches, len(file)))
    assert len(out) == len(file)
    again = locate_in(kind, MemorySource(out), hide)
    assert not again.patches
    assert not again.notes
    assert bool(found.patches) == bool(found.notes)
    kinds(out)
    return out


def secret(file: bytes) -> list[bytes]:
    return [word for word in SECRETS if word in file]


META_TRACK = Track(b"meta", b"what", (TELEMETRY, TELEMETRY))

PLACED = {
    "3GPP": box(b"udta", loci()),
    "QuickTime": box(b"udta", text_atom(b"\xa9xyz", PLACE)),
    "list ended": box(b"udta", text_atom(b"\xa9xyz", PLACE), bytes(4)),
    "behind the list's end": box(b"udta", text_atom(b"\xa9nam", b"a"), bytes(4), PLACE),
    "in a title": box(b"udta", text_atom(b"\xa9nam", b"at " + PLACE)),
    "unknown user data": box(b"udta", box(b"Pxyz", CITY)),
    "GoPro": box(b"udta", box(b"GPMF", TELEMETRY)),
    "maker's tags": box(b"udta", box(b"TAGS", CITY)),
    "XMP in udta": box(
        b"udta", box(b"XMP_", xmp_packet(f"<photoshop:City>{CITY.decode()}</photoshop:City>"))
    ),
    "XMP in uuid": uuid(movies.XMP_UUID, xmp_packet(f"<photoshop:City>{CITY.decode()}</photoshop:City>")),
    "unknown uuid": uuid(b"PANA" + bytes(12), CITY),
    "EXIF in uuid": uuid(b"JpgTiffExif->JP2", make_exif("MM")),
    "keys": keyed({b"com.apple.quicktime.location.ISO6709": PLACE}),
    "keys in QuickTime's form": keyed({b"com.apple.quicktime.location.name": CITY}, quicktime=True),
    "unknown key": keyed({b"com.acme." + CITY: CITY}),
    "iTunes": box(b"udta", itunes(box(b"\xa9xyz", data(PLACE)))),
    "free form": box(b"udta", itunes(free_form(b"where", CITY))),
    "in a comment": box(b"udta", itunes(box(b"\xa9cmt", data(b"at " + PLACE)))),
    "cover": box(
        b"udta", itunes(box(b"covr", data(with_segments(plain(), exif_segment(make_exif("MM"))), 13)))
    ),
    "Canon's thumbnail": box(
        b"udta", box(b"CNTH", box(b"CNDA", with_segments(plain(), exif_segment(make_exif("MM")))))
    ),
    "no thumbnail": box(b"udta", box(b"CNTH", box(b"CNDA", CITY))),
    "XML": full(b"meta", handler(b"nrtm"), full(b"xml ", b"<a>" + CITY + b"</a>")),
    "unknown box": box(b"gps ", u32(1, 2), PLACE),
    "padding": box(b"free", PLACE),
    "odd end": box(b"udta", loci(), CITY[:3] + b"47.80453"),
    "a size that lies": box(b"udta", b"\0\1\0\0name" + PLACE),
}


@pytest.mark.parametrize("where", ["moov", "trak", "mdia", "file", "front"])
@pytest.mark.parametrize("case", PLACED)
def test_places_go_wherever_they_are(case, where):
    place = PLACED[case]
    tracks = [Track(extra=place if where == "trak" else b"", media=place if where == "mdia" else b"")]
    file = movie(
        *tracks,
        moov=place if where == "moov" else b"",
        before=place if where == "front" else b"",
        after=place if where == "file" else b"",
    )
    assert (
        secret(file)
        or b"\x00\x00\x00\x2f\x00\x00\x00\x01\x00\x00\x00\x30" in file
        or "EXIF" in case
        or "thumb" in case
    )
    out = read(file)
    assert not secret(out)
    assert b"Zirbelstadt" not in out
    assert SAMPLE in out
    assert [k for k in kinds(out) if k not in (b"free", b"udta", b"meta", b"uuid")] == [
        k for k in kinds(movie()) if k not in (b"free", b"udta", b"meta", b"uuid")
    ]


def test_what_tells_nothing_of_what_is_asked_for_stays_as_it_is():
    udta = box(b"udta", text_atom(b"\xa9mak", b"Testmaker"), text_atom(b"\xa9nam", b"a title"))
    file = movie(moov=udta + keyed({b"com.apple.quicktime.creationdate": b"2024-05-17T11:22:33+0200"}))
    assert read(file) == file
    assert b"Testmaker" not in read(file, "device")
    assert b"a title" in read(file, "device")
    assert b"2024-05-17" in read(file, "device")
    assert b"2024-05-17" not in read(file, "time")
    assert b"Testmaker" in read(file, "time")
    assert b"a title" not in read(file, "people")
    gone = read(file, "all-metadata")
    assert not any(word in gone for word in (b"Testmaker", b"a title", b"2024-05-17", b"Lavc", b"VNDR"))


def test_times_of_creation_and_change():
    out = read(movie(), "time")
    assert not any(n.to_bytes(4) in out for n in range(3700000000, 3700000006))
    assert b"VNDR" in out


def test_handlers_and_compressors_are_the_device():
    out = read(movie(Track(name=b"GoPro AVC\0")), "device")
    assert not any(word in out for word in (b"GoPro", b"Lavc", b"VNDR"))
    assert (3700000000).to_bytes(4) in out


@pytest.mark.parametrize(
    ("name", "usual"),
    [
        (b"VideoHandler\0", True),
        (b"\x0cVideoHandler", True),
        (b"Core Media Video\0", True),
        (b"\x0fTimeCodeHandler", True),
        (b"\0", True),
        (b"", True),
        (b"VideoHandler\0by us\0", False),
        (b"\x05VideoHandler", False),
        (b"The quinces\0", False),
    ],
)
def test_only_unusual_names_of_handlers_tell_of_people(name, usual):
    file = movie(Track(name=name))
    assert (read(file, "people") == file) is usual
    assert (read(file, "device")) != file


def test_the_maker_of_a_usual_handler_may_tell_of_people():
    name = b"VideoHandler\0"
    at = (file := movie(Track(name=name))).index(name) - 12
    assert file[at : at + 12] == bytes(12)
    assert read(file[:at] + b"appl" + file[at + 4 :], "people").count(b"appl") == 1
    assert b"Us" not in read(file[:at] + b"Us" + file[at + 2 :], "people")


@pytest.mark.parametrize("make", [box, large])
def test_media_data_of_no_sample(make):
    file = movie(between=TELEMETRY, make=make)
    out = read(file)
    assert not secret(out)
    assert out.count(SAMPLE) == 1
    assert out.count(SAMPLE[::-1]) == 1


@pytest.mark.parametrize("handler_kind", [b"meta", b"data", b"camm", b"nmea", b"gps ", b"????", b""])
def test_samples_of_metadata_tracks(handler_kind):
    file = movie(Track(), Track(handler_kind.ljust(4), b"what", (TELEMETRY, TELEMETRY), number=2))
    out = read(file)
    assert not secret(out)
    assert SAMPLE in out
    assert kinds(out) == kinds(file)


def test_positions_that_call_themselves_a_picture():
    """The name of their format ends in a space."""
    track = Track(b"vide", b"gps ", (CITY, CITY))
    assert CITY not in read(movie(track))


def test_metadata_that_calls_itself_a_picture():
    file = movie(Track(), Track(b"vide", b"gpmd", (TELEMETRY,), number=2))
    assert not secret(read(file))


def test_positions_are_no_device():
    file = movie(Track(), Track(b"camm", b"camm", (TELEMETRY,), number=2))
    assert TELEMETRY in read(file, "device")
    assert TELEMETRY not in read(file, "time")


def test_time_codes():
    file = movie(Track(), Track(b"tmcd", b"tmcd", (TELEMETRY,), entry=bytes(18), number=2))
    assert TELEMETRY in read(file)
    assert TELEMETRY not in read(file, "time")


def keys_of(name: bytes) -> bytes:
    declared = box(b"keyd", b"mdta", name) + box(b"dtyp", u32(0, 1))
    return box(b"keys", box(u32(1), declared))


def test_apples_timed_metadata_goes_by_its_keys():
    def track(name: bytes) -> Track:
        return Track(b"meta", b"mebx", (TELEMETRY,), entry=keys_of(name), number=2)

    place = movie(Track(), track(b"com.apple.quicktime.location.ISO6709"))
    assert TELEMETRY not in read(place)
    assert TELEMETRY in read(place, "people")
    still = movie(Track(), track(b"com.apple.quicktime.still-image-time"))
    assert read(still) == still
    unknown = movie(Track(), track(b"com.acme.thing"))
    assert TELEMETRY not in read(unknown)
    assert b"com.acme" not in read(unknown)


def subtitle(text: bytes) -> bytes:
    return u16(len(text)) + text


TX3G = bytes(30)


@pytest.mark.parametrize(
    ("text", "stays"),
    [
        (b"I never saw such a quince.", True),
        ("Où est la forêt ?".encode(), True),
        (b"", True),
        (b"GPS (13.0423, 47.8045, 19) D 2.1m", False),
        (b"$GPRMC,092751.000,A,4748.2718,N,01302.5374,E", False),
        (b"4780453 1304229 4780454 1304230", False),
        (b"\0\1\2\3binary", False),
        (b"[Camera] 17/05/2024 11:22:33", True),
    ],
)
@pytest.mark.parametrize("kind", [b"text", b"sbtl"])
def test_subtitles(text, stays, kind):
    file = movie(Track(), Track(kind, b"tx3g", (subtitle(b"first"), subtitle(text)), entry=TX3G, number=2))
    assert (read(file) == file) is stays
    if b"2024" in text:
        assert text not in read(file, "time")


def test_text_behind_a_subtitle():
    sample = subtitle(b"words") + box(b"styl", u16(0))
    good = movie(Track(), Track(b"text", b"tx3g", (sample,), entry=TX3G, number=2))
    assert read(good) == good
    bad = movie(Track(), Track(b"text", b"tx3g", (sample + TELEMETRY,), entry=TX3G, number=2))
    assert not secret(read(bad))


def test_two_tracks_that_go_may_share_their_bytes():
    """And still do once they are zeros, which as a subtitle would tell nothing."""
    text = Track(b"text", b"tx3g", (b"\x7f" + TELEMETRY,), entry=TX3G, number=2)
    file = bytearray(movie(Track(), text, Track(b"meta", b"what", (TELEMETRY,), number=3)))
    first, second = (file.rindex(b"stco", 0, end) + 12 for end in (file.rindex(b"stco"), len(file)))
    file[second : second + 4] = file[first : first + 4]
    assert not secret(read(bytes(file)))


def test_names_of_chapters_are_peoples_words():
    chapters = Track(b"text", b"text", (subtitle(b"The Wedding"),), entry=TX3G, number=2)
    file = movie(Track(extra=box(b"tref", box(b"chap", u32(2)))), chapters)
    assert read(file) == file
    assert b"The Wedding" not in read(file, "people")


def test_metadata_in_the_bytes_of_a_picture_is_refused():
    file = bytearray(movie(Track(), META_TRACK))
    offset = file.index(SAMPLE).to_bytes(4)
    at = file.rindex(b"stco") + 12
    file[at : at + 4] = offset
    with pytest.raises(NotThisKindError, match="same bytes"):
        read(bytes(file))


@pytest.mark.parametrize(
    "trailer",
    [b"SEFT" + CITY * 9, CITY, b"\0\0\0\0" + CITY, b"\xff" * 40 + PLACE, b"\0\0\0\x09mdat\0" + CITY * 4],
)
def test_what_is_behind_the_last_box(trailer):
    out = read(movie() + trailer)
    assert not secret(out)
    assert out.startswith(movie())


def test_trailer_in_media_data():
    assert not secret(read(movie(after=box(b"mdat", TELEMETRY) + box(b"skip", PLACE) + box(b"free", CITY))))
    assert not secret(read(movie() + b"\0\0\0\0mdat" + TELEMETRY))


@pytest.mark.parametrize(
    ("file", "why"),
    [
        (ftyp() + box(b"mdat", SAMPLE), "missing"),
        (movie()[:-40], "cut off"),
        (b"GIF89a" + movie(), "does not start"),
        (b"", "does not start"),
        (ftyp() + box(b"moov", box(b"cmov", bytes(20))), "is compressed, and policyfs does not read that"),
    ],
)
def test_what_is_no_whole_movie_is_refused(file, why):
    with pytest.raises(NotThisKindError, match=why):
        read(file)


def test_a_gigantic_index_is_refused():
    class Huge:
        size = 1 << 40

        def read(self, offset: int, size: int) -> bytes:
            start = ftyp() + b"\x40\0\0\0moov"
            return start[offset : offset + size].ljust(size, b"\0")

    with pytest.raises(TooMuchError):
        locate_in("video/mp4", Huge(), hidden_by(["location"]))


def test_sizes_of_plain_sound_that_say_one_byte():
    """QuickTime counts samples of 16 bits as 1 byte each; players read two."""
    sound = Track(b"soun", b"sowt", (SAMPLE,))
    file = bytearray(movie(sound))
    at = file.index(b"stsz") + 8
    file[at : at + 4], file[at + 4 : at + 8] = u32(1), u32(32)
    at = file.index(b"stsc") + 16
    file[at : at + 4] = u32(32)
    assert SAMPLE in read(bytes(file))


def test_paths_of_other_files():
    file = movie(Track(dref=full(b"alis", CITY)))
    assert not secret(read(file))


@pytest.mark.parametrize("base", [0x20000, 1])
def test_fragments(base):
    file = fragmented(base, more=box(b"udta", loci()))
    out = read(file)
    assert not secret(out)
    assert SAMPLE + SAMPLE[::-1] in out


@pytest.mark.parametrize("words", ["location", "time", "device", "people"])
@pytest.mark.parametrize("place", [0, 1, 2])
def test_subtitles_in_fragments_are_read_like_others(words, place):
    """The first subtitle is in the index, the others in a run. Each is read alone."""
    texts = [subtitle(b"first"), subtitle(b"47.80453 of it"), subtitle(b"13.04229 of it")]
    told = [*texts[:place], subtitle(b"47.80453, 13.04229 on 2024-05-17"), *texts[place + 1 :]]
    for lines, harmless in ((texts, True), (told, False)):
        first = Track(b"text", b"tx3g", (lines[0],), entry=TX3G, number=2)
        start = movie(Track(), first, moov=box(b"mvex", full(b"trex", u32(2, 1, 0, 0, 0))))
        run = full(b"trun", u32(2, 84, *map(len, lines[1:])), flags=0x201)
        traf = box(b"traf", full(b"tfhd", u32(2), flags=0x20000), run)
        file = start + box(b"moof", full(b"mfhd", u32(1)), traf) + box(b"mdat", *lines[1:])
        out = read(file, words)
        stay = words == "device" or (harmless and words != "people")
        assert SAMPLE in out
        assert all((line in out) is stay for line in lines)


def test_captions_in_fragments_stay():
    """Captions of CEA-608 (``cdat``) are read, too, and tell no place."""
    captions = box(b"cdat", bytes.fromhex("942094ae9452"))
    start = movie(Track(), Track(b"clcp", b"c608", (), entry=bytes(8), number=2),
                  moov=box(b"mvex", full(b"trex", u32(2, 1, 0, 0, 0))))  # fmt: skip
    run = full(b"trun", u32(1, 80, len(captions)), flags=0x201)
    traf = box(b"traf", full(b"tfhd", u32(2), flags=0x20000), run)
    file = start + box(b"moof", full(b"mfhd", u32(1)), traf) + box(b"mdat", captions)
    assert read(file) == file


def test_a_million_samples_take_no_second():
    count, size = 1_000_000, 3
    start = ftyp()
    table = [full(b"stsz", u32(0, count), u32(size) * count), full(b"stsc", u32(1, 1, 10, 1))]
    offsets = u32(*range(len(start) + 8, len(start) + 8 + count * size, 10 * size))
    table.append(full(b"stco", u32(count // 10), offsets))
    track = Track(samples=()).trak([])
    empty = [full(b"stsc", u32(1, 1, 1, 1)), full(b"stsz", u32(0, 0)), full(b"stco", u32(0))]
    for old, new in zip(empty, [table[1], table[0], table[2]], strict=True):
        track = replaced(track, old, new)
    file = (
        start
        + box(b"mdat", b"\x5a" * count * size)
        + box(b"moov", movies.mvhd(), track, box(b"udta", loci()))
    )
    begin = thread_time()
    out = read(file)
    assert thread_time() - begin < 3 * PATIENCE
    assert out.count(0x5A) >= count * size
    assert not secret(out)


def replaced(track: bytes, old: bytes, new: bytes) -> bytes:
    """A box of a track's sample table replaced, and the sizes of the boxes around it."""
    at = track.index(old)
    grown = bytearray(track[:at] + new + track[at + len(old) :])
    for kind in (b"trak", b"mdia", b"minf", b"stbl"):
        place = grown.index(kind) - 4
        size = int.from_bytes(grown[place : place + 4]) + len(new) - len(old)
        grown[place : place + 4] = u32(size)
    return bytes(grown)


def test_picture_frames_with_exif():
    photo = with_segments(plain(), exif_segment(make_exif("MM")))
    file = movie(Track(format=b"jpeg", samples=[photo, photo]))
    out = read(file)
    assert b"Zirbelstadt" not in out


@pytest.mark.parametrize("kind", [b"sgpd", b"subs", b"xxxx"])
def test_unknown_boxes_of_sample_tables(kind):
    assert not secret(read(movie(Track(table=full(kind, CITY * 3)))))


def test_behind_the_entries_of_a_table():
    table = full(b"stss", u32(1, 1), PLACE)
    out = read(movie(Track(table=table)))
    assert not secret(out)
    assert b"stss" in out


def test_spherical_video_keeps_its_projection():
    xml = (
        b'<?xml version="1.0"?><rdf:SphericalVideo\nxmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#"\n'
        b'xmlns:GSpherical="http://ns.google.com/videos/1.0/spherical/">'
        b"<GSpherical:Spherical>true</GSpherical:Spherical>"
        b"<GSpherical:StitchingSoftware>" + CITY + b"</GSpherical:StitchingSoftware>"
        b"</rdf:SphericalVideo>"
    )
    extended = bytes.fromhex("ffcc8263f8554a938814587a02521fdd")
    out = read(movie(Track(extra=uuid(extended, xml))))
    assert not secret(out)
    assert b"<GSpherical:Spherical>true</GSpherical:Spherical>" in out
    assert b"</rdf:SphericalVideo>" in out


def test_codecs_of_microsoft():
    entry = box(b"wave", box(b"frma", b"ms\0\2"), box(b"ms\0\2", b"format"), u32(8, 0))
    sound = Track(b"soun", b"ms\0\2", (SAMPLE,), entry=entry)
    file = movie(sound)
    assert read(file) == file


def test_codec_parameters_stay_and_others_go():
    entry = box(b"esds", b"parameters") + box(b"colr", b"nclx") + box(b"pos ", CITY)
    out = read(movie(Track(entry=entry)))
    assert b"parameters" in out
    assert b"nclx" in out
    assert not secret(out)


@pytest.mark.parametrize("offsets", ["stco", "co64"])
@pytest.mark.parametrize("sizes", ["stsz", "stz2"])
def test_every_form_of_the_tables(offsets, sizes):
    file = movie(Track(samples=(SAMPLE, SAMPLE[::-1], b"third"), per_chunk=2), between=b"")
    trak_at = file.index(b"trak") - 4
    track = file[trak_at : trak_at + int.from_bytes(file[trak_at : trak_at + 4])]
    at = track.index(b"stco")
    old = track[at - 4 : at - 4 + int.from_bytes(track[at - 4 : at])]
    first = file.index(SAMPLE)
    if offsets == "co64":
        track = replaced(track, old, full(b"co64", u32(2), first.to_bytes(8), (first + 128).to_bytes(8)))
    else:
        track = replaced(track, old, full(b"stco", u32(2, first, first + 128)))
    if sizes == "stz2":
        plain_sizes = full(b"stsz", u32(0, 3, 64, 64, 5))
        track = replaced(track, plain_sizes, full(b"stz2", u32(8, 3), bytes([64, 64, 5])))
    start = file[: file.index(b"moov") - 4]
    out = read(start + box(b"mdat", CITY) + box(b"moov", movies.mvhd(), track))
    assert not secret(out)
    assert SAMPLE + SAMPLE[::-1] + b"third" in out


def test_four_bits_a_size():
    track = Track(samples=(b"abc", b"defgh", b"i"))
    plain_sizes, offset = full(b"stsz", u32(0, 3, 3, 5, 1)), len(ftyp()) + 8
    trak = replaced(track.trak([offset]), plain_sizes, full(b"stz2", u32(4, 3), b"\x35\x10"))
    trak = replaced(trak, full(b"stsc", u32(1, 1, 1, 1)), full(b"stsc", u32(1, 1, 3, 1)))
    file = ftyp() + box(b"mdat", b"abcdefghi", CITY) + box(b"moov", movies.mvhd(), trak)
    out = read(file)
    assert b"abcdefghi" in out
    assert not secret(out)


def test_index_of_fragments_and_live_boxes():
    tfra = full(b"tfra", u32(1, 0, 1, 5, 100), b"\1\1\1", CITY)
    index = box(b"mfra", tfra, full(b"mfro", u32(77)))
    sidx = full(b"sidx", u32(1, 1000, 0, 0), u16(0, 1), u32(5, 6, 7), CITY)
    out = read(movie(after=sidx + full(b"emsg", CITY) + full(b"prft", CITY) + index))
    assert not secret(out)
    assert u32(5, 6, 7) in out
    assert u32(1, 5, 100) in out
    assert u32(77) in out


def hostile() -> dict[str, bytes]:
    """Movies that ask for much work: what each is about -> its bytes."""
    udta = box(b"udta", *(box(b"\xa9cmt", b"12.34 " * 1000) for _ in range(300)))
    messages = sei(5, bytes(range(16, 32)) + b"\0\0\3a" * 50) + SLICE
    moof = box(b"moof", full(b"mfhd", u32(1)), box(b"traf", full(b"tfhd", u32(1)), full(b"trun", u32(7))))
    pairs = full(b"stz2", u32(4, 4_000_000), b"\x11" * 2_000_000)
    track = replaced(Track(samples=()).trak([32]), full(b"stsz", u32(0, 0)), pairs)
    return {
        "small boxes": ftyp() + box(b"moov", b"\0\0\0\x08free" * 100_000),
        "long texts": movie(moov=udta),
        "messages in frames": movie(Track(format=b"avc1", entry=AVCC, samples=[messages] * 1500)),
        "fragments": movie() + moof * 8_000,
        "samples of four bits": ftyp() + box(b"moov", movies.mvhd(), track),
        "boxes at the top": movie() + b"\0\0\0\x08free" * 200_000,
    }


HOSTILE = hostile()


@pytest.mark.parametrize("case", HOSTILE)
def test_no_movie_asks_for_much(case):
    begin = thread_time()
    with suppress(TooMuchError):
        locate_in("video/mp4", MemorySource(HOSTILE[case]), hidden_by(["location"]))
    assert thread_time() - begin < 1.5 * PATIENCE


def test_a_thumbnail_stays_without_its_place():
    photo = with_segments(plain(), exif_segment(make_exif("MM")))
    out = read(movie(moov=box(b"udta", box(b"CNTH", box(b"CNDA", photo)))))
    assert b"Zirbelstadt" not in out
    assert b"Testmaker" in out
    assert photo[-200:] in out


@pytest.mark.parametrize("kind", [b"vide", b"soun", b"hint", b"auxv", b"pict", b"MPEG"])
def test_media_of_every_handler_stays(kind):
    out = read(movie(Track(kind=kind)), "location")
    assert SAMPLE in out


def test_a_track_that_holds_metadata_is_found_by_its_number():
    file = movie(Track(), Track(b"meta", b"mett", (PLACE * 3, PLACE), number=2))
    notes = locate_in("video/mp4", MemorySource(file), hidden_by(("location",))).notes
    [note] = [note for note in notes if note.container == "track 2"]
    assert (note.offset, note.length) == (file.index(PLACE), 4 * len(PLACE))


# --- what says nothing ---


@pytest.mark.parametrize("between", [b"\0\0\0\x08wide", b"\xff" * 40, b"\0\0\7\0", b" " * 9])
def test_filler_between_frames_stays(between):
    file = movie(between=between)
    assert read(file) == file


@pytest.mark.parametrize("between", [b"wide", b"47.8", u32(47, 13), b"\xff" * 40 + CITY])
def test_other_bytes_between_frames_go(between):
    assert between not in read(movie(between=between))


def test_small_samples_of_a_track_that_goes_are_no_filler():
    """Each is three bytes, and lies between two frames."""
    frames = Track(samples=[SAMPLE] * 6)
    places = Track(b"meta", b"what", [b"47.", b"804", b"53 "], number=2)
    assert b"47." not in read(movie(frames, places))


LINE = b"IsoMedia File Produced with Google, 5-11-2011"


@pytest.mark.parametrize("place", ["top", "moov"])
def test_what_writers_leave_in_free_space(place):
    def file(line: bytes) -> bytes:
        free = box(b"free", line)
        return movie(after=free) if place == "top" else movie(moov=free)

    top = place == "top"
    assert (read(file(LINE)) == file(LINE)) is top
    assert LINE not in read(file(LINE), "device")
    assert b"47.80453" not in read(file(LINE[:28] + b"47.80453, 13.04229"))
    for filler in (bytes(40), b"\xff" * 40, b"ab"):
        assert read(file(filler)) == file(filler)
    assert CITY not in read(file(CITY))


@pytest.mark.parametrize(
    ("moov", "table"),
    [
        (box(b"mvex", full(b"trep", u32(1))), b""),
        (box(b"udta", box(b"hinf", box(b"trpy", bytes(8)))), b""),
        (box(b"udta", box(b"hnti", box(b"sdp ", b"m=video 0 RTP/AVP 96\r\n"))), b""),
    ],
)
def test_boxes_of_numbers_stay(moov, table):
    file = movie(Track(table=table), moov=moov)
    assert read(file) == file


@pytest.mark.parametrize(
    ("moov", "table"),
    [
        (box(b"mvex", full(b"trep", u32(1), box(b"what", PLACE))), b""),
        (box(b"udta", box(b"hinf", box(b"payt", PLACE))), b""),
        (box(b"udta", box(b"hnti", box(b"sdp ", b"i=47.80453, 13.04229\r\n"))), b""),
        (b"", full(b"padb", u32(2), b"\x11" + PLACE)),
    ],
)
def test_they_keep_no_place(moov, table):
    assert not secret(read(movie(Track(table=table), moov=moov)))


def test_what_is_told_of_a_face_is_told_of_people():
    def file(name: bytes) -> bytes:
        return movie(Track(), Track(b"meta", b"mebx", (TELEMETRY,), entry=keys_of(name), number=2))

    for part in (b"", b".bounds", b".face-id", b".roll-angle", b".confidence.value"):
        face = file(b"com.apple.quicktime.detected-face" + part)
        assert read(face) == face
        assert TELEMETRY not in read(face, "people")
    for name in (
        b"com.apple.quicktime.detected-face.gps",
        b"com.acme.detected.bounds",
        b"com.apple.make.bounds",
    ):
        assert TELEMETRY not in read(file(name))


SECRET = b"secret"
NONE = bytes(len(SECRET))


def cleaned(data: bytes) -> bytes:
    block = Block(data, 0, PLACES)
    clean_children(block, 0, len(data), INDEX_RULES, "file")
    return apply(data, block.found.patches)


def sidx(count: int, *entries: bytes, version: int = 0, behind: bytes = b"") -> bytes:
    head = u32(1, 1000) + (u32(5, 6) if version == 0 else u32(0, 5, 0, 6))
    return full(b"sidx", head, u16(0, count), *entries, behind, version=version)


def tfra(widths: int, count: int, *entries: bytes, version: int = 0, behind: bytes = b"") -> bytes:
    return box(b"mfra", full(b"tfra", u32(1, widths, count), *entries, behind, version=version))


@pytest.mark.parametrize("version", [0, 1])
def test_a_segment_index_ends_behind_its_last_reference(version: int) -> None:
    for entries in (b"", b"abcdefghijkl", b"abcdefghijkl" * 3):
        made = sidx(len(entries) // 12, entries, version=version, behind=SECRET)
        assert cleaned(made) == sidx(len(entries) // 12, entries, version=version, behind=NONE)
    assert cleaned(sidx(9, version=version)) == sidx(9, version=version)


@pytest.mark.parametrize("version", [0, 1])
def test_a_segment_index_that_is_too_short_goes(version: int) -> None:
    body = sidx(0, version=version)[8:-1]
    assert cleaned(box(b"sidx", body)) == box(b"free", bytes(len(body)))
    assert cleaned(box(b"sidx", body + b"\0")) == box(b"sidx", body + b"\0")


@pytest.mark.parametrize(
    ("version", "widths", "size"),
    [(0, 0, 11), (1, 0, 19), (0, 0b111111, 20), (1, 0b010010, 22), (0, 0b110000, 14), (0, 0xC0, 11)],
)
def test_an_index_of_key_frames_has_entries_of_stated_widths(version: int, widths: int, size: int) -> None:
    entries = b"e" * (2 * size)
    made = tfra(widths, 2, entries, version=version, behind=SECRET)
    assert cleaned(made) == tfra(widths, 2, entries, version=version, behind=NONE)


def test_an_index_of_key_frames_that_is_too_short_goes() -> None:
    assert cleaned(box(b"mfra", box(b"tfra", b"\0" * 14 + b"x"))) == box(b"mfra", box(b"free", bytes(15)))
    assert cleaned(tfra(0, 9, b"e" * 11)) == tfra(0, 9, b"e" * 11)


def test_its_length_at_the_end_stays_and_unknown_boxes_go() -> None:
    made = box(b"mfra", full(b"mfro", u32(24), SECRET), box(b"what", SECRET))
    assert cleaned(made) == box(b"mfra", full(b"mfro", u32(24), NONE), box(b"free", NONE))
