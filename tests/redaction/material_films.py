"""Films with messages beside their coded pictures: metadata of AV1, user data of MPEG-2 and MPEG-4 part 2."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final

from tests.redaction.samples import Sample, decoded
from tests.support.samples.heifs import obu
from tests.support.samples.media import run

_PLACE: Final = b"$GPRMC,112233.000,A,4748.2718,N,01302.5374,E Quincebury"
_FACTS: Final = dict.fromkeys(("location", "device", "time", "people"), ("4748.2718", "Quincebury"))
"""Unknown data goes under every word."""
_PICTURE: Final = ("-f", "lavfi", "-i", "testsrc=size=96x64:rate=10", "-t", "2")
_DELIMITER: Final = b"\x12\0"
_CODE: Final = b"\0\0\1"


def _of_av1(stream: bytes) -> bytes:
    """A message in each temporal unit, before its first frame, and behind its sequence header."""
    message = obu(5, b"\4\xb5\0\x99" + _PLACE + b"\x80")
    units = stream.split(_DELIMITER)[1:]
    heads = [2 + unit[1] if unit[0] >> 3 == 1 else 0 for unit in units]
    return b"".join(
        _DELIMITER + unit[:at] + message + unit[at:] for unit, at in zip(units, heads, strict=True)
    )


def _of_mpeg2(stream: bytes) -> bytes:
    """User data behind the header of each picture."""
    return re.sub(rb"\x00\x00\x01\x01", b"\0\0\1\xb2" + _PLACE + b"\0\0\1\1", stream)


def _of_mpeg4(stream: bytes) -> bytes:
    """User data before each picture."""
    return re.sub(rb"\x00\x00\x01\xb6", b"\0\0\1\xb2" + _PLACE + b"\0\0\1\xb6", stream)


def _units(*units: tuple[bytes, bytes]) -> Callable[[bytes], bytes]:
    """Units of layers that no stream declares, before each picture. units: pattern of a slice, header."""

    def mark(stream: bytes) -> bytes:
        for slice_, head in units:
            stream = re.sub(rb"\x00\x00\x01(?=%s)" % slice_, _CODE + head + _PLACE + b"\x80" + _CODE, stream)
        return stream

    return mark


_OF_H264: Final = _units(*((rb"[\x41\x65\x01]", bytes((kind,))) for kind in (2, 19, 20, 21, 30)))
_OF_H265: Final = _units(*((rb"[\x00\x02\x26\x28]\x01", head) for head in (b"\x60\1", b"\x7e\1", b"\2\x29")))


def _films(stream: Path, codec: str, form: str, mark: Callable[[bytes], bytes], paths: list[Path]) -> None:
    """Code pictures once, put messages beside them, and the stream into each container."""
    coder = ("-c:v", codec, "-g", "6", "-bf", "0", *(("-cpu-used", "8") if codec == "libaom-av1" else ()))
    run("ffmpeg", "-v", "error", "-y", *_PICTURE, *coder, "-f", form, str(stream))
    stream.write_bytes(mark(stream.read_bytes()))
    demuxer = {"mpeg2video": "mpegvideo"}.get(form, form)
    outputs: list[str] = []
    for path in paths:
        outputs += ["-c", "copy", *(_FRAGMENTS if "fragments" in path.name else ()), str(path)]
    given = ("-fflags", "+genpts", "-f", demuxer, "-r", "10", "-i", str(stream))
    run("ffmpeg", "-v", "error", "-y", *given, *outputs)
    stream.unlink()


def samples(directory: Path) -> Iterator[Sample]:
    """Each codec in each container that it is met in."""
    for codec, form, mark, films in (
        ("libaom-av1", "obu", _of_av1, ("a.mp4", "fragments of a.mp4", "a.mkv", "a.webm")),
        ("mpeg2video", "mpeg2video", _of_mpeg2, ("2.mp4", "fragments of 2.mov", "2.mkv", "2.avi")),
        ("libx264", "h264", _OF_H264, ("h.mp4", "h.mkv")),
        ("libx265", "hevc", _OF_H265, ("5.mp4", "5.mkv")),
        ("mpeg4", "m4v", _of_mpeg4, ("4.mp4", "4.mov", "4.mkv", "4.avi", "4.3gp")),
    ):
        paths = [directory / name for name in films]
        _films(directory / f"stream.{form}", codec, form, mark, paths)
        for path in paths:
            extra = {"Matroska": "checksums"}
            yield Sample(path.name, _KINDS[path.suffix], path, _FACTS, decoded, extra=extra)


_FRAGMENTS: Final = ("-movflags", "frag_keyframe+empty_moov")
_KINDS: Final = {
    ".mp4": "video/mp4",
    ".mov": "video/quicktime",
    ".mkv": "video/x-matroska",
    ".webm": "video/webm",
    ".avi": "video/x-msvideo",
    ".3gp": "video/3gpp",
}
