"""Claims on the bytes of a file: claimed bytes stay, others go, and bytes of two meanings are refused."""

from __future__ import annotations

import pytest

from policyfs.domain import Patch
from policyfs.redact.core.categories import UNKNOWN
from policyfs.redact.core.cleaners import Budget, Note, NotThisKindError, TooMuchError
from policyfs.redact.core.patches import MemorySource, apply
from policyfs.redact.isobmff.boxes import Box
from policyfs.redact.isobmff.item_data import (
    BLIND_BYTES,
    Claim,
    Gathered,
    Ground,
    Span,
    clear,
)
from tests.support.samples.movies import box

DATA = bytes(range(1, 61))
SIZE = len(DATA)
NOTE = Note(0, 0, "HEIF", "item")


def gathered(*some: tuple[int, int]) -> Gathered:
    return Gathered(MemorySource(DATA), [Span(*span) for span in some])


def test_pieces_are_read_as_one_block() -> None:
    block = gathered((10, 13), (5, 7), (10, 11))
    whole = DATA[10:13] + DATA[5:7] + DATA[10:11]
    assert (block.size, block.cut) == (6, False)
    for start in range(8):
        for size in range(8):
            assert block.read(start, size) == whole[start : start + size]
    assert [block.place(at) for at in range(7)] == [10, 11, 12, 5, 6, 10, 0]


def test_pieces_outside_of_the_file_are_cut() -> None:
    block = gathered((SIZE - 2, SIZE + 5), (SIZE + 1, SIZE + 3), (7, 7), (9, 8))
    assert block.spans == (Span(SIZE - 2, SIZE),)
    assert block.cut
    assert block.read(0, 99) == DATA[-2:]
    assert not gathered((0, SIZE)).cut


def test_patches_of_a_block_are_those_of_its_pieces() -> None:
    block = gathered((10, 13), (5, 7))
    changed = apply(DATA, list(block.patches([Patch(1, b"abc"), Patch(4, zeros=1)])))
    assert changed == DATA[:5] + b"c\0" + DATA[7:11] + b"ab" + DATA[13:]


def test_a_range_is_cleared_unread_if_it_is_long() -> None:
    source = MemorySource(bytes(10) + b"x" + bytes(10))
    assert list(clear(source, 0, 21, Budget(0, 21))) == [Patch(10, zeros=1)]
    assert list(clear(source, 5, 5, Budget(0, 0))) == []
    with pytest.raises(TooMuchError):
        list(clear(source, 0, 21, Budget(0, 20)))
    long = BLIND_BYTES + 1
    assert list(clear(source, 0, long, Budget(0, 0))) == [Patch(0, zeros=long)]


def ground(data: bytes = DATA, *areas: tuple[int, int]) -> Ground:
    made = Ground(MemorySource(data), Budget(100, 1 << 20))
    for start, end in areas or ((0, len(data)),):
        made.area(start, end)
    return made


def claim(*some: tuple[int, int], patches: tuple[Patch, ...] = (), media: bool = True, **more: bool) -> Claim:
    return Claim(tuple(Span(*span) for span in some), patches, media, (NOTE,), **more)


def settled(made: Ground, *claims: Claim) -> tuple[bytes, list[Note]]:
    made.claims += claims
    found = made.settle("HEIF")
    return apply(made.source.read(0, made.source.size), found.patches), found.notes


def test_what_nobody_claims_becomes_zeros_with_a_note() -> None:
    out, notes = settled(ground(DATA, (0, 50)), claim((10, 20)))
    assert out == bytes(10) + DATA[10:20] + bytes(30) + DATA[50:]
    unreferenced = [note for note in notes if note.tag == "unreferenced"]
    assert [(note.offset, note.length, note.tells) for note in unreferenced] == [
        (0, 10, UNKNOWN), (20, 30, UNKNOWN)
    ]  # fmt: skip


def test_patches_of_a_claim_are_made_once() -> None:
    patch = Patch(12, b"ab")
    out, notes = settled(ground(), claim((10, 20), patches=(patch,)), claim((10, 20), patches=(patch,)))
    assert out[10:20] == DATA[10:12] + b"ab" + DATA[14:20]
    assert notes.count(NOTE) == 2


