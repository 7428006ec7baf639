"""The movie box: headers keep their numbers, tracks are read, and no other place is named."""

from __future__ import annotations

import pytest

from policyfs.redact.core.categories import UNKNOWN, Tells
from policyfs.redact.core.cleaners import NotThisKindError
from policyfs.redact.core.patches import apply
from policyfs.redact.isobmff.box_edits import Block
from policyfs.redact.isobmff.moov import clean_movie
from policyfs.redact.isobmff.tracks import Movie
from tests.support.samples.inners import Plain
from tests.support.samples.movies import box, full, handler, u16, u32

AT = 1000
"""The place of the movie box in its file."""
SECRET = b"secret words"
NONE = bytes(len(SECRET))


def clean(*boxes: bytes, hide: Tells = Tells.LOCATION) -> tuple[Movie, bytes]:
    """The movie, and what is in its box afterwards."""
    data = box(b"moov", *boxes)
    block = Block(data, AT, Plain(hide))
    movie = clean_movie(block, block.boxes(0, len(data)).boxes[0])
    out = apply(data, [patch.shifted(-AT) for patch in block.found.patches])
    assert len(out) == len(data)
    return movie, out[8:]


def stbl(*boxes: bytes) -> bytes:
    return box(b"trak", box(b"mdia", handler(b"vide"), box(b"minf", box(b"stbl", *boxes))))


def in_stbl(made: bytes, hide: Tells = Tells.LOCATION) -> bytes:
    """What becomes of a box in a sample table."""
    out = clean(stbl(made), hide=hide)[1]
    assert out[: -len(made)] == stbl(made)[: -len(made)]
    return out[-len(made) :]


def free(made: bytes) -> bytes:
    return box(b"free", bytes(len(made) - 8))


def header(kind: bytes, size: int, version: int = 0, fill: bytes = b"\7", behind: bytes = b"") -> bytes:
    return full(kind, fill * (size - 4), behind, version=version)


@pytest.mark.parametrize(("kind", "size", "longer"), [(b"mvhd", 100, 112), (b"tkhd", 84, 96)])
@pytest.mark.parametrize("version", [0, 1])
def test_times_go_with_the_word_and_bytes_behind_a_header_always(
    kind: bytes, size: int, longer: int, version: int
) -> None:
    length, times = (longer, 16) if version else (size, 8)
    made = header(kind, length, version, b"\1", SECRET)
    whole = made if kind == b"mvhd" else box(b"trak", made)
    kept = clean(whole)[1][-len(made) :]
    assert kept[-len(SECRET) :] == NONE
    assert kept[12 : 12 + times] == b"\1" * times
    gone = clean(whole, hide=Tells.TIME)[1][-len(made) :]
    assert gone[12 : 12 + times] == bytes(times)
    assert gone[12 + times : 12 + times + 4] == b"\1" * 4


@pytest.mark.parametrize(("kind", "size"), [(b"mvhd", 112), (b"tkhd", 96), (b"mdhd", 36)])
@pytest.mark.parametrize("version", [2, 255])
def test_a_header_of_an_unknown_version_goes(kind: bytes, size: int, version: int) -> None:
    """exiftool reads version 2 like version 1, ffmpeg like version 0."""
    made = header(kind, size, version, b"\1")
    outer = {b"mvhd": made, b"tkhd": box(b"trak", made), b"mdhd": box(b"trak", box(b"mdia", made))}[kind]
    for hide in (Tells.TIME, Tells.LOCATION):
        assert clean(outer, hide=hide)[1] == outer.replace(made, free(made))


def test_reserved_bytes_of_a_header_go_unless_they_are_filler() -> None:
    body = bytearray(b"\1" * 96)
    body[26 - 4 : 36 - 4] = b"hidden it!"
    out = clean(full(b"mvhd", bytes(body)))[1]
    assert b"hidden" not in out
    assert clean(header(b"mvhd", 100))[1] == header(b"mvhd", 100)
    short = header(b"mvhd", 99)
    assert clean(short)[1] == free(short)


def test_a_track_is_known_by_its_number_and_handler() -> None:
    tkhd = full(b"tkhd", u32(1, 2, 77), bytes(68))
    long = full(b"tkhd", u32(0, 1, 0, 2, 78), bytes(72), version=1)
    movie, _ = clean(*(box(b"trak", made, box(b"mdia", handler(b"meta"))) for made in (tkhd, long)))
    assert [(track.number, track.handler) for track in movie.tracks] == [(77, b"meta"), (78, b"meta")]
    assert [track.box.start for track in movie.tracks] == [8, 8 + 16 + len(tkhd) + len(handler(b"meta"))]


