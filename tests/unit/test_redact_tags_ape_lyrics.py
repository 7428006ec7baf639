"""APE, ID3v1 and Lyrics3 tags at either end of a file."""

from __future__ import annotations

import pytest

from policyfs.redact.core.categories import UNKNOWN, Tells
from policyfs.redact.core.cleaners import NotThisKindError
from policyfs.redact.core.edits import Edits
from policyfs.redact.core.patches import MemorySource, apply
from policyfs.redact.tags.ape_lyrics import clean_end, clean_front, clean_here
from tests.support.samples import sounds
from tests.support.samples.inners import Plain
from tests.support.samples.sound_checks import assert_refused, place_in, redact
from tests.support.samples.sounds import CITY, MP3, PLACE

TITLE = (b"Title", b"Quince")


def edits_of(data: bytes, hide: Tells = Tells.LOCATION) -> Edits:
    return Edits(MemorySource(data), Plain(hide), "test")


def read_of(edits: Edits, data: bytes) -> bytes:
    return apply(data, edits.found.patches)


ENDS = {
    "ID3v1": sounds.old(),
    "TAG+": b"TAG+" + bytes(223),
    "APE": sounds.ape(TITLE),
    "APE without a header": sounds.ape(TITLE, header=False),
    "Lyrics3v2": sounds.lyrics(b"la la"),
    "Lyrics3": b"LYRICSBEGIN" + b"la la" + b"LYRICSEND",
    "ID3v2.4 with a footer": sounds.id3(version=4, flags=0x10, padding=20),
}


@pytest.mark.parametrize("name", ENDS)
def test_a_tag_at_the_end_is_found_and_nothing_before_it(name):
    for before in (b"", b"x", b"sound" * 100):
        data = before + ENDS[name]
        assert clean_end(edits_of(data), 0) == len(before)
        assert clean_end(edits_of(data), len(before)) == len(before)


@pytest.mark.parametrize("name", ENDS)
def test_a_tag_that_reaches_before_the_start_is_none(name):
    """Exiftool would read it: there it is refused, or loses the end by which a tag is found."""
    data = b"sound" * 100 + ENDS[name]
    if name in ("ID3v1", "APE", "Lyrics3"):
        with pytest.raises(NotThisKindError):
            clean_end(edits_of(data), 501)
    else:
        edits = edits_of(data)
        assert clean_end(edits, 501) > 500
        if name in ("APE without a header", "Lyrics3v2"):
            assert read_of(edits, data).endswith(bytes(32))


def test_an_ape_tag_without_the_header_that_its_footer_states_is_read_by_its_size():
    """Text before it that looks like an item does not cover its own items."""
    tag = sounds.ape((b"City", CITY), header=False)
    footer = tag[-32:-9] + b"\x80" + bytes(8)
    size = len(tag) - 32 + 32 - 14
    before = (size.to_bytes(4, "little") + bytes(4) + b"Track\0").ljust(32, b"1")
    assert CITY not in redact(MP3, sounds.sound() + before + tag[:-32] + footer)


def test_an_ape_tag_whose_items_begin_in_the_tag_before_the_sound_goes():
    item = (2085 + 40).to_bytes(4, "little") + bytes(4) + b"Track\0"
    front = sounds.id3(sounds.user(b"comment", b"note" + item))
    tag = sounds.ape((b"City", CITY), header=False)
    size = len(item) + 2085 + len(tag)
    data = front + sounds.sound() + tag[:-20] + size.to_bytes(4, "little") + tag[-16:]
    assert b"APETAGEX" not in redact(MP3, data)


@pytest.mark.parametrize("digits", [b"000048", b"    48", b"48 abc", b"0.48e2"])
def test_lyrics_begin_at_the_first_mark_within_their_size(digits):
    text = b"XLYRICSBEGINEAL00017" + PLACE[:17] + b"LYRICSBEGIN"
    data = sounds.sound() + sounds.sound(1)[: -len(text) - 15] + text + digits + b"LYRICS200"
    out = redact(MP3, data)
    assert b"47.80" not in out or not out.endswith(b"LYRICS200")


