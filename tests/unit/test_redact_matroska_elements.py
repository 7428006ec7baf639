"""Matroska's metadata, element by element: Void for what goes, blanks where an element must be."""

from __future__ import annotations

import pytest

from policyfs.redact.core.categories import UNKNOWN, Tells
from policyfs.redact.core.cleaners import Cleaned
from policyfs.redact.core.patches import MemorySource
from policyfs.redact.matroska import elements, tag_names
from policyfs.redact.matroska.ebml import void
from policyfs.redact.matroska.elements import Tree, child_data, children
from policyfs.redact.plan import Outcome, locate
from tests.support.samples import matroskas as mk
from tests.support.samples.inners import Plain
from tests.support.samples.matroskas import cluster, el, film, ident_bytes, number, simple_tag
from tests.support.samples.redacted import redacted

PLACE = b"47.80453, 13.04229"
L, D, T, P = Tells.LOCATION, Tells.DEVICE, Tells.TIME, Tells.PEOPLE
TRACK, ATTACHED, CHAPTER = tag_names.TRACK, tag_names.ATTACHED_FILE, tag_names.CHAPTER_ATOM
BASE = number(tag_names.TRACK_NUMBER, 1) + number(tag_names.TRACK_TYPE, 1) + el(tag_names.CODEC_ID, b"A_PCM")


class Blind(Plain):
    """Understands no picture."""

    def image(self, data: bytes) -> Cleaned | None:
        return None


def cleaned(ident: int, data: bytes, hide: Tells = L, needs: int = 0) -> bytes | None:
    found = Tree(Plain(hide)).clean(ident, data, needs)
    if found is None:
        return None
    assert len(found.data) == len(data)
    assert bool(found.notes) == (found.data != data)
    again = Tree(Plain(hide)).clean(ident, found.data, needs)
    assert again is not None
    assert again.data == found.data
    return found.data


def test_children_are_walked_as_far_as_they_are_sound():
    first, second = el(0xEC, b"abc"), el(0x4286, b"")
    data = first + second
    assert [(child.at, child.end, child.payload(data)) for child in children(data)] == [
        (0, 5, b"abc"),
        (5, 8, b""),
    ]
    assert len(list(children(data[:-1]))) == 1
    assert len(list(children(first[:-1]))) == 0
    assert len(list(children(el(0xEC, b"abc", size=b"\xff")))) == 0
    assert child_data(data + el(0x4286, b"x"), 0x4286) == b""
    assert child_data(data, 0x4287) is None


LEAVES = {
    "a name": (el(0x536E, b"Rosa"), P, None),
    "a place in a name": (el(0x536E, PLACE), L, None),
    "a name that stays": (el(0x536E, b"Rosa"), L, el(0x536E, b"Rosa")),
    "behind the end of a name": (el(0x536E, b"Rosa\0Quince"), L, el(0x536E, b"Rosa" + bytes(7))),
    "a language": (el(0x22B59C, b"ger"), UNKNOWN, el(0x22B59C, b"ger")),
    "a language that is none": (el(0x22B59C, b"ger\xff"), T, None),
    "a language too long": (el(0x22B59C, b"g" * 97), T, None),
    "a language of a country": (el(0x22B59D, b"zh-Hans-CN\0"), UNKNOWN, el(0x22B59D, b"zh-Hans-CN\0")),
    "a person as a language": (el(0x22B59C, b"John Smith"), P, None),
    "a person as a tag of a language": (el(0x22B59D, b"en-x-Smith"), P, None),
    "a place as a language": (el(0x22B59C, b"47.80453 13.04229"), L, None),
    "a number": (el(0x9C, bytes(8)), UNKNOWN, el(0x9C, bytes(8))),
    "a number too long": (el(0x9C, bytes(9)), T, None),
    "an unknown element": (el(0x4FFF, b"Rosa"), T, None),
    "an empty Void": (el(0xEC, bytes(5)), UNKNOWN, el(0xEC, bytes(5))),
    "a Void with a text": (el(0xEC, b"Rosa"), T, el(0xEC, bytes(4))),
    "a second codec": (el(tag_names.CODEC_ID, b"A_AAC"), T, None),
    "binary": (el(0x41E4, el(0x41ED, b"\0\1\2")), L, el(0x41E4, el(0x41ED, b"\0\1\2"))),
    "a place in binary": (el(0x41E4, el(0x41ED, PLACE)), L, el(0x41E4, void(len(PLACE) + 3))),
}


