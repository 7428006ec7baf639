"""The walk over chunks, and forgotten padding bytes."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from policyfs.redact.core.categories import UNKNOWN, Tells
from policyfs.redact.core.cleaners import Budget, TooMuchError
from policyfs.redact.core.edits import Edits
from policyfs.redact.core.patches import MemorySource, apply
from policyfs.redact.riff.chunks import Chunk, Window, chunks, drop, pad, padding_at, printable
from tests.support.samples.inners import Plain
from tests.support.samples.sounds import chunk

NAMES = st.sampled_from([b"data", b"LIST", b"abcd", b"_PMX", b"(c) ", b"\xa9nam"])


def walked(data: bytes, order: str = "little", start: int = 0, end: int | None = None) -> list[Chunk]:
    return list(chunks(MemorySource(data), None, start, len(data) if end is None else end, order))


@given(st.lists(st.tuples(NAMES, st.binary(max_size=9)), max_size=5), st.sampled_from(["little", "big"]))
def test_chunks_are_found_again(parts, order):
    data = b"".join(chunk(name, body, order) for name, body in parts)
    found = walked(data, order)
    assert [(one.name, data[one.start : one.end]) for one in found] == parts
    assert all(one.whole for one in found)
    assert [one.next for one in found] == [*[one.at for one in found[1:]], len(data)][: len(found)]


@pytest.mark.parametrize("cut", range(1, 7))
def test_the_last_chunk_may_be_cut_off(cut):
    data = chunk(b"abcd", b"123456")[:-cut]
    (one,) = walked(data)
    assert (one.size, one.whole, one.next) == (6 - cut, False, len(data))


@pytest.mark.parametrize("size", range(8))
def test_a_head_that_is_cut_is_none(size):
    assert walked(b"abcd\0\0\0\0"[:size]) == []


def test_a_walk_ends_at_what_is_no_name_and_at_its_end():
    data = chunk(b"abcd", b"12") + b"\0\0\0\0\0\0\0\0" + chunk(b"efgh", b"")
    assert [one.name for one in walked(data)] == [b"abcd"]
    both = chunk(b"abcd", b"12") + chunk(b"efgh", b"34")
    assert [one.name for one in walked(both, start=10)] == [b"efgh"]
    assert [(one.name, one.size) for one in walked(both, end=19)] == [(b"abcd", 2), (b"efgh", 1)]
    assert [one.name for one in walked(both, end=17)] == [b"abcd"]
    assert len(walked(both, end=99)) == 2


def test_without_padding_the_next_chunk_begins_at_the_end_of_the_data():
    data = chunk(b"abcd", b"1")[:-1] + chunk(b"efgh", bytes(32))  # "fgh" and the length could be a name, too
    assert [one.name for one in walked(data)] != [b"abcd", b"efgh"]
    found = list(chunks(MemorySource(data), None, 0, len(data), padded=False))
    assert [(one.name, one.size, one.next) for one in found] == [(b"abcd", 1, 9), (b"efgh", 32, 49)]


def test_chunks_are_paid_for():
    class Poor(Plain):
        @property
        def budget(self) -> Budget:
            return self._own

        _own = Budget(2, 0)

    data = chunk(b"abcd", b"") * 3
    with pytest.raises(TooMuchError):
        list(chunks(MemorySource(data), Poor(), 0, len(data)))


@pytest.mark.parametrize(
    ("behind", "padding"),
    [
        (b"\0next", 1),
        (b"next", 0),
        (b"xnext", 1),
        (b"JUNKabcd", 0),
        (b"LISTabcd", 0),
        (b"nextabcd", 1),
        (b"\0", 1),
        (b"x", 1),
        (b"", 1),
        (b"\0\0\0\0\0", 1),
    ],
)
def test_a_forgotten_padding_byte(behind, padding):
    data = b"odd" + behind
    assert padding_at(Window(MemorySource(data)), 3, len(data)) == padding


def test_only_bytes_before_the_end_are_names():
    assert padding_at(Window(MemorySource(b"oddnext")), 3, 7) == 0
    assert padding_at(Window(MemorySource(b"oddnext")), 3, 6) == 1


@pytest.mark.parametrize("at", [0, 1, 4090, 4096, 4097, 9000])
def test_a_window_reads_what_the_source_has(at):
    data = bytes(range(256)) * 40
    window = Window(MemorySource(data))
    for size in (8, 267):
        assert window.read(at, size) == data[at : at + size]
    assert window.read(max(0, at - 5), 8) == data[max(0, at - 5) : max(0, at - 5) + 8]
    assert window.read(len(data) - 3, 8) == data[-3:]


def edits_of(data: bytes) -> Edits:
    return Edits(MemorySource(data), Plain(), "RIFF")


def test_a_dropped_chunk_is_padding_and_noted_once():
    data = chunk(b"abcd", b"Rosa?") + chunk(b"efgh", b"")
    edits = edits_of(data)
    drop(edits, walked(data)[0], Tells.PEOPLE)
    assert apply(data, edits.found.patches) == chunk(b"JUNK", bytes(5)) + chunk(b"efgh", b"")
    assert [(note.tag, note.tells) for note in edits.found.notes] == [("abcd", Tells.PEOPLE)]


def test_an_empty_chunk_is_noted_by_its_name_and_padding_not_at_all():
    data = chunk(b"abcd", bytes(4))
    edits = edits_of(data)
    drop(edits, walked(data)[0], broken=True, tag="own")
    assert [(note.tag, note.length, note.broken, note.tells) for note in edits.found.notes] == [
        ("own", 8, True, UNKNOWN)
    ]
    empty = chunk(b"JUNK", bytes(4))
    edits = edits_of(empty)
    drop(edits, walked(empty)[0])
    assert (edits.found.patches, edits.found.notes) == ([], [])


def test_a_padding_byte_becomes_zero():
    data = chunk(b"abcd", b"odd", padding=b"x")
    edits = edits_of(data)
    pad(edits, walked(data)[0])
    assert apply(data, edits.found.patches) == chunk(b"abcd", b"odd")


def test_names_for_people():
    assert printable(b"(c) ") == "(c)"
    assert printable(b"\xa9nam") == "\xa9nam"
