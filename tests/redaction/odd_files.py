"""Sound files with something odd within a stated length: what some writers leave there, and readers skip.

Each is made by a public tool, and then changed by a few bytes. Each tells a place.
"""

from __future__ import annotations

import base64
import struct
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Final, NamedTuple

from tests.support.samples import media
from tests.support.samples.media import run

JUNK: Final = b"\0\0\x0f\xd8odd\x01 seen at 47.80453, 13.04229 and on"
"""Bytes that look like the header of a long box or chunk of an unlikely name, with a place behind it."""
BOX: Final = struct.pack(">I", len(JUNK) + 8) + b"od\xffd" + JUNK
"""A box of a type that is no text."""
_FULL: Final = (b"meta",)
"""Boxes with a version before the boxes inside them (of ISO media files; not in QuickTime's ``moov``)."""


class Odd(NamedTuple):
    """One file. reader: the reference decoder ("" for FFmpeg; a command whose last word is the file)."""

    name: str
    kind: str
    data: bytes
    reader: tuple[str, ...] = ("identify", "-quiet", "-format", "%#\n")


_FILM: Final = ()
_FLAC: Final = ("flac", "--silent", "--decode", "--stdout")
_JXL: Final = ("sh", "-c", "djxl --quiet $0 $0.ppm && cat $0.ppm")
_JP2: Final = ("opj_dump", "-i")


def in_box(data: bytes, path: tuple[bytes, ...], junk: bytes) -> bytes:
    """The file with bytes at the end of a box, and the sizes of the boxes around it."""
    start, end, sizes = 0, len(data), []
    if not path:
        end = int.from_bytes(data[:4])  # behind the first box, ftyp
    for kind in path:
        at = start
        while data[at + 4 : at + 8] != kind:
            at += int.from_bytes(data[at : at + 4])
            assert at < end, kind
        sizes.append(at)
        end = at + int.from_bytes(data[at : at + 4])
        start = at + 8 + 4 * (kind in _FULL)
    out = bytearray(data[:end] + junk + data[end:])
    for at in sizes:
        out[at : at + 4] = (int.from_bytes(data[at : at + 4]) + len(junk)).to_bytes(4)
    return bytes(out)


def in_meta(data: bytes, path: tuple[bytes, ...], junk: bytes) -> bytes:
    """The same for a HEIF, whose table of places follows: its pictures are behind its ``meta``."""
    out, more = bytearray(in_box(data, path, junk)), 0 if path else len(junk)
    for at in _places(data):
        out[at + more : at + more + 4] = (int.from_bytes(data[at : at + 4]) + len(junk)).to_bytes(4)
    return bytes(out)


def _places(data: bytes) -> Iterator[int]:
    """The offsets of the numbers that say where the items of a HEIF are (ISO/IEC 14496-12 8.11.3)."""
    at = data.index(b"iloc") + 4
    version, based = data[at], data[at + 5] >> 4
    assert data[at + 4] == 0x44
    at += 8
    for _ in range(int.from_bytes(data[at - 2 : at])):
        in_file = not version or data[at + 3] == 0
        at += 6 if version else 4
        if based and in_file:
            yield at
        count = int.from_bytes(data[at + based : at + based + 2])
        at += based + 2
        yield from range(at, at + 8 * count, 8) if in_file and not based else ()
        at += 8 * count


def in_riff(data: bytes, at: int, junk: bytes) -> bytes:
    """The file with bytes at an offset within its RIFF."""
    out = data[:at] + junk + data[at:]
    return out[:4] + (len(out) - 8).to_bytes(4, "little") + out[8:]


def chunk(name: bytes, data: bytes) -> bytes:
    """A chunk of RIFF."""
    return name + len(data).to_bytes(4, "little") + data + bytes(len(data) % 2)


