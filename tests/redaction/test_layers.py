"""Films of ffmpeg with units of layers: these stay where they are declared, and the pictures always."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support.samples.film_checks import redact
from tests.support.samples.media import run

PLACE = b"GPS 47.80453, 13.04229\x80"
PICTURE = ("-f", "lavfi", "-i", "testsrc=size=256x256:rate=10", "-frames:v", "3", "-pix_fmt", "yuv420p")


def film(path: Path, *options: str) -> bytes:
    run("ffmpeg", "-v", "error", "-y", *PICTURE, *options, str(path))
    return path.read_bytes()


def frames(directory: Path, data: bytes) -> str:
    """The checksums of the pictures that a decoder makes."""
    path, sums = directory / "view.ts", directory / "sums"
    path.write_bytes(data)
    run("ffmpeg", "-v", "error", "-y", "-i", str(path), "-f", "framemd5", str(sums))
    return sums.read_text()


def test_tiles_of_av1_behind_headers_of_their_own(tmp_path: Path) -> None:
    coder = ("-c:v", "libaom-av1", "-cpu-used", "8", "-tiles", "2x2", "-aom-params", "num-tile-groups=4")
    data = film(tmp_path / "film.mp4", *coder)
    assert data.count(b"\x22") > 8, "groups of tiles (OBU type 4)"
    assert redact("video/mp4", data) == data


@pytest.mark.parametrize("declared", [False, True])
def test_views_of_h264(tmp_path: Path, declared: bool) -> None:
    stream = film(tmp_path / "film.264", "-c:v", "libx264", "-bf", "0", "-bsf:v", "h264_mp4toannexb")
    if declared:
        stream = stream.replace(b"\0\0\1\x68", b"\0\0\1\x6f\x76\0\x1e\xac\x80\0\0\1\x68", 1)
    for head in (b"\0\0\1\x65", b"\0\0\1\x41"):
        stream = stream.replace(head, b"\0\0\1\x74" + PLACE + head)
    bare, path = tmp_path / "layers.264", tmp_path / "film.ts"
    bare.write_bytes(stream)
    run("ffmpeg", "-v", "error", "-y", "-fflags", "+genpts", "-i", str(bare), "-c", "copy", str(path))
    data = path.read_bytes()
    assert PLACE in data
    out = redact("video/mp2t", data)
    assert (PLACE in out) is declared
    assert frames(tmp_path, out) == frames(tmp_path, data)
