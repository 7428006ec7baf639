"""ID3: frames that go, and frames that move up or stay."""

from __future__ import annotations

import re

import pytest

from policyfs.redact.core.categories import Tells
from policyfs.redact.tags.id3 import tag_size
from tests.support.samples import jpegs, notes, pngs, sounds
from tests.support.samples.sound_checks import (
    place_in,
    redact,
)
from tests.support.samples.sounds import CITY, MP3, PLACE


def test_frames_that_stay_move_up():
    title = sounds.words("TIT2", b"Quince")
    tag = sounds.id3(sounds.user(b"place", CITY), title, padding=20)
    out = redact(MP3, tag + sounds.sound())
    assert out[10 : 10 + len(title)] == title
    assert not out[10 + len(title) : len(tag)].strip(b"\0")
    assert out[:10] == tag[:10]


def test_frames_that_another_way_to_count_finds_do_not_stay():
    """Once what lay behind them is gone, sizes as ID3v2.4 has them reach to the padding, too."""
    hidden = b"TXXX" + sounds.syncsafe(126) + b"\0\0" + b"\0place\0" + CITY
    wrong = b"TIT2" + (256).to_bytes(4) + b"\0\0" + (b"\0" + b"W" * 127 + hidden).ljust(256, b"\0")
    data = sounds.id3(wrong, sounds.user(b"place", PLACE), version=4, padding=40) + sounds.sound()
    assert CITY not in redact(MP3, data)


def test_frames_of_many_bytes_stay_before_one_that_goes():
    """Read by sizes of the other kind, they would reach into the padding."""
    title = sounds.frame("TIT2", b"\0" + b"W" * 200, version=4)
    gone = sounds.frame("TXXX", b"\0place\0" + PLACE, version=4)
    data = sounds.id3(title, gone, version=4, padding=400) + sounds.sound()
    assert b"W" * 200 in redact(MP3, data)


def test_a_tag_with_a_footer_has_no_padding():
    made = [
        sounds.frame(n, b"\0" + v, version=4) for n, v in (("TXXX", b"place\0" + CITY), ("TIT2", b"Quince"))
    ]
    tag = sounds.id3(*made, version=4, flags=0x10)
    out = redact(MP3, tag + sounds.sound())
    assert out[10 : 10 + len(made[1])] == made[1]
    assert out[10 + len(made[1]) :].startswith(b"PRIV")
    assert out[len(tag) - 10 : len(tag)] == tag[-10:]


def test_a_frame_that_would_be_shorter_by_the_other_kind_of_sizes_does_not_stay():
    """By these only zeros come behind it, once the frame behind it is gone."""
    size = 0x775  # or, by these, 0x3f5
    photo = jpegs.SOI + jpegs.exif_segment(jpegs.exif("MM").ljust(size - 26, b"\0"))
    frame = b"APIC" + size.to_bytes(4) + b"\0\0\0image/jpeg\0\3\0" + photo
    assert len(frame) == 10 + size
    redact(MP3, sounds.id3(frame, sounds.user(b"place", CITY), version=4) + sounds.sound())


def test_nor_does_one_that_would_be_longer():
    """A picture without an end is mended at the end of its frame: by these sizes that is in the padding."""
    size = 0x3F5  # or, by the others, 0x775
    photo = jpegs.SOI + jpegs.exif_segment(jpegs.exif("MM").ljust(size - 26, b"\0"))
    frame = b"APIC" + (0x775).to_bytes(4) + b"\0\0\0image/jpeg\0\3\0" + photo
    assert len(frame) == 10 + size
    padding = 0x775 - size - 20  # by these sizes it fits once the frame before it is gone
    redact(MP3, sounds.id3(sounds.user(b"place", CITY), frame, padding=padding) + sounds.sound())


def within(size: int, lying: int, frame: bytes) -> bytes:
    """Make a COMM frame of *lying* bytes; by the other way to read sizes, *frame* follows *size* bytes."""
    body = b"\0eng\0".ljust(size, b"c") + frame
    return b"COMM" + lying.to_bytes(4) + b"\0\0" + body.ljust(lying, b"!")