@pytest.mark.parametrize("name", LEAVES)
def test_leaves_of_a_track(name):
    element, hide, expected = LEAVES[name]
    out = cleaned(TRACK, BASE + element, hide)
    assert out == BASE + (void(len(element)) if expected is None else expected)


def test_bytes_behind_the_last_sound_element_go():
    assert cleaned(TRACK, BASE + bytes(7)) == BASE + bytes(7)
    assert cleaned(TRACK, BASE + b"\x9c\x88Rosa") == BASE + void(6)


def test_a_checksum_over_what_changed_goes():
    checksum = el(0xBF, b"sums")
    assert cleaned(TRACK, checksum + BASE, P) == checksum + BASE
    name = el(0x536E, b"Rosa")
    assert cleaned(TRACK, checksum + BASE + name, P) == void(len(checksum)) + BASE + void(len(name))
    assert cleaned(TRACK, BASE + checksum, P) == BASE + void(len(checksum))


def test_an_element_without_what_it_is_about_goes():
    tag = el(tag_names.TAG, simple_tag(b"ENCODER", b"quill"))
    assert cleaned(tag_names.TAGS, tag, L, tag_names.TAG) == tag
    assert cleaned(tag_names.TAGS, tag, D, tag_names.TAG) is None
    two = tag + el(tag_names.TAG, simple_tag(b"TITLE", b"Quince"))
    assert cleaned(tag_names.TAGS, two, D, tag_names.TAG) == void(len(tag)) + two[len(tag) :]


@pytest.mark.parametrize(
    ("name", "value", "hide", "stays"),
    [
        (b"TITLE", b"Quince", L, True),
        (b"TITLE", b"Quince", P, False),
        (b"TITLE", PLACE, L, False),
        (b"TITLE", PLACE, T, True),
        (b"OWN", b"Quince", T, False),
        (b"", b"Quince", T, False),
        (b"SORT_WITH", b"Smith, John", P, False),
        (b"SORT_WITH", b"Smith, John", L, True),
        (b"LANGUAGE", b"John Smith", P, False),
        (b"LANGUAGE", b"pt-br", UNKNOWN & ~Tells.OTHER, True),
        (b"ROTATE", b"John Smith", P, False),
        (b"ROTATE", b"-90", UNKNOWN & ~Tells.OTHER, True),
        (b"SOURCE_ID", b"John Smith", P, False),
        (b"SOURCE_ID-eng", b"0100E0", P, True),
        (b"DURATION", b"John Smith", P, False),
        (b"DURATION", b"00:00:00.400000000\0\0", P, True),
        (b"REPLAYGAIN_TRACK_GAIN", b"-7.03 dB", P, True),
        (b"TRACK", b"A1", P, True),
        (b"TRACK", b"3/12", P, True),
        (b"_STATISTICS_TAGS", b"BPS DURATION NUMBER_OF_FRAMES NUMBER_OF_BYTES", P, True),
        (b"_STATISTICS_TAGS", b"John Smith", P, False),
    ],
)
def test_tags(name, value, hide, stays):
    tag = el(tag_names.TAG, simple_tag(name, value))
    assert (cleaned(tag_names.TAGS, tag, hide) == tag) is stays


def attached(mime: bytes, content: bytes, name: bytes = b"a.ttf") -> bytes:
    return (
        el(tag_names.FILE_NAME, name)
        + el(tag_names.FILE_MIME_TYPE, mime)
        + el(tag_names.FILE_DATA, content)
        + number(tag_names.FILE_UID, 1)
    )


