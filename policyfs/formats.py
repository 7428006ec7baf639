"""One row for each file format: its kinds, first bytes, other names, and its locator.

All lists of formats and kinds are made from these rows: the kinds that policyfs can redact, the signatures
(first bytes) by which heads and embedded pictures are checked, the corrections of libmagic's answers, the
locators (functions that find metadata), and the table of kinds in docs/redaction.md. A row names its locator
and does not import it: the daemon needs the kinds but no parser
(docs/decisions/0040-one-row-for-a-format.md).
"""

from __future__ import annotations

import enum
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final, NamedTuple

from policyfs.domain import KIND_EMPTY

_UNNAMED: Final = "application/octet-stream"


class Use(enum.Flag):
    """Uses of a signature (first bytes), besides the check of libmagic's answer (``Start.only``).

    HEAD: to refuse a write as soon as the file's first bytes rule out all required kinds. The signatures of a
    kind have HEAD only if each file of this kind begins with one of them. PICTURE: to identify pictures
    within other files. UNNAMED: to give a kind to files that libmagic cannot name.
    """

    HEAD = enum.auto()
    PICTURE = enum.auto()
    UNNAMED = enum.auto()


class Start(NamedTuple):
    """A signature: bytes at an offset, which files of certain kinds have.

    kinds: the kinds of these files. A picture inside another file gets the first kind. also: an offset
    and further bytes that the file must have for `only` and UNNAMED to apply. only: a pattern of the
    answers that libmagic may give for such a file; empty: any answer. Any other answer of libmagic is
    wrong, because other programs recognise such a file by these bytes. If libmagic has no name for such
    files (Use.UNNAMED), the pattern also matches application/octet-stream.
    """

    kinds: tuple[str, ...]
    data: bytes
    offset: int = 0
    uses: Use = Use.HEAD | Use.PICTURE
    only: str = ""
    also: tuple[int, bytes] = (0, b"")


@dataclass(frozen=True, slots=True)
class Format:
    """All data about one format that policyfs can redact, except the code of its locator.

    A locator is a function that finds the metadata in a file. locator: the module below policyfs.redact and
    the function in it. kinds: a dictionary from each content
    kind of the format to a text for the documentation: the parts that are examined. starts: the signatures
    (first bytes) of its files; empty if these bytes vary. other_names: a dictionary from names that versions
    of libmagic and other tools use to the kind that each means. brands: a dictionary from kinds to compatible
    brands (ISO base media) that libmagic may not know; the most specific kind is first.
    """

    locator: str
    kinds: Mapping[str, str]
    starts: tuple[Start, ...]
    other_names: Mapping[str, str] = field(default_factory=dict)
    brands: Mapping[str, frozenset[bytes]] = field(default_factory=dict)


_FTYP: Final = (b"ftyp", 4, Use.HEAD, rf"(?:image|video|audio)/.*|{_UNNAMED}")
_FIRST_BOXES: Final = (b"moov", b"mdat", b"wide", b"free", b"skip", b"pnot", b"uuid")
"""First boxes of QuickTime films without ftyp (QuickTime File Format Specification, "Atoms")."""
_JP2_BOX: Final = (0, Use.PICTURE, rf"image/.*|video/mj2|{_UNNAMED}")
_BOXES: Final = "all boxes and the codestream's comments are examined"
_OGG: Final = "comments are examined; unknown streams are refused"
_TAGS: Final = "ID3, APE and Lyrics3 tags are examined"
_WAVE: Final = (8, b"WAVE")  # libmagic knows such a WAV only with an unknown size before it
_ITEMS: Final = "EXIF, XMP and all other items are examined"