@pytest.mark.parametrize(
    "between", [b"", b"aBc \0\0\0\2\0\0ab", b"TRCK\0\0\0\2\0\0\0" + b"1", b"abcd" + bytes(6)]
)
@pytest.mark.parametrize("name", [b"TXXX", b"Txyz", b"CHAP"])
def test_a_frame_that_only_the_other_way_to_read_sizes_finds_does_not_stay(between, name):
    hidden = between + name + (100).to_bytes(4) + b"\0\0" + (b"\0City\0" + CITY).ljust(100)
    data = sounds.id3(within(128, 256, hidden), version=4, padding=50) + sounds.sound()
    assert CITY not in redact(MP3, data)


def test_a_frame_that_only_plain_sizes_find_does_not_stay():
    hidden = b"TXXX" + (60).to_bytes(4) + b"\0\0" + (b"\0City\0" + CITY).ljust(60)
    rest = b"\0eng\0".ljust(512 - 256 - 10, b"d") + hidden
    first = b"COMM" + (512).to_bytes(4) + b"\0\0" + b"\0eng\0".ljust(256, b"c")
    second = b"COMM" + sounds.syncsafe(len(rest)) + b"\0\0" + rest
    assert CITY not in redact(MP3, sounds.id3(first, second, padding=50) + sounds.sound())


def test_a_frame_that_only_the_other_way_finds_in_a_chapter_does_not_stay():
    hidden = b"TXXX" + (60).to_bytes(4) + b"\0\0" + (b"\0City\0" + CITY).ljust(60)
    first = b"TIT2" + (256).to_bytes(4) + b"\0\0" + b"\0".ljust(128, b"c")
    second = sounds.frame("TIT3", b"\0".ljust(256 - 128 - 10, b"d") + hidden, version=4)
    chapter = sounds.frame("CHAP", b"one\0" + bytes(16) + first + second, version=4)
    assert CITY not in redact(MP3, sounds.id3(chapter, version=4, padding=50) + sounds.sound())


@pytest.mark.parametrize("version", [3, 4])
def test_long_frames_without_another_stay(version):
    """In UTF-16 and in pictures there are small numbers where the other way reads a size."""
    text = b"\1" + ("Tales of quinces TO READ " * 20).encode("utf-16")
    shown = b"\0image/jpeg\0\3front\0" + jpegs.plain()
    made = [
        sounds.frame(*frame, version=version) for frame in (("COMM", text), ("APIC", shown), ("TIT2", text))
    ]
    data = sounds.id3(*made, version=version, padding=300) + sounds.sound()
    assert redact(MP3, data) == data


@pytest.mark.parametrize("word", [b"love", b"That", b"LOVE", b"1234"])
def test_lyrics_with_times_stay(word):
    """By the other way to read sizes a frame starts at a word, and its size is the time behind the word."""
    start = b"\0eng\2\1\0".ljust(128, b"c")
    times = word + b"\0\0\0\x0f\xa0night\0\0\0\x13\x88day\0\0\0\x17\x70"
    lyrics = sounds.frame("SYLT", (start + times).ljust(256, b"c"))
    data = sounds.id3(sounds.words("TIT2", b"Quince"), lyrics, padding=50) + sounds.sound()
    assert redact(MP3, data) == data


def test_a_comment_before_a_cover_stays():
    """By the other way to read sizes a frame starts within the picture, at the name of its first chunk."""
    comment = sounds.frame("COMM", b"\0eng\0".ljust(215, b"c"), version=4)
    title = sounds.frame("TIT2", b"\0".ljust(83, b"W"), version=4)
    cover = sounds.frame("APIC", b"\0image/png\0\3\0" + pngs.plain(), version=4)
    assert (comment + title + cover)[10 + 343 :].startswith(b"IHDR")
    assert int.from_bytes(comment[4:8]) == 343
    data = sounds.id3(comment, title, cover, version=4, padding=50) + sounds.sound()
    assert redact(MP3, data) == data