@pytest.mark.parametrize(
    ("mime", "content", "stays"),
    [
        (b"font/ttf", mk.font(b"a table"), True),
        (b"application/x-truetype-font", mk.font(b"a table"), True),
        (b"application/x-note", mk.font(b"a table"), False),
        (b"font/ttf", b"true north at 47.8 by Rosa", False),
        (b"font/ttf", b"text", False),
        (b"image/png", b"a picture", True),
        (b"text/plain", mk.font(b"a table"), False),
        (b"", b"a picture", False),
    ],
)
def test_attached_files(mime, content, stays):
    data = attached(mime, content)
    assert cleaned(ATTACHED, data) == (data if stays else None)


def test_a_picture_that_is_not_understood_goes():
    assert Tree(Blind()).clean(ATTACHED, attached(b"image/png", b"a picture")) is None


def test_the_name_of_an_attached_file_becomes_blanks():
    font = mk.font(b"a table")
    data = attached(b"font/ttf", font, b"Rosa.ttf")
    assert cleaned(ATTACHED, data, P) == attached(b"font/ttf", font, b" " * 8)


def test_entries_to_what_is_gone_go():
    entries = [
        el(tag_names.SEEK, el(tag_names.SEEK_ID, b"abcd"), number(tag_names.SEEK_POSITION, at))
        for at in (7, 9, 899, 900)
    ]
    tree = Tree(Plain(), known_at={107, 1000}, segment_start=100, file_end=1000)
    found = tree.clean(tag_names.SEEK_HEAD, b"".join(entries))
    assert found is not None
    gone = void(len(entries[1])) + void(len(entries[2]))
    assert found.data == entries[0] + gone + entries[3]


def test_the_second_position_of_an_entry_goes():
    """Some players use the last."""
    first, second = number(tag_names.SEEK_POSITION, 7), number(tag_names.SEEK_POSITION, 9)
    tree = Tree(Plain(), known_at={107}, segment_start=100, file_end=1000)
    found = tree.clean(tag_names.SEEK_HEAD, el(tag_names.SEEK, first, second))
    assert found is not None
    assert found.data == el(tag_names.SEEK, first, void(len(second)))


@pytest.mark.parametrize("text", [b"", el(0xEC, b"quince")])
def test_an_index_leads_to_clusters_only(text):
    """text: an element with which the index is not in the usual form."""

    def point(*positions: int) -> bytes:
        each = (el(0xB7, number(0xF7, 1), number(0xF1, at)) for at in positions)
        return el(0xBB, number(0xB3, 40), *each)

    tree = Tree(Plain(), clusters_at={107, 140}, segment_start=100, file_end=1000)
    for good in (point(7) + point(40), point(7, 40), point(7) + point(900)):
        found = tree.clean(tag_names.CUES, good)
        assert found is not None
        assert found.data == good
    for bad in (point(7) + point(41), point(899) + point(7), point(7) + point(0)):
        found = tree.clean(tag_names.CUES, bad + text, 0xBB)
        assert found is not None
        assert found.data.count(b"\xf1") == 1
        assert point(7) in found.data
    assert tree.clean(tag_names.CUES, point(41) + text, 0xBB) is None
    assert tree.clean(tag_names.CUES, point(7) * 9_000 + point(41), 0xBB) is None


def test_depth_is_bounded():
    data = el(0x91, b"\1")
    for _ in range(20):
        data = el(CHAPTER, data)
    out = cleaned(CHAPTER, data)
    assert out is not None
    assert out != data
    shallow = el(CHAPTER, el(CHAPTER, el(0x91, b"\1")))
    assert cleaned(CHAPTER, shallow) == shallow


def test_notes_have_the_offsets_of_the_data():
    found = Tree(Plain(P)).clean(TRACK, BASE + el(0x536E, b"Rosa"))
    assert found is not None
    assert [(note.offset, note.tag, note.tells) for note in found.notes] == [(len(BASE), "Name", P)]


@pytest.mark.parametrize("word", ["location", "time", "people", "device"])
def test_a_text_with_a_date_and_a_time_of_day_goes_under_time(word: str) -> None:
    said = b"shot 2019:03:04 05:06:07"
    data = mk.film(
        mk.cluster(mk.block(1, b"frame")),
        el(mk.TAGS, el(tag_names.TAG, el(0x63C0), simple_tag(b"GENRE", said))),
        head=mk.info(el(0x7BA9, said)),
    )
    assert data.count(said) == 2
    assert (said in redacted("video/x-matroska", data, word)) is (word not in ("time", "people"))