def test_a_track_without_a_handler_is_what_its_media_header_says() -> None:
    """FFmpeg shows such pictures and sound by the format of their samples."""
    headers = (full(b"vmhd", bytes(8)), full(b"smhd", bytes(4)), full(b"nmhd"), b"")
    movie, _ = clean(*(box(b"trak", box(b"mdia", box(b"minf", made))) for made in headers))
    assert [track.handler for track in movie.tracks] == [b"vide", b"soun", b"", b""]


@pytest.mark.parametrize("kind", [b"vmhd", b"smhd"])
def test_a_media_header_is_refused_and_not_removed(kind: bytes) -> None:
    """Without it, a second look would find another kind of track."""
    with pytest.raises(NotThisKindError):
        clean(box(b"trak", box(b"mdia", box(b"minf", full(kind, b"Exif\0\0\0\0")))))


def test_a_cut_handler_is_none_at_the_first_look_and_at_the_next() -> None:
    """It is removed: a second look would find another kind of track, and other samples."""
    cut = u32(99) + handler(b"meta")[4:]
    movie, out = clean(box(b"trak", box(b"mdia", box(b"minf", full(b"vmhd", bytes(8))), cut)))
    again, same = clean(out)
    assert [track.handler for track in (*movie.tracks, *again.tracks)] == [b"vide", b"vide"]
    assert b"hdlr" not in out
    assert same == out


def test_no_more_tracks_than_any_honest_film_has() -> None:
    movie, out = clean(*[box(b"trak", SECRET)] * 258)
    assert len(movie.tracks) == 256
    assert out[-20:] == box(b"free", NONE)


@pytest.mark.parametrize(
    ("made", "end"),
    [
        (full(b"stsz", u32(0, 2, 5, 6), SECRET), 24),
        (full(b"stsz", u32(5, 2), SECRET), 16),
        (full(b"stz2", u32(16, 2), u16(5, 6), SECRET), 20),
        (full(b"stz2", u32(8, 3), b"\5\6\7", SECRET), 19),
        (full(b"stz2", u32(4, 3), b"\x56\x70", SECRET), 18),
        (full(b"stts", u32(1, 2, 3), SECRET), 20),
        (full(b"stss", u32(1, 2), SECRET), 16),
        (full(b"co64", u32(1, 0, 9), SECRET), 20),
    ],
)
def test_tables_end_behind_their_entries(made: bytes, end: int) -> None:
    assert in_stbl(made) == made[: end + 4] + NONE


def test_sizes_of_no_form_are_refused_and_short_tables_go() -> None:
    for bits in (0, 1, 32):
        with pytest.raises(NotThisKindError):
            in_stbl(full(b"stz2", u32(bits, 1), b"\1"))
    for kind in (b"stsz", b"stz2"):
        assert in_stbl(full(kind, u32(0))) == free(full(kind, u32(0)))


def test_tables_of_a_track_are_kept_for_its_samples() -> None:
    movie, _ = clean(
        stbl(
            full(b"stsz", u32(0, 2, 5, 6)), full(b"stsc", u32(1, 1, 2, 1)), full(b"stco", u32(1, 40)),
        )
    )  # fmt: skip
    assert list(movie.tracks[0].samples().places(range(2))) == [(40, 5), (45, 6)]


@pytest.mark.parametrize(
    ("made", "stays"),
    [
        (box(b"hint", u32(1, 2)), True),
        (box(b"hint", u32(1, 0x10000)), False),
        (box(b"hint", b"12345"), False),
        (box(b"cdsc", u32(*range(256))), True),
        (box(b"cdsc", u32(*range(257))), False),
        (box(b"cdsc"), True),
    ],
)
def test_references_to_tracks_are_small_numbers(made: bytes, stays: bool) -> None:
    out = clean(box(b"trak", box(b"tref", made)))[1]
    assert out == box(b"trak", box(b"tref", made if stays else free(made)))


def test_paths_of_other_files_go() -> None:
    def dinf(text: bytes) -> bytes:
        dref = full(b"dref", u32(2), full(b"url ", text, flags=1), full(b"alis", text))
        return box(b"trak", box(b"mdia", box(b"minf", box(b"dinf", dref))))

    assert clean(dinf(SECRET))[1] == dinf(NONE)


def test_defaults_of_fragments() -> None:
    mvex = box(b"mvex", full(b"trex", u32(7, 1, 0, 500, 0), SECRET), full(b"trex", u32(8)))
    movie, out = clean(mvex)
    assert movie.defaults == {7: 500}
    assert SECRET not in out


