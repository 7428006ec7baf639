"""PDFs as ghostscript, qpdf, img2pdf and exiftool make them, and the sidecars of photo programs."""

from __future__ import annotations

import hashlib
import json
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from tests.redaction.samples import Sample
from tests.support.samples import media
from tests.support.samples.media import TOOL_DEADLINE_S, run

PAGE = """%!PS
/Helvetica findfont 24 scalefont setfont 72 700 moveto (Hello quince) show
[ /Title (Quince on a table) /Author (Rosa Kamera) /Subject (47.80453, 13.04229) /Keywords (fruit)
  /Creator (Testmaker) /CreationDate (D:20210723174608+02'00') /DOCINFO pdfmark
[ /Rect [70 600 200 650] /Contents (Aunt Quendelia says hi) /Title (Rosa Kamera) /Subtype /Text /ANN pdfmark
[ /Rect [70 500 200 550] /Action << /Subtype /URI /URI (https://maps.google.com/?q=47.80453,13.04229) >>
  /Subtype /Link /ANN pdfmark
[ /Title (Chapter one) /Page 1 /OUT pdfmark
showpage
"""
_OURS = "entries of this document that exiftool puts into other groups"
_EXTRA: Final = {f"PDF:{name}": _OURS for name in ("Subject", "Annot", "Keywords")}
_EXTRA_XMP: Final = {
    "XMP-x": "the toolkit's name",
    "XMP-dc": "the subject has coordinates in it",
    "XMP-pdf:Producer": "a program, which exiftool takes for an author",
}
_RECEIVER: Final = {"XMP-exif:GPSDateTime": "when the receiver knew the place"}
_GROUPS: Final = {
    f"JSON:{name}": "exiftool does not say what these members are about"
    for name in (
        *("GeoDataAltitude", "GeoDataLatitude", "GeoDataLongitude"),
        *("CreationTimeFormatted", "CreationTimeTimestamp"),
    )
}


def rendered(path: Path) -> str:
    """The pixels of every page, and its text."""
    said = []
    for command in (["pdftoppm", "-r", "60", str(path)], ["pdftotext", str(path), "-"]):
        done = subprocess.run(command, capture_output=True, timeout=TOOL_DEADLINE_S, check=True)
        assert done.stdout
        said.append(hashlib.sha256(done.stdout).hexdigest())
    checked = subprocess.run(
        ["qpdf", "--check", str(path)], capture_output=True, timeout=TOOL_DEADLINE_S, check=False
    )
    return "\n".join([*said, str(checked.returncode)])


def documents(directory: Path) -> dict[str, Path]:
    """One page, as several programs store it."""
    script, plain = directory / "page.ps", directory / "plain.pdf"
    script.write_text(PAGE, encoding="utf-8")
    run("gs", "-q", "-sDEVICE=pdfwrite", "-o", str(plain), str(script))
    made = {"ghostscript's": plain}

    def also(name: str, *options: str) -> None:
        made[name] = directory / f"{len(made)}.pdf"
        run("qpdf", *options, str(plain), str(made[name]))

    also("with object streams", "--object-streams=generate", "--recompress-flate", "--compression-level=9")
    also("linearised", "--linearize", "--object-streams=disable")
    also("linearised, with object streams", "--linearize", "--object-streams=generate")
    revised = directory / "revised.pdf"
    shutil.copy(plain, revised)
    media.write_tags(revised, {"PDF:Author": "Another Person", "XMP-photoshop:City": media.HOME.city})
    made["edited by exiftool"] = revised
    return made


def takeout(path: Path) -> Path:
    """What Google Takeout puts beside a photo."""
    told = {
        "title": "IMG_20210723.jpg",
        "description": "Quince on a table",
        "imageViews": "3",
        "creationTime": {"timestamp": "1627062368", "formatted": "Jul 23, 2021, 5:46:08 PM UTC"},
        "geoData": {"latitude": 47.80453, "longitude": 13.04229, "altitude": 437.25},
        "people": [{"name": "Rosa Kamera"}],
        "appSource": {"androidPackageName": "com.testmaker.camera"},
    }
    path.write_text(json.dumps(told, indent=2), encoding="utf-8")
    return path


def samples(directory: Path) -> Iterator[Sample]:
    """Each with facts under every word."""
    told = {
        "location": ("47.80453, 13.04229",),
        "device": ("Testmaker",),
        "people": ("Quince on a table", "Rosa Kamera", "47.80453, 13.04229"),
        "time": ("2021:07:23 17:46:08",),
    }
    kind = "application/pdf"
    for name, path in documents(directory).items():
        more = {"location": (*told["location"], media.HOME.city)} if path.name == "revised.pdf" else {}
        yield Sample(f"PDF, {name}", kind, path, {**told, **more}, rendered, extra=_EXTRA | _EXTRA_XMP)
    photo, album = media.photo(directory / "photo.jpg"), directory / "album.pdf"
    run("img2pdf", str(photo), "-o", str(album))
    facts = {
        "location": (*media.HOME.names,),
        "device": ("Testmaker", "Modell 7"),
        "people": ("Rosa Kamera",),
    }
    yield Sample("PDF, a photo", kind, album, facts, rendered)
    scan, scanned = directory / "scan.ps", directory / "scan.pdf"
    own = "[ {Catalog} << /ScanPlace << /Latitude 47.80453 /City (Quincebury) >> >> /PUT pdfmark\nshowpage"
    scan.write_text(PAGE.replace("showpage", own), encoding="utf-8")
    run("gs", "-q", "-sDEVICE=pdfwrite", "-o", str(scanned), str(scan))
    placed = {**told, "location": (*told["location"], "/Latitude 47.80453", "Quincebury")}
    yield Sample(
        "PDF, with a program's own entries", kind, scanned, placed, rendered, extra=_EXTRA | _EXTRA_XMP
    )
    attached = directory / "attached.pdf"
    run("qpdf", str(directory / "plain.pdf"), "--add-attachment", str(photo), "--", str(attached))
    yield Sample("PDF, an attached photo", kind, attached, told, rendered, extra=_EXTRA | _EXTRA_XMP)
    locked = directory / "locked.pdf"
    run("qpdf", "--encrypt", "", "x", "256", "--", str(directory / "plain.pdf"), str(locked))
    words = frozenset({"location", "device", "time", "people", "all-metadata"})
    yield Sample("PDF, encrypted", kind, locked, {}, rendered, refused=words)
    sidecar = directory / "photo.xmp"
    run("exiftool", "-q", "-tagsfromfile", str(photo), "-all>xmp:all", str(sidecar))
    facts = {"location": (*media.HOME.names,), "device": ("Testmaker",), "people": ("Rosa Kamera",)}
    yield Sample("XMP sidecar", "application/rdf+xml", sidecar, facts, None, extra=_RECEIVER)
    facts = {"location": ("47.80453", "13.04229"), "people": ("Rosa Kamera", "Quince on a table")}
    facts |= {"device": ("com.testmaker.camera",), "time": ("1627062368", "Jul 23, 2021")}
    yield Sample(
        "Takeout's JSON",
        "application/x-location+json",
        takeout(directory / "t.json"),
        facts,
        None,
        extra=_GROUPS,
    )
