"""Media other than JPEG that tell a place: HEIC, MP4 and PNG, put together block by block.

Each carrier makes files of one size whose blocks (EXIF, XMP, coordinates as text) lie anywhere in the
first HEADER_BYTES, between padding; behind them comes what is to be seen or heard, which stays.
The needles of jpegs.needles() are in all of them.
"""

from __future__ import annotations

import random
import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

from tests.support.samples import heifs, jpegs, movies, pngs
from tests.support.samples.media import HOME

HEADER_BYTES: Final = 16 * 1024
LAYOUTS: Final = 8
EXIF_OFFSET: Final = bytes(4)
PICTURE_BYTES: Final = 24_000
ISO6709: Final = f"+{HOME.latitude}+{HOME.longitude}/".encode()
XMP: Final = jpegs.xmp_packet(
    f"<photoshop:City>{HOME.city}</photoshop:City><exif:GPSLatitude>47,48.27186N</exif:GPSLatitude>"
)


@dataclass(frozen=True, slots=True)
class Carrier:
    """One container. kind: as libmagic has it. blocks: what tells the place, as assemble() takes it.

    assemble: blocks and paddings (gaps in bytes, one more than there are blocks, one in front of each
    and one behind the last) as a whole file.
    """

    suffix: str
    kind: str
    blocks: tuple[bytes, ...]
    assemble: Callable[[Sequence[bytes], Sequence[int]], bytes]

    def plain(self) -> bytes:
        """A file without a place."""
        return self.assemble((), (64,))

    def placed(self) -> bytes:
        """One with all blocks in order."""
        return self.assemble(self.blocks, (16,) * (len(self.blocks) + 1))

    def layouts(self) -> list[bytes]:
        """One file in LAYOUTS forms of equal size; in each the places lie elsewhere in the header."""
        chance = random.Random(7)
        made = [self._layout(chance) for _ in range(LAYOUTS)]
        assert {len(one) for one in made} == {HEADER_BYTES + PICTURE_BYTES}
        assert len(set(made)) == LAYOUTS
        assert len({one[HEADER_BYTES:] for one in made}) == 1
        assert all(jpegs.leaks(one) for one in made)
        return made

    def _layout(self, chance: random.Random) -> bytes:
        bare = self.assemble(self.blocks, [1] * (len(self.blocks) + 1))
        order, gaps = scattered(chance, self.blocks, HEADER_BYTES + PICTURE_BYTES - len(bare))
        return self.assemble(order, [1 + gap for gap in gaps])


def scattered(
    chance: random.Random, blocks: Sequence[bytes], spare: int
) -> tuple[Sequence[bytes], Sequence[int]]:
    """The blocks in some order, and spare bytes cut into gaps: one before each, one behind the last."""
    order = chance.sample(blocks, len(blocks))
    cuts = sorted(chance.randrange(spare) for _ in order)
    return order, [end - start for start, end in zip([0, *cuts], [*cuts, spare], strict=True)]


# -- PNG ------------------------------------------------------------------------------------------


def _png(blocks: Sequence[bytes], gaps: Sequence[int]) -> bytes:
    width, height = 4, 4793  # as they are, its pixels take just PICTURE_BYTES
    rows = b"".join(b"\0" + bytes((n * 7 + m * 31) % 256 for m in range(width)) for n in range(height))
    picture = pngs.chunk(b"IDAT", zlib.compress(rows, 0)) + pngs.chunk(b"IEND")
    assert len(picture) == PICTURE_BYTES
    size = width.to_bytes(4) + height.to_bytes(4)
    out = pngs.SIGNATURE + pngs.chunk(b"IHDR", size + bytes([8, 0, 0, 0, 0]))
    for gap, block in zip(gaps, [*blocks, b""], strict=True):
        out += pngs.chunk(b"paDd", b"x" * gap) + block
    return out + picture


PNG: Final = Carrier(
    "png",
    "image/png",
    (
        pngs.chunk(b"eXIf", jpegs.exif("II")),
        pngs.chunk(b"eXIf", jpegs.exif("MM")),
        pngs.international("XML:com.adobe.xmp", XMP),
        pngs.text("Comment", jpegs.TEXT_COORDINATES),
    ),
    _png,
)


# -- HEIC -----------------------------------------------------------------------------------------


def _heic(blocks: Sequence[bytes], gaps: Sequence[int]) -> bytes:
    """Items in mdat; the padding is items of a kind that nobody knows. The picture is the last."""
    things = []
    for number, (gap, block) in enumerate(zip(gaps, [*blocks, b""], strict=True)):
        things.append(heifs.Thing(10 + number, b"pad ", b"x" * gap))
        if block.startswith(EXIF_OFFSET):
            things.append(heifs.Thing(30 + number, b"Exif", block))
        elif block:
            things.append(heifs.Thing(30 + number, b"mime", block, content=heifs.XMP_TYPE))
    slices = heifs.picture(PICTURE_BYTES - 6)
    return heifs.heif([*things, heifs.Thing(1, b"hvc1", slices, properties=(1, 2))])


HEIC: Final = Carrier(
    "heic", "image/heic", (EXIF_OFFSET + jpegs.exif("II"), EXIF_OFFSET + jpegs.exif("MM"), XMP), _heic
)


# -- MP4 ------------------------------------------------------------------------------------------


def _mp4(blocks: Sequence[bytes], gaps: Sequence[int]) -> bytes:
    """Everything in moov's udta, in front of the samples."""
    samples = [
        movies.SAMPLE,
        bytes((i * 37) % 255 + 1 for i in range(PICTURE_BYTES - 8 - len(movies.SAMPLE))),
    ]
    track = movies.Track(samples=samples)
    parts = b""
    for gap, block in zip(gaps, [*blocks, b""], strict=True):
        parts += movies.box(b"free", b"x" * gap) + block

    def head(at: int) -> bytes:
        trak = track.trak([at, at + len(samples[0])])
        return movies.ftyp() + movies.box(b"moov", movies.mvhd(), trak, movies.box(b"udta", parts))

    return head(len(head(0)) + 8) + movies.box(b"mdat", *samples)


MP4: Final = Carrier(
    "mp4",
    "video/mp4",
    (
        movies.text_atom(b"\xa9xyz", ISO6709),
        movies.loci(HOME.city.encode()),
        movies.keyed({b"com.apple.quicktime.location.ISO6709": ISO6709}),
        movies.uuid(movies.XMP_UUID, XMP),
    ),
    _mp4,
)

CARRIERS: Final = {carrier.suffix: carrier for carrier in (HEIC, MP4, PNG)}