def test_a_compressed_index_is_refused() -> None:
    with pytest.raises(NotThisKindError, match="cmov"):
        clean(box(b"cmov", SECRET))


def test_a_second_description_of_samples_goes() -> None:
    one = full(b"stsd", u32(0))
    movie, out = clean(stbl(one, full(b"stsd", u32(0), SECRET)))
    assert SECRET not in out
    assert movie.tracks[0].parameters == one


@pytest.mark.parametrize("kind", [b"text", b"vide", b"soun", b"meta", bytes(4)])
def test_a_track_has_one_handler(kind: bytes) -> None:
    """Readers go by the last one: also by that of the data in ``minf``."""
    first, second = handler(b"vide"), handler(kind)
    movie, out = clean(box(b"trak", box(b"mdia", first, second), box(b"mdia", second)))
    assert movie.tracks[0].handler == b"vide"
    assert out == box(b"trak", box(b"mdia", first, free(second)), free(box(b"mdia", second)))
    assert clean(box(b"trak", box(b"mdia", box(b"minf", second))))[1].endswith(free(second))


@pytest.mark.parametrize("kind", [b"alis", b"url ", b"rsrc"])
def test_the_handler_of_data_stays(kind: bytes) -> None:
    made = box(b"trak", box(b"mdia", handler(b"vide"), box(b"minf", handler(kind))))
    assert clean(made)[1] == made


def test_unknown_boxes_become_free_space_wherever_they_are() -> None:
    made = box(b"what", SECRET)
    for whole in (made, box(b"trak", made), box(b"trak", box(b"mdia", made)), box(b"mvex", made)):
        assert clean(whole)[1] == whole.replace(made, free(made))
    assert clean(made, hide=UNKNOWN)[1] == free(made)


@pytest.mark.parametrize(
    ("body", "stays"),
    [
        (bytes.fromhex("10808080 07 00 4fffffffff ff"), True),
        (bytes.fromhex("10808080 07 00 4fffffffff ff") + bytes(60), True),
        (b"\x10\x12\0\x2f\x0fby John Smith", False),
    ],
)
def test_profiles_are_numbers(body: bytes, stays: bool) -> None:
    made = full(b"iods", body)
    assert clean(made)[1] == (made if stays else free(made))
    assert clean(full(b"iods", bytes(60), SECRET))[1] == full(b"iods", bytes(60), NONE)


def in_mdia(made: bytes, *outer: bytes) -> bytes:
    """What becomes of a box in the media box, or in boxes of these types in it."""
    inside = made
    for kind in outer:
        inside = box(kind, inside)
    whole = box(b"trak", box(b"mdia", inside))
    out = clean(whole)[1]
    assert out[: -len(made)] == whole[: -len(made)]
    return out[-len(made) :]


@pytest.mark.parametrize(
    ("text", "kept"),
    [
        (b"de-AT\0", b"de-AT\0"),
        (b"zh-Hans", b"zh-Hans"),
        (b"\0", b"\0"),
        (b"de\0John Smith", b"de\0" + bytes(10)),
        (b"John Smith\0", None),
        (b"Canon EOS R5\0", None),
        (b"47.80453,13.04229\0", None),
    ],
)
def test_a_language_is_a_language_tag(text: bytes, kept: bytes | None) -> None:
    made = full(b"elng", text)
    assert in_mdia(made) == (free(made) if kept is None else full(b"elng", kept))
    odd = full(b"elng", b"de\0", flags=0x4A6F68)
    assert in_mdia(odd) == free(odd)


@pytest.mark.parametrize(
    ("name", "kept"),
    [
        (b"\x0dLucida Grande", b"\x0dLucida Grande"),
        (b"\x05TIMES, John", b"\x05TIMES" + bytes(6)),
        (b"\0", b"\0"),
        (b"", b""),
        (b"\0John Smith", bytes(11)),
        (b"\x0aJohn Smith", bytes(11)),
        (b"\x10Times", bytes(6)),
    ],
)
def test_the_font_of_a_time_code_is_a_known_one(name: bytes, kept: bytes) -> None:
    def tcmi(name: bytes) -> bytes:
        return full(b"tcmi", u16(0, 1, 12, 0), bytes(12), name)

    assert in_mdia(tcmi(name), b"tmcd", b"gmhd", b"minf") == tcmi(kept)
    short = full(b"tcmi", bytes(19))
    assert in_mdia(short, b"tmcd", b"gmhd", b"minf") == free(short)
