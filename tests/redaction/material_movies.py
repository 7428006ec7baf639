"""Movies as ffmpeg and exiftool write them, and as phones, drones and dash-cams lay theirs out."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from functools import partial
from pathlib import Path
from types import MappingProxyType
from typing import Final

from tests.redaction.samples import Sample, Shown, decoded
from tests.support.samples import gpmf, movies
from tests.support.samples.media import kept, run, write_tags
from tests.support.samples.movies import box, full, keyed, loci, text_atom, u32

LATITUDE, LONGITUDE = "47.8045", "13.0423"
ISO6709: Final = f"+{LATITUDE}+0{LONGITUDE}+437.250/"
CITY, MAKER, MODEL, SERIAL = "Quincebury", "Testmaker", "Modell 7", "SN-4711-0815"
ARTIST, TITLE = "Rosa Kamera", "a quince on a table"
DATE: Final = "2024:05:17 11:22:33"
STAMP: Final = "2024-05-17T11:22:33"


@kept
def clip(path: Path, *, options: tuple[str, ...] = ()) -> Path:
    """A second of picture and sound."""
    inputs = ("-f", "lavfi", "-i", "testsrc=size=96x64:rate=10", "-f", "lavfi", "-i", "sine=frequency=440")
    codecs = ("-c:v", "libx264", "-preset", "ultrafast", "-pix_fmt", "yuv420p", "-c:a", "aac")
    run("ffmpeg", "-v", "error", "-y", *inputs, "-t", "1", *codecs, *options, str(path))
    return path


def tagged(path: Path) -> Path:
    """The same with tags as ffmpeg writes them into this container."""
    tags = {
        "location": ISO6709,
        "make": MAKER,
        "model": MODEL,
        "artist": ARTIST,
        "title": TITLE,
        "creation_time": f"{STAMP}Z",
    }
    pairs = [("-metadata", f"{name}={value}") for name, value in tags.items()]
    return clip(path, options=sum(pairs, ()))


def appended(path: Path, *boxes: bytes) -> Path:
    """A clip with boxes within its ``moov``, which is the last."""
    clip(path)
    file = bytearray(path.read_bytes())
    at = file.rindex(b"moov") - 4
    more = b"".join(boxes)
    size = int.from_bytes(file[at : at + 4])
    assert at + size == len(file)
    file[at : at + 4] = u32(size + len(more))
    path.write_bytes(bytes(file) + more)
    return path


def apple(path: Path) -> Path:
    """What an iPhone writes."""
    values = {
        "location.ISO6709": ISO6709,
        "location.accuracy.horizontal": "4.7",
        "make": MAKER,
        "model": MODEL,
        "software": "17.5.1 quince",
        "creationdate": f"{STAMP}+0200",
        "content.identifier": SERIAL,
        "author": ARTIST,
    }
    keys = {f"com.apple.quicktime.{name}".encode(): value.encode() for name, value in values.items()}
    return appended(path, keyed(keys, quicktime=True))


def user_data(path: Path) -> Path:
    """What phones and cameras of many years wrote into ``udta``."""
    atoms = [
        text_atom(b"\xa9xyz", ISO6709.encode()),
        text_atom(b"\xa9mak", MAKER.encode()),
        text_atom(b"\xa9mod", MODEL.encode()),
        text_atom(b"\xa9day", f"{STAMP}+0200".encode()),
        text_atom(b"\xa9nam", TITLE.encode()),
        text_atom(b"\xa9aut", ARTIST.encode()),
        box(b"slno", SERIAL.encode()),
        loci(),
    ]
    return appended(path, box(b"udta", *atoms[:4]), box(b"udta", *atoms[4:]))


def dash_cam(path: Path) -> Path:
    """Positions between the frames, listed in a box of their own, and behind the last one."""
    clip(path)
    block = b"\0\0\x80\0freeGPS " + f"$GPRMC,112233.000,A,4748.2718,N,01302.5374,E {CITY}".encode()
    block = block.ljust(0x8000, b"\0")
    file = path.read_bytes()
    listed = full(b"gps ", u32(1, len(file) + 8, 0x8000))
    path.write_bytes(file)
    at = file.rindex(b"moov") - 4
    size = int.from_bytes(file[at : at + 4])
    grown = file[:at] + u32(size + len(listed)) + file[at + 4 :] + listed
    path.write_bytes(grown + block + b"LIGOGPSINFO\0" + CITY.encode() * 40)
    return path


def drone(path: Path) -> Path:
    """Subtitles that are telemetry."""
    plain = clip(path.with_name("plain.mp4"))
    lines = path.with_name("telemetry.srt")
    lines.write_text(
        "".join(
            f"{n + 1}\n00:00:00,{n}00 --> 00:00:00,{n + 1}00\nGPS ({LONGITUDE}, {LATITUDE}, 19) {CITY}\n\n"
            for n in range(8)
        )
    )
    run(
        *(
            "ffmpeg",
            "-v",
            "error",
            "-y",
            "-i",
            str(plain),
            "-i",
            str(lines),
            "-c",
            "copy",
            "-c:s",
            "mov_text",
        ),
        str(path),
    )
    plain.unlink()
    lines.unlink()
    return path


def timed(path: Path) -> Path:
    """Tracks of timed metadata in several formats beside a picture of no codec."""
    sample = f"DEVC {CITY} {LATITUDE}".encode()
    kinds = (b"gpmd", b"rtmd", b"djmd", b"what")
    tracks = [movies.Track(b"meta", kind, (sample, sample), number=n) for n, kind in enumerate(kinds, 2)]
    path.write_bytes(movies.movie(movies.Track(), *tracks, head=movies.ftyp(b"mp42")))
    return path


def exif_tagged(path: Path) -> Path:
    """Tags as exiftool writes them into each of its groups."""
    clip(path)
    groups = {
        f"{group}:{name}": value
        for group in ("ItemList", "UserData", "Keys")
        for name, value in {
            "GPSCoordinates": f"{LATITUDE}, {LONGITUDE}, 437",
            "Make": MAKER,
            "Model": MODEL,
            "Artist": ARTIST,
            "Title": TITLE,
        }.items()
        if (group, name) != ("Keys", "Artist")
    }
    xmp = {
        "XMP-photoshop:City": CITY,
        "XMP-exif:GPSLatitude": LATITUDE,
        "XMP-exif:GPSLongitude": LONGITUDE,
        "XMP-dc:Title": TITLE,
        "XMP-dc:Creator": ARTIST,
        "XMP-tiff:Make": MAKER,
        "QuickTime:CreateDate": DATE,
        "QuickTime:TrackCreateDate": DATE,
        "QuickTime:MediaModifyDate": DATE,
    }
    write_tags(path, groups | xmp)
    return path


def told(**words: tuple[str, ...]) -> Mapping[str, tuple[str, ...]]:
    return words


def samples(directory: Path) -> Iterator[Sample]:
    """Each container with tags in each of the forms that are met."""
    sample = partial(_sample, directory)
    people, place = (ARTIST, TITLE), (LATITUDE, LONGITUDE)
    yield sample(
        "tagged.mov", "video/quicktime", tagged, told(location=place, device=(MAKER,), people=people)
    )
    yield sample("tagged.3gp", "video/3gpp", _three_gpp, told(people=(ARTIST, TITLE)))
    yield sample("tagged.m4a", "audio/x-m4a", _sound, told(people=people))
    yield sample(
        "exiftool.mp4", "video/mp4", exif_tagged, told(location=(CITY,), device=(MAKER, MODEL), people=people)
    )
    yield sample(
        "phone.mov",
        "video/quicktime",
        apple,
        told(location=place, device=(MAKER, MODEL, SERIAL, "quince"), time=("2024",), people=(ARTIST,)),
        extra={"Keys:LocationAccuracyHorizontal": "how exactly the place is known is about the place"},
    )
    yield sample(
        "camera.mov",
        "video/quicktime",
        user_data,
        told(location=(CITY, *place), device=(MAKER, SERIAL), time=("2024",), people=people),
    )
    yield sample(
        "dashcam.mp4",
        "video/mp4",
        dash_cam,
        told(location=(CITY, "4748.2718")),
        extra={
            "QuickTime:GPSDataList": "positions of a dash-cam",
            "QuickTime:Free": "what lay behind the end",
        },
    )
    yield sample(
        "drone.mp4",
        "video/mp4",
        drone,
        told(location=(CITY, *place), people=(CITY, *place)),
        extra={"Track3:Text": "subtitles that hold coordinates"},
    )
    said = "shot 2019:03:04 05:06:07"
    text, mkv = {"time": (said,), "people": (said,)}, _said(directory / "said.mkv")
    yield Sample("said.mkv", "video/x-matroska", mkv, text, decoded, extra={"Matroska": "the text, programs"})
    yield sample(
        "said.mp4", "video/mp4", _said, told(time=(said,), people=(said,)), extra={"ItemList": "the text"}
    )
    yield sample("fragments.mp4", "video/mp4", _fragments, told(location=place, people=people))
    yield sample(
        "timed.mp4",
        "video/mp4",
        timed,
        told(location=(CITY,)),
        shown=None,
        extra={"Track4": "exiftool 13 takes these words for a drone's records, and makes tags of them"},
    )
    yield sample(
        "action.mp4",
        "video/mp4",
        _action,
        told(location=("47.8045", "13.0422"), device=("Hero6 Black",), people=("153 136 119 102",)),
        shown=None,
        extra={
            "Track2:GPSMeasureMode": "how the place was found is about the place",
            "Track2:GPSHPositioningError": "likewise",
            "Track2:GPSDateTime": "likewise",
            "Track2:GoPro_WHAT": "a value that nobody has named",
            "Track2:FaceDetected": "a face is somebody",
            "Track2:DeviceName": "the camera",
        },
    )


def _action(path: Path) -> Path:
    path.write_bytes(gpmf.film())
    return path


def _sample(
    directory: Path,
    name: str,
    kind: str,
    make: Callable[[Path], Path],
    facts: Mapping[str, tuple[str, ...]],
    shown: Shown | None = decoded,
    extra: Mapping[str, str] = MappingProxyType({}),
) -> Sample:
    return Sample(name, kind, make(directory / name), facts, shown, extra=extra)


def _three_gpp(path: Path) -> Path:
    tags = (
        "-metadata",
        f"location={ISO6709}",
        "-metadata",
        f"title={TITLE}",
        "-metadata",
        f"artist={ARTIST}",
    )
    return clip(path, options=("-ar", "16000", *tags))


def _sound(path: Path) -> Path:
    return clip(path, options=("-vn", "-metadata", f"title={TITLE}", "-metadata", f"artist={ARTIST}"))


def _said(path: Path) -> Path:
    return clip(path, options=("-metadata", "comment=shot 2019:03:04 05:06:07"))


def _fragments(path: Path) -> Path:
    tags = (
        "-metadata",
        f"location={ISO6709}",
        "-metadata",
        f"title={TITLE}",
        "-metadata",
        f"artist={ARTIST}",
    )
    return clip(path, options=("-movflags", "frag_keyframe+empty_moov", "-g", "5", *tags))
