"""Clusters: blocks of pictures stay unread, those of subtitles are read, all others become zeros."""

from __future__ import annotations

import pytest

from policyfs.redact.core.categories import UNKNOWN, Tells
from policyfs.redact.core.cleaners import Note, TooMuchError
from policyfs.redact.core.patches import MemorySource, apply, in_order
from policyfs.redact.matroska.clusters import MAX_BLOCKS, MAX_MEDIA_BLOCKS, MAX_TEXTS, Clusters, next_level_1
from policyfs.redact.matroska.tracks import Role, Track
from tests.support.samples import matroskas as mk
from tests.support.samples.inners import PLACES, Plain

PICTURE, TEXT, PACKED_TEXT, METADATA, PACKED = 1, 2, 3, 4, 5
TRACKS = {
    PICTURE: Track(Role.MEDIA),
    TEXT: Track(Role.TEXT),
    PACKED_TEXT: Track(Role.TEXT, packed=True),
    METADATA: Track(Role.OTHER),
    PACKED: Track(Role.OTHER, packed=True),
}
ADDITIONS, MORE, ADD_ID, ADDITIONAL = 0x75A1, 0xA6, 0xEE, 0xA5
FRAME = mk.block(PICTURE, b"picture data")
WORDS = b"a quince, said she"


def walked(data: bytes, inner: Plain = PLACES, *, sized: bool = True) -> tuple[bytes, list[Note], int]:
    run = Clusters(MemorySource(data), inner, TRACKS)
    end = run.walk(0, len(data), sized)
    run.finish()
    return apply(data, in_order(run.edits.found.patches, len(data))), run.edits.found.notes, end


def void(element: bytes) -> bytes:
    """A void element as long as another."""
    return mk.el(0xEC, bytes(len(element) - 2))


def test_pictures_stay_and_are_counted() -> None:
    data = mk.number(0xE7, 5) + FRAME * 3 + mk.group(PICTURE, b"picture data", mk.number(0x9B, 7))
    run = Clusters(MemorySource(data), PLACES, TRACKS)
    assert run.walk(0, len(data), sized=True) == len(data)
    run.finish()
    assert (run.edits.found.patches, run.edits.found.notes) == ([], [])
    assert run.blocks == 7


@pytest.mark.parametrize(
    ("tracks", "most"), [(TRACKS, MAX_BLOCKS), ({PICTURE: Track(Role.MEDIA)}, MAX_MEDIA_BLOCKS)]
)
def test_clusters_are_walked_up_to_some_number_of_blocks(tracks: dict[int, Track], most: int) -> None:
    run = Clusters(MemorySource(FRAME), PLACES, tracks, blocks=most)
    assert run.walk(0, len(FRAME), sized=True) == len(FRAME)
    with pytest.raises(TooMuchError):
        run.walk(0, len(FRAME), sized=True)


def test_all_blocks_of_pictures_are_walked() -> None:
    data = FRAME + mk.el(0xEC, mk.PLACE) + mk.block(9, mk.PLACE)
    run = Clusters(MemorySource(data), PLACES, {PICTURE: Track(Role.MEDIA)}, blocks=MAX_BLOCKS + 1)
    run.walk(0, len(data), sized=True)
    assert mk.PLACE not in apply(data, run.edits.found.patches)


@pytest.mark.parametrize("track", [METADATA, PACKED, 9])
def test_blocks_of_other_tracks_tell_nothing_any_more(track: int) -> None:
    data = FRAME + mk.block(track, mk.PLACE) + mk.group(track, mk.PLACE) + FRAME
    out, notes, _ = walked(data)
    assert mk.PLACE not in out
    assert out[: len(FRAME)] == out[-len(FRAME) :] == FRAME
    assert out[len(FRAME) : len(FRAME) + 6] == data[len(FRAME) : len(FRAME) + 6], "their headers stay"
    assert [note.tag for note in notes] == [f"blocks of track {track}"], "one note for all of them"
    assert walked(out)[0] == out


def test_laced_blocks_of_other_tracks_go_whole() -> None:
    laced = mk.block(METADATA, mk.PLACE, flags=0x82)
    assert walked(laced)[0] == void(laced)
    assert walked(mk.block(PICTURE, b"picture data", flags=0x82))[1] == []
    short = mk.el(0xA3, b"\x84\0")
    assert walked(short)[0] == void(short)


