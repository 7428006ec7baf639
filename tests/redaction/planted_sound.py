"""Places behind the bounds of sound, AVI, Matroska, PDF and sidecars."""

from __future__ import annotations

import zlib
from typing import Final

from tests.redaction.planted import PLACE, Plant, Plants
from tests.support.samples import jpegs, matroskas, pdfs, sounds
from tests.support.samples.matroskas import el, film, number
from tests.support.samples.sounds import chunk, frame, id3, sound, user, words

MP3, AAC, FLAC, OGG, WAV, AVI = (
    *("audio/mpeg", "audio/aac", "audio/flac", "audio/ogg", "audio/x-wav"),
    "video/x-msvideo",
)
MKV, WEBM, PDF = "video/x-matroska", "video/webm", "application/pdf"
XMP, TAKEOUT = "application/rdf+xml", "application/x-location+json"
PHOTO: Final = jpegs.with_segments(jpegs.plain(), jpegs.segment(0xFE, PLACE))
_FRAME: Final = sounds.flac_frame()
_ADTS: Final = (b"\xff\xf1\x50\x80\x02\x1f\xfc" + b"\x21\x00\x49\x90\x02\x19\x00\x23\x80") * 9
CODED: Final = bytes(range(128, 248)) * 90


def mp3(*parts: bytes, behind: bytes = b"", between: bytes = b"") -> bytes:
    return b"".join(parts) + sound(3) + between + sound(3) + behind


TAGS: Final[Plants] = {
    "behind the count of a rating": Plant(
        MP3, "tags/id3.py _RATING_BYTES", lambda: mp3(id3(frame("POPM", b"a@b\0\1" + PLACE)))
    ),
    "in ID3 behind 9,000 frames": Plant(
        MP3, "tags/id3.py _MAX_FRAMES", lambda: mp3(id3(*[words("TRCK", b"1")] * 9000, user(b"where", PLACE)))
    ),
    "in ID3 behind 10,500 frames": Plant(
        MP3,
        "tags/id3.py _MAX_FRAMES",
        lambda: mp3(id3(*[words("TRCK", b"1")] * 10_500, user(b"where", PLACE))),
    ),
    "in a comment of ID3 of 300 KB": Plant(
        MP3, "core/free_text.py MAX_TEXT_BYTES", lambda: mp3(id3(words("TKEY", b"x " * 150_000 + PLACE)))
    ),
    "behind texts of ID3 of 400 KB": Plant(
        MP3,
        "core/cleaners.py MAX_TEXTS_BYTES",
        lambda: mp3(id3(*[words("TKEY", b"some words " * 9000)] * 5, words("TKEY", PLACE))),
    ),
    "in the 70th tag at the start": Plant(
        MP3,
        "tags/ape_lyrics.py _MAX_TAGS",
        lambda: mp3(*[id3(words("TRCK", b"1"))] * 69, id3(user(b"where", PLACE))),
    ),
    "in the 70th tag at the end": Plant(
        MP3,
        "tags/ape_lyrics.py _MAX_TAGS",
        lambda: mp3(behind=sounds.ape((b"where", PLACE)) + sounds.ape((b"Track", b"1")) * 69),
    ),
    "between frames behind a window": Plant(
        MP3, "audio/mp3.py _WINDOW_BYTES", lambda: sound(40) + PLACE + sound(3)
    ),
    "in a gap of 20 KB between frames": Plant(
        MP3, "audio/mp3.py _WINDOW_BYTES", lambda: mp3(between=bytes(20_000) + PLACE)
    ),
    "in a gap of 1.1 MiB between frames": Plant(
        MP3, "core/patches.py CHUNK_BYTES", lambda: mp3(between=b"\1" * 1_100_000 + PLACE)
    ),
    "in APE behind 1,900 items": Plant(
        MP3,
        "tags/ape_lyrics.py _MAX_ITEMS",
        lambda: mp3(behind=sounds.ape(*[(b"Track", b"1")] * 1900, (b"Genre", PLACE))),
    ),
    "in APE behind 2,100 items": Plant(
        MP3,
        "tags/ape_lyrics.py _MAX_ITEMS",
        lambda: mp3(behind=sounds.ape(*[(b"Track", b"1")] * 2100, (b"Genre", PLACE))),
    ),
    "under a key of APE of 300 letters": Plant(
        MP3, "tags/ape_lyrics.py _items<256>", lambda: mp3(behind=sounds.ape((b"k" * 300, PLACE)))
    ),
    "in Lyrics3": Plant(
        MP3, "tags/ape_lyrics.py _LYRICS_END_BYTES", lambda: mp3(behind=sounds.lyrics(b"x " * 4000 + PLACE))
    ),
    "in a rating's count": Plant(MP3, "", lambda: mp3(id3(frame("POPM", b"a@b\0\x50" + PLACE)))),
    "in a private text of 300 bytes": Plant(
        MP3,
        "tags/id3_frames.py _MAX_PRIVATE_BYTES",
        lambda: mp3(id3(frame("PRIV", b"WM/Provider\0" + b"x " * 140 + PLACE))),
    ),
    "in a private number of 18 bytes": Plant(
        MP3, "", lambda: mp3(id3(frame("PRIV", b"WM/MediaClassPrimaryID\0" + PLACE)))
    ),
    "in a cover's description": Plant(
        MP3, "", lambda: mp3(id3(sounds.apic(jpegs.plain(), b"x " * 200 + PLACE)))
    ),
    "in a cover of ID3": Plant(MP3, "", lambda: mp3(id3(sounds.apic(PHOTO)))),
    "in a chapter's title": Plant(
        MP3, "", lambda: mp3(id3(frame("CHAP", b"c\0" + bytes(16) + words("TIT2", PLACE))))
    ),
    "in a padding of ID3 of 60 KB": Plant(
        MP3, "", lambda: mp3(id3(words("TRCK", b"1"), bytes(60_000), PLACE))
    ),
    "behind ID3v1": Plant(MP3, "tags/ape_lyrics.py _OLD_BYTES", lambda: mp3(behind=PLACE + sounds.old())),
    "under a name of 1,100 letters": Plant(
        MP3, "core/tag_names.py _MAX_NAME_CHARS", lambda: mp3(id3(user(b"genre " + b"x" * 1100, PLACE)))
    ),
    "in an unknown text of 5,000 letters": Plant(
        MP3, "core/tag_names.py _MAX_UNNAMED_BYTES", lambda: mp3(id3(user(b"foo", b"x " * 2500 + PLACE)))
    ),
    "in a text of 1.1 MB": Plant(
        MP3, "core/tag_names.py _MAX_RAW_BYTES", lambda: mp3(id3(words("TKEY", b"x " * 550_000 + PLACE)))
    ),
    "between frames of AAC": Plant(AAC, "", lambda: _ADTS + PLACE + _ADTS),
    "in a tag of AAC": Plant(AAC, "", lambda: _ADTS + sounds.ape((b"where", PLACE))),
}


