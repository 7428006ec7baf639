"""Still pictures in boxes, as encoders and photo software leave them: HEIC, AVIF, JPEG XL, JPEG 2000."""

from __future__ import annotations

import hashlib
import subprocess
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Final

from policyfs.redact.core.cleaners import Budget
from policyfs.redact.core.patches import MemorySource
from policyfs.redact.isobmff.boxes import read_boxes
from tests.redaction.samples import Sample, pixels
from tests.support.samples import media
from tests.support.samples.heifs import XMP_TYPE, Layout, Thing, full, heif
from tests.support.samples.media import TOOL_DEADLINE_S
from tests.support.samples.movies import box as make_box

_NAMES: Final = {
    "location": ("47.804531", "13.042287", media.HOME.city, media.HOME.state),
    "device": ("Testmaker", "Modell 7"),
    "people": ("Rosa Kamera", "a quince on a table"),
    "time": ("2024:05:17 11:22:33",),
}
_PARTS: Final = Budget(1000, 1 << 20)
TAGS: Final = {
    name: value
    for name, value in (media.KEPT_TAGS | media.place_tags(media.HOME)).items()
    if not name.startswith("IPTC")
}
"""What is written into each of them; these containers have no place for IPTC-IIM but one."""


def _decoded(*command: str) -> Callable[[Path], str]:
    """A digest of the pixels that a decoder writes (``IN`` and ``OUT`` stand for its files)."""

    def shown(path: Path) -> str:
        with TemporaryDirectory() as directory:
            out = Path(directory) / "out.png"
            words = [{"IN": str(path), "OUT": str(out)}.get(word, word) for word in command]
            done = subprocess.run(words, capture_output=True, timeout=TOOL_DEADLINE_S, check=False)
            found = sorted(Path(directory).iterdir())
            if done.returncode or not found:
                raise AssertionError(f"{command[0]} cannot read {path}: {done.stderr[-500:]!r}")
            said = "".join(pixels(each) for each in found)
        return hashlib.sha256(said.encode()).hexdigest()

    return shown


heif_pixels: Final = _decoded("heif-convert", "IN", "OUT")
avif_pixels: Final = _decoded("avifdec", "--ignore-icc", "-j", "1", "IN", "OUT")
avif_frames: Final = _decoded("avifdec", "--ignore-icc", "-j", "1", "--index", "1", "IN", "OUT")
jxl_pixels: Final = _decoded("djxl", "IN", "OUT")
jxl_by_ffmpeg: Final = _decoded("ffmpeg", "-v", "error", "-i", "IN", "OUT")
jp2_pixels: Final = _decoded("opj_decompress", "-i", "IN", "-o", "OUT")


@dataclass(frozen=True, slots=True)
class _Maker:
    """Makes samples in a directory, from one photo and one picture without metadata."""

    directory: Path
    photo: Path
    plain: Path

    def made(self, name: str, *command: str) -> Path:
        """What a tool writes (``OUT``)."""
        path = self.directory / name
        media.run(*(str(path) if word == "OUT" else word for word in command))
        return path

    def tagged(self, path: Path, tags: Mapping[str, str] = TAGS) -> Path:
        media.write_tags(path, dict(tags))
        return path


def samples(directory: Path) -> Iterator[Sample]:
    """Pictures in boxes with facts in each place that a tool writes them to."""
    (directory / "parts").mkdir()
    plain = media.picture(directory / "parts" / "plain.png", width=96, height=64)
    photo = media.photo(directory / "parts" / "photo.jpg", width=96, height=64)
    for suffix in ("exif", "xmp"):
        media.run("exiftool", "-q", "-tagsfromfile", str(photo), str(directory / "parts" / f"m.{suffix}"))
    maker = _Maker(directory, photo, plain)
    yield from _heif(maker)
    yield from _jxl(maker)
    yield from _jp2(maker)


def _heif(make: _Maker) -> Iterator[Sample]:
    encode = ("heif-enc", str(make.photo), "-q", "40", "-o", "OUT")
    yield Sample("HEIC by libheif", "image/heic", make.made("a.heic", *encode), _NAMES, heif_pixels)
    packed = make.made("packed.heic", *encode, "--enable-metadata-compression", "--thumb", "32")
    told = {word: tuple(f for f in facts if f not in media.HOME.names) for word, facts in _NAMES.items()}
    yield Sample("HEIC with packed XMP and a thumbnail", "image/heic", packed, told, heif_pixels)
    again = make.tagged(make.made("again.heic", "heif-enc", str(make.plain), "-q", "40", "-o", "OUT"))
    yield Sample("HEIC written to by exiftool", "image/heic", again, _NAMES, heif_pixels)
    moving = make.directory / "moving.heic"
    video = media.video(make.directory / "parts" / "v.mp4", place=media.HOME, seconds=1)
    moving.write_bytes(again.read_bytes() + make_box(b"mpvd", video.read_bytes()))
    yield Sample("HEIC with a motion photo's video", "image/heic", moving, _NAMES, heif_pixels)
    yield _taken_apart(make)
    avif = make.made("a.avif", "avifenc", "-s", "10", "-j", "1", str(make.photo), "OUT")
    yield Sample("AVIF by libavif", "image/avif", avif, _NAMES, avif_pixels)
    parts = make.directory / "parts"
    frames = [str(media.picture(parts / f"{n}.png", width=64, height=48, seed=n)) for n in (1, 2)]
    given = ("--exif", str(parts / "m.exif"), "--xmp", str(parts / "m.xmp"))
    series = make.made("series.avif", "avifenc", "-s", "10", "-j", "1", *given, *frames, "OUT")
    extra = {"XMP-exif:GPSDateTime": "it goes with the place that it is a part of"}
    yield Sample("a sequence of pictures as AVIF", "image/avif", series, _NAMES, avif_frames, extra=extra)