def stills(directory: Path) -> Iterator[Odd]:
    photo = media.photo(directory / "photo.jpg", width=64, height=48)
    jpeg = photo.read_bytes()
    yield Odd("fill bytes before a marker", "image/jpeg", jpeg[:2] + b"\xff\xff\xff" + jpeg[2:])
    yield Odd("bytes behind the picture", "image/jpeg", jpeg + JUNK)
    yield Odd("a marker of no name", "image/jpeg", jpeg[:2] + b"\xff\xe9\0\x2c" + JUNK[:42] + jpeg[2:])
    png, gif, tiff, bmp, webp = (directory / f"plain.{end}" for end in ("png", "gif", "tif", "bmp", "webp"))
    run("convert", str(photo), str(png))
    yield Odd("bytes behind IEND", "image/png", png.read_bytes() + JUNK)
    run("convert", str(photo), "-strip", "-colors", "16", str(gif))
    yield Odd("bytes behind the end", "image/gif", gif.read_bytes() + JUNK)
    run("convert", str(photo), str(tiff))
    yield Odd("bytes of no directory", "image/tiff", tiff.read_bytes() + JUNK)
    run("convert", str(photo), "-strip", "-colors", "200", "-type", "palette", f"BMP3:{bmp}")
    flat = bmp.read_bytes()
    yield Odd("bytes behind the pixels", "image/bmp", flat + JUNK, _FILM)
    run("cwebp", "-quiet", "-metadata", "all", str(photo), "-o", str(webp))
    data = webp.read_bytes()
    check = ("webpinfo", "-quiet")
    for name in (b"XMP\0", b"\0\0\0\0", b"\xff\xfe\0\1"):
        odd = in_riff(data, len(data), chunk(name, JUNK))
        yield Odd(f"a chunk named {name!r}", "image/webp", odd)
        yield Odd(f"a chunk named {name!r}", "image/webp", odd, check)
    yield Odd("a few bytes of no chunk", "image/webp", in_riff(data, len(data), b"47.8\0\0"))
    yield Odd("bytes behind the RIFF", "image/webp", data + JUNK)
    jp2 = directory / "plain.jp2"
    run("opj_compress", "-i", str(png), "-o", str(jp2))
    data = jp2.read_bytes()
    yield Odd("a box of an unlikely type", "image/jp2", in_box(data, (b"jp2h",), BOX), _JP2)
    yield Odd("bytes behind the last box", "image/jp2", data + BOX, _JP2)
    yield Odd("an Exif box", "image/jp2", in_box(data, (b"jp2h",), b"\0\0\0\x18exif47.80453, 13.042"), _JP2)
    jxl = directory / "plain.jxl"
    run("cjxl", "--quiet", "--container=1", "--distance=1", str(photo), str(jxl))
    with_junk = jxl.read_bytes() + struct.pack(">I", len(JUNK) + 8) + b"odd " + JUNK
    yield Odd("a box of no name", "image/jxl", with_junk, _JXL)
    heic, avif = directory / "plain.heic", directory / "plain.avif"
    run("heif-enc", "-q", "50", str(photo), "-o", str(heic))
    run("avifenc", "--speed", "10", str(photo), str(avif))
    for path, kind in ((heic, "image/heic"), (avif, "image/avif")):
        data = path.read_bytes()
        for boxes in ((b"meta",), (b"meta", b"iprp"), (b"meta", b"iprp", b"ipco")):
            yield Odd(f"an unlikely box in {boxes[-1]!r}", kind, in_meta(data, boxes, BOX))
        yield Odd("an unlikely box before the others", kind, in_meta(data, (), BOX))
        yield Odd("bytes behind the last box", kind, data + JUNK)
    data = heic.read_bytes()
    yield Odd("Exif in a segment of JPEG, as Xiaomi's phones write", "image/heic", _in_segment(data))


def _in_segment(data: bytes) -> bytes:
    """The HEIF with the item of Exif at its end, in the start of a segment."""
    at = data.index(b"MM\0*") - 4
    first = next(where for where in _places(data) if int.from_bytes(data[where : where + 4]) == at)
    size = int.from_bytes(data[first + 10 : first + 14])
    item = (10).to_bytes(4) + b"\xff\xe1\x38\x26Exif\0\0" + data[at + 4 : at + size]
    out = bytearray(data + (len(item) + 8).to_bytes(4) + b"mdat" + item)
    out[first : first + 4] = (len(data) + 8).to_bytes(4)
    out[first + 10 : first + 14] = len(item).to_bytes(4)
    return bytes(out)