def _track(mark: int, isrc: bytes) -> bytes:
    points = b"" if mark == 170 else bytes(8) + b"\1" + bytes(3)
    return bytes(8) + bytes([mark]) + isrc.ljust(12, b"\0") + bytes(14) + bytes([bool(points)]) + points


def cue_sheet(*isrcs: bytes) -> bytes:
    tracks = [*(_track(n, isrc) for n, isrc in enumerate(isrcs, 1)), _track(170, b"")]
    return bytes(136) + b"\x80" + bytes(258) + bytes([len(tracks)]) + b"".join(tracks)


def flac(*frames: bytes, blocks: tuple[tuple[int, bytes], ...] = ()) -> bytes:
    return sounds.flac(*blocks)[: -len(_FRAME)] + b"".join(frames)


SOUNDS: Final[Plants] = {
    f"among frames of FLAC: {name}": Plant(FLAC, bound, lambda data=data: flac(_FRAME * 3, data, _FRAME * 9))
    for name, bound, data in (
        ("text", "audio/flac.py _END_SEARCH_BYTES, core/appended.py _TEXT_BYTES", PLACE),
        ("ID3", "audio/flac.py _END_SEARCH_BYTES", id3(user(b"where", PLACE))),
        ("APE", "core/appended.py _WORD_BYTES", sounds.ape((b"where", PLACE))),
        ("EXIF", "core/appended.py _START{}", b"Exif\0\0" + jpegs.exif("MM")),
        ("a photo", "core/appended.py _START{}", PHOTO),
    )
} | {
    "among frames of FLAC, 400 KB before the end": Plant(
        FLAC, "audio/flac.py _END_SEARCH_BYTES", lambda: flac(_FRAME, PLACE, _FRAME * 40_000)
    ),
    "in a cue sheet's 90th track": Plant(
        FLAC,
        "",
        lambda: flac(_FRAME, blocks=((5, cue_sheet(*[b""] * 90, b"N47.80E13.04")),)),
        b"N47.80E13.04",
    ),
    "in a list of 10,001 comments": Plant(
        FLAC,
        "tags/vorbis.py _MAX_COMMENTS",
        lambda: flac(_FRAME, blocks=((4, sounds.comments(*[b"A=1"] * 10_000, b"TITLE=" + PLACE)),)),
    ),
    "in the kind of a picture of 210 letters": Plant(
        FLAC,
        "tags/vorbis.py clean_picture<200>",
        lambda: flac(
            _FRAME, blocks=((6, (3).to_bytes(4) + (210).to_bytes(4) + b"x" * 192 + PLACE + bytes(28)),)
        ),
    ),
    "in a seek table": Plant(FLAC, "audio/flac.py _MAX_SAMPLES", lambda: flac(_FRAME, blocks=((3, PLACE),))),
    "in an application's block of 300 KB": Plant(
        FLAC, "", lambda: flac(_FRAME, blocks=((2, bytes(300_000) + PLACE),))
    ),
    "behind the vendor of 100 letters": Plant(
        FLAC,
        "tags/vorbis.py _VENDOR{}",
        lambda: flac(
            _FRAME, blocks=((4, sounds.comments(vendor=b"reference libFLAC " + b"a " * 40 + PLACE)),)
        ),
    ),
    "behind the sound of a FLAC": Plant(
        FLAC, "", lambda: flac(_FRAME * 2) + id3(user(b"where", PLACE)), refused=True
    ),
    "in a comment of Ogg over 60 pages": Plant(
        OGG, "", lambda: sounds.vorbis(sounds.comments(b"TITLE=" + b"x " * 7000 + PLACE), most=1)
    ),
    "in a comment of Ogg behind 9,000": Plant(
        OGG,
        "tags/vorbis.py _MAX_COMMENTS",
        lambda: sounds.vorbis(sounds.comments(*[b"A=1"] * 9000, b"TITLE=" + PLACE)),
    ),
    "in a comment of Ogg behind 10,500": Plant(
        OGG,
        "tags/vorbis.py _MAX_COMMENTS",
        lambda: sounds.vorbis(sounds.comments(*[b"A=1"] * 10_500, b"TITLE=" + PLACE)),
    ),
    "in the tables of Vorbis": Plant(
        OGG,
        "",
        lambda: sounds.pages(
            7,
            b"\x01vorbis" + bytes(22) + b"\1",
            b"\x03vorbis" + sounds.comments() + b"\1",
            b"\x05vorbis" + CODED + PLACE,
            b"\0sound",
        ),
        refused=True,
    ),
    "in the channels of Opus": Plant(
        OGG,
        "audio/ogg.py _FIRST_BYTES[]",
        lambda: sounds.pages(
            8,
            b"OpusHead\1\x14" + bytes(8) + b"\1" + b"\1\1" + PLACE + b"\0\0",
            b"OpusTags" + sounds.comments(),
            b"\xfcsound",
        ),
    ),
    "in a last page that is cut off": Plant(
        OGG,
        "core/appended.py _TEXT_BYTES",
        lambda: (
            sounds.vorbis(sounds.comments())
            + (
                b"OggS\0\0"
                + bytes(8)
                + (7).to_bytes(4, "little")
                + bytes(8)
                + bytes([200])
                + b"\xff" * 200
                + bytes(500)
                + PLACE
            )
        ),
    ),
    "between pages behind a chunk": Plant(
        OGG,
        "core/patches.py CHUNK_BYTES",
        lambda: (
            sounds.vorbis(sounds.comments()) + b"\1" * 1_100_000 + PLACE + sounds.vorbis(sounds.comments(), 9)
        ),
    ),
    "in a stream of captions": Plant(
        "video/ogg",
        "",
        lambda: sounds.vorbis(sounds.comments()) + sounds.pages(5, b"\x80kate\0\0\0" + bytes(60), PLACE),
    ),
    "in a list of 2,100 texts": Plant(
        WAV,
        "riff/info_list.py _MOST_TEXTS",
        lambda: sounds.wav(chunk(b"LIST", b"INFO" + chunk(b"IGNR", b"ab") * 2100 + chunk(b"IGNR", PLACE))),
    ),
    "behind sound of unknown length": Plant(
        WAV,
        "",
        lambda: (
            sounds.wav(data=b"\1\2" * 600_000).replace(b"data\x80\x4f\x12\0", b"data\xff\xff\xff\xff")
            + sounds.info(ICMT=PLACE)
        ),
    ),
    "in a history of 1.1 MiB": Plant(
        WAV,
        "riff/wav.py _MAX_FIELD_BYTES",
        lambda: sounds.wav(chunk(b"bext", sounds.bext()[8:] + b"x " * 600_000 + PLACE)),
    ),
    "in a history": Plant(
        WAV, "riff/wav.py _BEXT_BYTES", lambda: sounds.wav(chunk(b"bext", sounds.bext()[8:] + PLACE))
    ),
    "behind the settings of a codec": Plant(
        WAV,
        "riff/wav.py _PACKED_BYTES",
        lambda: sounds.wav().replace(
            chunk(b"fmt ", b"\1\0\1\0\x44\xac\0\0\x88\x58\1\0\2\0\x10\0"),
            chunk(b"fmt ", b"\x11\0\1\0\x44\xac\0\0\x88\x58\1\0\2\0\x10\0" + bytes(4200) + PLACE),
        ),
    ),
    "in the settings of a codec": Plant(
        WAV,
        "riff/wav.py _FORMAT_BYTES",
        lambda: sounds.wav().replace(
            chunk(b"fmt ", b"\1\0\1\0\x44\xac\0\0\x88\x58\1\0\2\0\x10\0"),
            chunk(b"fmt ", b"\x11\0\1\0\x44\xac\0\0\x88\x58\1\0\2\0\x10\0" + bytes(90) + PLACE),
        ),
    ),
    "behind 1,024 loops of a sampler": Plant(
        WAV,
        "riff/wav.py _SAMPLER_BYTES",
        lambda: sounds.wav(
            chunk(b"smpl", bytes(28) + (1100).to_bytes(4, "little") + bytes(4) + bytes(24 * 1024) + PLACE)
        ),
    ),
    "behind 256 peaks": Plant(
        WAV,
        "riff/wav.py _are_peaks<2056>",
        lambda: sounds.wav(chunk(b"PEAK", bytes(8 + 8 * 256) + PLACE.ljust(24))),
    ),
    "in the 1,500th list": Plant(
        WAV, "", lambda: sounds.wav(*[sounds.info(IGNR=b"ab")] * 1499, sounds.info(ICMT=PLACE))
    ),
    "behind the WAV": Plant(WAV, "", lambda: sounds.wav(behind=bytes(70_000) + PLACE)),
}
_LINES: Final = b"[Script Info]\r\n" + b"ScriptType: v4.00+\r\n"
FILMS: Final[Plants] = {
    "in padding of 70 KB": Plant(
        AVI, "riff/avi.py _TEXT_BYTES", lambda: sounds.avi(chunk(b"JUNK", bytes(70_000) + PLACE))
    ),
    "in a stream's name of 70 KB": Plant(
        AVI, "riff/avi.py _TEXT_BYTES", lambda: sounds.avi(more=chunk(b"strn", b"x " * 35_000 + PLACE))
    ),
    "behind 64 KiB of a format": Plant(
        AVI, "riff/avi.py _PLAIN[]", lambda: sounds.avi(more=chunk(b"vprp", bytes(300) + PLACE))
    ),
    "in lists of headers four deep": Plant(
        AVI,
        "",
        lambda: sounds.avi(
            more=chunk(
                b"LIST", b"strl" + chunk(b"LIST", b"strl" + chunk(b"LIST", b"strl" + chunk(b"strd", PLACE)))
            )
        ),
    ),
    "in a second RIFF": Plant(
        AVI,
        "",
        lambda: sounds.avi(
            behind=b"RIFF"
            + (12 + len(sounds.info(ICMT=PLACE))).to_bytes(4, "little")
            + b"AVIX"
            + sounds.info(ICMT=PLACE)
            + bytes(8)
        ),
    ),
    "among pictures": Plant(
        AVI, "", lambda: sounds.avi(movie=chunk(b"00dc", b"picture!") * 300 + chunk(b"gps0", PLACE + b"  "))
    ),
    "in a program's padding": Plant(
        AVI,
        "riff/avi.py _PROGRAM{}",
        lambda: sounds.avi(chunk(b"JUNK", b"[= MPlayer junk data! =]" * 3 + PLACE[:18] + b"  ")),
    ),
    "behind the AVI": Plant(AVI, "", lambda: sounds.avi(behind=bytes(70_000) + PLACE)),
    "in tags 14 deep": Plant(MKV, "matroska/elements.py MAX_DEPTH", lambda: film(_cluster(), _deep_tags(14))),
    "in tags eight deep": Plant(
        MKV, "matroska/elements.py MAX_DEPTH", lambda: film(_cluster(), _deep_tags(8))
    ),
    "in tags of 5 MiB": Plant(
        MKV,
        "matroska/matroska.py MAX_MASTER_BYTES",
        lambda: film(
            _cluster(),
            matroskas.tags(matroskas.simple_tag(b"LOCATION", PLACE)) + b"",
            el(matroskas.TAGS, el(0xEC, bytes(5 << 20)), PLACE),
        ),
    ),
    "behind 3,000 tags": Plant(
        MKV,
        "",
        lambda: film(
            _cluster(),
            matroskas.tags(
                *[matroskas.simple_tag(b"GENRE", b"a")] * 3000, matroskas.simple_tag(b"GENRE", PLACE)
            ),
        ),
    ),
    "behind 100,000 elements": Plant(
        MKV,
        "matroska/elements.py MAX_ELEMENTS",
        lambda: film(
            _cluster(),
            matroskas.tags(
                *[matroskas.simple_tag(b"GENRE", b"a")] * 34_000, matroskas.simple_tag(b"GENRE", PLACE)
            ),
        ),
        refused=True,
    ),
    "in binary of 70 KB": Plant(
        MKV,
        "matroska/elements.py _MAX_BINARY_BYTES",
        lambda: film(
            _cluster(), matroskas.tags(el(0x67C8, el(0x45A3, b"GENRE"), el(0x4485, bytes(70_000) + PLACE)))
        ),
    ),
    "in a number of nine bytes": Plant(
        MKV,
        "matroska/elements.py _MAX_NUMBER_BYTES",
        lambda: film(_cluster(), tracks=matroskas.track(1, 1, b"V_VP8", el(0x9C, PLACE))),
    ),
    "in settings of 1.1 MiB": Plant(
        MKV,
        "matroska/codec_private.py MAX_PRIVATE_BYTES",
        lambda: film(
            _cluster(), tracks=matroskas.track(1, 1, b"V_VP8", el(0x63A2, bytes(1_100_000) + PLACE))
        ),
    ),
    "in settings of a codec": Plant(
        MKV,
        "",
        lambda: film(_cluster(), tracks=matroskas.track(1, 1, b"V_VP8", el(0x63A2, bytes(900) + PLACE))),
    ),
    "in a line of a script of 1,100 letters": Plant(
        MKV,
        "matroska/codec_private.py _MAX_LINE_BYTES",
        lambda: film(
            _cluster(),
            tracks=matroskas.VIDEO
            + matroskas.track(2, 17, b"S_TEXT/ASS", el(0x63A2, _LINES + b"Style: a," + b"x " * 540 + PLACE)),
        ),
    ),
    "in a style's name": Plant(
        MKV,
        "matroska/codec_private.py _SCRIPT{}",
        lambda: film(
            _cluster(),
            tracks=matroskas.VIDEO
            + matroskas.track(
                2,
                17,
                b"S_TEXT/ASS",
                el(0x63A2, _LINES + b"Style: " + PLACE.replace(b",", b";") + b",Arial,20"),
            ),
        ),
    ),
    "in a header of 5,000 bytes": Plant(
        MKV,
        "matroska/matroska.py _top<4096>",
        lambda: (
            el(matroskas.EBML, number(0x4286, 1), el(0x4282, b"matroska"), el(0xEC, bytes(5000) + PLACE))
            + film(_cluster())[len(matroskas.header()) :]
        ),
        refused=True,
    ),
    "in a Void of a film": Plant(
        MKV, "matroska/ebml.py _LOOKED_AT", lambda: film(_cluster(), el(0xEC, bytes(200_000) + PLACE))
    ),
    "in a picture that is attached": Plant(
        MKV, "", lambda: film(_cluster(), _attached(b"image/jpeg", PHOTO))
    ),
    "in a font of 70 tables": Plant(
        MKV,
        "matroska/fonts.py _MAX_TABLES",
        lambda: film(_cluster(), _attached(b"font/otf", matroskas.font(*[b"abcd"] * 70, PLACE))),
    ),
    "in a collection of 70 fonts": Plant(
        MKV,
        "matroska/fonts.py _MAX_FONTS",
        lambda: film(
            _cluster(), _attached(b"font/collection", b"ttcf\0\1\0\0" + (70).to_bytes(4) + bytes(280) + PLACE)
        ),
    ),
    "behind a font's tables": Plant(
        MKV, "", lambda: film(_cluster(), _attached(b"font/otf", matroskas.font(b"abcd") + PLACE))
    ),
    "in a subtitle of 70 KB": Plant(
        MKV,
        "",
        lambda: film(
            matroskas.cluster(
                matroskas.block(1, matroskas.PICTURES), matroskas.block(2, b"x " * 35_000 + PLACE)
            ),
            tracks=matroskas.VIDEO + matroskas.track(2, 17, b"S_TEXT/UTF8"),
        ),
    ),
    "in the 900th subtitle": Plant(
        MKV,
        "",
        lambda: film(
            matroskas.cluster(
                matroskas.block(1, matroskas.PICTURES),
                *[matroskas.block(2, b"words")] * 899,
                matroskas.block(2, PLACE),
            ),
            tracks=matroskas.VIDEO + matroskas.track(2, 17, b"S_TEXT/UTF8"),
        ),
    ),
    "in an index": Plant(
        MKV,
        "matroska/elements.py MAX_POINTS",
        lambda: film(
            _cluster(),
            el(
                matroskas.CUES,
                el(0xBB, number(0xB3, 0), el(0xB7, number(0xF7, 1), number(0xF1, 99), el(0x99, PLACE))),
            ),
        ),
    ),
    "in an index of 200 KB": Plant(
        MKV,
        "matroska/elements.py MAX_WALKED_CUES",
        lambda: film(
            _cluster(),
            el(
                matroskas.CUES,
                *[_point(1)] * 9000,
                _point(5),
                el(0xBB, number(0xB3, 0), el(0xB7, number(0xF7, 1), number(0xF1, 99), el(0xB2, PLACE[:8]))),
            ),
        ),
    ),
    "behind a segment": Plant(MKV, "", lambda: film(_cluster(), tail=bytes(9) + PLACE)),
    "in a WebM": Plant(
        WEBM,
        "",
        lambda: film(_cluster(), matroskas.tags(matroskas.simple_tag(b"LOCATION", PLACE))).replace(
            b"matroska", b"webm\0\0\0\0"
        ),
    ),
    "in the 100th attachment": Plant(
        MKV,
        "",
        lambda: film(
            _cluster(),
            el(
                matroskas.ATTACHMENTS,
                *[_file(b"image/jpeg", jpegs.plain())] * 99,
                _file(b"image/jpeg", PHOTO),
            ),
        ),
    ),
}


