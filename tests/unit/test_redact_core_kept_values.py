"""Values that should hold numbers, with metadata among them; and numbers, which are left alone."""

from __future__ import annotations

import random
import struct

import pytest

from policyfs.redact.core.categories import NOTHING, UNKNOWN, Tells
from policyfs.redact.core.cleaners import Budget, TooMuchError
from policyfs.redact.core.kept_values import told_in_kept, told_in_range
from policyfs.redact.core.patches import CHUNK_BYTES, MemorySource
from tests.support.samples.plants import PLANTS, POSITION, manifest, tells

BLOCKS = ("manifest", "XMP", "XMP in UTF-16", "EXIF")


def budget() -> Budget:
    return Budget(1000, 1 << 24)


@pytest.mark.parametrize("name", PLANTS)
def test_metadata_among_bytes_is_found(name):
    assert tells(PLANTS[name])
    told = told_in_kept(PLANTS[name], Tells.LOCATION, budget())
    assert told == (UNKNOWN if name in BLOCKS else Tells.LOCATION)


@pytest.mark.parametrize("name", BLOCKS)
def test_a_block_of_metadata_may_tell_whatever_is_asked(name):
    assert told_in_kept(PLANTS[name], NOTHING, budget()) == UNKNOWN
    assert told_in_kept(PLANTS[name], NOTHING, budget(), numbers=True) == UNKNOWN


def test_a_text_is_searched_only_for_what_is_asked():
    assert told_in_kept(PLANTS["text"], Tells.TIME, budget()) == NOTHING
    assert told_in_kept(PLANTS["text"], Tells.LOCATION, budget(), numbers=True) == Tells.LOCATION
    assert told_in_kept("47°48′16″N".encode(), Tells.LOCATION, budget()) == Tells.LOCATION


@pytest.mark.parametrize("form", ["<4000H", ">4000I", "<4000f", ">4000d"])
def test_numbers_are_left_alone(form):
    noise = random.Random(form)
    values = sorted(noise.randrange(0x10000) for _ in range(4000))
    data = struct.pack(form, *values)
    assert told_in_kept(data, Tells.LOCATION, budget(), numbers=True) == NOTHING


def test_random_bytes_are_left_alone():
    noise = random.Random(7)
    for _ in range(40):
        assert told_in_kept(noise.randbytes(1 << 14), UNKNOWN, budget()) == NOTHING


def test_a_long_value_is_read_in_pieces_and_counts_in_the_budget():
    for at in (0, CHUNK_BYTES - 30, CHUNK_BYTES - 4, 2 * CHUNK_BYTES):
        data = bytes(at) + manifest() + bytes(5)
        source = MemorySource(data)
        assert told_in_range(source, 0, len(data), NOTHING, budget()) == UNKNOWN
    with pytest.raises(TooMuchError):
        told_in_range(MemorySource(b"\1" * 5000), 0, 5000, NOTHING, Budget(1000, 4999))
    assert told_in_kept(POSITION, Tells.LOCATION, Budget(1000, 5000, texts=3)) == UNKNOWN