def films(directory: Path) -> Iterator[Odd]:
    source = ("-f", "lavfi", "-i", "testsrc=size=64x48:rate=5:duration=1")
    sound = ("-f", "lavfi", "-i", "sine=frequency=330:duration=1")
    tag = ("-metadata", "location=+47.8045+013.0423/", "-metadata", "comment=at 47.80453, 13.04229")
    ff = ("ffmpeg", "-v", "error", "-y")
    made = {}
    for end, codec in (("mp4", "libx264"), ("mov", "mjpeg"), ("mkv", "libx264"), ("avi", "mjpeg")):
        path = directory / f"film.{end}"
        run(*ff, *source, *sound, *tag, "-c:v", codec, "-preset", "ultrafast", "-shortest", str(path))
        made[end] = path.read_bytes()
    for end, kind in (("mp4", "video/mp4"), ("mov", "video/quicktime")):
        for boxes in (
            (b"moov",),
            (b"moov", b"udta"),
            (b"moov", b"trak"),
            (b"moov", b"trak", b"mdia", b"minf"),
        ):
            odd = in_box(made[end], boxes, JUNK)
            yield Odd(f"bytes of no box in {boxes[-1]!r}", kind, odd, _FILM)
        yield Odd("bytes behind the last box", kind, made[end] + JUNK, _FILM)
    stsd = (b"moov", b"trak", b"mdia", b"minf", b"stbl")
    yield Odd("bytes of no box in stbl", "video/mp4", in_box(made["mp4"], stsd, JUNK), _FILM)
    mp4, path = made["mp4"], directory / "fragments.mp4"
    index = mp4.index(b"moov") - 4
    yield Odd("an unlikely box before the index", "video/mp4", mp4[:index] + BOX + mp4[index:], _FILM)
    run(
        *ff,
        "-i",
        str(directory / "film.mp4"),
        *tag,
        "-movflags",
        "frag_every_frame+empty_moov+default_base_moof",
        str(path),
    )
    data = path.read_bytes()
    for at in (data.index(b"moof") - 4, data.rindex(b"moof") - 4):
        odd = data[:at] + BOX + data[at:]
        yield Odd("an unlikely box before a fragment", "video/mp4", odd, _FILM)
    yield Odd("bytes behind the segment", "video/x-matroska", made["mkv"] + JUNK, _FILM)
    avi = made["avi"]
    movie = avi.index(b"movi") - 8
    for at in (movie, movie + 12):
        odd = in_riff(avi, at, chunk(b"XMP\0", JUNK))
        if at == movie + 12:
            size = int.from_bytes(avi[movie + 4 : movie + 8], "little") + 8 + len(JUNK) + len(JUNK) % 2
            odd = odd[: movie + 4] + size.to_bytes(4, "little") + odd[movie + 8 :]
        yield Odd("an unlikely chunk", "video/x-msvideo", odd, _FILM)
    yield Odd("bytes behind the index", "video/x-msvideo", in_riff(avi, len(avi), JUNK), _FILM)
    yield Odd("bytes behind the RIFF", "video/x-msvideo", avi + JUNK, _FILM)
    png = directory / "frame.png"
    run(*ff, *source, "-frames:v", "1", str(png))
    film = directory / "png.mp4"
    run(*ff, "-i", str(png), "-c:v", "copy", *tag, str(film))
    yield Odd("a PNG as a sample of mp4v", "video/mp4", film.read_bytes(), _FILM)


def sounds(directory: Path) -> Iterator[Odd]:
    sound = ("ffmpeg", "-v", "error", "-y", "-f", "lavfi", "-i", "sine=frequency=330:duration=1")
    tag = ("-metadata", "comment=at 47.80453, 13.04229")
    made = {}
    for end in ("wav", "mp3", "flac", "ogg", "m4a", "aac"):
        path = directory / f"sound.{end}"
        run(*sound, *tag, *(("-c:a", "libvorbis") if end == "ogg" else ()), str(path))
        made[end] = path.read_bytes()
    wav, mp3 = made["wav"], made["mp3"]
    yield Odd("bytes behind the sound", "audio/x-wav", in_riff(wav, len(wav), JUNK), _FILM)
    start = wav.index(b"data")
    unlikely = in_riff(wav, start, chunk(b"XMP\0", JUNK))
    yield Odd("an unlikely chunk before the sound", "audio/x-wav", unlikely, _FILM)
    yield Odd("an odd chunk", "audio/x-wav", in_riff(wav, len(wav), chunk(b"odd\1", JUNK)), _FILM)
    other = directory / "other.mp3"
    run(*sound, "-id3v2_version", "4", "-metadata", "title=Rosa", *tag, str(other))
    size = _tag_bytes(other.read_bytes())
    yield Odd("two ID3 tags", "audio/mpeg", other.read_bytes()[:size] + mp3, _FILM)
    start = _tag_bytes(mp3)
    yield Odd("bytes behind ID3", "audio/mpeg", mp3[:start] + JUNK + mp3[start:], _FILM)
    yield Odd("bytes behind the frames", "audio/mpeg", mp3 + JUNK, _FILM)
    yield Odd("bytes behind the last box", "audio/x-m4a", made["m4a"] + JUNK, _FILM)
    yield Odd(
        "bytes in ilst", "audio/x-m4a", in_box(made["m4a"], (b"moov", b"udta", b"meta", b"ilst"), JUNK), _FILM
    )
    yield Odd("bytes behind the frames", "audio/aac", made["aac"] + JUNK, _FILM)
    photo = media.photo(directory / "cover.jpg", width=32, height=24).read_bytes()
    head = struct.pack(">II", 3, 10) + b"image/jpeg" + struct.pack(">IIIIII", 0, 0, 0, 0, 0, len(photo))
    for behind in (b"\0", b"47.80453,13.04229"):
        block = head + photo + behind
        flac = made["flac"]
        with_cover = flac[:42] + b"\6" + len(block).to_bytes(3) + block + flac[42:]
        yield Odd(f"a cover with {len(behind)} bytes behind it", "audio/flac", with_cover, _FLAC)
        ogg = directory / "cover.ogg"
        text = "METADATA_BLOCK_PICTURE=" + base64.b64encode(block).decode()
        run(*sound, *tag, "-c:a", "libvorbis", "-metadata", text, str(ogg))
        yield Odd(f"a cover with {len(behind)} bytes behind it", "audio/ogg", ogg.read_bytes(), _FILM)
    padded = made["flac"][:42] + b"\1\0\0\x2a" + JUNK[:42] + made["flac"][42:]
    yield Odd("padding with a text", "audio/flac", padded, _FLAC)
    unknown = made["flac"][:42] + b"\x42\0\0\x2a" + JUNK[:42] + made["flac"][42:]
    yield Odd("a block of an unknown sort", "audio/flac", unknown, _FLAC)


