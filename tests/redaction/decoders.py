"""Reference decoders: do two files show, play and say the same?"""

from __future__ import annotations

import hashlib
import re
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Final

from tests.support.samples.media import TOOL_DEADLINE_S

_PLAYED: Final = ("video/", "audio/", "application/ogg")
_CAPTIONS: Final = tuple(f"application/x-{one}" for one in ("subrip", "ssa", "location+vtt"))


def same(path: Path, out: Path, kind: str) -> bool | None:
    """Compare pictures, sound and text of two files of a kind. None if no decoder reads the first.

    A film whose packets differ is decoded: a message may have gone from them. Of captions the times are
    compared, since a place may have gone from their words.
    """
    if kind == "application/pdf":
        pages = _alike(path, out, _pages)
        return pages and _alike(path, out, _words) is not False
    if kind.startswith(_PLAYED):
        alike = _alike(path, out, _packets) or _alike(path, out, _frames)
        return alike and _alike(path, out, _cues) is not False
    if kind.startswith(_CAPTIONS):
        return _alike(path, out, _cues)
    pixels = _alike(path, out, _pixels)
    return _alike(path, out, _frames) if pixels is None else pixels


def said(command: list[str], data: bytes = b"", *, without: bytes = rb", S=\d.*") -> str:
    """A digest of what a tool prints; empty if it fails. without: a pattern of what does not count, by
    default the comments of an Ogg, beside its first packet."""
    try:
        done = subprocess.run(command, input=data, capture_output=True, timeout=TOOL_DEADLINE_S, check=False)
    except subprocess.TimeoutExpired:
        return ""
    good = not done.returncode and done.stdout
    return hashlib.sha256(re.sub(without, b"", done.stdout)).hexdigest() if good else ""


def _alike(path: Path, out: Path, reader: Callable[[Path], str]) -> bool | None:
    old = reader(path)
    return reader(out) == old if old else None


def _pixels(path: Path) -> str:
    return said(["identify", "-quiet", "-format", "%#\n", str(path)])


def _pages(path: Path) -> str:
    return said(["pdftoppm", "-r", "50", "-png", str(path)])


def _words(path: Path) -> str:
    return said(["pdftotext", "-layout", str(path), "-"])


def _packets(path: Path) -> str:
    return said(_ffmpeg(path, "va", "-c", "copy"))


def _frames(path: Path) -> str:
    return said(_ffmpeg(path, "va"))


def _cues(path: Path) -> str:
    return said(_ffmpeg(path, "s", "-c", "copy"), without=rb", +\d+, [0-9a-f]{32}.*|#extradata.*")


def _ffmpeg(path: Path, streams: str, *how: str) -> list[str]:
    maps = [word for kind in streams for word in ("-map", f"0:{kind}?")]
    return ["ffmpeg", "-v", "error", "-i", str(path), *maps, *how, "-f", "framemd5", "-"]
