"""PSD and PSB: resources, and what is behind the pixels."""

from __future__ import annotations

import re
from functools import partial

import pytest

from policyfs.content.workers.worker import Detector
from tests.support.samples import psds
from tests.support.samples.jpegs import resource
from tests.support.samples.media import HOME
from tests.support.samples.plants import PLANTS, tells
from tests.support.samples.psds import KIND, PLACE, RAW, psd
from tests.support.samples.redacted import redacted_if_served

_TOLD = re.compile("|".join([HOME.city[:6], "47[.]80453"]).encode())

redacted = partial(redacted_if_served, KIND)


@pytest.mark.parametrize("name", psds.HIDING)
def test_places_go_from_every_part(name: str) -> None:
    data = psds.HIDING[name]
    assert Detector().kind(data) == KIND
    plain = data.replace(b"\0", b"")
    assert _TOLD.search(plain) or name == "EXIF", "nothing is planted"
    out = redacted(data)
    assert out
    assert not _TOLD.search(out.replace(b"\0", b""))
    assert not tells(out)


def test_a_picture_without_metadata_stays() -> None:
    for wide in (4, 8):
        plain = psd(psds.layer(wide=wide), wide=wide, resources=resource(0x03ED, bytes(16)))
        assert redacted(plain) == plain
    assert redacted(psd(), "all-metadata") == psd()


def test_the_merged_picture_is_known_without_the_name_of_the_program() -> None:
    """A program that finds no version shows the merged picture, even if it is blank."""
    for merged in (0, 1):
        out = redacted(psd(resources=psds.version(merged=merged)), "device")
        assert resource(0x0421, b"\0\0\0\1" + bytes([merged]) + bytes(42)) in out
    indexed = resource(0x0416, b"\0\7") + resource(0x0417, b"\0\3") + resource(0x0416, b"\0\7more")
    out = redacted(psd(resources=indexed), "all-metadata")
    assert out == psd(resources=indexed[:-18] + resource(0x0FA0, bytes(6)))


@pytest.mark.parametrize(
    "data",
    [
        b"8BPS",
        psd()[:40],
        psd(merged=b""),
        psd(merged=b"\0\2" + RAW),
        b"8BPS\0\3" + psd()[6:],
        psd()[:12] + bytes(2) + psd()[14:],
        psd(resources=b"8BIM"),
        psd(resources=b"abcdefgh" * 4),
        psd(colours=PLANTS[next(iter(PLANTS))]),
        psd(colours=b"x" * 12 + b"GPS: " + PLACE.encode()),
    ],
    ids=range(10),
)
def test_other_files_are_refused(data: bytes) -> None:
    assert redacted(data) == b""