@pytest.mark.parametrize(
    ("text", "hide", "tells"),
    [
        (WORDS, Tells.LOCATION, Tells(0)),
        (WORDS, Tells.PEOPLE, Tells.PEOPLE),
        (b"at " + mk.PLACE, Tells.LOCATION, Tells.LOCATION),
        (b"at " + mk.PLACE, Tells.TIME, Tells(0)),
        (b"on 2024-05-17", Tells.TIME, Tells.TIME),
        (b"on 17.05.2024", Tells.TIME | Tells.LOCATION, Tells.TIME),
        (b"on 20240517, late", Tells.TIME, Tells.TIME),
        (b"on May 17, 2024", Tells.TIME, Tells.TIME),
        (b"in the year 2024", Tells.TIME, Tells(0)),
        (WORDS, Tells.DEVICE, Tells(0)),
        (b"x" * ((1 << 16) + 1), Tells.LOCATION, Tells.LOCATION),
        (b"x" * ((1 << 16) + 1), Tells.TIME, Tells.TIME),
    ],
)
def test_one_subtitle_decides_for_all_of_its_track(text: bytes, hide: Tells, tells: Tells) -> None:
    data = mk.block(TEXT, WORDS) + mk.block(TEXT, text)
    out, notes, _ = walked(data, Plain(hide))
    assert [note.tells for note in notes] == [tells] * bool(tells)
    assert out == (data.replace(WORDS, b" " * len(WORDS)).replace(text, b" " * len(text)) if tells else data)


def test_packed_subtitles_go_because_nobody_reads_them() -> None:
    data = mk.block(PACKED_TEXT, WORDS)
    out, _, _ = walked(data)
    assert WORDS not in out
    assert walked(data, Plain(Tells(0)))[0] == data


def test_text_beyond_the_budget_counts_as_a_place_if_it_might_hold_one() -> None:
    for words, goes in ((b"a quince", False), (b"a quince 7", True)):
        inner = Plain()
        inner._budget.texts = 3
        assert (b"quince" not in walked(mk.block(TEXT, words), inner)[0]) is goes


@pytest.mark.parametrize(
    ("line", "left"),
    [
        (b"1,0,Default,,0,0,0,,at " + mk.PLACE, b"1,0,       ,,0,0,0,," + b" " * 21),
        (b" ,0,Default,,0,0,0,,at " + mk.PLACE, b" ,0,       ,,0,0,0,," + b" " * 21),
        (b"7,123456,Default,,0,0,0,," + mk.PLACE, b"7,      ,       ,,0,0,0,," + b" " * 18),
        (b"at,0,Default,,0,0,0,," + mk.PLACE, b" " * 39),
        (b"1,2 at " + mk.PLACE, b" " * 25),
    ],
)
def test_commas_and_the_number_of_a_line_stay(line: bytes, left: bytes) -> None:
    assert walked(mk.block(TEXT, line))[0] == mk.block(TEXT, left)


def test_additions_of_subtitles_go_with_them() -> None:
    more = mk.el(ADDITIONS, b"anything")
    data = mk.group(TEXT, b"at " + mk.PLACE, more)
    assert walked(data)[0] == mk.group(TEXT, b" " * 21, void(more))
    kept = mk.group(TEXT, WORDS, more)
    assert walked(kept)[0] == kept


@pytest.mark.parametrize(
    ("inside", "stays"),
    [
        (mk.el(MORE, mk.number(ADD_ID, 1), mk.el(ADDITIONAL, b"alpha")), True),
        (mk.el(MORE, mk.number(ADD_ID, 4), mk.el(ADDITIONAL, b"\xb5\0\x3c\0\1\4brightness")), True),
        (mk.el(MORE, mk.number(ADD_ID, 4), mk.el(ADDITIONAL, b"\xb5\0\x99" + mk.PLACE)), False),
        (mk.el(MORE, mk.number(ADD_ID, 4)), False),
        (mk.el(MORE, mk.el(ADDITIONAL, b"alpha")), True),
        (mk.el(MORE, mk.number(ADD_ID, 2), mk.el(ADDITIONAL, mk.PLACE)), False),
        (mk.el(MORE, mk.number(ADD_ID, 1)) + mk.PLACE, False),
        (mk.el(0xBF, mk.PLACE), False),
        (b"", False),
    ],
)
def test_additions_of_pictures_stay_if_they_are_of_the_picture(inside: bytes, stays: bool) -> None:
    more = mk.el(ADDITIONS, inside)
    data = mk.group(PICTURE, b"picture data", more)
    assert walked(data)[0] == (data if stays else mk.group(PICTURE, b"picture data", void(more)))


def test_unknown_elements_and_long_numbers_become_void() -> None:
    for odd in (mk.el(0xE7, b"long: " + mk.PLACE), mk.el(0x58D7, mk.PLACE)):
        out, notes, _ = walked(FRAME + odd + FRAME)
        assert out == FRAME + void(odd) + FRAME
        assert notes[0].tells == UNKNOWN
    filled = mk.el(0xEC, mk.PLACE)
    assert walked(filled)[0] == void(filled)