ITUNES = (
    b"iTunNORM\0 000002F7 0000031A\0",
    b"iTunSMPB\0 00000000 00000210",
    b"iTunes_CDDB_IDs\x0012+3CA1F5+9",
)


@pytest.mark.parametrize("text", ITUNES)
def test_numbers_of_itunes_hold_no_people(text):
    data = sounds.id3(sounds.frame("COMM", b"\0eng" + text)) + sounds.sound()
    assert redact(MP3, data, Tells.PEOPLE) == data
    assert b"Anna" not in redact(MP3, data.replace(text[-4:], b"Anna"), Tells.PEOPLE)
    other = data.replace(text[:8], b"iTunAnna")
    assert b"Anna" not in redact(MP3, other, Tells.PEOPLE)


def _unsynchronised(data):
    return re.sub(rb"\xff(?=[\xe0-\xff\0]|\Z)", b"\xff\0", data)


@pytest.mark.parametrize(
    ("flags", "before"), [(0, b""), (1, b"long"), (2, b""), (3, b"long"), (0x40, b"g"), (0x43, b"glong")]
)
def test_covers_in_every_form_of_frame_stay_and_their_metadata_goes(flags, before):
    """ID3v2.4 may state a group, a length, and unsynchronisation for each frame (4.1.2)."""
    clean = jpegs.plain()
    for picture in (clean, clean[:2] + jpegs.segment(jpegs.COM, PLACE) + clean[2:]):
        content = b"\0image/jpeg\0\3\0" + picture
        stored = before.replace(b"long", sounds.syncsafe(len(content)))
        stored += _unsynchronised(content) if flags & 2 else content
        made = sounds.id3(sounds.frame("APIC", stored, flags, version=4), version=4) + sounds.sound()
        out = redact(MP3, made)
        assert PLACE not in out
        assert (out == made) is (picture == clean)
        assert b"APIC" in out


def test_a_cover_that_tells_a_place_without_its_unsynchronisation_goes():
    """A reader that takes the bytes as they are stored would see Exif."""
    picture = jpegs.plain()[:-2] + b"Exif\xff\0\xd0\0\0II*\0" + jpegs.plain()[-2:]
    content = b"\0image/jpeg\0\3\0" + _unsynchronised(picture) + b"Exif\0\0II*\0"
    made = sounds.id3(sounds.frame("APIC", content, 2, version=4), version=4) + sounds.sound()
    assert b"Exif\0\0" not in redact(MP3, made)


@pytest.mark.parametrize(("tag_flags", "frame_flags"), [(0x80, 0), (0, 2)], ids=["tag", "frame"])
def test_a_picture_whose_hidden_parts_a_reader_would_leave_bytes_out_of_goes_whole(tag_flags, frame_flags):
    """Where a maker's tag was stands 0xffff, a zero follows, and unsynchronisation takes that away."""
    picture = notes.exif_with(notes.note_of(notes.MAKERS["Panasonic"], "MM"), "MM", "Panasonic")
    assert b"\xff\0" not in picture
    assert b"\xff\0" in redact("image/tiff", picture)
    frame = sounds.frame("APIC", b"\0image/tiff\0\3\0" + picture, frame_flags, version=4)
    after = sounds.frame("TRCK", b"\0" + b"7", version=4)
    out = redact(MP3, sounds.id3(frame, after, version=4, flags=tag_flags) + sounds.sound())
    assert b"APIC" not in out
    assert after in out


PRIVATE = {
    b"WM/MediaClassPrimaryID": bytes(range(16)),
    b"WM/WMContentID": bytes(range(16)),
    b"AverageLevel": b"\x10\x0e\0\0",
    b"PeakValue": b"\x10\x7e\0\0",
    b"WM/Provider": "AMG".encode("utf-16-le"),
    b"WM/UniqueFileIdentifier": "AMGa_id=R 1;AMGp_id=P 2".encode("utf-16-le"),
}