def _point(at: int) -> bytes:
    return el(0xBB, number(0xB3, 0), el(0xB7, number(0xF7, 1), number(0xF1, at)))


def _cluster() -> bytes:
    return matroskas.cluster(matroskas.block(1, matroskas.PICTURES))


def _deep_tags(depth: int) -> bytes:
    inside = matroskas.simple_tag(b"GENRE", PLACE)
    for _ in range(depth):
        inside = matroskas.simple_tag(b"GENRE", b"a", inside)
    return matroskas.tags(inside)


def _file(kind: bytes, data: bytes) -> bytes:
    return el(0x61A7, el(0x466E, b"name"), el(0x4660, kind), number(0x46AE, 5), el(0x465C, data))


def _attached(kind: bytes, data: bytes) -> bytes:
    return el(matroskas.ATTACHMENTS, _file(kind, data))


_PACKET: Final = jpegs.xmp_packet("<photoshop:City>47.80453</photoshop:City>")
_USED: Final = b"/Contents 5 0 R"


def pdf(stream: bytes, entries: bytes = b"", page: bytes = b"/Resources<</XObject<</A 5 0 R>>>>") -> bytes:
    return pdfs.pdf({5: pdfs.stream(stream, entries)}, page=page)


def _info(text: bytes) -> bytes:
    return pdfs.pdf({6: b"<</Where" + text + b">>"}, trailer=b"/Info 6 0 R")