def test_metadata_that_two_claim_differently_goes() -> None:
    out, notes = settled(ground(), claim((10, 20), media=False), claim((15, 25), media=False))
    assert not any(out[10:25])
    assert {note.tag for note in notes if note.broken} == {"shared bytes"}
    out, _ = settled(ground(), claim((10, 20), media=False), claim((10, 20), media=False))
    assert out[10:20] == DATA[10:20], "two items of the same data"
    out, _ = settled(ground(), claim((10, 20), (15, 18), media=False))
    assert not any(out[10:20]), "one item that has a byte twice"


def test_blank_claims_go_with_their_notes_unless_they_are_zeros_already() -> None:
    out, notes = settled(ground(), claim((10, 20), media=False, blank=True))
    assert not any(out[10:20])
    assert NOTE in notes
    zeros = DATA[:10] + bytes(10) + DATA[20:]
    _, notes = settled(ground(zeros, (10, 20)), claim((10, 20), media=False, blank=True))
    assert notes == []


@pytest.mark.parametrize(
    ("claims", "why"),
    [
        ([claim((10, 20)), claim((15, 16), media=False)], "share bytes"),
        ([claim((45, 55), media=False)], "metadata overlaps its structure"),
        ([claim((48, 52), patches=(Patch(51, b"x"),))], "pictures overlap its structure"),
        ([claim((10, 20), patches=(Patch(11, b"ab"), Patch(12, b"cd")))], "contradict each other"),
        (
            [claim((10, 20), patches=(Patch(12, b"ab"),), walked=True), claim((5, 20), walked=True)],
            "contradict each other",
        ),
    ],
)
def test_bytes_that_mean_two_things_are_refused(claims: list[Claim], why: str) -> None:
    with pytest.raises(NotThisKindError, match=why):
        settled(ground(DATA, (0, 50)), *claims)


def test_a_claim_on_structure_that_changes_is_refused() -> None:
    made = ground(DATA, (0, 50))
    made.claims.append(claim((48, 52)))
    with pytest.raises(NotThisKindError, match="structure"):
        made.settle("HEIF", [Patch(51, b"x")])
    assert settled(ground(DATA, (0, 50)), claim((48, 52)))[0][48:] == DATA[48:]
    behind = ground(DATA, (0, 40))
    behind.rest(40, 60)
    behind.claims.append(claim((47, 50)))
    with pytest.raises(NotThisKindError, match="structure"):
        behind.settle("HEIF")
    later = ground(DATA, (0, 40))
    later.rest(40, 60)
    assert settled(later, claim((48, 50)))[0][48:50] == DATA[48:50]


def test_filler_stays_only_away_from_what_goes() -> None:
    filler = DATA[:10] + b"\x11" * 20 + DATA[30:]
    out, _ = settled(ground(filler, (0, 60)), claim((0, 10)), claim((30, 60)))
    assert out == filler
    out, _ = settled(ground(filler, (0, 60)), claim((0, 10), media=False, blank=True), claim((30, 60)))
    assert out == bytes(30) + DATA[30:]


def test_a_freed_box_becomes_an_area_with_one_note() -> None:
    data = box(b"what", b"secret") + box(b"free", b"hidden")
    made = Ground(MemorySource(data), Budget(9, 1 << 10))
    made.free(Box(b"what", 0, 8, 14), "HEIF")
    made.free(Box(b"free", 14, 22, 28), "HEIF")
    out, notes = settled(made)
    assert out == box(b"free", bytes(6)) * 2
    assert [(note.offset, note.tag) for note in notes] == [(0, "box what"), (22, "unreferenced")]


def test_a_uuid_box_may_stay_one_without_its_type() -> None:
    data = box(b"uuid", b"sixteen byte id!", b"secret")
    freed = Box(b"uuid", 0, 24, 30, b"sixteen byte id!")
    for stays, kind in ((False, b"free"), (True, b"uuid")):
        made = Ground(MemorySource(data), Budget(9, 1 << 10), uuid_stays=stays)
        made.free(freed, "JPEG 2000")
        assert settled(made)[0] == box(kind, bytes(22))


def test_zeros_to_the_end_are_no_box_to_free() -> None:
    made = ground(bytes(40), (0, 20))
    made.free(Box(bytes(4), 20, 28, 40, to_end=True), "HEIF")
    assert made.areas[-1] == Span(20, 40)
    assert made.found.patches == []
