"""HEICs, MP4s and PNGs with a place where a lazy parser does not look: threats A5.

Each case makes a whole file that holds media.HOME. CUT are those that are cut off or broken so that
nobody can say where their metadata ends: they are shown without the place, or not at all.
"""

from __future__ import annotations

import contextlib
import re
import zlib
from collections.abc import Callable
from typing import Final

from tests.support.samples import heifs, jpegs, movies, pngs
from tests.support.samples.carriers import EXIF_OFFSET, HEIC, ISO6709, MP4, PNG, XMP
from tests.support.samples.heifs import Layout, Thing
from tests.support.samples.hidden import mp4_trailer, sub_image, trailing_archive
from tests.support.samples.media import HOME

_EXIF: Final = jpegs.exif("MM")
_TEXT: Final = f"taken in {HOME.city} at {jpegs.TEXT_COORDINATES}"
_PICTURE: Final = Thing(1, b"hvc1", heifs.picture(400), properties=(1, 2))


def _heic(*things: Thing, **layout: object) -> bytes:
    return heifs.heif([_PICTURE, *things], Layout(**layout))  # type: ignore[arg-type]


def _exif_item(**more: object) -> Thing:
    return Thing(2, b"Exif", EXIF_OFFSET + _EXIF, **more)  # type: ignore[arg-type]


HEIC_CASES: Final[dict[str, Callable[[], bytes]]] = {
    "in mdat": lambda: _heic(_exif_item()),
    "in idat": lambda: _heic(_exif_item(where="idat")),
    "in several extents": lambda: _heic(_exif_item(pieces=5)),
    "in two items": lambda: _heic(_exif_item(), Thing(3, b"Exif", EXIF_OFFSET + jpegs.exif("II"))),
    "through another item": lambda: _heic(
        Thing(5, b"data", EXIF_OFFSET + _EXIF), Thing(2, b"Exif", of=(5, 0, len(_EXIF) + 4))
    ),
    "XMP": lambda: _heic(Thing(2, b"mime", XMP, content=heifs.XMP_TYPE)),
    "XMP of another type": lambda: _heic(Thing(2, b"mime", XMP, content=b"text/plain")),
    "an item nobody knows": lambda: _heic(Thing(2, b"wxyz", _EXIF)),
    "in an item's name": lambda: _heic(
        Thing(2, b"Exif", EXIF_OFFSET + _EXIF, name=jpegs.TEXT_COORDINATES.encode())
    ),
    "iloc version 2": lambda: _heic(_exif_item(), iloc_version=2, infe_version=3),
    "iloc version 0": lambda: _heic(_exif_item(), iloc_version=0),
    "a 64-bit mdat": lambda: _heic(_exif_item(), wide_mdat=True),
    "uuid XMP in front": lambda: _heic(before=movies.uuid(heifs.XMP_UUID, XMP)),
    "uuid XMP behind": lambda: _heic(after=movies.uuid(heifs.XMP_UUID, XMP)),
    "bytes of nobody in mdat": lambda: _heic(junk=_EXIF),
    "a free box": lambda: _heic(after=movies.box(b"free", _EXIF)),
    "in SEI of the picture": lambda: heifs.heif(
        [
            Thing(
                1,
                b"hvc1",
                heifs.user_sei(jpegs.TEXT_COORDINATES.encode()) + heifs.picture(400),
                properties=(1, 2),
            )
        ]
    ),
    "a film behind": lambda: _heic(
        after=movies.box(b"mpvd", movies.movie(moov=movies.loci(HOME.city.encode())))
    ),
    "a photo behind": lambda: _heic(after=sub_image()),
    "an archive behind": lambda: _heic(after=trailing_archive()),
    "AVIF": lambda: _heic(_exif_item(), brand=b"avif"),
}


def _udta(*parts: bytes) -> bytes:
    return movies.box(b"udta", *parts)


_XYZ: Final = movies.text_atom(b"\xa9xyz", ISO6709)
_KEYS: Final = movies.keyed({b"com.apple.quicktime.location.ISO6709": ISO6709})

MP4_CASES: Final[dict[str, Callable[[], bytes]]] = {
    "xyz": lambda: movies.movie(moov=_udta(_XYZ)),
    "loci": lambda: movies.movie(moov=_udta(movies.loci(HOME.city.encode()))),
    "several udta": lambda: movies.movie(
        moov=_udta(movies.box(b"free", bytes(9))) + _udta(_XYZ) + _udta(_KEYS)
    ),
    "udta of a track": lambda: movies.movie(movies.Track(extra=_udta(_XYZ))),
    "udta of the file": lambda: movies.movie(after=_udta(_XYZ)),
    "udta in udta": lambda: movies.movie(moov=_udta(_udta(_XYZ))),
    "keys in moov": lambda: movies.movie(moov=_KEYS),
    "keys as QuickTime writes them": lambda: movies.movie(
        moov=movies.keyed({b"com.apple.quicktime.location.ISO6709": ISO6709}, quicktime=True)
    ),
    "keys of the file": lambda: movies.movie(after=_KEYS),
    "iTunes, free form": lambda: movies.movie(
        moov=_udta(movies.itunes(movies.free_form(b"LOCATION", ISO6709)))
    ),
    "uuid XMP": lambda: movies.movie(after=movies.uuid(movies.XMP_UUID, XMP)),
    "uuid XMP in front": lambda: movies.movie(before=movies.uuid(movies.XMP_UUID, XMP)),
    "uuid of nobody": lambda: movies.movie(moov=_udta(movies.uuid(b"0123456789abcdef", ISO6709))),
    "64-bit boxes": lambda: movies.movie(moov=_udta(_XYZ), make=movies.large),
    "a 64-bit udta": lambda: movies.movie(moov=movies.large(b"udta", _XYZ)),
    "between samples": lambda: movies.movie(between=ISO6709),
    "a track of places": lambda: movies.movie(
        movies.Track(), movies.Track(b"meta", b"mett", (ISO6709 * 3, ISO6709), number=2)
    ),
    "a track nobody knows": lambda: movies.movie(
        movies.Track(), movies.Track(b"wxyz", b"wxyz", (ISO6709 * 3, ISO6709), number=2)
    ),
    "subtitles": lambda: movies.movie(
        movies.Track(), movies.Track(b"text", b"text", (jpegs.TEXT_COORDINATES.encode(),) * 2, number=2)
    ),
    "the handler's name": lambda: movies.movie(movies.Track(name=jpegs.TEXT_COORDINATES.encode() + b"\0")),
    "a free box": lambda: movies.movie(before=movies.box(b"free", b"GPS " + ISO6709)),
    "a skip box": lambda: movies.movie(after=movies.box(b"skip", ISO6709)),
    "a fragment": lambda: movies.fragmented(0x20000, telemetry=ISO6709 * 3, more=_udta(_XYZ)),
    "a photo behind": lambda: movies.movie(after=sub_image()),
    "an archive behind": lambda: movies.movie(after=trailing_archive()),
}