@pytest.mark.parametrize("owner", PRIVATE)
def test_private_frames_of_windows_media_stay(owner):
    def file(value: bytes) -> bytes:
        return sounds.id3(sounds.frame("PRIV", owner + b"\0" + value)) + sounds.sound()

    assert redact(MP3, file(PRIVATE[owner])) == file(PRIVATE[owner])
    for told in (b"47.80453, 13.04229", "47.80453, 13.04229".encode("utf-16-le")):
        assert told not in redact(MP3, file(told))


def test_other_private_frames_go():
    for owner in (b"XMP", b"com.acme", b"wm/provider", b""):
        data = sounds.id3(sounds.frame("PRIV", owner + b"\0" + CITY)) + sounds.sound()
        assert not place_in(redact(MP3, data))


def test_ratings_tell_whose_they_are():
    def file(whose: bytes) -> bytes:
        return sounds.id3(sounds.frame("POPM", whose + b"\0\xff\0\0\0\1")) + sounds.sound()

    assert redact(MP3, file(b"no@email")) == file(b"no@email")
    assert b"no@email" not in redact(MP3, file(b"no@email"), Tells.PEOPLE)
    assert b"47.80453" not in redact(MP3, file(b"47.80453, 13.04229"))


def test_a_footer_that_is_none_becomes_one():
    for text in (CITY[:10], b"47.80,13.0"):
        tag = sounds.id3(sounds.frame("TIT2", b"\0a", version=4), version=4, flags=0x10)
        out = redact(MP3, tag[:-10] + text + sounds.sound())
        assert out == tag + sounds.sound()


@pytest.mark.parametrize("name", ["RVAD", "MLLT", "ETCO", "PCNT"])
def test_a_place_in_a_frame_of_numbers_goes(name):
    data = sounds.id3(sounds.frame(name, b"\0\1\2" + PLACE)) + sounds.sound()
    assert PLACE not in redact(MP3, data)
    plain = sounds.id3(sounds.frame(name, bytes(range(40)))) + sounds.sound()
    assert redact(MP3, plain) == plain


@pytest.mark.parametrize(
    ("head", "size"),
    [
        (b"ID3\4\0\0\0\0\1\0", 138),
        (b"ID3\4\0\x10\0\0\1\0", 148),
        (b"ID3\3\0\x10\0\0\1\0", 138),
        (b"ID3\2\0\0\x7f\x7f\x7f\x7f", 10 + (1 << 28) - 1),
        (b"ID3\4\0\0\0\0\0\x80", 0),
        (b"ID3\5\0\0\0\0\1\0", 0),
        (b"ID3\1\0\0\0\0\1\0", 0),
        (b"ID3\4\xff\0\0\0\1\0", 0),
        (b"ID3\4\0\0\0\0\1", 0),
        (b"IDE\4\0\0\0\0\1\0", 0),
        (b"", 0),
    ],
)
def test_the_size_of_a_tag(head, size):
    assert tag_size(head) == size


def test_xmp_in_a_private_frame_is_cleaned():
    """Adobe's programs write it so (XMP specification part 3)."""
    place = f"<photoshop:City>{notes.CITY}</photoshop:City>"

    def file(packet: bytes, flags: bytes = b"\0\0") -> bytes:
        frame = sounds.frame("PRIV", b"XMP\0" + packet)
        return sounds.id3(frame[:8] + flags + frame[10:], sounds.words("TIT2", b"Quince")) + sounds.sound()

    plain = jpegs.xmp_packet("<dc:format>audio/mpeg</dc:format>")
    assert redact(MP3, file(plain)) == file(plain)
    out = redact(MP3, file(jpegs.xmp_packet(f"<dc:format>audio/mpeg</dc:format>{place}")))
    assert notes.CITY.encode() not in out
    assert b"<dc:format>audio/mpeg" in out
    for hidden in (place.encode(), b"47.80453, 13.04229", jpegs.xmp_packet(place)[40:]):
        assert hidden not in redact(MP3, file(hidden))
    for flags in (b"\0\x20", b"\0\x80", b"\0\x40"):  # of a group, compressed, encrypted
        assert b"audio/mpeg" not in redact(MP3, file(plain, flags))