def test_a_checksum_goes_if_its_cluster_changes() -> None:
    check = mk.el(0xBF, b"abcd")
    assert walked(check + FRAME)[0] == check + FRAME
    assert walked(check + mk.block(METADATA, mk.PLACE))[0][:6] == void(check)
    late = FRAME + check
    assert walked(late)[0] == FRAME + void(check), "no checksum in this place"


def test_a_cluster_of_unknown_size_ends_where_another_element_begins() -> None:
    data = FRAME + mk.el(mk.TAGS, mk.PLACE)
    assert walked(data, sized=False)[2] == len(FRAME)
    out, _, end = walked(data)
    assert end == len(data)
    assert mk.PLACE not in out


def test_what_is_broken_becomes_void_but_for_the_last_picture() -> None:
    cut = mk.block(PICTURE, b"picture data" * 9)[:-50]
    assert walked(FRAME + cut)[0] == FRAME + cut
    other = mk.block(METADATA, mk.PLACE * 9)[:-50]
    out, notes, _ = walked(FRAME + other)
    assert out == FRAME + void(other)
    assert notes[0].broken
    junk = b"\x01junk that is no element"
    assert walked(FRAME + junk)[0] == FRAME + void(junk)
    assert walked(FRAME + bytes(40) + FRAME)[0] == FRAME + bytes(40) + FRAME


def test_junk_in_a_cluster_of_unknown_size_ends_at_the_next_element_of_the_file() -> None:
    junk = b"\x01junk"
    following = mk.cluster(FRAME)
    out, _, end = walked(FRAME + junk + following, sized=False)
    assert end == len(FRAME + junk)
    assert out == FRAME + void(junk) + following


def test_a_picture_that_lies_stays_only_before_what_never_goes() -> None:
    """Its end is the next element of the file: without that it would end elsewhere, over another film."""
    lying = mk.block(PICTURE, b"picture data", size=b"\x2f\xff\xff")
    for following in (mk.cluster(FRAME), b""):
        assert walked(FRAME + lying + following, sized=False)[0] == FRAME + lying + following
    for following in (mk.tags(), mk.info(), mk.el(mk.TRACKS, mk.VIDEO)):
        out, notes, end = walked(FRAME + lying + following, sized=False)
        assert out == FRAME + void(lying) + following
        assert end == len(FRAME + lying)
        assert [note.broken for note in notes] == [True]


def test_a_block_of_unknown_size_hides_no_other_block() -> None:
    """Some readers skip its header: they would find the other block, whose messages were not looked at."""
    inside = mk.group(PICTURE, b"picture data " + mk.PLACE)
    unknown = mk.block(PICTURE, b"picture data", size=b"\xff") + inside
    assert mk.PLACE not in walked(FRAME + unknown)[0]
    assert mk.PLACE not in walked(FRAME + unknown + mk.cluster(FRAME), sized=False)[0]
    block = mk.el(0xA1, b"\x81\0\0\0picture data", mk.PLACE, size=mk.UNKNOWN_SIZE)
    assert mk.PLACE not in walked(mk.el(0xA0, block, mk.el(ADDITIONS, mk.PLACE)))[0]


def test_the_next_element_is_a_whole_one() -> None:
    budget = Plain().budget
    data = b"junk" * 2000 + mk.cluster(FRAME)
    assert next_level_1(MemorySource(data), 0, len(data), budget) == 8000
    assert next_level_1(MemorySource(data), 0, len(data) - 1, budget) == len(data) - 1
    assert next_level_1(MemorySource(data), 8001, len(data), budget) == len(data)
    with pytest.raises(TooMuchError):
        spent = Plain()
        spent._budget.searched = 100
        next_level_1(MemorySource(data), 0, len(data), spent.budget)


def test_a_group_that_is_cut_off_keeps_its_picture_only() -> None:
    inside = mk.el(0xA1, bytes((0x80 | PICTURE, 0, 0, 0)), b"picture data")
    data = mk.el(0xA0, inside[:-5])
    assert walked(data)[0] == data
    broken = mk.el(0xA0, inside, b"\x01" + mk.PLACE)
    out, notes, _ = walked(broken)
    assert mk.PLACE not in out
    assert b"picture data" in out
    assert [note.broken for note in notes] == [True]


def test_too_many_subtitles_are_refused() -> None:
    run = Clusters(MemorySource(mk.block(TEXT, WORDS) * 2), PLACES, TRACKS)
    run._texts[TEXT] = [None] * (MAX_TEXTS - 1)  # type: ignore[list-item]
    with pytest.raises(TooMuchError):
        run.walk(0, run.source.size, sized=True)