_BODY: Final = _PACKET[_PACKET.index(b"<x:xmpmeta") : _PACKET.index(b"<?xpacket end")]
DOCUMENTS: Final[Plants] = {
    "in XMP behind 17 blanks": Plant(PDF, "pdf/object_scan.py _OVERLAP", lambda: pdf(b" " * 17 + _PACKET)),
    "in XMP behind words": Plant(
        PDF, "pdf/object_scan.py _OVERLAP", lambda: pdf(b"0 0 m 9 9 l S " * 9 + _PACKET)
    ),
    "in XMP behind 256 KiB": Plant(
        PDF, "pdf/object_scan.py _CHUNK", lambda: pdf(b"0 0 m " * 43_690 + _PACKET)
    ),
    "in XMP in UTF-16": Plant(
        PDF, "pdf/object_scan.py _OVERLAP", lambda: pdf(b"  " * 9 + _PACKET.decode().encode("utf-16-le"))
    ),
    "in XMP of 5 MiB of a PDF": Plant(
        PDF,
        "pdf/streams.py MAX_XMP_BYTES",
        lambda: pdf(_PACKET + b" " * (5 << 20), b"/Type/Metadata", b"/Metadata 5 0 R"),
    ),
    "in a string 50 deep": Plant(
        PDF, "pdf/objects.py MAX_DEPTH", lambda: _info(b"[" * 50 + b"(" + PLACE + b")" + b"]" * 50)
    ),
    "in a string 70 deep": Plant(
        PDF,
        "pdf/objects.py MAX_DEPTH",
        lambda: _info(b"[" * 70 + b"(" + PLACE + b")" + b"]" * 70),
        refused=True,
    ),
    "in a string of 60 KB": Plant(PDF, "", lambda: _info(b"(" + b"x " * 30_000 + PLACE + b")")),
    "in digits of 60 KB": Plant(
        PDF,
        "pdf/object_scan.py _WINDOW",
        lambda: _info(b"<" + (b"x " * 30_000 + PLACE).hex().encode() + b">"),
        PLACE.hex().encode(),
    ),
    "behind 40,000 words": Plant(
        PDF, "pdf/objects.py MAX_TOKENS", lambda: _info(b"[" + b"1 " * 40_000 + b"(" + PLACE + b")]")
    ),
    "behind 210,000 words": Plant(
        PDF,
        "pdf/objects.py MAX_TOKENS",
        lambda: _info(b"[" + b"1 " * 210_000 + b"(" + PLACE + b")]"),
        refused=True,
    ),
    "in a value of 5 MiB": Plant(
        PDF,
        "pdf/object_scan.py MAX_VALUE_BYTES",
        lambda: _info(b"(" + b"x" * (5 << 20) + PLACE + b")"),
        refused=True,
    ),
    "behind 1,100 bytes": Plant(
        PDF,
        "pdf/object_scan.py HEAD_BYTES",
        lambda: pdfs.pdf(
            {6: b"(" + PLACE + b")"}, head=b"x" * 1100 + b"\n%PDF-1.7\n", trailer=b"/Info 6 0 R"
        ),
        refused=True,
    ),
    "in an attached file": Plant(
        PDF,
        "",
        lambda: pdfs.pdf({5: pdfs.stream(PLACE, b"/Type/EmbeddedFile")}, catalog=b"/Names<</A 5 0 R>>"),
    ),
    "in a photo of a PDF": Plant(PDF, "", lambda: pdf(PHOTO, b"/Subtype/Image/Filter/DCTDecode")),
    "in a photo of a PDF, packed": Plant(
        PDF,
        "",
        lambda: pdf(zlib.compress(PHOTO) + bytes(99), b"/Subtype/Image/Filter[/FlateDecode/DCTDecode]"),
    ),
    "in an object of an older revision": Plant(
        PDF, "", lambda: pdfs.revised(_info(b"(" + PLACE + b")"), {6: b"<</Title(a)>>"}, b"/Info 6 0 R")
    ),
    "in a comment of a PDF": Plant(PDF, "", lambda: pdfs.pdf(gap=b"%" + b"x" * 5000 + PLACE + b"\n")),
    "behind a PDF": Plant(PDF, "", lambda: pdfs.pdf(tail=b"x" * 5000 + PLACE)),
    "in an object stream of 500": Plant(
        PDF,
        "pdf/streams.py MAX_OBJECTS",
        lambda: pdfs.pdf(
            {7: pdfs.object_stream(dict.fromkeys(range(10, 510), b"<</A(" + PLACE + b")>>"), 9000)},
            trailer=b"/Info 10 0 R",
        ),
    ),
    "in a sidecar of 3 MiB": Plant(
        XMP,
        "xmp/packet.py MAX_LOOKED_AT",
        lambda: _BODY.replace(
            b"<dc:format>", b"<dc:rights>" + b"x " * (3 << 19) + b"</dc:rights><dc:format>"
        ),
        refused=True,
    ),
    "in a sidecar of 5 MiB": Plant(
        XMP, "documents/sidecars.py MAX_XMP_BYTES", lambda: _BODY + b" " * (5 << 20), refused=True
    ),
    "in a sidecar behind a long comment": Plant(
        XMP,
        "documents/sidecars.py _XMP_ROOT{}",
        lambda: b"<?xpacket begin=''?><!--" + b"x" * 500 + b"-->" + _BODY,
    ),
    "in Takeout of 1.1 MiB": Plant(
        TAKEOUT,
        "documents/sidecars.py MAX_JSON_BYTES",
        lambda: b'{"title": "' + b"x" * 1_100_000 + b'", "geoData": {"latitude": 47.80453}}',
        refused=True,
    ),
    "in Takeout 500 deep": Plant(
        TAKEOUT,
        "",
        lambda: (
            b'{"title": "a", "x": '
            + b"[" * 500
            + b"47.80453"
            + b"]" * 500
            + b', "geoData": {"latitude": 47.80453}}'
        ),
    ),
    "in Takeout behind texts": Plant(
        TAKEOUT,
        "core/cleaners.py MAX_TEXTS_BYTES",
        lambda: b'{"title": "' + b"words " * 80_000 + b'", "description": "47.80453, 13.04229"}',
    ),
}