PNG_CASES: Final[dict[str, Callable[[], bytes]]] = {
    "eXIf": lambda: pngs.plain(pngs.chunk(b"eXIf", _EXIF)),
    "eXIf behind the picture": lambda: pngs.plain(after=pngs.chunk(b"eXIf", _EXIF)),
    "two eXIf": lambda: pngs.plain(
        pngs.chunk(b"eXIf", jpegs.exif("II", place=False)), pngs.chunk(b"eXIf", _EXIF)
    ),
    "eXIf with a wrong checksum": lambda: pngs.plain(pngs.chunk(b"eXIf", _EXIF, check=1)),
    "zxIf, as it was once called": lambda: pngs.plain(pngs.chunk(b"zxIf", _EXIF)),
    "XMP": lambda: pngs.plain(pngs.international("XML:com.adobe.xmp", XMP)),
    "XMP, packed": lambda: pngs.plain(pngs.international("XML:com.adobe.xmp", XMP, packed=True)),
    "XMP under another name": lambda: pngs.plain(pngs.packed_text("Notes", XMP)),
    "a raw profile": lambda: pngs.plain(
        pngs.packed_text("Raw profile type exif", pngs.profile("exif", _EXIF))
    ),
    "a raw profile, plain": lambda: pngs.plain(
        pngs.text("Raw profile type APP1", pngs.profile("APP1", b"Exif\0\0" + _EXIF).decode())
    ),
    "a raw profile of IPTC": lambda: pngs.plain(
        pngs.packed_text("Raw profile type iptc", pngs.profile("iptc", jpegs.iptc_place()))
    ),
    "a comment": lambda: pngs.plain(pngs.text("Comment", _TEXT)),
    "a packed comment": lambda: pngs.plain(pngs.packed_text("Comment", _TEXT.encode())),
    "a chunk nobody knows": lambda: pngs.plain(pngs.chunk(b"wxYz", _EXIF)),
    "behind the end": lambda: pngs.plain(behind=_EXIF),
    "a chunk behind the end": lambda: pngs.plain(behind=pngs.chunk(b"eXIf", _EXIF)),
    "a film behind": lambda: pngs.plain(behind=mp4_trailer()),
    "an archive behind": lambda: pngs.plain(behind=trailing_archive()),
}

CUT: Final[dict[str, Callable[[], bytes]]] = {
    "cut.heic": lambda: HEIC.placed()[:-9000],
    "cut.mp4": lambda: MP4.placed()[:1500],
    "cut.png": lambda: PNG.placed()[:3000],
    "picture only.heic": lambda: movies.box(b"ftyp", b"heic" + bytes(4) + b"heic") + _EXIF,
    "no end.png": lambda: pngs.plain(pngs.chunk(b"eXIf", _EXIF))[:-12],
    "too long.mp4": lambda: movies.movie(after=(1 << 20).to_bytes(4) + b"udta" + _XYZ),
    "too long.png": lambda: pngs.plain() + (1 << 30).to_bytes(4) + b"eXIf" + _EXIF,
}


def said(data: bytes) -> bytes:
    """The bytes of a file, and what a reader unpacks from a PNG's texts and raw profiles."""
    texts = [data]
    for packed in re.finditer(rb"x[\x01\x5e\x9c\xda]", data) if data.startswith(pngs.SIGNATURE) else ():
        with contextlib.suppress(zlib.error):
            texts.append(zlib.decompressobj().decompress(data[packed.start() :], 1 << 16))
    for text in list(texts):
        texts += [bytes.fromhex(run.decode()) for run in re.findall(rb"(?:[0-9a-f]{2}\n?){40,}", text)]
    return b"\n".join(texts)


def corpus() -> dict[str, bytes]:
    """Names and bytes of every case, and some under a name that says otherwise."""
    cases = {"heic": HEIC_CASES, "mp4": MP4_CASES, "png": PNG_CASES}
    files = {
        f"{suffix} {name}.{suffix}": make()
        for suffix, all_of in cases.items()
        for name, make in all_of.items()
    }
    for suffix, all_of in cases.items():
        first = next(iter(all_of))
        files[f"{suffix} under another name.jpg"] = all_of[first]()
        files[f"{suffix} without a name"] = all_of[first]()
    return files