FORMATS: Final = (
    Format(
        "jpeg.jpeg:locate_jpeg",
        kinds={"image/jpeg": "EXIF, XMP, IPTC and all other metadata is examined"},
        starts=(Start(("image/jpeg",), b"\xff\xd8\xff", only="image/jpeg"),),
        other_names={"image/jpg": "image/jpeg", "image/pjpeg": "image/jpeg"},
    ),
    Format(
        "raw.tiff:locate_tiff",
        kinds={
            "image/tiff": "all tags are examined, also in DNG, NEF, ARW, PEF, SRW and 3FR",
            "image/x-canon-cr2": "likewise",
            "image/x-olympus-orf": "likewise",
            "image/x-panasonic-rw2": "likewise",
        },
        starts=(
            Start(("image/tiff",), b"II*\0", only="image/.*"),
            Start(("image/tiff",), b"MM\0*", only="image/.*"),
            Start(("image/tiff",), b"II+\0", uses=Use.HEAD, only="image/.*"),
            Start(("image/tiff",), b"MM\0+", uses=Use.HEAD, only="image/.*"),
            Start(("image/x-panasonic-rw2",), b"IIU\0", uses=Use.UNNAMED),
        ),
        other_names=dict.fromkeys(
            ("image/x-adobe-dng", "image/x-nikon-nef", "image/x-pentax-pef", "image/x-samsung-srw",
             "image/x-sony-arw"),
            "image/tiff",
        ),
    ),
    Format(
        "raw.raf:locate_raf",
        kinds={"image/x-fuji-raf": "its JPEG, its directory and its TIFF are examined"},
        starts=(),
    ),
    Format(
        "raw.cr3:locate_cr3",
        kinds={"image/x-canon-cr3": "EXIF, maker notes, XMP, previews, tracks are examined"},
        starts=(),
        brands={"image/x-canon-cr3": frozenset((b"crx ",))},
    ),
    Format(
        "heif.heif:locate_heif",
        kinds={
            "image/heic": _ITEMS,
            "image/heif": _ITEMS,
            "image/avif": _ITEMS,
            "image/heic-sequence": "items and tracks are examined",
            "image/heif-sequence": "items and tracks are examined",
        },
        starts=(
            Start(("image/heic", "image/heif", "image/avif"), *_FTYP),
            *(
                Start(("image/heic",), b"ftyp" + brand, 4, Use.PICTURE)
                for brand in (b"heic", b"heix", b"mif1", b"mif2")
            ),
            Start(("image/avif",), b"ftypavif", 4, Use.PICTURE),
            Start(("image/avif",), b"ftypavis", 4, Use.PICTURE),
        ),
        brands={
            "image/avif": frozenset((b"avif", b"avis", b"avio", b"MA1A", b"MA1B")),
            "image/heic": frozenset((b"heic", b"heix", b"hevc", b"hevx", b"MiHB", b"MiHE", b"MiHA")),
            "image/heif": frozenset((b"mif1", b"mif2", b"mif3", b"msf1", b"miaf", b"heim", b"heis")),
        },
    ),
    Format(
        "images.jxl:locate_jxl",
        kinds={"image/jxl": "EXIF, XMP and all other boxes are examined"},
        starts=(Start(("image/jxl",), b"\0\0\0\x0cJXL \r\n\x87\n", *_JP2_BOX),),
    ),
    Format(
        "jpeg2000.jp2:locate_jp2",
        kinds={
            "image/jp2": _BOXES,
            "image/jph": _BOXES,
            "image/jpx": _BOXES,
            "image/x-jp2-codestream": "comments are examined",
        },
        starts=(
            Start(("image/jp2",), b"\0\0\0\x0cjP  \r\n\x87\n", *_JP2_BOX),
            Start(("image/x-jp2-codestream",), b"\xff\x4f\xff\x51\0", uses=Use.PICTURE, only="image/.*"),
        ),
        brands={"image/jph": frozenset((b"jph ",))},
    ),
    Format(
        "images.png:locate_png",
        kinds={"image/png": "EXIF, XMP, texts and all other chunks are examined"},
        starts=(Start(("image/png",), b"\x89PNG\r\n\x1a\n", only="image/a?png"),),
        other_names={"image/x-png": "image/png"},
    ),
    Format(
        "images.webp:locate_webp",
        kinds={"image/webp": "EXIF, XMP and all other chunks are examined"},
        starts=(Start(("image/webp",), b"RIFF", only="image/webp", also=(8, b"WEBP")),),
        other_names={"image/x-webp": "image/webp"},
    ),
    Format(
        "images.gif:locate_gif",
        kinds={"image/gif": "comments, XMP and all other extensions are examined"},
        starts=(Start(("image/gif",), b"GIF8", only="image/gif"),),
    ),
    Format(
        "images.bmp:locate_bmp",
        kinds={"image/bmp": "bytes outside the picture become zeros"},
        starts=(Start(("image/bmp", "image/x-ms-bmp"), b"BM", uses=Use.HEAD),),
        other_names={"image/x-ms-bmp": "image/bmp"},
    ),
    Format(
        "isobmff.mp4:locate_movie",
        kinds={
            "video/mp4": "user data, metadata boxes and timed metadata are examined",
            "video/quicktime": "likewise",
            "video/x-m4v": "likewise",
            "video/3gpp": "likewise",
            "video/3gpp2": "likewise",
            "audio/mp4": "likewise",
            "audio/x-m4a": "likewise",
        },
        starts=(
            Start(("video/mp4", "video/3gpp", "video/quicktime", "video/x-m4v", "audio/x-m4a"), *_FTYP),
            *(Start(("video/quicktime",), box, 4, Use.HEAD) for box in _FIRST_BOXES),
        ),
        other_names={"application/mp4": "video/mp4", "video/x-mp4": "video/mp4"},
    ),
    Format(
        "matroska.matroska:locate_matroska",
        kinds={
            "video/x-matroska": "tags, chapters, attachments and all tracks except media are examined",
            "video/webm": "as Matroska",
            "audio/x-matroska": "as Matroska",
            "audio/webm": "as Matroska",
        },
        starts=(
            Start(("video/x-matroska", "video/webm"), b"\x1aE\xdf\xa3", uses=Use.HEAD | Use.UNNAMED,
                  only=rf"(?:video|audio)/(?:x-matroska|webm)|{_UNNAMED}"),
        ),
        other_names={"video/mkv": "video/x-matroska"},
    ),
    Format(
        "riff.avi:locate_avi",
        kinds={"video/x-msvideo": "all chunks besides picture and sound are examined"},
        starts=(Start(("video/x-msvideo",), b"RIFF", uses=Use.HEAD),),
        other_names={"video/avi": "video/x-msvideo", "video/msvideo": "video/x-msvideo"},
    ),
    Format(
        "audio.mp3:locate_mp3",
        kinds={"audio/mpeg": _TAGS},
        starts=tuple(
            Start(("audio/mpeg",), b"ID3" + version, uses=Use.UNNAMED, only=rf"(?:audio|video)/.*|{_UNNAMED}")
            for version in (b"\2", b"\3", b"\4")
        ),
        other_names={
            "audio/mp3": "audio/mpeg",
            "audio/mpegapplication/octet-stream": "audio/mpeg",  # file(1) 5.3x, after an ID3 tag
            "audio/x-mp3": "audio/mpeg",
        },
    ),
    Format(
        "audio.mp3:locate_adts",
        kinds={"audio/aac": _TAGS},
        starts=(),
        other_names={"audio/x-hx-aac-adif": "audio/aac", "audio/x-hx-aac-adts": "audio/aac"},
    ),
    Format(
        "audio.flac:locate_flac",
        kinds={"audio/flac": "comments, pictures and all other blocks are examined"},
        starts=(Start(("audio/flac",), b"fLaC", uses=Use.HEAD),),
        other_names={"audio/x-flac": "audio/flac"},
    ),
    Format(
        "audio.ogg:locate_ogg",
        kinds={"audio/ogg": _OGG, "video/ogg": _OGG, "application/ogg": _OGG},
        starts=(Start(("audio/ogg", "video/ogg", "application/ogg"), b"OggS", uses=Use.HEAD),),
        other_names={"application/x-ogg": "application/ogg"},
    ),
    Format(
        "riff.wav:locate_wav",
        kinds={"audio/x-wav": "all chunks besides the sound are examined"},
        starts=(
            Start(("audio/x-wav",), b"RIFF", uses=Use.HEAD),
            Start(("audio/x-wav",), b"RIFX", uses=Use.HEAD),
            Start(("audio/x-wav",), b"RF64", uses=Use.HEAD | Use.UNNAMED, also=_WAVE),
            Start(("audio/x-wav",), b"BW64", uses=Use.HEAD | Use.UNNAMED, also=_WAVE),
        ),
        other_names=dict.fromkeys(("audio/vnd.wave", "audio/wav", "audio/wave"), "audio/x-wav"),
    ),
    Format(
        "mpeg.transport_stream:locate_transport_stream",
        kinds={"video/mp2t": "messages in pictures and tables are examined; other streams go"},
        starts=(),
        other_names=dict.fromkeys(("video/m2ts", "video/vnd.dlna.mpeg-tts"), "video/mp2t"),
    ),
    Format(
        "mpeg.program_stream:locate_program_stream",
        kinds={"video/mpeg": "messages in pictures are examined; other streams go (MPG, VOB)"},
        starts=(),
        other_names=dict.fromkeys(("video/mp1s", "video/mp2p", "video/mpv"), "video/mpeg"),
    ),
    Format(
        "pdf.pdf:locate_pdf",
        kinds={"application/pdf": "all objects of all revisions; page text stays"},
        starts=tuple(
            Start(("application/pdf",), first, uses=Use.HEAD)
            for first in (b"%PDF-", b"\n%PDF-", b"\xef\xbb\xbf%PDF-")
        ),
    ),
    Format(
        "documents.sidecars:locate_xmp_sidecar",
        kinds={"application/rdf+xml": "an XMP sidecar: each property is examined, as in a photo"},
        starts=(),
    ),
    Format(
        "documents.subtitles:locate_subtitles",
        kinds={
            "application/x-subrip": "each cue is examined, also a drone's positions",
            "application/x-sbv": "likewise",
            "application/x-location+vtt": "WebVTT with a place: likewise",
            "application/x-ssa": "each line is examined (SSA, ASS)",
        },
        starts=(),
    ),
    Format(
        "documents.sidecars:locate_takeout",
        kinds={"application/x-location+json": "each member of Takeout's JSON is examined"},
        starts=(),
    ),
)  # fmt: skip
"""All formats that policyfs can redact, photos first."""