@pytest.mark.parametrize(("hide", "stays"), [(L, False), (T, False), (D, True)])
def test_texts_are_searched_as_far_as_the_budget_allows(hide: Tells, stays: bool) -> None:
    texts = [b"%d quince " % number * 13_000 for number in range(5)]
    data = b"".join(el(tag_names.TAG, el(0x63C0), simple_tag(b"GENRE", text)) for text in texts)
    found = Tree(Plain(hide)).clean(tag_names.TAGS, data)
    assert found is not None
    assert [text in found.data for text in texts] == [True] * 3 + [stays] * 2


KIND = "video/x-matroska"
CUES, POINT, TIME, POSITIONS = 0x1C53BB6B, 0xBB, 0xB3, 0xB7
TRACK_NUMBER, CLUSTER = number(0xF7, 1), number(0xF1, 70_000)
LONG = b"\x01" + bytes(6)


def point(*positions: bytes, size: bytes | None = None) -> bytes:
    return el(POINT, number(TIME, 40), *positions, size=size)


PLAIN = el(POSITIONS, TRACK_NUMBER, CLUSTER)
MORE = el(POSITIONS, TRACK_NUMBER, CLUSTER, number(0xF0, 300), number(0xB2, 5), el(0x5378, b"\1"))


@pytest.mark.parametrize(
    ("data", "plain"),
    [
        (point(PLAIN), True),
        (point(PLAIN, MORE) * 9, True),
        (el(0xBF, b"crc4") + point(PLAIN), True),
        (point(PLAIN, size=LONG + bytes([len(number(TIME, 40) + PLAIN)])), True),
        (b"", False),
        (point(PLAIN) + b"\0", False),
        (point(PLAIN) + el(0xEC, b"in a village"), False),
        (point(PLAIN) + b"a quince", False),
        (point(el(POSITIONS, TRACK_NUMBER, el(0xF1, b"nine bytes"))), False),
        (point(el(POSITIONS, TRACK_NUMBER, el(0x4444, b"ab"))), False),
        (point(), False),
        (point(PLAIN, size=b"\x83"), False),
        (point(PLAIN, size=b"\xfe"), False),
        (point(el(POSITIONS, TRACK_NUMBER, CLUSTER, size=b"\x83")), False),
        (point(el(POSITIONS, TRACK_NUMBER, CLUSTER, size=b"\xfe")), False),
        (el(POINT, PLAIN), False),
    ],
)
def test_an_index_by_its_form(data: bytes, plain: bool) -> None:
    assert (elements.cluster_positions(data) is not None) is plain


def test_too_many_entries(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(elements, "MAX_POINTS", 9)
    assert elements.cluster_positions(point(PLAIN) * 9) is not None
    assert elements.cluster_positions(point(PLAIN) * 10) is None


def test_positions_of_clusters() -> None:
    other = el(POSITIONS, number(0xF1, 9), TRACK_NUMBER, el(0xF1, b"\0\0\xf1"), number(0xF0, 0xF181F1))
    found = elements.cluster_positions(point(PLAIN) + point(MORE, other) * 2)
    assert found == {(70_000).to_bytes(3), b"\x09", b"\0\0\xf1"}


def test_a_film_with_a_key_frame_for_each_picture_is_served() -> None:
    start = film(cluster())
    at = start.index(ident_bytes(0x1F43B675)) - start.index(ident_bytes(0x1549A966))
    data = film(cluster(), el(CUES, point(el(POSITIONS, TRACK_NUMBER, number(0xF1, at))) * 36_000))
    assert locate(KIND, frozenset({"location"}), MemorySource(data)).outcome is Outcome.CLEAN


def test_an_index_with_a_text_loses_the_text() -> None:
    text = b"47.8045 N, 13.0423 E"
    out = redacted(KIND, film(el(CUES, point(PLAIN), el(0x4444, text), point(PLAIN))), "location")
    assert text not in out
    assert out.count(point(PLAIN)) == 2