def _taken_apart(make: _Maker) -> Sample:
    """A real coded picture in a file as no tool at hand writes it: data in pieces, Exif and XMP in idat, an
    item of nobody's, a title and a date among the properties."""
    plain = make.made("parts/plain.heic", "heif-enc", str(make.plain), "-q", "40", "-o", "OUT").read_bytes()
    at = plain.index(b"iloc") + 12
    base, offset, length = (int.from_bytes(plain[at + n : at + n + 4]) for n in (4, 10, 14))
    start = plain.index(b"ipco") - 4
    properties = [
        plain[box.start : box.end]
        for box in read_boxes(
            MemorySource(plain), start + 8, start + int.from_bytes(plain[start:][:4]), _PARTS
        )
    ]
    count = len(properties)
    properties += [
        full(b"udes", b"en\0Quillwort by the lake\0\0\0"),
        full(b"crtt", (3_800_000_000_000_000).to_bytes(8)),
        full(b"altt", b"a heron at 47.804531, 13.042287\0en\0"),
    ]
    exif, xmp = ((make.directory / "parts" / f"m.{kind}").read_bytes() for kind in ("exif", "xmp"))
    things = [
        Thing(
            *(1, b"hvc1", plain[base + offset :][:length]),
            pieces=3,
            properties=tuple(range(1, count + 4)),
        ),
        Thing(2, b"Exif", bytes(4) + exif, where="idat", pieces=2),
        Thing(3, b"mime", xmp, XMP_TYPE, where="idat"),
        Thing(4, b"mime", b"12345" + bytes(4) + exif, b"application/x-anything"),
    ]
    layout = Layout(iloc_version=2, properties=properties, references=[(b"cdsc", n, (1,)) for n in (2, 3)])
    path = make.directory / "apart.heic"
    path.write_bytes(heif(things, layout))
    told = {**_NAMES, "people": (*_NAMES["people"], "Quillwort", "heron")}
    told["location"] = (*told["location"], "heron")
    extra = {
        "XMP-exif:GPSDateTime": "it goes with the place that it is a part of",
        "QuickTime:Unknown_altt": "it holds coordinates",
        "Meta:MetaImageSize": "exiftool takes what is in idat for a grid",
    }
    return Sample("HEIC in pieces", "image/heic", path, told, heif_pixels, extra=extra)


def _jxl(make: _Maker) -> Iterator[Sample]:
    boxed = make.made("a.jxl", "cjxl", str(make.plain), "OUT", "--container=1", "-e", "3")
    yield Sample("JPEG XL with boxes", "image/jxl", make.tagged(boxed), _NAMES, jxl_pixels)
    bare = make.made("bare.jxl", "cjxl", str(make.plain), "OUT", "-e", "3")
    yield Sample("a bare codestream of JPEG XL", "image/jxl", bare, {}, jxl_pixels)
    packed = make.made("jpeg.jxl", "cjxl", str(make.photo), "OUT", "-e", "3")
    yield Sample("JPEG XL made from a JPEG, packed", "image/jxl", packed, {}, jxl_pixels)
    yield Sample("the same, which FFmpeg may take for a movie", "image/jxl", packed, {}, jxl_by_ffmpeg)


def _jp2(make: _Maker) -> Iterator[Sample]:
    comment = f"seen at {media.HOME.latitude}, {media.HOME.longitude}"
    encode = ("opj_compress", "-i", str(make.plain), "-C", comment, "-o", "OUT")
    boxed = make.tagged(make.made("a.jp2", *encode), media.KEPT_TAGS | media.place_tags(media.HOME))
    yield Sample("JPEG 2000 with boxes", "image/jp2", boxed, _NAMES, jp2_pixels)
    facts = (*_NAMES["location"][:2], "seen at")  # one text, which goes whole
    told = dict.fromkeys(("location", "device", "people"), facts)
    extra = {"File:Comment": "it holds coordinates"}
    bare = make.made("a.j2k", *encode)
    kind = "image/x-jp2-codestream"
    yield Sample("a codestream of JPEG 2000", kind, bare, told, jp2_pixels, extra=extra)
