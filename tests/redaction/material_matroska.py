"""Matroska and WebM as ffmpeg and mkvtoolnix write them: phones' tags carried over, drones' subtitles,
chapters, attached files and pictures, scripts, Xiph's comments in codec settings."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from tests.redaction.samples import Sample, decoded, frames
from tests.support.samples import media
from tests.support.samples.media import run

SRT = """1
00:00:00,000 --> 00:00:01,000
FrameCnt: 1 2021-07-23 17:46:08.123
[iso: 100] [latitude: 47.80453] [longitude: 13.04229] [abs_alt: 437.250]

2
00:00:01,000 --> 00:00:02,000
FrameCnt: 2 2021-07-23 17:46:09.456
[iso: 100] [latitude: 47.80454] [longitude: 13.04230] [abs_alt: 437.251]
"""
CHAPTERS = """CHAPTER01=00:00:00.000
CHAPTER01NAME=Aunt Quendelia arrives
CHAPTER02=00:00:01.000
CHAPTER02NAME=Cake
"""
TAGS = """<?xml version="1.0"?>
<Tags><Tag><Targets><TargetTypeValue>50</TargetTypeValue></Targets>
<Simple><Name>RECORDING_LOCATION</Name><String>AT, Zirbelstadt</String></Simple>
<Simple><Name>COMPOSITION_LOCATION</Name><String>Wacholderland</String></Simple>
<Simple><Name>DATE_RECORDED</Name><String>2019-03-04</String></Simple>
<Simple><Name>ARTIST</Name><String>Rosa Kamera</String>
  <Simple><Name>X_HOMETOWN</Name><String>Grauholzweg</String></Simple></Simple>
