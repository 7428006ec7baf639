"""The walk over chunks, and forgotten padding bytes."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from policyfs.redact.core.categories import UNKNOWN, Tells
from policyfs.redact.core.cleaners import Budget, TooMuchError
from policyfs.redact.core.edits import Edits
from policyfs.redact.core.patches import MemorySource, Window, apply
from policyfs.redact.plan import Outcome, locate
from policyfs.redact.riff import chunks as module
from policyfs.redact.riff.chunks import Chunk, Doubts, chunks, drop, pad, padding_at, printable
from tests.support.samples import sounds
from tests.support.samples.inners import Plain
from tests.support.samples.sound_checks import redact
from tests.support.samples.sounds import AVI, CITY, WAV, chunk

NAMES = st.sampled_from([b"data", b"LIST", b"abcd", b"_PMX", b"(c) ", b"\xa9nam"])


def walked(data: bytes, start: int = 0, end: int | None = None) -> list[Chunk]:
    return list(chunks(MemorySource(data), None, start, len(data) if end is None else end))


@given(st.lists(st.tuples(NAMES, st.binary(max_size=9)), max_size=5))
def test_chunks_are_found_again(parts):
    data = b"".join(chunk(name, body) for name, body in parts)
    found = walked(data)
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
    drop(edits, walked(data)[0], broken=True)
    assert [(note.tag, note.length, note.broken, note.tells) for note in edits.found.notes] == [
        ("abcd", 8, True, UNKNOWN)
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


NO_PADDING = b"JUNK\1\0\0\0x"
INFO = sounds.info(IARL=CITY)


def kept(name: bytes, inside: bytes) -> bytes:
    """A chunk with another chunk inside, where a reader arrives that starts one byte too late."""
    return chunk(name, (bytes(17) + inside).ljust(0x1000, b"\0"))


def webp(*parts: bytes) -> bytes:
    body = b"WEBP" + chunk(b"VP8 ", bytes(20)) + b"".join(parts)
    return b"RIFF" + len(body).to_bytes(4, "little") + body


STREAM = b"strl" + chunk(b"strh", b"vids" + bytes(52))
ONE_TOO_LATE = {
    "WAV": (WAV, sounds.wav(NO_PADDING + kept(b"data", b"LIST" + INFO[4:]))),
    "AVI": (AVI, sounds.avi(NO_PADDING + kept(b"idx1", INFO))),
    "AVI, in the pictures": (AVI, sounds.avi(movie=NO_PADDING + kept(b"00dc", INFO))),
    "AVI, in a header": (AVI, sounds.avi(more=chunk(b"LIST", STREAM + NO_PADDING + kept(b"strf", INFO)))),
    "AVI, behind a header that is longer than its list": (
        AVI,
        sounds.avi(
            b"idx1" + (0x1000).to_bytes(4, "little") + (bytes(64) + INFO).ljust(0x1000, b"\0")
        ).replace(b"\x28\0\0\0" + bytes(40), b"\x70\0\0\0" + bytes(40), 1),
    ),
    "WebP": ("image/webp", webp(NO_PADDING + kept(b"ALPH", b"LIST" + INFO[4:]))),
}


@pytest.mark.parametrize("case", ONE_TOO_LATE)
def test_a_chunk_that_is_found_only_by_readers_that_skip_a_byte_is_refused(case):
    """Most readers always skip a byte, also a forgotten one. They find the place in data that stays."""
    kind, data = ONE_TOO_LATE[case]
    assert CITY in data
    plan = locate(kind, frozenset({"location"}), MemorySource(data))
    assert (plan.outcome, plan.reason.partition(", but ")[2]) == (
        Outcome.REFUSE,
        "readers disagree about the start of its chunks",
    )


def test_readers_may_go_on_elsewhere_behind_a_list():
    """Behind what its last chunk states, or within the bytes that it lacks."""
    behind = bytes(40)
    for inside, place in ((b"abcd\x09\0\0\0" + bytes(4), 18), (chunk(b"abcd", bytes(4)) + bytes(3), 12)):
        doubts = Doubts()
        source = MemorySource(inside + behind)
        assert len(list(chunks(source, None, 0, len(inside), doubts=doubts))) == 1
        assert [at for at, _ in doubts.places] == [place]
        last = Doubts()
        list(chunks(MemorySource(inside), None, 0, len(inside), doubts=last))
        assert [at for at, _ in last.places if at + 8 <= len(inside)] == []


@pytest.mark.parametrize("size", range(1, 40, 2))
def test_a_file_with_a_forgotten_padding_byte_is_served(size):
    """Also if zeros follow, through which such a reader may arrive at a true chunk again."""
    loud = bytes(range(128, 256)) * 20
    for behind in (INFO, chunk(b"iXML", CITY.ljust(280)), chunk(b"fact", bytes(12))):
        out = redact(WAV, sounds.wav(chunk(b"iXML", b"x" * size, padding=b"") + behind, data=loud))
        assert CITY not in out
        assert loud in out


def test_frames_without_padding_bytes_are_served():
    """Four bytes of a picture may be a name. Nobody looks for a chunk with such a name."""
    frame = chunk(b"00dc", (b"\0" + bytes(range(65, 120)) * 20)[:1025], padding=b"")
    assert redact(AVI, sounds.avi(movie=frame * 30)).count(frame) == 30


def test_a_walk_past_forgotten_padding_bytes_is_bounded(monkeypatch):
    monkeypatch.setattr(module, "_MAX_HEADERS", 10)
    doubts = Doubts(places=[(1, module.LIKELY_NAME)])
    edits = edits_of(b"x" + b"\1\2\3\4\0\0\0\0" * 9)
    doubts.check(edits)
    doubts.places *= 2
    with pytest.raises(TooMuchError):
        doubts.check(edits)