def test_a_tag_before_a_broken_one_is_no_tag():
    """A second redaction, which stops at the zeros of the broken one, must find it as the first left it."""
    broken = b"x" * 20 + b"APETAGEX" + (2000).to_bytes(4, "little") + b"\xff" * 4 + bytes(16)
    assert not place_in(redact(MP3, sounds.sound() + sounds.ape((b"City", CITY), TITLE) + broken))


def test_older_lyrics_begin_at_the_first_mark():
    text = b"LYRICSBEGIN" + PLACE + b" LYRICSBEGIN LYRICSEND"
    assert not place_in(redact(MP3, sounds.sound() + sounds.sound(1)[: -len(text)] + text))


@pytest.mark.parametrize("mark", [b"TAGX", b"TAG+"])
def test_any_tag_before_id3v1_is_a_longer_tag(mark):
    """TAG in one of its fields starts no ID3v1 tag."""
    longer = (mark + PLACE.ljust(60)).ljust(227)
    assert not place_in(redact(MP3, sounds.sound() + longer + sounds.old()))
    twice = longer[:99] + b"TAG" + longer[102:]
    assert_refused(MP3, sounds.sound() + twice + sounds.old())


@pytest.mark.parametrize("end", [sounds.ape((b"City", CITY * 9)), sounds.lyrics(CITY * 9)])
def test_a_file_with_an_id3v1_tag_in_another_tag_is_refused(end):
    data = sounds.sound() + end
    assert_refused(MP3, data[:-128] + b"TAG" + data[-125:])


@pytest.mark.parametrize("end", [sounds.old(), b"APETAGEX" + bytes(24)])
def test_a_file_whose_last_tag_begins_in_its_first_tag_is_refused(end):
    edits = edits_of(b"sound" * 100 + end)
    with pytest.raises(NotThisKindError):
        clean_end(edits, 501)
    assert clean_end(edits, 500) == 500


def test_tags_follow_each_other():
    data = b"sound" + b"".join(ENDS.values()) + sounds.old()
    assert clean_end(edits_of(data), 0) == 5
    front = b"\0\0" + sounds.ape(TITLE) + bytes(7) + sounds.id3(padding=9) + b"\0"
    assert clean_front(edits_of(front + b"sound")) == len(front)


def test_no_tag():
    for data in (b"", b"x", b"sound" * 100):
        assert clean_end(edits_of(data), 0) == len(data)
        assert clean_front(edits_of(data)) == 0


@pytest.mark.parametrize("cut", [1, 8, 40])
def test_a_tag_in_front_that_is_cut(cut):
    """An APE tag is none then; an ID3 tag goes to the end of the file, and nothing of it stays."""
    tag = sounds.ape(TITLE)[:-cut]
    assert clean_here(edits_of(tag), 0, len(tag)) == 0
    data = sounds.id3(sounds.user(b"place", CITY * 10))[:-cut]
    edits = edits_of(data)
    assert clean_here(edits, 0, len(data)) == len(data)
    assert CITY[:4] not in read_of(edits, data)


@pytest.mark.parametrize(
    ("at", "size", "hide"),
    [
        (3, 30, Tells.PEOPLE),
        (33, 30, Tells.PEOPLE),
        (63, 30, Tells.PEOPLE),
        (93, 4, Tells.TIME),
        (97, 30, Tells.PEOPLE),
    ],
)
def test_fields_of_id3v1(at, size, hide):
    """Each goes whole under its word, and none of its neighbours."""
    data = b"TAG" + b"x" * 125
    edits = edits_of(data, hide)
    clean_end(edits, 0)
    out = read_of(edits, data)
    assert out[at : at + size] == bytes(size)
    gone = 4 if hide == Tells.TIME else 120
    assert out.count(b"\0") == gone


@pytest.mark.parametrize("at", [4, 64, 124, 185])
def test_a_place_in_a_field_of_the_longer_tag_goes(at):
    data = bytearray(b"TAG+" + bytes(223))
    data[at : at + len(PLACE)] = PLACE
    assert b"47.8" not in redact(MP3, sounds.sound() + bytes(data) + sounds.old())