WITHOUT_LOCATOR: Final[Mapping[str, str]] = {
    "image/vnd.adobe.photoshop": "layers may contain any text and any file (PSD, PSB)",
    "image/svg+xml": "a drawing: its elements may contain any text and any file",
    "image/vnd.microsoft.icon": "an icon may contain any other picture",
    "audio/x-aiff": "uncompressed sound: few programs write it",
    "audio/amr": "speech of old phones",
    "video/x-ms-asf": "WMV and WMA: few programs still write them",
    "video/x-flv": "script tags may contain any data, which policyfs cannot find",
    "application/zip": "may contain any other file",
    "text/plain": "may contain any text, also a track or a log of places",
    "application/gpx+xml": "a track: the whole file consists of places",
    "application/vnd.google-earth.kml+xml": "the whole file consists of places",
    "application/vnd.garmin.tcx+xml": "a workout: the whole file consists of places",
    "application/geo+json": "the whole file consists of places",
    "application/x-nmea": "a GPS receiver's log",
    "application/x-location-text": "text in which policyfs found coordinates",
}
"""Known kinds without a locator (a function that finds metadata), each with the reason. Under redaction apps
cannot open files of these kinds, nor files of unknown kinds."""

_OTHER_NAMES_WITHOUT_LOCATOR: Final = {
    **dict.fromkeys(
        ("application/vnd.adobe.photoshop", "image/x-photoshop", "image/psd"), "image/vnd.adobe.photoshop"
    ),
    **dict.fromkeys(("audio/x-ms-wma", "video/x-ms-wmv", "application/vnd.ms-asf"), "video/x-ms-asf"),
    "application/x-empty": KIND_EMPTY,
    "application/x-gzip": "application/gzip",
    "application/x-sqlite3": "application/vnd.sqlite3",
    "application/x-zip-compressed": "application/zip",
    "application/xml": "text/xml",
    "audio/aiff": "audio/x-aiff",
    "audio/x-midi": "audio/midi",
    "image/svg": "image/svg+xml",
    "text/json": "application/json",
}