<Simple><Name>ENCODER_SETTINGS</Name><String>Testmaker preset 7</String></Simple>
</Tag></Tags>
"""
_OURS = "exiftool does not say what Matroska's tags are about"
_EXTRA: Final = {
    f"Matroska:{name}": _OURS
    for name in (
        *("Location", "Location-eng", "Comapplequicktimelocationiso6709", "RecordingLocation"),
        *("CompositionLocation", "XHometown", "CRC-32", "AttachedFileName", "AttachedFileMIMEType"),
        *("AttachedFileData", "AttachedFileUID", "AttachedFileDescription"),
        *("Date", "Comapplequicktimecreationdate", "StatisticsWritingDateUtc"),
    )
}
_PICTURE = ("-f", "lavfi", "-i", "testsrc=s=160x120:r=10:d=2")
_SOUND = ("-f", "lavfi", "-i", "sine=d=2")

USER_DATA: Final = "Zirbelstadt 47.80453 13.04229"
_UUID: Final = "101112131415161718191a1b1c1d1e1f"


def streams(path: Path) -> str:
    """Every packet of picture and sound, but neither attached pictures nor codec settings, in which some
    codecs keep comments."""
    (told,) = frames([path], "Va", "-c", "copy")
    lines = [line for line in told.splitlines() if not line.startswith(b"#extradata")]
    assert lines
    return hashlib.sha256(b"\n".join(lines)).hexdigest()


@media.kept
def phone_video(path: Path) -> Path:
    """What ffmpeg makes of a phone's recording: QuickTime's keys as tags."""
    tags = {
        "title": "Quince on a table",
        "location": "+47.80453+013.04229/",
        "location-eng": "+47.80453+013.04229/",
        "com.apple.quicktime.location.ISO6709": "+47.80453+013.04229+437.250/",
        "com.apple.quicktime.make": "Testmaker",
        "com.apple.quicktime.model": "Modell 7",
        "com.apple.quicktime.creationdate": "2021-07-23T17:46:08+0200",
        "date": "2021-07-23",
        "artist": "Rosa Kamera",
    }
    pairs = [word for name, value in tags.items() for word in ("-metadata", f"{name}={value}")]
    made = ("-metadata:s:v", "title=Camera of Rosa Kamera", "-metadata:s:v", "handler_name=by Wunibald")
    codecs = (
        ("-c:v", "libx264", "-c:a", "aac")
        if path.suffix == ".mkv"
        else ("-c:v", "libvpx", "-c:a", "libvorbis")
    )
    run("ffmpeg", "-v", "error", "-y", *_PICTURE, *_SOUND, *codecs, *pairs, *made, str(path))
    return path


def full(directory: Path) -> Path:
    """mkvmerge with all that it can put into a file."""
    video = phone_video(directory / "part.mkv")
    for name, text in (
        ("a.srt", SRT),
        ("c.txt", CHAPTERS),
        ("t.xml", TAGS),
        ("note.txt", "at 47.80453, 13.04229"),
    ):
        (directory / name).write_text(text, encoding="utf-8")
    cover = media.photo(directory / "cover.jpg")
    run(
        *("mkvmerge", "-q", "-o", str(directory / "full.mkv"), "--global-tags", str(directory / "t.xml")),
        *("--title", "Quince on a table", "--chapters", str(directory / "c.txt")),
        *("--attachment-description", "by Rosa Kamera", "--attach-file", str(cover)),
        *("--attach-file", str(directory / "note.txt"), str(video), str(directory / "a.srt")),
    )
    return directory / "full.mkv"


def script(directory: Path) -> Path:
    """A file with a subtitle script (ASS), and with compressed subtitles."""
    (directory / "b.srt").write_text(SRT, encoding="utf-8")
    run("ffmpeg", "-v", "error", "-y", "-i", str(directory / "b.srt"), str(directory / "b.ass"))
    lines = (directory / "b.ass").read_text(encoding="utf-8")
    head = "[Script Info]\nTitle: of Rosa Kamera\n; made with Testmaker\n"
    (directory / "b.ass").write_text(lines.replace("[Script Info]\n", head), encoding="utf-8")
    run(
        *("mkvmerge", "-q", "-o", str(directory / "script.mkv"), str(directory / "part.mkv")),
        *(str(directory / "b.ass"), "--compression", "0:zlib", str(directory / "b.srt")),
    )
    return directory / "script.mkv"


def live(path: Path) -> Path:
    """Recorded live: sizes of the segment and of clusters are not known."""
    source = phone_video(path.with_name("part.webm"))
    run("ffmpeg", "-v", "error", "-y", "-i", str(source), "-c", "copy", "-f", "webm", "-live", "1", str(path))
    return path


def sound(path: Path) -> Path:
    """Vorbis and FLAC, which keep comments in their codec settings."""
    flac = path.with_suffix(".flac")
    tags = (
        "-metadata",
        "artist=Rosa Kamera",
        "-metadata",
        "location=Zirbelstadt",
        "-metadata",
        "date=2019-03-04",
    )
    run("ffmpeg", "-v", "error", "-y", *_SOUND, *tags, str(flac))
    run("mkvmerge", "-q", "-o", str(path), str(flac))
    return path


@media.kept
def _stream(path: Path) -> Path:
    marked = ("-bsf:v", f"h264_metadata=sei_user_data={_UUID}+{USER_DATA}")
    run("ffmpeg", "-v", "error", "-y", *_PICTURE, "-c:v", "libx264", "-g", "5", *marked, str(path))
    return path


def messages(path: Path) -> Path:
    """A recording of a drone that writes its position into messages beside the pictures (SEI), in the
    container that the file's name asks for; put there as it is, without a new coding of the pictures."""
    stream = _stream(path.with_suffix(f".{path.suffix[1:]}.h264"))
    timed = ("-fflags", "+genpts", "-r", "10", "-i", str(stream), "-c", "copy")
    run("ffmpeg", "-v", "error", "-y", *timed, str(path.with_suffix(".avi")))
    if path.suffix == ".mkv":
        hacks = ("--engage", "allow_avc_in_vfw_mode") if "vfw" in path.name else ()
        run("mkvmerge", "-q", "-o", str(path), *hacks, str(path.with_suffix(".avi")))
    return path