def test_times_of_the_longer_tag_hold_no_place():
    data = b"TAG+" + bytes(211)
    assert b"47.80" not in redact(MP3, sounds.sound() + data + b"N47.80E13.04" + sounds.old())
    times = sounds.sound() + data + b"000:01002:59" + sounds.old()
    assert redact(MP3, times) == times


def test_bytes_of_an_ape_tag_that_must_be_zero_become_zeros():
    tag = sounds.ape(TITLE)
    for at in (24, len(tag) - 8):
        data = tag[:at] + b"47.80,13" + tag[at + 8 :]
        assert redact(MP3, sounds.sound() + data) == sounds.sound() + tag


def items(tag: bytes) -> list[bytes]:
    """Keys of an APE tag, walked as a strict reader does, to its footer."""
    count, at, found = int.from_bytes(tag[16:20], "little"), 32, []
    for _ in range(count):
        size = int.from_bytes(tag[at : at + 4], "little")
        end = tag.index(b"\0", at + 8)
        found.append(tag[at + 8 : end])
        at = end + 1 + size
    assert tag[at : at + 8] == b"APETAGEX" or not tag[at:-32].strip(b"\0")
    return found


def test_items_that_stay_move_up_and_an_empty_one_follows():
    tag = sounds.ape((b"Location", CITY), TITLE, (b"Genre", b"Folk"))
    out = redact(MP3, sounds.sound() + tag)[-len(tag) :]
    assert items(out)[:2] == [b"Title", b"Genre"]
    assert len(items(out)) == 3
    assert out[16:20] == out[-16:-12]


@pytest.mark.parametrize("text", [b"", b"a", CITY])
def test_an_item_of_any_size_leaves_a_tag_of_the_same_length(text):
    tag = sounds.ape((b"Yz", text), TITLE)
    out = redact(MP3, sounds.sound() + tag)
    assert items(out[-len(tag) :])[0] == b"Title"


@pytest.mark.parametrize(
    "body",
    [
        (99).to_bytes(4, "little") + bytes(4) + b"Title\0" + CITY,
        (5).to_bytes(4, "little") + bytes(4) + b"T\0" + CITY,
        (5).to_bytes(4, "little") + bytes(4) + b"Titl\xe9\0" + CITY,
        CITY,
    ],
)
def test_bytes_that_are_no_item_go(body):
    end = b"APETAGEX" + (2000).to_bytes(4, "little") + (len(body) + 32).to_bytes(4, "little") + b"\1\0\0\0"
    tag = end + b"\0\0\0\xa0" + bytes(8) + body + end + b"\0\0\0\x80" + bytes(8)
    assert CITY not in redact(MP3, sounds.sound() + tag)


@pytest.mark.parametrize("size", [0, 1, 7, 8, 9, 100, 100_000])
def test_lyrics_of_any_length_become_blanks_between_their_marks(size):
    text = CITY.ljust(size, b"x")[:size]
    data = sounds.lyrics(text)
    edits = edits_of(data, UNKNOWN)
    assert clean_end(edits, 0) == 0
    out = read_of(edits, data)
    assert out.startswith(b"LYRICSBEGIN")
    assert out[-15:] == data[-15:]
    assert text[:8] not in out[11:-15] or size < 4


def test_old_lyrics_are_looked_for_in_the_last_5200_bytes():
    for size, found in ((5180, True), (5181, False)):
        data = b"LYRICSBEGIN" + b"x" * size + b"LYRICSEND"
        assert (clean_end(edits_of(data), 0) == 0) is found


def test_a_footer_that_begins_in_the_header_is_none():
    """It made the tag longer: an error of policyfs, found by the fuzzer, which refused the file."""
    head = "4150455441474558d0070000370000544147 4558d0070041"
    foot = "50455441474558d00700003700000001000000000000800000000000000000"
    data = b"sound" * 100 + bytes.fromhex(head + foot)
    edits = edits_of(data)
    clean_end(edits, 0)
    assert len(read_of(edits, data)) == len(data)