REDACTABLE_KINDS: Final = frozenset(kind for one in FORMATS for kind in one.kinds)
"""Content kinds with a locator (a function that finds metadata). In ``raw_types`` they have no effect."""
OTHER_NAMES: Final[Mapping[str, str]] = {
    **_OTHER_NAMES_WITHOUT_LOCATOR,
    **{name: kind for one in FORMATS for name, kind in one.other_names.items()},
}
"""A dictionary from other names of kinds, which some versions of libmagic and other tools use, to the kind
that policyfs uses. policyfs uses the name of libmagic 5.44. If no other program uses that name, policyfs uses
the common name."""
BRANDS: Final = tuple((kind, brands) for one in FORMATS for kind, brands in one.brands.items())
"""Kinds of pictures in files of boxes (ISO base media), with the brands of such files; the most specific
kinds are first."""
STARTS: Final = tuple(start for one in FORMATS for start in one.starts)


def starts_for(use: Use) -> tuple[tuple[str, int, bytes], ...]:
    """Return the signatures (first bytes) that have one use: kind, offset and bytes of each."""
    return tuple(
        (kind, one.offset, one.data)
        for one in STARTS
        if use in one.uses
        for kind in one.kinds
    )  # fmt: skip


_DATABASES: Final = (
    ("application/vnd.sqlite3", b"SQLite format 3\0", b""),
    (_UNNAMED, b"\xd9\xd5\x05\xf9\x20\xa1\x63\xd7", b""),  # SQLite's rollback journal
    (_UNNAMED, bytes(12), b"\0\0\2\0\0"),  # the same before its first fsync
    (_UNNAMED, b"\x37\x7f\x06\x82\0\x2d\xe2\x18", b""),  # SQLite's write-ahead log
    (_UNNAMED, b"\x37\x7f\x06\x83\0\x2d\xe2\x18", b""),
    (_UNNAMED, bytes(10) + b"\x08" + bytes(5) + b"\xde\xc0\xef\xbe\1\0\0\0", b""),  # LMDB
)
"""Kind, bytes at offset 0, and bytes at offset 20 of files whose first bytes alone decide their kind:
databases, which change their other bytes all the time. No program opens a file with such first bytes as a
picture, film, sound or PDF."""


def kind_by_start(head: bytes) -> str | None:
    """Return the kind of a file if its first bytes alone decide it, whatever follows; else None."""
    for kind, start, later in _DATABASES:
        if head.startswith(start) and head.startswith(later, 20):
            return kind
    return None
