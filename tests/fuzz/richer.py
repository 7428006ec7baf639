"""Files with more in each than the tests' own: what stands in them is what locators tell apart."""

from __future__ import annotations

import base64
from typing import Final

from tests.support.samples import gpmf, jpegs, motion, movies, sounds, tiffs
from tests.support.samples import matroskas as mk
from tests.support.samples.hidden import sub_image, thumbnail_resource
from tests.support.samples.jpegs import exif, plain, resource, segment, with_segments, xmp_packet
from tests.support.samples.matroskas import el, number
from tests.support.samples.notes import MAKERS, note_of, photo_by
from tests.support.samples.tiffs import short

_PROFILE: Final = (
    bytes([0, 0, 0, 144]) + b"lcms" + bytes(28) + b"acsp" + bytes(88) + b"\0\0\0\1desc\0\0\0\x80\0\0\0\x10"
)
_PICTURE: Final = base64.b64encode(sub_image()).decode()
PACKET: Final = xmp_packet(
    f"<GImage:Data>{_PICTURE}</GImage:Data>"
    "<dc:title><rdf:Alt><rdf:li xml:lang='x-default'>Quince</rdf:li></rdf:Alt></dc:title>"
    "<dc:subject><rdf:Bag><rdf:li>a</rdf:li><rdf:li>b</rdf:li></rdf:Bag></dc:subject>"
    "<xmpMM:History><rdf:Seq><rdf:li rdf:parseType='Resource'><stEvt:when>2024</stEvt:when></rdf:li>"
    "</rdf:Seq></xmpMM:History><!-- 47.80453, 13.04229 -->"
    "<photoshop:City rdf:parseType='Resource'><rdf:value>x</rdf:value><a:b xmlns:a='c'>d</a:b>"
    "</photoshop:City>"
    "<exif:GPSLatitude>47,48.27N</exif:GPSLatitude><dc:format>image/jpeg</dc:format>"
    "<Iptc4xmpExt:LocationCreated><rdf:Bag><rdf:li Iptc4xmpExt:City='x'/></rdf:Bag>"
    "</Iptc4xmpExt:LocationCreated>",
    attributes='xmlns:GImage="http://ns.google.com/photos/1.0/image/" photoshop:State="y" '
    'xmlns:xmpMM="http://ns.adobe.com/xap/1.0/mm/" xmp:CreateDate="2024-05-17" dc:source="quill" '
    'xmlns:stEvt="http://ns.adobe.com/xap/1.0/sType/ResourceEvent#"',
)
_BLOCKS: Final = (
    (0x0A01, b"Image_UTC_Data", b"1715938953000"),
    (0x0AA1, b"MCC_Data", b"232"),
    (0x0001, b"DualShot_1", sub_image()),
    (0x0AB1, b"DualShot_DepthMap_1", bytes(range(60))),
    (0x0100, b"SoundShot_000", movies.SEEDS[0]),
    (0x0A30, b"MotionPhoto_Data", movies.SEEDS[1]),
)
RESOURCES: Final = (
    resource(0x0404, jpegs.iptc_place()),
    resource(0x0422, exif("MM")),
    resource(0x0424, xmp_packet("<photoshop:City>Zirbelstadt</photoshop:City>")),
    thumbnail_resource(0x040C),
    resource(0x03ED, bytes(16)),
    resource(0x0425, bytes(16)),
    resource(0x1234, b"anything"),
)
JPEGS: Final = (
    with_segments(
        plain(),
        segment(0xE0, b"JFXX\0\x10" + sub_image()),
        segment(0xE2, b"ICC_PROFILE\0\1\2" + _PROFILE[:100]),
        segment(0xE2, b"ICC_PROFILE\0\2\2" + _PROFILE[100:]),
        segment(0xE2, b"urn:iso:std:iso:ts:21496:-1\0" + bytes(40)),
        segment(0xE6, b"GoPro\0" + gpmf.sample()),
        segment(0xEC, b"Ducky\0\1\0\4\0\0\0\x32\0\2\0\6\0\0\0\2\0a\0\0"),
        segment(0xEE, b"Adobe\0\x64\0\0\0\0\1"),
        segment(0xFE, b"Quince, 47.80453, 13.04229"),
    ),
    with_segments(plain(), jpegs.photoshop_segment(b"".join(RESOURCES))),
    with_segments(plain(), jpegs.xmp_segment(PACKET)),
    *(jpegs.photo_with(exif("II")) + movie for movie in movies.SEEDS[:4]),
    *(plain() + motion.blocks(blocks) for blocks in (_BLOCKS, _BLOCKS[:3], _BLOCKS[3:])),
    *(photo_by(name, "II") for name in MAKERS),
)


def _raw(name: str, order: str, head: bytes = b"", *more: jpegs.Entry) -> bytes:
    """A raw of this maker: its note, a DNG's private data, a profile, XMP. head: how its kind begins."""
    note = note_of(MAKERS[name], order)
    private = b"Adobe\0MakN" + (len(note) + 6).to_bytes(4) + order.encode() + bytes(4) + note
    entries = (
        jpegs.text(0x010F, name),
        jpegs.text(0x0132, "2024:05:17 11:22:33"),
        (0x02BC, 1, len(PACKET), PACKET),
        (0x8649, 1, len(RESOURCES[0]), RESOURCES[0]),
        (0x8773, 7, len(_PROFILE), _PROFILE),
        (0x927C, 7, len(note), note),
        (0xC634, 1, len(private), private),
        short(order, 0x828D, 2, 2),
        *more,
    )
    data = tiffs.classic(order, *sorted(entries), strips=4)
    return head[:4] + data[4:8] + head[8:] + data[len(head) :] if head else data


