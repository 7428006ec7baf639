"""Sound, and what is wrapped like it: MP3, FLAC, Ogg, WAV, AVI, as tools write and tag them."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Final

from tests.redaction.samples import Sample, decoded
from tests.support.machine.counts import SOAK
from tests.support.samples import media
from tests.support.samples.media import run

TAGS: Final = {
    "title": "Rosa at the lake",
    "artist": "Rosa Kamera",
    "comment": "heard at 47.80453, 13.04229",
    "date": "2023-04-05",
    "encoded_by": "Quillsound 7",
    "location": "Zirbelstadt",
    "genre": "Folk",
}
TOLD: Final = {
    "location": ("47.80453", "Zirbelstadt"),
    "people": ("Rosa at the lake", "Rosa Kamera", "47.80453", "Quillsound"),
    "time": ("2023-04-05",),
    "device": ("Quillsound",),
}
_GROUPS: Final = ("ID3v2_3", "ID3v2_4", "ID3v1", "APE", "Vorbis", "FLAC", "RIFF", "Opus", "Theora")
EXTRA: Final = {
    f"{group}:{tag}": "a text of its own, that exiftool holds to be about the sound"
    for group in _GROUPS
    for tag in (
        "Comment",
        "Description",
        "Annotation",
        "UserDefinedText",
        "Location",
        "ENCODED_BY",
        "EncodedBy",
    )
}
BEXT: Final = {
    f"RIFF:{tag}": "a field that tells several things"
    for tag in ("OriginatorReference", "Originator", "TimeReference")
}


def sound(path: Path, *options: str, tags: dict[str, str] = TAGS, inputs: tuple[str, ...] = ()) -> Path:
    """A second of sound with tags, by ffmpeg."""
    source = ("-f", "lavfi", "-i", "sine=frequency=330:duration=1:sample_rate=44100")
    words = [word for name, value in tags.items() for word in ("-metadata", f"{name}={value}")]
    run("ffmpeg", "-v", "error", "-y", *source, *inputs, *words, *options, str(path))
    return path


def cover(directory: Path) -> Path:
    """A photo with a place, small enough for a cover."""
    return media.photo(directory / "cover.jpg", width=64, height=48)


def _mp3(directory: Path) -> Iterator[Sample]:
    for version in ("3", "4") if SOAK else ("4",):
        path = sound(directory / f"v2{version}.mp3", "-id3v2_version", version, "-write_id3v1", "1")
        yield Sample(f"MP3 with ID3v2.{version}", "audio/mpeg", path, TOLD, decoded, extra=EXTRA)
    art = cover(directory)
    picture = ("-map", "0:a", "-map", "1:v", "-c:v", "copy", "-disposition:v", "attached_pic")
    path = sound(directory / "cover.mp3", *picture, inputs=("-i", str(art)))
    told = {**TOLD, "location": (*TOLD["location"], *media.HOME.names[:1])}
    yield Sample("MP3 with a cover that tells", "audio/mpeg", path, told, None, extra=EXTRA)
    plain = directory / "plain.wav"
    run("ffmpeg", "-v", "error", "-f", "lavfi", "-i", "sine=duration=1", str(plain))
    lame = directory / "lame.mp3"
    run(
        "lame",
        "--quiet",
        "--tt",
        "Rosa at the lake",
        "--ta",
        "Rosa Kamera",
        "--ty",
        "2023",
        str(plain),
        str(lame),
    )
    told = {"people": ("Rosa at the lake", "Rosa Kamera"), "time": ("2023",)}
    yield Sample("MP3 by LAME", "audio/mpeg", lame, told, decoded)


def _flac(directory: Path) -> Iterator[Sample]:
    if SOAK:
        path = sound(directory / "ffmpeg.flac")
        yield Sample("FLAC by ffmpeg", "audio/flac", path, TOLD, decoded, extra=EXTRA)
    told = {**TOLD, "location": (*TOLD["location"], *media.HOME.names[:1])}
    art = directory / "art.flac"
    wav = sound(directory / "for flac.wav", tags={})
    tags = [f"--tag={name}={value}" for name, value in TAGS.items()]
    picture = f"--picture=3||{'by Rosa Kamera'}||{cover(directory)}"
    run("flac", "--silent", *tags, picture, str(wav), "-o", str(art))
    yield Sample("FLAC by flac, with a cover that tells", "audio/flac", art, told, decoded, extra=EXTRA)


def _ogg(directory: Path) -> Iterator[Sample]:
    codecs = {"libvorbis": "ogg"}
    if SOAK:
        codecs |= {"libopus": "opus", "flac": "oga", "libspeex": "spx"}
    for codec, ending in codecs.items():
        path = sound(directory / f"{codec}.{ending}", "-c:a", codec, "-ar", "16000", "-f", "ogg")
        yield Sample(f"Ogg with {codec}", "audio/ogg", path, TOLD, decoded, extra=EXTRA)
    video = ("-map", "0:a", "-map", "1:v", "-c:v", "libtheora")
    picture = ("-f", "lavfi", "-i", "testsrc=s=64x48:r=5:d=1")
    path = sound(directory / "theora.ogv", *video, inputs=picture)
    yield Sample("Ogg with Theora", "audio/ogg", path, TOLD, decoded, extra=EXTRA)
    wav = sound(directory / "for opus.wav", tags={})
    path = directory / "opusenc.opus"
    tags = [word for name, value in TAGS.items() for word in ("--comment", f"{name}={value}")]
    run("opusenc", "--quiet", *tags, "--picture", str(cover(directory)), str(wav), str(path))
    told = {**TOLD, "location": TOLD["location"]}
    yield Sample("Opus by opusenc, with a cover", "audio/ogg", path, told, decoded, extra=EXTRA)


def _chunked(directory: Path) -> Iterator[Sample]:
    wav = sound(directory / "list.wav")
    yield Sample(
        "WAV with a list", "audio/x-wav", wav, {**TOLD, "location": ("47.80453",)}, decoded, extra=EXTRA
    )
    fields = {
        "description": "Rosa at the lake",
        "originator": "Quillsound 7",
        "originator_reference": "QS-4711-0815",
        "origination_date": "2023-04-05",
        "origination_time": "06:07:08",
        "time_reference": "12345678",
        "coding_history": "A=PCM,F=44100,T=Quillsound 7",
    }
    told = {
        "people": ("Rosa at the lake", "QS-4711-0815"),
        "device": ("QS-4711-0815",),
        "time": ("2023-04-05", "QS-4711-0815"),
    }
    wave = sound(directory / "bext.wav", "-write_bext", "1", tags=fields)
    yield Sample("WAV with a broadcast extension", "audio/x-wav", wave, told, decoded, extra=BEXT)
    video = ("-map", "1:v", "-map", "0:a", "-c:v", "mjpeg", "-c:a", "pcm_s16le")
    avi = sound(directory / "ffmpeg.avi", *video, inputs=("-f", "lavfi", "-i", "testsrc=s=64x48:r=5:d=1"))
    told = {**TOLD, "location": ("47.80453",)}
    yield Sample("AVI by ffmpeg", "video/x-msvideo", avi, told, decoded, extra=EXTRA)


def samples(directory: Path) -> Iterator[Sample]:
    """All of the theme's samples."""
    yield from _mp3(directory)
    yield from _flac(directory)
    yield from _ogg(directory)
    yield from _chunked(directory)
