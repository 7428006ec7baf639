"""Stills that are rows of chunks or blocks: PNG, APNG, WebP, GIF, as tools write and tag them."""

from __future__ import annotations

import zipfile
from collections.abc import Iterator
from io import BytesIO
from pathlib import Path
from typing import Final

from tests.redaction.samples import Sample
from tests.support.samples import media, pngs
from tests.support.samples.media import run

PLACE: Final = ("47.804531", "13.042287", *media.HOME.names)
TOLD: Final = {
    "location": PLACE,
    "device": ("Testmaker", "Modell 7"),
    "people": ("Rosa Kamera", "a quince on a table"),
    "time": ("2024:05:17 11:22:33",),
}
_GPS: Final = (
    "Altitude AltitudeRef AreaInformation DateStamp ImgDirection Info Latitude LatitudeRef Longitude"
    " LongitudeRef MapDatum ProcessingMethod TimeStamp VersionID"
)
_PLACES: Final = (
    "Iptc4xmpCoreCountryCode Iptc4xmpCoreLocation PhotoshopCity PhotoshopCountry PhotoshopState"
    " XmpGPSAltitude XmpGPSLatitude XmpGPSLongitude Comment Location"
)
MAGICK: Final = {
    f"PNG:{name}": "a place as a text of its own, that exiftool holds to be about the picture"
    for name in (*(f"ExifGPS{tag}" for tag in _GPS.split()), *_PLACES.split())
}
TEXTS: Final = {
    "PNG:Title": "Rosa at the lake",
    "PNG:Author": "Rosa Kamera",
    "PNG:Software": "Quillpaint 7",
    "PNG:CreationTime": "2023:04:05 06:07:08",
    "PNG:Comment": "seen at 47.80453, 13.04229",
}
TEXTS_TOLD: Final = {
    "location": ("47.80453", "13.04229", "Zirbelstadt"),
    "device": ("Quillpaint",),
    "time": ("2023:04:05 06:07:08",),
    "people": ("Rosa at the lake", "Rosa Kamera", "47.80453", "13.04229"),
}


def archive(text: str) -> bytes:
    """A ZIP file with one text in it, as it is (not deflated)."""
    made = BytesIO()
    with zipfile.ZipFile(made, "w") as file:
        file.writestr("secret.txt", text)
    return made.getvalue()


def photo(directory: Path) -> Path:
    """The photo whose metadata the samples carry."""
    return media.photo(directory / "source.jpg", width=64, height=48)


def tagged(path: Path, source: Path, *options: str) -> Path:
    """The file with all of the source's metadata, written by exiftool."""
    run(
        "exiftool",
        "-q",
        "-q",
        "-overwrite_original",
        *options,
        "-TagsFromFile",
        str(source),
        "-all:all",
        str(path),
    )
    return path


def image(path: Path, *options: str) -> Path:
    """A picture without metadata."""
    run("convert", "-size", "64x48", "plasma:red-blue", *options, "-strip", str(path))
    return path


def _pngs(directory: Path) -> Iterator[Sample]:
    source = photo(directory)
    plain = image(directory / "exiftool.png")
    yield Sample("PNG, tagged by exiftool", "image/png", tagged(plain, source), TOLD)
    packed = tagged(image(directory / "packed.png"), source, "-z")
    yield Sample("PNG, deflated by exiftool", "image/png", packed, TOLD)
    legacy = tagged(image(directory / "legacy.png"), source, "-api", "PNGEarlyXMP=1")
    yield Sample("PNG, XMP early", "image/png", legacy, TOLD)
    converted = directory / "magick.png"
    run("convert", str(source), str(converted))
    yield Sample("PNG, converted by ImageMagick", "image/png", converted, TOLD, extra=MAGICK)
    moving = directory / "moving.png"
    video = (
        "ffmpeg",
        "-v",
        "error",
        "-f",
        "lavfi",
        "-i",
        "testsrc=s=48x32:r=4:d=1",
        "-f",
        "apng",
        str(moving),
    )
    run(*video)
    yield Sample("APNG by ffmpeg, tagged by exiftool", "image/png", tagged(moving, source), TOLD)
    texts = image(directory / "texts.png")
    data = texts.read_bytes()
    texts.write_bytes(data[:33] + pngs.text("Location", "Zirbelstadt") + data[33:])
    run("exiftool", "-q", "-overwrite_original", *(f"-{k}={v}" for k, v in TEXTS.items()), str(texts))
    yield Sample("PNG with texts", "image/png", texts, TEXTS_TOLD, extra=MAGICK)


def _odd_pngs(directory: Path) -> Iterator[Sample]:
    secrets = {
        "an archive behind": pngs.plain(behind=archive("Zirbelstadt")),
        "a second PNG behind": pngs.plain(behind=pngs.plain(pngs.text("Location", "Zirbelstadt"))),
        "C2PA": pngs.plain(pngs.chunk(b"caBX", b"jumbf Zirbelstadt")),
        "a chunk that nobody knows": pngs.plain(after=pngs.chunk(b"prVt", b"Zirbelstadt")),
        "a wrong checksum": pngs.plain(pngs.chunk(b"tEXt", b"Location\0Zirbelstadt", 1)),
    }
    for number, (name, data) in enumerate(secrets.items()):
        path = directory / f"odd{number}.png"
        path.write_bytes(data)
        yield Sample(f"PNG with {name}", "image/png", path, {"location": ("Zirbelstadt",)}, extra=MAGICK)


def _webps(directory: Path) -> Iterator[Sample]:
    source = photo(directory)
    plain = image(directory / "for webp.png")
    for name, options in {"lossy": (), "lossless": ("-lossless",)}.items():
        made = directory / f"{name}.webp"
        run("cwebp", "-quiet", *options, str(plain), "-o", str(made))
        yield Sample(f"WebP, {name}, tagged by exiftool", "image/webp", tagged(made, source), TOLD)
    kept = directory / "cwebp.webp"
    run("cwebp", "-quiet", "-metadata", "all", str(source), "-o", str(kept))
    yield Sample("WebP by cwebp, with the metadata of a JPEG", "image/webp", kept, TOLD)
    moving = directory / "moving.webp"
    frames = [image(directory / f"frame{number}.png") for number in (1, 2)]
    run("img2webp", "-loop", "0", *map(str, frames), "-o", str(moving))
    yield Sample("animated WebP", "image/webp", tagged(moving, source), TOLD)


def _gifs(directory: Path) -> Iterator[Sample]:
    source = photo(directory)
    moving, placed = directory / "moving.gif", directory / "comment.gif"
    frames = ("convert", "-size", "40x30", "xc:red", "xc:blue", "-loop", "0", "-set", "comment")
    run(*frames, "Rosa Kamera", str(moving))
    told = {"location": PLACE, "people": ("Rosa Kamera", "Quince")}
    yield Sample("GIF, tagged by exiftool", "image/gif", tagged(moving, source), told)
    run(*frames, "at 47.80453, 13.04229 by Rosa", str(placed))
    told = dict.fromkeys(("location", "people"), ("47.80453", "by Rosa"))
    extra = {"File:Comment": "one text tells both"}
    yield Sample("GIF with a comment", "image/gif", placed, told, extra=extra)


def samples(directory: Path) -> Iterator[Sample]:
    """All of the theme's samples."""
    yield from _pngs(directory)
    yield from _odd_pngs(directory)
    yield from _webps(directory)
    yield from _gifs(directory)
