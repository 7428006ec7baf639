"""Ogg: what goes from which page, and what stays as it was."""

from __future__ import annotations

from time import thread_time

import pytest

from policyfs.redact.audio.ogg_pages import page_checksum
from policyfs.redact.core.patches import MemorySource, apply
from policyfs.redact.plan import Outcome, locate
from tests.support.machine.counts import PATIENCE
from tests.support.samples import sounds
from tests.support.samples.sound_checks import assert_refused, place_in, redact
from tests.support.samples.sounds import CASES, CITY, LOCATION, OGG, PLACE, PLAIN


@pytest.mark.parametrize(
    "data",
    [
        b"",
        PLAIN["Vorbis"][1][:14],
        sounds.pages(1, b"unknown stream", b"x"),
        sounds.pages(1, b"\x80kate\0\0\0"),
    ],
)
def test_what_is_no_such_file_is_refused(data):
    assert_refused(OGG, data)


@pytest.mark.parametrize("case", [case for case in CASES if CASES[case][0] == OGG])
def test_pages_have_their_checksums(case):
    out, at = redact(OGG, CASES[case][1]()), 0
    while out[at : at + 4] == b"OggS":
        size = 27 + out[at + 26] + sum(out[at + 27 : at + 27 + out[at + 26]])
        page = out[at : at + 22] + bytes(4) + out[at + 26 : at + size]
        expected = sounds.crc(page, 0x104C11DB7, 32)
        assert page_checksum(page) == expected
        assert int.from_bytes(out[at + 22 : at + 26], "little") == expected
        at += size


def test_a_first_header_that_is_not_ended_is_refused():
    cut = sounds.page(7, 0, 2, b"\xff", b"\x01vorbis".ljust(255, b"\1"))
    data = cut + sounds.vorbis(sounds.comments())[58:]
    plan = locate(OGG, frozenset({"location"}), MemorySource(data))
    assert plan.outcome is Outcome.REFUSE
    assert "has no end" in plan.reason


def test_pages_behind_the_last_one_of_a_stream_go() -> None:
    data = sounds.vorbis(sounds.comments())
    last = sounds.page(7, 9, 4, b"\5", b"\0last")
    more = sounds.page(7, 10, 0, bytes([len(CITY)]), CITY)
    assert redact(OGG, data + last) == data + last
    assert redact(OGG, data + more) == data + more, "the stream goes on"
    for behind in (more, more[:-2]):
        out = redact(OGG, data + last + behind)
        assert out.startswith(data + last)
        assert CITY[:-2] not in out
    chained = sounds.vorbis(sounds.comments())
    assert redact(OGG, data + last + chained) == data + last + chained


@pytest.mark.parametrize("behind", [b"", sounds.vorbis(sounds.comments()), sounds.opus(sounds.comments())])
def test_comments_that_are_not_ended_go(behind):
    """Where the file is cut off, or where another stream starts in their place."""
    first = sounds.page(7, 0, 2, b"\x1e", b"\x01vorbis" + bytes(22) + b"\1")
    listed = b"\x03vorbis" + sounds.comments(b"LOCATION=" + PLACE, b"TITLE=" + bytes(400))
    data = first + sounds.page(7, 1, 0, b"\xff", listed[:255]) + behind
    assert PLACE in data
    out = redact(OGG, data)
    assert PLACE not in out
    assert out.endswith(behind)


def test_comments_behind_something_else_go():
    listed = b"OpusTags" + sounds.comments(b"LOCATION=" + PLACE, b"TITLE=Quince")
    out = redact(OGG, sounds.pages(8, b"OpusHead\1\2" + bytes(9), b"what is this?", listed, b"\xfcsound"))
    assert PLACE not in out
    assert b"Quince" in out


