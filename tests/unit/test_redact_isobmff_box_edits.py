"""A box in memory: what goes leaves zeros and a note, and every offset is the file's."""

from __future__ import annotations

import pytest

from policyfs.domain import Patch
from policyfs.redact.core.categories import NOTHING, UNKNOWN, Tells
from policyfs.redact.core.cleaners import Budget, Cleaned, Note, TooMuchError
from policyfs.redact.core.patches import apply
from policyfs.redact.isobmff.box_edits import MAX_TEXT_BYTES, Block, TextRoom, name_of
from policyfs.redact.isobmff.boxes import Box
from tests.support.samples.inners import PLACES, Plain
from tests.support.samples.movies import box, uuid

AT = 1000
COORDINATES = b"+40.7486-073.9864/"


def block(data: bytes, **more: object) -> Block:
    return Block(data, AT, PLACES, **more)  # type: ignore[arg-type]


def after(made: Block) -> bytes:
    """The block's bytes with its patches."""
    return apply(made.data, [patch.shifted(-AT) for patch in made.found.patches])


def first(made: Block) -> Box:
    return made.boxes(0, len(made.data)).boxes[0]


@pytest.mark.parametrize(
    ("kind", "name"),
    [(b"moov", "moov"), (b"\xa9xyz", "(c)xyz"), (b"a\0\x1b\xff", "a???"), (b"~ \x7f\x80", "~ ??")],
)
def test_names_of_boxes_are_printable(kind: bytes, name: str) -> None:
    assert name_of(kind) == name


def test_children_and_bodies_by_offsets_of_the_block() -> None:
    made = block(box(b"hold", b"ab", box(b"one ", b"1"), box(b"two ", b"22")))
    outer = first(made)
    assert made.body(outer)[:2] == b"ab"
    inside = made.children(outer, 2)
    assert [(child.kind, made.body(child)) for child in inside] == [(b"one ", b"1"), (b"two ", b"22")]
    assert list(made.children(outer, 99)) == []
    assert made.number(0) == len(made.data)
    assert made.number(4, 2) == int.from_bytes(b"ho")


def test_a_list_may_have_boxes_of_any_type_and_an_end() -> None:
    made = block(box(b"\0\0\0\1", b"a") + box(b"\0\0\0\2", b"b") + bytes(4))
    assert list(made.boxes(0, len(made.data))) == [], "types that are no text end a list of boxes"
    listed = made.listed(0, len(made.data))
    assert [made.body(one) for one in listed] == [b"a", b"b"]
    assert (listed.rest, listed.ended) == (18, True)
    odd = block(box(b"\0\0\0\1", b"a") + b"\0\0\0\3")
    assert (odd.listed(0, 13).rest, odd.listed(0, 13).ended) == (9, False)


def test_boxes_cost_parts_of_the_file_or_of_their_own() -> None:
    data = box(b"one ") + box(b"two ")
    for read in (Block.boxes, Block.listed):
        assert len(read(block(data, parts=Budget(2, 0)), 0, 16).boxes) == 2
        with pytest.raises(TooMuchError):
            read(block(data, parts=Budget(1, 0)), 0, 16)


def test_bytes_are_put_where_they_differ() -> None:
    made = block(b"abcdef")
    assert not made.put(1, b"bc")
    assert made.found.patches == []
    assert made.put(1, b"bXd")
    assert made.found.patches == [Patch(AT + 2, b"X")]


def test_bytes_are_put_in_steps_without_a_gap() -> None:
    size = (1 << 20) + 5
    made = block(bytes(size))
    assert made.put(0, b"x" * size)
    assert after(made) == b"x" * size


@pytest.mark.parametrize(
    ("data", "start", "end", "zeros"),
    [
        (b"abcdef", 1, 4, (1, 3)),
        (b"a\0\0d\0\0g", 1, 6, (3, 1)),
        (b"a\0\0\0g", 1, 4, None),
        (b"abc", 1, 1, None),
        (b"x" + bytes(3 << 20) + b"y", 0, (3 << 20) + 1, (0, 1)),
        (b"x" + bytes(3 << 20) + b"y", 0, (3 << 20) + 2, (0, (3 << 20) + 2)),
    ],
)
def test_a_blank_reaches_from_the_first_byte_to_the_last(
    data: bytes, start: int, end: int, zeros: tuple[int, int] | None
) -> None:
    made = block(data)
    assert made.blank(start, end) is (zeros is not None)
    assert made.found.patches == ([] if zeros is None else [Patch(AT + zeros[0], zeros=zeros[1])])


