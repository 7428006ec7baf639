"""Layers of PSD and PSB: what may stay of each block."""

from __future__ import annotations

import pytest

from policyfs.redact.images.psd_layers import _BLOCKS
from tests.support.samples import psds
from tests.support.samples.plants import PLANTS, tells
from tests.support.samples.psds import PLACE, block, layer, psd, text
from tests.unit.test_redact_images_psd import redacted


@pytest.mark.parametrize("key", sorted(_BLOCKS))
def test_no_block_that_may_stay_keeps_metadata_or_a_place(key: bytes) -> None:
    for name, value in PLANTS.items():
        for wide in (4, 8):
            data = psd(layer(block(key, bytes(12) + value), wide=wide), wide=wide)
            assert tells(data)
            assert not tells(redacted(data)), name


def test_names_of_layers_are_of_people() -> None:
    data = psd(layer(block(b"luni", text("Rosa")), name=b"Rosa"))
    out = redacted(data, "people")
    assert b"Rosa" not in out.replace(b"\0", b"")
    assert b"\x04    \0\0\0" + block(b"shmd", bytes(12)) in out
    assert redacted(data) == redacted(data, "device") == redacted(data, "time") == data


def test_a_removed_block_is_empty_metadata_also_if_its_length_has_eight_bytes() -> None:
    gone = redacted(psd(layer(block(b"zzzz", b"abcdefgh"))))
    assert gone == psd(layer(block(b"shmd", bytes(8))))
    for key in (b"lnk2", b"extn"):
        wide = psd(layer(block(key, b"abcdefgh", wide=8), wide=8), wide=8)
        assert redacted(wide) == psd(layer(block(b"shmd", bytes(12)), wide=8), wide=8)


def test_layers_within_a_layer_are_unknown() -> None:
    inside = psds.info(layer())
    for _ in range(400):
        inside = psds.info(layer(block(b"Lr16", inside)))
    assert redacted(psd(blocks=block(b"Lr16", inside)))


def test_the_program_goes_with_the_device() -> None:
    data = psd(layer(), blocks=block(b"cinf", b"\0\0\0\x10program!"))
    assert redacted(data) == data
    assert redacted(data, "device") == psd(layer(), blocks=block(b"shmd", bytes(12)))


def test_pixels_stay_also_of_masks() -> None:
    two = psds.rectangle(2, 2) + bytes(4) + psds.rectangle(1, 3)
    one = two[:18] + bytes(2)
    for masks, number, rows in ((one, -2, b"\0\0abcd"), (two, -2, b"\0\0abcd"), (two, -3, b"\0\0abc")):
        data = psd(layer(masks=masks, channels=(number,), pixels=rows))
        assert redacted(data) == data
        more = psd(layer(masks=masks, channels=(number,), pixels=rows + b"x"))
        assert redacted(more) == psd(layer(masks=masks, channels=(number,), pixels=rows + b"\0"))
    for pixels in (psds.PACKED, psds.ZIPPED, b"\0\0", b""):
        data = psd(layer(pixels=pixels))
        assert redacted(data) == data


@pytest.mark.parametrize(
    "data",
    [
        psd(layer(pixels=b"\0\4abcd")),
        psd(layer(masks=bytes(80))),
        psd(layer(masks=(PLACE + "  ").encode().ljust(36))),
        psd(layer(ranges=b"GPS: " + PLACE.encode())),
        psd(layer(block(b"zzzz", b""))),
        psd((layer()[0], b"")),
        psd((layer()[0].replace(b"8BIM", b"abcd"), layer()[1])),
        psd(layer(block(b"lyid", b"abcd")[:-2])),
        psd((b"\0\0\0\7" + layer()[0][4:], layer()[1])),
        psd(layer(), mask=b"latitude: " + PLACE.encode()),
    ],
    ids=range(10),
)
def test_what_contradicts_itself_is_refused(data: bytes) -> None:
    assert redacted(data) == b""