RAWS: Final = tuple(
    _raw(name, order) for name, order in zip(MAKERS, ("II", "MM") * len(MAKERS), strict=False)
)
CR2: Final = _raw("Canon", "II", b"II*\0    CR\2\0\0\0\0\0")
ORF: Final = _raw("Olympus", "II", b"IIRO    ")
RW2: Final = _raw(
    "Panasonic",
    "II",
    b"IIU\0    " + bytes.fromhex("88e774d8f8251d4d947a6e77822b5d6a"),
    (0x002E, 7, len(sub_image()), sub_image()),
    short("II", 0x0002, 8),
)

_COMMENTS: Final = sounds.comments(b"TITLE=a", b"LOCATION=47.8", vendor=b"Xiph 1")
_LACED: Final = bytes([7 + len(_COMMENTS)])
_SEI: Final = b"\x4e\1\5\x18" + bytes(range(16)) + b"x264 47.\x80"
_SCRIPT: Final = (
    b"[Script Info]\r\nTitle: Quince\r\nScriptType: v4.00+\r\n\r\n[V4+ Styles]\r\nFormat: Name, Fontname\r\n"
    b"Style: Default,Arial,20\r\n[Events]\r\nFormat: Layer, Start\r\nDialogue: 0,0,47.80453, 13.04229\r\n"
)
_SETTINGS: Final[tuple[tuple[int, bytes, bytes], ...]] = (
    (2, b"A_VORBIS", b"\2\x1e" + _LACED + bytes(30) + b"\3vorbis" + _COMMENTS + b"\5vorbis"),
    (1, b"V_THEORA", b"\2\x2a" + _LACED + bytes(42) + b"\x81theora" + _COMMENTS + b"\x82theora"),
    (2, b"A_FLAC", sounds.flac((4, _COMMENTS), (1, b"abc"), (6, b"def"))[:180]),
    (
        1,
        b"V_MPEGH/ISO/HEVC",
        bytes(22) + b"\2\x20\0\1\0\4\x40\1\x0c\1\x27\0\1" + len(_SEI).to_bytes(2) + _SEI,
    ),
    (1, b"V_AV1", b"\x81\0\0\0\x0a\x03abc\x2a\x05\x04quil"),
    (1, b"V_MPEG4/ISO/ASP", b"\0\0\1\xb0\1\0\0\1\xb2XviD0046\0\0\1\xb2quill 47.80453\0\0\1\xb5"),
    (1, b"V_MPEG4/ISO/AVC", b"\1\x64\0\x1e\xff\xe1\0\4\x67\x64\0\x1e\1\0\2\x68\xee"),
    (17, b"S_TEXT/ASS", _SCRIPT),
    (17, b"S_VOBSUB", b"# VobSub\nsize: 720x576\npalette: 000000, ffffff\nid: en, index: 0\ntimestamp: 01\n"),
    (1, b"V_MS/VFW/FOURCC", bytes(16) + b"XVID" + bytes(20)),
)
_DIALOGUE: Final = b"0,0,Default,,0,0,0,,Quince, 47.80453, 13.04229"
_DISPLAY: Final = el(0x80, el(0x85, b"one"), el(0x437C, b"en"))
_COVER: Final = (el(0x466E, b"a.jpg"), el(0x4660, b"image/jpeg"), el(0x465C, sub_image()), number(0x46AE, 5))
_MORE: Final = (
    el(mk.CHAPTERS, el(0x45B9, el(0xB6, number(0x73C4, 1), _DISPLAY))),
    el(mk.CUES, el(0xBB, number(0xB3, 0), el(0xB7, number(0xF7, 1), number(0xF1, 99)))),
    el(mk.ATTACHMENTS, el(0x61A7, *_COVER)),
    mk.tags(mk.simple_tag(b"LOCATION", b"47.8"), mk.simple_tag(b"ENCODER", b"quill")),
)


def _film(kind: int, codec: bytes, private: bytes) -> bytes:
    """A film with such a track: its settings, where things are in the file, blocks in lacing and alone."""
    tracks = mk.VIDEO + mk.track(2, kind, codec, el(0x63A2, private), el(0x536E, b"Quince"))
    index = [
        el(0x4DBB, el(0x53AB, mk.ident_bytes(ident)), number(0x53AC, 400 + 40 * n))
        for n, ident in enumerate((mk.TRACKS, mk.TAGS, mk.CUES))
    ]
    added = el(0x75A1, el(0xA6, number(0xEE, 4), el(0xA5, b"x")))
    blocks = (
        mk.block(1, mk.PICTURES[:50]),
        mk.block(2, b"\1\3" + _DIALOGUE, flags=0x82),
        mk.group(2, _DIALOGUE, number(0x9B, 9), added),
        el(0xBF, b"abcd"),
    )
    return mk.film(mk.cluster(*blocks), *_MORE, tracks=tracks, head=el(mk.SEEK_HEAD, *index))


FILMS: Final = tuple(_film(*settings) for settings in _SETTINGS)

AAC: Final = (b"\xff\xf1\x50\x80\x02\x1f\xfc" + bytes(range(9))) * 20
"""Frames of 16 bytes."""