def test_a_wipe_is_noted_and_leaves_unknown_filler() -> None:
    made = block(b"secret words")
    made.wipe(0, 6, "moov", "udta", Tells.PEOPLE)
    assert after(made) == bytes(6) + b" words"
    assert made.found.notes == [Note(AT, 6, "moov", "udta", Tells.PEOPLE)]
    filler = block(b"\x11" * 20)
    filler.wipe(0, 20, "moov", "x", UNKNOWN)
    assert filler.found.patches == []
    filler.wipe(0, 20, "moov", "x", UNKNOWN, broken=True)
    assert [note.broken for note in filler.found.notes] == [True]
    named = block(b"\x11" * 20)
    named.wipe(0, 20, "moov", "x", Tells.TIME)
    assert after(named) == bytes(20)
    zeros = block(bytes(20))
    zeros.wipe(0, 20, "moov", "x", Tells.TIME)
    assert zeros.found.notes == []


def test_a_freed_box_keeps_its_size_and_nothing_else() -> None:
    made = block(box(b"name", b"secret"))
    made.free(first(made), "moov", Tells.PEOPLE)
    assert after(made) == box(b"free", bytes(6))
    assert made.found.notes == [Note(AT, 14, "moov", "name", Tells.PEOPLE)]
    again = block(after(made))
    again.free(first(again), "moov")
    assert (again.found.patches, again.found.notes) == ([], [])


def test_the_type_of_a_freed_uuid_goes_too() -> None:
    made = block(uuid(b"sixteen byte id!", b"secret"))
    made.free(first(made), "moov")
    assert after(made) == box(b"free", bytes(22))


@pytest.mark.parametrize(
    ("data", "out"),
    [
        (box(b"one ") + b"\0\0\0\1junkjunk", box(b"one ") + b"\0\0\0\x0cfree" + bytes(4)),
        (box(b"one ") + b"junk", box(b"one ") + bytes(4)),
        (box(b"one ") + bytes(12), box(b"one ") + bytes(12)),
        (box(b"one ") + bytes(4) + b"behind the end", box(b"one ") + bytes(18)),
        (box(b"one ") + b"\0\0\0\x63two words", box(b"one ") + b"\0\0\0\x0dfree" + bytes(5)),
    ],
)
def test_bytes_behind_the_last_box_become_a_free_box_or_zeros(data: bytes, out: bytes) -> None:
    made = block(data)
    made.rest(made.boxes(0, len(data)), len(data), "moov")
    assert after(made) == out
    assert [(note.tag, note.broken) for note in made.found.notes] == [("junk", True)] * (data != out)


def test_a_cleaned_block_replaces_its_bytes_if_it_has_as_many() -> None:
    made = block(b"abcdef")
    assert not made.replace(1, 3, None, "moov", "XMP_")
    assert not made.replace(1, 3, Cleaned(b"xy"), "moov", "XMP_")
    assert made.found.patches == []
    assert made.replace(1, 3, Cleaned(b"bcd"), "moov", "XMP_")
    assert made.found.notes == []
    assert made.replace(1, 3, Cleaned(b"b d", (Note(1, 1, "XMP", "place"),)), "moov", "XMP_")
    assert made.found.notes == [Note(AT + 2, 1, "XMP", "place")]
    assert made.replace(4, 2, Cleaned(b"  "), "moov", "XMP_")
    assert made.found.notes[1:] == [Note(AT + 4, 2, "moov", "XMP_")]


def test_text_beyond_the_room_tells_all_unread() -> None:
    made = block(b"", text=TextRoom(40))
    assert made.told(COORDINATES) == Tells.LOCATION
    assert not made.told(b"x" * (40 - len(COORDINATES)))
    assert made.told(b"y"), "nobody has searched it"
    assert TextRoom().left == MAX_TEXT_BYTES
    other = Block(b"", AT, Plain(Tells.OTHER), text=TextRoom(0))
    assert not other.told(COORDINATES)
    assert (other.goes(Tells.TIME | Tells.OTHER), other.goes(Tells.LOCATION)) == (True, False)


def test_a_name_with_a_date_tells_a_time_and_is_not_read_beyond_the_room() -> None:
    made = Block(b"", AT, Plain(Tells.TIME | Tells.DEVICE), text=TextRoom(40))
    assert made.told(b"17 May 2024") == NOTHING
    assert made.told_in_name(b"17 May 2024") == Tells.TIME
    assert made.told_in_name(COORDINATES) == NOTHING
    assert made.told_in_name(b"y") == Tells.TIME | Tells.DEVICE, "nobody has searched it"
    other = Block(b"", AT, Plain(Tells.PEOPLE), text=TextRoom(0))
    assert other.told_in_name(b"17 May 2024") == NOTHING
