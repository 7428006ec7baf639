"""Comments in JBIG2 pictures: their texts become zeros, and the picture stays the same."""

from __future__ import annotations

import subprocess
import zlib
from pathlib import Path

import pytest

from policyfs.redact.core.categories import Tells
from policyfs.redact.core.cleaners import Budget, NotThisKindError, TooMuchError
from policyfs.redact.core.patches import MemorySource, apply, in_order
from policyfs.redact.pdf.jbig2 import segments, without_comments
from policyfs.redact.registry import locate_in
from tests.support.samples.media import TOOL_DEADLINE_S, run
from tests.support.samples.pdfs import PLACE, packed, pdf, stream
from tests.support.samples.plants import PLANTS, tells

KIND = "application/pdf"
ENTRIES = b"/Type/XObject/Subtype/Image/Width 64/Height 48/ColorSpace/DeviceGray/BitsPerComponent 1"


def segment(number: int, kind: int, data: bytes, refers: tuple[int, ...] = (), *, page: int = 1) -> bytes:
    """A segment; more than four references, and a page above 255, are written in the long form."""
    count = len(refers)
    long = (7 << 29 | count).to_bytes(4) + bytes((count + 8) // 8)
    said = bytes([count << 5]) if count <= 4 else long
    width = 1 if number <= 0x100 else 2 if number <= 0x10000 else 4
    listed = b"".join(refer.to_bytes(width) for refer in refers)
    flags = kind | (0x40 if page > 255 else 0)
    head = number.to_bytes(4) + bytes([flags]) + said + listed + page.to_bytes(4 if page > 255 else 1)
    return head + len(data).to_bytes(4) + data


def comment(number: int, text: bytes, **more: object) -> bytes:
    return segment(number, 62, b"\x20\0\0\0place\0" + text + b"\0\0", **more)  # type: ignore[arg-type]


@pytest.mark.parametrize("number", [5, 300, 70_000])
@pytest.mark.parametrize("refers", [(), (1, 2, 3, 4), (1,) * 5, (1,) * 9])
@pytest.mark.parametrize("page", [1, 300])
def test_a_comment_goes_wherever_it_is(number, refers, page):
    data = (
        segment(0, 0, b"symbols!")
        + comment(number, PLACE, refers=refers, page=page)
        + segment(number + 1, 49, b"")
    )
    assert [one.kind for one in segments(data, Budget(9, 0))] == [0, 62, 49]
    out = without_comments(data, Budget(9, 1000))
    assert PLACE not in out
    assert out.startswith(segment(0, 0, b"symbols!"))
    assert out.endswith(segment(number + 1, 49, b""))
    assert len(out) == len(data)
    assert without_comments(out, Budget(9, 1000)) == out


def test_bytes_that_are_no_segments_stay_but_metadata_does_not():
    data = segment(0, 38, b"picture")[:-9] + b"\xff\xff\xff\xff" + bytes(range(50))
    assert without_comments(data, Budget(9, 1000)) == data
    with pytest.raises(NotThisKindError, match="metadata"):
        without_comments(data + PLANTS["manifest"], Budget(9, 10_000))
    with pytest.raises(TooMuchError):
        without_comments(comment(1, PLACE) * 10, Budget(9, 10_000))


def read(data: bytes) -> bytes:
    patches = in_order(locate_in(KIND, MemorySource(data), Tells.LOCATION).patches, len(data))
    out = apply(data, patches)
    assert not locate_in(KIND, MemorySource(out), Tells.LOCATION).patches
    return out


@pytest.mark.parametrize("flate", [False, True])
def test_comments_in_pictures_and_in_their_symbols_go(flate):
    picture, symbols = comment(1, PLACE) + segment(2, 49, b""), comment(0, PLACE)
    if flate:
        made = stream(
            zlib.compress(picture),
            ENTRIES + b"/Filter[/FlateDecode/JBIG2Decode]/DecodeParms[null<</JBIG2Globals 6 0 R>>]",
        )
    else:
        made = stream(picture, ENTRIES + b"/Filter/JBIG2Decode/DecodeParms<</JBIG2Globals 6 0 R>>")
    shared = packed(symbols) if flate else stream(symbols)
    data = pdf({5: made, 6: shared}, page=b"/Resources<</XObject<</A 5 0 R>>>>")
    out = read(data)
    assert PLACE not in out
    assert out != data
    for part in out.split(b"stream\n")[1::2] if flate else ():
        assert b"47.8" not in zlib.decompressobj().decompress(part) if part[:1] == b"x" else True


@pytest.mark.parametrize("entries", [b"/Type/Sound/R 8000", b"/R 8000/E/Signed/B 16"])
@pytest.mark.parametrize(
    "by", [b"/Annots[<</Subtype/Sound/Rect[0 0 9 9]/Sound 5 0 R>>]", b"/AA<</O<</S/Sound/Sound 5 0 R>>>>"]
)
def test_recorded_sounds_go(entries, by):
    for name, value in PLANTS.items():
        out = read(pdf({5: stream(value, entries)}, page=by))
        assert not tells(out), name


def test_a_resource_may_be_called_sound():
    data = pdf(
        {5: packed(b"0 0 m", b"/Type/XObject/Subtype/Form/BBox[0 0 9 9]")},
        page=b"/Resources<</XObject<</Sound 5 0 R>>>>",
    )
    assert read(data) == data


def test_a_real_picture_looks_the_same(tmp_path: Path) -> None:
    """Its lines are packed as in a fax (MMR), which a TIFF's writer can do."""
    path = tmp_path / "a.tif"
    options = ["-size", "64x48", "plasma:black-white", "-monochrome", "-compress", "Group4"]
    run("convert", *options, "-define", "tiff:rows-per-strip=48", str(path))
    command = ["exiftool", "-n", "-StripOffsets", "-StripByteCounts", "-s3", str(path)]
    said = subprocess.run(command, capture_output=True, timeout=TOOL_DEADLINE_S, check=True).stdout.split()
    start, size = (int(number) for number in said)
    fax = path.read_bytes()[start : start + size]
    page = (64).to_bytes(4) + (48).to_bytes(4) + bytes(8) + b"\0\0\0"
    region = (64).to_bytes(4) + (48).to_bytes(4) + bytes(8) + b"\0" + b"\1" + fax
    picture = segment(0, 48, page) + comment(1, PLACE) + segment(2, 38, region) + segment(3, 49, b"")
    draw = stream(b"99 0 0 99 0 0 cm /A Do")
    made = stream(picture, ENTRIES + b"/Filter/JBIG2Decode")
    data = pdf({4: draw, 5: made}, page=b"/Resources<</XObject<</A 5 0 R>>>>")
    views = []
    for name, content in (("a", data), ("b", read(data))):
        (tmp_path / f"{name}.pdf").write_bytes(content)
        run(
            "gs",
            "-q",
            "-sDEVICE=pgm",
            "-r72",
            "-o",
            str(tmp_path / f"{name}.pgm"),
            str(tmp_path / f"{name}.pdf"),
        )
        views.append((tmp_path / f"{name}.pgm").read_bytes())
    assert len(set(views[0][-9000:])) > 1
    assert views[0] == views[1]
    assert PLACE not in (tmp_path / "b.pdf").read_bytes()