def without_settings(path: Path) -> Path:
    """A drone's recording whose sample entry has lost the settings of the codec."""
    films = messages(path.with_name("settings.avi"))
    run("ffmpeg", "-v", "error", "-y", "-fflags", "+genpts", "-i", str(films), "-c", "copy", str(path))
    path.write_bytes(path.read_bytes().replace(b"avcC", b"free"))
    return path


def time_lapse(path: Path) -> Path:
    """Photos as the camera made them, one after the other, in the container that the file's name asks for."""
    for number in range(3):
        media.photo(path.with_name(f"lapse{number}.jpg"), place=media.HOME)
    images = ("-framerate", "5", "-f", "image2", "-i", str(path.with_name("lapse%d.jpg")))
    run("ffmpeg", "-v", "error", "-y", *images, "-c", "copy", str(path))
    return path


def samples(directory: Path) -> Iterator[Sample]:
    """Each with facts under every word."""
    phone = {
        "location": ("47.80453", "013.04229"),
        "device": ("Testmaker", "Modell 7", "Lavf", "Wunibald"),
        "people": ("Rosa Kamera", "Quince on a table", "Wunibald"),
        "time": ("2021-07-23",),
    }
    mkv, webm = "video/x-matroska", "video/webm"
    yield Sample("phone's, Matroska", mkv, phone_video(directory / "phone.mkv"), phone, streams, extra=_EXTRA)
    yield Sample("phone's, WebM", webm, phone_video(directory / "phone.webm"), phone, streams, extra=_EXTRA)
    unknown = ("Grauholzweg", "note.txt")  # in a tag of an unknown name; a file that is no picture
    told = {
        "location": ("47.80453", "13.04229", "Zirbelstadt", "Wacholderland", *unknown),
        "device": ("Testmaker", "Modell 7", "mkvmerge", "Wunibald", *unknown),
        "people": ("Rosa Kamera", "Quince on a table", "Wunibald", "Quendelia", "FrameCnt", *unknown),
        "time": ("2021-07-23", "2019-03-04", *unknown),
    }
    yield Sample("all that mkvmerge writes", mkv, full(directory), told, streams, extra=_EXTRA)
    told = {**phone, "people": ("Rosa Kamera", "FrameCnt", "Wunibald")}
    yield Sample("subtitle scripts", mkv, script(directory), told, streams, extra=_EXTRA)
    yield Sample("recorded live", webm, live(directory / "live.webm"), phone, streams, extra=_EXTRA)
    told = {"location": ("Zirbelstadt",), "people": ("Rosa Kamera",), "time": ("2019-03-04",)}
    yield Sample("FLAC in Matroska", mkv, sound(directory / "sound.mka"), told, streams, extra=_EXTRA)
    unknown_data = dict.fromkeys(("location", "device", "people", "time"), (USER_DATA,))
    for name, kind in (("sei.mkv", mkv), ("sei-vfw.mkv", mkv), ("sei.avi", "video/x-msvideo")):
        path = messages(directory / name)
        yield Sample(f"messages in frames, {name}", kind, path, unknown_data, decoded, extra=_EXTRA)
    path = without_settings(directory / "without settings.mp4")
    yield Sample("frames without settings", "video/mp4", path, unknown_data, None, extra=_EXTRA)
    told = {
        "location": media.HOME.names[:1],
        "device": ("Testmaker",),
        "people": ("Rosa Kamera",),
        "time": ("2024:05:17",),
    }
    for ending, kind in (("mkv", mkv), ("avi", "video/x-msvideo"), ("mp4", "video/mp4")):
        path = time_lapse(directory / f"lapse.{ending}")
        yield Sample(f"a time-lapse of photos, {ending}", kind, path, told, decoded, extra=_EXTRA)
