"""Files with a place behind a bound of the code: what such a file is, and what readers find in it."""

from __future__ import annotations

import re
import zlib
from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import Final, NamedTuple

from tests.support.samples.jpegs import LATITUDE, pack
from tests.support.samples.media import HOME

PLACE: Final = b"47.80453, 13.04229"
PAST: Final = b"47.80453"
"""What stands in each planted text, so that finding it means a leak."""
_WORDS: Final = (PAST, HOME.city.encode(), str(HOME.latitude).encode())
_RATIONALS: Final = tuple(pack(order, *LATITUDE[:4]) for order in ("II", "MM"))
_PACKED: Final = re.compile(rb"x[\x01\x5e\x9c\xda]")
_MOST_UNPACKED: Final = 6 << 20


class Plant(NamedTuple):
    """A file with a place behind bounds.

    kind: its content kind. bounds: the bounds, each as ``module bound`` below redact/ (bounds.txt). make:
    makes the file. needle: bytes that tell the place. refused: True if the file is refused.
    """

    kind: str
    bounds: str
    make: Callable[[], bytes]
    needle: bytes = b""
    refused: bool = False


Plants = dict[str, Plant]


def places_in(data: bytes, needle: bytes = b"") -> list[bytes]:
    """What tells the place in the bytes of a file, and in what readers unpack from them."""
    words = [*_WORDS, *_RATIONALS] if not needle else [needle]
    for word in _WORDS if not needle else ():
        words += [word.decode().encode(code) for code in ("utf-16-le", "utf-16-be")]
    return [word for text in _texts(data) for word in words if word in text]


def _texts(data: bytes) -> Iterator[bytes]:
    yield data
    if data.startswith((b"\x89PNG", b"%PDF")) or data[4:8] == b"ftyp":
        for packed in _PACKED.finditer(data):
            with suppress(zlib.error):
                text = zlib.decompressobj().decompress(data[packed.start() :], _MOST_UNPACKED)
                yield text
                yield from (
                    bytes.fromhex(run.decode()) for run in re.findall(rb"(?:[0-9a-f]{2}){40,9999}", text)
                )