@pytest.mark.parametrize("rest", [[0, 60], [1, 61], [60]])
def test_what_goes_on_where_a_packet_has_ended_is_no_sound(rest: list[int]):
    """A page's lacing ends the comments; those behind it go on with a packet that nobody began."""
    whole = sounds.vorbis(sounds.comments())
    text = b"LOCATION=" + CITY + b" " * (51 - len(CITY))
    data = whole[:58] + sounds.page(7, 1, 0, b"\x0b", b"\x03vorbis\4\0\0\0")
    for number, size in enumerate(rest):
        data += sounds.page(7, 2 + number, 1, bytes([size]), text[:size].ljust(size))
    data += sounds.page(7, 9, 0, b"\x0e\6", b"\5vorbis tables\0sound")
    out = redact("audio/ogg", data)
    assert CITY in data
    assert CITY not in out
    assert b"\5vorbis tables" in out
    assert b"\0sound" in out


def test_broken_comments_of_flac_in_ogg_become_padding():
    first = b"\x7fFLAC\1\0\0\1fLaC\0\0\0\x22" + bytes(34)
    out = redact(OGG, sounds.pages(7, first, b"\x84\0\0\7" + CITY[:7], b"\xff\xf8sound"))
    assert b"\x81\0\0\7" + bytes(7) in out


def test_a_stream_is_not_told_by_two_packets():
    page = sounds.page(8, 0, 2, b"\4\x0e", b"OpusHead\1\2" + bytes(8))
    plan = locate(OGG, frozenset({"location"}), MemorySource(page + sounds.opus(sounds.comments())))
    assert plan.outcome is Outcome.REFUSE


def test_a_last_page_that_the_files_end_cuts():
    data = sounds.vorbis(sounds.comments(b"TITLE=Quince"))
    more = sounds.page(7, 9, 0, b"\xff" * 4 + b"\x20", bytes(range(256)) * 4 + bytes(28))
    for whole in (data + more, data + more[:-1], data + more[:600], data + more[:40]):
        assert redact(OGG, whole) == whole
    for other in (
        sounds.page(8, 9, 0, b"\xff" * 4, CITY * 90)[:200],  # of no stream
        sounds.page(7, 9, 2, b"\xff" * 4, CITY * 90)[:200],  # where a stream begins
        b"OggX" + CITY,
    ):
        assert not place_in(redact(OGG, data + other))


def opus_of(first: bytes) -> bytes:
    return sounds.pages(8, first, b"OpusTags" + sounds.comments(b"TITLE=a"), b"\xfcsound")


@pytest.mark.parametrize(("channels", "family", "table"), [(2, 0, 0), (6, 1, 8), (1, 255, 3)])
def test_what_is_behind_the_numbers_of_opus_goes(channels, family, table):
    head = b"OpusHead\1" + bytes([channels]) + bytes(8) + bytes([family]) + bytes(range(table))
    assert redact(OGG, opus_of(head)) == opus_of(head)
    assert redact(OGG, opus_of(head + PLACE)) == opus_of(head + bytes(len(PLACE)))


@pytest.mark.parametrize(("version", "stays"), [(b"1.2rc1", True), (b"47.804,13.042", False), (b"", True)])
def test_the_version_of_speex_stays_if_it_is_one(version, stays):
    first = b"Speex   " + version.ljust(20, b"\0") + bytes(range(52))
    data = sounds.pages(8, first, sounds.comments(b"TITLE=a"), b"sound")
    assert (redact(OGG, data) == data) is stays
    assert bytes(range(52)) in redact(OGG, data)


@pytest.mark.parametrize(
    ("listed", "size"),
    [(b"", 24_000 * 255), (sounds.comments(*[LOCATION] * 8_000), 15_000 * 255 + 9)],
    ids=["no end", "an end"],
)
def test_a_comment_header_on_very_many_pages_takes_no_second(listed, size):
    packet = (b"\x03vorbis" + listed).ljust(size, b"a")
    pages = [sounds.vorbis(b"")[:58]]
    for at in range(0, len(packet), 255):
        head = b"OggS\0" + bytes([at > 0]) + bytes(8) + (7).to_bytes(4, "little") + bytes(8)
        pages.append(head + bytes([1, min(255, len(packet) - at)]) + packet[at : at + 255])
    data = b"".join(pages)
    begin = thread_time()
    plan = locate(OGG, frozenset({"location"}), MemorySource(data))
    assert thread_time() - begin < 1.5 * PATIENCE
    assert plan.outcome is Outcome.PATCH


