"""Pictures with layers (PSD, PSB), written by ImageMagick, tagged by exiftool, with Photoshop's blocks."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from tests.redaction.material_chunks import TOLD, photo, tagged
from tests.redaction.samples import Sample
from tests.support.samples import psds
from tests.support.samples.media import run


def samples(directory: Path) -> Iterator[Sample]:
    """All of the theme's samples."""
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
