"""Files with a place behind a bound of the code: what such a file is, and what readers find in it."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from typing import Final, NamedTuple

from tests.support.samples.hidden_elsewhere import said
from tests.support.samples.jpegs import LATITUDE, pack
from tests.support.samples.media import HOME

PLACE: Final = b"47.80453, 13.04229"
PAST: Final = b"47.80453"
"""What stands in each planted text, so that finding it means a leak."""
_RATIONALS: Final = tuple(pack(order, *LATITUDE[:4]) for order in ("II", "MM"))


class Plant(NamedTuple):
    """A file with a place behind bounds.

    kind: its content kind. bounds: the bounds, each as ``module bound`` below redact/ (bounds.txt). make:
    makes the file. needle: bytes that tell the place. refused: True if the file was always refused, and is.
    """

    kind: str
    bounds: str
    make: Callable[[], bytes]
    needle: bytes = b""
    refused: bool = False


Plants = dict[str, Plant]


def places_in(data: bytes, needle: bytes = b"") -> list[bytes]:
    """What tells the place in the bytes of a file, and in what readers unpack from them."""
    texts = said(data)
    words = [needle] if needle else [PAST, HOME.city.encode(), str(HOME.latitude).encode(), *_RATIONALS]
    spelled = [*words]
    for word in words:
        with suppress(UnicodeDecodeError):
            spelled += [word.decode().encode(code) for code in ("utf-16-le", "utf-16-be")]
    return [word for word in spelled if word in texts]
