"""Files in which a value is put into each part that may stay: numbers, colours, settings of codecs."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator
from typing import NamedTuple

from policyfs.redact.exif.tags import EXIF_TABLE, MPF_TABLE, NESTED, POINTERS
from policyfs.redact.heif.properties import PROPERTIES
from policyfs.redact.images.png import FIXED, TOLD
from policyfs.redact.isobmff import stsd
from policyfs.redact.isobmff.udta_names import ITEMS, TEXT_ATOMS, USER_DATA
from policyfs.redact.matroska import tag_names
from policyfs.redact.matroska.codec_private import _NUMBERS
from policyfs.redact.matroska.ebml import head_at
from policyfs.redact.matroska.tag_names import ELEMENTS, Form
from policyfs.redact.riff.info_list import NAMES
from policyfs.redact.riff.wav import PLAIN_CHUNKS
from policyfs.redact.tags.id3_frames import FRAMES
from policyfs.redact.tags.iptc import _DATASETS, _RESOURCES
from tests.support.samples import cr3s, heifs, jp2s, jpegs, movies, pngs, sounds
from tests.support.samples import matroskas as mkvs
from tests.support.samples.movies import box, full, u32

UNDEFINED = 7
INFO_TEXTS = [name for names in NAMES.values() for name in names.split()]


class Planted(NamedTuple):
    """A file with a value in one part. colours: True for a part of colours, which may look like digits."""

    name: str
    kind: str
    data: bytes
    colours: bool = False


def fitted(value: bytes, size: int) -> bytes:
    """The value, cut or filled with its first byte to a size."""
    return value[:size].ljust(size, value[:1])


def profile(value: bytes, kind: bytes = b"zzzz") -> bytes:
    """An ICC profile with the value in a tag of this type."""
    tag = kind + bytes(4) + value + bytes(-len(value) % 4)
    body = b"\0\0\0\1" + b"test" + u32(144, len(tag)) + tag
    head = u32(128 + len(body)) + bytes(32) + b"acsp"
    return head.ljust(128, b"\0") + body


def stills(value: bytes) -> Iterator[Planted]:
    """JPEG, PNG, GIF, BMP, WebP, JPEG 2000."""
    yield from _jpegs(value)
    yield from _pngs(value)
    yield from _others(value)


def others(value: bytes) -> Iterator[Planted]:
    """GoPro's settings, CR3, items of HEIF, headers of Matroska, fixed parts of entries, raws."""
    for key in (
        b"ACCL",
        b"GYRO",
        b"SHUT",
        b"WBAL",
        b"ISOG",
        b"MTRX",
        b"ORIN",
        b"STNM",
        b"SIUN",
        b"UNIT",
        b"SCAL",
        b"TMPC",
    ):
        for kind in b"cBsSlLfdF":
            size = 4 if kind in b"lLfF" else 8 if kind == ord("d") else 2 if kind in b"sS" else 1
            count = len(value) // size
            data = value[: size * count]
            entry = key + bytes([kind, size]) + count.to_bytes(2) + data + bytes(-len(data) % 4)
            stream = b"STRM\0\1" + len(entry).to_bytes(2) + entry
            made = b"DEVC\0\1" + len(stream).to_bytes(2) + stream
            segment = jpegs.segment(0xE6, b"GoPro\0" + made)
            yield Planted(f"GPMF {key!r} {kind:c}", "image/jpeg", jpegs.with_segments(jpegs.plain(), segment))
            udta = box(b"udta", box(b"GPMF", made))
            yield Planted(f"GPMF box {key!r} {kind:c}", "video/mp4", movies.movie(moov=udta))
    for kind in (b"CCTP", b"CTBO", b"CNCV", b"IAD1", b"CNOP", b"free"):
        yield Planted(
            f"CR3 {kind!r}", "image/x-canon-cr3", cr3s.cr3(own=cr3s.canon(**{kind.decode(): value}))
        )
    for kind in (
        b"grid",
        b"iden",
        b"iovl",
        b"tmap",
        b"hvc1",
        b"av01",
        b"mime",
        b"uri ",
        b"jpeg",
        b"rgan",
        b"mski",
    ):
        things = [
            heifs.Thing(1, b"hvc1", heifs.picture(), properties=(1, 2)),
            heifs.Thing(2, kind, value, content=b"application/octet-stream"),
        ]
        yield Planted(f"HEIF item {kind!r}", "image/heic", heifs.heif(things, heifs.Layout()))
    for field in ("content", "encoding", "name"):
        text = value.replace(b"\0", b"")
        named = heifs.Thing(2, b"mime", b"data", **{"content": b"a/b", field: text})
        picture = heifs.Thing(1, b"hvc1", heifs.picture(), properties=(1, 2), name=text)
        yield Planted(f"HEIF {field}", "image/heic", heifs.heif([picture, named], heifs.Layout()))
    for kind in (b"grpl", b"iref", b"pitm", b"dinf", b"iprp", b"ipro", b"zzzz"):
        layout = heifs.Layout(in_meta=box(kind, value))
        picture = heifs.Thing(1, b"hvc1", heifs.picture(), properties=(1, 2))
        yield Planted(f"HEIF meta {kind!r}", "image/heic", heifs.heif([picture], layout))
    for kind in (b"altr", b"ster", b"brst"):
        layout = heifs.Layout(in_meta=box(b"grpl", full(kind, u32(1, len(value) // 4), value)))
        picture = heifs.Thing(1, b"hvc1", heifs.picture(), properties=(1, 2))
        yield Planted(f"HEIF group {kind!r}", "image/heic", heifs.heif([picture], layout))
    head = mkvs.header(value)
    yield Planted("EBML DocType", "video/x-matroska", head + mkvs.film()[len(mkvs.header()) :])
    for kind, size in (
        (b"vide", 78),
        (b"soun", 28),
        (b"tmcd", 26),
        (b"hint", 16),
        (b"text", 60),
        (b"meta", 40),
    ):
        entry = box(b"test", fitted(value[36:], size))
        track = movies.Track(kind=kind)
        made = movies.movie(track)
        old = track.description()
        spare = len(old) - len(entry)
        if spare >= 8:
            made = made.replace(old, entry + box(b"free", bytes(spare - 8)))
            yield Planted(f"stsd fixed {kind!r}", "video/mp4", made)


def _jpegs(value: bytes) -> Iterator[Planted]:
    def jpeg(*segments: bytes) -> bytes:
        return jpegs.with_segments(jpegs.plain(), *segments)

    for role in ("IFD", "ExifIFD"):
        for tag in EXIF_TABLE.rules[role].keys() - POINTERS.keys() - NESTED.keys():
            at = 8 if role == "IFD" else 64
            main = [jpegs.long("II", jpegs.EXIF_IFD, 64)]
            block = jpegs.tiff(
                "II",
                *([(8, jpegs.ifd("II", 8, main))] if at == 64 else []),
                (at, jpegs.ifd("II", at, [(tag, UNDEFINED, len(value), value)])),
            )
            yield Planted(f"EXIF {role} {tag:04x}", "image/jpeg", jpegs.photo_with(block))
    for tag in MPF_TABLE.rules["IFD"]:
        directory = jpegs.tiff("MM", (8, jpegs.ifd("MM", 8, [(tag, UNDEFINED, len(value), value)])))
        yield Planted(f"MPF {tag:04x}", "image/jpeg", jpeg(jpegs.segment(0xE2, b"MPF\0" + directory)))
    for number in sorted({*_RESOURCES, 2000, 2500, 2997, 0x03EC, 0x03FC, 0x0432}):
        size = -(-len(value) // 26) * 26 if 2000 <= number < 3000 else len(value)
        block = jpegs.resource(number, fitted(value, size) if size > len(value) else value)
        yield Planted(f"8BIM {number:04x}", "image/jpeg", jpeg(jpegs.photoshop_segment(block)))
    for part, datasets in _DATASETS.items():
        for number in datasets:
            block = jpegs.resource(0x0404, jpegs.record(part, number, value))
            yield Planted(f"IPTC {part}:{number}", "image/jpeg", jpeg(jpegs.photoshop_segment(block)))
    for kind in (b"zzzz", b"desc", b"curv", b"mft2", b"mAB "):
        icc = b"ICC_PROFILE\0\1\1" + profile(value, kind)
        yield Planted(f"JPEG ICC {kind!r}", "image/jpeg", jpeg(jpegs.segment(0xE2, icc)))
    thumbnail = b"JFIF\0\1\2\0\0\1\0\1\x28\x28" + fitted(value, 3 * 40 * 40)
    yield Planted("JFIF thumbnail", "image/jpeg", jpeg(jpegs.segment(0xE0, thumbnail)), colours=True)
    maps = b"urn:iso:std:iso:ts:21496:-1\0" + fitted(value[36:], 141)
    yield Planted("gain map", "image/jpeg", jpeg(jpegs.segment(0xE2, maps)))
    for number in range(4):
        table = bytes([0x10 | number]) + fitted(value[36:], 128)
        yield Planted(f"DQT {number}", "image/jpeg", jpeg(jpegs.segment(0xDB, table)), colours=True)
    symbols = bytes([0x10]) + bytes(15) + bytes([200]) + fitted(value[36:], 200)
    yield Planted("DHT", "image/jpeg", jpeg(jpegs.segment(0xC4, symbols)), colours=True)


def _pngs(value: bytes) -> Iterator[Planted]:
    for kind, (_, most, step) in pngs_sizes().items():
        data = fitted(value if len(value) <= most else value[36:], most // step * step)
        if kind not in (b"IHDR", b"CgBI", b"IEND"):
            made = pngs.plain(pngs.chunk(kind, data))
            yield Planted(f"PNG {kind!r}", "image/png", made, colours=kind in (b"PLTE", b"tRNS", b"hIST"))
    palette = b"name\0\x08" + fitted(value, -(-len(value) // 6) * 6)
    yield Planted("PNG sPLT", "image/png", pngs.plain(pngs.chunk(b"sPLT", palette)))
    for kind in (b"zzzz", b"mft2"):
        icc = b"name\0\0" + zlib.compress(profile(value, kind))
        yield Planted(f"PNG iCCP {kind!r}", "image/png", pngs.plain(pngs.chunk(b"iCCP", icc)))


def pngs_sizes() -> dict[bytes, tuple[int, int, int]]:
    """The least and greatest length of each chunk of numbers, and a number of which it is a multiple."""
    return {**FIXED, **{kind: (size, size, 1) for kind, (size, _) in TOLD.items()}}


def _others(value: bytes) -> Iterator[Planted]:
    colours = fitted(value, 768)
    image = b",\0\0\0\0\1\0\1\0\x87" + colours + b"\2\2\x4c\1\0"
    yield Planted("GIF local", "image/gif", b"GIF89a\1\0\1\0\0\0\0" + image + b";", colours=True)
    whole = b"GIF89a\1\0\1\0\x87\0\0" + colours + b",\0\0\0\0\1\0\1\0\0\2\2\x4c\1\0;"
    yield Planted("GIF global", "image/gif", whole, colours=True)
    blocks = profile(value)
    parts = b"".join(bytes([len(p)]) + p for p in (blocks[i : i + 255] for i in range(0, len(blocks), 255)))
    extension = b"!\xff\x0bICCRGBG1012" + parts + b"\0"
    yield Planted("GIF ICC", "image/gif", b"GIF89a\1\0\1\0\0\0\0" + extension + whole[781:])
    for bits, used in ((8, 256), (24, 60_000)):
        table = fitted(value, 4 * used)
        head = struct.pack("<IiiHHIIiiII", 40, 4, 4, 1, bits, 0, 0, 0, 0, used, 0)
        pixels = bytes(4 * 4 * bits // 8)
        size = 14 + len(head) + len(table)
        bmp = b"BM" + struct.pack("<IHHI", size + len(pixels), 0, 0, size) + head + table + pixels
        yield Planted(f"BMP table of {bits} bits", "image/bmp", bmp, colours=bits == 8)
    chunk = sounds.chunk
    inside = (
        chunk(b"VP8X", b"\x20" + bytes(9))
        + chunk(b"ICCP", profile(value))
        + chunk(b"VP8L", b"\x2f" + bytes(9))
    )
    yield Planted("WebP ICCP", "image/webp", b"RIFF" + struct.pack("<I", len(inside) + 4) + b"WEBP" + inside)
    for kind in (
        b"creg",
        b"copt",
        b"opct",
        b"roid",
        b"rreq",
        b"drep",
        b"cmap",
        b"nlst",
        b"inst",
        b"bpcc",
        b"cdef",
    ):
        yield Planted(f"JP2 {kind!r}", "image/jp2", jp2s.jp2(box(kind, value)))
    yield Planted("JP2 pclr", "image/jp2", jp2s.jp2(box(b"jp2h", box(b"pclr", value))), colours=True)
    yield Planted("JP2 colr", "image/jp2", jp2s.jp2(box(b"jp2h", box(b"colr", b"\2\0\0" + profile(value)))))
    yield Planted("JP2 colr 1", "image/jp2", jp2s.jp2(box(b"jp2h", box(b"colr", b"\1\0\0" + value[36:96]))))
    for code in (*range(0x50, 0x5A), *range(0x5C, 0x62), 0x63, *range(0x70, 0x7C)):
        stream = jp2s.codestream(header=jp2s.marker(code, value))
        if code not in (0x57, 0x58, 0x60, 0x61):
            yield Planted(f"JPEG 2000 marker {code:02x}", "image/x-jp2-codestream", stream)


def sounds_and_avi(value: bytes) -> Iterator[Planted]:
    """WAV, AVI, FLAC, Ogg, MP3."""
    chunk = sounds.chunk
    for name in (b"fact", b"inst", b"plst", b"cue ", b"smpl", b"ds64", b"PEAK"):
        fixed, at, entry, _ = PLAIN_CHUNKS.get(name, (8, 0, 8, 0))
        count = -(-len(value) // entry) if entry else 0
        data = bytearray(fitted(value, fixed) + value) if entry else bytearray(fitted(value[36:], fixed))
        if entry:
            data[at : at + 4] = count.to_bytes(4, "little")
            data += b"\x80" * (fixed + count * entry - len(data))
        yield Planted(f"WAV {name!r}", "audio/x-wav", sounds.wav(chunk(name, bytes(data))))
    for name in INFO_TEXTS:
        listed = chunk(b"LIST", b"INFO" + chunk(name.encode(), value))
        yield Planted(f"WAV INFO {name}", "audio/x-wav", sounds.wav(listed))
        yield Planted(f"AVI INFO {name}", "video/x-msvideo", sounds.avi(listed))
    for code in (0x11, 0x55, 0x161):
        form = chunk(b"fmt ", code.to_bytes(2, "little") + b"\1\0\x44\xac\0\0\x88\x58\1\0\2\0\x10\0" + value)
        data = sounds.sound() if code == 0x55 else bytes(range(100))
        body = b"WAVE" + form + chunk(b"data", data)
        yield Planted(f"WAV fmt {code:x}", "audio/x-wav", b"RIFF" + len(body).to_bytes(4, "little") + body)
    for name in (b"avih", b"vprp", b"dmlh", b"idx1", b"indx", b"strh", b"strn", b"IDIT", b"ISMP", b"JUNK"):
        data = value if len(value) % 2 == 0 else value + b"\x81"
        yield Planted(f"AVI {name!r}", "video/x-msvideo", sounds.avi(chunk(name, data)))
        yield Planted(f"AVI strl {name!r}", "video/x-msvideo", sounds.avi(more=chunk(name, data)))
    yield from _sounds(value)


def _sounds(value: bytes) -> Iterator[Planted]:
    points = fitted(value, -(-len(value) // 18) * 18)
    sheet = bytearray(fitted(value[36:], 128) + bytes(268))
    for kind, data in ((3, points), (5, bytes(sheet)), (2, value), (1, value), (0, value), (9, value)):
        yield Planted(f"FLAC {kind}", "audio/flac", sounds.flac((kind, data)))
    yield Planted("FLAC vendor", "audio/flac", sounds.flac((4, sounds.comments(vendor=value))))
    for number, text in enumerate(
        (b"TITLE=", b"GENRE=", b"REPLAYGAIN_TRACK_GAIN=", b"WAVEFORMATEXTENSIBLE_CHANNEL_MASK=")
    ):
        listed = sounds.comments(text + value)
        yield Planted(f"FLAC comment {number}", "audio/flac", sounds.flac((4, listed)))
        yield Planted(f"Vorbis comment {number}", "audio/ogg", sounds.vorbis(listed))
        yield Planted(f"Opus comment {number}", "audio/ogg", sounds.opus(listed))
    head = b"OpusHead\1\2" + bytes(8) + b"\1\1\1" + value[:200]
    packets = (head, b"OpusTags" + sounds.comments(), b"\xfcsound")
    yield Planted("Opus head", "audio/ogg", sounds.pages(8, *packets))
    setup = (
        b"\1vorbis" + bytes(22) + b"\1",
        b"\3vorbis" + sounds.comments() + b"\1",
        b"\5vorbis" + value,
        b"\0sound",
    )
    yield Planted("Vorbis setup", "audio/ogg", sounds.pages(8, *setup))
    for name in {name for names in FRAMES.values() for name in names.split() if len(name) == 4}:
        yield Planted(
            f"ID3 {name}", "audio/mpeg", sounds.id3(sounds.frame(name, b"\0" + value)) + sounds.sound()
        )
    for owner in (b"WM/MediaClassPrimaryID", b"AverageLevel", b"PeakValue", b"www.amazon.com", b"XMP"):
        private = sounds.frame("PRIV", owner + b"\0" + value)
        yield Planted(f"ID3 PRIV {owner!r}", "audio/mpeg", sounds.id3(private) + sounds.sound())
    for key in (b"Title", b"ReplayGain", b"Genre", b"ISRC", b"Cover Art (Front)"):
        for kind in (0, 1):
            tag = sounds.ape((key, value), kind=kind)
            yield Planted(f"APE {key!r} {kind}", "audio/mpeg", sounds.sound() + tag)
    yield Planted("Lyrics3", "audio/mpeg", sounds.sound() + sounds.lyrics(value) + sounds.old())


def boxes(value: bytes) -> Iterator[Planted]:
    """MP4, MOV, HEIF, JPEG XL."""
    for kind in sorted(stsd.CODEC_BOXES):
        for handler, form in ((b"vide", b"test"), (b"soun", b"mp4a")):
            track = movies.Track(kind=handler, format=form, entry=box(kind, value))
            yield Planted(f"stsd {handler!r} {kind!r}", "video/mp4", movies.movie(track))
    for outer, inner in ((b"wave", b"esds"), (b"wave", b"alac"), (b"sinf", b"schm"), (b"sv3d", b"proj")):
        track = movies.Track(kind=b"soun", format=b"mp4a", entry=box(outer, box(inner, value)))
        yield Planted(f"stsd {outer!r} {inner!r}", "video/mp4", movies.movie(track))
    for kind in (b"user", b"key ", b"iviv", b"righ", b"priv", b"tenc", b"name", b"cert"):
        entry = box(b"sinf", box(b"schi", box(kind, value)))
        yield Planted(f"schi {kind!r}", "video/mp4", movies.movie(movies.Track(entry=entry)))
    yield from _tables(value)
    yield from _movies(value)
    yield from _heifs(value)


def _tables(value: bytes) -> Iterator[Planted]:
    entries = fitted(value, -(-len(value) // 24) * 24)
    size = len(entries)
    for kind, width in ((b"stps", 4), (b"stsh", 8), (b"ctts", 8), (b"stss", 4), (b"stts", 8)):
        made = full(kind, u32(size // width), entries)
        yield Planted(f"stbl {kind!r}", "video/mp4", movies.movie(movies.Track(table=made)))
    for kind in (b"roll", b"rap ", b"sync", b"seig", b"alst", b"refs", b"tele"):
        grouped = full(b"sbgp", kind, u32(size // 8), entries)
        yield Planted(f"sbgp {kind!r}", "video/mp4", movies.movie(movies.Track(table=grouped)))
        described = full(b"sgpd", kind, u32(size, 1), entries, version=1)
        yield Planted(f"sgpd {kind!r}", "video/mp4", movies.movie(movies.Track(table=described)))
        packed = full(b"csgp", kind, entries)
        yield Planted(f"csgp {kind!r}", "video/mp4", movies.movie(movies.Track(table=packed)))
    more = {
        "sdtp": full(b"sdtp", value),
        "padb": full(b"padb", u32(2 * size), value),
        "saiz": full(b"saiz", b"\0", u32(size), entries),
        "saio": full(b"saio", u32(size // 4), entries),
        "senc": full(b"senc", u32(size // 8), entries),
        "cslg": full(b"cslg", fitted(value[36:], 20)),
    }
    for name, made in more.items():
        yield Planted(f"stbl {name}", "video/mp4", movies.movie(movies.Track(table=made)))
    edits = box(b"edts", full(b"elst", u32(size // 12), entries))
    yield Planted("elst", "video/mp4", movies.movie(movies.Track(extra=edits)))


def _movies(value: bytes) -> Iterator[Planted]:
    four = fitted(value, -(-len(value) // 4) * 4)
    for kind in (b"iods", b"pssh", b"mvex", b"zzzz"):
        yield Planted(f"moov {kind!r}", "video/mp4", movies.movie(moov=box(kind, value)))
    sound = full(b"pssh", bytes(16), u32(len(value)), value)
    yield Planted("moov pssh", "video/mp4", movies.movie(moov=sound))
    for kind in (b"load", b"tref", b"tapt"):
        yield Planted(f"trak {kind!r}", "video/mp4", movies.movie(movies.Track(extra=box(kind, value))))
    yield Planted("tref", "video/mp4", movies.movie(movies.Track(extra=box(b"tref", box(b"cdsc", four)))))
    for kind in (b"elng", b"stsl"):
        yield Planted(f"mdia {kind!r}", "video/mp4", movies.movie(movies.Track(media=full(kind, value))))
    for name in sorted({*TEXT_ATOMS, *USER_DATA}):
        udta = box(b"udta", movies.text_atom(name, value) if name in TEXT_ATOMS else box(name, value))
        yield Planted(f"udta {name!r}", "video/quicktime", movies.movie(moov=udta))
    for name in sorted(ITEMS):
        for kind in (0, 1, 21):
            made = movies.itunes(box(name, movies.data(value, kind)))
            yield Planted(f"ilst {name!r} {kind}", "video/mp4", movies.movie(moov=made))
    for name in (b"com.apple.quicktime.camera.framereadouttimeinmicroseconds", b"com.android.capture.fps"):
        for kind in (1, 23, 67):
            made = movies.keyed({name: value}, quicktime=True, kind=kind)
            yield Planted(f"keys {name!r} {kind}", "video/quicktime", movies.movie(moov=made))
    yield Planted("ftyp", "video/mp4", movies.movie(head=box(b"ftyp", b"isom", bytes(4), four)))
    for kind in (b"sidx", b"pnot", b"PICT", b"thum", b"junk", b"free", b"wide", b"skip", b"styp", b"mfra"):
        yield Planted(f"top {kind!r}", "video/mp4", movies.movie(after=box(kind, value)))


def _heifs(value: bytes) -> Iterator[Planted]:
    for kind in sorted(PROPERTIES):
        size = {b"a1lx": 13}.get(kind, len(value))
        data = value if size >= len(value) else value[36 : 36 + size]
        for start in (b"", bytes(4)):
            layout = heifs.Layout(properties=(*heifs.PROPERTIES, box(kind, start + data)))
            things = [heifs.Thing(1, b"hvc1", heifs.picture(), properties=(1, 2, 3))]
            colours = kind in (b"cpal", b"a1lx")  # the longest a1lx has no room for two coordinates
            yield Planted(f"HEIF {kind!r}", "image/heic", heifs.heif(things, layout), colours)
    icc = box(b"colr", b"prof" + profile(value))
    layout = heifs.Layout(properties=(*heifs.PROPERTIES, icc))
    things = [heifs.Thing(1, b"hvc1", heifs.picture(), properties=(1, 2, 3))]
    yield Planted("HEIF colr", "image/heic", heifs.heif(things, layout))
    for kind in (b"jxll", b"jxli", b"jhgm", b"jumb", b"Exif", b"xml "):
        data = value[36:37] if kind == b"jxll" else value
        yield Planted(f"JXL {kind!r}", "image/jxl", jp2s.jxl(box(kind, data)))


def matroskas(value: bytes) -> Iterator[Planted]:
    """Elements of Matroska, settings of codecs, fonts."""
    kind, el = "video/x-matroska", mkvs.el
    for parent, elements in ELEMENTS.items():
        for ident, element in elements.items():
            if element.form is not Form.MASTER:
                inside = el(ident, value)
                for outer in _above(parent):
                    inside = el(outer, inside)
                name = f"Matroska {parent:x} {element.name}"
                if parent == mkvs.INFO:
                    yield Planted(name, kind, mkvs.film(el(mkvs.INFO, el(ident, value))))
                elif _above(parent)[-1:] == [mkvs.TRACKS]:
                    tracks = mkvs.track(1, 1, b"V_VP8", *_entry(inside))
                    yield Planted(name, kind, mkvs.film(tracks=tracks))
                else:
                    yield Planted(name, kind, mkvs.film(inside))
    for codec in (
        *_NUMBERS,
        "V_MPEG2",
        "V_MPEG4/ISO/ASP",
        "S_VOBSUB",
        "S_TEXT/ASS",
        "A_FLAC",
        "A_VORBIS",
        "V_AV1",
    ):
        number = {"V": 1, "A": 2}.get(codec[0], 17)
        for form in (value, b"\1\x42\0\x1e\xff\xe0\0" + value, struct.pack("<I", 40) + bytes(36) + value):
            track = mkvs.track(2, number, codec.encode(), el(tag_names.CODEC_PRIVATE, form))
            yield Planted(f"Matroska {codec}", kind, mkvs.film(tracks=mkvs.VIDEO + track))
    setup = b"\1vorbis" + bytes(23), b"\3vorbis" + sounds.comments() + b"\1", b"\5vorbis" + value
    laced = b"\2" + bytes([len(setup[0]), len(setup[1])]) + b"".join(setup)
    track = mkvs.track(2, 2, b"A_VORBIS", el(tag_names.CODEC_PRIVATE, laced))
    yield Planted("Matroska Vorbis", kind, mkvs.film(tracks=mkvs.VIDEO + track))
    for mime in (b"font/otf", b"application/x-truetype-font", b"image/png"):
        font = mkvs.font(value)
        file = el(tag_names.ATTACHED_FILE, el(0x466E, b"a.otf"), el(0x4660, mime), el(0x465C, font))
        yield Planted(f"Matroska font {mime!r}", kind, mkvs.film(el(mkvs.ATTACHMENTS, file)))
    for name in (
        b"TITLE",
        b"GENRE",
        b"ENCODER",
        b"BPS",
        b"DURATION",
        b"_STATISTICS_TAGS",
        b"REPLAYGAIN_GAIN",
    ):
        made = mkvs.film(mkvs.tags(mkvs.simple_tag(name, value)))
        yield Planted(f"Matroska tag {name!r}", kind, made)


def _above(parent: int) -> list[int]:
    """The element and those above it, up to the segment."""
    out = [parent]
    while True:
        above = [p for p, elements in ELEMENTS.items() if out[-1] in elements and p not in out]
        if not above or out[-1] in (
            mkvs.TRACKS,
            mkvs.TAGS,
            mkvs.CHAPTERS,
            mkvs.ATTACHMENTS,
        ):
            return out
        out.append(above[0])


def _entry(inside: bytes) -> list[bytes]:
    """What is in the last TrackEntry of a Tracks element."""
    head = head_at(inside, 0)
    assert head is not None
    entry = inside[head.length :]
    within = head_at(entry, 0)
    assert within is not None
    return [entry[within.length :]]
