"""Tags between the frames of coded sound in films: they go, in Matroska, movies and AVI."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from policyfs.redact.core import patches
from policyfs.redact.core.cleaners import NotThisKindError
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
from tests.support.samples.sounds import CITY, PLACE

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


def test_long_chunks_are_read_in_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sound_streams, "CHUNK_BYTES", len(SOUND) + len(TAG) + 7)
    data = (SOUND + TAG) * 2 + SOUND * 3
    for cut in (len(data), len(SOUND)):
        stream = StreamSound(Edits(MemorySource(data), PLACES, "test"))
        try:
            stream.add(0, cut)
            stream.add(cut, len(data))
        except NotThisKindError:
            continue
        assert CITY not in apply(data, patches.in_order(stream.edits.found.patches, len(data)))


def test_each_tag_has_a_hint() -> None:
    starts = (b"ID3\3\0\0\0\0\0\1", b"APETAGEX\xd0\7\0\0", b"LYRICSBEGIN", b"<x:xmpmeta", b"<?xpacket")
    more = (b"Exif\0\0", b"jumb\0\0\0\1jumd", b"\3vorbis\1\1\0\0", b"OpusTags\1\1\0\0")
    for start in (*starts, *more):
        assert sound_streams.TAG_START.fullmatch(start)
        assert any(hint in start for hint in sound_streams._HINTS)
