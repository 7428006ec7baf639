"""Files of many programs that tell no place: numbers, versions, empty blocks and constants."""

from __future__ import annotations

import csv
from collections.abc import Iterator
from itertools import cycle
from pathlib import Path
from typing import Final

from tests.support.samples import exiftool, pdfs
from tests.support.samples.media import run

TEXTS: Final = (
    "printed by 10.104.244.101 at 192.168.178.24:631, driver 4.12.101",
    "Lavf59.27.100 libx264 core 164 r3095 baee400, crf=23.0, 1.0.177471000",
    "aspect 1.35:1, 24-70 mm, f/2.8, 1/8000 s, -14.2 LUFS, peak 0.98712",
    "+49 170 1234567, ISBN 978-3-16-148410-0, 2024-05-17 11:22:33.456",
    "page 13 of 987, 201.500 x 297.000 mm, 18% grey",
    "rgb(47, 80, 130); 16:9 letterbox; N 12; 250.125, 361.250 rpm",
)
"""Numbers that are no coordinates."""
_STILLS: Final = ("jpg", "png", "gif", "webp", "tif")
_SOUNDS: Final = ("mp3", "flac", "ogg", "opus", "wav", "m4a")
_FILMS: Final = ("mp4", "mov", "mkv", "webm", "avi", "3gp")
_TAGS: Final = {
    "jpg": (
        "Comment",
        "EXIF:ImageDescription",
        "IPTC:Caption-Abstract",
        "XMP-dc:Description",
        "EXIF:UserComment",
    ),
    "png": ("PNG:Comment", "PNG:Description", "XMP-dc:Description", "EXIF:ImageDescription"),
    "gif": ("Comment", "XMP-dc:Description"),
    "webp": ("EXIF:ImageDescription", "XMP-dc:Description"),
    "tif": ("EXIF:ImageDescription", "XMP-dc:Description", "IPTC:Caption-Abstract"),
}
_SUBTITLES: Final = (
    "1\n00:00:01,047 --> 00:00:02,804\n{}\n\n2\n00:00:47,804 --> 00:01:13,042\nYes: 3.14 and 2.718.\n"
)


def stills(directory: Path) -> None:
    """Pictures with one such text each, as ExifTool writes them; GPS directories with a version alone."""
    plain = {end: directory / f"plain.{end}" for end in _STILLS}
    writes = [word for path in plain.values() for word in ("-write", str(path))]
    run("convert", "-size", "48x32", "gradient:", "-dispose", "previous", *writes, "null:")
    texts, rows = cycle(TEXTS), []
    for end, path in plain.items():
        for tag in (*_TAGS[end], *(("GPS:GPSVersionID",) if end != "gif" else ())):
            copy = directory / f"{tag.replace(':', '_')}.{end}"
            copy.write_bytes(path.read_bytes())
            value = "2 3 0 0" if "GPS" in tag else next(texts)
            rows.append({"SourceFile": str(copy), tag: value})
    fields = sorted({key for row in rows for key in row})
    table = directory / "rows.csv"
    with table.open("w", newline="") as file:
        writer = csv.DictWriter(file, fields)
        writer.writeheader()
        writer.writerows(rows)
    exiftool.run("-q", "-m", "-overwrite_original", f"-csv={table}", *(row["SourceFile"] for row in rows))
    table.unlink()


def films(directory: Path) -> None:
    """Films and sounds with two such texts each, and subtitles, as FFmpeg writes them."""
    words = directory / "words.srt"
    words.write_text(_SUBTITLES.format(TEXTS[1]))
    inputs = [
        "-f",
        "lavfi",
        "-i",
        "testsrc=s=64x48:r=5:d=0.4",
        "-f",
        "lavfi",
        "-i",
        "sine=d=0.4",
        "-i",
        str(words),
    ]
    outputs: list[str] = []
    texts = cycle(TEXTS)
    for number, end in enumerate((*_SOUNDS, *_FILMS) * 2):
        maps = ["-map", "1:a"] if end in _SOUNDS else ["-map", "0:v"]
        maps += ["-map", "2:s", "-c:s", "srt"] if end == "mkv" else []
        maps += (
            ["-c:v", "mpeg4"] if end in {"mp4", "mov", "3gp"} else ["-c:v", "vp8"] if end == "webm" else []
        )
        tags = ["-metadata", f"comment={next(texts)}", "-metadata", f"title={TEXTS[number % 5]}"]
        outputs += [*maps, *tags, str(directory / f"{number}.{end}")]
    for end in ("ass", "srt"):
        outputs += ["-map", "2:s", str(directory / f"titles.{end}")]
    run("ffmpeg", "-v", "error", *inputs, *outputs)


def documents(directory: Path) -> None:
    """Sidecars of XMP in other wrappings, drawings, and PDFs."""
    packet = directory / "plain.xmp"
    exiftool.run("-q", f"-XMP-dc:Description={TEXTS[0]}", "-XMP-photoshop:City=", str(packet))
    text = packet.read_text("utf-8")
    begin = text.index("<?xpacket")
    licence = f"<!-- {'Licensed under the licence, version 2.0. ' * 20} -->\n"
    filters = '<?adobe-xap-filters esc="CRLF"?>'
    at = text.index("?>", begin) + 2
    for name, odd in {
        "licence": licence + text,
        "filters": text[:at] + filters + text[at:],
        "declared": '<?xml version="1.0" encoding="UTF-8"?>\n' + text,
        "marked": "\ufeff" + text,
        "spaced": text.replace("<?xpacket end", " " * 2000 + "<?xpacket end"),
    }.items():
        (directory / f"{name}.xmp").write_text(odd, "utf-8")
    plain, packed = directory / "plain.pdf", directory / "packed.pdf"
    plain.write_bytes(pdfs.pdf({6: f"<</Subject({TEXTS[1]})>>".encode()}, trailer=b"/Info 6 0 R"))
    run("qpdf", "--object-streams=generate", str(plain), str(packed))
    run("qpdf", "--linearize", str(plain), str(directory / "linear.pdf"))
    for end in ("bmp", "jp2"):
        run(
            "convert",
            "-size",
            "32x32",
            "gradient:",
            "-set",
            "comment",
            TEXTS[3],
            str(directory / f"im.{end}"),
        )


MAKERS: Final = (stills, films, documents)


def files(directory: Path) -> Iterator[Path]:
    """All of them."""
    for make in MAKERS:
        make(directory)
    yield from sorted(directory.iterdir())