def large(directory: Path) -> Iterator[Odd]:
    """Sounds with covers that are larger than a head, also with compressed texts; many subtitles."""
    photo, packed, lines = directory / "large.jpg", directory / "packed.png", directory / "lines.ass"
    noise = ("convert", "-size", "220x160", "xc:", "+noise", "Random", "-seed", "3", "-quality", "98")
    run(*noise, str(photo))
    tags = ("-GPSLatitude=47.80453", "-GPSLatitudeRef=N", "-XMP-dc:Description=at 47.80453, 13.04229")
    run("exiftool", "-q", "-overwrite_original", *tags, str(photo))
    run("convert", str(photo), "-set", "comment", "at 47.80453, 13.04229" + " and more" * 99, str(packed))
    times = [f"0:{n // 60:02}:{n % 60:02}" for n in range(1201)]
    cues = [f"Dialogue: 0,{a}.00,{b}.00,Default,,0,0,0,,line {a}\n" for a, b in pairwise(times)]
    head = "[Script Info]\nScriptType: v4.00+\n\n[Events]\nFormat: Layer, Start, End, Style, Name, MarginL,"
    lines.write_text(f"{head} MarginR, MarginV, Effect, Text\n{''.join(cues)[:-1]} 47.80453, 13.04229\n")
    sound = ("-f", "lavfi", "-i", "sine=frequency=330:duration=1")
    command = ["ffmpeg", "-v", "error", "-y", *sound, "-i", str(photo), "-i", str(packed), "-i", str(lines)]
    made = {}
    for end, kind in (("mp3", "audio/mpeg"), ("flac", "audio/flac"), ("m4a", "audio/x-m4a")):
        for cover in ("1", "2"):
            made[directory / f"cover{cover}.{end}"] = kind
            maps = ("-map", "0", "-map", cover, "-c:v", "copy", "-disposition:v", "attached_pic")
            command += [*maps, str(directory / f"cover{cover}.{end}")]
    for path in (photo, packed):
        mime = "image/png" if path == packed else "image/jpeg"
        attached = ("-attach", str(path), "-metadata:s:t", f"mimetype={mime}")
        made[directory / f"{path.stem}.mka"] = "video/x-matroska"
        command += ["-map", "0", *attached, str(directory / f"{path.stem}.mka")]
    made[directory / "lines.mkv"] = "video/x-matroska"
    command += ["-map", "0", "-map", "3", "-c:s", "copy", str(directory / "lines.mkv")]
    run(*command)
    for path, kind in made.items():
        yield Odd(path.name, kind, path.read_bytes(), _FILM)


def _tag_bytes(data: bytes) -> int:
    """The size of the ID3v2 tag at the start."""
    assert data.startswith(b"ID3")
    return 10 + (data[6] << 21 | data[7] << 14 | data[8] << 7 | data[9])
