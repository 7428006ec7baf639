"""TIFF files and raws: with real tools' metadata, of both byte orders, in pages, tiles and strips."""

from __future__ import annotations

import hashlib
import subprocess
from collections.abc import Iterator
from pathlib import Path

from tests.redaction.samples import Sample
from tests.support.samples import tiffs
from tests.support.samples.media import HOME, TOOL_DEADLINE_S, place_name_tags, place_tags, run, write_tags
from tests.support.samples.notes import MAKERS, photo_by

TAGS = {
    "EXIF:Make": "Testmaker",
    "EXIF:Model": "Modell 7",
    "EXIF:SerialNumber": "SN-4711-0815",
    "EXIF:DateTimeOriginal": "2024:05:17 11:22:33",
    "EXIF:Artist": "Rosa Kamera",
    "EXIF:ImageDescription": "a quince on a table",
    "XMP-dc:Creator": "Rosa Kamera",
    "XMP-xmp:CreateDate": "2024:05:17 11:22:33",
    "IPTC:By-line": "Rosa Kamera",
    "EXIF:ISO": "200",
}
TOLD = {
    "location": ("47.804531", "13.042287", *HOME.names),
    "device": ("Testmaker", "Modell 7", "SN-4711-0815"),
    "people": ("Rosa Kamera", "a quince on a table"),
    "time": ("2024:05:17 11:22:33",),
}
EARTH = {
    "IFD0:PixelScale": "0.25 0.25 0",
    "IFD0:ModelTiePoint": "0 0 0 13.042287 47.804531 0",
    "IFD0:GeoTiffDirectory": "1 1 0 1 1026 34737 13 0",
    "IFD0:GeoTiffAsciiParams": f"{HOME.city}|",
    "IFD0:GDALMetadata": f"<GDALMetadata><Item name='place'>{HOME.state}</Item></GDALMetadata>",
}
FUJI = {"FujiFilm": "its note tells the maker, and a serial number has a day in it"}


def sensor(path: Path) -> str:
    """The sensor's pixels as dcraw decodes them."""
    command = ["dcraw", "-D", "-4", "-c", str(path)]
    done = subprocess.run(command, capture_output=True, timeout=TOOL_DEADLINE_S, check=True)
    assert done.stdout, done.stderr
    return hashlib.sha256(done.stdout).hexdigest()


def samples(directory: Path) -> Iterator[Sample]:
    """TIFF in its forms, GeoTIFF, DNG, and maker notes of many makers in JPEG."""
    forms = {
        "lzw": ["-compress", "lzw"],
        "big-endian": ["-endian", "MSB", "-compress", "zip"],
        "jpeg tiles": ["-define", "tiff:tile-geometry=32x32", "-compress", "jpeg"],
        "planes": ["-interlace", "plane", "-define", "tiff:rows-per-strip=4"],
    }
    for name, options in forms.items():
        path = directory / f"{name}.tif"
        run("convert", "-size", "64x48", "plasma:red-blue", "-depth", "8", *options, str(path))
        write_tags(path, TAGS | place_tags(HOME))
        yield Sample(f"TIFF: {name}", "image/tiff", path, TOLD)
    yield _pages(directory)
    yield _big(directory)
    yield _earth(directory)
    for order in ("II", "MM"):
        path = directory / f"{order}.dng"
        path.write_bytes(tiffs.digital_negative(order))
        write_tags(path, {**TAGS, **place_tags(HOME), "IFD0:CameraSerialNumber": "SN-4711-0815"})
        yield Sample(f"DNG {order}", "image/tiff", path, TOLD, sensor)
    path = directory / "fuji.raf"
    path.write_bytes(tiffs.fuji(photo_by("FujiFilm", "MM")))
    write_tags(path, TAGS | place_tags(HOME))
    yield Sample("RAF", "image/x-fuji-raf", path, TOLD, None, extra=FUJI)
    yield from _notes(directory)


def _pages(directory: Path) -> Sample:
    path = directory / "pages.tif"
    pages = ["(", "-size", "40x40", "plasma:green", ")", "(", "-size", "24x32", "gradient:", ")"]
    run("convert", "-size", "64x48", "plasma:red", *pages, "-compress", "zip", str(path))
    write_tags(path, TAGS | place_tags(HOME))
    return Sample("TIFF: pages", "image/tiff", path, TOLD)


def _big(directory: Path) -> Sample:
    """BigTIFF, which exiftool does not write."""
    path = directory / "big.tif"
    said = {"make": "Testmaker", "model": "Modell 7", "artist": "Rosa Kamera", "timestamp": TOLD["time"][0]}
    options = [word for name, value in said.items() for word in ("-define", f"tiff:{name}={value}")]
    comment = f"taken at {HOME.latitude}, {HOME.longitude}"
    run("convert", "-size", "64x48", "plasma:red", *options, "-set", "comment", comment, f"TIFF64:{path}")
    told = {
        **TOLD,
        "location": (comment,),
        "device": ("Testmaker", "Modell 7"),
        "people": ("Rosa Kamera", comment),
    }
    return Sample("BigTIFF", "image/tiff", path, told, extra={"IFD0:ImageDescription": "has coordinates"})


def _earth(directory: Path) -> Sample:
    path = directory / "earth.tif"
    path.write_bytes(tiffs.classic("II", strips=4))
    write_tags(path, EARTH | {"IFD0:Artist": "Rosa Kamera"})
    told = {"location": ("13.042287", HOME.city), "people": ("Rosa Kamera",)}
    extra = {
        "IFD0:GDALMetadata": "may say anything, so it goes under each word",
        "IFD0:PixelScale": "metres on the ground",
    }
    return Sample("GeoTIFF", "image/tiff", path, told, extra=extra)


TELLING = (
    *("Title", "OwnerName", "City", "InternalSerialNumber", "Location", "CountryCode"),
    *("LocationInfoVersion", "TextEncoding", "POILevel"),
)
"""Tags of maker notes in which facts are planted; what exiftool takes them for differs."""


def _notes(directory: Path) -> Iterator[Sample]:
    """Photos with maker notes, which go as a whole under ``device``."""
    for name in ("Panasonic", "Nikon", "Canon", "FujiFilm"):
        maker = MAKERS[name]
        path = directory / f"{name}.jpg"
        path.write_bytes(photo_by(name, "MM"))
        write_tags(path, place_name_tags(HOME) | {"IFD0:Artist": "Rosa Kamera"})
        told = {
            "location": HOME.names,
            "device": ("SN-4711-0815", maker.make),
            "people": ("Rosa Kamera",),
            "time": ("SN-4711-0815",) if name == "FujiFilm" else (),
        }
        extra = {f"{group}:{tag}": "planted" for tag in TELLING for group in (name, "IPTC")}
        yield Sample(f"note of {name}", "image/jpeg", path, told, extra=extra)
