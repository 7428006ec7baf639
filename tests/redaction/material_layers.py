"""PSDs and PSBs, written by ImageMagick, tagged by exiftool, with Photoshop's blocks; subtitles."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from tests.redaction.material_chunks import TOLD, photo, tagged
from tests.redaction.samples import Sample
from tests.support.samples import psds, subtitles
from tests.support.samples.media import run


def samples(directory: Path) -> Iterator[Sample]:
    """All of the theme's samples."""
    yield from _subtitles(directory)
    source = photo(directory)
    layers = ("-size", "48x32", "gradient:red-blue", "(", "-size", "20x20", "xc:green", ")")
    for name, options in {
        "8.psd": ("-depth", "8", "-compress", "RLE"),
        "16.psd": ("-depth", "16", "-compress", "none"),
        "grey.psd": (
            "-colorspace",
            "Gray",
        ),
        "large.psb": ("-depth", "8"),
    }.items():
        path = directory / name
        run("convert", *layers, *options, f"{path.suffix[1:]}:{path}")
        yield Sample(f"{name} by ImageMagick, tagged by exiftool", psds.KIND, tagged(path, source), TOLD)
    path = directory / "blocks.psd"
    path.write_bytes(
        psds.psd(
            psds.layer(
                psds.block(b"luni", psds.text("Rosa Kamera")),
                psds.block(b"SoLd", b"Zirbelstadt"),
                name=b"at 47.80453, 13.04229",
            ),
            resources=psds.version(),
        )
    )
    told = {
        "location": ("47.80453", "Zirbelstadt"),
        "people": ("Rosa Kamera", "47.80453"),
        "device": ("Testmaker",),
    }
    yield Sample("PSD with blocks", psds.KIND, path, told, extra={"Photoshop": "one name tells both"})


def _subtitles(directory: Path) -> Iterator[Sample]:
    """A drone's telemetry, and what ffmpeg makes of subtitles."""
    flight = directory / "flight.srt"
    flight.write_bytes(subtitles.FLIGHT)
    told = {"location": ("47.804531", "13.042287"), "time": ("2021-07-23",), "people": ("Rosa flies",)}
    yield Sample("a drone's SubRip", subtitles.SUBRIP, flight, told, None)
    plain = directory / "words.srt"
    plain.write_bytes(subtitles.subrip("Rosa peels a quince", f"at {subtitles.PLACE}", "Hello."))
    for suffix, kind in ((".srt", subtitles.SUBRIP), (".vtt", subtitles.VTT), (".ass", subtitles.SCRIPT)):
        path = directory / f"made{suffix}"
        run("ffmpeg", "-v", "error", "-i", str(plain), str(path))
        told = {"location": ("47.804531",), "people": ("Rosa peels", "47.804531")}
        extra = {"File": "numbers of lines and words"}
        yield Sample(f"subtitles by ffmpeg ({suffix})", kind, path, told, None, extra=extra)
