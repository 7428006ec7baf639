"""Real media made with real tools, for tests and the demo.

Importable without pytest (``from tests.support.samples import media``) and runnable:
``python -m tests.support.samples.media OUTDIR``. Needs ImageMagick, exiftool and ffmpeg on PATH.
Every function writes one file at the path it is given and returns that path; the same
arguments give the same pictures and the same metadata.
"""

from __future__ import annotations

import argparse
import functools
import hashlib
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from tests.support.samples import exiftool

TOOL_DEADLINE_S: Final = 60.0
KEPT_IN: Final = "POLICYFS_TEST_SAMPLES"
"""Variable of the environment that names a directory where files once made are kept for the same arguments,
so that processes of one run of tests make each file once. Without it each call makes its file."""


def kept(make: Callable[..., Path]) -> Callable[..., Path]:
    """Keep the files that a function makes."""

    @functools.wraps(make)
    def made(path: Path, **arguments: Any) -> Path:
        directory = os.environ.get(KEPT_IN)
        if not directory:
            return make(path, **arguments)
        key = repr((make.__module__, make.__name__, path.suffix, sorted(arguments.items())))
        file = Path(directory) / (hashlib.sha256(key.encode()).hexdigest()[:32] + path.suffix)
        if not file.exists():
            with tempfile.TemporaryDirectory(dir=directory) as new:  # another process may make it, too
                make(Path(new) / f"new{path.suffix}", **arguments).rename(file)
        shutil.copyfile(file, path)
        return path

    return made


@dataclass(frozen=True, slots=True)
class Place:
    """A place as photo software writes it: degrees, metres above the sea, and its names.

    The names are rare words, so that finding their bytes in a file means a leak.
    """

    latitude: float = 47.804531
    longitude: float = 13.042287
    altitude_m: float = 437.25
    sublocation: str = "Quittengasse"
    city: str = "Zirbelstadt"
    state: str = "Wacholderland"
    country: str = "Enzianien"
    country_code: str = "XQZ"

    @property
    def names(self) -> tuple[str, ...]:
        """The names that give the place away in text (the code is too short to search for)."""
        return (self.sublocation, self.city, self.state, self.country)


HOME: Final = Place()

KEPT_TAGS: Final = {
    "EXIF:Make": "Testmaker",
    "EXIF:Model": "Modell 7",
    "EXIF:Artist": "Rosa Kamera",
    "EXIF:Copyright": "Rosa Kamera, all rights kept",
    "EXIF:DateTimeOriginal": "2024:05:17 11:22:33",
    "EXIF:Orientation#": "6",
    "EXIF:ISO": "200",
    "EXIF:ImageDescription": "a quince on a table",
    "XMP-dc:Title": "Quince",
    "XMP-dc:Subject": "fruit",
    "XMP-xmp:Rating": "4",
    "IPTC:Caption-Abstract": "a quince on a table",
    "IPTC:By-line": "Rosa Kamera",
}
"""Tags that a photo of photo() carries and that have nothing to do with a place."""


def run(*command: str) -> None:
    """Run one tool to its end. Raises subprocess.CalledProcessError if it fails and TimeoutExpired after
    TOOL_DEADLINE_S."""
    if command[0] == "exiftool":
        exiftool.run(*command[1:], check=True, deadline_s=TOOL_DEADLINE_S)
    else:
        subprocess.run(command, check=True, capture_output=True, timeout=TOOL_DEADLINE_S)


def place_tags(place: Place) -> dict[str, str]:
    """exiftool tag names and values that write a place in every group that can carry one."""
    south = "S" if place.latitude < 0 else "N"
    west = "W" if place.longitude < 0 else "E"
    latitude, longitude = str(abs(place.latitude)), str(abs(place.longitude))
    tags = {
        "EXIF:GPSLatitude": latitude,
        "EXIF:GPSLatitudeRef": south,
        "EXIF:GPSLongitude": longitude,
        "EXIF:GPSLongitudeRef": west,
        "EXIF:GPSAltitude": str(place.altitude_m),
        "EXIF:GPSAltitudeRef#": "0",
        "EXIF:GPSDateStamp": "2024:05:17",
        "EXIF:GPSTimeStamp": "09:22:33",
        "EXIF:GPSImgDirection": "271.5",
        "EXIF:GPSMapDatum": "WGS-84",
        "EXIF:GPSProcessingMethod": "GPS",
        "EXIF:GPSAreaInformation": place.sublocation,
        "XMP-exif:GPSLatitude": str(place.latitude),
        "XMP-exif:GPSLongitude": str(place.longitude),
        "XMP-exif:GPSAltitude": str(place.altitude_m),
    }
    return tags | place_name_tags(place)


def place_name_tags(place: Place) -> dict[str, str]:
    """The part of place_tags that names the place in words (XMP and IPTC)."""
    return {
        "XMP-photoshop:City": place.city,
        "XMP-photoshop:State": place.state,
        "XMP-photoshop:Country": place.country,
        "XMP-iptcCore:Location": place.sublocation,
        "XMP-iptcCore:CountryCode": place.country_code,
        "XMP-iptcExt:LocationCreatedCity": place.city,
        "XMP-iptcExt:LocationCreatedSublocation": place.sublocation,
        "XMP-iptcExt:LocationCreatedCountryName": place.country,
        "XMP-iptcExt:LocationShownCity": place.city,
        "XMP-iptcExt:LocationShownProvinceState": place.state,
        "IPTC:City": place.city,
        "IPTC:Sub-location": place.sublocation,
        "IPTC:Province-State": place.state,
        "IPTC:Country-PrimaryLocationName": place.country,
        "IPTC:Country-PrimaryLocationCode": place.country_code,
        "IPTC:ContentLocationName": place.city,
        "IPTC:ContentLocationCode": place.country_code,
    }


