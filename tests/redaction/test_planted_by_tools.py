"""Places that other programs write behind long texts, many values and many files: read before, not after."""

from __future__ import annotations

import json
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from policyfs.content.workers.worker import Detector
from policyfs.redact.core.patches import MemorySource, apply
from policyfs.redact.plan import Outcome, locate
from tests.redaction import test_every_container
from tests.redaction.planted import PLACE, places_in
from tests.support.samples import exiftool, jpegs, pdfs
from tests.support.samples.media import run

_WORDS: Final = "some words " * 8000 + PLACE.decode()
"""A text of 88 KB with a place at its end."""
_READ: Final = re.compile(r"47[.,]80453")
_TAGS: Final = "<Tags><Tag><Targets/>{}</Tag></Tags>"
_TAG: Final = "<Simple><Name>GENRE</Name><String>{}</String></Simple>"
_SOUNDS: Final = ("ff.flac", "ff.ogg", "ff.opus", "ff.mp3", "ff.wav", "ff.m4a")
_FILMS: Final = ("ff.mkv", "ff.webm", "ff.mp4", "ff.mov", "ff.3gp", "ff.avi")
_CONTAINERS: Final = (
    "a.jpg",
    "a.tif",
    "a.dng",
    "a.cr3",
    "a.webp",
    "a.heic",
    "a.jp2",
    "a.jxl",
    "a.xmp",
    "a.mov",
)
_PICTURES: Final = ("im.jpg", "im.png", "im.gif", "im.webp", "im.tif")


def by_exiftool(directory: Path) -> None:
    """A long description in each container that exiftool writes."""
    text = directory / "text"
    text.write_text(_WORDS)
    run("convert", "-size", "64x48", "xc:#ab8", str(directory / "plain.png"))
    for name in _CONTAINERS:
        path = directory / name
        test_every_container._MADE[name](path)
        exiftool.run("-q", "-m", "-overwrite_original", f"-XMP-dc:Description<={text}", str(path))


def by_ffmpeg(directory: Path) -> None:
    """A long comment in each container that ffmpeg writes."""
    meta = directory / "meta"
    meta.write_text(f";FFMETADATA1\ncomment={_WORDS}\nlocation={_WORDS}\n")
    inputs = ["-f", "lavfi", "-i", "testsrc=s=128x96:r=5:d=0.4", "-f", "lavfi", "-i", "sine=d=0.4"]
    outputs: list[str] = []
    for name in (*_SOUNDS, *_FILMS):
        maps = ["-map", "1:a"] if name in _SOUNDS else ["-map", "0:v"]
        outputs += [*maps, "-map_metadata", "2", str(directory / name)]
    run("ffmpeg", "-v", "error", *inputs, "-f", "ffmetadata", "-i", str(meta), *outputs)


def by_others(directory: Path) -> None:
    """Many tags and attachments (mkvmerge), objects in streams (qpdf), comments (ImageMagick)."""
    photo = directory / "photo.jpg"
    photo.write_bytes(jpegs.photo_with(jpegs.exif("MM")))
    tags = directory / "tags.xml"
    tags.write_text(_TAGS.format(_TAG.format("words") * 3000 + _TAG.format(PLACE.decode())))
    attached = ["--attach-file", str(photo)] * 70
    target, source = str(directory / "merged.mkv"), str(directory / "ff.mkv")
    run("mkvmerge", "-q", "-o", target, "--global-tags", str(tags), *attached, source)
    plain = directory / "plain.pdf"
    words = {n: b"<</Where(words %d)>>" % n for n in range(10, 900)}
    refers = b" ".join(b"%d 0 R" % n for n in words)
    author = b"<</Author(" + PLACE + b")/More[" + refers + b"]>>"
    plain.write_bytes(pdfs.pdf({6: author, **words}, trailer=b"/Info 6 0 R"))
    run("qpdf", "--object-streams=generate", str(plain), str(directory / "packed.pdf"))
    outputs: list[str] = []
    for name in _PICTURES:
        outputs += ["-write", str(directory / name)]
    run("convert", str(directory / "plain.png"), "-set", "comment", _WORDS, *outputs, "null:")


def told(directory: Path) -> set[str]:
    """The files in which exiftool, ffprobe or a search of the bytes finds the place."""
    files = sorted(directory.iterdir())
    done = exiftool.run("-ee", "-u", "-a", "-G3:1", "-q", "-q", "-m", "-j", *map(str, files))
    entries = json.loads(done.stdout.decode("utf-8", "replace"))
    found = {Path(one["SourceFile"]).name for one in entries if _READ.search(json.dumps(one))}
    for path in files:
        if path.name in (*_FILMS, "ff.flac"):
            command = ["ffprobe", "-v", "quiet", "-show_format", str(path)]
            said = subprocess.run(command, capture_output=True, timeout=60, check=False).stdout
            found |= {path.name} if PLACE in said else set()
    return found | {path.name for path in files if places_in(path.read_bytes())}


def views(directory: Path, target: Path) -> Iterator[str]:
    """Write what an app reads of each file; yield the names of files that are refused."""
    detector = Detector()
    for path in sorted(directory.iterdir()):
        data = path.read_bytes()
        plan = locate(detector.kind(data[:65536]), frozenset({"location"}), MemorySource(data))
        if plan.outcome is Outcome.REFUSE:
            yield path.name
        else:
            (target / path.name).write_bytes(apply(data, plan.patches))


def test_places_of_other_programs_are_read_before_and_not_after(tmp_path):
    made, shown = tmp_path / "made", tmp_path / "shown"
    made.mkdir()
    shown.mkdir()
    for make in (by_exiftool, by_ffmpeg, by_others):
        make(made)
    for name in ("text", "meta", "tags.xml", "plain.png"):
        (made / name).unlink()
    before = told(made)
    assert len(before) >= 28, sorted(before)
    assert set(views(made, shown)) <= {"ff.mp3"}  # its ID3 tag of over 64 KiB hides the kind
    assert told(shown) == set()


def test_a_picture_of_many_jpeg_tiles_is_read_unchanged(tmp_path):
    path = tmp_path / "a.tif"
    tiles = ("-define", "tiff:tile-geometry=16x16", "-compress", "jpeg")
    run("convert", "-size", "1200x1200", "gradient:", *tiles, str(path))
    data = path.read_bytes()
    plan = locate("image/tiff", frozenset({"location"}), MemorySource(data))
    assert apply(data, plan.patches)[: len(data) // 2] == data[: len(data) // 2]
    assert plan.outcome is not Outcome.REFUSE
