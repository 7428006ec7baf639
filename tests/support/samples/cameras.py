"""Twenty photos of five makers as cameras and programs leave them, each without a place and with one.

Real encoders make the pictures; the makers' notes are put together byte by byte, with tags that no table
names; exiftool writes the rest, and moves the notes as it does.
"""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import Final, NamedTuple

from tests.support.samples import jpegs, notes
from tests.support.samples.jpegs import LONG, UNDEFINED, Entry, pack, text
from tests.support.samples.media import HOME, picture, run

MAKERS: Final = ("Canon", "Nikon", "Panasonic", "Sony", "FujiFilm")
ENCODERS: Final = (
    ("cjpeg", "-quality", "88", "-optimize", "-outfile"),
    ("cjpeg", "-quality", "90", "-progressive", "-outfile"),
    ("convert",),
    ("ffmpeg",),
)
_WITHOUT: Final = (
    ("-GPSVersionID=2 3 0 0", "-ExposureTime=1/250", "-ISO=200"),
    ("-XMP-xmp:Rating=4", "-XMP-dc:Subject=quince", "-XMP-xmp:CreatorTool=Kamera 7"),
    ("-IPTC:Keywords=quince", "-IPTC:Caption-Abstract=on a table", "-EXIF:Copyright=Rosa Kamera"),
    ("-UserComment=a quince on a table", "-DateTimeOriginal=2024:05:17 11:22:33", "-LensModel=50mm"),
)
_WITH: Final = (
    (f"-GPSLatitude={HOME.latitude}", "-GPSLatitudeRef=N", f"-GPSLongitude={HOME.longitude}",
     "-GPSLongitudeRef=E"),
    (f"-XMP-photoshop:City={HOME.city}", f"-XMP-exif:GPSLatitude={HOME.latitude}"),
    (f"-IPTC:City={HOME.city}", f"-IPTC:Country-PrimaryLocationName={HOME.country}"),
    (f"-ImageDescription=taken at {jpegs.TEXT_COORDINATES}", f"-XMP-iptcExt:LocationShownCity={HOME.city}"),
)  # fmt: skip


class Photo(NamedTuple):
    """One photo: its maker and number, without a place and with one."""

    name: str
    without: bytes
    placed: bytes


def _unnamed(order: str, number: int) -> tuple[Entry, ...]:
    """Tags of a note that no table names: numbers, a text, bytes."""
    return (
        (0xEE01, LONG, 6, pack(order, *(7919 * n + number for n in range(1, 7)))),
        text(0xEE02, f"FW-{number} ABCD efgh 12"),
        (0xEE03, UNDEFINED, 48, bytes((37 * n + number) % 251 for n in range(48))),
    )


def _note(maker: notes.Maker, order: str, number: int) -> notes.Maker:
    kept = tuple(tag for tag in maker.tags if notes.CITY.encode() not in tag[3])
    return maker._replace(tags=(*kept, *_unnamed(maker.order or order, number)))


def _encode(encoder: tuple[str, ...], source: Path, target: Path) -> None:
    if encoder[0] == "cjpeg":
        run(*encoder, str(target), str(source))
    elif encoder[0] == "convert":
        run("convert", str(source), "-strip", "-quality", "91", str(target))
    else:
        run(
            "ffmpeg",
            "-loglevel",
            "error",
            "-y",
            "-i",
            str(source),
            "-q:v",
            "3",
            "-pix_fmt",
            "yuvj420p",
            str(target),
        )


def _exiftool(tasks: list[tuple[Path, tuple[str, ...]]]) -> None:
    """All in one process, since each takes long to start."""
    words: list[str] = []
    for path, tags in tasks:
        words += ["-q", "-q", "-m", "-overwrite_original", *tags, str(path), "-execute"]
    done = subprocess.run(
        ["exiftool", "-@", "-"],
        input="\n".join(words),
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    assert not done.stderr, done.stderr


def photos(directory: Path) -> list[Photo]:
    """The twenty of them. directory: an empty one to work in."""
    source = picture(directory / "source.ppm", width=96, height=64, seed=11)
    made: list[Path] = []
    tasks: list[tuple[Path, tuple[str, ...]]] = []
    for number, name in enumerate(name for name in MAKERS for _ in ENCODERS):
        variant, order = number % len(ENCODERS), "II" if number % 2 else "MM"
        path = directory / f"{number:02}-{name}.jpg"
        _encode(ENCODERS[variant], source, path)
        maker = _note(notes.MAKERS[name], order, number)
        block = notes.exif_with(notes.note_of(maker, order), order, maker.make)
        path.write_bytes(jpegs.with_segments(path.read_bytes(), jpegs.exif_segment(block)))
        made.append(path)
        tasks.append((path, _WITHOUT[variant]))
    _exiftool(tasks)
    without = [path.read_bytes() for path in made]
    _exiftool([(path, _WITH[number % len(_WITH)]) for number, path in enumerate(made)])
    placed = [path.read_bytes() for path in made]
    return [Photo(path.name, a, b) for path, a, b in zip(made, without, placed, strict=True)]