def write_tags(path: Path, tags: dict[str, str], *options: str) -> None:
    """Write metadata into a file with exiftool, in place."""
    assignments = [f"-{name}={value}" for name, value in tags.items()]
    run("exiftool", "-q", "-q", "-m", "-overwrite_original", *options, *assignments, str(path))


@kept
def picture(path: Path, *, width: int = 320, height: int = 240, seed: int = 1, noise: bool = False) -> Path:
    """A picture without any metadata; its type comes from the suffix (.jpg, .png, .webp, ...)."""
    canvas = ("xc:gray", "+noise", "Random") if noise else ("plasma:tomato-steelblue",)
    size = f"{width}x{height}"
    run(
        *("convert", "-seed", str(seed), "-size", size, *canvas),
        *("-strip", "-quality", "92", str(path)),
    )
    return path


@kept
def photo(
    path: Path, *, place: Place | None = HOME, width: int = 320, height: int = 240, seed: int = 1
) -> Path:
    """A JPEG as a camera leaves it: KEPT_TAGS, an EXIF thumbnail, and the place if one is given."""
    picture(path, width=width, height=height, seed=seed)
    thumbnail = path.with_name(f".{path.name}.thumbnail.jpg")
    run("convert", str(path), "-resize", "160x120", "-strip", "-quality", "75", str(thumbnail))
    try:
        tags = dict(KEPT_TAGS) | (place_tags(place) if place is not None else {})
        write_tags(path, tags, f"-ThumbnailImage<={thumbnail}")
    finally:
        thumbnail.unlink()
    return path


@kept
def big_photo(path: Path, *, place: Place | None = HOME, seed: int = 2) -> Path:
    """A JPEG of 8 to 10 million bytes."""
    picture(path, width=3888, height=2916, seed=seed, noise=True)
    write_tags(path, dict(KEPT_TAGS) | (place_tags(place) if place is not None else {}))
    return path


def png(path: Path, *, seed: int = 3) -> Path:
    """A PNG without metadata."""
    return picture(path, width=200, height=150, seed=seed)


@kept
def video(path: Path, *, place: Place | None = None, seconds: int = 2) -> Path:
    """A small MP4 with picture and sound, with the place in its `udta` box if one is given."""
    tags: list[str] = []
    if place is not None:
        tags = ["-metadata", f"location={place.latitude:+.4f}{place.longitude:+.4f}/"]
    run(
        *("ffmpeg", "-v", "error", "-y", "-bitexact"),
        *("-f", "lavfi", "-i", f"testsrc2=size=320x240:rate=25:duration={seconds}"),
        *("-f", "lavfi", "-i", f"sine=frequency=440:duration={seconds}"),
        *("-c:v", "mpeg4", "-c:a", "aac", *tags, "-f", "mp4", str(path)),
    )
    return path


@kept
def music(path: Path, *, seconds: int = 3, title: str = "Quince Song") -> Path:
    """A song; the suffix (.mp3, .flac, .ogg, .wav) chooses the format."""
    run(
        *("ffmpeg", "-v", "error", "-y", "-bitexact"),
        *("-f", "lavfi", "-i", f"sine=frequency=330:duration={seconds}"),
        *("-metadata", f"title={title}", "-metadata", "artist=The Testers", str(path)),
    )
    return path


def track(path: Path, *, place: Place = HOME) -> Path:
    """A GPX track: text that is a place from end to end."""
    points = "".join(
        f'<trkpt lat="{place.latitude + i / 1000:.6f}" lon="{place.longitude + i / 1000:.6f}"/>\n'
        for i in range(20)
    )
    path.write_text(
        '<?xml version="1.0" encoding="UTF-8"?>\n'
        '<gpx version="1.1" creator="media" xmlns="http://www.topografix.com/GPX/1/1">\n'
        f"<trk><name>{place.city}</name><trkseg>\n{points}</trkseg></trk></gpx>\n",
        encoding="utf-8",
    )
    return path


def make_all(directory: Path) -> dict[str, Path]:
    """Fill a directory (created if needed) with one of each; returns name -> path."""
    directory.mkdir(parents=True, exist_ok=True)
    made = (
        photo(directory / "photo_with_place.jpg"),
        photo(directory / "photo_without_place.jpg", place=None, seed=4),
        big_photo(directory / "photo_8mb.jpg"),
        png(directory / "drawing.png"),
        video(directory / "video.mp4"),
        video(directory / "video_with_place.mp4", place=HOME),
        music(directory / "song.mp3"),
        music(directory / "song.flac"),
        track(directory / "hike.gpx"),
    )
    return {path.name: path for path in made}


def main(arguments: list[str]) -> int:
    """Command line of the module: make one of each in OUTDIR and list them."""
    parser = argparse.ArgumentParser(prog="media.py", description="make real media for tests")
    parser.add_argument("outdir", type=Path)
    for name, path in make_all(parser.parse_args(arguments).outdir).items():
        print(f"{path.stat().st_size:>10} {name}")
    return 0


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