NUMBERS: Final[Plants] = {
    "in 2 cues": Plant(
        WAV,
        "riff/wav.py PLAIN_CHUNKS[]",
        lambda: sounds.wav(chunk(b"cue ", (2).to_bytes(4, "little") + PLACE.ljust(48, b"\0"))),
    ),
    "in loops of a sampler": Plant(
        WAV,
        "riff/wav.py PLAIN_CHUNKS[]",
        lambda: sounds.wav(
            chunk(b"smpl", bytes(28) + (9).to_bytes(4, "little") + bytes(4) + PLACE.ljust(216, b"\0"))
        ),
    ),
    "in peaks": Plant(WAV, "", lambda: sounds.wav(chunk(b"PEAK", bytes(8) + PLACE.ljust(24, b"\0")))),
    "in an index of an AVI, behind 1 MiB": Plant(
        AVI,
        "core/kept_values.py _OVERLAP_BYTES",
        lambda: sounds.avi(chunk(b"idx1", (bytes((1 << 20) - 9) + PLACE).ljust((1 << 20) + 16, b"\0"))),
    ),
    "in a text of 70 KB in an index of an AVI": Plant(
        AVI,
        "core/kept_values.py _MAX_TEXT_BYTES",
        lambda: sounds.avi(chunk(b"idx1", (b"words " * 12_000 + PLACE).ljust(72_032))),
    ),
    "in an index of an AVI": Plant(
        AVI, "riff/avi.py _PLAIN[]", lambda: sounds.avi(chunk(b"idx1", PLACE.ljust(32, b"\0")))
    ),
    "in numbers of an AVI": Plant(
        AVI, "riff/avi.py _PLAIN[]", lambda: sounds.avi(more=chunk(b"vprp", bytes(20) + PLACE))
    ),
    "in a font": Plant(
        MKV,
        "matroska/fonts.py _MAX_TABLES",
        lambda: film(_cluster(), _attached(b"font/otf", matroskas.font(PLACE * 3))),
    ),
}
"""Places in numbers that should tell nothing: a search of the values of kept parts finds them."""
SOAK: Final[Plants] = {
    "behind 400,000 pictures": Plant(
        AVI,
        "riff/avi.py MAX_SAMPLES",
        lambda: sounds.avi(movie=chunk(b"00dc", b"ab") * 400_100 + chunk(b"gps0", PLACE + b"  ")),
        refused=True,
    ),
    "behind 50,000 objects": Plant(
        PDF,
        "pdf/object_scan.py MAX_OBJECTS",
        lambda: pdfs.pdf(
            dict.fromkeys(range(9, 50100), b"1") | {6: b"<</Where(" + PLACE + b")>>"}, trailer=b"/Info 6 0 R"
        ),
        refused=True,
    ),
    "behind three million frames": Plant(
        MP3,
        "audio/mp3.py MAX_FRAMES",
        lambda: (b"\xff\xf3\x14\xc4" + bytes(20)) * 3_000_100 + PLACE,
        refused=True,
    ),
    "in an attachment of 13 MiB": Plant(
        MKV,
        "matroska/matroska.py MAX_FILE_BYTES",
        lambda: film(_cluster(), _attached(b"image/jpeg", PHOTO + bytes(13 << 20))),
    ),
    "in a comment of FLAC of 9 MiB": Plant(
        FLAC,
        "core/edits.py MAX_BLOCK_BYTES",
        lambda: flac(_FRAME, blocks=((4, sounds.comments(b"TITLE=" + b" " * (9 << 20) + PLACE)),)),
    ),
    "behind 300,000 pages": Plant(
        OGG,
        "audio/ogg_pages.py MAX_PAGES",
        lambda: sounds.vorbis(sounds.comments()) + sounds.page(7, 9, 0, b"", b"") * 300_000 + PLACE,
        refused=True,
    ),
}
PLANTS: Final[Plants] = TAGS | SOUNDS | FILMS | DOCUMENTS | NUMBERS
