"""Tags between the frames of coded sound in films: they go, in Matroska, movies and AVI."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from policyfs.redact.core import patches
from policyfs.redact.core.edits import Edits
from policyfs.redact.core.patches import MemorySource, apply
from policyfs.redact.plan import Outcome, locate
from policyfs.redact.tags import sound_streams
from policyfs.redact.tags.sound_streams import StreamSound
from tests.support.samples import matroskas as mk
from tests.support.samples import sounds
from tests.support.samples.inners import PLACES
from tests.support.samples.movies import Track, full, movie
from tests.support.samples.redacted import redacted
from tests.support.samples.sounds import AVI, CITY, PLACE
from tests.unit.test_redact_riff_sound import avi

SOUND = sounds.sound(1)
TAG = sounds.id3(sounds.user(b"LOCATION", CITY), sounds.words("TIT2", PLACE))
ESDS = b"\x03\x19\0\1\0\x04\x11\x6b\x15" + bytes(11) + b"\x06\1\2"
TAGS = {
    "ID3 before": [TAG + SOUND, SOUND],
    "ID3 alone": [SOUND, TAG, SOUND],
    "ID3 behind": [SOUND, SOUND + TAG],
    "ID3v1": [SOUND, SOUND + sounds.old(PLACE)],
    "APE": [sounds.ape((b"Location", CITY), (b"Title", PLACE)) + SOUND, SOUND],
    "Lyrics": [SOUND, SOUND + sounds.lyrics(PLACE + CITY)],
    "XMP": [SOUND, SOUND + b"<x:xmpmeta xmlns:x='adobe:ns:meta/'>" + CITY + b"</x:xmpmeta>"],
}


def matroska(frames: list[bytes], codec: bytes = b"A_MPEG/L3", *more: bytes, group: bool = False) -> bytes:
    blocks = [(mk.group if group else mk.block)(1, frame) for frame in frames]
    return mk.film(mk.checked_cluster(*blocks), mk.checked_cluster(mk.block(1, SOUND[:9])),
                   tracks=mk.track(1, 2, codec, *more))  # fmt: skip


def mp4(frames: list[bytes], code: bytes = b"mp4a", per_chunk: int = 1) -> bytes:
    entry = full(b"esds", ESDS) if code == b"mp4a" else b""
    return movie(Track(kind=b"soun", format=code, entry=entry, samples=frames, per_chunk=per_chunk))


FILMS: dict[str, tuple[str, Callable[[list[bytes]], bytes]]] = {
    "Matroska": ("video/x-matroska", matroska),
    "Matroska, groups": ("video/x-matroska", lambda frames: matroska(frames, group=True)),
    "Matroska, ACM": (
        "video/x-matroska", lambda frames: matroska(frames, b"A_MS/ACM", mk.el(0x63A2, b"\x55\0"))
    ),
    "MP4": ("video/mp4", mp4),
    "MP4, in one chunk": ("video/mp4", lambda frames: mp4(frames, per_chunk=9)),
    "MOV": ("video/quicktime", lambda frames: mp4(frames, b".mp3")),
}


OLD = sounds.old(PLACE)
HIDDEN = frozenset({"location"})
AT_THE_END = {
    **{f"ID3v1 cut at {cut}": [SOUND + OLD[:cut], OLD[cut:]] for cut in (1, 3, 60, 127)},
    "ID3v1 in many chunks": [SOUND, *(OLD[at : at + 20] for at in range(0, 128, 20))],
    "ID3v1 before APE": [SOUND + OLD + sounds.ape((b"Genre", b"x"))],
    "ID3v1 before ID3": [SOUND + OLD + sounds.id3(sounds.words("TIT2", b"x"))],
    "ID3v1 with TAG+": [SOUND + b"TAG+" + PLACE.ljust(223, b"\0"), sounds.old(b"x")],
    "short ID3v1": [SOUND + OLD[:-2]],
    "long ID3v1": [SOUND + OLD + b"\0\0"],
}


@pytest.mark.parametrize("film", FILMS)
@pytest.mark.parametrize("tag", AT_THE_END)
def test_old_tags_at_the_end_go_in_any_chunks(film: str, tag: str) -> None:
    kind, make = FILMS[film]
    data = make([SOUND, *AT_THE_END[tag]]).replace(mk.checked_cluster(mk.block(1, SOUND[:9])), b"")
    out = redacted(kind, data)
    assert PLACE not in out.replace(b"\0", b"")
    assert out.count(SOUND) == data.count(SOUND)


def test_an_empty_last_chunk_of_an_avi_hides_no_tag() -> None:
    assert PLACE not in redacted(AVI, avi(SOUND, SOUND + OLD, b""))


@pytest.mark.parametrize("film", FILMS)
def test_a_tag_of_the_first_version_of_ape_is_refused(film: str) -> None:
    tag = sounds.ape((b"Location", CITY), header=False).replace(b"APETAGEX\xd0\7", b"APETAGEX\xe8\3")
    kind, make = FILMS[film]
    plan = locate(kind, frozenset({"location"}), MemorySource(make([SOUND, SOUND + tag])))
    assert plan.outcome is Outcome.REFUSE
    assert "has no start" in plan.reason


@pytest.mark.parametrize(
    "data",
    [
        *(matroska([TAG + SOUND], codec) for codec in (b"A_MPEG", b"A_MPEG/L2", b"A_QUICKTIME/QDMC")),
        *(
            matroska([TAG + SOUND], b"A_MS/ACM", mk.el(0x63A2, code.to_bytes(2, "little") + bytes(16)))
            for code in (0xFFFE, 0x4143, 0xA106)
        ),
        *(mp4([TAG + SOUND], code) for code in (b".mp1", b".mp2", b"mp2 ", b"TS\0\x55", b"ms\0\xff")),
        movie(Track(kind=b"soun", format=b"sowt", entry=full(b"esds", ESDS), samples=[TAG + SOUND])),
    ],
)
def test_tags_go_under_any_name_that_readers_take_for_mp3(data: bytes) -> None:
    kind = "video/x-matroska" if data.startswith(b"\x1a\x45") else "video/quicktime"
    assert CITY in data
    assert CITY not in redacted(kind, data)


@pytest.mark.parametrize("lead", [TAG[:1], TAG[:4], b"\xff\xfbI", b"T"])
def test_bytes_before_each_frame_that_may_begin_a_tag_are_refused(lead: bytes) -> None:
    packing = mk.el(0x5034, mk.number(0x4254, 3), mk.el(0x4255, lead))
    data = matroska([TAG[len(lead) :]], b"A_MPEG/L3", mk.el(0x6D80, mk.el(0x6240, packing)))
    plan = locate("video/x-matroska", frozenset({"location"}), MemorySource(data))
    assert plan.outcome is Outcome.REFUSE
    assert "may begin" in plan.reason
    data = data.replace(mk.el(0x4255, lead), mk.el(0x4255, SOUND[: len(lead)]))
    assert locate("video/x-matroska", frozenset({"location"}), MemorySource(data)).outcome is Outcome.CLEAN


@pytest.mark.parametrize("film", FILMS)
@pytest.mark.parametrize("tag", TAGS)
def test_tags_go_and_the_sound_stays(film: str, tag: str) -> None:
    kind, make = FILMS[film]
    data = make(TAGS[tag])
    if tag in ("ID3v1", "Lyrics", "XMP"):  # the stream ends with these
        data = data.replace(mk.checked_cluster(mk.block(1, SOUND[:9])), b"")
    out = redacted(kind, data)
    assert CITY in data or PLACE in data
    assert CITY not in out
    assert PLACE not in out
    assert out.count(SOUND) == data.count(SOUND)


@pytest.mark.parametrize("tag", [TAG, OLD, sounds.lyrics(PLACE)], ids=["ID3", "ID3v1", "Lyrics"])
@pytest.mark.parametrize("stub", [b"Exif", b"ID3\3", b"OpusTags", b"ExifExif" * 9, b"\x03vorbis"])
@pytest.mark.parametrize("film", FILMS)
def test_what_zeros_would_make_a_tag_goes_with_the_tag(film: str, stub: bytes, tag: bytes) -> None:
    """Else a second look finds a tag that the first has made."""
    kind, build = FILMS[film]
    for frames in [SOUND, SOUND + stub + tag], [SOUND + stub, tag + SOUND], [SOUND + tag + stub + tag]:
        data = build(frames)
        plan = locate(kind, HIDDEN, MemorySource(data))
        if plan.outcome is Outcome.REFUSE:
            assert "a tag in its sound" in plan.reason
            continue
        again = locate(kind, HIDDEN, MemorySource(apply(data, plan.patches)))
        assert again.outcome is Outcome.CLEAN, (again.reason, again.findings)


def test_sound_without_tags_stays_with_its_checksums() -> None:
    data = matroska([SOUND] * 5)
    assert redacted("video/x-matroska", data) == data
    other = matroska([TAG + SOUND], b"A_OPUS")
    assert redacted("video/x-matroska", other) == other


def test_packed_sound_that_may_have_tags_is_refused() -> None:
    packing = mk.el(0x6D80, mk.el(0x6240, mk.el(0x5034, mk.number(0x4254, 0))))
    data = matroska([SOUND], b"A_MPEG/L3", packing)
    plan = locate("video/x-matroska", frozenset({"location"}), MemorySource(data))
    assert plan.outcome is Outcome.REFUSE
    assert "compressed" in plan.reason


@pytest.mark.parametrize(
    "frames",
    [
        *([SOUND + TAG[:cut], TAG[cut:]] for cut in (2, 9, 14, 40)),
        [SOUND + b"<x:xmpmeta>", CITY],
        [SOUND, sounds.ape((b"Location", CITY), header=False)],
        [SOUND + sounds.ape((b"Location", CITY))[:20], SOUND],
    ],
)
def test_a_tag_that_may_be_in_two_chunks_is_refused(frames: list[bytes]) -> None:
    for kind, make in FILMS.values():
        if kind == "video/mp4":
            continue
        plan = locate(kind, frozenset({"location"}), MemorySource(make(frames)))
        assert plan.outcome is Outcome.REFUSE
        assert "tag in its sound" in plan.reason


@pytest.mark.parametrize("size", [3, 20, len(SOUND), len(SOUND) + len(TAG) + 7])
def test_long_chunks_are_read_in_pieces(monkeypatch: pytest.MonkeyPatch, size: int) -> None:
    monkeypatch.setattr(sound_streams, "CHUNK_BYTES", size)
    data = (SOUND + TAG) * 2 + SOUND + OLD + TAG + SOUND * 2 + OLD
    stream = StreamSound(Edits(MemorySource(data), PLACES, "test"))
    stream.add(0, len(data))
    stream.finish()
    left = apply(data, patches.in_order(stream.edits.found.patches, len(data)))
    assert left == (SOUND + bytes(len(TAG))) * 2 + SOUND + bytes(len(OLD + TAG)) + SOUND * 2 + bytes(len(OLD))


def test_each_tag_has_a_hint() -> None:
    starts = (b"ID3\3\0\0\0\0\0\1", b"APETAGEX\xd0\7\0\0", b"LYRICSBEGIN", b"<x:xmpmeta", b"<?xpacket")
    more = (b"Exif\0\0", b"jumb\0\0\0\1jumd", b"\3vorbis\1\1\0\0", b"OpusTags\1\1\0\0")
    for start in (*starts, *more):
        assert sound_streams.TAG_START.fullmatch(start)
        assert any(hint in start for hint in sound_streams._HINTS)