THEORA = (b"\x80theora" + bytes(35), b"\x81theora" + sounds.comments(), b"\x82theora tables", b"\0frame")
VORBIS = (
    b"\x01vorbis" + bytes(22) + b"\1",
    b"\x03vorbis" + sounds.comments() + b"\1",
    b"\5tables",
    b"\0sound",
)
OPUS = (b"OpusHead\1\2" + bytes(9), b"OpusTags" + sounds.comments(), b"\xfcsound")


def one_page(*packets: bytes, flags: int = 0) -> bytes:
    lacing = b"".join(b"\xff" * (len(packet) // 255) + bytes([len(packet) % 255]) for packet in packets)
    return sounds.page(7, 2, flags, lacing, b"".join(packets))


@pytest.mark.parametrize(
    ("packets", "mark"), [(VORBIS, b"\x03vorbis"), (VORBIS, b"\3unlike"), (THEORA, b"\x81theora")]
)
def test_a_file_with_comments_among_its_media_is_refused(packets, mark):
    """ffmpeg looks only at the first byte of such a packet."""
    listed = mark + sounds.comments(b"LOCATION=" + PLACE)
    first, *headers, media = packets
    begun, tables = one_page(first, flags=2), headers[1]
    large = media.ljust(30_000, b"\3")
    for rest in (
        one_page(*headers, media, listed),
        one_page(*headers) + one_page(listed),
        one_page(*headers) + one_page(media, b"", listed, media),
        one_page(*headers) + one_page(large, listed),
        one_page(*headers) + one_page(media) + one_page(listed)[:-4],
        one_page(*headers) + sounds.page(7, 3, 1, bytes([5, len(listed)]), bytes(5) + listed),
    ):
        assert PLACE in rest or rest.endswith(PLACE[:-4])
        assert_refused(OGG, begun + rest)
    assert_refused(OGG, begun + one_page(headers[0], mark[:1] + b"unlike" + listed[7:], tables, media))


@pytest.mark.parametrize("packets", [VORBIS, THEORA])
def test_a_byte_within_media_is_no_header(packets):
    first, *headers, media = packets
    data = one_page(first, flags=2) + one_page(*headers, media, b"", media + b"\x03\x81")
    for lacing in (b"\xff" * 255, b"\xff" * 20 + b"\7", b"\7\0\7"):
        data += sounds.page(7, 4, 1, lacing, (b"\x03\x81" + bytes(5)).ljust(sum(lacing), b"\0"))
    assert redact(OGG, data) == data


@pytest.mark.parametrize("packets", [VORBIS, THEORA, OPUS])
def test_zeros_among_headers_are_no_media(packets):
    """A broken header becomes zeros, and the next headers are still headers for the next redaction."""
    first, listed, *rest = packets
    data = one_page(first, flags=2) + one_page(listed, listed[:8] + b"\xff", listed, *rest)
    out = redact(OGG, data)
    assert out != data
    assert redact(OGG, out) == out


def test_what_follows_a_header_that_became_zeros_is_still_a_header():
    """A place where the decoder's tables begin: the next packets are read as in the result."""
    first, listed, *rest = VORBIS
    broken = one_page(b"\5tables 47.804531, 13.042287 ")
    more = sounds.page(7, 4, 1, b"\x20", b"goes on where no packet is".ljust(32, b"."))
    data = one_page(first, flags=2) + one_page(listed) + broken + more + one_page(*rest)
    plan = locate(OGG, frozenset({"device"}), MemorySource(data))
    out = apply(data, plan.patches)
    assert b"goes on" not in out
    assert locate(OGG, frozenset({"device"}), MemorySource(out)).outcome is Outcome.CLEAN
    assert rest[0] in out


OTHER = {
    "Vorbis": b"\x03vorbis" + sounds.comments(LOCATION) + b"\1",
    "Theora": b"\x81theora" + sounds.comments(LOCATION),
    "Opus": b"OpusTags" + sounds.comments(LOCATION),
    "FLAC": b"\x7fFLAC\1\0\0\1" + sounds.flac((4, sounds.comments(LOCATION)))[:-20],
}


@pytest.mark.parametrize("codec", OTHER)
@pytest.mark.parametrize("name", ["opus", "vorbis", "flac"])
def test_a_file_with_comments_of_another_codec_at_the_start_of_a_page_is_refused(codec, name):
    """exiftool looks for them in every stream."""
    packet, empty = OTHER[codec], sounds.comments(b"TITLE=a")
    begun = {"opus": sounds.opus(empty), "vorbis": sounds.vorbis(empty), "flac": flac_pages(b"\xff\xf8sound")}
    serial = {"opus": 8, "vorbis": 7, "flac": 7}[name]
    lacing = b"\xff" * (len(packet) // 255) + bytes([len(packet) % 255])
    more = sounds.page(serial, 9, 0, lacing, packet)
    assert_refused(OGG, begun[name] + more)
    assert_refused(OGG, begun[name] + more[:-4])


def test_a_first_packet_of_sound_with_comments_of_another_codec_is_refused():
    first, tags = b"OpusHead\1\2" + bytes(9), b"OpusTags" + sounds.comments(b"TITLE=a")
    assert_refused(OGG, sounds.pages(8, first, tags, OTHER["Vorbis"], b"\xfcsound"))


ENDS = {
    "ID3v1": sounds.old(comment=PLACE),
    "APE": sounds.ape((b"City", CITY)),
    "Lyrics3": b"LYRICSBEGIN" + CITY + b"LYRICSEND",
    "Lyrics3v2": sounds.lyrics(CITY),
}


@pytest.mark.parametrize("name", ENDS)
def test_a_tag_of_another_format_at_the_end_of_the_last_page_is_refused(name):
    tag, sound = ENDS[name], sounds.opus(sounds.comments())
    lacing = bytes([len(tag) + 9])
    assert_refused(OGG, sound + sounds.page(8, 9, 4, lacing, b"\xfcsound..." + tag))
    assert not place_in(redact(OGG, sound + tag))
    cut = sound + sounds.page(8, 9, 4, b"\xff\xff", bytes(300) + tag)
    if name == "ID3v1":
        assert_refused(OGG, cut)
    else:
        assert not place_in(redact(OGG, cut))


def test_a_tag_that_begins_in_the_last_page_and_ends_behind_it_is_refused():
    tag = sounds.old(title=PLACE)
    page = sounds.page(8, 9, 4, b"\x40", b"\xfc" + tag[:63])
    assert_refused(OGG, sounds.opus(sounds.comments()) + page + tag[63:])


def flac_pages(*packets: bytes) -> bytes:
    return sounds.pages(7, b"\x7fFLAC\1\0\0\1" + sounds.flac()[:42], *packets)


@pytest.mark.parametrize("length", [0, 18, 200])
def test_a_block_of_flac_in_ogg_is_as_long_as_its_packet(length):
    """By another length, exiftool finds a block within a title."""
    nested = sounds.comments(LOCATION)
    listed = sounds.comments(b"TITLE=" + b"\x84" + len(nested).to_bytes(3) + nested)
    data = flac_pages(b"\4" + length.to_bytes(3) + listed, b"\xff\xf8sound")
    assert b"\4" + len(listed).to_bytes(3) + listed in redact(OGG, data)


@pytest.mark.parametrize("packet", [b"\4", b"\4\0", b"\4\0\0"])
def test_a_packet_too_short_for_a_block_is_refused(packet):
    assert_refused(OGG, flac_pages(packet, b"\4\0\0\x08" + bytes(8), b"\xff\xf8sound"))


@pytest.mark.parametrize(
    "change", [lambda first: first + b"\0", lambda first: first[:16] + b"\x50" + first[17:]]
)
def test_a_first_header_of_flac_of_another_length_is_refused(change):
    first = b"\x7fFLAC\1\0\0\1" + sounds.flac()[:42]
    assert_refused(OGG, sounds.pages(7, change(first), b"\xff\xf8sound"))


def test_what_describes_streams_goes():
    data = sounds.pages(5, b"fishead\0" + bytes(56) + PLACE, b"fisbone\0" + CITY)
    sound = sounds.opus(sounds.comments())
    out = redact(OGG, data + sound)
    assert not place_in(out)
    assert not any(word in out for word in (b"fishead", b"fisbone"))
    assert out[len(data) :] == sound
