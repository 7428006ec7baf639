"""MPEG streams as ffmpeg writes them: positions in messages (AVCHD), data, names."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Final

from tests.redaction.samples import Sample, decoded
from tests.support.samples.media import run
from tests.support.samples.mpegs import EXPOSED, GPS, MDPM

LATITUDE, LONGITUDE = "47.80453", "13.04229"
_UUID: Final = "101112131415161718191a1b1c1d1e1f"
_MDPM: Final = MDPM[:16].hex()
_PICTURE: Final = ("-f", "lavfi", "-i", "testsrc=s=96x64:r=25:d=1")
_SOUND: Final = ("-f", "lavfi", "-i", "sine=d=1")
_AVC: Final = ("-c:v", "libx264", "-preset", "ultrafast", "-pix_fmt", "yuv420p", "-g", "5")
_NAMES: Final = ("-metadata", "service_name=Rosa Kamera", "-metadata", "service_provider=Quillsound")
_DATED: Final = {"H264:DateTimeOriginal": "a part of the message"}


def film(path: Path, *options: str, sound: str = "aac", picture: tuple[str, ...] = _AVC) -> Path:
    """A second of picture and sound, by ffmpeg."""
    coded = (*picture, "-c:a", sound)
    run("ffmpeg", "-v", "error", "-y", *_PICTURE, *_SOUND, *coded, *options, str(path))
    return path


def messages(path: Path, *options: str, picture: tuple[str, ...] = _AVC) -> Path:
    """A recording with a position in a message beside the pictures."""
    said = f"h264_metadata=sei_user_data={_UUID}+{LATITUDE} {LONGITUDE}"
    return film(path, *options, "-bsf:v", said, picture=picture)


def camcorder(path: Path) -> Path:
    """What a camcorder writes (AVCHD): time, exposure and position in each message."""
    entries = [b"\x18\x02\x20\x24\x05", b"\x19\x17\x11\x22\x33", EXPOSED, *GPS]
    rest = b"MDPM" + bytes([len(entries)]) + b"".join(entries)
    plain = film(
        path.with_suffix(".plain.m2ts"), "-mpegts_m2ts_mode", "1", "-x264-params", "aud=1", sound="ac3"
    )
    mark = rest.ljust(64, b"\0")
    said = f"filter_units=remove_types=6,h264_metadata=sei_user_data={_MDPM}+{'x' * len(mark)}"
    copied = ("-i", str(plain), "-c", "copy", "-bsf:v", said, "-mpegts_m2ts_mode", "1")
    run("ffmpeg", "-v", "error", "-y", *copied, str(path))
    data = path.read_bytes()
    assert b"x" * len(mark) in data
    path.write_bytes(
        data.replace(b"x" * len(mark), mark.replace(b"\0\0\0", b"\0\1\0").replace(b"\0\0\1", b"\0\1\1"))
    )
    return path


def telemetry(path: Path) -> Path:
    """A stream of data beside the pictures, as drones write it (KLV): ffmpeg copies subtitles into it."""
    lines = path.with_suffix(".srt")
    lines.write_text(f"1\n00:00:00,000 --> 00:00:01,000\n{LATITUDE}, {LONGITUDE}\n\n")
    video = film(path.with_suffix(".plain.ts"))
    inputs = ("-i", str(video), "-i", str(lines), "-map", "0", "-map", "1", "-c", "copy")
    run("ffmpeg", "-v", "error", "-y", *inputs, str(path))
    return path


def samples(directory: Path) -> Iterator[Sample]:
    """Each with facts under every word."""
    ts, ps = "video/mp2t", "video/mpeg"
    place = {
        "location": (LATITUDE, LONGITUDE),
        "device": (LATITUDE,),
        "time": (LATITUDE,),
        "people": (LATITUDE,),
    }
    named = {
        **place,
        "people": (LATITUDE, "Rosa Kamera", "Quillsound"),
        "device": ("x264 - core", "Quillsound", "Rosa Kamera", LATITUDE),
    }
    yield Sample("messages, TS", ts, messages(directory / "messages.ts", *_NAMES), named, decoded)
    yield Sample("a camcorder's M2TS", ts, camcorder(directory / "camcorder.m2ts"), {}, decoded, extra=_DATED)
    yield Sample("a stream of data, TS", ts, telemetry(directory / "data.ts"), place, decoded)
    hevc = ("-c:v", "libx265", "-preset", "ultrafast", "-x265-params", "log-level=0", "-pix_fmt", "yuv420p")
    yield Sample(
        "HEVC and Opus, TS", ts, film(directory / "a.ts", sound="libopus", picture=hevc), {}, decoded
    )
    mpeg_2, mpeg_1 = ("-c:v", "mpeg2video"), ("-c:v", "mpeg1video", "-f", "mpeg")
    yield Sample(
        "a DVD's VOB", ps, film(directory / "a.vob", "-f", "dvd", sound="ac3", picture=mpeg_2), {}, decoded
    )
    yield Sample("MPEG-1", ps, film(directory / "a.mpg", sound="mp2", picture=mpeg_1), {}, decoded)
    yield Sample(
        "messages, MPG", ps, messages(directory / "b.mpg", "-f", "mpeg", "-c:a", "mp2"), place, decoded
    )
