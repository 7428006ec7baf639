"""Subtitles, by hand and by ffmpeg."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from tests.redaction.samples import Sample
from tests.support.samples import subtitles
from tests.support.samples.media import run


def samples(directory: Path) -> Iterator[Sample]:
    """A drone's telemetry, and what ffmpeg makes of subtitles."""
    flight = directory / "flight.srt"
    flight.write_bytes(subtitles.FLIGHT)
    told = {"location": ("47.804531", "13.042287"), "time": ("2021-07-23",), "people": ("Rosa flies",)}
    extra = {"File": "numbers of lines and words"}
    yield Sample("a drone's SubRip", subtitles.SUBRIP, flight, told, None, extra=extra)
    plain = directory / "words.srt"
    plain.write_bytes(subtitles.subrip("Rosa peels a quince", f"at {subtitles.PLACE}", "Hello."))
    for suffix, kind in ((".srt", subtitles.SUBRIP), (".vtt", subtitles.VTT), (".ass", subtitles.SCRIPT)):
        path = directory / f"made{suffix}"
        run("ffmpeg", "-v", "error", "-i", str(plain), str(path))
        told = {"location": ("47.804531",), "people": ("Rosa peels", "47.804531")}
        yield Sample(f"subtitles by ffmpeg ({suffix})", kind, path, told, None, extra=extra)
